"""lm-evaluation-harness's own program, run on a task of the test's own against a fake server: its figures, its
failures, its cache."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from configs.errors import ExternalError, InputError
from configs.release import Manifest
from configs.run.evaluate import Evaluate
from eval.measure.harness import figures_of, files_of, harness_config, read_results, run_harness
from tests.support.tiny_release import make_tokenizer

QUESTIONS = [{"question": f"word {number}", "answer": "no" if number == 1 else "yes"} for number in range(4)]
TASK = {
    "task": "local_words",
    "dataset_path": "json",
    "dataset_kwargs": {"data_files": {"test": "ROWS"}},
    "test_split": "test",
    "output_type": "generate_until",
    "doc_to_text": "{{question}}",
    "doc_to_target": "{{answer}}",
    "generation_kwargs": {"until": ["."], "max_gen_toks": 4},
    "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
    "metadata": {"version": 1.0},
}


@pytest.fixture
def server() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Answers `yes` to every completion; the requests that it got."""
    asked: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            count = len(asked[-1]["prompt"]) if isinstance(asked[-1]["prompt"][0], list) else 1
            body = json.dumps({"choices": [{"index": index, "text": "yes"} for index in range(count)]}).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    web = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=web.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{web.server_port}", asked
    web.shutdown()
    web.server_close()


@pytest.fixture
def release(checkout: Path, write_release: Callable[..., Manifest]) -> tuple[Path, Manifest]:
    """And a folder `tasks` with a task over four rows, to three of which `yes` is right."""
    make_tokenizer().save_pretrained(checkout / "release")
    (checkout / "tasks").mkdir()
    (checkout / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in QUESTIONS))
    (checkout / "tasks" / "local_words.yaml").write_text(json.dumps(TASK).replace("ROWS", str(checkout / "rows.jsonl")))
    return checkout / "release", write_release(checkout / "release", task="causal-lm", labels=[])


def settings_of(**task: Any) -> Evaluate:
    return Evaluate.model_validate(
        {"harness": [{"task": "local_words", "include_path": "tasks"} | task], "concurrency": 2}
    )


@pytest.mark.integration
def test_a_task_of_ones_own_is_asked_once_and_its_figures_are_the_harness_own(
    server: Any, release: tuple[Path, Manifest], checkout: Path
) -> None:
    (url, asked), (folder, manifest) = server, release
    found = run_harness(url, "release", manifest, folder, settings_of(limit=3), checkout)
    assert figures_of(found) == {"harness_local_words_exact_match": pytest.approx(2 / 3)} and (
        found["local_words"]["n"],
        found["local_words"]["version"],
    ) == (3, 1.0)
    assert (
        len(asked) == 3
        and {one["model"] for one in asked} == {"release"}
        and {one["temperature"] for one in asked} == {0}
    )
    tokenizer = make_tokenizer()
    assert sorted(tokenizer.decode(one["prompt"][0]) for one in asked) == [row["question"] for row in QUESTIONS[:3]], (
        "the release's own tokens"
    )
    assert run_harness(url, "release", manifest, folder, settings_of(limit=3), checkout) == found and len(asked) == 3


@pytest.mark.unit
def test_another_limit_or_another_file_of_the_task_is_asked_anew(
    release: tuple[Path, Manifest], checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = []

    def program(task: Any, work: Path, *_: object) -> None:
        runs.append(task.limit)
        (work / "out").mkdir()
        (work / "out" / "results.json").write_text(json.dumps({"results": {}}))

    monkeypatch.setattr("eval.measure.harness.run_program", program)
    assert files_of(settings_of().harness[0])
    for limit in (None, None, 2, None):
        run_harness("http://s", "release", release[1], release[0], settings_of(limit=limit), checkout)
    assert runs == [None, 2]
    (checkout / "tasks" / "note.md").write_text("changed")
    run_harness("http://s", "release", release[1], release[0], settings_of(), checkout)
    assert runs == [None, 2, None]


@pytest.mark.integration
@pytest.mark.parametrize(
    ("task", "error", "words"),
    [
        ({"task": "hellaswag", "include_path": None}, ExternalError, "hellaswag: its data set is not on this machine"),
        ({"task": "no_such_task"}, InputError, "knows no task 'no_such_task'"),
    ],
)
def test_a_task_that_cannot_be_asked_says_which_and_why(
    server: Any,
    release: tuple[Path, Manifest],
    checkout: Path,
    task: dict[str, Any],
    error: type[Exception],
    words: str,
) -> None:
    with pytest.raises(error, match=words):
        run_harness(server[0], "release", release[1], release[0], settings_of(**task), checkout)
    assert server[1] == [] and not [*checkout.glob("harness-*.json")]


@pytest.mark.integration
def test_a_server_that_is_gone_is_no_figure(release: tuple[Path, Manifest], checkout: Path) -> None:
    with pytest.raises(ExternalError, match=r"evaluate\.harness local_words"):
        run_harness("http://127.0.0.1:9", "release", release[1], release[0], settings_of(limit=1), checkout)


@pytest.mark.unit
def test_the_program_is_told_all_that_decides_the_answers(release: tuple[Path, Manifest], checkout: Path) -> None:
    settings = settings_of(shots=3, limit=5, chat=True)
    found: Any = harness_config("http://s", "release", release[1], release[0], settings, settings.harness[0], checkout)
    assert (found["num_fewshot"], found["limit"], found["apply_chat_template"], found["tasks"]) == (
        3,
        5,
        True,
        ["local_words"],
    )
    assert (
        found["model_args"]["max_length"] == release[1].serving.max_model_len
        and found["model_args"]["base_url"] == "http://s/v1/completions"
    )
    assert Path(found["include_path"]) == checkout / "tasks"


@pytest.mark.unit
def test_figures_are_named_by_task_metric_and_filter_and_are_finite() -> None:
    values = {
        "alias": "x",
        "acc,none": 0.5,
        "acc_stderr,none": 0.1,
        "exact_match,strict-match": 0.25,
        "exact_match_stderr,strict-match": "N/A",
        "f1,none": float("nan"),
    }
    found = read_results(
        {
            "results": {"gsm": values, "part": {"acc,none": 1}},
            "n-samples": {"gsm": {"effective": 4, "original": 9}},
            "versions": {"gsm": 3},
        },
        "gsm",
    )
    assert figures_of({"gsm": found}) == {
        "harness_gsm_acc": 0.5,
        "harness_gsm_exact_match_strict_match": 0.25,
        "harness_gsm_part_acc": 1.0,
    }
    assert found["figures"]["acc_stderr"] == 0.1 and (found["n"], found["version"]) == (4, 3)
