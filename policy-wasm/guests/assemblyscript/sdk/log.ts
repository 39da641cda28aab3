// The one import that there is. A policy that uses it can't be loaded where the
// operator offers no log: leave it out of what you ship.

// @ts-ignore: decorator
@external("tmcp_1", "log")
declare function write(at: usize, size: usize): void;

/** Writes to the log that the operator may keep. It changes no decision. */
export function log(text: string): void {
  const b = String.UTF8.encode(text);
  write(changetype<usize>(b), b.byteLength);
}
