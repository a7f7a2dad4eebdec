"""What follows from the opinions on a protocol: the site's policy where there is one, else as grave as the gravest.

A protocol is no command: layers that need a whole command or a patient may abstain, so `Policy.decide` (which
takes an absent opinion for HALT) is not asked; its table of verdicts is.
"""

from __future__ import annotations

from collections.abc import Sequence

from scanward.commands import LEARNED_LAYERS, LayerName, Opinion, Outcome, Severity, Verdict
from scanward.guard.events import Finding
from scanward.guard.policy import reason_of
from scanward.guard.policy_terms import GRAVITY, ModePolicy

_PLAIN = {Severity.ALERT: Verdict.ALERT, Severity.HALT: Verdict.HALT}
NEEDED = (LayerName.FORM, LayerName.PROTOCOL_BOOK)  # without them nothing is released


def decide(opinions: Sequence[Opinion], mode: ModePolicy | None = None, *, shadow: bool = False) -> Finding:
    """One finding for a protocol or an approval.

    Parameters
    ----------
    mode : ModePolicy, optional
        The policy's, for clinical mode.
    shadow : bool
        The policy's ``unsafe_shadow``: everything is released but what form halts; the finding says what would
        have been decided.
    """
    said = {o.layer for o in opinions}
    causes = [
        Finding(Verdict.HALT, name, (), f"the judge gave no opinion of layer {name}", form=True)
        for name in NEEDED
        if name not in said
    ]
    for opinion in opinions:
        severity = opinion.severity
        if opinion.outcome is Outcome.OBJECT and severity is Severity.INFORMATION:
            severity = Severity.ALERT  # it objects and does not say how gravely
        if severity is Severity.INFORMATION:
            continue
        form = opinion.layer is LayerName.FORM and severity is Severity.HALT
        if form or mode is None:
            verdict = _PLAIN[severity]
        elif opinion.layer in LEARNED_LAYERS:
            verdict = mode.beyond_budget
        else:
            verdict = mode.verdicts[opinion.layer, severity]
        grave = tuple(o for o in opinion.objections if o.severity is severity)
        fields = tuple(dict.fromkeys(o.field for o in grave if o.field))[:16]
        causes.append(Finding(verdict, opinion.layer, fields, reason_of(grave) or opinion.reason, form=form))
    worst = max(causes, key=lambda c: (c.form, GRAVITY[c.verdict]), default=None)
    if worst is None or worst.verdict is Verdict.RELEASE:
        return Finding(Verdict.RELEASE)
    if shadow and not worst.form:
        reason = f"shadow mode, would be {worst.verdict}: {worst.reason}"
        return Finding(Verdict.RELEASE, worst.layer, worst.fields, reason)
    return worst
