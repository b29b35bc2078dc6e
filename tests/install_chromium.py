"""Makes sure the browser tests find a Chromium: uses an installed one, installs one where it can, says so if not.

Never fails: without a browser only the browser tests fail, each with the same line.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def installed_chromium() -> str | None:
    """Path of a Chromium on this machine: $CHROMIUM, one on the PATH, or the one Playwright downloaded."""
    named = os.environ.get("CHROMIUM")
    if named and os.path.exists(named):
        return named
    for name in BROWSERS:
        if path := shutil.which(name):
            return path
    try:
        from playwright.sync_api import sync_playwright

        with sync_playwright() as playwright:
            path = playwright.chromium.executable_path
            return path if os.path.exists(path) else None
    except Exception:  # no playwright, or no driver for this platform: the tests will say so
        return None


def _try(argv: list[str]) -> bool:
    try:
        done = subprocess.run(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=900, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def main() -> None:
    if installed_chromium():
        return
    print("no Chromium found, installing one for the browser tests ...", file=sys.stderr)
    root = hasattr(os, "geteuid") and os.geteuid() == 0
    if root and shutil.which("apt-get"):
        packages = ["chromium", "fonts-noto-cjk"]
        if not _try(["apt-get", "install", "-y", "--no-install-recommends", *packages]):
            _try(["apt-get", "update"])
            _try(["apt-get", "install", "-y", "--no-install-recommends", *packages])
    if not installed_chromium():
        _try([sys.executable, "-m", "playwright", "install", "chromium"])
    if not installed_chromium():
        print("no Chromium could be installed: the browser tests will fail; install one and set CHROMIUM=/path/to/it",
              file=sys.stderr)  # fmt: skip


if __name__ == "__main__":
    main()
