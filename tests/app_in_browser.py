"""A running app and a browser that visits it, for the tests of all its tabs. conftest.py makes the fixtures known."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from install_chromium import installed_chromium

ROOT = Path(__file__).resolve().parent.parent
FLAGS = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]


@dataclass
class Server:
    """One running app. home: its user's data folder."""

    process: subprocess.Popen[bytes]
    url: str
    home: Path

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=20)


def serve(home: Path, **env: str) -> Server:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}/"
    settings = {**os.environ, "DPO_DOCTOR_HOME": str(home), "GRADIO_ANALYTICS_ENABLED": "False", "no_proxy": "*", **env}
    process = subprocess.Popen([sys.executable, "app.py", "--port", str(port)], cwd=ROOT, env=settings,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
    for _ in range(900):
        try:
            urllib.request.urlopen(url, timeout=5).read()
            return Server(process, url, home)
        except (urllib.error.URLError, ConnectionError):
            assert process.poll() is None, "the app did not start"
            time.sleep(0.1)
    raise AssertionError("the app did not answer within 90 s")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def server(home: Path) -> Iterator[Server]:
    running = serve(home)
    yield running
    running.stop()


@pytest.fixture(scope="module")
def public(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """As a Space serves it."""
    folder = tmp_path_factory.mktemp("public")
    running = serve(folder / "home", DPO_DOCTOR_PUBLIC="1", TMPDIR=str(folder))
    yield running
    running.stop()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    path = installed_chromium()
    if path is None:
        pytest.fail("no Chromium here: `apt-get install chromium`, or `playwright install chromium`, or set $CHROMIUM",
                    pytrace=False)  # fmt: skip
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[..., Any]]:
    """Opens an address in a context of its own, as another visitor would; a script error fails the test."""
    contexts, errors = [], []

    def opened(url: str, *, ready: str = ".dd-verdict", **context: Any) -> Any:
        contexts.append(browser.new_context(**{"locale": "en-US", **context}))
        page = contexts[-1].new_page()
        page.set_default_timeout(60_000)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(url)
        page.wait_for_selector(ready)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert not errors
