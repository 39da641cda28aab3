#!/usr/bin/env python3
"""A verifier of report data, CMWs and attestation results, behind the shim protocol.

    tmcp-conform verifier -- python3 shim.py

Needs the PyPI package cryptography. Other operations are answered not-implemented.
"""
import base64
import hashlib
import json
import sys
import time

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, utils
from cryptography.hazmat.primitives.hashes import SHA256

L = "org.trustedmcp/trust v1 "


class Tag:
    def __init__(self, number, content):
        self.number, self.content = number, content


def head(major, n):
    for limit, info, size in ((24, None, 0), (1 << 8, 24, 1), (1 << 16, 25, 2), (1 << 32, 26, 4), (1 << 64, 27, 8)):
        if n < limit:
            return bytes([major << 5 | (n if info is None else info)]) + (n.to_bytes(size, "big") if size else b"")


def enc(v):
    """Deterministic CBOR, as far as it is needed to sign and to hash."""
    if v is None:
        return b"\xf6"
    if isinstance(v, int):
        return head(0, v)
    if isinstance(v, bytes):
        return head(2, len(v)) + v
    if isinstance(v, str):
        return head(3, len(v.encode())) + v.encode()
    return head(4, len(v)) + b"".join(map(enc, v))


def dec(b, at=0, depth=0):
    """One item of deterministic CBOR (RFC 8949 section 4.2.1), and where it ends."""
    major, info = b[at] >> 5, b[at] & 31
    size = {24: 1, 25: 2, 26: 4, 27: 8}.get(info, 0)
    n = int.from_bytes(b[at + 1:at + 1 + size], "big") if size else info
    end = at + 1 + size
    if depth > 16 or info > 27 or end > len(b):
        raise ValueError("nested too deeply, of indefinite length, or cut")
    if major == 7:
        if info > 22:
            raise ValueError("a simple value or float that is not read here")
        return {20: False, 21: True, 22: None}[info], end
    if head(major, n) != b[at:end]:
        raise ValueError("not in its shortest form")
    if major < 2:
        return (n if major == 0 else -1 - n), end
    if major < 4:
        if n > len(b) - end:
            raise ValueError("cut")
        v = bytes(b[end:end + n])
        return (v if major == 2 else v.decode("utf-8")), end + n
    if major == 6:
        v, end = dec(b, end, depth + 1)
        return Tag(n, v), end
    if n > len(b) - end:
        raise ValueError("cut")
    out, last = ([] if major == 4 else {}), b""
    for _ in range(n):
        start = end
        v, end = dec(b, end, depth + 1)
        if major == 4:
            out.append(v)
            continue
        if bytes(b[start:end]) <= last:
            raise ValueError("keys unsorted or double")
        last = bytes(b[start:end])
        out[v], end = dec(b, end, depth + 1)
    return out, end


def cbor(b):
    v, end = dec(b)
    if end != len(b):
        raise ValueError("bytes behind the item")
    return v


def unique(pairs):
    if len(dict(pairs)) != len(pairs):
        raise ValueError("a member stands twice")
    return dict(pairs)


def unb64u(s):
    b = base64.urlsafe_b64decode(s + "=" * (-len(s) % 4))
    return b if b64u(b) == s else 1 / 0


def b64u(b):
    return base64.urlsafe_b64encode(b).rstrip(b"=").decode()


def need(ok, why):
    if not ok:
        raise ValueError(why)


def report_data(r):
    f = r["freshness"]
    fresh = [f["kind"], f["at"] if f["kind"] == 1 else data(f["value"])]
    key = enc(L + "report data") + enc(r["role"]) + enc(r["identity"]) + data(r["key"])
    rest = enc(data(r["config"]) if r.get("config") else None) + enc(fresh)
    return {"report_data": hashlib.sha512(b"\x86" + key + rest).hexdigest()}


def records(v, label=""):
    if isinstance(v, list):
        need(len(v) in (2, 3) and isinstance(v[0], (str, int)) and isinstance(v[1], bytes), "not a record")
        need(len(v) == 2 or isinstance(v[2], int) and 0 < v[2] < 32, "an indicator of 0, or unknown")
        return [{"label": label, "type": v[0]}]
    need(isinstance(v, dict), "neither a record nor a collection")
    typ = v.pop("__cmwc_t", "")
    need(v and isinstance(typ, str), "an empty collection, or a type that is no text")
    return [x for k, item in v.items() for x in records(item, str(k))]


