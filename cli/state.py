"""`pocketrec state ACTION FILE`: what is kept of a user: show it, take it away, erase it, or carry it to another bundle.

FILE is one user's state, or a store of many (`UserStore`), of which `--user` names one. Needs the base install only.
Files that an app encrypted are the app's to open: `User.export`, `User.erase`, `UserStore.migrate`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .subparsers import Subparsers

if TYPE_CHECKING:
    from ..runtime.reranker import Reranker
    from ..runtime.user_state import UserState
    from ..runtime.user_store import UserStore

ACTIONS = {
    "show": "what is kept, in a few lines",
    "export": "everything that is kept, as JSON",
    "erase": "remove it",
    "migrate": "carry it to the bundle --to, by item id",
}
_SQLITE = b"SQLite format 3\0"


def add_parser(subparsers: Subparsers) -> None:
    """Declare the options of `pocketrec state`."""
    parser = subparsers.add_parser(
        "state", description="Show, export, erase or migrate what is kept of a user on this device."
    )
    actions = "; ".join(f"{name}: {what}" for name, what in ACTIONS.items())
    parser.add_argument("action", choices=tuple(ACTIONS), metavar="ACTION", help=actions)
    parser.add_argument("file", metavar="FILE", help="a user's state, or a store of many users")
    parser.add_argument("--user", metavar="NAME", help="of a store: which user; without it all of them")
    parser.add_argument("--to", metavar="BUNDLE", help="of migrate: the bundle to go on with")
    parser.add_argument(
        "--from",
        dest="old",
        metavar="BUNDLE",
        help="of migrate: the bundle that the state was learned with, whose vectors are then mapped; without it "
        "the history is learned again",
    )
    parser.add_argument("--json", action="store_true", help="of show: as JSON")


def run(args: argparse.Namespace) -> int:
    """Do what was asked for; 0, or an error of the runtime."""
    from ..runtime.errors import InputError

    if args.action == "migrate" and args.to is None:
        raise InputError("migrate: no bundle to go to; give one with --to")
    if args.action != "migrate" and (args.to or args.old):
        raise InputError(f"{args.action}: --from and --to are of migrate")
    path = Path(args.file)
    with path.open("rb") as file:
        first = file.read(len(_SQLITE))
    if first == _SQLITE:
        return _run_on_store(args, path)
    if args.user is not None:
        raise InputError(f"{path}: one user's state, not a store; leave out --user")
    return _run_on_file(args, path, first)


def _run_on_file(args: argparse.Namespace, path: Path, first: bytes) -> int:
    from ..runtime.errors import StateError
    from ..runtime.state_export import exported
    from ..runtime.state_file import StateFile
    from ..runtime.user_state import MAGIC, UserState, read_state

    place = StateFile(path)
    match args.action:
        case "erase":
            if not first.startswith(MAGIC):  # a damaged state is erased, another file is not
                raise StateError(f"{path}: not a user's state; nothing was erased")
            place.erase()
            print(f"{path}: erased")
        case "export":
            _print_json(exported(read_state(path)))
        case "migrate":
            new, old = _rankers(args)
            state = place.load() or UserState()
            place.save(_migrated(state, new, old))
            print(f"{path}: {_known(state, new)}")
        case _:
            shown = {"file": str(path), "size_bytes": path.stat().st_size, **summary(read_state(path))}
            _show(shown, as_json=args.json)
    return 0


def _run_on_store(args: argparse.Namespace, path: Path) -> int:
    from ..runtime.user_store import UserStore

    with UserStore(path) as store:
        if args.user is None:
            _all_users(args, store)
        else:
            _one_user(args, store, args.user)
    return 0


def _all_users(args: argparse.Namespace, store: UserStore) -> None:
    from ..runtime.errors import InputError

    match args.action:
        case "erase":
            raise InputError(
                f"{store.path}: a store of {len(store):,} users; name one with --user, or delete the file"
            )
        case "export":
            for name in store.names():  # one line a user: a store need not fit the memory
                print(json.dumps({"user": name, **(store.export(name) or {})}))
        case "migrate":
            new, old = _rankers(args)
            n_changed = store.migrate(lambda state: _migrated(state, new, old))
            print(f"{store.path}: {n_changed:,} of {len(store):,} users migrated")
        case _:
            shown = {"file": str(store.path), "size_bytes": store.size_bytes(), "users": len(store)}
            _show(shown, as_json=args.json)


def _one_user(args: argparse.Namespace, store: UserStore, name: str) -> None:
    from ..runtime.errors import InputError
    from ..runtime.state_export import exported

    place = store.user(name)
    state = place.load()
    if state is None:
        raise InputError(f"{store.path}: no user {name!r} among {len(store):,}")
    match args.action:
        case "erase":
            place.erase()
            print(f"{store.path}: user {name!r} erased")
        case "export":
            _print_json(exported(state))
        case "migrate":
            new, old = _rankers(args)
            place.save(_migrated(state, new, old))
            print(f"{store.path}, user {name!r}: {_known(state, new)}")
        case _:
            _show({"file": str(store.path), "user": name, **summary(state)}, as_json=args.json)


def summary(state: UserState) -> dict[str, Any]:
    """What `show` tells of a state: counts, no items."""
    return {
        "events": len(state.history),
        "dismissed": len(state.dismissed),
        "bundle": state.bundle,
        "learned_numbers": sum(values.size for values in state.learned.values()),
        **state.counters,
        **{f"extra.{name}": _length(value) for name, value in state.extra.items()},
    }


def _length(value: Any) -> Any:
    return len(value) if isinstance(value, list | dict) else value


def _rankers(args: argparse.Namespace) -> tuple[Reranker, Reranker | None]:
    from ..runtime.reranker import Reranker

    return Reranker.load(args.to), None if args.old is None else Reranker.load(args.old)


def _migrated(state: UserState, new: Reranker, old: Reranker | None) -> UserState:
    from ..runtime.state_transfer import migrate

    return migrate(state, new, old)


def _known(state: UserState, new: Reranker) -> str:
    from ..runtime.candidates import item_rows

    n_known = int((item_rows(new.engine.item_ids, list(state.history)) >= 0).sum())
    return f"migrated; {n_known:,} of {len(state.history):,} events are of items that the new bundle knows"


def _show(fields: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        _print_json(fields)
    else:
        print("\n".join(_lines(fields)))


def _lines(fields: dict[str, Any]) -> Iterator[str]:
    width = max(map(len, fields))
    for name, value in fields.items():
        text = f"{value:,}" if type(value) is int else str(value)
        yield f"{name:{width}}  {text if text.isprintable() else repr(text)}"


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=True))  # an id may hold what a terminal obeys
