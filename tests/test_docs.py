"""What the pages say exists: links, commands, files of this repository."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from itertools import pairwise, takewhile
from pathlib import Path
from typing import Any

import pytest

from docs.hooks.command_reference import command_reference
from docs.hooks.markup import code, text
from docs.hooks.yaml_reference import yaml_reference
from tests.paths import ROOT

TARGETS = set(" ".join(re.findall(r"(?m)^([a-z -]+):", (ROOT / "Makefile").read_text(encoding="utf8"))).split())
PAGES = sorted([*ROOT.glob("docs/*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"])
# Written when the program runs, or placeholders.
MADE = ("build/", "releases/", ".venv", "data/", "trained/", "release/", "parent/", "eval/", "gate/", "router/")


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
@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "README.md"], ids=ids)
def test_a_page_begins_with_a_few_commands_that_exist(page: Path) -> None:
    """The common task comes first; a command's options and the files that it is given are looked up as well."""
    found = re.match(r"# [^\n]+\n\n```sh\n(.*?)\n```\n", page.read_text(encoding="utf8"), flags=re.DOTALL)
    assert found, "a title, then a block of commands"
    lines = [re.sub(r"\s#.*", "", line) for line in found[1].splitlines()]
    assert 1 <= len(lines) <= 5
    assert [problem for line in lines for problem in problems(line)] == []


def problems(line: str) -> Iterator[str]:
    """What of a line of shell is not there: a target of make, a command or option of ours, a module, a file."""
    words = shlex.split(line.replace("|", " | ").replace("&&", " && ").replace(";", " ; "))
    for number, (word, after) in enumerate(pairwise([*words, ""])):
        if word == "make":
            yield from (f"make {target}" for target in arguments(words[number + 1 :]) if target not in TARGETS)
        if word == ".venv/bin/tunegate":
            yield from unknown(words[number + 1 :])
        if word == "-m" and "." in after and not (ROOT / f"{after.replace('.', '/')}.py").exists():
            yield f"no module {after}"
        if word.startswith(("configs/", "tests/", "infra/", "docs/")) and not list(ROOT.glob(word)):
            yield f"no file {word}"


def arguments(words: list[str]) -> Iterator[str]:
    yield from takewhile(lambda word: word not in ("&&", ";", "|"), (word for word in words if "=" not in word))


def unknown(words: list[str]) -> Iterator[str]:
    """Of the words after `tunegate`: a command that is none, an option that it does not have."""
    import typer

    from tunegate import app

    command: Any = typer.main.get_command(app)
    for word in arguments(words):
        known = {name for one in command.params for name in (*one.opts, *one.secondary_opts)} | {"--help"}
        if word.startswith("--"):
            yield from [word] if word not in known else []
        elif getattr(command, "commands", None):
            if word not in command.commands:
                yield f"tunegate {word}"
                return
            command = command.commands[word]


@pytest.mark.unit
@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "ci.md"], ids=ids)
def test_yaml_shown_has_keys_and_values_that_exist(page: Path) -> None:
    """A part of a config, so nothing is required; ci.md shows another program's YAML and has its own test."""
    from jsonschema import Draft202012Validator
    from ruamel.yaml import YAML

    schemas = [json.loads(path.read_text(encoding="utf8")) for path in (ROOT / "configs/schema").glob("*.json")]
    validators = [Draft202012Validator(optional(schema)) for schema in schemas]
    for block in re.findall(r"```yaml\n(.*?)```", page.read_text(encoding="utf8"), flags=re.DOTALL):
        shown = YAML(typ="safe").load(block)
        assert any(one.is_valid(shown) for one in validators), block


def optional(schema: Any) -> Any:
    if isinstance(schema, dict):
        return {key: optional(value) for key, value in schema.items() if key != "required"}
    return [optional(one) for one in schema] if isinstance(schema, list) else schema


@pytest.mark.unit
def test_signs_of_code_are_text_on_a_page() -> None:
    assert text("<b>|`*a*`[x](y) & _z_") == "&lt;b&gt;&#124;&#96;&#42;a&#42;&#96;&#91;x&#93;(y) &amp; &#95;z&#95;"
    assert code("a\n| --- |") == "<code>a &#124; --- &#124;</code>"


@pytest.mark.unit
def test_the_yaml_reference_has_every_key_with_its_default() -> None:
    page = yaml_reference(ROOT / "configs/schema")
    assert f"| {code('bake_seconds')} | integer, at least 0 | {code(15)} | watch green under traffic" in page
    assert f"### {code('rules[] (rule: non_inferior_to)')}" in page and f"### {code('train.lora')}" in page
    for path in (ROOT / "configs/schema").glob("*.json"):
        schema = json.loads(path.read_text(encoding="utf8"))
        keys = {name for section in (schema, *schema["$defs"].values()) for name in section.get("properties", {})}
        assert {name for name in keys if f"\n| {code(name)} |" not in page} == set(), path


@pytest.mark.unit
def test_the_command_reference_has_every_command_and_option() -> None:
    import typer

    from tunegate import app

    page = command_reference(app)

    def check(command: Any, name: str) -> None:
        context = command.context_class(command, info_name=name)
        records = [one.get_help_record(context) for one in command.params] if name != "tunegate" else []
        assert name == "tunegate" or re.search(rf"(?m)^##+ {name}$", page), name
        assert [words for words, _ in filter(None, records) if code(words) not in page] == []
        for below, one in getattr(command, "commands", {}).items():
            check(one, f"{name} {below}")

    check(typer.main.get_command(app), "tunegate")


@pytest.mark.unit
def test_every_sub_room_is_on_the_page_of_architecture() -> None:
    page = (ROOT / "docs/architecture.md").read_text(encoding="utf8")
    for room in ("configs", "infra", "train", "eval", "serve"):
        table = page.partition(f"### `{room}/`")[2].partition("\n##")[0]
        folders = {path.parent.name for path in (ROOT / room).glob("*/__init__.py")}
        assert folders and folders == set(re.findall(r"(?m)^\| `(\w+)/` \|", table)), room


@pytest.mark.unit
def test_every_reader_has_a_page() -> None:
    assert {"ml-engineer", "reviewer", "application-developer", "operator", "gpu", "notes"} <= {
        page.stem for page in PAGES
    }
