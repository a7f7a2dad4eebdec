"""Fuzz everything that reads a bundle: any bytes give a result or a ScanwardError, never anything else.

    python tests/fuzz/fuzz_bundle.py [--seconds 30] [--seed 0]     our own mutations, nothing to install
    python tests/fuzz/fuzz_bundle.py --atheris [libFuzzer options]  coverage-guided, needs the package atheris

The manifest is signed afresh for every input, with the key that is trusted: the fuzzer starts where an
attacker with a stolen key does. An input that breaks the promise is written to ``crash-<sha256>`` and the
traceback shown.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from _bundle import DEVICE, KEY, check, files_of, resealed
from scanward.bundle import VersionFloor, graphs
from scanward.bundle.writing import signed
from scanward.commands import Role
from scanward.errors import ScanwardError
from scanward.keys import SigningKey, VerifyKey
from scanward.layers.onnx_session import session

FILES = files_of()
LISTED = {p: d for p, d in FILES.items() if p not in ("manifest.json", "signature.json")}
GRAPH = "graphs/context_free.net.onnx"
FOLDER = tempfile.TemporaryDirectory()
FILE = Path(FOLDER.name) / "file"
FLOOR = b'{"accepted":{"acme|ct 64|0123abcd|performed":[7,"00"]},"kind":"scanward.versions"}'


def _on_disk(data: bytes) -> Path:
    FILE.unlink(missing_ok=True)
    FILE.touch(0o600)
    FILE.write_bytes(data)
    return FILE


# Name -> (what to do with fuzzed bytes, a sound input to begin from).
TARGETS = {
    "manifest": (lambda d: check(signed(LISTED, d, KEY)), FILES["manifest.json"]),
    "signature": (lambda d: check({**FILES, "signature.json": d}), FILES["signature.json"]),
    "settings": (lambda d: check(resealed({**FILES, "settings.json": d})), FILES["settings.json"]),
    "arrays": (lambda d: check(resealed({**FILES, "arrays.safetensors": d})), FILES["arrays.safetensors"]),
    "graph": (lambda d: graphs.check(d, "fuzz"), FILES[GRAPH]),
    "session": (lambda d: session(d, "fuzz"), FILES[GRAPH]),
    "floor": (lambda d: VersionFloor(_on_disk(d)).lowest(DEVICE, Role.PERFORMED), FLOOR),
    "private key": (lambda d: SigningKey.load(_on_disk(d), b"words"), KEY.pem()),
    "public key": (lambda d: VerifyKey.load(_on_disk(d)), KEY.verify_key.pem()),
}
NAMES = tuple(TARGETS)
INTERESTING = (
    b"\0",
    b"\xff" * 8,
    b'"',
    b"{",
    b"[" * 70,
    b"1e999",
    b"NaN",
    b"\\ud800",
    b"../",
    b"-1",
    b"9" * 30,
)


def one(data: bytes) -> tuple[str, bool]:
    """Try one input (first byte: the target); its target, and whether it was accepted."""
    name = NAMES[data[0] % len(NAMES)] if data else NAMES[0]
    try:
        TARGETS[name][0](data[1:])
    except ScanwardError as error:
        if not error.what or not str(error).encode():
            raise AssertionError(f"{name}: an error that says nothing") from error
        return name, False
    return name, True


def mutated(rng: random.Random, data: bytes) -> bytes:
    """A few small damages to ``data``."""
    out = bytearray(data)
    for _ in range(rng.randint(0, 4)):
        at = rng.randint(0, len(out))
        kind = rng.randrange(6)
        if kind == 0 and at < len(out):
            out[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            out[at : at + rng.randint(0, 9)] = rng.choice(INTERESTING)
        elif kind == 2:
            del out[at : at + rng.randint(1, 30)]
        elif kind == 3:
            out[at:at] = rng.randbytes(rng.randint(1, 9))
        elif kind == 4:
            start = rng.randint(0, len(out))
            out[at:at] = out[start : start + rng.randint(1, 60)]
        else:
            del out[at:]
    return bytes(out)


def main() -> int:
    """Run for some seconds; 1 when an input broke the promise."""
    if "--atheris" in sys.argv:
        import atheris

        sys.argv.remove("--atheris")
        atheris.instrument_all()
        atheris.Setup(sys.argv, one)
        atheris.Fuzz()
        return 0
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    tried: Counter[str] = Counter()
    accepted: Counter[str] = Counter()
    end = time.monotonic() + options.seconds
    while time.monotonic() < end:
        index = rng.randrange(len(NAMES))
        data = bytes([index]) + mutated(rng, TARGETS[NAMES[index]][1])
        try:
            name, good = one(data)
        except BaseException:
            crash = Path(f"crash-{hashlib.sha256(data).hexdigest()[:16]}")
            crash.write_bytes(data)
            print(f"{NAMES[index]}: broken by {crash}", file=sys.stderr)
            raise
        tried[name] += 1
        accepted[name] += good
    for name in NAMES:
        print(f"{name:12} {tried[name]:8} tried {accepted[name]:8} accepted")
    return 0


if __name__ == "__main__":
    sys.exit(main())
