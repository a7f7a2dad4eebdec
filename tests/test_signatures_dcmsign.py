"""Signatures of ours verified by DCMTK's dcmsign, and its by ours, over syntaxes, algorithms and profiles."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from pydicom.encaps import encapsulate
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLossless,
    JPEGLSLossless,
    RLELossless,
)

from _signatures import DEFLATED, certificate, ec_key, made, pem, rsa_key
from scanward.signatures import Coverage, Genuineness, Report, Signer, Trust, sign_bytes, verify_bytes
from scanward.signatures.elements import parse
from scanward.signatures.encoding import signable, stream

SYNTAXES = {
    "implicit": ImplicitVRLittleEndian,
    "explicit": ExplicitVRLittleEndian,
    "big endian": ExplicitVRBigEndian,
    "deflated": DEFLATED,
    "RLE": RLELossless,
    "JPEG": JPEGBaseline8Bit,
    "JPEG lossless": JPEGLossless,
    "JPEG-LS": JPEGLSLossless,
    "JPEG 2000": JPEG2000Lossless,
}
LAX = Coverage.of(["uids"])
pytestmark = pytest.mark.skipif(
    shutil.which("dcmsign") is None, reason="no dcmsign (Debian: apt install dcmtk)"
)


def dcmsign(*words: object, status: int = 0) -> str:
    done = subprocess.run(
        ["dcmsign", *map(str, words)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode == 0) is (status == 0), done.stderr + done.stdout
    return done.stderr + done.stdout


class Bench:
    """An RSA and an ECDSA signer with certificates of their own, in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files: dict[str, tuple[Path, Path]] = {}
        for name, key in (("rsa", rsa_key()), ("ecdsa", ec_key())):
            own = certificate(f"Tester {name}", key)
            self.files[name] = (pem(folder, f"{name}.key", key), pem(folder, f"{name}.pem", own))

    def signer(self, kind: str = "rsa", **more: Any) -> Signer:
        return Signer.load(*self.files[kind], **more)

    def trust(self, kind: str = "rsa", required: Coverage = LAX) -> Trust:
        return Trust.load(self.files[kind][1], required=required)

    def theirs(self, data: bytes, *words: str, kind: str = "rsa", name: str = "in.dcm") -> bytes:
        source, target = self.folder / name, self.folder / f"signed-{name}"
        source.write_bytes(data)
        dcmsign("--sign", *self.files[kind], *words, source, target)
        return target.read_bytes()

    def judged(self, data: bytes, *words: str, kind: str = "rsa", status: int = 0) -> str:
        path = self.folder / "ours.dcm"
        path.write_bytes(data)
        return dcmsign(
            "--verify", "--require-sig", "--add-cert-file", self.files[kind][1], *words, path, status=status
        )


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("keys"))


def good(report: Report) -> Report:
    assert report.genuineness is Genuineness.GENUINE, report.reasons
    return report


@pytest.mark.parametrize("syntax", list(SYNTAXES))
def test_in_every_syntax_both_ways(bench: Bench, syntax: str, tmp_path: Path) -> None:
    data = made(SYNTAXES[syntax])
    ours = sign_bytes(data, bench.signer())
    bench.judged(ours)
    good(verify_bytes(ours, bench.trust()))
    theirs = bench.theirs(data, "--mac-sha256")
    good(verify_bytes(theirs, bench.trust()))
    # Both in one file: whoever comes second leaves the first as it was.
    both = sign_bytes(theirs, bench.signer())
    bench.judged(both)
    assert len(good(verify_bytes(both, bench.trust())).signatures) == 2
    again = bench.theirs(ours, "--mac-sha512")
    bench.judged(again)
    assert len(good(verify_bytes(again, bench.trust())).signatures) == 2


@pytest.mark.parametrize("syntax", list(SYNTAXES))
def test_the_bytes_are_those_that_dcmsign_signs(bench: Bench, syntax: str) -> None:
    dump = bench.folder / "dump"
    bench.theirs(made(SYNTAXES[syntax]), "--mac-sha256", "--dump", str(dump))
    parsed = parse((bench.folder / "in.dcm").read_bytes())
    ours = b"".join(map(bytes, stream(parsed, [one for one in parsed.elements if signable(one)])))
    assert len(ours) > 300
    assert dump.read_bytes().startswith(ours)


@pytest.mark.parametrize("mac", ["SHA256", "SHA384", "SHA512"])
@pytest.mark.parametrize("kind", ["rsa", "ecdsa"])
@pytest.mark.parametrize("profile", ["base", "creator", "authorization"])
def test_every_algorithm_and_profile_both_ways(bench: Bench, mac: str, kind: str, profile: str) -> None:
    data = made()
    ours = sign_bytes(data, bench.signer(kind, profile=profile, mac=mac))
    required = {"creator": ("--require-creator",), "authorization": ("--require-auth",), "base": ()}[profile]
    bench.judged(ours, *(required if kind == "rsa" else ()), kind=kind)
    (one,) = good(verify_bytes(ours, bench.trust(kind))).signatures
    assert one.in_profile is (kind == "rsa")
    assert one.algorithm.endswith(f"with {mac}")
    assert (0x00100010 in one.covered) is (profile != "creator")
    flag = {"base": "--profile-base", "creator": "--profile-creator", "authorization": "--profile-auth"}[
        profile
    ]
    words = (flag,) if kind == "rsa" else ()
    theirs = bench.theirs(data, *words, f"--mac-{mac.lower()}", kind=kind)
    good(verify_bytes(theirs, bench.trust(kind)))


