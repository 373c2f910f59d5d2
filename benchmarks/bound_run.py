"""One graph with its arrays bound to a device: copied there, run there, fetched, each a call of its own.

`session.run` copies in and out by itself, and its time holds all three. Here inputs are `OrtValue`s in the device's memory
and outputs stay there until they are asked for (onnxruntime, "I/O Binding"), so that what the model costs and what the way to
the device costs are known apart. In the CPU's own memory the same calls work, and the copies are nearly free.

A device works on its own: `run` and the copies wait until it is done, else a clock would see nothing.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

Inputs = Mapping[str, NDArray[Any]]


class BoundRun:
    """A session and what is bound to it."""

    def __init__(self, session: onnxruntime.InferenceSession, memory: str, device_id: int = 0) -> None:
        """
        Args:
            memory: where the arrays live, as onnxruntime calls it: `cpu` or `cuda` (`runtime.devices.device_memory`).
        """
        self._session = session
        self._memory, self._device_id = memory, device_id
        self._outputs = [output.name for output in session.get_outputs()]
        self._binding: Any = session.io_binding()
        self.bytes_in = 0
        """Of the inputs that were copied last."""
        self.bytes_out = 0
        """Of the outputs that were fetched last."""

    def copy_in(self, inputs: Inputs) -> None:
        """Put the inputs into the device's memory and bind them; outputs are bound to be left there."""
        self._binding.clear_binding_inputs()
        self._binding.clear_binding_outputs()
        self.bytes_in = 0
        for name, array in inputs.items():
            whole = np.ascontiguousarray(array)
            value: Any = onnxruntime.OrtValue.ortvalue_from_numpy(whole, self._memory, self._device_id)
            self._binding.bind_ortvalue_input(name, value)
            self.bytes_in += whole.nbytes
        for name in self._outputs:
            self._binding.bind_output(name, self._memory, self._device_id)
        self._binding.synchronize_inputs()

    def run(self) -> None:
        """Run what is bound, and wait for it."""
        self._session.run_with_iobinding(self._binding)
        self._binding.synchronize_outputs()

    def copy_out(self) -> list[NDArray[Any]]:
        """The outputs, in the CPU's memory."""
        found: list[NDArray[Any]] = self._binding.copy_outputs_to_cpu()
        self.bytes_out = sum(array.nbytes for array in found)
        return found

    def __call__(self, inputs: Inputs) -> list[NDArray[Any]]:
        """All three; the outputs in the session's order."""
        self.copy_in(inputs)
        self.run()
        return self.copy_out()


def node_placement(
    session: Callable[[onnxruntime.SessionOptions], onnxruntime.InferenceSession],
    options: onnxruntime.SessionOptions,
    inputs: Inputs,
) -> dict[str, Any]:
    """Which provider runs how many nodes, and how many copies between memories onnxruntime put inside the graph.

    A provider that does not know an operator leaves it to the CPU, and the arrays go back and forth: that is a transfer that no
    binding shows. Read from onnxruntime's own profile of one run.

    Args:
        session: makes one of the same graph, with the options it is given.

    Returns:
        `nodes`, a count by provider, and `copies_inside`.
    """
    with tempfile.TemporaryDirectory(prefix="pocketrec-profile-") as folder:
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "run")
        profiled = session(options)
        profiled.run(None, dict(inputs))
        events = json.loads(Path(profiled.end_profiling()).read_text(encoding="utf-8"))
    nodes: dict[str, str] = {}
    copies: set[str] = set()
    for event in events:
        said = event.get("args") or {}
        if event.get("cat") != "Node" or "provider" not in said or not event["name"].endswith("_kernel_time"):
            continue
        if str(said.get("op_name")).startswith("Memcpy"):
            copies.add(event["name"])
        else:
            nodes[event["name"]] = said["provider"]
    counts = {name: list(nodes.values()).count(name) for name in sorted(set(nodes.values()))}
    return {"nodes": counts, "copies_inside": len(copies)}
