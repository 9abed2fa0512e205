"""`tunegate init`: what it writes for rows of any shape and a base of either kind passes `check` and `check --data`,
and what cannot be is refused in a sentence, with nothing written."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from configs.check import check_files
from configs.errors import InputError
from configs.read import read_run
from tests.support.safetensors_files import write_weights
from train.check_data import check_rows
from train.init import Proposal, init
from train.propose.page import epochs_of

pytestmark = pytest.mark.unit
WORDS = ("good", "bad", "fine", "poor", "dull")
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture(autouse=True)
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_base(Path("bert"), "bert", "bert.embeddings.word_embeddings.weight")
    write_base(Path("gpt"), "llama", "model.embed_tokens.weight")
    Path("gpt/chat_template.jinja").write_text(CHATML)
    return tmp_path


def write_base(folder: Path, kind: str, embedding: str) -> None:
    """Header, config and a byte-level tokenizer: all that is looked at."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: number for number, letter in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    write_weights(folder / "model.safetensors", {embedding: [256, 2]})
    tokenizer.save(str(folder / "tokenizer.json"))
    sizes = {"vocab_size": 256, "max_position_embeddings": 512, "hidden_size": 2, "num_attention_heads": 1}
    (folder / "config.json").write_text(json.dumps({"model_type": kind, **sizes}))
    (folder / "tokenizer_config.json").write_text("{}")


def write_lines(rows: list[dict[str, Any]]) -> None:
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def widened(folder: str, width: int) -> str:
    config = json.loads(Path(folder, "config.json").read_text())
    Path(folder, "config.json").write_text(json.dumps(config | {"hidden_size": width}))
    return folder


@pytest.mark.parametrize(("width", "method"), [(384, "full"), (1024, "full"), (2560, "lora")])
def test_a_small_classifier_is_trained_whole_and_a_large_one_by_an_adapter(width: int, method: str) -> None:
    write_lines([{"text": said(number), "label": "ab"[number % 2]} for number in range(40)])
    init([Path("rows.jsonl")], widened("bert", width), None, None, None, False)
    settings = read_run(Path("configs/finetune/rows.yaml"), []).train
    assert settings.method == method and settings.learning_rate == (1e-4 if method == "full" else 5e-4)


@pytest.mark.parametrize(("width", "rate"), [(576, 1e-3), (2048, 5e-4), (4096, 3e-4), (8192, 2e-4)])
def test_the_wider_the_language_model_the_lower_its_rate(width: int, rate: float) -> None:
    turns = ("user", "assistant")
    write_lines([{"messages": [{"role": one, "content": said(at)} for one in turns]} for at in range(40)])
    init([Path("rows.jsonl")], widened("gpt", width), None, None, None, False)
    assert read_run(Path("configs/finetune/rows.yaml"), []).train.learning_rate == rate


def said(number: int) -> str:
    """Texts that are no near-duplicates of each other."""
    return " ".join(f"{WORDS[(number + place) % 5]}{number * 7 + place}" for place in range(6))


SHAPES: dict[str, Callable[[int], dict[str, Any]]] = {
    "label": lambda n: {"text": said(n), "label": WORDS[n % 2]},
    "number label": lambda n: {"review": said(n), "sentiment": n % 3},
    "labels": lambda n: {"sentence": said(n), "labels": [WORDS[n % 3], WORDS[(n + 1) % 3]]},
    "value": lambda n: {"text": said(n), "score": n / 7},
    "tags": lambda n: {"tokens": said(n).split(), "tags": ["B-PER", "O", "O", "B-LOC", "I-LOC", "O"]},
    "chat": lambda n: {
        "messages": [{"role": "user", "content": said(n)}, {"role": "assistant", "content": f"yes {n}"}]
    },
    "completion": lambda n: {"prompt": said(n), "completion": f"yes {n}"},
    "question": lambda n: {"question": said(n), "answer": f"yes {n}"},
    "text": lambda n: {"text": said(n)},
    "alpaca": lambda n: {"instruction": said(n), "input": "" if n % 2 else said(n + 900), "output": f"yes {n}"},
    "sharegpt": lambda n: {
        "conversations": [{"from": "human", "value": said(n)}, {"from": "gpt", "value": f"yes {n}"}]
    },
    "trl pairs": lambda n: {
        "prompt": [{"role": "user", "content": said(n)}],
        "chosen": [{"role": "assistant", "content": f"yes {n}"}],
        "rejected": [{"role": "assistant", "content": f"no {n}"}],
    },
    "pairs": lambda n: {"prompt": said(n), "chosen": f"yes {n}", "rejected": f"no {n}"},
}
LABELLED = {"label", "number label", "labels", "value"}
TASKS = {
    **dict.fromkeys(LABELLED, "sequence-classification"),
    "tags": "token-classification",
    "pairs": "dpo",
    "trl pairs": "dpo",
    "sharegpt": "causal-lm",
    **dict.fromkeys(("chat", "completion", "question", "text", "alpaca"), "causal-lm"),
}


