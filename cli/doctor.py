"""`pocketrec doctor`: what is installed and what it can run on, as text to paste into a bug report."""

from __future__ import annotations

import argparse
import json
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from .subparsers import Subparsers

# By the name on the package index, in the order of the extras.
PACKAGES = {
    "base": ("numpy", "onnxruntime"),
    "bench": ("polars", "jinja2", "tqdm", "psutil"),
    "compress": ("torch", "torch-pruning", "onnx", "onnxscript", "safetensors"),
    "embed": ("tokenizers",),
    "text": ("optimum-onnx", "transformers"),
    "search": ("optuna",),
}


def add_parser(subparsers: Subparsers) -> None:
    """Declare the options of `pocketrec doctor`."""
    parser = subparsers.add_parser(
        "doctor", description="Show versions, extras and devices, for a bug report."
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")


def run(args: argparse.Namespace) -> int:
    """Print the report; always 0."""
    report = collect()
    if args.json:
        print(json.dumps(report, indent=2))
        return 0
    print(f"pocketrec   {report['pocketrec']}")
    print(f"python      {report['python']}")
    print(f"platform    {report['platform']}, {report['cpus']} CPUs")
    print(f"providers   {', '.join(report['providers'])}")
    for extra, packages in report["packages"].items():
        print(extra)
        for name, installed in packages.items():
            print(f"  {name:<14}{installed or 'not installed'}")
    return 0


def collect() -> dict[str, Any]:
    """The report as data. Packages are looked up, not imported, except onnxruntime for its providers."""
    import onnxruntime

    return {
        "pocketrec": version("pocketrec"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "providers": onnxruntime.get_available_providers(),
        "packages": {extra: {name: _version(name) for name in names} for extra, names in PACKAGES.items()},
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
