"""An ordered parallel ``map`` that runs a bounded number of results ahead.

It uses threads, because PIL and NumPy release the lock while they decode and copy, and only the main thread receives
signals.
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
# limit for the results of all workers that are computed or wait, unless one alone is larger
PENDING_BYTES = 1 << 28


def ahead(work: Callable[[T], R], items: Iterable[T], result_bytes: int = 0) -> Generator[R]:
    """Compute ``map(work, items)`` in threads, with at most two pending results per worker.

    Closing the generator ends the threads after their current items.

    Args:
        work: Computes a result.
        items: What to compute results for.
        result_bytes: Bytes of a result; large ones have fewer workers.
    """
    workers = max(1, min(WORKERS, PENDING_BYTES // (2 * max(1, result_bytes))))
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
