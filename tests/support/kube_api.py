"""A Kubernetes API server, as far as clients that list and watch can tell.

It keeps to what kube-apiserver does on the wire: one resourceVersion for all objects, lists in pages that are consistent,
watches that go on from a version (an object that leaves a selector is DELETED for that watch), bookmarks, 410 Gone as a
status and as an ERROR event, and errors as Status objects.
"""

import asyncio
import base64
import json
from collections.abc import Callable, Iterable
from typing import Any

from aiohttp import web
from support.eventually import PATIENCE

Object = dict[str, Any]
#: Namespace and collection, as in ("default", "pods").
Collection = tuple[str, str]

KINDS = {
    "pods": ("v1", "Pod"),
    "endpointslices": ("discovery.k8s.io/v1", "EndpointSlice"),
    "inferencepools": ("inference.networking.k8s.io/v1", "InferencePool"),
    "inferenceobjectives": ("llm-d.ai/v1alpha2", "InferenceObjective"),
}


class Change:
    """One entry of the log: what an object was, and what it became."""

    def __init__(self, version: int, old: Object | None, new: Object | None) -> None:
        self.version, self.old, self.new = version, old, new

    def seen_by(self, matches: Callable[[Object], bool]) -> Object | None:
        """The event of a watch with that selector."""
        was, is_ = self.old is not None and matches(self.old), self.new is not None and matches(self.new)
        if not was and not is_:
            return None
        kind = "DELETED" if not is_ else "MODIFIED" if was else "ADDED"
        body = self.new if is_ else self.old
        assert body is not None
        return {"type": kind, "object": versioned(body, self.version)}


class Watch:
    def __init__(self, where: Collection, matches: Callable[[Object], bool], request: web.Request) -> None:
        self.where, self.matches, self.request = where, matches, request
        #: What is not younger is not sent: whoever comes from the future hears nothing, as from kube-apiserver.
        self.since = int(request.query["resourceVersion"])
        self.queue: asyncio.Queue[bytes | None] = asyncio.Queue()

    def send(self, event: Object) -> None:
        self.queue.put_nowait(json.dumps(event, separators=(",", ":")).encode() + b"\n")


