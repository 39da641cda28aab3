#!/usr/bin/env python3
"""Recomputes test vectors without Go, from the specification's text alone.

Needs the PyPI packages cryptography and cbor2. Prints how many vectors of each
group it recomputed, and exits 1 when one disagrees.
"""
import base64
import collections
import hashlib
import hmac
import io
import json
import math
import pathlib
import struct
import sys

import cbor2
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

L = "org.trustedmcp/trust v1 "
ROOT = pathlib.Path(__file__).parent


def head(major, n):
    for limit, info, fmt in ((24, None, None), (1 << 8, 24, ">B"), (1 << 16, 25, ">H"), (1 << 32, 26, ">I"), (1 << 64, 27, ">Q")):
        if n < limit:
            return bytes([major << 5 | (n if info is None else info)]) + (struct.pack(fmt, n) if fmt else b"")
    raise ValueError("integer too large")


def enc(v):
    """Deterministic CBOR, RFC 8949 section 4.2.1."""
    if v is None:
        return b"\xf6"
    if isinstance(v, bool):
        return b"\xf5" if v else b"\xf4"
    if isinstance(v, int):
        return head(0, v) if v >= 0 else head(1, -1 - v)
    if isinstance(v, float):
        for code, fmt in ((b"\xf9", ">e"), (b"\xfa", ">f")):
            try:
                short = struct.pack(fmt, v)
            except OverflowError:
                continue
            if struct.unpack(fmt, short)[0] == v:
                return code + short
        return b"\xfb" + struct.pack(">d", v)
    if isinstance(v, bytes):
        return head(2, len(v)) + v
    if isinstance(v, str):
        b = v.encode("utf-8")
        return head(3, len(b)) + b
    if isinstance(v, (list, tuple)):
        return head(4, len(v)) + b"".join(enc(i) for i in v)
    if isinstance(v, dict):
        return head(5, len(v)) + b"".join(k + x for k, x in sorted((enc(k), enc(x)) for k, x in v.items()))
    raise TypeError(type(v))


def from_json(text):
    """The value of a JSON text, with numbers as section 2.4 maps them."""

    def number(s):
        f = float(s)
        if f == math.trunc(f) and abs(f) <= 2**53:
            return int(f)
        return f

    return json.loads(text, parse_int=number, parse_float=number)


def sha(b):
    return hashlib.sha256(b).digest()


def hkdf_extract(salt, ikm):
    return hmac.new(salt or bytes(32), ikm, hashlib.sha256).digest()


def hkdf_expand(prk, info, length):
    out = block = b""
    i = 1
    while len(out) < length:
        block = hmac.new(prk, block + info + bytes([i]), hashlib.sha256).digest()
        out, i = out + block, i + 1
    return out[:length]


def labeled_extract(suite_id, salt, label, ikm):
    return hkdf_extract(salt, b"HPKE-v1" + suite_id + label + ikm)


def labeled_expand(suite_id, prk, label, info, length):
    return hkdf_expand(prk, struct.pack(">H", length) + b"HPKE-v1" + suite_id + label + info, length)


def hpke_x25519_export(private, encapsulated, info, context, length):
    """HPKE base mode as RFC 9180 has it, with DHKEM(X25519, HKDF-SHA256) and ChaCha20Poly1305."""
    kem = b"KEM" + struct.pack(">H", 0x0020)
    sk = X25519PrivateKey.from_private_bytes(private)
    dh = sk.exchange(X25519PublicKey.from_public_bytes(encapsulated))
    eae = labeled_extract(kem, b"", b"eae_prk", dh)
    shared = labeled_expand(kem, eae, b"shared_secret", encapsulated + sk.public_key().public_bytes_raw(), 32)
    suite = b"HPKE" + struct.pack(">HHH", 0x0020, 0x0001, 0x0003)
    psk_id = labeled_extract(suite, b"", b"psk_id_hash", b"")
    schedule = b"\0" + psk_id + labeled_extract(suite, b"", b"info_hash", info)
    secret = labeled_extract(suite, shared, b"secret", b"")
    exporter = labeled_expand(suite, secret, b"exp", schedule, 32)
    return labeled_expand(suite, exporter, b"sec", context, length)


