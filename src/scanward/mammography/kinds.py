"""Every kind of data set that ``scanward mammo import`` knows, by the name it has on the command line.

A kind of a published data set is one line in ``KINDS`` and one module in `scanward.mammography.adapters`. The two
plain kinds take what a user has in a folder; they are taken to name people, so the importer hashes their patients.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

from scanward.errors import SettingsError
from scanward.mammography.adapters.bcdr import BCDR
from scanward.mammography.adapters.cbis_ddsm import CBIS_DDSM
from scanward.mammography.adapters.cmmd import CMMD
from scanward.mammography.adapters.inbreast import INBREAST
from scanward.mammography.adapters.mias import MIAS
from scanward.mammography.adapters.mias_copies import MIAS_PNG
from scanward.mammography.adapters.vindr import VINDR
from scanward.mammography.plain import read_dicom, read_pictures
from scanward.mammography.sources import Kind

DICOM = Kind(
    name="dicom",
    title="a folder of DICOM mammograms",
    read=read_dicom,
    licence="that of the folder's owner",
    cite="",
    layout="any folder with DICOM mammograms, at any depth; labels from --labels FILE, else unknown",
    identifying=True,
    labels="optional",
)
PICTURES = Kind(
    name="pictures",
    title="a folder of PNG, TIFF or PGM pictures",
    read=read_pictures,
    licence="that of the folder's owner",
    cite="",
    layout="any folder with PNG, TIFF or PGM pictures; --labels FILE names image, patient and label of each",
    identifying=True,
    labels="required",
)

KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        DICOM,
        PICTURES,
        MIAS,
        MIAS_PNG,
        INBREAST,
        BCDR,
        CBIS_DDSM,
        VINDR,
        CMMD,
    )
}


def find(name: str, labels: Path | None = None) -> Kind:
    """The kind called ``name``, reading its labels from the CSV file ``labels`` (plain kinds only).

    Raises
    ------
    SettingsError
        No such kind, labels given to a kind that has its own, or none given to one that needs them.
    """
    kind = KINDS.get(name)
    if kind is None:
        raise SettingsError(f"no kind of data set is called {name!r}", "KIND", f"one of {', '.join(KINDS)}")
    if labels is None:
        if kind.labels == "required":
            raise SettingsError(
                f"{name} needs a table of labels", "--labels", "give a CSV with columns image, patient, label"
            )
        return kind
    if kind.labels == "none":
        raise SettingsError(f"{name} brings its own labels", "--labels", "leave it out")
    return replace(kind, read=partial(kind.read, labels=labels))
