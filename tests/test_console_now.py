"""Where values lie among what a bundle learned: the pictures of the page Now."""

from __future__ import annotations

from functools import cache
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from _console_device import bundle, world
from scanward.codecs.stream import command_to_json
from scanward.config import CONSOLE_BOUNDS
from scanward.console.drift_reference import Reference, reference_of
from scanward.console.now import places_of


@cache
def reference() -> Reference:
    return reference_of(bundle())


def a_hold(*fields: object, elements: int = 1, **changes: Any) -> dict[str, Any]:
    """A hold of commands of the site, objected to in these fields."""
    command = command_to_json(world().later[0].commands[0])
    command["parameters"] |= changes
    objections = [{"field": field} for field in fields]
    return {"chain": [{"command": command}] * elements, "findings": [{"objections": objections}] * elements}


def test_a_usual_value_and_one_far_away_lie_in_other_bins() -> None:
    usual, far = (
        places_of(a_hold("CTDIvol", "KVP", CTDIvol=dose, KVP=120.0), reference()) for dose in (8.0, 400.0)
    )
    assert [(p["element"], p["field"]) for p in usual] == [(0, "CTDIvol"), (0, "KVP")]
    for place in (*usual, *far):
        assert len(place["names"]) == len(place["shares"])
        assert abs(sum(place["shares"]) - 1.0) < 1e-9
    assert usual[1]["names"][usual[1]["at"]] == "120"
    assert usual[0]["at"] < far[0]["at"]
    low, _, high = usual[0]["names"][usual[0]["at"]].partition(" to ")
    assert float(low) <= 8.0 <= float(high)
    assert far[0]["names"][far[0]["at"]].startswith("from ")


def test_each_field_of_an_element_once_and_not_without_end() -> None:
    found = places_of(a_hold("KVP", "KVP", "PatientName", "no field", None, 7, ["KVP"]), reference())
    assert [place["field"] for place in found] == ["KVP"]
    many = places_of(a_hold("KVP", "CTDIvol", elements=30), reference())
    assert len(many) == CONSOLE_BOUNDS.places
    assert [place["element"] for place in many[:4]] == [0, 0, 1, 1]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["command", "objections", "field", "parameters", "KVP"]), inner, max_size=3
        )
    ),
    max_leaves=12,
)


@settings(max_examples=100, deadline=None)
@given(findings=JSON, chain=JSON)
def test_whatever_a_guard_says_is_no_picture_and_no_trouble(findings: Any, chain: Any) -> None:
    sound = a_hold("KVP")
    assert places_of({"findings": findings, "chain": chain}, reference()) == []
    places_of(sound | {"findings": [findings]}, reference())
    places_of(sound | {"findings": [{"objections": [findings, {"field": chain}]}]}, reference())
    assert places_of(sound | {"chain": [chain]}, reference()) == []
