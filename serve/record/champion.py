"""The champion: what serves in an environment, which a new release must be shown to be no worse than."""

from __future__ import annotations

from typing import TYPE_CHECKING

from configs.read import environment_path, read_environment
from infra.git.pins import last_pinned, pinned_before
from infra.state.folder import ForeignStateError, state_folder
from infra.state.places import RECORD
from serve.record.record import Record

if TYPE_CHECKING:
    from configs.environment.config import DeployConfig


def read_judged(name: str) -> DeployConfig:
    """The environment that a release is judged for, its `release` the champion: by the record of the machine that
    serves, elsewhere by the pin. None only where it has never served anything, as far as the record here and git's
    history of its YAML know.

    In a merge request's pipeline the pin is that of the target branch: what the request itself pins does not serve yet.
    Of a staging environment it is the one whose releases serve there first.
    """
    config = read_environment(name)
    path = environment_path(config.staging_for or name)
    config = judging(config)
    champion = last_served(config) or pinned_before(path, config.release) or last_pinned(path)
    return config.model_copy(update={"release": champion})


def judging(config: DeployConfig) -> DeployConfig:
    """The environment whose gate and champion hold: of staging the one that it goes before."""
    return read_environment(config.staging_for) if config.staging_for else config


def last_served(config: DeployConfig) -> str | None:
    """What has all of the traffic by the record here, else what had it last; None where nothing ever had."""
    try:
        state = Record(state_folder(config) / RECORD).state()
    except (
        ForeignStateError
    ):  # of a machine that serves another user's environment no more is known here than elsewhere
        return None
    return state.release_of(state.active) or next(reversed(state.last_switched), None)
