// Calls the functions of the SDK as the settings say: see guesttest/probe.go.

import { Result, Value, appraising, authorizing } from "./sdk";
export { tmcp_abi_version, tmcp_allocate } from "./sdk";

export function tmcp_appraise(at: usize, size: usize): u64 {
  return appraising(at, size, probe);
}

export function tmcp_authorize(at: usize, size: usize): u64 {
  return authorizing(at, size, probe);
}

function probe(document: Value, result: Result): void {
  const ops = document.get("settings").get("ops");
  for (let i = 0; i < ops.length; i++) {
    const op = ops.at(i);
    let v = document;
    const path = op.get("path");
    for (let j = 0; j < path.length; j++) {
      const step = path.at(j);
      const get = step.find("get");
      const find = step.find("find");
      if (!get.isNull) v = v.get(get.text());
      else if (!find.isNull) v = v.find(find.text());
      else v = v.at(<i32>step.get("at").int());
    }
    const code = op.find("code").textOr("");
    const text = op.find("text").textOr("");
    const n = op.find("n").intOr(0);
    const what = op.get("do").text();
    if (what == "null") same(v.isNull, v, result);
    else if (what == "len") same(v.length == n, v, result);
    else if (what == "bool") same(v.bool() == (n == 1), v, result);
    else if (what == "bool-or") same(v.boolOr(true) == (n == 1), v, result);
    else if (what == "int") same(v.int() == n, v, result);
    else if (what == "int-or") same(v.intOr(-7) == n, v, result);
    else if (what == "text") same(v.text() == text && v.is(text), v, result);
    else if (what == "text-or") same(v.textOr("none") == text, v, result);
    else if (what == "deny") result.deny(code, text, v.pointer);
    else if (what == "note") result.note(code, text, v.pointer);
    else if (what == "affirm") result.affirm("runtime-opaque", <i8>n);
    else if (what == "affirm-all") result.affirmAll(<i8>n);
    else if (what == "oblige-int") result.oblige(code, n);
    else if (what == "oblige-bool") result.oblige(code, n == 1);
    else if (what == "oblige-text") result.oblige(code, text);
    else if (what == "allow") result.allow();
    else if (what == "abstain") result.abstain();
  }
}

function same(ok: bool, v: Value, result: Result): void {
  if (ok) result.note("same", "", v.pointer);
}
