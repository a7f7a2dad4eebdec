"""Bundles: what is written comes back, bit for bit, and only to whom it should."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from enum import StrEnum
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from _bundle import DEVICE, FACTS, KEY, OTHER_KEY, check, files_of, lay, part, same_part, version
from scanward import bundle
from scanward.bundle import BundleFacts, library_versions, writing
from scanward.commands import FIELDS, Device, Kind, Role
from scanward.errors import BundleError, RollbackError, SignatureError
from scanward.layers.base import Part

NAMES = st.text(st.characters(exclude_categories=("Cs",)), max_size=20).filter(lambda s: s != "__metadata__")
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**200), 2**200)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
)
JSON = st.recursive(
    LEAVES, lambda c: st.lists(c, max_size=4) | st.dictionaries(NAMES, c, max_size=4), max_leaves=20
)
DTYPES = st.sampled_from(
    [np.float32, np.float64, np.int32, np.int64, np.uint8, np.bool_, np.float16, np.uint16]
)
ARRAYS = DTYPES.flatmap(
    lambda d: hnp.arrays(d, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))
)
GRAPH_NAMES = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,30}", fullmatch=True)
PARTS = st.builds(
    Part,
    settings=st.dictionaries(NAMES, JSON, max_size=5),
    arrays=st.dictionaries(NAMES, ARRAYS, max_size=6),
    graphs=st.dictionaries(GRAPH_NAMES, st.just(part().graphs["context_free.net"]), max_size=3),
)


@settings(max_examples=60, deadline=None)
@given(made=PARTS)
def test_what_is_written_comes_back_bit_for_bit(made: Part) -> None:
    folder = Path(tempfile.mkdtemp())
    try:
        manifest = bundle.write(folder / "model", made, FACTS, KEY)
        found = bundle.read(folder / "model", trusted=[KEY.verify_key], device=DEVICE)
    finally:
        shutil.rmtree(folder)
    assert same_part(found.part, made)
    assert _types(found.part.settings) == _types(
        made.settings
    )  # 1.0 stays a float, True a flag, -0.0 negative
    assert found.manifest == manifest
    assert found.manifest.facts == FACTS


def _types(value: object) -> object:
    if isinstance(value, dict):
        return {k: _types(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_types(v) for v in value]
    sign = math.copysign(1, value) if isinstance(value, float) else 0
    return (type(value).__name__, repr(value), sign)


def test_arrays_of_any_layout_and_byte_order_come_back_by_value(tmp_path: Path) -> None:
    rows = np.arange(24, dtype=np.float64).reshape(4, 6)
    odd = {
        "columns": np.asfortranarray(rows),
        "slices": rows[::2, ::-3],
        "big": rows.astype(">f8"),
        "t": rows.T,
    }
    bundle.write(tmp_path / "m", Part(arrays=odd), FACTS, KEY)
    found = bundle.read(tmp_path / "m", trusted=[KEY.verify_key]).part.arrays
    for name, array in odd.items():
        np.testing.assert_array_equal(found[name], array)


def test_arrays_and_nothing_else_may_hold_nan(tmp_path: Path) -> None:
    strange = np.array([np.nan, np.inf, -0.0, 5e-324])
    bundle.write(tmp_path / "m", Part(arrays={"a": strange}), FACTS, KEY)
    found = bundle.read(tmp_path / "m", trusted=[KEY.verify_key]).part.arrays["a"]
    assert found.tobytes() == strange.tobytes()
    with pytest.raises(ValueError, match="read-only"):
        found[0] = 1.0


def test_the_same_part_facts_and_key_give_the_same_bytes(tmp_path: Path) -> None:
    one = part()
    other = Part(
        dict(reversed(one.settings.items())), dict(reversed(one.arrays.items())), dict(one.graphs.items())
    )
    shuffled = replace(FACTS, calibration=dict(reversed(FACTS.calibration.items())))
    bundle.write(tmp_path / "a", one, FACTS, KEY)
    bundle.write(tmp_path / "b", other, shuffled, KEY)
    script = (
        "import sys; sys.path.insert(0, sys.argv[1]); import _bundle as b; from pathlib import Path;"
        "from scanward import bundle; bundle.write(Path(sys.argv[2]), b.part(), b.FACTS, b.KEY)"
    )
    here = str(Path(__file__).parent)
    environment = {**os.environ, "PYTHONHASHSEED": "12345"}
    subprocess.run([sys.executable, "-c", script, here, str(tmp_path / "c")], check=True, env=environment)
    contents = [_contents(tmp_path / name) for name in "abc"]
    assert contents[0] == contents[1] == contents[2]
    assert set(contents[0]) == {
        "manifest.json",
        "signature.json",
        "settings.json",
        "arrays.safetensors",
        "graphs/context_free.net.onnx",
    }


def _contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


class _Colour(StrEnum):
    RED = "red"


def test_settings_take_what_trainers_hold_and_give_back_plain_values(tmp_path: Path) -> None:
    held = {
        "n": np.int64(3),
        "x": np.float32(0.1),
        "on": np.bool_(True),
        "pair": (1, 2.0),
        "word": _Colour.RED,
    }
    bundle.write(tmp_path / "m", Part(settings=held), FACTS, KEY)
    found = bundle.read(tmp_path / "m", trusted=[KEY.verify_key]).part.settings
    assert found == {"n": 3, "x": float(np.float32(0.1)), "on": True, "pair": [1, 2.0], "word": "red"}
    assert {type(v) for v in found.values()} == {int, float, bool, list, str}


@pytest.mark.parametrize(
    "bad",
    [
        Part(settings={"a": {"b": [1.0, float("nan")]}}),
        Part(settings={"a": float("inf")}),
        Part(settings={1: "a"}),  # type: ignore[dict-item]
        Part(settings={"a": object()}),
        Part(settings={"a": np.zeros(3)}),
        Part(settings={"a": b"bytes"}),
        Part(settings={"a": "\ud800"}),
        Part(settings={"a": 1 << 300}),
        Part(settings={"deep": json.loads("[" * 80 + "]" * 80)}),
        Part(arrays={"a": np.array(["text"])}),
        Part(arrays={"a": np.array([object()])}),
        Part(arrays={"a": np.zeros(2, complex)}),
        Part(arrays={"a": np.zeros(2, "datetime64[s]")}),
        Part(arrays={"__metadata__": np.zeros(2)}),
        Part(arrays={"\ud800": np.zeros(2)}),
        Part(arrays={"a" * 600: np.zeros(2)}),
        Part(arrays={"a": np.zeros((1,) * 9)}),
        Part(graphs={"../x": part().graphs["context_free.net"]}),
        Part(graphs={"/etc/x": part().graphs["context_free.net"]}),
        Part(graphs={"": part().graphs["context_free.net"]}),
        Part(graphs={"x": b""}),
        Part(graphs={"x": b"not onnx"}),
    ],
)
def test_what_a_bundle_cannot_carry_is_refused_before_anything_is_written(bad: Part, tmp_path: Path) -> None:
    with pytest.raises(BundleError) as caught:
        bundle.write(tmp_path / "m", bad, FACTS, KEY)
    assert caught.value.what
    assert caught.value.todo
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"created": "yesterday"},
        {"created": "2026-13-01T00:00:00Z"},
        {"created": "2026-01-01T00:00:00+01:00"},
        {"training_data": "abc"},
        {"devices": ()},
        {"version": 0},
        {"version": -3},
        {"version": 1 << 60},
        {"metrics": {"f1": float("nan")}},
        {"fields": (FIELDS["KVP"], FIELDS["KVP"])},
    ],
)
def test_facts_that_make_no_sense_are_refused(change: dict[str, object], tmp_path: Path) -> None:
    with pytest.raises(BundleError):
        bundle.write(tmp_path / "m", part(), replace(FACTS, **change), KEY)  # type: ignore[arg-type]
    assert not (tmp_path / "m").exists()


def test_facts_come_back_with_every_field_and_role() -> None:
    found = check(files_of()).manifest
    assert found.facts.fields[0] == FIELDS["KVP"]
    assert found.facts.fields[1].kind is Kind.CATEGORY
    assert found.facts.roles == {"NoiseIndex": Role.COMMANDED}
    assert found.facts.role is Role.PERFORMED
    assert found.version == 7
    assert found.key_id == KEY.fingerprint


# --- whom to trust --------------------------------------------------------------------------------
def test_an_unsigned_bundle_is_refused() -> None:
    files = files_of()
    del files["signature.json"]
    with pytest.raises(SignatureError, match="unsigned"):
        check(files)


def test_another_key_is_refused_and_any_key_must_be_asked_for_by_its_name() -> None:
    files = files_of(key=OTHER_KEY)
    with pytest.raises(SignatureError, match="not trusted"):
        check(files)
    assert (
        check(files, trusted=[KEY.verify_key, OTHER_KEY.verify_key]).manifest.key_id == OTHER_KEY.fingerprint
    )
    assert check(files, trusted=None, unsafe_any_key=True).manifest.version == 7


@pytest.mark.parametrize(
    "options", [{"trusted": None}, {"trusted": []}, {"trusted": (), "unsafe_any_key": True}]
)
def test_an_empty_policy_trusts_nobody(options: dict[str, object]) -> None:
    with pytest.raises(SignatureError):
        check(files_of(), **options)


def test_any_key_does_not_mean_any_bytes() -> None:
    files = files_of()
    files["manifest.json"] = files["manifest.json"].replace(b'"version": 7', b'"version": 8')
    with pytest.raises(SignatureError, match="does not belong"):
        check(files, trusted=None, unsafe_any_key=True)


def test_a_key_cannot_lend_its_name_to_another() -> None:
    files = files_of(key=OTHER_KEY)
    files["signature.json"] = files["signature.json"].replace(
        OTHER_KEY.fingerprint.encode(), KEY.fingerprint.encode()
    )
    with pytest.raises(SignatureError):
        check(files)


def test_openssl_agrees_with_our_signature(tmp_path: Path) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed")
    files = files_of()
    (tmp_path / "manifest").write_bytes(files["manifest.json"])
    (tmp_path / "key.pub").write_bytes(KEY.verify_key.pem())
    seal = files["signature.json"].decode()
    (tmp_path / "sig").write_bytes(bytes.fromhex(seal.split('"signature": "')[1][:128]))
    command = f"{openssl} pkeyutl -verify -rawin -pubin -inkey key.pub -in manifest -sigfile sig"
    answer = subprocess.run(command.split(), cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "Verified Successfully" in answer.stdout + answer.stderr


# --- versions and devices -------------------------------------------------------------------------
def test_an_older_version_is_refused() -> None:
    assert check(files_of(), not_before=7).manifest.version == 7
    with pytest.raises(RollbackError, match="older than version 8"):
        check(files_of(), not_before=8)


@pytest.mark.parametrize(
    ("named", "asked", "served"),
    [
        (DEVICE, DEVICE, True),
        (DEVICE, Device(" ACME ", "ct 64", "0123abcd", "v2"), True),  # software is told, not bound
        (DEVICE, Device("Acme", "CT 64", "ffff"), False),
        (DEVICE, Device("Acme", "CT 64", ""), False),  # a bundle of one device, and nobody says which this is
        (DEVICE, Device("Acme", "CT 128", "0123abcd"), False),
        (DEVICE, Device(), False),
        (Device("Acme", "CT 64"), Device("Acme", "CT 64", "ffff"), True),
        (Device(), Device(), True),
        (Device(), DEVICE, False),
    ],
)
def test_a_bundle_serves_its_own_devices(named: Device, asked: Device, served: bool) -> None:
    files = files_of(facts=replace(FACTS, devices=(Device("Other", "X"), named)))
    if served:
        assert check(files, device=asked).manifest.serves(asked)
    else:
        with pytest.raises(BundleError, match="another device"):
            check(files, device=asked)


def test_versions_only_grow_in_a_directory(tmp_path: Path) -> None:
    unversioned = replace(FACTS, version=None)
    place = tmp_path / "new" / "model"
    assert bundle.write(place, part(), unversioned, KEY).version == 1
    assert bundle.write(place, part(), unversioned, KEY).version == 2
    assert bundle.write(place, part(), version(9), KEY).version == 9
    for older in (9, 8, 1):
        with pytest.raises(BundleError, match="not larger than version 9"):
            bundle.write(place, part(), version(older), KEY)
    assert bundle.read(place, trusted=[KEY.verify_key]).manifest.version == 9
    assert bundle.write(place, part(), unversioned, OTHER_KEY).version == 10


def test_a_folder_of_somebody_elses_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(BundleError, match="something else than a bundle"):
        bundle.write(tmp_path, part(), FACTS, KEY)
    place = tmp_path / "model"
    bundle.write(place, part(), FACTS, KEY)
    (place / "notes.txt").write_text("mine")
    with pytest.raises(BundleError, match=r"notes\.txt.*would be lost"):
        bundle.write(place, part(), version(8), KEY)
    assert (place / "notes.txt").read_text() == "mine"
    (tmp_path / "file").write_text("x")
    with pytest.raises(BundleError, match="a file of that name"):
        bundle.write(tmp_path / "file", part(), FACTS, KEY)
    (tmp_path / "empty").mkdir()
    assert bundle.write(tmp_path / "empty", part(), FACTS, KEY).version == 7


def test_a_link_to_the_directory_is_followed_once(tmp_path: Path) -> None:
    bundle.write(tmp_path / "v1", part(), FACTS, KEY)
    (tmp_path / "current").symlink_to(tmp_path / "v1")
    bundle.write(tmp_path / "current", part(), version(8), KEY)
    assert (tmp_path / "current").is_symlink()
    assert bundle.read(tmp_path / "v1", trusted=[KEY.verify_key]).manifest.version == 8


def test_a_directory_that_is_not_there_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "no", tmp_path / "file", tmp_path / "file" / "x", Path("a\0b")):
        with pytest.raises(BundleError) as caught:
            bundle.read(path, trusted=[KEY.verify_key])
        assert caught.value.where
    with pytest.raises(BundleError):
        bundle.write(Path("a\0b"), part(), FACTS, KEY)


def test_reading_loads_no_training_library(tmp_path: Path) -> None:
    lay(files_of(), tmp_path / "m")
    script = """
