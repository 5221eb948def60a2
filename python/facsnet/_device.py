"""Where networks run: the CPU, or a GPU through a plugin that is loaded when it is asked for."""

from __future__ import annotations

from pathlib import Path

from facsnet import _core

__all__ = ["DEVICES", "check_device", "device_text", "free_memory", "plugin_of", "plugin_path"]

DEVICES = ("cpu", "cuda", "auto")


def check_device(device: str) -> str:
    """The same; raises ValueError where there is no such kind of device."""
    if device not in DEVICES:
        raise ValueError(f"device is {device!r}, want {', '.join(map(repr, DEVICES[:-1]))} or {DEVICES[-1]!r}")
    return device


def plugin_path() -> Path:
    """Where the plugin of CUDA is, if it was built."""
    return Path(_core.__file__).with_name("libfacs_cuda.so")


def _cuda_plugin() -> str:
    path = plugin_path()
    if not path.exists():
        raise _core.DeviceError(
            f"cuda: this facsnet was built without CUDA, there is no {path}: install it from source on a machine with "
            "nvcc and FACS_CUDA=1"
        )
    return str(path)


def plugin_of(device: str) -> str:
    """The plugin of a device, "" for the CPU; ``"auto"`` is CUDA's where there is a GPU.

    Raises
    ------
    DeviceError
        For ``"cuda"`` where there is no plugin. What else it lacks, the core says as it loads it.
    """
    if device == "cpu":
        return ""
    if device == "cuda":
        return _cuda_plugin()
    try:
        plugin = _cuda_plugin()
        _core.device_facts(plugin)
    except _core.DeviceError:
        return ""
    return plugin


def free_memory() -> int:
    """Bytes that are free on the GPU."""
    return _core.device_facts(_cuda_plugin())["memory_free"]


def device_text() -> str:
    """The GPU that ``"cuda"`` would use, or why there is none."""
    try:
        facts = _core.device_facts(_cuda_plugin())
    except _core.DeviceError as problem:
        return f"none ({problem})"
    memory = f"{facts['memory_free'] / 1e9:.1f} of {facts['memory_total'] / 1e9:.1f} GB free"
    driver = f"driver of CUDA {facts['driver'] // 1000}.{facts['driver'] % 1000 // 10}"
    return f"{facts['name']}, {facts['capability']}, {memory}, {driver}"
