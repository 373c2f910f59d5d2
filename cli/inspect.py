"""`pocketrec inspect FILE`: what a bundle holds, where its bytes are, and what compressing it cost.

Opens the bundle as the runtime does, so every sha256 is checked first: a damaged bundle is refused, not
described. Needs the base install only. A field that the manifest does not have is shown as `-`, and text
from the manifest cannot move the cursor or colour the terminal: a bundle may come from anyone.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from .subparsers import Subparsers

MISSING = "-"


def add_parser(subparsers: Subparsers) -> None:
    """Declare the options of `pocketrec inspect`."""
    parser = subparsers.add_parser(
        "inspect", description="Show what a bundle holds, where its bytes are, and what compressing it cost."
    )
    parser.add_argument("file", metavar="FILE", help="a bundle, as `pocketrec compress` writes it")
    parser.add_argument("--json", action="store_true", help="print the manifest and the sizes as JSON")


def run(args: argparse.Namespace) -> int:
    """Print the bundle's content; 0, or the error of `Bundle.open`."""
    from ..runtime.bundle import Bundle

    bundle = Bundle.open(args.file, verify=True)
    if args.json:
        content = {"file": str(args.file), "size_bytes": bundle.size_bytes, "fingerprint": bundle.fingerprint}
        print(json.dumps({**content, "manifest": bundle.manifest}, indent=2, ensure_ascii=False))
    else:
        print("\n".join(describe(bundle.manifest, str(args.file), bundle.size_bytes, bundle.fingerprint)))
    return 0


def describe(manifest: Mapping[str, Any], file: str, size_bytes: int, fingerprint: str) -> Iterator[str]:
    """The lines that `pocketrec inspect` prints."""
    yield file
    yield from _indented(_table(_overview(manifest, size_bytes, fingerprint)))
    yield "\nparts"
    yield from _indented(_table(_parts(manifest, size_bytes), align="<>>"))
    if steps := _records(manifest.get("steps")):
        yield "\nsteps"
        yield from _indented(_table(_steps(steps), align="<<<<>"))
    for title in ("metrics", "recipe", "provenance"):
        if rows := list(_flat(manifest.get(title))):
            yield f"\n{title}"
            yield from _indented(_table(rows))


def _overview(manifest: Mapping[str, Any], size_bytes: int, fingerprint: str) -> Iterator[tuple[str, ...]]:
    model, items = _mapping(manifest, "model"), _mapping(manifest, "items")
    table, ids = _mapping(manifest, "item_table"), _mapping(items, "ids")
    shape = _words(model, but="architecture")
    architecture = f"{_text(model.get('architecture'))} ({_text(manifest.get('family'))})"
    yield "name", _text(manifest.get("name"))
    yield "architecture", architecture + (f": {shape}" if shape else "")
    if manifest.get("family") == "pointwise":
        yield from _pointwise(manifest)
        yield from _file(manifest, size_bytes, fingerprint)
        return
    id_details = _words(ids, but="kind")
    yield (
        "items",
        f"{_count(items.get('count'))}, ids {_text(ids.get('kind'))}"
        + (f" ({id_details})" if id_details else ""),
    )
    yield "item table", _rows(table)
    for number, tier in enumerate(_records(table.get("tiers")), 1):
        yield f"tier {number}", f"{_count(tier.get('count'))} items, {_rows(tier)}"
    yield "encoder", f"{_text(_mapping(manifest, 'encoder').get('weights'))} weights"
    yield "history", f"the last {_text(manifest.get('max_length'))} items"
    yield from _file(manifest, size_bytes, fingerprint)


def _rows(table: Mapping[str, Any]) -> str:
    """Of a table, or of one of its tiers."""
    match table.get("format"):
        case "tiers":
            stored = "by how often items occur"
        case "codebooks":
            stored = f"{_text(table.get('codebooks'))} of {_text(table.get('entries'))} entries"
        case _:
            stored = f"{_text(table.get('bits'))} bits"
    return f"{_text(table.get('format'))}, {stored}, width {_text(table.get('width'))}"


