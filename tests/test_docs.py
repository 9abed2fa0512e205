"""What the pages say exists: links, commands, files of this repository."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.paths import ROOT

PAGES = sorted([*ROOT.glob("docs/*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"])
# Written when the program runs, or placeholders.
MADE = ("build/", "releases/", ".venv", "data/", "adapter/", "release/", "parent/", "eval/", "gate/", "router/")


def ids(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.unit
@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.unit
@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_every_command_named_is_one_of_ours(page: Path) -> None:
    import typer

    from tunegate import app

    group: Any = typer.main.get_command(app)
    named = re.findall(r"(?:`|\.venv/bin/|^|\$ )tunegate ([a-z]+)", page.read_text(encoding="utf8"), flags=re.MULTILINE)
    assert set(named) - set(group.commands) == set()


@pytest.mark.unit
@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_files_named_in_code_spans_exist(page: Path) -> None:
    spans = re.findall(r"`([\w.-]+/[\w./-]+\.(?:py|ya?ml|json|txt|md|in))`", page.read_text(encoding="utf8"))
    named = [span for span in spans if not span.startswith(MADE) and not re.search(r"[A-Z]{3,}", span)]
    assert [name for name in named if not (ROOT / name).exists()] == []


@pytest.mark.unit
def test_every_reader_has_a_page() -> None:
    assert {"ml-engineer", "reviewer", "application-developer", "operator", "gpu", "notes"} <= {
        page.stem for page in PAGES
    }
