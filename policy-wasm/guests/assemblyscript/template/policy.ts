// The policy NAME: TEEs that are proven, genuine and up to date, whose code is
// known; and tools for those whom the settings let call them.
//
//   settings: {"tools": {"search": "anyone", "write": "identity", "pay": "attested"}}

import { Result, Trust, Value, appraising, authorizing } from "./sdk";
export { tmcp_abi_version, tmcp_allocate } from "./sdk";

export function tmcp_appraise(at: usize, size: usize): u64 {
  return appraising(at, size, appraise);
}

export function tmcp_authorize(at: usize, size: usize): u64 {
  return authorizing(at, size, authorize);
}

/** May this peer be trusted? */
function appraise(document: Value, result: Result): void {
  const devices = document.get("devices");
  let cpus = 0;
  for (let i = 0; i < devices.length; i++) {
    const device = devices.at(i);
    const proven = device.get("proven");
    if (!proven.bool()) {
      result.deny("not-proven", "the evidence is not proven", proven.pointer);
    } else if (device.get("simulated").bool()) {
      result.deny("simulated", "a simulated TEE proves nothing", device.get("simulated").pointer);
    }
    const debug = device.get("debug");
    if (debug.bool()) result.deny("debug", "the TEE can be read from outside", debug.pointer);
    const tcb = device.get("tcb");
    if (!tcb.isNull && !tcb.get("status").is("UpToDate")) {
      result.deny("tcb", "the firmware is not up to date", tcb.get("status").pointer);
    }
    if (device.get("kind").is("nvidia-gpu")) continue;
    cpus++;
    const references = device.get("references");
    if (references.isNull || !references.get("matched").bool()) {
      result.deny("reference-values", "the code is not known", references.pointer);
    }
  }
  if (!cpus) result.deny("no-tee", "no CPU TEE is attested", devices.pointer);
  result.affirmAll(Trust.AFFIRMING);
  result.allow();
}

/** May this call be made? */
function authorize(document: Value, result: Result): void {
  const call = document.get("call");
  const method = call.get("method");
  if (method.isNull || !method.is("tools/call")) {
    result.allow();
    return;
  }
  const name = call.get("name");
  const profile = document.get("peer").get("profile");
  const tools = document.get("settings").find("tools");
  const demand = tools.find(name.text());
  if (demand.isNull) {
    result.deny("tool-not-listed", "the settings do not list this tool", name.pointer);
  } else if (demand.is("attested")) {
    if (!profile.is("attested")) result.deny("not-attested", "this tool is for attested peers", profile.pointer);
  } else if (demand.is("identity")) {
    if (profile.is("none")) result.deny("not-identified", "this tool is for known peers", profile.pointer);
  } else if (!demand.is("anyone")) {
    result.deny("settings", "the demand is none of attested, identity and anyone", tools.pointer);
  }
  result.allow();
}
