"""What `status` shows, as JSON: its shape is a contract with whoever reads it."""

from __future__ import annotations

from typing import Any, NotRequired, TypedDict, final

from configs.slots import SlotName
from serve.record.git_facts import Proposed


class RouterStanding(TypedDict):
    """`sends_to`: the slot that gets all new requests, if one does. `uncounted`: processes that a reload replaced and
    whose open streams are in no count; only where there are any."""

    url: str
    running: bool
    sends_to: SlotName | None
    uncounted: NotRequired[int]


class ServersStanding(TypedDict):
    """How many a slot is to have, and how many live."""

    wanted: int
    alive: int


class SlotStanding(TypedDict):
    """`weight`: percent of new requests. `first_token_ms`: p50 and p95 of the last minute, where `--watch` looks."""

    release: str | None
    server: str | None
    alive: bool
    asleep: NotRequired[bool]
    servers: ServersStanding | None
    weight: int
    proofs: list[str]
    open_streams: int
    requests: int
    first_token_ms: NotRequired[dict[str, float] | None]


class GitStanding(TypedDict):
    """The branch that the environment follows, where it stands or why it stays; the commit that pinned, who made it,
    and its merge request if known; and the one that writes a rollback back."""

    follows: str
    at: str | None
    stays_because: str | None
    commit: str | None
    author: str | None
    merge_request: dict[str, Any] | None
    rollback: Proposed | None


class Difference(TypedDict):
    """What the YAML pins does not serve. `merge_request`: the URL of the one that would write back what does."""

    pinned: str
    serves: str | None
    why: str
    merge_request: NotRequired[str | None]


class Holder(TypedDict):
    token: int
    pid: int
    host: str
    command: str
    since: str
    follows: NotRequired[str]


class EventShown(TypedDict):
    at: str
    kind: str
    slot: SlotName | None
    why: str | None


@final
class Standing(TypedDict):
    """`inconclusive`: why the watch under way cannot tell, and what follows."""

    environment: str
    state_dir: str
    router: RouterStanding
    active: SlotName | None
    desired: str | None
    git: GitStanding | None
    difference: Difference | None
    refused: str | None
    next: str
    paused: bool
    held: bool
    paged: str | None
    inconclusive: NotRequired[str]
    holder: Holder | None
    slots: dict[SlotName, SlotStanding]
    receipt: str | None
    events: list[EventShown]
