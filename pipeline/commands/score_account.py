"""What `score` says of rewards on a terminal: one block of figures a set, then what two sets say together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.config_files import load_config
from pipeline.evaluation.results import Accuracy, Difference, ScoredSet, ScoresResult, Share, Spread
from pipeline.refusal import Sentence

SUSPECTS = 10  # shown with their texts
LINES = 8  # named for each reason
_TEXT = 60  # characters of a text in a line


def score_text(result: ScoresResult, lang: str, written: Sequence[Path]) -> str:
    """The account. written: files that were made."""
    said = _Words(lang)
    model = result.reward_model
    blocks = [[said("score_model", model=model.source, form=said(f"score_form_{result.form}"))]]
    blocks += [_set(one, result, said) for one in result.sets]
    together = []
    if result.gap is not None:
        together.append(said("score_gap", gap=_difference(result.gap)))
    if result.shared_prompts is not None:
        held = next(one for one in result.sets if one.role == "held_out")
        lines = said("score_lines", lines=_lines(held.lines.get("shared_prompt", ()))) if result.shared_prompts else ""
        together.append(
            said("score_shared", n=f"{result.shared_prompts:,}", of=f"{result.held_out_prompts or 0:,}", lines=lines)
        )
    blocks.append(together)
    blocks.append([said("score_written", path=path) for path in written])
    return "\n\n".join("\n".join(lines) for lines in blocks if lines) + "\n"


class _Words:
    def __init__(self, lang: str) -> None:
        self.lang = lang
        self._known = load_config(f"words/{lang}/evaluation.yaml")

    def __call__(self, entry: str, **params: object) -> str:
        return Sentence(entry, params, "evaluation").said(self.lang)

    def reason(self, entry: str, reason: str) -> str:
        """Why something has no score or was left out."""
        if f"{entry}_{reason}" in self._known:
            return self(f"{entry}_{reason}")
        if f"row_{reason}" in load_config(f"words/{self.lang}/formats.yaml"):
            return Sentence(f"row_{reason}", {}, "formats").said(self.lang)
        return reason


def _set(one: ScoredSet, result: ScoresResult, said: _Words) -> list[str]:
    seconds = result.seconds.get("scoring", 0.0)
    total = sum(each.rows for each in result.sets)
    lines = [said(f"score_head_{one.holds}", role=said(f"score_role_{one.role}"), name=one.name, rows=f"{one.rows:,}",
                  scored=f"{one.scored:,}")]  # fmt: skip
    if len(result.sets) == 1 and seconds:
        lines[0] += said("score_speed", seconds=f"{seconds:,.1f}", rate=f"{total / seconds:,.0f}")
    lines += _counts(one.left_out, "score_left_out", one.lines, said)
    lines += _counts(one.unscored, "score_unscored", one.lines, said)
    if one.answers is not None:
        lines.append(said("score_answers", spread=_spread(one.answers)))
    if one.accuracy is not None:
        lines += _pairs(one, one.accuracy, said)
    lines += _length(one, said)
    lines += _categories(one, said)
    return lines + _suspects(one, said)


def _counts(counts: Mapping[str, int], entry: str, lines: Mapping[str, Sequence[int]], said: _Words) -> list[str]:
    return [
        said(entry, n=f"{n:,}", why=said.reason(entry, reason))
        + (said("score_lines", lines=_lines(lines[reason])) if lines.get(reason) else "")
        for reason, n in counts.items()
    ]


def _pairs(one: ScoredSet, accuracy: Accuracy, said: _Words) -> list[str]:
    n = accuracy.share.n
    lines = [
        said("score_accuracy", share=_share(accuracy.share), n=f"{n:,}"),
        said("score_above", wins=f"{accuracy.wins:,}", ties=f"{accuracy.ties:,}", losses=f"{accuracy.losses:,}",
             share=_percent(accuracy.losses / n)),
    ]  # fmt: skip
    if one.prompts is not None and one.prompts < n:
        lines.insert(1, said("score_prompts", n=f"{one.prompts:,}"))
    if one.chosen is not None and one.rejected is not None:
        lines.append(said("score_rewards", chosen=_spread(one.chosen), rejected=_spread(one.rejected)))
    if one.margin is not None:
        std = "?" if one.margin_std is None or one.margin_std != one.margin_std else f"{one.margin_std:.3f}"
        lines.append(said("score_margin", margin=_difference(one.margin, signed=True), std=std))
    if one.log_loss is not None:
        lines.append(said("score_log_loss", value=f"{one.log_loss:.3f}"))
    if one.calibration_error is not None:
        lines.append(said("score_calibration", value=f"{one.calibration_error:.3f}"))
        lines += [
            said("score_calibration_bin", predicted=_percent(bin.predicted), observed=_share(bin.observed),
                 n=f"{bin.observed.n:,}")
            for bin in one.calibration
        ]  # fmt: skip
    return lines


def _length(one: ScoredSet, said: _Words) -> list[str]:
    bias = one.length
    if bias is None:
        return []
    lines = []
    if bias.pearson is not None and bias.spearman is not None:
        lines.append(said("score_length", pearson=f"{bias.pearson:+.2f}", spearman=f"{bias.spearman:+.2f}"))
    if bias.slope is not None and bias.within is not None:
        lines.append(said("score_length_slope", slope=f"{bias.slope:+.3f}", within=f"{bias.within:+.2f}"))
    sides = [
        said(f"score_length_{name}", share=_share(share), n=f"{share.n:,}")
        for name, share in (("chosen", bias.accuracy_chosen_longer), ("rejected", bias.accuracy_rejected_longer),
                            ("alike", bias.accuracy_alike))
        if share is not None
    ]  # fmt: skip
    lines += sides
    if bias.favour is not None:
        lines.append(said("score_favour", difference=_difference(bias.favour)))
    if bias.corrected is not None and bias.corrected_chosen is not None and bias.corrected_rejected is not None:
        lines.append(said("score_corrected", share=_share(bias.corrected.share), chosen=_spread(bias.corrected_chosen),
                          rejected=_spread(bias.corrected_rejected)))  # fmt: skip
    return lines


def _categories(one: ScoredSet, said: _Words) -> list[str]:
    if not one.by_category:
        return []
    return [said("score_categories", column=one.category_column)] + [
        said("score_category", name=name, share=_share(found.share), n=f"{found.share.n:,}")
        for name, found in sorted(one.by_category.items(), key=lambda item: item[1].share.value)
    ]


def _suspects(one: ScoredSet, said: _Words) -> list[str]:
    if not one.suspect_count:
        return []
    expected = 0.0 if one.suspects_expected is None else one.suspects_expected
    lines = [said("score_suspects", n=f"{one.suspect_count:,}", expected=f"{expected:,.1f}")]
    if one.label_noise is not None:
        lines.append(said("score_label_noise", share=_share(one.label_noise)))
    lines += [
        said("score_suspect", line=f"{pair.line:,}", margin=f"{pair.margin:+.2f}", prompt=_short(pair.prompt),
             chosen=_short(pair.chosen), rejected=_short(pair.rejected))
        for pair in one.suspects[:SUSPECTS]
    ]  # fmt: skip
    if one.suspect_count > SUSPECTS:
        lines.append(said("score_suspects_more", n=f"{one.suspect_count - SUSPECTS:,}"))
    return lines


def _share(share: Share) -> str:
    return f"{_percent(share.value)} [{_percent(share.low)}, {_percent(share.high)}]"


def _percent(value: float) -> str:
    return f"{100 * value:.1f}%"


def _spread(spread: Spread) -> str:
    return f"{spread.mean:.3f} ± {spread.std:.3f}" if spread.std == spread.std else f"{spread.mean:.3f}"


def _difference(one: Difference, *, signed: bool = False) -> str:
    if signed:
        limits = f" [{one.low:+.3f}, {one.high:+.3f}]" if math.isfinite(one.high - one.low) else ""  # of one pair: none
        return f"{one.mean:+.3f}{limits}"
    return f"{100 * one.mean:+.1f} [{100 * one.low:+.1f}, {100 * one.high:+.1f}]"


def _lines(lines: Sequence[int]) -> str:
    return ", ".join(str(line) for line in lines[:LINES]) + (", …" if len(lines) > LINES else "")


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _TEXT else line[: _TEXT - 1] + "…"
