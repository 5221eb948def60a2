"""Downloads of public checkpoints, from a server of our own that can be made to misbehave."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import http.server
import importlib
import os
import re
import resource
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest

import facsnet as fn

# not "import facsnet.pretrained": the package's attribute of that name is the function
module = importlib.import_module("facsnet.pretrained")
pretrained = module.pretrained

DATA = bytes(range(256)) * 800
OTHER = DATA[::-1]


def sha256(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


class Store(http.server.ThreadingHTTPServer):
    """Serves data at every path, and remembers what was asked for and how much was sent."""

    daemon_threads = True

    def __init__(self) -> None:
        self.data, self.headers = DATA, {"ETag": '"v1"'}
        self.ranges = True
        self.cuts: list[int] = []
        """After how many bytes the next responses break off."""
        self.status, self.location, self.delay = 0, "", 0.0
        self.false_range = self.no_length = False
        self.asked: list[str | None] = []
        """The Range of every request."""
        self.sent = 0
        super().__init__(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self.thread.start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/weights.bin"

    def stop(self) -> None:
        if self.thread.is_alive():
            self.shutdown()
            self.thread.join()
            self.server_close()

    def handle_error(self, *_: object) -> None:
        """A client that went away is no news."""


class Handler(http.server.BaseHTTPRequestHandler):
    server: Store

    def do_GET(self) -> None:
        store, asked = self.server, self.headers.get("Range")
        store.asked.append(asked)
        time.sleep(store.delay)
        if store.status:
            return self.answer(store.status, {"Location": store.location} if store.location else {}, b"")
        start, total = 0, len(store.data)
        tag = self.headers.get("If-Range", "W/")
        if asked and store.ranges and tag in store.headers.values() and not tag.startswith("W/"):
            start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1])
            if start >= total:
                return self.answer(416, {"Content-Range": f"bytes */{total}"}, b"")
        headers = dict(store.headers)
        if start:
            headers["Content-Range"] = f"bytes {0 if store.false_range else start}-{total - 1}/{total}"
        return self.answer(206 if start else 200, headers, store.data[start:])

    def answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if not self.server.no_length:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if status < 300 and self.server.cuts:
            body = body[: self.server.cuts.pop(0)]
        self.server.sent += len(body)  # before the client can see the last byte and look
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        return None


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """A server, and a table of one row that points to it."""
    server = Store()
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("FACSNET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(module, "_PAUSES", (0.0, 0.0))
    monkeypatch.setattr(module, "_TIMEOUT", 5.0)
    set_row(monkeypatch, address=server.address)
    yield server
    server.stop()


def set_row(monkeypatch: pytest.MonkeyPatch, **changes: object) -> None:
    row = module._Row("net", "timm", 0.2, "MIT", "net.bin", "", sha256(DATA), "here")
    if module._TABLE[0].name == "net":
        row = module._TABLE[0]
    monkeypatch.setattr(module, "_TABLE", (dataclasses.replace(row, **changes),))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def break_off(store: Store, kept: int) -> None:
    """A call that gives up, with kept bytes in the part."""
    store.cuts = [kept, 0, 0]
    with pytest.raises(OSError, match=f"ended after {kept} of {len(DATA)} bytes"):
        pretrained("net")
    store.asked.clear()
    store.sent = 0


# --- fetching


def test_download_then_cache(store: Store, cache: Path) -> None:
    path = pretrained("net")
    assert path == cache / "net.bin"
    assert path.read_bytes() == DATA
    assert names(cache) == ["net.bin"]
    store.stop()
    assert pretrained("net", layout="timm") == path
    assert len(store.asked) == 1


@pytest.mark.parametrize("digest", [sha256(DATA), sha256(DATA)[:15], "md5:" + hashlib.md5(DATA).hexdigest()])
def test_kinds_of_digest(store: Store, monkeypatch: pytest.MonkeyPatch, digest: str) -> None:
    set_row(monkeypatch, digest=digest)
    assert pretrained("net").read_bytes() == DATA


def test_length_not_told(store: Store) -> None:
    store.no_length = True
    assert pretrained("net").read_bytes() == DATA


@pytest.mark.parametrize(("progress", "shown"), [(None, False), (False, False), (True, True)])
def test_progress_bar(store: Store, capfd: pytest.CaptureFixture[str], progress: bool | None, shown: bool) -> None:
    pretrained("net", progress=progress)
    assert ("net.bin" in capfd.readouterr().err) == shown


def test_redirect_is_followed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    other = Store()
    other.status, other.location = 302, store.address
    set_row(monkeypatch, address=other.address)
    try:
        assert pretrained("net").read_bytes() == DATA
    finally:
        other.stop()


# --- going on with what a broken download left


def test_interrupted_and_resumed_in_one_call(store: Store) -> None:
    store.cuts = [70_000, 60_000]
    assert pretrained("net").read_bytes() == DATA
    assert store.asked == [None, "bytes=70000-", "bytes=130000-"]
    assert store.sent == len(DATA)


def test_resumed_by_a_later_call(store: Store, cache: Path) -> None:
    break_off(store, 150_000)
    assert names(cache) == ["net.bin.part", "net.bin.part.tag"]
    assert pretrained("net").read_bytes() == DATA
    assert store.asked == ["bytes=150000-"]
    assert store.sent == len(DATA) - 150_000
    assert names(cache) == ["net.bin"]


def test_resumed_by_date(store: Store) -> None:
    store.headers = {"ETag": 'W/"weak"', "Last-Modified": "Sat, 01 Jan 2022 00:00:00 GMT"}
    break_off(store, 150_000)
    assert pretrained("net").read_bytes() == DATA
    assert store.sent == len(DATA) - 150_000


def test_not_resumed_without_a_tag(store: Store) -> None:
    store.headers = {}
    break_off(store, 0)
    store.cuts = [150_000]
    assert pretrained("net").read_bytes() == DATA
    assert store.asked == [None, None]


def test_server_without_ranges(store: Store) -> None:
    break_off(store, 150_000)
    store.ranges = False
    assert pretrained("net").read_bytes() == DATA
    assert store.asked == ["bytes=150000-"]
    assert store.sent == len(DATA)


def test_stale_part(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    break_off(store, 150_000)
    store.data, store.headers = OTHER, {"ETag": '"v2"'}
    set_row(monkeypatch, digest=sha256(OTHER))
    assert pretrained("net").read_bytes() == OTHER
    assert store.sent == len(OTHER)


def test_part_longer_than_the_file(store: Store, cache: Path) -> None:
    break_off(store, 150_000)
    with open(cache / "net.bin.part", "ab") as part:
        part.write(bytes(100_000))
    assert pretrained("net").read_bytes() == DATA
    assert store.asked == ["bytes=250000-", None]


def test_another_range_than_asked_for(store: Store) -> None:
    break_off(store, 150_000)
    store.false_range = True
    assert pretrained("net").read_bytes() == DATA
    assert store.asked == ["bytes=150000-", None]


def test_damaged_part(store: Store, cache: Path) -> None:
    break_off(store, 150_000)
    (cache / "net.bin.part").write_bytes(bytes(150_000))
    with pytest.raises(fn.FormatError, match="it is removed"):
        pretrained("net")
    assert pretrained("net").read_bytes() == DATA


# --- what is refused


def wanted_words(error: BaseException, store: Store, cache: Path) -> bool:
    return all(word in str(error) for word in (store.address, str(cache / "net.bin"), "Network.load_weights"))


def test_digest_mismatch(store: Store, cache: Path) -> None:
    store.data = OTHER
    with pytest.raises(fn.FormatError, match=f"has {sha256(OTHER)}, want {sha256(DATA)}") as caught:
        pretrained("net")
    assert wanted_words(caught.value, store, cache)
    assert "net.bin" not in names(cache)
    assert "net.bin.part" not in names(cache)
    store.data = DATA
    assert pretrained("net").read_bytes() == DATA


def test_not_found(store: Store, cache: Path) -> None:
    store.status = 404
    with pytest.raises(OSError, match="HTTP 404") as caught:
        pretrained("net")
    assert wanted_words(caught.value, store, cache)
    assert len(store.asked) == 1
    assert names(cache) == []


def test_no_server(store: Store, cache: Path) -> None:
    store.stop()
    with pytest.raises(OSError, match="refused") as caught:
        pretrained("net")
    assert wanted_words(caught.value, store, cache)


def test_silent_server(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_TIMEOUT", 0.05)
    store.delay = 0.5
    with pytest.raises(OSError, match="timed out"):
        pretrained("net")


@pytest.mark.parametrize("told", [True, False])
def test_too_large(store: Store, cache: Path, monkeypatch: pytest.MonkeyPatch, told: bool) -> None:
    monkeypatch.setattr(module, "_SIZE_LIMIT", 100_000)
    store.no_length = not told
    with pytest.raises(fn.FormatError, match="the limit is 100000"):
        pretrained("net")
    assert "net.bin.part" not in names(cache)


@pytest.mark.parametrize(
    "address",
    ["http://192.0.2.1/net.bin", "http://localhost.example/net.bin", "ftp://127.0.0.1/net.bin", "file:///etc/passwd"],
)
def test_only_https(store: Store, monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    set_row(monkeypatch, address=address)
    with pytest.raises(OSError, match="want https"):
        pretrained("net")


@pytest.mark.parametrize("location", ["http://192.0.2.1/net.bin", "ftp://127.0.0.1/net.bin", "file:///etc/passwd"])
def test_redirects_only_to_https(store: Store, location: str) -> None:
    store.status, store.location = 302, location
    with pytest.raises(OSError, match=r"not fetched") as caught:
        pretrained("net")
    assert location in str(caught.value)


def test_https_does_not_lead_to_this_machine() -> None:
    request = module.urllib.request.Request("https://192.0.2.1/net.bin")
    with pytest.raises(OSError, match="want https"):
        module._Redirects().redirect_request(request, None, 302, "", {}, "http://127.0.0.1/net.bin")


def test_unknown_names(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    with pytest.raises(
        ValueError, match=r"name is 'resnet50', want one of mobilenet_v1, .*densenet121, .*vgg19_bn, yunet$"
    ):
        pretrained("resnet50")
    with pytest.raises(ValueError, match="layout is 'caffe', densenet169 has torchvision, keras"):
        pretrained("densenet169", layout="caffe")


# --- files that are there already


def test_file_put_there_by_hand(store: Store, cache: Path) -> None:
    store.stop()
    cache.mkdir()
    (cache / "net.bin").write_bytes(DATA)
    assert pretrained("net") == cache / "net.bin"


def test_damaged_file_is_fetched_again(store: Store, cache: Path) -> None:
    path = pretrained("net")
    path.write_bytes(OTHER)
    with pytest.warns(UserWarning, match="damaged"):
        assert pretrained("net").read_bytes() == DATA
    path.write_bytes(OTHER)
    store.stop()
    with pytest.warns(UserWarning, match="damaged"), pytest.raises(OSError, match="not fetched"):
        pretrained("net")


def test_digest_is_recorded_where_none_is_published(store: Store, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_row(monkeypatch, digest=None)
    with pytest.warns(UserWarning, match="no digest"):
        path = pretrained("net")
    digits = sha256(DATA).removeprefix("sha256:")
    assert (cache / "net.bin.sha256").read_text() == f"{digits}  net.bin\n"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert pretrained("net") == path
    path.unlink()
    store.data = OTHER
    with pytest.raises(fn.FormatError, match="recorded"):
        pretrained("net")
    assert not path.exists()
    (cache / "net.bin.sha256").unlink()
    with pytest.warns(UserWarning, match="no digest"):
        assert pretrained("net").read_bytes() == OTHER


def test_digest_is_recorded_of_a_file_put_there(store: Store, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_row(monkeypatch, digest=None)
    store.stop()
    cache.mkdir()
    (cache / "net.bin").write_bytes(OTHER)
    with pytest.warns(UserWarning, match="no digest"):
        pretrained("net")
    assert names(cache) == ["net.bin", "net.bin.sha256"]


# --- the folder


def test_folders(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert pretrained("net") == tmp_path / "cache" / "net.bin"
    monkeypatch.setenv("FACSNET_CACHE", "~/own")
    assert pretrained("net") == tmp_path / "home" / "own" / "net.bin"
    monkeypatch.setenv("FACSNET_CACHE", "")
    assert pretrained("net") == tmp_path / "xdg" / "facsnet" / "net.bin"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert pretrained("net") == tmp_path / "home" / ".cache" / "facsnet" / "net.bin"
    assert len(store.asked) == 4


def test_folder_is_a_file(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        monkeypatch.setenv("FACSNET_CACHE", str(folder))
        with pytest.raises(OSError, match="FACSNET_CACHE can name another folder") as caught:
            pretrained("net")
        assert caught.value.filename == str(folder)
    assert store.asked == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_unwritable_folder(store: Store, cache: Path) -> None:
    cache.mkdir(mode=0o500)
    with pytest.raises(PermissionError, match="FACSNET_CACHE can name another folder"):
        pretrained("net")


def test_complete_file_in_a_folder_without_locks(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    path = pretrained("net")

    def refuse(*_: object) -> None:
        raise AssertionError("the lock was asked for")

    monkeypatch.setattr(module, "_alone", refuse)
    assert pretrained("net") == path


def test_disk_full(store: Store, cache: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64 << 10, hard))
    try:
        with pytest.raises(OSError, match=r"kept in .*net\.bin\.part") as caught:
            pretrained("net")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.errno == errno.EFBIG
    assert caught.value.filename == str(cache / "net.bin")
    assert not (cache / "net.bin").exists()
    store.sent = 0
    assert pretrained("net").read_bytes() == DATA
    assert store.sent == len(DATA) - (64 << 10)


# --- at once


def test_threads_at_once(store: Store) -> None:
    store.delay = 0.1
    with ThreadPoolExecutor(4) as pool:
        paths = list(pool.map(pretrained, ["net"] * 4))
    assert len(set(paths)) == 1
    assert paths[0].read_bytes() == DATA
    assert len(store.asked) == 1


def test_processes_at_once(store: Store, cache: Path) -> None:
    script = f"""
