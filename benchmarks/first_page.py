"""How much longer the app's first page takes than a bare `gr.Blocks`: `python benchmarks/first_page.py`.

Both run as processes of their own, one after the other, several times. Stated: seconds from the start of the process
to its first page, which is what heavy imports would spoil (time on the clock, and time of the processor, which other
work on the machine does not change), and milliseconds for the page's HTML once it runs, which grows with what stands on
it. Exit status 1 when the first page takes more than LIMIT times the processor time.
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIMIT = 1.3
BARE = """
import gradio as gr
with gr.Blocks() as page:
    gr.Markdown("bare")
page.launch(server_port={port}, ssr_mode=False, quiet=True)
"""
OURS = "import sys; sys.argv = ['app.py', '--port', '{port}']; import app; app.main()"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _get(port: int) -> int:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=30) as answer:
        return len(answer.read())


@dataclass(frozen=True)
class Start:
    """One process: seconds from its start to the first page by clock and by processor, median ms a page, bytes."""

    clock: float
    processor: float
    page_ms: float
    size: int


def _processor_seconds(pid: int) -> float:
    """User and system time of a running process so far; not a number where there is no /proc."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return float("nan")
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(code: str, pages: int) -> Start:
    """Start one process, wait for its first page, then fetch `pages` more."""
    port = _free_port()
    with tempfile.TemporaryDirectory() as home:
        env = {**os.environ, "DPO_DOCTOR_HOME": home, "GRADIO_ANALYTICS_ENABLED": "False", "no_proxy": "*"}
        started = time.perf_counter()
        server = subprocess.Popen(
            [sys.executable, "-c", code.format(port=port)], cwd=ROOT, env=env, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            while True:
                try:
                    size = _get(port)
                    break
                except (urllib.error.URLError, ConnectionError):
                    if server.poll() is not None or time.perf_counter() - started > 120:
                        raise SystemExit("the server did not start") from None
                    time.sleep(0.02)
            clock, processor = time.perf_counter() - started, _processor_seconds(server.pid)
            times = []
            for _ in range(pages):
                before = time.perf_counter()
                _get(port)
                times.append(1000 * (time.perf_counter() - before))
            return Start(clock, processor, statistics.median(times), size)
        finally:
            server.terminate()
            server.wait(timeout=20)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pages", type=int, default=40)
    options = parser.parse_args()
    measured: dict[str, list[Start]] = {"bare": [], "app": []}
    for _ in range(options.rounds):  # alternating, so that a slow minute of the machine hits both
        measured["bare"].append(measure(BARE, options.pages))
        measured["app"].append(measure(OURS, options.pages))
    best = {
        name: [min(getattr(r, field) for r in rounds) for field in ("clock", "processor", "page_ms", "size")]
        for name, rounds in measured.items()
    }
    print("       first page, s   processor, s   page, ms   page, kB")
    for name, (clock, processor, page, size) in best.items():
        print(f"{name:5} {clock:14.2f} {processor:14.2f} {page:10.1f} {size / 1000:10.1f}")
    ratios = [ours / bare for ours, bare in zip(best["app"], best["bare"], strict=True)]
    print("ratio {:14.2f} {:14.2f} {:10.2f} {:10.2f}".format(*ratios), f"   (limit {LIMIT} for the processor)")
    return 1 if ratios[1] > LIMIT else 0


if __name__ == "__main__":
    sys.exit(main())
