"""The content tree of a detector's report (Enhanced SR, PS3.3 A.35.2) and the regions that it points at.

CONTAINER  Report of a detector of modified images
  CODE, UIDREF, TEXT   language; who observed: a device (TID 1004)
  TEXT    not for diagnosis
  IMAGE   the original
  CODE    verdict
  NUM     p-value
  NUM     likelihood ratio
    SCOORD  region  (inferred from; selected from the image)
  TEXT    model
  TEXT    finding, one for each sentence of evidence
"""

from __future__ import annotations

import hashlib
import uuid
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.sequence import Sequence

from scanward import __version__
from scanward.config import FINDING_BOUNDS
from scanward.forensics.dicom_words import MAKER, SCHEME, code, coded, image, item, number, rectangle, text

if TYPE_CHECKING:
    from scanward.forensics.dicom_outputs import Finding


def report_content(
    found: Finding, reference: Dataset, model: str, warning: str, size: tuple[int, int]
) -> Dataset:
    """The root container and everything below it.

    Parameters
    ----------
    reference : Dataset
        Referenced SOP Class and Instance UID of the original.
    size : (rows, columns)
        Of the original; regions are in its pixels.
    """
    observer = uuid.UUID(bytes=hashlib.sha256(f"observer\0{model}".encode()).digest()[:16], version=4).int
    device: Any = item("HAS OBS CONTEXT", "UIDREF", code("121012", "DCM", "Device Observer UID"))
    device.UID = f"2.25.{observer}"
    boxes = regions(found.heat, size) if found.alarm else ()
    where = [
        rectangle("INFERRED FROM", code("111030", "DCM", "Image Region"), box, reference) for box in boxes
    ]
    verdict = (
        code("alarm", SCHEME, "Alarm: looks modified")
        if found.alarm
        else code("no-alarm", SCHEME, "No alarm: not told from genuine")
    )
    root: Any = item(
        "", "CONTAINER", code("modified-report", SCHEME, "Report of a detector of modified images")
    )
    root.ContinuityOfContent = "SEPARATE"
    root.ContentSequence = Sequence(
        [
            coded(
                "HAS CONCEPT MOD",
                code("121049", "DCM", "Language of Content Item and Descendants"),
                code("en", "RFC5646", "English"),
            ),
            coded("HAS OBS CONTEXT", code("121005", "DCM", "Observer Type"), code("121007", "DCM", "Device")),
            device,
            text("HAS OBS CONTEXT", code("121013", "DCM", "Device Observer Name"), "scanward detect"),
            text("HAS OBS CONTEXT", code("121014", "DCM", "Device Observer Manufacturer"), MAKER),
            text(
                "HAS OBS CONTEXT",
                code("121015", "DCM", "Device Observer Model Name"),
                f"Scanward {__version__}",
            ),
            text("CONTAINS", code("warning", SCHEME, "Warning"), warning),
            image("CONTAINS", code("121112", "DCM", "Source of Measurement"), reference),
            coded("CONTAINS", code("verdict", SCHEME, "Verdict at the chosen rate of false alarms"), verdict),
            number("CONTAINS", code("p-value", SCHEME, "p-value among genuine images"), found.p_value),
            number(
                "CONTAINS",
                code("likelihood-ratio", SCHEME, "Likelihood ratio, modified to genuine"),
                found.likelihood_ratio,
                *where,
            ),
            text("CONTAINS", code("model", SCHEME, "Fingerprint of the detector"), model or "not named"),
            *(
                text("CONTAINS", code("121071", "DCM", "Finding"), word)
                for word in found.words[: FINDING_BOUNDS.words]
            ),
        ]
    )
    return root  # type: ignore[no-any-return]


def regions(
    heat: NDArray[np.float32], size: tuple[int, int]
) -> tuple[tuple[float, float, float, float], ...]:
    """Rectangles (left, top, right, bottom) in px of the original around where the heat is at least half its maximum.

    The hottest first, `FindingBounds.regions` at most; none where the heat is flat.
    """
    from scipy import ndimage

    found = np.nan_to_num(np.asarray(heat, dtype=np.float32))
    if found.ndim != 2 or found.size == 0 or min(size) < 1:
        return ()
    most = float(found.max())
    if most <= 0 or float(found.min()) >= most / 2:
        return ()
    labels, _ = ndimage.label(found >= most / 2)
    boxes = []
    for number_, place in enumerate(ndimage.find_objects(labels), 1):
        down, across = place
        weight = float(found[place][labels[place] == number_].sum())
        by_row, by_column = size[0] / found.shape[0], size[1] / found.shape[1]
        box = (across.start * by_column, down.start * by_row, across.stop * by_column, down.stop * by_row)
        boxes.append((weight, box))
    boxes.sort(key=lambda one: (-one[0], one[1]))
    return tuple(box for _, box in boxes[: FINDING_BOUNDS.regions])
