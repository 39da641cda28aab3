// simulated: for development. Simulated TEEs only, and any code in them; all else
// as strict has it. It takes no settings.

import { Result, Trust, Value, appraising } from "./sdk";
import { For, closed, genuine, isCPU, matches, upToDate, whole } from "./device";
import { only } from "./settings";
export { tmcp_abi_version, tmcp_allocate } from "./sdk";

const UNRECOGNIZED: i8 = 33; // of executables

export function tmcp_appraise(at: usize, size: usize): u64 {
  return appraising(at, size, appraise);
}

function appraise(document: Value, result: Result): void {
  only(result, document.get("settings"), []);
  result.affirmAll(Trust.NONE);
  result.affirm("hardware", Trust.WARNING);
  result.affirm("executables", Trust.AFFIRMING);
  const devices = document.get("devices");
  for (let i = 0; i < devices.arrayLength; i++) {
    const device = devices.at(i);
    if (!genuine(device, For.DEVELOPMENT, result)) continue;
    closed(device, false, result);
    upToDate(device, result);
    if (!matches(device, result) && isCPU(device)) result.affirm("executables", UNRECOGNIZED);
  }
  whole(document, result);
  result.allow();
}