class KubeApi:
    """Starts at `start`, on the same port each time. What it stores outlives a `kill`, as etcd does."""

    def __init__(self) -> None:
        self.port = 0
        self.version = 100
        self.objects: dict[Collection, dict[str, Object]] = {}
        self.log: list[tuple[Collection, Change]] = []
        #: Versions below it are forgotten.
        self.oldest = 0
        #: Whether 410 comes as a status; else as an ERROR event in an answer of 200.
        self.gone_as_status = False
        #: None: everybody is let in.
        self.tokens: set[str] | None = None
        #: (verb, collection) that nobody may do.
        self.forbidden: set[tuple[str, str]] = set()
        #: Collections that there are no definitions of.
        self.unknown: set[str] = set()
        #: Statuses to answer the next requests with, whatever they are; 0: as it should be.
        self.faults: list[int] = []
        #: Where everybody is sent instead of being answered.
        self.moved_to = ""
        #: Cleared: nobody is answered.
        self.answering = asyncio.Event()
        self.answering.set()
        #: Bytes of each piece that watches are sent in; 0: whole lines.
        self.piece = 0
        #: Everything that was asked: the verb, the collection, the query.
        self.asked: list[tuple[str, str, dict[str, str]]] = []
        self.authorizations: list[str] = []
        self.watches: list[Watch] = []
        self._changed = asyncio.Condition()
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self, ssl: Any = None) -> None:
        app = web.Application()
        app.router.add_get("/api/v1/namespaces/{namespace}/{collection}", self._get)
        app.router.add_get("/apis/{group}/{api}/namespaces/{namespace}/{collection}", self._get)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0, handler_cancellation=True)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True, ssl_context=ssl)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def kill(self) -> None:
        """As with SIGKILL: connections are cut in the middle of an answer."""
        self.cut()
        if self._runner is not None:
            await self._runner.cleanup()

    def cut(self) -> None:
        """Every watch's connection breaks. What happens from here on reaches none of them."""
        cut, self.watches = self.watches, []
        for watch in cut:
            if watch.request.transport is not None:
                watch.request.transport.abort()

    def end_watches(self) -> None:
        """Every watch ends in order, as at `timeoutSeconds`."""
        ended, self.watches = self.watches, []
        for watch in ended:
            watch.queue.put_nowait(None)

    def bookmark(self) -> None:
        for watch in self.watches:
            if self.version <= watch.since:
                continue
            _, kind = KINDS[watch.where[1]]
            metadata = {"resourceVersion": str(self.version), "creationTimestamp": None}
            watch.send({"type": "BOOKMARK", "object": {"kind": kind, "metadata": metadata}})

    def send_error(self, code: int, message: str) -> None:
        for watch in self.watches:
            watch.send({"type": "ERROR", "object": status(code, message)})

    def compact(self) -> None:
        """Forgets all that happened: who asks for the past gets 410."""
        self.version += 1
        self.oldest = self.version
        self.log.clear()

    def put(self, collection: str, body: Object, namespace: str = "default") -> None:
        where = (namespace, collection)
        known = self.objects.setdefault(where, {})
        name = body["metadata"]["name"]
        self._change(where, known.get(name), body)
        known[name] = versioned({**body, "metadata": {**body["metadata"], "namespace": namespace}}, self.version)

    def delete(self, collection: str, name: str, namespace: str = "default") -> None:
        self._change((namespace, collection), self.objects[namespace, collection].pop(name), None)

    def _change(self, where: Collection, old: Object | None, new: Object | None) -> None:
        self.version += 1
        if new is not None:
            new = {**new, "metadata": {**new["metadata"], "namespace": where[0]}}
        change = Change(self.version, old, new)
        self.log.append((where, change))
        for watch in self.watches:
            event = change.seen_by(watch.matches) if watch.where == where and self.version > watch.since else None
            if event is not None:
                watch.send(event)

    async def wait_for(self, condition: Callable[[], bool]) -> None:
        """Until it holds; looked at whenever somebody has asked something."""
        async with self._changed, asyncio.timeout(PATIENCE):
            await self._changed.wait_for(condition)

    async def wait_for_watches(self, count: int = 1) -> None:
        await self.wait_for(lambda: len(self.watches) >= count)

    def count(self, verb: str) -> int:
        return sum(one[0] == verb for one in self.asked)

    async def _get(self, request: web.Request) -> web.StreamResponse:
        collection = request.match_info["collection"]
        verb = "watch" if request.query.get("watch") in {"true", "1"} else "list"
        self.asked.append((verb, collection, dict(request.query)))
        authorization = request.headers.get("Authorization", "")
        self.authorizations.append(authorization)
        async with self._changed:
            self._changed.notify_all()
        await self.answering.wait()
        if self.faults and (fault := self.faults.pop(0)):
            return refuse(fault, "the server is currently unable to handle the request")
        if self.moved_to:
            return web.Response(status=302, headers={"Location": self.moved_to})
        if self.tokens is not None and authorization.removeprefix("Bearer ") not in self.tokens:
            return refuse(401, "Unauthorized")
        expected = f"/{KINDS[collection][0]}/namespaces/" if collection in KINDS else "?"
        if collection in self.unknown or expected not in request.path:
            return web.Response(status=404, text="404 page not found\n")
        if (verb, collection) in self.forbidden:
            return refuse(403, f'{collection} is forbidden: User "reader" cannot {verb} resource "{collection}"')
        where = (request.match_info["namespace"], collection)
        matches = selector(request.query.get("labelSelector", ""), request.query.get("fieldSelector", ""))
        return await (self._watch if verb == "watch" else self._list)(request, where, matches)

    async def _list(
        self, request: web.Request, where: Collection, matches: Callable[[Object], bool]
    ) -> web.StreamResponse:
        limit = int(request.query.get("limit", "0"))
        names = sorted(name for name, one in self.objects.get(where, {}).items() if matches(one))
        start, version = "", self.version
        if token := request.query.get("continue"):
            start, version = json.loads(base64.b64decode(token))
            if version < self.oldest:
                return refuse(410, "The provided continue parameter is too old to display a consistent list result.")
        names = [name for name in names if name > start]
        page = names[:limit] if limit else names
        metadata: Object = {"resourceVersion": str(version)}
        if len(page) < len(names):
            metadata["continue"] = base64.b64encode(json.dumps([page[-1], version]).encode()).decode()
            metadata["remainingItemCount"] = len(names) - len(page)
        api, kind = KINDS[where[1]]
        items = [self.objects[where][name] for name in page]
        return web.json_response({"kind": f"{kind}List", "apiVersion": api, "metadata": metadata, "items": items})

    async def _watch(
        self, request: web.Request, where: Collection, matches: Callable[[Object], bool]
    ) -> web.StreamResponse:
        watch = Watch(where, matches, request)
        since = watch.since
        gone = since < self.oldest
        text = f"too old resource version: {since} ({self.oldest})"
        if gone and self.gone_as_status:
            return refuse(410, text)
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        response.enable_chunked_encoding()
        if gone:
            watch.send({"type": "ERROR", "object": status(410, text)})
            watch.queue.put_nowait(None)
        for place, change in self.log:
            event = change.seen_by(matches) if place == where and change.version > since else None
            if event is not None:
                watch.send(event)
        self.watches.append(watch)
        try:
            await response.prepare(request)
            async with self._changed:
                self._changed.notify_all()
            while (line := await watch.queue.get()) is not None:
                for piece in pieces(line, self.piece):
                    await response.write(piece)
            await response.write_eof()
        except ConnectionError:
            pass
        finally:
            if watch in self.watches:
                self.watches.remove(watch)
        return response


