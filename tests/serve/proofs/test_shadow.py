"""The shadow: what users ask is asked again, and what the new release says decides; nothing that was redacted, and
nothing by chance."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import serve.proofs.shadow
from configs.environment.config import DeployConfig
from configs.environment.sampling import Shadow
from configs.errors import InconclusiveError, InputError, RefusedError
from serve.proofs.shadow import Pair, ShadowFacts, check_bounds, compare, follow, labels_of, run, summarise, token_f1
from serve.record.environment import Environment
from tests.support.fake_openai import Fake, serving

pytestmark = pytest.mark.unit
SETTINGS = {"share": 1.0, "seconds": 1.0, "minimum_requests": 5, "minimum_agreement": 0.9, "agreement": "exact"}


def row(number: int, text: str = "one two three", **facts: Any) -> dict[str, Any]:
    body = {"model": "m", "messages": [{"role": "user", "content": str(number)}], "temperature": 0}
    answer = {"text": text, "finish_reason": "stop", "tokens": 3}
    return {
        "at": number,
        "path": "/v1/chat/completions",
        "body": body,
        "status": 200,
        "answer": answer,
        "redactions": 0,
        "seconds": 0.1,
    } | facts


def shadowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fake: Fake, rows: list[dict[str, Any]], **facts: Any
) -> ShadowFacts:
    """Blue's samples come in while the shadow runs; those written before are none of its business."""
    monkeypatch.chdir(tmp_path)
    samples = Path("state/samples")
    samples.mkdir(parents=True)
    (samples / "blue-1.jsonl").write_text(json.dumps(row(99, "old")) + "\n")
    (samples / "green-1.jsonl").write_text("")

    def write() -> None:
        for place, one in enumerate(rows):
            line = json.dumps(one) + "\n"
            with (samples / f"blue-{1 + place % 2}.jsonl").open("a") as stream:
                stream.write(line[:7])
                stream.flush()
                stream.write(line[7:])

    with serving(fake):
        config = {
            "name": "x",
            "model": "m",
            "slot_ports": [1, fake.port],
            "state_dir": "state",
            "shadow": SETTINGS | facts,
        }

        def followed(folder: Path, slot: str, seconds: float) -> Iterator[Any]:
            found = follow(folder, slot, seconds)
            write()
            return found

        monkeypatch.setattr(serve.proofs.shadow, "follow", followed)
        return run(Environment(DeployConfig.model_validate(config)), "green")


def test_the_same_answers_pass_and_every_question_was_asked_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = Fake()
    facts = shadowed(tmp_path, monkeypatch, fake, [row(number) for number in range(8)])
    assert (
        facts["asked"],
        facts["failed"],
        facts["compared"],
        facts["exact"],
        facts["token_f1"],
        facts["skipped"],
    ) == (8, 0, 8, 1.0, 1.0, 0)
    assert (
        sorted(body["messages"][0]["content"] for _, body in fake.bodies) == [str(number) for number in range(8)]
        and facts["latency_ratio"] > 0
    )


def test_other_answers_are_refused_with_their_agreement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Fake(
        answer=lambda body: (
            ["one", " two", " four"] if int(body["messages"][0]["content"]) % 2 else ["one", " two", " three"]
        )
    )
    with pytest.raises(RefusedError, match=r"agree by exact 0\.500 on 8 requests, expected at least 0\.9"):
        shadowed(tmp_path, monkeypatch, fake, [row(number) for number in range(8)])


def test_failures_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RefusedError, match=r"error rate is 50\.0% of 8, expected at most 0\.0%"):
        shadowed(
            tmp_path, monkeypatch, Fake(fails=lambda number: number % 2 == 0), [row(number) for number in range(8)]
        )


def test_what_was_redacted_or_refused_by_the_old_release_is_not_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = Fake()
    rows = [row(number) for number in range(6)] + [row(50, redactions=1), row(51, status=400)]
    assert shadowed(tmp_path, monkeypatch, fake, rows)["skipped"] == 2 and len(fake.bodies) == 6


