"""What a measuring module prints and writes: one JSON object, with the machine, the command and the time beside the figures."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .machine import describe_machine


def measurement(command: str, settings: Mapping[str, Any], results: Mapping[str, Any]) -> dict[str, Any]:
    """The whole object, ready for JSON; `settings` is what was asked for, the seed among it."""
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
        "settings": dict(settings),
        "results": dict(results),
        "machine": describe_machine(),
    }


def write_measurement(
    path: Path | None,
    module: str,
    settings: Mapping[str, Any],
    results: Mapping[str, Any],
    *,
    package: str = "pocketrec.benchmarks",
) -> None:
    """Print the results and, where a path is given, write them there.

    Args:
        module: as it is run: `python -m PACKAGE.MODULE`.
        settings: what was asked for, the seed among it.
    """
    whole = measurement(f"python -m {package}.{module}", settings, results)
    print(json.dumps(results, indent=2))
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(whole, indent=2) + "\n", encoding="utf-8")
        print(f"wrote {path}", file=sys.stderr)
