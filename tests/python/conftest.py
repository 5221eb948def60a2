"""What several tests need."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from devices import PLACES
from pretend import pretend_device

import facsnet as fn
from facsnet import _device
from facsnet.datasets import synthetic_faces


@pytest.fixture(autouse=True)
def _usual_ctrl_c() -> Iterator[None]:
    """Python's own handler of SIGINT, which a run in the background of a shell does not have."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of weights and faces that are not in the repository: $FACSNET_DATA, else ../shared/data."""
    root = Path(os.environ.get("FACSNET_DATA", Path(__file__).resolve().parents[2].parent / "shared" / "data"))
    if not root.is_dir():
        pytest.skip(f"needs private test data: there is none at {root} (set FACSNET_DATA)")
    return root


@pytest.fixture(scope="session")
def pretended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pretend_device(tmp_path_factory.mktemp("pretend"))


@pytest.fixture(params=PLACES)
def where(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    return settle_in(request, monkeypatch)


@pytest.fixture(params=["rungs", *PLACES])
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """As `where`, or ``"rungs"``: the pretended device against the CPU's fastest kernels, which add in another order."""
    return settle_in(request, monkeypatch)


def settle_in(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param != "gpu":
        plugin = request.getfixturevalue("pretended")
        monkeypatch.setattr(_device, "plugin_path", lambda: plugin)
    if request.param == "pretend":
        monkeypatch.setenv("FACS_CPU", "ref")
    return str(request.param)


@pytest.fixture(scope="session")
def face_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 faces of 64 x 64 as files with labels.csv, 10 subjects, AU04, AU12 and AU25; broken.jpg is none."""
    from PIL import Image

    root = tmp_path_factory.mktemp("faces")
    labels = ("AU04", "AU12", "AU25")
    drawn = synthetic_faces(120, seed=5, subjects=10).select_labels(labels)
    rows = []
    for i, image in enumerate(drawn.images):
        Image.fromarray(fn.resize_image(np.asarray(image), 64, 64)).save(root / f"{i:03d}.png")
        values = dict(zip(labels, drawn.labels[i], strict=True))
        rows.append({"image": f"{i:03d}.png", "subject": drawn.subjects[i], **values})
    pd.DataFrame(rows).to_csv(root / "labels.csv", index=False)
    (root / "broken.jpg").write_bytes(b"\xff\xd8\xff not a picture")
    return root
