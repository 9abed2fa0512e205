"""Figures of generated text: each answer held against its reference, be that a call, a JSON object or a text."""

from __future__ import annotations

import json
import math
import re
import string
from collections import Counter
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.metrics import MetricDefinition
from configs.run.evaluate import Evaluate, Normalization
from eval.metrics.function_calls import is_json, match_call
from eval.metrics.refusal import is_refusal
from eval.metrics.rows import Prediction
from infra.vllm.answer import Answer

if TYPE_CHECKING:
    from pandas import DataFrame

# Of a call or a JSON object, whose words are not compared.
NO_OVERLAP: Prediction = {
    "token_f1": None,
    "rouge_1": None,
    "rouge_2": None,
    "rouge_l": None,
    "sentence_bleu": None,
    "sentence_chrf": None,
    "bleu_statistics": None,
    "chrf_statistics": None,
}
BLEU_ORDER = 4


def definition_of_length(settings: Evaluate) -> MetricDefinition:
    """Of answer_tokens: no answer is longer than it may be, so that its mean has a range."""
    return {"kind": "bounded", "low": 0.0, "high": float(settings.max_new_tokens), "higher_is_better": None}


def score_text(answer: Answer) -> Prediction:
    return {"logprob": answer.logprob, "tokens": answer.scored_tokens}


def score_answer(reference: str, answer: Answer, settings: Evaluate) -> Prediction:
    """All columns for every row, None where one does not apply to this kind of reference; of a preference pair also
    which answer was likelier. Of several right answers, `{"any_of": [...]}`, the one that is met best counts, as in
    SQuAD's own script (evaluate-v1.1.py:metric_max_over_ground_truths)."""
    gold = read_object(reference)
    if gold is not None and gold.keys() == {"any_of"} and isinstance(gold["any_of"], list) and gold["any_of"]:
        rows = [score_answer(str(one), answer, settings) for one in gold["any_of"]]
        return max(rows, key=lambda row: (row["exact_match"], row["token_f1"] or 0.0))
    match = match_call(answer.text, reference)
    is_call = gold is not None and "accepted" in gold
    exact = (
        match.exact_match
        if is_call
        else float(normalize(answer.text, settings.normalize) == normalize(reference, settings.normalize))
    )
    row: Prediction = {"gold": reference, "answer": answer.text, "correct": exact, "exact_match": exact}
    row["refused"] = float(is_refusal(answer.text))
    row["name_match"] = match.name_match if is_call else None
    row["valid_json"] = float(is_json(answer.text)) if gold is not None or settings.json_schema else None
    row["valid_schema"] = fits_schema(answer.text, Path(settings.json_schema)) if settings.json_schema else None
    row["field_f1"] = f1(fields(read_object(answer.text)), fields(gold)) if gold is not None and not is_call else None
    row |= compare_texts(answer.text, reference) if gold is None else NO_OVERLAP
    return row | likelihoods(answer)


def leave_unscored(reference: str, answer: Answer, settings: Evaluate) -> Prediction:
    """Of an answer whose reference is a bad one, which nothing is to be like: None in every column of a figure."""
    columns: Any = dict.fromkeys(score_answer(reference, answer, settings))
    unscored: Prediction = columns | {"gold": reference, "answer": answer.text}
    return unscored


def likelihoods(answer: Answer) -> Prediction:
    """The reference's log-probability after its prompt where it was asked for; of a preference pair the chosen
    answer's."""
    if answer.logprob is None:
        return {}
    if answer.rejected_logprob is None:
        return score_text(answer)
    margin = answer.logprob - answer.rejected_logprob
    return score_text(answer) | {"preferred": float(margin > 0), "preference_margin": margin}


def read_object(text: str) -> dict[str, object] | None:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def normalize(text: str, how: Normalization) -> str:
    """squad: evaluate-v1.1.py's normalize_answer (Rajpurkar 2016): lower case, then punctuation, articles and surplus
    spaces go."""
    if how == "none":
        return text
    if how == "squad":
        text = re.sub(r"\b(a|an|the)\b", " ", "".join(one for one in text.lower() if one not in string.punctuation))
    return " ".join(text.split())


