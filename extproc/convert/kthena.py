"""The ConfigMap of Kthena's router, whose documented form this gateway's own configuration began as."""

from collections.abc import Mapping
from typing import Any, Final

from extproc.convert.result import Converted, listed, mapping, number

#: Names of plugins that are others here, and what is different.
RENAMED: Final[Mapping[str, tuple[str, str]]] = {
    "gpu-usage": ("kv-cache", ""),
    "kvcache-aware": ("prefix-cache", "no Redis is asked and nothing is tokenized: prefixes are learnt from picks"),
}
SAME: Final = frozenset({"least-request", "least-latency", "kv-cache", "prefix-cache", "lora-affinity", "random"})
#: Arguments that are here as well.
ARGUMENTS: Final[Mapping[str, frozenset[str]]] = {
    "least-request": frozenset({"maxWaitingRequests"}),
    "least-latency": frozenset({"TTFTTPOTWeightFactor"}),
    "prefix-cache": frozenset({"blockSizeToHash", "maxBlocksToMatch", "maxHashCacheSize"}),
}


def convert(document: Mapping[str, Any]) -> Converted:
    """Ours, to the same effect. Nothing in the document is an error: what is odd is noted."""
    made = Converted()
    scheduler = mapping(document.get("scheduler"))
    plugins = mapping(scheduler.get("plugins"))
    for section in ("Filter", "Score"):
        given = mapping(plugins.get(section))
        if given.get("disabled"):
            made.note(f"scheduler.plugins.{section}.disabled", "is read by nobody there, and left out")
        for place, one in enumerate(listed(given.get("enabled"))):
            where = f"scheduler.plugins.{section}.enabled[{place}]"
            _filter(one, made, where) if section == "Filter" else _score(mapping(one), made, where)
    for place, one in enumerate(listed(scheduler.get("pluginConfig"))):
        _arguments(mapping(one), made, f"scheduler.pluginConfig[{place}]")
    _session(document, scheduler, made)
    if isinstance(auth := document.get("auth"), dict) and auth.get("jwksUri"):
        made.config["auth"] = {key: auth[key] for key in ("issuer", "audiences", "jwksUri") if auth.get(key)}
        for key in auth.keys() - {"issuer", "audiences", "jwksUri"}:
            made.note(f"auth.{key}", "has no counterpart")
    elif auth:
        made.note("auth", "has no jwksUri: authentication is off there, and here")
    for key in document.keys() - {"scheduler", "auth", "sessionSticky"}:
        made.note(str(key), "has no counterpart")
    made.end()
    return made


def _named(name: str, made: Converted, where: str) -> str | None:
    if name in SAME:
        return name
    if name in RENAMED:
        ours, different = RENAMED[name]
        if different:
            made.note(where, f"{name} became {ours}: {different}")
        return ours
    made.note(where, f"{name or 'a plugin without a name'} has no counterpart")
    return None


def _filter(one: object, made: Converted, where: str) -> None:
    name = _named(one if isinstance(one, str) else "", made, where)
    if name is not None:
        made.filter(name)


def _score(one: Mapping[str, Any], made: Converted, where: str) -> None:
    name = _named(str(one.get("name", "")), made, where)
    if name is None:
        return
    weight = number(one.get("weight"))
    if weight is None or weight <= 0:
        made.note(where, f"{name} has no weight above 0: it counts for nothing there, and is left out")
        return
    made.score(name, weight)


def _arguments(one: Mapping[str, Any], made: Converted, where: str) -> None:
    theirs = str(one.get("name", ""))
    ours = RENAMED[theirs][0] if theirs in RENAMED else theirs
    known = ARGUMENTS.get(ours, frozenset()) if theirs not in RENAMED else frozenset()
    for key, value in mapping(one.get("args")).items():
        if key in known and number(value) is not None:
            made.arguments(ours, **{key: value})
        elif key == "topKMatches":
            made.note(f"{where}.args.topKMatches", "has no counterpart: every pod that holds a prefix is found")
        else:
            made.note(f"{where}.args.{key}", f"{theirs} has no such argument here")


def _session(document: Mapping[str, Any], scheduler: Mapping[str, Any], made: Converted) -> None:
    for where, given in (
        ("sessionSticky", document.get("sessionSticky")), ("scheduler.sessionSticky", scheduler.get("sessionSticky"))
    ):  # fmt: skip
        if given is None or given is False or mapping(given).get("enabled") is False:
            continue
        source = mapping(given)
        header = source.get("header") or source.get("headerName")
        cookie = source.get("cookie") or source.get("cookieName")
        made.score("session-affinity", 1.0)
        if isinstance(header, str) and header:
            made.arguments("session-affinity", header=header)
        elif isinstance(cookie, str) and cookie:
            made.arguments("session-affinity", cookie=cookie)
        else:
            made.arguments("session-affinity", header="x-session-id")
            made.note(where, "names neither a header nor a cookie: x-session-id is taken for what names a session")
        made.note(where, "became the scorer session-affinity: sessions are hashed, and no store of them is kept")
