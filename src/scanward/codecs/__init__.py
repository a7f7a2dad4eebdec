"""Codecs: bytes <-> commands, pure. Nothing here walks folders, keeps state or knows who the patient is.

``dicom_files`` opens DICOM safely; ``rdsr`` and ``exposure_dose`` read dose reports. Import from the modules:
a guard that needs one codec does not load them all.
"""
