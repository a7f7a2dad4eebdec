"""What the tests of policy and control share: the example policy with keys of our own, answers, loads."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scanward.commands import (
    BODY_PHANTOM,
    HEAD_PHANTOM,
    LEARNED_LAYERS,
    RULE_LAYERS,
    Command,
    Context,
    Device,
    LayerName,
    Objection,
    Opinion,
    Outcome,
    Severity,
    Source,
    Told,
)
from scanward.commands.wire import Element, Load
from scanward.guard.policy import Policy
from scanward.guard.policy_read import parse_policy
from scanward.guard.policy_terms import ElementAnswer
from scanward.guard.profile import DeviceProfile
from scanward.guard.profile_read import parse_profile
from scanward.keys import SigningKey

EXAMPLES = Path(__file__).resolve().parent.parent / "examples" / "policy"
DEVICE_TOML = (EXAMPLES / "device.toml").read_text("utf-8")
POLICY_TOML = (EXAMPLES / "policy.toml").read_text("utf-8")
SITE_KEY = SigningKey.from_seed(bytes([1]) * 32)
ANNA = SigningKey.from_seed(bytes([2]) * 32)  # release, refuse, emergency
BERT = SigningKey.from_seed(bytes([3]) * 32)  # everything, and mode
CARL = SigningKey.from_seed(bytes([4]) * 32)  # refuse alone
STRANGER = SigningKey.from_seed(bytes([5]) * 32)
SCANNER = Device("Simulated Sigma", "S-128")

PEOPLE = f"""
[operators.bert]
key = "{BERT.verify_key.raw.hex()}"
may = ["release", "refuse", "emergency", "mode"]
[operators.carl]
key = "{CARL.verify_key.raw.hex()}"
may = ["refuse"]
"""


def policy_text(**top: str) -> str:
    """The example with anna's key replaced, bert and carl added, and ``top`` put before the first table."""
    lines = POLICY_TOML.splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("key = "))
    lines[at] = f'key = "{ANNA.verify_key.raw.hex()}"'
    first = next(i for i, line in enumerate(lines) if line.startswith("["))
    lines[first:first] = [f"{key} = {value}" for key, value in top.items()]
    return "\n".join(lines) + PEOPLE


def profile() -> DeviceProfile:
    """The example's device profile."""
    return parse_profile(DEVICE_TOML.encode(), "device.toml", "d" * 64)


def policy(text: str | None = None, **top: str) -> Policy:
    """The example policy (or ``text``), parsed."""
    return parse_policy((text or policy_text(**top)).encode(), "policy.toml", profile(), "p" * 64)


BASE: dict[str, Any] = {
    "AcquisitionType": "SPIRAL",
    "KVP": 120.0,
    "XRayTubeCurrentInmA": 200.0,
    "RevolutionTime": 0.5,
    "SpiralPitchFactor": 1.0,
    "TotalCollimationWidth": 38.4,
    "CTDIwPhantomType": BODY_PHANTOM,
    "CTDIvol": 7.0,
    "DLP": 210.0,
    "ScanLength": 300.0,
    "AcquisitionStartLocation": 0.0,
    "AcquisitionEndLocation": 300.0,
}


def element(age: float | None = None, **changes: Any) -> Element:
    """An ordinary spiral; a change to None leaves the field out."""
    parameters = {k: v for k, v in {**BASE, **changes}.items() if v is not None}
    context = Context({"PatientAge": (Told(age, Source.HOST),)} if age is not None else {})
    return Element(Command(parameters, context, SCANNER))


def load(*elements: Element, triggers: int = 1) -> Load:
    """A load of these elements, of one examination."""
    return Load("L1", "e" * 16, "p" * 16, elements or (element(),), triggers)


def answer(
    said: Mapping[LayerName, tuple[Severity, str]] | None = None,
    *,
    within: bool | None = True,
    disputed: bool = False,
    without: tuple[LayerName, ...] = (),
) -> ElementAnswer:
    """All layers pass, except those in ``said``, which object so gravely to such a field."""
    opinions = []
    for layer in (*RULE_LAYERS, *LEARNED_LAYERS):
        if layer in without:
            continue
        if said and layer in said:
            severity, name = said[layer]
            objection = Objection(name, "is odd", 1.0, "2", severity=severity)
            opinions.append(Opinion(layer, Outcome.OBJECT, (objection,)))
        else:
            opinions.append(Opinion(layer, Outcome.PASS, p_value=0.5 if layer in LEARNED_LAYERS else None))
    told = (Objection("PatientAge", "sources disagree", 3.0),) if disputed else ()
    return ElementAnswer(tuple(opinions), 0.5, within, told)


HEAD: dict[str, Any] = {"CTDIwPhantomType": HEAD_PHANTOM}
