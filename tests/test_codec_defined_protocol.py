"""Defined Procedure Protocol and Protocol Approval: written is read back, hostile bytes are refused.

No public sample exists. Three things stand in for one: the round trip for generated protocols, the standard's
module tables as highdicom carries them (an oracle we did not write), and DCMTK reading our files.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import string
import struct
import subprocess
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.valuerep import format_number_as_ds

from scanward.codecs.defined_protocol import (
    dataset_bytes,
    decode_defined_protocol,
    encode_defined_protocol,
    read_dataset,
)
from scanward.codecs.defined_protocol_approval import decode_approval, encode_approval
from scanward.codecs.defined_protocol_build import (
    APPROVED,
    DISAPPROVED,
    age_string,
    approval,
    constrain,
    element,
    protocol,
)
from scanward.codecs.defined_protocol_fields import (
    ACQUISITION_SEQUENCE,
    BEAM_SEQUENCE,
    SCANWARD_CREATOR,
    field_of,
)
from scanward.codecs.defined_protocol_model import (
    Approval,
    Assertion,
    Code,
    Constraint,
    ConstraintType,
    Element,
    ElementKind,
    Equipment,
    Protocol,
    ProtocolBook,
    Reference,
    Step,
    book,
    book_from_json,
    to_json,
)
from scanward.commands import HEAD_PHANTOM
from scanward.errors import DecodeError, InputError, ScanwardError, SettingsError

# --- strategies: everything the vocabulary can hold and DICOM can carry ---

# Letters of several scripts (UTF-8), no control characters, no backslash, no blanks around.
words = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Zl", "Zp"), exclude_characters="\\^="),
    min_size=1,
    max_size=16,
).filter(lambda t: t == t.strip() and bool(t))
code_strings = st.text(string.ascii_uppercase + string.digits + "_", min_size=1, max_size=16)
uids = st.integers(1, 2**100).map(lambda n: f"2.25.{n}")
moments = st.datetimes().map(lambda d: f"{d.year:04d}{d:%m%d%H%M%S}")
codes = st.builds(Code, code_strings, code_strings, words, st.just("") | code_strings) | st.builds(
    Code, st.text(string.ascii_letters, min_size=17, max_size=60), code_strings, words
)
doubles = st.floats(allow_nan=False, allow_infinity=False)
decimals = st.floats(-1e9, 1e9).map(lambda x: float(format_number_as_ds(x)))
even_bytes = st.binary(max_size=8).map(lambda b: (b + b) or b"ab")


def whole(bits: int, signed: bool) -> st.SearchStrategy[int]:
    return st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else st.integers(0, 2**bits - 1)


SCALARS: dict[str, st.SearchStrategy[Any]] = {
    "AE": code_strings,
    "AS": st.integers(0, 999).map(lambda n: f"{n:03d}Y"),
    "AT": whole(32, False),
    "CS": code_strings,
    "DA": st.dates().map(lambda d: f"{d.year:04d}{d:%m%d}"),
    "DS": decimals,
    "DT": moments,
    "FD": doubles,
    "FL": st.floats(allow_nan=False, allow_infinity=False, width=32),
    "IS": whole(32, True),
    "LO": words,
    "LT": words,
    "OB": even_bytes,
    "OW": even_bytes,
    "PN": words,
    "SH": words,
    "SL": whole(32, True),
    "SQ": codes,
    "SS": whole(16, True),
    "ST": words,
    "SV": whole(64, True),
    "TM": st.times().map(lambda t: f"{t:%H%M%S}"),
    "UC": words,
    "UI": uids,
    "UL": whole(32, False),
    "UN": even_bytes,
    "UR": st.just("https://example.org/protocol"),
    "US": whole(16, False),
    "UT": words,
    "UV": whole(64, False),
}
ONE_VALUE = {"LT", "ST", "UT", "UR", "OB", "OW", "UN"}


@st.composite
def steps(draw: st.DrawFn) -> tuple[Step, ...]:
    """Nested pointers; private sequences (odd group) with their creator, public ones without."""
    found = []
    for _ in range(draw(st.integers(0, 4))):
        private = draw(st.booleans())
        group = draw(st.integers(0x0009, 0x7FFF)) | 1 if private else draw(st.integers(0x0008, 0x7FFE)) & ~1
        low = draw(st.integers(0, 0xFF if private else 0xFFFF))
        found.append(Step(group << 16 | low, draw(st.integers(0, 9999)), draw(words) if private else ""))
    return tuple(found)


@st.composite
def constraints(draw: st.DrawFn, modifiable: bool = True) -> Constraint:
    vr = draw(st.sampled_from(sorted(SCALARS)))
    item = st.lists(SCALARS[vr], min_size=1, max_size=1 if vr in ONE_VALUE else 3).map(tuple)
    some = st.lists(item, min_size=1, max_size=3).map(tuple)
    private = draw(st.booleans())
    tag = draw(whole(32, False))
    return Constraint(
        type=draw(st.sampled_from(ConstraintType).map(str) | code_strings),
        values=draw(some),
        tag=draw(st.just(tag) | st.none()),
        vr=vr,
        name=draw(words),
        keyword=draw(st.just("") | words),
        value_number=draw(st.none() | st.integers(0, 9)),
        creator=draw(words) if private else "",
        path=draw(steps()),
        defaults=draw(st.just(()) | some),
        significance=draw(st.sampled_from(["", "FAILURE", "WARNING", "INFORMATIVE", "OTHER"])),
        condition=draw(st.just("") | words),
        guidance=draw(st.just("") | words),
        modifiable=draw(st.sampled_from([None, True, False])) if modifiable else None,
        units=draw(st.none() | codes),
    )


equipment = st.builds(Equipment, words, words, words, st.lists(words, min_size=1, max_size=2).map(tuple))
models = st.builds(
    Equipment, words, words, st.just("") | words, st.lists(words, max_size=2).map(tuple), st.just("") | words
)
references = st.builds(Reference, uids, uids)
elements = st.builds(
    Element,
    whole(16, False),
    st.lists(constraints(), max_size=3).map(tuple),
    st.sampled_from(ElementKind),
)


def some(of: st.SearchStrategy[Any], most: int = 2) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(of, max_size=most).map(tuple)


protocols = st.builds(
    Protocol,
    uid=uids,
    name=words,
    # in the order in which the three sequences are read back
    elements=some(elements, 3).map(lambda e: tuple(sorted(e, key=lambda x: list(ElementKind).index(x.kind)))),
    patient=some(constraints(modifiable=False)),
    models=some(models),
    created=moments,
    author=equipment,
    group=st.none() | codes,
    procedures=some(codes),
    protocols=some(codes),
    reasons=some(words),
    predecessors=some(references),
    planning=st.just("") | words,
    rationale=st.just("") | words,
    custodian=st.just("") | words,
    instructions=some(words),
)
digests = st.just("") | st.binary(min_size=32, max_size=32).map(bytes.hex)
assertions = st.builds(
    Assertion,
    code=codes,
    uid=uids,
    when=moments,
    asserter=words,
    expires=st.just("") | moments,
    comments=st.just("") | words,
    institution=st.none() | codes,
    trial=st.just("") | words,
    related=some(uids),
) | st.builds(Assertion, code=codes, uid=uids, when=moments, device=equipment)
approvals = st.builds(
    Approval,
    uids,
    st.lists(st.builds(Reference, uids, uids, digests), min_size=1, max_size=2).map(tuple),
    st.lists(assertions, min_size=1, max_size=2).map(tuple),
    moments,
    equipment,
)


def sample() -> Protocol:
    """As a site would write it: two elements, private attributes, a second beam, a patient group."""
    return protocol(
        "CT Head Routine",
        element(1, constrain("KVP", equal=100), name="Scout", acquisition_type="CONSTANT_ANGLE"),
        element(
            2,
            constrain("KVP", one_of=(100, 120), default=120, modifiable=False),
            constrain("SpiralPitchFactor", between=(0.9, 1.1), significance="WARNING"),
            constrain("CTDIvol", at_most=60, condition="no contrast was given"),
            constrain("CTDIwPhantomType", equal=HEAD_PHANTOM),
            constrain("NoiseIndex", between=(3, 5)),
            constrain("XRayTubeCurrentInmASourceB", at_most=500.5),
            constrain("Focus", none_of=(3, 4), private=("ACME CT 1.0", 0x00191027)),
            name="Head",
            acquisition_type="SEQUENCED",
        ),
        patient=(constrain("PatientAge", at_least=18), constrain("PatientSex", one_of=("F", "M"))),
        models=(Equipment("GE MEDICAL SYSTEMS", "Revolution CT"),),
        created="20260115093000",
    )


# --- the round trip ---


class TestRoundTrip:
    @settings(max_examples=150)
    @given(protocols)
    @example(sample())
    def test_protocol_through_bytes(self, made: Protocol) -> None:
        read = decode_defined_protocol(read_dataset(dataset_bytes(encode_defined_protocol(made)), "x"))
        assert read == made
        assert read.digest() == made.digest()
        assert read.notes == ()

    @settings(max_examples=100)
    @given(approvals)
    def test_approval_through_bytes(self, made: Approval) -> None:
        assert decode_approval(read_dataset(dataset_bytes(encode_approval(made)), "x")) == made

    @settings(max_examples=75)
    @given(protocols, approvals)
    def test_book_through_json(self, one: Protocol, said: Approval) -> None:
        made = book([one], [said])
        assert book_from_json(json.loads(json.dumps(to_json(made)))) == made

    @given(constraints())
    def test_unknown_words_are_kept(self, given: Constraint) -> None:
        odd = replace(given, type="SOMETIMES", significance="MAYBE")
        made = replace(sample(), elements=(Element(1, (odd,)),))
        read = decode_defined_protocol(read_dataset(dataset_bytes(encode_defined_protocol(made)), "x"))
        assert read.elements[0].constraints == (odd,)

    def test_every_constraint_of_the_builder_finds_its_field(self) -> None:
        read = decode_defined_protocol(read_dataset(dataset_bytes(encode_defined_protocol(sample())), "x"))
        fields = [field_of(c, frozenset({2})) for c in read.elements[1].constraints]
        assert fields == [
            "ProtocolElementName",
            "AcquisitionType",
            "KVP",
            "SpiralPitchFactor",
            "CTDIvol",
            "CTDIwPhantomType",
            "NoiseIndex",
            "XRayTubeCurrentInmASourceB",
            "Focus",
        ]

    def test_pointers_are_those_of_the_standards_example(self) -> None:
        """Table C.34.9-2: KVP of the first beam of the second element is (0018,0060) under 2\\1."""
        kvp = sample().elements[1].constraints[2]
        assert kvp.tag == 0x00180060
        assert kvp.path == (Step(ACQUISITION_SEQUENCE, 2), Step(BEAM_SEQUENCE, 1))
        noise = sample().elements[1].constraints[6]
        assert (noise.creator, noise.keyword) == (SCANWARD_CREATOR, "NoiseIndex")
        assert noise.path == (Step(ACQUISITION_SEQUENCE, 2),)

    def test_a_pseudonym_hides_serials_and_approvers(self) -> None:
        made = replace(sample(), models=(Equipment("A", "B", "serial-77"),))
        data = read_dataset(dataset_bytes(encode_defined_protocol(made)), "x")
        read = decode_defined_protocol(data, pseudonym=lambda s: "h" + str(len(s)))
        assert read.models[0].serial == "h9"
        said = read_dataset(dataset_bytes(encode_approval(approval([made], "Doe^Jane", "20260101"))), "x")
        kept = decode_approval(said, pseudonym=lambda s: "hidden")
        assert kept.assertions[0].asserter == "hidden"
        assert "Doe" not in repr(kept)


# --- the standard's module tables, as highdicom carries them ---


def module_tables(iod: str) -> dict[tuple[str, ...], set[str]]:
    """(path, keyword) -> types, over all modules of an IOD, mandatory or present."""
    folder = resources.files(pytest.importorskip("highdicom")) / "_standard"
    names = ("iod_module_map.json", "module_attribute_map.json")
    if not all((folder / n).is_file() for n in names):
        pytest.skip("this highdicom carries no module tables")
    modules, attributes = (json.loads((folder / n).read_text()) for n in names)
    table: dict[tuple[str, ...], set[str]] = {}
    for module in modules[iod]:
        for a in attributes[module["key"]]:
            kind = a["type"] if module["usage"] == "M" or a["path"] else "3"
            table.setdefault((*a["path"], a["keyword"]), set()).add(kind)
    return table


def walk(dataset: Dataset, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Dataset]]:
    found = [(path, dataset)]
    for item in dataset:
        if item.VR == "SQ" and not item.tag.is_private:
            for part in item.value:
                found += walk(part, (*path, item.keyword))
    return found


@pytest.mark.parametrize(
    ("iod", "dataset"),
    [
        ("ct-defined-procedure-protocol", encode_defined_protocol(sample())),
        ("protocol-approval", encode_approval(approval([sample()], "Doe^Jane", "20260115093000"))),
    ],
)
def test_module_tables(iod: str, dataset: Dataset) -> None:
    table = module_tables(iod)
    for path, part in walk(read_dataset(dataset_bytes(dataset), "x")):
        for item in part:
            if not item.tag.is_private:
                assert (*path, item.keyword) in table, f"{path} {item.keyword} is in no module"
        for place, types in table.items():
            if place[:-1] == path and types & {"1", "2"} and "3" not in types:
                assert place[-1] in part, f"type {types} {place} is missing"
                if types == {"1"}:
                    assert part[place[-1]].value not in (None, "", []), f"type 1 {place} is empty"


# --- other people's programs ---


def run(program: str, data: bytes, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    file = folder / "object.dcm"
    file.write_bytes(data)
    return subprocess.run([program, *options, str(file)], capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("kind", ["protocol", "approval"])
class TestPeers:
    def data(self, kind: str) -> bytes:
        if kind == "protocol":
            return dataset_bytes(encode_defined_protocol(sample()))
        return dataset_bytes(encode_approval(approval([sample()], "Doe^Jane", "20260115093000")))

    def test_dcmdump_reads_it_whole(self, kind: str, tmp_path: Path) -> None:
        done = run("dcmdump", self.data(kind), tmp_path, "+fo")
        assert done.returncode == 0
        assert not done.stderr
        wanted = {
            "protocol": ("=CTDefinedProcedureProtocolStorage", "(0018,9920)\\(0018,9325)", "[ACME CT 1.0]"),
            "approval": ("=ProtocolApprovalStorage", "[128603]", sample().digest()[:40]),
        }[kind]
        for words in wanted:
            assert words in done.stdout

    def test_dciodvfy_finds_no_error_of_ours(self, kind: str, tmp_path: Path) -> None:
        done = run("dciodvfy", self.data(kind), tmp_path)
        errors = [line for line in done.stderr.splitlines() if line.startswith("Error")]
        # Debian's dicom3tools (2022) has no table for these two SOP classes and says so; VRs, VMs, lengths
        # and the encoding it does check.
        assert [e for e in errors if "Information Object Not found" not in e] == []


# --- what is refused ---


class TestRefused:
    def read(self, change: Any) -> Protocol:
        dataset = encode_defined_protocol(sample())
        change(dataset)
        return decode_defined_protocol(read_dataset(dataset_bytes(dataset), "f.dcm"), path="f.dcm")

    @pytest.mark.parametrize(
        ("change", "what"),
        [
            (lambda d: d.__delattr__("ProtocolName"), "without ProtocolName"),
            (lambda d: setattr(d, "SOPClassUID", "1.2.840.10008.5.1.4.1.1.2"), "SOP class"),
            (lambda d: setattr(d, "EquipmentModality", "XA"), "modality"),
            (lambda d: first(d).__delattr__("ConstraintType"), "without Constraint Type"),
            (
                lambda d: setattr(first(d), "SelectorSequencePointerItems", [1, 2]),
                "a selector of 1 sequences",
            ),
            (lambda d: element_of(d).__delattr__("ProtocolElementNumber"), "without number"),
        ],
    )
    def test_decoding(self, change: Any, what: str) -> None:
        with pytest.raises(DecodeError, match=what):
            self.read(change)

    def test_what_is_not_kept_is_told(self) -> None:
        def change(d: Dataset) -> None:
            d.PotentialDiagnosticTasks = "find a bleed"
            first(d).ModifiableConstraintFlag = "PERHAPS"
            del d.EquipmentModality

        notes = " ".join(self.read(change).notes)
        assert "PotentialDiagnosticTasks" in notes
        assert "PERHAPS" in notes
        assert "CT assumed" in notes

    @pytest.mark.parametrize(
        "broken",
        [
            replace(sample(), uid=""),
            replace(sample(), name=""),
            replace(sample(), name="a\\b"),
            replace(sample(), name="x" * 65),
            replace(sample(), name=" blank"),
            replace(sample(), name="\ud800"),
            replace(sample(), created="today"),
            replace(sample(), author=Equipment()),
            replace(sample(), models=(Equipment("maker"),)),
            replace(sample(), elements=(Element(70000),)),
            replace(sample(), elements=(Element(1, (Constraint("EQUAL", name="x"),)),)),
            replace(sample(), elements=(Element(1, (Constraint("EQUAL", (("text",),), name="x"),)),)),
            replace(sample(), elements=(Element(1, (Constraint("EQUAL", ((1.0,),)),)),)),
            replace(
                sample(), elements=(Element(1, (Constraint("EQUAL", ((b"abc",),), vr="OB", name="x"),)),)
            ),
            replace(sample(), elements=(Element(1, (Constraint("EQUAL", ((1.0,),), vr="ZZ", name="x"),)),)),
            replace(sample(), patient=(constrain("PatientAge", equal=3, modifiable=True),)),
        ],
    )
    def test_encoding(self, broken: Protocol) -> None:
        with pytest.raises(InputError):
            dataset_bytes(encode_defined_protocol(broken))

    def test_approval_needs_a_subject_and_a_person(self) -> None:
        made = approval([sample()], "Doe^Jane", "20260101")
        for broken in (
            replace(made, subjects=()),
            replace(made, assertions=()),
            replace(made, assertions=(replace(made.assertions[0], asserter=""),)),
        ):
            with pytest.raises(InputError):
                encode_approval(broken)
        dataset = encode_approval(made)
        del dataset.ApprovalSubjectSequence
        with pytest.raises(DecodeError, match="without UID, subject"):
            decode_approval(dataset)
        with pytest.raises(DecodeError, match="SOP class"):
            decode_approval(encode_defined_protocol(sample()))

    @pytest.mark.parametrize(
        "rules",
        [
            {},
            {"equal": 1.0, "at_most": 2.0},
            {"between": (2, 1)},
            {"between": (1, 2, 3)},
            {"one_of": ()},
            {"equal": "many"},
        ],
    )
    def test_builder(self, rules: dict[str, Any]) -> None:
        with pytest.raises(SettingsError):
            constrain("KVP", **rules)

    def test_builder_knows_its_places(self) -> None:
        with pytest.raises(SettingsError, match="no attribute for Unheard"):
            constrain("Unheard", equal=1.0)
        with pytest.raises(SettingsError, match="no private tag"):
            constrain("Unheard", equal=1.0, private=("ACME", 0x00180060))
        with pytest.raises(SettingsError, match="phantom"):
            constrain("CTDIwPhantomType", equal="a bucket")

    def test_two_protocols_with_one_uid(self) -> None:
        with pytest.raises(SettingsError, match="two different protocols"):
            book([sample(), replace(sample(), name="another")])
        assert len(book([sample(), sample()]).protocols) == 1

    @pytest.mark.parametrize(
        "plain", [{}, {"protocols": [{}], "approvals": []}, {"protocols": 3, "approvals": 4}]
    )
    def test_json_that_is_no_book(self, plain: dict[str, Any]) -> None:
        with pytest.raises(SettingsError):
            book_from_json(plain)


def element_of(dataset: Dataset) -> Dataset:
    return dataset.AcquisitionProtocolElementSpecificationSequence[0]  # type: ignore[no-any-return]


def first(dataset: Dataset) -> Dataset:
    return element_of(dataset).ParametersSpecificationSequence[0]  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("years", "text"), [(18, "018Y"), (0, "000Y"), (0.5, "006M"), (7 / 365.25, "007D"), (1.25, "015M")]
)
def test_age_string(years: float, text: str) -> None:
    assert age_string(years) == text


# --- who approved what ---


class TestStanding:
    made = sample()

    def standing(self, *said: Approval, at: str = "") -> tuple[bool, bool]:
        found = ProtocolBook((self.made,), said).standing(self.made, at)
        return found.approved, found.disapproved

    def say(self, when: str, **more: Any) -> Approval:
        return approval([self.made], "Doe^Jane", when, **more)

    def test_nobody(self) -> None:
        assert self.standing() == (False, False)

    def test_approved_then_disapproved_then_approved(self) -> None:
        yes, no = self.say("20260101"), self.say("20260201", code=DISAPPROVED)
        assert self.standing(yes) == (True, False)
        assert self.standing(yes, no) == (False, True)
        assert self.standing(no, yes, self.say("20260301")) == (True, False)

    def test_a_tie_is_a_no(self) -> None:
        assert self.standing(self.say("20260101"), self.say("20260101", code=DISAPPROVED)) == (False, True)

    def test_changed_since(self) -> None:
        other = replace(self.made, elements=())
        said = approval([replace(other, uid=self.made.uid)], "Doe^Jane", "20260101")
        assert self.standing(said) == (False, False)
        assert "changed" in ProtocolBook((self.made,), (said,)).standing(self.made).why

    def test_without_digest_it_counts(self) -> None:
        said = self.say("20260101")
        bare = replace(said, subjects=tuple(replace(s, digest="") for s in said.subjects))
        assert self.standing(bare) == (True, False)

    @pytest.mark.parametrize(
        ("at", "approved"), [("", False), ("20260601", True), ("20261231", False), ("20270101000000", False)]
    )
    def test_expiry(self, at: str, approved: bool) -> None:
        assert self.standing(self.say("20260101", expires="20261231"), at=at) == (approved, False)

    def test_another_schemes_code_says_nothing(self) -> None:
        assert self.standing(self.say("20260101", code=replace(APPROVED, scheme="99X"))) == (False, False)


# --- hostile bytes ---


def attempt(data: bytes) -> None:
    """Any bytes end in a result or one of our errors."""
    for decode in (decode_defined_protocol, decode_approval):
        with contextlib.suppress(ScanwardError):
            decode(read_dataset(data, "fuzz"))


SEEDS = (
    dataset_bytes(encode_defined_protocol(sample())),
    dataset_bytes(encode_approval(approval([sample()], "Doe^Jane", "20260101"))),
)


class TestHostile:
    @settings(max_examples=150)
    @given(st.sampled_from(SEEDS), st.data())
    def test_flipped_bytes(self, seed: bytes, data: st.DataObject) -> None:
        changed = bytearray(seed)
        for _ in range(data.draw(st.integers(1, 8))):
            changed[data.draw(st.integers(132, len(seed) - 1))] = data.draw(st.integers(0, 255))
        attempt(bytes(changed))

    def test_truncated(self) -> None:
        """A file cut between two top-level elements is still DICOM; the protocol it holds is another one."""
        refused = 0
        for length in range(0, len(SEEDS[0]), 23):
            try:
                read = decode_defined_protocol(read_dataset(SEEDS[0][:length], "cut"))
            except ScanwardError:
                refused += 1
            else:
                assert read != sample()
        assert refused > 100
        for length in range(0, len(SEEDS[1]), 23):
            attempt(SEEDS[1][:length])

    @settings(max_examples=100)
    @given(st.binary(max_size=400))
    def test_noise(self, noise: bytes) -> None:
        attempt(noise)
        attempt(SEEDS[0][:132] + noise)

    def test_a_data_set_that_breaks_when_it_is_looked_at(self) -> None:
        """From the network a data set comes undecoded: a sequence may turn out to be cut late."""
        dataset = encode_defined_protocol(sample())
        tag = Tag("AcquisitionProtocolElementSpecificationSequence")
        dataset[tag] = RawDataElement(tag, "SQ", 2, b"\xfe\xff", 0, False, True)
        with pytest.raises(DecodeError, match="malformed"):
            decode_defined_protocol(dataset)

    def test_lengths_that_cannot_be_true(self) -> None:
        place = SEEDS[0].index(b"CT Head Routine") - 2
        attempt(SEEDS[0][:place] + struct.pack("<H", 0xFFFE) + SEEDS[0][place + 2 :])

    @given(st.sampled_from(["SelectorFDValue", "SelectorCSValue"]), st.text(max_size=5))
    def test_values_of_another_vr(self, keyword: str, noise: str) -> None:
        dataset = encode_defined_protocol(sample())
        part = first(dataset).ConstraintValueSequence[0]
        for tag in list(part.keys()):
            del part[tag]
        setattr(part, keyword, 1.0 if keyword == "SelectorFDValue" else "X")
        read = decode_defined_protocol(dataset)
        assert read.elements[0].constraints[0].values == ((),)
        assert any("without SelectorLOValue" in note for note in read.notes)
