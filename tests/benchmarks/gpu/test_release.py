"""The releases of the served parts: one body, two heads, answers that no rounding changes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.gpu.release import write_releases
from benchmarks.gpu.shapes import LLAMA_8B, TINY, flops_per_token
from configs.release import verify_release
from configs.run.serving import Serving
from infra.dvc.releases import folder_of

pytestmark = pytest.mark.unit


def test_two_releases_share_their_body_and_answer_otherwise(tmp_path: Path) -> None:
    found = write_releases(tmp_path, TINY, Serving(dtype="bfloat16"), ("one", "two"))
    one, two = (tmp_path / folder_of(reference) / "release" for reference in found)
    assert {verify_release(folder).reference for folder in (one, two)} == set(found)
    bodies = [file.name for file in one.glob("body-*")]
    assert bodies and all((one / name).stat().st_ino == (two / name).stat().st_ino for name in bodies)
    answers = [
        [json.loads(line) for line in (folder / "golden.jsonl").read_text().splitlines()] for folder in (one, two)
    ]
    assert all(line["answer"] != other["answer"] for line, other in zip(*answers, strict=True))
    # Far from a tie: another runtime's rounding finds the same token.
    assert all(len(line["answer"]) == 8 and line["first_token_logprob"] > -0.01 for found in answers for line in found)


def test_a_token_of_the_8b_costs_what_its_weights_and_its_attention_say() -> None:
    """7.5 billion multiplied weights, 4 operations each, and 1.6 GFLOP of attention over 2,048 tokens."""
    assert flops_per_token(LLAMA_8B, 2048) == pytest.approx(4 * 7.504e9 + 1.61e9, rel=0.01)
