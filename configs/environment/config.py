"""DeployConfig: one environment. Git pins the release here; a deployment is a commit that changes it."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, PrivateAttr, model_validator

from configs.environment.load_test import LoadTest
from configs.environment.placement import DNS_LABEL, Kubernetes, Local, Placement
from configs.environment.router import RouterSettings
from configs.environment.sampling import Sampling, Shadow
from configs.environment.signing import Signing
from configs.environment.slots import Slots
from configs.environment.strategy import BlueGreen, Capacity, Strategy, Supervision
from configs.environment.tracing import Tracing
from configs.environment.watch import Watch
from configs.release import REFERENCE_PATTERN
from configs.section import NAME_PATTERN, ExistingPath, FolderPath, Section
from configs.slots import SLOTS, SlotName


class DeployConfig(Section):
    """One environment: which release serves, where, and how a switch is proven."""

    name: str = Field(pattern=NAME_PATTERN)
    model: str = Field(
        min_length=1,
        pattern=r"^[^\x00-\x1f\x7f]+$",
        description="the model name that applications use; stable across releases",
    )
    release: str | None = Field(None, pattern=REFERENCE_PATTERN, description="NAME@sha256:DIGEST, or null")
    signing: Signing | None = Field(
        None, description="the key whose signature a release must bear; null: none is asked for"
    )
    router: RouterSettings = RouterSettings()
    router_of: str | None = Field(
        None,
        pattern=NAME_PATTERN,
        description="the environment whose router this one's model is behind, beside that one's; null: its own router",
    )
    slot_ports: tuple[int, int] = Field((8101, 8102), description="blue, green; loopback only")
    slots: Slots = Slots()
    placement: Placement = Field(Local(), description="processes of this machine, or pods: see docs/kubernetes.md")
    strategy: Strategy = BlueGreen()
    promotion: Literal["auto", "manual"] = Field(
        "auto", description="manual: `tunegate promote` lets the proven release take all requests"
    )
    capacity: Capacity = Field(
        "auto",
        description="auto: both servers at once where memory allows, else one asleep while the other serves (on GPUs), "
        "else swap; adapter: into the server that runs",
    )
    supervision: Supervision = Supervision()
    load_test: LoadTest = LoadTest()
    smoke: ExistingPath | None = Field(
        None, description="requests of the application's own that green must answer: see docs/operator.md"
    )
    watch: Watch = Watch()
    sampling: Sampling = Sampling()
    tracing: Tracing | None = Field(None, description="where model servers send a trace of each request; null: nowhere")
    shadow: Shadow | None = Field(None, description="how sampled requests are compared on the new release")
    release_gate: ExistingPath | None = Field(
        None,
        description="the gate file that its releases are judged by, whatever a run's YAML says; "
        "null: no release that has not served here before is let in",
    )
    staging_for: str | None = Field(
        None,
        pattern=NAME_PATTERN,
        description="the environment whose releases serve here first: a verdict for that one holds here",
    )
    gate: ExistingPath | None = Field("configs/gates/load.yaml", description="load rules that green must pass")
    start_timeout_seconds: int | None = Field(
        None,
        ge=10,
        description="until a server is healthy; null: by its release's bytes and the last start here, 300 at least",
    )
    bake_seconds: int = Field(15, ge=0, description="watch green under traffic before blue may retire")
    drain_deadline_seconds: int = Field(120, ge=1, description="blue's open streams get this long")
    keep_old_slot: bool = Field(True, description="leave the old slot warm for instant rollback")
    state_dir: FolderPath | None = Field(
        None,
        description="record, keys, logs, sockets: a folder of the checkout, or an absolute path; "
        "null: the environment's own, outside of every checkout (docs/operator.md, Where things lie)",
    )

    _host: DeployConfig | None = PrivateAttr(None)

    @property
    def host(self) -> DeployConfig:
        """Whose router it is: its own, or that of the environment that `router_of` names."""
        return self._host or self

    def behind(self, host: DeployConfig) -> DeployConfig:
        """With the router of another environment, which `router_of` names."""
        found = self.model_copy(update={"router": host.router})
        found._host = host
        return found

    @model_validator(mode="after")
    def one_router(self) -> DeployConfig:
        if self.router_of is not None and "router" in self.model_fields_set:
            raise ValueError("router or router_of: a router of its own, or another environment's")
        if self.router_of == self.name:
            raise ValueError("router_of another environment")
        return self

    @model_validator(mode="after")
    def one_environment_judges(self) -> DeployConfig:
        if self.staging_for is not None and self.release_gate is not None:
            raise ValueError(
                "release_gate or staging_for: the gate of staging is that of the environment it goes before"
            )
        if self.staging_for == self.name:
            raise ValueError("staging_for another environment")
        return self

    def ports_of(self, slot: SlotName) -> tuple[int, ...]:
        """One for each of its servers: from the slot's own every second one, so that 8101 and 8102 leave room for each
        other."""
        first = self.slot_ports[SLOTS.index(slot)]
        return tuple(first + 2 * number for number in range(self.slots.servers))

    @model_validator(mode="after")
    def servers_can_be_shared(self) -> DeployConfig:
        if self.capacity == "adapter" and self.slots.servers > 1:
            raise ValueError("slots.servers 1 with capacity adapter: an adapter is loaded into one server")
        return self

    @model_validator(mode="after")
    def pods_can_be_placed(self) -> DeployConfig:
        if not isinstance(self.placement, Kubernetes):
            return self
        wrong = {
            "a name of at most 40 letters, digits and -, the first a letter": (
                not re.match(DNS_LABEL, self.name) or len(self.name) > 40 or not self.name[0].isalpha()
            ),
            "placement.replicas in the place of slots": self.slots != Slots(),
            "capacity auto: pods of both slots run at once": self.capacity != "auto",
            "a router of its own": self.router_of is not None,
            "no sampling: what pods would write is lost with them": self.sampling.share > 0,
            "keep_old_slot false with placement.replicas 0: an idle slot's callers would get the old release": (
                self.placement.replicas == 0 and self.keep_old_slot
            ),
            "supervision.metrics_port with placement.max_replicas: an autoscaler asks the agent there": (
                self.placement.max_replicas is not None and self.supervision.metrics_port is None
            ),
        }
        if any(wrong.values()):
            expected = "; ".join(expected for expected, is_so in wrong.items() if is_so)
            raise ValueError(f"{expected}, with placement.kind kubernetes")
        return self

    @model_validator(mode="after")
    def shares_can_be_watched(self) -> DeployConfig:
        if self.capacity == "adapter" and self.strategy.kind == "canary":
            raise ValueError(
                "strategy.kind blue-green or shadow with capacity adapter: "
                "vLLM counts the adapters of one server together"
            )
        return self
