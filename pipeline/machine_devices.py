"""What this machine has to train on, found without importing torch."""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import sys
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
    built = _torch_built_for()
    if built == "cuda":
        return _visible(_nvidia_gpus(), os.environ.get("CUDA_VISIBLE_DEVICES"))
    if built == "hip":
        allowed = os.environ.get("HIP_VISIBLE_DEVICES", os.environ.get("CUDA_VISIBLE_DEVICES"))
        return _visible(_amd_gpus(), allowed)
    return int(_apple())


def _apple() -> bool:
    return sys.platform == "darwin" and platform.machine() == "arm64"


@cache
def _torch_built_for() -> str:
    """cuda, hip or nothing, from the text of torch/version.py; cuda where there is no such text."""
    with suppress(ImportError, ValueError, OSError):
        spec = importlib.util.find_spec("torch")
        if spec is not None and spec.origin:
            text = Path(spec.origin).with_name("version.py").read_text(encoding="utf-8")
            for name in ("cuda", "hip"):
                if re.search(rf"^{name}\b[^=]*= *['\"]", text, re.MULTILINE):
                    return name
            return ""
    return "cuda"


@cache
def _nvidia_gpus() -> int:
    with suppress(OSError, processes.TimeoutExpired):
        child = processes.start(["nvidia-smi", "-L"], stdout=processes.PIPE, stderr=processes.DEVNULL)
        try:
            told, _ = child.communicate(timeout=_SECONDS)
        finally:
            if child.poll() is None:
                child.kill()
        if child.returncode == 0:
            return sum(line.startswith(b"GPU ") for line in told.splitlines())
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


def _visible(installed: int, allowed: str | None) -> int:
    """Of `installed` those that CUDA_VISIBLE_DEVICES allows: CUDA reads its list up to the first entry that isn't a
    device (CUDA C++ Programming Guide, environment variables), and an empty list allows none."""
    if allowed is None:
        return installed
    count = 0
    for entry in (part.strip() for part in allowed.split(",")):
        known = entry.startswith(("GPU-", "MIG-")) or entry.isascii() and entry.isdigit() and int(entry) < installed
        if not known:
            break
        count += 1
    return count if installed else 0


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