def aead(suite, key):
    return AESGCM(key) if suite == 1 else ChaCha20Poly1305(key)


def nonce(base, seq, n):
    return bytes(a ^ b for a, b in zip(base, struct.pack(">QI", seq, n)))


def split(exported):
    return exported[:16], exported[16:48], exported[48:60], exported[60:92]


def answer_keys(secret, salt):
    b = hkdf_expand(hkdf_extract(salt, secret), (L + "answer keys").encode(), 44)
    return b[:32], b[32:]


def decode(b):
    """One CBOR item, all of b, deterministic."""
    s = io.BytesIO(b)
    v = cbor2.load(s)
    if s.read(1):
        raise ValueError("bytes after the value")
    return v


def content(b):
    v = decode(b)
    if enc(v) != b or not isinstance(v, list) or len(v) not in (3, 4):
        raise ValueError("not a content")
    kind, meta, body = v[:3]
    if type(kind) is not int or not 1 <= kind <= 7 or type(meta) is not dict or type(body) is not bytes:
        raise ValueError("not a content")
    if len(v) == 4 and (type(v[3]) is not bytes or any(v[3])):
        raise ValueError("padding")
    return v


class Disagree(Exception):
    pass


def same(what, got, want):
    if isinstance(want, str):
        want = bytes.fromhex(want)
    if got != want:
        raise Disagree(f"{what}: got {got.hex()}, want {want.hex()}")


def hexed(o):
    return lambda name: bytes.fromhex(o[name])


def check_settings(i, o):
    v = from_json(i["settings"])
    same("cbor", enc(v), o["cbor"])
    same("digest input", enc([L + "settings", v]), o["digest_input"])
    same("digest", sha(enc([L + "settings", v])), o["digest"])


def check_tool(i, o):
    v = from_json(i["definition"])
    v.pop("_meta", None)
    same("digest", sha(enc([L + "tool", i["identity"], v])), o["digest"])


def check_tool_set(i, o):
    tools = sorted((t["name"].encode(), bytes.fromhex(t["digest"])) for t in i["tools"])
    same("digest", sha(enc([L + "tools", i["identity"], [[n.decode(), d] for n, d in tools]])), o["digest"])


def check_key_digest(i, o):
    same("digest", sha(enc([L + "key digest", bytes.fromhex(i["key_object"])])), o["digest"])


def check_report_data(i, o):
    f = i["freshness"]
    value = f["at"] if "at" in f else bytes.fromhex(f["value"])
    config = i["config"] and bytes.fromhex(i["config"])
    e = enc([L + "report data", i["role"], i["identity"], decode(bytes.fromhex(i["key"])), config, [f["kind"], value]])
    same("encoded", e, o["encoded"])
    same("report data", hashlib.sha512(e).digest(), o["report_data"])


def check_possession(i, o):
    h = hexed(i)
    signed = enc([L + "possession", h("context"), h("server_key_digest"), h("client_key_digest")])
    same("signed", signed, o["signed"])
    Ed25519PublicKey.from_public_bytes(decode(h("key"))[-2]).verify(h("possession"), signed)


def check_thumbprint(i, o):
    k = bytes.fromhex(i["public_key"])
    if i["type"] == "Ed25519":
        key = {1: 1, -1: 6, -2: k}
    else:
        size = len(k) // 2
        key = {1: 2, -1: {32: 1, 48: 2}[size], -2: k[1 : 1 + size], -3: k[1 + size :]}
    same("COSE_Key", enc(key), o["cose_key"])
    same("thumbprint", sha(enc(key)), o["thumbprint"])


def check_key_object(i, o):
    b = bytes.fromhex(i["key_object"])
    same("key digest", sha(enc([L + "key digest", b])), o["key_digest"])
    tag = decode(b)
    body, _, payload, signatures = tag.value
    claims = decode(payload)
    if claims[2] != i["identity"] or claims[-70003] != sha(enc([L + "settings", from_json(i["settings"])])):
        raise Disagree("claims")
    if -70006 in claims and claims[-70006].get(-1) == 6:
        tbs = enc(["Signature", body, signatures[0][0], (L + "key").encode(), payload])
        Ed25519PublicKey.from_public_bytes(claims[-70006][-2]).verify(signatures[0][2], tbs)
    if claims[4] != o["expires"] or claims[-70002] != o["profile"]:
        raise Disagree("expires or profile")


