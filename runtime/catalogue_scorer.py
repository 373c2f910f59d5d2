"""Scores of a whole catalogue by a bundle's graph, which reads the codes of the item table where they are.

The graph holds no weights: they are named as external, and handed over here. onnxruntime arranges the codes for its
kernels in memory of its own, as many bytes as there are codes (4 bits a value at least); nothing is expanded to floats
but the scales. The session is made at the first use: an app that only re-ranks candidates never pays for it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from .item_table import FloatRows, QuantizedRows
from .score_rounding import ScoreRounding, score_rounding
from .tiered_rows import TieredRows

Weights = dict[str, NDArray[Any]]


class CatalogueScorer:
    """The graph of one table. Shared by threads."""

    def __init__(
        self,
        table: QuantizedRows | TieredRows | FloatRows,
        block: int,
        session: Callable[[Weights], onnxruntime.InferenceSession],
    ) -> None:
        """
        Args:
            block: dimensions that `MatMulNBits` rounds together; of quantized rows.
            session: makes the session of weights by name.
        """
        self._table = table
        self._block = block
        self._made_by = session
        self._session: onnxruntime.InferenceSession | None = None
        self._roundings: Sequence[ScoreRounding] = ()
        self._lock = threading.Lock()

    def score_all(self, users: NDArray[np.float32]) -> NDArray[np.float32]:
        """float32 (B, D) -> float32 (B, N), a new array."""
        if self._session is None:
            with self._lock:
                if self._session is None:
                    self._session = self._make()
        scores: Any = self._session.run(None, {"users": users})[0]
        return self._table.in_item_order(scores, users) if isinstance(self._table, TieredRows) else scores

    def rounding(self, user: NDArray[np.float32]) -> float:
        """What `score_all` may be off exact scores for a user, float32 (D,); 0 of a table of floats.

        Known once `score_all` was called.
        """
        return max((rounding.bound(user) for rounding in self._roundings), default=0.0)

    def _make(self) -> onnxruntime.InferenceSession:
        match self._table:
            case FloatRows():
                return self._made_by({"values": self._table.values})
            case QuantizedRows():
                tables = {"": self._table.scoring_codes()}
            case TieredRows():
                tables = self._table.scoring_codes()
        weights: Weights = {}
        roundings: list[ScoreRounding] = []
        for number, (codes, bits, scales) in tables.items():
            n_blocks = codes.shape[1] * 8 // bits // self._block
            weights[f"codes{number}"] = codes.reshape(len(codes), n_blocks, -1)
            weights[f"scales{number}"] = (
                scales[:, None] if n_blocks == 1 else np.repeat(scales[:, None], n_blocks, axis=1)
            )
            roundings.append(score_rounding(codes, bits, self._block, scales))
        session = self._made_by(weights)
        self._roundings = roundings
        return session
