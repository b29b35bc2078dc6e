"""What a model wants to write where the right answers end: the probability of every plausible stop."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.config_files import load_config
from pipeline.format_autopsy import Autopsy, FormatFit
from pipeline.sample_answers import stop_ids
from pipeline.score_answers import Piece, Score, score_answers
from pipeline.written_markers import ends_like_a_turn

if TYPE_CHECKING:
    from pipeline.load_model import LoadedModel

# Rows on which a marker of several tokens is spelled out; more would only cost time.
SPELLED_ROWS = 16
# White space or another end less likely than this after the answers is no habit.
BETWEEN_MIN = 0.2
# A first piece below this probability everywhere can't begin a marker worth spelling out.
FIRST_PIECE_MIN = 0.02


@dataclass(frozen=True)
class StopCandidate:
    """One way to end an answer. text: the token or the marker as characters. ids: its tokens in most rows.

    kind: `stops` (generate() stops on it) | `terminator` (a token that ends turns or texts) | `pad` | `marker`
    (characters that spell an end marker) | `line_break`. probabilities: one for each row.
    """

    text: str
    ids: tuple[int, ...]
    kind: str
    probabilities: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.probabilities) if self.probabilities else 0.0

    @property
    def highest(self) -> float:
        return max(self.probabilities, default=0.0)


@dataclass(frozen=True)
class Stopping:
    """Where the answers end, under the format that fits best. stops: texts that generate() stops on.

    any_stop: probability of all of them together, row by row. after_blank: the same with white space in between
    counted too, where the model writes some first (empty otherwise): Llama 2's template puts a space there.
    after_terminator: the same with another token that ends turns in between.
    candidates: likeliest first. likeliest: the tokens that come first most often with their mean probability.
    """

    stops: tuple[str, ...]
    stop_ids: tuple[int, ...]
    any_stop: tuple[float, ...]
    after_blank: tuple[float, ...]
    after_terminator: tuple[float, ...]
    candidates: tuple[StopCandidate, ...]
    likeliest: tuple[tuple[str, float], ...]

    @property
    def median(self) -> float:
        return statistics.median(self.any_stop) if self.any_stop else 0.0

    def share_of_rows(self, least: float) -> float:
        """Share of rows in which the stop set gets at least this probability."""
        return sum(p >= least for p in self.any_stop) / len(self.any_stop) if self.any_stop else 0.0


def stop_candidates(loaded: LoadedModel, autopsy: Autopsy) -> dict[int, str]:
    """Single tokens that may end an answer: id -> kind."""
    tokenizer = autopsy.maker.tokenizer
    found: dict[int, str] = {}
    for id_ in stop_ids(loaded.model):
        found.setdefault(id_, "stops")
    pad = tokenizer.pad_token_id
    names: dict[str, int] = tokenizer.get_added_vocab()
    terminators = [tokenizer.eos_token_id, *(i for text, i in names.items() if ends_like_a_turn(text.strip()))]
    terminators += [closing_token(autopsy, fit) for fit in (autopsy.best, autopsy.used) if fit is not None]
    for id_ in terminators:
        if id_ is not None:
            found.setdefault(int(id_), "pad" if id_ == pad and id_ != tokenizer.eos_token_id else "terminator")
    if pad is not None:
        found.setdefault(int(pad), "pad")
    rows = loaded.vocabulary
    return {i: kind for i, kind in found.items() if 0 <= i < rows}


def closing_token(autopsy: Autopsy, fit: FormatFit) -> int | None:
    """The token that closes an answer in a format, None when it closes with words or not at all."""
    closing = fit.format.frames[0].after.strip()
    if autopsy.maker.is_encoder_decoder or not any(closing.startswith(name) for name in autopsy.maker.added):
        return None
    return autopsy.maker.ids(closing)[0]


def written_marks(autopsy: Autopsy) -> list[str]:
    """End markers that are no single token of this tokenizer: only as characters can they have been learned."""
    ends = load_config("chat_markers.yaml")
    markers = (*ends["document_ends"], *ends["turn_ends"], *load_config("written_markers.yaml")["more_markers"])
    return [m for m in dict.fromkeys(markers) if m not in autopsy.maker.added]


def first_pieces(autopsy: Autopsy, answers: Sequence[str]) -> dict[str, list[tuple[int, list[int]]]]:
    """marker -> for each row: how many of the answer's own tokens stay, and the tokens that follow them.

    Tokenised together, as text was: a closing full stop may merge with a bracket after it.
    """
    maker = autopsy.maker
    own = maker.many(answers)
    made: dict[str, list[tuple[int, list[int]]]] = {}
    for marker in [*written_marks(autopsy), "\n"]:
        rows = []
        for mine, together in zip(own, maker.many([a + marker for a in answers]), strict=True):
            same = next((i for i, (a, b) in enumerate(zip(mine, together, strict=False)) if a != b), len(mine))
            rows.append((min(same, len(together)), together[min(same, len(together)) :]))
        made[marker] = rows
    return made


def asked_at_end(loaded: LoadedModel, autopsy: Autopsy, answers: Sequence[str]) -> tuple[int, ...]:
    """All ids whose probability after the answers is needed by `stopping`."""
    ids = set(stop_candidates(loaded, autopsy))
    for rows in first_pieces(autopsy, answers).values():
        ids |= {follow[0] for _, follow in rows if follow}
    return tuple(sorted(i for i in ids if i < loaded.vocabulary))


def stopping(
    loaded: LoadedModel, autopsy: Autopsy, pieces: Sequence[Piece], answers: Sequence[str], scores: Sequence[Score]
) -> Stopping:  # fmt: skip
    """Judge the places after `answers`; `scores` come from `pieces` with the ids of `asked_at_end`.

    Raises NotScored.
    """
    tokenizer = autopsy.maker.tokenizer
    singles = stop_candidates(loaded, autopsy)
    stops = [i for i, kind in singles.items() if kind == "stops"]
    any_stop = tuple(sum(s.end.get(i, 0.0) for i in stops) for s in scores)
    candidates = [
        StopCandidate(_text_of(tokenizer, i), (i,), kind, tuple(s.end.get(i, 0.0) for s in scores))
        for i, kind in singles.items()
    ]
    spelled = first_pieces(autopsy, answers)
    breaks = spelled.pop("\n")
    line = tuple(
        s.end.get(follow[0], 0.0) if follow and keep == len(p.answer) else 0.0
        for s, p, (keep, follow) in zip(scores, pieces, breaks, strict=True)
    )
    candidates.append(StopCandidate("\\n", tuple(breaks[0][1][:1]), "line_break", line))
    for marker, rows in spelled.items():
        if (found := _spelled(loaded, marker, rows, pieces, scores)) is not None:
            candidates.append(found)
    special = {*tokenizer.all_special_ids, *stops}

    def blank(id_: int) -> bool:
        return id_ not in special and not tokenizer.decode([id_]).strip() and _is_blank(tokenizer, id_)

    after = _one_token_later(loaded, blank, pieces, scores, stops, any_stop)
    turn_ends = {i for i, kind in singles.items() if kind == "terminator"}
    later = _one_token_later(loaded, turn_ends.__contains__, pieces, scores, stops, any_stop)
    seen: dict[int, float] = {}
    for score in scores:
        for id_, probability in score.end_top[:3]:
            seen[id_] = seen.get(id_, 0.0) + probability / len(scores)
    top = sorted(seen.items(), key=lambda item: -item[1])[:5]
    candidates.sort(key=lambda c: -c.median)
    return Stopping(
        tuple(_text_of(tokenizer, i) for i in stops), tuple(stops), any_stop, after, later, tuple(candidates),
        tuple((_text_of(tokenizer, i), p) for i, p in top),
    )  # fmt: skip


def _one_token_later(
    loaded: LoadedModel, between: Callable[[int], bool], pieces: Sequence[Piece], scores: Sequence[Score],
    stops: Sequence[int], any_stop: Sequence[float],
) -> tuple[float, ...]:  # fmt: skip
    """P(stop at once) + P(a token) * P(stop after it), row by row, where the likeliest token is one that may stand
    between; nothing where that is no habit."""
    firsts = []
    for score in scores:
        id_, probability = score.end_top[0] if score.end_top else (-1, 0.0)
        firsts.append((id_, probability if id_ >= 0 and between(id_) else 0.0))
    if not stops or not firsts or statistics.median(p for _, p in firsts) < BETWEEN_MIN:
        return ()
    found = list(any_stop)
    places = [place for place, (_, p) in enumerate(firsts) if p > 0]
    longer = [Piece(pieces[i].context, (*pieces[i].answer, firsts[i][0]), pieces[i].lead) for i in places]
    for place, again in zip(places, score_answers(loaded, longer, end_ids=stops), strict=True):
        found[place] += firsts[place][1] * sum(again.end.get(i, 0.0) for i in stops)
    return tuple(found)


def _is_blank(tokenizer: Any, id_: int) -> bool:
    """A token of white space alone: one that decodes to nothing may also be part of a character."""
    return not str(tokenizer.convert_ids_to_tokens(id_)).strip("▁ĠĊ \n\t").replace("<0x0A>", "")


def _text_of(tokenizer: Any, id_: int) -> str:
    text = tokenizer.decode([id_])
    return text if text.strip() else str(tokenizer.convert_ids_to_tokens(id_))


def _spelled(
    loaded: LoadedModel, marker: str, rows: Sequence[tuple[int, list[int]]], pieces: Sequence[Piece],
    scores: Sequence[Score],
) -> StopCandidate | None:  # fmt: skip
    """Probability of the whole marker as characters after the answers; None when its beginning is improbable."""
    places = []
    for place, ((keep, follow), piece, score) in enumerate(zip(rows, pieces, scores, strict=True)):
        if not follow:
            continue
        merges = keep < len(piece.answer)
        if keep > 0 and (merges or score.end.get(follow[0], 0.0) >= FIRST_PIECE_MIN):
            places.append((place, keep, follow, merges))
    if len(places) < max(1, len(pieces) // 4):
        return None
    places = places[:SPELLED_ROWS]
    asked = [Piece((*pieces[i].context, *pieces[i].answer[:keep]), tuple(follow)) if not loaded.is_encoder_decoder
             else Piece(pieces[i].context, tuple(follow), (*pieces[i].lead, *pieces[i].answer[:keep]))
             for i, keep, follow, _ in places]  # fmt: skip
    found = []
    for (place, keep, _, merges), score in zip(places, score_answers(loaded, asked), strict=True):
        written = math.exp(-score.total)
        if merges:  # against the answer's own ending, which the marker replaced
            rest = math.exp(-sum(scores[place].nats[keep:]))
            written = written / (written + rest) if written + rest > 0 else 0.0
        found.append(written)
    if len(found) < SPELLED_ROWS:  # the rows that were not worth spelling out
        found += [0.0] * (len(pieces) - len(found))
    ids = max((tuple(follow) for _, _, follow, _ in places), key=[tuple(f) for _, _, f, _ in places].count)
    return StopCandidate(marker, ids, "marker", tuple(found))
