"""Every option of a training run, and the named arrangements of them.

Three names that are often mixed up are kept apart here. *Cycle loss*: |remove(insert(x)) - x|. *Identity mapping
loss* (CycleGAN, Zhu et al. 2017, section 5.2): |insert(y) - y| for y that is a cancer already. *Change penalty* (called
"identity" in the high-resolution code of Becker et al. 2019): |insert(x) - x|, which holds the change small.

Sources: Zhu et al., ICCV 2017, arXiv 1703.10593 (`reference`); Becker et al., Eur J Radiol 2019, arXiv 1811.07767 and
the code BreastGAN/experiment1 and experiment2 (`becker2019-256`, `becker2019-512`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from scanward.config import TAMPERING_BOUNDS
from scanward.errors import SettingsError

Count = Annotated[int, Meta(ge=1)]
Filters = Annotated[int, Meta(ge=1, le=TAMPERING_BOUNDS.channels)]
Side = Annotated[int, Meta(ge=16, le=TAMPERING_BOUNDS.side)]
Share = Annotated[float, Meta(ge=0, le=1)]
Weight = Annotated[float, Meta(ge=0, le=1e6)]
Rate = Annotated[float, Meta(gt=0, le=1)]


class _Struct(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    pass


class GeneratorSettings(_Struct, frozen=True):
    """A ResNet generator (Johnson et al. 2016, as CycleGAN has it).

    ``output``: `tanh` is tanh(G(x)); `tanh-of-sum` is tanh(x + G(x)); `residual` is x + tanh(G(x)), clipped, so that
    an untrained generator changes little. ``mask_channel`` gives it the region to alter as a second channel;
    ``confine`` multiplies the residual by that region's softened mask, so that nothing changes elsewhere.
    ``icnr`` starts upsampling without checkerboard (Aitken et al. 2017, arXiv 1707.02937).
    """

    filters: Filters = 64
    blocks: Annotated[int, Meta(ge=0, le=TAMPERING_BOUNDS.blocks)] = 9
    padding: Literal["reflect", "zeros"] = "reflect"
    activation: Literal["relu", "leaky-relu"] = "relu"
    upsampling: Literal["transposed", "nearest"] = "transposed"
    icnr: bool = False
    spectral_norm: bool = False
    output: Literal["tanh", "tanh-of-sum", "residual"] = "tanh"
    mask_channel: bool = False
    confine: bool = False


class DiscriminatorSettings(_Struct, frozen=True):
    """A PatchGAN (Isola et al. 2017): ``layers`` strided 4x4 convolutions; 3 see 70x70 pixels, 2 see 34x34.

    With the generator's ``mask_channel`` it is shown the region too.
    """

    filters: Filters = 64
    layers: Annotated[int, Meta(ge=1, le=6)] = 3
    spectral_norm: bool = False


class LossSettings(_Struct, frozen=True):
    """Weights. The adversarial loss is least squares (Mao et al. 2017) with weight 1; all others are mean |.|.

    ``cycle_healthy`` weighs healthy -> insert -> remove, ``cycle_cancer`` cancer -> remove -> insert.
    ``focus`` is the share of the adversarial loss that goes by the patches over the region alone (needs the mask).
    """

    cycle_healthy: Weight = 10.0
    cycle_cancer: Weight = 10.0
    identity_mapping: Weight = 0.0
    change: Weight = 0.0
    focus: Share = 0.0


class OptimiserSettings(_Struct, frozen=True):
    """Adam; a constant rate, then linear to zero over the last ``decay`` of the run.

    The length is ``steps``, or ``epochs`` passes through the larger domain when that is not 0. ``ema`` is the decay of
    the averaged generator weights that are used afterwards; 0 uses the last weights.
    """

    generator_rate: Rate = 2e-4
    discriminator_rate: Rate = 2e-4
    beta1: Share = 0.5
    batch: Count = 1
    steps: Count = 100_000
    epochs: Annotated[int, Meta(ge=0)] = 0
    decay: Share = 0.5
    pool: Annotated[int, Meta(ge=0, le=1000)] = 50
    ema: Annotated[float, Meta(ge=0, lt=1)] = 0.0


class Augmentation(_Struct, frozen=True):
    """Random changes of the training pictures; ``share`` of the passes are changed at all."""

    share: Share = 0.0
    rotate: Annotated[float, Meta(ge=0, le=180)] = 0.0  # degrees either way
    scale: tuple[float, float] = (1.0, 1.0)
    contrast: tuple[float, float] = (1.0, 1.0)
    shift: Share = 0.0  # of the picture's sides
    flip_rows: bool = False


class Execution(_Struct, frozen=True):
    """How it is computed; none of these changes what is learned, beyond rounding."""

    precision: Literal["float32", "bfloat16"] = "float32"
    channels_last: bool = False
    compile: bool = False


class Preset(_Struct, frozen=True):
    """One whole arrangement. ``views`` empty means all; ``framing`` is what of the picture the model is shown."""

    name: str
    about: str
    rows: Side
    columns: Side
    framing: Literal["whole", "breast"] = "whole"
    views: tuple[str, ...] = ()
    generator: GeneratorSettings = GeneratorSettings()
    discriminator: DiscriminatorSettings = DiscriminatorSettings()
    losses: LossSettings = LossSettings()
    optimiser: OptimiserSettings = OptimiserSettings()
    augmentation: Augmentation = Augmentation()
    execution: Execution = Execution()

    def check(self) -> None:
        """Refuse what no network can be built of.

        Raises
        ------
        SettingsError
            Sides that are no multiple of 4 or too small for the discriminator, or ``confine`` without what it needs.
        """
        if self.rows % 4 or self.columns % 4:
            raise SettingsError(
                f"{self.rows} x {self.columns} pixels", self.name, "both sides must be multiples of 4"
            )
        judged = (self.rows, self.columns)
        for index in range(self.discriminator.layers + 2):  # 4x4, padding 1; the last two of stride 1
            stride = 2 if index < self.discriminator.layers else 1
            judged = ((judged[0] - 2) // stride + 1, (judged[1] - 2) // stride + 1)
            normed = 0 < index <= self.discriminator.layers  # of a single value nothing is left
            if min(judged) < 1 or (normed and judged == (1, 1)):
                raise SettingsError(
                    f"{self.rows} x {self.columns} pixels are too few for discriminator.layers "
                    f"{self.discriminator.layers}",
                    self.name,
                    "set fewer layers, or larger sides",
                )
        if self.generator.confine and not (
            self.generator.mask_channel and self.generator.output == "residual"
        ):
            raise SettingsError(
                "generator.confine needs generator.mask_channel and generator.output residual",
                self.name,
                "set them",
            )
        if self.losses.focus and not self.generator.mask_channel:
            raise SettingsError("losses.focus needs generator.mask_channel", self.name, "set it")
        for name in ("scale", "contrast"):
            low, high = getattr(self.augmentation, name)
            if not 0 < low <= high < 100:
                raise SettingsError(f"augmentation.{name} ({low}, {high})", self.name, "give 0 < low <= high")


_BECKER_AUGMENTATION = Augmentation(share=0.9, rotate=4.0, scale=(0.98, 1.13), contrast=(0.08, 1.2))
_OURS_AUGMENTATION = Augmentation(share=0.9, rotate=8.0, scale=(0.95, 1.1), contrast=(0.9, 1.1), shift=0.03)

_OURS_GENERATOR = GeneratorSettings(
    filters=16, blocks=4, upsampling="nearest", output="residual", mask_channel=True, confine=True
)
_OURS_LARGE_GENERATOR = msgspec.structs.replace(_OURS_GENERATOR, filters=64, blocks=9)
_OURS_LOSSES = LossSettings(cycle_healthy=5.0, cycle_cancer=2.0, focus=0.8)
_GPU = Execution(precision="bfloat16", channels_last=True, compile=True)

PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset(
            name="becker2019-256",
            about="The published low-resolution arrangement (experiment1): tanh(x + G(x)), CC views, no identity loss.",
            rows=256,
            columns=256,
            views=("CC",),
            generator=GeneratorSettings(
                filters=32, padding="zeros", activation="leaky-relu", output="tanh-of-sum"
            ),
            optimiser=OptimiserSettings(epochs=200),
            augmentation=_BECKER_AUGMENTATION,
        ),
        Preset(
            name="becker2019-512",
            about="The published high-resolution arrangement (experiment2) as its run script has it: nearest "
            "upsampling, ICNR, spectral norm, change penalty 0.",
            rows=512,
            columns=408,
            generator=GeneratorSettings(upsampling="nearest", icnr=True, spectral_norm=True),
            discriminator=DiscriminatorSettings(spectral_norm=True),
            optimiser=OptimiserSettings(discriminator_rate=1e-4, steps=500_000),
            augmentation=_BECKER_AUGMENTATION,
        ),
        Preset(
            name="reference",
            about="CycleGAN's own defaults: 9 blocks, 64 filters, identity mapping loss 5, flips.",
            rows=256,
            columns=256,
            losses=LossSettings(identity_mapping=5.0),
            optimiser=OptimiserSettings(epochs=200),
            augmentation=Augmentation(share=1.0, shift=0.05, flip_rows=True),
        ),
        Preset(
            name="reference-64",
            about="CycleGAN's arrangement for small pictures: 6 blocks, at 64 x 64.",
            rows=64,
            columns=64,
            generator=GeneratorSettings(filters=32, blocks=6),
            losses=LossSettings(identity_mapping=5.0),
            optimiser=OptimiserSettings(steps=4000),
            augmentation=Augmentation(share=1.0, shift=0.05, flip_rows=True),
        ),
        Preset(
            name="scanward-64",
            about="Ours, small: region as a second channel, confined residual, nearest upsampling, spectral norm, EMA.",
            rows=64,
            columns=64,
            generator=_OURS_GENERATOR,
            discriminator=DiscriminatorSettings(filters=32, layers=2, spectral_norm=True),
            losses=_OURS_LOSSES,
            optimiser=OptimiserSettings(
                generator_rate=5e-4, discriminator_rate=5e-4, batch=4, steps=1000, ema=0.99
            ),
        ),
        Preset(
            name="scanward-64-free",
            about="Ours without a region: the generator finds or chooses the place itself, as in the study.",
            rows=64,
            columns=64,
            generator=GeneratorSettings(filters=16, blocks=4, upsampling="nearest", output="residual"),
            discriminator=DiscriminatorSettings(filters=32, layers=2, spectral_norm=True),
            losses=LossSettings(cycle_healthy=5.0, cycle_cancer=2.0, change=1.0),
            optimiser=OptimiserSettings(
                generator_rate=5e-4, discriminator_rate=5e-4, batch=4, steps=3000, ema=0.99
            ),
        ),
        Preset(
            name="scanward-128",
            about="Ours at 128 x 128, framed to the breast, for small real data sets on a CPU.",
            rows=128,
            columns=128,
            framing="breast",
            generator=_OURS_GENERATOR,
            discriminator=DiscriminatorSettings(filters=32, layers=3, spectral_norm=True),
            # a few dozen cancers are soon known by heart: a slower discriminator, more variety, less focus
            losses=LossSettings(cycle_healthy=5.0, cycle_cancer=5.0, focus=0.5),
            optimiser=OptimiserSettings(
                generator_rate=3e-4, discriminator_rate=1e-4, batch=2, steps=3000, ema=0.995
            ),
            augmentation=Augmentation(
                share=1.0, rotate=15.0, scale=(0.9, 1.2), contrast=(0.8, 1.2), shift=0.05, flip_rows=True
            ),
        ),
        Preset(
            name="scanward-256",
            about="Ours at 256 x 256, for a GPU: bf16, channels last, compiled.",
            rows=256,
            columns=256,
            framing="breast",
            generator=_OURS_LARGE_GENERATOR,
            discriminator=DiscriminatorSettings(spectral_norm=True),
            losses=_OURS_LOSSES,
            optimiser=OptimiserSettings(batch=8, steps=40_000, ema=0.999),
            augmentation=_OURS_AUGMENTATION,
            execution=_GPU,
        ),
        Preset(
            name="scanward-512",
            about="Ours at 512 x 408, for a GPU: bf16, channels last, compiled.",
            rows=512,
            columns=408,
            framing="breast",
            generator=_OURS_LARGE_GENERATOR,
            discriminator=DiscriminatorSettings(spectral_norm=True),
            losses=_OURS_LOSSES,
            optimiser=OptimiserSettings(batch=4, steps=100_000, ema=0.999),
            augmentation=_OURS_AUGMENTATION,
            execution=_GPU,
        ),
    )
}


def find(name: str) -> Preset:
    """The preset of that name.

    Raises
    ------
    SettingsError
        There is none.
    """
    if name not in PRESETS:
        raise SettingsError(f"no preset '{name}'", "--preset", f"use one of: {', '.join(PRESETS)}")
    return PRESETS[name]


def change(preset: Preset, assignments: Mapping[str, str]) -> Preset:
    """A preset with options set, as ``{"optimiser.steps": "500", "rows": "128"}``; values are read as JSON or text.

    Raises
    ------
    SettingsError
        No such option, or a value that does not fit it.
    """
    tree: dict[str, Any] = msgspec.to_builtins(preset)
    for key, text in assignments.items():
        *path, last = key.split(".")
        node: Any = tree
        for part in path:
            node = node.get(part) if isinstance(node, dict) else None
        if not isinstance(node, dict) or last not in node or isinstance(node[last], dict):
            raise SettingsError(
                f"no option '{key}'", "--set", "scanward tamper presets --json lists them all"
            )
        try:
            node[last] = msgspec.json.decode(text)
        except msgspec.DecodeError:
            node[last] = text
    return from_builtins(tree, "--set")


def from_builtins(tree: Any, where: str) -> Preset:
    """A checked preset out of plain lists and dictionaries; unknown or missing options are refused."""
    try:
        made = msgspec.convert(tree, Preset, strict=True)
    except msgspec.ValidationError as error:
        raise SettingsError(
            f"not a preset: {error}", where, "scanward tamper presets --json shows the form"
        ) from error
    made.check()
    return made


def fingerprint(preset: Preset) -> str:
    """SHA-256 of a preset's options, by which a checkpoint knows what it was trained with."""
    return hashlib.sha256(msgspec.json.encode(preset, order="deterministic")).hexdigest()
