"""Faults planted into good releases, and harmless changes made to them: what each does to the files or to the answers,
and which rule of the shipped gate should say so.

python -m benchmarks.eval.regressions                      # all, as `make prove-eval` does
python -m benchmarks.eval.regressions refus "calls, no end"  # those whose title has one of these words; writes no file
"""

from __future__ import annotations

import sys

from benchmarks.eval.judged import Case, Judged, judge_kept, train_good
from benchmarks.eval.plant import (
    capital_labels,
    edit_card,
    ends_at_quote,
    from_run,
    keep_capitals,
    labels_named,
    no_end,
    nothing,
    reserialise,
    ship_base,
    ship_parent,
    stale_vocabulary,
    swap_labels,
    template,
)
from benchmarks.eval.plant_answers import camel_case, fence, halve, refuse, talk_before
from benchmarks.eval.plant_weights import (
    collapse_label,
    merged,
    mix_words,
    not_a_number,
    prune_vocabulary,
    reverse_positions,
    reword,
    rolled,
    scaled,
    tensors,
    untrained_head,
)
from benchmarks.prove import console

# Words of one kind of review: the slice `goods` of configs/finetune/sentiment.yaml, which one fault breaks.
SLICE_WORDS = ("phone", "battery", "product", "quality", "ear")
WOMEN = ("mary", "anna", "susan", "linda")  # of the same config's test of invariance
AGAIN, SEED = "quantized again from the same weights", "trained with another seed"

FAULTS = [
    Case("label map swapped", "sentiment", swap_labels, ("parity", "non_inferior_to")),
    Case("one label collapsed", "sentiment", tensors(collapse_label), ("non_inferior_to",)),
    Case("head of an untrained model", "sentiment", tensors(untrained_head), ("threshold", "parity")),
    Case("one slice broken", "sentiment", reword(SLICE_WORDS, "terrible"), ("slice_minimum",)),
    Case("scales three times too large", "sentiment", scaled(".intermediate.dense.weight_scale", 3.0), ("parity",)),
    Case(
        "a layer's attention lost", "sentiment", scaled("layer.2.attention.output.dense.weight_scale", 0.0), ("parity",)
    ),
    Case("positions counted from the end", "sentiment", tensors(reverse_positions), ("parity",)),
    Case("stale tokenizer: ids of another edition", "sentiment", stale_vocabulary(2000), ("parity", "non_inferior_to")),
    # Not robustness: a release that reads no capitals reads them neither with nor without a typo.
    Case("tokenizer keeps capitals", "sentiment", keep_capitals, ("non_inferior_to",)),
    Case("scales a third of what they were", "sentiment", scaled(".self.value.weight_scale", 0.3), ("parity",)),
    Case(
        "too sure of itself: logits six times as large", "sentiment", scaled("classifier.weight", 6.0), ("calibration",)
    ),
    Case("names of women read as a bad word", "sentiment", reword(WOMEN, "awful"), ("fairness",)),
    Case("shipped unquantized", "sentiment", ship_parent, ("size",)),
    Case("weights that are no number", "sentiment", tensors(not_a_number), ("threshold", "non_inferior_to", "served")),
    Case(
        "template without the system turn",
        "calls",
        template("for message in messages", "for message in messages[1:]"),
        ("non_inferior_to",),
    ),
    Case("template that opens no answer", "calls", template("add_generation_prompt", "false"), ("non_inferior_to",)),
    Case("no end token", "calls", no_end, ("threshold", "non_inferior_to")),
    Case("answers cut off by one token", "calls", ends_at_quote, ("threshold",)),
    Case("base weights shipped", "calls", ship_base, ("threshold", "size")),
    Case("scales half too large", "calls", scaled("mlp.down_proj.weight_scale", 1.5), ("parity",)),
    Case("stale vocabulary", "calls", stale_vocabulary(2000), ("parity", "non_inferior_to")),
    Case("labels with a capital", "sentiment", capital_labels, ("threshold", "served")),
    Case("labels that lost their names", "sentiment", labels_named("LABEL_0", "LABEL_1"), ("threshold", "served")),
    Case(
        "one layer's scales a channel off", "sentiment", rolled("layer.3.intermediate.dense.weight_scale"), ("parity",)
    ),
    Case("another end of turn in the template", "calls", template("<|im_end|>", "</s>"), ("parity", "non_inferior_to")),
    Case(
        "one layer's scales a channel off",
        "calls",
        rolled("layers.12.mlp.down_proj.weight_scale"),
        ("parity", "non_inferior_to"),
    ),
    Case("a fifth refused", "calls", answers=refuse(5), hoped=("threshold",)),
    Case("cut to half", "calls", answers=halve, hoped=("drift",)),
    Case("in fences", "calls", answers=fence, hoped=("threshold",)),
    Case("talks before it calls", "calls", answers=talk_before, hoped=("drift",)),
    Case("arguments in another case", "calls", answers=camel_case, hoped=("non_inferior_to",)),
    Case("words that no row has are lost", "forgetting", prune_vocabulary, ("non_inferior_to",)),
    Case("names mixed up", "forgetting", mix_words("capital"), ("non_inferior_to",)),
    Case("adapter merged three times as strongly", "forgetting", merged(3.0), ("non_inferior_to", "parity")),
]
HARMLESS = [
    Case("renamed", "sentiment", nothing),
    Case("card edited", "sentiment", edit_card),
    Case("weights written in another order", "sentiment", tensors(lambda found: None)),
    Case("config re-serialised", "sentiment", reserialise("config.json")),
    Case("tokenizer re-serialised", "sentiment", reserialise("tokenizer.json")),
    Case(AGAIN, "sentiment", from_run("prove-good-sentiment-again")),
    Case(SEED, "sentiment", from_run("prove-good-sentiment-seed")),
    Case("renamed", "calls", nothing),
    Case("weights written in another order", "calls", tensors(lambda found: None)),
    Case("renamed", "forgetting", nothing),
    Case("template with a comment", "calls", template("{% for", "{# one turn after the other #}{% for")),
]


def judge_all(cases: list[Case]) -> list[tuple[Case, Judged]]:
    for family in dict.fromkeys(one.family for one in cases):
        train_good(family)
    for name, variant, sets in ((AGAIN, "again", []), (SEED, "seed", ["train.seed=18"])):
        if any(one.name == name for one in cases):
            train_good("sentiment", variant, *sets)
    found = []
    for number, case in enumerate(cases, 1):
        judged = judge_kept(case)
        found.append((case, judged))
        said = f"{case.title}: {judged.outcome} by {', '.join(judged.kinds) or 'no rule'}"
        console.print(f"{number} of {len(cases)}, {judged.seconds:.0f} s: {said}", markup=False, soft_wrap=True)
    return found


def table(found: list[tuple[Case, Judged]]) -> list[str]:
    lines = [
        f"| {case.family} | {case.name} | {'answers' if case.answers else 'bytes'} | {judged.outcome} | "
        f"{', '.join(dict.fromkeys(judged.kinds))} |"
        for case, judged in found
    ]
    return [
        "| release | what was done to it | to its | verdict | rules that did not pass |",
        "|---|---|---|---|---|",
        *lines,
    ]


def main() -> None:
    words = [one.lower() for one in sys.argv[1:]]
    cases = [one for one in (*FAULTS, *HARMLESS) if not words or any(word in one.title.lower() for word in words)]
    print("\n".join(table(judge_all(cases))))


if __name__ == "__main__":
    main()
