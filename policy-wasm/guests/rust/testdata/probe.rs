//! Calls the functions of the SDK as the settings say: see guesttest/probe.go.
#![no_std]

use tmcp_policy::{Claim, Policy, Value};

tmcp_policy::appraise!(probe);
tmcp_policy::authorize!(probe);

pub fn probe<'a>(doc: Value<'a>, p: &mut Policy<'a>) {
    let ops = doc.get("settings").get("ops");
    for i in 0..ops.len() {
        let op = ops.at(i);
        let mut v = doc;
        for step in op.get("path").elements() {
            let (get, find) = (step.find("get"), step.find("find"));
            v = if !get.is_null() {
                v.get(get.text())
            } else if !find.is_null() {
                v.find(find.text())
            } else {
                v.at(step.get("at").int() as usize)
            };
        }
        let (code, text) = (op.find("code").text_or(""), op.find("text").text_or(""));
        let n = op.find("n").int_or(0);
        let same = match op.get("do").text() {
            "null" => v.is_null(),
            "len" => v.len() as i64 == n,
            "bool" => v.bool() == (n == 1),
            "bool-or" => v.bool_or(true) == (n == 1),
            "int" => v.int() == n,
            "int-or" => v.int_or(-7) == n,
            "text" => v.text() == text,
            "text-or" => v.text_or("none") == text,
            other => {
                match other {
                    "deny" => p.deny(code, text, v),
                    "note" => p.note(code, text, v),
                    "affirm" => p.affirm(Claim::RuntimeOpaque, n as i8),
                    "affirm-all" => p.affirm_all(n as i8),
                    "oblige-int" => p.oblige(code, n),
                    "oblige-bool" => p.oblige(code, n == 1),
                    "oblige-text" => p.oblige(code, text),
                    "allow" => p.allow(),
                    "abstain" => p.abstain(),
                    _ => {}
                }
                false
            }
        };
        if same {
            p.note("same", "", v);
        }
    }
}
