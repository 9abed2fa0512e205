"""Does a server still answer? That its process lives and its port accepts proves nothing."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Collection
from dataclasses import dataclass, field

from configs.errors import RefusedError
from configs.release import read_manifest
from configs.slots import SLOTS, SlotName
from infra.dvc.releases import folder_of
from infra.vllm.counters import read_progress
from serve.record.environment import Environment
from serve.record.state import State


@dataclass
class Liveness:
    """`misses`: unanswered probes in a row; `progress`: how far each server had got at the last look, which was at
    `looked` (seconds, monotonic). Who gets on with its users' requests needs no probe."""

    misses: dict[SlotName, int] = field(default_factory=lambda: dict.fromkeys(SLOTS, 0))
    progress: dict[SlotName, int | None] = field(default_factory=lambda: dict.fromkeys(SLOTS))
    looked: float = field(default_factory=time.monotonic)

    def hung(self, env: Environment, state: State, serving: Collection[SlotName]) -> frozenset[SlotName]:
        """Those of `serving` that accept a real, tiny request and do not answer it, `probe_failures` times in a row."""
        alive = env.alive(state)
        for slot in SLOTS:
            here = slot in serving and slot in alive
            self.misses[slot] = (
                self.misses[slot] + 1
                if here and not (self.gets_on(env, state, slot) or answers(env, state, slot))
                else 0
            )
        return frozenset(slot for slot in SLOTS if self.misses[slot] >= env.config.supervision.probe_failures)

    def check(self, env: Environment, state: State, slot: SlotName) -> None:
        """While a release is watched under traffic: no oftener than the agent would look. Raises RefusedError where it
        accepts and does not answer."""
        if time.monotonic() - self.looked < env.config.supervision.interval_seconds:
            return
        if slot in self.hung(env, state, [slot]):
            raise RefusedError(
                f"{state.wanted.desired}: under traffic it accepts requests and does not answer",
                hint=f"less {env.folder}/{slot}.log",
            )
        self.looked = time.monotonic()

    def gets_on(self, env: Environment, state: State, slot: SlotName) -> bool:
        """Of a server that both slots live in nobody can tell whose requests it counts."""
        if env.is_shared(state, slot):
            return False
        before = self.progress[slot]
        now = self.progress[slot] = read_progress(env.server_url(state, slot))
        return before is not None and now is not None and now > before


def answers(env: Environment, state: State, slot: SlotName) -> bool:
    """One golden prompt, one token. A server that still starts is not asked; one that answers with an error is alive,
    and the bake's business."""
    import httpx

    from infra.vllm.client import request_of

    found, process = state.slots[slot], env.process(state, slot)
    if found is None or process is None or "healthy" not in found.proofs:
        return True
    directory = folder_of(found.release) / "release"
    line = json.loads((directory / "golden.jsonl").open(encoding="utf8").readline())
    path, body = request_of(env.config.model, read_manifest(directory).task, line, 1)

    async def post() -> bool:
        async with httpx.AsyncClient(timeout=None, verify=False) as client:
            await asyncio.wait_for(
                client.post(f"{process.base_url}{path}", json=body), env.config.supervision.probe_timeout_seconds
            )
        return True

    try:
        return asyncio.run(post())
    except (httpx.HTTPError, TimeoutError):
        return False
