"""A small transformer tower: BERT with one or two narrow layers, exported and quantized by Optimum.

Its word vectors begin as the leading principal directions of the encoder's (so that what is near stays near, at a third of
the width), over the tokens that titles use; position vectors and layers begin at random. It is what a bag of tokens cannot
be, a function of their order, at a few hundred microseconds a title.
"""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ...runtime.errors import InputError
from .hf_encoder import export_with_optimum
from .text_bundle import transformer_parts

WORD_DEVIATION = 0.5
"""Of a coordinate of a word vector; LayerNorm follows, so that only the share against positions (.02) matters."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SmallTransformerConfig:
    """Its shape."""

    hidden: int = 128
    layers: int = 1
    heads: int = 4

    def __post_init__(self) -> None:
        if min(self.hidden, self.layers, self.heads) < 1 or self.hidden % self.heads:
            raise InputError(
                f"text transformer: {self}; expected heads that divide the width, each at least 1"
            )


class SmallTransformer(nn.Module):
    """A `TowerNet`; `word_vectors` float32 (V, H') are the encoder's, of the kept tokens."""

    def __init__(
        self,
        word_vectors: NDArray[np.float32],
        width: int,
        config: SmallTransformerConfig,
        *,
        max_tokens: int,
        seed: int,
    ) -> None:
        super().__init__()
        from transformers import BertConfig, BertModel

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.bert = BertModel(
                BertConfig(
                    vocab_size=len(word_vectors), hidden_size=config.hidden, num_hidden_layers=config.layers,
                    num_attention_heads=config.heads, intermediate_size=4 * config.hidden, type_vocab_size=2,
                    max_position_embeddings=max_tokens, hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.1,
                ),
                add_pooling_layer=False,
            )  # fmt: skip
            self.out = nn.Linear(config.hidden, width)
        words = torch.from_numpy(word_vectors)
        centered = words - words.mean(0)
        _, singular, directions = torch.linalg.svd(centered, full_matrices=False)
        n = min(config.hidden, len(singular))
        scale = WORD_DEVIATION * (len(words) / singular[:n].square().mean()) ** 0.5
        with torch.no_grad():
            self.bert.embeddings.word_embeddings.weight[:, :n] = centered @ directions[:n].T * scale

    def forward(self, rows: Tensor) -> Tensor:
        mask = rows >= 0  # (n, L)
        hidden = self.bert(
            input_ids=rows.clamp(min=0), attention_mask=mask.long()
        ).last_hidden_state  # (n, L, H)
        pooled = (hidden * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True)
        return self.out(pooled)  # (n, D)

    def move_(self, scale: float, shift: NDArray[np.float32]) -> None:
        """From now on every vector v is scale * v + shift."""
        with torch.no_grad():
            self.out.weight.mul_(scale)
            self.out.bias.mul_(scale).add_(torch.from_numpy(shift))

    def stored(self, tokenizer: bytes, *, max_tokens: int) -> tuple[dict[str, Any], dict[str, Any]]:
        """The manifest's `text` and the parts: int8, by Optimum's `ORTQuantizer`."""
        with tempfile.TemporaryDirectory(prefix="pocketrec-small.") as folder:
            self.bert.save_pretrained(folder, safe_serialization=True)
            (Path(folder) / "tokenizer.json").write_bytes(tokenizer)
            graph = export_with_optimum(Path(folder), int8=True)
        projection = torch.cat([self.out.weight.T, self.out.bias[None]]).detach().numpy().copy()
        return transformer_parts(
            graph, tokenizer, projection, mean=True, normalize=False, max_tokens=max_tokens
        )
