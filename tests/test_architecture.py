"""The import order of the house, enforced by reading the source, and shown to bite on houses built wrong."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from house import REPOSITORY, SRC

# From the ground up: a room imports only rooms above it in this list. The rooms that are not built yet stand
# in their places, so that whoever builds one is held to the order from the first line.
GROUND = ("errors", "config", "keys", "calibration", "audit", "transport", "shipping", "web")
COMMANDS_WING = (
    "commands",
    "codecs",
    "recordings",
    "links",
    "layers",
    "bundle",
    "simulation",
    "learning",
    "guard",
    "emulator",
    "console",
)
IMAGES_WING = ("mammography", "tampering", "forensics", "signatures", "reading")
ORDER = (*GROUND, *COMMANDS_WING, *IMAGES_WING, "cli")

# What the order allows and the design forbids all the same: (room, rooms it must not import, why).
FORBIDDEN = (
    ("simulation", ("layers", "bundle"), "the simulator must not share the judge's physics"),
    ("guard", ("simulation", "learning"), "a guard host neither learns nor simulates"),
    *((room, COMMANDS_WING, "the images wing uses nothing of the commands wing") for room in IMAGES_WING),
)

# Modules that may import training libraries. Everything else runs on a guard host.
TRAINING_PLACES = (
    "learning",
    "simulation.plots",
    "tampering",
    "forensics",
    "cli.train",
    "cli.tamper",
    "cli.detect",
    "cli.demo",
    "cli.benchmark",
)
# Only these may import the rooms of training: otherwise `judge` would carry the training libraries with it.
TRAINING_ROOMS = ("learning",)
# The images wing runs on a workstation, never in a guard: it has the libraries of the extra `images`.
IMAGE_PLACES = (*IMAGES_WING, "cli.mammo", "cli.study")
# Pages: processes of their own, never the guard's. They have the libraries of the extra `web`.
WEB_PLACES = ("web", "console", "reading", "cli.study", "cli.console")
TRAINING_LIBRARIES = frozenset(
    {
        "sklearn",
        "lightgbm",
        "torch",
        "matplotlib",
        "onnx",
        "onnxmltools",
        "skl2onnx",
        "scipy",
        "joblib",
        "pyod",
        "numba",
    }
)
# What Scanward is compared with: imported inside functions, and nowhere else.
COMPARED_PLACES = ("learning.benchmark",)
LAZY_EXTRAS = ("parquet", "dicom", "can", "idc", "signatures")
IMPORT_NAMES = {
    "scikit-learn": "sklearn",
    "python-can": "can",
    "pillow": "PIL",
    "python-gdcm": "gdcm",
    "pylibjpeg-openjpeg": "openjpeg",
    "pyjpegls": "jpeg_ls",
    "argon2-cffi": "argon2",
}  # where a distribution's import name is not its own


@dataclass(frozen=True)
class Imported:
    """One import: by whom, of what, in which line, and whether it happens on loading the module."""

    module: str  # dotted, without the leading "scanward."
    target: str  # dotted, full
    line: int
    at_load: bool


def modules(src: Path) -> Iterator[tuple[str, Path]]:
    """Every module under ``src/scanward``: dotted name without ``scanward.``, and its file."""
    package = src / "scanward"
    for path in sorted(package.rglob("*.py")):
        parts = list(path.relative_to(package).with_suffix("").parts)
        if parts[-1] == "__init__":
            parts.pop()
        yield ".".join(parts), path


def imports(name: str, path: Path) -> Iterator[Imported]:
    """Every import in a file, relative ones and ``import_module("literal")`` included."""
    tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    inside = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for node in ast.walk(function)
    }
    package = ["scanward", *name.split(".")] if name else ["scanward"]
    if path.name != "__init__.py":
        package = package[:-1]
    for node in ast.walk(tree):
        for target in _targets(node, package):
            yield Imported(name, target, getattr(node, "lineno", 0), id(node) not in inside)


def _targets(node: ast.AST, package: list[str]) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        base = package[: len(package) - node.level + 1] if node.level else []
        stem = ".".join([*base, *([node.module] if node.module else [])])
        # "from scanward import layers" imports a room by its last word
        return [f"{stem}.{alias.name}" if stem == "scanward" else stem for alias in node.names]
    if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
        function = node.func
        called = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
        if called in {"import_module", "__import__"} and isinstance(node.args[0].value, str):
            return [node.args[0].value]
    return []


def room_of(dotted: str) -> str:
    """The room of a dotted name without ``scanward.``."""
    return dotted.partition(".")[0]


def is_in(module: str, places: tuple[str, ...]) -> bool:
    """Whether a module is one of ``places`` or lies in one."""
    return any(module == place or module.startswith(f"{place}.") for place in places)


def order_violations(src: Path) -> list[str]:
    """Every import that goes against the order of the house, as one line each."""
    found = []
    for name, path in modules(src):
        room = room_of(name)
        if room and room not in ORDER:
            found.append(f"{name}: the room '{room}' has no place in the order")
            continue
        for imported in imports(name, path):
            if room_of(imported.target) != "scanward":
                continue
            target = imported.target.removeprefix("scanward").removeprefix(".")
            other = room_of(target)
            if other == room or other.startswith("__"):  # scanward.__version__
                continue
            if not room:
                found.append(f"scanward/__init__.py:{imported.line}: the root imports {other}")
            elif other not in ORDER:
                found.append(f"{name}:{imported.line}: imports '{other}', which is no room")
            elif ORDER.index(other) > ORDER.index(room):
                found.append(f"{name}:{imported.line}: {room} imports {other}, which is below it")
            found.extend(
                f"{name}:{imported.line}: {room} imports {other}: {why}"
                for who, forbidden, why in FORBIDDEN
                if who == room and other in forbidden
            )
            if other in TRAINING_ROOMS and not is_in(name, TRAINING_PLACES):
                found.append(f"{name}:{imported.line}: imports {other}, which brings training libraries")
    return found


def library_violations(src: Path, project: dict[str, object]) -> list[str]:
    """Every third-party import that a plain (or ``[train]``) installation does not bring."""
    run_time = _import_names(project["dependencies"])
    extras = project["optional-dependencies"]
    assert isinstance(extras, dict)
    training = run_time | _import_names(extras["train"])
    images = _import_names(extras["images"])
    pages = _import_names(extras["web"])
    # Extras of a guard host: imported inside the functions that need them, never on loading a module.
    optional = {name for extra in LAZY_EXTRAS for name in _import_names(extras.get(extra, []))}
    compared = _import_names(extras["benchmark"])
    found = []
    for name, path in modules(src):
        here = training if is_in(name, TRAINING_PLACES) else run_time
        if is_in(name, IMAGE_PLACES):
            here = here | images
        if is_in(name, WEB_PLACES):
            here = here | pages
        for imported in imports(name, path):
            library = room_of(imported.target)
            if library in sys.stdlib_module_names or library in here or library == "scanward":
                continue
            if library in optional and not imported.at_load:
                continue
            if library in compared and not imported.at_load and is_in(name, COMPARED_PLACES):
                continue
            found.append(f"{name}:{imported.line}: imports {library}")
    return found


def _import_names(requirements: object) -> set[str]:
    assert isinstance(requirements, list)
    names = (r.partition(">")[0].partition("=")[0].partition("[")[0].strip() for r in requirements)
    return {IMPORT_NAMES.get(name, name.replace("-", "_")) for name in names}


PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_a_room_imports_only_rooms_above_it() -> None:
    assert order_violations(SRC) == []


def test_only_declared_libraries_are_imported() -> None:
    assert library_violations(SRC, PROJECT) == []


def test_the_order_is_that_of_the_built_house() -> None:
    rooms = {room_of(name) for name, _ in modules(SRC)} - {""}
    assert {"errors", "commands", "layers", "cli"} <= rooms
    assert rooms <= set(ORDER)
    assert len(set(ORDER)) == len(ORDER)


def test_loading_the_run_time_rooms_loads_no_training_library() -> None:
    names = [
        f"scanward.{name}" if name else "scanward"
        for name, _ in modules(SRC)
        if room_of(name) not in {"simulation", "learning", *IMAGES_WING} and not is_in(name, TRAINING_PLACES)
    ]
    assert len(names) > 10
    loaded = _loaded_after(f"import importlib\nfor name in {names!r}: importlib.import_module(name)\n")
    assert "numpy" in loaded  # the question was asked of a process that loaded something
    assert loaded & (TRAINING_LIBRARIES | {"scanward.learning"}) == set()


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["keys", "--help"]])
def test_help_loads_neither_training_libraries_nor_numpy(arguments: list[str]) -> None:
    if arguments[0] == "keys" and not (SRC / "scanward/cli/keys.py").exists():
        pytest.skip("the keys command is not built yet")
    loaded = _loaded_after(
        "from scanward.cli.main import cli\n"
        f"try: cli.main({arguments!r})\n"
        "except SystemExit as done: assert done.code == 0, done.code\n"
    )
    assert "click" in loaded
    assert loaded & (TRAINING_LIBRARIES | {"numpy", "onnxruntime"}) == set()


def _loaded_after(code: str) -> set[str]:
    """Names in ``sys.modules`` of a fresh interpreter after ``code``."""
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print('loaded:', *sys.modules)"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.rpartition("loaded:")[2].split())


# --- the checker itself: a gate that nobody has seen fail is not a gate


def _house(root: Path, files: dict[str, str]) -> Path:
    for name, text in {"__init__.py": "", **files}.items():
        path = root / "scanward" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("commands/model.py", "from scanward.layers.base import Part"),
        ("commands/model.py", "from scanward import layers"),
        ("commands/model.py", "import scanward.cli"),
        ("commands/model.py", "from ..layers import base"),
        ("commands/model.py", "from .. import layers"),
        ("commands/__init__.py", "from ..recordings.books import Recording"),
        ("commands/model.py", "def late():\n    from scanward.bundle import read"),
        ("commands/model.py", "import importlib\nimportlib.import_module('scanward.learning.fit')"),
        ("layers/base.py", "if TYPE_CHECKING:\n    from scanward.simulation import Site"),
        ("simulation/site.py", "from scanward.layers.physics import dlp"),
        ("simulation/site.py", "from scanward.learning import fit"),
        ("guard/gate.py", "from scanward.learning import fit"),
        ("forensics/detector.py", "from scanward.commands import Command"),
        ("cli/judge.py", "from scanward.learning import fit"),
        ("attic/things.py", ""),
        ("commands/model.py", "from scanward.attic import things"),
        ("__init__.py", "from scanward.commands import Command"),
    ],
)
def test_the_order_checker_bites(tmp_path: Path, file: str, text: str) -> None:
    assert order_violations(_house(tmp_path, {file: text})) != []


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("layers/base.py", "from scanward.commands import Command\nfrom scanward import __version__"),
        ("layers/base.py", "from . import helper\nfrom .helper import x\nfrom ..commands import Command"),
        ("layers/base.py", "import numpy\nfrom learning import fit"),
        ("cli/train.py", "from scanward.learning import fit\nfrom scanward.simulation import site"),
        ("learning/fit.py", "from scanward.layers.base import Part\nfrom scanward.bundle import write"),
        ("forensics/detector.py", "from scanward.errors import InputError\nfrom scanward.tampering import x"),
    ],
)
def test_the_order_checker_lets_good_houses_stand(tmp_path: Path, file: str, text: str) -> None:
    assert order_violations(_house(tmp_path, {file: text})) == []


@pytest.mark.parametrize(
    ("file", "text", "bites"),
    [
        ("layers/base.py", "import torch", True),
        ("layers/base.py", "def f():\n    from sklearn.ensemble import IsolationForest", True),
        ("bundle/read.py", "import onnx", True),
        ("cli/judge.py", "import matplotlib.pyplot as plt", True),
        ("simulation/site.py", "import matplotlib", True),
        ("learning/fit.py", "import pandas", True),  # declared nowhere
        ("recordings/tables.py", "import pyarrow.parquet", True),  # an extra, so only when asked for
        ("recordings/tables.py", "def f():\n    import pyarrow.parquet", False),
        ("transport/dicom.py", "from pynetdicom import AE", True),
        ("transport/dicom.py", "def f():\n    from pynetdicom import AE", False),
        ("transport/can.py", "import can", True),
        ("transport/can.py", "def f():\n    import can", False),
        ("learning/fit.py", "import torch\nimport sklearn\nimport scipy.stats", False),
        ("learning/benchmark/rows.py", "def f():\n    from pyod.models.inne import INNE", False),
        ("learning/benchmark/rows.py", "from pyod.models.inne import INNE", True),
        ("learning/fit.py", "def f():\n    import pyod", True),
        ("guard/judge.py", "def f():\n    import pyod", True),
        ("simulation/plots.py", "import matplotlib", False),
        ("mammography/breast.py", "from PIL import Image\nimport scipy.ndimage", False),
        ("mammography/breast.py", "import torch", True),
        ("guard/relay.py", "from PIL import Image", True),
        ("guard/control.py", "import starlette", True),
        ("web/app.py", "from starlette.routing import Route\nimport argon2", False),
        ("web/app.py", "import torch", True),
        ("web/app.py", "import scipy.stats", True),
        ("reading/mrmc/tests.py", "import scipy.stats\nimport numpy", False),
        ("layers/base.py", "import json\nimport numpy as np\nimport onnxruntime", False),
    ],
)
def test_the_library_checker_bites(tmp_path: Path, file: str, text: str, bites: bool) -> None:
    assert bool(library_violations(_house(tmp_path, {file: text}), PROJECT)) is bites
