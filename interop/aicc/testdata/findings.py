"""What was found in PyPI bytedance_jeddak_trusted_mcp, each as a function that says
whether it was observed. Run it in an empty folder, with the package installed:

    python findings.py            all, one line of JSON each
    python findings.py NAME...    some

Nothing leaves the machine; the services that it needs are small servers on
loopback, made here."""

import asyncio
import base64
import hashlib
import http.server
import inspect
import json
import os
import sys
import threading

answers = os.fdopen(os.dup(1), "w", buffering=1)
os.dup2(2, 1)
sys.stdout = sys.stderr
os.environ["LOG_LEVEL"] = "CRITICAL"
os.environ["NO_PROXY"] = os.environ["no_proxy"] = "*"

from bytedance.jeddak_secure_channel import Client, ClientConfig, Server, ServerConfig  # noqa: E402
from bytedance.jeddak_secure_channel import merkle_utils, ra  # noqa: E402
from bytedance.jeddak_secure_channel import server as server_module  # noqa: E402
from bytedance.jeddak_secure_channel.crypto import ClientSessionKey, PrivateKey  # noqa: E402
from bytedance.jeddak_secure_channel.log import logger  # noqa: E402

SERVER = PrivateKey.generate()
ATTACKER = PrivateKey.generate()


def b64url(b: bytes) -> str:
    return base64.urlsafe_b64encode(b).rstrip(b"=").decode()


def token(nonce: str, pem: str, policies: list, signature: str = "", **more) -> str:
    report = hashlib.sha256(nonce.encode()).hexdigest() + hashlib.sha256(pem.encode()).hexdigest()
    payload = {"iss": "Bytedance-Remote-Attestation-Service", "policies_matched": policies, "tdx": {"report_data": report}, **more}
    return ".".join([b64url(b'{"alg":"RS384"}'), b64url(json.dumps(payload).encode()), signature])


class Service:
    """A server on loopback that answers each POST with what a function makes of its body."""

    def __init__(self, answer):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                out = json.dumps(answer(body)).encode()
                self.send_response(200)
                self.send_header("content-length", str(len(out)))
                self.end_headers()
                self.wfile.write(out)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = "http://127.0.0.1:%d" % self.server.server_port
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def gateway(self) -> str:
        return json.dumps({"ak": "ak", "sk": "sk", "service": "pcc", "url": self.url})


def service(policies: list, **more):
    """An attestation service that has no signing key at all."""

    def answer(body):
        pem = ATTACKER.public_pem()
        return {"Result": {"node": {"evidence": "{}", "token": token(body["Nonce"], pem, policies, **more), "key_info": {"pub_key_info": pem}}}}

    return Service(answer)


def client_of(s: Service, **more) -> Client:
    return Client(ClientConfig(bytedance_top_info=s.gateway(), ra_service_name="weather", ra_policy_id="p", **more))


def seals_to_attacker(c: Client) -> bool:
    if c.session_key is None:
        return False
    sealed = c.encrypt("secret")
    s = Server(ServerConfig(key_file=None, key_type="none", refresh_interval=None))
    s.load_key(ATTACKER.private_pem())
    return s.decrypt(sealed) == b"secret"


def file_server(refresh=None) -> Server:
    with open("key.pem", "w") as f:
        f.write(SERVER.private_pem())
    return Server(ServerConfig(key_file="key.pem", refresh_interval=refresh))


def seal(text=b"message", key=SERVER):
    m, response = ClientSessionKey.load(key.public_pem()).encrypt_with_response(text)
    return m.serialize(), response


def token_signature():
    """A token without a signature gives the attacker's key, with attest_must."""
    return seals_to_attacker(client_of(service(["p"]), attest_must=True))


def token_embedded_key():
    """So does one with a signature by a key that it carries itself."""
    return seals_to_attacker(client_of(service(["p"], signature=b64url(b"anything"), jwk={"kty": "RSA"}), attest_must=True))


def token_no_expiry():
    """A token without exp never ends."""
    return ra.verify_jwt_token(token("n", "k", ["p"]))


def attest_must_default():
    """No policy matched; the key is used."""
    return seals_to_attacker(client_of(service([])))


def local_attestation():
    """Without bytedance_top_info the server's own answer is accepted unseen, with attest_must."""
    s = Service(lambda _: {"ResponseMetadata": {"Code": 0}, "ResponseResult": {"pod": {"evidence": "x", "token": "x", "key_info": {"pub_key_info": ATTACKER.public_pem()}}}})
    return seals_to_attacker(Client(ClientConfig(ra_url=s.url, ra_type="tca", attest_must=True)))


def replay():
    """One sealed message opens twice."""
    s, (m, _) = file_server(), seal()
    return s.decrypt(m) == s.decrypt(m) == b"message"


def reflection():
    """A request without its member key opens as the answer to itself."""
    m, response = seal(b'{"jsonrpc":"2.0","id":1,"method":"tools/call"}')
    e = json.loads(m)
    del e["key"]
    return response.decrypt(json.dumps(e)).startswith(b'{"jsonrpc"')


def random_key_eviction():
    """key_type random: two bodies that open under no key replace the server's keys."""
    s = Server(ServerConfig(key_type="random", refresh_interval=None))
    m, _ = ClientSessionKey.load(s.session_key.get_public_key()).encrypt_with_response(b"message")
    m = m.serialize()
    if s.decrypt(m) != b"message":
        return False
    for _ in range(2):
        try:
            s.decrypt("{}")
        except Exception:
            pass
    try:
        s.decrypt(m)
        return False
    except Exception:
        return True


