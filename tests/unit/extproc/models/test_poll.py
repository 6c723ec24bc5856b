from aiohttp import web
from support.jwks_server import JwksServer, says

from extproc.auth.base import Identity
from extproc.errors import Refusal
from extproc.models.catalogue import Catalogue
from extproc.models.poll import ModelsPoll
from extproc.protocol.headers import METHOD, PATH, Headers


def names(catalogue: Catalogue) -> bytes:
    headers = Headers([(METHOD, b"GET"), (PATH, b"/v1/models")])
    return catalogue.answer(headers, Identity("", "", {}), None) or b""


async def test_the_union_of_what_pods_list_and_the_last_known_while_they_are_away() -> None:
    catalogue = Catalogue("p", 0)
    one, two = (says(b'{"data":[{"id":"%s"}]}' % name) for name in (b"m", b"n"))
    async with JwksServer(one) as first, JwksServer(two) as second:
        addresses = [server.uri.split("/")[2] for server in (first, second)]
        now: list[str] = []
        poll = ModelsPoll("p", "http", lambda: now, catalogue)
        await poll.round()
        try:
            names(catalogue)
            raise AssertionError
        except Refusal as refusal:
            assert refusal.status == 503
        now[:] = addresses
        await poll.round()
        assert b'"m"' in names(catalogue)
        assert b'"n"' in names(catalogue)

        async def broken(_: web.Request) -> web.StreamResponse:
            return web.Response(status=500)

        second.answer = broken
        await poll.round()
        assert b'"n"' in names(catalogue)
        # Gone for good: its models go with it.
        now[:] = addresses[:1]
        await poll.round()
        assert b'"n"' not in names(catalogue)
        now[:] = []
        await poll.round()
        assert b'"m"' in names(catalogue)
