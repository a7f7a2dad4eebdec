"""The policy: signed, bound, never older; every error with line and cure; and what opinions turn into."""

from __future__ import annotations

import itertools
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from _guard import (
    DEVICE_TOML,
    HEAD,
    POLICY_TOML,
    SCANNER,
    SITE_KEY,
    STRANGER,
    answer,
    element,
    load,
    policy,
    policy_text,
    profile,
)
from scanward.commands import (
    LEARNED_LAYERS,
    RULE_LAYERS,
    Context,
    Device,
    LayerName,
    Mode,
    Objection,
    Opinion,
    Outcome,
    Severity,
    Source,
    Told,
    Verdict,
)
from scanward.commands.wire import Axis, Element, Motion
from scanward.config import JUDGE_BOUNDS
from scanward.errors import PolicyError
from scanward.guard.events import Forecast
from scanward.guard.ipc import ElementShape, element_answer, layer_shape
from scanward.guard.ledger import Ledger
from scanward.guard.policy import Policy
from scanward.guard.policy_floor import PolicyFloor
from scanward.guard.policy_read import load_policy, parse_policy
from scanward.guard.policy_signing import POLICY, PROFILE, _signature, read_signed, sign, signature_path
from scanward.guard.policy_terms import ElementAnswer, Right
from scanward.guard.profile import effective_mas
from scanward.guard.profile_read import load_profile, parse_profile
from scanward.simulation import MODELS, Site

TRUSTED = [SITE_KEY.verify_key]
FORM, PHYSICS, LIMITS, BOOK = RULE_LAYERS
ALERT, HALT = Severity.ALERT, Severity.HALT


def decided(
    one: ElementAnswer, using: Policy | None = None, mode: Mode = Mode.CLINICAL, **changes: Any
) -> Any:
    (finding,) = (using or policy()).decide(load(element(**changes)), (one,), mode)
    return finding


# --- what opinions turn into


def test_nothing_found_is_released() -> None:
    finding = decided(answer())
    assert (finding.verdict, finding.form) == (Verdict.RELEASE, False)
    assert finding.forecast.ctdivol == pytest.approx(
        10.0
    )  # 100 mAs at 0.1 mGy/mAs, above the 7 that is stated


@pytest.mark.parametrize(("layer", "severity"), list(itertools.product(RULE_LAYERS, (ALERT, HALT))))
def test_a_rule_layer_counts_with_its_severity(layer: LayerName, severity: Severity) -> None:
    finding = decided(answer({layer: (severity, "KVP")}))
    assert finding.verdict == severity.name
    assert (finding.layer, finding.fields) == (layer, ("KVP",))
    assert "KVP 1 is odd (expected 2)" in finding.reason
    assert finding.form is (layer is FORM and severity is HALT)


@pytest.mark.parametrize("layer", RULE_LAYERS)
def test_information_never_counts(layer: LayerName) -> None:
    one = answer({layer: (Severity.INFORMATION, "KVP")})
    quiet = replace(one, opinions=tuple(replace(o, outcome="pass") for o in one.opinions))  # type: ignore[arg-type]
    assert decided(quiet).verdict is Verdict.RELEASE


@pytest.mark.parametrize("layer", LEARNED_LAYERS)
def test_a_learned_layer_alone_does_nothing_within_the_budget_and_never_halts(layer: LayerName) -> None:
    grave = {layer: (HALT, "CTDIvol")}
    assert decided(answer(grave)).verdict is Verdict.RELEASE
    assert decided(answer(grave, within=False)).verdict is Verdict.ALERT
    strict = policy(
        policy_text().replace(f'{layer} = {{ alone = "RELEASE" }}', f'{layer} = {{ alone = "ALERT" }}')
    )
    assert decided(answer(grave), strict).verdict is Verdict.ALERT


@pytest.mark.parametrize("within", [False, None])
def test_beyond_the_budget_or_without_a_number_alerts(within: bool | None) -> None:
    finding = decided(answer(within=within))
    assert finding.verdict is Verdict.ALERT
    assert finding.layer in LEARNED_LAYERS
    assert finding.reason


def test_sources_that_disagree_alert() -> None:
    finding = decided(answer(disputed=True))
    assert (finding.verdict, finding.fields) == (Verdict.ALERT, ("PatientAge",))


