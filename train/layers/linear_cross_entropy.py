"""The loss of a language model at its target tokens without holding their logits: some rows at a time, gradient at
once.

What Liger calls fused linear cross-entropy (Hsu et al. 2024, arXiv:2410.10989, section 3.2): by hand for frozen heads
on a CPU, by TRL's kernel on a GPU.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.autograd.function import once_differentiable

from train.batches.collate import HEAD_ROWS, IGNORED, flatten
from train.layers.ranks import as_rank_0

VOCABULARY_CHUNK = 32_768  # of TRL's kernel, as its own trainers have it (trl/trainer/utils.py)


class HeadLoss(torch.autograd.Function):
    """Sum over rows of the cross-entropy of softmax(h W') with (1 - s) at the target and s spread over the vocabulary
    (Szegedy et al. 2016, arXiv:1512.00567, section 7), natural logarithm.

    h (n, hidden), W (vocabulary, hidden), targets (n), smoothing s; W gets no gradient. Logits are multiplied in
    `dtype`, as autocast would, and summed in float32.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Any, weight: Any, targets: Any, smoothing: float = 0.0, dtype: Any = None) -> Any:
        wanted, dtype = ctx.needs_input_grad[0], dtype or weight.dtype
        of_hidden, narrow = torch.empty_like(hidden) if wanted else None, weight.to(dtype)
        precise = torch.promote_types(dtype, torch.float32)
        room = hidden.new_empty(min(HEAD_ROWS, len(hidden)), len(weight), dtype=dtype)
        total = hidden.new_zeros((), dtype=precise)
        with torch.autocast(hidden.device.type, enabled=False):
            for start in range(0, len(hidden), HEAD_ROWS):
                rows, target = hidden[start : start + HEAD_ROWS].to(dtype), targets[start : start + HEAD_ROWS, None]
                logits = torch.mm(rows, narrow.t(), out=room[: len(rows)]).to(precise)
                logits.sub_(logits.amax(dim=1, keepdim=True))
                total -= (1 - smoothing) * logits.gather(1, target).sum()
                if smoothing:
                    total -= smoothing * logits.mean(dim=1).sum()
                sums = logits.exp_().sum(dim=1, keepdim=True)
                total += sums.log().sum()
                if of_hidden is not None:
                    logits.div_(sums).scatter_add_(1, target, logits.new_full(target.shape, smoothing - 1.0))
                    if smoothing:
                        logits.sub_(smoothing / len(weight))
                    of_hidden[start : start + HEAD_ROWS] = torch.mm(logits.to(dtype), narrow)
        ctx.save_for_backward(of_hidden)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Any) -> tuple[Any, ...]:
        (of_hidden,) = ctx.saved_tensors
        return of_hidden * gradient.to(of_hidden.dtype), None, None, None, None


def sum_at_targets(hidden: Any, weight: Any, targets: Any, smoothing: float = 0.0) -> Any:
    """Of a frozen W by HeadLoss, the CPU's; on a GPU by TRL's kernel, which knows no smoothing. The one place where it
    is chosen."""
    device = weight.device.type
    if device == "cuda" and not smoothing:
        return sum_by_trl(hidden, weight, targets)
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
    given = hidden, weight, targets, smoothing, dtype
    return HeadLoss.apply(*given)  # type: ignore[no-untyped-call]


def sum_by_trl(hidden: Any, weight: Any, targets: Any) -> Any:
    """The same sum by TRL's kernel (trl/kernels/chunked_logprob.py), which also gives a trained W its gradient; in
    autocast's dtype where that is on."""
    from trl.kernels import ChunkedLogProbFunction

    given = hidden, weight, None, targets, 1.0, VOCABULARY_CHUNK, None, 1.0, ()
    logprobs, *_ = ChunkedLogProbFunction.apply(*given)  # type: ignore[no-untyped-call]
    return -logprobs.sum()


