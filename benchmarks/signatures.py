"""Signing and verifying beside DCMTK's dcmsign: files and megabytes a second; random changes of signed files.

Small files (10 kB), large ones (33 MB) and a folder of 200 (0.5 MB each), native pixels, RSA 2048 with SHA-256,
everything signed. Ours as `scanward sign` works, in one warm process: each file written, put on the disk (fsync) and
renamed; those of the folder some at once, the others one after the other. dcmsign as it is: one process a file, one
after the other, and it does not wait for the disk; beside it the same with a sync of each file that it wrote, and for
the folder as many processes at once as we sign files at once. Rounds in turn, so that whatever else the machine does
falls on all.

With --mutations: so many random single changes of small signed files in seven transfer syntaxes; whether one changed
anything signed is said by pydicom.

  python -m benchmarks.signatures --mutations 100000
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import pydicom
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless, JPEGBaseline8Bit, RLELossless

from benchmarks.common import Say, parser, quickly, save, sayer, table
from benchmarks.signatures_mutations import BIG, CHANGES, DEFLATED, IMPLICIT, Subject, Tally
from scanward.config import SIGNATURE_BOUNDS
from scanward.signatures import (
    Genuineness,
    Signer,
    Trust,
    sign_bytes,
    sign_file,
    sign_files,
    verify_bytes,
    verify_file,
)

NAME = "signatures"
EXPLICIT = "1.2.840.10008.1.2.1"
AT_ONCE = SIGNATURE_BOUNDS.signing_at_once
BEGINS = {
    JPEGBaseline8Bit: b"\xff\xd8\xff\xe0",
    JPEG2000Lossless: b"\xff\x4f\xff\x51",
    RLELossless: b"\1\0\0\0\x40\0\0\0" + bytes(56),
}
# What of ours, how the row is called, what of dcmsign's. Those of SHIPPED are what the aim is about.
COMPARED = (
    ("sign", "sign", "dcmsign, sign"),
    ("sign", "sign, dcmsign with a sync of each file", "dcmsign and sync, sign"),
    ("sign", f"sign, {AT_ONCE} processes of dcmsign at once", "dcmsign at once, sign"),
    ("verify", "verify", "dcmsign, verify"),
)
SHIPPED = ("dcmsign, sign", "dcmsign, verify")
MUTATED = (EXPLICIT, IMPLICIT, BIG, DEFLATED, JPEGBaseline8Bit, JPEG2000Lossless, RLELossless)


def options(argv: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    made = parser(NAME, __doc__)
    made.add_argument("--rounds", type=int, default=3, help="times that everything is timed")
    made.add_argument("--small", type=int, default=40, help="small files of a round")
    made.add_argument("--large", type=int, default=2, help="large files of a round")
    made.add_argument("--folder-files", type=int, default=200, help="files of the folder")
    made.add_argument("--mutations", type=int, default=14_000, help="random changes")
    made.add_argument("--jobs", type=int, default=2, help="processes for the changes")
    arguments = made.parse_args(argv)
    quickly(arguments, rounds=1, small=3, large=1, folder_files=3, mutations=140)
    return arguments


def picture(side: tuple[int, int], number: int = 0, syntax: str = EXPLICIT) -> bytes:
    """A file with 16-bit pixels of chance, a nested sequence, private attributes, one of VR UN."""
    meta, data = FileMetaDataset(), Dataset()
    meta.MediaStorageSOPClassUID = data.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = f"1.2.826.0.1.3680043.8.498.7.{number + 1}"
    meta.TransferSyntaxUID = syntax
    data.PatientName, data.PatientID, data.Modality = "Phantom^Ann", "P-1", "CT"
    data.StudyInstanceUID, data.SeriesInstanceUID = (
        "1.2.826.0.1.3680043.8.498.8",
        "1.2.826.0.1.3680043.8.498.9",
    )
    code, reference = Dataset(), Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "1", "99X", "of an odd kind"
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = data.SOPClassUID, "1.2.3"
    reference.PurposeOfReferenceCodeSequence = [code]
    data.ReferencedImageSequence = [reference]
    data.add_new(0x00090010, "LO", "SCANWARD TEST")
    data.add_new(0x00091001, "UN", b"abcd")
    data.add_new(0x00091002, "LO", "hello")
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.Rows, data.Columns = side
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 12, 11, 0
    raw = random.Random(number).randbytes(2 * side[0] * side[1])
    if syntax in BEGINS:
        data.PixelData = encapsulate([BEGINS[syntax] + raw])
        data["PixelData"].is_undefined_length = True
    else:
        data.PixelData = raw
    data["PixelData"].VR = "OB" if syntax in BEGINS else "OW"
    data.file_meta, data.preamble = meta, bytes(128)
    out = BytesIO()
    pydicom.dcmwrite(out, data, enforce_file_format=True)
    return out.getvalue()


def somebody(folder: Path) -> tuple[Path, Path]:
    """A key and a certificate of its own, in files."""
    key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Benchmark")])
    now = datetime.now(UTC)
    own = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=30))
        .sign(key, hashes.SHA256())
    )
    plain = serialization.NoEncryption()
    pem = serialization.Encoding.PEM
    (folder / "key.pem").write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
    (folder / "cert.pem").write_bytes(own.public_bytes(pem))
    return folder / "key.pem", folder / "cert.pem"


class Timing:
    """Both ways over one set of files."""

    def __init__(
        self, files: list[Path], keys: tuple[Path, Path], dcmsign: str | None, *, together: bool
    ) -> None:
        self.files, self.dcmsign, self.together = files, dcmsign, together
        self.key, self.cert = keys
        self.signer, self.trust = Signer.load(*keys), Trust.load(keys[1])
        self.seconds: dict[str, list[float]] = {}
        self.bytes = sum(path.stat().st_size for path in files)

    def _time(self, name: str, run: Callable[[], None]) -> None:
        start = time.perf_counter()
        run()
        self.seconds.setdefault(name, []).append(time.perf_counter() - start)

    def round(self) -> None:
        """Everything once."""
        targets = [path.with_suffix(".signed") for path in self.files]
        theirs = [path.with_suffix(".theirs") for path in self.files]

        def sign() -> None:
            if not self.together:
                for path, target in zip(self.files, targets, strict=True):
                    sign_file(path, self.signer, target)
                return
            for path, _, error in sign_files(zip(self.files, targets, strict=True), self.signer):
                if error is not None:
                    raise RuntimeError(f"{path} was not signed") from error

        def verify() -> None:
            for path in targets:
                if verify_file(path, self.trust).genuineness is not Genuineness.GENUINE:
                    raise RuntimeError(f"{path} is not genuine")

        def sign_theirs(path: Path, target: Path, synced: bool = False) -> None:
            words = ["--sign", self.key, self.cert, "--mac-sha256", path, target]
            subprocess.run([str(self.dcmsign), *words], check=True, capture_output=True)
            if synced:
                _settle(target)

        def sign_all_theirs(synced: bool = False) -> None:
            for path, target in zip(self.files, theirs, strict=True):
                sign_theirs(path, target, synced)

        def sign_theirs_at_once() -> None:
            with ThreadPoolExecutor(AT_ONCE) as pool:
                list(pool.map(sign_theirs, self.files, theirs))

        def verify_theirs() -> None:
            for path in theirs:
                words = ["--verify", "--require-sig", "--add-cert-file", self.cert, path]
                subprocess.run([str(self.dcmsign), *words], check=True, capture_output=True)

        self._time("sign", sign)
        if self.dcmsign:
            self._time("dcmsign, sign", sign_all_theirs)
            self._time("dcmsign and sync, sign", lambda: sign_all_theirs(synced=True))
            if self.together:
                self._time("dcmsign at once, sign", sign_theirs_at_once)
        self._time("verify", verify)
        if self.dcmsign:
            self._time("dcmsign, verify", verify_theirs)
        for path in (*targets, *theirs):
            path.unlink(missing_ok=True)


def _settle(path: Path) -> None:
    for place in (path, path.parent):
        number = os.open(place, os.O_RDONLY)
        os.fsync(number)
        os.close(number)


def _part(numbers: range, keys: tuple[Path, Path]) -> Tally:
    signer, trust = Signer.load(*keys), Trust.load(keys[1])
    tally, chance = Tally(), random.Random(numbers.start)
    subjects = []
    for syntax in MUTATED:
        data = sign_bytes(picture((8, 8), syntax=syntax), signer)
        (one,) = verify_bytes(data, trust).signatures
        subjects.append((Subject.of(syntax, data), one.covered))
    for number in numbers:
        subject, covered = subjects[number % len(subjects)]
        kind = list(CHANGES)[number // len(subjects) % len(CHANGES)]
        tally.change(subject, kind, chance, lambda data: verify_bytes(data, trust), covered)
    return tally


def mutate(count: int, folder: Path, jobs: int, say: Say) -> dict[str, Any]:
    """So many changes, spread over syntaxes and kinds; what came of them."""
    keys, tally, start = somebody(folder), Tally(), time.perf_counter()
    step = -(-count // (10 * jobs))
    with ProcessPoolExecutor(jobs) as pool:
        parts = [range(n, min(n + step, count)) for n in range(0, count, step)]
        for one in pool.map(_part, parts, [keys] * len(parts)):
            say(f"changes: a part of {len(parts)}, wrong {len(one.wrong)}")
            tally.same += one.same
            tally.wrong += one.wrong
            for kind, counts in one.verdicts.items():
                tally.verdicts.setdefault(kind, Counter()).update(counts)
    verdicts: Counter[str] = Counter()
    for counts in tally.verdicts.values():
        verdicts.update(counts)
    return {
        "changes": count,
        "same_file": tally.same,
        "verdicts": dict(verdicts),
        "by_kind": {kind: dict(counts) for kind, counts in tally.verdicts.items()},
        "genuine_though_changed": len(tally.wrong),
        "wrong": [(name, kind, data.hex()) for name, kind, data in tally.wrong[:20]],
        "seconds": time.perf_counter() - start,
    }


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure."""
    say = sayer()
    dcmsign = shutil.which("dcmsign")
    sets: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        keys = somebody(folder)
        for what, side, count in (
            ("small", (64, 72), arguments.small),
            ("large", (4096, 4096), arguments.large),
            ("folder", (512, 512), arguments.folder_files),
        ):
            inside = folder / what
            inside.mkdir()
            files = [inside / f"{n}.dcm" for n in range(count)]
            for n, path in enumerate(files):
                path.write_bytes(picture(side, n))
            os.sync()
            timing = Timing(files, keys, dcmsign, together=what == "folder")
            time.sleep(
                1.1 if arguments.rounds > 1 else 0
            )  # dcmsign wants a certificate older than the second
            for _ in range(arguments.rounds):
                timing.round()
            sets[what] = {"files": count, "bytes": timing.bytes, "seconds": timing.seconds}
            say(what)
            shutil.rmtree(inside)
        changes = mutate(arguments.mutations, folder, arguments.jobs, say)
        say("changes")
    return {"sets": sets, "mutations": changes}


