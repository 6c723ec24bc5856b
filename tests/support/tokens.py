"""Keys and tokens of a provider that a test plays."""

import json
import time
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

ISSUER = "https://issuer.test"
AUDIENCE = "matrixinfer.io"
#: A configuration with auth on; `jwks` is the URI of the key set.
AUTH = f"""
auth:
  issuer: "{ISSUER}"
  audiences: ["{AUDIENCE}"]
  jwksUri: "{{jwks}}"
"""


class Signer:
    """One key, its public half as a key set, and tokens signed with it."""

    def __init__(self, kid: str = "test-key") -> None:
        self.kid = kid
        self._key = ec.generate_private_key(ec.SECP256R1())

    def write(self, folder: Path) -> str:
        """Writes the key set and returns its URI."""
        public = json.loads(ECAlgorithm.to_jwk(self._key.public_key())) | {
            "kid": self.kid,
            "alg": "ES256",
            "use": "sig",
        }
        path = folder / "jwks.json"
        path.write_text(json.dumps({"keys": [public]}), encoding="utf-8")
        return path.as_uri()

    def token(self, **claims: Any) -> str:
        """A token that AUTH accepts, with `claims` in place of its own; a claim of None is left out."""
        now = int(time.time())
        own = {"iss": ISSUER, "aud": AUDIENCE, "sub": "tester", "iat": now, "exp": now + 600}
        payload = {name: value for name, value in (own | claims).items() if value is not None}
        return jwt.encode(payload, self._key, algorithm="ES256", headers={"kid": self.kid})
