"""Rank with a bundle, and keep learning, on the user's own device: numpy and onnxruntime, nothing else."""

from .bundle import Bundle
from .engine import Engine
from .errors import BundleError, InputError, StateError
from .rank_options import Explore, RankOptions
from .ranking import RankedItem
from .reranker import Reranker
from .user import User

__all__ = [
    "Bundle",
    "BundleError",
    "Engine",
    "Explore",
    "InputError",
    "RankOptions",
    "RankedItem",
    "Reranker",
    "StateError",
    "User",
]
