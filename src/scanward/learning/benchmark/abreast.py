"""The same work on several things at once, in processes of their own: figures of levels, comparisons of levels."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from scanward.errors import LearningError

T = TypeVar("T")


def each(
    work: Callable[..., T],
    jobs: Sequence[tuple[Any, ...]],
    workers: int,
    tick: Callable[[int], None] = lambda _done: None,
) -> list[T]:
    """``work(*job)`` of every job, in their order; ``tick`` hears how many are done.

    With one worker all of it happens here. ``work`` is a function of a module, its jobs can be pickled; what comes out
    is the same for any number of workers.

    Raises
    ------
    LearningError
        When a process is lost (killed for its memory, say). What ``work`` raises comes through.
    """
    if workers == 1 or len(jobs) < 2:
        out = []
        for done, job in enumerate(jobs, 1):
            out.append(work(*job))
            tick(done)
        return out
    # What is forked off a process with threads may hang; one started anew cannot.
    context = multiprocessing.get_context("spawn")
    try:
        with ProcessPoolExecutor(min(workers, len(jobs)), context, initializer=_one_thread) as pool:
            waiting = [pool.submit(work, *job) for job in jobs]
            try:
                out = []
                for done, one in enumerate(waiting, 1):
                    out.append(one.result())
                    tick(done)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    except BrokenProcessPool as error:
        raise LearningError(
            "a process that worked out figures is gone", "benchmark", "give fewer --workers or more memory"
        ) from error
    return out


def _one_thread() -> None:
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(name, "1")
