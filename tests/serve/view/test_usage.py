"""`tunegate usage`: tokens by key, release, path or day."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.view.usage import BY, read_usage, summed

pytestmark = pytest.mark.unit
ROW = st.fixed_dictionaries(
    {
        "at": st.floats(0, 4e9),
        "key": st.sampled_from(["a", "b", "jwt:x%40y"]),
        "release": st.sampled_from(["r1", "r2"]),
        "path": st.just("/v1/completions"),
        "ended": st.booleans(),
        "prompt_tokens": st.integers(0, 10**9),
        "completion_tokens": st.integers(0, 10**9),
    }
)


@given(st.lists(ROW), st.sampled_from(BY))
def test_no_token_is_lost_or_counted_twice(rows: list[dict[str, Any]], by: Any) -> None:
    found = summed(rows, by)
    for name in ("prompt_tokens", "completion_tokens"):
        assert sum(row[name] for row in found) == sum(row[name] for row in rows)  # type: ignore[literal-required]
    assert sum(row["requests"] for row in found) == len(rows)
    assert sum(row["left"] for row in found) == sum(not row["ended"] for row in rows)
    assert len({row["group"] for row in found}) == len(found)


def test_only_rows_of_the_time_asked_for_count_and_a_torn_line_is_none(tmp_path: Path) -> None:
    noon = datetime(2026, 11, 27, 12, tzinfo=UTC).timestamp()
    lines = [json.dumps({"at": noon + hours * 3600, "key": "a", "prompt_tokens": 1}) for hours in (-25, -1, 0, 1)]
    (tmp_path / "2026-11-27-blue.jsonl").write_text("\n".join(lines) + '\n{"at": 1764\nnull\n[]\n')
    assert [row["at"] - noon for row in read_usage(tmp_path, noon - 86_400, noon + 1)] == [-3600, 0]
    assert [row["group"] for row in summed(read_usage(tmp_path, 0, 4e9), "day")] == ["2026-11-26", "2026-11-27"]
