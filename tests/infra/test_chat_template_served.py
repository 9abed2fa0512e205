"""Ten families' chat templates, and kinds that they leave out, rendered by vLLM's own server as training reads them."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import pytest

from infra.chat_template import TemplateFault
from infra.served_messages import as_request
from infra.tokenizer import Tokenizer
from infra.vllm.server import free_port, log_tail, serve_python
from tests.infra.test_chat_template import CALL, TEMPLATES, TOOL, TOOLS, hf_tokenizer, turns

pytestmark = pytest.mark.integration
CONVERSATIONS: dict[str, list[dict[str, Any]]] = {
    "a question": turns("good film?"),
    "a system turn": turns("good film?", system="Be brief."),
    "three turns": turns(" good  film\n", "  yes ", "why?"),
    "what looks like a template or a token": turns("{{ 7 }} <|im_end|> </s> \t <b>", "x", "Wie geht's? 🙂\n\n"),
}


def templates() -> dict[str, str]:
    """Families' own, as TRL ships them, and the kinds of tests/infra/test_chat_template.py."""
    found = {path.stem: path.read_text(encoding="utf8") for path in trl_templates()}
    return found | {name: template for name, (template, *_) in TEMPLATES.items()}


def trl_templates() -> list[Path]:
    places = find_spec("trl").submodule_search_locations  # type: ignore[union-attr]
    assert places
    return [path for path in sorted(Path(places[0], "chat_templates").glob("*.jinja")) if "_training" not in path.stem]


FAMILIES = [path.stem for path in trl_templates()]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer that knows the special tokens of all of them."""
    from transformers import LlamaConfig

    folder = tmp_path_factory.mktemp("rendering") / "base"
    hf_tokenizer("".join([*templates().values(), TOOLS])).save_pretrained(folder)
    sizes: dict[str, Any] = {
        "hidden_size": 64,
        "intermediate_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
    }
    LlamaConfig(architectures=["LlamaForCausalLM"], vocab_size=1000, **sizes).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def server(base: Path) -> Iterator[str]:
    """vLLM's rendering half, by itself: no weights, no answers."""
    url, log = f"http://127.0.0.1:{(port := free_port())}", base.with_name("vllm.log")
    words = ["--model", str(base), "--host", "127.0.0.1", "--port", str(port), "--trust-request-chat-template"]
    command = [str(serve_python()), "-m", "vllm.entrypoints.launchers.render.entry", *words]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    with log.open("w") as said, subprocess.Popen(command, stdout=said, stderr=said, env=environment) as process:
        try:
            for _ in range(600):
                try:
                    httpx.get(f"{url}/health")
                    break
                except httpx.TransportError:
                    assert process.poll() is None, log_tail(log)
                    time.sleep(0.5)
            yield url
        finally:
            process.terminate()


def rendered(server: str, base: Path, template: str, messages: Any, tools: Any = None) -> list[int]:
    body = {"model": str(base), "messages": messages, "tools": tools, "chat_template": template}
    reply = httpx.post(f"{server}/tokenize", json=body, timeout=60).json()
    assert "tokens" in reply, reply
    return list(reply["tokens"])


def tokenizer_of(base: Path, template: str, folder: Path) -> Tokenizer:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_bytes((base / name).read_bytes())
    (folder / "chat_template.jinja").write_text(template, encoding="utf8")
    return Tokenizer(folder)


@pytest.mark.parametrize("name", [*FAMILIES, *TEMPLATES])
def test_vllm_renders_a_template_token_for_token_as_training_reads_it(
    server: str, base: Path, tmp_path: Path, name: str
) -> None:
    template = templates()[name]
    chat, same = tokenizer_of(base, template, tmp_path).chat, []
    for kind, messages in CONVERSATIONS.items():
        try:
            found = chat.prompt_ids(messages)
        except TemplateFault:
            continue  # Gemma's knows no system turn
        assert found == rendered(server, base, template, messages), kind
        same.append(kind)
    assert len(same) >= 3


DUMP = "{% for m in messages %}{{ m | tojson }}\n{% endfor %}{% if tools %}{{ tools | tojson }}{% endif %}"
PARTS_DUMP = "{% for m in messages %}{% for p in m['content'] %}{% endfor %}{{ m | tojson }}\n{% endfor %}"
ROWS: dict[str, tuple[list[dict[str, Any]], Any]] = {
    "a call and its answer": (
        [
            *turns("rain?"),
            {"role": "assistant", "content": "", "tool_calls": [CALL | {"id": "1"}]},
            {"role": "tool", "content": "dry", "tool_call_id": "1", "name": "weather"},
        ],
        [TOOL],
    ),
    "a call and no words": ([*turns("rain?"), {"role": "assistant", "tool_calls": [CALL | {"id": "1"}]}], None),
    "thoughts": (
        [*turns("rain?"), {"role": "assistant", "content": "No.", "reasoning_content": "dry"}, *turns("sure?")],
        None,
    ),
    "a name": ([{"role": "user", "name": "ann", "content": "rain?"}], None),
    "a developer's turn": ([{"role": "developer", "content": "Be brief."}, *turns("rain?")], None),
    "a developer's and a system turn": (
        [*turns("rain?", "dry", system="Be brief."), {"role": "developer", "content": "Be kind."}, *turns("why?")],
        None,
    ),
}


MACRO = "{% macro write(turn) %}{% for part in turn %}{{ part }}{% endfor %}{% endmacro %}"
MACRO_DUMP = MACRO + "{% for m in messages %}{{ write(m.content) }}{{ m | tojson }}{% endfor %}"
KNOWS_DEVELOPERS = DUMP + "{% if messages[0]['role'] == 'developer' %}{% endif %}"


@pytest.mark.parametrize(
    "template",
    [TOOLS, DUMP, PARTS_DUMP, MACRO_DUMP, KNOWS_DEVELOPERS],
    ids=["tools", "turns", "parts", "parts by a macro", "developers"],
)
@pytest.mark.parametrize("row", ROWS)
def test_a_template_is_handed_by_vllm_what_training_hands_it(
    server: str, base: Path, tmp_path: Path, row: str, template: str
) -> None:
    """Every key in its place: some templates write a call, or a turn, as JSON."""
    chat, (messages, tools) = tokenizer_of(base, template, tmp_path).chat, ROWS[row]
    ids = rendered(server, base, template, [as_request(message) for message in messages], tools)
    found, expected = (
        chat.tokenizer.decode(one, skip_special_tokens=False) for one in (chat.prompt_ids(messages, tools), ids)
    )
    assert found == expected
