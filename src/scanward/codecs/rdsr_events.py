"""CT irradiation events (TID 10013) with scanning length (10014) and dose check details (10015) as drafts."""

from __future__ import annotations

from scanward.codecs import rdsr_concepts as concept
from scanward.codecs.rdsr_draft import Draft, EventRejected
from scanward.codecs.sr_tree import Item
from scanward.codecs.values import parse_moment
from scanward.commands import BODY_PHANTOM, HEAD_PHANTOM, Role, Source

_CONTAINERS = frozenset(
    (concept.XRAY_SOURCE, concept.ALERT_DETAILS, concept.NOTIFICATION_DETAILS, concept.FILTERS)
)
_MAX_TEXT = 256
# Suffix of the second tube's fields; a third tube has no fields.
_SOURCE_B = "SourceB"
_FIELDS_OF_B = ("KVP", "XRayTubeCurrentInmA", "MaximumXRayTubeCurrent", "RevolutionTime")


def read_event(event: Item, draft: Draft) -> None:
    """Fill ``draft`` from a CT Acquisition container. EventRejected when a number cannot be believed."""
    sources: list[Item] = []
    filters: list[Item] = []
    for item in event.walk(skip=_CONTAINERS):
        key = item.name.key
        if key == concept.XRAY_SOURCE:
            sources.append(item)
        elif key == concept.FILTERS:
            filters.append(item)
        elif key == concept.ALERT_DETAILS:
            _read_alert(item, draft)
        elif key == concept.NOTIFICATION_DETAILS:
            _read_notification(item, draft)
        elif item.kind == "NUM":
            read_number(item, draft)
        elif key == concept.FILTER_TYPE or key == concept.FILTER_MATERIAL:
            filters.append(Item(item.name, "CONTAINER", children=(item,)))
        else:
            read_text(item, draft)
    _read_sources(sources, filters, draft)
    read_filters(filters, draft)


def read_number(item: Item, draft: Draft) -> None:
    """One NUM item of an event: a machine field, the patient's size, or nothing that is spoken of here."""
    key = item.name.key
    if key in concept.EVENT_NUMBERS:
        draft.take(item, *concept.EVENT_NUMBERS[key])
    elif key in concept.SOURCE_NUMBERS:  # writers that leave out the source container
        draft.take(item, *concept.SOURCE_NUMBERS[key])
    elif key in concept.SIZE_NUMBERS and "WaterEquivalentDiameter" not in draft.context:
        aside = Draft(draft.row)
        aside.take(item, "WaterEquivalentDiameter", "mm")
        size = aside.number("WaterEquivalentDiameter")
        if size:
            draft.context["WaterEquivalentDiameter"] = size
            if any(i.code.value == concept.SIZE_METHOD_LOCALIZER for i in item.walk()):
                draft.sources["WaterEquivalentDiameter"] = Source.LOCALIZER


def read_text(item: Item, draft: Draft) -> None:
    """One item that is no number: names, codes, moments."""
    key, text = item.name.key, item.text[:_MAX_TEXT]
    if key == concept.EVENT_UID:
        draft.uid = draft.uid or item.text
    elif key == concept.STARTED:
        draft.started = parse_moment(item.text)
    elif key == concept.PROTOCOL and text:
        draft.context["ProtocolElementName"] = text
        draft.texts.append(text)
    elif key == concept.REGION:
        draft.texts.append(item.code.meaning)
        region = concept.REGIONS.get(item.code.key) or (item.code.meaning.upper() if item.code.value else "")
        if region:
            draft.context["BodyPartExamined"] = region[:_MAX_TEXT]
    elif key in (concept.ACQUISITION_TYPE, concept.EVENT_TYPE):
        kind = concept.ACQUISITION_TYPES.get(item.code.key)
        if kind:
            draft.parameters["AcquisitionType"] = kind
        elif item.code.value:
            draft.notes.append(f"acquisition type {item.code.key} ({item.code.meaning}) is not known")
    elif key == concept.MODULATION and (text or item.code.meaning):
        draft.parameters["ExposureModulationType"] = text or item.code.meaning
    elif key == concept.PHANTOM and item.code.value:
        _set_phantom(item, draft)
    elif key == concept.COMMENT and text:
        draft.comment = item.text[: 4 * _MAX_TEXT]
        draft.texts.append(draft.comment)
    elif key in (concept.MAKER, concept.OBSERVER_MAKER):
        draft.manufacturer = draft.manufacturer or text
    elif key in (concept.MODEL, concept.OBSERVER_MODEL):
        draft.model = draft.model or text
    elif key in (concept.SERIAL, concept.OBSERVER_SERIAL):
        draft.serial = draft.serial or text


