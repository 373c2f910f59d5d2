"""A student of another shape than its teacher: fewer layers, fewer dimensions, or another architecture.

It starts from what its teacher knows, as far as that fits, and distillation does the rest (`distill`):

    layers   the listed layers of the teacher, whole, in the listed order (Sanh et al. 2019, "DistilBERT", section 2)
    width    principal directions B (r, D) of the item table, rotated at random as in `low_rank`: item vectors become
             x B^T, and every matrix that reads or writes them is multiplied with B on that side
    another  a GRU or a `Pooled` encoder over the teacher's item table: the table is most of what a recommender knows

Listed layers and a narrower width go together; the pieces of another architecture come from nothing but the seed.
"""

from __future__ import annotations

import copy
import dataclasses
import itertools
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from ..runtime.errors import InputError
from .low_rank import principal_directions
from .models.gru4rec import GRU4Rec, GRU4RecConfig
from .models.pooled import Pooled, PooledConfig
from .models.protocol import SequenceModel, innermost
from .models.sasrec import SASRec

Architecture = Literal["same", "gru4rec", "pooled"]
GRU_WIDTH = 64
"""Of a GRU student's state; a teacher's is usually twice that."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class StudentConfig:
    """The student's shape; what is None stays as the teacher has it."""

    architecture: Architecture = "same"
    """`same`: the teacher's own. `gru4rec`: recurrent, where the device shall not look back at the whole history.
    `pooled`: weighted means and a small network, the fastest there is."""
    layers: tuple[int, ...] | None = None
    """Layers of the teacher that stay, from 0 on, in this order; of the teacher's own architecture only. Where one is
    enough, the last one is the nearest to what the teacher says (Beauty: 99% of NDCG@10 kept by it alone)."""
    width: int | None = None
    """Dimensions of item and user vectors, and of everything between them; unlike `table.width` it narrows the encoder too."""
    hidden_width: int | None = None
    """Of a GRU's state (None: 64), or of the network over means (None: 64)."""
    means: int = 4
    """Weighted means of a `pooled` student."""
    start: Literal["teacher", "noise"] = "teacher"
    """`noise`: nothing of the teacher but its shape, to see what starting from it brings."""

    def __post_init__(self) -> None:
        if self.architecture not in ("same", "gru4rec", "pooled"):
            raise ValueError(f"student: architecture {self.architecture!r}, expected same, gru4rec or pooled")
        if self.start not in ("teacher", "noise"):
            raise ValueError(f"student: start {self.start!r}, expected teacher or noise")
        if self.layers is not None:
            object.__setattr__(self, "layers", tuple(self.layers))
            if not self.layers or min(self.layers) < 0:
                raise ValueError(
                    f"student: layers {list(self.layers)}, expected at least one, each 0 or more"
                )
            if self.architecture != "same":
                raise ValueError(
                    f"student: layers are of the teacher's own architecture, not of {self.architecture}"
                )
        if min(1 if n is None else n for n in (self.width, self.hidden_width, self.means)) < 1:
            raise ValueError("student: width, hidden_width and means must be at least 1")


def make_student(
    teacher: SequenceModel, config: StudentConfig, *, seed: int
) -> tuple[SequenceModel, dict[str, Any]]:
    """A new model in eval mode, and what it is; the teacher is left alone.

    Raises:
        InputError: the teacher has no such layers, or nothing says how its kind is narrowed.
    """
    if config.width is not None and config.width > teacher.width:
        raise InputError(
            f"student: width {config.width}, expected at most {teacher.width}, the teacher's own"
        )
    match config.architecture:
        case "same":
            student = _of_the_same_kind(teacher, config, seed)
        case "gru4rec" | "pooled":
            student = _of_another_kind(teacher, config, seed)
    if config.start == "noise":
        student = _from_noise(student, seed)
    parameters = sum(p.numel() for name, p in _named(student) if name != "item_table")
    return student, {
        "architecture": type(innermost(student)).__name__,
        "width": student.width,
        "layers": config.layers,
        "start": config.start,
        "encoder_parameters": parameters,
    }


def _of_the_same_kind(teacher: SequenceModel, config: StudentConfig, seed: int) -> SequenceModel:
    student = copy.deepcopy(teacher)
    inner: Any = innermost(student)
    if config.layers is not None:
        _keep_layers_(inner, config.layers)
    if config.width is None or config.width == teacher.width:
        return cast(SequenceModel, cast(nn.Module, student).eval())
    if not isinstance(inner, SASRec) or hasattr(student, "inner"):
        raise InputError(
            f"student: nothing says which numbers of a {type(inner).__name__} are its width; "
            "leave [student] width out, or use [table] width, which narrows the item table alone"
        )
    return _narrower(inner, principal_directions(inner.item_table.detach(), config.width, seed=seed))


