"""The parts of the road of texts, each with an answer that is known by construction."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch

from pocketrec.compress.text.bag_net import BagConfig, BagNet, bag_tokens, fresh_bag
from pocketrec.compress.text.calibration import calibrate
from pocketrec.compress.text.text_ranker import TextRankerConfig, train_text_ranker, whitened_directions
from pocketrec.compress.text.tokenizer_pruning import prune_tokenizer
from pocketrec.compress.text.tower_distill import NO_TOKEN, DistillTowerConfig, Lesson, distill_tower_
from pocketrec.runtime import InputError


def random_bag(config: BagConfig, *, n_tokens: int = 9, width: int = 6) -> BagNet:
    torch.manual_seed(0)
    net = BagNet(torch.randn(n_tokens, width), config)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.randn(parameter.shape))
    return net.eval()


@pytest.mark.parametrize(("pairs", "inner"), [(0, 0), (4, 0), (4, 5)])
def test_moving_a_bag_moves_every_vector(pairs: int, inner: int) -> None:
    net = random_bag(BagConfig(pairs=pairs, inner=inner))
    rows = bag_tokens([[1, 2, 3], [4], [8, 8]], 9, pairs)
    with torch.no_grad():
        before = net(rows)
        shift = np.arange(6, dtype=np.float32)
        net.move_(1.5, shift)
        torch.testing.assert_close(net(rows), 1.5 * before + torch.from_numpy(shift), rtol=1e-4, atol=1e-4)


def test_a_fresh_bag_is_the_linear_map_that_made_the_rows() -> None:
    random = np.random.default_rng(0)
    words = random.standard_normal((30, 4)).astype(np.float32)
    encoded = [random.choice(30, 3).tolist() for _ in range(400)]
    tokens = bag_tokens(encoded, 30, 0)
    linear = random.standard_normal((4, 5)).astype(np.float32)
    rows = torch.from_numpy(np.stack([words[ids].mean(0) @ linear + 1 for ids in encoded]))
    lesson = Lesson(tokens, rows, torch.zeros(1, 5), torch.zeros(1, dtype=torch.int64))
    net = fresh_bag(words, lesson, BagConfig(pairs=0, inner=0), seed=0).eval()
    with torch.no_grad():
        error = (net(tokens) - rows).square().mean() / rows.var()
    assert error < 0.01  # the ridge alone: .05 / 1.05 squared


def test_a_tower_learns_what_titles_say_and_the_same_seed_gives_the_same() -> None:
    random = np.random.default_rng(0)
    truth = random.standard_normal((12, 6)).astype(np.float32)
    encoded = [random.choice(12, 2, replace=False).tolist() for _ in range(60)]
    rows = torch.from_numpy(np.stack([truth[ids].mean(0) for ids in encoded]))
    users = torch.from_numpy(random.standard_normal((50, 6)).astype(np.float32))
    lesson = Lesson(bag_tokens(encoded, 12, 0), rows, users, (users @ rows.T).argmax(1))
    config = DistillTowerConfig(steps=150, learning_rate=0.05, token_dropout=0.0)

    def learned() -> torch.Tensor:
        net = BagNet(torch.zeros(12, 6), BagConfig(pairs=0, inner=0))
        losses = distill_tower_(net, lesson, config, seed=3)
        assert losses[-1] < losses[0] / 2
        with torch.no_grad():
            return net(lesson.tokens)

    first = learned()
    assert (first - rows).square().mean() < 0.1 * rows.var()
    torch.testing.assert_close(learned(), first, rtol=0, atol=0)


def test_a_loss_that_diverges_is_told() -> None:
    rows = torch.full((30, 2), float("nan"))
    lesson = Lesson(torch.zeros(30, 1, dtype=torch.int64), rows, rows, torch.zeros(30, dtype=torch.int64))
    with pytest.raises(InputError, match="the loss is nan in step 0"):
        distill_tower_(
            BagNet(torch.zeros(3, 2), BagConfig(pairs=0, inner=0)), lesson, DistillTowerConfig(), seed=0
        )


def test_calibration_finds_the_scale_that_a_shrunken_tower_lost() -> None:
    random = np.random.default_rng(0)
    table = random.standard_normal((300, 8)).astype(np.float32)
    users = random.standard_normal((4000, 8)).astype(np.float32)
    probes = np.arange(0, 300, 3)
    targets = (users @ table.T + random.gumbel(size=(4000, 300))).argmax(1)
    shrunken = table[probes] * np.float32(0.7) + np.float32(0.3)
    found = calibrate(users, targets, [np.array([], np.int64)] * 4000, table, probes, shrunken)
    restored = shrunken * np.float32(found.scale) + found.shift
    assert 1.25 <= found.scale <= 1.6  # 1 / 0.7 = 1.43
    assert np.abs(restored - table[probes]).mean() < np.abs(shrunken - table[probes]).mean() / 3


def word_pieces(vocabulary: list[str]) -> bytes:
    model: dict[str, Any] = {
        "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100,
        "vocab": {token: n for n, token in enumerate(vocabulary)},
    }  # fmt: skip
    added = [{"id": n, "content": token} for n, token in enumerate(vocabulary) if token.startswith("[")]
    return json.dumps({"version": "1.0", "added_tokens": added, "model": model}).encode()


def test_a_pruned_tokenizer_has_the_used_tokens_and_single_characters() -> None:
    raw = word_pieces(["[PAD]", "[UNK]", "red", "blue", "##s", "##ing", "a"])
    pruned, kept = prune_tokenizer(raw, {2})
    said = json.loads(pruned)
    assert said["model"]["vocab"] == {"[UNK]": 0, "red": 1, "##s": 2, "a": 3}
    assert kept.tolist() == [1, 2, 4, 6]
    assert [(entry["content"], entry["id"]) for entry in said["added_tokens"]] == [("[UNK]", 0)]


def test_other_tokenizers_are_kept_whole() -> None:
    raw = json.dumps(
        {"model": {"type": "BPE", "vocab": {"a": 0, "b": 1}}, "added_tokens": [{"id": 2}]}
    ).encode()
    pruned, kept = prune_tokenizer(raw, {0})
    assert pruned == raw
    assert kept.tolist() == [0, 1, 2]


def test_whitening_gives_directions_of_equal_spread_and_survives_constant_ones() -> None:
    random = np.random.default_rng(0)
    x = torch.from_numpy((random.standard_normal((200, 5)) * [9, 1, 0.1, 0, 0]).astype(np.float32))
    x = x - x.mean(0)
    found = x @ whitened_directions(x, 7)
    assert found.shape == (200, 7)
    torch.testing.assert_close(found[:, :3].std(0, correction=0), torch.full((3,), 0.5), rtol=1e-3, atol=0)
    assert torch.isfinite(found).all()
    assert found[:, 3:].abs().max() < 0.1


def test_the_ranker_keeps_its_best_epoch_and_its_projection_makes_its_table() -> None:
    random = np.random.default_rng(0)
    texts = random.standard_normal((40, 6)).astype(np.float32)
    sequences = [random.choice(40, 5, replace=False) for _ in range(30)]
    figures = iter([0.1, 0.3, 0.2, 0.2])
    config = TextRankerConfig(width=4, max_length=5, epochs=10, patience=2, batch_size=8, negatives=10)
    found = train_text_ranker(texts, sequences, config, validate=lambda model: next(figures), seed=0)
    assert [epoch["validation_ndcg10"] for epoch in found.epochs] == [0.1, 0.3, 0.2, 0.2]
    made = texts @ found.projection[:-1] + found.projection[-1]
    np.testing.assert_allclose(found.model.item_table.detach().numpy(), made, rtol=1e-4, atol=1e-5)


def test_a_ranker_with_nothing_to_learn_is_refused() -> None:
    with pytest.raises(InputError, match="no training sequence has two items"):
        train_text_ranker(
            np.zeros((3, 2), np.float32),
            [np.array([1])],
            TextRankerConfig(),
            validate=lambda model: 0.0,
            seed=0,
        )
    with pytest.raises(InputError, match="not finite"):
        train_text_ranker(
            np.full((3, 2), np.nan, np.float32),
            [np.array([1, 2])],
            TextRankerConfig(),
            validate=lambda m: 0.0,
            seed=0,
        )


def test_a_batch_is_as_long_as_its_longest_title() -> None:
    tokens = torch.tensor([[1, 2, 3], [4, NO_TOKEN, NO_TOKEN]])
    lesson = Lesson(tokens, torch.zeros(2, 1), torch.zeros(1, 1), torch.zeros(1, dtype=torch.int64))
    assert lesson.some(torch.tensor([1])).tolist() == [[4]]
