"""How well a model knows the right answers: nats and certainty, the same under other rows' prompts, row by row."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.format_autopsy import Autopsy, Difference, paired
from pipeline.score_answers import Piece, Score, position_limit, score_answers
from pipeline.script_of_text import main_script
from pipeline.stop_probability import asked_at_end

if TYPE_CHECKING:
    from pipeline.load_model import LoadedModel

MAX_ANSWER_TOKENS = 256  # the place where an answer ends is needed; longer ones are left out, not cut
LEAST_ROWS = 8


@dataclass(frozen=True)
class AnswerScores:
    """Whole answers under the format that fits. rows: their places in the autopsy; the others hold one for each."""

    rows: tuple[int, ...]
    answers: tuple[str, ...]
    pieces: tuple[Piece, ...]
    scores: tuple[Score, ...]

    def nats(self, places: Sequence[int] | None = None) -> float:
        """Nats per token over the given places of `rows`, all unless told."""
        chosen = [self.scores[p] for p in (range(len(self.scores)) if places is None else places)]
        return sum(s.total for s in chosen) / max(1, sum(len(s.nats) for s in chosen))

    def entropy(self, places: Sequence[int] | None = None) -> float:
        """Mean entropy of the predictions at the same tokens."""
        chosen = [self.scores[p] for p in (range(len(self.scores)) if places is None else places)]
        return sum(sum(s.entropy) for s in chosen) / max(1, sum(len(s.nats) for s in chosen))

    def accuracy(self, places: Sequence[int] | None = None) -> float:
        """Share of answer tokens that were the likeliest."""
        chosen = [self.scores[p] for p in (range(len(self.scores)) if places is None else places)]
        return sum(s.hits for s in chosen) / max(1, sum(len(s.nats) for s in chosen))

    def row_nats(self) -> list[float]:
        """Nats per token of each row."""
        return [s.total / max(1, len(s.nats)) for s in self.scores]

    def groups(self) -> dict[str, list[int]]:
        """Places of `rows` by the writing system of the answer: a model may know one language and not the other."""
        found: dict[str, list[int]] = {}
        for place, answer in enumerate(self.answers):
            found.setdefault(main_script(answer) or "none", []).append(place)
        return found


def answer_scores(loaded: LoadedModel, autopsy: Autopsy) -> AnswerScores:
    """Score whole answers under the format that fits, with entropy and with the place after them. Raises NotScored."""
    limit = position_limit(loaded)
    lengths = [len(ids) for ids in autopsy.maker.many([row.answer for row in autopsy.rows])]
    rows = [r for r, n in enumerate(lengths) if n <= MAX_ANSWER_TOKENS // 2]
    if len(rows) < LEAST_ROWS:
        rows = [r for r, n in enumerate(lengths) if n <= MAX_ANSWER_TOKENS]
    answers = [autopsy.rows[r].answer for r in rows]
    pieces = autopsy.pieces(autopsy.fitting, answers=answers, rows=rows)
    if limit is not None and not loaded.is_encoder_decoder:
        kept = [i for i, p in enumerate(pieces) if p.length < limit]
        rows, answers, pieces = [rows[i] for i in kept], [answers[i] for i in kept], [pieces[i] for i in kept]
    if not rows:
        return AnswerScores((), (), (), ())
    asked = asked_at_end(loaded, autopsy, answers)
    scores = score_answers(loaded, pieces, entropy=True, end_ids=asked, end=True)
    return AnswerScores(tuple(rows), tuple(answers), tuple(pieces), tuple(scores))


@dataclass(frozen=True)
class PromptDependence:
    """The same answers under other rows' prompts minus under their own, in nats per token. alike: share of rows
    whose answer is the most frequent one."""

    difference: Difference | None
    own: float
    swapped: float
    alike: float


def prompt_dependence(loaded: LoadedModel, autopsy: Autopsy, rows: Sequence[int]) -> PromptDependence:
    """Give every answer the prompt of a row with a prompt of similar length, an answer in the same writing system,
    and another answer. Rows without such a partner are left out. Raises NotScored."""
    answers = [autopsy.answers[r].strip().lower() for r in rows]
    alike = max(Counter(answers).values(), default=0) / max(1, len(answers))
    fit = autopsy.fitting
    frames = fit.format.frames
    order = sorted(rows, key=lambda r: (len(frames[r].before), r))
    scripts = {r: main_script(autopsy.answers[r]) for r in rows}
    partner: dict[int, int] = {}
    for place, row in enumerate(order):
        others = sorted((abs(place - i), (i - place) % 2, r) for i, r in enumerate(order) if r != row)
        for _, _, other in others:
            same = autopsy.answers[other].strip().lower() == autopsy.answers[row].strip().lower()
            if not same and scripts[other] == scripts[row] and frames[other].before != frames[row].before:
                partner[row] = other
                break
    paired_rows = [r for r in rows if r in partner]
    if not paired_rows:
        return PromptDependence(None, math.nan, math.nan, alike)
    own = score_answers(loaded, autopsy.pieces(fit, rows=paired_rows))
    texts = [autopsy.answers[r] for r in paired_rows]
    swapped_frames = [frames[partner[r]] for r in paired_rows]
    pieces = autopsy.pieces(fit, answers=texts, frames=swapped_frames, rows=paired_rows)
    swapped = score_answers(loaded, pieces)
    tokens = [autopsy.tokens[r] for r in paired_rows]
    differences = [s.total - o.total for s, o in zip(swapped, own, strict=True)]
    total = sum(tokens)
    return PromptDependence(
        paired(differences, tokens), sum(o.total for o in own) / total, sum(s.total for s in swapped) / total, alike
    )  # fmt: skip
