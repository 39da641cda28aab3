import { valid } from "./cbor";
import { Value, fault, faultClaim, faultCode, forgetFault } from "./value";
import { Writer } from "./writer";

/** The AR4SI claims, in the order in which their names are encoded. */
const CLAIMS: StaticArray<string> = ["hardware", "executables", "file-system", "sourced-data", "configuration", "runtime-opaque", "storage-opaque", "instance-identity"];

/** Values of AR4SI claims. */
export namespace Trust {
  export const NONE: i8 = 0;
  export const AFFIRMING: i8 = 2;
  export const WARNING: i8 = 32;
  export const CONTRAINDICATED: i8 = 96;
}

const MAX_REASONS = 32;
const MAX_OBLIGATIONS = 16;
const MAX_TEXT = 256; // bytes

@final
class Reason {
  constructor(public code: string, public text: string, public claim: string) {}
}

@final
class Obligation {
  constructor(public id: string, public value: Writer) {}
}

/**
 * A Result is what the policy comes to. One deny() makes it a denial, whatever
 * else is called; without any, allow() allows, and else abstain() abstains. If
 * nothing of that is called it is a denial with the code no-decision.
 */
@final
export class Result {
  private denied: bool = false;
  private allowed: bool = false;
  private abstained: bool = false;
  private reasons: Reason[] = [];
  private vector: StaticArray<i8> = new StaticArray<i8>(8);
  private affirmed: i32 = 0; // bits of the claims that are set
  private obligations: Obligation[] = [];

  /** Denies. code is of a-z, 0-9 and hyphen; text is for people, claim a JSON pointer or "". */
  deny(code: string, text: string, claim: string): void {
    this.denied = true;
    this.note(code, text, claim);
  }

  /** Whether deny() was called. */
  get isDenied(): bool {
    return this.denied;
  }

  /** Gives a reason that does not deny. */
  note(code: string, text: string, claim: string): void {
    while (String.UTF8.byteLength(text) > MAX_TEXT) {
      // A pair of surrogates is one character.
      const end = text.length - 1;
      text = text.substring(0, end > 0 && (text.charCodeAt(end) & 0xfc00) == 0xdc00 ? end - 1 : end);
    }
    if (this.reasons.length < MAX_REASONS) this.reasons.push(new Reason(code, text, claim));
  }

  /** Sets a claim of the trust vector. */
  affirm(claim: string, value: i8): void {
    for (let i = 0; i < 8; i++) {
      if (CLAIMS[i] != claim) continue;
      this.vector[i] = value;
      this.affirmed |= 1 << i;
      return;
    }
    unreachable(); // no such claim
  }

  /** Sets all eight claims. */
  affirmAll(value: i8): void {
    this.vector.fill(value);
    this.affirmed = 0xff;
  }

  /** Allows on a condition. value is an integer, a bool or a string; the same id again replaces it. */
  oblige<T>(id: string, value: T): void {
    const w = new Writer(16);
    if (isBoolean<T>()) w.bool(<bool>value);
    else if (isInteger<T>()) w.int(<i64>value);
    else if (isString<T>()) w.text(changetype<string>(value));
    else ERROR("an obligation's value is an integer, a bool or a string");
    for (let i = 0; i < this.obligations.length; i++) {
      if (this.obligations[i].id != id) continue;
      this.obligations[i].value = w;
      return;
    }
    if (this.obligations.length < MAX_OBLIGATIONS) this.obligations.push(new Obligation(id, w));
    else fault("result-limit", "");
  }

  allow(): void {
    this.allowed = true;
  }

  abstain(): void {
    this.abstained = true;
  }

  /** @internal */
  encode(appraises: bool): u64 {
    let decision = "deny";
    if (faultCode().length) {
      this.reasons = [new Reason(faultCode(), explain(faultCode()), faultClaim())];
      this.affirmed = 0;
    } else if (!this.denied) {
      if (this.allowed) decision = "allow";
      else if (this.abstained) decision = "abstain";
      else this.note("no-decision", "the policy did not decide", "");
    }
    const w = new Writer(1024);
    const vector = appraises && this.affirmed != 0;
    const obligations = decision == "allow" && this.obligations.length > 0;
    // Keys stand in the order of their encodings: the shorter first.
    w.map(1 + i32(vector) + i32(this.reasons.length > 0) + i32(obligations));
    if (vector) {
      w.text("vector");
      w.map(popcnt(this.affirmed));
      for (let i = 0; i < 8; i++) {
        if (!(this.affirmed & (1 << i))) continue;
        w.text(CLAIMS[i]);
        w.int(this.vector[i]);
      }
    }
    if (this.reasons.length) {
      w.text("reasons");
      w.array(this.reasons.length);
      for (let i = 0; i < this.reasons.length; i++) {
        const r = this.reasons[i];
        w.map(1 + i32(r.text.length > 0) + i32(r.claim.length > 0));
        w.text("code");
        w.text(r.code);
        if (r.text.length) {
          w.text("text");
          w.text(r.text);
        }
        if (r.claim.length) {
          w.text("claim");
          w.text(r.claim);
        }
      }
    }
    w.text("decision");
    w.text(decision);
    if (obligations) {
      w.text("obligations");
      w.array(this.obligations.length);
      for (let i = 0; i < this.obligations.length; i++) {
        w.map(2);
        w.text("id");
        w.text(this.obligations[i].id);
        w.text("value");
        w.append(this.obligations[i].value);
      }
    }
    return w.place();
  }
}

function explain(code: string): string {
  if (code == "claim-missing") return "a member that the policy reads is missing";
  if (code == "claim-type") return "a member that the policy reads has another type";
  if (code == "result-limit") return "the result has more than 16 obligations";
  return "the input is not deterministic CBOR of a document";
}

/** Answers a question: may this peer be trusted? Export a function that calls it as tmcp_appraise. */
export function appraising(at: usize, size: usize, policy: (document: Value, result: Result) => void): u64 {
  return ask(at, size, policy).encode(true);
}

/** Answers a question: may this call be made? Export a function that calls it as tmcp_authorize. */
export function authorizing(at: usize, size: usize, policy: (document: Value, result: Result) => void): u64 {
  return ask(at, size, policy).encode(false);
}

function ask(at: usize, size: usize, policy: (document: Value, result: Result) => void): Result {
  forgetFault();
  const result = new Result();
  if (valid(at, size)) policy(new Value(at, null, ""), result);
  else fault("input-malformed", "");
  return result;
}