@pytest.mark.parametrize("layer", [*RULE_LAYERS, *LEARNED_LAYERS])
def test_without_the_opinion_of_a_layer_nothing_is_released(layer: LayerName) -> None:
    finding = decided(answer(without=(layer,)))
    assert finding.verdict is Verdict.HALT
    assert str(layer) in finding.reason


def test_an_element_without_an_answer_is_not_released() -> None:
    findings = policy().decide(load(element(), element()), (answer(),), Mode.CLINICAL)
    assert [f.verdict for f in findings] == [Verdict.RELEASE, Verdict.HALT]


def test_the_gravest_decides_and_of_equals_the_outermost() -> None:
    finding = decided(answer({BOOK: (HALT, "KVP"), PHYSICS: (ALERT, "DLP")}, within=False, disputed=True))
    assert (finding.verdict, finding.layer) == (Verdict.HALT, BOOK)
    finding = decided(answer({BOOK: (ALERT, "KVP"), PHYSICS: (ALERT, "DLP")}, within=False))
    assert finding.layer == PHYSICS


SEVERITIES = st.sampled_from([None, Severity.INFORMATION, ALERT, HALT])


@given(
    st.fixed_dictionaries(dict.fromkeys((*RULE_LAYERS, *LEARNED_LAYERS), SEVERITIES)),
    st.sampled_from([True, False, None]),
    st.booleans(),
    st.sampled_from([Mode.CLINICAL, Mode.QA]),
)
def test_more_objections_never_lower_the_verdict(
    said: dict[LayerName, Severity | None], within: bool | None, disputed: bool, mode: Mode
) -> None:
    gravity = list(Verdict).index
    told = {layer: (s, "KVP") for layer, s in said.items() if s is not None}
    whole = decided(answer(told, within=within, disputed=disputed), POLICY_ONCE, mode).verdict
    for layer in told:
        fewer = {k: v for k, v in told.items() if k != layer}
        assert gravity(
            decided(answer(fewer, within=within, disputed=disputed), POLICY_ONCE, mode).verdict
        ) <= gravity(whole)
    assert gravity(decided(answer(told, within=True), POLICY_ONCE, mode).verdict) <= gravity(whole)


POLICY_ONCE = policy()


# --- what nobody passes


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"KVP": 150.0}, "KVP"),
        ({"KVP": 60.0}, "KVP"),
        ({"XRayTubeCurrentInmA": 801.0}, "XRayTubeCurrentInmA"),
        ({"RevolutionTime": 5.0}, "RevolutionTime"),
        ({"KVP": math.nan}, "KVP"),
        ({"DLP": math.inf}, "DLP"),
        ({"ScanLength": "long"}, "ScanLength"),
        ({"Exposure": -1.0}, "Exposure"),
        ({"SiteField": math.inf}, "SiteField"),
        ({"KVP": None}, "KVP"),
    ],
)
def test_what_the_hardware_cannot_do_is_refused_whatever_the_judge_says(
    changes: dict[str, Any], field: str
) -> None:
    for finding in (
        decided(answer(), **changes),
        *policy().decide_without_judge(load(element(**changes)), Mode.CLINICAL, "the judge is gone"),
    ):
        assert (finding.verdict, finding.form, finding.fields) == (Verdict.HALT, True, (field,))


@pytest.mark.parametrize("left_out", ["RevolutionTime", "XRayTubeCurrentInmA"])
def test_without_a_judge_a_dose_that_cannot_be_bounded_is_refused(left_out: str) -> None:
    site = policy()
    without: dict[str, Any] = {left_out: None, "CTDIvol": 1.0}
    scan, localizer = element(**without), element(**without, AcquisitionType="CONSTANT_ANGLE")
    (finding,) = site.decide_without_judge(load(scan), Mode.CLINICAL, "gone")
    assert (finding.form, finding.fields) == (True, (left_out,))
    assert site.decide(load(scan), (answer(),), Mode.CLINICAL)[0].form is False  # the judge knows more
    (finding,) = site.decide_without_judge(load(localizer), Mode.CLINICAL, "gone")
    assert finding.form is False


def test_a_grave_objection_behind_many_is_not_lost_between_judge_and_policy() -> None:
    mild = tuple(Objection("KVP", "is odd") for _ in range(JUDGE_BOUNDS.objections + 5))
    grave = Objection("DLP", "is wrong", severity=HALT)
    told = layer_shape(Opinion(PHYSICS, Outcome.OBJECT, (*mild, grave)))
    heard = element_answer(ElementShape([told])).opinions[0]
    assert heard.severity is HALT
    finding = decided(replace(answer(), opinions=(*answer(without=(PHYSICS,)).opinions, heard)))
    assert (finding.verdict, finding.fields) == (Verdict.HALT, ("DLP",))


