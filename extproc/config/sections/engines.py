"""Which fields of clients' requests go on to engines."""

from typing import Literal

from pydantic import Field

from extproc.config.fields import Section


class EnginesConfig(Section):
    """What goes on to engines of what clients say."""

    controls: Literal["refuse", "allow"] = Field(
        default="refuse",
        description="Whether bodies may have fields that steer engines, such as where a KV cache comes from."
        " refuse: they get a 400 that names the field.",
    )
