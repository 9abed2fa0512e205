"""The agent: reads the YAML anew each turn, reconciles, supervises. It keeps nothing in memory that a restart would miss."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import FrameType

from configs.deploy import DeployConfig
from configs.door import Door
from configs.errors import InputError, RefusedError, TunegateError
from infra.router import SLOTS, SlotName
from serve.deploy import attempt, check_release
from serve.environment import Environment, locked
from serve.liveness import Liveness
from serve.planner import ENDS, plan
from serve.state import State

WAKE_SECONDS = 0.1
MOST_ACTIONS_A_TURN = 100


@dataclass
class Agent:
    """`read` gives the environment's wishes as they are now; `said` is the last complaint, `door` the settings that HAProxy was last told."""

    env: Environment
    read: Callable[[], DeployConfig]
    liveness: Liveness = field(default_factory=Liveness)
    said: str = ""
    door: Door | None = None

    def run(self, interval_seconds: float | None, *, once: bool) -> None:
        """Until SIGTERM or Ctrl-C, which touch nothing that serves. Raises BusyError where another holder is at work."""
        with locked(self.env, "agent") as held:
            self.env = held
            while True:
                self.turn()
                if once:
                    return
                self.sleep(interval_seconds or self.env.config.supervision.interval_seconds)

    def turn(self) -> None:
        """Whatever fails is told and tried again in the next turn; a wrong YAML keeps no server from being watched over. Raises OutsideError
        where another holder has taken over."""
        self.env.record.check_token()
        for part in (self.look_at_wishes, self.reconcile, self.look_at_door):
            try:
                part()
            except (TunegateError, OSError) as error:
                self.complain(error)

    def look_at_wishes(self) -> None:
        """A YAML that is wrong changes nothing; nor does one that moves the record: that is another environment."""
        config = self.read()
        if config.state_dir != self.env.config.state_dir:
            raise InputError(f"{config.name}: state_dir changed from {self.env.config.state_dir} to {config.state_dir}", hint="start the agent again")
        self.env = replace(self.env, config=config)
        state = self.env.record.state()
        if config.release is None or state.held or config.release == state.pinned:
            return
        if config.release == state.desired and state.rollback:  # the pin follows a rollback
            self.env.record.append("desired", release=config.release, rollback=True, pinned=True, failed=state.failed)
            return
        try:
            check_release(config.release)
        except (RefusedError, InputError) as error:
            self.env.record.append("failed", release=config.release, why=error.message)
            raise
        self.env.record.append("desired", release=config.release)

    def look_at_door(self) -> None:
        """Settings that changed reach the open door, once no deploy is under way: a reload begins its counters anew."""
        env, state = self.env, self.env.record.state()
        seen = env.observe(state)
        if self.door == env.config.door or not seen.door_open or plan(state, env.config, seen).kind not in ENDS:
            return
        changed = env.router.reload()
        self.door = env.config.door
        if changed:
            env.tell(f"the door read anew: {', '.join(changed)}")

    def reconcile(self) -> None:
        """Until nothing is left to do now. A probe of what serves comes first, or a hung server would never be missed."""
        hung = self.probe(self.env.record.state())
        for _ in range(MOST_ACTIONS_A_TURN):
            state = self.env.record.state()
            action = plan(state, self.env.config, self.env.observe(state, hung))
            if action.kind in ENDS:
                return
            hung = frozenset() if action.kind in ("crashed", "start") else hung
            failure = attempt(self.env, state, action)
            if failure:
                self.complain(failure)

    def probe(self, state: State) -> frozenset[SlotName]:
        """The slots under traffic that accept and do not answer."""
        serving = [slot for slot in SLOTS if state.slots[slot] and (slot == state.active or (slot == state.candidate and state.weight))]
        return self.liveness.hung(self.env, state, serving)

    def complain(self, error: TunegateError | OSError) -> None:
        """Once for each complaint, however many turns it lasts."""
        message = error.message if isinstance(error, TunegateError) else f"{type(error).__name__}: {error}"
        if message == self.said:
            return
        self.said = message
        self.env.tell(f"error: {message}")

    def sleep(self, seconds: float) -> None:
        """An operator's wish wakes it: the record is longer than it was."""
        path = self.env.record.path
        size, deadline = path.stat().st_size, time.monotonic() + seconds
        while time.monotonic() < deadline and path.stat().st_size == size:
            time.sleep(min(WAKE_SECONDS, seconds))


def end_on_sigterm() -> None:
    """SIGTERM ends the agent wherever it is: what it was doing is redone by the next one, as after any other death."""

    def end(number: int, frame: FrameType | None) -> None:
        # Again in a second: the interpreter drops an exception that happens to be raised in a finalizer.
        signal.setitimer(signal.ITIMER_REAL, 1.0)
        raise SystemExit(0)

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGALRM, end)
