"""Whatever is done to a bundle, reading gives the bundle that was signed or a BundleError: nothing else."""

from __future__ import annotations

import json
import os
import shutil
import struct
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from _bundle import FACTS, KEY, check, files_of, lay, part, resealed, with_manifest
from scanward import bundle
from scanward.bundle import canonical, tensors
from scanward.bundle.manifest import graph_name, graph_path
from scanward.config import BUNDLE_BOUNDS
from scanward.errors import BundleError, SignatureError

FILES = files_of()
PATHS = sorted(FILES)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return lay(FILES, tmp_path / "model")


def refused(directory: Path) -> BundleError:
    with pytest.raises(BundleError) as caught:
        bundle.read(directory, trusted=[KEY.verify_key])
    error = caught.value
    assert error.what
    assert error.where
    assert error.todo
    return error


# --- altered, truncated, added, removed -----------------------------------------------------------
@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_any_byte_flipped_is_refused(data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(PATHS))
    at = data.draw(st.integers(0, len(FILES[path]) - 1))
    flip = data.draw(st.integers(1, 255))
    altered = bytearray(FILES[path])
    altered[at] ^= flip
    with pytest.raises(SignatureError):
        check({**FILES, path: bytes(altered)})


def test_every_byte_of_the_signature_counts() -> None:
    seal = FILES["signature.json"]
    for at in range(len(seal)):
        for flip in (0x20, 0x01):  # 0x20 turns a hexadecimal 'a' into 'A' and a space into NUL
            altered = bytearray(seal)
            altered[at] ^= flip
            with pytest.raises(SignatureError):
                check({**FILES, "signature.json": bytes(altered)})


@settings(max_examples=200, deadline=None)
@given(path=st.sampled_from(PATHS), share=st.floats(0, 1, exclude_max=True), tail=st.binary(max_size=9))
def test_any_truncation_or_extension_is_refused(path: str, share: float, tail: bytes) -> None:
    cut = FILES[path][: int(len(FILES[path]) * share)] + tail
    if cut != FILES[path]:
        with pytest.raises(SignatureError):
            check({**FILES, path: cut})
    if tail:
        with pytest.raises(SignatureError):
            check({**FILES, path: FILES[path] + tail})


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_the_same_on_the_disk(place: Path, data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(PATHS))
    original = FILES[path]
    kind = data.draw(st.sampled_from(["flip", "cut", "remove", "add", "swap"]))
    extra = place / data.draw(
        st.sampled_from(["x", ".hidden", "graphs/y.onnx", "graphs/z", "manifest.json~", "settings.jsoN"])
    )
    try:
        if kind == "flip":
            at = data.draw(st.integers(0, len(original) - 1))
            flip = data.draw(st.integers(1, 255))
            (place / path).write_bytes(original[:at] + bytes([original[at] ^ flip]) + original[at + 1 :])
        elif kind == "cut":
            (place / path).write_bytes(original[: data.draw(st.integers(0, len(original) - 1))])
        elif kind == "remove":
            (place / path).unlink()
        elif kind == "add":
            extra.write_bytes(b"")
        else:
            (place / path).write_bytes(FILES[data.draw(st.sampled_from([p for p in PATHS if p != path]))])
        assert isinstance(refused(place), SignatureError)
    finally:
        extra.unlink(missing_ok=True)
        (place / path).write_bytes(original)
    assert bundle.read(place, trusted=[KEY.verify_key]).manifest.version == 7


def test_two_arrays_cannot_change_places() -> None:
    one, two = np.arange(4.0), np.arange(4.0)[::-1]
    honest = files_of(replace(part(), arrays={"a": one, "b": two}))
    swapped = files_of(replace(part(), arrays={"a": two, "b": one}))
    with pytest.raises(SignatureError, match=r"arrays\.safetensors.*altered"):
        check({**honest, "arrays.safetensors": swapped["arrays.safetensors"]})


def test_two_files_of_honest_bundles_do_not_mix() -> None:
    newer = files_of(facts=replace(FACTS, version=8))
    for path in ("manifest.json", "signature.json"):
        with pytest.raises(SignatureError):
            check({**FILES, path: newer[path]})


