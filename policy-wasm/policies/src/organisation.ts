// organisation: peers of mine. It denies all others, and to a question about
// evidence it abstains where the peer is one of mine: what its TEE proves is for
// another policy to say.
//
//   settings: {
//     "identities":    ["https://tools.example.org/mcp/"],   this identity, and what lies below it
//     "hosts":         ["tools.example.org"],                https of this host
//     "domains":       ["example.org"],                      https of this host and those below it
//     "trust_domains": ["example.org"],                      spiffe of this trust domain
//     "thumbprints":   ["3q2-7wXf…"]                         identity keys, base64url
//   }
//
// One match is enough. Identity keys are not verified yet when evidence is judged,
// so with thumbprints it leaves that decision to the calls.

import { Result, Value, appraising, authorizing } from "./sdk";
import { lower, only, texts, wrong } from "./settings";
export { tmcp_abi_version, tmcp_allocate } from "./sdk";

export function tmcp_appraise(at: usize, size: usize): u64 {
  return appraising(at, size, appraise);
}

export function tmcp_authorize(at: usize, size: usize): u64 {
  return authorizing(at, size, authorize);
}

function appraise(document: Value, result: Result): void {
  const mine = new Organisation(document.get("settings"), result);
  const identity = document.get("peer").get("identity");
  if (!mine.thumbprints.length && !mine.names(identity)) {
    result.deny("organisation", "the peer's identity is none of the organisation", identity.pointer);
  }
  result.abstain();
}

function authorize(document: Value, result: Result): void {
  const mine = new Organisation(document.get("settings"), result);
  const peer = document.get("peer");
  const profile = peer.get("profile");
  const identity = peer.get("identity");
  const thumbprint = peer.get("thumbprint");
  if (!profile.is("identity") && !profile.is("attested")) {
    result.deny("not-identified", "the peer proved no identity", profile.pointer);
  } else if (!mine.names(identity) && !(!thumbprint.isNull && mine.thumbprints.includes(thumbprint.text()))) {
    result.deny("organisation", "neither the peer's identity nor its key is of the organisation", identity.pointer);
  }
  result.allow();
}

@final
class Organisation {
  private identities: string[];
  private hosts: string[];
  private domains: string[];
  private trustDomains: string[];
  thumbprints: string[];

  constructor(settings: Value, result: Result) {
    only(result, settings, ["identities", "hosts", "domains", "trust_domains", "thumbprints"]);
    this.identities = texts(result, settings.find("identities"));
    this.hosts = texts(result, settings.find("hosts"));
    this.domains = texts(result, settings.find("domains"));
    this.trustDomains = texts(result, settings.find("trust_domains"));
    this.thumbprints = texts(result, settings.find("thumbprints"));
    if (settings.isNull || !settings.objectLength) wrong(result, "say who belongs to the organisation", settings);
    for (let i = 0; i < this.identities.length; i++) {
      if (!plain(this.identities[i])) wrong(result, "an identity is a URI without ., .., %, \\ and @ in it", settings.get("identities").at(i));
    }
    names(this.hosts, settings.find("hosts"), result);
    names(this.domains, settings.find("domains"), result);
    names(this.trustDomains, settings.find("trust_domains"), result);
  }

  /** Whether the identity is one of the organisation's. */
  names(identity: Value): bool {
    if (identity.isNull) return false;
    const uri = identity.text();
    if (!plain(uri)) return false;
    for (let i = 0; i < this.identities.length; i++) {
      if (below(uri, this.identities[i])) return true;
    }
    const host = authority(uri, "https://");
    if (host.length) {
      if (has(this.hosts, host)) return true;
      for (let i = 0; i < this.domains.length; i++) {
        const domain = lower(this.domains[i]);
        if (host == domain || host.endsWith("." + domain)) return true;
      }
    }
    const trustDomain = authority(uri, "spiffe://");
    return trustDomain.length > 0 && has(this.trustDomains, trustDomain);
  }
}

/** Denies for what is no name of a host: of letters, digits and hyphens, in labels. */
function names(list: string[], at: Value, result: Result): void {
  for (let i = 0; i < list.length; i++) {
    const s = list[i];
    let good = s.length > 0 && s.charCodeAt(0) != 0x2e && !s.endsWith(".") && !s.includes("..");
    for (let k = 0; k < s.length; k++) {
      const c = s.charCodeAt(k) | 0x20;
      good = good && ((c >= 0x61 && c <= 0x7a) || (c >= 0x30 && c <= 0x39) || s.charCodeAt(k) == 0x2d || s.charCodeAt(k) == 0x2e);
    }
    if (!good) wrong(result, "a host is named by labels with dots between them, and nothing else", at.at(i));
  }
}

function has(list: string[], host: string): bool {
  for (let i = 0; i < list.length; i++) {
    if (lower(list[i]) == host) return true;
  }
  return false;
}

/** Whether a URI has a scheme and an authority, and one reading only: no dot segments, nothing encoded, no user. */
function plain(uri: string): bool {
  const scheme = uri.indexOf("://");
  if (scheme <= 0 || uri.length == scheme + 3 || uri.charCodeAt(scheme + 3) == 0x2f) return false;
  let end = uri.length;
  for (let i = scheme + 3; i < uri.length; i++) {
    const c = uri.charCodeAt(i);
    if (c <= 0x20 || c >= 0x7f || c == 0x25 || c == 0x5c || c == 0x40) return false; // % \ @
    if ((c == 0x3f || c == 0x23) && end == uri.length) end = i; // ? #
  }
  for (let i = uri.indexOf("/.", scheme + 3); i >= 0 && i < end; i = uri.indexOf("/.", i + 1)) {
    let k = i + 2;
    if (k < end && uri.charCodeAt(k) == 0x2e) k++;
    if (k >= end || uri.charCodeAt(k) == 0x2f) return false;
  }
  return true;
}

/** Whether uri is prefix, or lies below it. */
function below(uri: string, prefix: string): bool {
  if (!uri.startsWith(prefix)) return false;
  if (uri.length == prefix.length || prefix.endsWith("/")) return true;
  const c = uri.charCodeAt(prefix.length);
  return c == 0x2f || c == 0x3f || c == 0x23; // / ? #
}

/** The host of a URI of that scheme, in lower case and without port; "" otherwise. */
function authority(uri: string, scheme: string): string {
  if (lower(uri.substring(0, scheme.length)) != scheme) return "";
  let end = scheme.length;
  while (end < uri.length) {
    const c = uri.charCodeAt(end);
    if (c == 0x2f || c == 0x3f || c == 0x23) break;
    end++;
  }
  let host = uri.substring(scheme.length, end);
  const colon = host.lastIndexOf(":");
  if (colon >= 0) {
    for (let i = colon + 1; i < host.length; i++) {
      const c = host.charCodeAt(i);
      if (c < 0x30 || c > 0x39) return "";
    }
    host = host.substring(0, colon);
  }
  return lower(host);
}
