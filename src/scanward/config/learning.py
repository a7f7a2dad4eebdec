"""Bounds of what learning and its benchmark take from outside."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class IdcBounds:
    """What is taken from Imaging Data Commons: its index, and the images that one run may bring."""

    index_rows: int = 10_000_000  # series in the index; version 25 lists 1,044,191
    collection_chars: int = 128  # characters of a collection's name; the longest has some 40
    text_chars: int = 256  # characters kept of a description; DICOM LO has 64
    series: int = 300_000  # series of one collection that are looked at; the largest, nlst, has 203,111 of CT
    images: int = 20_000  # images of one series; a cardiac one in ten phases has some 5,000
    fetched_megabytes: float = 500_000.0  # MB that one run may fetch; whoever wants more copies the bucket
    fetch_seconds: float = 3600.0  # s for one series; the largest has some 3 GB


@dataclass(frozen=True, slots=True)
class BenchmarkBounds:
    """What a run of the benchmark may be asked for, and what the files it keeps may weigh when read again."""

    seed: int = 2**31 - 1  # largest seed; what every library here takes
    spreads: int = 10  # AEC spreads of one plan; the full size has three
    workers: int = 64  # processes; each holds a world in memory, about 1 GB at full size
    files: int = 200_000  # files of the recordings that are hashed; a CT study has some thousand images
    slug_chars: int = 60  # characters of a name in a path; with hash and ending far below a file system's 255
    json_bytes: int = 64 << 20  # bytes of a kept JSON file; the results of a full run have some 20 MB
    array_bytes: int = 1 << 30  # bytes of the arrays of one cell, unpacked; at full size some 1 MB
    arrays: int = 64  # arrays in one file; a cell and the effects of its cases have nine each
    openings: int = 10_000  # openings of locked sites remembered; one a release
    why_chars: int = 500  # characters of the reason for an opening


IDC_BOUNDS = IdcBounds()
BENCHMARK_BOUNDS = BenchmarkBounds()
