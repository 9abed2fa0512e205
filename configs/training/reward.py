"""Reward and Grpo: what a model that learns from its own answers is rewarded for, by the names of the gate's own
metrics, and how it is asked."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from configs.section import Section

RewardMetric = Literal[
    "exact_match",
    "name_match",
    "valid_json",
    "valid_schema",
    "field_f1",
    "token_f1",
    "rouge_1",
    "rouge_2",
    "rouge_l",
    "sentence_bleu",
    "sentence_chrf",
    "judge_score",
]


class Reward(Section):
    """One metric of an answer, as `evaluate` has it, and how much it counts."""

    metric: RewardMetric = Field(
        description="exact_match (calls by syntax tree), name_match, valid_json, valid_schema (of "
        "evaluate.json_schema), field_f1, token_f1, rouge_*, sentence_bleu, sentence_chrf, judge_score (of "
        "evaluate.judge); 0 where it says nothing of a row"
    )
    weight: float = Field(1.0, ge=-100, le=100, description="the reward is the sum of weight times metric")


class Grpo(Section):
    """Group relative policy optimization (Shao et al. 2024, arXiv:2402.03300), by TRL: several answers to each prompt,
    the better ones of them made likelier. An answer has up to evaluate.max_new_tokens tokens."""

    generations: int = Field(
        8, ge=2, le=1024, description="answers drawn for each prompt; batch_size counts answers, not prompts"
    )
    temperature: float = Field(1.0, gt=0, le=10)
    beta: float = Field(
        0.0, ge=0, le=10, description="how strongly it is held to the model that it began as; 0: not at all"
    )
    loss: Literal["dapo", "grpo", "dr_grpo", "bnpo"] = Field(
        "dapo",
        description="how tokens are weighed: dapo: arXiv:2503.14476; grpo: the paper's; dr_grpo: arXiv:2503.20783",
    )
    generate: Literal["transformers", "vllm"] = Field(
        "transformers", description="vllm: inside the training process, on a GPU that has room for both"
    )