def write_rows(shape: str, count: int = 60, path: str = "rows.jsonl") -> Path:
    Path(path).write_text("".join(json.dumps(SHAPES[shape](number)) + "\n" for number in range(count)))
    return Path(path)


def propose(rows: Path, base: str, **options: Any) -> Proposal:
    given: dict[str, Any] = {"name": None, "output": None, "task": None, "force": False}
    return init([rows], base, **(given | options))


def assert_passes(made: Proposal) -> None:
    path = Path(made["config"])
    assert check_files([path, Path(made["gate"])], []) == []
    report, _ = check_rows(read_run(path, None))
    assert not report["refused"]


@pytest.mark.parametrize("base", ["bert", "gpt"])
@pytest.mark.parametrize("shape", SHAPES)
def test_what_is_written_passes_check_or_is_refused_with_the_reason(shape: str, base: str) -> None:
    rows = write_rows(shape)
    writes = TASKS[shape] in ("causal-lm", "dpo")
    if (base == "bert" and writes) or (base == "gpt" and shape == "tags"):
        with pytest.raises(InputError, match=r"the base is of (BERT|GPT)'s kind"):
            propose(rows, base)
        assert not Path("configs").exists() or not list(Path("configs").rglob("*.yaml"))
        return
    made = propose(rows, base)
    assert made["task"] == ("causal-lm" if base == "gpt" and shape in LABELLED else TASKS[shape])
    assert_passes(made)


@given(
    text=st.sampled_from(["Text", "review_body", "Customer Message", "content", "xyz"]),
    label=st.sampled_from(["Label", "class", "category", "y", "target", "news-topic"]),
    other=st.sampled_from(["id", "note", "Zeit", "source"]),
    ending=st.sampled_from(["csv", "jsonl", "parquet"]),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=12, deadline=None)
def test_columns_are_found_whatever_they_are_called(text: str, label: str, other: str, ending: str) -> None:
    rows = [{other: str(n), text: said(n), label: WORDS[n % 2]} for n in range(40)]
    path = Path(f"rows.{ending}")
    if ending == "csv":
        with path.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    elif ending == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    made = propose(path, "bert", force=True)
    columns = read_run(Path(made["config"]), None).data.columns
    assert (columns.get("text", "text"), columns.get("label", "label")) == (text, label)
    assert_passes(made)


def test_faults_of_the_rows_are_dropped_and_counted() -> None:
    rows = write_rows("label")
    rows.write_text(rows.read_text() * 2 + '{"text": "", "label": "good"}\n')
    made = propose(rows, "bert")
    assert made["left_out"]["duplicate"] == 60 and made["left_out"]["empty_field"] == 1
    assert_passes(made)


@pytest.mark.parametrize("seed", range(8))
def test_labels_with_one_row_each_are_trained_on_whatever_the_seed(seed: int) -> None:
    rows = [{"text": f"{word} {number}", "label": word} for word in WORDS[:2] for number in range(60)]
    write_lines(rows + [{"text": f"rare thing {word}", "label": f"rare {word}"} for word in WORDS])
    made = propose(Path("rows.jsonl"), "bert")
    assert read_run(Path(made["config"]), None).data.split.method == "stratified"
    path = Path(made["config"])
    path.write_text(path.read_text().replace("data:\n", f"data:\n  seed: {seed}\n"))
    assert_passes(made)


