"""``scanward guard --check``: looks at everything that a guard is built from, and opens nothing.

Each look gives its facts or one of our errors; one that fails does not keep the others from being made.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from scanward import keys
from scanward.errors import AuditError, LinkError, ScanwardError
from scanward.guard.config import GuardConfig
from scanward.guard.relay_run import Verified, judge_settings, told_by_log, verified
from scanward.transport.tls import certificate_facts, client_context, refuse_expired, server_context

SOON_DAYS = 30  # days before its end from which a certificate is warned of


@dataclass(frozen=True, slots=True)
class Look:
    """One thing looked at. ``facts`` for people and ``--json``; ``warning`` when it will be trouble."""

    name: str
    facts: dict[str, Any]
    warning: str = ""
    error: ScanwardError | None = None


def check(config: GuardConfig) -> tuple[Look, ...]:
    """Look at keys, certificates, policy, judge, log and control socket, in this order."""
    return tuple(_looks(config))


def _looks(config: GuardConfig) -> Iterator[Look]:
    yield _look("link", lambda: _link(config))
    found: list[Verified] = []

    def policy() -> Look:
        found.append(verified(config, accept=False))
        return _policy(found[0])

    yield _look("policy", policy)
    if config.judge is not None:
        yield _look("judge", lambda: _judge(found[0] if found else _bare(config)))
    if config.worklist is not None:
        yield _look("worklist", lambda: _worklist(config))
    yield _look("audit log", lambda: _audit(config))
    yield _look("control", lambda: _control(config))
    doses = config.doses
    if doses is not None:
        yield _look("doses", lambda: _socket("doses", doses))


def _look(name: str, make: Callable[[], Look]) -> Look:
    try:
        return make()
    except ScanwardError as error:
        return Look(name, {}, error=error)
    except OSError as error:
        todo = "check path and rights"
        return Look(name, {}, error=LinkError(error.strerror or str(error), str(error.filename or ""), todo))


def _bare(config: GuardConfig) -> Verified:
    """For looking at a bundle although the policy is refused."""
    from scanward.links.identifiers import Identifiers

    site_key = keys.load_site_key(config.site_key) if config.site_key else None
    device = replace(config.device, serial=Identifiers(site_key).hash(config.device.serial))
    return Verified(config, None, device, site_key)  # type: ignore[arg-type]


def _link(config: GuardConfig) -> Look:
    stream, can = config.stream, config.can
    if can is not None:
        from scanward.guard.can_link import facts_of

        return Look("link", facts_of(config))
    assert stream is not None  # the configuration holds one of the two
    facts: dict[str, Any] = {
        "type": config.link.value,
        "hosts connect to": "{}:{}".format(*stream.listen),
        "gantry": "{}:{}".format(*stream.gantry),
    }
    if stream.tls is None:
        return Look(
            "link", facts, warning="unsafe_plaintext: whoever is on this network can speak for both ends"
        )
    passphrase = keys.passphrase_from_environment()
    server_context(stream.tls, passphrase)
    client_context(stream.tls, passphrase)
    own = certificate_facts(stream.tls.certificate)
    refuse_expired(own, stream.tls.certificate)
    facts |= {
        "our certificate": f"{', '.join(own.names)}, until {own.not_after:%Y-%m-%d}",
        "our fingerprint": own.fingerprint,
        "hosts": sorted(stream.host_pins.names | stream.host_pins.fingerprints),
        "gantries": sorted(stream.gantry_pins.names | stream.gantry_pins.fingerprints),
    }
    days = (own.not_after - datetime.now(UTC)).days
    return Look("link", facts, f"our certificate ends in {days} days" if days < SOON_DAYS else "")


def _policy(found: Verified) -> Look:
    policy = found.policy
    weak = [*found.config.weakenings, *policy.weakenings]
    device = found.config.device
    facts = {
        "device": f"{device.manufacturer} {device.model} {device.serial}".strip(),
        "name": policy.name,
        "version": policy.version,
        "modes": [mode.value for mode in policy.modes],
        "operators": sorted(policy.operators),
        "hold_seconds": policy.times.hold_seconds,
        "weakenings": weak,
    }
    return Look("policy", facts, f"weakened by {', '.join(weak)}" if weak else "")


def _judge(found: Verified) -> Look:
    from scanward.guard.judge import open_judge  # loads numpy: for this look alone, never in a relay

    onion, bundle = open_judge(judge_settings(found), accept=False)
    facts = bundle.manifest.facts
    return Look(
        "judge",
        {
            "bundle": str(found.config.judge.bundle) if found.config.judge else "",
            "version": bundle.manifest.version,
            "digest": bundle.manifest.digest,
            "created": facts.created,
            "devices": [f"{d.manufacturer} {d.model}".strip() for d in facts.devices],
            "layers": [layer.name.value for layer in onion.layers],
            "budget": onion.budget,
        },
    )


def _worklist(config: GuardConfig) -> Look:
    asked = config.worklist
    assert asked is not None  # looked at only where there is one
    warning = "" if asked.tls else "unsafe_plaintext: whoever is on this network can answer in its name"
    facts = {"server": f"{asked.server}@{asked.address[0]}:{asked.address[1]}", "wait": asked.wait_s}
    return Look("worklist", facts, warning)


def _audit(config: GuardConfig) -> Look:
    audit = config.audit
    key = keys.SigningKey.load(audit.key, keys.passphrase_from_environment())
    told, trouble = told_by_log(audit.folder)
    if trouble:
        raise AuditError(trouble, str(audit.folder), f"run `scanward audit verify {audit.folder}`")
    facts = {
        "dir": str(audit.folder),
        "key": key.fingerprint,
        "witness": str(audit.witness) if audit.witness else "none",
        "running examinations": len(told.courses),
        "releases whose fate is unknown": len(told.unknown),
    }
    warning = "" if audit.witness else "no witness: whoever owns this machine can shorten the log unseen"
    _writable(audit.folder)
    return Look("audit log", facts, warning)


def _control(config: GuardConfig) -> Look:
    found, control = _socket("control", config.control.socket), config.control
    if control.listen is None or control.tls is None:
        return found
    server_context(control.tls, keys.passphrase_from_environment())
    own = certificate_facts(control.tls.certificate)
    refuse_expired(own, control.tls.certificate)
    facts = {
        **found.facts,
        "consoles connect to": "{}:{}".format(*control.listen),
        "our certificate": f"{', '.join(own.names)}, until {own.not_after:%Y-%m-%d}",
        "consoles": sorted(control.pins.names | control.pins.fingerprints),
    }
    days = (own.not_after - datetime.now(UTC)).days
    return Look("control", facts, f"our certificate ends in {days} days" if days < SOON_DAYS else "")


def _socket(name: str, path: Path) -> Look:
    if len(os.fsencode(path)) > 107:
        raise LinkError("the path of a socket has at most 107 bytes", str(path), "choose a shorter one")
    _writable(path.parent)
    return Look(name, {"socket": str(path)})


def _writable(folder: Path) -> None:
    """The folder, or the nearest one above that is there."""
    there = folder
    while not there.exists() and there != there.parent:
        there = there.parent
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise LinkError("this folder cannot be written to", str(there), "check who owns it")