def _pointwise(manifest: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """What stands in the place of items, table and encoder: fields, tables by width, network."""
    features, tables = _mapping(manifest, "features"), _mapping(manifest, "field_tables")
    by_side: dict[str, list[str]] = {}
    for field in _records(features.get("fields")):
        by_side.setdefault(_text(field.get("side")), []).append(_text(field.get("name")))
    for side, names in by_side.items():
        yield f"{side} fields", ", ".join(names)
    threshold = features.get("threshold")
    yield "label", _text(features.get("label")) + ("" if threshold is None else f" >= {_text(threshold)}")
    for group in _records(tables.get("groups")):
        sizes = group.get("sizes")
        rows = sum(n for n in sizes if _is_number(n)) if isinstance(sizes, list) else None
        count = len(sizes) if isinstance(sizes, list) else MISSING
        yield (
            "tables",
            f"{count} of {_count(rows)} rows, {_text(group.get('format'))}, {_text(group.get('bits'))} bits, width {_text(group.get('width'))}",
        )
    yield "network", f"{_text(_mapping(manifest, 'network').get('weights'))} weights"
    yield "ranks with", "pocketrec.runtime.pointwise.PointwiseRanker"


def _file(manifest: Mapping[str, Any], size_bytes: int, fingerprint: str) -> Iterator[tuple[str, ...]]:
    yield "size", f"{_size(size_bytes)} ({size_bytes:,} bytes)"
    yield "fingerprint", fingerprint
    yield "format", _text(manifest.get("format_version"))


def _parts(manifest: Mapping[str, Any], size_bytes: int) -> Iterator[tuple[str, ...]]:
    yield "part", "bytes", "share"
    rest = size_bytes
    for part in _records(manifest.get("parts")):
        rest -= part["size"]
        yield _text(part["name"]), f"{part['size']:,}", f"{part['size'] / size_bytes:.1%}"
    yield "manifest, alignment", f"{rest:,}", f"{rest / size_bytes:.1%}"
    yield "total", f"{size_bytes:,}", "100.0%"


def _steps(steps: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, ...]]:
    figure = "auc" if any("auc" in _mapping(step, "after") for step in steps) else "ndcg10"
    yield "step", "size", "parameters", "AUC" if figure == "auc" else "NDCG@10", "time"
    for step in steps:
        before, after = _mapping(step, "before"), _mapping(step, "after")
        seconds = step.get("seconds")
        yield (
            _text(step.get("name")),
            _change(before.get("bytes"), after.get("bytes"), _size, ("smaller", "larger")),
            _change(before.get("parameters"), after.get("parameters"), _count, ("fewer", "more")),
            _change_of_figure(before.get(figure), after.get(figure)),
            f"{seconds:.1f} s" if _is_number(seconds) else MISSING,
        )


def _change(before: Any, after: Any, show: Callable[[Any], str], words: tuple[str, str]) -> str:
    """`3.51 MB -> 0.40 MB (8.8x smaller)`; the ratio only where something changed."""
    text = f"{show(before)} -> {show(after)}"
    if _is_number(before) and _is_number(after) and before > 0 and after > 0 and before != after:
        less, more = words
        text += f" ({before / after:.2f}x {less})" if before > after else f" ({after / before:.2f}x {more})"
    return text


def _change_of_figure(before: Any, after: Any) -> str:
    """`0.0579 -> 0.0575 (99.3%)`: what is kept, in percent."""
    text = " -> ".join(f"{value:.4f}" if _is_number(value) else MISSING for value in (before, after))
    if _is_number(before) and _is_number(after) and before > 0:
        text += f" ({after / before:.1%})"
    return text


def _flat(value: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """The leaves of nested objects, as (dotted name, text).

    >>> list(_flat({"versions": {"torch": "2.13.0"}, "seed": 0, "k": [5, 10]}))
    [('versions.torch', '2.13.0'), ('seed', '0'), ('k', '5, 10')]
    """
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(inner, f"{prefix}.{_text(key)}" if prefix else _text(key))
    elif isinstance(value, list) and any(isinstance(inner, Mapping) for inner in value):
        for index, inner in enumerate(value):
            yield from _flat(inner, f"{prefix}[{index}]")
    elif value is not None:
        yield prefix, ", ".join(map(_text, value)) if isinstance(value, list) else _text(value)


def _table(rows: Iterator[tuple[str, ...]] | Sequence[tuple[str, ...]], align: str = "<<") -> list[str]:
    """Columns as wide as their widest cell, two spaces between them."""
    rows = list(rows)
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            f"{cell:{side}{width}}" for cell, side, width in zip(row, align, widths, strict=True)
        ).rstrip()
        for row in rows
    ]


def _indented(lines: Sequence[str]) -> list[str]:
    return [f"  {line}" for line in lines]


def _text(value: Any) -> str:
    """One printable line, whatever a manifest holds.

    >>> print(_text(None), _text(0.05794), _text("\\x1b[31mred"))
    - 0.05794 '\\x1b[31mred'
    """
    if value is None:
        return MISSING
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1 else f"{value:,.6g}"
    text = str(value)
    return text if text.isprintable() else repr(text)


def _count(value: Any) -> str:
    return f"{value:,}" if _is_number(value) else _text(value)


def _size(value: Any) -> str:
    """Bytes in the decimal units that app stores print.

    >>> _size(421_332), _size(3_512_000), _size(812)
    ('421.3 kB', '3.51 MB', '812 B')
    """
    if not _is_number(value):
        return _text(value)
    if value >= 1e6:
        return f"{value / 1e6:,.2f} MB"
    return f"{value / 1e3:.1f} kB" if value >= 1e3 else f"{value} B"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _words(fields: Mapping[str, Any], *, but: str) -> str:
    """The plain fields of an object on one line: `layers 2, heads 2`."""
    plain = {
        key: value for key, value in fields.items() if key != but and isinstance(value, str | int | float)
    }
    return ", ".join(f"{_text(key)} {_text(value)}" for key, value in plain.items())


def _mapping(parent: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = parent.get(key)
    return value if isinstance(value, Mapping) else {}


def _records(value: Any) -> list[Mapping[str, Any]]:
    return [entry for entry in value if isinstance(entry, Mapping)] if isinstance(value, list) else []
