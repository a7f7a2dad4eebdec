"""Every decoder has a coverage-guided harness; each is run here on mutated files without the fuzzer itself.

The fuzzer (atheris) need not be installed: a stand-in module lets the harness be imported, and its own
``one_input`` is fed with seeds and random mutations of them. Nothing may come out but what the harness allows.
"""

from __future__ import annotations

import importlib.util
import random
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from dicom_builders.ct_images import ct_slice, enhanced_ct, to_bytes

FOLDER = Path(__file__).parent / "fuzz"
HARNESSES = sorted(p.stem for p in FOLDER.glob("fuzz_*.py"))


def load(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    stand_in = ModuleType("atheris")
    stand_in.instrument_imports = nullcontext  # type: ignore[attr-defined]
    stand_in.instrument_func = lambda f: f  # type: ignore[attr-defined]
    stand_in.FuzzedDataProvider = SimpleNamespace  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "atheris", stand_in)
    spec = importlib.util.spec_from_file_location(f"harness_{name}", FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def mutated(data: bytes, rng: random.Random) -> bytes:
    out = bytearray(data)
    for _ in range(rng.randint(1, 12)):
        kind = rng.randint(0, 3)
        at = rng.randrange(len(out)) if out else 0
        if kind == 0 and out:
            out[at] = rng.randrange(256)
        elif kind == 1 and out:
            del out[at : at + rng.randint(1, 40)]
        elif kind == 2:
            out[at:at] = rng.randbytes(rng.randint(1, 12))
        elif out:
            out[at : at + 4] = rng.choice([b"\xff\xff\xff\xff", b"\x00\x00\x00\x00", b"\xfe\xff\xff\xff"])
    return bytes(out)


def test_every_decoder_has_a_harness() -> None:
    assert {"fuzz_rdsr", "fuzz_tables", "fuzz_defined_protocol", "fuzz_bundle", "fuzz_image_headers"} <= set(
        HARNESSES
    )


@pytest.mark.parametrize("name", HARNESSES)
def test_each_harness_compiles(name: str) -> None:
    compile((FOLDER / f"{name}.py").read_text(encoding="utf-8"), name, "exec")


@pytest.mark.parametrize("make", [lambda: ct_slice(1), lambda: enhanced_ct(3)], ids=["classic", "enhanced"])
def test_mutated_ct_images_give_acquisitions_or_our_errors(
    make: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    harness = load("fuzz_image_headers", monkeypatch)
    seed = to_bytes(make())  # type: ignore[arg-type]
    harness.one_input(seed)
    rng = random.Random(11)
    for _ in range(250):
        harness.one_input(mutated(seed, rng))
