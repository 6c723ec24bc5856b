"""The whole corpus of tokens through the real Envoy, key rotation, floods, and what model servers are told."""

import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from prometheus_client.parser import text_string_to_metric_families
from support.echo import EchoPod, echo_pod
from support.eventually import PATIENCE
from support.gateway import CHAT, configuration
from support.hostile_tokens import hostile
from support.jwks_server import JwksServer, says
from support.raw_http import RawAnswer, http1, http2, request
from support.signed_tokens import (
    AUDIENCES,
    ISSUER,
    REQUIRED_CLAIMS,
    Case,
    claims,
    jwk_set,
    jwks,
    public_jwk,
    sign,
    valid,
)
from support.tokens import Signer

from extproc.demo.process import Child
from extproc.demo.stack import Stack
from extproc.process.build_info import compiled

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]

SECOND = "https://second.test"
#: Requests at once: the machine is small, and the order is of no matter.
AT_ONCE = 16
#: Seconds between two fetches that clients may cause. As promised, not as implemented.
COOLDOWN = 10


class Gate:
    """A gateway that trusts two issuers, the pod behind it, and every line that the sidecar logged."""

    def __init__(self, stack: Stack, pod: EchoPod, second: Signer, log: list[str]) -> None:
        self.stack, self.pod, self.second, self.log = stack, pod, second, log

    async def send(self, authorization: Iterable[str], *more: tuple[str, str]) -> RawAnswer:
        body = b'{"model":"m"}'
        headers = [
            ("host", "gateway"), ("connection", "close"), ("content-type", "application/json"),
            ("content-length", str(len(body))), *more, *[("authorization", value) for value in authorization],
        ]  # fmt: skip
        return await http1(self.stack.address, request(f"POST {CHAT} HTTP/1.1", headers, body))

    async def send_all(self, cases: Iterable[Case]) -> dict[str, RawAnswer]:
        limit = asyncio.Semaphore(AT_ONCE)

        async def one(case: Case) -> tuple[str, RawAnswer]:
            async with limit:
                return case.name, await self.send(case.authorization)

        return dict(await asyncio.gather(*map(one, cases)))

    async def counted(self, name: str, label: str) -> Counter[str]:
        """A counter's samples on the sidecar's page, by the values of one label."""
        async with aiohttp.ClientSession() as client, client.get(f"http://{self.stack.admin}/metrics") as response:
            page = await response.text()
        found: Counter[str] = Counter()
        for family in text_string_to_metric_families(page):
            for sample in family.samples:
                if sample.name == name:
                    found[sample.labels[label]] += int(sample.value)
        return found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gate(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gate]:
    folder = tmp_path_factory.mktemp("config")
    first = folder / "first.json"
    first.write_bytes(jwks())
    second = Signer()
    document = {
        "auth": {
            "issuers": [
                {"issuer": ISSUER, "audiences": list(AUDIENCES), "jwksUri": first.as_uri()},
                {"issuer": SECOND, "audiences": ["second"], "jwksUri": second.write(folder)},
            ],
            "requiredClaims": REQUIRED_CLAIMS,
            "identityHeaders": {"x-user": "sub", "x-team": "team"},
        },
        # Whatever could be said of a token is said at this level.
        "logging": {"level": "debug"},
    }
    log: list[str] = []
    config = configuration(json.dumps(document), folder)
    async with echo_pod() as pod, Stack(config, [pod.address], on_line=log.append) as stack:
        yield Gate(stack, pod, second, log)


def through_envoy(case: Case) -> Case:
    """The case as the sidecar meets it: Envoy joins headers of one name with a comma."""
    if len(case.authorization) < 2:
        return case
    return case._replace(reason="malformed" if case.authorization[0].startswith("Bearer") else "wrong_scheme")


def challenge(case: Case) -> str | None:
    if case.status == 431:
        return None
    if case.status == 403:
        return 'Bearer error="insufficient_scope"'
    return "Bearer" if case.reason in ("missing", "wrong_scheme") else 'Bearer error="invalid_token"'


async def test_every_hostile_token_is_refused_and_none_reaches_a_pod(gate: Gate) -> None:
    cases = [through_envoy(case) for case in hostile(time.time())]
    assert len(cases) >= 60
    requests, before = gate.pod.requests, await gate.counted("infer_gateway_auth_total", "result")
    answers = await gate.send_all(cases)
    wrong = {
        case.name: (answer.statuses, answer.headers.get("www-authenticate"))
        for case in cases
        if ((answer := answers[case.name]).status, answer.headers.get("www-authenticate"))
        != (case.status, challenge(case))
    }
    assert wrong == {}
    assert gate.pod.requests == requests
    for case in cases:
        error = json.loads(answers[case.name].body)["error"]
        assert set(error) == {"message", "type", "code", "param"}
        assert case.reason not in error["message"]
    # Each was refused for the reason that it was made for, and counted by it.
    assert await gate.counted("infer_gateway_auth_total", "result") - before == Counter(case.reason for case in cases)


