"""What a command's `add_parser` is given: the one method of argparse's private class that it uses."""

from __future__ import annotations

import argparse
from typing import Protocol


class Subparsers(Protocol):
    """The object that `ArgumentParser.add_subparsers` returns, whose class has no public name."""

    def add_parser(self, name: str, *, help: str = ..., description: str = ...) -> argparse.ArgumentParser:
        """A parser for the options of the command `name`."""
        ...
