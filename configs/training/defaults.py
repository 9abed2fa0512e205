"""Defaults that hang on the task and the method, in one place. RunConfig resolves them as it is read, so that every
record and manifest holds the value itself."""

from __future__ import annotations

from configs.task import Task
from configs.training.lora import Method
from configs.training.preference import PreferenceMethod

# Of every weight trained. TRL 1.16.0: DPOConfig, CPOConfig, KTOConfig and GRPOConfig 1e-6 (DPO's paper, appendix B;
# SimPO's, 3e-7 to 1e-6; KTO's, 5e-7 to 5e-6); ORPO's paper (arXiv:2403.07691), 8e-6, for it has no reference and learns
# the answers as well; reward models by TRL's documentation of its RewardTrainer, 1e-5.
PREFERENCE_RATES: dict[PreferenceMethod, float] = {"dpo": 1e-6, "orpo": 8e-6, "cpo": 1e-6, "simpo": 1e-6, "kto": 1e-6}
REWARD_RATE = 1e-5
GRPO_RATE = 1e-6
# LoRA's best rate is about ten times that of full fine-tuning, whatever the rank (Schulman et al. 2025, LoRA Without
# Regret, thinkingmachines.ai/blog/lora); TRL's scripts/dpo.py and RewardConfig say so too.
ADAPTER_FACTOR = 10


# Of every weight. Classifiers and taggers: the highest of BERT's own grid (Devlin et al. 2019, arXiv:1810.04805,
# appendix A.3: 5e-5, 3e-5, 2e-5), for the bases that are trained here are no larger and tens of labels want more;
# texts: Llama 2's fine-tuning (Touvron et al. 2023, arXiv:2307.09288, section 3.1).
FULL_RATES: dict[Task, float] = {
    "sequence-classification": 5e-5,
    "token-classification": 5e-5,
    "causal-lm": 2e-5,
}
# Of an adapter. Classifiers and taggers: Hu et al. 2021 (arXiv:2106.09685), table 9, RoBERTa base, 4e-4 and 5e-4; at
# 1e-3 a MiniLM learns nothing of some rows of two labels (the set attacks of benchmarks/models/defaults.py). Texts:
# Schulman et al. 2025, of a model 2,000 wide; `tunegate init` scales it by the base's own width.
LORA_RATE = 5e-4
QLORA_RATE = 2e-4  # Dettmers et al. 2023, arXiv:2305.14314, table 9: up to 13B parameters


def default_learning_rate(task: Task, method: Method, preference: PreferenceMethod) -> float:
    """Of a run whose YAML gives none; `preference` counts for task dpo alone."""
    if task in ("dpo", "reward", "grpo"):
        rates = {"dpo": PREFERENCE_RATES[preference], "reward": REWARD_RATE, "grpo": GRPO_RATE}
        return rates[task] * (1 if method == "full" else ADAPTER_FACTOR)
    if method == "full":
        return FULL_RATES[task]
    return QLORA_RATE if method == "qlora" else LORA_RATE
