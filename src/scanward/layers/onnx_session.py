"""An ONNX Runtime session fit for judging: one thread, no arena, nothing from outside its own bytes."""

from __future__ import annotations

from typing import Any, Final

import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as ort

from scanward.config import BUNDLE_BOUNDS, BundleBounds
from scanward.errors import BundleError
from scanward.layers import onnx_check as graphs

# ONNX Runtime's exceptions have no root of their own; this is its whole list, less what only devices raise.
_ORT_ERRORS: Final = (
    ort.EPFail,
    ort.Fail,
    ort.InvalidArgument,
    ort.InvalidGraph,
    ort.InvalidProtobuf,
    ort.NoModel,
    ort.NoSuchFile,
    ort.NotImplemented,
    ort.RuntimeException,
    RuntimeError,
    ValueError,
)


def session(
    graph: bytes, where: str = "graph", bounds: BundleBounds = BUNDLE_BOUNDS
) -> onnxruntime.InferenceSession:
    """Make an ``onnxruntime.InferenceSession`` on the CPU from serialized ONNX.

    One intra-op and one inter-op thread, in sequence, without spinning, memory arena or memory pattern: a
    decision uses one core and the memory it needs. BundleError when the graph is too large, is not
    self-contained, uses operators outside ai.onnx and ai.onnx.ml, or is refused by ONNX Runtime.
    """
    graphs.check(graph, where, bounds)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.enable_cpu_mem_arena = False
    options.enable_mem_pattern = False
    # Not ORT_ENABLE_ALL: layouts chosen for the machine could move a score in its last bits between two
    # hosts.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.log_severity_level = 4  # what it has to say arrives as an exception
    for key, value in _ENTRIES.items():
        options.add_session_config_entry(key, value)
    try:
        return onnxruntime.InferenceSession(
            graph,
            options,
            providers=["CPUExecutionProvider"],
            enable_fallback=0,  # its second try prints to standard output and ends no better
        )
    except _ORT_ERRORS as error:
        raise BundleError(
            f"ONNX Runtime refuses the graph ({_first_line(error)})",
            where,
            "get the bundle again from where it was trained, or update onnxruntime",
        ) from error


_ENTRIES: Final[dict[str, Any]] = {
    "session.load_model_format": "ONNX",  # bytes marked ORTM would be read as another format
    "session.intra_op.allow_spinning": "0",
    "session.inter_op.allow_spinning": "0",
}


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
