"""A GGUF header's numbers and texts, as the gguf package reads them, without its seconds."""

from __future__ import annotations

import os
from pathlib import Path

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.run.gguf import read_gguf_header

pytestmark = pytest.mark.unit
KEY = st.from_regex(r"[a-z][a-z_.]{0,12}", fullmatch=True)


@given(
    st.dictionaries(
        KEY, st.integers(0, 2**32 - 1) | st.text(max_size=9) | st.booleans() | st.just(["a", "bb"]), max_size=6
    )
)
def test_every_value_but_a_list_is_read(tmp_path_factory: pytest.TempPathFactory, wanted: dict[str, object]) -> None:
    from gguf import GGUFWriter

    path = tmp_path_factory.mktemp("gguf") / "model.gguf"
    writer = GGUFWriter(str(path), "llama")
    for key, value in wanted.items():
        if isinstance(value, bool):
            writer.add_bool(f"x.{key}", value)
        elif isinstance(value, int):
            writer.add_uint32(f"x.{key}", value)
        elif isinstance(value, str):
            writer.add_string(f"x.{key}", value)
        else:
            writer.add_array(f"x.{key}", ["a", "bb"])
    writer.add_array("last.numbers", [1, 2, 3])
    writer.add_tensor("t", numpy.zeros(4, dtype=numpy.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    scalars = {f"x.{key}": value for key, value in wanted.items() if not isinstance(value, list) and value != ""}
    found = read_gguf_header(path)
    assert found["general.architecture"] == "llama"
    assert {key: value for key, value in found.items() if key.startswith("x.") and value != ""} == scalars


@pytest.mark.parametrize("content", [b"", b"GGUF", b"GGUF\x03\0\0\0", b"PK\x03\x04", b"GGUF" + b"\xff" * 64])
def test_what_is_no_whole_header_is_said(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.gguf").write_bytes(content)
    with pytest.raises(ValueError, match=r"GGUF|header|bytes|kind"):
        read_gguf_header(tmp_path / "model.gguf")


def test_a_file_is_passed_through_once_until_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from gguf import GGUFWriter

    def write(value: int) -> None:
        writer = GGUFWriter(str(path), "llama")
        writer.add_uint32("x.a", value)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.close()
        os.utime(path, ns=(value, value))

    path = tmp_path / "model.gguf"
    write(1)
    read_gguf_header(path)["x.a"] = 7
    with monkeypatch.context() as patch:
        patch.setattr("configs.run.gguf.number", lambda *_: pytest.fail("read again"))
        assert read_gguf_header(path)["x.a"] == 1, "what a reader does to it is its own"
    write(2)
    assert read_gguf_header(path)["x.a"] == 2
