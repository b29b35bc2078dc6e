"""`demo:NAME` where a command takes a path."""

from __future__ import annotations

from typing import Literal

from pipeline.commands.terminal import say
from pipeline.demo.demo_names import demo_model, is_demo


def without_demo_name(given: str, holds: Literal["model", "data"]) -> str:
    """The path of `demo:NAME`, made where it isn't there yet; anything else as it is. Raises Refused."""
    if not is_demo(given):
        return given
    from pipeline.training.demo_data import demo_data

    return str((demo_model if holds == "model" else demo_data)(given, lambda line: say("pipeline", line)))
