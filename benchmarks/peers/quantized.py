"""What a peer makes of the graphs, kept: a run that was stopped, or that measures again, does not make it again.

Below the output folder each peer has one of its own, with what it made and `reply.json`: the worker's reply, and a key
over everything that it depends on. Another graph, calibration, worker or version of a package is another key. Errors are
kept too, but not that there is no environment.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from .peer_list import REQUIREMENTS, Peer
from .protocol import Reply, ask, python_of


def quantized(
    peer: Peer,
    graphs: Mapping[str, Path],
    calibration: Mapping[str, Any],
    *,
    environments: Path,
    output: Path,
    timeout_s: float,
) -> Reply:
    """The peer's reply, whose `files` are below `output`; asked for now, or kept from before."""
    folder = output.absolute() / peer.name
    job = {
        "peer": peer.name,
        "graphs": {name: str(path.absolute()) for name, path in graphs.items()},
        "calibration": calibration,
        "output": str(folder),
    }
    environment = environments.absolute() / peer.environment
    return kept_reply(
        peer,
        environment,
        folder,
        graphs.values(),
        calibration,
        lambda: ask(environment, peer.worker, job, timeout_s=timeout_s),
    )


def kept_reply(
    peer: Peer,
    environment: Path,
    folder: Path,
    files: Iterable[Path],
    asked: Any,
    make: Callable[[], Reply],
) -> Reply:
    """The reply in `folder` if it was made of the same files and the same question, else a new one, made in an empty
    folder; `asked` is plain JSON."""
    digest = hashlib.sha256(peer.command.encode())
    digest.update(json.dumps(asked, sort_keys=True).encode())
    for path in (*files, peer.worker, REQUIREMENTS / f"{peer.environment}.txt"):
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    key, kept = digest.hexdigest(), folder / "reply.json"
    if kept.is_file():
        found = json.loads(kept.read_text(encoding="utf-8"))
        if found["key"] == key:
            return Reply(content=found["content"], error=found["error"], seconds=found["seconds"])
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    reply = make()
    if python_of(environment).exists():
        content = {"key": key, "content": dict(reply.content), "error": reply.error, "seconds": reply.seconds}
        kept.write_text(json.dumps(content), encoding="utf-8")
    return reply
