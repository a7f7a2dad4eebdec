"""What a run keeps, so that it can be stopped at any moment and gone on with.

    OUT/plan.json                    what is measured; another plan is refused
    OUT/log.txt                      what happened, tracebacks included
    OUT/cells/WORLD/world.json       how many examinations, for the report
    OUT/cells/WORLD/TEST/cases.npz   effects of the attacked commands, and cases.json: how many of what
    OUT/cells/WORLD/TEST/METHOD.npz  a cell: what a method told of a test, and METHOD.json: its facts
    OUT/results.json                 every figure

A file appears whole or not at all (written beside, flushed to the disk, renamed). Arrays come first and the JSON file
after them with their hash: a cell is there when both are and agree. What does not agree is made again. No model is
kept, no pickle is read.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import os
import shutil
import time
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scanward.config import BENCHMARK_BOUNDS
from scanward.errors import DecodeError, InputError, SettingsError
from scanward.learning.benchmark.answers import Attacked, Told
from scanward.learning.benchmark.plan import Plan, slug

FORMAT = "scanward-benchmark-cell-1"
PLAN, METHODS, LOG, CELLS, RESULTS, LOCK, OPENING = (
    "plan.json", "methods.json", "log.txt", "cells", "results.json", "lock", "opening.json",
)  # fmt: skip
OURS = {PLAN, METHODS, LOG, CELLS, RESULTS, LOCK, OPENING}
COUNTS = "counts"  # of cases of each attack
IDC = "idc"  # images fetched for a run; they stay whatever the plan
AGAIN = "it is made again"
Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Failed:
    """A method that gave no answer in a world: told in the report with its reason."""

    what: str
    error: str  # class of the exception

    def as_json(self) -> dict[str, str]:
        """For the cell's JSON file."""
        return {"what": self.what, "error": self.error}


@dataclass(frozen=True)
class Cell:
    """What is kept of one method on one test: answers, or why there are none."""

    facts: Mapping[str, Any]
    told: Told | None = None
    failed: Failed | None = None


