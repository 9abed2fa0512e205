"""What is known from before is this user's own word, or nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from infra.files.user_cache import cache_file, change_cache, read_cache
from tests.paths import ROOT

pytestmark = pytest.mark.unit
KNOWN = {"a": 1}


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    path = tmp_path / "tunegate/known.json"
    change_cache(path, lambda found: found | KNOWN)
    return path


def test_what_is_kept_is_read_by_its_owner_alone(kept: Path) -> None:
    assert read_cache(kept) == KNOWN
    assert kept.stat().st_mode & 0o777 == 0o600 and kept.parent.stat().st_mode & 0o777 == 0o700
    change_cache(kept, lambda found: found | {"b": 2})
    assert read_cache(kept) == KNOWN | {"b": 2} and kept.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o640, 0o604, 0o666])
def test_a_file_that_others_may_open_is_ignored_and_written_anew(kept: Path, mode: int) -> None:
    kept.chmod(mode)
    assert read_cache(kept) == {}
    change_cache(kept, lambda found: found | {"b": 2})
    assert read_cache(kept) == {"b": 2}


@pytest.mark.parametrize("mode", [0o720, 0o702, 0o1777])
def test_a_folder_that_others_may_write_is_neither_read_nor_written(kept: Path, mode: int) -> None:
    kept.parent.chmod(mode)
    assert read_cache(kept) == {}
    change_cache(kept, lambda found: {"b": 2})
    assert json.loads(kept.read_text()) == KNOWN


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
@pytest.mark.parametrize("given", ["known.json", "."])
def test_another_users_file_or_folder_is_ignored(kept: Path, given: str) -> None:
    os.chown(kept.parent / given, 10001, 10001)
    assert read_cache(kept) == {}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has a home of another")
def test_no_folder_is_made_in_the_home_of_another(tmp_path: Path) -> None:
    os.chown(tmp_path, 10001, 10001)
    change_cache(tmp_path / "tunegate/known.json", lambda found: KNOWN)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["known.json", ".known.json.lock"])
def test_a_link_is_not_followed(kept: Path, tmp_path: Path, name: str) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text('{"forged": 1}')
    elsewhere.chmod(0o600)
    (kept.parent / name).unlink()
    (kept.parent / name).symlink_to(elsewhere)
    assert "forged" not in read_cache(kept)
    change_cache(kept, lambda found: found | {"b": 2})
    assert elsewhere.read_text() == '{"forged": 1}'


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff\xfe", b"null", b'{"a": 1}' + b"\0" * 9])
def test_a_spoiled_file_is_as_good_as_none(kept: Path, content: bytes) -> None:
    kept.write_bytes(content)
    assert read_cache(kept) == {}
    change_cache(kept, lambda found: found | KNOWN)
    assert read_cache(kept) == KNOWN


def test_where_nothing_can_be_kept_nothing_is_known_and_nothing_fails(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (None, tmp_path / "file/known.json", Path("/proc/tunegate/known.json")):
        change_cache(path, lambda found: KNOWN)
        assert read_cache(path) == {}


@pytest.mark.parametrize(
    ("ours", "xdg", "home", "expected"),
    [
        ("/c", "/x", "/home/me", "/c/name"),
        ("", "/x", "/home/me", "/x/tunegate/name"),
        ("relative", "relative", "/home/me", "/home/me/.cache/tunegate/name"),
        ("", "", "", None),
    ],
)
def test_the_folder_is_the_users(
    monkeypatch: pytest.MonkeyPatch, ours: str, xdg: str, home: str, expected: str | None
) -> None:
    for name, value in (("TUNEGATE_CACHE_HOME", ours), ("XDG_CACHE_HOME", xdg), ("HOME", home)):
        monkeypatch.setenv(name, value)
    assert cache_file("name") == (Path(expected) if expected else None)


def test_writers_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from infra.files.user_cache import change_cache\n"
        "for number in range(20):\n"
        "    change_cache(Path('c/known.json'), lambda found: found | {f'{sys.argv[1]}{number}': 1})\n"
    )
    writers = [
        subprocess.Popen([sys.executable, "-c", code, name], cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)})
        for name in ("a", "b")
    ]
    assert [writer.wait() for writer in writers] == [0, 0]
    assert len(read_cache(tmp_path / "c/known.json")) == 40
