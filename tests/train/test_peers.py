"""Example files of axolotl and LLaMA-Factory, said in our words (tests/train/peers): `check` passes each, and rows of
the same shape are read, tokenized and learnt where the example means it.

What they say that ours does not: 8-bit weights (`load_in_8bit`; 4 bits by `qlora`, or none), a warm-up in steps (ours
is a share), validation rows as a share (ours is a number), `pad_to_sequence_len` (nothing is padded), `special_tokens`
(a pad token is found), `trust_remote_code` (never), `template:` by name (the base's own chat template).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from configs.check import check_files
from configs.run.config import RunConfig
from tests.paths import ROOT
from train.check_data import check_rows
from train.show_rows import show_rows

pytestmark = pytest.mark.unit
PEERS = ROOT / "tests/train/peers"
Row = dict[str, Any]


def words(number: int, said: str) -> str:
    """Unlike in every row, so that none is nearly another."""
    return " ".join(f"{said}{(number * step) % 997}" for step in range(3, 15))


def alpaca(number: int) -> Row:
    more = words(number, "c") if number % 2 else ""
    return {"instruction": words(number, "a"), "input": more, "output": words(number, "b")}


def messages(number: int) -> Row:
    roles = [("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")]
    return {"messages": [{"role": role, "content": words(number, said)} for role, said in roles]}


def turn(role: str, number: int, said: str) -> Row:
    return {"role": role, "content": words(number, said)}


def trl_pair(number: int) -> Row:
    sides = {side: turn("assistant", number, said) for side, said in (("chosen", "b"), ("rejected", "c"))}
    return {"conversation": [turn("user", number, "a")]} | {side: [one] for side, one in sides.items()}


def sharegpt_pair(number: int) -> Row:
    sides = {side: {"from": "gpt", "value": words(number, said)} for side, said in (("chosen", "b"), ("rejected", "c"))}
    return {"conversations": [{"from": "human", "value": words(number, "a")}]} | sides


def judged(number: int) -> Row:
    return {"prompt": words(number, "a"), "completion": words(number, "b"), "label": bool(number % 2)}


def judged_conversation(number: int) -> Row:
    turns = [turn("user", number, "a"), turn("assistant", number, "b")]
    return {"messages": turns, "label": bool(number % 2)}


def plain(number: int) -> Row:
    return {"text": " ".join(words(number * 31 + step, "a") for step in range(8))}


SHAPES: dict[str, tuple[Callable[[int], Row], list[str]]] = {  # the runs of text that carry loss begin so
    "axolotl/lora-1b": (alpaca, ["b"]),
    "axolotl/instruct-lora-8b": (messages, ["b", "d"]),
    "axolotl/instruct-dpo-lora-8b": (trl_pair, ["b"]),
    "axolotl/qlora-1b-kto": (judged, ["b"]),
    "axolotl/fft-8b": (alpaca, ["b"]),
    "llama_factory/qwen3_lora_sft": (alpaca, ["b"]),
    "llama_factory/qwen3_lora_dpo": (sharegpt_pair, ["b"]),
    "llama_factory/qwen3_lora_kto": (judged_conversation, ["b"]),
    "llama_factory/qwen3_lora_pretrain": (plain, ["a"]),
    "llama_factory/qwen3_lora_reward": (sharegpt_pair, ["b"]),
}


def test_every_example_is_here() -> None:
    assert {str(path.relative_to(PEERS).with_suffix("")) for path in PEERS.glob("*/*.yaml")} == SHAPES.keys()


@pytest.mark.parametrize("name", SHAPES)
def test_an_example_passes_check(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert check_files([PEERS / f"{name}.yaml"], []) == []


@pytest.mark.parametrize("name", SHAPES)
def test_rows_of_its_shape_are_learnt_as_it_means(name: str, checkout: Path, tiny_gpt: Path) -> None:
    shutil.copytree(tiny_gpt, checkout / "tiny-gpt")
    make, learnt = SHAPES[name]
    Path("rows.jsonl").write_text("".join(json.dumps(make(number)) + "\n" for number in range(1, 61)), encoding="utf8")
    document = yaml.safe_load((PEERS / f"{name}.yaml").read_text(encoding="utf8"))
    kept = {key: value for key, value in document["data"].items() if key in ("format", "columns", "template", "long")}
    rows = {"source": "files", "files": ["rows.jsonl"], "max_tokens": 512, "validation_rows": 5, "test_rows": 5}
    config = RunConfig.model_validate(document | {"base": {"path": "tiny-gpt"}, "data": kept | rows})
    report, lines = check_rows(config)
    assert report["findings"] == {} and report["tokens"] == "tokens counted" and report["rows"] >= 60, lines
    shown = show_rows(config, 2)
    assert all([run["text"].lstrip()[:1] for run in row["runs"] if run["loss"]] == learnt for row in shown)
