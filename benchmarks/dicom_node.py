"""What `scanward node` costs: files and megabytes a second through it, beside the same files sent straight, in one run.

The archive is DCMTK's storescp, which writes each object as it comes; the modality is DCMTK's storescu, one association
for all files of a set. Straight, through a signing node, through a verifying node (then files are signed already, and
go straight signed, too), and through both one after the other. Nodes are processes as a site starts them, warm. Rounds
in turn, so that whatever else the machine does falls on all. Before anything is timed, what arrives is compared byte
for byte: a verifying node hands on the very data set, a signing one the same with a signature that is genuine.

  python -m benchmarks.dicom_node
  python -m benchmarks.dicom_node --quick
"""

from __future__ import annotations

import argparse
import json
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.common import ROOT, Say, parser, quickly, save, sayer, table
from benchmarks.signatures import picture, somebody
from scanward.signatures import Genuineness, Signer, Trust, sign_file, verify_file
from scanward.signatures.elements import parse
from scanward.signatures.encoding import DIGITAL_SIGNATURES, MAC_PARAMETERS
from scanward.transport.dicom import Peer
from scanward.transport.dicom_part10 import unframed

sys.path.insert(0, str(ROOT / "tests"))
from _archive import storescp
from _dicom import LOCAL, program

NAME = "dicom_node"
# What a way is called, whether its files are signed already, which nodes it goes through, what it is compared with.
WAYS = (
    ("straight", False, (), ""),
    ("straight, signed files", True, (), ""),
    ("through --sign", False, ("sign",), "straight"),
    ("through --verify", True, ("verify",), "straight, signed files"),
    ("through --sign, then --verify", False, ("sign", "verify"), "straight"),
)


def options(argv: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    made = parser(NAME, __doc__)
    made.add_argument("--rounds", type=int, default=3, help="times that everything is timed")
    made.add_argument("--small", type=int, default=50, help="files of 10 kB")
    made.add_argument("--middle", type=int, default=30, help="files of 0.5 MB")
    made.add_argument("--large", type=int, default=3, help="files of 33 MB")
    arguments = made.parse_args(argv)
    quickly(arguments, rounds=1, small=2, middle=2, large=1)
    return arguments


@dataclass
class Set:
    """Files of one size, unsigned and signed."""

    name: str
    plain: list[Path]
    signed: list[Path]

    @classmethod
    def of(cls, folder: Path, name: str, side: tuple[int, int], count: int, signer: Signer) -> Set:
        """Made anew."""
        plain, signed = [], []
        for number in range(count):
            plain.append(folder / f"{name}-{number}.dcm")
            signed.append(folder / f"{name}-{number}-signed.dcm")
            plain[-1].write_bytes(picture(side, number))
            sign_file(plain[-1], signer, signed[-1])
        return cls(name, plain, signed)

    def files(self, signed: bool) -> list[Path]:
        """Those that a way sends."""
        return self.signed if signed else self.plain


@contextmanager
def node(log: Path, *arguments: str) -> Iterator[int]:
    """`scanward node` on a free port until the block ends; its port. RuntimeError when it did not hand on all.

    It writes into a file: a pipe that nobody reads would stop it once it is full.
    """
    words = ["node", "--json", "--listen", f"{LOCAL}:0", "--title", "NODE", *arguments]
    command = [sys.executable, "-m", "scanward.cli", *words, "--caller", "SENDER", "--caller", "NODE"]
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out)
    try:
        yield int(_line(process, log, 0)["listen"].rpartition(":")[2])
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)
        told = _line(process, log, -1)["counts"]
        if told["handed on"] != told["received"]:
            raise RuntimeError(f"the node did not hand on all: {told}")
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def _line(process: subprocess.Popen[bytes], log: Path, number: int) -> Any:
    """One of the lines that a node has printed, waited for while it runs."""
    until = time.monotonic() + 60
    while not (lines := log.read_bytes().split(b"\n")[:-1]):
        if process.poll() is not None or time.monotonic() > until:
            raise RuntimeError("the node does not start")
        time.sleep(0.05)
    return json.loads(lines[number])