def bad_envelope_blocks():
    """key_type tks: one body that opens under no key has the server ask the key service
    anew, three times, and sleep 5 seconds after each that fails, in the caller's thread."""
    slept = []
    real = server_module.time.sleep
    server_module.time.sleep = slept.append
    try:
        s = Server(ServerConfig(key_type="none", refresh_interval=None))
        s.load_key(SERVER.private_pem())
        s.config.key_type, s.config.tks_app_id, s.config.tks_url = "tks", "app", "127.0.0.1:9"  # where nobody listens
        try:
            s.decrypt("{}")
        except Exception:
            pass
    finally:
        server_module.time.sleep = real
    return sum(slept) >= 15


def client_attestation_ignored():
    """The server asks for its clients' attestation, which fails, and serves them."""
    s = Service(lambda _: {"Result": {"node": {"token": token("n", "", [])}}})
    with open("key.pem", "w") as f:
        f.write(SERVER.private_pem())
    asked = ServerConfig(key_file="key.pem", refresh_interval=None, bytedance_top_info=s.gateway(),
                         client_ra_config=json.dumps({"open": True, "ra_service_name": "app", "ra_policy_id": "p"}))
    srv = Server(asked)
    return not srv.attest_client() and srv.decrypt(seal()[0]) == b"message"


def client_attestation_replay():
    """Attestation of clients does not look at the nonce: an old token does."""
    s = Service(lambda _: {"Result": {"node": {"token": token("another nonce", "", ["p"])}}})
    return ra.attest_client({"ra_service_name": "app", "ra_policy_id": "p"}, s.gateway(), "0123456789abcdef")


def unbounded_body():
    """A server keeps a request body of any size, before anything of it is looked at."""
    from bytedance.jeddak_trusted_mcp.async_transformer import RequestTransformer

    left = [32]

    async def upstream():
        left[0] -= 1
        return {"type": "http.request", "body": b"x" * (1 << 20), "more_body": left[0] > 0}

    async def run():
        t = RequestTransformer(upstream)
        await t.collect_body()
        return len(t.body)

    return asyncio.run(run()) == 32 << 20


def private_key_logged():
    """A private key that is not RSA is written to the log, at level ERROR."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    pem = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    seen = []
    real = server_module.logger.error
    server_module.logger.error = lambda m, *a: seen.append(m)
    try:
        file_server()._get_pairkey_from_pem(pem)
    finally:
        server_module.logger.error = real
    return any("BEGIN PRIVATE KEY" in m for m in seen)


def file_unauthenticated():
    """A sealed file that was altered leaves its text behind, altered, when it is refused."""
    with open("in", "wb") as f:
        f.write(b"pay 100 to alice" * 100)
    with open("pub.pem", "w") as f:
        f.write(SERVER.public_pem())
    c = Client(ClientConfig(pub_key_path="pub.pem"))
    metadata = c.encrypt_file("in", "sealed", "b")
    b = bytearray(open("sealed", "rb").read())
    b[4] ^= 8
    open("sealed", "wb").write(b)
    try:
        file_server().decrypt_file(metadata, "sealed", "out", "b")
        return False
    except Exception:
        return len(open("out", "rb").read()) == 1600


def file_response_key():
    """encrypt_file_with_response returns another key than the one that it sealed with."""
    with open("in", "wb") as f:
        f.write(b"x")
    with open("pub.pem", "w") as f:
        f.write(SERVER.public_pem())
    metadata, mine = Client(ClientConfig(pub_key_path="pub.pem")).encrypt_file_with_response("in", "sealed", "b")
    theirs = file_server().decrypt_file(metadata, "sealed", "out", "b")
    try:
        mine.decrypt(theirs.encrypt("answer"))
        return False
    except Exception:
        return True


def lenient_base64():
    """Characters that are not base64 are skipped: one envelope has many spellings."""
    m, _ = seal()
    e = json.loads(m)
    e["key"] = e["key"][:9] + "*\n!" + e["key"][9:]
    return file_server().decrypt(json.dumps(e)) == b"message"


def merkle_algorithm():
    """The Merkle proof chooses the hash, and whether nodes differ from leaves."""
    leaf, other = b"\1" * 64, b"\2" * 16
    proof = {"metadata": {"algorithm": "sha224", "security": False, "size": 2}, "rule": [0, 0], "subset": [], "path": [leaf.hex(), other.hex()]}
    return merkle_utils.verify_inclusion(leaf, hashlib.sha224(leaf + other).digest(), merkle_utils.MerkleProof.deserialize(proof))


def first_node_only():
    """Of several nodes only the first is looked at."""
    pem = ATTACKER.public_pem()
    s = Service(lambda b: {"Result": {"good": {"evidence": "{}", "token": token(b["Nonce"], pem, ["p"]), "key_info": {"pub_key_info": pem}},
                                      "bad": {"evidence": "{}", "token": "", "key_info": {}}}})
    return seals_to_attacker(client_of(s, attest_must=True))


def main(names: list) -> int:
    all_of = [f for f in globals().values() if inspect.isfunction(f) and f.__module__ == "__main__" and f.__doc__
              and not inspect.signature(f).parameters]
    for f in all_of:
        if names and f.__name__ not in names:
            continue
        try:
            out = {"name": f.__name__, "observed": bool(f()), "what": " ".join(f.__doc__.split())}
        except Exception as e:
            out = {"name": f.__name__, "observed": False, "what": repr(e)}
        print(json.dumps(out), file=answers)
    return 0


if __name__ == "__main__":
    main(sys.argv[1:])
    answers.flush()
    os._exit(0)
