"""Whatever an environment's YAML says, to HAProxy it is one word."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configs.environment.config import DeployConfig
from configs.errors import InputError
from infra.haproxy.config import render, word
from infra.haproxy.jwks import SigningKey
from infra.haproxy.openapi import documents
from infra.haproxy.process import check_haproxy, find_haproxy

HOSTILE = st.text(min_size=1, max_size=40) | st.lists(
    st.sampled_from(
        [
            "'",
            '"',
            " ",
            "\\",
            "%[env(HOME)]",
            "${HOME}",
            "#",
            "\n",
            "\r",
            "\t",
            "lua-load x.lua",
            "}",
            "{",
            ",",
            ")",
            "a",
            "\u2028",
        ]
    ),
    min_size=1,
    max_size=8,
).map("".join)
TEXTS = ["model", "state_dir", "name", "issuer", "audience", "kid", "origin", "host", "api_key_env"]


def config_of(**said: str) -> DeployConfig:
    plain = {"name": "x", "model": "m", "state_dir": "state"}
    jwt = {"jwks": "jwks.json", "issuer": said.get("issuer", "i"), "audience": said.get("audience", "a")}
    router: dict[str, Any] = {"jwt": jwt, "cors_origins": [said.get("origin", "https://a.example")]}
    router |= {name: said[name] for name in ("host", "api_key_env") if name in said}
    facts = {name: said.get(name, value) for name, value in plain.items()}
    return DeployConfig.model_validate(facts | {"gate": None, "router": router})


def lines_of(monkeypatch: pytest.MonkeyPatch, **said: str) -> list[list[str]]:
    key = SigningKey(said.get("kid", "k"), "RS256", "pem")
    monkeypatch.setattr("infra.haproxy.config.keys_of", lambda config: [key])
    return [words_of(line) for line in render(config_of(**said)).split("\n")]


def words_of(line: str) -> list[str]:
    """As HAProxy splits a line whose quotes are all single ones: the shell's way."""
    return shlex.split(line, comments=True)


@pytest.mark.unit
@settings(max_examples=1000)
@given(name=st.sampled_from(TEXTS), text=HOSTILE)
def test_no_text_of_a_yaml_is_syntax(name: str, text: str) -> None:
    """Refused, or as many words on as many lines as a plain one makes, of which the hostile one is one, whole."""
    with pytest.MonkeyPatch.context() as patch:
        plain = lines_of(patch)
        try:
            found = lines_of(patch, **{name: text})
        except (ValueError, InputError):
            return
    assert [len(line) for line in found] == [len(line) for line in plain]
    changed = [
        (before, after)
        for one, other in zip(plain, found, strict=True)
        for before, after in zip(one, other, strict=True)
        if before != after
    ]
    for before, after in changed:
        assert (
            after in (text, f"str({text})", f"[{text}]:8080", f"{text}:8080", f"/v1/models/{text}")
            or "tunegate" in before
        ), (
            before,
            after,
        )


@pytest.mark.unit
@given(st.text(max_size=30))
def test_a_word_is_read_back_as_it_was(text: str) -> None:
    try:
        written = word(text)
    except InputError:
        assert any(ord(character) < 32 or ord(character) == 127 for character in text)
        return
    assert shlex.split(written) == [text]


@pytest.mark.integration
def test_haproxy_itself_reads_odd_but_legal_values_as_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a folder with a space, a quote and a percent sign; it starts where it is, so that no path is ever named."""
    folder = tmp_path / "it's 100% of a ${HOME}"
    folder.mkdir()
    for file in ("queue.lua", "cost.lua"):
        (folder / file).write_text((Path(render.__code__.co_filename).with_name(file)).read_text())
    servers = dict.fromkeys(("BLUE_PORT", "GREEN_PORT"), "8101") | dict.fromkeys(
        ("BLUE_STANDBY", "GREEN_STANDBY"), "disabled"
    )
    for name in ("traffic.map", "releases.map", "servers.map", "keys.map", "spent.map"):
        (folder / name).touch()
    (folder / "empty").mkdir()
    for name, text in documents(config_of()).items():
        (folder / name).write_text(text)
    pem = subprocess.run(["openssl", "genrsa", "2048"], capture_output=True, check=True).stdout
    public = subprocess.run(["openssl", "rsa", "-pubout"], input=pem, capture_output=True, check=True).stdout.decode()
    for host, model, issuer in (
        ("127.0.0.1", "it's a model", "https://id.example/#a"),
        ("*", "100%", "https://id.example/?a={b}"),
        ("::", 'a "quoted" $HOME', "https://id.example/%[env(HOME)]"),
        ("localhost", "x' lua-load evil.lua '", "https://id.example/\\"),
    ):
        key = SigningKey(f"{model}", "RS256", public)
        monkeypatch.setattr("infra.haproxy.config.keys_of", lambda config, key=key: [key])
        (folder / key.file).write_text(public)
        (folder / "haproxy.cfg").write_text(render(config_of(host=host, model=model, issuer=issuer)))
        check_haproxy(folder / "haproxy.cfg", servers)
    assert find_haproxy()
