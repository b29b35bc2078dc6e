"""How much memory can be had now: on a device, and within what a container allows."""

from __future__ import annotations

from contextlib import suppress

_CONTAINER = (  # limit and use, by the second and the first version of control groups
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)


def free_memory(device: str) -> int | None:
    """Bytes on the device, None where it can't be told."""
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.mem_get_info(device)[0])
    try:
        import psutil

        return int(psutil.virtual_memory().available)
    except ImportError:
        return None


def left_in_container() -> int | None:
    """Bytes below the container's limit, files kept in memory counted as used; None without a limit."""
    for limit, used in _CONTAINER:
        with suppress(OSError, ValueError), open(limit, encoding="ascii") as most, open(used, encoding="ascii") as now:
            return max(0, int(most.read()) - int(now.read()))  # ValueError: "max", no limit
    return None


_NO_MEMORY = ("out of memory", "can't allocate memory")  # as CUDA and the CPU say it


def lacked_memory(failed: BaseException) -> bool:
    """Whether memory ran out, whichever library says it."""
    return isinstance(failed, MemoryError) or any(words in str(failed).lower() for words in _NO_MEMORY)
