"""What a sweep knows and draws: the Optuna study on disk, its grid, its samplers, and which of its trials count."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.digest import key_of
from configs.run.config import RunConfig
from configs.run.sweep import Parameter, Scalar, Sweep, leaf_types
from infra.files.atomic import write_text
from train.search.wave import Outcome

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial


def open_study(config: RunConfig, search: Sweep, folder: Path, fingerprint: str) -> Study:
    """The study of this very config and data, whatever its number of trials; one of another config is thrown away.

    It holds trials that have ended, in the order of their numbers, and nothing of those under way.
    """
    import optuna

    wanted = {"task", "problem", "base", "data", "train"}
    left_out = {"trials"} if goes_by_waves(search) else {"trials", "parallel"}
    key = key_of(config.model_dump(include=wanted), search.model_dump(exclude=left_out), fingerprint)
    marker = folder / "key"
    if not marker.exists() or marker.read_text(encoding="utf8") != key:
        for old in folder.iterdir():
            if old.name not in ("lock", "tracking"):
                shutil.rmtree(old) if old.is_dir() and not old.is_symlink() else old.unlink()
        write_text(marker, key)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    # SQLite and not Optuna's journal file: that one cannot be read any more once a kill has torn a line.
    storage = f"sqlite:///{folder / 'study.db'}"
    return optuna.create_study(study_name=config.name, storage=storage, direction="minimize", load_if_exists=True)


def goes_by_waves(search: Sweep) -> bool:
    """Whether what is drawn or pruned hangs on how many trials are under way at once: with another number of them it is
    another search. Grid and random draw by a trial's number alone."""
    return search.parallel > 1 and (search.sampler == "tpe" or search.pruner != "none")


def wave_numbers(search: Sweep, ended: int) -> range:
    """Of the trials of the wave that the first one that has not ended is in. Waves begin at multiples of their size, so
    that one which was cut short, by a kill or by too few `trials`, is drawn again as it was."""
    first = ended - ended % search.parallel if goes_by_waves(search) else ended
    return range(first, min(first + search.parallel, budget(search)))


def grid(search: Sweep) -> list[dict[str, Scalar]]:
    """The combinations to try, each once, in an order drawn by the seed, which more `trials` only goes on with; none
    unless the sampler is grid."""
    if search.sampler != "grid":
        return []
    choices = [parameter.choices or [] for parameter in search.parameters.values()]
    points = [dict(zip(search.parameters, values, strict=True)) for values in product(*choices)]
    once = list({json.dumps(point): point for point in points}.values())
    return random.Random(search.seed).sample(once, len(once))[: search.trials]


def budget(search: Sweep) -> int:
    return len(grid(search)) or search.trials


def finished(study: Study) -> list[FrozenTrial]:
    """Complete, pruned or failed by their own doing. Interrupted ones, which earlier versions told, do not count."""
    trials = study.get_trials(deepcopy=False)
    return [
        trial
        for trial in trials
        if trial.state.is_finished() and (trial.state.name != "FAIL" or "reason" in trial.user_attrs)
    ]


def best_so_far(trials: Sequence[FrozenTrial]) -> dict[str, float]:
    values = [float(trial.value) for trial in trials if trial.state.name == "COMPLETE" and trial.value is not None]
    return {"best_validation_loss": min(values)} if values else {}


def propose(
    config: RunConfig, search: Sweep, earlier: Sequence[FrozenTrial], numbers: range
) -> list[dict[str, Scalar]]:
    """Parameters of the trials of one wave, which know of `earlier` trials alone, and of each other that they are
    under way: a killed sweep draws what it would have drawn."""
    import optuna

    if search.sampler == "grid":
        done = [trial.params for trial in earlier]
        return [point for point in grid(search) if point not in done][: len(numbers)]
    wave = optuna.create_study(direction="minimize")
    wave.add_trials(earlier)
    ranges, drawn = distributions(config, search), list[dict[str, Scalar]]()
    for number in numbers:
        wave.sampler = make_sampler(search, number)
        drawn.append(wave.ask(ranges).params)
    return drawn


def make_sampler(search: Sweep, number: int) -> Any:
    """Seeded by the trial's number."""
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


def add_outcome(
    study: Study, parameters: dict[str, Scalar], ranges: dict[str, BaseDistribution], found: Outcome | None
) -> None:
    """Told to the study whole, in one transaction. `found`: None for the parameters of a trial before it, as which it
    ends."""
    from optuna.trial import TrialState, create_trial

    same = None if found else same_as(finished(study), parameters)
    if found is None:
        assert same is not None, "only what an earlier trial has trained is not trained"
        found = Outcome(same.state.name, same.value, same.user_attrs.get("reason"), {})
    notes = {} if found.reason is None else {"reason": found.reason}
    study.add_trial(
        create_trial(
            state=TrialState[found.state],
            value=found.value,
            params=parameters,
            distributions=ranges,
            intermediate_values=found.course,
            user_attrs=notes if same is None else notes | {"same_as": same.number},
        )
    )


def same_as(trials: Sequence[FrozenTrial], parameters: Mapping[str, Scalar]) -> FrozenTrial | None:
    return next((trial for trial in trials if trial.params == parameters), None)
