// A verifier of report data, CMWs and attestation results, behind the shim protocol.
//
//	npm ci && npx tsc && tmcp-conform verifier -- node shim.js
//
// It needs nothing but Node 20. Other operations are answered not-implemented.
import { createHash, createPublicKey, verify } from "node:crypto";
import { createInterface } from "node:readline";

const L = "org.trustedmcp/trust v1 ";
type Any = any;

class Tag {
  constructor(readonly number: bigint, readonly content: Any) {}
}

function need(ok: Any, why: string): asserts ok {
  if (!ok) throw new Error(why);
}

function head(major: number, n: number | bigint): Buffer {
  const v = BigInt(n);
  if (v < 24n) return Buffer.from([(major << 5) | Number(v)]);
  const size = v < 1n << 8n ? 1 : v < 1n << 16n ? 2 : v < 1n << 32n ? 4 : 8;
  const b = Buffer.alloc(9);
  b.writeBigUInt64BE(v, 1);
  const out = b.subarray(8 - size);
  out[0] = (major << 5) | { 1: 24, 2: 25, 4: 26, 8: 27 }[size]!;
  return Buffer.from(out);
}

/** Deterministic CBOR, as far as it is needed to sign and to hash. */
function enc(v: Any): Buffer {
  if (v === null) return Buffer.from([0xf6]);
  if (typeof v === "number") return head(0, v);
  if (typeof v === "string") return Buffer.concat([head(3, Buffer.byteLength(v)), Buffer.from(v)]);
  if (Buffer.isBuffer(v)) return Buffer.concat([head(2, v.length), v]);
  return Buffer.concat([head(4, v.length), ...v.map(enc)]);
}

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** One item of deterministic CBOR (RFC 8949 section 4.2.1), and where it ends. */
function dec(b: Buffer, at: number, depth: number): [Any, number] {
  need(at < b.length && depth <= 16, "cut, or nested too deeply");
  const major = b[at] >> 5;
  const info = b[at] & 31;
  const size = { 24: 1, 25: 2, 26: 4, 27: 8 }[info] ?? 0;
  need(info <= 27 && at + 1 + size <= b.length, "of indefinite length, or cut");
  let end = at + 1 + size;
  if (major === 7) {
    need(info >= 20 && info <= 22, "a simple value or float that is not read here");
    return [[false, true, null][info - 20], end];
  }
  const n = size === 0 ? BigInt(info) : BigInt("0x" + b.subarray(at + 1, end).toString("hex"));
  need(head(major, n).equals(b.subarray(at, end)), "not in its shortest form");
  if (major < 2) return [Number(major === 0 ? n : -1n - n), end];
  if (major === 6) {
    const [v, after] = dec(b, end, depth + 1);
    return [new Tag(n, v), after];
  }
  need(n <= BigInt(b.length - end), "cut");
  const count = Number(n);
  if (major < 4) {
    const v = b.subarray(end, end + count);
    return [major === 2 ? v : utf8.decode(v), end + count];
  }
  const list: Any[] = [];
  const map = new Map<Any, Any>();
  let last = Buffer.alloc(0);
  for (let i = 0; i < count; i++) {
    const start = end;
    let v: Any;
    [v, end] = dec(b, end, depth + 1);
    if (major === 4) {
      list.push(v);
      continue;
    }
    const key = b.subarray(start, end);
    need(Buffer.compare(last, key) < 0, "keys unsorted or double");
    last = Buffer.from(key);
    let x: Any;
    [x, end] = dec(b, end, depth + 1);
    map.set(v, x);
  }
  return [major === 4 ? list : map, end];
}

function cbor(b: Buffer): Any {
  const [v, end] = dec(b, 0, 0);
  need(end === b.length, "bytes behind the item");
  return v;
}

const data = (s: string): Buffer => Buffer.from(s, "base64");

function unb64u(s: string): Buffer {
  const b = Buffer.from(s, "base64url");
  need(b.toString("base64url") === s, "not base64url");
  return b;
}

function reportData(r: Any) {
  const f = r.freshness;
  const all = [enc(L + "report data"), enc(r.role), enc(r.identity), data(r.key), enc(r.config ? data(r.config) : null), enc([f.kind, f.kind === 1 ? f.at : data(f.value)])];
  return { report_data: createHash("sha512").update(Buffer.concat([head(4, 6), ...all])).digest("hex") };
}

function records(v: Any, label: string): Any[] {
  if (Array.isArray(v)) {
    need((v.length === 2 || v.length === 3) && ["string", "number"].includes(typeof v[0]) && Buffer.isBuffer(v[1]), "not a record");
    need(v.length === 2 || (typeof v[2] === "number" && v[2] > 0 && v[2] < 32), "an indicator of 0, or unknown");
    return [{ label, type: v[0] }];
  }
  need(v instanceof Map, "neither a record nor a collection");
  need(typeof (v.get("__cmwc_t") ?? "") === "string", "a type that is no text");
  v.delete("__cmwc_t");
  need(v.size > 0, "an empty collection");
  return [...v].flatMap(([k, item]) => records(item, String(k)));
}

