"""What a ranking is: items and scores, best first."""

from __future__ import annotations

from typing import NamedTuple

from .item_ids import ItemId


class RankedItem(NamedTuple):
    """An item and its score; scores are comparable within one ranking only."""

    item_id: ItemId
    score: float
