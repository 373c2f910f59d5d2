"""The engine: its ways of scoring agree, and it says what it cannot do."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from pocketrec.runtime import Engine, InputError
from pocketrec.runtime.devices import DEVICES, PROVIDERS, execution_providers


@pytest.fixture
def users(engine: Engine) -> np.ndarray:
    return engine.encode(np.array([[1, 2, 3], [4, 5, 6], [40, 3, 1]]))


def test_shapes(engine: Engine, users: np.ndarray) -> None:
    assert (engine.n_items, engine.width, engine.max_length) == (50, 16, 8)
    assert (users.shape, users.dtype) == ((3, 16), np.float32)
    assert engine.prior().shape == (16,)
    assert engine.score_all(users).shape == (3, 50)


def test_a_batch_is_its_users_one_by_one(engine: Engine, users: np.ndarray) -> None:
    alone = np.concatenate([engine.encode(np.array([h])) for h in ([1, 2, 3], [4, 5, 6], [40, 3, 1])])
    np.testing.assert_allclose(users, alone, rtol=1e-4, atol=1e-5)  # another order of sums


def test_order_matters_and_only_the_last_events_count(engine: Engine) -> None:
    history = np.arange(20)[None]
    np.testing.assert_array_equal(engine.encode(history), engine.encode(history[:, -8:]))
    assert np.abs(engine.encode(history[:, ::-1]) - engine.encode(history)).max() > 1e-3


@pytest.mark.parametrize("length", range(1, 9))
def test_every_length(engine: Engine, length: int) -> None:
    assert np.isfinite(engine.encode(np.arange(length)[None])).all()


@pytest.mark.parametrize("shape", [(3,), (1, 0), (1, 2, 3)])
def test_histories_of_other_shapes(engine: Engine, shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"histories: shape .*, expected \(users, length\)"):
        engine.encode(np.zeros(shape, np.int64))


def test_candidates_and_catalogue_score_alike(engine: Engine, users: np.ndarray) -> None:
    """The catalogue's scorer rounds the user's vector to int8: within 1% of the largest score."""
    everything = engine.score(users, np.tile(np.arange(50), (3, 1)))
    catalogue = engine.score_all(users)
    np.testing.assert_allclose(catalogue, everything, atol=0.02 * np.abs(everything).max())


def test_top_k_is_the_catalogue_sorted_by_exact_scores(engine: Engine, users: np.ndarray) -> None:
    """Those that re-ranking gives, not the graph's, whose users are rounded."""
    scores = engine.score(users[:1], np.arange(50)[None])[0]
    rows, found = engine.top_k(users[0], 7)
    assert rows.tolist() == np.argsort(-scores, kind="stable")[:7].tolist()
    np.testing.assert_allclose(found, scores[rows], rtol=1e-5)  # another order of sums


def test_what_is_excluded_is_not_there(engine: Engine, users: np.ndarray) -> None:
    best, _ = engine.top_k(users[0], 5)
    rows, _ = engine.top_k(users[0], 100, np.concatenate([best, best[:2]]))
    assert len(rows) == 45
    assert not np.isin(best, rows).any()
    rows, scores = engine.top_k(users[0], 5, np.arange(50))
    assert (len(rows), len(scores)) == (0, 0)


def test_threads_share_an_engine(engine: Engine) -> None:
    histories = [np.random.default_rng(n).integers(0, 50, (1, 5)) for n in range(40)]

    def rank(history: np.ndarray) -> list[int]:
        return engine.top_k(engine.encode(history)[0], 10)[0].tolist()

    expected = [rank(history) for history in histories]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(rank, histories)) == expected


def test_devices(range_bundle: Path) -> None:
    with pytest.raises(InputError, match="device: got 'tpu', expected one of cpu, cuda"):
        Engine.load(range_bundle, device="tpu")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="threads: got 0, expected at least 1"):
        Engine.load(range_bundle, threads=0)
    assert execution_providers("cpu") == ["CPUExecutionProvider"]
    assert all(PROVIDERS[device][-1] == "CPUExecutionProvider" for device in DEVICES)


def test_a_device_that_is_not_there(monkeypatch: pytest.MonkeyPatch, range_bundle: Path) -> None:
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(
        InputError, match=r"device cuda: this onnxruntime has .* only; install onnxruntime-gpu"
    ):
        Engine.load(range_bundle, device="cuda")
    installed = ["TensorrtExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: installed)
    assert execution_providers("tensorrt") == installed, "what is not installed is not asked for"
