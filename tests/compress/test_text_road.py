"""The road of texts with a random BERT of two small layers: what counts is that every figure is of what ships."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from pocketrec.compress.text.hf_encoder import load_hf_encoder
from pocketrec.runtime import Bundle, InputError, Reranker
from pocketrec.runtime.text_tower import BagTower, TransformerTower, read_text_tower

if TYPE_CHECKING:
    from ..tiny_road import TinyRoad

needs_text = pytest.mark.skipif(
    any(find_spec(name) is None for name in ("transformers", "optimum", "tokenizers")),
    reason="the extra `text` (transformers, optimum-onnx, tokenizers) is not installed",
)
KINDS = ("ball", "puzzle", "racing", "castle", "space", "war", "farm", "chess")
COLORS = ("red", "blue", "green", "big", "old", "new", "dark", "wild")
N_ITEMS = len(KINDS) * len(COLORS)


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights, words of the titles, single letters for the rest."""
    import torch
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("bert") / "tiny"
    letters = [*"abcdefghijklmnopqrstuvwxyz0123456789"]
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = [*special, *KINDS, *COLORS, *letters, *(f"##{letter}" for letter in letters)]
    config = BertConfig(
        vocab_size=len(vocabulary), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=64,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        BertModel(config).save_pretrained(folder, safe_serialization=True)
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n", "utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": True}), "utf-8")
    return folder


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`events.txt` and `items.tsv`: 200 people, each of whom buys one kind of game."""
    folder = tmp_path_factory.mktemp("shop")
    random = np.random.default_rng(0)
    titles = [f"{color} {kind}" for kind in KINDS for color in COLORS]
    rows = "".join(f"{item + 1}\t{title.title()} &amp; Co\n" for item, title in enumerate(titles))
    (folder / "items.tsv").write_text(f"item_id\ttitle\n{rows}", "utf-8")
    lines = []
    for user in range(200):
        kind = user % len(KINDS)
        items = kind * len(COLORS) + random.choice(len(COLORS), 6, replace=False) + 1
        lines.append(" ".join(map(str, [user + 1, *items])))
    (folder / "events.txt").write_text("\n".join(lines) + "\n", "utf-8")
    return folder


@pytest.fixture(scope="module")
def small_recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "small.toml"
    path.write_text("[table]\nbits = 8\n", "utf-8")
    return path


@pytest.fixture(scope="module")
def made(bert: Path, shop: Path, small_recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`small.pocket` and `teacher.pocket`, made by the command with an eighth of the items hidden."""
    from pocketrec.cli.main import main

    folder = tmp_path_factory.mktemp("made")
    arguments = [
        "compress", f"hf:{bert}", "--items", shop / "items.tsv", "--data", shop / "events.txt", "-o",
        folder / "small.pocket", "--teacher-out", folder / "teacher.pocket", "--hide-items", "12.5%", "--recipe",
        small_recipe, "--threads", "1", "--text-forms", "bag,transformer", "--text-steps", "150", "--json",
    ]  # fmt: skip
    assert main([str(argument) for argument in arguments]) == 0
    return folder


@needs_text
def test_the_teachers_tower_gives_the_rows_of_its_table(made: Path, shop: Path) -> None:
    ranker = Reranker.load(made / "teacher.pocket")
    titles = [line.split("\t")[1] for line in (shop / "items.tsv").read_text("utf-8").splitlines()[1:]]
    ids = ranker.engine.item_ids.ids(range(ranker.engine.n_items))
    vectors = ranker.embed([titles[int(item) - 1] for item in ids])
    rows = ranker.engine.table.lookup(np.arange(len(ids)))
    # both are the same products in float32, of batches of other sizes
    np.testing.assert_allclose(vectors, rows, atol=1e-3 * np.abs(rows).max())


@needs_text
def test_hidden_items_are_nowhere_in_the_bundle(made: Path, shop: Path) -> None:
    from pocketrec.benchmarks.hide_items import hidden_items
    from pocketrec.benchmarks.interactions import read_interactions

    everything = read_interactions(shop / "events.txt").item_ids
    left = set(everything) - hidden_items(everything, 0.125, seed=0)  # as `hide_items` would
    assert len(left) == N_ITEMS - N_ITEMS // 8
    for name in ("small.pocket", "teacher.pocket"):
        engine = Reranker.load(made / name).engine
        assert set(engine.item_ids.ids(range(engine.n_items))) == left


@needs_text
def test_a_new_title_lies_where_its_kind_lies(made: Path) -> None:
    ranker = Reranker.load(made / "small.pocket")
    new = {1000 + n: f"yellow {kind}" for n, kind in enumerate(KINDS)}
    ranker.add_titles(new)
    for n in range(len(KINDS)):
        user = ranker.user()
        user.observe(*[item for item in range(8 * n + 1, 8 * n + 9) if ranker.rows([item])[0] >= 0])
        best = user.rerank(list(new), k=3)
        assert 1000 + n in [item.item_id for item in best]


@needs_text
def test_the_report_says_what_each_form_kept_and_which_was_chosen(made: Path) -> None:
    bundle = Bundle.open(made / "small.pocket")
    step = bundle.manifest["steps"][-1]
    assert step["name"] == "text"
    tried = {tower["form"]: tower for tower in step["detail"]["tried"]}
    assert set(tried) == {"bag", "transformer"}
    chosen = step["detail"]["chosen"]
    assert tried[chosen]["probes"]["title"] == max(tower["probes"]["title"] for tower in tried.values())
    assert bundle.manifest["text"]["form"] == chosen
    assert isinstance(read_text_tower(bundle), BagTower if chosen == "bag" else TransformerTower)


@needs_text
def test_cold_items_are_measured_and_beat_chance(made: Path, shop: Path, tmp_path: Path) -> None:
    from pocketrec.benchmarks.cold_items import main

    arguments = [
        made / "small.pocket", "--reference", made / "teacher.pocket", "--data", shop / "events.txt", "--items",
        shop / "items.tsv", "--json", tmp_path / "cold.json",
    ]  # fmt: skip
    assert main([str(argument) for argument in arguments]) == 0
    found = json.loads((tmp_path / "cold.json").read_text("utf-8"))["results"]
    assert found["data"]["cold_items"] == N_ITEMS // 8
    chance = found["baselines"]["chance"]["cold"]["metrics"]["mrr@10"]["value"]
    for system in found["systems"].values():
        assert system["candidates"]["cold"]["metrics"]["mrr@10"]["value"] > 1.2 * chance
    parts = Bundle.open(made / "small.pocket").manifest["parts"]
    assert found["systems"]["bundle"]["tower_bytes"] < sum(part["size"] for part in parts)


@needs_text
def test_a_checkpoint_keeps_its_rows_and_gets_a_tower_for_what_it_does_not_know(
    bert: Path, tiny_road: TinyRoad, small_recipe: Path, tmp_path: Path, cli_here: Callable[..., Any]
) -> None:
    titles = [f"{COLORS[n % len(COLORS)]} {KINDS[n * len(KINDS) // 50]}" for n in range(50)]
    rows = "".join(f"{n + 1}\t{title}\n" for n, title in enumerate(titles) if n != 7)  # one has no title
    (tmp_path / "items.tsv").write_text(f"item_id\ttitle\n{rows}", "utf-8")
    common = ("--data", tiny_road.data, "--recipe", small_recipe, "--threads", "1", "--json")
    plain, texted, teacher = (tmp_path / f"{name}.pocket" for name in ("plain", "texted", "teacher"))
    assert cli_here("compress", tiny_road.checkpoint, "-o", plain, *common).exit_code == 0
    result = cli_here(
        "compress", tiny_road.checkpoint, "-o", texted, "--items", tmp_path / "items.tsv", "--text", f"hf:{bert}",
        "--teacher-out", teacher, "--text-steps", "60", *common,
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    ranker, without = Reranker.load(texted), Reranker.load(plain)
    everything = np.arange(50)
    np.testing.assert_array_equal(
        ranker.engine.table.lookup(everything), without.engine.table.lookup(everything)
    )
    ranker.add_titles({"new": titles[7]})
    user = ranker.user()
    user.observe(5, 6, 7)
    assert user.rerank([1, "new", 8], k=3)[0].item_id in (8, "new")  # the next on the circle, or its title
    reference = Reranker.load(teacher)
    assert isinstance(read_text_tower(reference.engine.bundle), TransformerTower)
    rows_of = reference.engine.table.lookup(everything)
    error = np.abs(reference.embed(titles) - rows_of).mean()
    assert error < 0.9 * np.abs(rows_of - rows_of.mean(0)).mean()  # better than the mean of all items
    refused = cli_here(
        "compress", tiny_road.checkpoint, "-o", tmp_path / "x.pocket", "--items", tmp_path / "items.tsv", "--text",
        f"hf:{bert}", "--hide-items", "10%", *common,
    )  # fmt: skip
    _refused(refused, "a checkpoint has learned all of its items")


def _refused(result: Any, *words: str) -> None:
    assert result.exit_code == 2, result.stderr
    *_, line = result.stderr.strip().splitlines()  # what was read so far stands above it
    assert line.startswith("pocketrec: error: "), result.stderr
    for word in words:
        assert word in line


@needs_text
def test_bad_input_is_told_in_a_line(
    bert: Path, shop: Path, tmp_path: Path, cli_here: Callable[..., Any]
) -> None:
    output = tmp_path / "out.pocket"

    def compress(folder: str | Path, *more: str | Path) -> Any:
        return cli_here(
            "compress", f"hf:{folder}", "--data", shop / "events.txt", "-o", output, "--json", *more
        )

    items = ("--items", shop / "items.tsv")
    _refused(compress(bert), "--items")
    _refused(compress(tmp_path / "none", *items), "no such folder")
    _refused(compress(shop, *items), "config.json", "no such file")
    _refused(compress(bert, "--items", tmp_path / "none.tsv"), "none.tsv", "no such file")
    other = tmp_path / "others.tsv"
    other.write_text("item_id\ttitle\nx1\tRed\n", "utf-8")
    _refused(compress(bert, "--items", other), "has a title for none of the 64 items")
    gpt = tmp_path / "gpt"
    gpt.mkdir()
    (gpt / "config.json").write_text('{"model_type": "gpt2"}', "utf-8")
    _refused(compress(gpt, *items), "model_type 'gpt2'", "BERT family")
    bare = tmp_path / "bare"
    shutil.copytree(bert, bare, ignore=shutil.ignore_patterns("*.safetensors"))
    _refused(compress(bare, *items), "neither model.safetensors nor pytorch_model.bin")
    _refused(cli_here("compress", "model.pt", "--data", "x", "-o", output, "--items", "y"), "need an encoder")
    assert not output.exists()


class _Hostile:
    def __reduce__(self) -> Any:
        return (Path.touch, (Path("was-run"),))


@needs_text
def test_nothing_of_the_folder_is_run(bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    hostile = tmp_path / "hostile"
    shutil.copytree(bert, hostile, ignore=shutil.ignore_patterns("*.safetensors"))
    (hostile / "pytorch_model.bin").write_bytes(pickle.dumps({"weights": _Hostile()}))
    with pytest.raises(InputError, match=r"pytorch_model\.bin"):
        load_hf_encoder(hostile)
    config = json.loads((bert / "config.json").read_text("utf-8"))
    coded = tmp_path / "coded"
    shutil.copytree(bert, coded)
    (coded / "config.json").write_text(
        json.dumps({**config, "auto_map": {"AutoModel": "evil.Model"}}), "utf-8"
    )
    (coded / "evil.py").write_text("from pathlib import Path; Path('was-run').touch()", "utf-8")
    assert load_hf_encoder(coded).hidden == 16
    assert not (tmp_path / "was-run").exists()


@needs_text
def test_weights_that_do_not_fit_are_refused(bert: Path, tmp_path: Path) -> None:
    odd = tmp_path / "odd"
    shutil.copytree(bert, odd)
    config = json.loads((odd / "config.json").read_text("utf-8"))
    (odd / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}), "utf-8")
    with pytest.raises(InputError, match="do not fit"):
        load_hf_encoder(odd)
