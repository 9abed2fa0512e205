"""The end of a log, however long it is; and a new one in its place."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.files.logs import begin_anew, end_of

pytestmark = pytest.mark.unit


@given(st.lists(st.text(alphabet="abü", max_size=10), min_size=1, max_size=40), st.integers(1, 50))
def test_the_end_is_the_last_lines(tmp_path_factory: pytest.TempPathFactory, lines: list[str], count: int) -> None:
    log = tmp_path_factory.mktemp("logs") / "x.log"
    log.write_text("".join(f"{line}\n" for line in lines), encoding="utf8")
    assert end_of(log, count) == lines[-count:]


def test_of_a_long_log_only_the_end_is_read(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    log.write_text("x\n" * 200_000 + "the end\n")
    assert end_of(log, 2, block=100) == ["x", "the end"] and end_of(tmp_path / "none", 3) == []


def test_a_large_log_is_put_aside_and_a_small_one_goes_on(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    for size, names in ((9, ["x.log"]), (10, ["x.log.1"])):
        log.write_text("." * size)
        begin_anew(log, 10)
        assert [path.name for path in sorted(tmp_path.iterdir())] == names
    begin_anew(log, 10)
