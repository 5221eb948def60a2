"""ONNX Runtime and OpenVINO as peers, on the network that `draws` exported; inference alone."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from versus.task import Absent, FloatArray, Task, chunks


def exported(task: Task) -> str:
    """The path of the ONNX file."""
    if task.job != "infer":
        raise Absent("does inference alone")
    path = task.path("network.onnx")
    if not path.exists():
        raise Absent("there is no ONNX file: that takes PyTorch, onnx and onnxscript")
    return str(path)


class InferencePeer:
    """Runs parts of the batch, given in NCHW, through a function."""

    def __init__(self, task: Task) -> None:
        x = np.ascontiguousarray(task.images().transpose(0, 3, 1, 2))
        self.batches = chunks(x, task.chunk)
        self.forward: Callable[[], list[FloatArray]] = list

    def run(self) -> None:
        self.forward()

    def logits(self) -> FloatArray:
        return np.concatenate(self.forward())

    def gradients(self) -> dict[str, np.ndarray]:
        raise Absent("does inference alone")


# --- ONNX Runtime


def onnxruntime_version() -> str:
    import onnxruntime

    return f"ONNX Runtime {onnxruntime.__version__}"


def make_onnxruntime(task: Task) -> InferencePeer:
    """Option sessions: so many, each with a part of the threads and of the batch; default one."""
    path = exported(task)
    try:
        import onnxruntime
    except ImportError:
        raise Absent("ONNX Runtime is not installed") from None
    if task.dtype != "float32":
        raise Absent("its CPU kernels are for float32")
    peer = InferencePeer(task)
    count = int(task.options.get("sessions", 1))
    sessions = []
    for _ in range(count):
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = max(1, task.threads // count)
        settings.inter_op_num_threads = 1
        settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        settings.log_severity_level = 3
        settings.add_session_config_entry("session.force_spinning_stop", "1")  # else they spin while others run
        sessions.append(onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"]))

    def part(worker: int) -> list[FloatArray]:
        return [sessions[worker].run(None, {"images": x})[0] for x in peer.batches[worker::count]]

    if count == 1:
        peer.forward = lambda: part(0)
        return peer
    pool = ThreadPoolExecutor(count)

    def forward() -> list[FloatArray]:
        parts = list(pool.map(part, range(count)))
        return [parts[i % count][i // count] for i in range(len(peer.batches))]

    peer.forward = forward
    return peer


# --- OpenVINO


def openvino_version() -> str:
    import openvino

    return f"OpenVINO {openvino.__version__.split('-')[0]}"


def make_openvino(task: Task) -> InferencePeer:
    """Options hint ("LATENCY", "THROUGHPUT") and streams; several parts of the batch run at once with THROUGHPUT."""
    path = exported(task)
    try:
        import openvino
    except ImportError:
        raise Absent("OpenVINO is not installed") from None
    core = openvino.Core()
    precision = {"float32": "f32", "bfloat16": "bf16"}[task.dtype]
    if precision == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise Absent("has no bfloat16 on this processor")
    peer = InferencePeer(task)
    model = core.read_model(path)
    model.reshape([task.chunk, 3, task.size, task.size])
    settings: dict[str, Any] = {
        "PERFORMANCE_HINT": task.options.get("hint", "LATENCY"),
        "INFERENCE_NUM_THREADS": str(task.threads),
        "INFERENCE_PRECISION_HINT": precision,
    }
    if "streams" in task.options:
        settings["NUM_STREAMS"] = str(task.options["streams"])
    compiled = core.compile_model(model, "CPU", settings)
    requests = [compiled.create_infer_request() for _ in peer.batches]

    def forward() -> list[FloatArray]:
        for request, x in zip(requests, peer.batches, strict=True):
            request.start_async({0: x}, share_inputs=True)
        for request in requests:
            request.wait()
        return [request.get_output_tensor(0).data for request in requests]

    peer.forward = forward
    return peer