async def test_every_valid_token_passes(gate: Gate) -> None:
    cases, requests = valid(time.time()), gate.pod.requests
    answers = await gate.send_all(cases)
    assert {name: answer.status for name, answer in answers.items() if answer.status != 200} == {}
    assert gate.pod.requests == requests + len(cases)
    assert "authorization" not in gate.pod.headers


async def test_each_issuer_has_its_own_keys_and_audiences(gate: Gate) -> None:
    own = {"iss": SECOND, "aud": "second", "scope": "inference"}
    stolen = sign("ES256", "p256", claims(time.time(), iss=SECOND, aud="second"))
    for status, token in (
        (200, gate.second.token(**own)),
        (401, gate.second.token(**own | {"aud": AUDIENCES[0]})),
        (401, gate.second.token(**own | {"iss": ISSUER, "aud": AUDIENCES[0]})),
        (403, gate.second.token(**own | {"scope": "other"})),
        (401, stolen),
    ):
        requests = gate.pod.requests
        assert (await gate.send([f"Bearer {token}"])).status == status
        assert gate.pod.requests - requests == (status == 200)


async def test_who_asks_is_said_by_the_gateway_alone(gate: Gate) -> None:
    token = f"Bearer {sign('ES256', 'p256', claims(time.time()))}"
    forged = [
        ("x-user", "root"), ("X-USER", "root"), ("X-User", "admin"), ("x-team", "root"),
        ("x-gateway-destination-endpoint", "10.9.9.9:1"), ("X-Gateway-Destination-Endpoint", "10.9.9.9:2"),
        ("x-gateway-destination-endpoint-subset", "10.9.9.9:1"), ("x-gateway-destination-endpoint-served", "10.9.9.9:1"),
        ("x-forwarded-client-cert", "By=root"), ("x-envoy-retry-on", "5xx"),
        ("x-envoy-attempt-count", "9"), ("x-envoy-anything", "root"),
    ]  # fmt: skip
    assert (await gate.send([token], *forged)).status == 200
    told = {name: value for name, value in gate.pod.headers.items() if name.startswith("x-")}
    assert told.pop("x-user") == "alice"
    assert told.pop("x-gateway-destination-endpoint") == gate.pod.address
    # The token says nothing of a team, so nobody does.
    assert set(told) <= {"x-request-id", "x-forwarded-for", "x-forwarded-proto", "x-envoy-external-address"}
    assert not any("root" in value or "10.9.9.9" in value for value in gate.pod.headers.values())


async def test_a_name_that_an_application_could_take_for_ours_does_not_reach_the_pod(gate: Gate) -> None:
    """CGI, WSGI and their kin read `x_user` as `x-user`."""
    token, requests = f"Bearer {sign('ES256', 'p256', claims(time.time()))}", gate.pod.requests

    names = ("x_user", "X_User", "x-gateway_destination-endpoint", "x_gateway_destination_endpoint")
    for name in names:
        headers = [("host", "gateway"), ("connection", "close"), ("authorization", token), (name, "root")]
        assert (await http1(gate.stack.address, request("GET /v1/files HTTP/1.1", headers))).status == 200
        assert "root" not in gate.pod.headers.values(), name
    assert gate.pod.requests == requests + len(names)


async def test_identity_does_not_come_in_trailers_either(gate: Gate) -> None:
    token, requests = f"Bearer {sign('ES256', 'p256', claims(time.time(), sub=None))}", gate.pod.requests
    head = [
        (":method", "POST"), (":scheme", "http"), (":authority", "gateway"), (":path", CHAT),
        ("content-type", "application/json"), ("authorization", token),
    ]  # fmt: skip
    trailers = [("x-user", "root"), ("authorization", token), ("x-gateway-destination-endpoint", "10.9.9.9:1")]
    assert (await http2(gate.stack.address, head, b'{"model":"m"}', trailers)).status == 200
    assert gate.pod.requests == requests + 1
    assert "x-user" not in gate.pod.headers
    assert "authorization" not in gate.pod.headers
    assert gate.pod.headers["x-gateway-destination-endpoint"] == gate.pod.address


async def test_no_token_was_logged(gate: Gate) -> None:
    """After all the others: at the level at which most is said."""
    said = "\n".join(gate.log)
    assert '"message":"refused"' in said
    assert '"message":"decided"' in said
    parts = {
        part
        for case in (*hostile(time.time()), *valid(time.time()))
        for value in case.authorization
        for part in value.removeprefix("Bearer ").split(".")[:2]
        if len(part) > 40
    }
    assert not [part for part in parts if part in said]
    # Signatures are new each time; every token's header begins so.
    assert "eyJ" not in said


