"""The locked sites are opened once a release; whoever opens them leaves a record.

An opening is written to OUT/opening.json, and added to a log of this user that outlives every OUT. Going on with an
interrupted final run is no new opening. A second opening of one release needs a reason, and the table in
docs/results.md is to show both.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from scanward import __version__
from scanward.config import BENCHMARK_BOUNDS
from scanward.errors import DecodeError, InputError, SettingsError
from scanward.learning.benchmark.plan import Plan
from scanward.learning.benchmark.store import OPENING, read_json, write_json

LOG = "benchmark-openings.jsonl"
GIT_SECONDS = 10.0  # for git to say which commit it is


@dataclass(frozen=True)
class Opening:
    """One opening of locked sites. ``date`` in UTC; ``commit`` empty where it is not known."""

    date: str
    version: str
    commit: str
    plan_sha256: str
    sites: tuple[int, ...]
    attacks: int  # held-out attacks
    why: str

    def as_json(self) -> dict[str, Any]:
        """One line of the log."""
        return asdict(self)


def default_log() -> Path:
    """``$XDG_STATE_HOME/scanward/benchmark-openings.jsonl``, or under ``~/.local/state`` (XDG Base Directory)."""
    state = os.environ.get("XDG_STATE_HOME", "")
    home = Path(state) if state.startswith("/") else Path.home() / ".local" / "state"
    return home / "scanward" / LOG


def read(log: Path | None = None) -> list[Opening]:
    """Every opening so far, in order. DecodeError when the log is damaged."""
    path = log or default_log()
    if not path.exists():
        return []
    out = []
    try:
        lines = path.read_text("utf-8").splitlines()
        if len(lines) > BENCHMARK_BOUNDS.openings:
            raise DecodeError("too many openings", str(path), "see what wrote them")
        for line in lines:
            told = json.loads(line)
            out.append(Opening(**{**told, "sites": tuple(told["sites"])}))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DecodeError(
            "the log of openings is damaged", str(path), "restore it: it is a record"
        ) from error
    return out


def opened_before(plan: Plan, out: Path, log: Path | None = None) -> list[Opening]:
    """Openings that speak against another one: of this version, unless this very folder and plan is one of them."""
    if is_open(plan, out):
        return []
    return [o for o in read(log) if o.version == plan.version]


def is_open(plan: Plan, out: Path) -> bool:
    """Whether this folder was opened for this very plan, so that the run just goes on."""
    path = out / OPENING
    return path.exists() and read_json(path).get("plan_sha256") == plan.sha256


def check(plan: Plan, out: Path, why: str = "", log: Path | None = None) -> None:
    """Whether a plan may be opened; asks nobody and writes nothing.

    Raises
    ------
    SettingsError
        For a plan that opens nothing, a reason that is too long, or a second opening of a version without a reason.
    """
    if not plan.final:
        raise SettingsError("this plan opens nothing", "benchmark", "give --final")
    if len(why) > BENCHMARK_BOUNDS.why_chars:
        raise SettingsError(
            "the reason is too long", "--why", f"give {BENCHMARK_BOUNDS.why_chars} characters"
        )
    before = opened_before(plan, out, log)
    if before and not why.strip():
        raise SettingsError(
            f"version {plan.version} was opened before, on {before[-1].date}",
            "--final",
            "the locked sites are opened once a release: say with --why what makes another opening necessary",
        )


def record(plan: Plan, out: Path, why: str = "", log: Path | None = None) -> Opening:
    """Write the record of an opening, before anything locked is looked at; ``check`` comes first.

    Raises
    ------
    SettingsError
        As ``check``.
    InputError
        When the record cannot be written: then nothing is opened.
    """
    check(plan, out, why, log)
    opening = Opening(
        date=time.strftime("%Y-%m-%d %H:%M", time.gmtime()),
        version=__version__,
        commit=commit(),
        plan_sha256=plan.sha256,
        sites=tuple(dict.fromkeys(w.seed for w in plan.simulated)),
        attacks=len(plan.held_out),
        why=" ".join(why.split()) or f"the table of version {plan.version}",
    )
    path = log or default_log()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(opening.as_json()) + "\n")
            file.flush()
            os.fsync(file.fileno())
        out.mkdir(parents=True, exist_ok=True)
        write_json(out / OPENING, opening.as_json())
    except OSError as error:
        raise InputError(
            f"the opening cannot be recorded ({error.strerror})",
            str(error.filename or path),
            "nothing was opened",
        ) from error
    return opening


def rows(openings: list[Opening]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Head and rows of the table of openings, as docs/results.md has it."""
    head = ("date (UTC)", "version", "commit", "plan", "sites", "held-out attacks", "why")
    return head, [
        (
            o.date,
            o.version,
            o.commit[:10] or "-",
            o.plan_sha256[:12],
            ", ".join(map(str, o.sites)),
            str(o.attacks),
            o.why,
        )
        for o in openings
    ]


def commit() -> str:
    """The commit that Scanward runs from, with ``+`` when files differ from it; empty where it is not known."""
    root = Path(__file__).resolve().parents[2]
    told = _git(root, "rev-parse", "HEAD")
    if told is None or len(told) != 40:
        return ""
    return told + ("+" if _git(root, "status", "--porcelain", "--untracked-files=no", "--", ".") else "")


def _git(root: Path, *words: str) -> str | None:
    try:
        done = subprocess.run(  # noqa: S603 - a list, no shell, words of ours
            ["git", "-C", str(root), *words],  # noqa: S607 - git of the path, as a user would call it
            capture_output=True,
            text=True,
            timeout=GIT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
