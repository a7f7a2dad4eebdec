"""Pictures side by side for reports: genuine, modified (and marked as such), where, and where the detector looks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from scanward.forensics.families import Sample
from scanward.tampering.marking import stamp

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LEAST = 256  # px: smaller pictures are enlarged, or the words that mark a modified one would not fit
_WORDS = "MODIFIED - SCANWARD RESEARCH"


def draw_pair(genuine: Sample, modified: Sample, heat: NDArray[np.float32]) -> Figure:
    """Four panels of one breast; ``heat`` (rows, columns) in [0, 1] is that of the modified picture."""
    from matplotlib.figure import Figure

    white = max(int(genuine.picture.max()), 1)
    marked = stamp(_large(modified.picture).astype(np.uint16), _WORDS)
    panels: tuple[tuple[str, NDArray[np.generic], str, float], ...] = (
        ("genuine", _large(genuine.picture), "gray", white),
        ("MODIFIED", marked, "gray", white),
        ("where", _large(modified.region.astype(np.uint16)), "gray", 1),
        ("detector's heat", _large(heat), "inferno", 1),
    )
    figure = Figure(figsize=(12, 3.4), layout="constrained")
    for place, (title, picture, colours, most) in zip(figure.subplots(1, 4), panels, strict=True):
        place.imshow(picture, cmap=colours, vmin=0, vmax=most, interpolation="nearest")
        place.set_title(title)
        place.set_axis_off()
    return figure


def _large(picture: NDArray[np.generic]) -> NDArray[np.generic]:
    times = max(1, -(-_LEAST // max(picture.shape)))
    enlarged: NDArray[np.generic] = picture.repeat(times, axis=0).repeat(times, axis=1)
    return enlarged