def check_info(i, o):
    h = hexed(i)
    key = i["client_key_digest"]
    v = [L + "seal", i["role"], i["suite"], h("key_digest"), h("server_settings_digest"), h("client_settings_digest"), bytes.fromhex(key) if key else None, i["revision"]]
    same("info", enc(v), o["info"])


def check_schedule(i, o):
    h = hexed(i)
    if i["suite"] == 2:  # ML-KEM is not in the packages used here
        got = hpke_x25519_export(h("private_key"), h("enc"), h("info"), (L + "keys").encode(), 92)
        same("exported", got, o["exported"])
    ctx, key, base, secret = split(bytes.fromhex(o["exported"]))
    for what, got in (("context", ctx), ("request_key", key), ("request_base_nonce", base), ("answer_secret", secret)):
        same(what, got, o[what])
    answer_key, answer_nonce = answer_keys(secret, h("salt"))
    same("answer key", answer_key, o["answer_key"])
    same("answer base nonce", answer_nonce, o["answer_base_nonce"])
    for n in o["request_nonces"]:
        same("nonce", nonce(base, n["seq"], n["n"]), n["nonce"])


def request_aad(step, seq, n, final):
    tool, labels = step.get("tool"), step.get("labels")
    return enc([L + "request", step["carrier"], seq, n, final, [tool["name"], bytes.fromhex(tool["digest"])] if tool else None, labels or None])


def check_request(i, o):
    setup = json.loads((ROOT / "setup/server.json").read_text())
    last = i["steps"][-1]
    frame = decode(bytes.fromhex(last["frame"]))
    ctx, key, base, _ = split(bytes.fromhex(o["exported"]))
    same("context", ctx, o["context"])
    seq, n, final = (0, 0, frame[7]) if frame[0] == 1 else (frame[2], frame[3], frame[4])
    if (seq, n, final) != (o["seq"], o["n"], o["final"]):
        raise Disagree("place")
    same("aad", request_aad(last, seq, n, final), o["aad"])
    same("nonce", nonce(base, seq, n), o["nonce"])
    same("plaintext", aead(o["suite"], key).decrypt(nonce(base, seq, n), frame[-1], bytes.fromhex(o["aad"])), o["plaintext"])
    content(bytes.fromhex(o["plaintext"]))
    if frame[0] == 1:
        settings = sha(enc([L + "settings", decode(frame[4])]))
        info = enc([L + "seal", 2, frame[1], bytes.fromhex(setup["key_digest"]), bytes.fromhex(setup["settings_digest"]), settings, None, frame[5]])
        same("info", info, o["info"])
        if frame[1] == 2:
            private = bytes.fromhex(setup["keys"][1]["private_key"])
            same("exported", hpke_x25519_export(private, frame[3], info, (L + "keys").encode(), 92), o["exported"])


def open_answer(i):
    """The contents that a call delivers, or an exception with the reason."""
    ctx, _, _, secret = split(bytes.fromhex(i["exported"]))
    out, salt, final = [], None, False
    expected = 0
    for f in i["frames"]:
        b = bytes.fromhex(f)
        try:
            v = decode(b)
        except Exception:
            raise ValueError("answer-invalid")
        if not isinstance(v, list) or enc(v) != b or len(v) != 7 or v[0] != 3:
            raise ValueError("answer-invalid")
        _, c, seq, n, last, s, ct = v
        if (s is None) != (n > 0) or s is not None and len(s) != 16 or len(ct) < 16:
            raise ValueError("answer-invalid")
        if c != ctx or seq != i["seq"]:
            raise ValueError("spliced")
        if final and n >= expected:
            raise ValueError("after-final")
        if n > expected:
            raise ValueError("answer-out-of-order")
        key, base = answer_keys(secret, s if n == 0 else salt)
        aad = enc([L + "answer", i["carrier"], seq, n, last])
        try:
            plain = aead(i["suite"], key).decrypt(nonce(base, seq, n), ct, aad)
        except InvalidTag:
            raise ValueError("answer-invalid")
        if n < expected:
            out.append(None)
            continue
        try:
            kind = content(plain)[0]
        except Exception:
            raise ValueError("answer-invalid")
        if kind not in ({1, 4, 7} if i["carrier"] != 3 else {5} if n == 0 else {4, 6}):
            raise ValueError("answer-invalid")
        out.append(plain)
        expected, final = n + 1, last
        salt = s if n == 0 else salt
    if i["closed"] and not final:
        raise ValueError("truncated")
    return out


