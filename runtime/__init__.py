"""Rank with a bundle, and keep learning, on the user's own device: numpy and onnxruntime, nothing else."""

from .bundle import Bundle
from .engine import Engine
from .errors import BundleError, InputError, StateError
from .item_ids import ItemIds
from .item_table import quantize_rows
from .ranking import RankedItem
from .reranker import Reranker
from .user import User

__all__ = [
    "Bundle",
    "BundleError",
    "Engine",
    "InputError",
    "ItemIds",
    "RankedItem",
    "Reranker",
    "StateError",
    "User",
    "quantize_rows",
]
