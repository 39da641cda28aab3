import { ARRAY, MAP, NINT, TEXT, UINT } from "./cbor";

/** A Writer appends deterministic CBOR to memory that grows. */
@final
export class Writer {
  private at: usize;
  private size: usize = 0;

  constructor(private room: usize) {
    this.at = heap.alloc(room);
  }

  map(n: i32): void { this.head(MAP, n); }
  array(n: i32): void { this.head(ARRAY, n); }
  bool(v: bool): void { this.byte(v ? 0xf5 : 0xf4); }

  int(n: i64): void {
    if (n < 0) this.head(NINT, <u64>(-1 - n));
    else this.head(UINT, <u64>n);
  }

  text(s: string): void {
    const size = <usize>String.UTF8.byteLength(s);
    this.head(TEXT, size);
    this.need(size);
    String.UTF8.encodeUnsafe(changetype<usize>(s), s.length, this.at + this.size);
    this.size += size;
  }

  append(w: Writer): void {
    this.need(w.size);
    memory.copy(this.at + this.size, w.at, w.size);
    this.size += w.size;
  }

  /** The address in the upper half, the size in the lower. */
  place(): u64 {
    return (<u64>this.at << 32) | this.size;
  }

  private head(major: u8, n: u64): void {
    const first = major << 5;
    if (n < 24) {
      this.byte(first | <u8>n);
      return;
    }
    const log: u8 = n <= 0xff ? 0 : n <= 0xffff ? 1 : n <= 0xffffffff ? 2 : 3;
    this.byte(first | (24 + log));
    for (let i: i32 = (1 << log) - 1; i >= 0; i--) this.byte(<u8>(n >> (8 * i)));
  }

  private byte(b: u8): void {
    this.need(1);
    store<u8>(this.at + this.size++, b);
  }

  private need(size: usize): void {
    if (this.size + size <= this.room) return;
    this.room = 2 * (this.size + size);
    const at = heap.alloc(this.room);
    memory.copy(at, this.at, this.size);
    this.at = at;
  }
}