import importlib
module = importlib.import_module("facsnet.pretrained")
module._TABLE = (module._Row("net", "timm", None, "MIT", "net.bin", {store.address!r}, {sha256(DATA)!r}, ""),)
module._PAUSES = (0.0, 0.0)
print(module.pretrained("net"))
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(fn.__file__).parents[1]), "no_proxy": "*"}
    store.delay, store.cuts = 0.3, [50_000, 50_000]
    running = [
        subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env=environment)
        for _ in range(2)
    ]
    for process in running:
        assert process.communicate(timeout=60)[0].strip() == str(cache / "net.bin")
        assert process.returncode == 0
    assert (cache / "net.bin").read_bytes() == DATA
    assert store.sent == len(DATA)


# --- the table


def test_rows_are_well_formed() -> None:
    rows = module._TABLE
    assert {row.name for row in rows} >= {
        "mobilenet_v1", "mobilenet_v2", "densenet121", "densenet169", "densenet201", "vgg19", "vgg19_bn"
    }  # fmt: skip
    assert len({(row.name, row.layout) for row in rows}) == len(rows)
    assert len({row.file for row in rows}) == len(rows)
    assert len({row.address for row in rows}) == len(rows)
    for row in rows:
        assert urlsplit(row.address).scheme == urlsplit(row.source).scheme == "https"
        assert Path(row.file).name == row.file
        assert Path(row.file).suffix == Path(urlsplit(row.address).path).suffix
        assert row.layout in ("torchvision", "huggingface", "timm", "keras", "opencv")
        assert row.licence
        assert row.megabytes is None or 0 < row.megabytes < module._SIZE_LIMIT / 1e6
        assert row.digest is None or re.fullmatch(r"sha256:([0-9a-f]{8}|[0-9a-f]{64})|md5:[0-9a-f]{32}", row.digest)
        if row.layout == "torchvision":
            # the name of such a file ends with the first digits of its sha256
            assert row.digest == "sha256:" + row.file.rpartition("-")[2].removesuffix(".pth")


def test_table(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = module.pretrained_table()
    assert frame.loc[0, "verified"] == "sha256"
    assert not frame.loc[0, "cached"]
    pretrained("net")
    assert module.pretrained_table().loc[0, "cached"]
    monkeypatch.undo()
    frame = module.pretrained_table()
    assert len(frame) == len(module._TABLE)
    assert set(frame["verified"]) == {"sha256", "sha256, 8 digits", "md5", "sha256 of the first download"}
    assert list(frame.columns) == [
        "name", "layout", "file", "megabytes", "verified", "licence", "address", "source", "cached"
    ]  # fmt: skip
