"""Imaging Data Commons: CT series of a public collection, found in its index, fetched, read by their headers.

The index has no kV and no current, so those come from the images' headers, by the same codec as any CT image. Images
are fetched as ``idc-index`` fetches them, by the program ``s5cmd`` without an account, but asked for directly: its
client reads the whole index into 1.6 GB first and does not say when images are missing.

What identifies a patient goes no further than the codec; folders are named by keyed hashes. Each series keeps its
licence and its DOI: whoever shows results of them must name them.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from scanward.commands import Command
from scanward.config import IDC_BOUNDS
from scanward.errors import InputError, LinkError, SettingsError
from scanward.recordings.books import Entry, Recording
from scanward.recordings.idc_index import INSTALL, Series, query
from scanward.recordings.pseudonyms import Pseudonyms
from scanward.recordings.reading import Progress, read

ENDPOINT = "https://s3.amazonaws.com"  # where the buckets of Imaging Data Commons are
SOURCES = "sources.json"  # beside the folders of images: what came from where, under which licence


def choose(found: Sequence[Series], count: int, megabytes: float, seed: int = 0) -> tuple[Series, ...]:
    """Whole studies in an order drawn by ``seed``, until ``count`` series or so many megabytes are reached.

    A study is an examination and is never divided; the first one that does not fit ends it, so that large ones are
    not passed over for small ones.

    Raises
    ------
    SettingsError
        For bounds that let no study through, or that no disk here is meant for.
    """
    if count < 1 or not 0 < megabytes <= IDC_BOUNDS.fetched_megabytes:
        most = f"{IDC_BOUNDS.fetched_megabytes:g}"
        raise SettingsError("nothing, or too much, to fetch", "Imaging Data Commons", f"give 1 to {most} MB")
    studies: dict[str, list[Series]] = {}
    for one in found:
        studies.setdefault(one.study, []).append(one)
    drawn = sorted(studies, key=lambda s: hashlib.blake2b(f"{seed}/{s}".encode(), digest_size=16).digest())
    out: list[Series] = []
    for study in drawn:
        more = [*out, *studies[study]]
        if len(more) > count or sum(s.megabytes for s in more) > megabytes:
            break
        out = more
    if not out:
        first = studies[drawn[0]] if drawn else []
        needed = f"{len(first)} series of {sum(s.megabytes for s in first):.0f} MB"
        raise SettingsError(
            "not one study fits", "Imaging Data Commons", f"the first has {needed}: allow more"
        )
    return tuple(out)


def fetch(
    wanted: Sequence[Series],
    folder: Path,
    *,
    site_key: bytes | None = None,
    progress: Progress | None = None,
) -> list[Path]:
    """Fetch series into folders of their own under ``folder``; what is there whole is not fetched again.

    A series lies under its final name only when all its images came, so an interrupted run goes on where it was.

    Raises
    ------
    LinkError
        When Imaging Data Commons cannot be reached, or images are missing.
    InputError
        When the folder cannot be written.
    """
    pseudonyms = Pseudonyms(site_key)
    places = [folder / pseudonyms.of(one.series) for one in wanted]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for number, (one, place) in enumerate(zip(wanted, places, strict=True), 1):
            if not place.is_dir():
                _fetch_one(one, place)
            if progress is not None:
                progress(number, len(wanted))
        known = {p.name: _source(one) for one, p in zip(wanted, places, strict=True)}
        (folder / SOURCES).write_text(json.dumps(known, indent=1, sort_keys=True) + "\n", "utf-8")
    except OSError as error:
        raise InputError(
            f"images cannot be kept ({error.strerror})", str(folder), "give a folder with room"
        ) from error
    return places


def _source(one: Series) -> dict[str, Any]:
    return {
        k: v for k, v in asdict(one).items() if k in ("collection", "licence", "doi", "images", "megabytes")
    }


def _fetch_one(one: Series, place: Path) -> None:
    part = place.with_name(f"{place.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    download(one.url, part)
    came = sum(1 for p in part.iterdir() if p.is_file())
    if came != one.images:
        raise LinkError(
            f"{came} of {one.images} images of a series came",
            "Imaging Data Commons",
            "ask again: whole series are kept; if it stays so, the installed index is older than the collection",
        )
    part.rename(place)


def download(url: str, folder: Path) -> None:
    """Copy all images of one series into ``folder``: the only step that touches the network.

    Raises
    ------
    LinkError
        When ``s5cmd`` fails, whatever it said being told.
    """
    command = [s5cmd(), "--no-sign-request", "--endpoint-url", ENDPOINT, "cp", url, f"{folder}/"]
    try:
        done = subprocess.run(  # noqa: S603 - a list, no shell; the URL has been checked against _URL
            command, capture_output=True, text=True, timeout=IDC_BOUNDS.fetch_seconds, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LinkError(
            f"s5cmd failed ({type(error).__name__})", "Imaging Data Commons", "try again"
        ) from error
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["no reason given"])[0][:200]
        raise LinkError(f"a series cannot be fetched ({said})", "Imaging Data Commons", "check the network")


def s5cmd() -> str:
    """The program that fetches: on the path, else where its package put it. InputError when there is none."""
    found = shutil.which("s5cmd")
    if found:
        return found
    try:
        files = metadata.distribution("s5cmd").files or []
    except metadata.PackageNotFoundError as error:
        raise InputError("images are fetched by s5cmd, which is not there", "s5cmd", INSTALL) from error
    for file in files:
        if file.name == "s5cmd" and file.parent.name == "bin":
            return str(Path(str(file.locate())).resolve())
    raise InputError("images are fetched by s5cmd, which is not there", "s5cmd", INSTALL)


# --- reading


def read_series(
    wanted: Sequence[Series],
    places: Sequence[Path],
    *,
    site_key: bytes | None = None,
    progress: Progress | None = None,
    workers: int | None = None,
) -> Recording:
    """Commands out of the headers of fetched series, with notes of licences and sources.

    Ages of exactly 0 years are taken out: collections whose ages were removed say ``000Y``, and newborns are written
    in days or months.
    """
    recording = read(list(places), site_key=site_key, progress=progress, workers=workers)
    entries, blank = without_blank_ages(recording.entries)
    return Recording(entries, recording.files, (*recording.notes, *notes_of(wanted, blank)))


def without_blank_ages(entries: Iterable[Entry]) -> tuple[tuple[Entry, ...], int]:
    """The entries without ages of exactly 0 years, and how many commands had one."""
    out, blank = list[Entry](), 0
    for entry in entries:
        if isinstance(entry, Command) and entry.context.get("PatientAge") == 0.0:
            parts = {name: told for name, told in entry.context.parts.items() if name != "PatientAge"}
            entry, blank = replace(entry, context=replace(entry.context, parts=parts)), blank + 1
        out.append(entry)
    return tuple(out), blank


def notes_of(wanted: Sequence[Series], blank: int = 0) -> tuple[str, ...]:
    """What a report of these series has to say: collection, licences, sources, ages that were no ages."""
    counts = Counter((s.collection, s.licence or "no licence named", s.doi) for s in wanted)
    notes = [
        f"{n} series of the collection {collection} of Imaging Data Commons: {licence}"
        + (f", doi {doi}" if doi else "")
        for (collection, licence, doi), n in sorted(counts.items())
    ]
    if blank:
        notes.append(
            f"{blank} commands said 0 years, which collections write where ages were removed: no age"
        )
    return tuple(notes)


def idc_recording(
    collection: str,
    folder: Path,
    *,
    count: int = 400,
    megabytes: float = 50_000.0,
    licences: Collection[str] | None = None,
    seed: int = 0,
    site_key: bytes | None = None,
    index: Path | None = None,
    progress: Progress | None = None,
    workers: int | None = None,
) -> Recording:
    """Query, choose, fetch and read a collection; see ``query``, ``choose``, ``fetch`` and ``read_series``."""
    wanted = choose(query(collection, licences=licences, index=index), count, megabytes, seed)
    places = fetch(wanted, folder, site_key=site_key, progress=progress)
    return read_series(wanted, places, site_key=site_key, workers=workers)