def test_too_few_requests_prove_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InconclusiveError, match="the shadow asked 2 requests, at least 5"):
        shadowed(tmp_path, monkeypatch, Fake(), [row(number) for number in range(2)], seconds=0.8)


def test_without_sampling_there_is_nothing_to_ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="nothing is sampled"):
        run(Environment(DeployConfig.model_validate({"name": "x", "model": "m"})), "green")


@pytest.mark.parametrize(
    ("body", "old", "new", "agreement"),
    [
        ({"temperature": 0}, {"text": "a b "}, {"text": "a b"}, (1.0, 1.0)),
        ({"temperature": 0}, {"text": "a b"}, {"text": "a c"}, (0.0, 0.5)),
        ({"temperature": 0.7}, {"text": "a"}, {"text": "b"}, (None, None)),
        ({}, {"text": "a"}, {"text": "a"}, (None, None)),
        ({}, {"json": {"data": [{"probs": [0.4, 0.6]}]}}, {"json": {"data": [{"probs": [0.1, 0.9]}]}}, (1.0, 1.0)),
        (
            {},
            {"json": {"data": [{"data": [[0.9, 0.1], [0.2, 0.8]]}]}},
            {"json": {"data": [{"data": [[0.9, 0.1], [0.7, 0.3]]}]}},
            (0.5, 0.5),
        ),
        ({}, {"json": {"data": [{"embedding": [0.1]}]}}, {"json": {"data": [{"embedding": [0.1]}]}}, (None, None)),
        ({"temperature": 0}, {"json": {}}, {"text": "a"}, (None, None)),
    ],
)
def test_texts_labels_and_tags_are_compared_and_nothing_else(
    body: dict[str, Any], old: Any, new: Any, agreement: tuple[Any, Any]
) -> None:
    assert compare(body, old, new) == agreement


@given(st.text(), st.text())
def test_token_f1_is_a_share_alike_both_ways_and_whole_for_the_same(one: str, other: str) -> None:
    assert 0 <= token_f1(one, other) == token_f1(other, one) <= 1 and token_f1(one, one) == 1
    assert labels_of({"data": [{"probs": [0.0, 1.0, 0.5]}, {"probs": []}]}) == [1]


def test_a_sum_of_nothing_has_no_rate() -> None:
    assert summarise([]) == {"asked": 0, "failed": 0, "compared": 0}
    facts = summarise([Pair(True, 0.1, 0.2, 1.0, 1.0), Pair(True, 0.1, 0.2), Pair(False, 0.1, 9.0)])
    assert facts == {
        "asked": 3,
        "failed": 1,
        "compared": 1,
        "error_rate": pytest.approx(1 / 3),
        "exact": 1.0,
        "token_f1": 1.0,
        "latency_ratio": 2.0,
    }


def checked(**facts: Any) -> Callable[[], None]:
    settings = Shadow.model_validate({"minimum_requests": 2, **facts})
    return lambda: check_bounds(
        {"asked": 4, "failed": 1, "compared": 1, "error_rate": 0.25, "exact": 0.5, "token_f1": 0.8}, settings, "x"
    )


def test_only_stated_bounds_are_asked_for() -> None:
    checked(maximum_error_rate=0.25)()
    with pytest.raises(InconclusiveError, match="compared 1 requests"):
        checked(maximum_error_rate=0.25, minimum_agreement=0.1)()


def test_samples_are_followed_until_the_time_is_over_and_files_may_vanish(tmp_path: Path) -> None:
    (tmp_path / "blue-1.jsonl").write_text('{"n": 1}\n')
    found = follow(tmp_path, "blue", 0.5)
    (tmp_path / "blue-2.jsonl").write_text('{"n": 2}\n{"n": 3}\n{"n"')
    (tmp_path / "blue-1.jsonl").unlink()
    rows = list(found)
    assert rows == [{"n": 2}, {"n": 3}]
