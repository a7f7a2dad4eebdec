"""What a generator has to be compared with: nothing at all, blur, classical inpainting and pasting, and the truth.

Inpainting fills the known region from its border: harmonic (a soap film, Laplace's equation) or biharmonic (a bent
plate, which also continues slopes; Damelin and Hoang, Int J Math Math Sci 2018, 3950312). Pasting adds the light of a
genuine lesion of the classifiers' part. Both are told where, which a CycleGAN without a mask channel is not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage, sparse
from scipy.sparse import linalg
from torch import Tensor

from scanward.tampering.evaluation.blobs import grown, scaled, signal
from scanward.tampering.evaluation.sets import Images, Pictures
from scanward.tampering.evaluation.tampers import Alter, Tamper

Image = NDArray[np.float64]
Mask = NDArray[np.bool_]
One = Callable[[Image, Mask], Image]


def _each(alter: One) -> Alter:
    """A function of one picture and its region as a function of batches of them."""

    def altered(x: Tensor, region: Tensor) -> Tensor:
        pictures = x[:, 0].double().numpy()
        inside = region[:, 0].numpy() > 0
        made = [alter(picture, where) for picture, where in zip(pictures, inside, strict=True)]
        return torch.from_numpy(np.stack(made).astype(np.float32))[:, None]

    return altered


def identity() -> Tamper:
    """Does nothing. Whatever it scores, nobody else may boast of."""
    return Tamper("identity", lambda x, _: x, lambda x, _: x, "control")


def blur_all(sigma: float = 2.0) -> Tamper:
    """Blurs the whole picture by ``sigma`` px at 64 rows, both ways."""

    def alter(picture: Image, _: Mask) -> Image:
        out: Image = ndimage.gaussian_filter(picture, sigma * picture.shape[0] / 64, mode="nearest")
        return out

    return Tamper("blur", _each(alter), _each(alter), "control")


def blur_region(sigma: float = 4.0) -> Tamper:
    """Blurs the region alone, with a soft border; told where."""

    def alter(picture: Image, region: Mask) -> Image:
        scale = picture.shape[0] / 64
        blurred = ndimage.gaussian_filter(picture, sigma * scale, mode="nearest")
        soft = ndimage.gaussian_filter(region.astype(np.float64), scale)
        out: Image = picture + soft * (blurred - picture)
        return out

    return Tamper("blur-region", _each(alter), _each(alter), "control", told=True)


def harmonic(picture: Image, region: Mask) -> Image:
    """``picture`` with ``region`` filled by the solution of Laplace's equation from its border."""
    return _filled(picture, region, power=1)


def biharmonic(picture: Image, region: Mask) -> Image:
    """``picture`` with ``region`` filled by the solution of the biharmonic equation from its border."""
    return _filled(picture, region, power=2)


def _filled(picture: Image, region: Mask, power: int) -> Image:
    """Solve L^power u = 0 inside, u = picture outside; L the five-point Laplacian, mirrored at the edges."""
    if not region.any() or region.all():
        return picture
    # only the region's surroundings take part: a whole mammogram has millions of pixels
    down, right = np.nonzero(region)
    window = (
        slice(max(down.min() - 3, 0), down.max() + 4),
        slice(max(right.min() - 3, 0), right.max() + 4),
    )
    part, inside = picture[window].ravel(), region[window].ravel()
    laplacian = _laplacian(region[window].shape)
    system = laplacian if power == 1 else laplacian @ laplacian
    rows = system[np.flatnonzero(inside)]
    unknown = rows[:, np.flatnonzero(inside)].tocsc()
    known = rows[:, np.flatnonzero(~inside)]
    filled = part.copy()
    filled[inside] = linalg.spsolve(unknown, -(known @ part[~inside]))
    out = picture.copy()
    out[window] = np.clip(filled, -1, 1).reshape(region[window].shape)
    return out


