"""What a sweep leaves for people: the best config as YAML, a plot, and its figures."""

from __future__ import annotations

import html
import io
import os
import warnings
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from configs.document import apply_overrides
from configs.errors import RefusedError
from configs.run.sweep import Scalar
from infra.files.atomic import write_text
from train.search.study import finished

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial


class SweepReport(TypedDict):
    """How the trials ended, and the best of them; `best_config` and `plot` are files."""

    complete: int
    pruned: int
    failed: int
    repeated: int
    best_trial: int
    best_validation_loss: float | None
    best_parameters: dict[str, Scalar]
    best_config: str
    plot: str


def report(study: Study, source: Path, overrides: list[str], folder: Path) -> SweepReport:
    """Figures of the sweep; writes best.yaml and plot.html. Raises RefusedError where no trial came to an end."""
    ended = finished(study)
    complete = [trial for trial in ended if trial.state.name == "COMPLETE"]
    write_text(folder / "plot.html", plot(study, complete))
    if not complete:
        reasons = sorted({str(trial.user_attrs["reason"]) for trial in ended if "reason" in trial.user_attrs})
        raise RefusedError(
            f"no trial came to a validation loss: {'; '.join(reasons)[:500]}",
            hint="correct the ranges below sweep.parameters",
        )
    best, target = study.best_trial, folder / "best.yaml"
    write_text(target, best_yaml(source, overrides, best, target, len(complete)))
    kinds = Counter(kind_of(trial) for trial in ended)
    return {
        "complete": kinds["complete"],
        "pruned": kinds["pruned"],
        "failed": kinds["failed"],
        "repeated": kinds["repeated"],
        "best_trial": best.number,
        "best_validation_loss": best.value,
        "best_parameters": best.params,
        "best_config": str(target),
        "plot": str(folder / "plot.html"),
    }


def kind_of(trial: FrozenTrial) -> str:
    """How a trial ended, for people."""
    if trial.state.name == "FAIL":
        return "failed"
    return "repeated" if "same_as" in trial.user_attrs else trial.state.name.lower()


def best_yaml(source: Path, overrides: list[str], best: FrozenTrial, target: Path, complete: int) -> str:
    """The config that was swept, comments kept, with the overrides and the best parameters in place and its `sweep`
    section gone."""
    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.preserve_quotes, yaml.width = True, 160
    document = yaml.load(without_opening(source.read_text(encoding="utf8")))
    apply_overrides(document, overrides)
    document.pop("sweep", None)
    for key, value in best.params.items():
        *sections, last = key.split(".")
        target_section = document
        for section in sections:
            target_section = target_section.setdefault(section, {})
        target_section[last] = value
    text = io.StringIO()
    yaml.dump(document, text)
    schema = os.path.relpath("configs/schema/run.json", target.parent)
    opening = [f"# tunegate run {target}", f"# yaml-language-server: $schema={schema}"]
    lowest = f"validation loss {best.value:.6g}, the lowest of {complete} that ran to their end."
    found = f"# Trial {best.number} of {source}: {lowest}"
    return "\n".join([*opening, found, text.getvalue()])


def without_opening(text: str) -> str:
    """The two lines that name the command and the schema of the original are not those of the copy."""
    lines = text.splitlines(keepends=True)
    while lines and lines[0].startswith(("# tunegate ", "# yaml-language-server")):
        lines.pop(0)
    return "".join(lines)


def plot(study: Study, complete: list[FrozenTrial]) -> str:
    """One HTML page with its pictures inside: history, courses of the trials, importance (PED-ANOVA, arXiv:2304.10255),
    parallel coordinates."""
    import matplotlib

    matplotlib.use("Agg")
    from optuna.visualization import matplotlib as plots

    drawn = {"History": plots.plot_optimization_history, "Validation loss by step": plots.plot_intermediate_values}
    if len({trial.value for trial in complete}) > 1:  # of equal values, nothing is important
        drawn |= {
            "Importance of the parameters": plots.plot_param_importances,
            "Parameters and validation loss": plots.plot_parallel_coordinate,
        }
    pictures = (
        [f"<h2>{title}</h2>\n{picture(draw, study)}" for title, draw in drawn.items()]
        if complete
        else ["<p>No trial ran to its end.</p>"]
    )
    title = f"Sweep {html.escape(study.study_name)}"
    style = "<style>body{font-family:sans-serif;max-width:60em;margin:2em auto}svg{max-width:100%;height:auto}</style>"
    return "\n".join(
        ["<!doctype html>", f'<meta charset="utf-8"><title>{title}</title>{style}', f"<h1>{title}</h1>", *pictures, ""]
    )


def picture(draw: Any, study: Study) -> str:
    """The SVG of one of Optuna's plots."""
    from matplotlib import pyplot

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna calls its plots experimental
        figure = draw(study).figure
        figure.set_size_inches(9, 4.5)
        text = io.StringIO()
        figure.savefig(text, format="svg", bbox_inches="tight", metadata={"Date": None})
        pyplot.close(figure)
    return text.getvalue()[text.getvalue().index("<svg") :]
