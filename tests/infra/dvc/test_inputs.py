"""What DVC is told of a config: all that decides a stage's output, and nothing else."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from configs.errors import InputError
from configs.run.config import RunConfig
from infra.dvc.inputs import ELSEWHERE, INPUTS, READ, REWARDED, enlist, known_configs, refresh
from tests.paths import ROOT
from tests.test_pipeline import imported

pytestmark = pytest.mark.unit
RUN: dict[str, Any] = {
    "name": "own",
    "task": "sequence-classification",
    "base": {"path": "weights"},
    "data": {"source": "files", "files": ["rows/*.jsonl"], "labels": ["a", "b"]},
    "train": {"max_steps": 3},
    "evaluate": {},
    "gate": "gate.yaml",
    "production": "local",
}


@pytest.fixture(autouse=True)
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name, text in {
        "rows/one.jsonl": "one",
        "weights/config.json": "{}",
        "weights/model.safetensors": "weights",
        "gate.yaml": "rules: []",
        "schema.json": "{}",
        "configs/deploy/local.yaml": "name: local",
    }.items():
        write(name, text)
    write_run()
    return tmp_path


def write(name: str, text: str) -> Path:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text(text)
    return Path(name)


def write_run(path: str = "configs/finetune/own.yaml", **changes: Any) -> Path:
    """JSON is YAML."""
    return write(path, json.dumps(RUN | changes))


def inputs() -> dict[str, str]:
    refresh()
    return {path.stem: path.read_text() for path in (INPUTS / "own").glob("*.json")}


def changed_by(edit: Any) -> set[str]:
    """The stages' inputs that are others after `edit`."""
    before = inputs()
    edit()
    after = inputs()
    return {stage for stage in after if after[stage] != before[stage]}


@pytest.mark.parametrize(
    ("name", "stages"),
    [
        ("rows/one.jsonl", {"prepare"}),
        ("rows/new.jsonl", {"prepare"}),
        ("rows/other.csv", set()),
        ("weights/model.safetensors", {"prepare", "train"}),
        ("weights/tokenizer.json", {"prepare", "train"}),
        ("weights/optimizer.pt", set()),
        ("gate.yaml", {"judge"}),
        ("configs/deploy/local.yaml", {"judge"}),
        ("configs/deploy/other.yaml", set()),
        ("schema.json", {"config"}),
        ("README.md", set()),
    ],
)
def test_a_files_content_is_seen_by_the_stages_that_read_it(name: str, stages: set[str]) -> None:
    """`schema.json` has no slash in its name and is a path for all that."""
    write_run(evaluate={"json_schema": "schema.json"}, task="causal-lm", data=RUN["data"] | {"labels": []})
    assert changed_by(lambda: write(name, '{"title": "changed"}')) == stages


@pytest.mark.parametrize(
    ("name", "stages"),
    [
        ("schema.json", {"train", "config"}),
        ("eval/metrics/generation.py", {"train"}),
        ("eval/metrics/new.py", {"train"}),
        ("eval/metrics/__pycache__/new.pyc", set()),
        ("eval/report/page.py", set()),
    ],
)
def test_what_rewards_an_answer_is_seen_by_the_training_of_it(name: str, stages: set[str]) -> None:
    write("eval/metrics/generation.py", "before")
    train = {"max_steps": 3, "reward": [{"metric": "valid_schema"}]}
    write_run(evaluate={"json_schema": "schema.json"}, task="grpo", train=train, data=RUN["data"] | {"labels": []})
    assert changed_by(lambda: write(name, '{"title": "changed"}')) == stages


@pytest.mark.parametrize(
    ("section", "value", "stages"),
    [
        ("problem", "multi_label", {"prepare", "train", "config"}),
        ("base", {"path": "weights", "digest": f"sha256:{'0' * 64}"}, {"prepare", "train", "config"}),
        ("train", {"max_steps": 4}, {"train", "config"}),
        ("quantize", {"scheme": "none"}, {"config"}),
        ("serving", {"max_num_seqs": 2}, {"config"}),
        ("data", RUN["data"] | {"seed": 3}, {"prepare", "config"}),
        ("data", RUN["data"] | {"lint": {"duplicate": "drop"}}, {"prepare", "config"}),
    ],
)
def test_a_keys_value_is_seen_by_the_stages_that_read_it(section: str, value: Any, stages: set[str]) -> None:
    assert changed_by(lambda: write_run(**{section: value})) == stages


