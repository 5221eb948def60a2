"""Devices that are not there: each says what is missing, and nothing else stops working."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pretend import plugin_of_text

import facsnet as fn
from facsnet import _core, _device
from facsnet._device import device_text
from facsnet.cli import main

PLUGIN = """
#include "kernel/plugin.h"
__attribute__((visibility("default"))) facs_plugin_opener facs_plugin_open;
facs_status facs_plugin_open(facs_plugin *plugin, facs_report *report)
{
    %s
    return FACS_OK;
}
"""
WHOLE = "*plugin = (facs_plugin){FACS_PLUGIN_ABI, sizeof(facs_kernels), sizeof(facs_device)}; (void)report;"


def network(device: str) -> fn.Network:
    return fn.Network("mobilenet_v1", labels=2, width=0.25, input_size=32, device=device)


@pytest.fixture
def plugin(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """One that is made from the C of the parameter, in the place of CUDA's."""
    path = plugin_of_text(tmp_path, request.param)
    monkeypatch.setattr(_device, "plugin_path", lambda: path)
    return path


def check_absence(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(fn.DeviceError, match=text):
        network("cuda")
    assert network("auto").device == "cpu"
    assert fn.about()["cuda"].startswith("none (")
    assert main(["bench", "--width", "0.25", "--device", "cuda"]) == 1
    assert "facsnet bench: " in capsys.readouterr().err


@pytest.mark.parametrize("device", ["gpu", "CUDA", "cuda:0", "", None, 0])
def test_unknown_devices(device: str, tmp_path: Path) -> None:
    text = r"device is .*, want 'cpu', 'cuda' or 'auto'"
    with pytest.raises(ValueError, match=text):
        network(device)
    with pytest.raises(ValueError, match=text):
        fn.AUClassifier.load(tmp_path / "none.safetensors", device=device)
    with pytest.raises(ValueError, match=text):
        fn.load_weights(tmp_path / "none.safetensors", device=device)


def test_no_plugin(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(_device, "plugin_path", lambda: tmp_path / "libfacs_cuda.so")
    check_absence("cuda: this facsnet was built without CUDA, there is no .*libfacs_cuda.so", capsys)


def test_no_shared_object(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "libfacs_cuda.so"
    path.write_bytes(b"not a library")
    monkeypatch.setattr(_device, "plugin_path", lambda: path)
    check_absence(r"cannot load .*libfacs_cuda.so: ", capsys)


@pytest.mark.parametrize("plugin", ["int facs_another;"], indirect=True)
def test_no_plugin_of_ours(plugin: Path, capsys: pytest.CaptureFixture[str]) -> None:
    check_absence(f"{plugin} is not a device plugin of facsnet", capsys)


@pytest.mark.parametrize(
    "plugin",
    [
        PLUGIN % f"{WHOLE} {change}"
        for change in ("plugin->abi++;", "plugin->kernel_bytes -= 8;", "plugin->device_bytes++;")
    ],
    indirect=True,
    ids=["abi", "kernels", "device"],
)
def test_another_version(plugin: Path, capsys: pytest.CaptureFixture[str]) -> None:
    check_absence(f"{plugin} was built for another version of facsnet", capsys)


@pytest.mark.parametrize(
    "plugin", [PLUGIN % '(void)plugin; return report(FACS_E_DEVICE, "cuda: no %s", "driver");'], indirect=True
)
def test_no_driver(plugin: Path, capsys: pytest.CaptureFixture[str]) -> None:
    check_absence("cuda: no driver", capsys)


def test_the_plugin_that_was_built(capsys: pytest.CaptureFixture[str]) -> None:
    """It loads, and says what the machine lacks where it lacks something."""
    path = _device.plugin_path()
    if not path.exists():
        pytest.skip("this facsnet was built without CUDA")
    if device_text().startswith("none"):
        check_absence("cuda: no ", capsys)
    else:
        facts = _core.device_facts(str(path))
        assert facts["memory_total"] > 0 and facts["capability"].startswith("sm_")
        assert network("auto").device == "cuda"


def test_arrays_without_a_device() -> None:
    net, x = network("cpu"), np.zeros((1, 32, 32, 3), np.uint8)
    assert net.to_device(x) is x and net.device == "cpu"
    with pytest.raises(fn.DeviceError, match="cannot load"):
        _core.DeviceArray(x, "/nowhere/libfacs_cuda.so")
    assert fn.Trainer(net).workers >= 1