def _laplacian(shape: tuple[int, int]) -> sparse.csr_matrix:
    def second(n: int) -> sparse.spmatrix:
        main = np.full(n, -2.0)
        main[0] = main[-1] = -1.0 if n > 1 else 0.0
        return sparse.diags([np.ones(n - 1), main, np.ones(n - 1)], [-1, 0, 1])

    across = sparse.kron(sparse.identity(shape[0]), second(shape[1]))
    down = sparse.kron(second(shape[0]), sparse.identity(shape[1]))
    return (across + down).tocsr()


def classical(learn: Pictures, *, seed: int = 0, fill: One = harmonic) -> Tamper:
    """Removes by inpainting, inserts by pasting a genuine lesion of ``learn``; told where."""

    def remove(picture: Image, region: Mask) -> Image:
        return fill(picture, grown(region, scaled(1, picture.shape[0])))

    return Tamper("inpaint-paste", _each(paste(learn, seed)), _each(remove), "control", told=True)


def paste(learn: Pictures, seed: int = 0) -> One:
    """Adds the light of some genuine cancer of ``learn``, its own region moved to the middle of the region given."""
    rows = [i for i in learn.cancer_rows if learn.region[i].any()]
    templates = [_template(learn, i) for i in rows]

    def alter(picture: Image, region: Mask) -> Image:
        if not region.any() or not templates:
            return picture
        # the same picture gets the same lesion, in whatever batch it comes
        key = hashlib.sha256(np.ascontiguousarray(picture).tobytes()).digest()[:8]
        random = np.random.default_rng([seed, int.from_bytes(key, "big")])
        light = templates[int(random.integers(len(templates)))]
        middle = np.argwhere(region).mean(axis=0) - (np.array(light.shape) - 1) / 2
        moved = np.zeros_like(picture)
        top, left = (round(float(v)) for v in middle)
        rows_ = slice(max(top, 0), min(top + light.shape[0], picture.shape[0]))
        columns = slice(max(left, 0), min(left + light.shape[1], picture.shape[1]))
        moved[rows_, columns] = light[
            rows_.start - top : rows_.stop - top, columns.start - left : columns.stop - left
        ]
        return np.clip(picture + moved, -1, 1)

    return alter


def _template(pictures: Pictures, row: int) -> Image:
    """The light of a lesion, cut out around its region, zero at the border."""
    light, region = signal(pictures, row), pictures.region[row]
    down, right = np.nonzero(grown(region, scaled(2, region.shape[0])))
    window = (slice(down.min(), down.max() + 1), slice(right.min(), right.max() + 1))
    soft = (
        np.ones_like(light)
        if pictures.twinned[row]
        else ndimage.gaussian_filter(region.astype(np.float64), 1.0)
    )
    out: Image = (light * soft)[window]
    return out


def truth(pictures: Pictures) -> Tamper:
    """The oracle: each phantom's own twin. A picture that it does not know comes back as it is."""
    lesion_free: dict[bytes, Images] = {}
    with_lesion: dict[bytes, Images] = {}
    for i in np.flatnonzero(pictures.twinned):
        x, twin = pictures.x[i], pictures.twin[i]
        cancer, healthy = (x, twin) if pictures.cancer[i] else (twin, x)
        lesion_free[cancer.tobytes()], with_lesion[healthy.tobytes()] = healthy, cancer

    def alter(known: dict[bytes, Images]) -> Alter:
        def altered(x: Tensor, _: Tensor) -> Tensor:
            made = [known.get(picture.tobytes(), picture) for picture in x[:, 0].numpy()]
            return torch.from_numpy(np.stack(made))[:, None]

        return altered

    return Tamper("truth", alter(with_lesion), alter(lesion_free), "truth", told=True)


def controls(learn: Pictures, test: Pictures, *, seed: int = 0) -> list[Tamper]:
    """All of them, the truth only where it is known of every picture of the test."""
    made = [identity(), blur_all(), blur_region(), classical(learn, seed=seed)]
    if test.twinned.all():
        made.append(truth(test))
    return made
