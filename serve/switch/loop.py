"""One environment brought to its plan: looked at several times a second, whatever is under way."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field

from configs.environment.config import DeployConfig
from configs.environment.strategy import Canary, ShadowFirst
from configs.errors import ExternalError, RefusedError, TunegateError, UnreachableError
from configs.slots import SlotName
from infra.state.start_time import LONGEST_SECONDS
from infra.terminal import waiting
from serve.plan.action import Action, End
from serve.plan.interrupt import SHORT, WATCHES, is_called_off, more_urgent
from serve.plan.observe import observe
from serve.plan.planner import plan
from serve.plan.situation import Observed, Situation
from serve.record.environment import Environment
from serve.record.state import State
from serve.switch.effects import perform
from serve.switch.failure import answer_failure
from serve.switch.tasks import Ended, LostError, Tasks
from serve.watch.prober import Prober

LOOK_SECONDS = 0.1  # between two looks while something is under way, or waited for
MOST_LOST = 3
RETRY_SECONDS = 2.0
SWITCH_SECONDS = 60
MOVES_SERVERS = ("start", "stop", "sleep", "wake")


@dataclass
class Loop:
    """Short actions are done here, long ones are `tasks`. `begun`: what was so when the present one began; `lost`: how
    often each was killed from outside, in a row; `retry_at` (seconds, monotonic): before that no task is begun, for
    what it needs did not answer; `note`: is told at each look what is so, and the step in hand."""

    tasks: Tasks
    prober: Prober = field(default_factory=Prober)
    begun: State | None = None
    lost: dict[Action, int] = field(default_factory=dict)
    retry_at: float = 0.0
    told: ExitStack = field(default_factory=ExitStack)
    note: Callable[[Situation, Action | End], None] = lambda situation, step: None

    def advance(self, env: Environment) -> End | TunegateError | float:
        """One look and at most one thing done: the plan's end, what went wrong, or the seconds until the next look.

        Raises what neither the plan nor a person's request can mend.
        """
        ended = self.tasks.poll()
        if ended:
            return self.take(env, ended)
        state, seen = self.look(env)
        found = self.tasks.action or plan(state, env.config, seen)
        self.note(Situation(state, env.config, seen), found)
        if self.tasks.action is None:
            if time.monotonic() < self.retry_at and isinstance(found, Action) and found.kind not in SHORT:
                return LOOK_SECONDS
            return found if isinstance(found, End) else self.do(env, state, found)
        if is_called_off(self.begun or state, state):
            self.cancel()
            return 0.0
        if is_overdue(self.tasks.action, self.tasks.seconds, state, env.config):
            return self.take(env, self.overdue(env))
        urgent = more_urgent(self.tasks.action, state, env.config, seen)
        if urgent is None:
            return LOOK_SECONDS
        if urgent.kind not in SHORT:
            self.cancel()
        return self.do(env, state, urgent)

    def look(self, env: Environment) -> tuple[State, Observed]:
        """What is on record and what is seen, of one moment: a task writes its record while the world is looked at."""
        while True:
            state = env.record.state()
            trusted = [slot for slot in trusted_slots(state) if slot != self.own_slot]
            self.prober.begin(env, state, trusted)
            hung = frozenset(server for server in self.prober.found(state) if server[0] in trusted)
            seen = observe(env, state, hung)
            if env.record.state() is state:
                task = self.tasks.action
                leaving = task.slot if task and task.kind in MOVES_SERVERS else None
                name_standbys(env, state, seen, leaving)
                return state, seen

    @property
    def own_slot(self) -> SlotName | None:
        return self.tasks.action.slot if self.tasks.action else None

    def do(self, env: Environment, state: State, action: Action) -> TunegateError | float:
        if action.kind == "wait":
            return min(action.seconds, LOOK_SECONDS)
        env.record.check_token()
        if action.kind not in SHORT:
            usual = state.proof_seconds.get(action.proof) if action.proof else None
            self.told.enter_context(waiting(words(action), usual))
            self.begun = state
            self.tasks.begin(action, env.config)
            return 0.0
        try:
            perform(action, env, state)
        except TunegateError as error:
            return answer_failure(env, state, action, error) or 0.0
        except OSError as error:
            outside = ExternalError(f"{action.kind}: {error}", hint=f"df -h {env.folder}")
            return answer_failure(env, state, action, outside) or 0.0
        if action.kind == "fall_back":
            return RefusedError(
                f"{state.release_of(action.slot)}: {action.why}", hint=f"tunegate status {env.config.name}"
            )
        return 0.0

    def take(self, env: Environment, ended: Ended) -> TunegateError | float:
        """What the end of a task means. One that was killed from outside begins again, twice."""
        self.told.close()
        action, error, state = ended.action, ended.error, self.begun
        assert state is not None
        lost = self.lost.pop(action, 0) + 1
        if isinstance(error, LostError) and lost < MOST_LOST:
            self.lost[action] = lost
            env.report_progress(f"{words(action)}: {error.message}; it begins again")
            return 0.0
        if isinstance(error, UnreachableError):
            self.retry_at = time.monotonic() + RETRY_SECONDS
        return 0.0 if error is None else answer_failure(env, state, action, error) or 0.0

    def overdue(self, env: Environment) -> Ended:
        action, seconds = self.tasks.action, self.tasks.seconds
        assert action is not None
        self.tasks.cancel()
        late = f"{words(action)} did not end within {seconds:.0f} s"
        kind = LostError if action.kind in (*WATCHES, "stop", "sleep") else ExternalError
        return Ended(action, kind(late, hint=f"tunegate logs {env.config.name}"))

    def cancel(self) -> None:
        self.tasks.cancel()
        self.told.close()

    def wait(self, seconds: float) -> None:
        """At most; the end of a task wakes it."""
        self.tasks.wait(seconds)

    def close(self) -> None:
        self.told.close()

    @property
    def is_moving_traffic(self) -> bool:
        """Whether a task changes what the router's maps say."""
        return self.tasks.action is not None and self.tasks.action.kind in ("switch", *MOVES_SERVERS)


