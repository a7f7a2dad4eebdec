"""One simulated site seen four times: as learned from, with new protocols, with a new scanner, after an update; and
another one.

The four are the same site: the seed gives the same serial numbers and the same habits of dose, so that a test differs
from what was learned by what its level names and by nothing else. Protocols that are not in use stand in the
site's list with weight 0, and scanners that are not with share 0: the names and doses of the others, which hang
on a protocol's and a scanner's place in the lists, stay as they are.

Constants are in the manner of ``constants``: each with its reason, chosen before any detector was run on them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from scanward.errors import SettingsError
from scanward.simulation.constants import AEC_SPREAD, MODELS, Model
from scanward.simulation.elements import LOCALIZER, ElementSpec, ProtocolSpec
from scanward.simulation.new_models import NEW_MODELS
from scanward.simulation.protocols import PROTOCOLS
from scanward.simulation.site import Site

# --- new protocols: what the site learned from does not have -------------------------------------------------
# About an eighth of the work. Some have a near relation among the learned ones (two-phase head, child's chest),
# others none (limbs; a screening at a quarter of the usual dose), adults' and children's and those for all ages.
HELD_OUT_PROTOCOLS: frozenset[str] = frozenset(
    {
        "Head With Contrast",  # two phases of a scan that is learned with one
        "Orbits",  # a short range, sharp kernel; the sinuses and ears are its relations
        "Lung Screening",  # a quarter of the usual chest dose: nothing wrong with so little
        "Urogram",  # three phases at three doses over one range
        "Aorta CTA",  # a bolus chain, a long range
        "Pelvis Bone",  # bone in the trunk
        "Extremity",  # a region that no learned protocol has
        "Chest All Ages",  # adults and children under one name
        "Child Head 1-6",  # between two learned ages
        "Child Chest 6-16",  # beyond the learned age
        "Child Abdomen 0-6",  # below the learned age
        "Child Sinus",  # rare; its relation is an adults' protocol
    }
)

# --- another site ---------------------------------------------------------------------------------------------
ELSEWHERE = 1_000_000  # added to the seed: no site that is learned from has such a number

# --- software update ------------------------------------------------------------------------------------------
UPDATED_SOFTWARE = "SIM 2.0"  # SoftwareVersions after it; serial numbers and names of protocols stay
# Iterative reconstruction comes with a lower reference current. assumption: a quarter less, the cautious end of the
# 23 to 76 % reported (Willemink et al., Eur Radiol 23:1632, 2013). Kernels for bone and lung keep their dose.
ITERATIVE_DOSE_FACTOR = 0.75
ITERATIVE_KERNELS = ("soft", "brain", "vessel")
# assumption: a kernel that reconstructs iteratively has a name of its own, in each maker's way.
ITERATIVE_NAMES = {
    "Simulated Sigma": "{}d IR3",
    "Simulated Gamma": "{} AR40",
    "Simulated Tau": "{} 3D-STD",
}
# assumption: with less noise to fear, AEC lets the current follow the size a little less.
AEC_SLOPE_FACTOR = 0.92
# assumption: with less noise, the routine slices of the trunk become thinner.
ROUTINE_SLICE_MM, ROUTINE_SLICE_AFTER_MM = 3.0, 2.0


def _known(vendors: int) -> tuple[Model, ...]:
    if not 1 <= vendors <= len(MODELS):
        raise SettingsError(
            f"{vendors} vendors cannot be simulated", "simulated site", f"give 1 to {len(MODELS)}"
        )
    return MODELS[:vendors]


def _only(wanted: Callable[[ProtocolSpec], bool]) -> tuple[ProtocolSpec, ...]:
    """All protocols in their places, those not wanted never used."""
    return tuple(p if wanted(p) else replace(p, weight=0.0) for p in PROTOCOLS)


def _learned(protocol: ProtocolSpec) -> bool:
    return protocol.name not in HELD_OUT_PROTOCOLS


def learned_site(seed: int, aec_spread: float = AEC_SPREAD, vendors: int = len(MODELS)) -> Site:
    """The site that is learned from: the known models, without the protocols held out.

    Raises
    ------
    SettingsError
        When ``vendors`` is not 1 to 3, or the spread makes no sense.
    """
    return Site(seed, aec_spread, _known(vendors), _only(_learned))


def new_protocols_site(seed: int, aec_spread: float = AEC_SPREAD, vendors: int = len(MODELS)) -> Site:
    """The same scanners, sending the protocols held out and no others."""
    return Site(seed, aec_spread, _known(vendors), _only(lambda p: not _learned(p)))


def new_model_site(seed: int, aec_spread: float = AEC_SPREAD, vendors: int = len(MODELS)) -> Site:
    """The same site and protocol book, seen on one new scanner alone: another model of a maker it knows.

    The makers take turns by the seed, so that three sites in a row try all three.
    """
    models = _known(vendors)
    new = NEW_MODELS[seed % vendors]
    return Site(seed, aec_spread, (*models, new), _only(_learned), shares=(*(0.0 for _ in models), 1.0))


def updated_site(seed: int, aec_spread: float = AEC_SPREAD, vendors: int = len(MODELS)) -> Site:
    """The same scanners with the same serial numbers and protocols, after an update of their software.

    The protocols are fitted to the scanners again: a technique that had been slowed down so that the tube could follow
    may, with less dose, have its faster rotation or its pitch back (some 20 elements).
    """
    protocols = tuple(updated_protocol(p) for p in _only(_learned))
    return Site(seed, aec_spread, tuple(updated_model(m) for m in _known(vendors)), protocols)


def other_site(seed: int, aec_spread: float = AEC_SPREAD, vendors: int = len(MODELS)) -> Site:
    """Another site with the same models and the same protocol book: other serial numbers, doses and people."""
    return learned_site(seed + ELSEWHERE, aec_spread, vendors)


def updated_model(model: Model) -> Model:
    """A model after the update: version, names of kernels, strength of AEC. Its physics stays."""
    pattern = ITERATIVE_NAMES[model.manufacturer]
    kernels = {
        kind: pattern.format(name) if kind in ITERATIVE_KERNELS else name
        for kind, name in model.kernels.items()
    }
    return replace(
        model, software=UPDATED_SOFTWARE, kernels=kernels, aec_slope=model.aec_slope * AEC_SLOPE_FACTOR
    )


def updated_protocol(protocol: ProtocolSpec) -> ProtocolSpec:
    """A protocol after the update: reference dose and routine slice."""
    return replace(protocol, elements=tuple(_updated_element(e) for e in protocol.elements))


def _updated_element(element: ElementSpec) -> ElementSpec:
    if element.kind == LOCALIZER or not element.aec or element.kernel not in ITERATIVE_KERNELS:
        return element
    routine = element.kernel == "soft" and element.slice_mm == ROUTINE_SLICE_MM
    return replace(
        element,
        dose=element.dose * ITERATIVE_DOSE_FACTOR,
        slice_mm=ROUTINE_SLICE_AFTER_MM if routine else element.slice_mm,
    )
