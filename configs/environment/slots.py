"""What a slot is made of."""

from __future__ import annotations

from pydantic import Field

from configs.section import Section


class Slots(Section):
    """Each of the two slots is a set of servers of one release."""

    servers: int = Field(
        1,
        ge=1,
        le=16,
        description="model servers of a slot; the router sends a request to the one with the fewest, and goes on with "
        "the others when one dies",
    )
