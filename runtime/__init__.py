"""Rank with a bundle, and keep learning, on the user's own device: numpy and onnxruntime, nothing else."""

from .bundle import Bundle
from .engine import Engine
from .errors import BundleError, InputError
from .item_table import quantize_rows

__all__ = ["Bundle", "BundleError", "Engine", "InputError", "quantize_rows"]
