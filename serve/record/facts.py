"""What each kind of event says: the keys of its facts, as events.jsonl keeps them. The record is a contract: what an
older version wrote must still be read."""

from __future__ import annotations

from typing import Any, Literal, NotRequired

from typing_extensions import TypedDict

from configs.slots import SlotName
from infra.haproxy.lost import LostRequests
from infra.kubernetes.slot import PodsFacts

Mode = Literal["surge", "swap", "sleep", "adapter"]
Outcome = Literal["pass", "fail", "inconclusive"]
# The router's counters of a slot (infra.haproxy.router.Traffic), by their names.
TrafficCounts = dict[str, int]
# vLLM's counters of a slot (infra.vllm.counters.Counted), as JSON.
Counters = dict[str, Any]


class Acquired(TypedDict):
    """A command, or the agent, holds the environment from here on. `checkout`: the folder that it works in."""

    token: int
    pid: int
    boot: NotRequired[str]
    ticks: NotRequired[int]
    host: str
    command: str
    checkout: NotRequired[str]
    follows: NotRequired[str]


class Holder(Acquired):
    """The last that held the environment; it may have ended since."""

    at: str


class Desired(TypedDict):
    """A request, or with `rollback` a way back. `failed`: what is left behind for good; `pinned`: the pin asks for it
    too."""

    release: str
    rollback: NotRequired[bool]
    failed: NotRequired[str | None]
    why: NotRequired[str]
    pinned: NotRequired[bool]
    commit: NotRequired[str]
    author: NotRequired[str]


class Failed(TypedDict):
    """What the YAML pins cannot even be tried."""

    release: str
    why: str
    commit: NotRequired[str]
    author: NotRequired[str]


class ReleaseNamed(TypedDict):
    """Of `promoted` and `held`."""

    release: str
    why: NotRequired[str]


class Numbered(TypedDict):
    """One of a slot's servers, by its number from 0; the first where none is named."""

    server: NotRequired[int]


class Starting(TypedDict):
    """Of a slot that is to have so many `servers` (1 where an earlier version wrote it), the first is started; or, by
    its number from 0, one more `server` of a slot that has others."""

    release: str
    servers: NotRequired[int]
    server: NotRequired[int]


class Because(TypedDict):
    """Of `refused`, `aborted` and `paged`."""

    why: str


class Placed(TypedDict):
    """A server's GPUs, by UUID, and the share of their memory that it may take; and, if it `sleeps`, give back."""

    gpus: list[str]
    utilization: float
    sleeps: NotRequired[bool]


class Planned(TypedDict, total=False):
    """The arithmetic of memory, GiB, and how long a swap lets open streams drain. `places`: of the slot's servers, in
    order, where `slots.devices` is auto and GPUs are here."""

    release: str
    mode: Mode
    why: str
    need_gib: float
    free_gib: float
    reserve_gib: float
    leaving_gib: float
    start_seconds: float
    drain_seconds: float
    places: list[Placed]


class AdapterLimits(TypedDict):
    """What a server that was started with an adapter takes besides."""

    rank: int
    layers: list[str]


class Started(TypedDict):
    """A server (infra.boot.ProcessId); with `prefix` one that both slots live in; with `pods` the Deployment of a slot,
    and then no process. Earlier versions wrote `create_time`, seconds by the wall clock, and `room` for
    `adapter_limits`."""

    pid: NotRequired[int]
    pods: NotRequired[PodsFacts]
    server: NotRequired[int]
    boot: NotRequired[str]
    ticks: NotRequired[int]
    create_time: NotRequired[float]
    port: int
    log: NotRequired[str]
    prefix: NotRequired[str]
    adapter_limits: NotRequired[AdapterLimits]
    room: NotRequired[AdapterLimits]
    counted: NotRequired[dict[SlotName, Counters]]
    place: NotRequired[Placed]


