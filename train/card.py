"""The model card, from facts that are known when the release is made; what evaluation finds stands beside the release, not in it."""

from __future__ import annotations

from typing import Any

from configs.schema import RunConfig


def write_card(config: RunConfig, card: dict[str, Any], training: dict[str, Any], base: dict[str, str], sizes: dict[str, int]) -> str:
    """Markdown. No date and no speed: equal inputs give equal bytes, and so an equal digest."""
    sections = [
        f"# {config.name}",
        f"A {config.task} model: `{base['name']}` ({base['version']}) fine-tuned with LoRA (arXiv:2106.09685), merged{quantized(config)}.",
        "## Use\n" + use(config, card["labels"]),
        "## Data\n" + data(card),
        "## Training\n" + trained(config, training),
        "## Size\n" + f"{sizes['size_bytes']:,} bytes of weights; {sizes['parent_size_bytes']:,} before quantization.",
        "## Provenance\n`manifest.json` holds every file's sha256, the resolved config, the base weights' digest, the data's fingerprint, "
        "the git revision and the library versions. "
        "Quality figures are measured through vLLM on the test rows and lie in `eval/metrics.json` and `gate/verdict.json` of the published release.",
    ]
    return "\n\n".join(sections) + "\n"


def quantized(config: RunConfig) -> str:
    return " and quantized to INT8 (W8A8: weights per channel, activations per token; no calibration data)" if config.quantize.scheme == "int8" else ""


def use(config: RunConfig, labels: list[str]) -> str:
    if config.task == "token-classification":
        return f"POST `/pooling` on vLLM; of each token the probabilities of the tags by index: {', '.join(labels)}. A word's tag stands at its first subword."
    if config.task == "sequence-classification":
        kinds = {"multi_label": "each class by itself, likely above 0.5", "regression": "the one number itself"}
        meaning = kinds.get(config.problem, "one class, the likeliest")
        return f"POST `/classify` on vLLM; `probs` holds {meaning}" + (f"; classes by index: {', '.join(labels)}." if labels else ".")
    return "POST `/v1/chat/completions` on vLLM, with the chat template of this release."


def data(card: dict[str, Any]) -> str:
    splits = ", ".join(f"{part['rows']} {name}" for name, part in card["splits"].items())
    left_out = ", ".join(f"{count} {reason.replace('_', ' ')}" for reason, count in card["left_out"].items() if count) or "none"
    lines = [f"Source: {card['source']}.", f"Licence: {card['licence']}.", f"Rows: {splits}. Left out: {left_out}.", f"Fingerprint: `{card['fingerprint']}`."]
    if card["damage"] != "none":
        lines.append(f"**Spoiled on purpose** ({card['damage']}): this release exists to be refused.")
    return "\n".join(f"- {line}" for line in lines)


def trained(config: RunConfig, training: dict[str, Any]) -> str:
    settings = config.train
    rows, rate = settings.batch_size * settings.gradient_accumulation_steps, f"{settings.learning_rate:g} ({settings.schedule})"
    lines = [
        f"{training['steps']} steps of {rows} rows, learning rate {rate}, {training['dtype']}, seed {settings.seed}.",
        f"{adapted(config)}.",
        f"Kept: step {training['best_step']}, validation loss {training['best_validation_loss']:.4f}.",
    ]
    return "\n".join(f"- {line}" for line in lines)


def adapted(config: RunConfig) -> str:
    """The method and what differs from plain LoRA."""
    lora = config.train.lora
    if config.train.method == "full":
        return "Every weight"
    given = {"rank-stabilized": lora.rslora, "DoRA": lora.dora, f"{lora.initialization} initialization": lora.initialization != "default"}
    given |= {f"biases: {lora.bias}": lora.bias != "none", f"LoRA+ ratio {lora.loraplus_ratio or 0:g}": lora.loraplus_ratio is not None}
    variants = "".join(f", {name}" for name, used in given.items() if used)
    name = "QLoRA over NF4," if config.train.method == "qlora" else "LoRA"
    return f"{name} rank {lora.rank}, alpha {lora.alpha}, dropout {lora.dropout:g}, on {lora.target_modules}{variants}"
