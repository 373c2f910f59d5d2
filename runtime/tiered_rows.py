"""One item table in tiers: items that are asked for often get more bits than those that hardly ever are.

    tier of item i, place of item i in its tier:    row_i = tiers[tier_i].row(place_i)

On Beauty the 1,200 most frequent of 12,101 items make 65% of NDCG@10, the rarer half makes 10%: a bit that is taken from
the tail costs a fraction of what it brings at the head. Each tier is a table of a format of its own (`item_table`,
`codebook_rows`); within a tier, items keep their order, so the tier of each item is all that is stored, as bit planes
(lowest first, row 8i + j in bit j of byte i): 2 bits an item for up to four tiers.

The catalogue's graph scores the quantized tiers as one table where all fit into 4 bits (`scoring_codes`), else one after
the other; the codebooks are scored in numpy (see there). `in_item_order` puts them together.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .bundle import Bundle
from .codebook_rows import CodebookRows
from .errors import BundleError
from .gathered_rows import GatheredRows
from .scoring_codes import ScoringCodes, joined

if TYPE_CHECKING:
    from .item_table import QuantizedRows

MAX_TIERS = 8


@dataclass(frozen=True, slots=True, eq=False)
class TieredRows:
    """An item table of N rows and width D; the quantized tiers come before those of codebooks."""

    tiers: tuple[QuantizedRows | CodebookRows, ...]
    tier_of: NDArray[np.uint8]
    """uint8 (N,): the tier of each row."""
    _place: NDArray[np.int32] = field(init=False, repr=False)
    """int32 (N,): the row within its tier."""
    _column: NDArray[np.int32] | None = field(init=False, repr=False)
    """int32 (N,): where the row's score is when those of the graph and of the codebooks stand side by side; None: in order."""

    def __post_init__(self) -> None:
        counts = np.bincount(self.tier_of, minlength=len(self.tiers))
        if counts.tolist() != [tier.n_items for tier in self.tiers]:
            raise BundleError(
                f"item table: tiers of {[tier.n_items for tier in self.tiers]} rows, but {counts.tolist()} items are in "
                "them; export the bundle again"
            )
        kinds = [isinstance(tier, CodebookRows) for tier in self.tiers]
        if len({tier.width for tier in self.tiers}) != 1 or kinds[0] or kinds != sorted(kinds):
            raise BundleError(
                "item table: tiers of different widths, or codebooks before quantized rows; export the bundle again"
            )
        place = np.empty(len(self.tier_of), np.int32)
        for tier, count in enumerate(counts):
            place[self.tier_of == tier] = np.arange(count, dtype=np.int32)
        object.__setattr__(self, "_place", place)
        column = place + (np.cumsum(counts) - counts).astype(np.int32)[self.tier_of]
        if self.is_scored_as_one:
            quantized = self.tier_of < len(self.quantized)
            column[quantized] = np.arange(np.count_nonzero(quantized), dtype=np.int32)
        in_order = self.is_scored_as_one and len(self.quantized) == len(self.tiers)
        object.__setattr__(self, "_column", None if in_order else column)

    @property
    def n_items(self) -> int:
        return len(self.tier_of)

    @property
    def width(self) -> int:
        return self.tiers[0].width

    @property
    def size_bytes(self) -> int:
        return sum(tier.size_bytes for tier in self.tiers) + _planes(self.tier_of, len(self.tiers)).nbytes

    @property
    def quantized(self) -> tuple[QuantizedRows, ...]:
        """The tiers that the catalogue's graph scores."""
        return tuple(tier for tier in self.tiers if not isinstance(tier, CodebookRows))

    @property
    def is_scored_as_one(self) -> bool:
        """Whether the catalogue's graph has one product of all quantized rows, in the order of items, and not one a tier."""
        return all(tier.bits <= 4 for tier in self.quantized)

    def lookup(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Vectors of the given rows: int64 (...) -> float32 (..., D)."""
        flat = rows.ravel()
        tier_of, place = self.tier_of.take(flat), self._place.take(flat)
        found = np.empty((len(flat), self.width), np.float32)
        for number, tier in enumerate(self.tiers):
            chosen = (tier_of == number).nonzero()[0]
            if len(chosen):
                found[chosen] = tier.lookup(place.take(chosen))
        return found.reshape(*rows.shape, self.width)

    def gather(self, rows: NDArray[np.int64]) -> GatheredRows:
        """As `QuantizedRows.gather`."""
        return GatheredRows(self.lookup(rows), self.width)

    def score(self, users: NDArray[np.float32], rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Dot products of each user with its candidates: float32 (B, D), int64 (B, C) -> float32 (B, C)."""
        return np.stack([self.lookup(c) @ user for user, c in zip(users, rows, strict=True)])

    def scoring_codes(self) -> dict[str, ScoringCodes]:
        """The tables that the catalogue's graph multiplies with, by the number that their names end in."""
        tables = [tier.scoring_codes() for tier in self.quantized]
        if self.is_scored_as_one:
            quantized = self.tier_of[self.tier_of < len(tables)]
            return {"": joined((np.flatnonzero(quantized == n), table) for n, table in enumerate(tables))}
        return {str(number): table for number, table in enumerate(tables)}

    def in_item_order(self, scored: NDArray[np.float32], users: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scores of the catalogue, float32 (B, N): those of the graph, float32 (B, n), and those of the codebooks, in the
        order of items."""
        if self._column is None:
            return scored
        books = [tier.score_all(users) for tier in self.tiers if isinstance(tier, CodebookRows)]
        return np.concatenate([scored, *books], axis=1).take(self._column, axis=1)

    def describe(self) -> dict[str, Any]:
        """What the manifest says of the table."""
        tiers = [{"count": tier.n_items, **tier.describe()} for tier in self.tiers]
        return {"format": "tiers", "width": self.width, "tiers": tiers}

    def parts(self) -> dict[str, NDArray[Any]]:
        """The bundle's parts that hold the table."""
        named = {
            _prefix(number) + name: part
            for number, tier in enumerate(self.tiers)
            for name, part in tier.parts().items()
        }
        return {"item_tiers": _planes(self.tier_of, len(self.tiers)), **named}


def read_tiered_rows(bundle: Bundle, described: dict[str, Any], n_items: int, read_tier: Any) -> TieredRows:
    """The table of a bundle; `read_tier(bundle, described, n_items, prefix)` reads one of the tiers.

    Raises:
        BundleError: manifest and parts disagree.
    """
    tiers = described.get("tiers")
    if not (
        isinstance(tiers, list) and 0 < len(tiers) <= MAX_TIERS and all(isinstance(t, dict) for t in tiers)
    ):
        raise BundleError(f"{bundle.path}: an item table of tiers {tiers!r}; export the bundle again")
    counts = [tier.get("count") for tier in tiers]
    if not all(type(count) is int and count > 0 for count in counts) or sum(counts) != n_items:
        raise BundleError(
            f"{bundle.path}: tiers of {counts} rows for {n_items} items; export the bundle again"
        )
    planes = bundle.array("item_tiers", np.uint8, (_n_planes(len(tiers)), -(-n_items // 8)))
    bits = np.unpackbits(planes, axis=1, count=n_items, bitorder="little")
    tier_of = np.zeros(n_items, np.uint8)
    for plane, row in enumerate(bits):
        tier_of |= row << np.uint8(plane)
    if n_items and int(tier_of.max()) >= len(tiers):
        raise BundleError(
            f"{bundle.path}: an item in tier {int(tier_of.max())} of {len(tiers)}; export the bundle again"
        )
    read = [
        read_tier(bundle, tier, count, _prefix(number))
        for number, (tier, count) in enumerate(zip(tiers, counts, strict=True))
    ]
    return TieredRows(tiers=tuple(read), tier_of=tier_of)


def _planes(tier_of: NDArray[np.uint8], n_tiers: int) -> NDArray[np.uint8]:
    """uint8 (planes, ceil(N / 8))."""
    bits = np.stack([(tier_of >> plane) & 1 for plane in range(_n_planes(n_tiers))])
    return np.packbits(bits, axis=1, bitorder="little")


def _n_planes(n_tiers: int) -> int:
    return max(1, (n_tiers - 1).bit_length())


def _prefix(number: int) -> str:
    return f"tier{number}_"
