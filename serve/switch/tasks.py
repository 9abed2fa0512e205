"""Long actions as processes of their own: begun, looked at, ended with everything that they started.

The process that forks them (the runner) is itself forked while its parent has no thread yet, and ends what runs as soon
as that parent is gone: nothing works on for an agent that is dead.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from types import TracebackType
from typing import NoReturn

import configs.errors
from configs.environment.config import DeployConfig
from configs.errors import ExternalError, TunegateError
from infra.processes import die_with
from infra.terminal import silence
from serve.plan.action import Action
from serve.record.environment import Environment

Run = Callable[[Action, Environment], None]
ErrorParts = tuple[str, str, str | None]  # the class, the message, the hint


class LostError(ExternalError):
    """A task's process ended without a word: somebody killed it."""


@dataclass
class Ended:
    """A task that came to its end; `error`: what it failed with."""

    action: Action
    error: TunegateError | None


class Tasks:
    """At most one task at a time, which does `run(action, env)`. A context manager: at its end nothing runs any more.

    `action`: what is under way; `since`: when it was begun (seconds, monotonic).
    """

    def __init__(self, env: Environment, run: Run) -> None:
        self.env, self.run = env, run
        self.action: Action | None = None
        self.since = 0.0
        self.connection: Connection | None = None

    def __enter__(self) -> Tasks:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if self.connection:
            self.connection.close()  # the runner ends what runs, then itself
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self.runner, 0)

    def open(self) -> None:
        """Again, where the runner was killed."""
        ours, theirs = Pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        self.runner = os.fork()
        if self.runner == 0:
            ours.close()
            Runner(theirs, self.env, self.run).serve()
        theirs.close()
        self.connection = ours

    def begin(self, action: Action, config: DeployConfig) -> None:
        """`config`: the environment as its YAML is now."""
        assert self.action is None, f"{self.action} is under way"
        self.action, self.since = action, time.monotonic()
        try:
            self.ask(("begin", action, config))
        except OSError:  # the runner was killed
            self.open()
            self.ask(("begin", action, config))

    def ask(self, message: tuple[object, ...]) -> None:
        assert self.connection
        self.connection.send(message)

    def poll(self) -> Ended | None:
        """What became of the task, once; None while it is under way, or where there is none."""
        assert self.connection
        try:
            while self.action and self.connection.poll():
                kind, content = self.connection.recv()
                if kind == "said":
                    self.env.report_progress(content)
                else:
                    return self.end(error_of(content) if kind == "ended" else LostError(content))
        except (EOFError, OSError):
            self.open()
            return self.end(LostError("the process that runs the tasks was killed"))
        return None

    def end(self, error: TunegateError | None) -> Ended:
        assert self.action
        action, self.action = self.action, None
        return Ended(action, error)

    def cancel(self) -> None:
        """Ends the task and every process of its group before it returns."""
        assert self.connection
        if self.action is None:
            return
        self.action = None
        try:
            self.ask(("cancel",))
            while self.connection.recv()[0] != "cancelled":
                pass
        except (EOFError, OSError):
            self.open()

    def wait(self, seconds: float) -> None:
        """Until the task has something to say; without one, so long."""
        if self.action and self.connection:
            self.connection.poll(seconds)
        else:
            time.sleep(seconds)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.since


@dataclass
class Runner:
    """Waits for words of its parent, and forks."""

    parent: Connection
    env: Environment
    run: Run
    child: int | None = None
    answers: Connection | None = None

    def serve(self) -> NoReturn:
        """Never comes back into the code that forked it."""
        try:
            silence()
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is said to its parent
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            while True:
                self.turn()
        except (EOFError, OSError):  # its parent is gone
            pass
        except BaseException:
            traceback.print_exc()
        finally:
            self.kill()
            os._exit(0)

    def turn(self) -> None:
        for ready in wait([self.parent, self.answers] if self.answers else [self.parent]):
            if ready is self.parent:
                kind, *content = self.parent.recv()
                if kind == "begin":
                    self.begin(*content)
                else:
                    self.kill()
                    self.parent.send(("cancelled", None))
            elif ready is self.answers:
                self.relay(self.answers)

    def begin(self, action: Action, config: DeployConfig) -> None:
        self.env.record.state()  # read on, so that no task reads what this process has read
        self.answers, words = Pipe(duplex=False)
        runner = os.getpid()
        self.child = os.fork()
        if self.child == 0:
            self.answers.close()
            self.parent.close()
            die_with(runner)
            work(self.run, action, replace(self.env, config=config), words)
        words.close()

    def relay(self, answers: Connection) -> None:
        try:
            message = answers.recv()
        except (EOFError, OSError):
            message = None
        if message is None or message[0] == "ended":
            status = self.kill()
            message = message or ("lost", f"its process ended by itself, with status {status}")
        self.parent.send(message)

    def kill(self) -> int:
        """The task and all that it started, but for what has a session of its own (a server). Returns its status."""
        if self.child is None:
            return 0
        for end in (os.killpg, os.kill):  # the group is there a moment after the process is
            with contextlib.suppress(ProcessLookupError, PermissionError):
                end(self.child, signal.SIGKILL)
        status = os.waitpid(self.child, 0)[1]
        if self.answers:
            self.answers.close()
        self.child = self.answers = None
        return os.waitstatus_to_exitcode(status)


def work(run: Run, action: Action, env: Environment, words: Connection) -> NoReturn:
    """In the task's own process."""
    error: ErrorParts | None = None
    try:
        os.setsid()
        run(action, replace(env, report_progress=lambda line: words.send(("said", line))))
    except TunegateError as found:
        error = name_of(found), found.message, found.hint
    except OSError as found:
        error = "ExternalError", f"{action.kind}: {found}", f"df -h {env.folder}"
    except BaseException as found:
        traceback.print_exc()
        error = "ExternalError", f"{action.kind}: {type(found).__name__}: {found}", None
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
            words.send(("ended", error))
        finally:
            os._exit(0)


def name_of(error: TunegateError) -> str:
    """Of its class, or of the nearest above it that every process knows."""
    return next(one.__name__ for one in type(error).__mro__ if hasattr(configs.errors, one.__name__))


def error_of(parts: ErrorParts | None) -> TunegateError | None:
    if parts is None:
        return None
    name, message, hint = parts
    kind = getattr(configs.errors, name, ExternalError)
    return kind(message, hint=hint)
