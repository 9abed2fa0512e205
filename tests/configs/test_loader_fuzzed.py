"""Whatever a file says, the answer is a config or all of its problems."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from configs.environment.config import DeployConfig
from configs.errors import ConfigError
from configs.loader import load
from configs.rules.gate import GateConfig
from configs.run.config import RunConfig
from configs.section import Section
from tests.support.run_yaml import GOOD, checkout

__all__ = ["checkout"]
pytestmark = [pytest.mark.unit, pytest.mark.usefixtures("checkout")]

KEYS = st.sampled_from(
    [
        "name",
        "task",
        "base",
        "data",
        "train",
        "gate",
        "package",
        "path",
        "source",
        "files",
        "max_steps",
        "lora",
        "rules",
        "rule",
        "router",
    ]
)
PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.dates()
VALUES = st.recursive(
    PLAIN,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(KEYS | st.text(max_size=5) | st.integers(), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(
    st.dictionaries(
        st.sampled_from(["base", "data", "train", "gate", "name", "zzz", "train.lora", "train.zzz", "data.files"]),
        VALUES,
        max_size=4,
    )
)
@pytest.mark.parametrize("kind", [RunConfig, GateConfig, DeployConfig])
def test_whatever_a_file_says_the_answer_is_a_config_or_its_problems(
    kind: type[Section], changes: dict[str, Any]
) -> None:
    config: dict[str, Any] = copy.deepcopy(GOOD) if kind is RunConfig else {}
    for key, value in changes.items():
        first, _, second = key.partition(".")
        config[first] = {**config[first], second: value} if second and isinstance(config.get(first), dict) else value
    Path("any.yaml").write_text(yaml.safe_dump(config))
    for read in (
        lambda: kind.model_validate(config, context={"root": Path(".")}),
        lambda: load(Path("any.yaml"), kind),
    ):
        try:
            read()
        except (ValidationError, ConfigError) as error:
            assert str(error)


@given(
    st.dictionaries(
        st.sampled_from(["", "data", "train", "train.lora", "evaluate", "evaluate.parity", "serving"]),
        st.integers(1, 3),
        min_size=1,
    )
)
def test_mistyped_keys_are_all_named_with_their_lines_however_many_and_wherever(where: dict[str, int]) -> None:
    config, wrong = (
        copy.deepcopy(GOOD),
        {f"{section}.zzz{number}".lstrip(".") for section, count in where.items() for number in range(count)},
    )
    for key in wrong:
        *sections, last = key.split(".")
        target = config
        for section in sections:
            target = target.setdefault(section, {})
        target[last] = 1
    Path("wrong.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(ConfigError) as caught:
        load(Path("wrong.yaml"), RunConfig)
    lines = Path("wrong.yaml").read_text().splitlines()
    assert sorted(problem.key for problem in caught.value.problems) == sorted(wrong)
    assert all(
        lines[(problem.line or 0) - 1].strip() == f"{problem.key.split('.')[-1]}: 1"
        for problem in caught.value.problems
    )


@pytest.mark.parametrize(
    "text",
    [
        "a: &a {x: 1}\nb: {<<: *a}\n",
        "name: !!python/object/apply:os.system [ls]\n",
        f"gate: {'a' * 300}\n",
        f"train: {{max_steps: 0x{'f' * 5000}}}\n",
        "!!int \n",
        "a: &a [*a]\n",
        "a: &a [1, 1, 1, 1, 1, 1]\n"
        + "".join(
            f"{b}: &{b} [*{a}, *{a}, *{a}, *{a}, *{a}, *{a}]\n" for a, b in zip("abcdefg", "bcdefgh", strict=True)
        ),
    ],
    ids=[
        "merge-key",
        "python-tag",
        "name-too-long",
        "huge-hex",
        "empty-int",
        "an-alias-of-itself",
        "aliases-that-multiply",
    ],
)
def test_yaml_of_every_kind_is_answered_with_its_problems(text: str) -> None:
    Path("any.yaml").write_text(text)
    with pytest.raises(ConfigError):
        load(Path("any.yaml"), RunConfig)


@pytest.mark.parametrize("value", ["[", "!!int ''", "'"])
def test_an_override_that_is_no_yaml_is_named(value: str) -> None:
    Path("good.yaml").write_text(yaml.safe_dump(GOOD))
    with pytest.raises(ConfigError) as caught:
        load(Path("good.yaml"), RunConfig, [f"train.learning_rate={value}"])
    assert [(problem.file, problem.key) for problem in caught.value.problems] == [("--set", "train.learning_rate")]
