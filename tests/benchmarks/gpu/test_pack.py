"""What travels to a lent machine arrives whole or is refused."""

from __future__ import annotations

import json
import random
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu import pack, unpack
from tests.paths import ROOT

pytestmark = pytest.mark.unit


@pytest.fixture
def packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two archives, the second in several parts, as `pack` leaves them."""
    folder = tmp_path / "gpu-parts"
    folder.mkdir()
    monkeypatch.setattr(pack, "PART_BYTES", 2000)
    parts: list[dict[str, object]] = []
    for archive, content in (("train", b"ours = 1\n"), ("serve", bytes(range(256)) * 3 + pack.STUB.encode())):
        tree = tmp_path / "tree" / archive
        (tree / "inner").mkdir(parents=True)
        (tree / f"{archive}_package.py").write_text(f"name = {archive!r}\n")
        (tree / "inner" / "data.bin").write_bytes(content + random.Random(1).randbytes(len(content) * 5))
        archived = pack.compress(tree, folder / f"{archive}.tar.xz")
        parts += pack.split(archived, archive, 1 + len(parts))
        archived.unlink()
    (folder / "MANIFEST.json").write_text(json.dumps({"settings": {"serve": {"PROVE_GPU_SEEN": "0"}}, "parts": parts}))
    return folder


def parts_of(packed: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((packed / "MANIFEST.json").read_text())["parts"]
    return found


def carried(packed: Path, folder: Path, *names: str) -> Path:
    """What one call brings: some parts, and always the manifest."""
    folder.mkdir()
    for name in ("MANIFEST.json", *names):
        (folder / name).write_bytes((packed / name).read_bytes())
    return folder


def test_an_archive_becomes_an_environment_once_all_its_parts_came_each_by_a_call_of_its_own(
    packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names, target = [part["file"] for part in parts_of(packed)], tmp_path / "gpu"
    assert len(names) > 3 and names[:2] == ["part01", "part02"]
    for number, name in enumerate(names):
        assert unpack.main(carried(packed, tmp_path / f"call-{number}", name), target) == 0
        said = capsys.readouterr().out
        assert "train: ready" in said
        assert ("serve: ready" in said) == (number == len(names) - 1)
    for archive in ("train", "serve"):
        (data,) = (target / archive).glob("lib/*/site-packages/inner/data.bin")
        assert data.read_bytes() == (tmp_path / "tree" / archive / "inner" / "data.bin").read_bytes()
        seen = "os.environ.get('PROVE_GPU_SEEN')"
        code = f"import os, {archive}_package, pytest; print({archive}_package.name, pytest.__name__, {seen})"
        # isolated as infra/vllm/version.py asks it; pytest is of the machine's own packages
        done = subprocess.run([target / archive / "bin/python", "-I", "-c", code], capture_output=True, text=True)
        assert done.stdout.split() == [archive, "pytest", "0" if archive == "serve" else "None"], done.stderr


@pytest.mark.parametrize(
    "harm", [lambda data: data[:-1], lambda data: bytes([data[0] ^ 1]) + data[1:], lambda data: b""]
)
def test_a_broken_part_is_refused_and_nothing_of_its_call_is_kept(
    harm: Any, packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = packed / "part02"
    path.write_bytes(harm(path.read_bytes()))
    assert unpack.main(packed, tmp_path / "gpu") == 2
    assert re.search(r"part02: found sha256 \w{12}, \d+ of \d+ bytes, expected \w{12}", capsys.readouterr().err)
    assert list((tmp_path / "gpu").rglob("part*")) == [tmp_path / "gpu/parts"]
    assert not (tmp_path / "gpu/train").exists()


def test_every_part_is_below_the_limit_and_the_manifest_counts_every_byte(packed: Path) -> None:
    for part in parts_of(packed):
        assert part["bytes"] == (packed / part["file"]).stat().st_size <= pack.PART_BYTES


def test_a_pattern_that_cuts_nothing_is_an_error_for_the_package_has_changed(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    pack.cut(tmp_path, ("bin",))
    assert not (tmp_path / "bin").exists()
    with pytest.raises(RuntimeError, match="nothing matches bin"):
        pack.cut(tmp_path, ("bin",))


def test_a_stub_gives_a_class_for_every_name_but_none_for_what_python_itself_asks(tmp_path: Path) -> None:
    (tmp_path / "stubbed.py").write_text(pack.STUB)
    code = "import stubbed; stubbed.GrammarMatcher(); print(hasattr(stubbed, '__path__'))"
    done = subprocess.run(["python3", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_what_is_packed_of_ours_has_the_versions_of_the_locks() -> None:
    def pins(path: str) -> dict[str, str]:
        return dict(re.findall(r"(?m)^([a-z0-9-]+)==(\S+)", (ROOT / path).read_text(encoding="utf8")))

    ours, locked = pins("benchmarks/gpu/train.txt"), pins("requirements/gpu-train.txt")
    assert len(ours) > 10
    assert {name: version for name, version in ours.items() if locked.get(name, version) != version} == {}
    assert {name for name in ours if name not in locked} <= {"liger-kernel"}
