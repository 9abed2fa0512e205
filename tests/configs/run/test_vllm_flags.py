"""`serving.vllm:`: an argument of the pinned vLLM, of the kind that it takes, and none that opens a door."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.run.vllm_flags import LIST, OWN, REFUSED, arguments_of, known_flags, refusal_of, wrong_flags
from tests.paths import ROOT

pytestmark = pytest.mark.unit
DOORS = str.split(
    "trust-remote-code host port uds api-key hf-token ssl-keyfile middleware worker-cls worker-extension-cls "
    "logits-processors tool-parser-plugin reasoning-parser-plugin io-processor-plugin scheduler-cls config model "
    "tokenizer load-format download-dir allowed-local-media-path allowed-media-domains enable-log-requests "
    "enable-log-outputs chat-template lora-modules kv-transfer-config profiler-config trust-request-chat-template "
    "tool-server allowed-origins data-parallel-address enable-prompt-embeds hf-overrides generation-config"
)
FREE = sorted(flag for flag in known_flags() if not refusal_of(flag))


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("block-size", 32),
        ("watermark", 0.01),
        ("watermark", 1),
        ("performance-mode", "throughput"),
        ("enable-chunked-prefill", False),
        ("cudagraph-capture-sizes", [1, 2, 4]),
        ("compilation-config", {"mode": 3}),
        ("max-num-queued-reqs", 64),
    ],
)
def test_an_argument_of_vllm_is_taken(flag: str, value: object) -> None:
    assert wrong_flags({flag: value}) == []  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("flag", "value", "expected"),
    [
        ("blok-size", 32, "block-size"),
        ("--block-size", 32, "block-size"),
        ("block_size", 32, "block-size"),
        ("nothing-like-it-at-all", 1, "an argument of vLLM"),
        ("block-size", "large", "a whole number"),
        ("block-size", True, "a whole number"),
        ("watermark", "much", "a number"),
        ("enable-chunked-prefill", "yes", "true or false"),
        ("performance-mode", "fast", "one of balanced"),
        ("cudagraph-capture-sizes", 4, "a list"),
        ("cudagraph-capture-sizes", [1, "x"], "a list, each a whole number"),
        ("compilation-config", 3, "a mapping"),
        ("attention-backend", "--trust-remote-code", "does not begin with a dash"),
        ("attention-backend", "a\nb", "a printable text"),
        ("tensor-parallel-size", 2, "serving.tensor_parallel_size, its own key"),
        ("trust-remote-code", True, "it runs code from elsewhere"),
        ("host", "0.0.0.0", "where a server listens"),
        ("api-key", ["x"], "who may ask it"),
        ("enable-log-requests", True, "would be written down"),
        ("load-format", "pt", "its files are not the release's"),
    ],
)
def test_another_one_is_refused_with_what_is_expected(flag: str, value: object, expected: str) -> None:
    (wrong,) = wrong_flags({flag: value})  # type: ignore[dict-item]
    assert wrong.flag == flag and expected in wrong.expected


def test_all_that_is_wrong_is_told_at_once() -> None:
    assert [one.flag for one in wrong_flags({"host": "x", "block-size": 32, "nothing": 1})] == ["host", "nothing"]


@pytest.mark.parametrize("flag", DOORS)
def test_what_opens_a_door_is_never_taken(flag: str) -> None:
    assert flag in known_flags() and flag not in FREE


def test_every_rule_is_about_arguments_that_are_there() -> None:
    """One that matches nothing is a rule of another vLLM."""
    import re

    known = known_flags()
    assert set(OWN) <= set(known)
    for pattern in REFUSED.values():
        for part in pattern.split("|"):
            assert any(re.fullmatch(part, flag) for flag in known), part


@given(st.dictionaries(st.sampled_from(FREE), st.data(), max_size=3))
def test_no_value_becomes_another_argument(flags: dict[str, st.DataObject]) -> None:
    texts = st.text(max_size=20)
    values = {flag: data.draw(st.one_of(texts, st.integers(), st.booleans())) for flag, data in flags.items()}
    good = {flag: value for flag, value in values.items() if not wrong_flags({flag: value})}
    words = arguments_of(good)  # type: ignore[arg-type]
    names = {word.partition("=")[0].removeprefix("--").removeprefix("no-") for word in words}
    assert names <= {name.removeprefix("no-") for name in good}
    assert all(word.startswith("--") and "\n" not in word for word in words)


@pytest.mark.integration
def test_the_list_is_of_the_pinned_vllm(tmp_path: Path) -> None:
    made = tmp_path / "flags.json"
    command = [ROOT / ".venv-serve/bin/python", ROOT / "infra/vllm/flags.py", made]
    subprocess.run(command, check=True, capture_output=True)
    assert json.loads(made.read_text()) == json.loads(LIST.read_text()), "make flags"


@pytest.mark.integration
def test_vllms_own_parser_takes_what_check_takes() -> None:
    given = {"block-size": 32, "performance-mode": "throughput", "enable-chunked-prefill": False}
    given |= {"cudagraph-capture-sizes": [1, 2], "compilation-config": {"mode": 3}, "max-num-queued-reqs": 64}
    assert wrong_flags(given) == []  # type: ignore[arg-type]
    code = (
        "import sys, json\n"
        "from vllm.entrypoints.launchers.cli_args import make_arg_parser\n"
        "from vllm.utils.argparse_utils import FlexibleArgumentParser\n"
        "found = make_arg_parser(FlexibleArgumentParser()).parse_args(sys.argv[1:])\n"
        "print('SAID', json.dumps([found.block_size, found.performance_mode, found.enable_chunked_prefill, "
        "found.cudagraph_capture_sizes, found.max_num_queued_reqs]))\n"
    )
    run = subprocess.run(
        [ROOT / ".venv-serve/bin/python", "-c", code, *arguments_of(given)],  # type: ignore[arg-type]
        capture_output=True,
        text=True,
    )
    assert 'SAID [32, "throughput", false, [1, 2], 64]' in run.stdout, run.stderr[-2000:]
