"""Getting the public data sets that the demo and the benchmarks run on.

MovieLens-100K may not be redistributed, so it is never part of pocketrec. It is looked for, in this order: at a
path that the caller gives; in the cache folder; in an installed `recbole`; in recbole's wheel, fetched with pip;
at GroupLens. Whatever is found must have the pinned sha256, and is kept in the cache folder.

Source: F. Maxwell Harper and Joseph A. Konstan, "The MovieLens Datasets: History and Context", ACM TiiS 5(4), 2015.
"""

from __future__ import annotations

import hashlib
import http.client
import importlib.util
import io
import os
import re
import subprocess
import sys
import tempfile
import urllib.request
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from ..runtime.atomic_file import write_atomically
from ..runtime.errors import InputError

INTER_SHA256 = "4edb74e2a81178c2ba9ff381495f754f996c4aea351b1272ca36b43da0935eff"
"""Of `ml-100k.inter`: GroupLens' `u.data` behind RecBole's header line."""

RECBOLE = "recbole==1.2.1"
RECBOLE_FOLDER = "dataset_example/ml-100k"
"""Inside the package `recbole`."""

GROUPLENS_URL = "https://files.grouplens.org/datasets/movielens/ml-100k.zip"
GROUPLENS_MD5 = "0e33842e24a9c977be4e0107933c0723"  # as GroupLens publishes it beside the file

INTER_HEADER = b"user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
ITEM_HEADER = "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"

# The columns of flags in GroupLens' `u.item`, named as in RecBole's `.item`.
GENRES = (
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama",
    "Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
)  # fmt: skip

PIP_TIMEOUT_S = 180
HTTP_TIMEOUT_S = 15


@dataclass(frozen=True, slots=True)
class MovieLens100K:
    """Where the data lie: 943 users, 1,682 movies, 100,000 ratings from 1997 and 1998."""

    inter: Path
    """RecBole's atomic file, as `read_interactions` reads it."""
    items: Path | None
    """Titles, years and genres in RecBole's `.item` format; None where only the ratings were found."""
    found_in: str
    """For people: where they came from."""

    def titles(self) -> dict[int, str]:
        """Item id -> title; empty without `items`."""
        if self.items is None:
            return {}
        rows = (line.split("\t") for line in self.items.read_text("utf-8").strip().split("\n")[1:])
        return {int(row[0]): row[1] for row in rows}


@dataclass(frozen=True, slots=True)
class _Content:
    inter: bytes
    items: bytes | None


class _NotFoundThere(Exception):
    """One place does not have the data; says why."""


def movielens_100k(
    path: str | PathLike[str] | None = None, cache_dir: str | PathLike[str] | None = None
) -> MovieLens100K:
    """Find MovieLens-100K, fetch it where it is not on this machine, and check it.

    Args:
        path: a folder with `ml-100k.inter` or GroupLens' `u.data`, or such a file, or GroupLens' zip; where it
            is given, nothing else is tried.
        cache_dir: where to keep what was fetched; None: `pocketrec` in the user's cache folder.

    Raises:
        InputError: it is not at `path`, or nowhere; lists what was tried.
    """
    cache = (Path(cache_dir) if cache_dir is not None else _user_cache_folder()) / "ml-100k"
    if path is not None:
        try:
            content = _from_path(Path(path))
        except _NotFoundThere as reason:
            raise InputError(f"{path}: not MovieLens-100K ({reason})") from None
        return _keep(content, cache, str(path))
    places: tuple[tuple[str, Callable[[], _Content]], ...] = (
        (f"cache {cache}", lambda: _from_folder(cache)),
        ("installed recbole", _from_installed_recbole),
        (f"pip download {RECBOLE}", _from_recbole_wheel),
        (GROUPLENS_URL, _from_grouplens),
    )
    tried: list[str] = []
    for place, get in places:
        try:
            content = get()
        except _NotFoundThere as reason:
            tried.append(f"{place} ({reason})")
            continue
        return _keep(content, cache, place)
    raise InputError(
        f"MovieLens-100K was not found; tried {'; '.join(tried)}."
        " Give the path of an ml-100k.inter, u.data or ml-100k.zip that you have"
    )


