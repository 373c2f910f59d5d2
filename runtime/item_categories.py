"""Categories that ship with a bundle: the part `item_categories`, for an app that has none of its own.

JSON, UTF-8: {"names": ["Comedy", ...], "of_item": [[0, 3], [], ...]}       numbers of names, one list a row
"""

from __future__ import annotations

import json
import os
from typing import Any

from .bundle import Bundle, write_bundle
from .errors import BundleError
from .item_ids import ItemIds
from .rank_options import Categories

PART = "item_categories"


def categories_part(item_ids: ItemIds, categories: Categories) -> bytes:
    """The part for the items of a bundle; items that `categories` does not have, have none.

    >>> categories_part(ItemIds.from_sequence([1, 2]), {2: "a"})
    b'{"names":["a"],"of_item":[[],[0]]}'
    """
    number: dict[str, int] = {}
    of_item: list[list[int]] = []
    for item_id in item_ids.ids(range(len(item_ids))):
        found = categories.get(item_id, ())
        names = [found] if isinstance(found, str) else sorted({*found})
        of_item.append([number.setdefault(name, len(number)) for name in names])
    content = {"names": list(number), "of_item": of_item}
    return json.dumps(content, separators=(",", ":"), ensure_ascii=False).encode()


def with_categories(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    categories: Categories,
    *,
    overwrite: bool = False,
) -> int:
    """Write a bundle anew with the categories of its items; returns its size in bytes.

    It is another bundle: what users learned with the old one stays with that.

    Raises:
        BundleError: the source is not a bundle, or damaged.
        FileExistsError: the target exists and `overwrite` is false.
    """
    bundle = Bundle.open(source)
    items = bundle.manifest["items"]["ids"]
    ids = ItemIds.from_bytes(items, bundle.part("item_ids").tobytes() if "item_ids" in bundle else b"")
    manifest = {name: v for name, v in bundle.manifest.items() if name not in ("parts", "format_version")}
    parts = {part["name"]: bundle.part(part["name"]) for part in bundle.manifest["parts"]}
    return write_bundle(
        target, manifest, {**parts, PART: categories_part(ids, categories)}, overwrite=overwrite
    )


def read_categories(bundle: Bundle, item_ids: ItemIds) -> Categories | None:
    """The categories by item id; None where the bundle has none.

    Raises:
        BundleError: the part is not as `categories_part` writes it.
    """
    if PART not in bundle:
        return None
    try:
        content: Any = json.loads(bundle.part(PART).tobytes())
        names = [str(name) for name in content["names"]]
        of_item = [tuple(names[n] for n in numbers if n >= 0) for numbers in content["of_item"]]
    except (ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
        raise BundleError(
            f"{bundle.path}: part {PART!r} is not one that pocketrec writes ({error!r}); export the bundle again"
        ) from None
    if len(of_item) != len(item_ids):
        raise BundleError(
            f"{bundle.path}: categories of {len(of_item)} items, the bundle has {len(item_ids)}; export the bundle again"
        )
    ids = item_ids.ids(range(len(of_item)))
    return {item_id: found for item_id, found in zip(ids, of_item, strict=True) if found}
