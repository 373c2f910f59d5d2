"""How a student learns from its teacher: `[distill]` of a recipe."""

from __future__ import annotations

import dataclasses

from .train import FULL_SOFTMAX_ITEMS, SAMPLED_NEGATIVES


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DistillConfig:
    """How the student learns."""

    epochs: int = 8
    """At most so many passes."""
    patience: int = 3
    """Epochs without a better validation NDCG@10 before it stops."""
    temperature: float = 1.0
    """T: above 1, the teacher's order among unlikely items counts for more."""
    soft_weight: float = 0.8
    """Share of the soft targets, 0 to 1; 0.8 is what the literature settles on for catalogues that fit."""
    learning_rate: float | None = None
    """Adam's for the encoder, at the start; falls to a twentieth along a cosine. None: `LEARNING_RATE`, or
    `FRESH_LEARNING_RATE` for an encoder of another architecture than the teacher's, which starts from nothing."""
    table_learning_rate: float = 5e-5
    """Adam's for the item table. Adam moves every number by about its rate a step however small the gradient, and
    with whole-catalogue targets every row has one: at the encoder's rate rare items drift and lose what they knew."""
    batch_size: int = 256
    """Histories a step."""
    prefixes_per_user: int = 2
    """Random shorter histories of each user in an epoch, beside the whole one; more where users are few."""
    least_histories: int = 40_000
    """Histories of an epoch, at least: of a thousand users two prefixes each are too few steps to recover from pruning
    (LastFM, 1,090 users: 87% of the teacher's test NDCG@10 kept without it)."""
    dropout: float = 0.0
    """Of the student while it learns. Soft targets regularize already: on Beauty 0.2 costs 1.5% of NDCG@10."""
    average_decay: float = 0.99
    """Each step keeps this share of a running average of the weights, which is what is measured and kept (Polyak and
    Juditsky 1992): it averages the noise of small batches and of rounding. 0 keeps the last weights."""
    mask_history: bool = True
    """Leave items of the history out of both distributions; false where people come back to items."""
    hidden_weight: float = 0.0
    """Of the distance to the teacher's user vector. It helps a student that starts far from its teacher; one that starts
    as a copy is nearer than this can bring it."""
    order_weight: float = 0.0
    """Of the list-wise loss over the teacher's best `order_length` items against as many that the student overrates."""
    order_length: int = 20
    """Places whose order counts: what is shown, and as many again."""
    sampled_items: int | None = None
    """Items drawn for a batch, which stand for the catalogue beside the teacher's `teacher_top`; 0: the whole catalogue;
    None: the whole one up to 50,000 items, else 1,024."""
    teacher_top: int = 64
    """Best items of the teacher that are remembered of each history, where the catalogue is sampled."""
    continued_share: float = 0.0
    """Share of the batches whose histories the teacher first goes on with, 0 to 1; they have no hard term. A student that
    starts far from its teacher, or has little room, learns more of it from histories that are new each epoch."""
    continued_events: int = 3
    """At most so many items that it adds."""
    positions: int = 0
    """Positions of each history that are asked in one pass, in place of shorter histories, each of which counts as one of
    `batch_size`; for causal encoders and long histories (`position_lessons`). 0: histories by themselves."""

    def __post_init__(self) -> None:
        if not 0 <= self.soft_weight <= 1:
            raise ValueError(f"distill: soft_weight {self.soft_weight}, expected 0 to 1")
        if min(self.epochs, self.patience, self.batch_size) < 1 or self.prefixes_per_user < 0:
            raise ValueError(
                "distill: epochs, patience and batch_size must be at least 1, prefixes_per_user at least 0"
            )
        if self.least_histories < 1:
            raise ValueError(f"distill: least_histories {self.least_histories}, expected at least 1")
        if not (0 <= self.dropout < 1 and 0 <= self.average_decay < 1):
            raise ValueError("distill: dropout and average_decay must be at least 0 and below 1")
        if (
            min(
                self.temperature,
                1.0 if self.learning_rate is None else self.learning_rate,
                self.table_learning_rate,
            )
            <= 0
        ):
            raise ValueError("distill: temperature and learning rates must be positive")
        if min(self.hidden_weight, self.order_weight) < 0 or min(self.order_length, self.teacher_top) < 1:
            raise ValueError(
                "distill: hidden_weight and order_weight must be at least 0, order_length and teacher_top at least 1"
            )
        if self.positions < 0 or (self.positions and self.continued_share):
            raise ValueError(
                f"distill: positions {self.positions}, expected at least 0, and 0 with a continued_share"
            )
        if not 0 <= self.continued_share <= 1 or self.continued_events < 1:
            raise ValueError(
                "distill: continued_share must be 0 to 1 and continued_events at least 1, "
                f"got {self.continued_share} and {self.continued_events}"
            )
        if self.sampled_items is not None and self.sampled_items < 0:
            raise ValueError(
                f"distill: sampled_items {self.sampled_items}, expected 0 (the whole catalogue) or more"
            )

    def sampled_of(self, n_items: int) -> int:
        """Items drawn for a batch from a catalogue of `n_items`; 0: all of it is scored."""
        wanted = self.sampled_items
        if wanted is None:
            wanted = 0 if n_items <= FULL_SOFTMAX_ITEMS else SAMPLED_NEGATIVES
        return wanted if wanted < n_items else 0
