"""How long something took or takes, as it is said in both languages."""

from __future__ import annotations

from pipeline.config_files import load_config


def exactly(seconds: float, lang: str) -> str:
    """Of what was measured: `4 s`, `12 min 5 s`, `3 h 20 min`; two units at most, cut off, nothing below a second."""
    whole = max(0, int(seconds))
    if whole < 3600:
        return _said((("minute", whole // 60), ("second", whole % 60)), lang)
    return _long(whole // 60, lang)


def about(seconds: float, lang: str) -> str:
    """Of an estimate: `120 ms`, `4.2 s`, `12 min`, `3 h 20 min`; rounded to two digits or so."""
    units = load_config(f"words/{lang}/durations.yaml")
    if seconds < 1:
        return f"{max(seconds * 1000, 1):.0f}{units['millisecond']}"
    if seconds < 59.5:
        return f"{seconds:.{1 if seconds < 9.95 else 0}f}{units['second']}"
    return _long(round(seconds / 60), lang)


def _long(minutes: int, lang: str) -> str:
    if minutes < 24 * 60:
        return _said((("hour", minutes // 60), ("minute", minutes % 60)), lang)
    return _said((("day", minutes // 1440), ("hour", minutes % 1440 // 60)), lang)


def _said(parts: tuple[tuple[str, int], tuple[str, int]], lang: str) -> str:
    """The larger unit only where there is one, the smaller one only where it isn't 0 beside it."""
    units = load_config(f"words/{lang}/durations.yaml")
    (large, many), (small, few) = parts
    said = ([f"{many:,}{units[large]}"] if many else []) + ([f"{few}{units[small]}"] if few or not many else [])
    return " ".join(said)
