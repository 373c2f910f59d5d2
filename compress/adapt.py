"""The last step: what the bundle needs to learn on the device, fitted on the validation events.

    taste table   of the training events (`taste_table`), offered where the budget has room for it
    prior         the mixture's weights (`adaptation_prior`); says which experts pay, the taste table among them

The model does not change: until a user's first feedback the bundle ranks as before (`AdaptationConfig.start`).
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..export.scorer_graph import scorer_graph
from ..runtime.adaptation import SOURCES
from ..runtime.bundle import Bundle, write_bundle
from ..runtime.engine import Engine
from ..runtime.errors import InputError
from ..runtime.item_table import ROW_BITS, QuantizedRows, row_bytes
from .adaptation_prior import fit_adaptation_prior
from .taste_table import Content, make_taste_table

MANIFEST_BYTES = 6 << 10
"""What the manifest and a scorer's graph grow by at most between the draft and the bundle, for the budget."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class AdaptationConfig:
    """How the bundle learns on the device."""

    taste_width: int = 64
    """Dimensions of the taste table, where it pays; 0 makes none. Chosen on an earlier era of MovieLens-100K than any that
    a figure is reported of: at 18 bytes an item, 64 dimensions of 2 bits gained +20.8% and 32 of 4 bits +19.9%."""
    taste_bits: int = 2
    """Bits a value of the taste table, with a scale a row."""
    start: Literal["model", "mixture"] = "model"
    """What ranks before a user's first feedback: the model, exactly, or the mixture as it was fitted."""
    max_growth: float = 0.4
    """The largest share of the bundle's bytes that the taste table may add: a strong compression is not given away for it."""
    max_users: int = 3000
    """Validation users to fit on, drawn with the seed: 10 to 60 seconds."""

    def __post_init__(self) -> None:
        if self.taste_width < 0:
            raise ValueError(f"adaptation: taste_width {self.taste_width}, expected at least 0")
        if self.taste_bits not in ROW_BITS:
            raise ValueError(
                f"adaptation: taste_bits {self.taste_bits}, expected one of {', '.join(map(str, ROW_BITS))}"
            )
        if self.start not in ("model", "mixture"):
            raise ValueError(f"adaptation: start {self.start!r}, expected model or mixture")
        if self.max_users < 1:
            raise ValueError(f"adaptation: max_users {self.max_users}, expected at least 1")
        if not 0 <= self.max_growth < math.inf:
            raise ValueError(f"adaptation: max_growth {self.max_growth}, expected at least 0")


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Adaptation:
    """What is added to a bundle."""

    described: dict[str, Any]
    """The manifest's `adaptation`."""
    taste: QuantizedRows | None
    """None where it does not pay, or has no room."""

    def detail(self) -> dict[str, Any]:
        """For the step's report: percent of NDCG@10 over the model on validation lists, [gain, low, high]."""
        gains: dict[str, Any] = {}
        for source in SOURCES:
            kept = [s for s in self.described["fitted_on"]["sets"][source] if s.get("kept")]
            gains[source] = kept[-1]["percent_over_base"] if kept else [0.0, 0.0, 0.0]
        taste = None if self.taste is None else {"width": self.taste.width, "bits": self.taste.bits}
        return {"re_ranking_percent": gains, "taste": taste, "sets": self.described["fitted_on"]["sets"]}


def adapt(
    engine: Engine,
    sequences: Sequence[NDArray[np.int64]],
    config: AdaptationConfig,
    *,
    seed: int,
    keep_repeats: bool = False,
    room_bytes: int | None = None,
    content: Content | None = None,
) -> Adaptation | None:
    """What the bundle needs to learn; None where nothing pays on the validation events, or there are too few.

    Args:
        engine: of a draft of the bundle.
        sequences: item rows, oldest first; the last event of each is the validation event, the others were trained on.
        keep_repeats: items of the history are candidates too.
        room_bytes: what the taste table may cost; None is no limit.
        content: numbers of the categories of each item row, for the taste table.
    """
    known = [sequence[:-1] for sequence in sequences]
    width = min(config.taste_width, engine.n_items, sum(len(sequence) > 0 for sequence in known))
    taste = None
    if width and (room_bytes is None or taste_bytes(engine.n_items, width, config.taste_bits) <= room_bytes):
        taste = make_taste_table(
            known, engine.n_items, width=width, bits=config.taste_bits, seed=seed, content=content
        )
    described = fit_adaptation_prior(
        engine, sequences, seed, taste=taste, max_users=config.max_users, keep_repeats=keep_repeats
    )
    if described is None:
        return None
    return Adaptation({**described, "start": config.start}, taste if "taste" in described else None)


def taste_bytes(n_items: int, width: int, bits: int) -> int:
    """Bytes of a taste table in a bundle: codes and a float16 scale an item."""
    return n_items * (row_bytes(width, bits) + 2)


def write_adapted(
    draft: str | os.PathLike[str],
    path: str | os.PathLike[str],
    adaptation: dict[str, Any] | None,
    taste: QuantizedRows | None = None,
    *,
    overwrite: bool = False,
) -> int:
    """Copy a bundle with the prior, and the taste table if the prior uses it; returns the size in bytes.

    Raises:
        InputError: the prior uses a taste table, and none is given.
        FileExistsError, OSError: as `write_bundle`.
    """
    bundle = Bundle.open(draft)
    manifest = {
        name: value for name, value in bundle.manifest.items() if name not in ("parts", "format_version")
    }
    parts: dict[str, Any] = {part["name"]: bundle.part(part["name"]) for part in bundle.manifest["parts"]}
    if adaptation is not None:
        manifest["adaptation"] = adaptation
        if "taste" in adaptation:
            if taste is None:
                raise InputError("write_adapted: the prior uses a taste table, and none is given; pass it")
            parts |= {
                "taste_codes": taste.codes,
                "taste_scales": taste.scales,
                "taste_scorer.onnx": scorer_graph(taste).SerializeToString(),
            }
    return write_bundle(Path(path), manifest, parts, overwrite=overwrite)