def test_without_a_judge_all_is_halt_that_emergency_access_may_pass() -> None:
    (finding,) = policy().decide_without_judge(load(), Mode.CLINICAL, "the judge is gone")
    assert (finding.verdict, finding.form, finding.reason) == (Verdict.HALT, False, "the judge is gone")
    assert finding.forecast.ctdivol > 0


@pytest.mark.parametrize("judge", [True, False])
def test_absolute_caps_hold_with_and_without_a_judge(judge: bool) -> None:
    site = policy()
    many = load(*(element(CTDIvol=400.0, DLP=100.0) for _ in range(3)))
    findings = (
        site.decide(many, (answer(),) * 3, Mode.CLINICAL)
        if judge
        else site.decide_without_judge(many, Mode.CLINICAL, "gone")
    )
    assert (findings[0].verdict, findings[0].form) == (Verdict.HALT, True)
    assert "absolute cap" in findings[0].reason
    assert "1200" in findings[0].reason


def test_what_was_delivered_before_counts() -> None:
    before = Ledger()
    before.add(Forecast(995.0, 100.0, 32, 0.0, 300.0))
    (finding,) = policy().decide(load(), (answer(),), Mode.CLINICAL, (Ledger(), before))
    assert (finding.verdict, finding.form) == (Verdict.HALT, True)
    before = Ledger()
    before.add(Forecast(195.0, 100.0, 32, 0.0, 300.0))
    (finding,) = policy().decide(load(), (answer(),), Mode.CLINICAL, (before,))
    assert (finding.verdict, finding.form) == (Verdict.ALERT, False)
    before = Ledger()
    before.add(Forecast(195.0, 100.0, 32, 500.0, 800.0))  # another place: CTDIvol does not add up
    (finding,) = policy().decide(load(), (answer(),), Mode.CLINICAL, (before,))
    assert finding.verdict is Verdict.RELEASE


@pytest.mark.parametrize(
    ("age", "verdict"),
    [(None, "RELEASE"), (40.0, "RELEASE"), (16.0, "RELEASE"), (15.9, "ALERT"), (0.0, "ALERT")],
)
def test_children_have_caps_of_their_own_and_the_unknown_are_adults(age: float | None, verdict: str) -> None:
    (finding,) = policy().decide(load(element(age, CTDIvol=70.0)), (answer(),), Mode.CLINICAL)
    assert finding.verdict == verdict


def test_of_two_ages_told_the_youngest_counts() -> None:
    child = element(CTDIvol=70.0)
    told = Context({"PatientAge": (Told(40.0, Source.HOST), Told(5.0, Source.WORKLIST))})
    both = replace(child, command=replace(child.command, context=told))
    (finding,) = policy().decide(load(both), (answer(),), Mode.CLINICAL)
    assert finding.verdict is Verdict.ALERT
    (finding,) = policy().decide(load(element(40.0), both), (answer(), answer()), Mode.CLINICAL)[:1]
    assert finding.verdict is Verdict.ALERT


def test_a_dose_without_its_phantom_meets_the_strictest_cap() -> None:
    assert decided(answer(), CTDIvol=150.0, **HEAD).verdict is Verdict.RELEASE
    assert decided(answer(), CTDIvol=250.0, CTDIwPhantomType="a new one").verdict is Verdict.ALERT


def test_a_forged_dose_figure_does_not_lower_the_forecast() -> None:
    finding = decided(
        answer(), XRayTubeCurrentInmA=800.0, RevolutionTime=1.0, SpiralPitchFactor=0.2, CTDIvol=1.0
    )
    assert finding.forecast.ctdivol == pytest.approx(400.0)
    assert finding.verdict is Verdict.ALERT


def test_a_tube_limit_that_could_pass_the_absolute_cap_is_refused() -> None:
    one: dict[str, Any] = {
        "XRayTubeCurrentInmA": 10.0,
        "RevolutionTime": 1.0,
        "SpiralPitchFactor": 0.1,
        "CTDIvol": 1.0,
        "KVP": 140.0,
    }
    assert decided(answer(), **one).form is False
    assert (
        decided(answer(), **one, AECMaximumTubeCurrent=800.0).form is True
    )  # 800 x 1 / 0.1 x 0.15 = 1200 mGy


