"""Builders of DICOM objects for tests: what has no public sample is made here from the standard's tables."""
