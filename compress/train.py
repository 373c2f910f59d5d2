"""Training a SASRec teacher: at every position of a history, the softmax over the catalogue, towards what came next.

For a training sequence s_1 ... s_n, with h_t the model's user vector after s_t and E the item table,

    loss = mean over t of  -log softmax(E h_t)[s_(t+1)]

over the whole catalogue (without what the user met before, as when it ranks), or over the next item and uniform
negatives shared by a batch, whose logits are raised by log((N - 1) / negatives) so that their sum estimates the
catalogue's (Jean et al. 2015, arXiv:1412.2007, section 3). It is this loss, not the architecture, that a strong SASRec
owes its figures to (Klenitskiy and Vasilev 2023, arXiv:2309.07602).

In an epoch each event is the target once: sequences longer than `max_length` are cut into windows at random places,
other ones each time. Windows of similar length share a right-padded batch. Logits are computed, and their gradients
summed, in chunks of positions, so that memory does not grow with batch x length x catalogue.

After each epoch `validate` measures the model; the best epoch is kept, and `patience` epochs without a better one, or
Ctrl-C, end the training. The same seed on the same machine, with the same number of threads, gives the same weights.
"""

from __future__ import annotations

import copy
import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ..benchmarks.progress import Track, untracked
from ..runtime.errors import InputError
from .models.sasrec import SASRec, SASRecConfig

FULL_SOFTMAX_ITEMS = 50_000
"""The largest catalogue whose every item is scored at every position, unless the user says otherwise."""
SAMPLED_NEGATIVES = 1024
"""Beyond it: at least 256 are needed (arXiv:2309.07602), and the products of these cost less than the encoder's."""
CHUNK_LOGITS = 1 << 22
"""Logits held at once: 16 MB, and as much for their gradient."""
BUCKET_BATCHES = 16
"""Windows are sorted by length within so many random batches: little padding, and still random batches."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """How the model learns; what it is, is `SASRecConfig`."""

    epochs: int = 100
    """At most so many passes over the training sequences."""
    patience: int = 10
    """Epochs without a better validation NDCG@10 before it stops."""
    learning_rate: float = 1e-3
    """Adam's."""
    batch_size: int = 128
    """Windows a step."""
    negatives: int | None = None
    """Sampled negatives a batch; 0: the whole catalogue; None: the whole one up to `FULL_SOFTMAX_ITEMS` items,
    else `SAMPLED_NEGATIVES`."""
    mask_history: bool = True
    """Leave items that the user met before out of the softmax, as they are when it ranks; false where people come
    back to items. Sampled negatives are not looked through: few of so large a catalogue are ever met."""

    def __post_init__(self) -> None:
        for name in ("epochs", "patience", "batch_size"):
            if getattr(self, name) < 1:
                raise InputError(f"train: {name} {getattr(self, name)}, expected at least 1")
        if not 0 < self.learning_rate < math.inf:
            raise InputError(f"train: learning_rate {self.learning_rate}, expected more than 0")
        if self.negatives is not None and self.negatives < 0:
            raise InputError(f"train: negatives {self.negatives}, expected 0 (the whole catalogue) or more")

    def negatives_for(self, n_items: int) -> int:
        """Negatives a batch for a catalogue of `n_items`; 0 for all of it."""
        if self.negatives is not None:
            return self.negatives if self.negatives < n_items - 1 else 0
        return 0 if n_items <= FULL_SOFTMAX_ITEMS else SAMPLED_NEGATIVES


def train_sasrec(
    sequences: Sequence[NDArray[np.int64]],
    config: TrainConfig,
    model_config: SASRecConfig,
    *,
    validate: Callable[[SASRec], float],
    seed: int,
    track: Track = untracked,
    on_epoch: Callable[[dict[str, float]], object] = lambda _epoch: None,
) -> tuple[SASRec, dict[str, Any]]:
    """Train a fresh model on training sequences of item rows, oldest first.

    An interruption (`KeyboardInterrupt`) after the first epoch ends the training as `patience` does: the best epoch
    so far is kept, for it may have taken an hour.

    Args:
        validate: NDCG@10 on the validation item; higher is better. Gets the model in evaluation mode.
        on_epoch: told after each epoch: epoch, loss, validation_ndcg10, seconds.

    Returns:
        The model of the best epoch, in evaluation mode, and what happened, epoch by epoch.

    Raises:
        InputError: no sequence has two items, an item row is not of the table, or the loss diverges.
    """
    _check(sequences, model_config)
    with torch.random.fork_rng(devices=[]):  # dropout draws from torch's global generator: put it back after
        torch.manual_seed(seed)
        return _train(sequences, config, model_config, validate, seed, track, on_epoch)


