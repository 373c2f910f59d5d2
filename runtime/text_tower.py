"""The text tower: from an item's title to its vector, so that an item the model never saw can be ranked on the device.

Two forms, told apart by `text.form` in the manifest; both give vectors in the space of the bundle's item table:

`bag`: the title's tokens i (and, where the bundle has rows for them, its pairs of neighbouring tokens, hashed) each have
a vector e_i in a quantized table and a weight a_i,

    z = sum_i softmax(a)_i e_i          vector = z + relu(z W_1 + b_1) W_2 + b_2

in numpy: no session, microseconds a title. The parts are `token_codes`, `token_scales` (as the item table's),
`token_weights`, and `text_head` for the second term.

`transformer`: the encoder that the tower was distilled from, or a smaller one, as an ONNX graph
(input_ids, attention_mask, token_type_ids -> hidden states), pooled and projected:

    p = mean of the hidden states (or the first one), divided by its length where `normalize` says so
    vector = p W + b

The parts are `text_encoder.onnx` and `text_projection`. Titles of equal length share a call, so nothing is padded.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from .bundle import Bundle
from .errors import BundleError
from .item_table import QuantizedRows, row_bytes
from .text_tokens import Tokens

UNKNOWN = 0
"""Row of the token table that a text without any token gets."""
_FIRST, _SECOND = 31_337, 7_919  # primes: neighbouring token ids must not collide in rows
_TEXTS_AT_ONCE = 32


class TextTower(Protocol):
    """Titles to item vectors; shared by threads."""

    def embed(self, texts: Iterable[str]) -> NDArray[np.float32]:
        """Vectors of n texts in the item space, float32 (n, D).

        Raises:
            InputError: something is not a string.
        """
        ...


@dataclass(frozen=True, slots=True, eq=False)
class BagTower:
    """Tokens and pairs of tokens, weighted and summed."""

    tokens: Tokens
    table: QuantizedRows
    """V token rows, then `pairs` rows for hashed pairs; width D."""
    weights: NDArray[np.float32]
    """float32 (V + pairs,): a."""
    n_tokens: int
    """V."""
    pairs: int
    head: tuple[NDArray[np.float32], ...]
    """W_1 (D, F), b_1 (F,), W_2 (F, D), b_2 (D,); empty for none."""

    def embed(self, texts: Iterable[str]) -> NDArray[np.float32]:
        """See `TextTower.embed`."""
        encoded = self.tokens.encode(texts)
        sums = np.empty((len(encoded), self.table.width), np.float32)
        for n, ids in enumerate(encoded):
            rows = bag_rows(ids, self.n_tokens, self.pairs)
            weights = np.exp(self.weights[rows] - self.weights[rows].max())
            sums[n] = (weights / weights.sum()) @ self.table.lookup(rows)
        if not self.head:
            return sums
        w_1, b_1, w_2, b_2 = self.head
        return sums + np.maximum(sums @ w_1 + b_1, 0) @ w_2 + b_2


@dataclass(frozen=True, slots=True, eq=False)
class TransformerTower:
    """A transformer over the tokens, pooled and projected."""

    tokens: Tokens
    session: onnxruntime.InferenceSession
    mean: bool
    """Pools the mean of the hidden states; else the first."""
    normalize: bool
    projection: NDArray[np.float32]
    """float32 (H + 1, D): W, and b as its last row."""

    def embed(self, texts: Iterable[str]) -> NDArray[np.float32]:
        """See `TextTower.embed`."""
        return self.pooled(texts) @ self.projection[:-1] + self.projection[-1]

    def pooled(self, texts: Iterable[str]) -> NDArray[np.float32]:
        """What the transformer says of n texts before the projection, float32 (n, H)."""
        encoded = [ids or [UNKNOWN] for ids in self.tokens.encode(texts)]
        pooled = np.empty((len(encoded), len(self.projection) - 1), np.float32)
        names = {given.name for given in self.session.get_inputs()}
        lengths = np.array([len(ids) for ids in encoded], np.int64)
        for length in np.unique(lengths).tolist():
            same = np.flatnonzero(lengths == length)
            for start in range(0, len(same), _TEXTS_AT_ONCE):
                some = same[start : start + _TEXTS_AT_ONCE]
                ids = np.array([encoded[n] for n in some.tolist()], np.int64).reshape(len(some), length)
                given = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": 0 * ids}
                hidden: Any = self.session.run(None, {k: v for k, v in given.items() if k in names})[0]
                pooled[some] = hidden.mean(axis=1) if self.mean else hidden[:, 0]
        if self.normalize:
            pooled /= np.maximum(np.linalg.norm(pooled, axis=1, keepdims=True), np.float32(1e-12))
        return pooled


def bag_rows(ids: list[int], n_tokens: int, pairs: int) -> NDArray[np.int64]:
    """Rows of the token table for the tokens of one text: int64 (n,), at least one.

    >>> bag_rows([3, 1], n_tokens=10, pairs=8).tolist()
    [3, 1, 12]
    """
    tokens = np.array(ids or [UNKNOWN], np.int64)
    if not pairs or len(tokens) < 2:
        return tokens
    hashed = (tokens[:-1] * _FIRST + tokens[1:] * _SECOND) % pairs
    return np.concatenate([tokens, n_tokens + hashed])


def read_text_tower(bundle: Bundle, *, threads: int = 1) -> TextTower | None:
    """The text tower of a bundle; None where it has none.

    Raises:
        MissingExtraError: the package `tokenizers` is not installed.
        BundleError: the manifest and the parts do not fit.
    """
    said = bundle.manifest.get("text")
    if said is None:
        return None
    where = str(bundle.path)
    width = bundle.manifest["item_table"]["width"]
    tokens = Tokens(
        bundle.part("tokenizer.json").tobytes(), max_tokens=_number(said, "max_tokens", where), where=where,
        special=said.get("form") == "transformer",
    )  # fmt: skip
    match said.get("form"):
        case "bag":
            return _read_bag(bundle, said, tokens, width)
        case "transformer":
            projection = bundle.array(
                "text_projection", np.float32, (_number(said, "hidden", where) + 1, width)
            )
            session = _session(bundle, threads)
            return TransformerTower(
                tokens, session, said.get("pooling") == "mean", said.get("normalize") is True, projection
            )
        case unknown:
            raise BundleError(
                f"{where}: text tower of form {unknown!r}, this pocketrec reads bag and transformer; upgrade pocketrec"
            )


def _read_bag(bundle: Bundle, said: dict[str, Any], tokens: Tokens, width: int) -> BagTower:
    where = str(bundle.path)
    n_tokens, bits = _number(said, "tokens", where), _number(said, "bits", where)
    pairs, inner = _number(said, "pairs", where, least=0), _number(said, "inner", where, least=0)
    if tokens.count != n_tokens:
        raise BundleError(
            f"{where}: a tokenizer of {tokens.count} tokens for {n_tokens} rows; export the bundle again"
        )
    n_rows = n_tokens + pairs
    table = QuantizedRows(
        codes=bundle.array("token_codes", np.uint8, (n_rows, row_bytes(width, bits))),
        scales=bundle.array("token_scales", np.float16, (n_rows,)),
        scale_unit=float(said["scale_unit"]),
        bits=bits,
        width=width,
    )
    weights = bundle.array("token_weights", np.float16, (n_rows,)).astype(np.float32)
    head: tuple[NDArray[np.float32], ...] = ()
    if inner:
        flat = bundle.array("text_head", np.float16, (head_size(width, inner),)).astype(np.float32)
        ends = np.cumsum([width * inner, inner, inner * width])
        w_1, b_1, w_2, b_2 = np.split(flat, ends.tolist())
        head = (w_1.reshape(width, inner), b_1, w_2.reshape(inner, width), b_2)
    return BagTower(tokens, table, weights, n_tokens, pairs, head)


def head_size(width: int, inner: int) -> int:
    """Numbers in the part `text_head`: W_1, b_1, W_2, b_2, one after the other."""
    return 2 * width * inner + inner + width


def _number(said: dict[str, Any], name: str, where: str, *, least: int = 1) -> int:
    value = said.get(name)
    if type(value) is not int or value < least:
        raise BundleError(f"{where}: text tower with {name} {value!r}; export the bundle again")
    return value


def _session(bundle: Bundle, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(
            bundle.part("text_encoder.onnx").tobytes(), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # onnxruntime raises many types of its own, none of them public
        raise BundleError(
            f"{bundle.path}: onnxruntime {onnxruntime.__version__} refuses part 'text_encoder.onnx': {error}"
        ) from error
