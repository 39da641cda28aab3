//! What one sees without a host. All SDKs together are tested from outside.

use crate::*;

/// Rules are asked about {"a": true, "b": [1, -1], "n": null, "t": "x~/y"}.
fn answer(rules: Rules) -> String {
    let doc = b"\xa4\x61a\xf5\x61b\x82\x01\x20\x61n\xf6\x61t\x64x~/y";
    let mut out = [0; 40 << 10];
    String::from_utf8_lossy(evaluate(doc, true, rules, &mut out)).into_owned()
}

fn allows(rules: Rules) {
    let s = answer(rules);
    assert!(s.contains("hdecisioneallow"), "{:?}", s);
}

fn denies(rules: Rules, code: &str, claim: &str) {
    let s = answer(rules);
    assert!(s.contains("hdecisionddeny") && s.contains(code) && s.contains(claim), "{:?}", s);
}

#[test]
fn reads() {
    allows(|doc, p| {
        assert!(doc.get("a").bool());
        assert_eq!(doc.get("b").elements().map(|v| v.int()).sum::<i64>(), 0);
        assert_eq!((doc.len(), doc.get("b").len(), doc.get("b").at(1).int()), (4, 2, -1));
        assert!(doc.get("n").is_null() && doc.find("z").is_null() && doc.find("z").find("y").is_null());
        assert_eq!(doc.get("t").text(), "x~/y");
        assert_eq!((doc.find("z").int_or(7), doc.get("n").text_or("none")), (7, "none"));
        p.affirm_all(AFFIRMING);
        p.allow();
    });
}

#[test]
fn fails_closed() {
    denies(|doc, p| { doc.get("z"); p.allow() }, "claim-missing", "/z");
    denies(|doc, p| { doc.find("z").int(); p.allow() }, "claim-missing", "/z");
    denies(|doc, p| { doc.get("b").at(2); p.allow() }, "claim-missing", "/b/2");
    denies(|doc, p| { doc.get("b").at(0).bool(); p.allow() }, "claim-type", "/b/0");
    denies(|doc, p| { doc.get("n").text(); p.allow() }, "claim-type", "/n");
    denies(|_, _| {}, "no-decision", "");
    denies(|doc, p| { p.deny("x", "why", doc.get("a")); p.allow() }, "why", "/a");
    denies(|_, p| { for id in ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p", "q"] { p.oblige(id, true) } p.allow() }, "result-limit", "");
}

#[test]
fn refuses_what_is_no_document() {
    for input in [&b""[..], b"\xa1", b"\xa1\x61a\xf5\x00", b"\xa2\x61b\x00\x61a\x00", b"\x18\x17", b"\xf9\x3e\x00", b"\x61\xff", b"\x9f\xff"] {
        let mut out = [0; 40 << 10];
        let b = evaluate(input, true, |_, _| panic!("the policy must not run"), &mut out);
        assert!(String::from_utf8_lossy(b).contains("input-malformed"), "{:?}", input);
    }
}

#[test]
fn writes_nothing_where_there_is_no_room() {
    assert!(evaluate(b"\xa0", true, |_, _| {}, &mut [0; 20]).is_empty());
}