def send(to: Peer, files: Sequence[Path]) -> float:
    """Seconds that storescu takes for all files."""
    command = [program("storescu"), "-R", "-aet", "SENDER", "-aec", to.title, to.host, str(to.port)]
    began = time.perf_counter()
    subprocess.run([*command, *map(str, files)], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def arrived(folder: Path) -> dict[str, tuple[Path, bytes]]:
    """What the archive has: path and data set without signatures, by the file's name."""
    found = {}
    for path in folder.iterdir():
        parsed = parse(path.read_bytes())
        parts = [one for one in parsed.elements if one.tag not in (MAC_PARAMETERS, DIGITAL_SIGNATURES)]
        bare = b"".join(bytes(parsed.data[one.start : one.end]) for one in parts)
        found[path.name] = (path, bare)
    return found


def emptied(folder: Path) -> None:
    """No file left."""
    for path in folder.iterdir():
        path.unlink()


def compared(one: Set, ways: dict[str, Peer], folder: Path, trust: Trust) -> None:
    """RuntimeError when anything arrives otherwise than it came."""
    emptied(folder)
    send(ways["straight"], one.plain)
    straight = {name: bare for name, (_, bare) in arrived(folder).items()}
    for name, signed, through, _ in WAYS:
        emptied(folder)
        sent = one.files(signed)
        send(ways[name], sent)
        found = arrived(folder)
        if {key: bare for key, (_, bare) in found.items()} != straight or len(found) != len(sent):
            raise RuntimeError(f"{one.name}, {name}: other bytes arrived than straight")
        if signed or through:
            for path, _ in found.values():
                if verify_file(path, trust).genuineness is not Genuineness.GENUINE:
                    raise RuntimeError(f"{one.name}, {name}: {path} is not genuine any more")
        if signed:
            came = {bytes(unframed(path.read_bytes())[1]) for path, _ in found.values()}
            if came != {bytes(unframed(path.read_bytes())[1]) for path in sent}:
                raise RuntimeError(f"{one.name}, {name}: other bytes arrived than were sent")


def run(arguments: argparse.Namespace, say: Say) -> dict[str, Any]:
    """Measure."""
    sets: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        key, cert = somebody(folder)
        signer, trust = Signer.load(key, cert), Trust.load(cert)
        made = [
            Set.of(folder, what, side, count, signer)
            for what, side, count in (
                ("small", (64, 72), arguments.small),
                ("middle", (512, 512), arguments.middle),
                ("large", (4096, 4096), arguments.large),
            )
        ]
        signing = ("--sign", "--key", str(key), "--cert", str(cert))
        verifying = ("--verify", "--trust", str(cert))
        archive = folder / "archive"
        with storescp(archive) as pacs:
            onward = ("--next", f"{pacs.title}@{LOCAL}:{pacs.port}")
            logs = [folder / f"{number}.log" for number in range(3)]
            with node(logs[0], *signing, *onward) as first, node(logs[1], *verifying, *onward) as second:  # noqa: SIM117
                with node(logs[2], *signing, "--next", f"NODE@{LOCAL}:{second}") as both:
                    ends = {
                        (): pacs,
                        ("sign",): Peer(LOCAL, first, "NODE"),
                        ("verify",): Peer(LOCAL, second, "NODE"),
                        ("sign", "verify"): Peer(LOCAL, both, "NODE"),
                    }
                    ways = {way: ends[through] for way, _, through, _ in WAYS}
                    for one in made:
                        compared(one, ways, archive, trust)
                        seconds: dict[str, list[float]] = {way: [] for way in ways}
                        for _ in range(arguments.rounds):
                            for way, signed, _, _ in WAYS:
                                seconds[way].append(send(ways[way], one.files(signed)))
                        size = sum(path.stat().st_size for path in one.plain)
                        sets[one.name] = {"files": len(one.plain), "bytes": size, "seconds": seconds}
                        say(one.name)
    return {"sets": sets}


def report(told: dict[str, Any]) -> str:
    """For docs/results.md."""
    rows = []
    for name, one in told["sets"].items():
        count, size = one["files"], one["bytes"]
        for way, _, _, against in WAYS:
            seconds = one["seconds"][way]
            middle = statistics.median(seconds)
            row = [f"{name}: {count} of {size / count / 1e6:.3g} MB", way]
            row += [f"{count / middle:.1f}", f"{size / middle / 1e6:.1f}"]
            if against:
                pairs = list(zip(one["seconds"][against], seconds, strict=True))
                ratios = [a / b for a, b in pairs]
                added = statistics.median(1000 * (b - a) / count for a, b in pairs)
                row += [
                    f"{statistics.median(ratios):.2g} ({min(ratios):.2g} to {max(ratios):.2g})",
                    f"{added:.1f}",
                ]
            else:
                row += ["", ""]
            rows.append(row)
    head = ["files", "way", "files/s", "MB/s", "of the speed straight", "added, ms a file"]
    return "\n\n".join(
        [
            f"storescu to storescp, one association for all files of a set; medians of {told['options']['rounds']} "
            "rounds, ratios with the least and the largest of a round. RSA 2048 with SHA-256. Everything arrived byte "
            "for byte, and genuine where it was signed. Signed files are compared with signed files sent straight.",
            table(head, rows),
        ]
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and save."""
    words = sys.argv[1:] if argv is None else list(argv)
    arguments = options(words)
    result = run(arguments, sayer())
    save(arguments, NAME, words, result)
    if not arguments.json:
        print(report({"options": vars(arguments), **result}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
