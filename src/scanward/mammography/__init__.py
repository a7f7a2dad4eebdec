"""Mammograms: adapters to public data sets, one manifest, splits by patient, and a phantom.

Knows nothing of tampering; every picture is 16-bit grey with the chest wall on the left.
"""

from scanward.mammography.manifest import (
    Books,
    Image,
    Label,
    Lesion,
    LesionKind,
    Manifest,
    Odd,
    read_manifest,
)

__all__ = ["Books", "Image", "Label", "Lesion", "LesionKind", "Manifest", "Odd", "read_manifest"]
