"""Students of another shape: they start from what the teacher knows, run through the runtime, and learn."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from pocketrec.compress.distill import distill
from pocketrec.compress.distill_config import DistillConfig
from pocketrec.compress.item_bias import fold_item_bias
from pocketrec.compress.models.bert4rec import BERT4Rec, BERT4RecConfig
from pocketrec.compress.models.gru4rec import GRU4Rec, GRU4RecConfig
from pocketrec.compress.models.pooled import Pooled, PooledConfig
from pocketrec.compress.models.protocol import SequenceModel
from pocketrec.compress.models.sasrec import SASRec, SASRecConfig
from pocketrec.compress.student import StudentConfig, make_student
from pocketrec.runtime.errors import InputError

CONFIG = SASRecConfig(n_items=50, width=16, n_layers=3, n_heads=2, inner_widths=(32, 16, 48), max_length=6)


def spread(model: torch.nn.Module, seed: int = 1) -> torch.nn.Module:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += torch.empty_like(parameter).normal_(std=0.3, generator=generator)
    return model.eval()


@pytest.fixture(scope="module")
def teacher() -> SASRec:
    return spread(SASRec(CONFIG))  # type: ignore[return-value]


def users(model: SequenceModel, rows: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model.encode(model.item_table[rows])


ROWS = torch.tensor([[3, 7, 1, 40], [9, 9, 0, 2]])


def test_kept_layers_are_the_teachers(teacher: SASRec) -> None:
    student, told = make_student(teacher, StudentConfig(layers=(2, 0)), seed=0)
    assert isinstance(student, SASRec)
    assert student.config.inner_widths == (48, 32)
    assert student.config.n_layers == len(student.layers) == 2
    for ours, index in zip(student.layers, (2, 0), strict=True):
        for name, value in ours.state_dict().items():
            assert torch.equal(value, teacher.layers[index].state_dict()[name])
    assert told["encoder_parameters"] == sum(p.numel() for p in student.parameters()) - 50 * 16
    assert len(teacher.layers) == teacher.config.n_layers == 3
    every, _ = make_student(teacher, StudentConfig(layers=(0, 1, 2)), seed=0)
    torch.testing.assert_close(users(every, ROWS), users(teacher, ROWS), rtol=0, atol=0)


@pytest.mark.parametrize("kind", ["bert4rec with a bias", "gru4rec"])
def test_other_families_keep_layers_too(kind: str) -> None:
    if kind == "gru4rec":
        teacher: SequenceModel = GRU4Rec(
            GRU4RecConfig(n_items=50, width=16, hidden_width=24, n_layers=2, max_length=6)
        )
    else:
        teacher = fold_item_bias(spread(BERT4Rec(BERT4RecConfig(n_items=50, width=16, max_length=6))))  # type: ignore[arg-type]
    student, _ = make_student(teacher, StudentConfig(layers=(0,)), seed=0)
    assert student.config.n_layers == 1
    assert users(student, ROWS).shape == (2, teacher.width)
    with pytest.raises(InputError, match=r"layers \[2\], expected 0 to 1"):
        make_student(teacher, StudentConfig(layers=(2,)), seed=0)


def test_a_recurrent_layer_does_not_read_what_it_was_not_made_for() -> None:
    teacher = GRU4Rec(GRU4RecConfig(n_items=50, width=16, hidden_width=24, n_layers=2, max_length=6))
    with pytest.raises(InputError, match="keep the first ones"):
        make_student(teacher, StudentConfig(layers=(1,)), seed=0)


def test_a_narrower_table_is_the_nearest_there_is(teacher: SASRec) -> None:
    """The table keeps its largest singular values: no table of 12 dimensions is nearer (Eckart and Young 1936)."""
    narrow, told = make_student(teacher, StudentConfig(width=12), seed=0)
    assert (narrow.width, told["width"], narrow.config.head_width) == (12, 12, (8, 8, 8))
    gram, theirs = (model.item_table.detach() @ model.item_table.detach().T for model in (narrow, teacher))
    spectrum = torch.linalg.svdvals(teacher.item_table.detach())
    assert float((gram - theirs).norm()) == pytest.approx(float(spectrum[12:].pow(4).sum().sqrt()), rel=1e-3)
    assert users(narrow, ROWS).shape == (2, 12)


def test_a_vector_that_is_written_is_read_back(teacher: SASRec) -> None:
    """In all D directions, what one matrix writes the next reads as before."""
    from pocketrec.compress.low_rank import principal_directions
    from pocketrec.compress.student import _narrower

    turned = _narrower(teacher, principal_directions(teacher.item_table.detach(), 16, seed=0))
    x = teacher.item_table.detach()[:5]
    for ours, theirs in zip(turned.layers, teacher.layers, strict=True):
        expected = theirs.attention.q(theirs.dense_2(theirs.dense_1(x).relu()))
        found = ours.attention.q(ours.dense_2(ours.dense_1(turned.item_table.detach()[:5]).relu()))
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        (StudentConfig(architecture="gru4rec", hidden_width=8), GRU4Rec),
        (StudentConfig(architecture="pooled", hidden_width=8, width=12), Pooled),
    ],
)
def test_another_architecture_gets_the_table(teacher: SASRec, config: StudentConfig, kind: type) -> None:
    student, told = make_student(teacher, config, seed=0)
    assert type(student) is kind
    assert told["architecture"] == kind.__name__
    assert student.max_length == teacher.max_length
    if config.width is None:
        assert torch.equal(student.item_table, teacher.item_table)
        assert student.item_table is not teacher.item_table
    again, _ = make_student(teacher, config, seed=0)
    for one, two in zip(student.parameters(), again.parameters(), strict=True):  # type: ignore[attr-defined]
        assert torch.equal(one, two)


@pytest.mark.parametrize("architecture", ["same", "gru4rec", "pooled"])
def test_noise_knows_nothing_of_the_teacher(teacher: SASRec, architecture: str) -> None:
    config = StudentConfig(architecture=architecture, start="noise", width=12)  # type: ignore[arg-type]
    student, _ = make_student(teacher, config, seed=0)
    assert student.item_table.shape == (50, 12)
    assert float(student.item_table.detach().std()) == pytest.approx(0.02, rel=0.2)


@pytest.mark.parametrize("architecture", ["same", "gru4rec", "pooled"])
def test_every_kind_learns_from_its_teacher(teacher: SASRec, architecture: str) -> None:
    """Narrower than its teacher, so that the map between their vectors is learned too."""
    start = StudentConfig(architecture=architecture, width=12)  # type: ignore[arg-type]
    student, _ = make_student(teacher, start, seed=0)
    rng = np.random.default_rng(0)
    sequences = [rng.permutation(50)[:n] for n in rng.integers(2, 8, 120)]
    config = DistillConfig(
        epochs=3, batch_size=32, least_histories=1, learning_rate=1e-2, table_learning_rate=1e-3,
        hidden_weight=1.0, order_weight=0.5, average_decay=0.9,
    )  # fmt: skip
    before = copy.deepcopy(student)
    better, told = distill(
        student, teacher, sequences, config, bits=None, seed=0,
        validate=lambda model: -float(_distance(model, teacher)),
    )  # fmt: skip
    assert told["best_epoch"] > 0
    assert _distance(better, teacher) < 0.95 * _distance(before, teacher)


def _distance(model: SequenceModel, teacher: SequenceModel) -> torch.Tensor:
    """KL of what they say of the catalogue."""
    logs = [(users(one, ROWS) @ one.item_table.detach().T).log_softmax(1) for one in (model, teacher)]
    return torch.nn.functional.kl_div(logs[0], logs[1], log_target=True, reduction="batchmean")


def test_pooled_forgets_no_order_and_pads_nothing() -> None:
    model = spread(Pooled(PooledConfig(n_items=50, width=8, hidden_width=16, max_length=6)))
    assert isinstance(model, Pooled)
    one_way, other_way = users(model, torch.tensor([[1, 2, 3]])), users(model, torch.tensor([[3, 2, 1]]))
    assert not torch.allclose(one_way, other_way)
    states = model.hidden_states(model.item_table.detach()[ROWS], torch.tensor([4, 2]))
    torch.testing.assert_close(states[1, 1], users(model, ROWS[1:, :2])[0])


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"architecture": "lstm"}, "expected same, gru4rec or pooled"),
        ({"layers": ()}, "expected at least one"),
        ({"architecture": "pooled", "layers": (0,)}, "not of pooled"),
        ({"width": 0}, "at least 1"),
        ({"start": "zero"}, "expected teacher or noise"),
    ],
)
def test_a_bad_shape_is_refused(settings: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        StudentConfig(**settings)


def test_what_cannot_be_made_is_said(teacher: SASRec) -> None:
    with pytest.raises(InputError, match="width 17, expected at most 16"):
        make_student(teacher, StudentConfig(width=17), seed=0)
    with pytest.raises(InputError, match="a Pooled has no layers"):
        make_student(Pooled(PooledConfig(n_items=50)), StudentConfig(layers=(0,)), seed=0)
    with pytest.raises(InputError, match="which numbers of a GRU4Rec are its width"):
        make_student(GRU4Rec(GRU4RecConfig(n_items=50)), StudentConfig(width=8), seed=0)