async def test_the_first_line_names_every_surface(gate: Gate) -> None:
    (line,) = [json.loads(line) for line in gate.log if '"message":"serving"' in line]
    folder = gate.stack.folder
    assert [text.partition(": ")[0] for text in line["surfaces"]] == [
        "requests (Envoy) at 127.0.0.1:0",
        f"admin interface (Envoy) at unix://{folder}/envoy-admin.sock",
        f"ext_proc (sidecar) at unix://{folder}/extproc.sock",
        f"health, metrics, debug pages (sidecar) at {gate.stack.admin}",
    ]
    assert line["compiled"] is compiled()  # as this process: its environment is the sidecar's
    assert not [line for line in gate.log if "open to other machines" in line]
    for name in ("envoy-admin.sock", "extproc.sock"):
        assert (folder / name).stat().st_mode & 0o777 == 0o600


async def test_a_surface_that_nothing_protects_is_warned_of(tmp_path: Path) -> None:
    document = {
        "admin": {"port": 0},
        "transport": {"address": f"unix://{tmp_path}/extproc.sock"},
        "envoy": {"endpointsFile": str(tmp_path / "endpoints.yaml"), "adminSocket": str(tmp_path / "admin.sock")},
    }
    path = tmp_path / "configuration.yaml"
    path.write_text(json.dumps(document))
    command = [sys.executable, "-m", "extproc", "serve", "--config", str(path)]
    sidecar = await Child.start("sidecar", command)
    try:
        line = await sidecar.line(lambda text: "open to other machines" in text, PATIENCE)
    finally:
        await sidecar.stop()
    said = json.loads(line)
    assert said["level"] == "warning"
    assert said["surface"] == "requests (Envoy) at 0.0.0.0:8080: nothing: authentication is off"


# A provider that changes its keys.


@pytest_asyncio.fixture(loop_scope="module")
async def rotating(tmp_path: Path) -> AsyncIterator[tuple[Stack, EchoPod, JwksServer]]:
    """A gateway whose one issuer begins with the key `rsa`."""
    async with JwksServer(says(jwk_set(public_jwk("rsa")))) as provider, echo_pod() as pod:
        document = {"auth": {"issuer": ISSUER, "audiences": list(AUDIENCES), "jwksUri": provider.uri}}
        async with Stack(configuration(json.dumps(document), tmp_path), [pod.address]) as stack:
            yield stack, pod, provider


async def statuses(stack: Stack, tokens: Iterable[str]) -> list[int]:
    """One request for each token, `AT_ONCE` of them at a time, over connections that are kept."""
    todo, found = iter(tokens), list[int]()

    async def client(session: aiohttp.ClientSession) -> None:
        for token in todo:
            headers = {"authorization": f"Bearer {token}"}
            async with session.post(f"http://{stack.address}{CHAT}", data=b'{"model":"m"}', headers=headers) as answer:
                found.append(answer.status)

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        await asyncio.gather(*[client(session) for _ in range(AT_ONCE)])
    return found


async def test_not_one_valid_token_is_refused_across_a_rotation(
    rotating: tuple[Stack, EchoPod, JwksServer],
) -> None:
    stack, pod, provider = rotating
    now = time.time()

    def tokens(count: int, *signers: tuple[str, str]) -> list[str]:
        # No two alike, so that none passes for a verdict that was kept.
        return [sign(*signers[n % len(signers)], claims(now, jti=f"{signers} {n}")) for n in range(count)]

    old, new = ("RS256", "rsa"), ("ES256", "p256")
    assert set(await statuses(stack, tokens(300, old))) == {200}
    # The provider publishes the new key beside the old one, and signs with either from then on.
    provider.answer = says(jwk_set(public_jwk("rsa"), public_jwk("p256")))
    assert set(await statuses(stack, tokens(400, old, new))) == {200}
    # The old one is withdrawn once no token of it is valid any more.
    provider.answer = says(jwk_set(public_jwk("p256")))
    assert set(await statuses(stack, tokens(300, new))) == {200}
    assert pod.requests == 1000
    assert provider.requests == 2


async def test_a_flood_of_unknown_keys_does_not_reach_the_provider(
    rotating: tuple[Stack, EchoPod, JwksServer],
) -> None:
    stack, pod, provider = rotating
    now = time.time()
    flood = [
        sign("ES256", "attacker-p256", claims(now, jti=str(n)), header={"alg": "ES256", "kid": f"unknown {n}"})
        for n in range(2000)
    ]
    begun = time.monotonic()
    assert set(await statuses(stack, flood)) == {401}
    seconds = time.monotonic() - begun
    assert pod.requests == 0
    # The one at the start, and one for each time that the gateway allows itself.
    assert provider.requests <= 2 + int(seconds / COOLDOWN)
    assert set(await statuses(stack, [sign("RS256", "rsa", claims(now))])) == {200}
