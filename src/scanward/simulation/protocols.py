"""The protocols of the simulated site: what is scanned, how often, at which dose.

Dose targets are CTDIvol (mGy) at the reference size, set a little under the published 75th percentiles of the
table of diagnostic reference levels (row named behind each); lengths, frequencies and element lists are
``assumption:`` unless a source is named. A real site's list has this shape: a few protocols make most of the
work and a long tail is used once a month.
"""

from __future__ import annotations

from scanward.simulation.elements import ProtocolSpec
from scanward.simulation.protocols_child import CHILDREN
from scanward.simulation.protocols_head import HEAD_AND_NECK
from scanward.simulation.protocols_trunk import TRUNK

PROTOCOLS: tuple[ProtocolSpec, ...] = (*HEAD_AND_NECK, *TRUNK, *CHILDREN)
