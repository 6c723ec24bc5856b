"""Errors and doubts between values that are each valid."""

from collections.abc import Callable, Iterator, Sequence

from extproc.config import auth_checks, listener_checks, route_checks, sharing_checks
from extproc.config.decode import Decoded
from extproc.config.model import GatewayConfig
from extproc.config.problems import Path, Problem, nearest
from extproc.config.sections.discovery import KubernetesEndpoints
from extproc.config.sections.endpoints import EndpointsConfig, EngineConfig
from extproc.config.sections.routing import DEFAULT_POOL
from extproc.config.sections.transport import TransportConfig
from extproc.config.units import is_ip, shorten, split_port
from scheduler.config import SchedulerConfig
from scheduler.errors import PluginConfigError
from scheduler.pool.dialects import DIALECTS

#: Returns the mistakes in the plugins of a configuration.
ValidatePlugins = Callable[[SchedulerConfig], Sequence[PluginConfigError]]


def validate_plugins(config: SchedulerConfig) -> Sequence[PluginConfigError]:
    """By the plugins that come with the scheduler, and those named as `module:attr`."""
    from scheduler.builder import validate
    from scheduler.registry import installed_registry

    return validate(config, installed_registry())


def problems(decoded: Decoded, validate: ValidatePlugins) -> Iterator[Problem]:
    """Paths are those of the configuration, not yet of the document.

    A value that is missing because it was wrong is no mistake of its own, hence the questions to `decoded.sound`.
    """
    config = decoded.config
    for error in validate(config.scheduling()):
        yield Problem(shorten(error.message, 300), ("scheduler", *error.path), hint=error.hint)
    if config.auth is not None:
        yield from auth_checks.problems(config.auth, decoded)
    yield from _tls(config.transport, decoded)
    yield from _processes(config.transport, decoded)
    yield from _objectives(config, decoded)
    yield from listener_checks.problems(config.listener, decoded)
    yield from sharing_checks.problems(config.sharing, decoded)
    for path, endpoints in _sections(config):
        yield from _endpoints(endpoints, path, decoded)
        yield from _kubernetes(endpoints.kubernetes, path, decoded)
        yield from _signals(endpoints, path, decoded)
    yield from route_checks.problems(decoded)
    if decoded.sound(("listener", "host"), ("listener", "port"), ("admin",), ("transport", "address")):
        yield from _ports(config)


def _objectives(config: GatewayConfig, decoded: Decoded) -> Iterator[Problem]:
    if config.objectives.watch and config.endpoints.kubernetes is None and decoded.sound(("endpoints",)):
        reason = "needs endpoints.kubernetes, which says at which API server"
        yield Problem(reason, ("objectives", "watch"), at_key=True)


def _processes(transport: TransportConfig, decoded: Decoded) -> Iterator[Problem]:
    if transport.alone or transport.address.startswith("unix:") or not decoded.sound(("transport",)):
        return
    key = "workers" if transport.workers > 1 else "standby"
    reason = "is for an Envoy on Unix sockets: each process has one beside `address`"
    yield Problem(reason, ("transport", key), hint="behind other gateways, run replicas", at_key=True)


def _tls(transport: TransportConfig, decoded: Decoded) -> Iterator[Problem]:
    tls = transport.tls
    path: Path = ("transport", "tls")
    if tls is None or not decoded.sound(path):
        return
    if transport.address.startswith("unix:") and decoded.sound(("transport", "address")):
        reason = "is for TCP: a Unix socket is this user's alone"
        yield Problem(reason, path, hint="set transport.address to host:port, or leave tls out", at_key=True)
    pair = {"certFile": tls.cert_file, "keyFile": tls.key_file}
    given = [key for key, value in pair.items() if value is not None]
    if tls.self_signed:
        for key in given:
            yield Problem("cannot be set beside selfSigned: one certificate is enough", (*path, key), at_key=True)
    elif not given:
        yield Problem("has no certificate: give certFile and keyFile, or selfSigned: true", path, at_key=True)
    elif len(given) == 1:
        missing = "keyFile" if given == ["certFile"] else "certFile"
        yield Problem(f"is missing: {given[0]} needs it", (*path, missing))


def warnings(config: GatewayConfig) -> Iterator[Problem]:
    """Warnings: allowed settings that the operator should know of. Paths as in `problems`."""
    yield from auth_checks.warnings(config)
    yield from listener_checks.warnings(config.listener)
    yield from sharing_checks.warnings(config.sharing)
    known = config.all_pools()
    for path, endpoints in _sections(config):
        if endpoints.empty and (path[-1] if len(path) > 1 else DEFAULT_POOL) in known:
            reason = "none of static, dns, file and kubernetes says where the pods are: requests get a 503"
            yield Problem(reason, path)
    yield from route_checks.warnings(config)
    if config.disaggregation.threshold_tokens is not None and not any(map(_labelled, config.all_pools().values())):
        reason = "no pod has labels (give them to static endpoints, or use file or kubernetes): none can be for prefill"
        yield Problem(reason, ("disaggregation",))


