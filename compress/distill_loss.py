"""What a student loses by ranking otherwise than its teacher: soft and hard targets, the order at the top, the user vector.

With z the student's scores of the catalogue, t the teacher's, u and v their user vectors and B the batch,

    soft    T^2 * KL( softmax(t / T) || softmax(z / T) )                     (Hinton et al. 2015, arXiv:1503.02531, eq. 1)
    hard    -log softmax(z)[next item]
    order   -sum_i log( exp z_(i) / (sum_{j >= i} exp z_(j) + sum_h exp z_h) )    over the teacher's top, (1) before (2) ...
            (Plackett 1975, Luce 1959; h are items that the student ranks highly and the teacher does not:
            the relaxed list-wise loss of Kang et al. 2020, "DE-RRD", arXiv:2012.04357, section 4.3)
    hidden  |W u - v|^2 / mean |v|^2     (Romero et al. 2015, arXiv:1412.6550, eq. 3); W is learned where widths differ

Items of the history are left out of the first three, since they are masked when the model ranks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from .distill_config import DistillConfig

MASKED = -1e9
"""Score of an item that is left out: its share of any softmax is exactly 0 in float32."""


def distillation_loss(
    scores: Tensor,
    expected: Tensor,
    targets: Tensor,
    history: Tensor | None,
    config: DistillConfig,
    *,
    shares: Tensor | None = None,
) -> Tensor:
    """Soft and hard targets: scores and expected (B, C), targets int64 (B,) of columns, -1 for none.

    Args:
        history: int64 (B, n) of columns that are left out, or None.
        shares: log of how many items of the catalogue a column stands for, added to both, (B, C); None: one each.
    """
    if history is not None:
        scores = scores.scatter(1, history, MASKED)
        expected = expected.scatter(1, history, MASKED)
    of_many = 0.0 if shares is None else shares
    student_log = (scores + of_many).log_softmax(1)
    soft_log = student_log
    if config.temperature != 1:
        soft_log = (scores / config.temperature + of_many).log_softmax(1)
    soft = (expected / config.temperature + of_many).softmax(1)
    # the teacher's own entropy does not depend on the student: the cross-entropy has the same gradient as KL
    cross_entropy = -torch.einsum("bn,bn->b", soft, soft_log).mean()
    loss = config.soft_weight * config.temperature**2 * cross_entropy
    known = _known(targets, history)
    if config.soft_weight < 1 and bool(known.any()):
        hard = -student_log[known, targets[known]].sum() / len(targets)
        loss = loss + (1 - config.soft_weight) * hard
    return loss


def consuming_distillation_loss(
    scores: Tensor, expected: Tensor, targets: Tensor, history: Tensor | None, config: DistillConfig
) -> Tensor:
    """`distillation_loss` for a whole catalogue, in half the passes over memory: `scores` and `expected` are used up.

    At T = 1 the gradient of both terms is a softmax less the targets, which is written over the scores.
    """
    if config.temperature != 1:
        return distillation_loss(scores, expected, targets, history, config)
    known = _known(targets, history)
    return _InPlace.apply(scores, expected, targets.clamp(min=0), known, history, config.soft_weight)  # type: ignore[no-any-return]


class _InPlace(torch.autograd.Function):
    """The loss at T = 1. Scores must be the output of something that does not need them backward, like a product."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, scores: Tensor, expected: Tensor, targets: Tensor, known: Tensor, history: Tensor | None, w: float
    ) -> Tensor:  # fmt: skip
        counts = known.to(scores.dtype)
        if history is not None:
            scores.scatter_(1, history, MASKED)
            expected.scatter_(1, history, MASKED)
        torch.softmax(expected, 1, out=expected)
        total = scores.logsumexp(1)
        soft = total.mean() - torch.einsum("bn,bn->b", expected, scores).mean()
        hard = ((total - scores.gather(1, targets[:, None])[:, 0]) * counts).mean()
        scores.sub_(total[:, None]).exp_()
        scores.mul_((w + (1 - w) * counts)[:, None]).sub_(expected, alpha=w)
        scores.scatter_add_(1, targets[:, None], ((w - 1) * counts)[:, None])
        ctx.save_for_backward(scores.div_(len(scores)))
        return w * soft + (1 - w) * hard

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        (gradient,) = ctx.saved_tensors
        return gradient.mul_(grads[0]), None, None, None, None, None


def order_loss(top: Tensor, others: Tensor) -> Tensor:
    """Plackett-Luce: the student's scores of the teacher's best, best first (B, K), before `others` (B, H); a mean per place.

    >>> order_loss(torch.tensor([[9.0, 5.0]]), torch.tensor([[0.0]])) < order_loss(
    ...     torch.tensor([[5.0, 9.0]]), torch.tensor([[0.0]])
    ... )
    tensor(True)
    """
    rest = others.logsumexp(1, keepdim=True)  # (B, 1)
    behind = top.flip(1).logcumsumexp(1).flip(1)  # (B, K): each place and all later ones
    return (torch.logaddexp(behind, rest) - top).mean()


def best_of_others(scores: Tensor, top: Tensor, n: int) -> Tensor:
    """Columns of the n best scores that are not among `top`: (B, C), int64 (B, K) -> int64 (B, n)."""
    return scores.detach().scatter(1, top, MASKED).topk(n, 1).indices


def hidden_loss(users: Tensor, expected: Tensor) -> Tensor:
    """Squared distance of user vectors (B, D) as a share of the teacher's squared length."""
    return (users - expected).square().sum(1).mean() / expected.square().sum(1).mean().clamp(min=1e-12)


def _known(targets: Tensor, history: Tensor | None) -> Tensor:
    """Who has a next item: bool (B,). Who comes back to an item asks for what is masked: no hard target then."""
    known = targets >= 0
    return known if history is None else known & (history != targets[:, None]).all(1)
