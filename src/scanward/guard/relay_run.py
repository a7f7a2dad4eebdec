"""A guard from its configuration: everything is verified, put together, run until it is told to end.

This is the relay's process. It must load neither numpy nor anything that brings it (a test looks).
"""

from __future__ import annotations

import asyncio
import errno
import gc
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Final

from scanward import __version__, keys
from scanward.audit.frames import Kind
from scanward.audit.reading import read, segments_of
from scanward.commands import Device
from scanward.errors import AuditError, InputError, ScanwardError, SettingsError
from scanward.guard.config import GuardConfig, WorklistConfig
from scanward.guard.context_client import ContextClient, ContextSettings
from scanward.guard.control import ControlServer
from scanward.guard.control_desk import ControlDesk
from scanward.guard.control_open import open_control
from scanward.guard.dose_port import DosePort
from scanward.guard.ipc import JudgeSettings
from scanward.guard.judge_client import JudgeClient
from scanward.guard.policy import Policy
from scanward.guard.policy_floor import PolicyFloor
from scanward.guard.policy_read import load_policy
from scanward.guard.policy_signing import POLICY, PROFILE
from scanward.guard.profile_read import load_profile
from scanward.guard.recorder import Recorder
from scanward.guard.relay import Relay
from scanward.guard.relay_audit import AuditPort
from scanward.guard.relay_records import START, Told, payload, retell
from scanward.links.base import Link
from scanward.links.identifiers import Identifiers
from scanward.links.stream import StreamLink
from scanward.links.stream_settings import StreamSettings

NO_DEVICE: Final = (
    "Scanward is not a medical device and must not be connected to a clinical scanner"
    " outside an approved study."
)
_SEGMENTS_READ: Final = 2  # of the log at a start: a running examination is not older than a day
_NO_ROOM: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_OF_THE_GATE: Final = 0.9  # share of the gate's own patience after which the judge is killed


@dataclass(frozen=True, slots=True)
class Verified:
    """What a configuration leads to, every signature checked.

    ``device`` has its serial number hashed, as bundles, policies and messages have it.
    """

    config: GuardConfig
    policy: Policy
    device: Device
    site_key: bytes | None


def verified(config: GuardConfig, *, accept: bool = True) -> Verified:
    """Load keys, device profile and policy. ``accept`` False: versions are checked and not remembered.

    Raises
    ------
    ScanwardError
        The first thing that is refused.
    """
    site_key = keys.load_site_key(config.site_key) if config.site_key else None
    device = replace(config.device, serial=Identifiers(site_key).hash(config.device.serial))
    trusted = [keys.VerifyKey.load(path) for path in config.policy.keys]
    floor = PolicyFloor(config.policy.versions)
    profile = load_profile(config.policy.profile, trusted, device=device, floor=floor if accept else None)
    policy = load_policy(config.policy.path, trusted, profile, device=device, floor=floor if accept else None)
    if not accept:
        floor.check(PROFILE, profile.device, profile.version, profile.digest)
        floor.check(POLICY, policy.device, policy.version, policy.digest)
    return Verified(config, policy, device, site_key)


def judge_settings(found: Verified) -> JudgeSettings:
    """What the judge is told; SettingsError without a ``[judge]`` table."""
    judge = found.config.judge
    if judge is None:
        raise SettingsError(
            "no judge is configured", str(found.config.path), "add [judge] with bundle and keys"
        )
    device = found.device
    judge.versions.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return JudgeSettings(
        str(judge.bundle),
        [str(path) for path in judge.keys],
        str(judge.versions),
        device.manufacturer,
        device.model,
        device.serial,
        device.software,
    )


def link_of(found: Verified) -> Link:
    """The link that the configuration asks for; ScanwardError when its files or buses cannot be used."""
    config, stream, can = found.config, found.config.stream, found.config.can
    if stream is not None:
        return StreamLink(
            StreamSettings(
                config.device,
                stream.listen,
                stream.gantry,
                stream.tls,
                keys.passphrase_from_environment(),
                stream.host_pins,
                stream.gantry_pins,
                found.site_key,
                stream.heartbeat_s,
                stream.silence_s,
            )
        )
    if can is None:
        raise SettingsError(
            f"there is no gantry behind a link of type {config.link.value}",
            str(config.path),
            'give a configuration with [link] type = "stream" or "can"',
        )
    from scanward.guard.can_link import can_link  # late: a guard on TCP needs no CAN library

    return can_link(config, found.device, found.site_key)


