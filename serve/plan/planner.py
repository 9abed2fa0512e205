"""What to do next. Pure: a state, what was observed and the environment's settings in, one action out. No I/O; the time
is observed as well."""

from __future__ import annotations

from collections.abc import Callable

from configs.environment.config import DeployConfig
from configs.environment.strategy import Canary, ShadowFirst
from configs.slots import other
from serve.plan.action import Action, End
from serve.plan.situation import Observed, Situation
from serve.plan.swap import missing_proof, start_again, swap
from serve.record.state import State

Rule = Callable[[Situation], Action | End | None]


def plan(state: State, config: DeployConfig, observed: Observed) -> Action | End:
    """The one next thing towards the desired release: of these rules the first that holds. What serves is never
    stopped, nor left before its successor is proven."""
    rules: tuple[Rule, ...] = (
        # rule           holds where …                             and comes here because …
        duty,            # what serves needs something             somebody must serve
        clear_refused,   # the desired release is refused          what served serves on
        rest,            # nothing is desired
        bake_or_retire,  # the desired release serves
        stay_paused,     # a person has paused                     repair (above) is no progress
        refuse_crashing, # the candidate died too often            it would be started for ever
        clear_target,    # its slot holds something else           a start wants an empty slot
        start_candidate, # its slot is empty
        prove_candidate, # it has something left to prove          no traffic before that
        watch_share,     # its share was not watched to the end
        raise_share,     # a canary has a share left
        switch_or_await, # it may have all, or is to be promoted
    )  # fmt: skip
    found = first_of(rules, Situation(state, config, observed))
    assert found is not None  # the last rule always holds
    return found


def duty(now: Situation) -> Action | End | None:
    """What serves comes first, whatever else is under way."""
    rules: tuple[Rule, ...] = (
        start_router,    # the router does not run                 nothing is seen or moved without it
        record_crash,    # a server died or hangs                  crashes are counted, and waits begin, from the record
        finish_switch,   # an intent to switch is on record        its traffic may have moved already
        swap,            # a swap is under way                     requests wait in the router
        take_over,       # what serves died, a standby is proven   first of all repairs: it is there
        wake_standby,    # what serves died, a standby sleeps      it is there in seconds
        restart_active,  # what serves died                        the same, without a standby
        restart_server,  # it has fewer servers than it should     the rest carry its load
        prove_restarted, # what serves was started again           the same
        restore_shares,  # the router gives other shares           before anything new is tried
    )  # fmt: skip
    return first_of(rules, now)


def first_of(rules: tuple[Rule, ...], now: Situation) -> Action | End | None:
    return next((found for rule in rules if (found := rule(now))), None)


def start_router(now: Situation) -> Action | None:
    return None if now.observed.router_running else Action("start_router")


def record_crash(now: Situation) -> Action | None:
    for name, slot in now.state.slots.items():
        for number, server in sorted(slot.servers.items()) if slot else []:
            if server.crashed:
                continue
            if name not in now.observed.alive or (name, number) in now.observed.died:
                return Action("crashed", name, number, why="its process ended")
            if (name, number) in now.observed.hung:
                return Action("crashed", name, number, why="it accepts requests and does not answer")
    return None


def finish_switch(now: Situation) -> Action | None:
    return Action("switch", now.state.moves.switching) if now.state.moves.switching else None


def take_over(now: Situation) -> Action | None:
    """A release that died in its bake, or too often, is given up for the standby, or it would be brought back only to
    die again."""
    if now.active is None or now.active_lives or not now.is_ready(other(now.active)):
        return None
    state, wanted = now.state, now.state.wanted
    release, standby = state.release_of(now.active), state.release_of(other(now.active))
    if release == wanted.desired and release != standby:
        if not state.baked and not wanted.rollback:
            why = "under traffic its server died, in its bake"
            return Action("fall_back", now.active, release=standby, why=why)
        if now.crashes_too_often(release):
            return Action("fall_back", now.active, release=standby, why=now.restart_limit)
    return Action("switch", other(now.active))


def wake_standby(now: Situation) -> Action | None:
    """Its memory is there again: the dead one's."""
    if now.active is None or now.active_lives or not now.rests(other(now.active)):
        return None
    found = now.state.slots[other(now.active)]
    return Action("wake", other(now.active)) if found and found.is_proven and not found.missing else None


def restart_active(now: Situation) -> Action | End | None:
    if now.active is None or now.active_lives:
        return None
    return start_again(now, now.active, now.state.release_of(now.active))


def restart_server(now: Situation) -> Action | End | None:
    """One of several. While it waits for its next start, whatever else is to be done goes on."""
    found = now.state.slots[now.active] if now.active and now.active_lives else None
    if now.active is None or found is None or not found.missing or now.state.moves.switching:
        return None
    again = start_again(now, now.active, found.release, found.missing[0])
    return again if isinstance(again, Action) and again.kind != "wait" else None


