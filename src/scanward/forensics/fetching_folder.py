"""Where the objects of a study land: one file each, once it is whole, of this study, and under its own name."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from scanward.config import FETCH_BOUNDS, FetchBounds
from scanward.errors import DecodeError, InputError, LinkError
from scanward.transport.dicom import SUCCESS, Incoming, Reply
from scanward.transport.dicom_names import SOP_CLASS, SOP_INSTANCE, STUDY, names_of
from scanward.transport.dicom_part10 import framed, is_uid, unframed

_OUT_OF_RESOURCES, _MISMATCH = 0xA700, 0xA900
_META = 64 << 10  # bytes: no file meta information is longer


class Landing:
    """A folder that fills.

    Parameters
    ----------
    out : Path
        Empty, or not there yet.
    study : str
        Study Instance UID that every object must have.
    progress : callable
        Told after each object: how many, and of how many (``total``).
    """

    def __init__(
        self,
        out: Path,
        study: str,
        bounds: FetchBounds = FETCH_BOUNDS,
        progress: Callable[[int, int | None], None] = lambda done, total: None,
    ) -> None:
        self.out, self._study, self._bounds, self._progress = out, study, bounds, progress
        self.total: int | None = None
        self._lock = threading.Lock()
        self._bytes = 0
        self._files: dict[str, Path] = {}
        self._troubles: list[str] = []
        try:
            out.mkdir(parents=True, exist_ok=True)
            held = next(out.iterdir(), None)
        except OSError as error:
            raise InputError(f"cannot be used ({error.strerror})", str(out), "give another folder") from error
        if held is not None:
            raise InputError("the folder holds something", str(out), "give an empty or a new one")

    @property
    def count(self) -> int:
        """Objects written."""
        return len(self._files)

    def files(self) -> tuple[Path, ...]:
        """What was written, by name."""
        return tuple(self._files[name] for name in sorted(self._files))

    def instances(self) -> frozenset[str]:
        """SOP Instance UIDs of what was written."""
        return frozenset(self._files)

    def refuse_troubles(self) -> None:
        """LinkError when an object was not taken, with the first reason."""
        if self._troubles:
            what = f"{len(self._troubles)} objects were not taken: {self._troubles[0]}"
            raise LinkError(what, str(self.out), "look at the archive and at the disk")

    def store(self, incoming: Incoming) -> Reply:
        """One object over an association: its status. Troubles are kept, see `refuse_troubles`."""
        try:
            file = framed(
                incoming.sop_class, incoming.sop_instance, incoming.syntax, incoming.data, incoming.calling
            )
            name = self.take([file])
            if name != incoming.sop_instance:
                raise DecodeError("an object under another one's name", "SOP Instance UID", "")
        except DecodeError as error:
            self._troubles.append(error.what)
            return Reply(_MISMATCH, error.what)
        except (LinkError, InputError) as error:
            self._troubles.append(error.what)
            return Reply(_OUT_OF_RESOURCES, error.what)
        return Reply(SUCCESS)

    def take(self, chunks: Iterable[bytes | memoryview]) -> str:
        """Write a PS3.10 file that comes in chunks; its SOP Instance UID.

        Raises
        ------
        DecodeError
            No such file, of another study, or under another name than its own.
        LinkError
            More than bounds allow.
        InputError
            The disk refuses it.
        """
        with self._lock:  # associations side by side gain nothing on one disk, and every count stays true
            draft = self.out / "arriving.part"
            head = bytearray()
            size = 0
            try:
                with draft.open("wb") as file:
                    for chunk in chunks:
                        size += len(chunk)
                        self._refuse_more(size)
                        head += chunk[: max(0, _META + self._bounds.names_bytes - len(head))]
                        file.write(chunk)
                name = self._name(bytes(head))
                if name not in self._files:
                    self._bytes += size
                    self._files[name] = self.out / f"{name}.dcm"
                draft.replace(self._files[name])
            except OSError as error:
                what = f"cannot be written ({error.strerror})"
                raise InputError(what, str(self.out), "make room, or give another folder") from error
            finally:
                with suppress(OSError):
                    draft.unlink(missing_ok=True)
        self._progress(self.count, self.total)
        return name

    def _refuse_more(self, size: int) -> None:
        bounds = self._bounds
        if size > bounds.object_bytes:
            raise LinkError(f"an object of more than {bounds.object_bytes} bytes", "", "this is no picture")
        if self._bytes + size > bounds.study_bytes or self.count >= bounds.instances + 1:
            raise LinkError("more than a study's bytes or objects", self._study, "this is no study")

    def _name(self, head: bytes) -> str:
        syntax, data = unframed(head)
        names = names_of(syntax, data, self._bounds.names_bytes, (SOP_CLASS, SOP_INSTANCE, STUDY))
        if names[STUDY] != self._study:
            raise DecodeError("an object of another study", "Study Instance UID", "look at the archive")
        if not is_uid(names[SOP_INSTANCE]):
            raise DecodeError("no valid SOP Instance UID", "data set", "look at the archive")
        return names[SOP_INSTANCE]
