"""The link in memory keeps what every link promises."""

from __future__ import annotations

import asyncio

import pytest

from _stream import DEVICE, Ear
from scanward.commands.wire import Cancel, Channel, Heartbeat, Hello, Stop
from scanward.errors import LinkError
from scanward.links.base import Side, digest_of
from scanward.links.identifiers import Identifiers
from scanward.links.virtual import VirtualLink
from scanward.recordings import Pseudonyms


def test_messages_go_through_in_order() -> None:
    ear, link = Ear(), VirtualLink()
    asyncio.run(link.start(ear))
    with pytest.raises(LinkError):
        link.to_gantry(Stop())
    link.gantry_connects(Hello(DEVICE))
    first, second = link.host_connects(Hello(DEVICE)), link.host_connects(Hello(DEVICE, Channel.STOP))
    assert first != second
    link.host_says(first, Cancel("a", "b"))
    link.host_says(second, Stop())
    link.to_gantry(Cancel("a", "b"))
    link.to_gantry(Stop())
    link.to_host(first, Heartbeat())
    link.garbage(Side.HOST, b"x")
    assert ear.of("host_said") == [(first, Cancel("a", "b")), (second, Stop())]
    assert link.at_gantry == [Cancel("a", "b"), Stop()]
    assert link.at_host[first] == [Heartbeat()]
    assert ear.of("malformed") == [(Side.HOST, "not a message", digest_of(b"x"))]


def test_dropped_means_gone_and_numbers_are_never_used_again() -> None:
    ear, link = Ear(), VirtualLink()
    asyncio.run(link.start(ear))
    link.gantry_connects(Hello(DEVICE))
    first = link.host_connects(Hello(DEVICE))
    link.drop("because")
    assert ear.of("host_lost") == [(first, "because")]
    assert ear.of("gantry_lost") == [("because",)]
    with pytest.raises(LinkError):
        link.to_gantry(Stop())
    with pytest.raises(LinkError):
        link.to_host(first, Heartbeat())
    assert link.host_connects(Hello(DEVICE)) != first


@pytest.mark.parametrize("site_key", [None, bytes(range(32))])
@pytest.mark.parametrize("text", ["1.2.840.1", " padded ", "Ä", "\ud800", "x" * 500])
def test_identifiers_hash_as_recordings_do(site_key: bytes | None, text: str) -> None:
    assert Identifiers(site_key).hash(text) == Pseudonyms(site_key).examination(text)
    assert Identifiers(site_key).hash(text) == Pseudonyms(site_key).device(text)


def test_identifiers_are_revealed_while_they_are_remembered_and_never_made_up() -> None:
    names = Identifiers(most=2)
    hidden = [names.hide(text) for text in ("a", "b", "c")]
    assert [names.reveal(h) for h in hidden[1:]] == ["b", "c"]
    with pytest.raises(LinkError):
        names.reveal(hidden[0])
    assert names.hash(" ") == ""
