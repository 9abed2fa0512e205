"""How long a server may take to start: never less than before, more for more bytes, and as a YAML says where it
does."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.state.start_time import (
    LEAST_SECONDS,
    LONGEST_SECONDS,
    MOST_KNOWN,
    Start,
    known_starts,
    note_start,
    start_timeout,
    timeout_of,
    usual_seconds,
)
from tests.support.slots import manifest

pytestmark = pytest.mark.unit
GB = 10**9
sizes = st.integers(0, 2_000 * GB)
starts = st.lists(
    st.builds(Start, st.sampled_from(["this", "that", "another"]), sizes, st.floats(0, 1e9, allow_nan=False)),
    max_size=4,
)


@given(sizes, starts, st.integers(10, 10**6))
def test_what_a_yaml_says_is_obeyed(size: int, known: list[Start], stated: int) -> None:
    assert start_timeout("this", size, known, stated) == stated


@given(sizes, starts, st.sampled_from([LEAST_SECONDS, 600.0]))
def test_it_is_never_shorter_than_it_was_nor_endless(size: int, known: list[Start], least: float) -> None:
    assert least <= start_timeout("this", size, known, None, least) <= LONGEST_SECONDS


@given(sizes, sizes, st.floats(0, 1e9, allow_nan=False))
def test_more_bytes_never_get_less_time(one: int, other: int, seconds: float) -> None:
    small, large = sorted((one, other))
    for known in ([], [Start("this", small, seconds)]):
        assert start_timeout("this", small, known) <= start_timeout("this", large, known)


@given(sizes, st.floats(1, LONGEST_SECONDS / 3), starts)
def test_a_start_as_slow_as_the_last_one_of_this_release_is_waited_for(
    size: int, seconds: float, others: list[Start]
) -> None:
    """Three times over, whatever is known of others."""
    known = [*(one for one in others if one.digest != "this"), Start("this", size, seconds)]
    assert start_timeout("this", size, known) >= min(3 * seconds, LONGEST_SECONDS) * (1 - 1e-9)


@given(sizes, starts)
def test_a_release_of_another_size_says_nothing(size: int, known: list[Start]) -> None:
    far = [one for one in known if one.digest != "this" and not size / 2 <= one.size_bytes <= 2 * size]
    assert start_timeout("this", size, far) == start_timeout("this", size, [])


@pytest.mark.parametrize(
    ("size_bytes", "known", "expected"),
    [
        (270_000_000, [], 302.7),  # SmolLM2 in bf16
        (16 * GB, [], 460),  # 8B in bf16
        (140 * GB, [], 1700),  # 70B in bf16
        (140 * GB, [Start("this", 140 * GB, 900)], 2700),
        (140 * GB, [Start("that", 140 * GB, 900)], 2700),
        (140 * GB, [Start("that", 70 * GB, 900)], 5400),  # twice the bytes
        (140 * GB, [Start("that", 16 * GB, 900)], 1700),
        (140 * GB, [Start("that", 140 * GB, 5000), Start("this", 140 * GB, 60)], 1700),  # its own is known
        (140 * GB, [Start("this", 140 * GB, 60)], 1700),  # from the page cache, the last time
    ],
)
def test_worked_examples(size_bytes: int, known: list[Start], expected: float) -> None:
    assert start_timeout("this", size_bytes, known) == pytest.approx(expected)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TUNEGATE_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache/starts.json"


def test_the_last_start_of_a_release_is_known_to_the_next_command(cache: Path) -> None:
    assert usual_seconds(manifest()) is None
    for seconds in (500.0, 812.5, None):
        note_start(manifest(), seconds)
    assert usual_seconds(manifest()) == 812.5 and math.isclose(timeout_of(manifest()), 2437.5)


def test_an_environments_last_start_counts_where_this_releases_is_not_known(cache: Path) -> None:
    assert math.isclose(timeout_of(manifest(), last=900), 2700)
    note_start(manifest(), 200)
    assert math.isclose(timeout_of(manifest(), last=900), 600)


def test_only_the_last_are_kept_and_spoiled_ones_are_none(cache: Path) -> None:
    for number in range(MOST_KNOWN + 5):
        note_start(manifest().model_copy(update={"digest": f"sha256:{number}"}), 10)
    assert len(known_starts()) == MOST_KNOWN
    cache.write_text('{"a": [1, 2, 3], "b": [1, "2", 3], "c": 1, "d": [], "e": [true, 1, 1]}')
    assert [one.digest for one in known_starts()] == ["a"]