def _user_cache_folder() -> Path:
    """`$XDG_CACHE_HOME/pocketrec`, by default `~/.cache/pocketrec`."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "pocketrec"


def _keep(content: _Content, cache: Path, found_in: str) -> MovieLens100K:
    """The files of the cache, written unless they are there already."""
    inter, items = cache / "ml-100k.inter", cache / "ml-100k.item"
    try:
        cache.mkdir(parents=True, exist_ok=True)
        for file, wanted in ((inter, content.inter), (items, content.items)):
            if wanted is not None and not (file.is_file() and file.read_bytes() == wanted):
                write_atomically(file, [wanted])
    except OSError as error:
        raise InputError(
            f"{cache}: cannot keep MovieLens-100K there ({error.strerror}); give another cache folder"
        ) from None
    return MovieLens100K(inter, items if content.items is not None else None, found_in)


def _from_path(path: Path) -> _Content:
    if path.is_dir():
        return _from_folder(path)
    raw = _read(path)
    if raw.startswith(b"PK"):
        return _from_grouplens_zip(raw)
    if raw.startswith(INTER_HEADER[:8]):
        return _Content(_checked(raw), _read_if_there(path.with_suffix(".item")))
    return _from_u_data(raw, _read_if_there(path.with_name("u.item")))


def _from_folder(folder: Path) -> _Content:
    """A folder with RecBole's files or GroupLens' files, or one that holds such a folder `ml-100k`."""
    for inside in (folder, folder / "ml-100k"):
        if (inside / "ml-100k.inter").is_file():
            return _Content(
                _checked(_read(inside / "ml-100k.inter")), _read_if_there(inside / "ml-100k.item")
            )
        if (inside / "u.data").is_file():
            return _from_u_data(_read(inside / "u.data"), _read_if_there(inside / "u.item"))
    raise _NotFoundThere("no ml-100k.inter or u.data")


def _from_installed_recbole() -> _Content:
    spec = importlib.util.find_spec("recbole")  # finds it without running any of it
    if spec is None or not spec.submodule_search_locations:
        raise _NotFoundThere("not installed")
    return _from_folder(Path(spec.submodule_search_locations[0]) / RECBOLE_FOLDER)


def _from_recbole_wheel() -> _Content:
    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "download", RECBOLE, "--no-deps", "--only-binary=:all:"]
        pip += ["--dest", folder, "--quiet", "--disable-pip-version-check", "--no-input"]
        try:
            done = subprocess.run(pip, capture_output=True, text=True, check=False, timeout=PIP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            raise _NotFoundThere(f"no answer in {PIP_TIMEOUT_S} s") from None
        wheels = sorted(Path(folder).glob("*.whl"))
        if done.returncode or not wheels:
            lines = done.stderr.strip().splitlines() or [f"pip ended with {done.returncode}"]
            errors = [line for line in lines if line.startswith("ERROR")] or lines
            raise _NotFoundThere(errors[-1].removeprefix("ERROR: "))
        with _open_zip(wheels[0].read_bytes()) as wheel:
            inter = _member(wheel, f"recbole/{RECBOLE_FOLDER}/ml-100k.inter")
            return _Content(_checked(inter), _member(wheel, f"recbole/{RECBOLE_FOLDER}/ml-100k.item"))


def _from_grouplens() -> _Content:
    try:
        with urllib.request.urlopen(GROUPLENS_URL, timeout=HTTP_TIMEOUT_S) as answer:
            raw = answer.read()
    except (OSError, http.client.HTTPException) as error:  # URLError is an OSError
        raise _NotFoundThere(str(getattr(error, "reason", error))) from None
    md5 = hashlib.md5(raw, usedforsecurity=False).hexdigest()
    if md5 != GROUPLENS_MD5:
        raise _NotFoundThere(f"md5 {md5}, expected {GROUPLENS_MD5}")
    return _from_grouplens_zip(raw)


def _from_grouplens_zip(raw: bytes) -> _Content:
    with _open_zip(raw) as archive:
        return _from_u_data(_member(archive, "ml-100k/u.data"), _member(archive, "ml-100k/u.item"))


def _from_u_data(data: bytes, items: bytes | None) -> _Content:
    return _Content(_checked(INTER_HEADER + data), None if items is None else _item_file(items))


def _item_file(u_item: bytes) -> bytes:
    """GroupLens' `id|title (year)|date|video date|URL|19 flags` (Latin-1) as RecBole's `.item` (UTF-8)."""
    rows = [ITEM_HEADER]
    for line in u_item.decode("latin-1").strip().split("\n"):
        fields = line.split("|")
        if len(fields) != 5 + len(GENRES):
            raise _NotFoundThere(f"u.item: {len(fields)} fields, expected {5 + len(GENRES)}")
        title, year = fields[1].strip(), ""
        if dated := re.fullmatch(r"(.*?)\s*\((\d{4})\)", title):
            title, year = dated.groups()
        genres = " ".join(name for name, flag in zip(GENRES, fields[5:], strict=True) if flag.strip() == "1")
        rows.append(f"{fields[0]}\t{title}\t{year}\t{genres}\n")
    return "".join(rows).encode()


def _checked(inter: bytes) -> bytes:
    sha256 = hashlib.sha256(inter).hexdigest()
    if sha256 != INTER_SHA256:
        raise _NotFoundThere(f"sha256 of the ratings {sha256[:12]}..., expected {INTER_SHA256[:12]}...")
    return inter


def _open_zip(raw: bytes) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(io.BytesIO(raw))
    except zipfile.BadZipFile as error:
        raise _NotFoundThere(f"not a whole zip file: {error}") from None


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    try:
        return archive.read(name)
    except (KeyError, zipfile.BadZipFile) as error:
        raise _NotFoundThere(f"no {name} in the archive ({error})") from None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _NotFoundThere(error.strerror or str(error)) from None


def _read_if_there(path: Path) -> bytes | None:
    return _read(path) if path.is_file() else None
