"""How many CPU threads a model's operations are split over."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from pipeline.config_files import load_config

One = TypeVar("One")
Made = TypeVar("Made")

MOST_AT_ONCE = 4


def suit_threads(parameters: int) -> Callable[[], None]:
    """One thread for a tiny model, in the calling thread; returns what sets the former number again.

    Operations of microseconds gain nothing from a second thread, and where other programs want the cores, each waits
    for the other at every one of them: a diagnosis of seconds took minutes.
    """
    import torch

    before = torch.get_num_threads()
    if parameters < float(load_config("sampling.yaml")["one_thread_below"]):
        torch.set_num_threads(1)
    return lambda: torch.set_num_threads(before)


def side_by_side(make: Callable[[One], Made], of: Sequence[One], threads: int) -> Generator[Made]:
    """What `make`, a pass of a model, gives for each, in order: several at a time on `threads` of the processor's, each
    with the operations of a pass split over its share of them. What has not begun when the caller stops is dropped.

    Batches side by side gain more than one split up: what stands between the products is too short to be split. At most
    MOST_AT_ONCE, as each needs room of its own.
    """
    import torch

    workers = min(threads, len(of), MOST_AT_ONCE)
    if workers < 2:
        yield from map(make, of)
        return
    before = torch.get_num_threads()
    pool = ThreadPoolExecutor(workers, "pass", torch.set_num_threads, (threads // workers,))
    waiting: deque[Future[Made]] = deque()
    try:
        for one in of:
            waiting.append(pool.submit(make, one))
            if len(waiting) > 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        torch.set_num_threads(before)
