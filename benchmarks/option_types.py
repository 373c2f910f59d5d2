"""What commands read from the command line: argparse types, each with a message that says what to write."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping


def count(text: str) -> int:
    """A number of things, at least 1.

    >>> count("12")
    12
    """
    if not re.fullmatch(r"0*[1-9]\d{0,8}", text.strip(), re.ASCII):
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
    """A size in decimal units, whichever their case.

    >>> byte_size("400kB"), byte_size("1.5 MB"), byte_size("812")
    (400000, 1500000, 812)
    """
    match = re.fullmatch(r"(\d{1,15}(?:\.\d+)?)\s*(|[KMG]?B)", text.strip(), re.IGNORECASE)
    units = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9}
    size = round(float(match[1]) * units[match[2].upper()]) if match else 0
    if size < 1:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a size such as 400KB or 2MB")
    return size


def milliseconds(text: str) -> float:
    """The time of one call; plain numbers are milliseconds.

    >>> milliseconds("0.5ms"), milliseconds("300us"), milliseconds("2 s"), milliseconds("3")
    (0.5, 0.3, 2000.0, 3.0)
    """
    return _duration(text, {"us": 1e-3, "ms": 1.0, "s": 1e3, "": 1.0}, "1ms or 300us")


def seconds(text: str) -> float:
    """The time of a long piece of work; plain numbers are seconds.

    >>> seconds("90"), seconds("30m"), seconds("2h")
    (90.0, 1800.0, 7200.0)
    """
    return _duration(text, {"s": 1.0, "m": 60.0, "h": 3600.0, "": 1.0}, "90s, 30m or 2h")


def _duration(text: str, units: Mapping[str, float], examples: str) -> float:
    match = re.fullmatch(rf"(\d{{1,9}}(?:\.\d+)?)\s*({'|'.join(units)})", text.strip())
    duration = round(float(match[1]) * units[match[2]], 9) if match else 0.0
    if not duration > 0:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a time such as {examples}")
    return duration
