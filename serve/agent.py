"""The agent: reads the YAML anew each turn, reconciles, supervises. It keeps nothing in memory that a restart would
miss."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from types import FrameType

from configs.environment.config import DeployConfig
from configs.environment.router import RouterSettings
from configs.environment.slots import Slots
from configs.errors import ExternalError, InputError, RefusedError, TunegateError
from configs.slots import SLOTS
from infra.haproxy.servers import release_entries, server_entry
from infra.state.folder import state_folder
from infra.state.home import settle
from serve.exporter.exporter import Exporter
from serve.exporter.figures import Turn
from serve.gitops.follow import GitSync, NoGitSync
from serve.plan.action import Action, End
from serve.plan.observe import observe
from serve.plan.planner import plan
from serve.record.environment import Environment, locked
from serve.record.facts import Desired, Failed
from serve.switch.effects import perform_task
from serve.switch.loop import LOOK_SECONDS, Loop
from serve.switch.pods import PodsHealing, is_in_cluster
from serve.switch.reconcile import check_release
from serve.switch.tasks import Tasks
from serve.watch.budgets import Budgets

MOST_ACTIONS_A_TURN = 100
MOST_TASKS_AT_THE_END = 3  # that it began, that it ended, and its result
Asked = tuple[str, DeployConfig]


@dataclass
class PinCheck:
    """Of a pin, by the YAML as it is: whether it `passed`, else what was wrong; when it is `due` again (seconds,
    monotonic)."""

    asked: Asked | None = None
    passed: bool = False
    error: TunegateError | None = None
    due: float = 0.0


@dataclass
class Agent:
    """`read` gives the environment's YAML as it is now, `git` keeps it what a branch says. `complaints` is what each
    part of a turn complains of, `router_settings` those that HAProxy was last given; `is_settled`: the plan has come to
    an end."""

    env: Environment
    read: Callable[[], DeployConfig]
    git: GitSync | NoGitSync = field(default_factory=NoGitSync)
    complaints: dict[str, str] = field(default_factory=dict)
    router_settings: tuple[RouterSettings, Slots] | None = None
    pin_check: PinCheck = field(default_factory=PinCheck)
    is_settled: bool = False
    loop: Loop = field(init=False)
    checks: Tasks = field(init=False)
    exporter: Exporter = field(init=False)
    budgets: Budgets = field(init=False)
    pods: PodsHealing | None = field(init=False)

    def run(self, interval_seconds: float | None, *, once: bool = False, command: str = "agent") -> None:
        """Until SIGTERM or Ctrl-C, which touch nothing that serves. Raises BusyError where another holder is at
        work."""
        with locked(self.env, command, self.git.name) as held, self.working(held):
            if once:
                self.turn_to_end()
                return
            while True:
                self.turn()
                self.watch(interval_seconds or self.env.config.supervision.interval_seconds)

    @contextmanager
    def working(self, held: Environment) -> Iterator[None]:
        """While it holds the environment. What runs for it ends with it."""
        self.env, self.pin_check, self.budgets = held, PinCheck(), Budgets.of(held)
        self.pods = PodsHealing.of(held.config) if is_in_cluster(held.config) else None
        with (
            Tasks(held, perform_task) as tasks,
            Tasks(held, verify) as self.checks,
            closing(Exporter(held)) as self.exporter,
            closing(Loop(tasks, note=self.exporter.note)) as self.loop,
        ):
            yield

    def turn_to_end(self) -> None:
        """Whatever a later turn would take up is waited for."""
        self.git.begin()
        self.git.wait()
        self.turn()
        self.loop.prober.wait()
        while True:
            self.do(self.take_up_pin, self.reconcile)
            if self.is_settled and not self.checks.action:
                break
            self.loop.wait(LOOK_SECONDS)
        for _ in range(MOST_TASKS_AT_THE_END):
            self.do(self.write_back, self.report)
            self.git.wait()
        self.do(self.self_heal_router, self.look_at_router, self.write_back, self.report)

    def turn(self) -> None:
        """Whatever fails is reported and tried again in the next turn; a wrong YAML keeps no server from being watched
        over. Raises ExternalError where another holder has taken over."""
        self.env.record.check_token()
        began = time.monotonic()
        self.do(
            self.pull,
            self.take_up_pin,
            self.report,
            self.reconcile,
            self.self_heal_router,
            self.self_heal_pods,
            self.look_at_router,
            self.look_at_budgets,
            self.write_back,
            self.report,
        )
        failed = self.complaints.keys() - {"advance"}  # that one is a step's, which the next one may not repeat
        self.exporter.turn = Turn(time.monotonic() - began, len(failed), self.git.behind)

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
        if config != self.env.config:  # read as a hand may have changed it since the branch was pulled
            self.git.check_clean()
        if config.state_dir != self.env.config.state_dir:
            self.refuse_other_state(config)
        self.env = replace(self.env, config=config)
        state = self.env.record.state()
        wanted = state.wanted
        if config.release is None or wanted.held or config.release == wanted.pinned:
            self.checks.cancel()
            self.pin_check = PinCheck()
            return
        record, by = self.env.record, self.git.pinned_by()
        if config.release == wanted.desired and wanted.rollback:  # the pin follows a rollback
            back: Desired = {"release": config.release, "rollback": True, "pinned": True, "failed": wanted.failed}
            record.append("desired", None, **back, **by)
        elif self.is_verified((config.release, config)):
            record.append("desired", None, release=config.release, **by)

    def refuse_other_state(self, config: DeployConfig) -> None:
        """Unless it is the same folder: a YAML that no longer says where an earlier tunegate kept its state."""
        here = self.env.folder
        if config.state_dir is None:
            settle(config)
        found = state_folder(config)
        if not found.exists() or not found.samefile(here):
            raise InputError(
                f"{config.name}: state_dir changed: the state would be {found}, and is {here}",
                hint="start the agent again",
            )

    def is_verified(self, asked: Asked) -> bool:
        """Every byte and the verdict are looked at by a process of its own, for hours where they are many. Raises what
        the last look failed with, until one succeeds; what was found wrong goes on record."""
        check = self.pin_check
        if check.asked != asked:
            self.checks.cancel()
            self.pin_check = check = PinCheck(asked)
        if not check.passed and self.checks.action is None and time.monotonic() >= check.due:
            self.checks.begin(Action("verify", release=asked[0]), asked[1])
        ended = self.checks.poll()
        if ended:
            check.passed, check.error = ended.error is None, ended.error
            check.due = time.monotonic() + asked[1].supervision.interval_seconds
            if isinstance(ended.error, RefusedError | InputError):
                failed: Failed = {"release": asked[0], "why": ended.error.message}
                self.env.record.append("failed", None, **failed, **self.git.pinned_by())
        if check.error:
            raise check.error
        return check.passed

    def self_heal_router(self) -> None:
        """What a hand did to the router's maps is undone; a share that was changed the plan has restored by now."""
        state = self.env.record.state()
        if state.active is None or state.moves.swapping or state.moves.switching or not self.env.router.is_running():
            return
        if self.loop.is_moving_traffic:
            return
        releases: dict[str, str] = {}
        for slot, found in state.slots.items():
            if found:
                releases |= release_entries(slot, found.release.partition("@")[2], self.env.created(found.release))
        green = state.moves.weight if state.active == "blue" else 100 - state.moves.weight
        servers: dict[str, str] = {
            slot: server_entry(one.port, one.prefix) for slot in SLOTS if (one := self.env.process(state, slot, 0))
        }
        wanted = {"traffic.map": {"green": str(green), "paused": "0"}, "releases.map": releases, "servers.map": servers}
        healed = self.env.router.self_heal(wanted)
        healed += ["servers"] if self.env.router.heal_servers() else []
        if healed:
            self.env.report_progress(f"not as the record has it, put right: {', '.join(healed)}")

    def self_heal_pods(self) -> None:
        if self.pods is None:
            return
        self.env.check_lease()
        healed = self.pods.look(self.env, self.env.record.state(), self.loop.own_slot)
        if healed:
            self.env.report_progress(f"changed by another hand, put back: {', '.join(healed)}")

    def look_at_budgets(self) -> None:
        self.budgets.look(self.env)

    def look_at_router(self) -> None:
        """Settings that changed reach the running router, once no deploy is under way."""
        env, state = self.env, self.env.record.state()
        seen = observe(env, state)
        if (
            self.router_settings == (env.config.router, env.config.slots)
            or not seen.router_running
            or not isinstance(plan(state, env.config, seen), End)
        ):
            return
        changed = env.router.reload()
        self.router_settings = (env.config.router, env.config.slots)
        if changed:
            env.report_progress(f"the router read anew: {', '.join(changed)}")

    def reconcile(self) -> None:
        """Until there is nothing to do but to wait: for a task, or for a person. While another agent may hold the
        environment, nothing is done."""
        self.is_settled = True
        try:
            self.env.check_lease()
        except ExternalError:
            self.loop.cancel()
            raise
        for _ in range(MOST_ACTIONS_A_TURN):
            found = self.loop.advance(self.env)
            if isinstance(found, TunegateError):
                self.complain(found, "advance")
            elif isinstance(found, End) or found:
                self.is_settled = isinstance(found, End) or self.env.record.state().awaits_person is not None
                return

    def complain(self, error: TunegateError | OSError, part: str) -> None:
        """Once for each complaint, however many turns it lasts and whichever parts of a turn have it."""
        message = error.message if isinstance(error, TunegateError) else f"{type(error).__name__}: {error}"
        if message not in self.complaints.values():
            self.env.report_progress(f"error: {message}")
        self.complaints[part] = message

    def watch(self, seconds: float) -> None:
        """Between two turns: what serves is looked at several times a second. An operator's request ends it, for the
        record is longer than it was; so does a new commit."""
        path = self.env.record.path
        size, deadline = path.stat().st_size, time.monotonic() + seconds
        while time.monotonic() < deadline and path.stat().st_size == size and not self.git.has_new_commit():
            self.loop.wait(min(LOOK_SECONDS, seconds))
            self.git.begin()
            self.do(self.reconcile, *([self.take_up_pin] if self.checks.action else []))


def verify(action: Action, env: Environment) -> None:
    check_release(env.config, str(action.release))


def end_on_sigterm() -> None:
    """SIGTERM ends the agent wherever it is: what it was doing is redone by the next one, as after any other death."""

    def end(number: int, frame: FrameType | None) -> None:
        # Again in a second: the interpreter drops an exception that happens to be raised in a finalizer.
        signal.setitimer(signal.ITIMER_REAL, 1.0)
        raise SystemExit(0)

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGALRM, end)
