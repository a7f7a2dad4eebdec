"""A whole guard for tests: keys, signed policy and profile, guard.toml, and the real process."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from _guard import DEVICE_TOML, SITE_KEY, policy_text
from _stream import DEVICE, HELLO
from _trained import Trained
from scanward.audit.frames import Kind
from scanward.audit.reading import read
from scanward.commands import Command, Device
from scanward.guard.policy_signing import POLICY, PROFILE, sign
from scanward.keys import SigningKey, write_pair

# The scanner of the small bundle that the example policy is for; its serial number as the table has it.
SIGMA = Device("Simulated Sigma", "S-128", "50f51b90a2b817b60041", "SIM 1.0")
START_S = 60.0  # for a guard to be ready on a busy machine


def hello(channel: str = "commands", device: Device = SIGMA) -> bytes:
    """Either end's first line, of the guarded device."""
    said = HELLO % channel.encode()
    for old, new in zip(
        (DEVICE.manufacturer, DEVICE.model, DEVICE.serial, DEVICE.software),
        (device.manufacturer, device.model, device.serial, device.software),
        strict=True,
    ):
        said = said.replace(b'"' + old.encode() + b'"', b'"' + new.encode() + b'"')
    return said


def patient(policy: str) -> str:
    """A policy that gives the judge more time than a site would: the machine of the tests may be busy."""
    assert "judge_seconds = 2.0 " in policy
    return policy.replace("judge_seconds = 2.0 ", "judge_seconds = 8.0 ")


@dataclass
class GuardSite:
    """A folder with everything that ``scanward guard`` needs.

    ``process`` is the relay once `start` was called; ``port`` is where hosts connect.
    """

    folder: Path
    process: subprocess.Popen[str] | None = None
    port: int = 0
    said: list[str] = field(default_factory=list)

    @property
    def config(self) -> Path:
        return self.folder / "guard.toml"

    @property
    def log(self) -> Path:
        return self.folder / "audit"

    @classmethod
    def make(
        cls,
        folder: Path,
        gantry_port: int,
        bundle: Trained | None,
        *,
        tls: str = "unsafe_plaintext = true",
        host: str = "",
        gantry: str = "",
        policy: str | None = None,
        **top: str,
    ) -> GuardSite:
        """``top`` are keys of the policy, e.g. ``unsafe_shadow="true"``."""
        folder.mkdir(parents=True, exist_ok=True)
        write_pair(folder / "site", SITE_KEY)
        write_pair(folder / "log", SigningKey.from_seed(bytes([9]) * 32))
        for name, kind, text in (
            ("device.toml", PROFILE, DEVICE_TOML),
            ("policy.toml", POLICY, policy or patient(policy_text(**top))),
        ):
            (folder / name).write_text(text, "utf-8")
            sign(folder / name, kind, text.encode(), SITE_KEY)
        judge = f'[judge]\nbundle = "{bundle.model}"\nkeys = ["{bundle.trust}"]\n' if bundle else ""
        (folder / "guard.toml").write_text(
            f"""
[device]
Manufacturer = "{SIGMA.manufacturer}"
ManufacturerModelName = "{SIGMA.model}"
DeviceSerialNumber = "{SIGMA.serial}"
SoftwareVersions = "{SIGMA.software}"
[link]
type = "stream"
[host]
listen = "127.0.0.1:0"
{host}
[gantry]
connect = "127.0.0.1:{gantry_port}"
{gantry}
[tls]
{tls}
[policy]
path = "policy.toml"
profile = "device.toml"
keys = ["site.pub"]
{judge}
[audit]
dir = "audit"
key = "log.key"
[control]
socket = "c.sock"
""",
            "utf-8",
        )
        return cls(folder)

    def command(self, *arguments: str) -> list[str]:
        """The command line of ``scanward ARGUMENTS``."""
        return [sys.executable, "-c", "from scanward.cli import main; main()", *arguments]

    def start(self, *arguments: str) -> None:
        """Start the relay and wait until it is ready."""
        arguments = arguments or ("guard",)
        with (self.folder / "stderr").open("ab") as err:
            self.process = subprocess.Popen(
                self.command(arguments[0], "--config", str(self.config), *arguments[1:]),
                stdout=subprocess.PIPE,
                stderr=err,
                text=True,
                env={**os.environ, "PYTHONDEVMODE": ""},
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        self.said.append(line)
        found = re.search(r"port (\d+)", line)
        assert found, (line, (self.folder / "stderr").read_text())
        self.port = int(found.group(1))

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End the relay; its exit status."""
        assert self.process is not None
        self.process.send_signal(number)
        try:
            status = self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        finally:
            assert self.process.stdout is not None
            self.process.stdout.close()
        return status

    def children(self) -> dict[str, int]:
        """Process ids of the judge and of the log's writer."""
        assert self.process is not None
        listed = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        found = {}
        for pid in listed:
            try:
                line = Path(f"/proc/{pid}/cmdline").read_bytes()
            except OSError:
                continue
            for name in ("judge", "audit"):
                if f"scanward.{'guard.judge' if name == 'judge' else 'audit.process'}".encode() in line:
                    found[name] = int(pid)
        return found

    def records(self) -> list[dict[str, Any]]:
        """Everything in the log that the relay wrote, oldest first."""
        if not any(self.log.glob("*.audit")):
            return []
        kept = (r for r in read(self.log, past_damage=True) if r.kind is Kind.RECORD)
        return [json.loads(record.payload) for record in kept]

    def of(self, kind: str) -> list[dict[str, Any]]:
        """Records of one kind."""
        return [said for said in self.records() if said.get("kind") == kind]

    async def wait_for(self, kind: str, count: int = 1) -> dict[str, Any]:
        """Until the log holds ``count`` records of ``kind``; the last of these."""
        end = time.monotonic() + START_S
        while len(found := self.of(kind)) < count:
            assert time.monotonic() < end, [said.get("kind") for said in self.records()]
            await asyncio.sleep(0.05)
        return found[count - 1]


def load_line(name: str, commands: Sequence[Command], study: str = "1.2.3", patient: str = "P1") -> bytes:
    """A load of these commands, as a host says it."""
    chain = [
        {
            "parameters": dict(command.parameters),
            "roles": {n: r.value for n, r in command.roles.items()},
            "context": {n: told[0].value for n, told in command.context.parts.items()},
        }
        for command in commands
    ]
    line = {"type": "load", "id": name, "StudyInstanceUID": study, "PatientID": patient, "chain": chain}
    return json.dumps(line).encode() + b"\n"


def trigger_line(name: str, load: str, element: int) -> bytes:
    """A trigger."""
    return json.dumps({"type": "trigger", "id": name, "load": load, "element": element}).encode() + b"\n"
