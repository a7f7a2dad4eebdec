"""Invariant 9: every picture of the tampering wing says what it is, and none is sent anywhere."""

from __future__ import annotations

import ast
import inspect
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pil

from _tamper import phantoms, tiny
from house import SRC
from scanward.errors import DecodeError, InputError, SettingsError
from scanward.tampering import dicom_outputs, marking
from scanward.tampering.marking import (
    MARK,
    SOURCE_TYPE,
    declaration,
    mark_masks,
    marks_of,
    stamp,
    write_marked,
)
from scanward.tampering.running import Settings, train

TAMPERING = SRC / "scanward" / "tampering"


def _film(rows: int, columns: int, dtype: type = np.uint16) -> tuple[np.ndarray, np.ndarray]:
    """A half-ellipse of tissue at the left of a dark picture, and where it is."""
    down, right = np.mgrid[:rows, :columns]
    breast = ((down - rows / 2) / (0.46 * rows)) ** 2 + (right / (0.6 * columns)) ** 2 < 1
    most = int(np.iinfo(dtype).max)
    tissue = most * (0.3 + 0.3 * np.random.default_rng(1).random((rows, columns)))
    return np.where(breast, tissue, 0).astype(dtype), breast


# --- the visible mark


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("size", [(16, 16), (64, 48), (128, 100), (512, 408), (2048, 1600)])
def test_the_mark_stands_out_above_and_below_and_leaves_the_middle_free(
    size: tuple[int, int], dtype: type
) -> None:
    picture, breast = _film(*size, dtype)
    before = picture.copy()
    marked = stamp(picture, within=breast)
    assert (picture == before).all()
    assert marked.shape == picture.shape
    assert marked.dtype == picture.dtype
    letters, outline = mark_masks(size, within=breast)
    assert (marked[letters] == picture.max()).all()
    assert (marked[outline] == picture.min()).all()
    assert (marked == picture)[~(letters | outline)].all()
    rows = np.flatnonzero(letters.any(1))
    assert rows[0] < size[0] * 0.45
    assert rows[-1] > size[0] * 0.55
    if size[0] >= 64:
        centre = slice(round(size[0] * 0.33), round(size[0] * 0.67))
        assert (marked[centre] == picture[centre]).all()


