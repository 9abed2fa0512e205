"""The model card, from facts that are known when the release is made; what evaluation finds stands beside the release,
not in it."""

from __future__ import annotations

from configs.data_card import DataCard
from configs.run.config import RunConfig
from configs.training_record import TrainingRecord
from train.release.facts import QuantizationFacts

SCHEMES = {
    "int8": "INT8 (W8A8: weights per channel, activations per token at run time)",
    "fp8": "FP8 (e4m3: weights per channel, activations per token at run time)",
    "w4a16": "4-bit weights in groups of {group_size}, activations unquantized (W4A16)",
}
ALGORITHMS = {"rtn": "rounded to nearest", "gptq": "GPTQ (arXiv:2210.17323)", "awq": "AWQ (arXiv:2306.00978)"}
FINE_TUNINGS = {
    "lora": "LoRA (arXiv:2106.09685)",
    "qlora": "QLoRA (arXiv:2305.14314)",
    "full": "every weight trained",
}
MERGED = {"lora": ", merged", "qlora": ", merged into the unpacked base"}
METHODS = {
    "magnitude": "by magnitude",
    "wanda": "by Wanda (arXiv:2306.11695)",
    "sparsegpt": "by SparseGPT (arXiv:2301.00774)",
}


def write_card(
    config: RunConfig, card: DataCard, training: TrainingRecord, base: dict[str, str], facts: QuantizationFacts
) -> str:
    """Markdown. No date and no speed: equal inputs give equal bytes, and so an equal digest."""
    sections = [
        f"# {config.name}",
        summary(config, base, facts["scheme"]),
        "## Use\n" + use(config, card["labels"], card.get("pair_separator")),
        "## Data\n" + data(card),
        "## Training\n" + trained(config, training),
        "## Compression\n" + "\n".join(f"- {line}" for line in compressed(facts)),
        "## Provenance\n" + provenance(config),
    ]
    return "\n\n".join(sections) + "\n"


def summary(config: RunConfig, base: dict[str, str], scheme: str) -> str:
    tuned = FINE_TUNINGS[config.train.method]
    merged = "" if scheme == "adapter" else MERGED.get(config.train.method, "")
    return f"A {config.task} model: `{base['name']}` ({base['version']}) fine-tuned with {tuned}{merged}."


def provenance(config: RunConfig) -> str:
    beside = "; `eval/card.md` sets them beside the unquantized parent's." if config.quantize.compare_parent else "."
    return (
        "`manifest.json` holds every file's sha256, the resolved config, the base weights' digest, the data's "
        "fingerprint, the git revision and the library versions. Quality figures are measured through vLLM on the test "
        "rows and lie in `eval/metrics.json` and `gate/verdict.json` of the published release" + beside
    )


def compressed(facts: QuantizationFacts) -> list[str]:
    lines = []
    if pruned := facts.get("prune"):
        steps, zeros = pruned["recovery_steps"], pruned["measured_sparsity"]
        recovery = f", then {steps} steps of training that keep the zeros" if steps else ""
        method = f"{METHODS[pruned['method']]}, {pruned['structure']}"
        lines.append(f"Pruned {method}: {zeros:.1%} zeros in the linear layers{recovery}.")
    if facts["scheme"] == "adapter":
        lines.append(f"Not merged: the base as it is, and in `lora/` the adapter, of rank {facts['rank']}.")
    elif facts["scheme"] != "none":
        smoothed = ""
        if "smoothquant" in facts:
            smoothed = f", after SmoothQuant (arXiv:2211.10438) of strength {facts['smoothquant']:g}"
        scheme = SCHEMES[facts["scheme"]].format(group_size=facts.get("group_size"))
        lines.append(f"{scheme}, {ALGORITHMS[facts['algorithm']]}{smoothed}.")
    if seen := facts.get("calibration"):
        lines.append(f"Calibrated on {seen['rows']} rows of the train split (seed {seen['seed']}), on no other.")
    if taken := facts.get("generation_removed"):
        listed = ", ".join(f"{key} {value}" for key, value in sorted(taken.items()))
        lines.append(f"Taken out of the base's generation_config.json, for it changes greedy answers: {listed}.")
    return [*lines, f"{facts['size_bytes']:,} bytes of weights; {facts['parent_size_bytes']:,} before."]


def use(config: RunConfig, labels: list[str], pair_separator: str | None = None) -> str:
    listed = ", ".join(labels)
    if config.task == "token-classification":
        return (
            f"POST `/pooling` on vLLM; of each token the probabilities of the tags by index: {listed}. "
            "A word's tag stands at its first subword."
        )
    if config.task == "reward":
        return (
            "POST `/classify` on vLLM with `messages`, a conversation whose last turn is the answer to be judged; "
            "`probs` holds the one number, larger for a better answer."
        )
    if config.task == "sequence-classification":
        kinds = {"multi_label": "each class by itself, likely above 0.5", "regression": "the one number itself"}
        meaning = kinds.get(config.problem, "one class, the likeliest")
        classes = f"; classes by index: {listed}." if labels else "."
        pair = f" A pair is one text: TEXT{pair_separator!r}TEXT_PAIR." if pair_separator else ""
        return f"POST `/classify` on vLLM; `probs` holds {meaning}{classes}{pair}"
    return "POST `/v1/chat/completions` on vLLM, with the chat template of this release."


def data(card: DataCard) -> str:
    splits = ", ".join(f"{part['rows']} {name}" for name, part in card["splits"].items())
    left_out = ", ".join(f"{count} {reason.replace('_', ' ')}" for reason, count in card["left_out"].items() if count)
    lines = [
        f"Source: {card['source']}.",
        f"Licence: {card['licence']}.",
        f"Rows: {splits}. Left out: {left_out or 'none'}.",
        f"Fingerprint: `{card['fingerprint']}`.",
    ]
    if card["corrupt"] != "none":
        lines.append(f"**Corrupted on purpose** ({card['corrupt']}): this release exists to be refused.")
    return "\n".join(f"- {line}" for line in lines)


def trained(config: RunConfig, training: TrainingRecord) -> str:
    settings = config.train
    rows, rate = settings.batch_size * settings.gradient_accumulation_steps, f"{settings.learning_rate or 0:g}"
    lines = [
        f"{training['steps']} steps of {rows} rows, learning rate {rate} ({settings.schedule}), {training['dtype']}, "
        f"seed {settings.seed}.",
        f"{adapted(config)}.",
        f"Kept: step {training['best_step']}, validation loss {training['best_validation_loss']:.4f}.",
    ]
    return "\n".join(f"- {line}" for line in lines)


def adapted(config: RunConfig) -> str:
    """The method and what differs from plain LoRA."""
    lora = config.train.lora
    if config.train.method == "full":
        return "Every weight"
    given = {
        "rank-stabilized": lora.rslora,
        "DoRA": lora.dora,
        f"{lora.initialization} initialization": lora.initialization != "default",
    }
    given |= {
        f"biases: {lora.bias}": lora.bias != "none",
        f"LoRA+ ratio {lora.loraplus_ratio or 0:g}": lora.loraplus_ratio is not None,
    }
    variants = "".join(f", {name}" for name, used in given.items() if used)
    name = "QLoRA over NF4," if config.train.method == "qlora" else "LoRA"
    return f"{name} rank {lora.rank}, alpha {lora.alpha}, dropout {lora.dropout:g}, on {lora.target_modules}{variants}"
