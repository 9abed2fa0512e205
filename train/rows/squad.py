"""`data.format: squad`: extractive question answering (Rajpurkar et al. 2016, arXiv:1606.05250; unanswerable questions:
2018, arXiv:1806.03822) as prompts and completions, for vLLM 0.32.0 serves no model that points at a span.

Rows as the hub's `squad` and `squad_v2` have them: `context`, `question`, `answers` of `text` and `answer_start`.
"""

from __future__ import annotations

from typing import Any

from train.rows.fields import check_text, kind_of, shorten
from train.sources.source import Fault, Row, compact

UNANSWERABLE = "unanswerable"
EXPECTED = "answers: {text: [...], answer_start: [...]}, empty where the context has no answer"


def read_squad(row: Row) -> Row | Fault:
    """`prompt`, `completion` (the first answer) and `reference`, which accepts any of the answers."""
    if "paragraphs" in row or "data" in row:
        return Fault(
            "missing_field",
            "paragraphs, as SQuAD's own file nests them",
            "a row a question: context, question, answers",
        )
    for name in ("context", "question"):
        text = check_text(row.get(name))
        if isinstance(text, Fault):
            return Fault(text.kind, f"{name}: {text.found}", text.expected)
    answers = answers_of(row)
    if isinstance(answers, Fault):
        return answers
    prompt = f"{row['context']}\n\nQuestion: {str(row['question']).strip()}\nAnswer:"
    reference = compact({"any_of": answers}) if len(answers) > 1 else answers[0]
    kept = {"id": row["id"]} if row.get("id") is not None else {}
    return kept | {"prompt": prompt, "completion": f" {answers[0]}", "reference": reference}


def answers_of(row: Row) -> list[str] | Fault:
    """Each answer once, in their order; UNANSWERABLE where there is none. A Fault where one does not stand in the
    context at the place that it says."""
    if row.get("is_impossible") is True:
        return [UNANSWERABLE]
    found = row.get("answers")
    if isinstance(found, list):  # SQuAD's own: a list of {text, answer_start}
        parts = found if all(isinstance(one, dict) for one in found) else None
        found = None if parts is None else {key: [one.get(key) for one in parts] for key in ("text", "answer_start")}
    if not isinstance(found, dict):
        return Fault("missing_field", f"answers: {kind_of(row.get('answers'))}", EXPECTED)
    texts, starts = found.get("text"), found.get("answer_start")
    if not isinstance(texts, list) or not all(isinstance(text, str) and text.strip() for text in texts):
        return Fault("missing_field", f"answers.text: {kind_of(texts)}", EXPECTED)
    wrong = misplaced(row["context"], texts, starts)
    return wrong or list(dict.fromkeys(text.strip() for text in texts)) or [UNANSWERABLE]


def misplaced(context: str, texts: list[str], starts: Any) -> Fault | None:
    """`starts` may be missing: an answer that stands nowhere in the context is then a fault."""
    if starts is None:
        starts = [context.find(text) for text in texts]
    if not isinstance(starts, list) or len(starts) != len(texts) or not all(type(start) is int for start in starts):
        return Fault("missing_field", f"answers.answer_start: {kind_of(starts)}", "a number for each text")
    for text, start in zip(texts, starts, strict=True):
        here = context[max(start, 0) : max(start, 0) + len(text)]
        if start < 0 or here != text:
            found = f"answer {shorten(text, 30)!r} at character {start}, where the context has {shorten(here, 30)!r}"
            return Fault("missing_field", found, "an answer that stands there in the context")
    return None
