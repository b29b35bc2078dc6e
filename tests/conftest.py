"""Fixtures that several test files share."""

from __future__ import annotations

import sys

import pytest
from app_in_browser import browser, home, public, server, visit  # noqa: F401  # fixtures

from pipeline.demo.build import DemoFolder, build_demo


@pytest.fixture(scope="session")
def demo() -> DemoFolder:
    """The built demo, from the user's cache; the first run on a machine trains it, which takes about a minute."""
    return build_demo(progress=lambda line: print(line, file=sys.stderr))
