"""The approved protocols of a simulated site, as its physicist would keep them (docs/protocol-book.md).

Of each protocol element the book says what operators of the site never change (what steers the AEC, pitch,
collimation, fixed currents and rotations), and bounds what they do (tube voltage one step up or down, the AEC's upper
limit, the current). It is made of the protocols themselves, not of what was recorded. Violations are warnings: an
operator decides.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from scanward import bundle
from scanward.codecs.defined_protocol_build import constrain, element, protocol
from scanward.codecs.defined_protocol_model import (
    Constraint,
    Equipment,
    Protocol,
    ProtocolBook,
    Significance,
    book,
)
from scanward.codecs.defined_protocol_model import Element as ProtocolElement
from scanward.keys import SigningKey, VerifyKey, write_pair
from scanward.layers.onion import Onion
from scanward.layers.protocol_book import ProtocolBookLayer
from scanward.simulation.elements import LOCALIZER, SPIRAL, STATIONARY
from scanward.simulation.physics import Element
from scanward.simulation.site import Site

REFERENCE = 0.10  # how far what steers the AEC may be from the protocol's
ABOVE = 1.5  # times the AEC's upper limit that a current set by hand may reach
MOST_ROTATIONS = 40.0  # of a monitoring
ADULT = 18.0
_WARNING = Significance.WARNING


def approved(site: Site, device: int) -> ProtocolBook:
    """Every protocol of one scanner of the site."""
    model, who = site.models[device], site.devices[device]
    made = []
    for number, spec in enumerate(site.protocols):
        elements = site.elements[device, number]
        patient = [] if spec.ages != (0.0, 0.0) else [constrain("PatientAge", at_least=ADULT)]
        made.append(
            protocol(
                elements[0].protocol_name,
                *(_element(e) for e in elements),
                patient=patient,
                models=[Equipment(manufacturer=who.manufacturer, model=model.name)],
            )
        )
    return book(_distinct(made))


def _distinct(protocols: list[Protocol]) -> list[Protocol]:
    return list({p.uid: p for p in protocols}.values())


def _element(e: Element) -> ProtocolElement:
    rules: list[Constraint] = []
    add = rules.append
    if e.spec.kind != LOCALIZER:
        kvps = e.model.kvps
        at = kvps.index(e.kvp)
        add(constrain("KVP", one_of=kvps[max(0, at - 1) : at + 2], significance=_WARNING))
        add(constrain("TotalCollimationWidth", equal=e.total, significance=_WARNING))
    if e.spec.kind == SPIRAL and e.pitch is not None:
        add(constrain("SpiralPitchFactor", equal=e.pitch, significance=_WARNING))
    if e.spec.kind == STATIONARY:
        most = float(e.spec.rotations) if e.spec.rotations else MOST_ROTATIONS
        add(constrain("NumberOfRotations", at_most=most, significance=_WARNING))
    if e.spec.kind != LOCALIZER and not e.spec.aec:
        add(constrain("XRayTubeCurrentInmA", at_most=e.reference_ma, significance=_WARNING))
    elif e.spec.kind != LOCALIZER:
        low, high = ((1 + sign * REFERENCE) * e.noise_reference for sign in (-1, 1))
        add(constrain(e.model.aec_reference, between=(low, high), significance=_WARNING))
        add(constrain("AECMaximumTubeCurrent", at_most=e.aec_max, significance=_WARNING))
        add(constrain("XRayTubeCurrentInmA", at_most=ABOVE * e.aec_max, significance=_WARNING))
        if e.protocol.ages != (0.0, 0.0):  # children come under it: nobody scans them by hand unasked
            add(constrain("ExposureModulationType", equal=e.model.aec_name, significance=_WARNING))
    return element(e.index + 1, *rules, name=e.spec.name, acquisition_type=e.spec.kind)


def bundle_with_book(
    source: Path, trusted: Path, protocols: ProtocolBook, folder: Path
) -> tuple[Path, Path, Onion]:
    """A bundle as a site signs it once its physicist's book is in: the learned part of ``source`` and ``protocols``.

    Returns the bundle, the public key to trust, and the judge in it.
    """
    read = bundle.read(source, trusted=[VerifyKey.load(trusted)])
    onion = with_book(Onion.from_part(read.part), protocols)
    key = SigningKey.generate()
    folder.mkdir(parents=True, exist_ok=True)
    _, public = write_pair(folder / "book", key)
    bundle.write(folder / "bundle", onion.part(), read.manifest.facts, key)
    return folder / "bundle", public, onion


def with_book(onion: Onion, protocols: ProtocolBook) -> Onion:
    """The same judge with another protocol book: rules are no part of what was calibrated."""
    rules = tuple(
        ProtocolBookLayer(protocols) if isinstance(rule, ProtocolBookLayer) else rule for rule in onion.rules
    )
    return replace(onion, rules=rules)
