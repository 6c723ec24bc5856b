"""The HTTP side of one replica, from start to crash. A restart makes a new one: nothing is kept."""

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NoReturn

import msgspec
from aiohttp import web

from modelsim import answer, filler
from modelsim.api import APIS
from modelsim.api.base import Api, Ask, Body, Reply
from modelsim.driver import Driver
from modelsim.engine import Request
from modelsim.errors import ApiError, RequestTooLong, context_too_long, model_not_found
from modelsim.faults import Faults, validated
from modelsim.jobs import Job, ScriptedJob
from modelsim.metrics import CONTENT_TYPE, Metrics
from modelsim.profile import EngineConfig
from modelsim.prompt import count_tokens

#: Bytes of a request body. A prompt that fills the longest contexts in use (10 million tokens) has 40 MB.
MAX_BODY = 64 * 1024 * 1024

#: Bytes of the metrics page that is too large on purpose: more than any sane limit on one.
HUGE_PAGE = 50 * 1024 * 1024

#: Tells who answered.
REPLICA_HEADER = "x-modelsim-replica"

_HUGE_CHUNK = b"".join(b'vllm:padding{number="%06d"} 1.0\n' % number for number in range(2048))

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class ServiceConfig(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    model: str
    adapters: tuple[str, ...]
    engine: EngineConfig
    faults: Faults


class Tally:
    """Requests on the inference paths."""

    def __init__(self) -> None:
        #: Begun, whatever became of them.
        self.received = 0
        #: Answered by the model, to the end.
        self.served = 0


class Service:
    """Must be made inside a running event loop."""

    def __init__(self, config: ServiceConfig, tally: Tally) -> None:
        self.app = web.Application(client_max_size=MAX_BODY, middlewares=[self._guard])
        self.adapters = dict.fromkeys(config.adapters)
        self._config = config
        self._tally = tally
        self._metrics = Metrics(config.model)
        self.driver = Driver(config.engine, self._metrics)
        self._scripted = 0
        self._ids = itertools.count(1)
        self._started = int(time.time())
        self._handlers: set[asyncio.Task[Any]] = set()
        self.faults = config.faults
        self.app.on_response_prepare.append(self._sign)
        router = self.app.router
        for path, api in APIS.items():
            router.add_post(path, self._inference(api))
        router.add_get("/v1/models", self._models)
        router.add_get("/health", self._health)
        router.add_get("/metrics", self._page)
        router.add_get("/faults", self._tell_faults)
        router.add_post("/faults", self._change_faults)
        router.add_post("/v1/load_lora_adapter", self._load_adapter)
        router.add_post("/v1/unload_lora_adapter", self._unload_adapter)

    @property
    def faults(self) -> Faults:
        return self._faults

    @faults.setter
    def faults(self, faults: Faults) -> None:
        self._faults = validated(faults)
        # Counted from here, so that the same requests fail each time.
        self._number = 0

    def cancel(self) -> None:
        """Cancels the handlers that are running."""
        for handler in self._handlers:
            handler.cancel()

    def stop(self) -> None:
        """To be called when no handler runs any more: each that ends gives its job up, which sets the timer again."""
        self.driver.stop()

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - for the type checker: a handler runs in a task
        self._handlers.add(task)
        try:
            return await handler(request)
        except ApiError as error:
            return _json(error.body, error.status)
        except ConnectionError:
            # Gone, or cut on purpose: aiohttp finds out when it tries to write this one, and lets go in silence.
            return web.Response()
        except web.HTTPException as error:
            return _json(ApiError(error.status, error.reason, code="http_error").body, error.status)
        finally:
            self._handlers.discard(task)

    async def _sign(self, request: web.Request, response: web.StreamResponse) -> None:  # noqa: ARG002 - aiohttp's call
        response.headers[REPLICA_HEADER] = self._config.name

    def _inference(self, api: Api) -> Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            return await self._infer(request, api)

        return handle

    async def _infer(self, request: web.Request, api: Api) -> web.StreamResponse:
        self._tally.received += 1
        body = await _read_object(request)
        self._number += 1
        faults = self._faults
        if faults.hang:
            await _for_ever()
        if faults.fails(self._number):
            raise ApiError(faults.status, "This failure was asked for.", code="injected_fault")
        ask = api.read(body)
        reply = self._reply(ask, body)
        streamer = api.stream(reply) if ask.stream else None
        with self._job(reply, faults) as job:
            if streamer is not None:
                response = await answer.stream(request, job, streamer, faults)
            else:
                await answer.whole(request, job, faults)
                usage = job.usage
                response = _json(api.unary(reply, filler.text(usage.completion_tokens), usage))
        self._tally.served += 1
        return response

    def _reply(self, ask: Ask, body: Body) -> Reply:
        model = ask.model or self._config.model
        if model != self._config.model and model not in self.adapters:
            raise model_not_found(model)
        number = f"{self._config.name}-{next(self._ids)}"
        return Reply(id=number, model=model, created=int(time.time()), ask=ask, body=body)

    @contextmanager
    def _job(self, reply: Reply, faults: Faults) -> Iterator[Job]:
        """The source of an answer's tokens; given up at the end, whatever the end is."""
        ask = reply.ask
        job: Job
        if faults.scripted:
            tokens = count_tokens(ask.prompt)
            job = ScriptedJob(faults, prompt_tokens=tokens, max_tokens=ask.max_tokens, observe=self._metrics.observe)
            close = self._close_scripted
            self._scripted += 1
        else:
            adapter = "" if reply.model == self._config.model else reply.model
            request = Request(id=reply.id, prompt=ask.prompt, max_tokens=ask.max_tokens, adapter=adapter)
            try:
                job = engine_job = self.driver.submit(request)
            except RequestTooLong as error:
                raise context_too_long(error.tokens, error.limit) from error
            close = partial(self.driver.close, engine_job)
        try:
            yield job
        finally:
            self._metrics.count_finished(("length" if ask.limited else "stop") if job.finished else "abort")
            close()

    def _close_scripted(self) -> None:
        self._scripted -= 1

    async def _models(self, request: web.Request) -> web.Response:  # noqa: ARG002 - aiohttp's call
        config = self._config
        base = {"object": "model", "created": self._started, "owned_by": "vllm"}
        length = config.engine.max_model_len
        models = [{"id": config.model, **base, "root": config.model, "parent": None, "max_model_len": length}]
        models += [{"id": name, **base, "root": name, "parent": config.model} for name in self.adapters]
        return _json({"object": "list", "data": models})

    async def _health(self, request: web.Request) -> web.Response:  # noqa: ARG002 - aiohttp's call
        return web.Response()

    async def _page(self, request: web.Request) -> web.StreamResponse:
        match self._faults.metrics:
            case "500":
                return web.Response(status=500, text="This failure was asked for.\n")
            case "html":
                return web.Response(text="<!doctype html><title>Not metrics</title>\n", content_type="text/html")
            case "hang":
                await _for_ever()
            case "huge":
                return await _huge_page(request)
        page = self._metrics.page(self.driver.engine, scripted=self._scripted, unix_time=time.time())
        return web.Response(body=page, headers={"content-type": CONTENT_TYPE})

    async def _tell_faults(self, request: web.Request) -> web.Response:  # noqa: ARG002 - aiohttp's call
        return _json(self._faults)

    async def _change_faults(self, request: web.Request) -> web.Response:
        """The body replaces all faults; `{}` clears them."""
        try:
            self.faults = msgspec.json.decode(await request.read(), type=Faults)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
            raise ApiError(400, f"Not a set of faults: {error}", code="invalid_faults") from error
        return _json(self._faults)

    async def _load_adapter(self, request: web.Request) -> web.Response:
        body = await _read_object(request)
        name, path = body.get("lora_name"), body.get("lora_path")
        if not (isinstance(name, str) and name and isinstance(path, str) and path):
            raise ApiError(400, "Both `lora_name` and `lora_path` must be provided.", param="lora_name")
        if not self._config.engine.max_loras:
            raise ApiError(400, "This server serves no adapters.", param="lora_name")
        if name in self.adapters or name == self._config.model:
            raise ApiError(400, f"The name `{name}` is taken already.", param="lora_name")
        self.adapters[name] = None
        return web.Response(text=f"Success: LoRA adapter '{name}' added successfully.")

    async def _unload_adapter(self, request: web.Request) -> web.Response:
        """Requests that use the adapter are finished all the same."""
        name = (await _read_object(request)).get("lora_name")
        if not isinstance(name, str) or not name:
            raise ApiError(400, "`lora_name` must be provided.", param="lora_name")
        if name not in self.adapters:
            raise ApiError(404, f"The adapter `{name}` is not loaded.", code="adapter_not_found", param="lora_name")
        del self.adapters[name]
        return web.Response(text=f"Success: LoRA adapter '{name}' removed successfully.")


def _json(message: object, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(message), status=status, content_type="application/json")


async def _read_object(request: web.Request) -> dict[str, Any]:
    try:
        body = msgspec.json.decode(await request.read())
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise ApiError(400, f"The body is not valid JSON: {error}", code="invalid_json") from error
    if not isinstance(body, dict):
        raise ApiError(400, "The body must be a JSON object.", code="invalid_json")
    return body


async def _for_ever() -> NoReturn:
    """Until the client goes away, which cancels the handler."""
    await asyncio.Event().wait()
    raise AssertionError("nobody sets that event")


async def _huge_page(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"content-type": CONTENT_TYPE})
    await response.prepare(request)
    for _ in range(-(-HUGE_PAGE // len(_HUGE_CHUNK))):
        await response.write(_HUGE_CHUNK)
    await response.write_eof()
    return response
