"""Recipes: the named ones, the way through TOML and back, and what is refused by name."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from pocketrec.compress.adapt import AdaptationConfig
from pocketrec.compress.distill_config import DistillConfig
from pocketrec.compress.fallback import GuardConfig
from pocketrec.compress.prune import PruneConfig
from pocketrec.compress.recipe import RECIPES, EncoderConfig, Recipe, TableConfig, load_recipe
from pocketrec.compress.sparsify import SparsifyConfig
from pocketrec.compress.student import StudentConfig
from pocketrec.runtime.errors import InputError


def as_toml(recipe: Recipe) -> str:
    """What a user would write; keys that are None are left out."""
    lines = [f"seed = {recipe.seed}"]
    for section, values in recipe.to_json().items():
        if isinstance(values, dict):
            lines.append(f"[{section}]")
            lines += [f"{key} = {json.dumps(value)}" for key, value in values.items() if value is not None]
    return "\n".join(lines)


OTHER_THAN_DEFAULT = Recipe(
    name="mine",
    student=StudentConfig(layers=(1, 0), width=48, hidden_width=16, means=2, start="noise"),
    prune=PruneConfig(
        keep_heads=0.75, keep_inner=0.25, keep_hidden=0.9, keep_kernels=0.4, inner_multiple=8, calibration_batches=3,
        max_drop=0.2, importance="fisher", rounds=3, round_epochs=2,
    ),
    distill=DistillConfig(
        epochs=3, patience=2, temperature=2.0, soft_weight=0.5, learning_rate=0.002, table_learning_rate=0.001,
        batch_size=64, prefixes_per_user=0, least_histories=7, dropout=0.1, average_decay=0.5, mask_history=False,
        hidden_weight=0.5, order_weight=0.25, order_length=10, sampled_items=256, teacher_top=32,
        continued_share=0.5, continued_events=2,
    ),
    sparsify=SparsifyConfig(pattern="4:8", share=0.25),
    table=TableConfig(bits=2, width=32, head_share=0.1, head_bits=8, tail_share=0.5, tail_codes=4),
    encoder=EncoderConfig(bits=4, products="float32"),
    guard=GuardConfig(max_drop=0.02),
    adaptation=AdaptationConfig(taste_width=16, taste_bits=3, start="mixture", max_users=100, max_growth=0.5),
    seed=9,
)  # fmt: skip
BY_POSITIONS = dataclasses.replace(
    OTHER_THAN_DEFAULT, distill=DistillConfig(positions=5)
)  # which go without continued histories


@pytest.mark.parametrize(
    "recipe", [*RECIPES.values(), OTHER_THAN_DEFAULT, BY_POSITIONS], ids=lambda recipe: recipe.name
)
def test_toml_and_back(recipe: Recipe, tmp_path: Path) -> None:
    path = tmp_path / f"{recipe.name}.toml"
    path.write_text(as_toml(recipe))
    assert load_recipe(str(path)) == recipe


def test_no_default_hides_in_the_round_trip() -> None:
    """Every field differs from its default in one of the two, so none can get lost on the way."""
    for section in ("prune", "distill", "sparsify", "table", "encoder", "guard", "adaptation"):
        configs = [getattr(recipe, section) for recipe in (OTHER_THAN_DEFAULT, BY_POSITIONS)]
        same = [
            f.name
            for f in dataclasses.fields(configs[0])
            if all(getattr(config, f.name) == f.default for config in configs)
        ]
        assert same == [], section


@pytest.mark.parametrize("name", RECIPES)
def test_named_recipes(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    assert recipe.table is not None
    assert recipe.encoder is not None
    assert json.loads(json.dumps(recipe.to_json())) == recipe.to_json()


def test_what_the_names_promise() -> None:
    lossless, int8, balanced = (RECIPES[name] for name in ("lossless", "int8", "balanced"))
    for rounding_only in (lossless, int8):
        assert (rounding_only.prune, rounding_only.distill) == (None, None)
    assert int8.table == TableConfig(bits=8)
    assert balanced.distill is not None


def test_a_missing_section_is_a_step_that_is_skipped(tmp_path: Path) -> None:
    path = tmp_path / "only_table.toml"
    path.write_text("[table]\n")
    assert load_recipe(str(path)) == Recipe(name="only_table", table=TableConfig())
    path.write_text("")
    assert load_recipe(str(path)) == Recipe(name="only_table")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "[prun]\n",
            r"unknown key 'prun'; expected student, prune, distill, sparsify, table, encoder, neighbors, guard, adaptation, seed; did you mean 'prune'\?",
        ),
        ("sed = 1", r"unknown key 'sed'; .*did you mean 'seed'\?"),
        (
            "[distill]\nepoch = 3",
            r"unknown key 'epoch' in \[distill\]; expected epochs, .*did you mean 'epochs'\?",
        ),
        (
            "[table]\nzzz = 3",
            r"unknown key 'zzz' in \[table\]; expected bits, width, head_share, head_bits, tail_share, tail_codes$",
        ),
        ("prune = 0.5", r"prune is 0.5, expected a section \[prune\]"),
        ("[table]\nbits = 5", "table: bits 5, expected one of 2, 3, 4, 8"),
        ("[table]\nbits = 4.0", r"\[table\] bits is 4.0, expected a whole number"),
        ("[table]\nbits = true", r"\[table\] bits is True, expected a whole number"),
        ("[table]\nwidth = 0", "table: width 0, expected at least 1"),
        ("[table]\nwidth = 'all'", r"\[table\] width is 'all', expected a whole number"),
        ("[encoder]\nbits = 5", "encoder: bits 5, expected 4 or 8; leave the section out for float32"),
        ("[encoder]\nbits = 4.0", r"\[encoder\] bits is 4.0, expected a whole number"),
        (
            "[encoder]\nproducts = 'fast'",
            r"\[encoder\] products is 'fast', expected one of 'measured', 'int8'",
        ),
        ("[encoder]\nproducts = 8", r"\[encoder\] products is 8, expected one of 'measured', 'int8'"),
        ("[encoder]\nbits = 4\nproducts = 'static'", "encoder: static products are of 8 bits, not of 4"),
        ("[prune]\nkeep_heads = 0", "prune: keep_heads 0; expected above 0, up to 1"),
        ("[prune]\nkeep_inner = 1.5", "prune: .*keep_inner 1.5; expected above 0, up to 1"),
        ("[prune]\nkeep_inner = nan", r"\[prune\] keep_inner is nan, expected a finite number"),
        ("[prune]\ninner_multiple = 0", "prune: inner_multiple and calibration_batches must be at least 1"),
        ("[prune]\nrounds = 0", "prune: 0 rounds with 1 epochs between them; expected at least 1 of both"),
        ("[prune]\nrounds = 2.0", r"\[prune\] rounds is 2.0, expected a whole number"),
        (
            "[prune]\nrounds = 3",
            r"prune: 3 rounds, but no \[distill\] says how to learn between them; add it, or",
        ),
        ("[distill]\nepochs = 2.5", r"\[distill\] epochs is 2.5, expected a whole number"),
        ("[distill]\nepochs = 'many'", r"\[distill\] epochs is 'many', expected a whole number"),
        ("[distill]\nepochs = 0", "distill: epochs, patience and batch_size must be at least 1"),
        ("[distill]\nsoft_weight = 1.1", "distill: soft_weight 1.1, expected 0 to 1"),
        ("[distill]\ntemperature = inf", r"\[distill\] temperature is inf, expected a finite number"),
        ("[distill]\ntemperature = 0", "distill: temperature and learning rates must be positive"),
        ("[distill]\ndropout = 1.0", "distill: dropout and average_decay must be at least 0 and below 1"),
        ("[distill]\nmask_history = 1", r"\[distill\] mask_history is 1, expected true or false"),
        ("seed = -1", r"seed -1, expected 0 to 2\*\*63 - 1"),
        (f"seed = {2**64}", r"seed 18446744073709551616, expected 0 to 2\*\*63 - 1"),
        ("seed = 1.0", "seed is 1.0, expected a whole number"),
        ("[table\n", "not a TOML file"),
        ("[table]\nbits = 4\nbits = 8\n", "not a TOML file"),
    ],
)
def test_a_bad_file_is_refused_by_name(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=message) as refused:
        load_recipe(str(path))
    assert str(refused.value).startswith(f"{path}: ")
    assert "\n" not in str(refused.value)


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "binary.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"binary.toml: not a TOML file"):
        load_recipe(str(path))
    with pytest.raises(FileNotFoundError):
        load_recipe(str(tmp_path / "no.toml"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("balance", r"recipe 'balance': expected balanced, lossless, tiny, int8, or a file that ends in .toml; did you mean 'balanced'\?"),
        ("zzz", r"recipe 'zzz': expected balanced, lossless, tiny, int8, or a file that ends in .toml$"),
        ("recipe.json", r"a file that ends in .toml"),
    ],
)  # fmt: skip
def test_an_unknown_name(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_recipe(name)


def test_a_field_cannot_be_changed() -> None:
    config: Any = TableConfig()
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.bits = 8
