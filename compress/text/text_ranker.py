"""A ranker over texts: SASRec whose item vectors are a projection of what the text encoder says of their titles.

    item vector  e_i = W (t_i - mean t) + b        t_i: the frozen encoder's vector of the title
    user vector  SASRec over the item vectors of the history;  score = user vector @ item vector

Trained as any SASRec of ours (`compress/train.py`: the softmax towards what came next, at every position), the item table
not being free: its gradient flows on into W. So an item that nobody met has a vector as good as its title says.

W starts as the leading principal directions of the titles, whitened: encoders of sentences use few directions for most of
their variance, and a ranker needs the others, too (Hou et al. 2022, "UniSRec", arXiv:2206.05941, section 2.1.1).
"""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ...benchmarks.progress import Track, untracked
from ...runtime.errors import InputError
from ..models.sasrec import SASRec, SASRecConfig
from ..train import backward_, window_batches

START_DEVIATION = 0.5
"""Of a coordinate of an item vector before training; SASRec's first LayerNorm makes the scale of no matter to histories,
and scores of whitened vectors begin in the range where the softmax learns."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TextRankerConfig:
    """How the ranker over texts learns."""

    width: int = 64
    """Of an item vector."""
    max_length: int = 50
    """Of a history."""
    epochs: int = 8
    """At most so many passes; what is learned is small, and three bring most of it."""
    patience: int = 2
    """Epochs without a better validation NDCG@10 before it stops."""
    learning_rate: float = 1e-3
    """Adam's."""
    batch_size: int = 256
    """Histories a step."""
    negatives: int = 2048
    """Sampled negatives a step, or the whole catalogue where it is smaller."""

    def __post_init__(self) -> None:
        for name in ("width", "max_length", "epochs", "patience", "batch_size", "negatives"):
            if getattr(self, name) < 1:
                raise InputError(f"text: {name} {getattr(self, name)}, expected at least 1")
        if not 0 < self.learning_rate < math.inf:
            raise InputError(f"text: learning_rate {self.learning_rate}, expected more than 0")


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class TextRanker:
    """A trained ranker."""

    model: SASRec
    """In evaluation mode; its table holds the projected titles."""
    projection: NDArray[np.float32]
    """float32 (H + 1, D): W, and b as its last row, for the encoder's vectors as they are."""
    epochs: list[dict[str, float]]


def train_text_ranker(
    text_vectors: NDArray[np.float32],
    sequences: Sequence[NDArray[np.int64]],
    config: TextRankerConfig,
    *,
    validate: Callable[[SASRec], float],
    seed: int,
    track: Track = untracked,
) -> TextRanker:
    """Train on training sequences of item rows; `text_vectors` float32 (N, H) has the row of each item.

    Args:
        validate: NDCG@10 on validation items, with the model in evaluation mode; the best epoch is kept.

    Raises:
        InputError: no sequence has two items, the vectors are not finite, or the loss diverges.
    """
    if not any(len(sequence) >= 2 for sequence in sequences):
        raise InputError("no training sequence has two items with a text; there is no next item to learn")
    if not np.isfinite(text_vectors).all():
        raise InputError("the encoder's vectors are not finite; are its weights damaged?")
    with torch.random.fork_rng(devices=[]):  # dropout draws from torch's global generator: put it back after
        torch.manual_seed(seed)
        return _train(torch.from_numpy(text_vectors), sequences, config, validate, seed, track)


def _train(
    texts: Tensor,
    sequences: Sequence[NDArray[np.int64]],
    config: TextRankerConfig,
    validate: Callable[[SASRec], float],
    seed: int,
    track: Track,
) -> TextRanker:
    n_items = len(texts)
    generator = np.random.default_rng(seed)
    shape = SASRecConfig(
        n_items=n_items, width=config.width, max_length=config.max_length, positions="start",
        n_heads=2 if config.width % 2 == 0 else 1,
    )  # fmt: skip
    model = SASRec(shape, seed=seed)
    mean = texts.mean(0)
    weight = nn.Parameter(whitened_directions(texts - mean, config.width))
    bias = nn.Parameter(torch.zeros(config.width))
    learned = [p for name, p in model.named_parameters() if name != "item_table"]
    optimizer = torch.optim.Adam([*learned, weight, bias], lr=config.learning_rate)
    n_events = sum(max(len(sequence) - 1, 0) for sequence in sequences)
    best: TextRanker | None = None
    best_value, best_epoch, epochs = -1.0, 0, list[dict[str, float]]()
    for epoch in range(1, config.epochs + 1):
        model.train()
        loss_sum = 0.0
        title = f"text ranker, epoch {epoch}/{config.epochs}, best NDCG@10 {max(best_value, 0.0):.4f}"
        with track(title, n_events) as advance:
            for rows, targets in window_batches(sequences, config.max_length, config.batch_size, generator):
                sampled = None
                if config.negatives < n_items - 1:
                    drawn = generator.choice(n_items, config.negatives, replace=False, shuffle=False)
                    sampled = torch.from_numpy(drawn)
                optimizer.zero_grad(set_to_none=True)
                table = torch.addmm(bias, texts - mean, weight)  # (N, D)
                model.item_table.data, model.item_table.grad = table.detach(), None
                loss, n = backward_(model, rows, targets, sampled=sampled, mask_history=True)
                if not math.isfinite(loss):
                    raise InputError(f"text: the loss is {loss} in epoch {epoch}; try a lower learning rate")
                table.backward(model.item_table.grad)  # on from the table to what it is made of
                optimizer.step()
                loss_sum += loss * n
                advance(n)
        model.eval()
        with torch.no_grad():
            model.item_table.data = torch.addmm(bias, texts - mean, weight)
        value = validate(model)
        epochs.append({"epoch": epoch, "loss": loss_sum / n_events, "validation_ndcg10": value})
        if value > best_value:
            projection = torch.cat([weight, (bias - mean @ weight)[None]]).detach().numpy().copy()
            best = TextRanker(copy.deepcopy(model), projection, epochs)
            best_value, best_epoch = value, epoch
        elif epoch - best_epoch >= config.patience:
            break
    assert best is not None  # there is at least one epoch, and no value is below -1
    return best


def whitened_directions(centered: Tensor, width: int) -> Tensor:
    """(H, D): the leading principal directions, each scaled so that items spread by `START_DEVIATION` along it.

    Directions that do not vary, of which few titles have many, stay small instead of blowing up.
    """
    _, singular, directions = torch.linalg.svd(centered, full_matrices=False)
    spread = singular[:width] / math.sqrt(len(centered))  # (D,)
    scale = START_DEVIATION / spread.clamp(min=float(singular[0]) * 1e-3 / math.sqrt(len(centered)) + 1e-12)
    found = directions[:width].T * scale  # (H, at most D)
    if found.shape[1] < width:  # fewer titles, or a narrower encoder, than dimensions
        found = torch.cat([found, found.new_zeros(found.shape[0], width - found.shape[1])], 1)
    return found
