"""Experiments from TOML: what a config may say, and the command that runs one."""

from __future__ import annotations

import inspect
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import trees

import facsnet as fn
from facsnet import experiment as module
from facsnet import published
from facsnet._frame_store import StoreWriter
from facsnet._runs import read_result
from facsnet.cli import main
from facsnet.experiment import read_experiment
from facsnet.losses import Loss

ROOT = Path(__file__).parents[2]

CONFIG = """
title = "Faces & <losses>"
[data]
path = "labels.csv"
select = ["AU04", "AU25"]
[folds]
k = 2
[compare]
losses = ["bce", { label = "mostly bce", name = "pr", bce_weight = 0.9 }]
seeds = [4]
[training]
width = 0.25
input_size = 32
batch_size = 16
[[training.stages]]
name = "all"
epochs = 1
rate = 1e-3
unfreeze = "all"
[process]
workers = 1
dtype = "float32"
memory = "low"
[report]
draws = 20
faces = false
"""


def config(folder: Path, text: str = CONFIG) -> Path:
    path = folder / "config.toml"
    path.write_text(text)
    return path


def test_the_command(face_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = config(tmp_path, CONFIG.replace("labels.csv", str(face_folder / "labels.csv")))
    assert main(["experiment", str(path)]) == 0
    said = capsys.readouterr().out
    out = tmp_path / "config"
    assert "4 runs\n" in said and "4 of 4: mostly bce, seed 4, fold 1: trained in" in said
    assert said.endswith(f"report: {out / 'report.html'}\n")
    frame = pd.read_csv(out / "results.csv")
    assert frame["setting"].unique().tolist() == ["bce", "mostly bce"]
    assert frame["label"].unique().tolist() == ["AU04", "AU25", "mean"]
    assert "Faces &amp; &lt;losses&gt;" in (out / "report.html").read_text()
    assert (out / "results.txt").read_text() in said
    detector = fn.AUClassifier.load(out / "runs" / "mostly-bce-seed4-fold0.model.safetensors")
    assert detector.loss == Loss("pr", bce_weight=0.9) and detector.random_state == 4
    assert [stage.name for stage in detector.stages] == ["all"]
    planned = detector.network.plan_bytes(batch=16, training=True, memory="low")
    result = read_result(out / "runs" / "mostly-bce-seed4-fold0.result.safetensors")
    assert result.costs["stages"][0]["memory"] == planned
    assert main(["experiment", str(path), "--workers", "2"]) == 0
    again = capsys.readouterr().out
    assert "4 runs, 4 of them done before" in again and (out / "results.txt").read_text() in again
    assert main(["experiment", str(config(tmp_path, path.read_text().replace("seeds = [4]", "seeds = [4, 5]")))]) == 0
    assert "8 runs, 4 of them done before" in capsys.readouterr().out
    assert main(["experiment", str(config(tmp_path, path.read_text().replace("rate = 1e-3", "rate = 2e-3")))]) == 1
    assert "is of other data, other arguments or" in capsys.readouterr().err


def test_the_example() -> None:
    example = read_experiment(ROOT / "docs" / "examples" / "losses.toml")
    assert example.compare["losses"] == {"bce": "bce", "lsep": "lsep", "pr": Loss("pr", bce_weight=0.1)}
    small = {**example.data, "n": 60}
    samples = module.Experiment(data=small).samples()
    assert len(samples) == 60 and samples.label_names == fn.datasets.ACTION_UNITS
    assert len(samples.folds(**example.folds)) == 3


def test_the_example_of_disfa() -> None:
    example = read_experiment(ROOT / "docs" / "examples" / "disfa.toml")
    inspect.signature(fn.read_disfa).bind(**{k: v for k, v in example.data.items() if k != "reader"})
    inspect.signature(fn.Samples.folds).bind(None, **example.folds)
    assert [f"AU{unit:02d}" for unit in example.data["aus"]] == list(published.DISFA_LABELS)


def test_readers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_things(root: Path, *, colour: str = "red") -> fn.Samples:
        assert root == tmp_path / "things" and colour == "blue"
        labels = np.array([[1, 0], [1, 1], [1, 0]])
        return fn.Samples.from_arrays(np.zeros((3, 8, 8, 3), np.uint8), labels, label_names=["AU01", "AU02"])

    read_things.__annotations__["return"] = "Samples"
    monkeypatch.setattr(fn, "read_things", read_things, raising=False)
    monkeypatch.setattr(fn, "__all__", [*fn.__all__, "read_things"])
    data = {"reader": "things", "root": "things", "colour": "blue"}
    assert module.Experiment(data=data, folder=tmp_path).samples().label_names == ("AU01", "AU02")
    kept = module.Experiment(data={**data, "min_positives": 2}, folder=tmp_path).samples()
    assert kept.label_names == ("AU01",)
    with pytest.raises(ValueError, match="data: the reader 'things': .*shape"):
        module.Experiment(data={**data, "shape": 3}, folder=tmp_path).samples()
    for name in ("nothing", "image", "faces", "experiment"):
        with pytest.raises(ValueError, match=f"data: there is no reader '{name}', but csv, synthetic_faces, .*disfa"):
            module.Experiment(data={"reader": name}).samples()


def test_published_rows_come_with_the_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, object] = {}

    def note(samples: fn.Samples, **options: object) -> None:
        given.update(options)
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "cross_validate", note)

    def read_disfa(root: Path, *, eight: bool = True, positive: float = 2) -> fn.Samples:
        labels = np.zeros((3, 2))
        names = ["AU01", "AU02" if eight else "AU05"]
        return fn.Samples.from_arrays(np.zeros((3, 8, 8, 3), np.uint8), labels, label_names=names)

    read_disfa.__annotations__["return"] = "Samples"
    monkeypatch.setattr(fn, "read_disfa", read_disfa)
    disfa = {"reader": "disfa", "root": "x"}
    for data, k, wanted in (
        (disfa, "disfa", "disfa"),
        ({**disfa, "positive": 2}, "disfa", "disfa"),
        ({**disfa, "positive": 1}, "disfa", None),
        (disfa, 3, None),
        ({**disfa, "eight": False}, "disfa", None),
        ({"reader": "synthetic_faces", "n": 3}, "disfa", None),
    ):
        with pytest.raises(KeyboardInterrupt):
            module.Experiment(data=data, folds={"k": k}).run(tmp_path)
        assert given.pop("published", None) == wanted


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("title = 3", "title is 3, want str"),
        ("data = 3", r"data is 3, want a section \[data\]"),
        ("[date]", "there is no section 'date', but title, data"),
        ("[compare]\nloss = ['pr']", "compare: there is no entry 'loss', but backbones, losses, seeds"),
        ("[compare]\nlosses = ['prr']", "loss is 'prr'"),
        ("[compare]\nlosses = [{ name = 'pr', weight = 1 }]", r"compare.losses\[0\] is 'weight', want fields of name"),
        ("[compare]\nlosses = ['pr', { name = 'pr', bce_weight = 1.0 }]", "'pr' is there twice: give them a label"),
        ("[compare]\nseeds = 3", "compare.seeds is 3, want a list"),
        ("[training]\nrandom_state = 3", "training: there is no entry 'random_state'"),
        ("[training]\nhead_epochs = '3'", "training.head_epochs is '3', want int"),
        ("[training]\nstages = [{ name = 'a', epochs = 1, rate = -1.0 }]", r"training.stages\[0\]: .*rate is -1"),
        ("[process]\nworkers = 'all'", "process.workers is 'all', want int"),
        ("[report]\ncolour = 1", "report: there is no entry 'colour', but published, draws, faces"),
    ],
)
def test_what_a_config_may_not_say(text: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        read_experiment(config(tmp_path, text))
    assert str(caught.value).startswith(f"{tmp_path / 'config.toml'}: ")
    assert main(["experiment", str(tmp_path / "config.toml")]) == 1
    assert capsys.readouterr().err.startswith("facsnet experiment: ")


def test_what_is_no_config(tmp_path: Path) -> None:
    with pytest.raises(fn.FormatError, match=r"config\.toml: not TOML"):
        read_experiment(config(tmp_path, "title = "))
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(fn.FormatError, match=r"bytes\.toml: not TOML"):
        read_experiment(tmp_path / "bytes.toml")
    with pytest.raises(FileNotFoundError):
        read_experiment(tmp_path / "none.toml")


@pytest.mark.parametrize("option", ["--workers", "--threads"])
def test_numbers_of_the_command(option: str, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["experiment", str(config(tmp_path)), option, "0"])


def test_disfa_on_its_folds_beside_published_results(tmp_path: Path) -> None:
    """From label files and a packed file of frames to the report, in processes."""
    subjects = [subject for fold in fn.DISFA_FOLDS for subject in fold]
    trees.disfa(tmp_path / "disfa", trees.disfa_levels(subjects, frames=4))
    faces = np.random.default_rng(0).integers(0, 256, (27, 4, 32, 32, 3), np.uint8)
    writer = StoreWriter(tmp_path / "frames", packed=True, size=32, recipe=None)
    for subject, frames in zip(subjects, faces, strict=True):
        writer.add(trees.write(tmp_path / f"LeftVideo{subject}_comp.avi"), iter(frames))
    writer.close()
    text = CONFIG.replace(
        'path = "labels.csv"', 'reader = "disfa"\nroot = "disfa"\nframes = "frames"\ncomplete = false'
    )
    text = text.replace("k = 2", 'k = "disfa"').replace("bce_weight = 0.9", "bce_weight = 0.5")
    found = read_experiment(config(tmp_path, text)).run(tmp_path / "out", workers=2)
    for fold, names in enumerate(fn.DISFA_FOLDS):
        assert set(found.test(fold).subjects) == set(names)
    rows = pd.read_csv(tmp_path / "out" / "published.csv", index_col="method")
    assert rows.loc["JAA-Net"].tolist() == pytest.approx([56.0, 88.3, 72.15]) and "ours: bce" in rows.index
    assert "Shao et al." in (tmp_path / "out" / "report.html").read_text()