def f1(predicted: Counter[str], gold: Counter[str]) -> float:
    """Of two bags; 1 where both are empty (as in SQuAD 2.0's own script)."""
    shared, counted = (predicted & gold).total(), predicted.total() + gold.total()
    return 2 * shared / counted if counted else 1.0


def fields(value: Any, path: str = "$") -> Counter[str]:
    """Each leaf of a JSON value by its path and its value; None, which is no object, has none."""
    if isinstance(value, dict) and value:
        return sum((fields(inner, f"{path}.{json.dumps(key)}") for key, inner in value.items()), Counter())
    if isinstance(value, list) and value:
        return sum((fields(inner, f"{path}[{index}]") for index, inner in enumerate(value)), Counter())
    return Counter() if value is None and path == "$" else Counter({f"{path} = {json.dumps(value)}": 1})


def fits_schema(text: str, schema: Path) -> float:
    try:
        return float(validator_of(schema.read_text(encoding="utf8")).is_valid(json.loads(text)))
    except (ValueError, RecursionError):
        return 0.0


@cache
def validator_of(schema: str) -> Any:
    """References that leave the schema are not followed (configs.run.evaluate refuses them)."""
    from jsonschema.validators import validator_for
    from referencing import Registry

    found = json.loads(schema)
    return validator_for(found)(found, registry=Registry())


def compare_texts(answer: str, reference: str) -> Prediction:
    """Token F1 after SQuAD's normalisation; ROUGE F-measures by rouge-score, whose words are of a-z and 0-9 only; BLEU
    and chrF2 by sacrebleu.

    The statistics are those that sacrebleu sums over a corpus: with them any set of rows has its corpus figures without
    its texts.
    """
    rouge, bleu, chrf = scorers()
    words, wanted = (Counter(normalize(text, "squad").split()) for text in (answer, reference))
    overlap = rouge.score(reference, answer)
    sentence = bleu.sentence_score(answer, [reference])
    # No public name; held against corpus_score in the tests.
    statistics = chrf._extract_corpus_statistics([answer], [[reference]])
    return {
        "token_f1": f1(words, wanted),
        "rouge_1": overlap["rouge1"].fmeasure,
        "rouge_2": overlap["rouge2"].fmeasure,
        "rouge_l": overlap["rougeL"].fmeasure,
        "sentence_bleu": sentence.score,
        "bleu_statistics": [sentence.sys_len, sentence.ref_len, *sentence.counts, *sentence.totals],
        "sentence_chrf": chrf._aggregate_and_compute(statistics).score,
        "chrf_statistics": statistics[0],
    }


@cache
def scorers() -> tuple[Any, Any, Any]:
    from rouge_score.rouge_scorer import RougeScorer
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

    return RougeScorer(["rouge1", "rouge2", "rougeL"]), BLEU(effective_order=True), CHRF()


def summed(frame: DataFrame, column: str) -> list[int] | None:
    """The statistics of all rows that have them; None where none has."""
    import numpy

    found = frame[column].dropna()
    return numpy.sum(numpy.stack(found.to_list()), axis=0).astype(int).tolist() if len(found) else None


def bleu(frame: DataFrame) -> float:
    """sacrebleu's corpus BLEU (13a tokens, exponential smoothing), from 0 to 100."""
    from sacrebleu.metrics.bleu import BLEU

    sums = summed(frame, "bleu_statistics")
    if sums is None:
        return math.nan
    counts, totals = sums[2 : 2 + BLEU_ORDER], sums[2 + BLEU_ORDER :]
    return float(
        BLEU.compute_bleu(correct=counts, total=totals, sys_len=sums[0], ref_len=sums[1], smooth_method="exp").score
    )


def chrf(frame: DataFrame) -> float:
    """sacrebleu's corpus chrF2, from 0 to 100."""
    sums = summed(frame, "chrf_statistics")
    return math.nan if sums is None else float(scorers()[2]._compute_score_from_stats(sums).score)


def perplexity(frame: DataFrame) -> float:
    """Per token over all rows; a text's first token has nothing before it and is not counted. Infinite where it is past
    all floats."""
    tokens = frame["tokens"].sum()
    mean = -float(frame["logprob"].sum()) / tokens if tokens else math.nan
    return math.exp(mean) if mean < 700 else mean if math.isnan(mean) else math.inf