def cmw(r):
    return {"records": records(cbor(data(r["value"])))}


def pinned(r, kid, alg):
    """The pinned key that kid names. Its algorithm is the pinned one, not the token's."""
    keys = r["keys"]["keys"]
    found = [k for k in keys if k["kid"] == kid or kid is None and len(keys) == 1]
    need(len(found) == 1 and found[0]["alg"] == alg, "no pinned key of that name and algorithm")
    k = found[0]
    if k["kty"] == "OKP":
        return ed25519.Ed25519PublicKey.from_public_bytes(unb64u(k["x"])).verify
    x, y = (int.from_bytes(unb64u(k[n]), "big") for n in "xy")
    public = ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()

    def verify(sig, message):
        need(len(sig) == 64, "an ES256 signature has 64 bytes")
        rs = (int.from_bytes(half, "big") for half in (sig[:32], sig[32:]))
        public.verify(utils.encode_dss_signature(*rs), message, ec.ECDSA(SHA256()))
    return verify


CWT = {"iss": 1, "exp": 4, "nbf": 5, "iat": 6, "eat_nonce": 10, "submods": 266, "ear_status": 1000}
NAMES = {n: n for n in CWT}


def claims(r):
    """The claims of a JWT or CWT whose signature a pinned key verifies, and their names."""
    b = data(r["value"])
    if b[:1] != b"\xd2":  # not tag 18: a JWT
        protected, payload, sig = b.decode("ascii").split(".")
        h = json.loads(unb64u(protected), object_pairs_hook=unique)
        need(set(h) <= {"alg", "kid", "typ"}, "the header holds a key, or what is not known")
        pinned(r, h.get("kid"), h["alg"])(unb64u(sig), f"{protected}.{payload}".encode())
        return json.loads(unb64u(payload), object_pairs_hook=unique), NAMES
    protected, unprotected, payload, sig = cbor(b).content
    h = {**unprotected, **cbor(protected)}
    kid = h.get(4)
    verify = pinned(r, kid.decode() if kid else None, {-8: "EdDSA", -7: "ES256"}[cbor(protected)[1]])
    verify(sig, enc(["Signature1", protected, b"", payload]))
    return cbor(payload), CWT


def token(r):
    c, n = claims(r)
    now = r["time"]
    need(now < c[n["exp"]], "expired")
    need(c.get(n["iat"], now) <= now + 60 and c.get(n["nbf"], now) <= now + 60, "from the future")
    if r["op"] == "eat":
        want = data(r["nonce"])
        need(c[n["eat_nonce"]] == (want.decode() if n is NAMES else want), "another nonce")
        return {"issuer": c[n["iss"]]}
    need(c[n["iss"]] == r["issuer"], "another issuer")
    want = data(r["report_data"])
    need(c[n["eat_nonce"]] == (b64u(want) if n is NAMES else want), "not bound to the report data")
    need(c[n["submods"]], "no appraisal")
    for s in c[n["submods"]].values():
        need(s[n["ear_status"]] in ("affirming", 2), "not affirming")
    return {"issuer": c[n["iss"]]}


def data(s):
    return base64.b64decode(s, validate=True)


OPS = {"hello": lambda r: {"name": "Python shim"}, "report-data": report_data, "cmw": cmw, "token": token, "eat": token}

for line in sys.stdin:
    request = json.loads(line)
    answer = {"id": request["id"], "outcome": "not-implemented"}
    if request["op"] in OPS:
        began = time.perf_counter()
        try:
            answer |= {"outcome": "accept", "claims": OPS[request["op"]](request)}
        except Exception as e:  # whatever is wrong with the input, it is refused
            answer |= {"outcome": "reject", "reason": f"{type(e).__name__}: {e}"[:200]}
        answer["micros"] = int((time.perf_counter() - began) * 1e6)
    print(json.dumps(answer), flush=True)
