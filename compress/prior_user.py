"""The user vector of somebody of whom nothing is known: its scores follow popularity.

Stored popularity would cost a number an item. One vector u costs D numbers: the one that makes the observed
interactions most likely under softmax(table u), a multinomial logistic regression with a small ridge.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

RIDGE = 1e-4
"""Weight of |u|^2: keeps directions that popularity says nothing about at zero."""


def fit_prior_user(table: NDArray[np.float32], counts: NDArray[np.int64]) -> NDArray[np.float32]:
    """float32 (N, D) as the device sees it, int64 (N,) interactions of each item -> float32 (D,)."""
    items = torch.from_numpy(np.ascontiguousarray(table)).double()
    share = torch.from_numpy(
        (counts + 0.5) / (counts + 0.5).sum()
    )  # half an interaction for items never seen
    user = torch.zeros(items.shape[1], dtype=torch.double, requires_grad=True)
    optimizer = torch.optim.LBFGS([user], max_iter=60, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = -(share * (items @ user).log_softmax(0)).sum() + RIDGE * user.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return user.detach().float().numpy()
