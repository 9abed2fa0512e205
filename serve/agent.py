"""The agent: reads the YAML anew each turn, reconciles, supervises. It keeps nothing in memory that a restart would
miss."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import FrameType

from configs.environment.config import DeployConfig
from configs.environment.router import RouterSettings
from configs.errors import InputError, RefusedError, TunegateError
from configs.slots import SLOTS, SlotName
from infra.haproxy.router import server_entry
from serve.gitops.follow import GitSync, NoGitSync
from serve.plan.action import End
from serve.plan.observe import observe
from serve.plan.planner import plan
from serve.record.environment import Environment, locked
from serve.record.facts import Desired, Failed
from serve.record.state import State
from serve.switch.reconcile import attempt, check_release
from serve.watch.liveness import Liveness

WAKE_SECONDS = 0.1
MOST_ACTIONS_A_TURN = 100
MOST_TASKS_AT_THE_END = 3  # that it began, that it ended, and its result


@dataclass
class Agent:
    """`read` gives the environment's YAML as it is now, `git` keeps it what a branch says. `complaints` is what each
    part of a turn complains of, `router_settings` those that HAProxy was last given."""

    env: Environment
    read: Callable[[], DeployConfig]
    git: GitSync | NoGitSync = field(default_factory=NoGitSync)
    liveness: Liveness = field(default_factory=Liveness)
    complaints: dict[str, str] = field(default_factory=dict)
    router_settings: RouterSettings | None = None

    def run(self, interval_seconds: float | None, *, once: bool) -> None:
        """Until SIGTERM or Ctrl-C, which touch nothing that serves. Raises BusyError where another holder is at
        work."""
        with locked(self.env, "agent", self.git.name) as held:
            self.env = held
            if once:
                self.turn_once()
                return
            while True:
                self.turn()
                self.sleep(interval_seconds or self.env.config.supervision.interval_seconds)

    def turn_once(self) -> None:
        """The results that a later turn would take are waited for."""
        self.git.begin()
        self.git.wait()
        self.turn()
        for _ in range(MOST_TASKS_AT_THE_END):
            self.git.wait()
            self.do(self.write_back, self.report)

    def turn(self) -> None:
        """Whatever fails is reported and tried again in the next turn; a wrong YAML keeps no server from being watched
        over. Raises ExternalError where another holder has taken over."""
        self.env.record.check_token()
        self.do(
            self.pull,
            self.take_up_pin,
            self.report,
            self.reconcile,
            self.self_heal_router,
            self.look_at_router,
            self.write_back,
            self.report,
        )

    def do(self, *parts: Callable[[], None]) -> None:
        for part in parts:
            try:
                part()
            except (TunegateError, OSError) as error:
                self.complain(error, part.__name__)
            else:
                self.complaints.pop(part.__name__, None)

    def pull(self) -> None:
        self.git.pull(self.env)

    def write_back(self) -> None:
        self.git.write_back(self.env)

    def report(self) -> None:
        self.git.report(self.env)

    def take_up_pin(self) -> None:
        """A YAML that is wrong changes nothing; nor does one that moves the record: that is another environment."""
        self.git.check()
        config = self.read()
        if config.state_dir != self.env.config.state_dir:
            raise InputError(
                f"{config.name}: state_dir changed from {self.env.config.state_dir} to {config.state_dir}",
                hint="start the agent again",
            )
        self.env = replace(self.env, config=config)
        state = self.env.record.state()
        wanted = state.wanted
        if config.release is None or wanted.held or config.release == wanted.pinned:
            return
        record, by = self.env.record, self.git.pinned_by()
        if config.release == wanted.desired and wanted.rollback:  # the pin follows a rollback
            back: Desired = {"release": config.release, "rollback": True, "pinned": True, "failed": wanted.failed}
            record.append("desired", None, **back, **by)
            return
        try:
            check_release(config, config.release)
        except (RefusedError, InputError) as error:
            failed: Failed = {"release": config.release, "why": error.message}
            record.append("failed", None, **failed, **by)
            raise
        record.append("desired", None, release=config.release, **by)

    def self_heal_router(self) -> None:
        """What a hand did to the router's maps is undone; a share that was changed the plan has restored by now."""
        state = self.env.record.state()
        if state.active is None or state.moves.swapping or state.moves.switching or not self.env.router.is_running():
            return
        digests: dict[str, str] = {
            slot: found.release.partition("@")[2] for slot, found in state.slots.items() if found
        }
        green = state.moves.weight if state.active == "blue" else 100 - state.moves.weight
        servers: dict[str, str] = {
            slot: server_entry(one.port, one.prefix) for slot in SLOTS if (one := self.env.process(state, slot))
        }
        wanted = {"traffic.map": {"green": str(green), "paused": "0"}, "releases.map": digests, "servers.map": servers}
        healed = self.env.router.self_heal(wanted)
        if healed:
            self.env.report_progress(f"changed by hand, as it was again: {', '.join(healed)}")

    def look_at_router(self) -> None:
        """Settings that changed reach the running router, once no deploy is under way: a reload begins its counters
        anew."""
        env, state = self.env, self.env.record.state()
        seen = observe(env, state)
        if (
            self.router_settings == env.config.router
            or not seen.router_running
            or not isinstance(plan(state, env.config, seen), End)
        ):
            return
        changed = env.router.reload()
        self.router_settings = env.config.router
        if changed:
            env.report_progress(f"the router read anew: {', '.join(changed)}")

    def reconcile(self) -> None:
        """Until nothing is left to do now. A probe of what serves comes first, or a hung server would never be
        missed."""
        hung = self.probe(self.env.record.state())
        for _ in range(MOST_ACTIONS_A_TURN):
            state = self.env.record.state()
            found = plan(state, self.env.config, observe(self.env, state, hung))
            if isinstance(found, End):
                return
            hung = frozenset() if found.kind in ("crashed", "start") else hung
            failure = attempt(self.env, state, found)
            if failure:
                self.complain(failure, "attempt")

    def probe(self, state: State) -> frozenset[SlotName]:
        """The slots that accept and do not answer: of those under traffic and the warm one, which a rollback trusts."""
        trusted = [
            slot
            for slot, found in state.slots.items()
            if found and (slot == state.active or found.is_proven or (slot == state.candidate and state.moves.weight))
        ]
        return self.liveness.hung(self.env, state, trusted)

    def complain(self, error: TunegateError | OSError, part: str) -> None:
        """Once for each complaint, however many turns it lasts and whichever parts of a turn have it."""
        message = error.message if isinstance(error, TunegateError) else f"{type(error).__name__}: {error}"
        if message not in self.complaints.values():
            self.env.report_progress(f"error: {message}")
        self.complaints[part] = message

    def sleep(self, seconds: float) -> None:
        """An operator's request wakes it, for the record is longer than it was; so does a new commit."""
        path = self.env.record.path
        size, deadline = path.stat().st_size, time.monotonic() + seconds
        while time.monotonic() < deadline and path.stat().st_size == size and not self.git.has_new_commit():
            time.sleep(min(WAKE_SECONDS, seconds))
            self.git.begin()


def end_on_sigterm() -> None:
    """SIGTERM ends the agent wherever it is: what it was doing is redone by the next one, as after any other death."""

    def end(number: int, frame: FrameType | None) -> None:
        # Again in a second: the interpreter drops an exception that happens to be raised in a finalizer.
        signal.setitimer(signal.ITIMER_REAL, 1.0)
        raise SystemExit(0)

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGALRM, end)