@pytest.mark.parametrize(
    ("changes", "mas"),
    [
        ({}, 100.0),
        ({"SpiralPitchFactor": 0.5}, 200.0),
        ({"SpiralPitchFactor": None, "TableFeedPerRotation": 19.2, "AcquisitionType": "SEQUENCED"}, 200.0),
        ({"SpiralPitchFactor": None, "NumberOfRotations": 10.0, "AcquisitionType": "STATIONARY"}, 1000.0),
        ({"XRayTubeCurrentInmASourceB": 100.0}, 150.0),
        ({"RevolutionTime": None}, None),
    ],
)
def test_effective_mas(changes: dict[str, Any], mas: float | None) -> None:
    found = effective_mas(element(**changes).command)
    assert found == (None if mas is None else pytest.approx(mas))


def test_sessions_are_judged_once_as_an_envelope() -> None:
    site = policy()
    one = element(CTDIvol=11.0, DLP=12.0, ScanLength=38.4, AcquisitionEndLocation=38.4)
    (fits,) = site.decide(load(one, triggers=15), (answer(),), Mode.CLINICAL)
    (beyond,) = site.decide(load(one, triggers=30), (answer(),), Mode.CLINICAL)
    assert fits.verdict is Verdict.RELEASE
    assert (beyond.verdict, beyond.form) == (Verdict.HALT, False)
    assert "interventional envelope" in beyond.reason


@pytest.mark.parametrize(
    ("axis", "target", "speed", "verdict", "form"),
    [
        (Axis.TABLE_Z, 500.0, 100.0, "RELEASE", False),
        (Axis.TABLE_Z, 1900.0, 100.0, "ALERT", False),  # beyond the policy's envelope
        (Axis.TABLE_Z, 500.0, 180.0, "ALERT", False),
        (Axis.TABLE_Z, 2500.0, 100.0, "HALT", True),  # beyond the device
        (Axis.TABLE_Z, 500.0, 201.0, "HALT", True),
        (Axis.TABLE_Z, 500.0, 0.0, "HALT", True),
        (Axis.TABLE_Z, 500.0, -5.0, "HALT", True),
        (Axis.TABLE_Z, math.nan, 5.0, "HALT", True),
        (Axis.GANTRY_TILT, 31.0, 1.0, "HALT", True),
    ],
)
def test_motions_have_envelopes(axis: Axis, target: float, speed: float, verdict: str, form: bool) -> None:
    finding = policy().decide_motion(Motion("M1", axis, target, speed))
    assert (finding.verdict, finding.form) == (verdict, form)


def test_an_axis_that_is_not_named_is_not_moved() -> None:
    fixed = parse_profile(
        re.sub(r"\[motion\.gantry_tilt\](.*\n){2}.*\n", "", DEVICE_TOML).encode(), "device.toml"
    )
    site = replace(policy(), profile=fixed)
    assert site.decide_motion(Motion("M1", Axis.GANTRY_TILT, 1.0, 1.0)).form is True


def test_the_gate_is_given_the_policys_rules() -> None:
    rules = policy(unsafe_shadow="true").gate_rules()
    clinical = rules.modes[Mode.CLINICAL]
    assert rules.policy == "p" * 64
    assert (rules.hold_seconds, rules.arming_seconds, rules.unsafe_shadow) == (60.0, 900.0, True)
    assert clinical.absolute.ctdivol == {16: 1500.0, 32: 1000.0}
    assert clinical.alert.dlp == {16: 6000.0, 32: 6000.0}
    assert (clinical.triggers, rules.modes[Mode.QA].triggers) == (30, 1)
    assert rules.runtime["TableHeight"].high == 20.0
    assert Mode.SERVICE not in rules.modes


# --- what can and cannot be written

CLINICAL = "[modes.CLINICAL.verdicts]\n"


def refused(text: str) -> PolicyError:
    with pytest.raises(PolicyError) as caught:
        policy(text)
    assert caught.value.where.startswith("policy.toml")
    assert caught.value.todo
    return caught.value


