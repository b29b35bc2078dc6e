"""What this machine has to train on, found without importing torch."""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

from pipeline import processes

_SECONDS = 10.0  # nvidia-smi answers in one, and hangs where the driver does


def gpus_here() -> int:
    """How many GPUs torch would see: installed ones that CUDA_VISIBLE_DEVICES allows, 0 for a torch without CUDA."""
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "cuda"):
        with suppress(Exception):  # half imported, or a driver that fails
            count = int(torch.cuda.device_count())
            return count or int(_apple())
    built = torch_build() or "cuda"  # what isn't known is left to the driver
    if built == "cuda":
        return _visible(_nvidia_gpus(), os.environ.get("CUDA_VISIBLE_DEVICES"))
    if built == "hip":
        allowed = os.environ.get("HIP_VISIBLE_DEVICES", os.environ.get("CUDA_VISIBLE_DEVICES"))
        return _visible(_amd_gpus(), allowed)
    return int(_apple())


def _apple() -> bool:
    return sys.platform == "darwin" and platform.machine() == "arm64"


@cache
def torch_build() -> str:
    """`cpu`, `cuda`, `hip`, or nothing where torch isn't installed; by the text of torch/version.py."""
    with suppress(ImportError, ValueError, OSError):
        spec = importlib.util.find_spec("torch")
        if spec is None or not spec.origin:
            return ""
        text = Path(spec.origin).with_name("version.py").read_text(encoding="utf-8")
        return next((n for n in ("cuda", "hip") if re.search(rf"^{n}\b[^=]*= *['\"]", text, re.MULTILINE)), "cpu")
    return ""


def nvidia_smi(*arguments: str) -> str | None:
    """What the driver's own program says; None where it isn't there, fails or hangs."""
    try:
        child = processes.start(["nvidia-smi", *arguments], stdout=processes.PIPE, stderr=processes.DEVNULL)
    except OSError:
        return None
    try:
        told, _ = child.communicate(timeout=_SECONDS)
    except processes.TimeoutExpired:
        child.kill()
        child.communicate()
        return None
    return told.decode("utf-8", errors="replace") if child.returncode == 0 else None


@cache
def _nvidia_gpus() -> int:
    if (told := nvidia_smi("-L")) is not None:
        return sum(line.startswith("GPU ") for line in told.splitlines())
    with suppress(OSError):
        return len(os.listdir("/proc/driver/nvidia/gpus"))
    return 0


@cache
def _amd_gpus() -> int:
    count = 0
    for node in Path("/sys/class/kfd/kfd/topology/nodes").glob("*/gpu_id"):
        with suppress(OSError):
            count += node.read_text().strip() not in ("", "0")  # 0: a processor
    return count


def visible_places(installed: int, allowed: str | None, uuids: Sequence[str] | None = None) -> list[int | None]:
    """Places, in the driver's order, of the GPUs that CUDA_VISIBLE_DEVICES allows: CUDA reads its list up to the first
    entry that isn't a device (CUDA C++ Programming Guide, environment variables), and an empty list allows none. uuids:
    of the installed ones; where they aren't known an entry by uuid is believed, its place None."""
    if allowed is None:
        return list(range(installed))
    found: list[int | None] = []
    for entry in (part.strip() for part in allowed.split(",")):
        if entry.isascii() and entry.isdigit() and int(entry) < installed:
            found.append(int(entry))
        elif uuids is None and entry.startswith(("GPU-", "MIG-")):
            found.append(None)
        elif uuids is not None and entry.startswith("GPU-") and any(uuid.startswith(entry) for uuid in uuids):
            found.append(next(place for place, uuid in enumerate(uuids) if uuid.startswith(entry)))
        else:
            break
    return found if installed else []


def _visible(installed: int, allowed: str | None) -> int:
    return len(visible_places(installed, allowed))


def cores_here() -> int:
    """CPU cores this process may keep busy: whole ones, those it is bound to, and what a container allows."""
    import psutil

    cores = psutil.cpu_count(logical=False) or os.cpu_count() or 1
    with suppress(AttributeError, OSError):  # not on macOS and Windows
        cores = min(cores, len(os.sched_getaffinity(0)))
    with suppress(OSError, ValueError):
        most, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        cores = min(cores, max(1, int(most) // int(period)))  # ValueError: "max", no limit
    with suppress(OSError, ValueError, ZeroDivisionError):
        at = Path("/sys/fs/cgroup/cpu")
        most, period = ((at / f"cpu.cfs_{name}_us").read_text(encoding="ascii") for name in ("quota", "period"))
        if int(most) > 0:
            cores = min(cores, max(1, int(most) // int(period)))
    return max(1, cores)
