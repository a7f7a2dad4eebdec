"""DICOM digital signatures (PS3.15 annex C, PS3.3 C.12.1.1.3): made, verified, and a node on the wire that does both.

Stands alone: bytes in, bytes or a report out; no picture is decoded.
"""

from scanward.signatures.certificates import Trust
from scanward.signatures.profiles import PROFILES, USUAL, Coverage
from scanward.signatures.report import Fits, Genuineness, Report, Signature
from scanward.signatures.signing import Signer, sign_bytes
from scanward.signatures.signing_files import sign_file, sign_files
from scanward.signatures.timestamps import TimestampAuthority
from scanward.signatures.verifying import verify_bytes, verify_file

__all__ = [
    "PROFILES",
    "USUAL",
    "Coverage",
    "Fits",
    "Genuineness",
    "Report",
    "Signature",
    "Signer",
    "TimestampAuthority",
    "Trust",
    "sign_bytes",
    "sign_file",
    "sign_files",
    "verify_bytes",
    "verify_file",
]
