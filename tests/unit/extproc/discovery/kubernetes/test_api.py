import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import trustme
from support.kube_api import KubeApi

from extproc.discovery.kubernetes.api import ApiServer, Refused, read_body
from extproc.discovery.kubernetes.credentials import Cluster, Credentials, CredentialsError

PODS = "/api/v1/namespaces/default/pods"


@pytest.fixture
async def api() -> AsyncIterator[KubeApi]:
    fake = KubeApi()
    yield fake
    await fake.kill()


async def ask(credentials: Credentials) -> bytes | None:
    async with ApiServer(credentials) as server, server.get(PODS, {}, read_timeout=5) as response:
        return await read_body(response, 1000)


async def test_a_token_that_was_renewed_is_read_at_once(api: KubeApi, tmp_path: Path) -> None:
    await api.start()
    token = tmp_path / "token"
    token.write_text("old")
    credentials = Credentials(Cluster(server=api.url, token=token))
    api.tokens = {"old"}
    assert await ask(credentials)
    token.write_text("new")
    api.tokens = {"new"}
    assert await ask(credentials)
    assert api.authorizations == ["Bearer old", "Bearer old", "Bearer new"]
    api.tokens = set()
    with pytest.raises(Refused, match="^401 Unauthorized$") as raised:
        await ask(credentials)
    assert raised.value.status == 401
    assert len(api.authorizations) == 5


async def test_without_a_token_no_header(api: KubeApi) -> None:
    await api.start()
    await ask(Credentials(Cluster(server=api.url)))
    assert api.authorizations == [""]


async def test_what_is_refused_says_why(api: KubeApi) -> None:
    await api.start()
    api.forbidden.add(("list", "pods"))
    with pytest.raises(Refused, match='^403 pods is forbidden: User "reader" cannot list resource "pods"$'):
        await ask(Credentials(Cluster(server=api.url)))
    api.unknown.add("pods")
    with pytest.raises(Refused, match="^404 Not Found$"):
        await ask(Credentials(Cluster(server=api.url)))


async def test_a_token_is_not_taken_elsewhere(api: KubeApi) -> None:
    await api.start()
    api.moved_to = f"{api.url}{PODS}?elsewhere=1"
    with pytest.raises(Refused, match="^302 Found$"):
        await ask(Credentials(Cluster(server=api.url, token=b"t")))
    assert len(api.asked) == 1


async def test_tls_with_an_authority_of_its_own(api: KubeApi, tmp_path: Path) -> None:
    authority, other = trustme.CA(), trustme.CA()
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1", "kubernetes").configure_cert(server)
    await api.start(server)
    file = tmp_path / "ca.crt"
    file.write_bytes(other.cert_pem.bytes())
    url = f"https://127.0.0.1:{api.port}"
    credentials = Credentials(Cluster(server=url, token=b"t", ca=file))
    with pytest.raises(aiohttp.ClientConnectorCertificateError):
        await ask(credentials)
    assert api.authorizations == []
    # Once the file has changed, it is enough to try again.
    file.write_bytes(authority.cert_pem.bytes())
    assert await ask(credentials)
    named = Cluster(server=url, ca=authority.cert_pem.bytes(), server_name="kubernetes")
    assert await ask(Credentials(named))
    wrong = Cluster(server=url, ca=authority.cert_pem.bytes(), server_name="other")
    with pytest.raises(aiohttp.ClientConnectorCertificateError):
        await ask(Credentials(wrong))
    assert await ask(Credentials(Cluster(server=url, verify=False)))


async def test_a_client_certificate(api: KubeApi) -> None:
    authority = trustme.CA()
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(server)
    authority.configure_trust(server)
    server.verify_mode = ssl.CERT_REQUIRED
    await api.start(server)
    mine = authority.issue_cert("gateway")
    cluster = Cluster(
        server=f"https://127.0.0.1:{api.port}",
        ca=authority.cert_pem.bytes(),
        certificate=mine.cert_chain_pems[0].bytes(),
        key=mine.private_key_pem.bytes(),
    )
    assert await ask(Credentials(cluster))


async def test_a_body_has_a_limit(api: KubeApi) -> None:
    await api.start()
    credentials = Credentials(Cluster(server=api.url))
    async with ApiServer(credentials) as server, server.get(PODS, {}, read_timeout=5) as response:
        assert await read_body(response, 10) is None


async def test_credentials_that_cannot_be_read(api: KubeApi, tmp_path: Path) -> None:
    with pytest.raises(CredentialsError):
        await ask(Credentials(Cluster(server="http://127.0.0.1:1", token=tmp_path / "token")))


async def test_leaving_what_was_never_entered() -> None:
    await ApiServer(Credentials(Cluster(server="http://127.0.0.1:1"))).__aexit__(None, None, None)
