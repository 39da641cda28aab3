import { Result, Type, Value } from "./sdk";

/** Denies for settings that are not as the policy documents them. */
export function wrong(result: Result, text: string, at: Value): void {
  result.deny("settings", text, at.pointer);
}

/** Denies for members of an object in the settings that the policy does not know. */
export function only(result: Result, settings: Value, known: string[]): void {
  if (settings.isNull) return;
  for (let i = 0; i < settings.objectLength; i++) {
    if (!known.includes(settings.key(i))) wrong(result, "the policy knows no such setting", settings.entry(i));
  }
}

/** An integer in the settings, which must be within bounds. */
export function integer(result: Result, at: Value, otherwise: i64, least: i64, most: i64): i64 {
  const n = at.intOr(otherwise);
  if (n < least || n > most) wrong(result, "the number is not within its bounds", at);
  return n;
}

/** A list of texts in the settings, which has some where it is given. */
export function texts(result: Result, at: Value): string[] {
  const out: string[] = [];
  if (at.isNull) return out;
  if (!at.arrayLength) wrong(result, "the list is empty; leave it out", at);
  for (let i = 0; i < at.arrayLength; i++) out.push(at.at(i).text());
  return out;
}

/** Whether a and b are equal, but for the case of ASCII letters. */
export function equalFold(a: string, b: string): bool {
  return a.length == b.length && lower(a) == lower(b);
}

/** s with ASCII letters in lower case. */
export function lower(s: string): string {
  let out = "";
  let start = 0;
  for (let i = 0; i < s.length; i++) {
    const c = s.charCodeAt(i);
    if (c < 0x41 || c > 0x5a) continue;
    out += s.substring(start, i) + String.fromCharCode(c | 0x20);
    start = i + 1;
  }
  return start ? out + s.substring(start) : s;
}

/** Whether the claim is one of the texts: numbers in decimal, true or false. */
export function among(claim: Value, list: string[]): bool {
  if (claim.isNull) return false;
  const s = shown(claim);
  for (let i = 0; i < list.length; i++) {
    if (equalFold(s, list[i])) return true;
  }
  return false;
}

function shown(claim: Value): string {
  switch (claim.type) {
    case Type.BOOL: return claim.bool() ? "true" : "false";
    case Type.INT: return claim.int().toString();
  }
  return claim.text();
}
