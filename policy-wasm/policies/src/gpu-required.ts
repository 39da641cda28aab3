// gpu-required: all that strict demands, and GPUs whose evidence is bound to the
// CPU's.
//
//   settings: {"gpus": 1}    at least so many, 1 to 16

import { Result, Value, appraising } from "./sdk";
import { For, affirm, closed, genuine, isGPU, known, upToDate, whole } from "./device";
import { integer, only } from "./settings";
export { tmcp_abi_version, tmcp_allocate } from "./sdk";

export function tmcp_appraise(at: usize, size: usize): u64 {
  return appraising(at, size, appraise);
}

function appraise(document: Value, result: Result): void {
  const settings = document.get("settings");
  only(result, settings, ["gpus"]);
  const wanted = integer(result, settings.find("gpus"), 1, 1, 16);
  const devices = document.get("devices");
  let gpus = 0;
  for (let i = 0; i < devices.arrayLength; i++) {
    const device = devices.at(i);
    gpus += i32(isGPU(device));
    if (!genuine(device, For.PRODUCTION, result)) continue;
    closed(device, false, result);
    upToDate(device, result);
    known(device, result);
  }
  whole(document, result);
  if (gpus < wanted) result.deny("gpu", "fewer GPUs are attested than the policy demands", devices.pointer);
  affirm(document, result);
  result.allow();
}
