"""Localizers of makers that report no dose: foretold by the device profile, not taken for the worst scan."""

from __future__ import annotations

from pathlib import Path

import pytest

from _trained import Trained
from scanward import bundle
from scanward.commands import Command, Value
from scanward.emulator.fitting import profile_text
from scanward.guard.judge_forecast import forecast
from scanward.guard.profile import effective_mas
from scanward.guard.profile_read import parse_profile
from scanward.keys import VerifyKey
from scanward.layers.onion import Onion
from scanward.simulation import MODELS, Site

SITE = Site(11)


def localizers(device: int, **more: Value) -> list[Command]:
    commands = [c for e in SITE.examinations(60) for c in e.commands if c.device == SITE.devices[device]]
    return [
        Command({**c.parameters, **more}, device=c.device)
        for c in commands
        if c.text("AcquisitionType") == "CONSTANT_ANGLE"
    ]


def test_a_localizer_s_mas_is_current_times_the_time_over_one_slice() -> None:
    """10 mA, 5 mm at 100 mm/s: 0.5 mAs."""
    for command in localizers(1):
        assert effective_mas(command) == pytest.approx(0.5)
    assert effective_mas(localizers(1, TableSpeed=0.0)[0]) is None


def test_the_profile_foretells_it_a_little_above_the_truth(tmp_path: Path) -> None:
    for device in (0, 1, 2):
        model = MODELS[device]
        text = profile_text(model, SITE.devices[device])
        profile = parse_profile(text.encode(), "device.toml", "0" * 64)
        for command in localizers(device)[:5]:
            foretold = profile.forecast(command)
            assert 0 < foretold.ctdivol < 1.0
        # a localizer that is none: as much current and as slow as can be
        slow = localizers(device, TableSpeed=1.0, XRayTubeCurrentInmA=model.max_ma)[0]
        assert profile.forecast(slow).ctdivol > 50


def test_the_judge_leaves_it_to_the_profile_only_where_the_maker_never_tells(small_bundle: Trained) -> None:
    read = bundle.read(small_bundle.model, trusted=[VerifyKey.load(small_bundle.trust)])
    onion = Onion.from_part(read.part)
    for command in localizers(1)[:5]:
        assert forecast(onion, command) is None
    told = forecast(onion, localizers(0)[0])
    assert told is not None
    assert told.CTDIvol < 1.0
    # where the table's speed is left out nothing can be foretold: the most ever recorded counts
    without = localizers(1)[0]
    bare = Command({n: v for n, v in without.parameters.items() if n != "TableSpeed"}, device=without.device)
    worst = forecast(onion, bare)
    assert worst is not None
    assert worst.CTDIvol > 10
