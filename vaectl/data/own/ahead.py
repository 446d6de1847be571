"""Threads that work a bounded number of items ahead of results that are wanted in order.

Threads, because PIL and NumPy let others run while they decode and copy, and a signal comes to the main thread alone.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

WORKERS = min(8, os.cpu_count() or 1)


def ahead(work: Callable[[T], R], items: Iterable[T], workers: int = WORKERS) -> Generator[R]:
    """``map(work, items)``, with at most two results for each worker done and not taken yet.

    Closing the generator ends the threads once each has done what it is at.
    """
    pool = ThreadPoolExecutor(workers, thread_name_prefix="vaectl-reader")
    waiting: deque[Future[R]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) >= 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