import sys
from pathlib import Path
from scanward import bundle
from scanward.layers.onnx_session import session
from scanward.keys import VerifyKey
got = bundle.read(Path(sys.argv[1]), trusted=[VerifyKey(bytes.fromhex(sys.argv[2]))])
session(got.part.graphs["context_free.net"])
heavy = {"sklearn", "lightgbm", "torch", "onnx", "matplotlib", "scipy", "pickle5"} & set(sys.modules)
assert not heavy, heavy
print(got.manifest.version)
"""
    command = [sys.executable, "-c", script, str(tmp_path / "m"), KEY.verify_key.raw.hex()]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.strip() == "7"


def test_library_versions_leave_out_what_is_not_installed() -> None:
    assert library_versions("numpy", "no-such-distribution") == {"numpy": np.__version__}


def test_documentation_names_every_step_and_file() -> None:
    page = (Path(__file__).parents[1] / "docs" / "bundle.md").read_text()
    code = (Path(writing.__file__).parent / "reading.py").read_text()
    steps = [
        line.strip()[2:] for line in code.splitlines() if line.strip()[:3] in {f"# {i}" for i in range(1, 10)}
    ]
    assert len(steps) == 10
    for number in range(1, 11):
        assert f"\n{number}. " in page
    for name in ("manifest.json", "signature.json", "settings.json", "arrays.safetensors", "graphs/"):
        assert name in page
    for field in BundleFacts.__dataclass_fields__:
        assert f"`{field}`" in page
