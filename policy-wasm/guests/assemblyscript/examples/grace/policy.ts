// The policy NAME: like the template's, but firmware may be out of date for some
// days. Results in that time are good for an hour.
//
//   settings: {"days": 30}

import { Result, Trust, Value, appraising } from "./sdk";
export { tmcp_abi_version, tmcp_allocate } from "./sdk";

const DAY: i64 = 86400;

export function tmcp_appraise(at: usize, size: usize): u64 {
  return appraising(at, size, appraise);
}

function appraise(document: Value, result: Result): void {
  const setting = document.get("settings").find("days");
  const days = setting.intOr(30);
  if (days < 0 || days > 3650) {
    result.deny("settings", "days are 0 to 3650", setting.pointer);
    return;
  }
  const now = document.get("time").int();
  result.affirmAll(Trust.AFFIRMING);
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
    if (!device.get("kind").is("nvidia-gpu")) cpus++;
    firmware(device, now, days, result);
  }
  if (!cpus) result.deny("no-tee", "no CPU TEE is attested", devices.pointer);
  result.allow();
}

function firmware(device: Value, now: i64, days: i64, result: Result): void {
  const tcb = device.get("tcb");
  if (tcb.isNull) {
    const kind = device.get("kind");
    if (!kind.is("nitro") && !kind.is("nvidia-gpu") && !kind.is("cca")) {
      result.deny("tcb", "nothing is known of the firmware", tcb.pointer);
    }
    return;
  }
  const status = tcb.get("status");
  if (status.is("UpToDate")) return;
  if (!status.is("OutOfDate") && !status.is("OutOfDateConfigurationNeeded")) {
    result.deny("tcb", "the firmware's status is not acceptable", status.pointer);
    return;
  }
  const told = tcb.get("out_of_date_since");
  const since = told.isNull ? tcb.get("date") : told;
  if (since.isNull) {
    result.deny("tcb", "nothing says since when", tcb.pointer);
  } else if (now >= since.int() + days * DAY) {
    result.deny("tcb-grace", "the days of grace are over", told.pointer);
  } else {
    result.note("tcb-grace", "out of date, within the days of grace", told.pointer);
    result.affirm("hardware", Trust.WARNING);
    result.oblige("valid-for", 3600);
  }
}
