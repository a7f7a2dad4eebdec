"""What was learned: read, written, signed and verified. No pickle, no training library, no clock.

``write`` makes a bundle, ``read`` verifies and parses one, ``VersionFloor`` remembers the highest version
accepted. Graphs become sessions by ``scanward.layers.onnx_session.session`` (imported apart: it loads ONNX
Runtime).
"""

from scanward.bundle.floor import VersionFloor
from scanward.bundle.manifest import BundleFacts, FileFacts, Manifest, library_versions
from scanward.bundle.reading import Bundle, read
from scanward.bundle.writing import write

__all__ = [
    "Bundle",
    "BundleFacts",
    "FileFacts",
    "Manifest",
    "VersionFloor",
    "library_versions",
    "read",
    "write",
]
