// What is asked of a device. Each function denies with the code that the check of
// the built-in rules of the same purpose has behind "policy-".

import { Result, Trust, Value } from "./sdk";

/** What kind of devices a policy is for. There is none for both. */
export enum For {
  PRODUCTION,
  DEVELOPMENT,
}

/** Whether there is anything to judge: claims of a device that is not proven are nobody's word. */
export function genuine(device: Value, purpose: For, result: Result): bool {
  const proven = device.get("proven");
  if (!proven.bool()) {
    result.deny("not-proven", "the evidence is not proven", proven.pointer);
    return false;
  }
  const simulated = device.get("simulated");
  if (purpose == For.PRODUCTION && simulated.bool()) {
    result.deny("simulated", "a simulated TEE proves nothing; this policy is for production", simulated.pointer);
  } else if (purpose == For.DEVELOPMENT && !simulated.bool()) {
    result.deny("not-simulated", "a genuine TEE under a policy for development; use one for production", simulated.pointer);
  }
  const checks = device.get("checks");
  for (let i = 0; i < checks.arrayLength; i++) {
    const outcome = checks.at(i).get("outcome");
    if (outcome.is("pass") || outcome.is("warn") || outcome.is("not-performed")) continue;
    result.deny("check", "verification found a fault", outcome.pointer);
    break;
  }
  return true;
}

/** Nobody outside reads its memory, now or by migration. */
export function closed(device: Value, serviceListed: bool, result: Result): void {
  const debug = device.get("debug");
  if (debug.bool()) result.deny("debug", "the TEE can be read from outside", debug.pointer);
  const open = migration(device, serviceListed);
  if (open !== null) result.deny("migration", "the host chose who can read this TEE's memory", open.pointer);
}

const MIGRATE_MA: i64 = 1 << 18; // of an SEV-SNP guest's policy
const MIGRATABLE: i32 = 1 << 1; // of the upper half of byte 3 of TDATTRIBUTES, digit 6

/** The claim by which a migration agent that nobody listed may have the TEE's memory. */
function migration(device: Value, serviceListed: bool): Value | null {
  const policy = claim(device, "sev-snp", "snp.policy");
  if (!policy.isNull && (policy.int() & MIGRATE_MA)) return policy;
  const service = claim(device, "tdx", "tdx.mrservicetd");
  const digits = service.textOr("");
  if (serviceListed && !service.isNull) return null; // compared with the list
  for (let i = 0; i < digits.length; i++) {
    if (digits.charCodeAt(i) != 0x30) return service;
  }
  const attributes = claim(device, "tdx", "tdx.tdattributes");
  const hex = attributes.textOr("");
  if (hex.length == 16 && digit(hex.charCodeAt(6)) & MIGRATABLE) return attributes;
  return null;
}

/** The value of a hex digit in lower case. */
function digit(c: i32): i32 {
  return c <= 0x39 ? c - 0x30 : c - 0x57;
}

/** A claim that stands in each device of that kind, null where it was not told. */
function claim(device: Value, kind: string, name: string): Value {
  const claims = device.get("claims");
  return device.get("kind").is(kind) ? claims.get(name) : claims.find(name);
}

/** Whether the vendor tells a status of the firmware. Where it must, and does not, that is a denial. */
export function statusKnown(device: Value, result: Result): bool {
  const tcb = device.get("tcb");
  if (!tcb.isNull && !tcb.get("status").is("")) return true;
  const kind = device.get("kind");
  if (!kind.is("sev-snp") && !kind.is("nitro") && !kind.is("cca") && !kind.is("nvidia-gpu")) {
    result.deny("tcb", "nothing is known of the firmware's status", tcb.pointer);
  }
  return false;
}

/** The firmware is up to date. */
export function upToDate(device: Value, result: Result): void {
  if (!statusKnown(device, result)) return;
  const status = device.get("tcb").get("status");
  if (!status.is("UpToDate")) result.deny("tcb", "the firmware is not up to date", status.pointer);
}

/** Whether measurements match reference values. Where there are some, and they do not, that is a denial. */
export function matches(device: Value, result: Result): bool {
  const references = device.get("references");
  if (references.isNull || !references.get("known").bool()) return false;
  const matched = references.get("matched");
  if (!matched.bool()) result.deny("reference-values", "the measurements do not match the reference values", matched.pointer);
  return true;
}

/** Measurements match reference values, which must be there. */
export function known(device: Value, result: Result): void {
  if (!matches(device, result)) {
    result.deny("reference-values", "no reference values are known for this TEE", device.get("references").pointer);
  }
}

/** Whether a device is of a CPU. */
export function isCPU(device: Value): bool {
  return !device.get("kind").is("nvidia-gpu");
}

/** Whether a device is a GPU: an NVSwitch comes as one too. */
export function isGPU(device: Value): bool {
  if (isCPU(device)) return false;
  return !device.get("proven").bool() || device.get("claims").get("nvidia.arch").textOr("") != "LS10";
}

/** A CPU's TEE is there, or what is asked about is one device by itself. */
export function whole(document: Value, result: Result): void {
  const devices = document.get("devices");
  let cpus = 0;
  for (let i = 0; i < devices.arrayLength; i++) cpus += i32(isCPU(devices.at(i)));
  const alone = document.get("peer").get("alone").bool();
  if (!cpus && !(alone && devices.arrayLength)) {
    result.deny("cpu", "no evidence of a CPU's TEE: a GPU alone runs nobody's code", devices.pointer);
  }
}

/** The trust vector of a peer that a policy for production allows. */
export function affirm(document: Value, result: Result): void {
  result.affirmAll(Trust.NONE);
  result.affirm("hardware", Trust.AFFIRMING);
  result.affirm("executables", Trust.AFFIRMING);
  result.affirm("configuration", Trust.AFFIRMING);
  const devices = document.get("devices");
  let encrypted = 0;
  let cpus = 0;
  for (let i = 0; i < devices.arrayLength; i++) {
    const kind = devices.at(i).get("kind");
    cpus += i32(isCPU(devices.at(i)));
    encrypted += i32(kind.is("tdx") || kind.is("sgx") || kind.is("sev-snp"));
  }
  if (cpus && encrypted == cpus) result.affirm("runtime-opaque", Trust.AFFIRMING);
}
