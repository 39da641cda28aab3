// A strict reader of deterministic CBOR (RFC 8949 section 4.2.1), as far as
// documents need it: integers between -2^53 and 2^53, text, arrays, maps with
// text as keys, true, false and null. A document is checked once, whole; what
// comes later may rely on it.

// @ts-ignore: decorator
@inline export const UINT: u8 = 0;
// @ts-ignore: decorator
@inline export const NINT: u8 = 1;
// @ts-ignore: decorator
@inline export const TEXT: u8 = 3;
// @ts-ignore: decorator
@inline export const ARRAY: u8 = 4;
// @ts-ignore: decorator
@inline export const MAP: u8 = 5;
// @ts-ignore: decorator
@inline export const OTHER: u8 = 7;

export const FALSE: u64 = 20;
export const TRUE: u64 = 21;
export const NULL: u64 = 22;

/** Levels of arrays and maps that a document has at most. */
const DEPTH: i32 = 32;

const LIMIT: u64 = 1 << 53;

/** What head read last. */
export let major: u8 = 0;
export let argument: u64 = 0;

/** Reads the head of the item at `at`. Returns the address behind it; 0: malformed. */
export function head(at: usize, end: usize): usize {
  if (at >= end) return 0;
  const first = load<u8>(at);
  const info: usize = first & 31;
  major = first >> 5;
  if (info < 24) {
    argument = info;
    return at + 1;
  }
  if (info > 27) return 0;
  const size: usize = 1 << (info - 24);
  if (end - at <= size) return 0;
  let n: u64 = 0;
  for (let i: usize = 1; i <= size; i++) n = (n << 8) | load<u8>(at + i);
  // It must not have fitted into fewer bytes.
  if (n < (size == 1 ? 24 : <u64>1 << (<u64>size << 2))) return 0;
  argument = n;
  return at + 1 + size;
}

/** Reports whether the bytes are one well-formed item, and nothing behind it. */
export function valid(at: usize, size: usize): bool {
  return check(at, at + size, 0) == at + size;
}

/** Returns the address behind the item; 0: it is malformed. */
function check(at: usize, end: usize, depth: i32): usize {
  at = head(at, end);
  if (!at) return 0;
  const n = argument;
  switch (major) {
    case UINT:
      return n < LIMIT ? at : 0;
    case NINT: // -1 - n
      return n < LIMIT - 1 ? at : 0;
    case TEXT:
      return n <= end - at && utf8(at, at + <usize>n) ? at + <usize>n : 0;
    case ARRAY:
      if (depth == DEPTH || n > end - at) return 0;
      for (let i: u64 = 0; i < n; i++) {
        at = check(at, end, depth + 1);
        if (!at) return 0;
      }
      return at;
    case MAP: {
      if (depth == DEPTH || n > end - at) return 0;
      let last: usize = 0;
      let lastSize: usize = 0;
      for (let i: u64 = 0; i < n; i++) {
        const key = at;
        at = check(at, end, depth + 1);
        if (!at || load<u8>(key) >> 5 != TEXT) return 0;
        if (last && !before(last, lastSize, key, at - key)) return 0;
        last = key;
        lastSize = at - key;
        at = check(at, end, depth + 1);
        if (!at) return 0;
      }
      return at;
    }
    case OTHER:
      return n >= FALSE && n <= NULL ? at : 0;
  }
  return 0;
}

/** Reports whether key a stands before key b: bytewise, as encoded. */
function before(a: usize, aSize: usize, b: usize, bSize: usize): bool {
  if (load<u8>(a) != load<u8>(b)) return load<u8>(a) < load<u8>(b);
  const order = memory.compare(a, b, min(aSize, bSize));
  return order < 0 || (order == 0 && aSize < bSize);
}

/** Reports whether the bytes from `at` to `end` are UTF-8. */
function utf8(at: usize, end: usize): bool {
  while (at < end) {
    if (end - at >= 8 && !(load<u64>(at) & 0x8080808080808080)) {
      at += 8;
      continue;
    }
    const c = load<u8>(at++);
    if (c < 0x80) continue;
    let more: usize = 1;
    let low: u8 = 0x80;
    let high: u8 = 0xbf;
    if (c < 0xc2 || c > 0xf4) return false;
    if (c >= 0xf0) {
      more = 3;
      if (c == 0xf0) low = 0x90;
      if (c == 0xf4) high = 0x8f;
    } else if (c >= 0xe0) {
      more = 2;
      if (c == 0xe0) low = 0xa0;
      if (c == 0xed) high = 0x9f; // surrogates
    }
    if (end - at < more) return false;
    for (; more; more--) {
      const d = load<u8>(at++);
      if (d < low || d > high) return false;
      low = 0x80;
      high = 0xbf;
    }
  }
  return true;
}

/** Returns the address behind an item of a document that was checked. */
export function skip(at: usize): usize {
  let left: u64 = 1;
  while (left) {
    left--;
    at = head(at, usize.MAX_VALUE);
    if (major == TEXT) at += <usize>argument;
    else if (major == ARRAY) left += argument;
    else if (major == MAP) left += 2 * argument;
  }
  return at;
}

/** Reports whether the text at `at`, of a document that was checked, is s. */
export function same(at: usize, s: string): bool {
  at = head(at, usize.MAX_VALUE);
  const size = <usize>argument;
  if (size == s.length) {
    for (let i = 0; i < s.length; i++) {
      const c = s.charCodeAt(i);
      if (c >= 0x80) return false; // it would take more bytes than characters
      if (load<u8>(at + i) != c) return false;
    }
    return true;
  }
  // Text with other characters than ASCII has more bytes than UTF-16 units.
  return size > <usize>s.length && <usize>String.UTF8.byteLength(s) == size && String.UTF8.decodeUnsafe(at, size) == s;
}