def _set_phantom(item: Item, draft: Draft) -> None:
    phantom = concept.PHANTOMS.get(item.code.key)
    if phantom is None:
        meaning = item.code.meaning.casefold()
        head, body = ("head" in meaning or "16" in meaning), ("body" in meaning or "32" in meaning)
        if head != body:
            phantom = HEAD_PHANTOM if head else BODY_PHANTOM
    phantom = phantom or item.code.meaning or item.code.key
    if draft.parameters.get("CTDIwPhantomType", phantom) != phantom:
        raise EventRejected("CTDIwPhantomType is given twice, with different values")
    draft.parameters["CTDIwPhantomType"] = phantom


def _read_sources(sources: list[Item], filters: list[Item], draft: Draft) -> None:
    """Tube A into the main fields, tube B into those of its own (TID 10013 row 13: one container each)."""

    def order(numbered: tuple[int, Item]) -> tuple[int, int]:
        named = numbered[1].find(concept.SOURCE_ID)
        name = named.text.strip().upper() if named else ""
        return ({"A": 0, "1": 0, "B": 1, "2": 1}.get(name, 2), numbered[0])

    ordered = [item for _, item in sorted(enumerate(sources), key=order)]
    if len(ordered) > 2:
        draft.notes.append(f"{len(ordered)} X-ray sources: only the first two have fields")
    for place, source in enumerate(ordered[:2]):
        aside = draft if place == 0 else Draft(draft.row)
        for item in source.walk(skip=frozenset((concept.FILTERS,))):
            if item.kind == "NUM" and item.name.key in concept.SOURCE_NUMBERS:
                aside.take(item, *concept.SOURCE_NUMBERS[item.name.key])
            elif item.name.key == concept.FILTERS:
                filters.append(item)
        if aside is not draft:
            _take_source_b(aside, draft)
    if len(ordered) > 1 and "NumberOfXRaySources" not in draft.parameters:
        draft.parameters["NumberOfXRaySources"] = float(len(ordered))


def _take_source_b(aside: Draft, draft: Draft) -> None:
    for name in _FIELDS_OF_B:
        if name in aside.parameters:
            draft.parameters[name + _SOURCE_B] = aside.parameters[name]
            draft.units[name + _SOURCE_B] = aside.units[name]
        if name in aside.several:
            draft.several[name + _SOURCE_B] = aside.several[name]


def read_filters(filters: list[Item], draft: Draft) -> None:
    """Filter types and materials (TID 10013 includes 10003B's filter rows), several joined by ``+``."""
    for key, name in ((concept.FILTER_TYPE, "FilterType"), (concept.FILTER_MATERIAL, "FilterMaterial")):
        found = [i.code.meaning.upper() for f in filters for i in f.walk() if i.name.key == key]
        if any(found):
            draft.parameters[name] = "+".join(dict.fromkeys(filter(None, found)))[:_MAX_TEXT]
    for container in filters:
        for item in container.walk():
            if item.name.key == "113821" and "XRayFilterAluminumEquivalent" not in draft.parameters:
                draft.take(item, "XRayFilterAluminumEquivalent", "mm")


def _read_alert(details: Item, draft: Draft) -> None:
    for item in details.walk():
        if item.name.key in concept.ALERT_NUMBERS and item.kind == "NUM":
            _take_dose_check(item, *concept.ALERT_NUMBERS[item.name.key], draft)
        elif item.name.key == concept.REASON and item.text:
            draft.parameters["DoseCheckAlertReasonForProceeding"] = item.text[:_MAX_TEXT]


def _read_notification(details: Item, draft: Draft) -> None:
    """Row by row, by code; by meaning where the codes are off by two (see the rule of that name)."""
    shifted = any(i.kind == "CODE" and i.name.key in ("113911", "113912") for i in details.children)
    if shifted:
        draft.flags.add("dose-check-codes-shifted")
    by_meaning = {
        "dlp notification value": concept.NOTIFICATION_NUMBERS["113911"],
        "ctdivol notification value": concept.NOTIFICATION_NUMBERS["113912"],
        "dlp forward estimate": concept.NOTIFICATION_NUMBERS["113913"],
        "ctdivol forward estimate": concept.NOTIFICATION_NUMBERS["113914"],
    }
    for item in details.walk():
        if item.kind == "NUM":
            known = (
                by_meaning.get(item.name.meaning.casefold())
                if shifted
                else concept.NOTIFICATION_NUMBERS.get(item.name.key)
            )
            if known:
                _take_dose_check(item, *known, draft)
        elif item.name.key == concept.REASON and item.text:
            draft.parameters["DoseCheckNotificationReasonForProceeding"] = item.text[:_MAX_TEXT]


def _take_dose_check(item: Item, name: str, unit: str, draft: Draft) -> None:
    """What the console foretold is FORECAST; what somebody configured is COMMANDED."""
    draft.take(item, name, unit, Role.FORECAST if name.endswith("ForwardEstimate") else Role.COMMANDED)