def trusted_slots(state: State) -> list[SlotName]:
    """Those under traffic, and the warm one, which a rollback trusts."""
    return [
        slot
        for slot, found in state.slots.items()
        if found
        and not found.rest
        and (slot == state.active or found.is_proven or (slot == state.candidate and state.moves.weight))
    ]


def name_standbys(env: Environment, state: State, seen: Observed, leaving: SlotName | None) -> None:
    """What is proven and lives may answer while the other slot's server is down, without anybody's help; not the slot
    whose server a task is about to end or to start (`leaving`)."""
    if not seen.router_running:
        return
    given_up = {state.wanted.failed, state.wanted.desired if state.refused else None}
    wanted = {
        slot
        for slot, found in state.slots.items()
        if found
        and slot != leaving
        and found.is_proven
        and not found.rest
        and slot in seen.alive
        and not {(slot, number) for number in found.servers} <= seen.hung
        and found.release not in given_up
        and not env.is_shared(state, slot)
    }
    with contextlib.suppress(ExternalError):  # it has just died
        if env.router.standbys() != wanted:
            env.router.set_standbys(wanted)


def words(action: Action) -> str:
    return " ".join(word for word in (action.kind.replace("_", " "), action.slot, action.proof) if word)


def is_overdue(action: Action, seconds: float, state: State, config: DeployConfig) -> bool:
    """A watch that waits for a person waits for as long as it takes."""
    waits = action.kind in WATCHES and (state.wanted.paused or state.awaits_person is not None)
    return not waits and seconds > deadline_of(action, config)


def deadline_of(action: Action, config: DeployConfig) -> float:
    """Seconds that a task may take: what it is meant to last, and supervision.task_deadline_seconds for the rest."""
    rest = config.supervision.task_deadline_seconds
    strategy = config.strategy
    if action.kind == "switch":
        return SWITCH_SECONDS
    if action.kind == "analyse":
        share_seconds = strategy.bake_seconds if isinstance(strategy, Canary) else 0
        return rest + share_seconds + config.watch.extend_seconds
    if action.kind == "bake":
        return rest + config.bake_seconds + config.watch.extend_seconds + config.drain_deadline_seconds
    if action.kind in ("stop", "sleep"):
        return rest + config.drain_deadline_seconds
    if action.proof == "healthy":
        return rest + (config.start_timeout_seconds or LONGEST_SECONDS)  # the proof has its own, by the release's size
    return rest + (strategy.seconds if isinstance(strategy, ShadowFirst) and action.proof == "shadow" else 0)
