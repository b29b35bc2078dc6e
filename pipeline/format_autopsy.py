"""Which prompt format a model was trained on: the right answers are likeliest under it.

Every known format is scored on a few rows, the ones that fit best on all rows and in the variants near them. Formats
are compared on the same answers row by row, so that hard rows cancel out; intervals are of the mean of paired
differences (Student's t), as rows and not tokens are what varies independently.
"""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pipeline.config_files import load_config
from pipeline.instruction_rows import InstructionRow, spread
from pipeline.prompt_formats import (
    Frame,
    PieceMaker,
    PromptFormat,
    Render,
    Variant,
    declared_formats,
    family_formats,
    label_of,
    near,
    plain_formats,
    vocabulary_formats,
)
from pipeline.score_answers import NotScored, Piece, position_limit, score_answers

if TYPE_CHECKING:
    from pipeline.load_model import LoadedModel


MOST_COUNTED = 3.0  # nats per token: while formats are sorted out, a row can't speak louder against one


@dataclass(frozen=True)
class Difference:
    """Mean difference in nats per answer token with its 95% interval. z: mean over standard error. rows: how many;
    agreeing: share of rows with the sign of the mean."""

    mean: float
    low: float
    high: float
    z: float
    rows: int
    agreeing: float


@dataclass(frozen=True)
class FormatFit:
    """How well the answers fit under one format. totals: nats of the whole answer, row by row, over the rows it was
    scored on (`rows`: their places). label: what charts call it. starts: start tokens in front.

    used: this is what generation uses: the declared template, or without one the bare prompt as the tokenizer
    encodes it. same_as: other formats that make exactly the same tokens.
    """

    format: PromptFormat
    variant: Variant
    label: str
    rows: tuple[int, ...]
    totals: tuple[float, ...]
    starts: int = 0
    used: bool = False
    same_as: tuple[str, ...] = ()

    @property
    def declared(self) -> bool:
        """The checkpoint's template, as generation uses it or in a variant of its own."""
        return self.format.family == "declared"


@dataclass(frozen=True)
class Autopsy:
    """All formats, best first. fits: scored on all rows that count; others: dropped after the first rows.

    rows, answers, tokens: what was scored; answers are cut to the budget. understood: places of the rows that the
    model can do under some format; only they count. used: what generation uses, None when its template fails.
    has_template: the files declare one. ln_vocabulary: nats per token of a model that knows nothing.
    """

    fits: tuple[FormatFit, ...]
    others: tuple[FormatFit, ...]
    rows: tuple[InstructionRow, ...]
    answers: tuple[str, ...]
    tokens: tuple[int, ...]
    understood: tuple[int, ...]
    used: FormatFit | None
    has_template: bool
    ln_vocabulary: float
    maker: PieceMaker

    @property
    def best(self) -> FormatFit:
        return self.fits[0]

    @property
    def fitting(self) -> FormatFit:
        """The format to measure the answers in: the one in use, unless another fits better for certain."""
        if self.used is None or self.used.rows != self.best.rows:
            return self.best
        loss = self.difference(self.used, self.best)
        return self.best if loss is not None and loss.low > 0 else self.used

    def clearly_better(self, limits: Mapping[str, float]) -> bool:
        """Whether the best format is so much better than the one in use, and so surely, that generation should write
        it, by `format_*` of configs/thresholds.yaml. What fits best to rows that the model doesn't know is chance: it
        has to know half of them."""
        if len(self.understood) < 0.5 * len(self.rows) or self.best.used:
            return False
        loss = self.difference(self.used, self.best) if self.used is not None else None
        if loss is None:
            return self.used is None
        least = max(limits["format_nats_min"], limits["format_share_min"] * self.nats(self.best))
        return (
            loss.mean >= least and loss.z >= limits["format_z_min"] and loss.agreeing >= limits["format_agreeing_min"]
        )

    def nats(self, fit: FormatFit, rows: Sequence[int] | None = None) -> float:
        """Nats per answer token over `rows`, the understood ones unless told."""
        wanted = self.understood if rows is None else rows
        totals = dict(zip(fit.rows, fit.totals, strict=True))
        shared = [r for r in wanted if r in totals]
        return sum(totals[r] for r in shared) / max(1, sum(self.tokens[r] for r in shared))

    def difference(self, fit: FormatFit, other: FormatFit) -> Difference | None:
        """`fit` minus `other` on the understood rows both were scored on; None with fewer than 3."""
        mine, theirs = dict(zip(fit.rows, fit.totals, strict=True)), dict(zip(other.rows, other.totals, strict=True))
        shared = [r for r in self.understood if r in mine and r in theirs]
        return paired([mine[r] - theirs[r] for r in shared], [self.tokens[r] for r in shared])

    def next_best(self) -> FormatFit | None:
        """The best format of another kind: neither the same tokens nor a variant of the best one."""
        return next((f for f in self.fits[1:] if not self.near_to(f, self.best)), None)

    def near_to(self, one: FormatFit, other: FormatFit) -> bool:
        """The same format but for white space, start tokens, or a system message in front."""
        if one.format.family == other.format.family != "vocabulary":
            return True
        return all(near(a, b) for a, b in zip(one.format.frames, other.format.frames, strict=True))

    def pieces(self, fit: FormatFit, *, answers: Sequence[str] | None = None, frames: Sequence[Frame] | None = None,
               rows: Sequence[int] | None = None) -> list[Piece]:  # fmt: skip
        """Token ids of `rows` (the understood ones unless told) in this format, with other answers or frames if
        given (both for the same rows)."""
        wanted = self.understood if rows is None else rows
        return self.maker.pieces(
            frames if frames is not None else [fit.format.frames[r] for r in wanted],
            answers if answers is not None else [self.answers[r] for r in wanted],
            fit.variant,
        )  # fmt: skip


