// allow-list: all that strict demands of TEEs and their firmware, and code that
// the settings list: by what was measured, by the manifests that it matched, or
// both.
//
//   settings: {
//     "claims":    {"tdx.mrtd": ["91eb2b44…"]},    each claim of that kind of TEE is one of these
//     "tags":      ["weather-2026-11"],            one of the manifests that a CPU's TEE matched
//     "platforms": ["811dca2a…"]                   machines
//   }
//
// Claims of a CPU's TEE that identify its code stand in for reference values where
// there are none; where there are some they must match all the same. Claims or tags
// must be there.

import { Result, Trust, Value, appraising } from "./sdk";
import { For, affirm, closed, genuine, isCPU, matches, upToDate, whole } from "./device";
import { among, only, texts, wrong } from "./settings";
export { tmcp_abi_version, tmcp_allocate } from "./sdk";

export function tmcp_appraise(at: usize, size: usize): u64 {
  return appraising(at, size, appraise);
}

function appraise(document: Value, result: Result): void {
  const settings = document.get("settings");
  only(result, settings, ["claims", "tags", "platforms"]);
  const claims = new Claims(settings.find("claims"), result);
  const tags = texts(result, settings.find("tags"));
  const platforms = texts(result, settings.find("platforms"));
  if (!claims.names.length && !tags.length) wrong(result, "list claims or tags", settings);

  const devices = document.get("devices");
  for (let i = 0; i < devices.arrayLength; i++) {
    const device = devices.at(i);
    if (!genuine(device, For.PRODUCTION, result)) continue;
    closed(device, claims.names.includes("tdx.mrservicetd"), result);
    upToDate(device, result);
    if (platforms.length && isCPU(device)) {
      const platform = device.get("platform");
      if (!among(platform, platforms)) result.deny("platform", "the settings do not list this machine", platform.pointer);
    }
    const identified = claims.hold(device, result);
    if (!matches(device, result) && !identified) {
      result.deny("reference-values", "nothing says what this TEE's code should be", device.get("references").pointer);
    }
    if (tags.length && isCPU(device)) tagged(device, tags, result);
  }
  whole(document, result);
  affirm(document, result);
  if (platforms.length) result.affirm("instance-identity", Trust.AFFIRMING);
  result.allow();
}

function tagged(device: Value, tags: string[], result: Result): void {
  const references = device.get("references");
  if (!references.isNull && references.get("known").bool() && references.get("matched").bool()) {
    const matched = references.get("tags");
    for (let i = 0; i < matched.arrayLength; i++) {
      if (tags.includes(matched.at(i).text())) return;
    }
  }
  result.deny("tag", "no manifest that the settings list matches", references.pointer);
}

/** Claims that say which code runs, none of them a GPU's. */
const IDENTIFYING: string[] = ["tdx.mrtd", "sgx.mrenclave", "sgx.mrsigner", "snp.measurement", "snp.idkeydigest", "nitro.pcr0", "nitro.pcr8", "cca.rim"];

/** The claims that the settings list, with their values. */
@final
class Claims {
  names: string[] = [];
  private values: string[][] = [];

  constructor(settings: Value, result: Result) {
    const length = settings.isNull ? 0 : settings.objectLength;
    for (let i = 0; i < length; i++) {
      const name = settings.key(i);
      if (!isOf(name, "tdx") && !isOf(name, "sgx") && !isOf(name, "sev-snp") && !isOf(name, "nitro") && !isOf(name, "nvidia-gpu") && !isOf(name, "cca")) {
        wrong(result, "no TEE has such a claim, so it would not be looked at; names are like tdx.mrtd", settings.entry(i));
      }
      this.names.push(name);
      this.values.push(texts(result, settings.entry(i)));
    }
    if (!settings.isNull && !length) wrong(result, "no claims are listed; leave it out", settings);
  }

  /** Denies for claims that are not as listed, and says whether they identify the code. */
  hold(device: Value, result: Result): bool {
    let identified = false;
    const kind = device.get("kind").text();
    for (let i = 0; i < this.names.length; i++) {
      const name = this.names[i];
      if (!isOf(name, kind)) continue;
      const claim = device.get("claims").find(name);
      if (!among(claim, this.values[i])) result.deny("claim", "the settings do not list this value", claim.pointer);
      identified = identified || IDENTIFYING.includes(name);
    }
    return identified;
  }
}

/** Whether a claim is of that kind of TEE. */
function isOf(claim: string, kind: string): bool {
  if ((kind == "tdx" || kind == "sgx") && claim.length > 6 && claim.startsWith("intel.")) return true;
  const prefix = kind == "sev-snp" ? "snp." : kind == "nvidia-gpu" ? "nvidia." : kind + ".";
  return claim.length > prefix.length && claim.startsWith(prefix);
}