@pytest.mark.parametrize("text", ["", "\n\n", "# nothing but a comment\n"])
def test_an_empty_policy_is_refused(text: str) -> None:
    with pytest.raises(PolicyError, match="empty"):
        parse_policy(text.encode(), "policy.toml", profile())
    with pytest.raises(PolicyError, match="empty"):
        parse_profile(text.encode(), "device.toml")


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('form = { alert = "ALERT", halt = "HALT" }', 'form = { halt = "ALERT" }', "nothing releases"),
        ('form = { alert = "ALERT", halt = "HALT" }', 'form = { halt = "RELEASE" }', "nothing releases"),
        ('form = { alert = "ALERT", halt = "HALT" }', 'form = { unsafe_halt = "ALERT" }', "nothing releases"),
        ('limits = { alert = "ALERT", halt = "HALT" }', 'limits = { halt = "ALERT" }', "unsafe_halt"),
        ('limits = { alert = "ALERT", halt = "HALT" }', 'limits = { unsafe_halt = "RELEASE" }', "unseen"),
        (
            'limits = { alert = "ALERT", halt = "HALT" }',
            'limits = { unsafe_halt = "HALT" }',
            "weakens nothing",
        ),
        (
            'limits = { alert = "ALERT", halt = "HALT" }',
            'limits = { halt = "HALT", unsafe_halt = "ALERT" }',
            "contradict",
        ),
        ('dispute = "ALERT"', 'dispute = "RELEASE"', "unsafe_dispute"),
        ('beyond_budget = "ALERT"', 'beyond_budget = "RELEASE"', "unsafe_beyond_budget"),
        ('beyond_budget = "ALERT"', 'beyond_budget = "HALT"', "never halt"),
        ('procedure = { alone = "RELEASE" }', 'procedure = { alone = "HALT" }', "never halts"),
        (
            'procedure = { alone = "RELEASE" }',
            'procedures = { alone = "RELEASE" }',
            "did you mean 'procedure'",
        ),
        ("hold_seconds = 60", "hold_seconds = 0", "out of range"),
        ("hold_seconds = 60", "hold_secs = 60", "did you mean"),
        ("judge_seconds = 2.0", "judge_seconds = 100", "0.05 to 30"),
        ("age = [16, 131]", "age = [18, 131]", "no cap for 16 to 18 years"),
        ("age = [16, 131]", "age = [12, 131]", "two caps for 12 years"),
        ("age = [16, 131]", "age = [16, 100]", "no cap from 100 years on"),
        ("alert_CTDIvol = 120", "alert_CTDIvol = 1200", "never alert"),
        ("alert_CTDIvol = 120", "alert_CTDIvol = inf", "needs a number"),
        ("phantom_cm = 16", "phantom_cm = 20", "16 or 32"),
        ("TableHeight = [-20, 20]", "TableHeight = [-200, 20]", "wider than the device"),
        ("TableHeight = [-20, 20]", "KVP = [-20, 20]", "no trigger"),
        ("TableHeight = [-20, 20]", "TableHeight = [5, 20]", "does not hold 0"),
        ("TableHeight = [-20, 20]", "FilterType = [0, 0]", "no number"),
        ('may = ["refuse"]', 'may = ["veto"]', "no right"),
        ('may = ["refuse"]', "may = []", "no right"),
        ("last_day = 2027-12-31", 'last_day = "2027"', "needs a day"),
        ("most_minutes = 30", "most_minutes = 3000", "out of range"),
        ("minutes = 15", "minutes = 45", "out of range"),
        ("# unsafe_no_emergency = true", "unsafe_no_emergency = true", "somebody may begin it"),
        ('ManufacturerModelName = "S-128"', 'ManufacturerModelName = "S-64"', "it is for"),
        ("version = 1 ", "version = 0 ", "whole number"),
        ("version = 1 ", "version = true ", "whole number"),
        ('kind = "scanward.policy"', 'kind = "scanward.device-profile"', "another kind"),
        (
            "# unsafe_shadow = true",
            "unsafe_shadow = 1",
            "unknown key",
        ),  # in the last table: not where it belongs
    ],
)
def test_what_makes_no_sense_is_refused_with_its_line(old: str, new: str, says: str) -> None:
    text = policy_text()
    assert old in text
    error = refused(text.replace(old, new, 1))
    assert says in f"{error.what} {error.todo}"
    if "it is for" not in says:
        line = int(re.search(r"line (\d+)", error.where).group(1))  # type: ignore[union-attr]
        changed = text[: text.index(old)].count("\n") + 1
        assert abs(line - changed) < 25


