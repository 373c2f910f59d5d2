"""Item-item weights: solved as their papers say, read as RecBole saves them, pruned, rounded and ranked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from pocketrec.benchmarks.evaluate import evaluate_ranks
from pocketrec.benchmarks.protocols import leave_one_out, training_sequences
from pocketrec.benchmarks.ranking_metrics import per_user
from pocketrec.compress import neighbor_choice
from pocketrec.compress.budget import Budget
from pocketrec.compress.item_item_road import SKIPPED
from pocketrec.compress.layouts import ItemItemTeacher, load_ranking_teacher, load_teacher
from pocketrec.compress.models.item_item import ease, from_columns, item_knn, spread, strongest
from pocketrec.compress.neighbor_choice import (
    NeighborsConfig,
    NeighborsScorer,
    choose_neighbors,
    neighbor_bytes,
    rounded_weights,
)
from pocketrec.compress.pipeline import compress_model
from pocketrec.compress.recipe import RECIPES, Recipe
from pocketrec.runtime import Reranker
from pocketrec.runtime.engine import Engine
from pocketrec.runtime.errors import GateError, InputError
from pocketrec.runtime.item_ids import ItemIds
from pocketrec.runtime.item_table import FloatRows
from pocketrec.runtime.neighbors import Neighbors

from ..tiny_road import N_ITEMS, walks
from .hostile_checkpoints import Runs, command_leaving, on_cuda, record, rewritten, saved
from .sparse_pickles import sparse

pytestmark = pytest.mark.usefixtures("no_scipy_left_behind")

SEQUENCES = walks(150)


def dense(neighbors: Neighbors) -> np.ndarray:
    """w[i, j], float32 (N, N)."""
    return spread(neighbors).weights.lookup(np.arange(neighbors.n_items))


def padded(neighbors: Neighbors) -> np.ndarray:
    """As RecBole has it: transposed, with a row and a column that pad."""
    return np.pad(dense(neighbors).T, ((1, 0), (1, 0)))


def recbole_file(name: str, other: dict[str, Any], *, model: str | None = None, **state: Any) -> bytes:
    parameter = {"ItemKNN": "fake_loss"}.get(name, "dummy_param")
    content = {
        "config": {"final_config_dict": {"model": model or name}},
        "state_dict": {parameter: torch.zeros(1), **state},
        "other_parameter": other,
    }
    return saved(content, protocol=4)


def similarity(name: str, neighbors: Neighbors) -> dict[str, Any]:
    matrix = padded(neighbors)
    lists = np.empty(2, object)
    lists[:] = [[1, 2], [3.0]]
    match name:
        case "EASE":
            met = sparse(np.eye(3, dtype=np.float32), "csr")
            return {"interaction_matrix": met, "item_similarity": matrix.view(np.matrix)}
        case "SLIMElastic":
            return {"interaction_matrix": lists, "item_similarity": sparse(matrix, "csr")}
        case _:
            return {"w": sparse(matrix, "csc"), "pred_mat": lists}


@pytest.fixture(params=["EASE", "SLIMElastic", "ItemKNN"])
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def neighbors() -> Neighbors:
    return item_knn(training_sequences(SEQUENCES), N_ITEMS, count=12)


Load = Callable[..., ItemItemTeacher]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    def load(file: bytes, **options: Any) -> ItemItemTeacher:
        (tmp_path / "model.pth").write_bytes(file)
        teacher = load_ranking_teacher(tmp_path / "model.pth", **options)
        assert isinstance(teacher, ItemItemTeacher)
        return teacher

    return load


def test_ease_is_the_solution_of_its_problem() -> None:
    """min |X - XB|^2 + reg |B|^2 with a zero diagonal: the gradient vanishes off the diagonal (Steck 2019, eq. 4)."""
    training, reg = training_sequences(SEQUENCES), 20.0
    matrix = np.zeros((len(training), N_ITEMS))
    for user, sequence in enumerate(training):
        matrix[user, sequence] = 1
    found = dense(ease(training, N_ITEMS, regularization=reg)).T.astype(np.float64)
    gradient = -matrix.T @ (matrix - matrix @ found) + reg * found
    np.fill_diagonal(gradient, 0)
    assert np.abs(gradient).max() < 1e-3
    assert not np.diag(found).any()


def test_item_knn_keeps_the_nearest() -> None:
    training = training_sequences(SEQUENCES)
    matrix = np.zeros((len(training), N_ITEMS))
    for user, sequence in enumerate(training):
        matrix[user, sequence] = 1
    cosines = matrix.T @ matrix / np.outer(*[np.linalg.norm(matrix, axis=0)] * 2)
    np.fill_diagonal(cosines, 0)
    found = item_knn(training, N_ITEMS, count=5)
    assert found.rows is not None
    for item in range(N_ITEMS):
        assert sorted(cosines[item])[-5:] == pytest.approx(
            sorted(found.weights.lookup(np.array([item]))[0]), abs=1e-5
        )
        np.testing.assert_allclose(
            found.weights.lookup(np.array([item]))[0], cosines[item][found.rows[item]], atol=1e-5
        )


def test_the_strongest_are_so_by_size_not_by_sign() -> None:
    weights = Neighbors(None, FloatRows(np.array([[0, -3, 1], [2, 0, -1], [0.5, 0.25, 0]], np.float32)))
    kept = strongest(weights, 1)
    assert kept.rows is not None
    assert kept.rows[:, 0].tolist() == [1, 0, 0]
    assert kept.weights.lookup(np.arange(3))[:, 0].tolist() == [-3, 2, 0.5]
    np.testing.assert_array_equal(dense(strongest(weights, 9)), dense(weights))


def test_columns_of_any_length() -> None:
    columns = from_columns(np.array([0, 2, 2, 3]), np.array([1, 2, 0]), np.array([5, 6, 7], np.float32), 3)
    np.testing.assert_array_equal(dense(columns), [[0, 5, 6], [0, 0, 0], [7, 0, 0]])
    nothing = from_columns(np.zeros(4, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32), 3)
    np.testing.assert_array_equal(dense(nothing), np.zeros((3, 3)))


def test_what_recbole_saves(kind: str, neighbors: Neighbors, load: Load) -> None:
    teacher = load(recbole_file(kind, similarity(kind, neighbors)))
    assert teacher.layout == ("recbole-itemknn" if kind == "ItemKNN" else "recbole-ease")
    np.testing.assert_array_equal(dense(teacher.model), dense(neighbors))
    assert teacher.item_ids.ids([0, N_ITEMS - 1]) == [1, N_ITEMS]
    assert (
        4 * np.count_nonzero(dense(neighbors))
        <= teacher.source.weights_bytes
        <= 4 * (N_ITEMS + 1) ** 2 + 4096
    )
    with pytest.raises(InputError, match="has item-item weights; expected a model of vectors"):
        load_teacher(teacher.source.path)


def without(other: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in other.items() if name != key}


def test_broken_files_are_one_clear_line(kind: str, neighbors: Neighbors, load: Load, tmp_path: Path) -> None:
    """Missing and extra keys, transposed and misshapen, half precision, cuda, truncated, other ids, calls, huge claims."""
    other, trace = similarity(kind, neighbors), tmp_path / "trace"
    name = "w" if kind == "ItemKNN" else "item_similarity"
    good = recbole_file(kind, other)

    def refusal(file: bytes, **options: Any) -> str:
        with pytest.raises(InputError) as caught:
            load(file, **options)
        message = str(caught.value)
        assert message.startswith(str(tmp_path / "model.pth"))
        assert "\n" not in message
        assert not trace.exists()
        return message

    assert "its layout is not known" in refusal(recbole_file(kind, without(other, name)))
    message = refusal(recbole_file(kind, other, **{"teleporter.weight": torch.zeros(3)}))
    assert "teleporter.weight and 0 more tensors are not" in message
    telepathy = recbole_file(kind, other, model="Telepathy")
    assert "its settings say model 'Telepathy'" in refusal(telepathy)
    assert "heads asked for" in refusal(good, n_heads=2)
    others: Any = SimpleNamespace(item_ids=list(range(49)))
    with pytest.raises(InputError, match="the data have 49 distinct items, the RecBole checkpoint 50"):
        load(good, interactions=others)
    assert "50 items, but 49 item ids" in refusal(good, item_ids=ItemIds.from_sequence(range(49)))
    for cut in (len(good) // 2, len(good) - 30, 40):
        refusal(good[:cut])
    calls = recbole_file(kind, other | {name: Runs(command_leaving(trace))})
    assert "its layout is not known" in refusal(calls)
    beside = load(recbole_file(kind, other | {"beside": Runs(command_leaving(trace))}))
    np.testing.assert_array_equal(dense(beside.model), dense(neighbors))
    assert not trace.exists()
    if kind == "EASE":
        rectangle = padded(neighbors)[:, :-1].view(np.matrix)
        message = refusal(recbole_file(kind, {name: rectangle}))
        assert f"{name} has shape (51, 50), expected (51, 51)" in message
        assert "NaN or infinite" in refusal(recbole_file(kind, {name: np.full((3, 3), np.nan)}))
        assert "is torch.int64; expected floating point" in refusal(
            recbole_file(kind, {name: np.ones((3, 3), np.int64)})
        )
        half = load(recbole_file(kind, {name: padded(neighbors).astype(np.float16)}))
        np.testing.assert_allclose(dense(half.model), dense(neighbors), atol=1e-3)
        claim = record(good, "data.pkl").replace(b"K3K3\x86", b"K3\x8a\x05\x00\x00\x00\x00\x01\x86")
        assert "is an array of 10404 bytes" in refusal(rewritten(good, {"data.pkl": claim}))
    np.testing.assert_array_equal(dense(load(on_cuda_of(good)).model), dense(neighbors))


def on_cuda_of(file: bytes) -> bytes:
    data = record(file, "data.pkl")
    cpu, cuda = b"\x8c\x03cpu", b"\x8c\x06cuda:0"
    return rewritten(file, {"data.pkl": data.replace(cpu, cuda)}) if cpu in data else on_cuda(file)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"indptr": np.arange(40)}, r"indptr has 40 values for 51 items; expected 52"),
        ({"indptr": np.zeros(52, np.int32)}, r"indptr does not run from 0 to"),
        ({"indptr": np.zeros(52)}, r"indptr is torch.float64 of shape \(52,\); expected 1 axis of integers"),
        ({"indices": "one too far"}, r"indices run from 1 to 51, expected 0 to 50"),
        ({"indices": "below"}, r"indices run from -1 to \d+, expected 0 to 50"),
        ({"data": np.ones(3, np.float32)}, r"data has shape \(3,\), expected"),
        ({"_shape": (51, 50)}, r"has shape \(51, 50\), expected one row and column an item"),
        ({"_shape": (1 << 32, 1 << 32)}, r"indptr has 52 values for 4294967296 items"),
    ],
)
def test_sparse_matrices_that_make_no_sense(
    neighbors: Neighbors, load: Load, changes: dict[str, Any], message: str
) -> None:
    matrix = sparse(padded(neighbors), "csc")
    if isinstance(wrong := changes.get("indices"), str):
        indices = matrix.indices.copy()
        indices[-1] = 51 if wrong == "one too far" else -1
        changes = {"indices": indices}
    matrix.__dict__.update(changes)
    with pytest.raises(InputError, match=message):
        load(recbole_file("ItemKNN", {"w": matrix}))


def ndcg10(neighbors: Neighbors, split: Any) -> float:
    ranking = evaluate_ranks(NeighborsScorer(neighbors, 512), split, n_top=0)
    return float(per_user(ranking.ranks, "ndcg@10").mean())


def test_the_fewest_that_keep_the_metric(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbor_choice, "COUNTS", (1, 2, 4, 8, 16))
    validation = leave_one_out(SEQUENCES, stage="validation")
    everything = ease(training_sequences(SEQUENCES), N_ITEMS, regularization=20.0)
    options: dict[str, Any] = {"max_bytes": None, "max_length": 512, "keep_repeats": False}
    chosen, detail = choose_neighbors(everything, NeighborsConfig(), validation, **options)
    tried = {int(count): value for count, value in detail["ndcg10_by_count"].items()}
    wanted = 0.99 * ndcg10(everything, validation)
    assert detail["neighbors"] == chosen.count == max(tried)
    assert tried[chosen.count] >= wanted
    assert all(value < wanted for count, value in tried.items() if count < chosen.count)
    assert tried[chosen.count] == pytest.approx(ndcg10(rounded_weights(chosen, 8), validation))
    fixed, detail = choose_neighbors(everything, NeighborsConfig(count=3), validation, **options)
    assert (fixed.count, detail) == (3, {"neighbors": 3})
    small = options | {"max_bytes": 2 * neighbor_bytes(N_ITEMS, 8)}
    within, _ = choose_neighbors(everything, NeighborsConfig(keep=1.0), validation, **small)
    assert within.count <= 2
    three = options | {"max_bytes": 3 * neighbor_bytes(N_ITEMS, 8)}
    _, detail = choose_neighbors(everything, NeighborsConfig(keep=1.0), validation, **three)
    assert list(detail["ndcg10_by_count"]) == ["1", "2", "3"], "what just fits is tried too"


@pytest.mark.parametrize("fields", [{"count": 0}, {"keep": 0.0}, {"keep": 1.5}, {"bits": 5}])
def test_configs_that_make_no_sense(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"neighbors: {next(iter(fields))}"):
        NeighborsConfig(**fields)


def test_spread_out_weights_score_alike(neighbors: Neighbors, monkeypatch: pytest.MonkeyPatch) -> None:
    histories = np.array([[3, 1, 7], [0, 39, 2]])
    found = NeighborsScorer(neighbors, 512)(histories)
    monkeypatch.setattr(neighbor_choice, "SPREAD_ITEMS", 0)
    np.testing.assert_allclose(NeighborsScorer(neighbors, 512)(histories), found, rtol=1e-5, atol=1e-6)


def test_the_road(kind: str, neighbors: Neighbors, load: Load, tmp_path: Path) -> None:
    whole = ease(training_sequences(SEQUENCES), N_ITEMS, regularization=20.0) if kind == "EASE" else neighbors
    teacher = load(recbole_file(kind, similarity(kind, whole)))
    said: list[Any] = []
    output, original = tmp_path / "x.pocket", tmp_path / "teacher.pocket"
    done = compress_model(
        teacher, SEQUENCES, RECIPES["balanced"], output, teacher_output=original, say=said.append
    )
    assert [step.name for step in said] == ["prune", "table", *SKIPPED]
    assert [step.detail["skipped"] for step in said[2:]] == list(SKIPPED.values())
    assert said[1].after.size_bytes < said[0].after.size_bytes
    assert done.size_bytes == output.stat().st_size < original.stat().st_size + 10_000  # the manifest
    kept = done.metrics["kept"]["metrics"]["ndcg@10"]["ratio"]["value"]
    assert kept == pytest.approx(1.0, abs=0.1)
    assert done.metrics["teacher"]["metrics"]["ndcg@10"]["value"] > 0.1  # a circle can be learned
    engine, exact = Engine.load(output), Engine.load(original)
    assert engine.manifest["model"] == {
        "architecture": "ItemItem",
        "n_items": N_ITEMS,
        "neighbors": said[0].detail["neighbors"],
    }
    user = Reranker(exact).user()
    user.observe(4, 5, 6)
    weights = dense(teacher.model)
    expected = weights[:, [3, 4, 5]].sum(1)
    got = user.rerank(range(10, 40), k=30)
    assert [item.score for item in got] == pytest.approx(sorted(expected[9:39], reverse=True), abs=1e-4)
    assert user.recommend(k=1)[0].item_id not in (4, 5, 6)


def test_gates_and_recipes(neighbors: Neighbors, load: Load, tmp_path: Path) -> None:
    teacher = load(recbole_file("ItemKNN", similarity("ItemKNN", neighbors)))
    output = tmp_path / "x.pocket"
    with pytest.raises(GateError, match="--max-size allows 1,000; nothing was written; nearest: int8 "):
        compress_model(teacher, SEQUENCES, RECIPES["int8"], output, budget=Budget(max_size_bytes=1000))
    one = Recipe(name="one", neighbors=NeighborsConfig(count=1, bits=2))
    with pytest.raises(GateError, match=r"--max-drop allows 0\.00%"):
        compress_model(teacher, SEQUENCES, one, output, budget=Budget(max_drop=0.0))
    assert [path.name for path in tmp_path.iterdir()] == ["model.pth"]
    done = compress_model(teacher, SEQUENCES, Recipe(name="nothing"), output)
    assert done.steps == ()
    assert done.metrics["kept"]["metrics"]["ndcg@10"]["difference"]["value"] == 0
