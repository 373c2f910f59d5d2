"""A tokenizer with the tokens that titles use, and no others.

A WordPiece tokenizer cuts a word greedily into the longest tokens that it has. Without tokens that the titles never use
they are still cut as before: whichever token was the longest is used, so it is there. Single characters stay whatever the
titles use, so that every word of a later title that the whole vocabulary could spell can still be spelled. Other
tokenizers (BPE, unigram) are kept whole: what they merge depends on tokens that never show.

The table of token vectors shrinks with it; `kept` says which row of the old table is which row of the new one. Row 0
becomes the unknown token, and the marks around a text ([CLS], [SEP]) go: a bag of tokens has no use for them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray


def prune_tokenizer(raw: bytes, used: Iterable[int]) -> tuple[bytes, NDArray[np.int64]]:
    """The smaller `tokenizer.json`, and its tokens' former ids, int64 (V,).

    Args:
        raw: a `tokenizer.json`.
        used: ids of the tokens that the titles are cut into.
    """
    said: dict[str, Any] = json.loads(raw)
    model = said.get("model", {})
    if model.get("type") != "WordPiece" or model.get("unk_token") not in model.get("vocab", {}):
        return raw, np.arange(_count(said), dtype=np.int64)
    vocabulary: dict[str, int] = model["vocab"]
    unknown, prefix = model["unk_token"], model.get("continuing_subword_prefix", "##")
    wanted = set(used)
    kept = sorted(
        (old, token)
        for token, old in vocabulary.items()
        if token != unknown and (old in wanted or len(token.removeprefix(prefix)) == 1)
    )
    tokens = [unknown, *(token for _, token in kept)]
    pruned = {
        **said,
        "model": {**model, "vocab": {token: n for n, token in enumerate(tokens)}},
        "added_tokens": [
            {**entry, "id": 0} for entry in said.get("added_tokens", []) if entry["content"] == unknown
        ],
        "post_processor": None,
        "padding": None,
        "truncation": None,
    }
    text = json.dumps(pruned, ensure_ascii=False, separators=(",", ":"))
    return text.encode(), np.array([vocabulary[token] for token in tokens], np.int64)


def _count(said: dict[str, Any]) -> int:
    vocabulary = said.get("model", {}).get("vocab", {})
    highest = len(vocabulary) - 1
    for entry in said.get("added_tokens", []):
        highest = max(highest, int(entry["id"]))
    return highest + 1