def report(told: dict[str, Any]) -> str:
    """For docs/results.md."""
    rows = []
    reached = True
    for name, one in told["sets"].items():
        middle = {what: statistics.median(seconds) for what, seconds in one["seconds"].items()}
        for what, label, against in COMPARED:
            theirs = one["seconds"].get(against)
            if theirs is None and against not in SHIPPED:
                continue
            ratios = [b / a for a, b in zip(one["seconds"][what], theirs or [], strict=False)]
            ratio = statistics.median(ratios) if ratios else None
            reached &= name == "small" or against not in SHIPPED or ratio is None or ratio >= 1
            row = [f"{name}: {one['files']} of {one['bytes'] / one['files'] / 1e6:.3g} MB", label]
            for seconds in (middle[what], middle.get(against)):
                row += (
                    ["-", "-"]
                    if seconds is None
                    else [f"{one['files'] / seconds:.1f}", f"{one['bytes'] / seconds / 1e6:.1f}"]
                )
            rows.append(
                [*row, "-" if ratio is None else f"{ratio:.2g} ({min(ratios):.2g} to {max(ratios):.2g})"]
            )
    head = ["files", "", "ours, files/s", "ours, MB/s", "dcmsign, files/s", "dcmsign, MB/s", "ours / dcmsign"]
    changes = told["mutations"]
    words = ", ".join(
        f"{n:,} {word}" for word, n in sorted(changes["verdicts"].items(), key=lambda kv: -kv[1])
    )
    kinds = [
        [kind, f"{sum(counts.values()):,}", f"{counts.get('genuine', 0):,}"]
        for kind, counts in changes["by_kind"].items()
    ]
    return "\n\n".join(
        [
            f"Medians of {told['options']['rounds']} rounds; ratios with the least and the largest of a round. Ours in "
            f"one warm process, each file on the disk (fsync) before it takes its name, {AT_ONCE} of the folder at "
            "once, else one after the other; dcmsign as it is, one process a file, one after the other, not waiting "
            "for the disk, unless a row says otherwise. RSA 2048 with SHA-256. At least dcmsign's speed on large "
            f"files and on folders: {'reached' if reached else 'not reached'}.",
            table(head, rows),
            f"Random single changes of signed files: {changes['changes']:,}, of which {changes['same_file']:,} "
            f"gave the same bytes. Found: {words}. Called genuine although pydicom reads something else in a signed "
            f"element: **{changes['genuine_though_changed']}**. The other genuine ones changed what is not signed: "
            "preamble, file meta information, the private element of VR UN, what was added beside.",
            table(["change", "made", "still genuine, nothing signed changed"], kinds),
        ]
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and save."""
    words = sys.argv[1:] if argv is None else list(argv)
    arguments = options(words)
    result = run(arguments)
    save(arguments, NAME, words, result)
    if not arguments.json:
        print(report({"options": vars(arguments), **result}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
