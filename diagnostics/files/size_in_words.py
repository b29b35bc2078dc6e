"""Numbers of parameters and bytes as a reader wants them. The units are the same in both languages."""

from __future__ import annotations


def parameters(count: int) -> str:
    """`0.19 B` (1e9), `1.2 M` (1e6), `4.1 K` (1e3)."""
    for size, unit in ((1e8, 1e9), (1e5, 1e6), (1e3, 1e3)):
        if count >= size:
            return f"{count / unit:,.3g} {'B' if unit == 1e9 else 'M' if unit == 1e6 else 'K'}"
    return str(count)


def bytes_(count: int) -> str:
    """`757 MB`, in powers of ten as file managers and the Hub show them."""
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "KB")):
        if count >= unit:
            return f"{count / unit:,.3g} {name}" if count < 1000 * unit else f"{count / unit:,.0f} {name}"
    return f"{count} bytes"


def named(names: list[str] | tuple[str, ...], most: int = 4) -> str:
    """The first few of many names."""
    shown = ", ".join(clipped(name) for name in names[:most])
    return f"{shown}, …" if len(names) > most else shown


def clipped(text: str, most: int = 100) -> str:
    """A text from outside, short enough for a sentence."""
    return text if len(text) <= most else f"{text[:most]}…"
