"""What the evaluation room promises, measured: the checks of `make prove-eval` (benchmarks/prove.py)."""

from __future__ import annotations

import json
import re
import shutil
import sys
import time
from pathlib import Path

from benchmarks.eval import statistics
from benchmarks.eval.regressions import FAULTS, HARMLESS, NAMES, SLICE_WORDS, Case
from benchmarks.prove import FOLDER, Check, Row, console, run, tested, tunegate, write_section
from configs.environment.config import DeployConfig
from configs.errors import OutsideError, RefusedError
from configs.loader import load
from configs.paths import RunPaths
from configs.release import digest_of, list_files, read_manifest
from configs.run.config import RunConfig
from configs.verdict import Verdict

GATES = {
    "sentiment": [
        {"rule": "threshold", "metric": "accuracy", "minimum": 0.85},
        {"rule": "non_inferior_to", "metric": "accuracy", "margin": 0.04},
        {
            "rule": "slice_minimum",
            "metric": "accuracy",
            "reference": "champion",
            "margin": 0.1,
            "slices": ["goods", "other"],
        },
        {"rule": "calibration", "metric": "expected_calibration_error", "maximum": 0.06},
        {"rule": "robustness", "maximum_drop": 0.1},
        {"rule": "fairness", "maximum_gap": 0.1},
        {"rule": "size", "relative_to": "champion", "maximum_ratio": 1.1},
        {"rule": "parity"},
    ],
    "calls": [
        {"rule": "threshold", "metric": "exact_match", "minimum": 0.25},
        {"rule": "threshold", "metric": "valid_json", "minimum": 0.85},
        {"rule": "non_inferior_to", "metric": "exact_match", "margin": 0.05},
        {"rule": "size", "relative_to": "champion", "maximum_ratio": 1.1},
        {"rule": "parity"},
    ],
}
GOODS = " or ".join(f"'{word}' in question" for word in SLICE_WORDS)
SECTIONS = {
    "sentiment": {
        "slices": [{"name": "goods", "where": GOODS}, {"name": "other", "where": f"not ({GOODS})"}],
        "behaviour": [
            {"test": "robustness", "perturb": ["case", "typos"], "rate": 0.2, "rows": 200},
            {
                "test": "invariance",
                "templates": ["{who} was there.", "I went with {who}.", "{who} told me about it."],
                "groups": NAMES,
                "label": "positive",
            },
        ],
    },
    "calls": {"baseline": False},
}
CONFIGS = {"sentiment": "sentiment", "calls": "calls-v2"}


def gate_arithmetic() -> list[Row]:
    """The gate's arithmetic against the libraries' own, and its promises by simulation
    (benchmarks/eval/statistics.py)."""
    same, held, false = statistics.references(), statistics.coverage(), statistics.false_pass_rate()
    seen, means = statistics.power_matches(), statistics.mean_power()
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
    """The shipped config with this benchmark's gate and questions, as a file of its own."""
    from ruamel.yaml import YAML

    config = YAML(typ="safe").load(Path(f"configs/finetune/{CONFIGS[family]}.yaml").read_text(encoding="utf8"))
    gate, path = FOLDER / f"gate-{family}.json", FOLDER / f"good-{family}.yaml"
    gate.write_text(json.dumps({"rules": GATES[family]}, indent=2), encoding="utf8")
    config |= {"name": name or f"prove-good-{family}", "gate": gate.as_posix()}
    config["evaluate"] |= SECTIONS[family]
    path.write_text(json.dumps(config), encoding="utf8")  # JSON is YAML
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
    case.change(paths.release, good)
    sign(paths.release, name)
    champion = DeployConfig(name="prove", model="prove", release=read_manifest(good.release).reference, gate=None)
    try:
        verdict = evaluate_and_judge(good_config(case.family, name), paths, champion)
    except (OutsideError, RefusedError) as error:
        console.print(f"{case.family}, {case.name}: {error.message[:200]}", markup=False)
        return "fail", ["served"]
    kinds = [one.evidence["kind"] for one in verdict.results if one.outcome != "pass"]
    console.print(f"{case.family}, {case.name}: {verdict.outcome} {kinds}", markup=False)
    return verdict.outcome, kinds


def evaluate_and_judge(config: RunConfig, paths: RunPaths, champion: DeployConfig) -> Verdict:
    from eval.evaluate import evaluate
    from eval.gate import run_gate

    evaluate(config, paths, champion)
    return run_gate(config, paths, champion)


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


