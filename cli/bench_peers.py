"""`pocketrec bench BUNDLE ... --peers CHECKPOINT --environments FOLDER`: what other tools make of the same checkpoint.

The teacher is exported as one standard ONNX graph, each peer makes its best int8 of it in an environment of its own
(`python -m pocketrec.benchmarks.peers.environments FOLDER` makes them), and all are measured beside the bundles.
"""

from __future__ import annotations

import argparse
import json
import shlex
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from ..benchmarks.bench_command import check_writable
from ..benchmarks.option_types import count
from ..benchmarks.progress import Track

if TYPE_CHECKING:
    from ..benchmarks.peers.compare import Model


def add_peer_options(parser: argparse.ArgumentParser) -> None:
    """Declare what `--peers` brings."""
    group = parser.add_argument_group("against other tools")
    group.add_argument(
        "--peers",
        metavar="CHECKPOINT",
        type=Path,
        help="measure what other tools make of this checkpoint, beside bundles made of it",
    )
    group.add_argument(
        "--environments",
        metavar="FOLDER",
        type=Path,
        help="where `python -m pocketrec.benchmarks.peers.environments FOLDER` made them",
    )
    group.add_argument(
        "--keep-graphs",
        metavar="FOLDER",
        type=Path,
        help="keep what peers make there, and use it again (default: thrown away)",
    )
    group.add_argument(
        "--ranked-users",
        metavar="N",
        type=count,
        help="users whose items are ranked, drawn at random (default: all)",
    )
    group.add_argument(
        "--peer-seconds", metavar="N", type=count, default=600, help="limit of one peer's work (default: 600)"
    )


def run_with_peers(args: argparse.Namespace, track: Track) -> int:
    """Measure, print the table, write the JSON."""
    from ..benchmarks.latency import Timing
    from ..benchmarks.peers.compare import PeersConfig, run_peers
    from ..benchmarks.peers.peers_table import peers_lines
    from ..runtime.atomic_file import write_atomically
    from ..runtime.errors import InputError

    if args.environments is None:
        raise InputError(
            "--peers: where are their environments? make them with `python -m "
            "pocketrec.benchmarks.peers.environments FOLDER` and give --environments FOLDER"
        )
    if args.device != "cpu" or args.protocol != "leave-one-out":
        raise InputError("--peers: measures leave-one-out on the CPU; leave --device and --protocol out")
    if unfit := [
        name for name in ("report", "markdown", "max_drop", "max_size", "max_latency") if getattr(args, name)
    ]:
        raise InputError(
            f"--peers: prints a table and writes --json; leave --{unfit[0].replace('_', '-')} out"
        )
    alone = str(args.json) == "-"
    if args.json is not None and not alone:
        check_writable(args.json)
    with tempfile.TemporaryDirectory(prefix="pocketrec-peers-") as temporary:
        folder = args.keep_graphs or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        model = export_model(args.peers, args.data, folder)
        results = run_peers(
            PeersConfig(
                bundles=tuple(args.bundles),
                data=args.data,
                environments=args.environments,
                output=folder,
                teacher=args.teacher,
                keep_repeats=args.keep_repeats,
                allow_unknown_items=args.allow_unknown_items,
                users=args.ranked_users,
                latency_users=args.users,
                threads=args.threads[0] if args.threads else 1,
                timing=Timing(n_rounds=args.rounds),
                timeout_s=args.peer_seconds,
                seed=args.seed,
                command=_command(args),
            ),
            model,
            track,
        )
    text = json.dumps(results, indent=1, ensure_ascii=False, allow_nan=False)
    print(text if alone else "\n".join(peers_lines(results)))
    if args.json is not None and not alone:
        write_atomically(args.json, [text.encode()], overwrite=True)
        print(f"\nwritten: {args.json}")
    return 0


def _command(args: argparse.Namespace) -> str:
    """The command that measures the same again."""
    words = ["pocketrec", "bench", *map(str, args.bundles), "--data", str(args.data)]
    threads = None if args.threads is None else ",".join(map(str, args.threads))
    given = {
        "teacher": args.teacher, "peers": args.peers, "environments": args.environments,
        "keep-graphs": args.keep_graphs, "ranked-users": args.ranked_users,
        "users": args.users, "rounds": args.rounds, "threads": threads, "seed": args.seed, "json": args.json,
    }  # fmt: skip
    for name, value in given.items():
        words += [] if value is None else [f"--{name}", str(value)]
    for name in ("keep_repeats", "allow_unknown_items"):
        words += [f"--{name.replace('_', '-')}"] if getattr(args, name) else []
    return shlex.join(words)


def export_model(checkpoint: Path, data: Path, folder: Path) -> Model:
    """Read a checkpoint and write it in the forms that other tools take."""
    from ..benchmarks.interactions import read_interactions
    from ..runtime.errors import InputError, MissingExtraError
    from .main import COMMANDS, missing_modules

    if missing_modules(next(command for command in COMMANDS if command.name == "compress")):
        raise MissingExtraError("pocketrec bench --peers", "compress")
    import onnx
    import torch

    from ..benchmarks.peers.compare import Model
    from ..compress.item_bias import fold_item_bias
    from ..compress.layouts import ItemItemTeacher, load_ranking_teacher
    from ..export.whole_graph import candidates_graph, catalogue_graph
    from ..export.whole_model import Candidates, Catalogue

    teacher = load_ranking_teacher(checkpoint, interactions=read_interactions(data))
    if isinstance(teacher, ItemItemTeacher):
        raise InputError(
            f"{checkpoint}: {teacher.layout} has item-item weights, which are no network that other tools could quantize"
        )
    sequence_model = fold_item_bias(teacher.model)
    assert isinstance(sequence_model, torch.nn.Module)
    encoder, table = sequence_model.eval(), sequence_model.item_table.detach()
    catalogue, candidates = Catalogue(encoder, table).eval(), Candidates(encoder, table).eval()
    graphs = {name: folder / f"{name}.onnx" for name in ("catalogue", "candidates")}
    modules = {name: folder / f"{name}.pt" for name in graphs}
    onnx.save(catalogue_graph(catalogue, max_length=sequence_model.max_length), graphs["catalogue"])
    onnx.save(candidates_graph(candidates, max_length=sequence_model.max_length), graphs["candidates"])
    torch.save(catalogue, modules["catalogue"])
    torch.save(candidates, modules["candidates"])
    return Model(
        name=checkpoint.name,
        item_ids=teacher.item_ids,
        width=sequence_model.width,
        max_length=sequence_model.max_length,
        graphs=graphs,
        torch_modules=modules,
        weights_bytes=teacher.source.weights_bytes,
        sha256=teacher.source.sha256,
    )
