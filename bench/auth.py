"""What checking a bearer token costs: CPU time of `Authenticator.check`, without and with a verdict at hand.

    python bench/auth.py [--seconds 0.5]

Each figure is the best of five runs. `read` is the part of a cold check that comes before the signature.
"""

import argparse
import base64
import json
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import get_default_algorithms

from extproc.auth.base import AuthPolicy, Issuer, Pending
from extproc.auth.cache import VerdictCache
from extproc.auth.jwt import Authenticator
from extproc.auth.keys import KeySet, read_jwks
from extproc.auth.token import bearer, parse
from extproc.errors import Refusal

NOW = 1_800_000_000.0
RUNS = 5
CLAIMS = {
    "iss": "https://issuer.example/realms/inference", "sub": "f3b9a1de-6c1f-4a7e-9f60-6f2f3f0f4c11",
    "aud": ["inference", "account"], "exp": int(NOW) + 3600, "iat": int(NOW),
    "jti": "1f0e6c7e-8a53-4a8a-9a8e-1f3e5b1c6d2a",
    "scope": "openid profile inference", "email": "alice@example.com", "groups": ["research", "platform"],
}  # fmt: skip
PRIVATE: dict[str, Any] = {
    "RS256": rsa.generate_private_key(65537, 2048),
    "PS256": rsa.generate_private_key(65537, 2048),
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "ES384": ec.generate_private_key(ec.SECP384R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
}


class Keys:
    """A key set that is there and stays."""

    def __init__(self, keys: KeySet) -> None:
        self._keys = keys

    def current(self, now: float) -> KeySet | None:  # noqa: ARG002 - the protocol's
        return self._keys

    def refresh(self, now: float) -> Pending | None:  # noqa: ARG002 - the protocol's
        return None


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def token(algorithm: str, kid: str) -> bytes:
    head = json.dumps({"alg": algorithm, "kid": kid, "typ": "JWT"})
    signed = f"{b64(head.encode())}.{b64(json.dumps(CLAIMS).encode())}"
    signature = get_default_algorithms()[algorithm].sign(signed.encode(), PRIVATE[algorithm])
    return f"Bearer {signed}.{b64(signature)}".encode()


def key_set() -> KeySet:
    entries = []
    for name, key in PRIVATE.items():
        jwk = get_default_algorithms()[name].to_jwk(key.public_key(), as_dict=True)
        entries.append({**jwk, "kid": name, "key_ops": ["verify"]})
    return read_jwks(json.dumps({"keys": entries}).encode())


def microseconds(call: Callable[[], object], seconds: float) -> float:
    """CPU time of one call, in µs."""
    calls, best = 1, float("inf")
    while True:
        start = time.process_time()
        for _ in range(calls):
            call()
        spent = time.process_time() - start
        if spent >= seconds / RUNS:
            break
        calls *= 2
    for _ in range(RUNS):
        start = time.process_time()
        for _ in range(calls):
            call()
        best = min(best, (time.process_time() - start) / calls)
    return best * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=0.5, help="CPU time for each figure, about")
    seconds = parser.parse_args().seconds
    policy = AuthPolicy(
        (Issuer(str(CLAIMS["iss"]), ("inference",), "https://issuer.example/"),), required_claims={"scope": "inference"}
    )
    source = Keys(key_set())
    kept = Authenticator(policy, [source])
    forgetful = Authenticator(policy, [source], cache=VerdictCache(accepted=0, refused=0))

    def refused(auth: Authenticator, value: bytes) -> None:
        try:
            auth.check(value, 1, now=NOW)
        except Refusal:
            return
        raise SystemExit("a bad token passed")

    print(f"{'':<28}{'bytes':>7}{'µs':>9}")
    for algorithm in PRIVATE:
        value = token(algorithm, algorithm)
        cold = microseconds(partial(forgetful.check, value, 1, now=NOW), seconds)
        read = microseconds(partial(parse, bearer(value)), seconds)
        print(f"{algorithm + ', cold':<28}{len(value):>7}{cold:>9.1f}   (read {read:.1f})")
    value = token("RS256", "RS256")
    kept.check(value, 1, now=NOW)
    print(f"{'RS256, cached':<28}{len(value):>7}{microseconds(partial(kept.check, value, 1, now=NOW), seconds):>9.2f}")
    bad = value[:-8] + b"AAAAAAAA"
    rubbish = b"Bearer " + b"A" * 8192
    rows = {
        "bad signature, cold": (forgetful, bad),
        "bad signature, cached": (kept, bad),
        "8 KiB of rubbish, cold": (forgetful, rubbish),
        "unknown key, cold": (forgetful, token("RS256", "nobody")),
        "too large": (forgetful, rubbish + b"A"),
    }
    for name, (auth, sent) in rows.items():
        print(f"{name:<28}{len(sent):>7}{microseconds(partial(refused, auth, sent), seconds):>9.2f}")


if __name__ == "__main__":
    main()
