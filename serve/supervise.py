"""After a deploy by hand somebody stays: an agent that brings back what dies, and takes up nothing by itself."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from configs.environment.config import DeployConfig
from configs.errors import TunegateError
from serve.record.environment import SUPERVISOR, Environment, holder_of

ERRORS = "supervisor.err"  # what nobody foresaw


@contextmanager
def supervised(env: Environment, name: str) -> Iterator[None]:
    """While a command changes the environment; however that ends, what serves is watched over afterwards. Not after
    Ctrl-C: whoever stays would go on with what was just interrupted.

    `name`: as the command line names it.
    """
    try:
        yield
    except TunegateError:
        with suppress(TunegateError, OSError):
            leave_supervisor(env, name)
        raise
    except KeyboardInterrupt:
        if serves(env):
            env.report_progress(f"nobody watches over {env.config.name} now: tunegate agent {name}")
        raise
    leave_supervisor(env, name)


def serves(env: Environment) -> bool:
    return env.record.path.exists() and env.record.state().active is not None


def leave_supervisor(env: Environment, name: str) -> None:
    """In a session of its own, unless somebody holds the environment already, or supervision.stay says no."""
    holder = holder_of(env)
    is_held = holder is not None and holder["pid"] != os.getpid()
    if not env.config.supervision.stay or not serves(env) or is_held:
        return
    with (env.folder / ERRORS).open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "tunegate", "agent", name, "--supervise"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stream,
            start_new_session=True,
        )
    env.report_progress(f"{SUPERVISOR} {process.pid} watches over {env.config.name}; tunegate stop {name} ends both")


def without_pin(config: DeployConfig) -> DeployConfig:
    """A supervisor wants what the record says is wanted, and reads no YAML again."""
    return config.model_copy(update={"release": None})
