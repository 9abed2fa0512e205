"""Headers of safetensors files: what the library wrote is read, what is no whole file is said, never a traceback."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.safetensors_files import write_weights
from train.model.tensors import read_shapes

pytestmark = pytest.mark.unit
SAME_FOLDER = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)


def test_shapes_are_those_that_the_library_wrote(tiny_gpt: Path) -> None:
    from safetensors import safe_open

    with safe_open(tiny_gpt / "model.safetensors", "pt") as weights:
        written = {name: list(weights.get_slice(name).get_shape()) for name in weights.keys()}  # noqa: SIM118
    assert read_shapes(tiny_gpt / "model.safetensors") == written


@given(cut=st.integers(0, 200))
@SAME_FOLDER
def test_a_file_cut_anywhere_is_no_whole_file(tmp_path: Path, cut: int) -> None:
    whole = write_weights(tmp_path / "whole.safetensors", {"a": [2, 3], "b": [4]}).read_bytes()
    (tmp_path / "cut").write_bytes(whole[: min(cut, len(whole) - 1)])
    with pytest.raises(ValueError, match=r"\w"):
        read_shapes(tmp_path / "cut")


@given(content=st.binary(max_size=64))
@SAME_FOLDER
def test_any_bytes_are_shapes_or_a_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "any").write_bytes(content)
    try:
        assert isinstance(read_shapes(tmp_path / "any"), dict)
    except ValueError as error:
        assert str(error)