def prove_restarted(now: Situation) -> Action | None:
    """It was proven before: that it answers is enough."""
    found = now.state.slots[now.active] if now.active and now.active_lives else None
    for number, server in sorted(found.servers.items()) if found else []:
        if "healthy" not in server.proofs and not server.crashed:
            return Action("prove", now.active, number, proof="healthy")
    return None


def restore_shares(now: Situation) -> Action | None:
    """No switch: the release that serves was baked and stays so."""
    if now.active is None or not now.active_lives:
        return None
    weight = now.state.moves.weight
    expected = {now.active: 100 - weight, now.target: weight}
    if all(now.observed.weights.get(slot, 0) == percent for slot, percent in expected.items()):
        return None
    return Action("step", now.target, weight=weight)


def clear_refused(now: Situation) -> Action | End | None:
    """A refused release leaves no process behind."""
    if now.state.refused is None:
        return None
    for name, slot in now.state.slots.items():
        if slot and name != now.active and slot.release == now.desired:
            return Action("stop", name)
    return End("refused")


def rest(now: Situation) -> End | None:
    return End("done") if now.desired is None else None


def bake_or_retire(now: Situation) -> Action | End | None:
    """The desired release serves: bake it, then retire the old slot unless it is to stay warm."""
    state, active = now.state, now.active
    if active is None or state.release_of(active) != now.desired:
        return None
    if not state.baked and not state.wanted.rollback:
        return Action("bake", active)
    old = other(active)
    slot = state.slots[old]
    if slot is None:
        return End("done", active)
    is_useless = slot.release == state.wanted.failed or old not in now.observed.alive
    is_unwanted = slot.release != now.desired and slot.release not in state.good
    if is_useless or is_unwanted or not now.config.keep_old_slot:
        return Action("stop", old)
    return End("done", active)


def stay_paused(now: Situation) -> End | None:
    """What is watched is watched to its end, and what serves is brought back, all the same."""
    is_safe = now.active is None or now.active_lives
    return End("paused") if now.state.wanted.paused and now.is_watched and is_safe else None


def refuse_crashing(now: Situation) -> Action | None:
    """A candidate that keeps dying before it takes traffic."""
    found = now.state.slots[now.target]
    is_whole = found is not None and now.target in now.observed.alive and not found.missing
    if found is None or found.release != now.desired or is_whole:
        return None
    if not now.crashes_too_often(now.desired):
        return None
    return Action("refuse", now.target, why=f"{now.desired}: {now.restart_limit} before it could take traffic")


def clear_target(now: Situation) -> Action | None:
    found = now.state.slots[now.target]
    is_taken = found is not None and (
        not now.runs(now.target, now.desired) or (found.rest is not None and bool(found.missing))
    )
    return Action("stop", now.target) if is_taken else None


def start_candidate(now: Situation) -> Action | End | None:
    """Memory is measured first. In a swap nothing serves once it has begun, so that the promotion is asked for
    before."""
    found = now.state.slots[now.target]
    if found and found.rest:
        return in_its_place(now) or Action("wake", now.target)
    if found:
        return Action("start", now.target, found.missing[0], release=now.desired) if found.missing else None
    if now.state.capacity is None:
        return Action("measure", now.target, release=now.desired)
    swaps = in_its_place(now) if now.state.capacity in ("swap", "sleep") else None
    return swaps or Action("start", now.target, release=now.desired)


def in_its_place(now: Situation) -> Action | End | None:
    """Of what serves, if anything does."""
    if now.active is None or not now.active_lives:
        return None
    return Action("queue", now.active) if now.may_take_all else End("await_promotion", now.target)


def prove_candidate(now: Situation) -> Action | None:
    """The shadow comes last, where there is something to copy from, and not when going back."""
    found = now.state.slots[now.target]
    if found is None or (now.state.wanted.rollback and found.is_proven):
        return None
    is_shadowed = isinstance(now.config.strategy, ShadowFirst) and now.active and not now.state.wanted.rollback
    missing = missing_proof(found, *(["shadow"] if is_shadowed else []))
    return Action("prove", now.target, missing[1], proof=missing[0]) if missing else None


def watch_share(now: Situation) -> Action | None:
    return None if now.is_watched else Action("analyse", now.target, weight=now.state.moves.weight)


def raise_share(now: Situation) -> Action | None:
    """The strategy's next step; a rollback takes all at once."""
    strategy = now.config.strategy
    if not isinstance(strategy, Canary) or not now.active_lives or now.state.wanted.rollback:
        return None
    shares = [step for step in strategy.steps if now.state.moves.weight < step < 100]
    return Action("step", now.target, weight=shares[0]) if shares else None


def switch_or_await(now: Situation) -> Action | End:
    return Action("switch", now.target) if now.may_take_all else End("await_promotion", now.target)
