"""Public ImageNet checkpoints and a finder of faces: a table of them, and verified copies in a cache folder."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import http.client
import os
import time
import urllib.error
import urllib.request
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import urlsplit

from facsnet._core import FormatError
from facsnet._version import __version__

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["pretrained", "pretrained_table"]

_SIZE_LIMIT = 1 << 30  # the largest file of the table has 575 MB
_CHUNK = 1 << 18
_TIMEOUT = 30.0
_PAUSES = (1.0, 4.0)  # seconds before each attempt after the first

_TORCH = "https://download.pytorch.org/models"
_KERAS = "https://storage.googleapis.com/tensorflow/keras-applications"
_HUB = "https://huggingface.co"
_TORCH_CODE = "https://github.com/pytorch/vision/blob/main/torchvision/models"
_KERAS_CODE = "https://github.com/keras-team/keras/blob/master/keras/src/applications"
_INTEL = "https://github.com/openvinotoolkit/open_model_zoo/blob/master/models/public"

# What the publishers state. None of them speaks for ImageNet, whose terms may bind the user as well.
_BSD = "BSD-3-Clause"
_APACHE = "Apache-2.0"
_CC_BY = "CC-BY-4.0"
_GOOGLE = "Apache-2.0 where it was first published; its model card says 'other'"


@dataclass(frozen=True)
class _Row:
    """One public file.

    Attributes
    ----------
    name : str
        The network, its width where that is not 1, ``_no_top`` where the classifier is left out.
    layout : str
        Who published it: ``"torchvision"``, ``"huggingface"``, ``"timm"``, ``"keras"`` or ``"opencv"``.
    megabytes : float or None
        Millions of bytes, rounded; for the eye only.
    licence : str
    file : str
        Its name in the cache folder.
    address : str
    digest : str or None
        ``"sha256:"`` or ``"md5:"`` and hexadecimal digits, the first of them where no more are
        published; None where none are.
    source : str
        Where address and digest are stated.
    """

    name: str
    layout: str
    megabytes: float | None
    licence: str
    file: str
    address: str
    digest: str | None
    source: str


# The first row of a name is what `pretrained` takes by default: where the choice is, a file with a whole
# sha256, and safetensors before pickles. Hugging Face's addresses name the commit where it is known.
# fmt: off
_TABLE = (
    _Row("mobilenet_v1", "huggingface", 17.1, _GOOGLE, "google-mobilenet_v1_1.0_224.bin",
         f"{_HUB}/google/mobilenet_v1_1.0_224/resolve/dd9bc45ff57d9492e00d48547587baf03f0cdade/pytorch_model.bin",
         "sha256:533912ba76c89fd19ae3572a74ed43965e514e6948c80939c7c3c72e12292f95",
         f"{_HUB}/google/mobilenet_v1_1.0_224"),
    _Row("mobilenet_v1", "timm", 17.0, _APACHE, "timm-mobilenetv1_100.ra4_e3600_r224_in1k.safetensors",
         f"{_HUB}/timm/mobilenetv1_100.ra4_e3600_r224_in1k/resolve/dda9ab42e23f3061aa191630817df76e8fe9cace/model.safetensors",
         None, f"{_HUB}/timm/mobilenetv1_100.ra4_e3600_r224_in1k"),
    _Row("mobilenet_v1", "keras", 17.2, _APACHE, "mobilenet_1_0_224_tf.h5",
         f"{_KERAS}/mobilenet/mobilenet_1_0_224_tf.h5", None, f"{_KERAS_CODE}/mobilenet.py"),
    _Row("mobilenet_v1_0.75", "keras", None, _APACHE, "mobilenet_7_5_224_tf.h5",
         f"{_KERAS}/mobilenet/mobilenet_7_5_224_tf.h5", None, f"{_KERAS_CODE}/mobilenet.py"),
    _Row("mobilenet_v1_0.5", "keras", None, _APACHE, "mobilenet_5_0_224_tf.h5",
         f"{_KERAS}/mobilenet/mobilenet_5_0_224_tf.h5", None, f"{_KERAS_CODE}/mobilenet.py"),
    _Row("mobilenet_v1_0.25", "keras", None, _APACHE, "mobilenet_2_5_224_tf.h5",
         f"{_KERAS}/mobilenet/mobilenet_2_5_224_tf.h5", None, f"{_KERAS_CODE}/mobilenet.py"),
    _Row("mobilenet_v2", "timm", 14.2, _APACHE, "timm-mobilenetv2_100.ra_in1k.safetensors",
         f"{_HUB}/timm/mobilenetv2_100.ra_in1k/resolve/f3ff81ba89de0bc46b546568ebeab2edef6b9d49/model.safetensors",
         "sha256:55ea4fb3a96010b933710ebf44fc965b070d5cd054d3f35e44f2d1320b4a714e",
         f"{_HUB}/timm/mobilenetv2_100.ra_in1k"),
    _Row("mobilenet_v2", "huggingface", 14.2, _GOOGLE, "google-mobilenet_v2_1.0_224.safetensors",
         f"{_HUB}/google/mobilenet_v2_1.0_224/resolve/f4a07ccfbe6c27cf60bcb36382f58a0de1cd095f/model.safetensors",
         "sha256:94f61c6902b411e6b730cfe2443c8b2d983a2d50d289c4bd7083e0583ccdfe76",
         f"{_HUB}/google/mobilenet_v2_1.0_224"),
    _Row("mobilenet_v2", "torchvision", 14.2, _BSD, "mobilenet_v2-b0353104.pth",
         f"{_TORCH}/mobilenet_v2-b0353104.pth", "sha256:b0353104", f"{_TORCH_CODE}/mobilenetv2.py"),
    _Row("mobilenet_v2", "keras", 14.5, _APACHE, "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224.h5",
         f"{_KERAS}/mobilenet_v2/mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224.h5",
         None, f"{_KERAS_CODE}/mobilenet_v2.py"),
    _Row("densenet121", "timm", 32.3, _APACHE, "timm-densenet121.tv_in1k.safetensors",
         f"{_HUB}/timm/densenet121.tv_in1k/resolve/main/model.safetensors",
         "sha256:c894c6d9caa317a8ca1942986dee7a16a86c77734a4d691d2abe05389cfef358",
         f"{_HUB}/timm/densenet121.tv_in1k"),
    _Row("densenet121", "torchvision", 32.3, _BSD, "densenet121-a639ec97.pth",
         f"{_TORCH}/densenet121-a639ec97.pth", "sha256:a639ec97", f"{_TORCH_CODE}/densenet.py"),
    _Row("densenet121", "keras", 33.2, _APACHE, "densenet121_weights_tf_dim_ordering_tf_kernels.h5",
         f"{_KERAS}/densenet/densenet121_weights_tf_dim_ordering_tf_kernels.h5",
         "sha256:86cf891d8ce2a713e59a1c6bfa9d3c006c7fdbb4355e8962482caa6d27daead7",
         f"{_INTEL}/densenet-121-tf/model.yml"),
    _Row("densenet169", "torchvision", 57.4, _BSD, "densenet169-b2777c0a.pth",
         f"{_TORCH}/densenet169-b2777c0a.pth", "sha256:b2777c0a", f"{_TORCH_CODE}/densenet.py"),
    _Row("densenet169", "keras", None, _APACHE, "densenet169_weights_tf_dim_ordering_tf_kernels.h5",
         f"{_KERAS}/densenet/densenet169_weights_tf_dim_ordering_tf_kernels.h5",
         "md5:d699b8f76981ab1b30698df4c175e90b", f"{_KERAS_CODE}/densenet.py"),
    _Row("densenet201", "torchvision", 81.1, _BSD, "densenet201-c1103571.pth",
         f"{_TORCH}/densenet201-c1103571.pth", "sha256:c1103571", f"{_TORCH_CODE}/densenet.py"),
    _Row("densenet201", "keras", 82.5, _APACHE, "densenet201_weights_tf_dim_ordering_tf_kernels.h5",
         f"{_KERAS}/densenet/densenet201_weights_tf_dim_ordering_tf_kernels.h5",
         "sha256:1cbd33a37b0b14afad2ff7f578e1ccaa123427d9b9d6923a2ceacaef49210536",
         f"{_INTEL}/densenet-201-tf/model.yml"),
    _Row("vgg19", "timm", 575, _BSD, "timm-vgg19.tv_in1k.safetensors",
         f"{_HUB}/timm/vgg19.tv_in1k/resolve/128d4708565b3a414bcbb9bbad440b2fe37b9f18/model.safetensors",
         "sha256:11aea017b543ff59233749d8f1cf544cda749378f5790d2fedab841fb86b7669",
         f"{_HUB}/timm/vgg19.tv_in1k"),
    _Row("vgg19", "torchvision", 575, _BSD, "vgg19-dcbb9e9d.pth",
         f"{_TORCH}/vgg19-dcbb9e9d.pth", "sha256:dcbb9e9d", f"{_TORCH_CODE}/vgg.py"),
    _Row("vgg19", "keras", 575, _CC_BY, "vgg19_weights_tf_dim_ordering_tf_kernels.h5",
         f"{_KERAS}/vgg19/vgg19_weights_tf_dim_ordering_tf_kernels.h5",
         "md5:cbe5617147190e668d6c5d5026f83318", f"{_KERAS_CODE}/vgg19.py"),
    _Row("vgg19_no_top", "keras", 80.1, _CC_BY, "vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5",
         f"{_KERAS}/vgg19/vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5",
         "md5:253f8cb515780f3b799900260a226db6", f"{_KERAS_CODE}/vgg19.py"),
    _Row("vgg19_bn", "timm", 575, _BSD, "timm-vgg19_bn.tv_in1k.safetensors",
         f"{_HUB}/timm/vgg19_bn.tv_in1k/resolve/5df00d8510c2b1bd2ab67da8b2ef47034f30a7fa/model.safetensors",
         "sha256:f8249087e63bae61c6166bb23d7c26efe1b2a43fd9fb5cd60ac6ce00535ba312",
         f"{_HUB}/timm/vgg19_bn.tv_in1k"),
    _Row("vgg19_bn", "torchvision", 575, _BSD, "vgg19_bn-c79401a0.pth",
         f"{_TORCH}/vgg19_bn-c79401a0.pth", "sha256:c79401a0", f"{_TORCH_CODE}/vgg.py"),
    _Row("yunet", "opencv", 0.2, "MIT", "face_detection_yunet_2023mar.onnx",
         f"{_HUB}/opencv/face_detection_yunet/resolve/3cc26e7f1014a5ee5d74a42acee58bafc9d0a310/face_detection_yunet_2023mar.onnx",
         "sha256:8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4",
         "https://github.com/opencv/opencv_zoo/tree/main/models/face_detection_yunet"),
)
# fmt: on


def pretrained(name: str, *, layout: str | None = None, progress: bool | None = None) -> Path:
    """A verified local copy of a public ImageNet checkpoint, downloaded once.

    Files are kept in ``$FACSNET_CACHE``, else ``$XDG_CACHE_HOME/facsnet``, else
    ``~/.cache/facsnet``, and verified at every call; a file put there by hand under the name of
    the table is as good. A download that breaks off is taken up again, now or by a later call.
    `pretrained_table` lists files, licences and addresses.

    What a file is verified against is what its publisher states: the whole sha256 for Hugging
    Face's and timm's files; the first eight digits of it for torchvision's, enough against damage,
    not against malice; Keras' MD5, or for DenseNet-121 and -201 the sha256 that Intel's Open Model
    Zoo has of the same address. Nothing is published for Keras' MobileNets and timm's
    MobileNet-v1: their sha256 is recorded beside the file when it is first seen, with a warning,
    and holds from then on.

    Parameters
    ----------
    name : str
        A network, as in `Network`; ``"mobilenet_v1_0.25"``, ``"_0.5"`` and ``"_0.75"`` for its
        narrower ones, ``"vgg19_no_top"`` for the convolutions of VGG-19 alone, 80 MB and not 575;
        ``"yunet"`` for the finder of faces, see `YuNet`.
    layout : {"torchvision", "huggingface", "timm", "keras", "opencv"}, optional
        Whose file; None the first of the table. Keras' need h5py to be loaded.
    progress : bool, optional
        Whether a bar is shown; None on terminals and in notebooks.

    Returns
    -------
    Path
        For `Network.load_weights`.

    Raises
    ------
    ValueError
        The table has no such name or layout; the message lists those it has.
    OSError
        The file cannot be fetched or stored; the message says where a copy of it can be put.
    FormatError
        What arrived is not the file of the table, and is removed.
    """
    row = _find(name, layout)
    path = _folder() / row.file
    wanted = row.digest or _recorded(path)
    # without the lock: a complete file is read where the folder cannot be written
    if path.is_file() and wanted is not None and _found(path, wanted).startswith(wanted):
        return path
    with _alone(path):
        _complete(row, path, progress)
    return path


def pretrained_table() -> pd.DataFrame:
    """The files `pretrained` knows, one a row; of equal names the first is its default.

    Returns
    -------
    DataFrame
        name, layout, file, megabytes (rounded, NaN where not known), verified (what the file is
        held against), licence (as its publisher states it; ImageNet's terms are a matter of their
        own), address, source (where address and digest are stated), cached (whether the cache
        folder has the file, which is not verified here).
    """
    import pandas as pd

    folder = _folder()
    rows = [
        {
            "name": row.name,
            "layout": row.layout,
            "file": row.file,
            "megabytes": row.megabytes,
            "verified": _kind(row),
            "licence": row.licence,
            "address": row.address,
            "source": row.source,
            "cached": (folder / row.file).is_file(),
        }
        for row in _TABLE
    ]
    return pd.DataFrame(rows).astype({"megabytes": "float64"})


def _kind(row: _Row) -> str:
    if row.digest is None:
        return "sha256 of the first download"
    algorithm, digits = row.digest.split(":")
    whole = hashlib.new(algorithm, usedforsecurity=False).digest_size * 2
    return algorithm if len(digits) == whole else f"{algorithm}, {len(digits)} digits"


def _find(name: str, layout: str | None) -> _Row:
    rows = [row for row in _TABLE if row.name == name]
    if not rows:
        raise ValueError(f"name is {name!r}, want one of {', '.join(dict.fromkeys(row.name for row in _TABLE))}")
    for row in rows:
        if layout in (None, row.layout):
            return row
    raise ValueError(f"layout is {layout!r}, {name} has {', '.join(row.layout for row in rows)}")


# --- the cache folder


def _folder() -> Path:
    own = os.environ.get("FACSNET_CACHE")
    if own:
        return Path(own).expanduser()
    shared = os.environ.get("XDG_CACHE_HOME")
    return (Path(shared) if shared else Path.home() / ".cache") / "facsnet"


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Holds the lock of a file: one writer among threads and processes, so that the next resumes its part."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(_beside(path, ".lock"), os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as problem:
        text = f"{problem.strerror}; FACSNET_CACHE can name another folder"
        raise OSError(problem.errno, text, problem.filename) from problem
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _found(path: Path, wanted: str) -> str:
    """The digest of a file, as rows write it, by the algorithm of the one wanted."""
    algorithm = wanted.split(":")[0]
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, lambda: hashlib.new(algorithm, usedforsecurity=False))
    return f"{algorithm}:{digest.hexdigest()}"


def _recorded(path: Path) -> str | None:
    """The digest that was recorded when the file was first seen, in the format of sha256sum."""
    try:
        digits = _beside(path, ".sha256").read_text(encoding="utf-8", errors="replace").split(maxsplit=1)[0]
    except (FileNotFoundError, NotADirectoryError, IndexError):
        return None
    return f"sha256:{digits}"


def _record(row: _Row, path: Path) -> None:
    digits = _found(path, "sha256:").partition(":")[2]
    _beside(path, ".sha256").write_text(f"{digits}  {path.name}\n", encoding="utf-8")
    warnings.warn(
        f"{path}: no digest of {row.address} is published; sha256 {digits} is recorded, and wanted from now on",
        stacklevel=4,
    )


# --- the download


class _BrokenOffError(Exception):
    """The connection ended before the file did."""


class _Redirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        # a public address never leads to a service of this machine
        if urlsplit(newurl).scheme != "https" and not (_is_local(req.full_url) and _is_local(newurl)):
            raise urllib.error.URLError(f"it leads to {newurl!r:.200}, want https")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _is_local(address: str) -> bool:
    parts = urlsplit(address)
    return parts.scheme == "http" and parts.hostname in ("127.0.0.1", "::1", "localhost")


def _complete(row: _Row, path: Path, progress: bool | None) -> None:
    """Leaves a verified file at path; the caller holds its lock."""
    wanted = row.digest or _recorded(path)
    if path.is_file():
        if wanted is None:
            return _record(row, path)
        found = _found(path, wanted)
        if found.startswith(wanted):
            return None
        warnings.warn(f"{path}: damaged, {found}, want {wanted}: it is fetched again", stacklevel=3)
    part = _beside(path, ".part")
    try:
        _fetch(row, path, part, progress)
        found = _found(part, wanted or "sha256:")
        if wanted is not None and not found.startswith(wanted):
            part.unlink()
            origin = "" if row.digest else f" as {_beside(path, '.sha256')} recorded"
            raise FormatError(
                f"{row.address}: what arrived has {found}, want {wanted}{origin}; it is removed. {_by_hand(path)}"
            )
        os.replace(part, path)
        _beside(part, ".tag").unlink(missing_ok=True)
        _sync_folder(path.parent)
    except OSError as problem:
        if problem.errno is None:
            raise
        text = f"{problem.strerror}; what arrived is kept in {part}, and the next call goes on from there"
        raise OSError(problem.errno, text, os.fspath(path)) from problem
    return _record(row, path) if wanted is None else None


def _by_hand(path: Path) -> str:
    return f"A copy of it can be put at {path}, and Network.load_weights(path) takes a file from anywhere"


def _sync_folder(folder: Path) -> None:
    directory = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _fetch(row: _Row, path: Path, part: Path, progress: bool | None) -> None:
    """Downloads into part; an OSError without errno says why it could not."""
    for pause in (*_PAUSES, None):
        try:
            with _open(row, path, part) as response:
                _receive(row, response, part, progress)
            return
        except _BrokenOffError as problem:
            if pause is None:
                raise OSError(f"{row.address}: not fetched: {problem}. {_by_hand(path)}") from problem
            time.sleep(pause)


def _open(row: _Row, path: Path, part: Path) -> Any:
    """The response to a request for what part lacks, or for all of it."""
    headers = {"User-Agent": f"facsnet/{__version__}"}
    have, tag = _resumable(part)
    if have:
        # If-Range: the rest where the file is still the same, else the whole of what it is now
        headers |= {"Range": f"bytes={have}-", "If-Range": tag}
    try:
        if urlsplit(row.address).scheme != "https" and not _is_local(row.address):
            raise urllib.error.URLError("want https")
        request = urllib.request.Request(row.address, headers=headers)
        return urllib.request.build_opener(_Redirects).open(request, timeout=_TIMEOUT)
    except urllib.error.HTTPError as problem:
        problem.close()
        if problem.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE and have:
            part.unlink()
            return _open(row, path, part)
        why: object = f"HTTP {problem.code} {problem.reason}"
    except (OSError, http.client.HTTPException) as problem:
        why = getattr(problem, "reason", problem)
    raise OSError(f"{row.address}: not fetched: {why}. {_by_hand(path)}")


def _resumable(part: Path) -> tuple[int, str]:
    """Bytes of a part that can be gone on with, and the tag of the file that they are of; 0 bytes where none."""
    try:
        have = part.stat().st_size
        tag = _beside(part, ".tag").read_text(encoding="latin-1")
    except FileNotFoundError:
        return 0, ""
    return (have, tag) if tag else (0, "")


def _receive(row: _Row, response: Any, part: Path, progress: bool | None) -> None:
    from tqdm.auto import tqdm

    resumed = response.status == http.client.PARTIAL_CONTENT
    have = part.stat().st_size if resumed else 0
    if resumed and not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
        part.unlink()
        raise _BrokenOffError(f"asked for bytes from {have}, got {response.headers.get('Content-Range')!r:.80}")
    total = None if response.length is None else have + response.length
    _check_size(row, part, total or 0)
    with (
        open(part, "ab" if resumed else "wb") as file,
        # disable=None hides the bar where there is no terminal
        tqdm(
            total=total,
            initial=have,
            desc=row.file,
            unit="B",
            unit_scale=True,
            leave=False,
            disable=None if progress is None else not progress,
        ) as bar,
    ):
        if not resumed:
            # after the old part is gone: the tag is never that of another file's bytes
            _beside(part, ".tag").write_text(_tag(response.headers), encoding="latin-1")
        while chunk := _read(response):
            have += len(chunk)
            _check_size(row, part, have)
            file.write(chunk)
            bar.update(len(chunk))
        file.flush()
        os.fsync(file.fileno())
    if total is not None and have != total:
        raise _BrokenOffError(f"the connection ended after {have} of {total} bytes")


def _read(response: Any) -> bytes:
    try:
        chunk: bytes = response.read(_CHUNK)
    except (OSError, http.client.HTTPException) as problem:
        raise _BrokenOffError(f"the connection broke: {problem}") from problem
    return chunk


def _tag(headers: http.client.HTTPMessage) -> str:
    """What tells the file from other versions of it; nothing where the server has only a weak ETag."""
    tag = headers.get("ETag", "").strip()
    return headers.get("Last-Modified", "").strip() if not tag or tag.startswith("W/") else tag


def _check_size(row: _Row, part: Path, size: int) -> None:
    if size > _SIZE_LIMIT:
        part.unlink(missing_ok=True)
        raise FormatError(f"{row.address}: it has {size} bytes or more, the limit is {_SIZE_LIMIT}")
