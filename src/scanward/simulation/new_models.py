"""One further scanner model of each known maker: what a site gets when it replaces a scanner.

Each keeps its maker's habits (names of protocols, kernels and AEC, what Exposure means, which phantom, over-ranging)
and differs in what a model is: dose per mAs, tube voltages, detector, rotation times, pitches, tube and generator.
Sources are named as in ``constants``; like those, these values were chosen before any detector was run on them.
"""

from __future__ import annotations

from dataclasses import replace

from scanward.simulation.constants import MODELS, Model

_SIGMA, _GAMMA, _TAU = MODELS

NEW_MODELS: tuple[Model, ...] = (
    # A smaller scanner than the one known: less tube, a narrower detector, other tube voltages.
    replace(
        _SIGMA,
        name="S-32",
        mgy_per_100_mas=8.82,  # CTSET: CTDIvol 0.0685 mGy per effective mAs at 110 kV, over 0.777
        kvps=(80.0, 110.0, 130.0),  # CTSET: 110; 80 and 130: assumption
        # CTSET: 19.2 mm in all; others and over-beaming: assumption
        collimations=((0.6, 3.6, 1.30), (0.6, 9.6, 1.12), (1.2, 19.2, 1.0)),
        rotations=(0.6, 1.0, 1.5),  # CTSET: 0.6; others assumption
        pitches=(0.4, 0.55, 0.8, 1.0, 1.2, 1.5),  # assumption
        max_ma=400.0,  # assumption
        max_kw=55.0,  # assumption
        localizer_dose_per_ma=0.0048,  # assumption: as much more per mA as its scans
        localizer_kvp=110.0,  # its voltage next to 120
        table_height=150.0,  # assumption
    ),
    # A larger one: twice the width, faster, one more tube voltage.
    replace(
        _GAMMA,
        name="G-256",
        mgy_per_100_mas=7.45,  # assumption: a longer way from focus to centre than the known model's
        kvps=(70.0, 80.0, 100.0, 120.0, 140.0),  # assumption
        # assumption: a wide fan wastes more of a narrow beam
        collimations=((0.625, 5.0, 1.5), (0.625, 40.0, 1.02), (0.625, 80.0, 1.0)),
        rotations=(0.28, 0.35, 0.5, 0.6, 0.8, 1.0),  # assumption
        pitches=(0.508, 0.992, 1.531),  # assumption
        fields_of_view=(320.0, 360.0, 500.0),  # assumption
        max_ma=740.0,  # assumption
        max_kw=103.0,  # assumption
        table_height=155.0,  # assumption
    ),
    # A wide one that stands close: more dose per mAs.
    replace(
        _TAU,
        name="T-320",
        mgy_per_100_mas=6.30,  # assumption
        collimations=((0.5, 4.0, 1.35), (0.5, 40.0, 1.02), (0.5, 80.0, 1.0)),  # assumption
        rotations=(0.275, 0.35, 0.5, 0.75, 1.0),  # assumption
        pitches=(0.238, 0.637, 0.87, 0.99, 1.388),  # assumption
        max_ma=900.0,  # assumption
        max_kw=100.0,  # assumption
        table_height=105.0,  # assumption
    ),
)  # in the order of ``constants.MODELS``: the i-th is of the maker of the i-th known model
