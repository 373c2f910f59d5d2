"""The other quantizers: what each is called, where it lives, and the one command it gets.

Each does its best int8 of the teacher's ONNX graph (`export/whole_graph.py`), or of its torch module, with what its own
documentation offers in one command. A new one is one entry here, one function in `worker.py`, and one file of pinned
versions in `requirements/`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

REQUIREMENTS = Path(__file__).parent / "requirements"
WORKER = Path(__file__).parent / "worker.py"
TORCH_WORKER = Path(__file__).parent / "torch_worker.py"
VECTOR_WORKER = Path(__file__).parent / "vector_worker.py"


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """One way to quantize."""

    name: str
    """As the worker and the table call it."""
    environment: str
    """Folder below the environments' folder, and the stem of its file in `requirements/`."""
    command: str
    """What it does, as its users would type it."""
    worker: Path = WORKER
    """What runs in its environment."""

    @property
    def runs_torch(self) -> bool:
        """Whether it makes a torch module, which only its own environment can run, instead of an ONNX graph."""
        return self.worker == TORCH_WORKER


PEERS = (
    Peer(
        name="onnxruntime dynamic",
        environment="onnxruntime",
        command="quantize_dynamic(model, out)",
    ),
    Peer(
        name="onnxruntime dynamic, best flags",
        environment="onnxruntime",
        command='quantize_dynamic(model, out, extra_options={"MatMulConstBOnly": False})',
    ),
    Peer(
        name="onnxruntime static",
        environment="onnxruntime",
        command="quantize_static(model, out, reader)",
    ),
    Peer(
        name="optimum-cli",
        environment="optimum",
        command="optimum-cli onnxruntime quantize --onnx_model FOLDER --avx2 -o OUT",
    ),
    Peer(
        name="Olive",
        environment="olive",
        command="olive quantize -m MODEL --implementation ort --precision int8 -o OUT",
    ),
    Peer(
        name="ModelOpt",
        environment="modelopt",
        command="python -m modelopt.onnx.quantization --onnx_path MODEL --quantize_mode int8",
    ),
    Peer(
        name="neural-compressor",
        environment="neural-compressor",
        command="quantization.fit(model, PostTrainingQuantConfig(approach='dynamic'))",
    ),
    Peer(
        name="torchao",
        environment="torchao",
        command="quantize_(module, Int8DynamicActivationInt8WeightConfig())",
        worker=TORCH_WORKER,
    ),
)
VECTOR_SEARCH = "vectors"
"""The environment of what scores the catalogue: numpy, FAISS, usearch, and our runtime."""
ENVIRONMENTS = (*dict.fromkeys(peer.environment for peer in PEERS), VECTOR_SEARCH)