def _keep_layers_(inner: Any, layers: tuple[int, ...]) -> None:
    """The listed layers of an architecture that has some, in place; raises `InputError` where it has not."""
    present = getattr(inner, "layers", None)
    if present is None or "n_layers" not in {field.name for field in dataclasses.fields(inner.config)}:
        raise InputError(f"student: a {type(inner).__name__} has no layers; leave [student] layers out")
    if max(layers) >= len(present):
        raise InputError(
            f"student: layers {list(layers)}, expected 0 to {len(present) - 1}: the teacher has {len(present)}"
        )
    kept = [copy.deepcopy(present[index]) for index in layers]
    if isinstance(inner, GRU4Rec):
        states = [inner.width, *(layer.hidden_width for layer in kept)]
        reads = [layer.input_weight.shape[1] for layer in kept]
        if reads != states[:-1]:
            raise InputError(
                f"student: layers {list(layers)} read vectors of {reads} numbers and get {states[:-1]}; keep the first ones"
            )
    inner.layers = nn.ModuleList(kept)
    if isinstance(inner, SASRec):  # whose config has numbers for each layer
        inner.refresh_config_()
    else:
        inner.config = dataclasses.replace(inner.config, n_layers=len(kept))


READS = {
    "q.weight": 1,
    "k.weight": 1,
    "v.weight": 1,
    "dense_1.weight": 1,
    "position_table": 1,
    "item_table": 1,
}
"""Parameters of a SASRec and the axis along which they hold numbers of its width."""
WRITES = {"out.weight": 0, "out.bias": 0, "dense_2.weight": 0, "dense_2.bias": 0}
"""The same; a vector that is written lies along it, too."""


def _narrower(model: SASRec, directions: Tensor) -> SASRec:
    """A copy in the given directions, float32 (r, D), orthonormal rows; LayerNorms keep the mean square of their weights."""
    state: dict[str, Tensor] = {}
    for name, parameter in model.named_parameters():
        value = parameter.detach()
        axis = next((a for end, a in {**READS, **WRITES}.items() if name.endswith(end)), None)
        if axis is not None:
            value = (value.movedim(axis, -1) @ directions.T).movedim(-1, axis)
        elif name.endswith("norm.weight"):
            value = (directions.square() @ value.square()).sqrt()
        elif name.endswith("norm.bias"):
            value = directions @ value
        state[name] = value.contiguous()
    narrower = SASRec(dataclasses.replace(model.config, width=len(directions)))
    narrower.load_state_dict(state)
    return narrower.eval()


def _of_another_kind(teacher: SequenceModel, config: StudentConfig, seed: int) -> SequenceModel:
    table = teacher.item_table.detach()
    if config.width is not None and config.width < teacher.width:
        table = table @ principal_directions(table, config.width, seed=seed).T
    n_items, width = table.shape
    common: dict[str, Any] = {"n_items": n_items, "width": width, "max_length": teacher.max_length}
    if config.hidden_width is not None:
        common["hidden_width"] = config.hidden_width
    if config.architecture == "pooled":
        student: GRU4Rec | Pooled = Pooled(PooledConfig(n_means=config.means, **common), seed)
    else:
        common.setdefault("hidden_width", GRU_WIDTH)
        student = GRU4Rec(GRU4RecConfig(**common), seed)
        _spread_(student, seed)
    with torch.no_grad():
        student.item_table.copy_(table)
    return student.eval()


def _spread_(model: GRU4Rec, seed: int) -> None:
    """Gates that start neither asleep nor saturated: orthogonal, as is usual for recurrent weights (Saxe et al. 2013)."""
    generator = torch.Generator().manual_seed(seed)
    for layer in model.layers:
        for weight in itertools.chain.from_iterable(p.chunk(3) for p in layer.parameters()):
            nn.init.orthogonal_(weight, generator=generator)
    nn.init.xavier_uniform_(model.dense.weight, generator=generator)


def _from_noise(student: SequenceModel, seed: int) -> SequenceModel:
    """The same architecture, untrained."""
    inner = innermost(student)
    if hasattr(student, "inner"):
        raise InputError('student: start = "noise" is for models without an item bias; leave it out')
    fresh = type(inner)(inner.config, seed=seed)  # type: ignore[call-arg]
    if isinstance(fresh, GRU4Rec):
        _spread_(fresh, seed)
    return cast(SequenceModel, fresh.eval())


def _named(model: SequenceModel) -> Any:
    return model.named_parameters()  # type: ignore[attr-defined]
