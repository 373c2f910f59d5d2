"""What several commands read from the command line: argparse types, each with a message that says what to write."""

from __future__ import annotations

import argparse
import re


def count(text: str) -> int:
    """A number of things, at least 1.

    >>> count("12")
    12
    """
    if not text.strip().isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a number of at least 1")
    return int(text)


def share(text: str) -> float:
    """A share of something, from 0 to 1.

    >>> share("1%"), share("0.05")
    (0.01, 0.05)
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(%?)", text.strip())
    value = float(match[1]) / (100 if match[2] else 1) if match else 2.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a share such as 1% or 0.01")
    return value
