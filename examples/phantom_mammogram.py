"""Draw one phantom mammogram, save it and show it: with its lesion, without it, and where the lesion is.

python examples/phantom_mammogram.py [SEED] [FILE.png]
"""

from __future__ import annotations

import sys

import numpy as np
from PIL import Image

from scanward.mammography import Label
from scanward.mammography.phantom import phantom
from scanward.mammography.phantom_lesions import draw_growth

seed = int(sys.argv[1]) if len(sys.argv) > 1 else 5
file = sys.argv[2] if len(sys.argv) > 2 else "phantom.png"

growth = draw_growth(np.random.default_rng(seed), Label.MALIGNANT)  # a mass or a cluster of calcifications
woman = phantom((0, seed), rows=256, columns=256, lesions=[growth], view="MLO")
assert (woman.picture[~woman.breast] == woman.healthy[~woman.breast]).all()

panels = (woman.picture, woman.healthy, woman.picture - woman.healthy)
Image.fromarray((np.hstack(panels) >> 8).astype(np.uint8)).save(file)

(lesion,) = woman.lesions
x, y, radius = lesion.circle or (0.0, 0.0, 0.0)
print(
    f"{woman.label} {lesion.kind}, {growth.diameter:.0f} mm, at x {x:.0f}, y {y:.0f}, radius {radius:.0f} px"
)
print(f"{woman.spacing:.2f} mm per pixel, {woman.density:.0%} glandular; written to {file}")
Image.open(file).show()  # does nothing where there is no screen