class Store:
    """A folder of one plan. ``open`` it, then ask whether a cell is there, load or keep it."""

    def __init__(self, out: Path, plan_sha256: str) -> None:
        self.out = out
        self.plan_sha256 = plan_sha256

    # --- the folder

    @classmethod
    def open(cls, out: Path, plan: Plan, *, fresh: bool = False) -> Store:
        """Begin a folder, or go on with one that this very plan began.

        Raises
        ------
        SettingsError
            When another plan began it, or it holds something else.
        InputError
            When it cannot be read or written.
        """
        store = cls(out, plan.sha256)
        try:
            out.mkdir(parents=True, exist_ok=True)
            if fresh:
                store._clear()
            elif (out / PLAN).exists():
                before = read_json(out / PLAN)
                if before != plan.as_json():
                    raise SettingsError(
                        f"this folder was begun with another plan ({_differences(before, plan.as_json())})",
                        str(out),
                        "give another --out, the same options as before, or --fresh to begin anew",
                    )
            elif strange := sorted(p.name for p in out.iterdir() if p.name not in OURS | {IDC}):
                raise SettingsError(
                    f"this folder holds something else ('{strange[0]}')", str(out), "give an empty or new one"
                )
            if not (out / PLAN).exists():
                write_json(out / PLAN, plan.as_json())
        except OSError as error:
            raise _unusable(error, out) from error
        return store

    @classmethod
    def at(cls, out: Path) -> tuple[Store, dict[str, Any]]:
        """A folder that a run began, and its plan, for whoever only reads it."""
        if not (out / PLAN).is_file():
            raise InputError("no benchmark was run here", str(out), "give the --out of a run")
        plan = read_json(out / PLAN)
        if not set(Plan.__dataclass_fields__) <= set(plan):
            raise DecodeError("no plan of this version", str(out / PLAN), "give --fresh to begin anew")
        text = json.dumps(plan, sort_keys=True, separators=(",", ":"))
        return cls(out, hashlib.sha256(text.encode()).hexdigest()), plan

    def _clear(self) -> None:
        """Everything of an earlier run goes, save its log and its opening: they are a record."""
        if (self.out / CELLS).exists() and not (self.out / PLAN).is_file():
            raise SettingsError(
                "'cells' is there but no plan: not a folder of a benchmark",
                str(self.out),
                "give another --out",
            )
        for name in (RESULTS, METHODS, PLAN):
            (self.out / name).unlink(missing_ok=True)
        if (self.out / CELLS).exists():
            shutil.rmtree(self.out / CELLS)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One run at a time; the lock goes with its process, however that ends."""
        try:
            with (self.out / LOCK).open("a") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    raise SettingsError(
                        "another run is at work in this folder", str(self.out), "wait, or give another --out"
                    ) from None
                yield
        except PermissionError as error:
            raise _unusable(error, self.out) from error

    def log(self, text: str) -> None:
        """One entry with its time; lines of several processes do not mix."""
        stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime())
        with (self.out / LOG).open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(f"{stamp} UTC  {text.rstrip()}\n")

    # --- cells

    def place(self, world: str, level: str, name: str) -> Path:
        """The JSON file of a cell (or of ``cases``); its arrays stand beside it."""
        kept = name if name == "cases" else slug(name)
        return self.out / CELLS / slug(world) / slug(level) / f"{kept}.json"

    def keep(self, world: str, level: str, method: str, cell: Cell) -> None:
        """Write a cell; whole, or not at all."""
        head = {"world": world, "level": level, "method": method, "facts": plain(cell.facts)}
        if cell.failed is not None:
            self._keep(self.place(world, level, method), {**head, "failed": cell.failed.as_json()}, None)
        else:
            assert cell.told is not None
            self._keep(self.place(world, level, method), head, arrays_of(cell.told))

    def cell(self, world: str, level: str, method: str) -> Cell | None:
        """A cell that is there; None when it is not.

        Raises
        ------
        DecodeError
            When it is there and damaged, or of another plan.
        """
        found = self._load(self.place(world, level, method))
        if found is None:
            return None
        head, arrays = found
        if [head.get(k) for k in ("world", "level", "method")] != [world, level, method]:
            raise DecodeError("a cell of something else", str(self.place(world, level, method)), AGAIN)
        facts = head.get("facts") or {}
        if arrays is None:
            failed = head.get("failed") or {}
            return Cell(facts, None, Failed(str(failed.get("what", "")), str(failed.get("error", ""))))
        return Cell(facts, told_of(arrays, facts, str(self.place(world, level, method))))

    def keep_cases(
        self, world: str, level: str, facts: Mapping[str, Any], effects: Mapping[str, Arrays]
    ) -> None:
        """Effects of every attack's cases: attack -> name of the effect -> (M,)."""
        names = sorted(effects)
        kinds = sorted(effects[names[0]]) if names else []
        flat = {k: np.concatenate([np.asarray(effects[n][k]) for n in names]) for k in kinds}
        flat[COUNTS] = np.array([len(effects[n][kinds[0]]) for n in names], np.int64)
        head = {"world": world, "level": level, "attacks": names, "facts": plain(facts)}
        self._keep(self.place(world, level, "cases"), head, flat)

    def cases(
        self, world: str, level: str
    ) -> tuple[dict[str, Any], dict[str, dict[str, NDArray[Any]]]] | None:
        """What ``keep_cases`` kept; None when it is not there. DecodeError when it is damaged."""
        found = self._load(self.place(world, level, "cases"))
        if found is None:
            return None
        head, flat = found
        where = str(self.place(world, level, "cases"))
        if flat is None or [head.get("world"), head.get("level")] != [world, level]:
            raise DecodeError("cases of something else", where, AGAIN)
        names, counts = [str(n) for n in head.get("attacks", ())], flat.pop(COUNTS, np.zeros(0, np.int64))
        whole = {int(counts.sum())} if counts.dtype.kind == "i" and counts.ndim == 1 else set()
        if len(names) != len(counts) or not {v.shape for v in flat.values()} <= {(n,) for n in whole}:
            raise DecodeError("the effects do not fit together", where, AGAIN)
        ends = np.cumsum(counts)
        out = {
            name: {kind: values[end - count : end] for kind, values in flat.items()}
            for name, count, end in zip(names, counts.tolist(), ends.tolist(), strict=True)
        }
        return dict(head.get("facts") or {}), out

    def keep_world(self, world: str, facts: Mapping[str, Any]) -> None:
        """What the report says of a world."""
        self._keep(
            self.out / CELLS / slug(world) / "world.json", {"world": world, "facts": plain(facts)}, None
        )

    def worlds(self) -> list[dict[str, Any]]:
        """Every world kept so far, in the order in which they were planned. DecodeError when one is damaged."""
        found = []
        for path in sorted((self.out / CELLS).glob("*/world.json")):
            loaded = self._load(path)
            if loaded is not None:
                facts = dict(loaded[0].get("facts") or {})
                if not _is_world(facts):
                    raise DecodeError("no facts of a world", str(path), AGAIN)
                found.append(facts)
        return sorted(found, key=lambda w: (w["place"], w["number"]))

    def add_methods(self, methods: Mapping[str, Mapping[str, Any]]) -> None:
        """Methods asked for, added to those asked for before: name -> what the report says of it."""
        write_json(self.out / METHODS, {**self.methods(), **methods})

    def methods(self) -> dict[str, dict[str, Any]]:
        """Every method asked for so far. DecodeError when the file is damaged."""
        return read_json(self.out / METHODS) if (self.out / METHODS).exists() else {}

    def forget_failed(self) -> int:
        """Cells of methods that failed go, so that they are tried again; how many there were."""
        count = 0
        for path in (self.out / CELLS).glob("*/*/*.json"):
            with suppress(DecodeError):
                if read_json(path).get("failed"):
                    path.unlink()
                    count += 1
        return count

    # --- files

    def _keep(self, path: Path, head: Mapping[str, Any], arrays: Arrays | None) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_suffix(".npz")
        told = {"format": FORMAT, "plan": self.plan_sha256, **head, "sha256": ""}
        if arrays is None:
            write_json(path, told)
            beside.unlink(missing_ok=True)
            return
        raw = packed(arrays)
        write_bytes(beside, raw)
        write_json(path, {**told, "sha256": hashlib.sha256(raw).hexdigest()})

    def _load(self, path: Path) -> tuple[dict[str, Any], dict[str, NDArray[Any]] | None] | None:
        if not path.exists():
            return None
        head = read_json(path)
        if head.get("format") != FORMAT or head.get("plan") != self.plan_sha256:
            raise DecodeError("a cell of another plan or format", str(path), AGAIN)
        if not head.get("sha256"):
            return head, None
        return head, read_arrays(path.with_suffix(".npz"), str(head["sha256"]))


