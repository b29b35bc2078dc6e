"""A run and the app are killed: the run outlives the app, the next app shows it, and a killed run can be resumed."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from app_in_browser import Server, serve

from pipeline.demo.build import DemoFolder
from ui import train_case
from ui.train_yaml import with_values

RECIPE = {"max_steps": 3000, "logging_steps": 1, "save_steps": 10, "eval_steps": 3000, "val_size": 8}


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Callable[[], Server]]:
    """Starts an app on the same data folder each time; what is left of them and of their run ends with the test."""
    apps: list[Server] = []

    def started() -> Server:
        apps.append(serve(tmp_path))
        return apps[-1]

    yield started
    for app in apps:
        app.process.kill()
        app.process.wait(timeout=20)
    for path in tmp_path.glob("jobs/*/status.json"):
        _kill(path.parent)


def _status(folder: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((folder / "status.json").read_text(encoding="utf-8"))
    return read


def _kill(folder: Path) -> None:
    """The supervisor and every process of the run, as when a machine loses its power."""
    for name in ("supervisor", "training"):
        known = _status(folder)[name]
        if known and psutil.pid_exists(known["pid"]):
            group = [psutil.Process(known["pid"]), *psutil.Process(known["pid"]).children(recursive=True)]
            for process in group:
                process.kill()
            psutil.wait_procs(group, timeout=10)


def _steps(folder: Path) -> int:
    path = folder / "metrics.jsonl"
    return path.read_text(encoding="utf-8").count('"loss"') if path.exists() else 0


def _until(what: Callable[[], object], seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end
        time.sleep(0.1)


def _drawn(page: Any) -> int:
    return int(page.evaluate("document.querySelector('#dd-train-plot .dd-drawn')?.data?.[0]?.x?.length ?? 0"))


def test_run_outlives_the_app_and_a_killed_run_is_resumed(
    served: Callable[[], Server], visit: Callable[..., Any], demo: DemoFolder
) -> None:
    app = served()
    page = visit(app.url)
    page.set_default_timeout(60_000)
    text = with_values(train_case.recipe_text("dpo_lora"), RECIPE)
    page.evaluate(
        "form => localStorage.setItem('dd-train-form', JSON.stringify(form))", {"name": "dpo_lora", "yaml": text}
    )
    page.reload()
    page.wait_for_selector(".dd-verdict")
    page.click("button[role=tab]:nth-of-type(5)")
    page.wait_for_function("document.querySelector('#dd-train-body [name=max_steps]')?.value === '3000'")
    page.click("#dd-train-start")
    page.wait_for_function("location.search.includes('train=')", timeout=120_000)
    folder = app.home / "jobs" / str(page.evaluate("ddTrain.state.id"))
    _until(lambda: _steps(folder) >= 2)

    app.process.send_signal(signal.SIGKILL)
    app.process.wait(timeout=20)
    page.close()
    before = _steps(folder)
    _until(lambda: _steps(folder) > before)  # nobody watches, and it goes on

    again = served()
    page = visit(again.url)
    page.set_default_timeout(60_000)
    page.click("button[role=tab]:nth-of-type(5)")
    page.wait_for_selector(f"[data-open='{folder.name}'][data-live] .dd-state-running")
    page.click(f"[data-open='{folder.name}']")
    page.wait_for_selector(".dd-run-running [data-stop]")
    page.wait_for_selector("#dd-train-plot .dd-drawn")
    shown = _drawn(page)
    assert shown > 2
    page.wait_for_function(f"document.querySelector('#dd-train-plot .dd-drawn').data[0].x.length > {shown}")

    _until(lambda: list(folder.glob("output/checkpoint-*/trainer_state.json")))
    _kill(folder)
    page.wait_for_selector(".dd-run-interrupted [data-resume]")
    assert "checkpoint-" in page.inner_text("[data-part=now]") and page.is_visible("[data-diagnose]")
    done = _steps(folder)
    page.click("[data-resume]")
    page.wait_for_selector(".dd-run-running [data-stop]", timeout=90_000)
    _until(lambda: _status(folder)["attempt"] == 2 and _steps(folder) > done)
    page.click("[data-part=now] [data-stop]")
    page.wait_for_selector(".dd-run-stopped")
    logged = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    steps = [one["step"] for one in logged if "loss" in one]
    assert steps == list(range(1, len(steps) + 1))  # one curve, no step twice, none left out
    assert not os.path.exists(f"/proc/{_status(folder)['training']['pid']}")
