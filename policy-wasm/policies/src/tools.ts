// tools: which tools a peer may call, by what it proved. Whatever is no call of a
// tool is allowed.
//
//   settings: {
//     "tools": {
//       "search": "anyone",
//       "write":  "identity",
//       "pay":    {"peer": "attested", "kinds": ["tdx", "sev-snp"], "claims": {"tdx.mrtd": ["91eb…"]}, "gpu": true, "audit": true}
//     },
//     "others": "deny"
//   }
//
// kinds and claims are asked of one device: the peer has a TEE of such a kind that
// is proven, genuine and without debug, and each claim is one of the values. gpu
// asks for such a GPU. They go with "attested" only. audit has calls logged.
// others says what tools demand that are not listed: deny (the default), or as a
// tool's.

import { Result, Type, Value, authorizing } from "./sdk";
import { isGPU } from "./device";
import { among, only, texts, wrong } from "./settings";
export { tmcp_abi_version, tmcp_allocate } from "./sdk";

export function tmcp_authorize(at: usize, size: usize): u64 {
  return authorizing(at, size, authorize);
}

function authorize(document: Value, result: Result): void {
  const settings = document.get("settings");
  only(result, settings, ["tools", "others"]);
  const call = document.get("call");
  const method = call.get("method");
  const kind = call.get("kind");
  if (method.isNull && (kind.is("request") || kind.is("notification"))) {
    result.deny("method", "a call without a method", method.pointer);
    return;
  }
  if (method.isNull || !method.is("tools/call")) {
    result.allow();
    return;
  }
  const name = call.get("name");
  if (name.isNull) {
    result.deny("tool", "the call names no tool", name.pointer);
    return;
  }
  let demand = settings.find("tools").find(name.text());
  if (demand.isNull) {
    demand = settings.find("others");
    if (demand.isNull || (demand.type == Type.TEXT && demand.is("deny"))) {
      result.deny("tool-not-listed", "the settings do not list this tool", name.pointer);
      return;
    }
  }
  if (demand.type == Type.TEXT) {
    proved(document, demand, result);
  } else {
    only(result, demand, ["peer", "kinds", "claims", "gpu", "audit"]);
    proved(document, demand.get("peer"), result);
    has(document, demand, result);
    if (demand.find("audit").boolOr(false)) result.oblige("audit", true);
  }
  result.allow();
}

/** The peer proved what is demanded of it. */
function proved(document: Value, demand: Value, result: Result): void {
  const profile = document.get("peer").get("profile");
  const attested = profile.is("attested");
  if (demand.is("attested")) {
    if (!attested) result.deny("not-attested", "this tool is for attested peers", profile.pointer);
  } else if (demand.is("identity")) {
    if (!attested && !profile.is("identity")) result.deny("not-identified", "this tool is for known peers", profile.pointer);
  } else if (!demand.is("anyone")) {
    wrong(result, "the demand is none of attested, identity and anyone", demand);
  }
}

/** The peer's TEEs have the attributes that are demanded. */
function has(document: Value, demand: Value, result: Result): void {
  const kinds = texts(result, demand.find("kinds"));
  const claims = demand.find("claims");
  const gpu = demand.find("gpu").boolOr(false);
  if (!kinds.length && claims.isNull && !gpu) return;
  if (!demand.get("peer").is("attested")) {
    wrong(result, "kinds, claims and gpu need a peer that is attested", demand);
    return;
  }
  const devices = document.get("devices");
  let fits = !kinds.length && claims.isNull;
  let gpus = 0;
  for (let i = 0; i < devices.arrayLength; i++) {
    const device = devices.at(i);
    if (!device.get("proven").bool() || device.get("simulated").bool() || device.get("debug").bool()) continue;
    fits = (ofKind(device, kinds) && holds(device, claims, result)) || fits;
    gpus += i32(isGPU(device));
  }
  if (!fits) result.deny("attributes", "no TEE of the peer has the kind and the claims that this tool demands", devices.pointer);
  if (gpu && !gpus) result.deny("gpu", "this tool is for peers with an attested GPU", devices.pointer);
}

function ofKind(device: Value, kinds: string[]): bool {
  return !kinds.length || kinds.includes(device.get("kind").text());
}

function holds(device: Value, claims: Value, result: Result): bool {
  if (claims.isNull) return true;
  let all = claims.objectLength > 0;
  if (!all) wrong(result, "no claims are listed; leave it out", claims);
  for (let i = 0; i < claims.objectLength; i++) {
    const claim = device.get("claims").find(claims.key(i));
    all = among(claim, texts(result, claims.entry(i))) && all;
  }
  return all;
}