def _labelled(endpoints: EndpointsConfig) -> bool:
    """Whether pods of a pool may have labels of their own."""
    kubernetes = endpoints.kubernetes
    by_pod = kubernetes is not None and kubernetes.service is None
    return by_pod or endpoints.file is not None or any(pod.labels for pod in endpoints.static)


def _sections(config: GatewayConfig) -> Iterator[tuple[Path, EndpointsConfig]]:
    """Every pool's section, and where it is."""
    yield ("endpoints",), config.endpoints
    for name, endpoints in config.pools.items():
        yield ("pools", name), endpoints


def _endpoints(endpoints: EndpointsConfig, path: Path, decoded: Decoded) -> Iterator[Problem]:
    seen: dict[str, int] = {}
    for index, pod in enumerate(endpoints.static):
        if seen.setdefault(pod.address, index) != index:
            reason = f"{pod.address} is listed already, at static[{seen[pod.address]}]"
            yield Problem(reason, (*path, "static", index, "address"))
    names: dict[tuple[str, int | None], int] = {}
    for index, one in enumerate(endpoints.dns):
        place: Path = (*path, "dns", index)
        written = decoded.written_at(place)
        if one.type is None and one.port is None and decoded.sound((*written, "port"), (*written, "type")):
            hint = "for SRV records, add type: SRV" if one.name.startswith("_") else ""
            yield Problem("is missing: only SRV records have ports", (*place, "port"), hint=hint)
        elif one.type is not None and one.port is not None:
            reason = "cannot be set beside type: SRV, whose records have the ports"
            yield Problem(reason, (*place, "port"), hint="leave it out", at_key=True)
        key = (one.name.rstrip("."), one.port)
        if names.setdefault(key, index) != index:
            shown = one.name if one.port is None else f"{one.name}:{one.port}"
            yield Problem(f"{shown} is listed already, at dns[{names[key]}]", (*place, "name"))


def _kubernetes(found: KubernetesEndpoints | None, section: Path, decoded: Decoded) -> Iterator[Problem]:
    if found is None:
        return
    path: Path = (*section, "kubernetes")
    wanted = {"service": found.service, "selector": found.selector, "inferencePool": found.inference_pool}
    given = [key for key, value in wanted.items() if value is not None]
    if not given and decoded.sound(path):
        yield Problem(f"names no pods: give one of {', '.join(wanted)}", path)
    for key in given[1:]:
        yield Problem(f"cannot be set beside {given[0]}: one of the two says which pods", (*path, key), at_key=True)
    if found.context is not None and found.kubeconfig is None and decoded.sound((*path, "kubeconfig")):
        yield Problem("is of a kubeconfig, and none is given", (*path, "context"), at_key=True)


def _signals(endpoints: EndpointsConfig, path: Path, decoded: Decoded) -> Iterator[Problem]:
    own = (*path, "engines")
    known = tuple(dict.fromkeys((*DIALECTS, *endpoints.engines)))
    if endpoints.engine not in known and decoded.sound(own):
        reason = f'there is no engine "{shorten(endpoints.engine)}": {", ".join(known)}, or one of your own in engines'
        yield Problem(reason, (*path, "engine"), hint=nearest(endpoints.engine, known))
    for name, engine in endpoints.engines.items():
        if engine == EngineConfig() and decoded.sound((*own, name)):
            yield Problem("names no metric", (*own, name))
    timing = decoded.sound((*path, "staleAfter"), (*path, "scrape", "interval"))
    if timing and endpoints.effective_stale_after() <= endpoints.scrape.interval:
        reason = "must be longer than scrape.interval: the metrics would be stale before they are read again"
        yield Problem(reason, (*path, "staleAfter"))


def _ports(config: GatewayConfig) -> Iterator[Problem]:
    bound: list[tuple[str, int, str]] = []
    wanted: list[tuple[str, int, Path]] = [
        (config.listener.host, config.listener.port, ("listener", "port")),
        (config.admin.host, config.admin.port, ("admin", "port")),
    ]
    if not config.transport.address.startswith("unix:"):
        host, port = split_port(config.transport.address)
        wanted.append((host, port, ("transport", "address")))
    for host, port, path in wanted:
        for other, number, owner in bound:
            if port and port == number and (host == other or _any(host) or _any(other)):
                yield Problem(f"port {port} is the port of {owner} already", path)
        bound.append((host, port, ".".join(map(str, path))))


def _any(host: str) -> bool:
    return is_ip(host) and host in {"0.0.0.0", "::"}  # noqa: S104 - compared, not bound
