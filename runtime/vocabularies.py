"""The tokens of a pointwise model's fields: one part of the bundle, most of it text, so it is deflated.

The part is zlib's deflate of a JSON object: under the name of each vocabulary its tokens in the order of the rows from 1
on (row 0 is any other token), integers that follow each other as `{"first": a, "count": n}`. Fields that share their
tokens name the same vocabulary in the manifest. It is read whole, and only up to the size that the manifest says.

An integer answers to its decimal text and the other way round, since what is a number in one place is text in another
(a form, a query, a log); otherwise a token is known by its type, as item ids are.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .bundle import Bundle
from .errors import BundleError, InputError
from .features import FeatureSchema
from .item_ids import ItemIds

PART = "vocabularies"
MAX_TEXT_BYTES = 1 << 28
"""A hostile manifest cannot make us unpack more than this."""


def pack_vocabularies(vocabularies: Mapping[str, ItemIds]) -> tuple[bytes, dict[str, Any]]:
    """The part, and what the manifest says of it: its size, and the vocabulary of each field.

    Args:
        vocabularies: by field; those that are one and the same object are stored once.
    """
    names: dict[int, str] = {}
    of_field = {field: names.setdefault(id(ids), field) for field, ids in vocabularies.items()}
    content = {name: _described(vocabularies[name]) for name in dict.fromkeys(of_field.values())}
    text = json.dumps(content, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass")
    shared = {field: name for field, name in of_field.items() if field != name}
    return zlib.compress(text, 9), {"text_bytes": len(text), "shared": shared}


def read_vocabularies(bundle: Bundle, schema: FeatureSchema) -> dict[str, ItemIds]:
    """The tokens of each token and token_seq field; raises `BundleError` where they do not fit the schema."""
    described = bundle.manifest.get(PART)
    where = f"{bundle.path}: the vocabularies"
    try:
        size, shared = described["text_bytes"], described["shared"]  # type: ignore[index]
        if type(size) is not int or not 0 < size <= MAX_TEXT_BYTES:
            raise ValueError(f"{size!r:.40} bytes of text")
        unpacker = zlib.decompressobj()
        text = unpacker.decompress(bundle.part(PART).tobytes(), size + 1)
        if len(text) != size:
            raise ValueError(f"other than {size} bytes of text")
        content = json.loads(text.decode("utf-8", "surrogatepass"))
        found = {name: _read(tokens) for name, tokens in content.items()}
        named = {
            field.name: found[shared.get(field.name, field.name)] for field in schema.of("token", "token_seq")
        }
    except (zlib.error, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        said = " ".join(str(error).split())[:100]
        raise BundleError(f"{where} cannot be read ({said}); export the bundle again") from None
    for field in schema.of("token", "token_seq"):
        if len(named[field.name]) + 1 != field.size:
            raise BundleError(
                f"{where} have {len(named[field.name])} tokens of {field.name!r}, its tables {field.size} rows; export the bundle again"
            )
    return named


def token_rows(vocabulary: ItemIds, tokens: Iterable[Any]) -> NDArray[np.int64]:
    """Rows of tokens: int64 (n,), 0 where a token is unknown or None.

    >>> token_rows(ItemIds.from_sequence([24, 53]), [53, "24", None, 99]).tolist()
    [2, 1, 0, 0]
    """
    if isinstance(tokens, np.ndarray) and tokens.dtype.kind in "iu" and vocabulary.kind != "utf8":
        return vocabulary.rows(tokens) + 1
    as_text = vocabulary.kind == "utf8"
    return vocabulary.rows([_as_stored(token, as_text) for token in tokens]) + 1


def _as_stored(token: Any, as_text: bool) -> Any:
    if as_text:
        return (
            str(int(token))
            if isinstance(token, int | np.integer) and not isinstance(token, bool)
            else _hashable(token)
        )
    if (
        isinstance(token, str)
        and len(token) < 20
        and token.isascii()
        and token.isdecimal()
        and str(int(token)) == token
    ):
        return int(token)
    return _hashable(token)


def _hashable(token: Any) -> Any:
    if token is None or isinstance(token, str | int | float | np.integer | np.floating):
        return token
    raise InputError(f"feature: got {token!r:.60} for a token, expected a string, an integer or None")


def _described(ids: ItemIds) -> Any:
    described = ids.describe()
    if described["kind"] == "range":
        return {"first": described["first"], "count": described["count"]}
    return ids.ids(range(len(ids)))


def _read(tokens: Any) -> ItemIds:
    if isinstance(tokens, dict):
        return ItemIds.from_bytes({"kind": "range", **tokens}, b"")
    if not isinstance(tokens, list):
        raise ValueError(f"tokens are {tokens!r:.40}")
    return ItemIds.from_sequence(tokens)
