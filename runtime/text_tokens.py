"""Tokens of item texts: the tokenizer of a bundle, without torch or transformers.

The part `tokenizer.json` is the file that Hugging Face's `tokenizers` writes, a description and no code. Reading it needs
that package, the extra `embed`; nothing else of the runtime does.
"""

from __future__ import annotations

import html
from collections.abc import Iterable
from typing import Any

from .errors import BundleError, InputError, MissingExtraError


def clean_text(text: Any) -> str:
    """A title as it is tokenized: HTML entities resolved (shops' logs are full of them), runs of whitespace one space.

    >>> clean_text("Phantasy Star Online,  Episode I &amp; II\\n")
    'Phantasy Star Online, Episode I & II'

    Raises:
        InputError: not a string.
    """
    if not isinstance(text, str):
        raise InputError(f"text {text!r:.60} of type {type(text).__name__}: expected a string")
    valid = text.encode("utf-8", "replace").decode("utf-8")  # half of a surrogate pair is no character
    return " ".join(html.unescape(valid).split())


class Tokens:
    """The tokenizer of a bundle; shared by threads.

    Args:
        raw: a `tokenizer.json`.
        max_tokens: longer texts are cut.
        where: named in errors.
        special: whether the marks around a text ([CLS], [SEP]) are tokens too, as transformers expect.

    Raises:
        MissingExtraError: the package `tokenizers` is not installed.
        BundleError: not a tokenizer that this version of `tokenizers` reads.
    """

    def __init__(self, raw: bytes, *, max_tokens: int, where: str, special: bool) -> None:
        try:
            from tokenizers import Tokenizer
        except ModuleNotFoundError as error:
            if error.name != "tokenizers":
                raise
            raise MissingExtraError("embedding a text", "embed") from None
        try:
            self._tokenizer: Any = Tokenizer.from_str(raw.decode("utf-8"))
        except Exception as error:  # noqa: BLE001 -- tokenizers raises plain Exception for whatever it cannot read
            raise BundleError(
                f"{where}: tokenizer.json cannot be read ({str(error)[:120]}); export the bundle again"
            ) from None
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(max_tokens)
        self._special = special

    @property
    def count(self) -> int:
        """Tokens in the vocabulary."""
        return self._tokenizer.get_vocab_size(with_added_tokens=True)

    def encode(self, texts: Iterable[Any]) -> list[list[int]]:
        """Token ids of each text, cleaned (`clean_text`); an empty list where there are none.

        Raises:
            InputError: one of them is not a string; named by its position.
        """
        cleaned = [clean_text(text) for text in texts]
        encoded = self._tokenizer.encode_batch(cleaned, add_special_tokens=self._special)
        return [found.ids for found in encoded]
