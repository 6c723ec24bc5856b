"""Pods from a Kubernetes API server: those behind a Service, those with labels, those of an InferencePool."""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from urllib.parse import quote

import msgspec

from extproc.discovery.base import Publish
from extproc.discovery.contact import Contact, Reason
from extproc.discovery.kubernetes.api import ApiServer
from extproc.discovery.kubernetes.credentials import Credentials
from extproc.discovery.kubernetes.objects import EndpointSlice, InferencePool, InferencePoolSpec, PodObject
from extproc.discovery.kubernetes.pods import PortRef, label_selector, pods_of, pods_of_slices
from extproc.discovery.kubernetes.reflector import Reflector, Resource
from extproc.discovery.kubernetes.store import T
from scheduler.types import Pod

log = logging.getLogger(__name__)

SERVICE_NAME_LABEL = "kubernetes.io/service-name"


class ServicePods(msgspec.Struct, frozen=True):
    """The pods behind a Service, by its EndpointSlices."""

    name: str
    #: By number (the pods', not the Service's) or name; None: the only one.
    port: PortRef | None = None
    #: Empty: that of the credentials; so everywhere here.
    namespace: str = ""


class LabelledPods(msgspec.Struct, frozen=True):
    """The pods with all of these labels."""

    labels: Mapping[str, str]
    #: Each is an endpoint of each pod.
    ports: tuple[PortRef, ...]
    namespace: str = ""


class PoolPods(msgspec.Struct, frozen=True):
    """The pods that an InferencePool selects, each of its target ports an endpoint."""

    name: str
    namespace: str = ""


class KubernetesDiscovery:
    """Pods of one of these, watched.

    `first_sync` waits for a Service or an InferencePool that is not there: a name that is mistyped must not look like
    a pool that is empty.

    Args:
        wanted: which pods.
        credentials: of the API server.
        rng: spreads watches and tries in time.
        sleep: waits between tries.
        clock: monotonic seconds.

    Raises:
        ValueError: the labels select nothing, or everything.
    """

    def __init__(
        self,
        wanted: ServicePods | LabelledPods | PoolPods,
        credentials: Credentials,
        *,
        rng: random.Random,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if isinstance(wanted, LabelledPods):
            label_selector(wanted.labels)
        self._wanted = wanted
        self._credentials = credentials
        self._namespace = wanted.namespace or credentials.cluster.namespace
        self._rng = rng
        self._sleep = sleep
        self._clock = clock
        self._published: list[Pod] | None = None
        #: One per watched resource that names the pods; for a pool: the pool, then the pods that the pool selects.
        self._contacts = [Contact(f"kubernetes {self._what()}", clock)]
        if isinstance(wanted, PoolPods):
            self._contacts.append(Contact(f"kubernetes pods of {self._what()}", clock))
        self.first_sync = asyncio.Event()

    @property
    def contacts(self) -> Sequence[Contact]:
        return self._contacts

    def _what(self) -> str:
        wanted, namespace = self._wanted, self._namespace
        if isinstance(wanted, ServicePods):
            return f"EndpointSlices of {namespace}/{wanted.name}"
        if isinstance(wanted, LabelledPods):
            return f"pods {label_selector(wanted.labels)} in {namespace}"
        return f"InferencePool {namespace}/{wanted.name}"

    async def run(self, publish: Publish) -> None:
        # The subscriber may have lost the pods that an earlier run published.
        self._published = None
        async with ApiServer(self._credentials) as api:
            if isinstance(self._wanted, ServicePods):
                await self._service(self._wanted, api, publish)
            elif isinstance(self._wanted, LabelledPods):
                await self._labelled(self._wanted.labels, self._wanted.ports, api, publish)
            else:
                await self._pool(self._wanted, api, publish)

    async def _service(self, wanted: ServicePods, api: ApiServer, publish: Publish) -> None:
        def changed() -> None:
            # The controller keeps a slice for a Service without pods, too.
            if not slices.store.objects and not self.first_sync.is_set():
                missing = f"there is no Service {self._namespace}/{wanted.name}, or no EndpointSlice for it"
                slices.judge((Reason.NOT_FOUND, missing))
                return
            lacking: list[str] = []
            pods = pods_of_slices(slices.store.objects, wanted.port, lacking.append)
            slices.judge((Reason.BAD_ANSWER, min(lacking)) if lacking else None)
            self._set(pods, publish)

        resource = Resource(
            name=self._what(),
            path=self._path("/apis/discovery.k8s.io/v1", "endpointslices"),
            parameters={"labelSelector": f"{SERVICE_NAME_LABEL}={wanted.name}"},
        )
        slices = self._reflector(api, resource, EndpointSlice, changed, self._contacts[0])
        await slices.run()

    async def _labelled(
        self, labels: Mapping[str, str], ports: Sequence[PortRef], api: ApiServer, publish: Publish
    ) -> None:
        def changed() -> None:
            self._set(pods_of(pods.store.objects, ports), publish)

        selector = label_selector(labels)
        resource = Resource(
            name=f"pods {selector} in {self._namespace}",
            path=self._path("/api/v1", "pods"),
            parameters={"labelSelector": selector},
        )
        pods = self._reflector(api, resource, PodObject, changed, self._contacts[-1])
        await pods.run()

    async def _pool(self, wanted: PoolPods, api: ApiServer, publish: Publish) -> None:
        changed = asyncio.Event()
        resource = Resource(
            name=self._what(),
            path=self._path("/apis/inference.networking.k8s.io/v1", "inferencepools"),
            parameters={"fieldSelector": f"metadata.name={wanted.name}"},
            missing="the kind InferencePool of inference.networking.k8s.io/v1 is not installed in this cluster",
        )
        pools = self._reflector(api, resource, InferencePool, changed.set, self._contacts[0])
        followed: InferencePoolSpec | None = None
        following: asyncio.Task[None] | None = None
        async with asyncio.TaskGroup() as group:
            group.create_task(pools.run())
            while True:
                await changed.wait()
                changed.clear()
                spec = next((pool.spec for pool in pools.store.objects), None)
                objection = (Reason.NOT_FOUND, f"there is no {resource.name}") if spec is None else None
                if spec is not None:
                    try:
                        label_selector(spec.selector.match_labels)
                    except ValueError as error:
                        objection = Reason.BAD_ANSWER, f"selector of {resource.name}: {error}"
                pools.judge(objection)
                if spec == followed or (spec is not None and objection is not None):
                    continue
                if following is not None:
                    following.cancel()
                    await asyncio.wait([following])
                    following = None
                followed = spec
                if spec is None:
                    self._set([], publish)
                else:
                    # What the last selector found stays published until this one has an answer.
                    ports = [port.number for port in spec.target_ports]
                    follower = self._labelled(spec.selector.match_labels, ports, api, publish)
                    following = group.create_task(follower)

    def _path(self, api: str, resource: str) -> str:
        return f"{api}/namespaces/{quote(self._namespace, safe='')}/{resource}"

    def _reflector(
        self, api: ApiServer, resource: Resource, kind: type[T], changed: Callable[[], None], contact: Contact
    ) -> Reflector[T]:
        return Reflector(
            api, resource, kind, changed, rng=self._rng, contact=contact, sleep=self._sleep, clock=self._clock
        )

    def _set(self, pods: list[Pod], publish: Publish) -> None:
        if pods != self._published:
            self._published = pods
            publish(pods)
        self.first_sync.set()
