//! Judges CBOR by a CDDL grammar: cddl-judge GRAMMAR CASES, where each line of
//! CASES is "RULE HEX". Prints "valid" or "invalid" for each.

use cddl_cat::{cbor::validate_cbor, context::BasicContext, flatten::flatten_from_str};
use std::{env, fs};

fn main() {
    let args: Vec<String> = env::args().collect();
    let grammar = fs::read_to_string(&args[1]).expect("grammar");
    let ctx = BasicContext::new(flatten_from_str(&grammar).expect("grammar"));
    for line in fs::read_to_string(&args[2]).expect("cases").lines() {
        let (rule, data) = line.split_once(' ').expect("RULE HEX");
        let node = ctx.rules.get(rule).expect(rule);
        let bytes = hex::decode(data).expect("hex");
        let valid = match ciborium::from_reader::<ciborium::Value, _>(&bytes[..]) {
            Ok(value) => validate_cbor(node, &value, &ctx).is_ok(),
            Err(_) => false,
        };
        println!("{}", if valid { "valid" } else { "invalid" });
    }
}
