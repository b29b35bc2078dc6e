"""How many tokens a text has, by the tokenizer that was given with a set. Loaded in the background, and kept."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from pipeline.refusal import Refused

KEPT = 2
Counter = Callable[[str], int]
_loaded: dict[str, Any] = {}
_lock = threading.Lock()


def counter(tokenizer: str) -> Counter | None:
    """None without a tokenizer, while it is being loaded, and where it can't be read."""
    if not tokenizer:
        return None
    with _lock:
        if tokenizer not in _loaded:
            while len(_loaded) >= KEPT:
                _loaded.pop(next(iter(_loaded)))
            _loaded[tokenizer] = None
            threading.Thread(target=_load, args=(tokenizer,), name="pairs-tokenizer", daemon=True).start()
        found = _loaded[tokenizer]
    return (lambda text: len(found.encode(text, add_special_tokens=False))) if found is not None else None


def _load(tokenizer: str) -> None:
    from pipeline.checkpoint import open_checkpoint
    from pipeline.load_model import load_tokenizer

    try:
        found, _ = load_tokenizer(open_checkpoint(tokenizer))
    except (Refused, OSError, ValueError):
        return
    with _lock:
        if tokenizer in _loaded:
            _loaded[tokenizer] = found
