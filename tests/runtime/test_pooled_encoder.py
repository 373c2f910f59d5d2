"""The numpy encoder: the formula, one history or many alike, and parts that do not fit their manifest are refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from pocketrec.runtime import Engine
from pocketrec.runtime.bundle import Bundle, write_bundle
from pocketrec.runtime.errors import BundleError
from pocketrec.runtime.pooled_encoder import PooledEncoder, PooledWeights

K, L, D, H = 2, 8, 16, 12


@pytest.fixture(scope="module")
def weights() -> PooledWeights:
    rng = np.random.default_rng(0)

    def drawn(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(np.float32)

    return PooledWeights(
        filters=3 * drawn(K, L), linear=drawn(D, K * D), dense_1=drawn(H, K * D), bias_1=drawn(H),
        dense_2=drawn(D, H), bias_2=drawn(D), gamma=drawn(D), beta=drawn(D), eps=1e-5,
    )  # fmt: skip


def by_the_formula(weights: PooledWeights, vectors: np.ndarray) -> np.ndarray:
    """In float64, one history (n, D)."""
    w = {f.name: np.asarray(getattr(weights, f.name), np.float64) for f in dataclasses.fields(weights)}
    shares = np.exp(w["filters"][:, L - len(vectors) :])
    z = (shares / shares.sum(1, keepdims=True) @ vectors).ravel()
    y = w["linear"] @ z + w["dense_2"] @ np.maximum(w["dense_1"] @ z + w["bias_1"], 0) + w["bias_2"]
    return w["gamma"] * (y - y.mean()) / np.sqrt(y.var() + w["eps"]) + w["beta"]


@pytest.mark.parametrize("n", [1, 3, L])
def test_it_is_the_formula(weights: PooledWeights, n: int) -> None:
    vectors = np.random.default_rng(n).standard_normal((5, n, D)).astype(np.float32)
    encoder = PooledEncoder(weights)
    expected = np.stack([by_the_formula(weights, one) for one in vectors])
    together, alone = encoder(vectors), np.concatenate([encoder(one[None]) for one in vectors])
    for found in (together, alone):
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)  # float32 sums in another order


def test_it_changes_nothing_that_it_is_given(weights: PooledWeights) -> None:
    vectors = np.ones((1, 3, D), np.float32)
    encoder = PooledEncoder(weights)
    first = encoder(vectors)
    np.testing.assert_array_equal(vectors, 1)
    np.testing.assert_array_equal(encoder(vectors), first)


def rewritten(source: Path, target: Path, given: PooledWeights, /, stored: str, **changes: object) -> Path:
    """A bundle with this encoder in place of its own; `changes` are of the manifest's `encoder`."""
    bundle = Bundle.open(source)
    part, described = given.to_part(stored)
    manifest = {k: v for k, v in bundle.manifest.items() if k not in ("parts", "format_version")}
    manifest["encoder"] = {**described, **changes}
    parts = {
        p["name"]: bundle.part(p["name"]) for p in bundle.manifest["parts"] if p["name"] != "encoder.onnx"
    }
    write_bundle(target, manifest, {**parts, "encoder": part})
    return target


@pytest.mark.parametrize(
    ("stored", "tolerance"), [("float32", 1e-5), ("int8", 0.05), ("int4", 0.35)]
)  # 127 levels of a row's largest weight, 7 of a block's
def test_a_bundle_runs_it(
    range_bundle: Path, tmp_path: Path, weights: PooledWeights, stored: str, tolerance: float
) -> None:
    engine = Engine.load(rewritten(range_bundle, tmp_path / "pooled.pocket", weights, stored))
    rows = np.array([[3, 9, 20, 4]])
    found, expected = engine.encode(rows)[0], by_the_formula(weights, engine.table.lookup(rows)[0])
    assert np.abs(found - expected).max() < tolerance * np.abs(expected).max()
    assert engine.encode(np.arange(20)[None]).shape == (1, D)  # the last `max_length`
    assert len(engine.top_k(found, 5)[0]) == 5


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"means": 3}, "the manifest's sizes need"),
        ({"hidden_width": 0}, "hidden width 0"),
        ({"eps": 1}, "eps 1"),
        ({"weights": "int3"}, "'int3' weights"),
        ({"weights": "int4"}, "the manifest's sizes need"),
        ({"means": True}, "True means"),
        ({"format": "spiking"}, "runs onnx and pooled"),
    ],
)
def test_what_does_not_fit_is_refused(
    range_bundle: Path, tmp_path: Path, weights: PooledWeights, changes: dict, said: str
) -> None:
    path = rewritten(range_bundle, tmp_path / "bad.pocket", weights, "float32", **changes)
    with pytest.raises(BundleError, match=said):
        Engine.load(path)


def test_weights_that_are_not_numbers_are_refused(
    range_bundle: Path, tmp_path: Path, weights: PooledWeights
) -> None:
    broken = dataclasses.replace(weights, beta=np.full(D, np.nan, np.float32))
    path = rewritten(range_bundle, tmp_path / "nan.pocket", broken, "float32")
    with pytest.raises(BundleError, match="not finite"):
        Engine.load(path)
