"""How answers end under a tokenizer: which tokens close one, which stand twice, which are only spelled."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from pipeline.config_files import load_config
from pipeline.pair_tokens import Ids, Layout, layout_for, tokenise_pairs
from pipeline.pairs.pair import Pair, Side, text_of
from pipeline.written_markers import ends_like_a_turn

_TAIL = 64  # characters at the end of an answer in which an end marker is looked for


class Endings:
    """Which tokens close an answer under one tokenizer and layout.

    ids: the tokenizer's end and padding tokens, added tokens named like an end, and those the template writes behind
    an answer. written: how many different ones of them stand behind an answer that says nothing of an end itself.
    """

    def __init__(self, tokenizer: Any, layout: Layout | None = None, *, encoder_decoder: bool = False) -> None:
        self.tokenizer = tokenizer
        self.layout = layout or layout_for("", tokenizer)
        self._blank: dict[int, bool] = {}
        self._one_token: dict[str, bool] = {}
        self._pattern = re.compile(load_config("chat_markers.yaml")["end_marker_at_end"])
        added = {int(i): str(token) for i, token in getattr(tokenizer, "added_tokens_decoder", {}).items()}
        ids = {i for i, text in added.items() if ends_like_a_turn(text)}
        ids |= {i for i in (tokenizer.eos_token_id, tokenizer.pad_token_id) if i is not None}
        question = [{"role": "user", "content": "a"}]
        trial = next(
            tokenise_pairs([Pair(question, "a", "b")], tokenizer, layout=self.layout, max_length=None,
                           encoder_decoder=encoder_decoder)
        )  # fmt: skip
        behind = _common_end(trial.chosen or (), trial.rejected or ())
        ids |= {i for i in behind if i in added}
        self.ids = frozenset(ids - {tokenizer.unk_token_id})
        run, first = self.closing(behind)
        self.written = len(set(behind[first:]) & self.ids) if run else 0

    def closing(self, ids: Sequence[int]) -> tuple[int, int]:
        """(end tokens that stand one behind another at the end, white space between and after them left out; the
        place of the first of them): (0, len(ids)) where the answer isn't closed."""
        count, first = 0, len(ids)
        for place in range(len(ids) - 1, -1, -1):
            if ids[place] in self.ids:
                count, first = count + 1, place
            elif not self._is_blank(ids[place]):
                break
        return count, first

    def doubled(self, ids: Sequence[int]) -> bool:
        """Whether an end token stands behind another one that says the same, or that the template doesn't write."""
        run, first = self.closing(ids)
        return run > max(1, self.written) or (run > 1 and run > len(set(ids[first:]) & self.ids))

    def spelled(self, side: Side | None) -> str:
        """The end marker written at the end of an answer that is no token of its own here, "" where there is none."""
        found = self._pattern.search(text_of(side)[-4 * _TAIL :].rstrip()[-_TAIL:])
        if found is None:
            return ""
        marker = found.group(0).strip()
        if marker not in self._one_token:
            ids = self.tokenizer(marker, add_special_tokens=False, verbose=False)["input_ids"]
            self._one_token[marker] = len(ids) == 1 and ids[0] != self.tokenizer.unk_token_id
        return "" if self._one_token[marker] else marker

    def _is_blank(self, token: int) -> bool:
        if token not in self._blank:
            self._blank[token] = not str(self.tokenizer.decode([token])).strip()
        return self._blank[token]


def _common_end(ids: Ids, other: Ids) -> Ids:
    same = 0
    for one, two in zip(reversed(ids), reversed(other), strict=False):
        if one != two:
            break
        same += 1
    return ids[len(ids) - same :]
