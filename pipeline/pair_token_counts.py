"""What a tokenizer tells about each pair of a stream, as arrays: lengths, what the cut leaves, how the sides end."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Any

from pipeline.answer_endings import Endings
from pipeline.pair_tokens import Layout, TokenisedPair, TokenisedSample, layout_for, tokenise_pairs
from pipeline.pairs.pair import Pair

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_COUNTS = ("n_prompt", "n_chosen", "n_rejected", "kept_chosen", "kept_rejected", "prompt_lost")
_MARKS = ("dropped", "same", "same_kept", "nothing_left", "closed_chosen", "closed_rejected", "end_cut_chosen",
          "end_cut_rejected", "end_doubled_chosen", "end_doubled_rejected", "end_spelled_chosen",
          "end_spelled_rejected")  # fmt: skip


@dataclass(frozen=True)
class PairTokens:
    """What a tokenizer tells about each pair; arrays over pairs in order, int32 and bool.

    n_prompt, n_chosen, n_rejected: tokens before the cut, -1 for a side that isn't there and for a pair with a
    problem. kept_chosen, kept_rejected: answer tokens that are trained on. prompt_lost: tokens at the end of the
    prompt that are others once an answer follows (the boundary merges, or the template writes it otherwise).

    dropped: the prompt alone fills max_length and the row is left out. same: both sides are the same tokens whole;
    same_kept: what is left of them is the same (rows that are dropped aside). nothing_left: a side that is there has
    no token left, dropped rows included. closed_*: the side ends with an end token before the cut. end_cut_*: and no
    longer does after it. end_doubled_*: an end token stands behind another one. end_spelled_*: the text ends with an
    end marker that is no token of its own; `spelled` counts these markers.

    problem: index into `problems` (0: none), uint8.
    """

    n_prompt: NDArray[np.int32]
    n_chosen: NDArray[np.int32]
    n_rejected: NDArray[np.int32]
    kept_chosen: NDArray[np.int32]
    kept_rejected: NDArray[np.int32]
    prompt_lost: NDArray[np.int32]
    dropped: NDArray[np.bool_]
    same: NDArray[np.bool_]
    same_kept: NDArray[np.bool_]
    nothing_left: NDArray[np.bool_]
    closed_chosen: NDArray[np.bool_]
    closed_rejected: NDArray[np.bool_]
    end_cut_chosen: NDArray[np.bool_]
    end_cut_rejected: NDArray[np.bool_]
    end_doubled_chosen: NDArray[np.bool_]
    end_doubled_rejected: NDArray[np.bool_]
    end_spelled_chosen: NDArray[np.bool_]
    end_spelled_rejected: NDArray[np.bool_]
    problem: NDArray[np.uint8]
    problems: tuple[str, ...] = ("",)
    details: Mapping[str, str] = field(default_factory=dict)
    spelled: Counter[str] = field(default_factory=Counter)

    def __len__(self) -> int:
        return len(self.problem)

    @property
    def not_prefix(self) -> NDArray[np.bool_]:
        """Where the prompt's tokens are not those that the prompt with an answer begins with."""
        return self.prompt_lost > 0


def measure_tokens(
    tokenised: Iterable[TokenisedPair], endings: Endings, *, progress: Callable[[int], None] = lambda done: None
) -> PairTokens:  # fmt: skip
    """The measures of a stream of tokenised pairs; about 40 bytes of memory for each. progress: told how many are
    done, now and then."""
    import numpy as np

    counts: list[list[int]] = []
    marks: list[list[bool]] = []
    codes: list[int] = []
    blocks: list[tuple[Any, Any, Any]] = []
    names: dict[str, int] = {"": 0}
    details: dict[str, str] = {}
    spelled: Counter[str] = Counter()

    def close() -> None:
        blocks.append((
            np.array(counts, np.int32).reshape(-1, len(_COUNTS)), np.array(marks, np.bool_).reshape(-1, len(_MARKS)),
            np.array(codes, np.uint8),
        ))  # fmt: skip
        for rows in (counts, marks, codes):
            rows.clear()

    done = 0
    for one in tokenised:
        if one.problem:
            counts.append([-1] * 3 + [0] * 3)
            marks.append([False] * len(_MARKS))
            details.setdefault(one.problem, one.detail)
        else:
            counted, marked = _measured(one, endings, spelled)
            counts.append(counted)
            marks.append(marked)
        codes.append(names.setdefault(one.problem, min(len(names), 255)))
        done += 1
        if len(codes) >= 4096:
            close()
            progress(done)
    close()
    progress(done)
    by_count, by_mark = (np.concatenate([block[n] for block in blocks]).T.copy() for n in (0, 1))
    arrays: dict[str, Any] = {**dict(zip(_COUNTS, by_count, strict=True)), **dict(zip(_MARKS, by_mark, strict=True))}
    problem = np.concatenate([block[2] for block in blocks])
    return PairTokens(**arrays, problem=problem, problems=tuple(names), details=details, spelled=spelled)


def _measured(one: TokenisedPair, endings: Endings, spelled: Counter[str]) -> tuple[list[int], list[bool]]:
    """Values for _COUNTS and for _MARKS."""
    both = one.chosen is not None and one.rejected is not None
    kept = {"chosen": one.kept("chosen"), "rejected": one.kept("rejected")}
    sides: dict[str, tuple[bool, bool, bool, bool]] = {}
    nothing = False
    for name, ids, text in (
        ("chosen", one.chosen, one.pair.chosen), ("rejected", one.rejected, one.pair.rejected),
    ):  # fmt: skip
        if ids is None:
            sides[name] = (False, False, False, False)
            continue
        left = len(kept[name][1])
        nothing |= left == 0
        run, first = endings.closing(ids)
        if one.truncation_mode == "keep_start":
            cut = run > 0 and left <= first
        else:
            cut = run > 0 and len(ids) - left > first
        marker = endings.spelled(text)
        if marker:
            spelled[marker] += 1
        sides[name] = (run > 0, cut and not one.dropped, endings.doubled(ids), bool(marker))
    counts = [
        len(one.prompt), *(-1 if ids is None else len(ids) for ids in (one.chosen, one.rejected)),
        len(kept["chosen"][1]), len(kept["rejected"][1]), one.prompt_lost,
    ]  # fmt: skip
    marks = [
        one.dropped, both and one.chosen == one.rejected,
        both and not one.dropped and kept["chosen"] == kept["rejected"], nothing,
        *chain.from_iterable(zip(sides["chosen"], sides["rejected"], strict=True)),
    ]  # fmt: skip
    return counts, marks


def pair_tokens(
    pairs: Iterable[Pair], tokenizer: Any, *, layout: Layout | None = None, max_length: int | None = 1024,
    truncation_mode: str = "keep_start", encoder_decoder: bool = False, sample: TokenisedSample | None = None,
    cancel: threading.Event | None = None, progress: Callable[[int], None] = lambda done: None,
) -> PairTokens:  # fmt: skip
    """Tokenises and measures in one pass. sample: keeps some of the tokenised pairs on the way, for a model."""
    layout = layout or layout_for("", tokenizer)
    stream = tokenise_pairs(
        pairs, tokenizer, layout=layout, max_length=max_length, truncation_mode=truncation_mode,
        encoder_decoder=encoder_decoder, cancel=cancel,
    )  # fmt: skip
    endings = Endings(tokenizer, layout, encoder_decoder=encoder_decoder)
    return measure_tokens(stream if sample is None else sample.passing(stream), endings, progress=progress)