@pytest.mark.parametrize("base", ["bert", "gpt"])
def test_a_label_column_without_a_label_is_no_labelled_file(base: str) -> None:
    write_lines([{"note": f"said {number}", "label": None} for number in range(30)])
    with pytest.raises(InputError, match="nothing to be learnt from them"):
        propose(Path("rows.jsonl"), base)


def test_rows_longer_than_the_base_has_positions() -> None:
    rows = write_rows("label")
    with rows.open("a") as stream:
        stream.write(json.dumps({"text": "word " * 400, "label": "good"}) + "\n")
    run = read_run(Path(propose(rows, "bert")["config"]), None)
    assert (run.data.max_tokens, run.serving.max_model_len, run.data.lint.too_long) == (512, 512, "drop")


@pytest.mark.parametrize(
    ("task", "count", "batch", "epochs"),
    [
        ("sequence-classification", 100, 8, 20),
        ("sequence-classification", 540, 16, 18),
        ("token-classification", 1_500, 16, 7),
        ("sequence-classification", 6_000, 32, 4),
        ("sequence-classification", 50_000, 32, 3),
        ("causal-lm", 100, 8, 3),
    ],
)
def test_few_labelled_rows_are_passed_over_more_often(task: Any, count: int, batch: int, epochs: int) -> None:
    assert epochs_of(task, count, batch) == epochs


def test_nothing_is_overwritten_but_by_force() -> None:
    rows = write_rows("label")
    first = propose(rows, "bert")
    for path in (first["config"], first["gate"]):
        Path(path).write_text("mine")
        with pytest.raises(InputError, match="a file there already"):
            propose(rows, "bert")
    assert Path(first["config"]).read_text() == "mine"
    assert_passes(propose(rows, "bert", force=True))


def test_a_gate_that_is_there_and_asks_no_less_is_taken() -> None:
    Path("configs/gates").mkdir(parents=True)
    easy, hard = Path("configs/gates/easy.yaml"), Path("configs/gates/hard.yaml")
    rules = "rules:\n  - {{rule: threshold, metric: accuracy, minimum: {}}}\n  - {{rule: parity}}\n"
    easy.write_text(rules.format(0.2))
    assert propose(write_rows("label"), "bert")["gate"] == "configs/gates/rows.yaml"
    Path("configs/gates/rows.yaml").unlink()
    hard.write_text(rules.format(0.9))
    assert propose(write_rows("label"), "bert", force=True)["gate"] == str(hard)


@pytest.mark.parametrize(
    ("content", "ending", "message"),
    [
        ("", "jsonl", "an empty file"),
        ("{", "jsonl", "no row that can be read: the first is no JSON"),
        ('{"a": 1, "b": 2}\n', "jsonl", "found the columns a, b, and nothing to be learnt"),
        ("x", "rows", "no ending that says what it is"),
    ],
)
def test_what_is_no_rows_is_said(content: str, ending: str, message: str) -> None:
    Path(f"odd.{ending}").write_text(content)
    with pytest.raises(InputError, match=message):
        propose(Path(f"odd.{ending}"), "bert")
    assert not Path("configs/finetune").exists()


def test_a_base_outside_the_checkout_names_what_allows_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outside = tmp_path.parent / f"{tmp_path.name}-outside"
    write_base(outside, "bert", "bert.embeddings.word_embeddings.weight")
    rows = write_rows("label")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    with pytest.raises(InputError, match="outside the checkout that this machine does not allow yet"):
        propose(rows, str(outside))
    monkeypatch.setenv("TUNEGATE_BASES", str(tmp_path.parent))
    assert_passes(propose(rows, str(outside)))


@pytest.mark.parametrize("base", ["nowhere", "no-such-package"])
def test_a_base_that_is_not_there(base: str) -> None:
    with pytest.raises(InputError, match="neither a directory nor an installed package"):
        propose(write_rows("label"), base)
