"""Reports: their numbers, their plots and the HTML page."""

from __future__ import annotations

import base64
import builtins
import io
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
from page_parser import Page

import facsnet as fn
from facsnet import _gallery, metrics
from facsnet.report import Report

pd = pytest.importorskip("pandas")
pytest.importorskip("jinja2")
matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")
plt = pytest.importorskip("matplotlib.pyplot")

LABELS = ("AU01", "AU02", "AU12")
HISTORY = [
    {
        "stage": "head",
        "epoch": 1,
        "loss": 0.7,
        "valid_loss": 0.8,
        "valid_f1": 0.4,
        "valid_average_precision": 0.5,
        "lr": 1e-3,
        "seconds": 1.5,
    },
    {
        "stage": "head",
        "epoch": 2,
        "loss": 0.5,
        "valid_loss": 0.6,
        "valid_f1": 0.6,
        "valid_average_precision": 0.7,
        "lr": 1e-3,
        "seconds": 1.5,
    },
    {
        "stage": "finetune",
        "epoch": 1,
        "loss": 0.4,
        "valid_loss": 0.5,
        "valid_f1": 0.7,
        "valid_average_precision": None,
        "lr": 1e-4,
        "seconds": 9.0,
    },
]


@pytest.fixture
def case():
    """20 images, unknown targets, a label without a positive."""
    rng = np.random.default_rng(0)
    target = (rng.random((20, 3)) < 0.4).astype(np.float32)
    target[:, 1] = 0
    target[3, 0] = np.nan
    scores = np.clip(0.5 * np.nan_to_num(target) + 0.6 * rng.random((20, 3)), 0, 1).astype(np.float32)
    return {"label_names": LABELS, "scores": scores, "target": target, "thresholds": np.array([0.55, 0.5, 0.6])}


@pytest.fixture
def images():
    return np.random.default_rng(1).integers(0, 256, (20, 40, 30, 3), dtype=np.uint8)


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def page_of(report, path, **options):
    report.save_html(path, **options)
    return Page(path.read_text(encoding="utf-8"))


def test_frame_holds_the_measures(case):
    frame = Report(**case).to_frame()
    scores, target, limits = case["scores"], case["target"], case["thresholds"]
    assert frame.index.tolist() == [*LABELS, "mean"]
    assert frame.index.name == "label"
    rows = frame.iloc[:3]
    for name in ("precision", "recall", "f1", "accuracy"):
        rate = getattr(metrics, name)
        np.testing.assert_array_equal(rows[name], rate(scores, target))
        np.testing.assert_array_equal(rows[f"{name}_fitted"], rate(scores, target, threshold=limits))
    np.testing.assert_array_equal(rows["average_precision"], metrics.average_precision(scores, target))
    np.testing.assert_array_equal(rows["roc_auc"], metrics.roc_auc(scores, target))
    np.testing.assert_array_equal(rows["threshold"], limits)
    assert rows["support"].tolist() == [19, 20, 20]
    assert rows["positives"].tolist() == np.nansum(target, axis=0).tolist()
    np.testing.assert_array_equal(rows["prevalence"], np.nansum(target, axis=0) / [19, 20, 20])


def test_mean_leaves_out_what_is_undefined(case):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = Report(**case)
        frame = report.to_frame()
    assert np.isnan(frame.loc["AU02", "f1"])
    assert frame.loc["mean", "f1"] == (frame.loc["AU01", "f1"] + frame.loc["AU12", "f1"]) / 2
    assert pd.isna(frame.loc["mean", "support"])
    assert np.isnan(frame.loc["mean", "threshold"])
    assert [note for note in report.notes if note.startswith("AU02: no positive;") and "average precision" in note]


