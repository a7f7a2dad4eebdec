"""The named arrangements against the published tables, written out here a second time, and the options' own rules."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
import torch
from click.testing import CliRunner

from _tamper import tiny
from scanward.cli.main import cli
from scanward.errors import SettingsError
from scanward.tampering.networks import Discriminator, Generator
from scanward.tampering.presets import PRESETS, change, find, fingerprint, from_builtins

# Becker et al. 2019, BreastGAN/experiment1 and experiment2; Zhu et al. 2017, junyanz/pytorch-CycleGAN-and-pix2pix.
PUBLISHED: dict[str, dict[str, Any]] = {
    "becker2019-256": {
        "rows": 256,
        "columns": 256,
        "views": ["CC"],
        "generator": {
            "filters": 32,
            "blocks": 9,
            "padding": "zeros",
            "activation": "leaky-relu",
            "upsampling": "transposed",
            "icnr": False,
            "spectral_norm": False,
            "output": "tanh-of-sum",
            "mask_channel": False,
        },
        "discriminator": {"filters": 64, "layers": 3, "spectral_norm": False},
        "losses": {"cycle_healthy": 10, "cycle_cancer": 10, "identity_mapping": 0, "change": 0, "focus": 0},
        "optimiser": {
            "generator_rate": 2e-4,
            "discriminator_rate": 2e-4,
            "beta1": 0.5,
            "batch": 1,
            "epochs": 200,
            "decay": 0.5,
            "pool": 50,
            "ema": 0,
        },
        "augmentation": {"share": 0.9, "rotate": 4, "scale": [0.98, 1.13], "contrast": [0.08, 1.2]},
        "execution": {"precision": "float32"},
    },
    "becker2019-512": {
        "rows": 512,
        "columns": 408,
        "views": [],
        "generator": {
            "filters": 64,
            "blocks": 9,
            "padding": "reflect",
            "activation": "relu",
            "upsampling": "nearest",
            "icnr": True,
            "spectral_norm": True,
            "output": "tanh",
            "mask_channel": False,
        },
        "discriminator": {"filters": 64, "layers": 3, "spectral_norm": True},
        "losses": {"cycle_healthy": 10, "cycle_cancer": 10, "identity_mapping": 0, "change": 0, "focus": 0},
        "optimiser": {
            "generator_rate": 2e-4,
            "discriminator_rate": 1e-4,
            "batch": 1,
            "steps": 500_000,
            "epochs": 0,
            "decay": 0.5,
            "pool": 50,
        },
        "augmentation": {"share": 0.9, "rotate": 4, "scale": [0.98, 1.13], "contrast": [0.08, 1.2]},
        "execution": {"precision": "float32"},
    },
    "reference": {
        "rows": 256,
        "columns": 256,
        "generator": {
            "filters": 64,
            "blocks": 9,
            "padding": "reflect",
            "activation": "relu",
            "upsampling": "transposed",
            "icnr": False,
            "spectral_norm": False,
            "output": "tanh",
            "mask_channel": False,
        },
        "discriminator": {"filters": 64, "layers": 3, "spectral_norm": False},
        # lambda_identity 0.5 of lambda 10
        "losses": {"cycle_healthy": 10, "cycle_cancer": 10, "identity_mapping": 5, "change": 0, "focus": 0},
        "optimiser": {
            "generator_rate": 2e-4,
            "discriminator_rate": 2e-4,
            "beta1": 0.5,
            "batch": 1,
            "epochs": 200,
            "decay": 0.5,
            "pool": 50,
            "ema": 0,
        },
        "augmentation": {"flip_rows": True},
        "execution": {"precision": "float32"},
    },
}


def differences(wanted: Any, found: Any, at: str = "") -> list[str]:
    if isinstance(wanted, dict):
        return [text for key in wanted for text in differences(wanted[key], found[key], f"{at}.{key}")]
    return [] if wanted == found else [f"{at}: {found} is not {wanted}"]


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_a_published_arrangement_is_as_published(name: str) -> None:
    assert not differences(PUBLISHED[name], json.loads(msgspec.json.encode(find(name))))


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_every_preset_is_sound_and_survives_json(name: str) -> None:
    preset = PRESETS[name]
    preset.check()
    assert preset.name == name
    again = msgspec.json.decode(msgspec.json.encode(preset), type=type(preset))
    assert again == preset
    assert fingerprint(again) == fingerprint(preset)
    assert from_builtins(msgspec.to_builtins(preset), "here") == preset


def test_fingerprints_tell_every_option() -> None:
    base = find("scanward-128")
    found = {fingerprint(base)}
    tree = msgspec.to_builtins(base)
    options = [(part, key) for part, node in tree.items() if isinstance(node, dict) for key in node]
    for part, key in options:
        node = tree[part]
        old = node[key]
        if isinstance(old, bool):
            new: Any = not old
        elif isinstance(old, int):
            new = old + 1
        elif isinstance(old, float):
            new = old / 2 + 0.001
        elif isinstance(old, str):
            others = {
                "reflect": "zeros",
                "relu": "leaky-relu",
                "nearest": "transposed",
                "residual": "tanh",
                "float32": "bfloat16",
            }
            new = others[old]
        else:
            new = (old[0] / 2, old[1])
        node[key] = new
        found.add(fingerprint(msgspec.convert(tree, type(base))))
        node[key] = old
    assert len(found) == len(options) + 1


def test_options_are_set_by_name() -> None:
    made = change(
        find("scanward-128"),
        {
            "rows": "64",
            "columns": "64",
            "optimiser.generator_rate": "1e-3",
            "generator.padding": "zeros",
            "augmentation.scale": "[0.9, 1.1]",
            "views": '["CC"]',
            "execution.compile": "true",
        },
    )
    assert (made.rows, made.columns, made.views) == (64, 64, ("CC",))
    assert made.optimiser.generator_rate == 1e-3
    assert made.generator.padding == "zeros"
    assert made.augmentation.scale == (0.9, 1.1)
    assert made.execution.compile
    assert find("scanward-128").rows == 128  # the preset itself stays


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("optimiser.step", "5", "no option"),
        ("optimizer.steps", "5", "no option"),
        ("optimiser", "5", "no option"),
        ("rows.columns", "5", "no option"),
        ("", "5", "no option"),
        ("optimiser.steps", "many", "steps"),
        ("optimiser.steps", "0", "steps"),
        ("optimiser.steps", "1.5", "steps"),
        ("optimiser.steps", "true", "steps"),
        ("optimiser.generator_rate", "NaN", "generator_rate"),
        ("optimiser.generator_rate", "1e400", "generator_rate"),
        ("optimiser.generator_rate", "-1", "generator_rate"),
        ("optimiser.ema", "1", "ema"),
        ("generator.padding", "mirror", "padding"),
        ("generator.blocks", "1000", "blocks"),
        ("generator.filters", "0", "filters"),
        ("rows", "130", "multiples of 4"),
        ("rows", "8", "rows"),
        ("rows", "1000000", "rows"),
        ("augmentation.scale", "[1.1, 0.9]", "scale"),
        ("augmentation.contrast", "[0, 1]", "contrast"),
        ("augmentation.scale", "[1]", "scale"),
        ("generator.mask_channel", "false", "confine"),
        ("generator.output", "tanh", "confine"),
        ("execution.precision", "float16", "precision"),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused(option: str, value: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        change(find("scanward-128"), {option: value})


def test_focus_needs_the_region() -> None:
    with pytest.raises(SettingsError, match="focus"):
        change(find("reference"), {"losses.focus": "0.5"})


def test_unknown_presets_are_refused_with_those_that_there_are() -> None:
    with pytest.raises(SettingsError, match=r"becker2019-256.*reference"):
        find("becker")


@pytest.mark.parametrize("layers", [1, 2, 3, 4, 5, 6])
def test_pictures_are_as_large_as_the_discriminator_needs(layers: int) -> None:
    refused = []
    for side in (16, 20, 32, 36, 64, 68, 128, 132):
        options = {"rows": str(side), "columns": str(side), "discriminator__layers": str(layers)}
        network = Discriminator(find("reference").discriminator.__class__(filters=1, layers=layers))
        try:
            network(torch.zeros(1, 1, side, side))
            works = True
        except (RuntimeError, ValueError):  # as torch says it
            works = False
        if works:
            preset = tiny(**options)
            Generator(preset.generator)(torch.zeros(1, 2, side, side))
        else:
            refused.append(side)
            with pytest.raises(SettingsError, match="too few"):
                tiny(**options)
    assert (16 in refused) == (layers > 2)


def test_the_command_shows_all_of_it() -> None:
    runner = CliRunner()
    shown = runner.invoke(cli, ["tamper", "presets"])
    assert shown.exit_code == 0
    assert all(name in shown.output for name in PRESETS)
    printed = json.loads(runner.invoke(cli, ["tamper", "presets", "--json"]).output)
    assert {name: from_builtins(tree, name) for name, tree in printed.items()} == PRESETS
