"""Cross-validation: that nothing is chosen on a test fold, that it resumes, what its numbers are."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import facsnet as fn
from facsnet import _mapped, _runs, metrics, protocol
from facsnet._runs import Job, RunKey, read_result
from facsnet.datasets import synthetic_faces

SMALL: dict[str, Any] = {
    "width": 0.25,
    "input_size": 32,
    "head_epochs": 2,
    "finetune_epochs": 1,
    "finetune_rate": 1e-3,
    "batch_size": 16,
}
UNITS = ("AU04", "AU12", "AU25")


def faces(n: int = 108, subjects: int = 9) -> fn.Samples:
    drawn = synthetic_faces(n, seed=3, subjects=subjects).select_labels(UNITS)
    small = np.stack([fn.resize_image(np.asarray(image), 32, 32) for image in drawn.images])
    return fn.Samples.from_arrays(small, drawn.labels, label_names=UNITS, subject=drawn.subjects)


@pytest.fixture(scope="module")
def samples() -> fn.Samples:
    return faces()


@pytest.fixture(scope="module")
def study(samples: fn.Samples, tmp_path_factory: pytest.TempPathFactory) -> fn.CrossValidation:
    """Two losses, two seeds, three folds."""
    out = tmp_path_factory.mktemp("study")
    return fn.cross_validate(samples, losses=["bce", "pr"], seeds=[0, 1], out=out, draws=100, **SMALL)


def scores_of(study: fn.CrossValidation) -> dict[RunKey, bytes]:
    return {key: r.scores.tobytes() + r.thresholds.tobytes() for key, r in study.results.items()}


# --- what a run is


def test_a_run_is_a_detector_fitted_and_evaluated(samples: fn.Samples, study: fn.CrossValidation) -> None:
    train, test = samples.folds(3, by="subject", seed=0)[1]
    detector = fn.AUClassifier(loss="pr", random_state=1, progress=False, **SMALL)
    with pytest.warns(UserWarning, match="freezes a backbone of random weights"):
        detector.fit(train)
    report = detector.evaluate(test)
    run = study.results[RunKey("pr", 1, 1)]
    np.testing.assert_array_equal(run.scores, report.scores)
    np.testing.assert_array_equal(run.target, test.labels)
    np.testing.assert_array_equal(run.thresholds, detector.thresholds_)
    np.testing.assert_array_equal(run.training_share, train.prevalence())
    assert run.subjects == tuple(test.subjects)
    assert [row["loss"] for row in run.history] == [row["loss"] for row in detector.history_.rows]
    assert any("random weights" in note for note in run.notes)
    assert study.folder is not None
    again = fn.AUClassifier.load(study.folder / "pr-seed1-fold1.model.safetensors")
    assert again.predict_proba(test.images).tobytes() == report.scores.tobytes()
    stages = run.costs["stages"]
    assert [stage["name"] for stage in stages] == ["head", "finetune"]
    assert stages[0]["trained"] < stages[1]["trained"] == run.costs["parameters"] == detector.network.parameter_count()
    assert run.costs["macs"] == detector.network.macs()


def poisoned(samples: fn.Samples, subjects: Any) -> fn.Samples:
    """The same, with the labels of these subjects turned round and noise for their faces."""
    theirs = np.isin(samples.subjects.astype(str), [str(s) for s in subjects])
    images = np.array(samples.images)
    images[theirs] = np.random.default_rng(0).integers(0, 256, images[theirs].shape, np.uint8)
    labels = np.where(theirs[:, None], 1 - samples.labels, samples.labels)
    return fn.Samples.from_arrays(images, labels, label_names=samples.label_names, subject=samples.subjects)


def choices(folder: Path) -> tuple[bytes, bytes, dict[str, int]]:
    """Weights, thresholds and epochs of the detector of the first fold."""
    detector = fn.AUClassifier.load(folder / "bce-seed0-fold0.model.safetensors")
    weights = b"".join(value.tobytes() for value in detector.network.parameters().values())
    return weights, detector.thresholds_.tobytes(), detector.history_.best


def test_nothing_is_chosen_on_the_test_fold(samples: fn.Samples, tmp_path: Path) -> None:
    """Whatever is in the test part, weights, epoch and thresholds are the same bits."""
    first = samples.folds(3)[0]
    bad = poisoned(samples, first[1].subjects)
    for name, data in (("plain", samples), ("poisoned", bad)):
        fn.cross_validate(data, folds=data.folds(3)[:1], out=tmp_path / name, draws=1, **SMALL)
    assert choices(tmp_path / "plain") == choices(tmp_path / "poisoned")
    plain, other = (
        read_result(tmp_path / name / "bce-seed0-fold0.result.safetensors") for name in ("plain", "poisoned")
    )
    assert (plain.target != other.target).all() and (plain.scores != other.scores).any()


def test_a_choice_on_the_test_fold_would_be_found(
    samples: fn.Samples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The comparison above is not blind: thresholds fitted on the test part differ."""
    real = fn.AUClassifier.fit
    for name, data in (("plain", samples), ("poisoned", poisoned(samples, samples.folds(3)[0][1].subjects))):
        train, test = data.folds(3)[0]
        monkeypatch.setattr(fn.AUClassifier, "fit", lambda self, given, leak=test: real(self, given, leak))
        fn.cross_validate(
            data, folds=[(train, test)], out=tmp_path / name, draws=1, allow_training_subjects=True, **SMALL
        )
    assert choices(tmp_path / "plain")[1] != choices(tmp_path / "poisoned")[1]