def paired(differences: Sequence[float], tokens: Sequence[int]) -> Difference | None:
    """Mean difference per token of row totals, with its 95% interval by Student's t over rows.

    differences: nats of whole answers. None with fewer than 3 rows or when one isn't finite.
    """
    n, total = len(differences), sum(tokens)
    if n < 3 or not total or not all(math.isfinite(d) for d in differences):
        return None
    mean = sum(differences) / total
    # A ratio of sums: the error of each row is what it differs from the mean rate times its tokens.
    residuals = [d - mean * t for d, t in zip(differences, tokens, strict=True)]
    error = math.sqrt(sum(r * r for r in residuals) * n / (n - 1)) / total
    reach = t_quantile(n - 1) * error
    agreeing = sum((d > 0) == (mean > 0) for d in differences if d) / max(1, sum(d != 0 for d in differences))
    z = mean / error if error > 0 else (0.0 if mean == 0 else math.copysign(1e6, mean))
    return Difference(mean, mean - reach, mean + reach, z, n, agreeing)


def t_quantile(freedom: int) -> float:
    """97.5% quantile of Student's t, within 1% from 2 degrees of freedom on (Abramowitz and Stegun 26.7.5)."""
    x = 1.959964
    terms = (
        (x**3 + x) / 4,
        (5 * x**5 + 16 * x**3 + 3 * x) / 96,
        (3 * x**7 + 19 * x**5 + 17 * x**3 - 15 * x) / 384,
        (79 * x**9 + 776 * x**7 + 1482 * x**5 - 1920 * x**3 - 945 * x) / 92160,
    )
    return x + sum(term / freedom ** (k + 1) for k, term in enumerate(terms))


@dataclass(frozen=True)
class _Budget:
    first_rows: int
    rows: int
    contenders: int
    prompt_tokens: int
    answer_tokens: int


def _budget(parameters: int, device: str) -> _Budget:
    table = load_config("prompt_formats.yaml")
    if not device.startswith("cpu"):
        return _Budget(**table["gpu_budget"])
    row = next((r for r in table["budgets"] if parameters <= r["parameters"]), table["budgets"][-1])
    return _Budget(**{k: v for k, v in row.items() if k != "parameters"})


