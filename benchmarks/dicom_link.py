"""What the DICOM guard costs: objects a second and time added, against the same scanner without it, in one run.

The scanner is DCMTK's storescp. Protocols go to it directly and through the guard in turn, each in an association
of its own (latency) and many in one association (DCMTK's storescu, throughput). The guard's three processes run as
at a site: sockets, judge of protocols, audit writer with durable records.

  python -m benchmarks.dicom_link --objects 200
  python -m benchmarks.dicom_link --quick
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import ROOT, parser, quickly, save, sayer, table
from scanward.guard.dicom_audit import DurableRecorder
from scanward.guard.dicom_service import DicomService
from scanward.keys import SigningKey, write_pair
from scanward.transport.dicom import Caller, Peer

sys.path.insert(0, str(ROOT / "tests"))
from _dicom import DEFINED, LOCAL, book_in, file_of, head, program, settings, storescp


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Measure, save, print."""
    words = list(sys.argv[1:] if argv is None else argv)
    made = parser("dicom_link", __doc__)
    made.add_argument("--objects", type=int, default=200, help="objects of each kind of run")
    arguments = made.parse_args(words)
    quickly(arguments, objects=5)
    say = sayer()
    with tempfile.TemporaryDirectory() as name:
        result = measured(Path(name), arguments.objects, say)
    save(arguments, "dicom_link", words, result)
    if not arguments.json:
        print(shown(result))
    return result


def measured(folder: Path, count: int, say: Any) -> dict[str, Any]:
    """Both ways, in turn, so that whatever else runs on the machine meets both alike."""
    protocols = [head(name=f"CT Head {number}") for number in range(count)]
    book = book_in(folder / "book", *protocols)
    files = [book / f"{each.uid}.dcm" for each in protocols]
    write_pair(folder / "log", SigningKey.generate())
    caller = Caller("SENDER")
    direct_ms, guarded_ms = [], []
    with storescp(folder / "scanner") as scanner:
        (folder / "audit").mkdir()
        recorder = DurableRecorder(folder / "audit", folder / "log.key")
        try:
            with DicomService(settings(folder, scanner=scanner, book=book), recorder) as service:
                guard = Peer(LOCAL, service.port, "GUARD")
                say(f"{count} objects, each in its own association")
                for each in protocols:
                    data = file_of(each)
                    for peer, kept in ((scanner, direct_ms), (guard, guarded_ms)):
                        began = time.perf_counter()
                        sent = caller.store(peer, DEFINED, data)
                        kept.append(1000 * (time.perf_counter() - began))
                        if sent.reply is None or sent.reply.status != 0:
                            raise RuntimeError(f"{peer.title} answered {sent}")
                say(f"{count} objects in one association")
                direct = in_one(scanner, files)
                guarded = in_one(guard, files)
        finally:
            recorder.close()
    return {
        "objects": count,
        "object_bytes": files[0].stat().st_size,
        "one_association_each_ms": {"direct": percentiles(direct_ms), "guarded": percentiles(guarded_ms)},
        "added_ms": percentiles([b - a for a, b in zip(direct_ms, guarded_ms, strict=True)]),
        "in_one_association_per_s": {"direct": count / direct, "guarded": count / guarded},
    }


def in_one(peer: Peer, files: list[Path]) -> float:
    """Seconds that storescu takes for all files."""
    command = [program("storescu"), "-R", "-aet", "SENDER", "-aec", peer.title, peer.host, str(peer.port)]
    began = time.perf_counter()
    subprocess.run([*command, *map(str, files)], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def percentiles(values: list[float]) -> dict[str, float]:
    """Median, 99th percentile, maximum."""
    return {
        "p50": float(np.percentile(values, 50)),
        "p99": float(np.percentile(values, 99)),
        "max": max(values),
    }


def shown(result: dict[str, Any]) -> str:
    """The result as a table."""
    each, rate = result["one_association_each_ms"], result["in_one_association_per_s"]
    rows = [
        [way, *(f"{each[way][p]:.1f}" for p in ("p50", "p99", "max")), f"{rate[way]:.1f}"]
        for way in ("direct", "guarded")
    ]
    added = result["added_ms"]
    rows.append(["added", *(f"{added[p]:.1f}" for p in ("p50", "p99", "max")), ""])
    return table(["way", "p50 ms", "p99 ms", "max ms", "objects/s in one association"], rows)


if __name__ == "__main__":
    main()
