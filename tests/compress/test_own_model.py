"""`--model package.module:factory`: a model that pocketrec has never heard of, from its plain state dict to a ranking."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from pocketrec.compress.layouts import PointwiseTeacher
from pocketrec.compress.models.pointwise_protocol import PointwiseModel
from pocketrec.compress.own_model import load_own_model
from pocketrec.runtime import Reranker
from pocketrec.runtime.bundle import Bundle
from pocketrec.runtime.engine import Engine
from pocketrec.runtime.errors import InputError

N_ITEMS, WIDTH = 50, 16
_names = itertools.count()


def weights() -> dict[str, torch.Tensor]:
    """As the example's training loop would save them: row 0 pads."""
    generator = torch.Generator().manual_seed(0)
    return {
        "items.weight": torch.randn(N_ITEMS + 1, WIDTH, generator=generator),
        "decay": torch.tensor(0.3),
        "dense.weight": torch.eye(WIDTH) + 0.1 * torch.randn(WIDTH, WIDTH, generator=generator),
        "dense.bias": torch.zeros(WIDTH),
    }


@pytest.fixture
def example(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The documented example in the current folder, under a name of its own: "module:make"."""
    module = f"own_model_{next(_names)}"
    shutil.copy(repository / "docs/examples/own_model.py", tmp_path / f"{module}.py")
    monkeypatch.chdir(tmp_path)
    torch.save(weights(), tmp_path / "weights.pt")
    return f"{module}:make"


def test_from_a_state_dict_to_a_ranking(cli_here, example: str, tiny_road, tmp_path: Path) -> None:
    result = cli_here(
        "compress", "weights.pt", "--model", example, "--data", tiny_road.data, "-o", "own.pocket",
        "--teacher-out", "teacher.pocket", "--epochs", "1", "--threads", "1",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    assert "teacher   weights.pt: own-model, 50 items x 16, 4,356 B of weights" in lines
    assert any("item ids: 1 to 50 assumed" in line for line in lines)
    assert "prune     skipped: nothing says which parts of a Decay are cut together" in lines
    engine = Engine.load(tmp_path / "teacher.pocket")
    assert engine.manifest["model"] == {"architecture": "Decay", "n_items": 50, "width": 16, "max_length": 20}
    model: Any = load_own_model("weights.pt", example).model
    for n in (1, 2, 20):
        rows = torch.arange(n)
        expected = model.encode(model.item_table[rows][None])
        got = torch.from_numpy(engine.encode(rows.numpy()[None]))
        torch.testing.assert_close(got, expected.detach(), rtol=0, atol=1e-4)  # float32 in another library
    user = Reranker.load(tmp_path / "own.pocket").user()
    user.observe(3, 4)
    assert len(user.rerank([5, 6, 7], k=2)) == 2


def test_safetensors_and_the_rows_that_are_items(example: str, tmp_path: Path) -> None:
    save_file(weights(), tmp_path / "weights.safetensors")
    teacher: Any = load_own_model(tmp_path / "weights.safetensors", example)
    assert torch.equal(teacher.model.item_table, weights()["items.weight"][1:])
    assert teacher.item_ids.ids([0, N_ITEMS - 1]) == [1, N_ITEMS]
    assert teacher.layout == "own-model"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dense.bias": None}, "weights.pt: misses dense.bias of --model"),
        (
            {"other": torch.zeros(2)},
            "weights.pt: has, and the model does not, other of --model",
        ),
        (
            {"dense.weight": torch.zeros(WIDTH, 3)},
            "weights.pt: does not fit --model .*size mismatch for dense.weight",
        ),
        (
            {"dense.bias": torch.full((WIDTH,), float("nan"))},
            "weights.pt: dense.bias has values that are NaN",
        ),
        ({"items.weight": None}, r"KeyError: 'items.weight' \(own_model_\d+.py, line \d+\)"),
    ],
)
def test_tensors_that_do_not_fit(example: str, tmp_path: Path, change: dict[str, Any], message: str) -> None:
    state = {name: tensor for name, tensor in (weights() | change).items() if tensor is not None}
    torch.save(state, tmp_path / "weights.pt")
    with pytest.raises(InputError, match=message) as refused:
        load_own_model("weights.pt", example)
    assert "\n" not in str(refused.value)


def test_half_precision_is_widened(example: str, tmp_path: Path) -> None:
    torch.save({name: tensor.half() for name, tensor in weights().items()}, tmp_path / "weights.pt")
    model: Any = load_own_model("weights.pt", example).model
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert torch.equal(model.item_table, weights()["items.weight"][1:].half().float())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("make", "expected package.module:factory, such as mymodel:make"),
        ("os.system('x'):y", "expected package.module:factory"),
        ("no_such_module:make", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("{module}:nothing", "has no function or class nothing"),
        ("{module}:DecayConfig", "it needs n_items; expected a factory of no arguments, or of shapes alone"),
        ("collections:OrderedDict", "made a OrderedDict; expected a torch.nn.Module"),
        ("{module}:identity", "Identity has no config, max_length, width, item_table"),
        ("{module}:broken", r"ZeroDivisionError: division by zero \({module}.py, line \d+\)"),
        ("{module}:forgetful", "hidden_states at the last item and encode differ by"),
        (
            "{module}:wide",
            r"encode of \(2, 3, 16\) gave of shape \(2, 17\); expected finite numbers, \(2, 16\)",
        ),
        ("{module}:plain", "config is a dict; expected a frozen dataclass"),
        ("{module}:unowned", "item_table is no parameter; expected an nn.Parameter of the module itself"),
        ("{module}:misnumbered", "item_ids has 2 ids; expected one for each of 50 items"),
    ],
)
def test_factories_that_make_no_model(example: str, tmp_path: Path, name: str, message: str) -> None:
    module = example.removesuffix(":make")
    with (tmp_path / f"{module}.py").open("a") as file:
        file.write(
            """

def identity():
    return nn.Identity()

def broken():
    return 1 / 0

class Forgetful(Decay):
    def hidden_states(self, item_vectors, lengths):
        return super().hidden_states(item_vectors, lengths).flip(1)

class Wide(Decay):
    def encode(self, item_vectors):
        return nn.functional.pad(super().encode(item_vectors), (0, 1))

class Unowned(Decay):
    def __init__(self, config):
        super().__init__(config)
        del self.item_table
        self.item_table = torch.zeros(config.n_items, config.width)

def forgetful(shapes):
    return Forgetful(make(shapes).config)

def wide(shapes):
    return Wide(make(shapes).config)

def unowned(shapes):
    return Unowned(make(shapes).config)

def plain(shapes):
    model = make(shapes)
    model.config = {"n_items": 3}
    Decay.max_length, Decay.width = 20, 16
    return model

def misnumbered(shapes):
    model = make(shapes)
    model.item_ids = ["a", "b"]
    return model
"""
        )
    with pytest.raises(InputError, match=message.replace("{module}", module)) as refused:
        load_own_model("weights.pt", name.replace("{module}", module))
    assert "\n" not in str(refused.value)


def test_item_ids_that_the_model_knows(example: str, tmp_path: Path) -> None:
    module = example.removesuffix(":make")
    ids = [f"film {n}" for n in range(N_ITEMS)]
    with (tmp_path / f"{module}.py").open("a") as file:
        file.write(
            f"\ndef named(shapes):\n    model = make(shapes)\n    model.item_ids = {ids}\n    return model\n"
        )
    teacher: Any = load_own_model("weights.pt", f"{module}:named")
    assert teacher.item_ids.ids([0, 49]) == ["film 0", "film 49"]
    assert teacher.notes == ()


@pytest.fixture
def clicks(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The documented pointwise example and weights for it."""
    module = f"own_pointwise_model_{next(_names)}"
    shutil.copy(repository / "docs/examples/own_pointwise_model.py", tmp_path / f"{module}.py")
    monkeypatch.chdir(tmp_path)
    generator = torch.Generator().manual_seed(0)
    shapes = {"users": (4, 8), "items": (5, 8), "bias": (1,), "price.weight": (1, 1)}
    torch.save(
        {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}, "weights.pt"
    )
    return f"{module}:make"


def test_a_pointwise_model(clicks: str) -> None:
    teacher: Any = load_own_model("weights.pt", clicks)
    assert isinstance(teacher, PointwiseTeacher)
    assert isinstance(teacher.model, PointwiseModel)
    assert teacher.vocabularies["user"].ids(range(3)) == ["ann", "bob", "eve"]
    assert teacher.vocabularies["item"].ids([0, 3]) == [10, 40]
    assert (teacher.threshold, teacher.layout) == (None, "own-model")
    state, model = torch.load("weights.pt"), teacher.model
    vectors = [state["users"][1:3], state["items"][2:4]]
    got = model.logits(vectors, torch.zeros(2, 0, dtype=torch.int64), torch.tensor([[0.5], [1.0]]))
    expected = (
        state["bias"] + (vectors[0] * vectors[1]).sum(1) + state["price.weight"] * torch.tensor([0.5, 1.0])
    )
    torch.testing.assert_close(got, expected[0])


def test_a_pointwise_model_from_a_state_dict_to_a_bundle(cli_here, clicks: str, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    rows = ["user,item,price,click"]
    for _ in range(400):
        user, item, price = random.integers(3), random.integers(4), random.integers(100)
        rows.append(
            f"{['ann', 'bob', 'eve'][user]},{10 * (item + 1)},{price},{int(random.random() < 0.2 + 0.2 * item)}"
        )
    Path("clicks.csv").write_text("\n".join(rows) + "\n")
    result = cli_here(
        "compress", "weights.pt", "--model", clicks, "--data", "clicks.csv", "-o", "own.pocket", "--threads", "1",
        "--recipe", "lossless",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    assert "teacher   weights.pt: own-model, 3 fields, 9 rows of tables" in result.stdout
    manifest = Bundle.open(tmp_path / "own.pocket").manifest
    assert manifest["model"]["architecture"] == "Machine"
    assert 0 < manifest["metrics"]["accuracy"]["metrics"]["auc"]["value"] < 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("Machine.vocabularies = {'user': USERS}", "vocabularies has no item; expected its tokens, in order"),
        (
            "Machine.vocabularies = {'user': USERS[:2], 'item': ITEMS}",
            "2 tokens of user; expected 3, one for each row but the first",
        ),
        (
            "Machine.lookups = (Lookup(table='nobody', field='user'),)",
            "table nobody is missing; expected 4 rows of user",
        ),
        (
            "Machine.lookups = (Lookup(table='users', field='item'),)",
            r"table users is of shape \(4, 8\); expected 5 rows of item",
        ),
        (
            "Machine.logits = lambda *_: torch.zeros(3)",
            r"logits of 2 rows gave of shape \(3,\); expected 2 finite numbers",
        ),
        (
            "del Machine.vocabularies",
            "Machine has no vocabularies; expected what docs/your-own-model.md lists",
        ),
        ("Machine.schema = None", "schema is a NoneType; expected a FeatureSchema"),
    ],
)
def test_pointwise_models_that_do_not_fit(clicks: str, tmp_path: Path, change: str, message: str) -> None:
    with (tmp_path / f"{clicks.removesuffix(':make')}.py").open("a") as file:
        file.write(f"\n{change}\n")
    with pytest.raises(InputError, match=message) as refused:
        load_own_model("weights.pt", clicks)
    assert "\n" not in str(refused.value)


def test_options_that_exclude_each_other(cli_here, example: str, tiny_road) -> None:
    args = ("compress", "weights.pt", "--model", example, "--data", tiny_road.data, "-o", "x.pocket")
    for option in (("--layout", "s3-rec"), ("--heads", "2")):
        result = cli_here(*args, *option)
        assert result.exit_code == 2
        assert "--model makes the model itself; leave --layout and --heads out" in result.stderr
