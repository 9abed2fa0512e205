"""Names and labels of all that is ours in a namespace, by which we find it again."""

from __future__ import annotations

from typing import Literal

from configs.environment.config import DeployConfig
from configs.slots import SlotName

Part = Literal["server", "router", "agent"]
DOMAIN = "tunegate.dev"
ENVIRONMENT, SLOT, PART, RELEASE = (f"{DOMAIN}/{key}" for key in ("environment", "slot", "part", "release"))
LONGEST_LABEL = 63  # of a label's value, and of a name that is a label of DNS
DIGITS_IN_NAME = 10


def labels_of(
    config: DeployConfig, part: Part | None = None, slot: SlotName | None = None, digest: str | None = None
) -> dict[str, str]:
    """What is not stated is not in it: as a selector that is all of them."""
    found = {"app.kubernetes.io/name": "tunegate", "app.kubernetes.io/managed-by": "tunegate", ENVIRONMENT: config.name}
    found |= {PART: part} if part else {}
    found |= {SLOT: slot} if slot else {}
    return found | ({RELEASE: hex_of(digest)[:LONGEST_LABEL]} if digest else {})


def slot_name(config: DeployConfig, slot: SlotName, digest: str) -> str:
    """Of a slot's Deployment, Service and budget: another release is another name. 57 characters at most."""
    return f"{config.name}-{slot}-{hex_of(digest)[:DIGITS_IN_NAME]}"


def hex_of(digest: str) -> str:
    return digest.rpartition(":")[2]
