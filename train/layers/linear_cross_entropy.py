"""The loss of a language model at its target tokens without holding their logits: some rows at a time, gradient at
once.

What Liger calls fused linear cross-entropy (Hsu et al. 2024, arXiv:2410.10989, section 3.2), here for frozen float32
heads.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.autograd.function import once_differentiable

from train.batches.collate import HEAD_ROWS, flatten


class HeadLoss(torch.autograd.Function):
    """Sum over rows of -log softmax(h W')[target], natural logarithm. h (n, hidden), W (vocabulary, hidden), targets
    (n); W gets no gradient."""

    @staticmethod
    def forward(ctx: Any, hidden: Any, weight: Any, targets: Any) -> Any:
        wanted = ctx.needs_input_grad[0]
        of_hidden = torch.empty_like(hidden) if wanted else None
        room, total = hidden.new_empty(min(HEAD_ROWS, len(hidden)), len(weight)), hidden.new_zeros(())
        for start in range(0, len(hidden), HEAD_ROWS):
            rows, target = hidden[start : start + HEAD_ROWS], targets[start : start + HEAD_ROWS, None]
            logits = torch.mm(rows, weight.t(), out=room[: len(rows)])
            logits.sub_(logits.amax(dim=1, keepdim=True))
            total -= logits.gather(1, target).sum()
            sums = logits.exp_().sum(dim=1, keepdim=True)
            total += sums.log().sum()
            if of_hidden is not None:
                logits.div_(sums).scatter_add_(1, target, logits.new_full(target.shape, -1.0))
                torch.mm(logits, weight, out=of_hidden[start : start + HEAD_ROWS])
        ctx.save_for_backward(of_hidden)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Any) -> tuple[Any, ...]:
        (of_hidden,) = ctx.saved_tensors
        return of_hidden * gradient, None, None


class FusedHead:
    """A model whose head hands the hidden states on to the loss, whenever it is asked for the loss of a padding-free
    batch."""

    def __init__(self, model: Any, head: Any) -> None:
        self.model, self.head = model, head
        self.plain_loss, self.asked = model.loss_function, False
        self.hooks = [
            model.register_forward_pre_hook(self.before, with_kwargs=True),
            model.register_forward_hook(self.after, always_call=True),
        ]
        head.forward, model.loss_function = self.forward, self.loss

    def before(self, model: Any, given: Any, named: Mapping[str, object]) -> None:
        self.asked = named.get("shift_labels") is not None and not torch.is_autocast_enabled(
            self.head.weight.device.type
        )

    def after(self, *_: Any) -> None:
        self.asked = False

    def forward(self, hidden: Any) -> Any:
        return hidden if self.asked else type(self.head).forward(self.head, hidden)

    def loss(
        self,
        logits: Any,
        labels: Any,
        vocab_size: int,
        num_items_in_batch: Any = None,
        shift_labels: Any = None,
        **named: Any,
    ) -> Any:
        """transformers.loss.loss_utils.ForCausalLMLoss, of hidden states; flatten's labels are all targets."""
        if not self.asked:
            return self.plain_loss(
                logits, labels, vocab_size, num_items_in_batch=num_items_in_batch, shift_labels=shift_labels, **named
            )
        total: Any = HeadLoss.apply(logits.flatten(0, -2), self.head.weight, shift_labels.flatten())  # type: ignore[no-untyped-call]
        return total / (shift_labels.numel() if num_items_in_batch is None else num_items_in_batch)

    def remove(self) -> None:
        for hook in self.hooks:
            hook.remove()
        del self.head.forward
        self.model.loss_function = self.plain_loss


def fuse_head(model: Any) -> bool:
    """Whether the loss is computed so from now on: a frozen float32 head, and a model that does nothing to its logits
    but to scale them.

    Gemma caps them. Whatever else another may do is found out by asking before and after.
    """
    head = model.get_output_embeddings()
    if getattr(model.config.get_text_config(), "final_logit_softcapping", None) is not None:
        return False
    if (
        type(head) is not torch.nn.Linear
        or head.bias is not None
        or head.weight.requires_grad
        or head.weight.dtype != torch.float32
    ):
        return False
    question = flatten([{"input_ids": [0, 1, 2, 3], "loss_mask": [False, True, True, True]}])
    training = model.training
    model.eval()
    with torch.no_grad():
        before = model(**question).loss
        fused = FusedHead(model, head)
        same = torch.allclose(model(**question).loss, before, rtol=1e-4)
    model.train(training)
    if not same:
        fused.remove()
    return same