def _train(
    sequences: Sequence[NDArray[np.int64]],
    config: TrainConfig,
    model_config: SASRecConfig,
    validate: Callable[[SASRec], float],
    seed: int,
    track: Track,
    on_epoch: Callable[[dict[str, float]], object],
) -> tuple[SASRec, dict[str, Any]]:
    generator = np.random.default_rng(seed)
    negatives = config.negatives_for(model_config.n_items)
    model = SASRec(model_config, seed=seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=config.learning_rate)
    best, best_value, best_epoch = copy.deepcopy(model).eval(), -1.0, 0
    epochs: list[dict[str, float]] = []
    interrupted = False
    n_events = sum(max(len(sequence) - 1, 0) for sequence in sequences)

    def learn_one_epoch(title: str) -> float:
        loss_sum = 0.0
        with track(title, n_events) as advance:
            for rows, targets in window_batches(
                sequences, model_config.max_length, config.batch_size, generator
            ):
                sampled = _sample(model_config.n_items, negatives, generator) if negatives else None
                optimizer.zero_grad(set_to_none=True)
                loss, n = backward_(model, rows, targets, sampled=sampled, mask_history=config.mask_history)
                if not math.isfinite(loss):
                    raise InputError(
                        f"train: the loss is {loss} in epoch {len(epochs) + 1}; try a lower learning rate than {config.learning_rate:g}"
                    )
                optimizer.step()
                loss_sum += loss * n
                advance(n)
        return loss_sum / n_events

    try:
        for epoch in range(1, config.epochs + 1):
            began = time.perf_counter()
            model.train()
            loss = learn_one_epoch(
                f"train, epoch {epoch}/{config.epochs}, best NDCG@10 {max(best_value, 0.0):.4f}"
            )
            model.eval()
            done = {"epoch": epoch, "loss": loss, "validation_ndcg10": validate(model)}
            epochs.append({**done, "seconds": time.perf_counter() - began})
            if done["validation_ndcg10"] > best_value:
                best, best_value, best_epoch = copy.deepcopy(model), done["validation_ndcg10"], epoch
            on_epoch(epochs[-1])  # which may take its time, or be interrupted: the best is kept by now
            if epoch - best_epoch >= config.patience:
                break
    except KeyboardInterrupt:
        if not best_epoch:
            raise
        interrupted = True
    return best, {
        "epochs": epochs,
        "best_epoch": best_epoch,
        "validation_ndcg10": best_value,
        "interrupted": interrupted,
        "negatives": negatives or model_config.n_items - 1,
        "parameters": sum(p.numel() for p in model.parameters()),
        "seconds": sum(e["seconds"] for e in epochs),
    }


