"""What a sweep knows and draws: the Optuna study on disk, its grid, its samplers, and which of its trials count."""

from __future__ import annotations

import random
import shutil
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.digest import key_of
from configs.run.config import RunConfig
from configs.run.sweep import Parameter, Scalar, Sweep, leaf_types
from infra.files.atomic import write_text

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

RETRY = "retry_of"  # a trial's attribute: the number of the interrupted one that it repeats


def open_study(config: RunConfig, search: Sweep, folder: Path, fingerprint: str) -> Study:
    """The study of this very config and data, whatever its number of trials; one of another config is thrown away."""
    import optuna

    wanted = {"task", "problem", "base", "data", "train"}
    key = key_of(config.model_dump(include=wanted), search.model_dump(exclude={"trials"}), fingerprint)
    marker = folder / "key"
    if not marker.exists() or marker.read_text(encoding="utf8") != key:
        for old in folder.iterdir():
            if old.name not in ("lock", "tracking"):
                shutil.rmtree(old) if old.is_dir() and not old.is_symlink() else old.unlink()
        write_text(marker, key)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    # SQLite and not Optuna's journal file: that one cannot be read any more once a kill has torn a line.
    storage = f"sqlite:///{folder / 'study.db'}"
    median = optuna.pruners.MedianPruner(n_startup_trials=search.startup_trials)
    pruner = median if search.pruner == "median" else optuna.pruners.NopPruner()
    study = optuna.create_study(
        study_name=config.name, storage=storage, pruner=pruner, direction="minimize", load_if_exists=True
    )
    for point in grid(search):
        study.enqueue_trial(point, skip_if_exists=True)
    return study


def grid(search: Sweep) -> list[dict[str, Scalar]]:
    """The combinations to try, in an order drawn by the seed; none unless the sampler is grid."""
    if search.sampler != "grid":
        return []
    points = [
        dict(zip(search.parameters, values, strict=True))
        for values in product(*(parameter.choices or [] for parameter in search.parameters.values()))
    ]
    return random.Random(search.seed).sample(points, min(search.trials, len(points)))


def budget(search: Sweep) -> int:
    return len(grid(search)) or search.trials


def retry_interrupted(study: Study, search: Sweep) -> None:
    """A trial whose process died has failed, and waits to be run again with the same parameters."""
    import optuna

    for trial in study.get_trials(states=(optuna.trial.TrialState.RUNNING,)):
        drawn = trial.params.keys() == search.parameters.keys()
        if drawn and not any(other.user_attrs.get(RETRY) == trial.number for other in study.trials):
            again = optuna.trial.create_trial(
                state=optuna.trial.TrialState.WAITING,
                params=trial.params,
                distributions=trial.distributions,
                user_attrs={RETRY: trial.number},
                intermediate_values=trial.intermediate_values,
            )
            study.add_trial(again)
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)


def finished(study: Study) -> list[FrozenTrial]:
    """Complete, pruned or failed by their own doing; one that was interrupted does not count, its repetition does."""
    trials = study.get_trials(deepcopy=False)
    return [
        trial
        for trial in trials
        if trial.state.is_finished() and (trial.state.name != "FAIL" or "reason" in trial.user_attrs)
    ]


def best_so_far(study: Study) -> dict[str, float]:
    values = [
        float(trial.value) for trial in finished(study) if trial.state.name == "COMPLETE" and trial.value is not None
    ]
    return {"best_validation_loss": min(values)} if values else {}


def make_sampler(search: Sweep, number: int) -> Any:
    """Seeded by how many trials went before: a killed sweep draws what it would have drawn."""
    import optuna

    seed = random.Random(f"{search.seed}/{number}").getrandbits(32)
    if search.sampler == "tpe":
        return optuna.samplers.TPESampler(seed=seed, n_startup_trials=search.startup_trials)
    return optuna.samplers.RandomSampler(seed=seed)


def distributions(config: RunConfig, search: Sweep) -> dict[str, BaseDistribution]:
    types = leaf_types(type(config))
    return {key: distribution(parameter, types[key]) for key, parameter in search.parameters.items()}


def distribution(parameter: Parameter, types: tuple[Any, ...]) -> BaseDistribution:
    """Whole numbers where the schema takes no others."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if parameter.choices:
        return CategoricalDistribution(parameter.choices)
    low, high = parameter.low or 0, parameter.high or 0
    if float in types:
        return FloatDistribution(float(low), float(high), log=parameter.log)
    return IntDistribution(int(low), int(high), log=parameter.log)


def record_outcome(study: Study, trial: Trial, state: str, value: float | None, reason: str | None) -> None:
    import optuna

    if reason is not None:
        trial.set_user_attr("reason", reason)
    study.tell(trial, value if state == "COMPLETE" else None, state=optuna.trial.TrialState[state])
