"""Metrics pages, for scripts."""

from collections.abc import Mapping

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

#: (name, label values in the order of the labels' names) -> value.
Samples = Mapping[tuple[str, ...], float]


async def samples(address: str) -> Samples:
    """What `http://ADDRESS/metrics` says."""
    async with aiohttp.ClientSession() as client, client.get(f"http://{address}/metrics") as response:
        page = await response.text()
    return {
        (sample.name, *[value for _, value in sorted(sample.labels.items())]): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }


def total(page: Samples, name: str, label: str | None = None) -> float:
    """The sum over a metric's series: all, or those that have a label of this value."""
    return sum(value for key, value in page.items() if key[0] == name and (label is None or label in key[1:]))