# --- what lies in the directory -------------------------------------------------------------------
def test_links_are_not_followed(place: Path, tmp_path: Path) -> None:
    for path in PATHS:
        elsewhere = tmp_path / "elsewhere"
        shutil.move(place / path, elsewhere)  # the very same bytes, but outside
        (place / path).symlink_to(elsewhere)
        assert "link" in refused(place).what
        (place / path).unlink()
        shutil.move(elsewhere, place / path)
    shutil.move(place / "graphs", tmp_path / "graphs")
    (place / "graphs").symlink_to(tmp_path / "graphs")
    refused(place)


def test_fifos_sockets_and_folders_are_no_files(place: Path) -> None:
    for path in PATHS:
        (place / path).unlink()
        os.mkfifo(place / path)
        assert "not a regular file" in refused(place).what  # at once: a FIFO without a writer would hang
        (place / path).unlink()
        (place / path).mkdir()
        refused(place)
        (place / path).rmdir()
        (place / path).write_bytes(FILES[path])


def test_an_empty_folder_is_not_listed_either(tmp_path: Path) -> None:
    place = lay(files_of(replace(part(), graphs={})), tmp_path / "m")
    assert bundle.read(place, trusted=[KEY.verify_key])
    (place / "graphs").mkdir()
    assert "not listed" in refused(place).what
    (place / "graphs").rmdir()
    (place / "more").mkdir()
    assert "not listed" in refused(place).what


def test_huge_files_are_refused_before_they_are_read(place: Path) -> None:
    for path in PATHS:
        with (place / path).open("r+b") as file:
            file.truncate(1 << 42)  # 4 TiB, sparse
        assert f"has {1 << 42} bytes where" in refused(place).what  # its size was asked, and it was not read
        (place / path).write_bytes(FILES[path])


def test_a_directory_of_very_many_files_is_refused(place: Path) -> None:
    for number in range(2000):
        (place / f"x{number}").touch()
    assert "not listed" in refused(place).what


def test_names_that_are_not_text_are_refused(place: Path) -> None:
    (place / os.fsdecode(b"\xff\n\x1b")).touch()
    str(refused(place)).encode()  # and can be printed