@pytest.mark.parametrize(
    ("word", "name"), [("--mac-sha1", "SHA1"), ("--mac-md5", "MD5"), ("--mac-ripemd160", "RIPEMD160")]
)
def test_legacy_digests_are_verified_and_called_weak(bench: Bench, word: str, name: str) -> None:
    theirs = bench.theirs(made(), word)
    report = verify_bytes(theirs, bench.trust())
    assert report.genuineness is Genuineness.WEAK
    assert [one.algorithm for one in report.signatures] == [f"RSA 2048 with {name}"]
    assert any("proves nothing any more" in reason for reason in report.reasons)
    place = theirs.index(b"Phantom^Ann")
    altered = theirs[:place] + b"Phantom^Bob" + theirs[place + 11 :]
    assert verify_bytes(altered, bench.trust()).genuineness is Genuineness.ALTERED


def test_chosen_tags_purposes_and_signatures_of_items(bench: Bench) -> None:
    theirs = bench.theirs(
        made(), "--mac-sha256", "-t", "PatientName", "-t", "0008,0018", "--sig-purpose", "5"
    )
    report = verify_bytes(theirs, bench.trust())
    assert report.genuineness is Genuineness.PARTIAL
    assert report.signatures[0].covered == {0x00080018, 0x00100010}
    assert report.signatures[0].purpose == "Verification Signature"
    assert good(verify_bytes(theirs, bench.trust(required=Coverage.of(["0010,0010"])))).unsigned
    source = bench.folder / "item.dcm"
    source.write_bytes(made())
    target = bench.folder / "item-signed.dcm"
    dcmsign("--sign-item", *bench.files["rsa"], "ReferencedImageSequence[0]", "--mac-sha256", source, target)
    report = verify_bytes(target.read_bytes(), bench.trust())
    assert report.genuineness is Genuineness.UNSIGNED  # of the file as a whole nothing is said
    assert [(one.where, one.good) for one in report.signatures] == [("(0008,1140)[1]", True)]
    whole = sign_bytes(target.read_bytes(), bench.signer())
    bench.judged(whole)
    good(verify_bytes(whole, bench.trust()))
    place = whole.index(b"1.2.3\0")
    broken = whole[:place] + b"1.2.4\0" + whole[place + 6 :]
    report = verify_bytes(broken, bench.trust())
    assert report.genuineness is Genuineness.ALTERED
    assert [one.fits.value for one in report.signatures] == ["no", "no"]


def test_lengths_of_fragments_that_ours_sign_too_are_no_hindrance(bench: Bench) -> None:
    """Where fragments could be read in two ways our signers sign their lengths, in private elements of their item."""
    frame = encapsulate([b"\xff\xd8\xff\xe0" + bytes(96)], fragments_per_frame=3)
    data = made(JPEGBaseline8Bit, NumberOfFrames=1, PixelData=frame)
    ours = sign_bytes(data, bench.signer())
    assert b"SCANWARD SIGNATURE" in ours
    bench.judged(ours)
    good(verify_bytes(ours, bench.trust()))
    # dcmsign does not: then it is a doubt.
    theirs = bench.theirs(data, "--mac-sha256")
    report = verify_bytes(theirs, bench.trust())
    assert report.genuineness is Genuineness.MALFORMED
    assert [one.fits.value for one in report.signatures] == ["unknown"]


def test_what_dcmsign_finds_altered_ours_does(bench: Bench) -> None:
    ours = sign_bytes(made(), bench.signer())
    place = ours.index(b"Phantom^Ann")
    altered = ours[:place] + b"Phantom^Bob" + ours[place + 11 :]
    bench.judged(altered, status=1)
    assert verify_bytes(altered, bench.trust()).genuineness is Genuineness.ALTERED


@pytest.mark.parametrize(
    "steps",
    [("+ti",), ("+tb",), ("+te", "-e"), ("+te", "+e", "+g"), ("+ti", "-e")],
)
def test_a_file_that_is_only_written_another_way_is_the_same(
    bench: Bench, steps: Sequence[str], tmp_path: Path
) -> None:
    """Native transfer syntaxes, lengths of sequences and group lengths are no part of what is signed."""
    if shutil.which("dcmconv") is None:
        pytest.skip("no dcmconv (Debian: apt install dcmtk)")
    source, target = tmp_path / "a.dcm", tmp_path / "b.dcm"
    source.write_bytes(sign_bytes(made(private=False), bench.signer()))
    subprocess.run(["dcmconv", *steps, source, target], check=True, timeout=60)
    assert target.read_bytes() != source.read_bytes()
    good(verify_bytes(target.read_bytes(), bench.trust()))
    bench.judged(target.read_bytes())