def test_notes_give_the_reason():
    target = np.array([[1, np.nan, 0, 1], [1, np.nan, 0, 0]])
    scores = np.array([[0.9, 0.9, 0.1, 0.2], [0.8, 0.9, 0.1, 0.1]])
    notes = Report(label_names=["always", "unknown", "never", "missed"], scores=scores, target=target).notes
    assert "always: no negative; left out of the mean of ROC AUC." in notes
    assert "never, missed: nothing predicted; left out of the mean of precision." in notes
    assert any(note.startswith("unknown: no known target; left out of the mean of precision, recall") for note in notes)
    assert any(note.startswith("never: no positive; left out of the mean of recall, F1") for note in notes)
    assert not any("fitted threshold" in note for note in notes)


def test_csv_is_the_frame(case, tmp_path):
    report = Report(**case)
    report.to_csv(tmp_path / "scores.csv")
    frame = pd.read_csv(tmp_path / "scores.csv", index_col="label", dtype={"support": "Int64", "positives": "Int64"})
    pd.testing.assert_frame_equal(frame, report.to_frame())
    assert [path.name for path in tmp_path.iterdir()] == ["scores.csv"]


def test_text_table(case):
    report = Report(**case, name="tiny")
    lines = str(report).splitlines()
    assert lines[0] == "tiny: 20 images, 3 labels"
    assert lines[1].split()[:4] == ["known", "pos", "share", "P"]
    row = lines[3].split()
    assert row[0] == "AU02"
    assert row[1:3] == ["20", "0"]
    assert row[6] == "-"
    assert len({len(line) for line in lines[1:5]}) == 1
    assert lines[6].startswith("mean")
    assert f"{report.to_frame().loc['mean', 'f1']:.3f}" in lines[6]
    assert "F1 fit" not in str(Report(**{**case, "thresholds": None}))


def test_notebook_html_escapes(case):
    text = Report(**{**case, "label_names": ["<b>", "AU02", "AU12"]}, name="<i>")._repr_html_()
    assert "<table" in text
    assert "<b>" not in text
    assert "<i>" not in text
    assert "&lt;b&gt;" in text


def test_page_is_whole_and_fetches_nothing(case, images, tmp_path):
    report = Report(**case, name="tiny", config={"loss": "pr", "input_size": 32}, images=images, history=HISTORY)
    page = page_of(report, tmp_path / "report.html", title="A <title> & more", faces=5, mistakes=2)
    source = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.open == []
    assert len(set(page.ids)) == len(page.ids)
    targets = {f"#{name}" for name in page.ids}
    assert page.links
    assert all(link.startswith("data:image/jpeg;base64,") or link in targets for link in page.links)
    assert set(re.findall(r"url\((.)", source)) <= {"#"}
    assert not re.search(r"https?://(?!www\.w3\.org/)", source)
    assert "@import" not in source
    assert page.count["svg"] == 3
    assert "script" not in page.count
    assert page.count["img"] >= 5
    for text in (
        "A <title> & more",
        "loss",
        "input size",
        "head",
        "finetune",
        "0.700 (epoch 2)",
        "AU02: no positive",
        *LABELS,
    ):
        assert text in page.text
    assert f"{report.to_frame().loc['mean', 'f1_fitted']:.3f}" in page.text
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_page_pictures_are_the_images(case, images, tmp_path):
    image = pytest.importorskip("PIL.Image")
    page = page_of(Report(**case, images=images), tmp_path / "report.html", faces=1, mistakes=0)
    row = _gallery.choose_faces(case["target"], None, 1)[0]
    found = np.asarray(image.open(io.BytesIO(base64.b64decode(page.links[-1].split(",")[1]))), np.float64)
    wanted = fn.resize_image(images[row], 192, 192)
    # JPEG of noise: a few grey levels on average; another image differs by dozens.
    assert np.abs(found - wanted).mean() < 12


def test_page_without_extras(case, tmp_path):
    one = {"label_names": ["AU01"], "scores": case["scores"][:, :1], "target": case["target"][:, :1]}
    page = page_of(Report(**one), tmp_path / "report.html")
    assert page.count["svg"] == 2
    assert "img" not in page.count
    assert "fitted" not in page.text.replace("No thresholds were fitted", "")
    assert "Training" not in page.text
    assert "No thresholds were fitted" in page.text


