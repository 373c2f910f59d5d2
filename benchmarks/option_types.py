"""What commands read from the command line: argparse types, each with a message that says what to write."""

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


def byte_size(text: str) -> int:
    """A size in decimal units.

    >>> byte_size("400kB"), byte_size("1.5 MB"), byte_size("812")
    (400000, 1500000, 812)
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(|[kKMG]?B)", text.strip())
    if not match or not float(match[1]):
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a size such as 400kB or 1.5MB")
    units = {"": 1, "B": 1, "kB": 1e3, "KB": 1e3, "MB": 1e6, "GB": 1e9}
    return round(float(match[1]) * units[match[2]])


def milliseconds(text: str) -> float:
    """A duration.

    >>> milliseconds("0.5ms"), milliseconds("300us"), milliseconds("2 s"), milliseconds("3")
    (0.5, 0.3, 2000.0, 3.0)
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(|us|ms|s)", text.strip())
    if not match or not float(match[1]):
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a duration such as 0.5ms or 300us")
    return round(float(match[1]) * {"": 1.0, "us": 1e-3, "ms": 1.0, "s": 1e3}[match[2]], 9)