def context_settings(asked: WorklistConfig) -> ContextSettings:
    """What the process that asks the worklist is told."""
    files = asked.tls
    return ContextSettings(
        asked.title,
        asked.server,
        *asked.address,
        asked.name,
        str(files.certificate) if files else "",
        str(files.key) if files else "",
        str(files.authority) if files else "",
    )


def told_by_log(folder: Path) -> tuple[Told, str]:
    """What the end of the log tells of running examinations, and what is wrong with it ("" when nothing is)."""
    if not folder.is_dir():
        return Told(), ""
    try:
        segments, findings = segments_of(folder)
        trouble = findings[0].what if findings else ""
        after = segments[-_SEGMENTS_READ].header.first_seq - 1 if len(segments) >= _SEGMENTS_READ else 0
        records = [r.payload for r in read(folder, after=after, past_damage=True) if r.kind is Kind.RECORD]
        return retell(records), trouble
    except InputError:
        return Told(), ""  # no log yet
    except AuditError as error:
        return Told(), error.what


class Guard:
    """One running guard: relay, judge, log, control channel, link.

    Parameters
    ----------
    found : Verified
    recordings : Path or None
        Record what is carried out there instead of judging it; the policy must say ``unsafe_shadow``.
    """

    def __init__(self, found: Verified, link: Link, recordings: Path | None = None) -> None:
        if recordings is not None and not found.policy.unsafe_shadow:
            raise SettingsError(
                "recording passes everything on unjudged, and the policy does not allow that",
                str(found.config.policy.path),
                "sign a policy with unsafe_shadow = true for the time of recording",
            )
        self.found = found
        self.link = link
        self.ended = asyncio.Event()
        self.crashed: BaseException | None = None
        policy, config = found.policy, found.config
        self.relay = Relay(policy, link, self._crash)
        self.audit = AuditPort(
            config.audit.folder,
            config.audit.key,
            self.relay,
            witness=config.audit.witness,
            patience_s=policy.times.record_seconds,
        )
        self.judge: JudgeClient | None = None
        self.recorder: Recorder | None = None
        if recordings is None:
            patience = _OF_THE_GATE * policy.times.judge_seconds
            self.judge = JudgeClient(judge_settings(found), self.relay, patience)
            self.relay.judge = self.judge
        else:
            loop = asyncio.get_running_loop()

            def failed(reason: str) -> None:
                with suppress(RuntimeError):  # the loop has ended meanwhile
                    loop.call_soon_threadsafe(lambda: self.relay.log_note("recording", {"reason": reason}))

            self.recorder = Recorder(recordings, config.device, time.time, failed)
            self.relay.observe = self.recorder.observe
        self.context: ContextClient | None = None
        if isinstance(link, StreamLink):
            self.relay.names.reveal = link.reveal
        if config.worklist is not None and isinstance(link, StreamLink):
            asked = config.worklist
            if asked.wait_s > 0.5 * policy.times.judge_seconds:
                raise SettingsError(
                    f"[worklist] waits {asked.wait_s:g} s, and a load has {policy.times.judge_seconds:g} s in all",
                    str(config.path),
                    "give a wait of at most half the policy's judge_seconds",
                )
            self.context = ContextClient(context_settings(asked), self.relay, link.reveal, asked.wait_s)
            self.relay.lookup = self.context
        self.doses: DosePort | None = None
        if config.doses is not None:
            self.relay.doses = self.doses = DosePort(self.relay)
        self.relay.audit = self.audit
        self._desk = ControlDesk(policy, self.relay, self._publish)
        self.relay.desk = self._desk
        self.control = ControlServer(self._desk, self._record, _today)
        self.control_port = 0  # of consoles elsewhere; 0: none
        self._ticker: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        """Open everything; LinkError, AuditError or SettingsError when that is not possible."""
        config = self.found.config
        told, trouble = told_by_log(config.audit.folder)
        config.audit.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        asyncio.get_running_loop().set_exception_handler(self._unforeseen)
        self.audit.start()
        self.audit.note(payload(START, 0, self._facts()))
        self.relay.restore(told)
        if trouble or told.damaged:
            self.relay.log_note("log_damaged", {"reason": trouble, "records": told.damaged})
            self.relay.record("log_damaged", {"reason": trouble, "records": told.damaged})
        if self.judge is not None:
            self.judge.start()
        if self.context is not None:
            self.context.start()
        self.control_port = await open_control(self.control, config.control)
        if self.doses is not None and config.doses is not None:
            config.doses.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            await self.doses.listen(config.doses)
        await self.link.start(self.relay)
        self._tick()
        gc.collect()
        gc.freeze()  # what was built at the start is looked at no more: shorter pauses

    async def close(self) -> None:
        """End everything; the gantry goes to its safe state with its link."""
        if self._ticker is not None:
            self._ticker.cancel()
        self.relay.end()
        await self.link.close()
        if self.crashed is None:
            self.relay.record("end", {})
        await self.control.close()
        if self.doses is not None:
            await self.doses.close()
        if self.judge is not None:
            await self.judge.close()
        if self.context is not None:
            await self.context.close()
        if self.recorder is not None:
            await asyncio.to_thread(self.recorder.close)
        await self.audit.close()

    def _facts(self) -> dict[str, Any]:
        policy, config = self.found.policy, self.found.config
        return {
            "version": __version__,
            "device": self.found.device,
            "link": config.link,
            "policy": policy.digest,
            "policy_version": policy.version,
            "profile": policy.profile.digest,
            "weakenings": [*config.weakenings, *policy.weakenings],
            "recording": self.recorder is not None,
        }

    def _crash(self, error: BaseException) -> None:
        self.crashed = error
        self.ended.set()

    def _unforeseen(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """What asyncio would only log: an exception that nobody caught."""
        error = context.get("exception")
        if isinstance(error, OSError) and error.errno in _NO_ROOM:
            # Too many files or too little memory to accept one more stranger: known, and asyncio tries again.
            self.relay.log_note("accept", {"reason": error.strerror})
            return
        self.relay.crash(error if error is not None else RuntimeError(str(context.get("message"))))

    def _record(self, kind: str, data: Any) -> None:
        self.relay.record(kind, data)

    def _publish(self, kind: str, data: Any) -> None:
        self.control.publish(kind, data)

    def _tick(self) -> None:
        self._desk.tick()
        self._ticker = asyncio.get_running_loop().call_later(1.0, self._tick)


async def run(
    found: Verified,
    say: Callable[[dict[str, Any]], None],
    recordings: Path | None = None,
    link: Link | None = None,
) -> int:
    """Run until SIGTERM or SIGINT, then return 0; ``say`` hears when it is ready, and what it did at the end.

    Raises
    ------
    ScanwardError
        Something cannot be opened, or something happened that nobody foresaw: both links were dropped.
    """
    guard = Guard(found, link or link_of(found), recordings)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, guard.ended.set)
    try:
        await guard.start()
        say(_ready(guard))
        await guard.ended.wait()
    finally:
        await guard.close()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.remove_signal_handler(number)
    if guard.crashed is not None:
        error = guard.crashed
        if isinstance(error, ScanwardError):
            raise error
        raise ScanwardError(
            f"unexpected {type(error).__name__}: {error}",
            "the relay",
            "both links were dropped; report this with the end of the audit log",
        ) from error
    counters, recorder = guard.relay.counters, guard.recorder
    done: dict[str, Any] = {"ended": True, "asked": counters.asked, "stops": counters.stops}
    if recorder is not None:
        done |= {"recorded": recorder.recorded, "lost": recorder.lost}
    say(done)
    return 0


def _ready(guard: Guard) -> dict[str, Any]:
    link, config = guard.link, guard.found.config
    port = link.port if isinstance(link, StreamLink) else 0
    ready = {"ready": True, "link": config.link.value, "port": port, "control": str(config.control.socket)}
    return ready | ({"control_port": guard.control_port} if guard.control_port else {})


def _today() -> date:
    return datetime.now(UTC).date()
