// tcb-grace: all that strict demands, but firmware may be out of date for some
// days after the first newer version was dated. Results end with the grace.
//
//   settings: {"days": 30}    0 to 3650

import { Result, Trust, Value, appraising } from "./sdk";
import { For, affirm, closed, genuine, known, statusKnown, whole } from "./device";
import { integer, only } from "./settings";
export { tmcp_abi_version, tmcp_allocate } from "./sdk";

const DAY: i64 = 86400; // seconds

export function tmcp_appraise(at: usize, size: usize): u64 {
  return appraising(at, size, appraise);
}

function appraise(document: Value, result: Result): void {
  const settings = document.get("settings");
  only(result, settings, ["days"]);
  const grace = integer(result, settings.find("days"), 30, 0, 3650) * DAY;
  affirm(document, result);
  const devices = document.get("devices");
  let left = i64.MAX_VALUE;
  const late: string[] = []; // where that stands
  for (let i = 0; i < devices.arrayLength; i++) {
    const device = devices.at(i);
    if (!genuine(device, For.PRODUCTION, result)) continue;
    closed(device, false, result);
    left = min(left, recent(device, document.get("time").int(), grace, late, result));
    known(device, result);
  }
  whole(document, result);
  if (late.length && !result.isDenied) {
    for (let i = 0; i < late.length; i++) result.note("tcb-grace", "the firmware is out of date, within the days of grace", late[i]);
    result.affirm("hardware", Trust.WARNING);
    result.oblige("valid-for", left);
  }
  result.allow();
}

/** The seconds that are left of the grace; i64.MAX_VALUE where none is needed. */
function recent(device: Value, now: i64, grace: i64, late: string[], result: Result): i64 {
  if (!statusKnown(device, result)) return i64.MAX_VALUE;
  const tcb = device.get("tcb");
  const status = tcb.get("status");
  if (status.is("UpToDate")) return i64.MAX_VALUE;
  if (!grace || (!status.is("OutOfDate") && !status.is("OutOfDateConfigurationNeeded"))) {
    result.deny("tcb", "the firmware is not up to date, and its status is none that is good for a while", status.pointer);
    return i64.MAX_VALUE;
  }
  const told = tcb.get("out_of_date_since");
  const since = told.isNull ? tcb.get("date") : told;
  if (since.isNull) {
    result.deny("tcb", "nothing says since when the firmware is out of date", tcb.pointer);
    return i64.MAX_VALUE;
  }
  const left = since.int() + grace - now;
  if (left <= 0) {
    result.deny("tcb", "the firmware is out of date, and the days of grace are over", since.pointer);
    return i64.MAX_VALUE;
  }
  late.push(since.pointer);
  return min(left, grace);
}