def test_a_subject_on_both_sides_is_refused(samples: fn.Samples, tmp_path: Path) -> None:
    train, test = samples.folds(3)[0]
    leaking = [(fn.Samples.concatenate([train, test[:2]]), test)]
    with pytest.raises(ValueError, match="subjects are on both sides of the split"):
        fn.cross_validate(samples, folds=leaking, out=tmp_path, **SMALL)
    assert not list(tmp_path.iterdir())


# --- processes, and going on after an end


def test_processes_give_the_same_bits(samples: fn.Samples, study: fn.CrossValidation, tmp_path: Path) -> None:
    said: list[str] = []
    found = fn.cross_validate(
        samples, losses=["bce", "pr"], seeds=[0], out=tmp_path, workers=2, draws=1, progress=said.append, **SMALL
    )
    wanted = scores_of(study)
    assert scores_of(found) == {key: wanted[key] for key in found.results}
    assert said[0] == "6 runs" and len(said) == 7 and said[-1].startswith("6 of 6: ")


def test_mapped_images_go_by_their_place(samples: fn.Samples, study: fn.CrossValidation, tmp_path: Path) -> None:
    """Pixels in a mapped file are neither copied nor sent to the processes."""
    header = 100
    place = tmp_path / "frames"
    place.write_bytes(bytes(header) + np.ascontiguousarray(samples.images).tobytes())
    mapped = np.asarray(np.memmap(place, np.uint8, "r", header, samples.images.shape))
    rows = [mapped[i] for i in range(len(samples))]
    assert _mapped.place_of(rows[3]) == (str(place), header + 3 * rows[0].size)
    assert _mapped.place_of(rows[3][:, ::2]) is None and _mapped.place_of(np.array(rows[3])) is None
    for images in (rows, mapped):
        part = fn.Samples.from_arrays(images, samples.labels, label_names=UNITS, subject=samples.subjects)
        train, test = part.folds(3)[0]
        sent = pickle.dumps(Job(RunKey("bce", 0, 0), train, test, "bce", {}, tmp_path, ""))
        if images is rows:
            assert len(sent) < sum(image.size for image in rows) / 10
        again = pickle.loads(sent)
        for one, other in ((again.train, train), (again.test, test)):
            np.testing.assert_array_equal(np.stack(list(one.images)), np.stack(list(other.images)))
            np.testing.assert_array_equal(one.labels, other.labels)
    part = fn.Samples.from_arrays(rows, samples.labels, label_names=UNITS, subject=samples.subjects)
    found = fn.cross_validate(part, out=tmp_path / "out", folds=part.folds(3)[:2], workers=2, draws=1, **SMALL)
    wanted = scores_of(study)
    assert scores_of(found) == {key: wanted[key] for key in found.results}


