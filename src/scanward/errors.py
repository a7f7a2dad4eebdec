"""The one tree of errors. Whatever comes from outside yields a result or one of these, never a traceback.

    ScanwardError
    |-- InputError            what was given cannot be used            (exit status 2)
    |   |-- DecodeError       bytes that are not what they claim to be
    |   |-- DialectError      a dialect that does not fit its table
    |   |-- LeakError         a patient (or a picture) in two parts of a split
    |   |-- RequestError      a request that a page refuses, with its HTTP status
    |   `-- SettingsError     an option or setting that makes no sense
    |-- BundleError           a bundle that is refused                 (exit status 2)
    |   |-- SignatureError    unsigned, altered, or signed by another key
    |   `-- RollbackError     older than what was accepted before
    |-- LearningError         training cannot give what was asked      (exit status 1)
    |-- AuditError            the audit log is broken or cannot be written (exit status 1)
    |   `-- AuditFullError    no room left: stops and emergency access only
    |-- ShippingError         a receiver of records cannot be reached  (exit status 1)
    |-- KeyFileError          a key that cannot be read or written     (exit status 2)
    |-- LinkError             a wire, its other end or its certificate (exit status 1)
    `-- PolicyError           a policy that is refused                 (exit status 2)

Every error says WHAT is wrong, WHERE, and WHAT TO DO about it.
"""

from __future__ import annotations


class ScanwardError(Exception):
    """Root of everything Scanward raises on purpose.

    Parameters
    ----------
    what : str
        What is wrong, in one clause.
    where : str
        File, row, field or option concerned; empty when there is none.
    todo : str
        What the reader can do about it.
    """

    exit_status = 1

    def __init__(self, what: str, where: str = "", todo: str = "") -> None:
        super().__init__(what, where, todo)
        self.what = what
        self.where = where
        self.todo = todo

    def __str__(self) -> str:
        return ", ".join(part for part in (self.what, self.where, self.todo) if part)

    def as_json(self) -> dict[str, str]:
        """The shape every ``--json`` command prints on failure."""
        return {"error": type(self).__name__, "what": self.what, "where": self.where, "todo": self.todo}


class InputError(ScanwardError):
    """What was given cannot be used."""

    exit_status = 2


class DecodeError(InputError):
    """Bytes that are not what they claim to be."""


class DialectError(InputError):
    """A dialect that is malformed or does not fit its table."""


class LeakError(InputError):
    """A patient, or a picture, in two parts of a split."""


class SettingsError(InputError):
    """An option or setting that makes no sense."""


class RequestError(InputError):
    """A request that a page refuses. ``status``: what HTTP (RFC 9110, 15.5) calls it, 400 to 499, or 503."""

    def __init__(self, what: str, where: str = "", todo: str = "", status: int = 400) -> None:
        super().__init__(what, where, todo)
        self.status = status


class BundleError(ScanwardError):
    """A bundle that is refused."""

    exit_status = 2


class SignatureError(BundleError):
    """Unsigned, altered, truncated, or signed by another key."""


class RollbackError(BundleError):
    """Older than a bundle that was accepted before."""


class LearningError(ScanwardError):
    """Training cannot give what was asked of it."""


class AuditError(ScanwardError):
    """The audit log is broken, or cannot be written."""


class AuditFullError(AuditError):
    """No room left for anything but stops and emergency access."""


class ShippingError(ScanwardError):
    """A receiver of records cannot be reached, or refuses them."""


class KeyFileError(ScanwardError):
    """A key that cannot be read or written."""

    exit_status = 2


class LinkError(ScanwardError):
    """A wire that cannot be used: nobody at the other end, or not who it should be."""


class PolicyError(ScanwardError):
    """A policy that is refused: empty, unsigned, altered, or of another device."""

    exit_status = 2