def check_answer(i, o):
    got = open_answer(i)
    if [g and g.hex() for g in got] != o["delivered"]:
        raise Disagree("delivered")


def check_content(i, o):
    kind, meta, body = content(bytes.fromhex(i["content"]))[:3]
    same("body", body, o["body"])
    same("meta", enc(meta), o["meta"])
    if kind != o["kind"]:
        raise Disagree("kind")


def check_base64(i, o):
    text = i["text"]
    if not all(c.isascii() and (c.isalnum() or c in "-_") for c in text) or len(text) % 4 == 1:
        raise ValueError("malformed-frame")
    b = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if base64.urlsafe_b64encode(b).rstrip(b"=").decode() != text:
        raise ValueError("malformed-frame")
    if o is not None:
        same("bytes", b, o["bytes"])


class Refused(ValueError):
    """A refusal whose text is the reason."""


def refuse(reason, *bad):
    if any(bad):
        raise Refused(reason)


def policy_metadata(i):
    """The map of section 20.4."""
    bad, b = "policy.metadata", bytes.fromhex(i["metadata"])
    try:
        v = decode(b)
        refuse(bad, enc(v) != b)
    except Refused:
        raise
    except Exception:
        raise Refused(bad)
    refuse(bad, type(v) is not dict, v and set(v) != set(range(1, 12)))
    texts, size = lambda *keys: all(type(v[k]) is str for k in keys), lambda s: len(s.encode())
    refuse(bad, any(type(v[k]) is not int or v[k] < 0 for k in (1, 9, 10)), not texts(2, 3, 4, 5, 7), any(type(v[k]) is not list for k in (6, 8)), type(v[11]) is not bool)
    refuse(bad, not v[2], not v[3], any(size(v[k]) > 128 for k in (2, 3, 4, 5)), v[7] not in ("json", "cbor"))
    refuse(bad, not v[6], len(v[8]) > 256)
    for k in (6, 8):
        refuse(bad, any(type(e) is not str or size(e) > 128 for e in v[k]), len(set(v[k])) != len(v[k]))
    refuse(bad, any(e not in ("appraise", "authorize") for e in v[6]))
    refuse("policy.abi", v[1] != 1)
    return v


def check_policy_metadata(i, o):
    names = ("name", "version", "author", "licence", "entries", "encoding", "inputs", "fuel", "pages", "development")
    if [policy_metadata(i)[k] for k in range(2, 12)] != [o[n] for n in names]:
        raise Disagree("metadata")


def levels(v):
    if isinstance(v, dict):
        return 1 + max(map(levels, v.values()), default=0)
    if isinstance(v, list):
        return 1 + max(map(levels, v), default=0)
    return 0


def strict(text, depth, integers, reason):
    """JSON without names twice, and without lone surrogates."""

    def number(s):
        refuse(reason, integers and (s == "-0" or not s.lstrip("-").isdigit() or abs(int(s)) >= 2**53))
        return int(s) if s.lstrip("-").isdigit() else float(s)

    def members(pairs):
        refuse(reason, len({k for k, _ in pairs}) != len(pairs))
        return dict(pairs)

    def constant(_):
        raise Refused(reason)

    try:
        v = json.loads(text, parse_int=number, parse_float=number, parse_constant=constant, object_pairs_hook=members)
        json.dumps(v, ensure_ascii=False).encode()
    except Refused:
        raise
    except (ValueError, RecursionError):
        raise Refused(reason)
    refuse(reason, levels(v) > depth)
    return v


def canonical(v):
    """RFC 8785, of values whose only numbers are integers."""
    if isinstance(v, dict):
        return "{" + ",".join(canonical(k) + ":" + canonical(v[k]) for k in sorted(v, key=lambda k: k.encode("utf-16-be"))) + "}"
    if isinstance(v, list):
        return "[" + ",".join(map(canonical, v)) + "]"
    return json.dumps(v, ensure_ascii=False)


