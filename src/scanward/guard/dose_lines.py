"""The feed of delivered doses, from the receiver of dose reports to the relay: one JSON object a line. Pure.

    {"examination":"50f51b90a2b817b6","phantom":16,"CTDIvol":61.2,"DLP":980.0}

Totals of one examination on one phantom so far: largest CTDIvol of an event in mGy, sum of DLP in mGy.cm. The
examination is its keyed hash. A later line that says less takes nothing back.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from scanward.config import CONTEXT_BOUNDS
from scanward.errors import DecodeError
from scanward.guard.events import Delivered, Forecast

_Ctdivol = Annotated[float, msgspec.Meta(ge=0, le=CONTEXT_BOUNDS.ctdivol)]
_Dlp = Annotated[float, msgspec.Meta(ge=0, le=CONTEXT_BOUNDS.dlp)]


class _Line(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    examination: Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{16}\Z")]
    phantom: Literal[0, 16, 32]
    CTDIvol: _Ctdivol
    DLP: _Dlp


_line: msgspec.json.Decoder[_Line] = msgspec.json.Decoder(_Line)


def dose_line(examination: str, phantom: int, ctdivol: float, dlp: float) -> bytes:
    """A line with its line feed; DecodeError for figures that no line may hold (a report can say anything)."""
    line = msgspec.json.encode(
        {"examination": examination, "phantom": phantom, "CTDIvol": ctdivol, "DLP": dlp}
    )
    read_dose_line(line)
    return line + b"\n"


def read_dose_line(line: bytes) -> Delivered:
    """What a line tells; DecodeError for anything else."""
    try:
        if len(line) >= CONTEXT_BOUNDS.feed_line_bytes:
            raise ValueError("too long")
        said = _line.decode(line)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        reason = str(error)[:200]
        raise DecodeError(f"not a delivered dose ({reason})", "dose feed", "this is a bug") from error
    return Delivered(said.examination, Forecast(said.CTDIvol, said.DLP, said.phantom))
