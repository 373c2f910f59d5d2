"""A Hugging Face text encoder, read from a folder and exported by Optimum, with nothing of the folder run.

What is read: `config.json`, `tokenizer.json` (or `vocab.txt`), `model.safetensors` (or `pytorch_model.bin`, through the
same inert reader as every other checkpoint), and how sentence-transformers pools, from `1_Pooling/config.json`. These are
laid into a fresh folder, cleaned of references to code, and that is what transformers and Optimum see: no
`trust_remote_code`, no network.

A text's vector is the mean of the last hidden states (or the first token's, where the folder says so), divided by its
length where `modules.json` normalizes:

    Reimers and Gurevych 2019, "Sentence-BERT", arXiv:1908.10084, section 3
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import logging
import os
import tempfile
import warnings
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from ...runtime.errors import InputError, MissingExtraError
from ...runtime.text_tokens import Tokens
from ...runtime.text_tower import TransformerTower
from ..checkpoint import Checkpoint, read_checkpoint

PREFIX = "hf:"
"""What an argument of the command line that names such a folder begins with."""
BERT_FAMILY = (
    "bert", "distilbert", "roberta", "xlm-roberta", "camembert", "mpnet", "electra", "albert",
)  # fmt: skip
"""`model_type`s of bidirectional encoders that Optimum exports with input_ids and attention_mask."""
TEXT_MODULES = ("transformers", "optimum.onnxruntime", "tokenizers")
MAX_TOKENS = 64
"""Of one title: the longest of 16,859 games has 64, and time grows with it."""
MAX_JSON_BYTES = 64 << 20
"""Of one of the folder's JSON files: the largest vocabularies (250,000 tokens) need 17 MB."""


@dataclass(frozen=True, slots=True, eq=False)
class HfEncoder:
    """A text encoder, ready to run in onnxruntime."""

    name: str
    """The folder's."""
    model_type: str
    graph: bytes
    """ONNX, float32: input_ids, attention_mask (and token_type_ids) -> hidden states."""
    tokenizer: bytes
    """`tokenizer.json`."""
    word_vectors: NDArray[np.float32]
    """float32 (V, H'): the embedding of each token before the first layer."""
    hidden: int
    """H, width of the hidden states."""
    mean: bool
    normalize: bool
    max_tokens: int
    source: Checkpoint
    """The file of weights."""

    def tower(self, projection: NDArray[np.float32], *, threads: int = 1) -> TransformerTower:
        """The encoder with a projection, float32 (H + 1, D), as the runtime runs it."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(self.graph, options, providers=["CPUExecutionProvider"])
        tokens = Tokens(self.tokenizer, max_tokens=self.max_tokens, where=self.name, special=True)
        return TransformerTower(tokens, session, self.mean, self.normalize, projection)

    def embed(self, texts: list[str], *, threads: int = 1) -> NDArray[np.float32]:
        """The encoder's own vectors of n texts, float32 (n, H)."""
        return self.tower(np.zeros((self.hidden + 1, 1), np.float32), threads=threads).pooled(texts)


def load_hf_encoder(folder: str | os.PathLike[str]) -> HfEncoder:
    """Read and export the encoder in a folder; takes seconds.

    Raises:
        MissingExtraError: the extra `text` is not installed.
        InputError: no such folder, no encoder of the BERT family, or weights that do not fit its config.
    """
    folder = Path(os.fspath(folder).removeprefix(PREFIX))
    if not folder.is_dir():
        found = "a file" if folder.exists() else "no such folder"
        raise InputError(f"{folder}: {found}; expected a folder with config.json and model.safetensors")
    config = _read_json(folder / "config.json")
    model_type = config.get("model_type")
    if model_type not in BERT_FAMILY:
        raise InputError(
            f"{folder}: model_type {model_type!r:.40}, expected an encoder of the BERT family: {', '.join(BERT_FAMILY)}"
        )
    missing = [name for name in TEXT_MODULES if importlib.util.find_spec(name.partition(".")[0]) is None]
    if missing:
        raise MissingExtraError(f"reading {PREFIX}{folder} ({missing[0]} is missing)", "text")
    with tempfile.TemporaryDirectory(prefix="pocketrec-text.") as stage:
        source = _lay_out(folder, config, Path(stage))
        graph, word_vectors, hidden = _export(folder, Path(stage))
        tokenizer = (Path(stage) / "tokenizer.json").read_bytes()
    pooling = _read_json(folder / "1_Pooling" / "config.json", optional=True)
    modules = folder / "modules.json"
    return HfEncoder(
        name=folder.resolve().name,
        model_type=str(model_type),
        graph=graph,
        tokenizer=tokenizer,
        word_vectors=word_vectors,
        hidden=hidden,
        mean=not pooling.get("pooling_mode_cls_token", False),
        normalize="Normalize" in modules.read_text("utf-8") if modules.is_file() else True,
        max_tokens=MAX_TOKENS,
        source=source,
    )