def format_autopsy(
    loaded: LoadedModel, rows: Sequence[InstructionRow], *, template: str | None = None, render: Render | None = None,
    max_rows: int = 64, cancel: threading.Event | None = None,
    note: Callable[[str], None] = lambda text: None,
) -> Autopsy | None:  # fmt: skip
    """Score the answers of `rows` under every known format. None when no row is short enough.

    template, render: the checkpoint's chat template and what renders it, None without one. Raises NotScored.
    """
    parameters = sum(p.numel() for p in loaded.model.parameters())
    budget = _budget(parameters, loaded.device)
    maker = PieceMaker(loaded.tokenizer, loaded.is_encoder_decoder)
    kept = _short_enough(loaded, rows, maker, budget)
    kept = [_without_marker(row) for row in spread(kept, min(max_rows, budget.rows))]
    if render is not None and template is not None:  # some templates refuse a system message
        kept = [row for row in kept if render(row.messages, True, {}) is not None] or kept
    if not kept:
        return None
    answers = [maker.clipped(row.answer, budget.answer_tokens) for row in kept]
    tokens = [max(1, len(ids)) for ids in maker.many(answers)]
    declared = declared_formats(kept, render, template) if render is not None else []
    plain = plain_formats(kept, maker)
    formats = [*declared, *plain, *family_formats(kept, maker), *vocabulary_formats(kept, maker)]
    bench = _Bench(loaded, maker, answers, tokens, cancel)
    bos_text = loaded.tokenizer.bos_token
    declared_bos = bool(declared and bos_text and declared[0].frames[0].before.startswith(bos_text))
    # The template writes its own start token; a bare prompt gets what the tokenizer adds.
    firsts = [
        (f, Variant() if f.family == "declared" and not loaded.is_encoder_decoder
         else maker.first_variant(f.frames, declared_bos)) for f in formats
    ]  # fmt: skip
    used_entry = firsts[0] if (declared or template is None) and firsts else None
    few = [i * len(kept) // min(budget.first_rows, len(kept)) for i in range(min(budget.first_rows, len(kept)))]
    note(f"{len(firsts)} prompt formats, {len(few)} rows")
    first_fits = bench.fits(firsts, few)
    ranked = _ranked(first_fits, tokens)
    contenders = ranked[: budget.contenders]
    further = [
        (fit.format, variant)
        for fit in dict.fromkeys([*contenders[: max(2, budget.contenders // 2)], *_of(first_fits, declared[:1])])
        for variant in maker.other_variants(fit.variant, fit.format.frames)
    ]  # fmt: skip
    more_fits = bench.fits(further, few)
    finalists = _ranked([*first_fits, *more_fits], tokens)[: budget.contenders]
    entries = [(f.format, f.variant) for f in finalists]
    entries += [(f, v) for f, v in firsts if f.family == "declared"]
    if used_entry is not None:
        entries.append(used_entry)
    entries = list({(f.name, v): (f, v) for f, v in entries}.values())
    note(f"{len(entries)} prompt formats, {len(kept)} rows")
    fits = bench.fits(entries, list(range(len(kept))))
    vocabulary = math.log(loaded.vocabulary)
    share = load_config("prompt_formats.yaml")["understood_share"]
    everywhere = [min(f.totals[r] for f in fits) / tokens[r] for r in range(len(kept))]
    understood = tuple(r for r, nats in enumerate(everywhere) if nats <= share * vocabulary)
    counted = understood or tuple(range(len(kept)))
    fits = _merged(bench, [replace(f, used=(f.format, f.variant) == used_entry) for f in fits])
    fits.sort(key=lambda f: (sum(f.totals[r] for r in counted), not f.used, not f.declared))
    done = {(f.format.name, f.variant) for f in fits} | {(n, v) for f in fits for n, v in bench.same.get(f.label, ())}
    others = [f for f in _merged(bench, [*first_fits, *more_fits]) if (f.format.name, f.variant) not in done]
    others.sort(key=lambda f: sum(f.totals))
    return Autopsy(
        tuple(fits), tuple(others), tuple(kept), tuple(answers), tuple(tokens), understood,
        next((f for f in fits if f.used), None), template is not None, vocabulary, maker,
    )  # fmt: skip


def _without_marker(row: InstructionRow) -> InstructionRow:
    """An end marker written into the answer is no part of it: it is asked for in the place where the answer ends."""
    bare = re.sub(load_config("chat_markers.yaml")["end_marker_at_end"], "", row.answer).rstrip()
    return replace(row, answer=bare) if bare else row


def _short_enough(
    loaded: LoadedModel, rows: Sequence[InstructionRow], maker: PieceMaker, budget: _Budget
) -> list[InstructionRow]:  # fmt: skip
    """Rows whose prompt fits the budget and, with any format around it, the model's positions."""
    limit = position_limit(loaded)
    room = budget.prompt_tokens
    if limit is not None:
        room = min(room, limit - budget.answer_tokens - 48)  # 48: the longest format without a system message
        if room < 8:
            room = max(8, limit // 2)
    rows = spread(rows, 8 * budget.rows)
    lengths = maker.many(["\n".join(m["content"] for m in row.messages) for row in rows]) if rows else []
    kept = [row for row, ids in zip(rows, lengths, strict=True) if len(ids) <= room and maker.ids(row.answer)]
    if limit is None:
        return kept
    return [row for row in kept if len(maker.ids(maker.clipped(row.answer, budget.answer_tokens))) < limit // 2]


class _Bench:
    """Scores formats on rows; remembers pieces so that equal ones are scored once."""

    def __init__(
        self, loaded: LoadedModel, maker: PieceMaker, answers: Sequence[str], tokens: Sequence[int],
        cancel: threading.Event | None,
    ) -> None:  # fmt: skip
        self.loaded, self.maker, self.answers, self.tokens, self.cancel = loaded, maker, answers, tokens, cancel
        self.known: dict[Piece, float] = {}
        self.made: dict[tuple[str, Variant], dict[int, Piece]] = {}
        self.same: dict[str, list[tuple[str, Variant]]] = {}
        self.limit = position_limit(loaded)

    def pieces(self, format: PromptFormat, variant: Variant, rows: Sequence[int]) -> list[Piece]:
        made = self.made.setdefault((format.name, variant), {})
        new = [r for r in rows if r not in made]
        if new:
            frames, answers = [format.frames[r] for r in new], [self.answers[r] for r in new]
            made.update(zip(new, self.maker.pieces(frames, answers, variant), strict=True))
        return [made[r] for r in rows]

    def fits(self, entries: Sequence[tuple[PromptFormat, Variant]], rows: Sequence[int]) -> list[FormatFit]:
        """One FormatFit for each entry whose pieces the model has positions for."""
        made = [(f, v, self.pieces(f, v, rows)) for f, v in entries]
        made = [(f, v, pieces) for f, v, pieces in made if all(self._possible(p) for p in pieces)]
        missing = [p for p in dict.fromkeys(p for _, _, pieces in made for p in pieces) if p not in self.known]
        scores = score_answers(self.loaded, missing, cancel=self.cancel)
        if not all(math.isfinite(s.total) for s in scores):
            raise NotScored("logits_not_finite")
        self.known.update((p, s.total) for p, s in zip(missing, scores, strict=True))
        return [
            FormatFit(f, v, label_of(f, v, self.maker), tuple(rows), tuple(self.known[p] for p in pieces),
                      self.maker.starts(f, v))
            for f, v, pieces in made
        ]  # fmt: skip

    def _possible(self, piece: Piece) -> bool:
        longest = len(piece.context) if self.loaded.is_encoder_decoder else piece.length
        return bool(piece.context) and bool(piece.answer) and (self.limit is None or longest <= self.limit)


def _of(fits: Sequence[FormatFit], formats: Sequence[PromptFormat]) -> list[FormatFit]:
    names = {f.name for f in formats}
    return [fit for fit in fits if fit.format.name in names]


def _ranked(fits: Sequence[FormatFit], tokens: Sequence[int]) -> list[FormatFit]:
    """Best first; of formats that make the same totals only the first. All fits share their rows.

    Ranked by the distance to each row's best format, bounded: on a row that the model can't do at all, formats
    differ by many nats of noise.
    """
    distinct = list({fit.totals: fit for fit in reversed(fits)}.values())
    lowest = [min(fit.totals[place] for fit in distinct) for place in range(len(fits[0].rows))] if fits else []
    distance = {
        fit: sum(
            min((total - low) / tokens[row], MOST_COUNTED)
            for total, low, row in zip(fit.totals, lowest, fit.rows, strict=True)
        )
        for fit in distinct
    }
    return sorted(distinct, key=lambda f: (distance[f], f.format.name))


def _merged(bench: _Bench, fits: Sequence[FormatFit]) -> list[FormatFit]:
    """Formats that make the same tokens on these rows as one: the used one, else the declared, else the first."""
    groups: dict[tuple[Piece, ...], list[FormatFit]] = {}
    for fit in fits:
        key = tuple(bench.pieces(fit.format, fit.variant, fit.rows))
        groups.setdefault(key, []).append(fit)
    merged = []
    for group in groups.values():
        first = min(group, key=lambda f: (not f.used, not f.declared))
        bench.same.setdefault(first.label, []).extend((f.format.name, f.variant) for f in group)
        merged.append(replace(first, same_as=tuple(f.label for f in group if f is not first)))
    return merged
