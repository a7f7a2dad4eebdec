"""A simulated CT site, attacks on it, and an oracle that knows it exactly: data only, labelled so.

It shares no physics code with ``layers``; its constants were fixed, with sources, before a detector ran.
"""

from scanward.simulation.attacks import ATTACKS, Attack
from scanward.simulation.constants import MODELS, Model
from scanward.simulation.donors import Donors
from scanward.simulation.elements import ElementSpec, ProtocolSpec
from scanward.simulation.protocols import PROTOCOLS
from scanward.simulation.site import Site

__all__ = [
    "ATTACKS",
    "MODELS",
    "PROTOCOLS",
    "Attack",
    "Donors",
    "ElementSpec",
    "Model",
    "ProtocolSpec",
    "Site",
]