def arrays_of(told: Told) -> dict[str, NDArray[Any]]:
    """A Told as arrays; attacks one after the other, in the order of their names."""
    names = sorted(told.attacks)
    parts = [told.attacks[n] for n in names]

    def joined(what: str, kind: type) -> NDArray[Any]:
        return np.concatenate([np.zeros(0, kind), *(np.asarray(getattr(p, what), kind) for p in parts)])

    return {
        "calibrate": np.asarray(told.calibrate, np.float64),
        "clean_scores": np.asarray(told.clean_scores, np.float64),
        "clean_objects": np.asarray(told.clean_objects, np.bool_),
        "clean_units": np.asarray(told.clean_units, np.int64),
        "names": np.array(names, dtype=np.str_),
        "counts": np.array([len(p.scores) for p in parts], np.int64),
        "scores": joined("scores", np.float64),
        "objects": joined("objects", np.bool_),
        "units": joined("units", np.int64),
    }


_KINDS = {
    "calibrate": "f", "clean_scores": "f", "clean_objects": "b", "clean_units": "i", "names": "U",
    "counts": "i", "scores": "f", "objects": "b", "units": "i",
}  # fmt: skip


def told_of(arrays: Arrays, facts: Mapping[str, Any], where: str) -> Told:
    """``arrays_of`` undone. DecodeError when they do not fit together."""
    a = dict(arrays)
    fits = set(a) == set(_KINDS) and all(a[k].ndim == 1 and a[k].dtype.kind == v for k, v in _KINDS.items())
    if fits:
        whole = int(a["counts"].sum())
        fits = (
            len(a["clean_scores"]) == len(a["clean_objects"]) == len(a["clean_units"])
            and len(a["names"]) == len(a["counts"])
            and not (a["counts"] < 0).any()
            and len(a["scores"]) == len(a["objects"]) == len(a["units"]) == whole
            and all(np.isfinite(a[k]).all() for k in ("calibrate", "clean_scores", "scores"))
            and not (a["clean_units"] < 0).any()
            and not (a["units"] < 0).any()
        )
    if not fits:
        raise DecodeError("the arrays of a cell do not fit together", where, AGAIN)
    ends = np.cumsum(a["counts"])
    cuts = [slice(int(end - n), int(end)) for end, n in zip(ends, a["counts"], strict=True)]
    attacks = {
        str(name): Attacked(a["scores"][cut], a["objects"][cut], a["units"][cut])
        for name, cut in zip(a["names"], cuts, strict=True)
    }
    return Told(a["calibrate"], a["clean_scores"], a["clean_objects"], a["clean_units"], attacks, facts)


