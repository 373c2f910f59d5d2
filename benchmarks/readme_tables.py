"""The README's tables, written from the committed results, so that the two cannot disagree.

`python -m pocketrec.benchmarks.readme_tables README.md benchmarks/results` rewrites what stands between
`<!-- results:NAME -->` and `<!-- end -->`; with `--check` it changes nothing and exits 1 where that would be needed.
Results are the files of `pocketrec bench --json`; each is one row. The families table is made of the files in `families/`
below, which `python -m pocketrec.cli.families` writes.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .adaptation_tables import clicks_table, new_users_table, swaps_table
from .peers.peers_table import peers_markdown, vectors_markdown
from .recipes_table import recipe_rows
from .scale_tables import SCALE, SCORING, scale_lines, scale_table, scoring_table
from .studies_table import FRONTIER, distillation_table, encoder_table, schedules_table

Json = Mapping[str, Any]
Results = Mapping[str, Json]
"""By file name without its ending."""

COMPRESSION = (
    ("ICSRec SASRec, Amazon Beauty", "beauty-icsrec"),
    ("the same, `beauty-15x.toml`", "beauty-icsrec-15x"),
    ("the same, `beauty-30x.toml`", "beauty-icsrec-30x"),
    ("ICLRec SASRec, Amazon Beauty", "beauty-iclrec"),
    ("SASRec of `pocketrec train`, MovieLens-1M, `lossless`", "ml-1m-strong"),
    ("SASRec of `pocketrec train`, MovieLens-100K", "demo-ml-100k"),
)

FAMILIES = "families/"
ADAPTATION = "adaptation/"
RECIPES = "recipes/"
PEERS = "peers/"
TEXTS = "games-text"
LEARNERS = {
    "river": "River, logistic regression,",
    "mabwiser": "MABWiser, LinUCB,",
    "vowpalwabbit": "Vowpal Wabbit, contextual bandit,",
}
REPLAYS = (
    ("SASRec, MovieLens-100K, the last 30% of the time", "ml-100k"),
    ("the same with genres, a taste table of 4 bits", "ml-100k-genres"),
    ("pmixer's SASRec, MovieLens-1M, each user's last event", "ml-1m-pmixer"),
    ("SASRec of `pocketrec train`, MovieLens-1M, the same", "ml-1m-strong"),
    ("SASRec, LastFM, each user's last 20%", "lastfm"),
    ("ICSRec SASRec, Beauty, each user's last event", "beauty-icsrec"),
)


def compression_table(results: Results) -> list[str]:
    """Size and accuracy of each bundle against its teacher."""
    lines = [
        "| teacher | weights | bundle | ratio | NDCG@10 teacher | bundle | kept (95% interval) | popularity |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for title, name in _measured(results):
        found = results[name]
        bundle = _bundle(found)
        teacher = _system(found, found["reference"])
        kept = found["comparisons"][bundle["name"]]["accuracy"]["metrics"]["ndcg@10"]["ratio"]
        cells = (
            title,
            _bytes(bundle["checkpoint_bytes"]),
            _bytes(bundle["size_bytes"]),
            f"**{bundle['checkpoint_ratio']:.1f}x**",
            f"{_ndcg(teacher):.4f}",
            f"{_ndcg(bundle):.4f}",
            f"**{kept['value']:.1%}** ({kept['low']:.1%} to {kept['high']:.1%})",
            f"{found['popularity']['metrics']['ndcg@10']['value']:.4f}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def latency_table(results: Results) -> list[str]:
    """Median times of each bundle and its teacher, one thread, interleaved, with the ratio."""
    lines = [
        "| teacher | operation | teacher, p50 | bundle, p50 | speed-up (95% interval) |",
        "|---|---|---|---|---|",
    ]
    for title, name in _measured(results):
        found = results[name]
        bundle = _bundle(found)
        for operation, size in (("rerank", 100), ("recommend", 10), ("encode", None)):
            row = _latency(found, bundle["name"], operation, size)
            reference = _latency(found, found["reference"], operation, size)
            ratio = row["speedup"]["ratio"]
            verdict = "" if row["speedup"]["told_apart"] else ", not told apart"
            what = {
                "rerank": f"re-rank {size} candidates",
                "recommend": "the catalogue's top 10",
                "encode": "encode a history",
            }
            lines.append(
                f"| {title} | {what[operation]} | {_time(reference['p50']['value'])} | {_time(row['p50']['value'])} | "
                f"{ratio['value']:.2f}x ({ratio['low']:.2f} to {ratio['high']:.2f}{verdict}) |"
            )
            title = ""
    return lines


def families_table(results: Results) -> list[str]:
    """Every checkpoint with the default recipe, beside its framework's own figure."""
    lines = [
        "| model | framework, data | published | ours | weights | bundle | ratio | teacher | bundle | kept (95% interval) "
        "| re-rank 100, teacher | bundle |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    found = [row for name, row in results.items() if name.startswith(FAMILIES)]
    for row in sorted(found, key=lambda row: (row["metric"] != "ndcg@10", row["framework"], row["family"])):
        metric, accuracy = row["metric"], row["accuracy"]
        kept = row["kept"][metric]
        times = row["rerank"]["p50_ms"] if row["rerank"] else None
        cells = (
            row["family"],
            f"{row['framework']}, {row['data_name']}",
            *("" if row[name] is None else f"{row[name]:.4f}" for name in ("published", "reproduced")),
            _bytes(row["checkpoint_bytes"]),
            _bytes(row["size_bytes"]),
            f"**{row['ratio']:.1f}x**",
            f"{accuracy['teacher'][metric]['value']:.4f}",
            f"{accuracy['accuracy'][metric]['value']:.4f}",
            f"**{kept['value']:.1%}** ({kept['low']:.1%} to {kept['high']:.1%})",
            *(_time(times[system]["value"]) if times else "" for system in ("teacher", "bundle")),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def adaptation_table(results: Results) -> list[str]:
    """What learning on the device is worth, replayed: the files of `pocketrec replay`."""
    lines = [
        "| bundle | candidates | users, events | stale list | model, live | calibrated | learning | over calibrated (95% interval) "
        "| over stale | users who lose |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for title, name in REPLAYS:
        for candidates in ("popularity", "catalogue"):
            found = results.get(f"{ADAPTATION}{name}-{candidates}")
            if found is None:
                continue
            ndcg = {system: interval["value"] for system, interval in found["ndcg@10"].items()}
            gain = next(
                g["percent"] for g in found["gains"] if (g["system"], g["over"]) == ("adaptive", "calibrated")
            )
            cells = (
                title,
                found["candidates"],
                f"{found['users']:,}, {found['events']:,}",
                *(f"{ndcg[system]:.3f}" for system in ("stale", "live", "calibrated", "adaptive")),
                f"**{gain['value']:+.1f}%** ({gain['low']:+.1f} to {gain['high']:+.1f})",
                f"{ndcg['adaptive'] / ndcg['stale']:.1f}x",
                f"{found['share_of_users_that_lose']['calibrated']:.0%}",
            )
            lines.append(f"| {' | '.join(cells)} |")
            title = ""
    return lines


def learners_table(results: Results) -> list[str]:
    """What ranking and learning cost beside libraries for online learning: the file of `benchmarks.learners`."""
    found = results[f"{ADAPTATION}learners"]
    median = {name: times["p50_us"]["value"] for name, times in found["operations"].items()}
    lines = ["| median, one thread | rank 100 candidates | | learn a choice | |", "|---|---|---|---|---|"]

    def line(title: str, rank: str, learn: str, ratios: Json | None = None) -> None:
        ratio = {"rank": "", "learn": ""} if ratios is None else {k: f"{v:.0f}x" for k, v in ratios.items()}
        cells = (title, f"{median[rank]:,.0f} us", ratio["rank"], f"{median[learn]:,.0f} us", ratio["learn"])
        lines.append(f"| {' | '.join(cells)} |")

    n_experts = len(found["experts"])
    line(f"**pocketrec**, {n_experts} experts, over the model's own time", "rerank over model", "feedback")
    if "feedback without taste" in median:
        line("without a taste table", "rerank over model without taste", "feedback without taste")
    for name, title in LEARNERS.items():
        if f"{name} rank" in median:
            version = found["versions"][name]
            line(f"{title} {version}", f"{name} rank", f"{name} learn", found["times_as_long"][name])
    return lines


def recipes_table(results: Results) -> list[str]:
    """What each named recipe gives."""
    return recipe_rows(
        {name.removeprefix(RECIPES): row for name, row in results.items() if name.startswith(RECIPES)}
    )


def texts_table(results: Results) -> list[str]:
    """Items that nobody has seen yet, ranked by their titles: the file of `benchmarks.cold_items`."""
    lines = ["| | bytes | one title, p50 | NDCG@10 among new items | among all |", "|---|---|---|---|---|"]
    if TEXTS not in results:
        return lines
    found = results[TEXTS]["results"]
    for title, name in (("MiniLM", found["reference"]), ("text tower", "bundle")):
        system = found["systems"][name]
        ndcg = (
            _with_interval(system["candidates"][among]["metrics"]["ndcg@10"]) for among in ("cold", "all")
        )
        time = _time(system["embed_one"]["p50"]["value"])
        lines.append(f"| {title} | {_bytes(system['tower_bytes'])} | {time} | {' | '.join(ndcg)} |")
    compared = found["comparisons"]["bundle"]
    speed = compared["embed_one_speed_up"]["ratio"]["value"]
    kept = (compared["kept"][among]["ndcg@10"]["ratio"] for among in ("cold", "all"))
    shares = " | ".join(f"{r['value']:.1%} ({r['low']:.1%} to {r['high']:.1%})" for r in kept)
    lines.append(
        f"| kept | **{compared['tower_size_ratio']:.0f}x smaller** | **{speed:.0f}x faster** | {shares} |"
    )
    for title, name in (
        ("popularity, as it would become", "popularity_of_the_hidden_events"),
        ("chance", "chance"),
    ):
        values = (found["baselines"][name][among]["metrics"]["ndcg@10"]["value"] for among in ("cold", "all"))
        lines.append(f"| {title} | | | {' | '.join(f'{value:.4f}' for value in values)} |")
    return lines


def machine_line(results: Results) -> list[str]:
    """Where the figures were measured."""
    machine = results[_measured(results)[0][1]]["machine"]
    versions = ", ".join(f"{package} {version}" for package, version in machine["versions"].items())
    return [
        f"Measured on {machine['cpu']} ({', '.join(machine['flags'])}), {machine['cores']} cores; Python {machine['python']}, {versions}."
    ]


def peers_table(results: Results) -> list[str]:
    """What other tools make of the same checkpoint: the files of `pocketrec bench --peers`."""
    lines: list[str] = []
    for title, name in (
        ("ICSRec SASRec, Beauty", "beauty-icsrec"),
        ("synthetic, 50,000 x 128", "synthetic-50k"),
    ):
        if (found := results.get(f"{PEERS}{name}")) is not None:
            lines += [*([""] if lines else []), *peers_markdown(found, title)]
    return lines


def vectors_table(results: Results) -> list[str]:
    """Our scoring of a table beside numpy, FAISS and usearch: the files of `cli.vector_search`."""
    names = ("vectors-beauty", "vectors-50k-128", "vectors-1m-64")
    tables = [vectors_markdown(results[f"{PEERS}{name}"]) for name in names if f"{PEERS}{name}" in results]
    return [line for table in tables for line in (*table, "")][:-1]


TABLES: dict[str, Callable[[Results], list[str]]] = {
    "compression": compression_table,
    "latency": latency_table,
    "families": families_table,
    "recipes": recipes_table,
    "adaptation": adaptation_table,
    "learners": learners_table,
    "new_users": new_users_table,
    "swaps": swaps_table,
    "clicks": clicks_table,
    "texts": texts_table,
    "scoring": scoring_table,
    "scale": scale_table,
    "scale_lines": scale_lines,
    "distillation": distillation_table,
    "encoder": encoder_table,
    "schedules": schedules_table,
    "peers": peers_table,
    "vectors": vectors_table,
    "machine": machine_line,
}
_BLOCK = re.compile(r"(<!-- results:(\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def render(text: str, results: Results) -> str:
    """The text with every table written anew; raises `KeyError` for a table or a result that is not there."""
    return _BLOCK.sub(lambda block: block[1] + "\n".join(TABLES[block[2]](results)) + "\n" + block[3], text)


def read_results(folder: Path) -> dict[str, Json]:
    """Every `*.json` of a folder, of its `families/`, `adaptation/`, `recipes/`, ..., by name: `NAME`, `families/NAME`, ..."""
    found = {path.stem: path for path in sorted(folder.glob("*.json"))}
    for below in (FAMILIES, ADAPTATION, RECIPES, SCALE, SCORING, PEERS, FRONTIER):
        found |= {f"{below}{path.stem}": path for path in sorted((folder / below).glob("*.json"))}
    return {name: json.loads(path.read_text(encoding="utf-8")) for name, path in found.items()}


def main(argv: Sequence[str] | None = None) -> int:
    """Rewrite, or check, one file."""
    parser = argparse.ArgumentParser(
        prog="python -m pocketrec.benchmarks.readme_tables", description="Write the README's tables."
    )
    parser.add_argument("readme", type=Path)
    parser.add_argument("results", type=Path)
    parser.add_argument(
        "--check", action="store_true", help="change nothing; exit 1 where the file and the results disagree"
    )
    args = parser.parse_args(argv)
    before = args.readme.read_text(encoding="utf-8")
    after = render(before, read_results(args.results))
    if before == after:
        return 0
    if args.check:
        print(f"{args.readme}: its tables and {args.results} disagree; run without --check", file=sys.stderr)
        return 1
    args.readme.write_text(after, encoding="utf-8")
    return 0


def _measured(results: Results) -> list[tuple[str, str]]:
    """The rows whose results are committed."""
    return [(title, name) for title, name in COMPRESSION if name in results]


def _bundle(results: Json) -> Json:
    return next(system for system in results["systems"] if system["role"] == "bundle")


def _system(results: Json, name: str) -> Json:
    return next(system for system in results["systems"] if system["name"] == name)


def _ndcg(system: Json) -> float:
    return system["accuracy"]["metrics"]["ndcg@10"]["value"]


def _latency(results: Json, system: str, operation: str, size: int | None) -> Json:
    return next(
        row
        for row in results["latency"]
        if (row["system"], row["operation"], row["size"], row["threads"]) == (system, operation, size, 1)
    )


def _bytes(size: int) -> str:
    return f"{size / 1e6:.2f} MB" if size >= 1e6 else f"{size / 1e3:.0f} kB"


def _with_interval(interval: Json) -> str:
    return f"{interval['value']:.4f} ({interval['low']:.4f} to {interval['high']:.4f})"


def _time(ms: float) -> str:
    return f"{ms:.2f} ms" if ms >= 1 else f"{ms * 1e3:.0f} us"


if __name__ == "__main__":
    raise SystemExit(main())