/** The pinned key that kid names. Its algorithm is the pinned one, not the token's. */
function pinned(r: Any, kid: string | undefined, alg: string) {
  const found = r.keys.keys.filter((k: Any) => k.kid === kid || (kid === undefined && r.keys.keys.length === 1));
  need(found.length === 1 && found[0].alg === alg, "no pinned key of that name and algorithm");
  const key = createPublicKey({ key: found[0], format: "jwk" });
  return (sig: Buffer, message: Buffer) =>
    need(verify(alg === "EdDSA" ? null : "sha256", message, { key, dsaEncoding: "ieee-p1363" }, sig), "the signature does not verify");
}

/** JSON whose members do not stand twice: what is parsed is written again and compared. */
function json(b: Buffer): Map<string, Any> {
  const text = utf8.decode(b);
  const v = JSON.parse(text);
  need(JSON.stringify(v).length === text.length, "a member stands twice, or there is space between");
  return new Map(Object.entries(v));
}

const CWT: Record<string, Any> = { iss: 1, exp: 4, nbf: 5, iat: 6, eat_nonce: 10, submods: 266, ear_status: 1000 };
const NAMES = Object.fromEntries(Object.keys(CWT).map((n) => [n, n]));

/** The claims of a JWT or CWT whose signature a pinned key verifies, and their names. */
function claims(r: Any): [Map<Any, Any>, Record<string, Any>] {
  const b = data(r.value);
  if (b[0] !== 0xd2) {
    const parts = b.toString("latin1").split(".");
    need(parts.length === 3, "not a compact JWT");
    const h = json(unb64u(parts[0]));
    for (const k of h.keys()) need(["alg", "kid", "typ"].includes(k), "the header holds a key, or what is not known");
    pinned(r, h.get("kid"), h.get("alg"))(unb64u(parts[2]), Buffer.from(parts[0] + "." + parts[1]));
    return [json(unb64u(parts[1])), NAMES];
  }
  const [bytes, outer, payload, sig] = cbor(b).content;
  const h = cbor(bytes);
  const kid = h.get(4) ?? outer.get(4);
  const alg = ({ "-8": "EdDSA", "-7": "ES256" } as Record<string, string>)[String(h.get(1))];
  pinned(r, kid?.toString(), alg)(sig, enc(["Signature1", bytes, Buffer.alloc(0), payload]));
  return [cbor(payload), CWT];
}

function token(r: Any) {
  const [c, n] = claims(r);
  need(c.get(n.exp) > r.time, "expired, or without an expiry");
  need((c.get(n.iat) ?? r.time) <= r.time + 60 && (c.get(n.nbf) ?? r.time) <= r.time + 60, "from the future");
  const jwt = n === NAMES;
  const nonce = c.get(n.eat_nonce);
  const got = jwt ? Buffer.from(nonce ?? "") : nonce ?? Buffer.alloc(0);
  if (r.op === "eat") {
    need(got.equals(data(r.nonce)), "another nonce");
    return { issuer: c.get(n.iss) };
  }
  need(c.get(n.iss) === r.issuer, "another issuer");
  const want = data(r.report_data);
  need(got.equals(jwt ? Buffer.from(want.toString("base64url")) : want), "not bound to the report data");
  const submods: Any[] = jwt ? Object.values(c.get(n.submods)) : [...c.get(n.submods).values()];
  need(submods.length > 0, "no appraisal");
  for (const s of submods) need(["affirming", 2].includes(jwt ? s.ear_status : s.get(n.ear_status)), "not affirming");
  return { issuer: c.get(n.iss) };
}

const OPS: Record<string, (r: Any) => Any> = {
  hello: () => ({ name: "TypeScript shim" }),
  "report-data": reportData,
  cmw: (r) => ({ records: records(cbor(data(r.value)), "") }),
  token,
  eat: token,
};

createInterface({ input: process.stdin }).on("line", (line) => {
  const r = JSON.parse(line);
  const answer: Any = { id: r.id, outcome: "not-implemented" };
  if (OPS[r.op]) {
    const began = performance.now();
    try {
      answer.claims = OPS[r.op](r);
      answer.outcome = "accept";
    } catch (e) {
      // Whatever is wrong with the input, it is refused.
      answer.outcome = "reject";
      answer.reason = String(e).slice(0, 200);
    }
    answer.micros = Math.round((performance.now() - began) * 1000);
  }
  console.log(JSON.stringify(answer));
});