def test_page_of_many_labels_hides_those_neither_present_nor_predicted(tmp_path):
    scores, target = np.full((3, 20), 0.1, np.float32), np.zeros((3, 20), np.float32)
    target[:, 4] = 1
    report = Report(
        label_names=[f"L{i}" for i in range(20)], scores=scores, target=target, images=np.zeros((3, 8, 8, 3), np.uint8)
    )
    assert page_of(report, tmp_path / "r.html", mistakes=0).text.count("19 more labels") == 3


def test_page_from_samples_and_missing_files(case, images, tmp_path):
    plt.imsave(tmp_path / "face.png", images[0])
    paths = [str(tmp_path / "face.png")] * 19 + [str(tmp_path / "gone.png")]
    subjects = [f"S{i % 4}" for i in range(20)]
    samples = fn.Samples(label_names=LABELS, labels=case["target"], paths=paths, subjects=subjects)
    report = Report(**case, samples=samples)
    assert report.heading == "20 images, 4 subjects, 3 labels"
    page = page_of(report, tmp_path / "report.html", faces=20, mistakes=0)
    assert page.count["img"] == 19
    assert "face.png" in page.text
    assert "subject S3" in page.text


def test_page_is_written_whole_or_not_at_all(case, tmp_path, monkeypatch):
    place = tmp_path / "report.html"
    place.write_text("old")

    def fail(*_):
        raise OSError(28, "no space left")

    monkeypatch.setattr("facsnet.report.os.replace", fail)
    with pytest.raises(OSError, match="no space left"):
        Report(**case).save_html(place)
    assert place.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    monkeypatch.undo()
    missing, folder = tmp_path / "nowhere" / "scores.csv", tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(FileNotFoundError) as caught:
        Report(**case).to_csv(missing)
    assert caught.value.filename == str(missing)
    with pytest.raises(IsADirectoryError) as caught:
        Report(**case).save_html(folder)
    assert caught.value.filename == str(folder)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "report.html"]


def test_faces_show_labels_and_subjects_whatever_was_predicted():
    target = np.zeros((12, 3), np.float32)
    target[:6, 0] = 1
    target[8, 1] = 1
    subjects = ["A"] * 5 + ["B"] * 7
    chosen = _gallery.choose_faces(target, subjects, 4)
    assert len(set(chosen)) == 4
    assert chosen[0] == 8, "the rarest label comes first"
    assert target[chosen[1], 0] == 1, "then the other"
    assert subjects[chosen[1]] == "A", "of a new subject"
    assert len(_gallery.choose_faces(target, None, 100)) == 12
    assert _gallery.choose_faces(np.zeros((0, 3), np.float32), None, 4) == []


def test_mistakes_are_the_most_confident_known_ones():
    scores = np.array([[0.9, 0.2], [0.99, 0.6], [0.1, 0.01], [0.05, 0.5]], np.float32)
    target = np.array([[0, 1], [np.nan, 1], [0, 1], [1, 0]], np.float32)
    limits = np.array([0.5, 0.5])
    # Wrong: (0, 0) by 0.8, (0, 1) by 0.6, (2, 1) by 0.98, (3, 0) by 0.9, (3, 1) by 0.
    assert _gallery.choose_mistakes(scores, target, limits, 5) == [(2, 1), (3, 0)]
    assert _gallery.choose_mistakes(scores, target, limits, 1) == [(2, 1)]
    assert _gallery.choose_mistakes(scores, (scores >= 0.5).astype(np.float32), limits, 5) == []


