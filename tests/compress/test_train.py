"""Training: a planted pattern is learned, the same seed gives the same weights, chunks and windows change nothing."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from pocketrec.compress import train as train_module
from pocketrec.compress.models.sasrec import SASRec, SASRecConfig
from pocketrec.compress.train import TrainConfig, backward_, train_sasrec, window_batches
from pocketrec.runtime.errors import InputError

N_ITEMS = 30
MODEL = SASRecConfig(
    n_items=N_ITEMS, width=16, n_layers=1, n_heads=2, max_length=8, dropout=0.1, positions="start"
)
CONFIG = TrainConfig(epochs=12, patience=12, learning_rate=0.01, batch_size=16)


def cycles(n_users: int = 120, length: int = 10) -> list[np.ndarray]:
    """Item i is followed by i + 1, the last by the first."""
    starts = np.random.default_rng(0).integers(N_ITEMS, size=n_users)
    return [(start + np.arange(length)) % N_ITEMS for start in starts]


def hit_rate_at_1(model: SASRec) -> float:
    """Of the next item of the cycle among those not in the history, for histories of every length and start."""
    hits = []
    for n in (1, 4, 8):
        histories = torch.arange(N_ITEMS)[:, None].add(torch.arange(n)) % N_ITEMS  # (B, n)
        with torch.no_grad():
            scores = model.encode(model.item_table[histories]) @ model.item_table.T  # (B, N)
        best = scores.scatter(1, histories, float("-inf")).argmax(1)
        hits.append(best == (histories[:, -1] + 1) % N_ITEMS)
    return float(torch.cat(hits).double().mean())


@pytest.mark.parametrize(
    "config",
    [
        CONFIG,
        dataclasses.replace(CONFIG, mask_history=False),
        dataclasses.replace(CONFIG, negatives=10, epochs=20, patience=20),
    ],
    ids=["catalogue", "catalogue, repeats kept", "sampled"],
)
def test_learns_the_pattern(config: TrainConfig) -> None:
    model, report = train_sasrec(cycles(), config, MODEL, validate=hit_rate_at_1, seed=0)
    assert hit_rate_at_1(model) > 0.97
    assert not model.training
    assert report["negatives"] == (config.negatives or N_ITEMS - 1)
    losses = [epoch["loss"] for epoch in report["epochs"]]
    assert losses[-1] < 0.5 * losses[0]


def test_positions_from_the_end_learn_too() -> None:
    from_end = dataclasses.replace(MODEL, positions="end")
    model, _ = train_sasrec(cycles(), CONFIG, from_end, validate=hit_rate_at_1, seed=0)
    assert hit_rate_at_1(model) > 0.9


def test_the_same_seed_gives_the_same_weights_and_leaves_the_global_generator_alone() -> None:
    config = dataclasses.replace(CONFIG, epochs=2, negatives=5)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first, _ = train_sasrec(cycles(), config, MODEL, validate=hit_rate_at_1, seed=3)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    second, _ = train_sasrec(cycles(), config, MODEL, validate=hit_rate_at_1, seed=3)
    other, _ = train_sasrec(cycles(), config, MODEL, validate=hit_rate_at_1, seed=4)
    for name, weights in first.state_dict().items():
        assert torch.equal(weights, second.state_dict()[name]), name
    assert not torch.equal(first.item_table, other.item_table)


def test_keeps_the_best_epoch_and_stops_when_none_is_better() -> None:
    values = iter([0.1, 0.3, 0.2, 0.2, 0.9])
    seen: list[torch.Tensor] = []

    def validate(model: SASRec) -> float:
        seen.append(model.item_table.detach().clone())
        return next(values)

    model, report = train_sasrec(
        cycles(), dataclasses.replace(CONFIG, patience=2), MODEL, validate=validate, seed=0
    )
    assert (len(report["epochs"]), report["best_epoch"], report["validation_ndcg10"]) == (4, 2, 0.3)
    assert torch.equal(model.item_table, seen[1])


def test_an_interruption_keeps_the_best_epoch_and_in_the_first_it_is_one() -> None:
    values = iter([0.1, 0.3, 0.2])
    told: list[float] = []

    def validate(_: SASRec) -> float:
        try:
            return next(values)
        except StopIteration:
            raise KeyboardInterrupt from None

    _, report = train_sasrec(
        cycles(), CONFIG, MODEL, validate=validate, seed=0, on_epoch=lambda e: told.append(e["epoch"])
    )
    assert (len(report["epochs"]), report["best_epoch"], report["interrupted"]) == (3, 2, True)
    assert told == [1, 2, 3]
    with pytest.raises(KeyboardInterrupt):
        train_sasrec(cycles(), CONFIG, MODEL, validate=validate, seed=0)


@pytest.mark.parametrize("mask_history", [True, False])
@pytest.mark.parametrize("sampled", [None, torch.tensor([1, 4, 7, 9])], ids=["catalogue", "sampled"])
def test_the_loss_and_its_gradient_are_those_of_the_formula_whatever_the_chunk(
    monkeypatch: pytest.MonkeyPatch, mask_history: bool, sampled: torch.Tensor | None
) -> None:
    rows = torch.tensor([[3, 7, 3, 5], [9, 0, 0, 0], [0, 2, 0, 0]])
    targets = torch.tensor([[7, 3, 5, 1], [9, -1, -1, -1], [2, 4, -1, -1]])  # 3 and 9 come again
    model = SASRec(dataclasses.replace(MODEL, dropout=0.0), seed=1).double()
    table = model.item_table

    losses = []
    for (b, t), target in zip(
        [(0, 0), (0, 1), (0, 2), (0, 3), (1, 0), (2, 0), (2, 1)], targets[targets >= 0].tolist(), strict=True
    ):
        history = rows[b, : t + 1]
        logits = model.encode(table[history][None])[0] @ table.T
        if sampled is None:
            met = set(history.tolist()) if mask_history else set()
            kept = [item for item in range(N_ITEMS) if item == target or item not in met]
            losses.append(logits[kept].logsumexp(0) - logits[target])
        else:
            others = [item for item in sampled.tolist() if item != target]
            candidates = torch.cat([logits[[target]], logits[others] + np.log((N_ITEMS - 1) / len(sampled))])
            losses.append(candidates.logsumexp(0) - logits[target])
    expected = torch.stack(losses).mean()
    expected.backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}

    for chunk_logits in (1, 2 * N_ITEMS, 1 << 22):
        monkeypatch.setattr(train_module, "CHUNK_LOGITS", chunk_logits)
        model.zero_grad()
        loss, n_targets = backward_(model, rows, targets, sampled=sampled, mask_history=mask_history)
        assert (loss, n_targets) == (pytest.approx(expected.item(), rel=1e-12), 7)
        for name, parameter in model.named_parameters():
            # float64: sums in another order
            torch.testing.assert_close(parameter.grad, gradients[name], rtol=1e-9, atol=1e-12)


def test_in_an_epoch_every_event_but_the_first_is_a_target_once_after_the_one_before_it() -> None:
    generator = np.random.default_rng(0)
    sequences = [generator.permutation(1000)[:n] for n in (0, 1, 2, 7, 8, 9, 40, 3)]
    expected = sorted(pair for s in sequences for pair in itertools.pairwise(s.tolist()))
    epochs = []
    for _ in range(2):
        batches = list(window_batches(sequences, 8, 3, generator))
        assert all(rows.shape == targets.shape and rows.shape[1] <= 8 for rows, targets in batches)
        valid = [targets >= 0 for _, targets in batches]
        for mask in valid:  # right-padded
            assert torch.equal(mask, mask.cumprod(1).bool())
            assert bool(mask[:, 0].all())
        epochs.append(
            [
                pair
                for (rows, targets), mask in zip(batches, valid, strict=True)
                for pair in zip(rows[mask].tolist(), targets[mask].tolist(), strict=True)
            ]
        )
        assert sorted(epochs[-1]) == expected
    assert epochs[0] != epochs[1]


def test_memory_is_bounded_by_the_chunk_not_by_positions_times_items(monkeypatch: pytest.MonkeyPatch) -> None:
    largest = 0
    cross_entropy = F.cross_entropy

    def watched(logits: torch.Tensor, *args, **options) -> torch.Tensor:
        nonlocal largest
        largest = max(largest, logits.numel())
        return cross_entropy(logits, *args, **options)

    monkeypatch.setattr(F, "cross_entropy", watched)
    monkeypatch.setattr(train_module, "CHUNK_LOGITS", 10 * N_ITEMS)
    train_sasrec(cycles(), dataclasses.replace(CONFIG, epochs=1), MODEL, validate=lambda model: 0.0, seed=0)
    assert largest == 10 * N_ITEMS


def test_large_catalogues_get_sampled_negatives_unless_told_otherwise() -> None:
    assert TrainConfig().negatives_for(50_000) == 0
    assert TrainConfig().negatives_for(50_001) == train_module.SAMPLED_NEGATIVES >= 256
    assert TrainConfig(negatives=0).negatives_for(10**6) == 0
    assert TrainConfig(negatives=500).negatives_for(100) == 0, "no more negatives than items"


@pytest.mark.parametrize(
    ("sequences", "message"),
    [
        ([], r"none of the 0 training sequences has two items"),
        ([np.array([3]), np.array([], np.int64)], r"none of the 2 training sequences has two items"),
        ([np.array([1, 2]), np.array([0, N_ITEMS])], r"training sequence 1: item row 30; .* rows 0 to 29"),
        ([np.array([-1, 2])], r"training sequence 0: item row -1"),
    ],
)
def test_refuses_sequences_that_cannot_be_learned(sequences: list[np.ndarray], message: str) -> None:
    with pytest.raises(InputError, match=message):
        train_sasrec(sequences, CONFIG, MODEL, validate=lambda model: 0.0, seed=0)


def test_a_loss_that_diverges_is_an_error_not_a_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_module, "backward_", lambda *args, **options: (float("nan"), 1))
    with pytest.raises(InputError, match=r"the loss is nan in epoch 1; try a lower learning rate than 0\.01"):
        train_sasrec(cycles(), CONFIG, MODEL, validate=lambda model: 0.0, seed=0)


@pytest.mark.parametrize(
    ("field", "value"),
    [("epochs", 0), ("patience", 0), ("batch_size", 0), ("learning_rate", 0.0), ("negatives", -1)],
)
def test_refuses_a_config_that_makes_no_sense(field: str, value: float) -> None:
    with pytest.raises(InputError, match=f"train: {field} {value}, expected"):
        TrainConfig(**{field: value})
