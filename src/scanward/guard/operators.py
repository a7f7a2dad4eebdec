"""An operator's act: what is signed, and whether the guard believes it. Pure.

The signature (Ed25519) is over one spelling of everything the act means: the guard's nonce, the policy, the act, the
request, the digest of what was shown, the reason. A network, a page or a host that carries it can only lose it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from enum import StrEnum

from scanward.commands import Mode
from scanward.config import CONTROL_BOUNDS, POLICY_BOUNDS, ControlBounds
from scanward.guard.policy_terms import Operator, Right
from scanward.keys import SigningKey

_LABEL = b"scanward operator act 1\0"


class ActKind(StrEnum):
    """The closed list of what an operator may do."""

    RELEASE = "release"
    REFUSE = "refuse"
    EMERGENCY = "emergency"  # begin emergency access
    EMERGENCY_END = "emergency_end"
    EMERGENCY_REASON = "emergency_reason"  # say afterwards why; request is the number of the grant
    MODE = "mode"
    CALL = "call"  # for a second person; request is the hold


RIGHTS: Mapping[ActKind, frozenset[Right]] = {
    ActKind.RELEASE: frozenset({Right.RELEASE}),
    ActKind.REFUSE: frozenset({Right.REFUSE, Right.RELEASE}),
    ActKind.EMERGENCY: frozenset({Right.EMERGENCY}),
    ActKind.EMERGENCY_END: frozenset({Right.EMERGENCY, Right.RELEASE}),
    ActKind.EMERGENCY_REASON: frozenset({Right.EMERGENCY, Right.RELEASE}),
    ActKind.MODE: frozenset({Right.MODE}),
    ActKind.CALL: frozenset({Right.REFUSE, Right.RELEASE}),
}
LOCAL_ONLY = frozenset({ActKind.MODE})  # set at the guard, never over a network
REASONED = frozenset({ActKind.RELEASE, ActKind.EMERGENCY_REASON})  # never without saying why


@dataclass(frozen=True, slots=True)
class Act:
    """One act. What an act does not use keeps its default, and is signed all the same.

    Attributes
    ----------
    operator : str
        Id in the policy; "" where none is claimed (emergency access without a key).
    request : int
        The hold (or, for a reason given afterwards, the grant) that it is about.
    shown : str
        Digest of what the operator was shown, as the ``held`` event names it.
    minutes : int
        Of emergency access; 0 takes the policy's usual ones.
    """

    kind: ActKind
    operator: str = ""
    request: int = 0
    shown: str = ""
    reason: str = ""
    minutes: int = 0
    mode: Mode = Mode.CLINICAL


def message(act: Act, nonce: str, policy: str) -> bytes:
    """The bytes that are signed. ``nonce`` is the guard's latest one on this connection, ``policy`` its digest."""
    document = {
        "act": act.kind.value,
        "minutes": act.minutes,
        "mode": act.mode.value,
        "nonce": nonce,
        "operator": act.operator,
        "policy": policy,
        "reason": act.reason,
        "request": act.request,
        "shown": act.shown,
    }
    text = json.dumps(document, ensure_ascii=True, allow_nan=False, sort_keys=True, separators=(",", ":"))
    return _LABEL + text.encode("ascii")


def signed(act: Act, nonce: str, policy: str, key: SigningKey) -> str:
    """The signature of an act, 128 hexadecimal digits."""
    return key.sign(message(act, nonce, policy)).hex()


@dataclass(frozen=True, slots=True)
class Doubt:
    """Why an act is not believed.

    ``forged``: the signature does not hold, which is counted and slows down. ``stale``: it holds, and its nonce is old.
    """

    reason: str
    forged: bool = False
    stale: bool = False


def doubt(
    act: Act,
    signature: str,
    nonce: str,
    policy: str,
    operators: Mapping[str, Operator],
    today: date,
    *,
    local: bool,
    age: float = 0.0,
    bounds: ControlBounds = CONTROL_BOUNDS,
) -> Doubt | None:
    """Why ``act`` is not believed; None when it is. ``age`` is that of the nonce, in s on the guard's clock.

    1. the operator is in the policy; 2. the signature holds over act, nonce and policy; 3. the nonce is not too old;
    4. the key is still good; 5. the operator has the right; 6. the act may come this way; 7. a reason is given where
    one is needed.
    """
    operator = operators.get(act.operator)
    try:
        raw = bytes.fromhex(signature) if len(signature) == 128 else b""
    except ValueError:
        raw = b""
    if operator is None or not raw or not operator.key.verifies(raw, message(act, nonce, policy)):
        return Doubt("the signature does not hold", forged=True)  # the same words for an unknown operator
    if not age <= bounds.nonce_seconds:
        most = f"at most {bounds.nonce_seconds:g} s"
        return Doubt(f"the nonce that it was signed on is {age:.0f} s old, {most}: sign again", stale=True)
    if operator.last_day is not None and today > operator.last_day:
        return Doubt(f"the key was good until {operator.last_day}")
    if not operator.rights & RIGHTS[act.kind]:
        return Doubt(f"{operator.id} may not {act.kind.value.replace('_', ' ')}")
    if act.kind in LOCAL_ONLY and not local:
        return Doubt(f"{act.kind.value} is set at the guard's own terminal only")
    if act.kind in REASONED and not act.reason.strip():
        return Doubt("a reason is needed")
    if len(act.reason) > POLICY_BOUNDS.reason_chars:
        return Doubt(f"a reason has at most {POLICY_BOUNDS.reason_chars} characters")
    return None