def test_an_unreadable_directory_is_told(place: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("the superuser reads everything")
    place.chmod(0)
    refused(place)
    place.chmod(0o700)


# --- what a manifest may say (signed by a trusted key all the same) -------------------------------
@pytest.mark.parametrize(
    "path",
    [
        "../x",
        "/etc/passwd",
        "graphs/../../x.onnx",
        "graphs/a/b.onnx",
        "graphs/.onnx",
        "graphs/..onnx",
        "./settings.json",
        "settings.json/",
        "graphs//x.onnx",
        "graphs\\x.onnx",
        "graphs/x.onnx\0",
        "graphs/ü.onnx",
        "manifest.json",
        "signature.json",
        "model.pkl",
        "",
    ],
)
def test_paths_that_could_lead_elsewhere_are_refused(path: str, tmp_path: Path) -> None:
    secret = tmp_path / "x"
    secret.write_bytes(b"")

    def change(document: dict[str, Any]) -> None:
        document["files"].append({"path": path, "size": 0, "sha256": "0" * 64})

    with pytest.raises(BundleError, match="cannot be a file of a bundle"):
        check(with_manifest(change))


def test_a_file_listed_twice_is_refused() -> None:
    with pytest.raises(BundleError, match="listed twice"):
        check(with_manifest(lambda d: d["files"].append(d["files"][0])))


@pytest.mark.parametrize("path", ["settings.json", "arrays.safetensors"])
def test_a_file_that_must_be_there_is_missed(path: str) -> None:
    with pytest.raises(BundleError, match="not listed"):
        check(with_manifest(lambda d: d.update(files=[f for f in d["files"] if f["path"] != path])))


@given(st.text(max_size=30))
def test_a_graphs_path_gives_back_its_name(name: str) -> None:
    try:
        path = graph_path(name)
    except BundleError:
        assert graph_name(f"graphs/{name}.onnx") is None
    else:
        assert graph_name(path) == name
        assert Path(os.path.normpath(Path("/b") / path)).parent == Path("/b/graphs")


def _each_member() -> Iterator[tuple[str, Callable[[dict[str, Any]], None]]]:
    def put(key: str, value: object) -> Callable[[dict[str, Any]], None]:
        return lambda document: document.update({key: value})

    members = json.loads(FILES["manifest.json"])
    for key in members:
        yield f"without {key}", lambda document, key=key: document.pop(key)
        for value in (None, -1, 1.5, "x", [], {}, [None], {"a": None}, True, [[]], ["x"], 10**60):
            if type(value) is not type(members[key]) or value in (-1, 10**60, [None], ["x"], [[]]):
                if key in ("calibration", "metrics") and isinstance(value, dict):
                    continue
                if key == "scanward" and value == "x":
                    continue
                yield f"{key}={value!r:.12}", put(key, value)
    yield "surplus", put("surplus", 1)


@pytest.mark.parametrize(
    ("name", "change"), list(_each_member()), ids=lambda v: v if isinstance(v, str) else ""
)
def test_every_member_of_the_manifest_is_typed(name: str, change: Callable[[dict[str, Any]], None]) -> None:
    with pytest.raises(BundleError):
        check(with_manifest(change))


@pytest.mark.parametrize("schema", [0, 3, 99, "1", 1.0, True, None])
def test_an_unknown_schema_is_refused(schema: object) -> None:
    with pytest.raises(BundleError, match="schema"):
        check(with_manifest(lambda d: d.update(schema=schema)))


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"null",
        b"[]",
        b"{",
        b"\xff\xfe{\x00}\x00",
        b"\xef\xbb\xbf{}",
        b'{"kind": "scanward.bundle", "kind": "scanward.bundle"}',
        b'{"a": NaN}',
        b'{"a": -Infinity}',
        b'{"a": 1e999}',
        b'{"a": ' + b"9" * 5000 + b"}",
        b'{"a": "\\ud800"}',
        b"[" * 1_000_000,
        b'{"a":' * 200_000 + b"1" + b"}" * 200_000,
        b"[" * 100 + b"]" * 100,
    ],
    ids=lambda raw: repr(raw[:20]),
)
def test_json_that_is_not_strict_is_refused_wherever_it_stands(raw: bytes) -> None:
    from scanward.bundle.writing import signed

    listed = {p: d for p, d in FILES.items() if not p.startswith(("manifest", "signature"))}
    with pytest.raises(BundleError):
        check(signed(listed, raw, KEY))
    with pytest.raises(BundleError):
        check(resealed({**FILES, "settings.json": raw}))
    with pytest.raises(SignatureError):
        check({**FILES, "signature.json": raw})
    header = struct.pack("<Q", len(raw)) + raw
    with pytest.raises(BundleError):
        check(resealed({**FILES, "arrays.safetensors": header}))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200) | st.text('[]{}",:0123456789.eE+-NaInfity\\u ', max_size=60).map(str.encode))
def test_strict_json_reads_only_what_it_can_write_again(raw: bytes) -> None:
    try:
        value = canonical.loads(raw, "here")
    except BundleError:
        return
    again = canonical.dumps(value, "here")
    assert canonical.dumps(canonical.loads(again, "here"), "here") == again


# --- safetensors ----------------------------------------------------------------------------------
def header(entries: object, body: bytes = b"", length: int | None = None) -> bytes:
    raw = json.dumps(entries).encode()
    return struct.pack("<Q", len(raw) if length is None else length) + raw + body


