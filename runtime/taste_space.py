"""The taste space: a second item table, of which items are chosen by the same people.

Its vectors are the leading right singular vectors of the users' choices (`compress/taste_table.py` makes them): unlike
the model's own table they know nothing of order, and they are what the recency experts gain most from. A bundle has it
as the parts `taste_codes`, `taste_scales` and `taste_scorer.onnx`, described by `adaptation.taste` in the manifest as
`item_table` describes the model's table.
"""

from __future__ import annotations

import numpy as np
import onnxruntime

from .bundle import Bundle
from .catalogue_scorer import CatalogueScorer, Weights
from .engine import session_options
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


def taste_scorer(bundle: Bundle, table: QuantizedRows, threads: int) -> CatalogueScorer:
    """What scores the catalogue in the taste space."""

    def session(weights: Weights) -> onnxruntime.InferenceSession:
        options = session_options(threads, weights)
        graph = bundle.part("taste_scorer.onnx").tobytes()
        try:
            return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises many types of its own, none of them public
            raise BundleError(
                f"{bundle.path}: onnxruntime {onnxruntime.__version__} refuses part 'taste_scorer.onnx': {error}"
            ) from error

    return CatalogueScorer(table, int(bundle.manifest["adaptation"]["taste"]["block"]), session)