@pytest.mark.parametrize("name", ["times", "emergency", "modes", "device"])
def test_what_is_needed_must_be_there(name: str) -> None:
    text = re.sub(rf"(?ms)^\[+{name}[.\]].*?(?=^\[+(?!{name}))", "", policy_text())
    assert "missing" in refused(text).what or "CLINICAL" in refused(text).what


def test_emergency_access_needs_somebody_who_may() -> None:
    text = policy_text().replace(', "emergency"', "")
    assert "nobody could begin it" in refused(text).what
    weak = policy(text.replace("# unsafe_no_emergency", "unsafe_no_emergency"))
    assert weak.weakenings == ("emergency.unsafe_no_emergency",)


@pytest.mark.parametrize(
    "key",
    [
        "00" * 32,
        "01" + "00" * 31,
        "ff" * 31 + "7f",
        "ec" + "ff" * 30 + "7f",
        "00" * 31 + "80",
        "xy",
        "AB" * 32,
    ],
)
def test_keys_for_which_anybody_can_sign_are_refused(key: str) -> None:
    text = re.sub(r'key = "[0-9a-f]+"', f'key = "{key}"', policy_text(), count=1)
    if key.startswith("ff"):
        parsed = policy(text)  # a key like any other, though nobody holds it
        assert parsed.operators["anna"].key.raw.hex() == key
    else:
        refused(text)


def test_two_operators_with_one_key_are_refused() -> None:
    keys = re.findall(r'key = "([0-9a-f]{64})"', policy_text())
    assert "same key" in refused(policy_text().replace(keys[1], keys[0])).what


def test_every_weakening_is_named_and_listed() -> None:
    text = policy_text(
        unsafe_shadow="true", unsafe_release_without_operator="true", unsafe_emergency_without_log="true"
    )
    text = text.replace('limits = { alert = "ALERT", halt = "HALT" }', 'limits = { unsafe_halt = "ALERT" }')
    text = text.replace('dispute = "ALERT"', 'unsafe_dispute = "RELEASE"')
    text = text.replace("# unsafe_without_key", "unsafe_without_key")
    assert policy(text).weakenings == (
        "modes.CLINICAL.verdicts.limits.unsafe_halt = ALERT",
        "modes.CLINICAL.verdicts.unsafe_dispute = RELEASE",
        "emergency.unsafe_without_key",
        "unsafe_shadow",
        "unsafe_release_without_operator",
        "unsafe_emergency_without_log",
    )
    assert policy().weakenings == ()
    assert decided(answer({LIMITS: (HALT, "KVP")}), policy(text)).verdict is Verdict.ALERT
    assert decided(answer(disputed=True), policy(text)).verdict is Verdict.RELEASE


@given(st.sampled_from(POLICY_TOML.splitlines()), st.text('[]{}="#.-0a \n', max_size=8))
def test_any_change_gives_a_policy_or_our_error(line: str, put: str) -> None:
    try:
        made = policy(policy_text().replace(line, put, 1))
    except PolicyError as error:
        made = None
        assert error.todo  # noqa: PT017 - either outcome is right
    if made is not None:
        assert decided(answer({FORM: (HALT, "KVP")}), made).form is True


def test_the_example_documents_every_key() -> None:
    known = set(re.findall(r"\bunsafe_\w+", POLICY_TOML))
    source = (Path(__file__).resolve().parent.parent / "src/scanward/guard/policy_read.py").read_text("utf-8")
    assert set(re.findall(r'"(unsafe_\w+)"', source)) <= known
    assert {right.value for right in Right} <= set(re.findall(r"\w+", POLICY_TOML))


# --- signed, bound, not older


@pytest.fixture
def site(tmp_path: Path) -> Path:
    for name, kind, text in (("device", PROFILE, DEVICE_TOML), ("policy", POLICY, policy_text())):
        path = tmp_path / f"{name}.toml"
        path.write_text(text, "utf-8")
        sign(path, kind, text.encode(), SITE_KEY)
    return tmp_path


def opened(site: Path, **more: Any) -> Policy:
    return load_policy(site / "policy.toml", TRUSTED, load_profile(site / "device.toml", TRUSTED), **more)


def test_a_signed_policy_is_read(site: Path) -> None:
    assert opened(site).name == "CT 1, clinical routine"
    assert opened(site, device=replace(SCANNER, serial="anything")).digest == opened(site).digest