def policy_document(i):
    return strict(i["document"], 32, True, "policy.input")


def check_policy_document(i, o):
    v = policy_document(i)
    if canonical(v) != o["json"]:
        raise Disagree(canonical(v))
    same("cbor", enc(v), o["cbor"])


CLAIMS = "configuration executables file-system hardware instance-identity runtime-opaque sourced-data storage-opaque".split()


def tier(n):
    for t, (low, high) in enumerate(((-1, 1), (-32, 31), (-96, 95))):
        if low <= n <= high:
            return t
    return 3


def policy_result(i):
    bad = "policy.output"
    try:
        if i["encoding"] == "cbor":
            b = bytes.fromhex(i["result"])
            v = decode(b)
            refuse(bad, enc(v) != b, levels(v) > 8)
        else:
            v = strict(i["result"], 8, False, bad)
    except Refused:
        raise
    except Exception:
        raise Refused(bad)
    known = {"decision", "reasons", "vector", "obligations"}
    refuse(bad, type(v) is not dict)
    refuse(bad, not set(v) <= known, v.get("decision") not in ("allow", "deny", "abstain") or type(v["decision"]) is not str)
    code = lambda s: type(s) is str and 0 < len(s) <= 64 and all(c in "abcdefghijklmnopqrstuvwxyz0123456789-" for c in s)
    short = lambda s: type(s) is str and len(s.encode()) <= 256
    reasons, obligations, vector = v.get("reasons", []), v.get("obligations", []), v.get("vector")
    refuse(bad, type(reasons) is not list or len(reasons) > 32, type(obligations) is not list or len(obligations) > 16)
    for r in reasons:
        refuse(bad, type(r) is not dict or not set(r) <= {"code", "text", "claim"} or not code(r.get("code")))
        refuse(bad, any(not short(r.get(k, "")) for k in ("text", "claim")))
    for o in obligations:
        refuse(bad, type(o) is not dict or set(o) != {"id", "value"} or not code(o.get("id")))
        refuse(bad, len(canonical(o["value"]).encode()) > 1024)
    if "vector" in v:
        refuse(bad, i["question"] != "appraise" or type(vector) is not dict)
        refuse(bad, any(k not in CLAIMS or type(n) is not int or not -128 <= n <= 127 for k, n in vector.items()))
    if v["decision"] == "allow":
        if i["question"] == "appraise":
            refuse("policy.contradiction", any(tier((vector or {}).get(k, 96)) == 3 for k in CLAIMS))
        refuse("policy.obligation", any(o["id"] not in i["obligations"] for o in obligations))
    return {"decision": v["decision"], "reasons": reasons, "vector": vector, "obligations": obligations}


def check_policy_result(i, o):
    if policy_result(i) != o:
        raise Disagree("result")


def check_policy_compose(i, o):
    results = i["results"]
    if i["rule"] == "first-match":
        first = next((n for n, r in enumerate(results) if r.get("decision") != "abstain"), None)
        asked = len(results) if first is None else first + 1
        decided = [] if first is None else [first]
    else:
        asked, who = len(results), {"deny": [], "allow": [], "abstain": []}
        for n, r in enumerate(results):
            who[r.get("decision", "deny")].append(n)
        abstained = i["rule"] == "all-allow" and who["abstain"] or not who["allow"] and who["abstain"]
        decided = who["deny"] or abstained or who["allow"]
    allows = bool(decided) and all(results[n].get("decision") == "allow" for n in decided)
    vector, obligations = None, []
    for r in results[:asked] if allows else []:
        if r.get("decision") == "allow":
            obligations += r["obligations"]
            vector = vector or dict(r["vector"])
            for k, n in r["vector"].items():
                if tier(n) > tier(vector[k]):
                    vector[k] = n
    got = {"decision": "allow" if allows else "deny", "decided": decided, "asked": asked, "vector": vector, "obligations": obligations}
    if got != o:
        raise Disagree(got)


