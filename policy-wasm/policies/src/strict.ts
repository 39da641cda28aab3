// strict: genuine TEEs without debug, that no migration agent can take elsewhere,
// firmware that is up to date, measurements that match reference values. It takes
// no settings.

import { Result, Value, appraising } from "./sdk";
import { For, affirm, closed, genuine, known, upToDate, whole } from "./device";
import { only } from "./settings";
export { tmcp_abi_version, tmcp_allocate } from "./sdk";

export function tmcp_appraise(at: usize, size: usize): u64 {
  return appraising(at, size, appraise);
}

function appraise(document: Value, result: Result): void {
  only(result, document.get("settings"), []);
  const devices = document.get("devices");
  for (let i = 0; i < devices.arrayLength; i++) {
    const device = devices.at(i);
    if (!genuine(device, For.PRODUCTION, result)) continue;
    closed(device, false, result);
    upToDate(device, result);
    known(device, result);
  }
  whole(document, result);
  affirm(document, result);
  result.allow();
}