SCRIPT = """
import sys
sys.path[:0] = [{tests!r}, {package!r}]
import test_protocol as t, facsnet as fn
if __name__ == "__main__":
    fn.cross_validate(t.faces(), losses=["bce", "pr"], seeds=[0, 1], out=sys.argv[1], workers=int(sys.argv[2]), draws=1, **t.SMALL)
"""


def children(parent: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            after_name = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(after_name[1]) == parent and after_name[0] != "Z":
            found.append(int(stat.parent.name))
    return found


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
@pytest.mark.parametrize("workers", [1, 2])
def test_killed_and_resumed(workers: int, samples: fn.Samples, study: fn.CrossValidation, tmp_path: Path) -> None:
    """kill -9 in mid-run: no child goes on, no partial file counts, and the rest gives the same results."""
    script = tmp_path / "script.py"
    package = str(Path(fn.__file__).parents[1])
    script.write_text(SCRIPT.format(tests=str(Path(__file__).parent), package=package))
    out = tmp_path / "out"
    run = subprocess.Popen([sys.executable, str(script), str(out), str(workers)])
    deadline = time.monotonic() + 120
    while not list(out.glob("*.result.safetensors")):
        assert run.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    mine = children(run.pid)
    run.send_signal(signal.SIGKILL)
    run.wait()
    assert workers == 1 or mine
    while any(Path(f"/proc/{pid}").exists() for pid in mine):
        assert time.monotonic() < deadline, "a child outlived its experiment"
        time.sleep(0.05)
    done = {path: path.stat().st_mtime_ns for path in out.glob("*.result.safetensors")}
    assert 0 < len(done) < 12
    found = fn.cross_validate(samples, losses=["bce", "pr"], seeds=[0, 1], out=out, draws=100, **SMALL)
    assert {path: path.stat().st_mtime_ns for path in done} == done, "what was done is not done again"
    assert scores_of(found) == scores_of(study)
    assert found.to_frame().equals(study.to_frame())


def test_what_is_there_is_not_done_again(
    samples: fn.Samples, study: fn.CrossValidation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_runs, "perform", lambda job: pytest.fail("it trains again"))
    options = {"losses": ["bce", "pr"], "out": study.folder, "draws": 100, **SMALL}
    again = fn.cross_validate(samples, seeds=[0, 1], **options)
    assert str(again) == str(study)
    assert str(fn.CrossValidation.load(study.folder, draws=100)) == str(study)
    for change in ({"head_epochs": 3}, {"dtype": "bfloat16"}, {"seeds": [0], "losses": {"bce": "pr"}}):
        with pytest.raises(ValueError, match=r"bce-seed0-fold0.*is of other data, other arguments or"):
            fn.cross_validate(samples, **{**options, **change})
    labels = samples.labels.copy()
    labels[0, 0] = 1 - labels[0, 0]
    other = fn.Samples.from_arrays(samples.images, labels, label_names=UNITS, subject=samples.subjects)
    with pytest.raises(ValueError, match="is of other data, other arguments or"):
        fn.cross_validate(other, **options)


def test_who_is_held_out_inside_belongs_to_the_data() -> None:
    """The field's folds are the same for all seeds, but other subjects choose epoch and thresholds."""
    subjects = [name for fold in fn.DISFA_FOLDS for name in fold]
    samples = fn.Samples.from_arrays(np.zeros((27, 8, 8, 3), np.uint8), np.zeros((27, 1)), subject=subjects)
    one, other = (samples.folds("disfa", seed=seed)[0] for seed in (0, 1))
    assert set(one[1].subjects) == set(other[1].subjects)
    assert set(one[0].inner_split()[1].subjects) != set(other[0].inner_split()[1].subjects)
    assert _runs.data_digest(*one) == _runs.data_digest(*samples.folds("disfa", seed=0)[0])
    assert _runs.data_digest(*one) != _runs.data_digest(*other)


def test_a_failed_run_leaves_the_others(samples: fn.Samples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = _runs.perform

    def fail(job: Job) -> None:
        if job.key.fold == 1:
            raise OSError(5, "no such face", "x.png")
        real(job)

    monkeypatch.setattr(_runs, "perform", fail)
    with pytest.raises(OSError, match="no such face") as caught:
        fn.cross_validate(samples, out=tmp_path, **SMALL)
    assert "in the run bce, seed 0, fold 1; 1 of 3 runs failed" in caught.value.__notes__[0]
    assert len(list(tmp_path.glob("*.result.safetensors"))) == 2
    with pytest.raises(ValueError, match="there is no run bce, seed 0, fold 1"):
        fn.CrossValidation.load(tmp_path)


def test_a_failure_in_a_process_comes_back(samples: fn.Samples, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="batch_size is 5000") as caught:
        fn.cross_validate(samples, out=tmp_path, workers=3, **{**SMALL, "batch_size": 5000})
    assert "3 of 3 runs failed" in caught.value.__notes__[0]


class Deadly:
    """Ends the process that unpickles it."""

    def __reduce__(self) -> tuple[Any, tuple[int]]:
        return os._exit, (7,)


def test_a_process_that_dies_is_named(samples: fn.Samples, tmp_path: Path) -> None:
    job = Job(RunKey("bce", 0, 2), samples, samples, "bce", {"weights": Deadly()}, tmp_path, "")
    with pytest.raises(ChildProcessError, match="bce, seed 0, fold 2: its process ended with 7"):
        _runs.perform_all([job], workers=2, done=lambda job: None)


def test_an_interrupted_run_writes_nothing(
    samples: fn.Samples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = fn.AUClassifier.fit

    def pressed(self: fn.AUClassifier, train: fn.Samples) -> None:
        real(self, train)
        self.history_.interrupted = True

    monkeypatch.setattr(fn.AUClassifier, "fit", pressed)
    with pytest.raises(KeyboardInterrupt):
        fn.cross_validate(samples, out=tmp_path, **SMALL)
    assert not list(tmp_path.iterdir())


def test_damaged_results_are_refused(study: fn.CrossValidation, tmp_path: Path) -> None:
    assert study.folder is not None
    source = study.folder / "bce-seed0-fold0.result.safetensors"
    data, place = source.read_bytes(), tmp_path / source.name
    place.write_bytes(data[:-5] + bytes([data[-5] ^ 1]) + data[-4:])
    with pytest.raises(fn.FormatError, match="damaged"):
        read_result(place)
    place.write_bytes((study.folder / "bce-seed0-fold0.model.safetensors").read_bytes())
    with pytest.raises(fn.FormatError, match="not the result of a run"):
        read_result(place)
    with pytest.raises(FileNotFoundError, match="no results of runs"):
        fn.CrossValidation.load(tmp_path / "nothing")


def test_file_names_are_distinct() -> None:
    names = {RunKey(setting, 0, 0).file_name for setting in ("a b", "a/b", "a-b", "../a", "pr (average micro)", "a\nb")}
    assert len(names) == 5  # "a b" and "a-b" may not both be settings, see test_wrong_arguments
    assert all("/" not in name and not name.startswith(".") for name in names)


# --- numbers


def test_means_are_over_folds_then_labels(study: fn.CrossValidation) -> None:
    frame = study.to_frame()
    assert frame.index.tolist()[:4] == [("bce", "AU04"), ("bce", "AU12"), ("bce", "AU25"), ("bce", "mean")]
    for setting in ("bce", "pr"):
        by_run = [metrics.f1(run.scores, run.target, threshold=run.thresholds) for run in study.runs(setting)]
        assert len(by_run) == 6
        labels = np.nanmean(by_run, axis=0)
        np.testing.assert_allclose(frame.loc[setting, "f1_fitted"], [*labels, labels.mean()], rtol=1e-12)
        low, high = frame.loc[setting, "roc_auc_low"], frame.loc[setting, "roc_auc_high"]
        assert (low < frame.loc[setting, "roc_auc"]).all() and (frame.loc[setting, "roc_auc"] < high).all()
    seeds = [np.nanmean([metrics.f1(run.scores, run.target)[2] for run in study.runs("pr")[i : i + 3]]) for i in (0, 3)]
    np.testing.assert_allclose(frame.loc[("pr", "AU25"), "f1_seeds"], np.std(seeds, ddof=1), rtol=1e-9)
    tall = study.fold_frame()
    assert len(tall) == 2 * 2 * 3 * 3
    row = tall[(tall.setting == "pr") & (tall.seed == 1) & (tall.fold == 2) & (tall.label == "AU12")].iloc[0]
    run = study.results[RunKey("pr", 1, 2)]
    assert row["average_precision"] == metrics.average_precision(run.scores, run.target)[1]
    assert row["positives"] == run.target[:, 1].sum()


def test_trivial_classifiers(study: fn.CrossValidation) -> None:
    share = [study.test(fold).target.mean(axis=0) for fold in range(3)]
    trivial = study.trivial()
    np.testing.assert_allclose(trivial["always"], np.mean([2 * p / (1 + p) for p in share], axis=0), rtol=1e-6)
    # drawing it out: predictions at random as often as in the training part
    rng = np.random.default_rng(0)
    target = np.tile(study.test(0).target, (20000, 1))
    guess = rng.random(target.shape) < study.test(0).training_share
    with_one_fold = 2 * share[0] * study.test(0).training_share / (share[0] + study.test(0).training_share)
    np.testing.assert_allclose(metrics.f1(guess, target), with_one_fold, rtol=0.06)
    np.testing.assert_allclose(study.prevalence(), np.mean(share, axis=0), rtol=1e-6)


def test_comparison_is_paired(study: fn.CrossValidation) -> None:
    frame = study.compare().set_index("measure")
    assert set(frame["setting"]) == {"pr"} and len(frame) == 4
    assert frame.loc["f1", "difference"] == pytest.approx(study.mean("pr", "f1") - study.mean("bce", "f1"))
    drawn = study.drawn("pr", "roc_auc")[:, -1] - study.drawn("bce", "roc_auc")[:, -1]
    assert (frame.loc["roc_auc", "low"], frame.loc["roc_auc", "high"]) == tuple(map(float, metrics.interval(drawn)))
    other = study.compare("pr").set_index("measure")
    assert other.loc["f1", "difference"] == -frame.loc["f1", "difference"]
    with pytest.raises(ValueError, match="baseline is 'x'"):
        study.compare("x")


def test_text_has_folds_means_and_intervals(study: fn.CrossValidation) -> None:
    text = str(study)
    assert text.splitlines()[0] == "108 images, 9 subjects, 3 labels, 3 folds, 2 seeds, 12 runs"
    line = next(line for line in text.splitlines() if line.startswith("AU25"))
    wanted = np.nanmean(study.values("bce", "f1"), axis=0)[:, 2]
    assert line.split()[4:7] == [f"{value:.3f}" for value in wanted]
    assert f"{study.per_label('bce', 'f1')[2]:.3f}" in line
    assert text.count("\nmean") == 2


def test_what_is_undefined_is_named(samples: fn.Samples) -> None:
    labels = samples.labels.copy()
    train, test = samples.folds(3)[2]
    labels[np.isin(samples.subjects.astype(str), list(test.subjects.astype(str))), 1] = 0
    odd = fn.Samples.from_arrays(samples.images, labels, label_names=UNITS, subject=samples.subjects)
    found = fn.cross_validate(odd, draws=20, **SMALL)
    assert "fold 2: no positive of AU12; left out of their means" in found.notes
    assert np.isnan(found.values("bce", "f1")[0, 2, 1])
    kept = np.mean([metrics.f1(run.scores, run.target)[1] for run in found.runs("bce")[:2]])
    assert found.per_label("bce", "f1")[1] == pytest.approx(kept)
    assert found.folder is None and len(train)


def test_best_inside_looks_at_validation_alone(study: fn.CrossValidation) -> None:
    kept = {}
    for setting in study.settings:
        rows = []
        for run in study.runs(setting):
            rows += [r for r in run.history if r["stage"] == "finetune" and r["epoch"] == run.best["finetune"]]
        kept[setting] = np.mean([row["valid_average_precision"] for row in rows])
    assert study.best_inside() == max(kept, key=lambda setting: kept[setting])


def test_backbones_are_in_the_names(samples: fn.Samples) -> None:
    found = fn.cross_validate(
        samples, folds=2, backbones=["mobilenet_v1", "mobilenet_v2"], losses={"plain": "bce"}, draws=5, **SMALL
    )
    assert found.settings == ("mobilenet_v1 plain", "mobilenet_v2 plain")
    assert found.test(0).config["backbone"] == "mobilenet_v1"
    assert found.costs_frame()["parameters"].nunique() == 2


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"folds": {"k": 3, "colour": 1}}, ValueError, "folds: .*colour"),
        ({"folds": 1}, ValueError, "k is 1"),
        ({"folds": []}, ValueError, "folds: there are none"),
        ({"seeds": []}, ValueError, r"seeds are \[\]"),
        ({"seeds": [1, 1]}, ValueError, r"seeds are \[1, 1\]"),
        ({"losses": []}, ValueError, "1 backbones and 0 losses"),
        ({"losses": "pr"}, ValueError, "are a string"),
        ({"losses": {"a b": "pr", "a-b": "bce"}}, ValueError, "losses: 'a b' and 'a-b' would have the same files"),
        ({"losses": ["pr", "pr"]}, ValueError, "losses: 'pr' is there twice"),
        ({"workers": 0}, ValueError, "workers is 0"),
        ({"threads": 0}, ValueError, "threads is 0"),
        ({"draws": 0}, ValueError, "draws is 0"),
        ({"published": "bp4d"}, ValueError, "published is 'bp4d'"),
        ({"loss": "pr"}, TypeError, "'loss' is set through 'losses'"),
        ({"epochs": 3}, TypeError, "AUClassifier has no argument 'epochs'"),
    ],
)
def test_wrong_arguments(change: dict[str, Any], error: type[Exception], message: str, samples: fn.Samples) -> None:
    with pytest.raises(error, match=message):
        fn.cross_validate(samples, **{**SMALL, **change})


def test_public_weights_are_fetched_before_the_processes(samples: fn.Samples, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched: list[str] = []

    def fetch(name: str) -> None:
        fetched.append(name)
        if len(fetched) == 2:
            raise OSError("no network")

    monkeypatch.setattr(protocol, "pretrained", fetch)
    with pytest.raises(OSError, match="no network"):
        fn.cross_validate(samples, backbones=["mobilenet_v1", "mobilenet_v2"], weights="imagenet", workers=2, **SMALL)
    assert fetched == ["mobilenet_v1", "mobilenet_v2"]


def test_unknown_subjects_are_rows(samples: fn.Samples) -> None:
    nobody = fn.Samples.from_arrays(samples.images, samples.labels, label_names=UNITS)
    found = fn.cross_validate(nobody, folds={"k": 2, "by": "sample"}, draws=10, **SMALL)
    assert any("subjects are not known: intervals are over rows" in note for note in found.notes)
    assert "subjects" not in found.heading