def test_plots_draw_the_measures(case):
    report = Report(**case, history=HISTORY)
    panels = report.plot_pr()
    assert [ax.get_title(loc="left").split(":")[0] for ax in panels] == list(LABELS)
    curve = metrics.pr_curve(case["scores"], case["target"])[2]
    np.testing.assert_array_equal(panels[2].lines[0].get_xydata(), np.stack([curve.recall, curve.precision], 1))
    assert not panels[1].lines, "nothing is drawn without a positive"
    bars = report.plot_f1().patches
    wanted = np.concatenate([report.to_frame()["f1"][:3], report.to_frame()["f1_fitted"][:3]])
    np.testing.assert_array_equal([bar.get_width() for bar in bars], np.nan_to_num(wanted))
    losses, scores = report.plot_history()
    np.testing.assert_array_equal(losses.lines[0].get_xydata(), [[1, 0.7], [2, 0.5], [3, 0.4]])
    np.testing.assert_array_equal(scores.lines[0].get_ydata(), [0.4, 0.6, 0.7])


def test_plots_on_given_axes(case):
    report = Report(**case, history=HISTORY)
    _, axes = plt.subplots(1, 3)
    before = plt.get_fignums()
    assert report.plot_pr(axes[0]) is axes[0]
    assert len(axes[0].lines) == 2
    assert report.plot_f1(axes[1]) is axes[1]
    assert report.plot_history(axes[2])[0] is axes[2]
    assert plt.get_fignums() == before


def test_pages_leave_no_open_figures_and_no_settings(case, tmp_path):
    settings = dict(matplotlib.rcParams)
    Report(**case, history=HISTORY).save_html(tmp_path / "report.html")
    assert plt.get_fignums() == []
    assert dict(matplotlib.rcParams) == settings


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label_names": ["AU01"]}, r"scores: shape is \(20, 3\), want \(n, 1\)"),
        ({"thresholds": [0.5]}, r"thresholds: shape is \(1,\), want \(3,\)"),
        ({"thresholds": [0.5, np.nan, 0.5]}, "threshold: label 1 is nan"),
        ({"target": np.zeros((19, 3))}, r"target: shape is \(19, 3\), want \(20, 3\)"),
        ({"target": np.full((20, 3), 2)}, "target: row 0, label 0 is 2"),
        ({"scores": np.full((20, 3), 1.5)}, r"scores: row 0, AU01 is 1.5, want a probability in \[0, 1\]"),
        ({"scores": np.full((20, 3), np.nan)}, "scores: row 0, label 0 is nan"),
        ({"images": np.zeros((2, 8, 8, 3), np.uint8)}, "images: has 2 entries, scores has 20 rows"),
        ({"identifiers": ["a"]}, "identifiers: has 1 entries, scores has 20 rows"),
    ],
)
def test_wrong_arguments(case, change, message):
    with pytest.raises(ValueError, match=message):
        Report(**{**case, **change})


def test_no_history(case):
    with pytest.raises(ValueError, match="history: the report has none"):
        Report(**case).plot_history()


@pytest.mark.parametrize(
    ("module", "call"),
    [
        ("pandas", lambda report: report.to_frame()),
        ("matplotlib", lambda report: report.plot_f1()),
        ("matplotlib", lambda report: report.plot_pr()),
        ("jinja2", lambda report: report.save_html(Path("never.html"))),
    ],
)
def test_missing_package_is_named(case, monkeypatch, module, call):
    import importlib

    real = importlib.import_module

    def refuse(name, *rest):
        if name == module:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *rest)

    monkeypatch.setattr(importlib, "import_module", refuse)
    with pytest.raises(ImportError, match=rf"need {module}: pip install {module}"):
        call(Report(**case))


def test_import_needs_only_numpy(monkeypatch):
    import importlib
    import sys

    real = builtins.__import__

    def refuse(name, *rest, **options):
        if name.split(".")[0] in ("pandas", "matplotlib", "jinja2"):
            raise ModuleNotFoundError(name)
        return real(name, *rest, **options)

    for name in ("facsnet.report", "facsnet.plots"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(builtins, "__import__", refuse)
    importlib.import_module("facsnet.report")
    importlib.import_module("facsnet.plots")
