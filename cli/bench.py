"""`pocketrec bench A.pocket [B.pocket ...] --data FILE`: what bundles cost and what they kept, measured here and now."""

from __future__ import annotations

import argparse
from importlib.util import find_spec

from ..benchmarks.bench_command import add_options, check_writable
from .bench_peers import add_peer_options, run_with_peers
from .progress import terminal_track
from .subparsers import Subparsers

__all__ = ["add_parser", "check_writable", "run"]


def add_parser(subparsers: Subparsers) -> None:
    """Declare the options of `pocketrec bench`."""
    parser = subparsers.add_parser("bench")
    add_options(parser)
    add_peer_options(parser)


def run(args: argparse.Namespace) -> int:
    """Measure, print the table, write what was asked for."""
    from ..benchmarks.bench_command import run as measure
    from ..runtime.devices import device_memory

    if args.peers is not None:
        return run_with_peers(args, terminal_track)
    half_graph = None
    if device_memory(args.device) != "cpu" and find_spec("onnx") is not None:
        from ..export.half_graph import half_graph
    return measure(args, terminal_track, "pocketrec bench", half_graph)
