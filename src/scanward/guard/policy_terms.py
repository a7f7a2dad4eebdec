"""What a policy is made of: operators, caps, verdict tables, times. Frozen data, validated by `policy_read`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from enum import StrEnum

from scanward.commands import LayerName, Objection, Opinion, Severity, Verdict
from scanward.guard.events import Forecast, Notification
from scanward.keys import VerifyKey

GRAVITY = {Verdict.RELEASE: 0, Verdict.ALERT: 1, Verdict.HALT: 2}
OLDEST = 131.0  # years; upper end of the last age band
ADULT = 40.0  # years; taken where nobody told an age, as the limits layer does


class Right(StrEnum):
    """What an operator's key is good for."""

    RELEASE = "release"  # and refuse
    REFUSE = "refuse"
    EMERGENCY = "emergency"
    MODE = "mode"


@dataclass(frozen=True, slots=True)
class Operator:
    """Somebody whose acts the guard accepts. ``last_day`` is the last day (UTC) on which the key is good."""

    id: str
    name: str
    key: VerifyKey
    rights: frozenset[Right]
    last_day: date | None = None


@dataclass(frozen=True, slots=True)
class CapRow:
    """Dose caps of one phantom and age band (years); mGy at any one z, mGy.cm per examination."""

    phantom: int
    age_low: float
    age_high: float
    alert_ctdivol: float
    alert_dlp: float
    absolute_ctdivol: float
    absolute_dlp: float


@dataclass(frozen=True, slots=True)
class ModePolicy:
    """What holds in one mode.

    Attributes
    ----------
    verdicts : mapping of (layer, severity) to Verdict
        For layers 1 to 4; severities ALERT and HALT.
    alone : mapping of LayerName to Verdict
        For layers 5 to 7: an objection of this layer within the budget. RELEASE or ALERT.
    dispute, beyond_budget : Verdict
        Sources of context disagree; the calibrated number is beyond the budget (or is none).
    minutes : float
        After so many minutes a mode other than CLINICAL ends by itself; infinite for CLINICAL.
    """

    verdicts: Mapping[tuple[LayerName, Severity], Verdict]
    alone: Mapping[LayerName, Verdict]
    dispute: Verdict
    beyond_budget: Verdict
    caps: tuple[CapRow, ...]
    minutes: float = math.inf


@dataclass(frozen=True, slots=True)
class Interventional:
    """Envelope of a session that is judged once: triggers of one element, and dose of the whole session."""

    triggers: int
    ctdivol: float
    dlp: float


@dataclass(frozen=True, slots=True)
class TwoPersons:
    """Which holds one operator alone does not release.

    Attributes
    ----------
    layers : frozenset of LayerName
        An alert of one of these layers (a learned one: where it is the one to blame).
    disputes : frozenset of str
        Sources of the context disagree on one of these parts (PatientID: the worklist has it for another patient).
    p_value_below : float
        The calibrated number lies below; 0 for never.
    dose_factor : float
        Delivered plus loaded is more than so many times an alert cap; infinite for never.
    seconds : float
        How long such a hold lasts, for the second operator has to come.
    """

    layers: frozenset[LayerName] = frozenset()
    disputes: frozenset[str] = frozenset()
    p_value_below: float = 0.0
    dose_factor: float = math.inf
    seconds: float = 60.0


@dataclass(frozen=True, slots=True)
class EmergencyRules:
    """Emergency access.

    Attributes
    ----------
    minutes, most_minutes : float
        Granted when none are asked for; granted at most.
    one_examination : bool
        It ends with the first examination released under it.
    loads : int
        Most loads released under one grant.
    unsafe_without_key : bool
        Whoever is at the guard's own terminal may begin it (the system's user is recorded).
    """

    minutes: float
    most_minutes: float
    one_examination: bool
    loads: int
    unsafe_without_key: bool = False


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds; the names and meanings are those of `GateRules`."""

    judge_seconds: float
    record_seconds: float
    committed_record_seconds: float
    confirm_seconds: float
    hold_seconds: float
    arming_seconds: float
    committed_seconds: float
    beam_seconds: float


@dataclass(frozen=True, slots=True)
class ElementAnswer:
    """What the judge said of one element.

    Attributes
    ----------
    opinions : tuple of Opinion
        Of every layer; of form alone when form halts.
    within_budget : bool or None
        Whether the calibrated number is within the budget; None when there is none.
    forecast : Forecast or None
        The judge's own, None when it has none.
    """

    opinions: tuple[Opinion, ...]
    p_value: float | None = None
    within_budget: bool | None = None
    disputed: tuple[Objection, ...] = ()
    forecast: Forecast | None = None
    notification: Notification | None = None
