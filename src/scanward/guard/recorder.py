"""Recordings of what was carried out: one JSON object a line, and the dialect that reads them back.

    recordings/commands-20260131.jsonl    a file a day (UTC); columns are DICOM keywords
    recordings/dialect.toml               role of every field, kind of every site parameter

Only what a trigger began is recorded: what was loaded and never used says nothing of how the scanner is run.
StudyInstanceUID is the guard's keyed hash; the device's serial number is in clear, as `scanward train` needs it.
A thread writes: a slow disk costs a recording, never a command.
"""

from __future__ import annotations

import json
import os
import queue
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from scanward.commands import FIELDS, Command, Device, Mode, Role, Source, Value
from scanward.config import RELAY_BOUNDS
from scanward.errors import LinkError
from scanward.guard.events import Effect, Record

DIALECT: Final = "dialect.toml"
_END: Final = None


@dataclass(frozen=True, slots=True)
class _Column:
    """What a column's name cannot say."""

    role: Role
    number: bool
    group: str  # machine, patient or objective
    source: Source


class Recorder:
    """Observes the gate's effects and writes commands as they are carried out.

    Parameters
    ----------
    folder : Path
        Made when it is not there.
    device : Device
        ``serial`` in clear.
    clock : callable
        Seconds since 1970 (UTC).
    failed : callable of str
        Called once, from the writing thread, when the disk does not take any more.
    """

    def __init__(
        self, folder: Path, device: Device, clock: Callable[[], float], failed: Callable[[str], None]
    ) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LinkError(
                f"recordings cannot be kept there: {error.strerror}", str(folder), "give another folder"
            ) from error
        self.recorded = 0
        self.lost = 0
        self._folder, self._device, self._clock, self._failed = folder, device, clock, failed
        self._triggers: dict[int, Mapping[str, Any]] = {}
        self._columns: dict[str, _Column] = {}
        self._rows: queue.Queue[tuple[str, bytes, bytes | None] | None] = queue.Queue(RELAY_BOUNDS.rows)
        self._number = 0
        self._thread = threading.Thread(target=self._write, name="recorder", daemon=True)
        self._thread.start()

    def observe(self, effect: Effect) -> None:
        """One effect of the gate; a command is recorded when it is sent."""
        if not isinstance(effect, Record):
            return
        if effect.kind == "trigger":
            self._triggers[effect.token] = effect.data
            while len(self._triggers) > RELAY_BOUNDS.contexts:
                del self._triggers[next(iter(self._triggers))]
        elif effect.kind == "sent":
            token = effect.data.get("token")
            data = self._triggers.pop(token, None) if isinstance(token, int) else None
            data = data or effect.data
            command = data.get("command")
            if isinstance(command, Command):
                self._row(command)

    def close(self) -> None:
        """Write what waits, and end."""
        self._rows.put(_END)
        self._thread.join(10.0)

    # --- rows

    def _row(self, command: Command) -> None:
        now = datetime.fromtimestamp(self._clock(), UTC)
        self._number += 1
        row: dict[str, Value] = {
            "AcquisitionDateTime": f"{now:%Y%m%d%H%M%S}.{now.microsecond:06d}",
            "AcquisitionNumber": float(self._number),
            "Manufacturer": self._device.manufacturer,
            "ManufacturerModelName": self._device.model,
            "Mode": command.mode.value,
        }
        optional = {
            "DeviceSerialNumber": self._device.serial,
            "SoftwareVersions": self._device.software,
            "StudyInstanceUID": command.examination or "",
        }
        row |= {name: text for name, text in optional.items() if text}
        before = len(self._columns)
        for name, value in command.parameters.items():
            self._cell(row, name, name, value, command.role_of(name), "machine", Source.HOST)
        for name, told in command.context.parts.items():
            for one in told:
                column = name if one.source is Source.HOST else f"{name}@{one.source.value}"
                known = FIELDS.get(name)
                group = known.group.value if known else "objective"
                self._cell(row, column, name, one.value, command.role, group, one.source)
        dialect = self._dialect().encode() if len(self._columns) > before else None
        try:
            line = json.dumps(row, ensure_ascii=False, allow_nan=False).encode() + b"\n"
            self._rows.put_nowait((f"commands-{now:%Y%m%d}.jsonl", line, dialect))
            self.recorded += 1
        except (queue.Full, ValueError):
            self.lost += 1

    def _cell(
        self,
        row: dict[str, Value],
        column: str,
        name: str,
        value: Value,
        role: Role,
        group: str,
        source: Source,
    ) -> None:
        if isinstance(value, str):
            value = value.strip()
            if not value:
                return
        row[column] = value
        known = FIELDS.get(name)
        if (known is None or role is not Role.COMMANDED) and column not in self._columns:
            self._columns[column] = _Column(role, not isinstance(value, str), group, source)

    def _dialect(self) -> str:
        """The dialect, with a rule for each column whose name does not say all."""
        lines = [
            "format = 1",
            'name = "recorded by Scanward"',
            'role = "commanded"',
            'missing = [""]',
            "",
            "# Read with: scanward train RECORDINGS --dialect RECORDINGS/dialect.toml",
        ]
        for column, told in self._columns.items():
            name = column.partition("@")[0]
            key = f'"{name}@{told.source.value}"' if told.source is not Source.HOST else name
            lines += ["", f"[fields.{key}]", f'column = "{column}"', "optional = true"]
            if name not in FIELDS:
                kind = "number" if told.number else "category"
                lines += [f'kind = "{kind}"', f'group = "{told.group}"']
            elif FIELDS[name].unit:
                lines.append(f'unit = "{FIELDS[name].unit}"')
            if told.role is not Role.COMMANDED:
                lines.append(f'role = "{told.role.value}"')
        for mode in Mode:
            lines += [
                "",
                "[[modes]]",
                f'mode = "{mode.value}"',
                'column = "Mode"',
                f'equals = ["{mode.value}"]',
            ]
        return "\n".join(lines) + "\n"

    # --- the thread

    def _write(self) -> None:
        while (row := self._rows.get()) is not _END:
            name, line, dialect = row
            try:
                if dialect is not None:
                    sibling = self._folder / f".{DIALECT}.new"
                    sibling.write_bytes(dialect)
                    sibling.replace(self._folder / DIALECT)
                flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
                handle = os.open(self._folder / name, flags, 0o600)
                try:
                    os.write(handle, line)
                    os.fsync(handle)
                finally:
                    os.close(handle)
            except OSError as error:
                self.lost += 1
                self._failed(f"a recording was lost: {error.strerror}")
