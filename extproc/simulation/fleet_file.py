"""A fleet from options, or from a file with more detail: pods that differ, join, leave and fail."""

from collections.abc import Mapping
from math import inf
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Field, ValidationError

from extproc.config.fields import DAY, Seconds, Section
from extproc.errors import GatewayError
from extproc.simulation import profiles
from extproc.simulation.fleet import PodPlan
from extproc.simulation.run import DISCOVERY_DELAY, FleetPlan

#: Pods of one simulation. More than a gateway is made for.
MAX_PODS = 4096

_Moment = Annotated[float, Seconds(0, 100 * DAY)]


class FleetError(GatewayError):
    """The file is wrong. `str()` names the place."""


class PodsSection(Section):
    """Pods that are alike."""

    count: int = Field(default=1, ge=1, le=MAX_PODS)
    #: Of each, with a number behind it.
    name: str = "pod"
    #: A profile's name, a file of one, or the profile itself. Left out: that of `--engine`.
    engine: str | dict[str, Any] | None = None
    #: How fast, beside the profile.
    speed: float = Field(default=1.0, gt=0, le=1000)
    labels: dict[str, str] = Field(default={})
    joins: _Moment = 0.0
    leaves: _Moment | None = None
    fails: _Moment | None = None
    returns: _Moment | None = None


class FleetSection(Section):
    """The whole file."""

    pods: list[PodsSection] = Field(min_length=1)
    #: Between a crash or a return and the moment in which discovery knows.
    discovery_delay: _Moment = DISCOVERY_DELAY


def plan_of(path: str | None, pods: int, engine: str, gateways: int, delay: float | None) -> FleetPlan:
    """The fleet.

    Args:
        path: of the file; None: `pods` that are alike.
        pods: how many, without a file.
        engine: of all that name no other.
        gateways: how many.
        delay: seconds from one gateway to another; None: they do not know of each other.

    Raises:
        FleetError, ProfileError: the file, or an engine that is named, is wrong.
    """
    if path is None:
        same = profiles.find(engine)
        plans = [PodPlan(name=f"pod-{number}", engine=same) for number in range(1, pods + 1)]
        return FleetPlan(pods=tuple(plans), gateways=gateways, delay=delay)
    section = _read(Path(path))
    plans = []
    for one in section.pods:
        for _ in range(one.count):
            plans.append(_pod(one, f"{one.name}-{len(plans) + 1}", engine, path))
    if len(plans) > MAX_PODS:
        raise FleetError(f"{path}: more than {MAX_PODS} pods")
    return FleetPlan(pods=tuple(plans), gateways=gateways, delay=delay, discovery_delay=section.discovery_delay)


def _pod(one: PodsSection, name: str, engine: str, source: str) -> PodPlan:
    if isinstance(one.engine, Mapping):
        config = profiles.own(one.engine, source)
    else:
        config = profiles.find(one.engine or engine)
    leaves, fails, returns = (inf if moment is None else moment for moment in (one.leaves, one.fails, one.returns))
    if returns < inf and not fails < returns:
        raise FleetError(f"{source}: {name} returns before it fails")
    return PodPlan(
        name=name,
        engine=profiles.at_speed(config, one.speed),
        labels=one.labels,
        joins=one.joins,
        leaves=leaves,
        fails=fails,
        returns=returns,
    )


def _read(path: Path) -> FleetSection:
    try:
        read: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise FleetError(f"{path} cannot be read: {error}") from error
    try:
        return FleetSection.model_validate(read)
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors(include_url=False)]
        raise FleetError("\n".join(f"{path}: {text}" for text in lines)) from None
