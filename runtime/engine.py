"""The engine: a bundle's model, ready to run. numpy looks rows up, onnxruntime encodes and scores the catalogue.

    history of item rows --lookup--> vectors (B, n, D) --encoder.onnx--> user vectors (B, D)
    user vectors, candidate rows --numpy--> scores (B, C)
    user vectors --scorer.onnx over the mapped table--> scores of the catalogue (B, N)

An encoder of weighted means and a small network has no graph: numpy runs it (`pooled_encoder`).

A bundle of item-item weights has no graph and no item vectors: its user vector says which items are in the history, and
numpy does the rest (`neighbors`).

The history comes without padding: an encoder takes any length up to `max_length`, so a short history costs a short
time. The catalogue's scorer is made at its first use: an app that only re-ranks candidates never pays for it.

An engine is shared by threads: its arrays are read-only and onnxruntime sessions may run concurrently.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from .bundle import Bundle
from .catalogue_scorer import CatalogueScorer, Weights
from .codebook_rows import CodebookRows
from .deflated_part import inflated
from .devices import Device, execution_providers
from .errors import BundleError, InputError
from .item_ids import ItemIds
from .item_table import read_item_table
from .neighbors import no_vectors, read_neighbors
from .pooled_encoder import read_pooled_encoder
from .top_k import exact_top_k


class Engine:
    """A loaded model: `encode`, `score`, `score_all`, `top_k`. Rows in, rows out; `item_ids` translates."""

    def __init__(self, bundle: Bundle, *, threads: int = 1, device: Device = "cpu"):
        if threads < 1:
            raise InputError(f"threads: got {threads}, expected at least 1")
        self.bundle = bundle
        self.manifest = bundle.manifest
        self.device = device
        self._providers = execution_providers(device)
        self._threads = threads
        family = self.manifest.get("family")
        if family == "pointwise":
            raise BundleError(
                f"{bundle.path}: a pointwise model, which scores rows of features; load it with "
                "pocketrec.runtime.pointwise.PointwiseRanker"
            )
        if family not in ("sequence", "item-item"):
            raise BundleError(
                f"{bundle.path}: model family {family!r}, this pocketrec runs 'sequence' and 'item-item'; upgrade pocketrec"
            )
        self.neighbors = read_neighbors(bundle) if family == "item-item" else None
        """Of a bundle of item-item weights: then the table has width 0, and a user vector has a number for each item."""
        self.table = read_item_table(bundle) if self.neighbors is None else no_vectors(self.neighbors.n_items)
        self.item_ids = ItemIds.from_bytes(
            self.manifest["items"]["ids"], bundle.part("item_ids").tobytes() if "item_ids" in bundle else b""
        )
        self.unpacked: NDArray[np.float32] | None = None
        """The table's vectors, float32 (N, D or more), where a `Reranker` has unpacked them; the same to the last bit."""
        self.n_items = self.table.n_items
        self.width = self.table.width
        self.max_length = int(self.manifest["max_length"])
        if len(self.item_ids) != self.n_items:
            raise BundleError(
                f"{bundle.path}: {len(self.item_ids)} item ids for {self.n_items} rows; export the bundle again"
            )
        self._encoder: Callable[[NDArray[np.float32]], NDArray[np.float32]] | None = None
        if self.neighbors is None:
            self._prior = bundle.array("prior_user", np.float32, (self.width,))
            self._encoder = self._read_encoder()
        else:
            self._prior = bundle.array("prior_user", np.float16, (self.n_items,)).astype(np.float32)
        self._scorer: CatalogueScorer | None = None
        if self.neighbors is None and not isinstance(self.table, CodebookRows):
            block = self.manifest["item_table"].get("block", 0)  # a table of floats has none
            self._scorer = CatalogueScorer(
                self.table, block, lambda weights: self._session("scorer.onnx", weights)
            )

    @classmethod
    def load(
        cls, path: str | os.PathLike[str], *, threads: int = 1, device: Device = "cpu", verify: bool = True
    ) -> Engine:
        """Open a bundle and make its model ready; `verify` checks the sha256 of each part.

        Raises:
            BundleError: not a bundle, truncated, edited, or of a newer version.
            InputError: the device is not there.
        """
        return cls(Bundle.open(path, verify=verify), threads=threads, device=device)

    def encode(self, histories: NDArray[np.int64]) -> NDArray[np.float32]:
        """User vectors of histories of equal length: int64 (B, n) of item rows, oldest first -> float32 (B, D).

        Only the last `max_length` columns count. n must be at least 1; for an empty history see `prior`.
        """
        if histories.ndim != 2 or histories.shape[1] == 0:
            raise InputError(f"histories: shape {histories.shape}, expected (users, length) with length >= 1")
        if self.neighbors is not None:
            return self.neighbors.users(histories[:, -self.max_length :])
        rows = histories[:, -self.max_length :]
        if self.unpacked is None:
            return self.encode_vectors(self.table.lookup(rows))
        return self.encode_vectors(self.unpacked.take(rows, axis=0)[..., : self.width])

    def encode_vectors(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """User vectors of histories that are looked up already: float32 (B, n, D), n up to `max_length` -> (B, D)."""
        if self._encoder is None:
            raise InputError(f"{self.bundle.path}: items have no vectors to encode; give rows to encode()")
        return self._encoder(vectors)

    def prior(self) -> NDArray[np.float32]:
        """The user vector that stands for an empty history, float32 (D,): its scores follow log popularity."""
        return self._prior

    def score(self, users: NDArray[np.float32], item_rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Scores of candidates: float32 (B, D), int64 (B, C) -> float32 (B, C)."""
        if self.neighbors is not None:
            return self.neighbors.score(users, item_rows)
        return self.table.score(users, item_rows)

    def score_all(self, users: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scores of the whole catalogue: float32 (B, D) -> float32 (B, N), a new array that the caller may change.

        To within `rounding` of those of `score`.
        """
        if self.neighbors is not None:
            return self.neighbors.score_all(users)
        if isinstance(self.table, CodebookRows):
            return self.table.score_all(users)
        assert self._scorer is not None
        return self._scorer.score_all(users)

    def rounding(self, user: NDArray[np.float32]) -> float:
        """At most this lies between a user's scores of `score_all` and of `score`, float32 (D,); known after the former."""
        return 0.0 if self._scorer is None else self._scorer.rounding(user)

    def top_k(
        self, user: NDArray[np.float32], k: int, exclude: NDArray[np.int64] | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The k best items of the catalogue for one user, float32 (D,): rows int64 (K,) and scores float32 (K,).

        As if `score` had scored every item: those near the k-th best of `score_all` are scored again. `exclude` holds
        rows that are left out; K is less than k only when fewer items remain.
        """
        scores = self.score_all(user[None])[0]
        n_left = self.n_items
        if exclude is not None and len(exclude):
            scores[exclude] = -np.inf
            n_left -= len(np.unique(exclude))
        return exact_top_k(
            scores, min(k, n_left), self.rounding(user), lambda rows: self.score(user[None], rows[None])[0]
        )

    def _read_encoder(self) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
        """What takes vectors of a history to the user's: a graph, or weighted means in numpy."""
        match self.manifest.get("encoder", {}).get("format", "onnx"):
            case "pooled":
                return read_pooled_encoder(self.bundle, self.width, self.max_length)
            case "onnx":
                session = self._session(
                    "encoder.onnx", {}, n_bytes=self.manifest.get("encoder", {}).get("bytes")
                )
                given, made = session.get_inputs()[0].name, [session.get_outputs()[0].name]
                return lambda vectors: session.run(made, {given: vectors})[0]  # type: ignore[return-value]
            case unknown:
                raise BundleError(
                    f"{self.bundle.path}: encoder format {unknown!r}, this pocketrec runs onnx and pooled; upgrade pocketrec"
                )

    def _session(
        self, part: str, weights: Weights, *, n_bytes: object = None
    ) -> onnxruntime.InferenceSession:
        """`n_bytes`: of a deflated part, as the manifest has it."""
        options = session_options(self._threads, weights)
        graph = self.bundle.part(part).tobytes() if n_bytes is None else inflated(self.bundle, part, n_bytes)
        try:
            return onnxruntime.InferenceSession(
                graph,
                options,
                providers=self._providers,
            )
        except Exception as error:  # onnxruntime raises many types of its own, none of them public
            raise BundleError(
                f"{self.bundle.path}: onnxruntime {onnxruntime.__version__} refuses part {part!r}: {error}"
            ) from error


def session_options(threads: int, weights: Weights | None = None) -> onnxruntime.SessionOptions:
    """How every session of ours runs.

    `session.disable_quant_qdq` makes onnxruntime restore int8 weights once, when it loads them; left on, it turns their
    products into `MatMulNBits`, a third slower than float32 for matrices of a recommender's size (measured on AVX2).

    Args:
        weights: the graph's external initializers, by name.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    if weights:
        values = [onnxruntime.OrtValue.ortvalue_from_numpy(value) for value in weights.values()]
        options.add_external_initializers(list(weights), values)
    return options