def export_with_optimum(folder: Path, *, int8: bool = False) -> bytes:
    """The encoder of a folder as an ONNX graph, by Optimum; `int8`: dynamically quantized by its `ORTQuantizer`.

    The quantized form is Optimum's for AVX2 with a scale a channel, which is right on every x86: 7 bits for weights, since
    without VNNI the kernels of uint8 x int8 saturate.
    """
    from optimum.onnxruntime import ORTModelForFeatureExtraction, ORTQuantizer
    from optimum.onnxruntime.configuration import AutoQuantizationConfig

    with tempfile.TemporaryDirectory(prefix="pocketrec-onnx.") as target, _quiet():
        model = ORTModelForFeatureExtraction.from_pretrained(
            folder, export=True, local_files_only=True, trust_remote_code=False
        )
        model.save_pretrained(target)
        if int8:
            config = AutoQuantizationConfig.avx2(is_static=False, per_channel=True)
            ORTQuantizer.from_pretrained(target).quantize(save_dir=target, quantization_config=config)
            return (Path(target) / "model_quantized.onnx").read_bytes()
        return (Path(target) / "model.onnx").read_bytes()


def _lay_out(folder: Path, config: dict[str, Any], stage: Path) -> Checkpoint:
    """Copy what is needed, as data, into `stage`; the weights."""
    from safetensors.torch import save_file

    plain = {key: value for key, value in config.items() if key not in ("auto_map", "custom_pipelines")}
    (stage / "config.json").write_text(json.dumps(plain), "utf-8")
    _lay_out_tokenizer(folder, stage)
    safe, pickled = folder / "model.safetensors", folder / "pytorch_model.bin"
    if not (safe.is_file() or pickled.is_file()):
        raise InputError(
            f"{folder}: neither model.safetensors nor pytorch_model.bin; expected the encoder's weights"
        )
    source = read_checkpoint(safe if safe.is_file() else pickled)
    tensors = {name: tensor.clone().contiguous() for name, tensor in source.tensors.items()}
    save_file(tensors, stage / "model.safetensors", metadata={"format": "pt"})
    return source


def _lay_out_tokenizer(folder: Path, stage: Path) -> None:
    ready, vocabulary = folder / "tokenizer.json", folder / "vocab.txt"
    if ready.is_file():
        _read_json(ready)
        (stage / "tokenizer.json").write_bytes(ready.read_bytes())
    elif vocabulary.is_file():
        from transformers import BertTokenizerFast

        said = _read_json(folder / "tokenizer_config.json", optional=True)
        lower = said.get("do_lower_case", True) is not False
        made = BertTokenizerFast(vocab_file=str(vocabulary), do_lower_case=lower)
        (stage / "tokenizer.json").write_text(made.backend_tokenizer.to_str(), "utf-8")
    else:
        raise InputError(f"{folder}: neither tokenizer.json nor vocab.txt; expected the encoder's tokenizer")


def _export(folder: Path, stage: Path) -> tuple[bytes, NDArray[np.float32], int]:
    """The graph, the word vectors and the hidden width."""
    from transformers import AutoConfig, AutoModel

    try:
        with _quiet():
            config = AutoConfig.from_pretrained(stage, local_files_only=True, trust_remote_code=False)
            model, found = AutoModel.from_pretrained(
                stage, config=config, local_files_only=True, trust_remote_code=False, output_loading_info=True
            )
    except Exception as error:  # noqa: BLE001 -- transformers raises many types for a config that makes no sense
        raise InputError(
            f"{folder}: transformers cannot load it ({str(error).splitlines()[0][:160]})"
        ) from None
    absent = [name for name in found["missing_keys"] if "pooler" not in name and "position_ids" not in name]
    if absent or found["mismatched_keys"]:
        odd = absent[0] if absent else found["mismatched_keys"][0]
        raise InputError(f"{folder}: the weights do not fit config.json; missing or misshapen: {odd}")
    word_vectors = model.get_input_embeddings().weight.detach().float().numpy().copy()
    if not np.isfinite(word_vectors).all():
        raise InputError(f"{folder}: weights that are not finite")
    return export_with_optimum(stage), word_vectors, int(model.config.hidden_size)


def _read_json(path: Path, *, optional: bool = False) -> dict[str, Any]:
    if optional and not path.is_file():
        return {}
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise InputError(f"{path}: {path.stat().st_size:,} bytes, at most {MAX_JSON_BYTES:,} are read")
        content = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise InputError(
            f"{path}: no such file; is {path.parent} the folder of a Hugging Face model?"
        ) from None
    except (ValueError, RecursionError):
        raise InputError(f"{path}: not JSON; is {path.parent} the folder of a Hugging Face model?") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: not a JSON object; is {path.parent} the folder of a Hugging Face model?")
    return content


@contextlib.contextmanager
def _quiet() -> Generator[None]:
    """The exporters warn about themselves, on loggers and on stderr; none of it is for our users."""
    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with (
            warnings.catch_warnings(),
            open(os.devnull, "w") as nowhere,
            contextlib.redirect_stderr(nowhere),
            contextlib.redirect_stdout(nowhere),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(previous)