class Proven(TypedDict):
    """Beside these, whatever the proof found. `server`: its number, 0 where none is named."""

    proof: str
    server: NotRequired[int]
    seconds: float
    counted: NotRequired[dict[SlotName, Counters]]


class Queued(TypedDict):
    """From here on new requests wait: a swap has begun."""

    release: str | None
    before: dict[SlotName, TrafficCounts]
    unanswered: NotRequired[int]
    counted: NotRequired[dict[SlotName, Counters]]


class Stepped(TypedDict):
    """`weight`: percent of new requests that the slot gets."""

    weight: int
    release: str | None
    before: dict[SlotName, TrafficCounts]
    counted: dict[SlotName, Counters]
    unanswered: NotRequired[int]


class Watched(TypedDict):
    """What a watch came to. `decided_by`: the figures that decided, in words; `accepted_by`: who let an inconclusive
    one pass."""

    outcome: NotRequired[Outcome]
    decided_by: NotRequired[str]
    accepted_by: NotRequired[str]


class Analysed(Watched):
    weight: int
    requests: int
    failed: int
    watch: list[str]


class Inconclusive(TypedDict):
    """A watch came to its end and cannot tell, which is `why`. `then`: what follows, for `seconds` at most; `pause` is
    until a person says more. In a State `accept` says that one did."""

    why: str
    then: Literal["extend", "pause", "accept"]
    seconds: NotRequired[float]


Switched = TypedDict(
    "Switched",
    {
        "from": SlotName | None,
        "from_release": str | None,
        "before": dict[SlotName, TrafficCounts],
        "counted": dict[SlotName, Counters],
        "flip_milliseconds": float,
        "flip_milliseconds_by_router": NotRequired[dict[str, float]],
        "first_request_milliseconds": float,
        "streams_open_at_switch": int,
        "unanswered": NotRequired[int],
    },
)
"""All new requests go to the slot. `before`: the router's counters at that moment, `unanswered`: of all slots."""


class Serving(TypedDict):
    slot: SlotName | None
    release: str | None


Ends = TypedDict("Ends", {"from": Serving, "to": Serving})


class Receipt(Ends, Watched):
    """Of `baked`, and of a rollback; a file of its own too (serve/record/receipt.py).

    `streams_*`: those open on the old slot at the flip; `requests_*`: since the first share that the new release
    got, `requests_unanswered` by any slot: the router's own 5xx. `lost`: those of both that got no whole answer, by
    name (not in the record); `lost_since`: after the receipt was written. `watch`, `breach`: of a bake, what the watch
    found, and what ended it; what it came to, none of an earlier tunegate."""

    at: str
    strategy: str
    capacity: Mode | None
    flip_milliseconds: float
    flip_milliseconds_by_router: NotRequired[dict[str, float]]
    first_request_milliseconds: float
    streams_open_at_switch: int
    streams_open_at_flip: dict[SlotName, int]
    streams_completed: int
    streams_left_by_client: int
    streams_cut: int
    streams_still_open: int
    longest_drain_seconds: float
    longest_queue_wait_seconds: float | None
    requests_since: int
    requests_by_release: dict[str, int]
    requests_failed: int
    requests_unanswered: NotRequired[int | None]
    seconds_watched: float
    lost: NotRequired[LostRequests]
    lost_since: NotRequired[LostRequests]
    watch: NotRequired[list[str]]
    breach: NotRequired[str]


class Stopped(TypedDict):
    """Of `slept` as well. `why`: `stop` is `tunegate stop`."""

    release: str | None
    why: str
    streams_open: NotRequired[int]
    drain_seconds: NotRequired[float]


class Woken(TypedDict):
    """`seconds` from the request to the first answer."""

    seconds: float


class Crashed(TypedDict):
    why: str
    server: NotRequired[int]
    release: str | None


class Keyed(TypedDict):
    """An API key was added, changed or revoked."""

    change: str
    name: str


class Nothing(TypedDict):
    """Of `paused`, `resumed`, and the intents `switching`, `sleeping` and `waking`."""

    why: NotRequired[str]
