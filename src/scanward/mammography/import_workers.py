"""Bringing pictures in this process or in others, in the order of the source, few at a time.

Decoders of compressed pixels are C code fed with files that nobody vouches for. In a process of its own a crash of
one costs one image and not the import.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from scanward.mammography import decode_apart
from scanward.mammography.import_one import Brought, Job, bring

_AHEAD = 2  # jobs waiting for each worker: enough to keep it busy

Waiting = deque[tuple[Job, "Future[Brought]"]]


def brought(jobs: Iterable[Job], workers: int) -> Iterator[tuple[Job, Brought]]:
    """Each job with what became of it, in order. ``workers`` processes, or none but this one for 0."""
    if workers <= 0:
        for job in jobs:
            yield job, bring(job)
        return
    todo = iter(jobs)
    exhausted = False
    while not exhausted:
        waiting: Waiting = deque()
        pool = _pool(workers)
        try:
            while True:
                while not exhausted and len(waiting) < workers * _AHEAD:
                    following = next(todo, None)
                    if following is None:
                        exhausted = True
                    else:
                        waiting.append((following, _submit(pool, following)))
                if not waiting:
                    break
                job, future = waiting[0]
                result = future.result()
                waiting.popleft()
                yield job, result
        except BrokenProcessPool:
            pool.shutdown(cancel_futures=True)
            # One of those at work took its process down. Alone, each shows whether it was the one.
            for job, _ in waiting:
                yield job, _apart(job)
        finally:
            pool.shutdown(cancel_futures=True)


def _submit(pool: ProcessPoolExecutor, job: Job) -> Future[Brought]:
    """A pool that is broken takes nothing: the failure then comes with the job's future like any other."""
    try:
        return pool.submit(bring, job)
    except BrokenProcessPool as error:
        failed: Future[Brought] = Future()
        failed.set_exception(error)
        return failed


def _apart(job: Job) -> Brought:
    try:
        with _pool(1) as pool:
            return pool.submit(bring, job).result()
    except BrokenProcessPool:
        return Brought(why="the process that read it died")


def _pool(workers: int) -> ProcessPoolExecutor:
    # spawn: a fork of a process with threads (a progress bar is one) may hang.
    return ProcessPoolExecutor(
        workers,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_prepare,
    )


def _prepare() -> None:
    """In a worker: Ctrl-C is the parent's affair, a crash costs one image, and what decoders print is no one's."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    decode_apart.already = True
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)
