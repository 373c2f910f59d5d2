"""Where a model may run: names of devices, the onnxruntime providers behind them, and one line where one is not there.

Which providers there are depends on the onnxruntime that is installed: the wheel `onnxruntime` has the CPU's, others bring
the others. A provider that does not know an operator leaves it to the next of the list; the CPU's, which knows all of
them, is always last.
"""

from __future__ import annotations

from typing import Literal, get_args

import onnxruntime

from .errors import InputError

Device = Literal["cpu", "cuda", "tensorrt", "openvino", "coreml", "xnnpack"]
DEVICES: tuple[Device, ...] = get_args(Device)
PROVIDERS: dict[str, tuple[str, ...]] = {
    "cpu": ("CPUExecutionProvider",),
    "cuda": ("CUDAExecutionProvider", "CPUExecutionProvider"),
    "tensorrt": ("TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"),
    "openvino": ("OpenVINOExecutionProvider", "CPUExecutionProvider"),
    "coreml": ("CoreMLExecutionProvider", "CPUExecutionProvider"),
    "xnnpack": ("XnnpackExecutionProvider", "CPUExecutionProvider"),
}
"""The one asked for first, then what takes over the operators that it does not know."""
INSTALL: dict[str, str] = {
    "cpu": "onnxruntime",
    "cuda": "onnxruntime-gpu",
    "tensorrt": "onnxruntime-gpu and TensorRT",
    "openvino": "onnxruntime-openvino",
    "coreml": "onnxruntime on a Mac",
    "xnnpack": "an onnxruntime built with XNNPACK",
}
MEMORY: dict[str, str] = {"cuda": "cuda", "tensorrt": "cuda"}
"""Where arrays of a device live, as onnxruntime names it, if not in the CPU's memory."""


def device_memory(device: str) -> str:
    """Where inputs and outputs of a device live: `cpu`, or memory of its own that they are copied to and from.

    >>> device_memory("cuda"), device_memory("openvino")
    ('cuda', 'cpu')
    """
    return MEMORY.get(device, "cpu")


def execution_providers(device: str) -> list[str]:
    """The onnxruntime providers of a device, for a session; raises `InputError` where it is unknown or not installed.

    >>> execution_providers("cpu")
    ['CPUExecutionProvider']
    """
    if problem := device_problem(device):
        raise InputError(problem)
    installed = onnxruntime.get_available_providers()
    return [name for name in PROVIDERS[device] if name in installed]


def device_problem(device: str) -> str | None:
    """Why a model cannot run on `device` with this onnxruntime, in one line; None where it can."""
    if device not in PROVIDERS:
        return f"device: got {device!r}, expected one of {', '.join(DEVICES)}"
    installed = onnxruntime.get_available_providers()
    if PROVIDERS[device][0] in installed:
        return None
    # The Azure provider sends work to a server and is part of every onnxruntime: no device of this machine.
    here = ", ".join(name for name in installed if name != "AzureExecutionProvider")
    return (
        f"device {device}: this onnxruntime has {here} only; install {INSTALL[device]}, or use another device"
    )