def pieces(line: bytes, size: int) -> Iterable[bytes]:
    return [line[start : start + size] for start in range(0, len(line), size)] if size else [line]


def versioned(body: Object, version: int) -> Object:
    return {**body, "metadata": {**body["metadata"], "resourceVersion": str(version)}}


def selector(labels: str, fields: str) -> Callable[[Object], bool]:
    wanted = [tuple(part.split("=")) for part in labels.split(",") if part]
    names = [part.removeprefix("metadata.name=") for part in fields.split(",") if part]

    def matches(one: Object) -> bool:
        metadata = one["metadata"]
        own = metadata.get("labels") or {}
        return all(own.get(key) == value for key, value in wanted) and all(metadata["name"] == name for name in names)

    return matches


def status(code: int, message: str) -> Object:
    reasons = {401: "Unauthorized", 403: "Forbidden", 410: "Expired", 429: "TooManyRequests", 504: "Timeout"}
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reasons.get(code, "InternalError"),
        "code": code,
    }


def refuse(code: int, message: str) -> web.Response:
    return web.json_response(status(code, message), status=code)


def pod(name: str, ip: str, *, ready: bool = True, labels: dict[str, str] | None = None, **metadata: Any) -> Object:
    """A Pod with a port 8000 named http."""
    return {
        "kind": "Pod",
        "apiVersion": "v1",
        "metadata": {"name": name, "labels": {"app": "vllm"} if labels is None else labels, **metadata},
        "spec": {
            "containers": [{"name": "engine", "ports": [{"name": "http", "containerPort": 8000, "protocol": "TCP"}]}]
        },
        "status": {
            "phase": "Running",
            "podIP": ip,
            "podIPs": [{"ip": ip}],
            "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
        },
    }


def endpoint(ip: str, name: str, **conditions: bool) -> Object:
    return {
        "addresses": [ip],
        "conditions": {"ready": True, "serving": True, "terminating": False, **conditions},
        "targetRef": {"kind": "Pod", "namespace": "default", "name": name},
        "nodeName": "node-1",
        "zone": "zone-a",
    }


def endpoint_slice(name: str, service: str, *endpoints: Object, port: int = 8000, family: str = "IPv4") -> Object:
    return {
        "kind": "EndpointSlice",
        "apiVersion": "discovery.k8s.io/v1",
        "metadata": {"name": name, "labels": {"kubernetes.io/service-name": service}},
        "addressType": family,
        # Empty lists are null, as the API server has it.
        "endpoints": list(endpoints) or None,
        "ports": [{"name": "http", "port": port, "protocol": "TCP"}],
    }


def inference_pool(name: str, labels: dict[str, str], *ports: int) -> Object:
    return {
        "kind": "InferencePool",
        "apiVersion": "inference.networking.k8s.io/v1",
        "metadata": {"name": name},
        "spec": {
            "selector": {"matchLabels": labels},
            "targetPorts": [{"number": port} for port in ports],
            "endpointPickerRef": {"name": "infer-gateway", "port": {"number": 9002}},
        },
    }
