"""A simulated CT site, attacks on it, and an oracle that knows it exactly: data only, labelled so.

It shares no physics code with ``layers``; its constants were fixed, with sources, before a detector ran.
"""

from scanward.simulation.attacks import ATTACKS, Attack
from scanward.simulation.constants import MODELS, Model
from scanward.simulation.donors import Donors
from scanward.simulation.effects import Effect, effect_of
from scanward.simulation.elements import ElementSpec, ProtocolSpec
from scanward.simulation.held_out import HELD_OUT
from scanward.simulation.protocols import PROTOCOLS
from scanward.simulation.site import Site

__all__ = [
    "ATTACKS",
    "HELD_OUT",
    "MODELS",
    "PROTOCOLS",
    "Attack",
    "Donors",
    "Effect",
    "ElementSpec",
    "Model",
    "ProtocolSpec",
    "Site",
    "effect_of",
]
