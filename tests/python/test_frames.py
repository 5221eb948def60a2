"""Frames of videos: folders of files and packed files, their manifest, resuming, damage."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path

import numpy as np
import pytest
import trees

import facsnet as fn
from facsnet import frames as module
from facsnet._frame_store import StoreWriter
from facsnet._png import encode_png
from facsnet.cli import main

av = pytest.importorskip("av")


@pytest.fixture
def clips(tmp_path: Path) -> list[Path]:
    return [trees.video(tmp_path / "in" / f"{name}.avi", count) for name, count in (("a", 5), ("b", 3), ("c", 4))]


def decoded(path: Path) -> list[np.ndarray]:
    return list(module.video_frames(path))


def test_frames_are_those_of_the_video(clips: list[Path]) -> None:
    images = decoded(clips[0])
    assert len(images) == 5
    for i, image in enumerate(images):
        assert image.shape == (48, 64, 3) and image.dtype == np.uint8
        assert abs(int(np.median(image)) - 40 * i) <= 3
        assert image[9:15, 8 * i + 1 : 8 * i + 7].min() > 225


def test_packed(clips: list[Path], tmp_path: Path) -> None:
    store = fn.extract_frames(clips, tmp_path / "out", size=32, progress=False)
    assert repr(store).startswith("<FrameStore: 12 frames of 3 videos, packed")
    wanted = [fn.resize_image(image, 32, 32) for path in clips for image in decoded(path)]
    assert (store.images() == np.stack(wanted)).all()
    assert (np.load(tmp_path / "out" / "frames.npy", mmap_mode="r") == store.images()).all()  # NumPy reads it too
    assert [store.count(name) for name in ("a", "b", "c", "d")] == [5, 3, 4, 0]
    assert all((x == y).all() for x, y in zip(store.sources("b"), wanted[5:8], strict=True))
    assert (store.sources("c", [4])[0] == wanted[11]).all()
    assert np.shares_memory(store.sources("c", [4])[0], store.images())
    store.verify()
    with pytest.raises(ValueError, match="frame 9 of b is not stored"):
        store.sources("b", [1, 9])
    with pytest.raises(ValueError, match="read-only"):
        store.images()[0] = 0


def test_files(clips: list[Path], tmp_path: Path) -> None:
    store = fn.extract_frames(clips[:2], tmp_path / "out", size=None, packed=False, progress=False)
    paths = store.sources("b")
    assert paths == [str(tmp_path / "out" / "b" / f"{i:06d}.png") for i in (1, 2, 3)]
    for path, image in zip(paths, decoded(clips[1]), strict=True):
        assert (fn.read_image(path) == image).all()
    store.verify()
    samples = fn.Samples.from_arrays(paths, [[0], [1], [0]])
    samples.check()


def test_png() -> None:
    image = np.random.default_rng(0).integers(0, 256, (7, 5, 3), dtype=np.uint8)
    assert (fn.decode_image(encode_png(image)) == image).all()
    assert (fn.decode_image(encode_png(image[:, :1])) == image[:, :1]).all()


def test_resumed(clips: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = fn.extract_frames(clips, tmp_path / "whole", size=32, progress=False)
    real, read = module.video_frames, []

    def breaks_off(path: Path) -> object:
        read.append(path.name)
        for i, image in enumerate(real(path)):
            if path.name == "c.avi" and i == 2:
                raise KeyboardInterrupt
            yield image

    monkeypatch.setattr(module, "video_frames", breaks_off)
    with pytest.raises(KeyboardInterrupt):
        fn.extract_frames(clips, tmp_path / "out", size=32, progress=False)
    half = fn.open_frames(tmp_path / "out")
    assert list(half.videos) == ["a", "b"]
    assert (half.images() == whole.images()[:8]).all()
    monkeypatch.setattr(module, "video_frames", lambda path: (read.append(path.name), real(path))[1])
    read.clear()
    again = fn.extract_frames(clips, tmp_path / "out", size=32, progress=False)
    assert read == ["c.avi"]
    for name in ("manifest.jsonl", "frames.npy"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    again.verify()


def test_cut_off_at_every_byte_of_the_manifest(clips: list[Path], tmp_path: Path) -> None:
    whole = fn.extract_frames(clips, tmp_path / "out", size=16, progress=False)
    path = tmp_path / "out" / "manifest.jsonl"
    text, images = path.read_bytes(), whole.images().copy()
    ends = [i for i, byte in enumerate(text) if byte == ord("\n")]
    for end in {0, 5, *ends, *(e + 1 for e in ends), *range(ends[0], len(text), 37)}:
        path.write_bytes(text[:end])
        store = fn.extract_frames(clips, tmp_path / "out", size=16, progress=False)
        assert path.read_bytes() == text
        assert (store.images() == images).all()


def test_one_frame_is_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alive = [0, 0]

    class Frame(np.ndarray):
        def __del__(self) -> None:
            alive[0] -= 1

    def many(path: Path) -> object:
        for i in range(200):
            image = np.full((20, 20, 3), i, np.uint8).view(Frame)
            alive[0] += 1
            alive[1] = max(alive)
            yield image
            del image

    monkeypatch.setattr(module, "video_frames", many)
    store = fn.extract_frames([trees.write(tmp_path / "x.avi")], tmp_path / "out", size=8, progress=False)
    assert store.count("x") == 200
    assert alive[1] < 10


def test_faces_of_frames(clips: list[Path], tmp_path: Path) -> None:
    entries = [("a", i, fn.Face(eyes=((20.0 + i, 20.0), (40.0 + i, 20.0)))) for i in (1, 2, 4)]
    recipe = fn.Alignment(size=24)
    store = fn.extract_frames(
        clips[:1], tmp_path / "out", faces=fn.Faces("table", entries), alignment=recipe, progress=False
    )
    assert store.recipe == recipe.from_source("table")
    assert store.videos["a"].absent == (3, 5)
    assert store.frames("a").tolist() == [1, 2, 4]
    assert (store.count("a"), store.stored) == (5, 3)
    images = decoded(clips[0])
    for row, (_, frame, face) in zip(store.images(), entries, strict=True):
        assert (row == recipe.cut(images[frame - 1], face)).all()
    assert fn.open_frames(tmp_path / "out").recipe == store.recipe
    with pytest.raises(ValueError, match="frame 3 of a is not stored"):
        store.sources("a", [3])


def test_no_face_on_any_frame(clips: list[Path], tmp_path: Path) -> None:
    store = fn.extract_frames(clips[:1], tmp_path / "out", faces=lambda _: None, progress=False)
    assert (store.count("a"), store.stored, store.sources("a")) == (5, 0, [])
    store.verify()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 0}, "size is 0"),
        ({"size": None}, "packed frames have one size"),
        ({"alignment": fn.Alignment()}, "alignment wants faces="),
        ({"faces": [fn.Face()]}, "faces is a sequence"),
        ({"videos": []}, "the list is empty"),
        ({"videos": "a.avi"}, "videos is one path"),
        ({"videos": ["x/a.avi", "y/a.mp4"]}, "x/a.avi and y/a.mp4 have one name"),
    ],
)
def test_wrong_arguments(tmp_path: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fn.extract_frames(**{"videos": ["a.avi"], "out": tmp_path, **options})
    assert not list(tmp_path.iterdir())


def test_other_settings_are_refused(clips: list[Path], tmp_path: Path) -> None:
    fn.extract_frames(clips, tmp_path / "out", size=16, progress=False)
    for options, message in (
        ({"size": 24}, "its frames have size 16, asked is 24"),
        ({"size": 16, "packed": False}, "its frames have packed True, asked is False"),
        ({"faces": lambda image: None, "alignment": fn.Alignment(size=16)}, "its frames have recipe None"),
    ):
        with pytest.raises(ValueError, match=message):
            fn.extract_frames(clips, tmp_path / "out", progress=False, **options)
    trees.video(clips[0], 2)
    with pytest.raises(ValueError, match=r"has frames of a.avi with \d+ bytes, this file has"):
        fn.extract_frames(clips, tmp_path / "out", size=16, progress=False)


def test_damaged_videos(clips: list[Path], tmp_path: Path) -> None:
    junk = trees.write(tmp_path / "junk.avi", b"no video")
    with pytest.raises(fn.FormatError, match=r"junk.avi: damaged after frame 0"):
        decoded(junk)
    with pytest.raises(FileNotFoundError, match="none.avi"):
        decoded(tmp_path / "none.avi")
    sound = tmp_path / "sound.wav"
    with av.open(str(sound), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
    with pytest.raises(fn.FormatError, match="sound.wav: has no video"):
        decoded(sound)
    with pytest.raises(fn.FormatError, match="junk.avi"):
        fn.extract_frames([clips[0], junk], tmp_path / "out", size=16, progress=False)
    assert list(fn.open_frames(tmp_path / "out").videos) == ["a"]


def test_damaged_stores(clips: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(FileNotFoundError):
        fn.open_frames(out)
    fn.extract_frames(clips, out, size=16, progress=False)
    text = (out / "manifest.jsonl").read_text()
    lines = text.splitlines()
    for damaged, message in (
        ("", "is empty"),
        (text.replace("facsnet.frames", "other"), "line 1 is damaged: .*format is other"),
        (text.replace('"version": 1', '"version": 9'), "line 1 is damaged: .*facsnet.frames 9"),
        (text.replace('"frames": 3', '"frames": 4'), "line 3 is damaged: .*want 16 for each of 4 frames"),
        (text.replace('"frames": 3', '"frames": "3"'), "line 3 is damaged: video.frames is '3'"),
        (
            text.replace('"absent": []', '"absent": [9]', 1),
            "line 2 is damaged: .*absent are .9., want different ones of 5",
        ),
        (text.replace('"bytes"', '"size"', 1), "line 2 is damaged"),
        (text + lines[1] + "\n", "a is there twice"),
        (text.replace(lines[2], "{"), "line 3 is damaged"),
    ):
        (out / "manifest.jsonl").write_text(damaged)
        with pytest.raises(fn.FormatError, match=message):
            fn.open_frames(out)
    (out / "manifest.jsonl").write_text(text)
    data = (out / "frames.npy").read_bytes()
    (out / "frames.npy").write_bytes(data[:-1])
    with pytest.raises(fn.FormatError, match=r"frames.npy: has \d+ bytes, the manifest wants"):
        fn.open_frames(out).images()
    with pytest.raises(fn.FormatError, match=r"frames.npy: has \d+ bytes, the manifest wants"):
        fn.extract_frames([trees.video(tmp_path / "d.avi", 2)], out, size=16, progress=False)
    flipped = bytearray(data)
    flipped[128 + 6 * 16 * 16 * 3 + 5] ^= 1
    (out / "frames.npy").write_bytes(flipped)
    with pytest.raises(fn.FormatError, match="frame 2 of b is not what was stored"):
        fn.open_frames(out).verify()


def _hold(folder: Path, ready: object, done: object) -> None:
    writer = StoreWriter(folder, packed=True, size=16, recipe=None)
    ready.set()
    done.wait(30)
    writer.close()


def test_one_writer_at_a_time(clips: list[Path], tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready, done = context.Event(), context.Event()
    process = context.Process(target=_hold, args=(tmp_path / "out", ready, done))
    process.start()
    try:
        assert ready.wait(60)
        with pytest.raises(BlockingIOError, match="another process extracts into it"):
            fn.extract_frames(clips, tmp_path / "out", size=16, progress=False)
    finally:
        done.set()
        process.join(30)
    assert process.exitcode == 0


def test_without_pyav(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install facsnet\[video\]"):
        next(module.video_frames(tmp_path / "a.avi"))


def test_command(clips: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    videos = [str(path) for path in clips[:2]]
    assert main(["frames", *videos, "--out", str(tmp_path / "out"), "--size", "16"]) == 0
    assert "b.avi: 3 frames\n<FrameStore: 8 frames of 2 videos" in capsys.readouterr().out
    assert main(["frames", *videos, "--out", str(tmp_path / "files"), "--size", "0", "--files"]) == 0
    assert (tmp_path / "files" / "b" / "000003.png").is_file()
    table = trees.write(
        tmp_path / "faces.csv",
        "image,frame,left_eye_x,left_eye_y,right_eye_x,right_eye_y\n"
        + "".join(f"a.avi,{i},20,20,40,20\n" for i in (1, 2)),
    )
    arguments = ["frames", videos[0], "--out", str(tmp_path / "faces"), "--size", "24", "--faces", str(table)]
    capsys.readouterr()
    assert main(arguments) == 0
    assert "a.avi: 5 frames, 3 without a face" in capsys.readouterr().out
    assert json.loads((tmp_path / "faces" / "manifest.jsonl").read_text().splitlines()[0])["recipe"]["size"] == 24
    for wrong, message in (
        (["frames", videos[0], "--out", str(tmp_path / "x"), "--align", "box"], "--align wants --faces or --find"),
        ([*arguments, "--size", "0"], "--size is 0, faces want a size"),
        (["frames", str(tmp_path / "none.avi"), "--out", str(tmp_path / "x")], "none.avi"),
    ):
        assert main(wrong) == 1
        assert message in capsys.readouterr().err
