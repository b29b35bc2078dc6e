"""How far two texts, or two lists of token ids, begin alike."""

from __future__ import annotations

from typing import TypeVar

Text = TypeVar("Text", str, tuple[int, ...])


def same_beginning(one: Text, other: Text) -> int:
    """How many characters or ids both begin with, by halving: comparing slices costs less than going one by one."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
