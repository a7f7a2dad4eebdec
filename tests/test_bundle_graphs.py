"""Graphs: what the standard's operators compute is run, what reaches outside its own bytes is refused."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from _bundle import DOUBLE, check, files_of, model, node, part, resealed, text, value_info, varint, whole
from scanward.config import BUNDLE_BOUNDS
from scanward.errors import BundleError
from scanward.layers import onnx_check as graphs
from scanward.layers.onnx_session import session

X = np.array([1.0, 2.5, -3.0], np.float32)


def constant(*more: bytes, values: bytes = b"") -> bytes:
    """A float tensor of shape (3,) named w."""
    return whole(1, 3) + whole(2, 1) + text(8, b"w") + (text(9, values) if values else b"") + b"".join(more)


def entry(number: int, key: bytes, value: bytes) -> bytes:
    return text(number, text(1, key), text(2, value))


EXTERNAL = constant(entry(13, b"location", b"weights.bin"), whole(14, 1))
ADD = node(b"Add", [b"x", b"w"], [b"y"])


def test_a_graph_is_run_with_one_thread_and_without_an_arena() -> None:
    made = session(DOUBLE)
    np.testing.assert_array_equal(made.run(None, {"x": X})[0], X + X)
    options = made.get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (1, 1)
    assert options.execution_mode == onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    assert not options.enable_cpu_mem_arena
    assert not options.enable_mem_pattern
    assert made.get_providers() == ["CPUExecutionProvider"]


def test_a_graph_with_its_own_constants_is_run() -> None:
    inline = model(ADD, text(5, constant(values=np.float32([1, 2, 3]).tobytes())))
    np.testing.assert_array_equal(session(inline).run(None, {"x": X})[0], X + np.float32([1, 2, 3]))


def test_external_data_would_be_read_by_the_runtime_and_is_refused_by_us(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "weights.bin").write_bytes(np.float32([7, 7, 7]).tobytes())
    monkeypatch.chdir(tmp_path)
    outside = model(ADD, text(5, EXTERNAL))
    # The danger is real: the runtime alone opens whatever file the graph names beside it.
    (tmp_path / "outside.onnx").write_bytes(outside)
    alone = onnxruntime.InferenceSession(tmp_path / "outside.onnx", providers=["CPUExecutionProvider"])
    np.testing.assert_array_equal(alone.run(None, {"x": X})[0], X + 7)
    with pytest.raises(BundleError, match="outside its file"):
        session(outside)


def _wrapped() -> dict[str, bytes]:
    tensor = text(5, EXTERNAL)  # as attribute t; in a graph, field 5 is an initializer
    inner = text(6, text(5, EXTERNAL))  # attribute g: a graph with that initializer
    return {
        "attribute": model(node(b"Constant", [], [b"y"], text(5, text(1, b"value"), tensor))),
        "tensors": model(node(b"Constant", [], [b"y"], text(5, text(10, EXTERNAL)))),
        "subgraph": model(node(b"If", [b"x"], [b"y"], text(5, text(1, b"then_branch"), inner))),
        "subgraphs": model(node(b"If", [b"x"], [b"y"], text(5, text(11, text(5, EXTERNAL))))),
        "sparse": model(ADD, text(15, text(1, EXTERNAL))),
        "sparse indices": model(ADD, text(15, text(2, EXTERNAL))),
        "sparse attribute": model(node(b"Constant", [], [b"y"], text(5, text(22, text(1, EXTERNAL))))),
        "sparse attributes": model(node(b"Constant", [], [b"y"], text(5, text(23, text(1, EXTERNAL))))),
        "function": model(ADD, more=text(25, node_in_function())),
        "function default": model(ADD, more=text(25, text(11, text(5, EXTERNAL)))),
        "training": model(ADD, more=text(20, text(1, text(5, EXTERNAL)))),
        "location alone": model(ADD, text(5, constant(whole(14, 1)))),
        "data alone": model(ADD, text(5, constant(entry(13, b"location", b"/etc/passwd")))),
        "location as bytes": model(ADD, text(5, constant(text(14, b"")))),
        "location in two varint bytes": model(ADD, text(5, constant(varint(14 << 3) + b"\x81\x00"))),
    }


def node_in_function() -> bytes:
    return text(7, text(4, b"Constant"), text(2, b"y"), text(5, text(1, b"value"), text(5, EXTERNAL)))


@pytest.mark.parametrize(("name", "graph"), _wrapped().items(), ids=_wrapped().keys())
def test_external_data_is_found_wherever_a_tensor_can_stand(name: str, graph: bytes) -> None:
    with pytest.raises(BundleError, match="outside its file"):
        session(graph)


@pytest.mark.parametrize(
    "graph",
    [
        model(node(b"Gelu", [b"x"], [b"y"], text(7, b"com.microsoft"))),
        model(ADD, opsets=((b"", 13), (b"com.evil", 1))),
        model(
            node(b"If", [b"x"], [b"y"], text(5, text(6, node(b"A", [], [], text(7, b"ai.onnx.training")))))
        ),
        model(ADD, more=text(25, text(10, b"local.functions"))),
        model(node(b"Add", [b"x", b"x"], [b"y"], text(7, b"\xff\xfe"))),
        model(node(b"Add", [b"x", b"x"], [b"y"], text(7, b"com.microsoft"), text(7, b""))),
    ],
)
def test_operators_of_other_domains_are_refused(graph: bytes) -> None:
    with pytest.raises(BundleError, match="domain"):
        session(graph)


@pytest.mark.parametrize(
    ("graph", "why"),
    [
        (b"", "empty"),
        (whole(1, 8), "0 graphs"),
        (DOUBLE + text(7, text(2, b"g")), "2 graphs"),
        (DOUBLE + text(99, b"x"), "unknown field"),
        (DOUBLE + b"\x3b", "wire type"),
        (DOUBLE + varint(7 << 3) + b"\x01", "unknown field 7"),
        (DOUBLE + b"\x80" * 11, "endless|cut short"),
        (DOUBLE + b"\x80" * 10 + b"\x01", "endless"),
        (DOUBLE[:-1], "cut short"),
        (text(2, b"x")[:-1], "cut short"),
        (b"\x18\0\0\0ORTM" + b"\0" * 64, "cut short|garbled|wire type|unknown field"),
    ],
)
def test_what_is_no_onnx_is_refused(graph: bytes, why: str) -> None:
    with pytest.raises(BundleError, match=why):
        session(graph)


def test_what_the_runtime_refuses_is_our_error_too() -> None:
    for graph in (
        model(node(b"NoSuchOperator", [b"x"], [b"y"])),
        model(node(b"Add", [b"x", b"nowhere"], [b"y"])),
        model(node(b"Add", [b"x", b"x"], [b"y"]), opsets=((b"", 9999),)),
        model(node(b"Add", [b"x", b"x"], [b"y"]), opsets=()),
        model(value_info(11, b"z")),
    ):
        with pytest.raises(BundleError, match="ONNX Runtime refuses"):
            session(graph)


def test_nothing_is_printed_about_a_graph_that_is_not_text(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(BundleError, match="ONNX Runtime refuses"):
        session(model(node(b"No\xffOperator", [b"x"], [b"y"])))
    assert capfd.readouterr() == ("", "")


def test_a_deep_graph_is_refused_and_not_recursed_into() -> None:
    inner = text(5, EXTERNAL)
    for _ in range(3000):
        inner = text(1, text(5, text(6, inner)))
    with pytest.raises(BundleError, match="nested deeper"):
        session(model(inner))


def test_a_graph_over_its_bound_is_not_even_walked() -> None:
    with pytest.raises(BundleError, match="bound 100"):
        session(DOUBLE + bytes(200), bounds=replace(BUNDLE_BOUNDS, graph_bytes=100))


def test_a_bundle_with_such_a_graph_is_refused_though_it_is_signed() -> None:
    with pytest.raises(BundleError, match="outside its file"):
        check(resealed({**files_of(), "graphs/context_free.net.onnx": model(ADD, text(5, EXTERNAL))}))
    assert check(files_of(part())).part.graphs["context_free.net"] == DOUBLE


@settings(max_examples=300)
@given(at=st.integers(0, len(DOUBLE) - 1), new=st.binary(min_size=1, max_size=4), insert=st.booleans())
def test_a_damaged_graph_gives_a_session_or_our_error(at: int, new: bytes, insert: bool) -> None:
    try:
        session(DOUBLE[:at] + new + DOUBLE[at if insert else at + len(new) :])
    except BundleError as error:
        assert error.what  # noqa: PT017 - some damage is an error, some is none


@settings(max_examples=300)
@given(st.binary(max_size=300))
def test_noise_is_no_graph(noise: bytes) -> None:
    with pytest.raises(BundleError):
        graphs.check(noise, "noise")


def test_what_exporters_write_is_accepted() -> None:
    """Trees by LightGBM and scikit-learn: the graphs that learning exports."""
    lightgbm = pytest.importorskip("lightgbm")
    onnxmltools = pytest.importorskip("onnxmltools")
    skl2onnx = pytest.importorskip("skl2onnx")
    from onnxmltools.convert.common.data_types import FloatTensorType
    from sklearn.ensemble import IsolationForest
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 3)).astype(np.float32)
    y = (x[:, 0] > 0).astype(int)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporters, about themselves
        trees = lightgbm.LGBMClassifier(n_estimators=5, verbose=-1, n_jobs=1).fit(x, y)
        shape = [("x", FloatTensorType([None, 3]))]
        made = {
            "lightgbm": onnxmltools.convert_lightgbm(trees, initial_types=shape, zipmap=False),
            "logistic": skl2onnx.to_onnx(LogisticRegression().fit(x, y), x[:1]),
            "forest": skl2onnx.to_onnx(
                IsolationForest(n_estimators=5, random_state=0).fit(x),
                x[:1],
                target_opset={"": 15, "ai.onnx.ml": 3},
            ),
        }
        expected = trees.predict_proba(x)[:, 1]
    for name, onnx_model in made.items():
        graph = onnx_model.SerializeToString()
        ready = session(graph, name)
        given_name = ready.get_inputs()[0].name
        answer = ready.run(None, {given_name: x})
        if name == "lightgbm":
            np.testing.assert_allclose(answer[1][:, 1], expected, atol=1e-5)