EIGHT = {"dtype": "F64", "shape": [1], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 7,
        b"\0" * 8,
        header({}, length=(1 << 64) - 1),
        header({}, length=1 << 40),
        header({}, length=100_000_000),
        header({}, length=3),
        header([], b""),
        header({"a": 1}),
        header({"a": EIGHT}),
        header({"a": EIGHT}, b"\0" * 9),
        header({"a": {**EIGHT, "dtype": "F128"}}, b"\0" * 8),
        header({"a": {**EIGHT, "dtype": "BF16", "shape": [4]}}, b"\0" * 8),
        header({"a": {**EIGHT, "dtype": None}}, b"\0" * 8),
        header({"a": {**EIGHT, "dtype": [1]}}, b"\0" * 8),
        header({"a": {**EIGHT, "shape": [-1]}}, b"\0" * 8),
        header({"a": {**EIGHT, "shape": [1.0]}}, b"\0" * 8),
        header({"a": {**EIGHT, "shape": [True]}}, b"\0" * 8),
        header({"a": {**EIGHT, "shape": [1 << 62, 1 << 62]}}, b"\0" * 8),
        header({"a": {**EIGHT, "shape": [1] * 9}}, b"\0" * 8),
        header({"a": {**EIGHT, "data_offsets": [8, 0]}}, b"\0" * 8),
        header({"a": {**EIGHT, "data_offsets": [0, 8, 8]}}, b"\0" * 8),
        header({"a": {**EIGHT, "data_offsets": [-8, 0]}}, b"\0" * 8),
        header({"a": {**EIGHT, "data_offsets": [8, 16]}}, b"\0" * 16),
        header({"a": EIGHT, "b": EIGHT}, b"\0" * 8),
        header({"a": EIGHT, "b": EIGHT}, b"\0" * 16),
        header({"a": {**EIGHT, "more": 1}}, b"\0" * 8),
        header({"a": {"dtype": "BOOL", "shape": [2], "data_offsets": [0, 2]}}, b"\x01\x02"),
        header({"__metadata__": {"format": "pt"}, "a": EIGHT}, b"\0" * 8),
        header({"__metadata__": EIGHT}, b"\0" * 8),
        header({"a" * 600: EIGHT}, b"\0" * 8),
        header({"a": {"dtype": "U8", "shape": [0, 1 << 47], "data_offsets": [0, 0]}}, b"\0"),
        header({f"a{i}": {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]} for i in range(50_001)}),
        b"\x02\0\0\0\0\0\0\0 {}",
    ],
)
def test_a_hostile_safetensors_header_is_refused(data: bytes) -> None:
    with pytest.raises(BundleError):
        tensors.from_bytes(data, "here")
    with pytest.raises(BundleError):
        check(resealed({**FILES, "arrays.safetensors": data}))


@pytest.mark.parametrize(
    ("entries", "size"),
    [
        ({"a": EIGHT, "b": {**EIGHT, "data_offsets": [4, 12]}}, 12),
        ({"a": EIGHT, "b": {**EIGHT, "data_offsets": [16, 24]}}, 24),
        ({"a": {**EIGHT, "data_offsets": [8, 16]}}, 16),
    ],
)
def test_overlaps_and_holes_are_found_before_the_library_looks(entries: object, size: int) -> None:
    with pytest.raises(BundleError, match="overlap or leave holes"):
        tensors.from_bytes(header(entries, bytes(size)), "here")


SOUND = save(
    {"a": np.arange(6.0).reshape(2, 3), "b": np.array([True, False]), "c": np.zeros((0, 2), np.int32)}
)


@settings(max_examples=500, deadline=None)
@given(at=st.integers(0, len(SOUND) - 1), new=st.binary(min_size=1, max_size=6), insert=st.booleans())
def test_a_damaged_safetensors_file_gives_arrays_or_our_error(at: int, new: bytes, insert: bool) -> None:
    data = SOUND[:at] + new + SOUND[at if insert else at + len(new) :]
    try:
        arrays = tensors.from_bytes(data, "here")
    except BundleError:
        return
    assert sum(a.nbytes for a in arrays.values()) <= len(data)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=400))
def test_noise_in_every_file_gives_our_error(noise: bytes) -> None:
    for path in ("settings.json", "arrays.safetensors", "graphs/context_free.net.onnx"):
        try:
            check(resealed({**FILES, path: noise}))
        except BundleError:
            continue
        assert path == "settings.json"  # noise may be JSON by chance, and nothing else
        assert isinstance(json.loads(noise), dict)


def test_bounds_are_asked_before_anything_is_parsed() -> None:
    small = replace(BUNDLE_BOUNDS, manifest_bytes=10)
    with pytest.raises(BundleError, match="10 are allowed"):
        check(FILES, bounds=small)
    for change in ({"signature_bytes": 10}, {"settings_bytes": 1}, {"arrays_bytes": 9}, {"graph_bytes": 9}):
        with pytest.raises(BundleError):
            check(FILES, bounds=replace(BUNDLE_BOUNDS, **change))
    for change in (
        {"total_bytes": 50},
        {"header_bytes": 9},
        {"graphs": -1},
        {"arrays": 1},
        {"json_depth": 1},
    ):
        with pytest.raises(BundleError):
            check(FILES, bounds=replace(BUNDLE_BOUNDS, **change))
