// The SDK for policies in AssemblyScript: a policy exports tmcp_appraise,
// tmcp_authorize or both, which call appraising() and authorizing(), and what is below.

export { Type, Value } from "./value";
export { Result, Trust, appraising, authorizing } from "./result";

export function tmcp_abi_version(): i32 {
  return 1;
}

/** Where the document may stand. Memory is never freed: each question has an instance of its own. */
export function tmcp_allocate(size: usize): usize {
  return size <= 1 << 20 ? heap.alloc(size) : 0;
}
