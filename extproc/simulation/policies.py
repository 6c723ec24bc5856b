"""Configurations by name, to be compared with one's own."""

from collections.abc import Mapping
from typing import NamedTuple


class Policy(NamedTuple):
    """A configuration of the gateway, and what it stands for."""

    text: str
    about: str


def _alone(scorer: str) -> str:
    return f"scheduler: {{plugins: {{Filter: {{enabled: []}}, Score: {{enabled: [{{name: '{scorer}'}}]}}}}}}"


#: By name. All but the first three stand for other gateways.
POLICIES: Mapping[str, Policy] = {
    "default": Policy("{}", "this gateway without a `scheduler` section"),
    "least-cost": Policy(
        """
        scheduler:
          plugins: {Filter: {enabled: []}, Score: {enabled: [{name: least-cost}]}}
        """,
        "least-cost alone",
    ),
    "page": Policy(
        """
        scheduler:
          plugins:
            Filter: {enabled: [least-request]}
            Score: {enabled: [{name: least-request, weight: 1}, {name: kv-cache, weight: 1},
                              {name: least-latency, weight: 1}, {name: prefix-cache, weight: 1}]}
        """,
        "the weights of the configuration page's example",
    ),
    "sticky": Policy(
        """
        scheduler:
          plugins:
            Filter: {enabled: [prefix-affinity]}
            Score: {enabled: [{name: token-load}]}
        """,
        "prefix-affinity and token-load: on its pod until that is saturated",
    ),
    "random": Policy(_alone("random"), "a pod by chance"),
    "least-request": Policy(
        _alone("extproc.simulation.peers:LeastInFlight"),
        "the pod with the fewest requests in flight, as Envoy's and most gateways' LEAST_REQUEST",
    ),
    "reference": Policy(
        """
        scheduler:
          pluginConfig:
          - {name: prefix-cache, args: {blockSizeToHash: 256, maxBlocksToMatch: 2048, maxHashCacheSize: 31250}}
          plugins:
            Filter: {enabled: []}
            Score: {enabled: [{name: queue, weight: 2}, {name: kv-cache, weight: 2}, {name: prefix-cache, weight: 3}]}
        """,
        "the reference endpoint picker's weights: queue 2, KV cache 2, prefix 3, blocks of 64 tokens",
    ),
    "smg": Policy(
        _alone("extproc.simulation.peers:CacheAware"),
        "smg's cache_aware with its gates",
    ),
    "dynamo": Policy(
        _alone("extproc.simulation.peers:Dynamo"),
        "Dynamo's cost without KV events",
    ),
}
