"""The long table: what is a sample, what is none, and that what went in comes out."""

from __future__ import annotations

import math
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eval.metrics.samples import Sample, read_samples, samples_in, samples_of_predictions, select, write_samples

pytestmark = pytest.mark.unit
NAME = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
SAMPLES = st.lists(
    st.builds(Sample, NAME, st.none() | NAME, NAME, NAME, st.floats(allow_nan=False)), max_size=20
)  # fmt: skip


@given(SAMPLES)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_written_is_read(tmp_path: Path, samples: list[Sample]) -> None:
    write_samples(tmp_path / "samples.parquet", iter(samples))
    found = read_samples(tmp_path / "samples.parquet", tmp_path / "nowhere.parquet")
    assert [*found.columns] == [*Sample._fields] and not (tmp_path / "samples.parquet.partial").exists()
    read = [Sample(*row) for row in found.itertuples(index=False)]
    assert [one._replace(cluster=one.cluster if isinstance(one.cluster, str) else None) for one in read] == samples
    assert [*samples_in(tmp_path / "samples.parquet")] == samples, "a missing cluster stays None"


def test_a_column_that_says_nothing_of_a_row_is_no_sample_and_what_is_no_number_is_one(tmp_path: Path) -> None:
    """valid_json of a text is nothing; an infinite loss is a loss, which no rule passes by."""
    path = tmp_path / "predictions.parquet"
    columns = {
        "id": ["a", "b", "c"],
        "cluster": ["x", "x", "y"],
        "correct": [1.0, 0.0, 1.0],
        "valid_json": [1.0, None, 0.0],
        "log_loss": [0.1, math.inf, math.nan],
        "judge_score": [4.0, math.nan, math.nan],
        "judge_missing": [0.0, 1.0, math.nan],
        "custom:polite": [None, 0.5, 0.25],
    }
    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    names = ["exact_match", "valid_json", "log_loss", "macro_f1", "judge_score", "judge_missing", "custom:polite"]
    write_samples(tmp_path / "samples.parquet", samples_of_predictions(path, names))
    found = read_samples(tmp_path / "samples.parquet")

    def of(source: str, metric: str) -> dict[str, float]:
        return dict(select(found, source, metric)[["id", "value"]].itertuples(index=False))

    assert of("test", "exact_match") == {"a": 1, "b": 0, "c": 1}
    assert of("test", "valid_json") == {"a": 1, "c": 0} and of("test", "custom:polite") == {"b": 0.5, "c": 0.25}
    assert of("test", "log_loss")["b"] == math.inf and math.isnan(of("test", "log_loss")["c"])
    assert of("judge", "judge_score") == {"a": 4} and of("judge", "judge_missing") == {"a": 0, "b": 1}
    assert of("test", "macro_f1") == {}, "a figure of the whole set is none of single rows"
    assert [*select(found, "test", "exact_match")["cluster"]] == ["x", "x", "y"]


def test_nothing_is_there_to_be_read(tmp_path: Path) -> None:
    assert read_samples(tmp_path / "samples.parquet") is None
    (tmp_path / "samples.parquet").write_bytes(b"torn")
    with pytest.raises((ValueError, OSError)):
        read_samples(tmp_path / "samples.parquet")
