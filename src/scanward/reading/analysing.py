"""From a table of ratings to everything that is said of it: `analyse`."""

from __future__ import annotations

from scanward.reading.findings import SIMULATED, Absent, Cell, Finding, Measured, Result

__all__ = ["SIMULATED", "Absent", "Cell", "Finding", "Measured", "Result"]
