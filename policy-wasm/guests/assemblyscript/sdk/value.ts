import { ARRAY, FALSE, MAP, NINT, NULL, OTHER, TEXT, TRUE, UINT, argument, head, major, same, skip } from "./cbor";

const MAX_POINTER = 256;

/** The first thing of the document that was read and is not there, or is of another type. */
let code = "";
let claim = "";

export function faultCode(): string { return code; }
export function faultClaim(): string { return claim; }

export function forgetFault(): void {
  code = "";
  claim = "";
}

/** Makes the result a denial, whatever the policy says then. The first fault counts. */
export function fault(why: string, pointer: string): void {
  if (code.length) return;
  code = why;
  claim = pointer;
}

export enum Type {
  NULL,
  BOOL,
  INT,
  TEXT,
  ARRAY,
  OBJECT,
}

/**
 * A Value is a place in the document. To read a member that is not there, or is
 * of another type, makes the result a denial with the code claim-missing or
 * claim-type; what was read is then 0, "", false or empty.
 */
@final
export class Value {
  private keys: StaticArray<usize> | null = null;
  // Where at() was last: it reads on from there.
  private last: i32 = 0;
  private place: usize = 0;
  private cut: bool = false; // the pointer is too long

  /** item is an address, 0 where there is nothing. */
  constructor(private item: usize, private parent: Value | null, private name: string) {}

  /** The JSON pointer of this place. It ends before the first name with which it has more than 256 bytes. */
  get pointer(): string {
    const parent = this.parent;
    if (parent === null) return "";
    const before = parent.pointer;
    if (parent.cut) this.cut = true;
    if (this.cut) return before;
    const all = before + "/" + escape(this.name);
    this.cut = String.UTF8.byteLength(all) > MAX_POINTER;
    return this.cut ? before : all;
  }

  /** Whether null stands here, or nothing does where find() was asked. */
  get isNull(): bool {
    if (!this.item) return true;
    head(this.item, usize.MAX_VALUE);
    return major == OTHER && argument == NULL;
  }

  /** What stands here; Type.NULL where nothing does. Never a fault. */
  get type(): Type {
    if (this.isNull) return Type.NULL;
    head(this.item, usize.MAX_VALUE);
    switch (major) {
      case OTHER: return Type.BOOL;
      case TEXT: return Type.TEXT;
      case ARRAY: return Type.ARRAY;
      case MAP: return Type.OBJECT;
    }
    return Type.INT;
  }

  /** The member of that name of an object. It must be there. */
  get(name: string): Value {
    const v = this.member(name);
    if (!v.item) fault("claim-missing", v.pointer);
    return v;
  }

  /** The member of that name; null where there is none, or where this is null. */
  find(name: string): Value {
    return this.isNull ? this : this.member(name);
  }

  private member(name: string): Value {
    const keys = this.index();
    if (keys !== null) {
      for (let i = 0; i < keys.length; i++) {
        const at = unchecked(keys[i]);
        if (same(at, name)) return new Value(skip(at), this, name);
      }
    }
    return new Value(0, this, name);
  }

  /** How many elements an array has, or members an object. */
  get length(): i32 {
    if (this.item) {
      head(this.item, usize.MAX_VALUE);
      if (major == MAP) return <i32>argument;
    }
    return this.arrayLength;
  }

  /** The length of what must be an array. */
  get arrayLength(): i32 {
    return this.open(ARRAY) ? <i32>argument : 0;
  }

  /** How many members there are of what must be an object. */
  get objectLength(): i32 {
    return this.open(MAP) ? <i32>argument : 0;
  }

  /** The element at that index of an array. It must be there. */
  at(index: i32): Value {
    let v = new Value(0, this, index.toString());
    let at = this.open(ARRAY);
    if (!at) return v;
    if (<u64>index >= argument) { // negative ones too
      fault("claim-missing", v.pointer);
      return v;
    }
    v.item = this.walk(at, index);
    return v;
  }

  /** The name of an object's member at that index; members are sorted. */
  key(index: i32): string {
    let at = this.pair(index);
    if (!at) return "";
    at = head(at, usize.MAX_VALUE);
    return String.UTF8.decodeUnsafe(at, <usize>argument);
  }

  /** The value of an object's member at that index. */
  entry(index: i32): Value {
    const at = this.pair(index);
    return at ? new Value(skip(at), this, this.key(index)) : new Value(0, this, index.toString());
  }

  bool(): bool {
    if (!this.open(OTHER)) return false;
    if (argument != TRUE && argument != FALSE) {
      fault("claim-type", this.pointer);
      return false;
    }
    return argument == TRUE;
  }

  /** An integer between -2^53 and 2^53. */
  int(): i64 {
    if (this.item) {
      head(this.item, usize.MAX_VALUE);
      if (major == NINT) return -1 - <i64>argument;
    }
    return this.open(UINT) ? <i64>argument : 0;
  }

  text(): string {
    const at = this.open(TEXT);
    return at ? String.UTF8.decodeUnsafe(at, <usize>argument) : "";
  }

  /** Whether the text here is s. */
  is(s: string): bool {
    return this.open(TEXT) != 0 && same(this.item, s);
  }

  /** bool(), or x where null stands. */
  boolOr(x: bool): bool {
    return this.isNull ? x : this.bool();
  }

  /** int(), or x where null stands. */
  intOr(x: i64): i64 {
    return this.isNull ? x : this.int();
  }

  /** text(), or x where null stands. */
  textOr(x: string): string {
    return this.isNull ? x : this.text();
  }

  /** The address behind the head of this item, which must be of that type; else 0, and a fault. */
  private open(type: u8): usize {
    if (!this.item) {
      fault("claim-missing", this.pointer);
      return 0;
    }
    const at = head(this.item, usize.MAX_VALUE);
    if (major == type) return at;
    fault("claim-type", this.pointer);
    return 0;
  }

  /** The address of the key at that index of an object; 0, and a fault, where there is none. */
  private pair(index: i32): usize {
    const keys = this.index();
    if (keys === null) return 0;
    if (<u32>index < <u32>keys.length) return unchecked(keys[index]);
    fault("claim-missing", this.pointer + "/" + index.toString());
    return 0;
  }

  /** The addresses of an object's keys, which are looked for once; null, and a fault, where this is none. */
  private index(): StaticArray<usize> | null {
    if (this.keys !== null) return this.keys;
    let at = this.open(MAP);
    if (!at) return null;
    const keys = new StaticArray<usize>(<i32>argument);
    for (let i = 0; i < keys.length; i++) {
      unchecked((keys[i] = at));
      at = skip(skip(at));
    }
    this.keys = keys;
    return keys;
  }

  /** The address of the element at that index; the first is at `at`. */
  private walk(at: usize, index: i32): usize {
    let i = 0;
    if (this.place && this.last <= index) {
      i = this.last;
      at = this.place;
    }
    for (; i < index; i++) at = skip(at);
    this.last = index;
    this.place = at;
    return at;
  }
}

/** name as a token of a JSON pointer (RFC 6901). */
function escape(name: string): string {
  let start = 0;
  let out = "";
  for (let i = 0; i < name.length; i++) {
    const c = name.charCodeAt(i);
    if (c != 0x2f && c != 0x7e) continue; // "/" and "~"
    out += name.substring(start, i) + (c == 0x7e ? "~0" : "~1");
    start = i + 1;
  }
  return start ? out + name.substring(start) : name;
}
