"""The Promela model of the gate, searched whole by spin; and shown to be able to fail."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

MODEL = Path(__file__).parent / "models" / "gate.pml"

if shutil.which("spin") is None or shutil.which("gcc") is None:
    pytest.skip("spin (Debian package spin) or gcc is not installed", allow_module_level=True)


def search(folder: Path, *defines: str) -> str:
    """What the model checker says of the model with ``defines``."""
    subprocess.run(
        ["spin", *defines, "-a", str(MODEL)], cwd=folder, check=True, capture_output=True, timeout=60
    )
    subprocess.run(
        ["gcc", "-O1", "-w", "-DSAFETY", "-DCOLLAPSE", "-DMEMLIM=2000", "-o", "pan", "pan.c"],
        cwd=folder,
        check=True,
        timeout=120,
    )
    done = subprocess.run(
        ["./pan", "-m3000000"], cwd=folder, capture_output=True, text=True, timeout=300, check=False
    )
    return done.stdout


def test_the_invariants_hold_in_every_reachable_state(tmp_path: Path) -> None:
    said = search(tmp_path, "-DLOADS=3")
    assert "errors: 0" in said
    assert "max search depth too small" not in said  # the search was whole
    states = re.search(r"([\d.e+]+) states, stored", said)
    assert states is not None
    assert float(states[1]) > 50_000  # and not of a model that can do nothing
    unreached = re.findall(r"gate\.pml:\d+, state \d+, \"(.*)\"", said)
    assert not any("assert" in line for line in unreached), "an assertion is never reached"


@pytest.mark.parametrize("which", [1, 2, 3, 4, 5])
def test_a_gate_with_a_fault_is_found_out(tmp_path: Path, which: int) -> None:
    said = search(tmp_path, f"-DBREAK={which}")
    assert "assertion violated" in said
    assert "errors: 1" in said
