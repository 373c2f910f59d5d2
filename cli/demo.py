"""The demo, `make demo`: MovieLens-100K from ratings to a bundle that learns from feedback, in a few minutes.

    the past    the first 90% of the events      -> pocketrec train -> compress -> bench
    the future  the last 10%, of users old and new -> replayed, event by event: what feedback is worth

Nothing that was trained has seen the future. Every command is printed before it runs: type it and get the same.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .main import EXIT_INPUT, EXIT_INTERRUPTED
from .main import main as pocketrec
from .progress import terminal_track

if TYPE_CHECKING:
    from ..benchmarks.interactions import Interactions
    from ..benchmarks.replay import Replay, Stream
    from ..runtime.item_ids import ItemIds
    from ..runtime.reranker import Reranker

FUTURE_SHARE = 0.1
"""Of all events, the last in time."""
SHOWN_CLICKS = 5
"""Films that the one new user chooses between the two lists of titles."""
QUICK: dict[str, list[str]] = {
    "train": ["--epochs", "2"],
    "compress": ["--epochs", "1"],
    "bench": ["--users", "20", "--rounds", "20", "--threads", "1"],
}
"""`--quick`: the same road, too short to be any good."""


class DemoStopped(Exception):
    """A command of the demo failed; it has said why."""

    def __init__(self, exit_code: int) -> None:
        super().__init__(f"exit code {exit_code}")
        self.exit_code = exit_code


@dataclass(frozen=True, slots=True)
class Past:
    """The events before the cut, as a file that the commands read."""

    file: Path
    cut: float
    n_events: int


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo; returns an exit code, as the command line does."""
    parser = argparse.ArgumentParser(
        prog="python -m pocketrec.cli.demo",
        description="The whole road on MovieLens-100K.",
        allow_abbrev=False,
    )
    parser.add_argument("--ml-100k", metavar="PATH", type=Path, help="where the data are (default: fetched)")
    parser.add_argument(
        "--folder",
        metavar="FOLDER",
        type=Path,
        default=Path("demo"),
        help="for what it makes (default: demo)",
    )
    parser.add_argument("--quick", action="store_true", help="minutes become seconds, and figures poor")
    args = parser.parse_args(argv)
    from ..runtime.errors import InputError

    try:
        return run(args)
    except (InputError, OSError) as error:
        print(f"demo: error: {error}", file=sys.stderr)
        return EXIT_INPUT
    except KeyboardInterrupt:
        print("demo: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except DemoStopped as stopped:
        return stopped.exit_code


def run(args: argparse.Namespace) -> int:
    """The demo, step by step."""
    from ..benchmarks.datasets import movielens_100k
    from ..benchmarks.interactions import read_interactions

    began = time.perf_counter()
    folder: Path = args.folder
    folder.mkdir(parents=True, exist_ok=True)

    _heading("The data")
    data = movielens_100k(args.ml_100k)
    interactions = read_interactions(data.inter)
    past = write_past(data.inter, folder / "ml-100k-past.inter")
    print(
        f"MovieLens-100K ({data.found_in}): {interactions.n_interactions:,} ratings of {interactions.n_items:,} films."
    )
    print(
        f"The last {interactions.n_interactions - past.n_events:,}, from {datetime.fromtimestamp(past.cut, UTC):%d %B %Y} on,"
        " are set aside: they are the future, which nothing below has seen."
    )

    teacher, bundle = folder / "teacher.safetensors", folder / "ml-100k.pocket"
    teacher_bundle, report = folder / "teacher.pocket", folder / "report.html"
    _heading("Train a teacher on the past")
    _run(args, "train", past.file, "-o", teacher, "--force")
    _heading("Compress it: before -> after, step by step")
    _run(
        args, "compress", teacher, "--data", past.file, "-o", bundle,
        "--teacher-out", teacher_bundle, "--force",
    )  # fmt: skip
    _heading("Measure both, through the runtime that an app uses")
    _run(
        args, "bench", bundle, "--teacher", teacher_bundle, "--data", past.file,
        "--report", report, "--json", folder / "report.json",
    )  # fmt: skip

    _heading("The future: what feedback is worth")
    result, lines = replay_future(bundle, interactions, past.cut, data.titles(), quick=args.quick)
    print("\n".join(lines))
    (folder / "replay.json").write_text(json.dumps(result, indent=1) + "\n")
    print(
        f"\nIn {time.perf_counter() - began:.0f} s. Open {report} in a browser; {bundle} is what an app ships."
    )
    return 0


def write_past(inter: Path, file: Path) -> Past:
    """Write the events of a RecBole file that lie before the cut: the same lines, in the same order."""
    from ..benchmarks.past_events import past_by_time
    from ..runtime.atomic_file import write_atomically

    lines, cut = past_by_time(inter, 1 - FUTURE_SHARE)
    write_atomically(file, ["\n".join([*lines, ""]).encode()])
    return Past(file, cut, len(lines) - 1)


def replay_future(
    bundle: Path, interactions: Interactions, cut: float, titles: dict[int, str], *, quick: bool
) -> tuple[dict[str, Any], list[str]]:
    """Step through the events after the cut with the bundle; what came out, and as lines for people."""
    from ..benchmarks.replay import ReplayConfig, drawn
    from ..benchmarks.replay_bundles import replay_one
    from ..benchmarks.replay_summary import replay_lines
    from ..runtime.reranker import Reranker

    ranker = Reranker.load(bundle, candidates="popularity")
    replay = future_of(interactions, ranker.engine.item_ids, cut)
    config = ReplayConfig(max_users=20 if quick else None, max_events=10 if quick else 100)
    with terminal_track("replay", len(drawn(replay.streams, config))) as advance:
        result = replay_one(ranker, replay, config, progress=advance)
    lines = [
        "Each user's future, event by event: rank 100 candidates, see what was chosen, learn from it, go on.",
        "stale: scores computed once, on a server; live: the model sees each choice;",
        *(["calibrated: the same with popularity, weighted when it was compressed;"] if ranker.prior else []),
        "adaptive: it also learns from each choice, as an app does.",
        "",
        *replay_lines(result),
        "",
        *one_new_user(Reranker.load(bundle), replay.streams, titles),
    ]
    return result, lines


def future_of(interactions: Interactions, item_ids: ItemIds, cut: float) -> Replay:
    """What comes after the cut, with what came before as history; items that the bundle never saw are left out."""
    import numpy as np

    from ..benchmarks.interactions import map_items
    from ..benchmarks.replay import Replay, Stream

    mapped = map_items(interactions, item_ids, max_unknown=1.0)
    times = mapped.times or []
    n_before = [int(np.searchsorted(user_times, cut, side="left")) for user_times in times]
    split = list(zip(mapped.sequences, n_before, strict=True))
    streams = [Stream(user, items[:n], items[n:]) for user, (items, n) in enumerate(split) if n < len(items)]
    return Replay(
        streams, [items[:n] for items, n in split], f"from {datetime.fromtimestamp(cut, UTC):%d %B %Y} on"
    )


def one_new_user(ranker: Reranker, streams: Sequence[Stream], titles: dict[int, str]) -> list[str]:
    """Five titles for somebody whom the bundle knows nothing of, before and after a few choices."""
    stream = next((s for s in streams if len(s.history) == 0 and len(s.events) > 2 * SHOWN_CLICKS), None)
    if stream is None:
        return []
    item_ids = ranker.engine.item_ids
    chosen, later = (
        item_ids.ids(stream.events[:SHOWN_CLICKS]),
        set(item_ids.ids(stream.events[SHOWN_CLICKS:])),
    )
    user = ranker.user()

    def five() -> list[str]:
        return [
            f"  {'*' if item.item_id in later else ' '} {_title(item.item_id, titles)}"
            for item in user.recommend(k=5)
        ]

    lines = ["One new user, of whom nothing is known. Recommended:", *five(), "Then chooses, one by one:"]
    for item_id in chosen:
        user.feedback(item_id, clicked=True)
        lines.append(f"    {_title(item_id, titles)}")
    return [*lines, f"Recommended after {len(chosen)} choices (* is chosen later):", *five()]


def _title(item_id: int | str, titles: dict[int, str]) -> str:
    return titles.get(int(item_id), f"film {item_id}")


def _run(args: argparse.Namespace, command: str, *arguments: str | Path) -> None:
    """Print one command as a user would type it, and run it in this process."""
    words = [command, *map(str, arguments), *(QUICK[command] if args.quick else [])]
    print(f"$ {shlex.join(['pocketrec', *words])}", flush=True)
    if exit_code := pocketrec(words):
        raise DemoStopped(exit_code)


def _heading(text: str) -> None:
    print(f"\n--- {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
