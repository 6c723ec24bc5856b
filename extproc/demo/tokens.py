"""A key pair of the demo's own, for configurations that demand tokens: no other provider can sign for it."""

import json
import time
from collections.abc import Sequence
from pathlib import Path

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from extproc.config import AuthConfig

KEY_ID = "infer-gateway-demo"
#: Seconds. Long enough to look around, short enough that a token left in a shell history is soon worth nothing.
TOKEN_LIFETIME = 8 * 3600


def local_issuer(auth: AuthConfig, folder: Path, models: Sequence[str] = ()) -> tuple[AuthConfig, str]:
    """`auth` with its key set replaced by one in `folder`, and a token that it accepts, for `models`.

    Issuer, audiences and required claims stay as they are. With several issuers the first one signs.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    public = json.loads(ECAlgorithm.to_jwk(key.public_key())) | {"kid": KEY_ID, "use": "sig", "alg": "ES256"}
    path = folder / "jwks.json"
    path.write_text(json.dumps({"keys": [public]}), encoding="utf-8")
    uri = path.as_uri()
    if auth.issuers:
        first = auth.issuers[0].model_copy(update={"jwks_uri": uri, "ca_file": None})
        changed = auth.model_copy(update={"issuers": (first,)})
        issuer, audiences = first.issuer, first.audiences
    else:
        changed = auth.model_copy(update={"jwks_uri": uri, "ca_file": None})
        issuer, audiences = auth.issuer, auth.audiences
    now = int(time.time())
    claims: dict[str, object] = {
        "sub": "demo",
        "iat": now,
        "exp": now + TOKEN_LIFETIME,
        **dict(auth.required_claims or {}),
    }
    if issuer:
        claims["iss"] = issuer
    if auth.models:
        claims[auth.models] = list(models)
    if audiences:
        claims["aud"] = audiences[0]
    return changed, jwt.encode(claims, key, algorithm="ES256", headers={"kid": KEY_ID})
