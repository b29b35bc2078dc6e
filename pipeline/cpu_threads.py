"""How many CPU threads a model's operations are split over."""

from __future__ import annotations

from collections.abc import Callable

from pipeline.config_files import load_config


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
