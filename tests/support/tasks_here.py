"""Tasks without processes, for a machine that lives in the test's own memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from configs.environment.config import DeployConfig
from configs.errors import TunegateError
from serve.plan.action import Action
from serve.record.environment import Environment
from serve.switch.tasks import Ended, Run


class Killed(KeyboardInterrupt):
    """Ctrl-C or worse: no handler of ours may swallow it."""


class TasksHere:
    """In place of serve.switch.tasks.Tasks: a task is done, within this process, before `begin` returns."""

    def __init__(self, sleep: Callable[[float], None], env: Environment, run: Run) -> None:
        self.wait, self.env, self.run = sleep, env, run
        self.action: Action | None = None
        self.error: TunegateError | None = None
        self.seconds = 0.0

    def __enter__(self) -> TasksHere:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def begin(self, action: Action, config: DeployConfig) -> None:
        self.action, self.error = action, None
        try:
            self.run(action, replace(self.env, config=config))
        except TunegateError as error:
            self.error = error

    def poll(self) -> Ended | None:
        action, self.action = self.action, None
        return Ended(action, self.error) if action else None