def window_batches(
    sequences: Sequence[NDArray[np.int64]], max_length: int, batch_size: int, generator: np.random.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of one epoch in random order, right-padded: rows int64 (B, L) and the items that came next, -1 for pads.

    >>> sequence = np.arange(6)
    >>> [(r.tolist(), t.tolist()) for r, t in window_batches([sequence], 5, 8, np.random.default_rng(0))]
    [([[0, 1, 2, 3, 4]], [[1, 2, 3, 4, 5]])]
    """
    windows = list(_windows(sequences, max_length, generator))
    order = generator.permutation(len(windows))
    lengths = np.array([stop - start for _, start, stop in windows])
    batches: list[NDArray[np.int64]] = []
    for start in range(0, len(order), batch_size * BUCKET_BATCHES):
        bucket = order[start : start + batch_size * BUCKET_BATCHES]
        bucket = bucket[np.argsort(lengths[bucket], kind="stable")]
        batches += [bucket[i : i + batch_size] for i in range(0, len(bucket), batch_size)]
    for index in generator.permutation(len(batches)):
        batch = batches[index]
        valid = np.arange(lengths[batch].max()) < lengths[batch][:, None]  # (B, L)
        rows, targets = np.zeros(valid.shape, np.int64), np.full(valid.shape, -1, np.int64)
        chosen = [windows[i] for i in batch]
        rows[valid] = np.concatenate([sequences[user][start:stop] for user, start, stop in chosen])
        targets[valid] = np.concatenate(
            [sequences[user][start + 1 : stop + 1] for user, start, stop in chosen]
        )
        yield torch.from_numpy(rows), torch.from_numpy(targets)


def _windows(
    sequences: Sequence[NDArray[np.int64]], max_length: int, generator: np.random.Generator
) -> Iterator[tuple[int, int, int]]:
    """(user, start, stop): inputs [start, stop) of a sequence whose targets are one later, in which every event
    but the first is a target once."""
    for user, sequence in enumerate(sequences):
        n_inputs = len(sequence) - 1
        stop = n_inputs if n_inputs <= max_length else int(generator.integers(1, max_length + 1))
        start = 0
        while start < n_inputs:
            yield user, start, stop
            start, stop = stop, min(stop + max_length, n_inputs)


def backward_(
    model: SASRec, rows: Tensor, targets: Tensor, *, sampled: Tensor | None, mask_history: bool
) -> tuple[float, int]:
    """Add the gradient of the mean loss of a batch to the parameters'.

    Args:
        rows, targets: int64 (B, L), as `window_batches` yields them.
        sampled: int64 (K,) item rows to set against each target; None: the whole catalogue.

    Returns:
        The mean loss, and over how many targets.
    """
    valid = targets >= 0  # (B, L)
    hidden = model.hidden_states(F.embedding(rows, model.item_table), valid.sum(1))[valid]  # (P, D)
    window, position = valid.nonzero(as_tuple=True)  # (P,), (P,)
    targets = targets[valid]  # (P,)
    users = hidden.detach().requires_grad_()
    n_targets, n_items, loss_sum = len(targets), len(model.item_table), 0.0
    chunk = max(1, CHUNK_LOGITS // (n_items if sampled is None else len(sampled)))
    for start in range(0, n_targets, chunk):
        some = slice(start, start + chunk)
        if sampled is not None:
            logits = _sampled_logits(users[some], targets[some], sampled, model.item_table)  # (p, 1 + K)
            loss = -logits.log_softmax(1)[:, 0].sum() / n_targets
        else:
            logits = users[some] @ model.item_table.T  # (p, N)
            if mask_history:
                _mask_history_(logits, targets[some], rows[window[some]], position[some])
            loss = F.cross_entropy(logits, targets[some], reduction="sum") / n_targets
        loss.backward()
        loss_sum += loss.item()
    hidden.backward(users.grad)
    return loss_sum, n_targets


def _mask_history_(logits: Tensor, targets: Tensor, rows: Tensor, positions: Tensor) -> None:
    """Minus infinity for what lies in rows (p, L) up to positions (p,); the target keeps its logit in any case."""
    later = torch.arange(rows.shape[1]) > positions[:, None]  # (p, L)
    penalty = torch.zeros(rows.shape, dtype=logits.dtype)
    penalty.masked_fill_(~later & (rows != targets[:, None]), float("-inf"))
    logits.scatter_add_(1, rows, penalty)  # adds, so that an item met twice and a pad's zero do no harm


def _sampled_logits(users: Tensor, targets: Tensor, sampled: Tensor, item_table: Tensor) -> Tensor:
    """The target's logit, then the negatives', corrected for how few they are: (p, D) to (p, 1 + K)."""
    wanted = (users * F.embedding(targets, item_table)).sum(1, keepdim=True)  # (p, 1)
    others = users @ F.embedding(sampled, item_table).T  # (p, K)
    others = others + float(np.log((len(item_table) - 1) / len(sampled)))
    others = others.masked_fill(
        sampled == targets[:, None], float("-inf")
    )  # an item is no negative of itself
    return torch.cat([wanted, others], 1)


def _sample(n_items: int, negatives: int, generator: np.random.Generator) -> Tensor:
    return torch.from_numpy(generator.choice(n_items, negatives, replace=False, shuffle=False))


def _check(sequences: Sequence[NDArray[np.int64]], config: SASRecConfig) -> None:
    if not any(len(sequence) >= 2 for sequence in sequences):
        raise InputError(
            f"none of the {len(sequences):,} training sequences has two items; there is no next item to learn"
        )
    for user, sequence in enumerate(sequences):
        wrong = sequence[(sequence < 0) | (sequence >= config.n_items)]
        if len(wrong):
            raise InputError(
                f"training sequence {user}: item row {wrong[0]}; the table has rows 0 to {config.n_items - 1}"
            )