@pytest.mark.parametrize(
    ("preference", "stages"),
    [({"method": "kto"}, {"prepare", "train", "config"}), ({"beta": 0.5}, {"train", "config"})],
)
def test_rows_are_prepared_anew_for_a_method_that_takes_other_ones(preference: Any, stages: set[str]) -> None:
    run: dict[str, Any] = {"task": "dpo", "data": RUN["data"] | {"labels": []}}
    write_run(**run)
    assert changed_by(lambda: write_run(**run, train={"max_steps": 3, "preference": preference})) == stages


def test_every_key_of_a_section_is_in_the_inputs() -> None:
    def leaves(model: type[BaseModel]) -> set[str]:
        return set(model.model_fields)

    told = {stage: json.loads(text) for stage, text in inputs().items()}
    for stage, sections in READ.items():
        assert set(told[stage]) == {*sections, "content"}
        for section in sections:
            kind = RunConfig.model_fields[section].annotation
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                assert set(told[stage][section]) == leaves(kind)
    assert set(told["config"]) == leaves(RunConfig) | {"content"}


@pytest.mark.parametrize(
    ("stage", "entries", "carried"),
    [
        # the method of preference alone, and what folds are drawn by
        ("prepare", ["train/prepare.py", "train/model/base.py"], {"train", "evaluate"}),
        (
            "train",
            ["train/finetune.py"],
            {"data", *REWARDED},
        ),  # the data card, an input of `train`, holds the key of all of it
    ],
)
def test_every_section_that_a_stages_code_reads_is_among_its_inputs(
    stage: str, entries: list[str], carried: set[str]
) -> None:
    """`config.SECTION` anywhere in the code that the stage imports."""
    read = {
        node.attr
        for path in {path for entry in entries for path in imported(entry)}
        for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf8")))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in ("config", "run")
    } & set(RunConfig.model_fields)
    assert {"task", "base"} <= read
    assert read <= {*READ[stage], *ELSEWHERE, *carried}


def test_folds_are_drawn_anew_where_their_number_changes_and_other_measuring_leaves_the_rows() -> None:
    write_run(evaluate={"concurrency": 2})
    assert changed_by(lambda: write_run(evaluate={"concurrency": 4})) == {"config"}
    assert "prepare" in changed_by(lambda: write_run(evaluate={"concurrency": 4, "folds": 2}))
    assert "prepare" in changed_by(lambda: write_run(evaluate={"concurrency": 4, "folds": 3}))


def test_touched_files_and_comments_change_nothing() -> None:
    def edit() -> None:
        Path("rows/one.jsonl").touch()
        path = Path("configs/finetune/own.yaml")
        path.write_text(f"# a comment\n{path.read_text()}")

    assert changed_by(edit) == set()


@pytest.mark.parametrize("place", ["elsewhere/try 3.yaml", "../outside.yaml", "configs/finetune/other-name.yaml"])
def test_a_yaml_that_lies_anywhere_joins_the_pipeline(place: str) -> None:
    path = write_run(place, name="mine")
    refresh()
    assert known_configs() == ["own"]
    assert enlist(path) == enlist(path) == "mine"
    refresh()
    assert known_configs() == ["mine", "own"]
    assert Path("configs/finetune/mine.yaml").resolve() == path.resolve()
    path.unlink()
    refresh()
    assert known_configs() == ["own"]


def test_two_configs_of_one_name_are_refused() -> None:
    with pytest.raises(InputError, match=r"found name own, which is that of configs/finetune/own\.yaml"):
        enlist(write_run("elsewhere/own.yaml"))
    assert enlist(Path("configs/finetune/own.yaml")) == "own"


def test_a_link_to_what_is_gone_gives_way() -> None:
    Path("configs/finetune/mine.yaml").symlink_to("../../gone.yaml")
    assert enlist(write_run("elsewhere/mine.yaml", name="mine")) == "mine"
    assert Path("configs/finetune/mine.yaml").exists()