class FusedHead:
    """A model whose head hands the hidden states on to the loss, whenever it is asked for the loss of a padding-free
    batch."""

    def __init__(self, model: Any, head: Any, smoothing: float = 0.0) -> None:
        self.model, self.head, self.smoothing = model, head, smoothing
        self.plain_loss, self.asked = model.loss_function, False
        self.hooks = [
            model.register_forward_pre_hook(self.before, with_kwargs=True),
            model.register_forward_hook(self.after, always_call=True),
        ]
        head.forward, model.loss_function = self.forward, self.loss

    def before(self, model: Any, given: Any, named: Mapping[str, object]) -> None:
        self.asked = named.get("shift_labels") is not None

    def after(self, *_: Any) -> None:
        self.asked = False

    def forward(self, hidden: Any) -> Any:
        return hidden if self.asked else type(self.head).forward(self.head, hidden)

    def loss(self, logits: Any, labels: Any, vocab_size: int, **named: Any) -> Any:
        """transformers.loss.loss_utils.ForCausalLMLoss, of hidden states; flatten's labels are all targets."""
        if not self.asked:
            return self.plain_loss(logits, labels, vocab_size, **named)
        shift_labels, count = named["shift_labels"], named.get("num_items_in_batch")
        smoothing = self.smoothing if torch.is_grad_enabled() else 0.0  # validation's loss is the plain one
        total = sum_at_targets(logits.flatten(0, -2), self.head.weight, shift_labels.flatten(), smoothing)
        return total / (shift_labels.numel() if count is None else count)

    def remove(self) -> None:
        for hook in self.hooks:
            hook.remove()
        del self.head.forward
        self.model.loss_function = self.plain_loss


def fuse_head(model: Any, smoothing: float = 0.0, dtype: str = "float32") -> bool:
    """Whether the loss is computed so from now on: a head in float32 or bfloat16, frozen where no GPU trains it, and a
    model that does nothing to its logits but to scale them. `dtype`: in which it will be multiplied.

    Gemma caps them. Whatever else another may do is found out by asking before and after.
    """
    head = model.get_output_embeddings()
    if getattr(model.config.get_text_config(), "final_logit_softcapping", None) is not None:
        return False
    if (
        type(head) is not torch.nn.Linear
        or head.bias is not None
        or (head.weight.requires_grad and (smoothing or not torch.cuda.is_available()))
        or head.weight.dtype not in (torch.float32, torch.bfloat16)
    ):
        return False
    found = flatten([{"input_ids": [0, 1, 2, 3], "loss_mask": [False, True, True, True]}])
    question = {name: one.to(head.weight.device) if torch.is_tensor(one) else one for name, one in found.items()}
    training, autocast = model.training, torch.cuda.is_available() and dtype != "float32"
    model.eval()
    with torch.no_grad(), torch.autocast(head.weight.device.type, getattr(torch, dtype), enabled=autocast):
        before = model(**question).loss
        fused = FusedHead(model, head, smoothing)
        same = as_rank_0(torch.allclose(model(**question).loss, before, rtol=1e-4))
    model.train(training)
    if not same:
        fused.remove()
    return same


def smooth_loss(model: Any, smoothing: float) -> None:
    """The same smoothing for a causal language model whose head stays as it is; while training alone."""
    plain = model.loss_function

    def loss(logits: Any, labels: Any, vocab_size: int, **named: Any) -> Any:
        if not torch.is_grad_enabled():
            return plain(logits, labels, vocab_size, **named)
        shifted, count = named.get("shift_labels"), named.get("num_items_in_batch")
        targets = torch.nn.functional.pad(labels, (0, 1), value=IGNORED)[..., 1:] if shifted is None else shifted
        total = torch.nn.functional.cross_entropy(
            logits.float().flatten(0, -2),
            targets.flatten(),
            ignore_index=IGNORED,
            reduction="sum",
            label_smoothing=smoothing,
        )
        return total / ((targets != IGNORED).sum() if count is None else count)

    model.loss_function = loss
