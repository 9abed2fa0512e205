"""A deploy in one checkout, and an agent that takes its pins from a branch or a checkout of its own. What it were told
past those it would undo at once: so it is waited for, or the command says where the pin belongs."""

from __future__ import annotations

import re
import time
from pathlib import Path

from configs.errors import ExternalError, RefusedError
from configs.read import environment_path
from configs.release import short
from infra.dvc.releases import folder_of, pointer_of
from serve.record.environment import Environment, holder_of
from serve.record.facts import Holder

PIN_SECONDS = 300.0  # as long as an agent may wait between two fetches
LOOK_SECONDS = 0.2


def await_agent(env: Environment, reference: str) -> None:
    """Until the agent of the environment, if there is one, wants `reference` or may be told to. Raises RefusedError
    where its branch or its checkout pins something else, ExternalError where it ends meanwhile."""
    holder, state = holder_of(env), env.record.state()
    if holder is None or holder["command"] != "agent" or state.wanted.pinned == reference:
        return
    if state.git.follows:
        await_pin(env, holder, reference, state.git.follows)
    elif is_elsewhere(holder):
        refuse_other_pin(env, holder, reference)


def is_elsewhere(holder: Holder) -> bool:
    """An earlier tunegate did not say where it works."""
    return "checkout" in holder and Path(holder["checkout"]).resolve() != Path.cwd().resolve()


def await_pin(env: Environment, holder: Holder, reference: str, branch: str) -> None:
    name, agent = env.config.name, f"agent {holder['pid']}"
    env.report_progress(f"{agent} of {name} follows {branch}: waiting until it pins {short(reference)}")
    deadline = time.monotonic() + PIN_SECONDS
    while env.record.state().wanted.pinned != reference:
        if holder_of(env) is None:
            raise ExternalError(f"{agent} ended before it pinned {reference}", hint=f"tunegate status {name}")
        if time.monotonic() > deadline:
            state = env.record.state()
            at, why = state.git.pulled.get("commit", ""), state.git.pulled.get("why")
            raise RefusedError(
                f"{agent} of {name} follows {branch}, which it knows at {at[:12]}{f' ({why})' if why else ''}: "
                f"it pins {short(state.wanted.pinned)} and not {reference}",
                hint=f"merge the pin into {branch}; tunegate status {name}",
            )
        time.sleep(LOOK_SECONDS)


def refuse_other_pin(env: Environment, holder: Holder, reference: str) -> None:
    name, checkout = env.config.name, Path(holder["checkout"])
    agent, path = f"agent {holder['pid']} of {name}", checkout / environment_path(name)
    pinned = pin_in(path)
    if pinned not in (None, reference):
        raise RefusedError(
            f"{agent} takes its pin from {path}, which says {short(pinned)}: it would go back to that at once",
            hint=f"git -C {checkout} pull; for good: tunegate agent {name} --pull origin/main",
        )
    folder = checkout / folder_of(reference)
    if not folder.exists() and not pointer_of(folder).exists():
        raise RefusedError(
            f"{agent} works in {checkout}, which does not know {reference}", hint=f"git -C {checkout} pull"
        )


def pin_in(path: Path) -> str | None:
    """Read as text: what else the YAML says fits that checkout, and not this one. None also where there is none."""
    text = path.read_text(encoding="utf8", errors="replace") if path.exists() else ""
    found = re.search(r"""(?m)^release:[ \t]*["']?([^\s#"']+)""", text)
    return found[1] if found and found[1] not in ("null", "~") else None
