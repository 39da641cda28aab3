"""Attests with the client of PyPI bytedance_jeddak_trusted_mcp, unmodified: one
client_config.json in JSON on each line of standard input, and for each a line
"KEY " with the public key that the client then encrypts to, in JSON, or null."""

import json
import os
import sys

# The package keeps sys.stdout when it is imported, and logs to it.
answers = os.fdopen(os.dup(1), "w", buffering=1)
os.dup2(2, 1)
sys.stdout = sys.stderr

import bytedance.jeddak_secure_channel.client as client  # noqa: E402

client.time.sleep = lambda _: None  # it waits two seconds between attempts

for line in sys.stdin:
    c = client.Client(client.ClientConfig.from_dict(json.loads(line)))
    key = c.session_key and c.session_key.server_public_key.public_pem()
    print("KEY " + json.dumps(key), file=answers)
