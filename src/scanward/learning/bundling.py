"""What a manifest says of how its bundle was trained. No clock: the same training gives the same facts."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from scanward.bundle import BundleFacts, library_versions
from scanward.commands import FIELDS, Device, Examination, Field, Group, Kind, Role
from scanward.errors import SettingsError
from scanward.layers.encoding import Learned
from scanward.learning.fit import CALIBRATE, Fitted, clinical
from scanward.learning.seen import seen
from scanward.recordings.examinations import canonical, in_time

LIBRARIES = ("lightgbm", "numpy", "onnx", "onnxruntime", "scikit-learn", "torch")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_CREATED = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)


def facts_of(
    fitted: Fitted,
    examinations: Sequence[Examination],
    *,
    created: str | None = None,
    site_key: str | None = None,
    seed: int = 0,
    include_qa: bool = False,
    version: int | None = None,
) -> BundleFacts:
    """Facts of a bundle whose judge was fitted to ``examinations``.

    ``created`` is by default the time of the newest command, for a bundle must depend on its input alone;
    ``site_key`` is the fingerprint of the key that identifiers were hashed with.
    """
    clean = clinical(examinations)
    commands = [command for examination in clean for command in examination.commands]
    role = commands[0].role
    devices = {c.device for c in commands}
    onion = fitted.onion
    return BundleFacts(
        created=created or _newest([c.acquired_at for c in commands if c.acquired_at is not None]),
        role=role,
        # Software versions come and go; what binds a bundle is maker, model and serial number.
        devices=tuple(
            sorted(
                {Device(d.manufacturer, d.model, d.serial) for d in devices},
                key=lambda d: (d.manufacturer, d.model, d.serial),
            )
        ),
        fields=tuple(_field(learned) for learned in sorted(onion.encoder.fields, key=lambda f: f.name)),
        training_data=training_digest(clean),
        calibration={
            "budget": onion.budget,
            **{name: len(calibration.scores) for name, calibration in sorted(onion.calibrations.items())},
        },
        metrics={
            **fitted.report,
            "seen": seen(onion.encoder, clean, CALIBRATE),
            "site_key": site_key,
            "seed": seed,
            "include_qa": include_qa,
        },
        libraries=library_versions(*LIBRARIES),
        roles=_roles(clean, role),
        version=version,
    )


def training_digest(examinations: Sequence[Examination]) -> str:
    """SHA-256 of everything that was learned from, whatever files and order it came in (64 hex digits)."""
    digests = []
    for examination in examinations:
        said = repr([(in_time(c), canonical(c)) for c in examination.commands])
        digests.append(hashlib.sha256(said.encode("utf-8", "surrogatepass")).digest())
    return hashlib.sha256(b"".join(sorted(digests))).hexdigest()


def check_created(created: str | None) -> None:
    """Refuse a date that no manifest can hold, before minutes of training.

    Raises
    ------
    SettingsError
        Unless it is a UTC time like ``2026-01-31T12:00:00Z``.
    """
    if created is None:
        return
    try:
        if _CREATED.fullmatch(created):
            datetime.fromisoformat(created)
            return
    except ValueError:
        pass
    raise SettingsError(f"{created!r} is no UTC time", "--created", "give one like 2026-01-31T12:00:00Z")


def _newest(times: Sequence[float]) -> str:
    try:
        moment = _EPOCH + timedelta(seconds=int(max(times, default=0.0)))
    except (OverflowError, ValueError):
        moment = _EPOCH
    return f"{moment.year:04d}-{moment:%m-%dT%H:%M:%SZ}"


def _field(learned: Learned) -> Field:
    known = FIELDS.get(learned.name)
    if known is not None:
        return known
    kind = Kind.CATEGORY if learned.kind == "category" else Kind.NUMBER
    return Field(learned.name, kind, Group(learned.group))


def _roles(examinations: Sequence[Examination], role: Role) -> dict[str, Role]:
    """Role of each field that is mostly of another role than the bundle."""
    counts: dict[str, Counter[Role]] = {}
    for examination in examinations:
        for command in examination.commands:
            for name in command.parameters:
                counts.setdefault(name, Counter())[command.role_of(name)] += 1
    most = {name: max(sorted(found), key=lambda r: found[r]) for name, found in counts.items()}
    return {name: found for name, found in sorted(most.items()) if found is not role}
