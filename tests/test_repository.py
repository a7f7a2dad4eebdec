"""What must never be in the repository, and what must be."""

from __future__ import annotations

import ast
import codecs
import hashlib
import re
import tomllib
from pathlib import Path

import pytest

from house import REPOSITORY, SRC, repository_files

LINES_PER_MODULE = 500
BYTES_PER_FILE = 1_000_000

# Words of this list are kept in rot13, so that this file does not find itself.
UNWANTED = {
    "a path of somebody's machine": r"(?<![\j.~$}])/(jbex|ubzr/\j+|ebbg|Hfref/\j+)/",
    "the address of a package index": r"clcv\.bet|clgubaubfgrq|qbjaybnq\.clgbepu|--(rkgen-)?vaqrk-hey"
    r"|--svaq-yvaxf",
    "a word of the tools it was written with": r"\o(pynhqr|naguebcvp|bcranv|pungtcg|pbcvybg|yyzf?|fhontragf?"
    r"|nv[- ](nffvfgnagf?|trarengrq)|pb-nhguberq-ol)\o",
}


def unwanted(text: str) -> list[str]:
    """What of `UNWANTED` stands in ``text``."""
    return [
        f"{what}: {found.group(0)!r}"
        for what, pattern in UNWANTED.items()
        if (found := re.search(_clear(pattern), text, re.IGNORECASE))
    ]


def _clear(pattern: str) -> str:
    return codecs.decode(pattern, "rot13")


def test_no_unwanted_words() -> None:
    found = []
    for path in repository_files():
        text = path.read_bytes().decode("utf-8", errors="replace")
        found += [f"{path.relative_to(REPOSITORY)}: {what}" for what in unwanted(text)]
    assert found == []


@pytest.mark.parametrize(
    "text",
    [
        codecs.decode(sample, "rot13")
        for sample in (
            "ernq /jbex/znva/frghc",
            "cngu = '/ubzr/zr/qngn'",
            "uggcf://clcv.bet/fvzcyr",
            "cvc vafgnyy --vaqrk-hey k",
            "Pb-Nhguberq-Ol: fbzrobql",
            "jevggra ol Pynhqr",
        )
    ],
)
def test_unwanted_words_are_found(text: str) -> None:
    assert unwanted(text) != []


@pytest.mark.parametrize(
    "text",
    [
        "docs/home/page",
        "the network of a site",
        "https://example.org/work/paper",
        "../shared/data",
        "homework/",
    ],
)
def test_innocent_words_are_not(text: str) -> None:
    assert unwanted(text) == []


# --- nothing that runs code out of data

FORBIDDEN_MODULES = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
FORBIDDEN_CALLS = {"torch.load", "torch.save", "eval", "exec", "numpy.load", "np.load", "yaml.load"}


def code_from_data(source: str) -> list[str]:
    """Imports and calls in ``source`` that unpickle, or otherwise run what they read."""
    found = []
    for node in ast.walk(ast.parse(source)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
            names += [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called in FORBIDDEN_CALLS and not _plain_arrays_only(node):
                found.append(f"line {node.lineno}: {called}()")
            if any(k.arg == "allow_pickle" and ast.unparse(k.value) != "False" for k in node.keywords):
                found.append(f"line {node.lineno}: allow_pickle")
        found += [
            f"line {node.lineno}: {name}"  # type: ignore[attr-defined]
            for name in names
            if name.partition(".")[0] in FORBIDDEN_MODULES or name in FORBIDDEN_CALLS
        ]
    return found


def _plain_arrays_only(call: ast.Call) -> bool:
    return any(k.arg == "allow_pickle" and ast.unparse(k.value) == "False" for k in call.keywords)


def test_nothing_in_src_runs_code_out_of_data() -> None:
    found = {
        str(path.relative_to(SRC)): code_from_data(path.read_text("utf-8")) for path in SRC.rglob("*.py")
    }
    assert {path: lines for path, lines in found.items() if lines} == {}


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from joblib import load",
        "import torch\ntorch.load('x')",
        "from torch import load",
        "import numpy as np\nnp.load('x', allow_pickle=True)",
        "import numpy as np\nnp.load('x')",
        "eval('1')",
        "def f():\n    import cloudpickle as c",
    ],
)
def test_code_out_of_data_is_found(source: str) -> None:
    assert code_from_data(source) != []


def test_plain_arrays_may_be_read() -> None:
    assert code_from_data("import numpy as np\nnp.load('x', allow_pickle=False)\nmodel.eval()") == []


# --- shape and licence


def test_modules_stay_small() -> None:
    long = {
        str(path.relative_to(REPOSITORY)): lines
        for path in SRC.rglob("*.py")
        if (lines := path.read_text("utf-8").count("\n")) > LINES_PER_MODULE
    }
    assert long == {}


def test_no_placeholders_are_left() -> None:
    left = [
        f"{path.relative_to(REPOSITORY)}:{number}"
        for path in SRC.rglob("*.py")
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if re.search(r"\b(TODO|FIXME|XXX)\b|raise NotImplementedError", line)
    ]
    assert left == []


def test_every_room_says_what_lives_there() -> None:
    silent = [
        str(path.relative_to(REPOSITORY))
        for path in SRC.rglob("*.py")
        if len(ast.get_docstring(ast.parse(path.read_text("utf-8"))) or "") < 20
    ]
    assert silent == []


def test_the_licence_is_apache_2() -> None:
    text = (REPOSITORY / "LICENSE").read_text("utf-8")
    assert "Apache License" in text
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["license"] == "Apache-2.0"
    assert project["license-files"] == ["LICENSE"]


def test_files_are_small() -> None:
    large = {str(p.relative_to(REPOSITORY)): p.stat().st_size for p in repository_files()}
    assert {name: size for name, size in large.items() if size > BYTES_PER_FILE} == {}


def test_no_shared_data_was_copied(shared_data: Path) -> None:
    """No file of it as a whole, no table of it row by row; single facts with their source are allowed."""
    digests = set()
    rows = set()
    for path in shared_data.rglob("*"):
        if path.is_file() and path.stat().st_size:
            digests.add(_digest(path))
            if path.suffix == ".csv" and path.parent.name != "reference":
                rows |= {line for line in path.read_bytes().splitlines() if line.count(b",") >= 5}
    assert len(digests) > 10
    assert len(rows) > 100
    copied = []
    for path in repository_files():
        same = sum(line in rows for line in path.read_bytes().splitlines())
        if _digest(path) in digests or same > 3:
            copied.append(str(path.relative_to(REPOSITORY)))
    assert copied == []


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


# --- the lock


def _locked() -> dict[str, str]:
    lines = (REPOSITORY / "requirements-lock.txt").read_text("utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", pin) for pin in pins), pins
    return {_canonical(name): version for name, _, version in (pin.partition("==") for pin in pins)}


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_the_lock_pins_every_declared_requirement() -> None:
    config = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))
    declared = list(config["project"]["dependencies"]) + list(config["build-system"]["requires"])
    for extra in config["project"]["optional-dependencies"].values():
        declared += extra
    names = {_canonical(re.split(r"[<>=!~\[; ]", requirement)[0]) for requirement in declared}
    assert len(names) > 15
    assert names - set(_locked()) == set()


def test_the_lock_has_no_local_versions_and_not_ourselves() -> None:
    locked = _locked()
    assert "scanward" not in locked
    assert locked["torch"] == "2.13.0"
