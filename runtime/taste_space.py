"""The taste space: a second item table, of which items are chosen by the same people.

Its vectors are the leading right singular vectors of the users' choices (`compress/taste_table.py` makes them): unlike
the model's own table they know nothing of order, and they are what the recency experts gain most from. A bundle has it
as the parts `taste_codes`, `taste_scales` and `taste_scorer.onnx`, described by `adaptation.taste` in the manifest as
`item_table` describes the model's table.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from .bundle import Bundle
from .errors import BundleError
from .item_table import QuantizedRows, row_bytes


def read_taste_table(bundle: Bundle) -> QuantizedRows | None:
    """The taste table, mapped in place; None where the bundle has none.

    Raises:
        BundleError: the manifest and the parts do not fit.
    """
    described = bundle.manifest.get("adaptation", {}).get("taste")
    if described is None:
        return None
    n_items, width, bits = bundle.manifest["items"]["count"], described.get("width"), described.get("bits")
    if described.get("format") != "rows" or not all(type(v) is int and v > 0 for v in (width, bits)):
        raise BundleError(
            f"{bundle.path}: taste table of format {described.get('format')!r}, width {width!r}, {bits!r} bits; "
            "export the bundle again, or upgrade pocketrec"
        )
    return QuantizedRows(
        codes=bundle.array("taste_codes", np.uint8, (n_items, row_bytes(width, bits))),
        scales=bundle.array("taste_scales", np.float16, (n_items,)),
        scale_unit=float(described["scale_unit"]),
        bits=bits,
        width=width,
    )


class TasteScorer:
    """Scores the catalogue in the taste space; its session is made at the first use."""

    def __init__(self, bundle: Bundle, table: QuantizedRows, threads: int) -> None:
        self._bundle = bundle
        self._table = table
        self._threads = threads
        self._session: onnxruntime.InferenceSession | None = None
        self._lock = threading.Lock()

    def score_all(self, user: NDArray[np.float32]) -> NDArray[np.float32]:
        """float32 (D,) -> float32 (N,)."""
        with self._lock:
            if self._session is None:
                self._session = self._made()
        scores: Any = self._session.run(None, {"users": user[None]})[0]
        return scores[0]

    def _made(self) -> onnxruntime.InferenceSession:
        table = self._table
        codes, bits = table.scoring_codes()
        block = int(self._bundle.manifest["adaptation"]["taste"]["block"])
        n_blocks = codes.shape[1] * 8 // bits // block
        scales = table.scales.astype(np.float32)[:, None] * np.float32(table.scale_unit)
        weights = {
            "codes": codes.reshape(table.n_items, n_blocks, -1),
            "scales": np.repeat(scales, n_blocks, axis=1),
        }
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.add_external_initializers(
            list(weights), [onnxruntime.OrtValue.ortvalue_from_numpy(value) for value in weights.values()]
        )
        graph = self._bundle.part("taste_scorer.onnx").tobytes()
        try:
            return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises many types of its own, none of them public
            raise BundleError(
                f"{self._bundle.path}: onnxruntime {onnxruntime.__version__} refuses part 'taste_scorer.onnx': {error}"
            ) from error
