"""`demo:NAME` in place of a path: a model of the demo, or rows that fit it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pipeline.refusal import Refused

PREFIX = "demo:"


def is_demo(named: str) -> bool:
    return named.startswith(PREFIX)


def demo_model(named: str, progress: Callable[[str], None] | None = None) -> Path:
    """The folder of a model of the demo, trained where it isn't yet (minutes). Raises Refused for an unknown name."""
    from pipeline.demo.build import STAGES, DemoNotBuilt, build_demo

    name = named.removeprefix(PREFIX)
    known = [stage for stage in STAGES if stage != "data"]
    if name not in known:
        raise Refused("demo_unknown", given=named, names=", ".join(PREFIX + n for n in known))
    try:
        demo = build_demo(only=[name], progress=progress)
    except DemoNotBuilt as failed:
        raise Refused("demo_not_built", why=failed) from None
    return demo.root / name
