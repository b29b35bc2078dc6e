"""Whether token ids are the ones the tokenizer itself would write their text with.

A model writes nearly always the pieces its tokenizer cuts text into, as it has seen no others. Ids of another
vocabulary, read through this one, give pieces side by side that no text is ever cut into.
"""

from __future__ import annotations

from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import Any

LEAST = 3  # tokens between the first and the last one, below which an answer says nothing


def own_pieces(tokenizer: Any, ids: Sequence[int]) -> tuple[int, int]:
    """(tokens that come back when the text of `ids` is tokenised anew, tokens compared).

    Special tokens are left out, as are the first and the last token: many tokenizers add or drop a space in front, and
    an answer cut off may end within a character.
    """
    special = frozenset(tokenizer.all_special_ids)
    plain = [i for i in ids if i not in special]
    if len(plain) < LEAST + 2:
        return 0, 0
    text = tokenizer.decode(plain, clean_up_tokenization_spaces=False)
    again = list(tokenizer(text, add_special_tokens=False, verbose=False).input_ids)
    inside = range(1, len(plain) - 1)
    blocks = SequenceMatcher(None, plain, again, autojunk=False).get_matching_blocks()
    kept = sum(len(range(max(b.a, 1), min(b.a + b.size, len(plain) - 1))) for b in blocks)
    return kept, len(inside)
