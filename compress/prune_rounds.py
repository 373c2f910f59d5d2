"""Pruning in rounds: a part is cut, what is left learns from the unpruned teacher, then more is cut.

Of what will be cut in the end, round n of N has cut

    1 - (1 - n / N)^3

(Zhu and Gupta 2017, "To prune, or not to prune", arXiv:1710.01878, section 3: much while much is spare, little towards the
end), and importances are found anew each time, as in Molchanov et al. 2019, arXiv:1906.10771, section 3.2. Shares are of the
whole model's units, so the last round leaves as many as a single one would. Nothing learns after the last round here: the
recipe's distillation follows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .models.protocol import SequenceModel
from .prune import PruneConfig, prune

SHARES = ("keep_heads", "keep_inner", "keep_hidden", "keep_kernels")

Recover = Callable[[SequenceModel, int], tuple[SequenceModel, dict[str, Any]]]
"""From what a round left and the epochs that it may take, the model that learned, and what happened."""


def prune_in_rounds(
    model: SequenceModel,
    sequences: Sequence[NDArray[np.int64]],
    config: PruneConfig,
    recover: Recover,
    *,
    seed: int,
) -> tuple[SequenceModel, dict[str, Any]]:
    """As `prune`, in `config.rounds` rounds; the detail has what each but the last left and learned under `rounds`."""
    whole, rounds = model, list[dict[str, Any]]()
    for number in range(1, config.rounds):
        model, detail = prune(model, sequences, of_round(config, number), seed=seed, whole=whole)
        model, learned = recover(model, config.round_epochs)
        rounds.append({**detail, "epochs": learned["epochs"]})
    model, detail = prune(model, sequences, config, seed=seed, whole=whole)
    return model, {**detail, "rounds": rounds} if rounds else detail


def of_round(config: PruneConfig, number: int) -> PruneConfig:
    """What stays after a round.

    >>> [round(of_round(PruneConfig(rounds=3), n).keep_inner, 3) for n in (1, 2, 3)]
    [0.648, 0.519, 0.5]
    """
    done = 1 - (1 - number / config.rounds) ** 3
    return dataclasses.replace(config, **{name: 1 - done * (1 - getattr(config, name)) for name in SHARES})
