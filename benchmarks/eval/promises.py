"""What the evaluation room promises, measured: the checks of `make prove-eval` (benchmarks/prove.py)."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

from benchmarks.eval import cell_table, cells, statistics
from benchmarks.eval.regressions import FAULTS, HARMLESS, Case
from benchmarks.eval.speed import speed
from benchmarks.prove import FOLDER, Check, Row, console, tested, tunegate, write_section
from configs.environment.config import DeployConfig
from configs.errors import ExternalError, RefusedError
from configs.loader import load
from configs.paths import RunPaths
from configs.release import digest_of, list_files, read_manifest
from configs.run.config import RunConfig
from configs.verdict import Verdict

CONFIGS = {"sentiment": "sentiment", "calls": "calls-v2"}


def gate_arithmetic() -> list[Row]:
    """The gate's arithmetic against the libraries' own, and its promises by simulation
    (benchmarks/eval/statistics.py)."""
    same, held, false = statistics.references(), statistics.coverage(), statistics.false_pass_rate()
    seen, means, advised = statistics.power_matches(), statistics.mean_power(), statistics.advice_decides()
    looked, uncounted = statistics.looks(), statistics.looks(spent=False)
    return [
        Row(
            f"p-values and intervals on {same['cases']} random cases, largest distance from scipy's and statsmodels'",
            float(f"{same['worst']:.1e}"),
            "below 1e-9",
            same["worst"] < 1e-9,
        ),
        within("coverage of 95% intervals, 10,000 draws a setting", held, 0.93, 0.97),
        Row(
            "false passes at a loss of exactly the margin, the highest of all settings",
            false["highest"],
            f"at most {false['allowed']:.4f}",
            false["highest"] <= false["allowed"],
        ),
        within("power at the printed minimum detectable effect, right or wrong", seen, 0.77, 0.83),
        within("power at the printed minimum detectable effect, means", means, 0.77, 0.83),
        within('decided after the "N more examples would decide" that was advised', advised, 0.75, 0.87),
        Row(
            f"false passes over six looks with added rows, alpha spent over them ({uncounted:.4f} were it not)",
            looked,
            "at most 0.025",
            looked <= 0.025,
        ),
    ]


def simulated() -> list[Row]:
    """Every kind of metric by size, share of rows that differ and clusters; each cell is in docs/benchmarks.md."""
    cell_table.show("all", cells.DRAWS)
    every = [one for name in cells.MAKERS for one in cell_table.kept(name)]
    judged = [one for one in every if one.too_small < 1]
    rows = [one for one in every if one.holds]
    return [
        Row(
            f"cells in which false passes stay at 2.5% and 94% of the intervals hold the truth "
            f"({max(one.false_passes for one in judged):.4f}, {min(one.coverage for one in judged):.4f}; "
            f"{len(every) - len(judged)} without an interval)",
            f"{len(rows)} of {len(every)}",
            "all",
            len(rows) == len(every),
        )
    ]


def within(name: str, found: statistics.Shares, low: float, high: float) -> Row:
    return Row(
        name,
        f"{found['lowest']:.3f} to {found['highest']:.3f}",
        f"{low:.2f} to {high:.2f}",
        low <= found["lowest"] and found["highest"] <= high,
    )


def regressions() -> list[Row]:
    """Every planted fault refused, every harmless change not; the table goes to docs/gate.md."""
    for family in CONFIGS:
        train_good(family)
    train_good("sentiment", "again")
    train_good("sentiment", "seed", "train.seed=18")
    found = [(case, *judge_case(case)) for case in (*FAULTS, *HARMLESS)]
    write_section(Path("docs/gate.md"), "regressions", table(found))
    faults, harmless = found[: len(FAULTS)], found[len(FAULTS) :]
    caught = [one for one in faults if one[1] != "pass"]
    named = [one for one in caught if {*one[0].hoped} & {*one[2]}]
    refused, open_ = (
        [case.name for case, outcome, _ in harmless if outcome == wanted] for wanted in ("fail", "inconclusive")
    )
    all_ = len(FAULTS)
    unsure = f"inconclusive: {', '.join(open_) or 'none'}"
    return [
        Row("planted regressions refused", f"{len(caught)} of {all_}", "all, 20 at least", len(caught) == all_ >= 20),
        Row("of these refused by the rule one would hope for", f"{len(named)} of {all_}", "all", len(named) == all_),
        Row(
            f"harmless changes refused ({', '.join(refused) or 'none'}; {unsure})",
            f"{len(refused)} of {len(HARMLESS)}",
            "none of 10",
            not refused and len(HARMLESS) >= 10,
        ),
    ]


def good_config(family: str, name: str = "") -> RunConfig:
    """The shipped config, and with it the shipped gate, under another name, as a file of its own."""
    from ruamel.yaml import YAML

    config = YAML(typ="safe").load(Path(f"configs/finetune/{CONFIGS[family]}.yaml").read_text(encoding="utf8"))
    path = FOLDER / f"good-{family}.yaml"
    path.write_text(json.dumps(config | {"name": name or f"prove-good-{family}"}), encoding="utf8")  # JSON is YAML
    return load(path, RunConfig)


def train_good(family: str, variant: str = "", *sets: str) -> None:
    """From data to an evaluated release that passes; a variant stops at its release."""
    name = f"prove-good-{family}{'-' + variant if variant else ''}"
    good_config(family, name)
    words = [str(FOLDER / f"good-{family}.yaml"), *(word for one in sets for word in ("--set", one))]
    for stage in ("prepare", "train", "quantize") if variant else ("prepare", "train", "quantize", "evaluate"):
        if variant == "again" and stage == "train":
            shutil.copytree(f"build/prove-good-{family}/trained", f"build/{name}/trained", dirs_exist_ok=True)
        tunegate(stage, *words)


def judge_case(case: Case) -> tuple[str, list[str]]:
    """Outcome, and the kinds of the rules that did not pass; "served" where the release could not even be asked."""
    good = RunPaths.of(f"prove-good-{case.family}")
    name = "prove-" + re.sub(r"[^a-z0-9]+", "-", f"{case.family} {case.name}".lower())[:48].strip("-")
    paths = RunPaths.of(name)
    shutil.rmtree(paths.root, ignore_errors=True)
    shutil.copytree(good.data, paths.data)
    shutil.copytree(good.release, paths.release)
    if good.parent.exists():
        shutil.copytree(good.parent, paths.parent)
    case.change(paths.release, good)
    sign(paths.release, name)
    champion = DeployConfig(name="prove", model="prove", release=read_manifest(good.release).reference, gate=None)
    try:
        verdict = evaluate_and_judge(good_config(case.family, name), paths, champion)
    except (ExternalError, RefusedError) as error:
        console.print(f"{case.family}, {case.name}: {error.message[:200]}", markup=False)
        return "fail", ["served"]
    kinds = [one.evidence["kind"] for one in verdict.results if one.outcome != "pass"]
    console.print(f"{case.family}, {case.name}: {verdict.outcome} {kinds}", markup=False)
    return verdict.outcome, kinds


def evaluate_and_judge(config: RunConfig, paths: RunPaths, champion: DeployConfig) -> Verdict:
    """Each is an experiment of its own: no further look at the same test rows."""
    from eval.evaluate import evaluate
    from eval.gate import named_in, read_rules
    from eval.rules.decide import decide
    from eval.rules.evidence import gather

    evaluate(config, paths, champion)
    rules = read_rules(Path(config.gate))
    return decide(rules, gather(paths, champion, named_in(rules)))


def sign(release: Path, name: str) -> None:
    """A manifest that fits the changed bytes: whoever changed them would have written one too."""
    manifest, files = read_manifest(release), list_files(release)
    signed = manifest.model_copy(update={"name": name, "files": files, "digest": digest_of(files)})
    (release / "manifest.json").write_text(signed.model_dump_json(), encoding="utf8")


def table(found: list[tuple[Case, str, list[str]]]) -> list[str]:
    lines = [
        f"| {case.family} | {case.name} | {outcome} | {', '.join(dict.fromkeys(kinds))} |"
        for case, outcome, kinds in found
    ]
    return ["| release | what was done to it | verdict | rules that did not pass |", "|---|---|---|---|", *lines]


CHECKS: dict[str, Check] = {
    "statistics": gate_arithmetic,
    "cells": simulated,
    "regressions": regressions,
    "speed": speed,
    "page": lambda: tested(
        "the page of a failing gate in a headless browser", "tests/eval/report/test_page_in_browser.py"
    ),
    "served": lambda: tested(
        "behaviour, judge and harness through vLLM",
        "tests/eval/behaviour/test_run_served.py",
        "tests/eval/test_evaluate_served.py",
    ),
}