def check_policy_digest(i, o):
    pairs = [[bytes.fromhex(p["digest"]), None if p["settings"] is None else from_json(p["settings"])] for p in i["policies"]]
    if len(pairs) == 1 and pairs[0][1] is None:
        return same("digest", pairs[0][0], o["digest"])
    b = enc([L + "policy", i["rule"], pairs])
    same("digest_input", b, o["digest_input"])
    same("digest", sha(b), o["digest"])


def aicc_answer(i):
    """Section 23.4."""
    malformed = "malformed-envelope"
    try:
        pairs = json.loads(i["envelope"], object_pairs_hook=lambda p: p)
        members = dict(pairs)
        names = sorted(n for n, _ in pairs)
        nonce, mac, text = (base64.b64decode(members[n], validate=True) for n in ("nonce", "mac", "ciphertext"))
    except (ValueError, TypeError, KeyError, AttributeError):
        raise ValueError(malformed) from None
    canonical = all(base64.b64encode(base64.b64decode(v)).decode() == v for v in members.values())
    if names != ["ciphertext", "mac", "nonce"] or len(nonce) != 12 or len(mac) != 16 or not canonical:
        raise ValueError(malformed)
    try:
        plain = AESGCM(bytes.fromhex(i["key"])).decrypt(nonce, text + mac, None)
    except Exception:
        raise ValueError("open-failed") from None
    return {"nonce": nonce.hex(), "mac": mac.hex(), "ciphertext": text.hex(), "text": plain.decode()}


def check_aicc_answer(i, o):
    same("answer", aicc_answer(i), o)


def check_aicc_binding(i, o):
    """Section 23.6."""
    pem = hashlib.sha256(i["pem"].encode()).digest() if i["pem"] else bytes(32)
    binding = hashlib.sha256(i["nonce"].encode()).digest() + pem
    leaf = hashlib.sha512(b"\0" + binding.hex().encode()).digest()
    inner = hashlib.sha512(b"\1" + bytes.fromhex(i["left"]) + leaf).digest()
    root = hashlib.sha512(b"\1" + inner + bytes.fromhex(i["right"])).digest()
    same("binding", {"report_data": binding.hex(), "leaf": leaf.hex(), "root": root.hex()}, o)


VALID = {
    "settings-digest": check_settings,
    "tool-digest": check_tool,
    "tool-set-digest": check_tool_set,
    "key-digest": check_key_digest,
    "thumbprint": check_thumbprint,
    "report-data": check_report_data,
    "possession": check_possession,
    "key-object": check_key_object,
    "info": check_info,
    "key-schedule": check_schedule,
    "request": check_request,
    "answer": check_answer,
    "content": check_content,
    "base64": check_base64,
    "policy-metadata": check_policy_metadata,
    "policy-document": check_policy_document,
    "policy-result": check_policy_result,
    "policy-compose": check_policy_compose,
    "policy-digest": check_policy_digest,
}
VALID["aicc-binding"] = check_aicc_binding
VALID["aicc-answer"] = check_aicc_answer
# Negative vectors of these groups are decided here too, with their reason.
INVALID = {
    "answer": open_answer,
    "base64": lambda i: check_base64(i, None),
    "policy-metadata": policy_metadata,
    "policy-document": policy_document,
    "policy-result": policy_result,
    "aicc-answer": aicc_answer,
}


def main():
    counts, failed = collections.Counter(), 0
    for path in sorted(ROOT.glob("*/*.json")):
        if path.parent.name == "setup":
            continue
        v = json.loads(path.read_text())
        try:
            if v["valid"] and v["group"] in VALID:
                VALID[v["group"]](v["input"], v["output"])
            elif not v["valid"] and v["group"] in INVALID:
                try:
                    INVALID[v["group"]](v["input"])
                except ValueError as e:
                    if str(e) != v["reason"]:
                        raise Disagree(f"{e}, want {v['reason']}")
                else:
                    raise Disagree("accepted, want " + v["reason"])
            else:
                continue
            counts[v["group"]] += 1
        except Exception as e:
            failed += 1
            print(f"FAIL {v['id']}: {type(e).__name__} {e}")
    for group, n in sorted(counts.items()):
        print(f"{group}: {n}")
    print(f"recomputed {sum(counts.values())}, failed {failed}")
    return 1 if failed or not counts else 0


if __name__ == "__main__":
    sys.exit(main())