def packed(arrays: Arrays) -> bytes:
    """Arrays as an .npz file, the same bytes for the same arrays: processes may write one file at the same time."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as whole:
        for name, values in arrays.items():
            one = io.BytesIO()
            np.lib.format.write_array(one, np.ascontiguousarray(values), allow_pickle=False)
            whole.writestr(zipfile.ZipInfo(f"{name}.npy"), one.getvalue(), zipfile.ZIP_DEFLATED)
    return out.getvalue()


def read_arrays(path: Path, sha256: str) -> dict[str, NDArray[Any]]:
    """Arrays of a file with this hash. DecodeError when it is missing, altered or too large."""
    where, bounds = str(path), BENCHMARK_BOUNDS
    try:
        if path.stat().st_size > bounds.array_bytes:
            raise DecodeError("the arrays are too large", where, AGAIN)
        raw = path.read_bytes()
        if hashlib.sha256(raw).hexdigest() != sha256:
            raise DecodeError("the arrays were altered or cut short", where, AGAIN)
        with zipfile.ZipFile(io.BytesIO(raw)) as whole:
            sizes = [info.file_size for info in whole.infolist()]
        if len(sizes) > bounds.arrays or sum(sizes) > bounds.array_bytes:
            raise DecodeError("too many or too large arrays", where, AGAIN)
        with np.load(io.BytesIO(raw), allow_pickle=False) as found:
            return {name: found[name] for name in found.files}
    except (OSError, ValueError, zipfile.BadZipFile, EOFError, KeyError) as error:
        raise DecodeError(f"the arrays cannot be read ({type(error).__name__})", where, AGAIN) from error


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object. DecodeError when it is none, or too large."""
    try:
        if path.stat().st_size > BENCHMARK_BOUNDS.json_bytes:
            raise DecodeError("too large", str(path), AGAIN)
        told = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DecodeError(
            f"cannot be read as JSON ({type(error).__name__})", str(path), "make it again, or give --fresh"
        ) from error
    if not isinstance(told, dict):
        raise DecodeError("no JSON object", str(path), "make it again, or give --fresh")
    return told


def write_json(path: Path, told: Any) -> None:
    """``told`` as JSON; whole, or not at all."""
    write_bytes(path, (json.dumps(plain(told), indent=1, allow_nan=False) + "\n").encode())


def write_bytes(path: Path, raw: bytes) -> None:
    """Beside it, to the disk, then in its place."""
    part = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with part.open("wb") as file:
            file.write(raw)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise


def plain(value: Any) -> Any:
    """For JSON: numpy's values become Python's, what is not finite null, whatever else is no JSON its text."""
    if hasattr(value, "as_json"):
        return plain(value.as_json())
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, str):
        return str(value)
    if isinstance(value, (list, tuple, set, frozenset, np.ndarray)):
        return [plain(v) for v in value]
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, (float, np.floating)):
        return float(value) if np.isfinite(value) else None
    if isinstance(value, (int, np.integer)):
        return int(value)
    return None if value is None else str(value)


def _is_world(facts: Mapping[str, Any]) -> bool:
    """Whether all is there that a report asks for."""
    numbers = ("place", "number", "of", "learn", "calibrate")
    tests = facts.get("tests")
    return (
        all(isinstance(facts.get(k), int) for k in numbers)
        and all(isinstance(facts.get(k), str) for k in ("name", "about", "set"))
        and isinstance(facts.get("simulated"), bool)
        and isinstance(tests, list)
        and all(isinstance(t, dict) and {"level", "site", "first"} <= set(t) for t in tests)
    )


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    keys = [k for k in sorted({*before, *now}) if before.get(k) != now.get(k)]
    return "differs in " + ", ".join(keys)


def _unusable(error: OSError, out: Path) -> InputError:
    return InputError(
        f"this folder cannot be used ({error.strerror})", str(out), "give one that can be written"
    )