@pytest.mark.parametrize(
    ("size", "words"),
    [
        ((64, 60), ["MODIFIED"]),
        ((128, 110), ["MODIFIED", "NOT FOR DIAGNOSIS"]),
        ((1024, 900), ["MODIFIED", "SCANWARD RESEARCH", "NOT FOR DIAGNOSIS"]),
    ],
)
def test_the_words_can_be_read_back(size: tuple[int, int], words: list[str]) -> None:
    picture, breast = _film(*size)
    seen = stamp(picture, within=breast, greys=(0, 65535)) == 65535
    letters = {bytes(columns): name for name, columns in marking._FONT.items()}
    for half in (seen[: size[0] // 2], seen[size[0] // 2 :]):
        scale = _pitch(half)
        down, across = np.nonzero(half)
        top, left = down.min() + scale // 2, across.min() + scale // 2
        lines = []
        for line in range((down.max() - down.min()) // (9 * scale) + 1):
            read = ""
            for place in range((across.max() - across.min()) // (6 * scale) + 1):
                cell = half[top + line * 9 * scale :: scale, left + place * 6 * scale :: scale][:7, :5]
                cell = np.pad(cell, ((0, 7 - cell.shape[0]), (0, 5 - cell.shape[1])))
                read += letters.get(bytes((cell << np.arange(7)[:, None]).sum(0).astype(np.uint8)), "?")
            lines.append(read.strip())
        assert lines == words


def _pitch(letters: np.ndarray) -> int:
    """Pixels of one pixel of the letters: the shortest run of them in any row."""
    runs = []
    for row in letters[letters.any(1)][:40]:
        edges = np.flatnonzero(np.diff(np.concatenate(([0], row.astype(np.int8), [0]))))
        runs += list(edges[1::2] - edges[::2])
    return min(runs)


def test_letters_grow_with_the_picture() -> None:
    sizes = [_pitch(mark_masks((side, side))[0]) for side in (128, 512, 2048, 4096)]
    assert sizes == sorted(sizes)
    assert sizes[-1] > 8 * sizes[0]


def test_cropping_the_mark_away_costs_breast() -> None:
    picture, breast = _film(600, 480)
    letters = mark_masks(picture.shape, within=breast)[0]
    assert (letters & breast).sum() > 0.5 * letters.sum()  # it lies on tissue, not beside it
    down, right = np.nonzero(letters)
    between = letters[down.max() // 2 :].any(1)
    lower = down.max() // 2 + int(np.argmax(between))
    upper = int(down[down < 300].max())
    crops = [
        breast[upper + 1 : lower],  # between the two blocks
        breast[:, right.max() + 1 :],  # beside them
        breast[down.max() + 1 :],
        breast[: down.min()],
    ]
    assert max(crop.sum() for crop in crops) < 0.9 * breast.sum()


@settings(max_examples=60)
@given(
    rows=st.integers(16, 300),
    columns=st.integers(16, 300),
    eight=st.booleans(),
    colour=st.booleans(),
    text=st.sampled_from([MARK, "MODIFIED PHANTOMS", "MODIFIED - RESEARCH", "X", "ä§ - é"]),
    flat=st.booleans(),
    seed=st.integers(0, 99),
)
def test_every_picture_is_stamped(
    rows: int, columns: int, eight: bool, colour: bool, text: str, flat: bool, seed: int
) -> None:
    dtype = np.uint8 if eight else np.uint16
    shape = (rows, columns, 3) if colour and eight else (rows, columns)
    random = np.random.default_rng(seed)
    picture = np.full(shape, 7, dtype) if flat else random.integers(0, 255, shape).astype(dtype)
    breast = random.random((rows, columns)) < 0.01 if seed % 2 else None
    marked = stamp(picture, text, within=breast)
    assert marked.shape == shape
    assert (marked != picture).sum() >= 4


def test_what_cannot_be_marked_is_refused() -> None:
    with pytest.raises(SettingsError):
        stamp(np.zeros((8, 5), np.uint8))
    with pytest.raises(ValueError):
        stamp(np.zeros((64, 64), np.float32))
    with pytest.raises(SettingsError):
        write_marked(Path("picture.jpg"), np.zeros((64, 64), np.uint8), "a test")


# --- the marks in files


def _chunks(content: bytes) -> list[tuple[bytes, bytes]]:
    """Chunks of a PNG, read by hand, their sums checked."""
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    found, at = [], 8
    while at < len(content):
        length, kind = struct.unpack(">I4s", content[at : at + 8])
        data = content[at + 8 : at + 8 + length]
        assert struct.unpack(">I", content[at + 8 + length : at + 12 + length])[0] == zlib.crc32(kind + data)
        found.append((kind, data))
        at += 12 + length
    return found


@pytest.mark.parametrize("visible", [True, False])
@pytest.mark.parametrize("ending", ["png", "tif"])
def test_a_file_says_what_it_is_with_or_without_the_visible_mark(
    tmp_path: Path, ending: str, visible: bool
) -> None:
    picture, breast = _film(128, 100)
    path = tmp_path / f"picture.{ending}"
    written = write_marked(
        path,
        picture,
        'A lesion; "inserted" & <so on>, für Tests',
        source_sha256="cd" * 32,
        visible=visible,
        within=breast,
    )
    assert path.read_bytes() == written
    said = marks_of(path)
    assert said["Synthetic"] == "YES"
    assert "Not for diagnosis" in said["Warning"]
    assert said["Source"] == f"sha256:{'cd' * 32}"
    assert said["Visible-Mark"] == ("YES" if visible else "NO")
    with Pil.open(path) as opened:
        back = np.asarray(opened).astype(np.uint16)
        xmp = opened.info.get("xmp") or opened.info["XML:com.adobe.xmp"].encode()
    assert (back == (stamp(picture, within=breast) if visible else picture)).all()  # 16 bits, without loss
    tree = ElementTree.fromstring(xmp[xmp.index(b"<x:xmpmeta") : xmp.rindex(b"<?xpacket")])
    assert any(SOURCE_TYPE in element.attrib.values() for element in tree.iter())
    if ending == "png":
        kinds = [kind for kind, _ in _chunks(written)]
        assert max(i for i, kind in enumerate(kinds) if kind in (b"tEXt", b"iTXt")) < kinds.index(b"IDAT")
        assert (b"tEXt", b"Synthetic\0YES") in _chunks(written)


def test_a_picture_that_is_not_ours_has_no_marks(tmp_path: Path) -> None:
    Pil.fromarray(np.zeros((20, 20), np.uint8)).save(tmp_path / "plain.png")
    assert marks_of(tmp_path / "plain.png") == {}
    with pytest.raises(InputError):
        marks_of(tmp_path / "none.png")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    with pytest.raises(DecodeError):
        marks_of(tmp_path / "broken.png")


def test_no_option_leaves_the_metadata_out() -> None:
    """What the writers can be told about marks is whether words are burned in, and nothing else."""
    for function in (write_marked, dicom_outputs.write_dicom, declaration):
        options = set(inspect.signature(function).parameters)
        assert options & {"mark", "marked", "metadata", "synthetic", "clean", "anonymous", "plain"} == set()
    assert declaration("x", visible=False)["Synthetic"] == "YES"
    assert set(dicom_outputs.Change.__annotations__) == {"direction", "text", "visible", "now"}
    assert declaration("x", facts={"Synthetic": "NO"})["Synthetic"] == "YES"


# --- no other way to write a picture

WRITES = {
    "write_picture",
    "save",
    "savefig",
    "imsave",
    "imwrite",
    "imshow",
    "save_as",
    "dcmwrite",
    "tofile",
    "save_image",
    "to_file",
}
# (module, function, call): the two writers themselves, plots of figures, and a JPEG that never leaves memory.
ALLOWED = {
    ("marking.py", "_png", "save"),
    ("marking.py", "_tiff", "save"),
    ("dicom_outputs.py", "write_dicom", "save_as"),
    ("sheets.py", "draw_curves", "savefig"),
    ("evaluation/plots.py", "_save", "savefig"),
    ("evaluation/processing.py", "_jpeg", "save"),
}


def writers(name: str, source: str) -> Iterator[tuple[str, str, str]]:
    """Every call in a module that writes a picture: (module, innermost function, what is called)."""
    tree = ast.parse(source)
    inside: dict[int, str] = {}
    for function in ast.walk(tree):  # breadth first: inner functions come later and win
        if isinstance(function, ast.FunctionDef):
            inside |= {id(node): function.name for node in ast.walk(function)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            by_name = node.func.id if isinstance(node.func, ast.Name) else ""
            called = node.func.attr if isinstance(node.func, ast.Attribute) else by_name
            if called in WRITES and by_name != "save":  # a function of that name is somebody's own
                yield name, inside.get(id(node), ""), called


def _modules() -> list[Path]:
    found = sorted(TAMPERING.rglob("*.py"))
    assert len(found) > 20
    return found


def test_pictures_are_written_by_the_marking_writers_alone() -> None:
    found = {
        one
        for path in _modules()
        for one in writers(path.relative_to(TAMPERING).as_posix(), path.read_text("utf-8"))
    }
    figures = {one for one in found if one[2] == "savefig"}
    memory = {one for one in found if one[0] == "evaluation/processing.py"}
    assert {one[0] for one in figures} <= {"sheets.py", "evaluation/plots.py"}  # losses and ROC curves
    assert found - figures - memory == {one for one in ALLOWED if one[2] != "savefig" and one[1] != "_jpeg"}


@pytest.mark.parametrize(
    "line",
    [
        "write_picture(path, picture)",
        "Pil.fromarray(x).save('a.png')",
        "ds.save_as(path)",
        "pydicom.dcmwrite(path, ds)",
        "axes.imshow(picture)",
    ],
)
def test_another_way_to_write_would_be_found(line: str) -> None:
    assert set(writers("new.py", f"def f():\n    {line}\n")) - ALLOWED != set()


def test_a_jpeg_of_the_evaluation_stays_in_memory() -> None:
    source = (TAMPERING / "evaluation/processing.py").read_text("utf-8")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "save":
            assert ast.unparse(node.args[0]) == "buffer"
    assert "buffer = io.BytesIO()" in source


def test_every_picture_of_a_training_run_is_marked(tmp_path: Path) -> None:
    data = phantoms(tmp_path / "data")
    run = tmp_path / "run"
    train(data, tiny(optimiser__steps="2"), run, settings=Settings(threads=1, sheet_steps=1))
    pictures = [path for path in run.rglob("*.png") if path.name != "curves.png"]  # a plot of losses
    assert len(pictures) >= 2
    assert [path.name for path in pictures if marks_of(path).get("Visible-Mark") != "YES"] == []
    card = (run / "model-card.md").read_text("utf-8")
    assert "Never for care" in card
    assert "phantoms: pictures of no human being" in card


# --- nothing is sent

NETWORK = {
    "socket", "ssl", "http", "urllib", "urllib3", "requests", "httpx", "aiohttp", "ftplib", "smtplib", "telnetlib",
    "imaplib", "poplib", "nntplib", "xmlrpc", "socketserver", "asyncio", "websockets", "paramiko", "pynetdicom",
    "boto3", "webbrowser",
}  # fmt: skip


def network_imports(source: str) -> list[str]:
    """Imports of what could send, at load or inside functions, plain, by name, or of rooms that can."""
    found = []
    for node in ast.walk(ast.parse(source)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""] + [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            names = [str(node.args[0].value)] if called in ("import_module", "__import__") else []
        rooms = ("scanward.transport", "scanward.shipping", "scanward.links", "scanward.web", "torch.hub")
        found += [name for name in names if name.partition(".")[0] in NETWORK or name.startswith(rooms)]
    return found


def test_nothing_in_the_wing_imports_what_could_send() -> None:
    found = {
        path.relative_to(TAMPERING).as_posix(): network_imports(path.read_text("utf-8"))
        for path in _modules()
    }
    assert {name: imports for name, imports in found.items() if imports} == {}


@pytest.mark.parametrize(
    "source",
    [
        "import socket",
        "def f():\n    from pynetdicom import AE",
        "import importlib\nimportlib.import_module('http.client')",
        "from scanward.transport import dicom",
        "from urllib import request",
        "import torch.hub",
    ],
)
def test_an_import_that_could_send_would_be_found(source: str) -> None:
    assert network_imports(source) != []


_GUARDED = """
import sys
def hook(event, args):
    if event.startswith("socket."):
        raise RuntimeError(f"a socket: {{event}} {{args}}")
sys.addaudithook(hook)
sys.path.insert(0, {tests!r})
"""
_APPLY = """
from pathlib import Path
from _tamper_dicom import FakeRun, mammogram_file
from scanward.tampering.applying import apply
folder = Path({folder!r})
told = apply([mammogram_file(folder / "in.dcm"), Path({data!r})], FakeRun(), "insert", folder / "out")
print("made", len(told.images))
"""


def _apart(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )


def test_inserting_opens_no_socket(tmp_path: Path) -> None:
    data = phantoms(tmp_path / "data", patients=2, prevalence=0.0)
    guarded = _GUARDED.format(tests=str(Path(__file__).parent))
    done = _apart(guarded + _APPLY.format(folder=str(tmp_path), data=str(data)))
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["made", "3"]
    caught = _apart(guarded + "import socket\nsocket.create_connection(('127.0.0.1', 9))")
    assert caught.returncode != 0
    assert "a socket" in caught.stderr
