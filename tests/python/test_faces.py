"""Cutting faces out: the transform, tables of faces, the recipe in samples and models, finders."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import trees
import twin_images as twin

import facsnet as fn
from facsnet import _core
from facsnet._safetensors import read_safetensors, write_safetensors
from facsnet.cli import main
from facsnet.datasets import synthetic_faces
from facsnet.faces import npy_header


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Smooth, so that a rounding of coordinates moves a sample by no more than a level."""
    rng = np.random.default_rng(seed)
    return fn.resize_image(rng.integers(0, 256, (height // 5 + 2, width // 5 + 2, 3), dtype=np.uint8), height, width)


@pytest.mark.parametrize(
    ("points", "size"),
    [
        ((10, 12, 30, 12), 16),  # upright, a reduction
        ((12.5, 20.25, 33, 11), 24),  # turned
        ((20, 20, 22, 21), 12),  # enlarged
        ((30, 30, 10, 31), 10),  # upside down
        ((-2, 5, 12, 3), 20),  # over the edge
    ],
)
def test_alignment_equals_its_twin(points: tuple[float, ...], size: int) -> None:
    image = picture(40, 50)
    targets = (0.33 * size, 0.3 * size, 0.67 * size, 0.3 * size)
    found = _core.align_image(image, size, points, targets)
    assert np.abs(found.astype(int) - twin.align(image, size, points, targets)).max() <= 1


def test_whole_image_by_its_box_is_the_resized_one() -> None:
    image = picture(48, 48)
    for size in (48, 24, 96):
        recipe = fn.Alignment("box", size, margin=0)
        found = recipe.cut(image, fn.Face(box=(0, 0, 48, 48)))
        inner = slice(4, -4)  # at its edges resizing looks at fewer pixels, where here the last one repeats
        off = np.abs(found.astype(int) - fn.resize_image(image, size, size))[inner, inner]
        assert off.max() <= 1


def test_eyes_come_where_the_recipe_says() -> None:
    image = np.zeros((120, 160, 3), np.uint8)
    left, right = (60, 70), (90, 50)
    for (x, y), channel in ((left, 0), (right, 1)):
        image[y - 1 : y + 2, x - 1 : x + 2, channel] = 255
    recipe = fn.Alignment(size=100, eye_distance=0.4, eye_height=0.3)
    cut = recipe.cut(image, fn.Face(eyes=(left, right))).astype(float)
    assert cut.shape == (100, 100, 3)
    for channel, x in ((0, 29.5), (1, 69.5)):
        weights = cut[:, :, channel] / cut[:, :, channel].sum()
        np.testing.assert_allclose(np.arange(100) @ weights.sum(axis=0), x, atol=0.05)
        np.testing.assert_allclose(np.arange(100) @ weights.sum(axis=1), 29.5, atol=0.05)


def test_boxes_have_room_around() -> None:
    image = np.zeros((60, 80, 3), np.uint8)
    image[20:40, 30:40] = 200
    cut = fn.Alignment("box", 40, margin=0.5).cut(image, fn.Face(box=(30, 20, 10, 20)))
    assert (cut[12:28, 16:24] == 200).all()
    assert cut[:8].max() == cut[:, :13].max() == 0


@pytest.mark.parametrize(
    ("recipe", "face", "message"),
    [
        (fn.Alignment(), fn.Face(box=(1, 2, 3, 4)), "has no eyes"),
        (fn.Alignment("box"), fn.Face(eyes=((1, 2), (3, 4))), "has no box"),
        (fn.Alignment("box"), fn.Face(box=(1, 2, 0, 4)), "the box is 0 x 4"),
        (fn.Alignment(), fn.Face(eyes=((5, 5), (5, 5))), r"both points are \(5, 5\)"),
        (fn.Alignment(), fn.Face(eyes=((5, float("nan")), (5, 5))), "want finite coordinates"),
        (fn.Alignment(), fn.Face(eyes=((500, 500), (510, 500))), "lies outside of an image of 40 x 30"),
        (fn.Alignment(), fn.Face(eyes=((-1e6, 5), (1e6, 5))), "pixels wide"),
    ],
)
def test_faces_that_cannot_be_cut(recipe: fn.Alignment, face: fn.Face, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        recipe.cut(picture(30, 40), face)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "nose"}, "method is 'nose'"),
        ({"size": 7}, "size is 7"),
        ({"size": 5000}, "size is 5000"),
        ({"eye_distance": 0.0}, "eye_distance is 0"),
        ({"eye_height": 1.5}, "eye_height is 1.5"),
        ({"margin": -0.5}, "margin is -0.5"),
        ({"margin": float("nan")}, "margin is nan"),
    ],
)
def test_recipes_that_are_none(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fn.Alignment(**options)


# --- tables


def test_table_of_openface(tmp_path: Path) -> None:
    faces = fn.read_faces(trees.openface(tmp_path / "clip.csv"))
    assert faces.source == "openface"
    assert len(faces) == 4  # frame 3 failed
    eyes = faces.of("/else/clip.avi", 2).eyes
    np.testing.assert_allclose(eyes, [[102 + 2 * 38.5, 50 + 38.5], [102 + 2 * 44.5, 50 + 44.5]])
    assert faces.of("clip.avi", 3) is None
    assert faces.of("other.avi", 2) is None


def test_table_of_pyfeat(tmp_path: Path) -> None:
    faces = fn.read_faces(trees.pyfeat(tmp_path / "t.csv", ["a/x.jpg", "b/x.jpg", "y.jpg"]))
    assert faces.source == "pyfeat"
    assert faces.of("/data/b/x.jpg").box == (11.0, 20.0, 100.0, 120.0)
    assert faces.of("y.png").box[0] == 12.0  # the ending may differ
    with pytest.raises(ValueError, match=r"x.jpg: the table of faces has \['a/x.jpg', 'b/x.jpg'\]"):
        faces.of("x.jpg")
    video = fn.read_faces(trees.pyfeat(tmp_path / "v.csv", ["clip.mp4", "clip.mp4"]))
    assert video.of("clip.mp4", 2).box[0] == 11.0  # py-feat counts from 0
    assert video.of("clip.mp4") is None


def test_tables_of_ones_own(tmp_path: Path) -> None:
    text = "image,frame,score,x,y,width,height\na.avi,1,0.4,1,2,3,4\na.avi,1,0.9,5,6,7,8\na.avi,2,0,1,1,1,1\n"
    faces = fn.read_faces(trees.write(tmp_path / "boxes.csv", text))
    assert faces.of("a.avi", 1) == fn.Face(box=(5.0, 6.0, 7.0, 8.0), score=0.9)
    assert faces.of("a.avi", 2) is None
    eyes = "image,left_eye_x,left_eye_y,right_eye_x,right_eye_y\na.png,1,2,3,4\nb.png,,,,\n"
    faces = fn.read_faces(trees.write(tmp_path / "eyes.csv", eyes))
    assert faces.of("a.png").eyes == ((1.0, 2.0), (3.0, 4.0))
    assert len(faces) == 1
    assert "1 of 1 images" in repr(faces)


def test_frames_extracted_to_files_have_the_faces_of_their_video(tmp_path: Path) -> None:
    faces = fn.read_faces(trees.openface(tmp_path / "clip.csv"))
    assert faces.of("/frames/clip/000002.png") == faces.of("clip.avi", 2) is not None
    assert faces.of("/frames/other/000002.png") is None


def test_landmarks_of_data_sets(tmp_path: Path) -> None:
    celeba = trees.celeba(tmp_path / "celeba")
    assert fn.read_faces(celeba / "Anno" / "list_landmarks_align_celeba.txt").source == "celeba"
    assert len(fn.read_faces(trees.bosphorus(tmp_path / "bosphorus"))) == 14


# --- samples


def whole_images(n: int = 12) -> tuple[fn.Samples, list[fn.Face]]:
    """Drawn faces somewhere in larger images, and where their eyes are."""
    drawn = synthetic_faces(n, seed=3, subjects=4).select_labels(["AU04", "AU12"])
    rng = np.random.default_rng(0)
    images, faces = [], []
    for face in drawn.images:
        image = np.zeros((120, 140, 3), np.uint8)
        x, y = (int(v) for v in rng.integers(5, 30, 2))
        image[y : y + 80, x : x + 80] = fn.resize_image(face, 80, 80)
        images.append(image)
        faces.append(fn.Face(eyes=((x + 28.0, y + 34.0), (x + 52.0, y + 34.0)), box=(x, y, 80, 80)))
    return drawn.with_images(images), faces


def test_align_samples(tmp_path: Path) -> None:
    samples, faces = whole_images()
    recipe = fn.Alignment(size=64)
    cut = fn.align_faces(samples, faces, recipe, progress=False)
    assert cut.recipe == dataclasses.replace(recipe, source="given")
    assert np.asarray(cut.images).shape == (12, 64, 64, 3)
    assert (cut.images[5] == recipe.cut(samples.images[5], faces[5])).all()
    assert (cut.labels == samples.labels).all() and (cut.subjects == samples.subjects).all()
    mapped = fn.align_faces(samples, faces, recipe, out=tmp_path / "faces.npy", progress=False)
    assert isinstance(mapped.images, np.memmap)
    assert (np.asarray(mapped.images) == cut.images).all()
    assert [p.name for p in tmp_path.iterdir()] == ["faces.npy"]
    part = mapped[[3, 1]]
    assert part.recipe == cut.recipe
    assert np.shares_memory(part.images[0], mapped.images)  # not copied
    assert cut.select_labels(["AU12"]).recipe == cut.recipe
    assert fn.Samples.concatenate([cut[:2], cut[2:]]).recipe == cut.recipe
    with pytest.raises(ValueError, match="concatenate: faces are cut out by None and Alignment"):
        fn.Samples.concatenate([samples, cut])
    with pytest.raises(ValueError, match="cut out already"):
        fn.align_faces(cut, faces)


def test_align_samples_without_a_face(tmp_path: Path) -> None:
    samples, faces = whole_images()
    lacking: list[fn.Face | None] = [*faces[:4], None, *faces[5:]]
    with pytest.raises(ValueError, match="row 4: given has no face of it"):
        fn.align_faces(samples, lacking, out=tmp_path / "faces.npy", progress=False)
    assert not list(tmp_path.iterdir())
    cut = fn.align_faces(samples, lacking, fn.Alignment(size=32), missing="skip", out=tmp_path / "faces.npy", progress=False)  # fmt: skip
    assert len(cut) == len(np.load(tmp_path / "faces.npy")) == 11
    np.testing.assert_array_equal(cut.labels, np.delete(samples.labels, 4, axis=0))
    for call, message in (
        (lambda: fn.align_faces(samples, faces[:3]), "faces has 3 entries, samples 12"),
        (lambda: fn.align_faces(samples, [None] * 12, missing="skip", progress=False), "a face of none of the 12"),
        (lambda: fn.align_faces(samples, faces, missing="drop"), "missing is 'drop'"),
        (lambda: fn.align_faces(samples, fn.Faces("t", [("a", None, faces[0])]), progress=False), "have no names"),
        (lambda: fn.align_faces(samples, [fn.Face()] * 12, progress=False), "row 0: the face has no eyes"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_header_of_numpy() -> None:
    for shape in ((0, 8, 8, 3), (130_814, 224, 224, 3)):
        assert len(npy_header(shape)) == 128
    with pytest.raises(ValueError, match="does not fit"):
        npy_header((10**60, 10**60))


# --- models


@pytest.fixture(scope="module")
def on_faces() -> tuple[fn.AUClassifier, fn.Samples, list[fn.Face], fn.Samples]:
    """A detector of cut faces; the whole images, where their faces are, and the faces."""
    samples, faces = whole_images(24)
    cut = fn.align_faces(samples, faces, fn.Alignment(size=48), progress=False)
    stages = fn.two_stage(head_epochs=1, finetune_epochs=0)
    detector = fn.AUClassifier(weights="demo", input_size=32, stages=stages, batch_size=8, progress=False)
    detector.fit(cut)
    return detector, samples, faces, cut


OnFaces = tuple[fn.AUClassifier, fn.Samples, list[fn.Face], fn.Samples]


def test_models_store_the_recipe(on_faces: OnFaces, tmp_path: Path) -> None:
    detector, samples, faces, cut = on_faces
    assert detector.recipe_ == cut.recipe
    detector.save(tmp_path / "model.safetensors")
    again = fn.AUClassifier.load(tmp_path / "model.safetensors")
    assert again.recipe_ == cut.recipe
    assert "size=48" in again.evaluate(cut, allow_training_subjects=True).config["faces"]
    tensors, metadata = read_safetensors(tmp_path / "model.safetensors")
    table = json.loads(metadata["facsnet.model"])
    table["recipe"]["eye_distance"] = 7
    write_safetensors(tmp_path / "model.safetensors", tensors, {"facsnet.model": json.dumps(table)}, checksums=True)
    with pytest.raises(fn.FormatError, match="recipe: eye_distance is 7"):
        fn.AUClassifier.load(tmp_path / "model.safetensors")
    del table["recipe"]  # as files of before
    write_safetensors(tmp_path / "model.safetensors", tensors, {"facsnet.model": json.dumps(table)}, checksums=True)
    assert fn.AUClassifier.load(tmp_path / "model.safetensors").recipe_ is None
    assert samples.recipe is None and len(faces) == len(samples)


def test_predictions_follow_the_recipe(on_faces: OnFaces, tmp_path: Path) -> None:
    from PIL import Image

    detector, samples, faces, cut = on_faces
    wanted = detector.predict_proba(cut)
    assert (detector.predict_proba(np.asarray(cut.images), aligned=True) == wanted).all()
    assert (detector.predict_proba(samples.images, faces=faces) == wanted).all()
    assert (detector.predict(samples, faces=faces) == (wanted >= detector.thresholds_)).all()
    paths = [tmp_path / f"{i}.png" for i in range(6)]
    for path, image in zip(paths, samples.images, strict=False):
        Image.fromarray(image).save(path)
    table = fn.Faces("given", [(str(path), None, face) for path, face in zip(paths[:5], faces, strict=False)])
    frame = detector.predict_frame([*paths, tmp_path / "none.png"], faces=table, batch_size=2)
    assert frame["success"].tolist() == [1] * 5 + [0, 0]
    assert "given has no face of it" in frame["error"][5]
    np.testing.assert_allclose(frame[["AU04", "AU12"]].to_numpy()[:5], wanted[:5], rtol=1e-5)


def test_predict_command(on_faces: OnFaces, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from PIL import Image

    detector, samples, faces, cut = on_faces
    model = str(tmp_path / "model.safetensors")
    detector.save(model)
    names = [tmp_path / f"{i}.png" for i in range(2)]
    rows = ["image,left_eye_x,left_eye_y,right_eye_x,right_eye_y"]
    for path, image, face in zip(names, samples.images, faces, strict=False):
        Image.fromarray(image).save(path)
        (x0, y0), (x1, y1) = face.eyes
        rows.append(f"{path.name},{x0},{y0},{x1},{y1}")
    table = trees.write(tmp_path / "faces.csv", "\n".join(rows))
    command = ["predict", model, *map(str, names), "--out", str(tmp_path / "out.csv")]
    assert main(command) == 1
    assert "say where they are" in capsys.readouterr().err
    with pytest.warns(UserWarning, match="faces: table said where faces are, of the model it was given"):
        assert main([*command, "--faces", str(table)]) == 0
    found = pd.read_csv(tmp_path / "out.csv")
    np.testing.assert_allclose(found[["AU04", "AU12"]], detector.predict_proba(cut[:2]), rtol=1e-4)
    assert main([*command, "--aligned"]) == 0
    with pytest.raises(SystemExit):
        main([*command, "--faces", str(table), "--find"])


def test_train_and_evaluate_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from PIL import Image

    samples, faces = whole_images(24)
    rows = ["image,left_eye_x,left_eye_y,right_eye_x,right_eye_y"]
    for i, (image, face) in enumerate(zip(samples.images, faces, strict=True)):
        Image.fromarray(image).save(tmp_path / f"{i}.png")
        (x0, y0), (x1, y1) = face.eyes
        rows += [f"{i}.png,{x0},{y0},{x1},{y1}"] if i != 5 else []
    table = str(trees.write(tmp_path / "faces.csv", "\n".join(rows)))
    frame = samples.to_frame().assign(image=[f"{i}.png" for i in range(24)])
    frame.to_csv(tmp_path / "labels.csv", index=False)
    run, csv = tmp_path / "run", str(tmp_path / "labels.csv")
    train = [
        "train",
        csv,
        "--out",
        str(run),
        "--test",
        "0.25",
        "--weights",
        "demo",
        "--input-size",
        "32",
        "--batch-size",
        "4",
    ]
    assert main([*train, "--head-epochs", "1", "--finetune-epochs", "0", "--faces", table]) == 0
    assert "1 of 18 images are left out: there is no face of them" in capsys.readouterr().out
    detector = fn.AUClassifier.load(run / "model.safetensors")
    assert detector.recipe_ == fn.Alignment(size=32, source="table")
    evaluate = ["evaluate", str(run / "model.safetensors"), csv, "--allow-training-subjects"]
    assert main(evaluate) == 1
    assert "images are as they came" in capsys.readouterr().err
    assert main([*evaluate, "--faces", table, "--out", str(tmp_path / "scores")]) == 0
    assert "1 of 24 images are left out" in capsys.readouterr().out
    assert not list((tmp_path / "scores").glob("*/"))


def test_recipes_are_checked(on_faces: OnFaces) -> None:
    detector, samples, faces, cut = on_faces
    for call, message in (
        (lambda: detector.predict_proba(samples.images), "the model was trained on faces cut out by Alignment"),
        (lambda: detector.predict_proba(samples), "images: images are as they came, .*align_faces first"),
        (lambda: detector.predict_proba(samples.images, faces=faces, aligned=True), "both given"),
        (lambda: detector.predict_frame(["a.png"]), "say where they are with faces="),
        (lambda: detector.evaluate(samples), "test: images are as they came"),
        (
            lambda: detector.evaluate(fn.align_faces(samples, faces, fn.Alignment(size=64), progress=False)),
            "test: faces are cut out by .*size=64.*, those of the model by .*size=48",
        ),
        (lambda: detector.fit(cut, samples), "valid: images are as they came"),
        (lambda: detector.predict_proba(samples.images, faces=[None] * 24), "image 0: given has no face"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


class Finder:
    """Stands in for a finder: says that the face is always in the same place."""

    source = "finder"

    def __call__(self, image: np.ndarray) -> fn.Face | None:
        return fn.Face(eyes=((40.0, 50.0), (64.0, 50.0))) if image.any() else None


def test_finders_differ(on_faces: OnFaces) -> None:
    detector, samples, _, _ = on_faces
    with pytest.warns(UserWarning, match="faces: finder said where faces are, of the model it was given"):
        scores = detector.predict_proba(samples.images, faces=Finder())
    assert scores.shape == (24, 2)
    found = fn.align_faces(samples, Finder(), fn.Alignment(size=48), progress=False)
    assert found.recipe.source == "finder"
    with pytest.warns(UserWarning, match="test: finder said"):
        detector.evaluate(found, allow_training_subjects=True)


def test_models_without_a_recipe() -> None:
    drawn = synthetic_faces(16, seed=1, subjects=4).select_labels(["AU12", "AU25"])
    stages = fn.two_stage(head_epochs=1, finetune_epochs=0)
    detector = fn.AUClassifier(weights="demo", input_size=32, stages=stages, batch_size=8, progress=False)
    detector.fit(drawn)
    assert detector.recipe_ is None
    assert (detector.predict_proba(drawn) == detector.predict_proba(drawn.images)).all()
    for options in ({"aligned": True}, {"faces": Finder()}):
        with pytest.raises(ValueError, match="the model was trained on images as they came"):
            detector.predict_proba(drawn.images, **options)
    cut = drawn.with_images(drawn.images, recipe=fn.Alignment())
    with pytest.raises(ValueError, match="test: are cut out by .*use the whole images"):
        detector.evaluate(cut)


# --- YuNet


class OpenCVError(Exception):
    """Stands in for cv2.error."""


def opencv(monkeypatch: pytest.MonkeyPatch, create: Any) -> None:
    """A stand-in for OpenCV."""
    cv2 = ModuleType("cv2")
    stand_in = {
        "FaceDetectorYN": SimpleNamespace(create=create),
        "error": OpenCVError,
        "resize": lambda image, size, interpolation: fn.resize_image(image, size[1], size[0]),
        "INTER_AREA": 3,
        "__version__": "4.0",
    }
    for name, value in stand_in.items():
        setattr(cv2, name, value)
    monkeypatch.setitem(sys.modules, "cv2", cv2)


def yunet(monkeypatch: pytest.MonkeyPatch, rows: np.ndarray | None, **options: Any) -> tuple[fn.YuNet, list[Any]]:
    """A YuNet whose network gives these rows, and the sizes it was asked for."""
    sizes: list[Any] = []
    network = SimpleNamespace(setInputSize=sizes.append, detect=lambda image: (sizes.append(image.shape), rows))
    opencv(monkeypatch, lambda *_: network)
    return fn.YuNet(__file__, **options), sizes


def test_yunet_gives_the_surest_face(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.zeros((2, 15), np.float32)
    rows[:, 14] = 0.7, 0.9
    rows[1, :8] = 10, 20, 30, 40, 25, 31, 15, 30  # the first eye is the person's right one
    find, sizes = yunet(monkeypatch, rows)
    face = find(picture(100, 160))
    assert sizes == [(160, 100), (100, 160, 3)]
    assert face.eyes == ((15.0, 30.0), (25.0, 31.0))
    assert face.box == (10.0, 20.0, 30.0, 40.0)
    assert face.score == pytest.approx(0.9)


def test_yunet_searches_large_images_reduced(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.zeros((1, 15), np.float32)
    rows[0, :8] = 10, 20, 30, 40, 15, 30, 25, 31
    find, sizes = yunet(monkeypatch, rows, longest_side=80)
    face = find(picture(100, 160))
    assert sizes[:2] == [(80, 50), (50, 80, 3)]
    assert face.box == (20.0, 40.0, 60.0, 80.0)
    np.testing.assert_allclose(face.eyes, [[30.5, 60.5], [50.5, 62.5]])


def test_yunet_without_a_face(monkeypatch: pytest.MonkeyPatch) -> None:
    for rows in (None, np.zeros((0, 15), np.float32)):
        assert yunet(monkeypatch, rows)[0](picture(40, 40)) is None
    with pytest.raises(ValueError, match=r"shape \(1, 14\)"):
        yunet(monkeypatch, np.zeros((1, 14), np.float32))[0](picture(40, 40))


def test_yunet_sees_blue_green_red(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[np.ndarray] = []
    network = SimpleNamespace(setInputSize=lambda _: None, detect=lambda image: (seen.append(image), None))
    opencv(monkeypatch, lambda *_: network)
    image = picture(20, 30)
    fn.YuNet(__file__)(image)
    assert (seen[0] == image[:, :, ::-1]).all()
    assert seen[0].flags.c_contiguous


def test_yunet_that_cannot_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fails(*_: Any) -> None:
        raise OpenCVError("bad shape")

    find, _ = yunet(monkeypatch, None)
    find._network.detect = fails
    with pytest.raises(ValueError, match="OpenCV 4.0 cannot run this YuNet: bad shape"):
        find(picture(40, 40))
    opencv(monkeypatch, fails)
    with pytest.raises(ValueError, match=r"bad\.onnx: OpenCV does not take it for YuNet: bad shape"):
        fn.YuNet(trees.write(tmp_path / "bad.onnx", b"no network"))


def test_opencv_itself_refuses_what_is_no_network(tmp_path: Path) -> None:
    pytest.importorskip("cv2")
    with pytest.raises(ValueError, match=r"bad\.onnx: OpenCV does not take it"):
        fn.YuNet(trees.write(tmp_path / "bad.onnx", b"no network"))


def test_yunet_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for options, message in (({"least_score": 0}, "least_score is 0"), ({"longest_side": 8}, "longest_side is 8")):
        with pytest.raises(ValueError, match=message):
            fn.YuNet(**options)
    opencv(monkeypatch, None)
    with pytest.raises(FileNotFoundError, match=r"no such network.*none\.onnx"):
        fn.YuNet(tmp_path / "none.onnx")
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install facsnet\[face\]"):
        fn.YuNet(tmp_path / "bad.onnx")


def test_yunet_is_fetched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[str] = []
    created: list[str] = []
    path = trees.write(tmp_path / "face_detection_yunet_2023mar.onnx", b"x")
    monkeypatch.setattr("facsnet.yunet.pretrained", lambda name: (asked.append(name), path)[1])
    opencv(monkeypatch, lambda place, *_: created.append(place))
    fn.YuNet()
    assert asked == ["yunet"] and created == [str(path)]