def test_unsigned_is_refused(site: Path) -> None:
    signature_path(site / "policy.toml").unlink()
    with pytest.raises(PolicyError, match="not signed"):
        opened(site)


@pytest.mark.parametrize("change", ["comment", "value", "cut"])
def test_changed_after_signing_is_refused(site: Path, change: str) -> None:
    text = policy_text()
    other = {"comment": text + "# more\n", "value": text.replace("hold_seconds = 60", "hold_seconds = 61")}
    (site / "policy.toml").write_text(other.get(change, text[:-1]), "utf-8")
    with pytest.raises(PolicyError, match="changed after it was signed"):
        opened(site)


def test_a_key_that_is_not_trusted_is_refused(site: Path) -> None:
    sign(site / "policy.toml", POLICY, policy_text().encode(), STRANGER)
    with pytest.raises(PolicyError, match="not trusted"):
        opened(site)
    with pytest.raises(PolicyError, match="no key is trusted"):
        read_signed(site / "policy.toml", POLICY, [])


def test_a_profiles_signature_is_none_over_a_policy(site: Path) -> None:
    text = policy_text().encode()
    sign(site / "policy.toml", PROFILE, text, SITE_KEY)
    with pytest.raises(PolicyError, match="signed as"):
        opened(site)
    path = signature_path(site / "policy.toml")
    path.write_text(path.read_text("utf-8").replace(PROFILE, POLICY), "utf-8")
    with pytest.raises(PolicyError, match="does not fit"):
        opened(site)


@given(st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
def test_any_signature_file_gives_our_error(data: bytes) -> None:
    with pytest.raises(PolicyError):
        _signature(data, "policy.toml.sig")


def test_another_device_is_refused(site: Path) -> None:
    with pytest.raises(PolicyError, match="it is for"):
        opened(site, device=Device("Simulated Sigma", "S-64"))
    bound = DEVICE_TOML.replace('DeviceSerialNumber = "" ', 'DeviceSerialNumber = "aa" ')
    (site / "device.toml").write_text(bound, "utf-8")
    sign(site / "device.toml", PROFILE, bound.encode(), SITE_KEY)
    with pytest.raises(PolicyError, match="it is for"):
        load_profile(site / "device.toml", TRUSTED, device=replace(SCANNER, serial="bb"))
    assert (
        load_profile(site / "device.toml", TRUSTED, device=replace(SCANNER, serial="aa")).device.serial
        == "aa"
    )


def resigned(site: Path, version: int, more: str = "") -> None:
    text = policy_text().replace("version = 1 ", f"version = {version} ", 1) + more
    (site / "policy.toml").write_text(text, "utf-8")
    sign(site / "policy.toml", POLICY, text.encode(), SITE_KEY)


def test_versions_only_grow(site: Path) -> None:
    floor = PolicyFloor(site / "versions.json")
    assert floor.highest(POLICY, SCANNER) == 0
    opened(site, floor=floor)
    opened(site, floor=floor)  # the same again
    resigned(site, 3)
    opened(site, floor=floor)
    assert floor.highest(POLICY, SCANNER) == 3
    resigned(site, 2)
    with pytest.raises(PolicyError, match="older than version 3"):
        opened(site, floor=floor)
    resigned(site, 3, "# a rival\n")
    with pytest.raises(PolicyError, match="same version 3"):
        opened(site, floor=floor)
    assert (site / "versions.json").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"kind":"scanward.policy-versions","accepted":{"a":[true,"x"]}}']
)
def test_a_damaged_memory_of_versions_accepts_nothing(site: Path, text: str) -> None:
    (site / "versions.json").write_text(text, "utf-8")
    with pytest.raises(PolicyError, match="damaged"):
        opened(site, floor=PolicyFloor(site / "versions.json"))


# --- a clean site meets no cap


def test_clean_examinations_of_the_simulated_site_pass_profile_and_caps() -> None:
    site, judged = policy(), 0
    for examination in Site(seed=5, models=MODELS[:1]).examinations(150):
        chain = tuple(Element(command) for command in examination.commands)
        findings = site.decide(load(*chain), (answer(),) * len(chain), Mode.CLINICAL)
        judged += len(findings)
        assert {f.verdict for f in findings} == {Verdict.RELEASE}, findings
    assert judged > 300