def speed() -> list[Row]:
    """500 chats answered by our path and by lm-evaluation-harness with its HF backend, its own batch size and ours;
    start-up counts in all."""
    config = prepare_chats()
    started = time.monotonic()
    tunegate("evaluate", str(config))
    ours, seconds = answers_of(RunPaths.of("prove-chats")), {"ours": time.monotonic() - started}
    shares = {}
    for batch in (1, 16):
        started = time.monotonic()
        theirs = ask_harness(RunPaths.of("prove-chats"), batch)
        seconds[f"batch {batch}"] = time.monotonic() - started
        shares[batch] = sum(ours[name] == text for name, text in theirs.items()) / len(ours)
    ratio, batched = seconds["batch 1"] / seconds["ours"], seconds["batch 16"] / seconds["ours"]
    return [
        Row(f"{len(ours)} chats, lm-evaluation-harness' HF backend ({seconds['batch 1']:.0f} s, batch size 1, "
            f"its default) / ours ({seconds['ours']:.0f} s)", round(ratio, 2), "at least 5", ratio >= 5),
        Row(f"the same with its batch size at 16 ({seconds['batch 16']:.0f} s)", round(batched, 2), "measured", True),
        Row("the same greedy answers, batch size 1", f"{shares[1]:.1%}", "at least 99%", shares[1] >= 0.99),
    ]  # fmt: skip


def prepare_chats() -> Path:
    """A release as its weights are, so that transformers can load it: calls-v2's, unquantized, with 500 test rows (and
    what is left to train on)."""
    from ruamel.yaml import YAML

    config = YAML(typ="safe").load(Path("configs/finetune/calls-v2.yaml").read_text(encoding="utf8"))
    config |= {"name": "prove-chats", "quantize": {"scheme": "none"}}
    config["data"] |= {"test_rows": 500, "max_tokens": 256}  # fewer than 500 rows are short
    config["evaluate"] |= {"baseline": False}
    path = FOLDER / "chats.yaml"
    path.write_text(json.dumps(config), encoding="utf8")
    for stage in ("prepare", "train", "quantize"):
        tunegate(stage, str(path))
    shutil.rmtree("build/prove-chats/eval", ignore_errors=True)
    shutil.rmtree("build/prove-chats/answers", ignore_errors=True)
    return path


def answers_of(paths: RunPaths) -> dict[str, str]:
    import pandas

    frame = pandas.read_parquet(paths.evaluation / "predictions.parquet")
    return dict(zip(frame["id"].astype(str), frame["answer"].astype(str), strict=True))


def ask_harness(paths: RunPaths, batch: int) -> dict[str, str]:
    """By id, the text that `lm_eval --model hf` generates for the very prompts, rendered by the release's own
    template."""
    import pandas
    from transformers import AutoTokenizer

    folder, tokenizer = FOLDER / f"harness-{batch}", AutoTokenizer.from_pretrained(paths.release)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    rows = pandas.read_parquet(paths.data / "test.parquet")
    prompts = [
        tokenizer.apply_chat_template([dict(turn) for turn in turns][:-1], add_generation_prompt=True, tokenize=False)
        for turns in rows["messages"]
    ]
    lines = [json.dumps({"id": str(name), "prompt": prompt}) for name, prompt in zip(rows["id"], prompts, strict=True)]
    (folder / "rows.jsonl").write_text("\n".join(lines) + "\n", encoding="utf8")
    task = {
        "task": "chats",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str((folder / "rows.jsonl").absolute())}},
        "test_split": "test",
        "output_type": "generate_until",
        "doc_to_text": "{{prompt}}",
        "doc_to_target": "{{id}}",
        "metric_list": [{"metric": "exact_match"}],
        "generation_kwargs": {"until": [tokenizer.eos_token], "max_gen_toks": 48, "do_sample": False},
    }
    (folder / "chats.yaml").write_text(json.dumps(task), encoding="utf8")
    arguments = f"pretrained={paths.release},dtype=float32,add_bos_token=False"
    options = {
        "model": "hf",
        "model_args": arguments,
        "device": "cpu",
        "tasks": "chats",
        "include_path": folder,
        "batch_size": batch,
        "output_path": folder / "out",
    }
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    run(
        sys.executable,
        "-m",
        "lm_eval",
        "run",
        *words,
        "--log_samples",
        environment={"HF_DATASETS_OFFLINE": "1", "HF_HUB_OFFLINE": "1"},
    )
    samples = next((folder / "out").rglob("samples_*.jsonl")).read_text(encoding="utf8").splitlines()
    return {one["doc"]["id"]: one["resps"][0][0] for one in map(json.loads, samples)}


CHECKS: dict[str, Check] = {
    "statistics": gate_arithmetic,
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
