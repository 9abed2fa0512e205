"""What an application gets from the real vLLM behind the router: its document's quickstart as it stands, every kind of
answer, and a shadowed release.

.venv/bin/python -m benchmarks.serve.applications
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from benchmarks.prove import FOLDER, Row, console
from benchmarks.serve.fuzz import fuzz
from benchmarks.serve.router_cost import proxies

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs/application-developer.md"
STATED = "http://127.0.0.1:8080"
HELLO: list[Any] = [{"role": "user", "content": "Hello"}]
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"day": {"enum": ["mon", "tue"]}},
    "required": ["day"],
    "additionalProperties": False,
}
TOOL: dict[str, Any] = {
    "type": "function",
    "function": {"name": "on_day", "description": "", "parameters": SCHEMA, "strict": True},
}


def snippets() -> list[tuple[str, str]]:
    """(language, text) of the quickstart's blocks for a GPT-type release."""
    quickstart = DOCUMENT.read_text(encoding="utf8").partition("## Quickstart")[2].partition("\n## ")[0]
    return [
        (kind, text) for kind, text in re.findall(r"```(sh|python)\n(.*?)```", quickstart, re.DOTALL) if STATED in text
    ]


def failures(base_url: str, key: str, python: Path) -> list[str]:
    """The snippets that do not end well, or print nothing; run in a shell and in the clients' environment, only the
    address replaced."""
    found = []
    for kind, text in snippets():
        words = ["bash", "-ec", text] if kind == "sh" else [str(python), "-c", text]
        words[2] = words[2].replace(STATED, base_url)
        # litellm asks for a list of prices at its import otherwise.
        environment = os.environ | {"TUNEGATE_API_KEY": key, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
        done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=300)
        first = next(
            line for line in text.splitlines() if line.startswith(("curl", "from", "import")) and line != "import os"
        )
        console.print(f"{first}: exit {done.returncode}, {len(done.stdout)} characters", markup=False)
        if done.returncode or not done.stdout.strip() or '"error"' in done.stdout:
            found.append(f"{first}: {done.stdout[-200:]} {done.stderr[-400:]}")
    return found


def answers(client: Any) -> Iterator[tuple[str, Callable[[], bool]]]:
    """Each kind of answer, and whether it is one."""
    chat, common = client.chat.completions.create, {"model": "assistant", "messages": HELLO, "max_tokens": 32}
    yield "chat", lambda: bool(chat(**common).choices[0].message.content)
    yield "streamed chat", lambda: len([chunk for chunk in chat(**common, stream=True) if chunk.choices]) > 1
    yield (
        "completion",
        lambda: bool(client.completions.create(model="assistant", prompt="Hello", max_tokens=8).choices[0].text),
    )
    yield (
        "response",
        lambda: bool(client.responses.create(model="assistant", input="Hello", max_output_tokens=16).output),
    )
    form = {"type": "json_schema", "json_schema": {"name": "day", "schema": SCHEMA, "strict": True}}
    yield "JSON by a schema", lambda: '"day"' in (chat(**common, response_format=form).choices[0].message.content or "")
    named = {"type": "function", "function": {"name": "on_day"}}
    longer = common | {"max_tokens": 128, "tools": [TOOL], "tool_choice": named}
    yield "named tool", lambda: '"day"' in chat(**longer).choices[0].message.tool_calls[0].function.arguments
    yield "list of models", lambda: [model.id for model in client.models.list()] == ["assistant"]


def wrong_answers(base_url: str, key: str) -> tuple[list[str], int]:
    """What was not given, with the reason; how many kinds were asked for."""
    import openai

    wrong, asked = [], 0
    for name, given in answers(openai.OpenAI(base_url=f"{base_url}/v1", api_key=key, max_retries=0)):
        asked += 1
        try:
            if not given():
                wrong.append(name)
        except openai.OpenAIError as error:
            wrong.append(f"{name}: {str(error)[:200]}")
    return wrong, asked


@contextmanager
def asking(base_url: str, key: str) -> Iterator[None]:
    """One user who asks again and again, without chance, so that two releases' answers can be compared."""
    import openai

    ended = threading.Event()

    def ask() -> None:
        client = openai.OpenAI(base_url=f"{base_url}/v1", api_key=key)
        while not ended.is_set():
            client.chat.completions.create(model="assistant", messages=HELLO, max_tokens=4, temperature=0)
            time.sleep(0.2)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def rows() -> list[Row]:
    from tests.support.judging import judged_when_asked

    python, folder = proxies().absolute() / "python", FOLDER.absolute() / "applications"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    serving = patch.dict(os.environ, TUNEGATE_SERVE_PYTHON=str(ROOT / ".venv-serve/bin/python"))
    with chdir(folder), serving, judged_when_asked():
        return asked_and_shadowed(folder, python)


def asked_and_shadowed(folder: Path, python: Path) -> list[Row]:
    from infra.haproxy.api_keys import api_key
    from serve.deploy import deploy, stop_all
    from tests.support.fake_servers import fake_environment
    from tests.support.tiny_release import write_release

    env = fake_environment(
        model="assistant", strategy={"kind": "shadow", "share": 100, "seconds": 20}, shadow={"minimum_requests": 5}
    )
    try:
        deploy(env, write_release(folder, "one", 1, tool_parser="hermes"))
        key = api_key(env.config)
        broken, (wrong, asked) = failures(env.router.base_url, key, python), wrong_answers(env.router.base_url, key)
        fuzzed = fuzz(env, key, folder)
        with asking(env.router.base_url, key):
            deploy(env, write_release(folder, "two", 2, tool_parser="hermes"))
        (shadow,) = [
            event.facts for event in env.record.read() if event.kind == "proven" and event.facts["proof"] == "shadow"
        ]
    finally:
        stop_all(env)
    count = len(snippets())
    compared = f"{shadow['asked']} requests, {shadow['failed']} failed, {shadow['compared']} compared"
    return [
        Row(
            "quickstart snippets (curl, openai, LangChain, LiteLLM) that run as they stand against the real vLLM",
            f"{count - len(broken)} of {count}" + "".join(f"; {one}" for one in broken),
            "4 of 4",
            not broken and count == 4,
        ),
        Row(
            "kinds of answers through the router (chat, stream, completion, response, JSON schema, tool, models)",
            f"{asked - len(wrong)} of {asked}" + "".join(f"; {one}" for one in wrong),
            "all",
            not wrong and asked == 7,
        ),
        Row(
            "a release shadowed under a real user's requests, two real vLLM servers",
            compared,
            "at least 5, none failed",
            shadow["asked"] >= 5 and not shadow["failed"] and shadow["compared"] > 0,
        ),
        fuzzed,
    ]


if __name__ == "__main__":
    for row in rows():
        print(row)
