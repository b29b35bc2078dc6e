"""What a comparison says on a terminal: verdicts, who judged how, measures, the clearest cases."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.config_files import load_config
from pipeline.evaluation.compare_answers import deciding, disagreeing
from pipeline.evaluation.format_of_first import formats_said
from pipeline.evaluation.results import (
    ComparisonCase,
    ComparisonResult,
    Contest,
    Difference,
    MeasureChange,
    Share,
    prompts_matched,
)
from pipeline.refusal import Sentence

_TEXT = 70  # characters of a text in a line


def account_text(result: ComparisonResult, lang: str, written: Sequence[str] = ()) -> str:
    """The whole account. written: files that were made, in one line each."""
    words = _Words(lang)
    afters = list(dict.fromkeys(one.after for one in (*result.contests,))) or [
        one.name for one in result.models if one.role == "after"
    ]  # fmt: skip
    blocks = [_head(result, words), [verdict_line(result, after, lang) for after in afters]]
    blocks[1] += [line for after in afters if (line := _not_judged(result, after, words))]
    blocks[1] += _disagreement(result, afters, words)
    if result.contests:
        blocks.append(_table([words.of("contest_columns"), *(_contest(one, words) for one in result.contests)]))
        blocks.append(_by_category(result.contests, words))
    if result.measures:
        rows = [_measure(one, words, len(afters) > 1) for one in result.measures]
        blocks.append(_table([words.of("measure_columns"), *rows]))
    blocks.append(_cases(result, afters, words))
    blocks.append([words.said("written", path=path) for path in written])
    return "\n\n".join("\n".join(lines) for lines in blocks if lines) + "\n"


def verdict_line(result: ComparisonResult, after: str, lang: str) -> str:
    """Better, worse or no difference shown, decided by what, and how many more prompts would decide."""
    words = _Words(lang)
    before = result.models[0].name
    decided = _deciding(result, after)
    if (decided is None or decided.win_rate is None) and result.interrupted:
        return words.said("unjudged_yet", before=before, after=after)
    if decided is None or decided.win_rate is None:
        return words.said("unjudged", before=before, after=after)
    said = words.said(
        decided.verdict, before=before, after=after, rate=_percent(decided.win_rate.value),
        low=_percent(decided.win_rate.low), high=_percent(decided.win_rate.high), n=f"{decided.n:,}",
        wins=f"{decided.wins:,}", ties=f"{decided.ties:,}", losses=f"{decided.losses:,}",
        by=words.of("judges").get(decided.by, decided.by),
    )  # fmt: skip
    if decided.verdict == "no_difference":
        if decided.needed is not None:
            said += words.of("joint") + words.said("needed", n=f"{decided.needed:,}")
        elif decided.shown_from is not None:
            said += words.of("joint") + words.said("shown_from", rate=_percent(decided.shown_from))
    return said


def _deciding(result: ComparisonResult, after: str) -> Contest | None:
    return deciding(result.contests, after, prompts_matched(result.prompts, after))


def _not_judged(result: ComparisonResult, after: str, words: _Words) -> str:
    """Answers that what decides could not judge, by reason; empty where there are none."""
    decided = _deciding(result, after)
    left = {reason: n for reason, n in decided.unjudged.items() if n} if decided is not None else {}
    if decided is None or not left:
        return ""
    reasons = words.of("not_judged_reasons")
    why = words.of("joint_list").join(
        words.said("not_judged_reason", reason=reasons.get(reason, reason.replace("_", " ")), n=f"{n:,}")
        for reason, n in left.items()
    )  # fmt: skip
    by = words.of("judges").get(decided.by, decided.by)
    return words.said("not_judged", after=after, n=f"{sum(left.values()):,}", by=by, why=why)


class _Words:
    def __init__(self, lang: str) -> None:
        self.lang = lang
        self._held: Mapping[str, Any] = load_config(f"words/{lang}/evaluation.yaml")["compare"]

    def of(self, name: str) -> Any:
        return self._held[name]

    def said(self, name: str, **params: Any) -> str:
        return Sentence(f"compare/{name}", params, "evaluation").said(self.lang)


def _head(result: ComparisonResult, words: _Words) -> list[str]:
    prompts = result.prompts
    lines = []
    each = prompts.get("by_after") or {result.models[1].name: prompts}
    for after, told in each.items():
        by = words.of("matched_by")[told.get("matched_by", "prompt")]
        lines.append(words.said("matched", n=f"{told['matched']:,}", after=after, before=result.models[0].name, by=by))
        if numbered := told.get("numbered_from"):
            lines.append("  " + words.said("numbered_from", before=numbered[0], after=numbered[1]))
        left = [words.said(name, n=f"{told[name]:,}") for name in ("only_before", "only_after", "twice", "samples_left")
                if told.get(name)]  # fmt: skip
        if left:
            lines.append("  " + words.of("joint_list").join(left))
    for name, count in (prompts.get("empty") or {}).items():
        if count:
            lines.append("  " + words.said("empty", model=name, n=f"{count:,}"))
    for name, reasons in (prompts.get("left_out") or {}).items():
        names = words.of("left_out_reasons")
        why = ", ".join(f"{names.get(reason, reason)} {count:,}" for reason, count in reasons.items())
        lines.append("  " + words.said("left_out", model=name, why=why))
    if formats := result.decoding.get("prompt_formats"):
        lines.append("  " + words.said("asked_in", formats=formats_said(formats)))
        if len(set(formats.values())) > 1:
            lines.append("  " + Sentence("prompt_formats_differ", {}, "evaluation").said(words.lang))
    if reused := result.decoding.get("reused"):
        lines.append("  " + words.said("reused", models=", ".join(reused)))
    for remark in result.decoding.get("remarks") or ():
        lines.append("  " + str(remark.get(words.lang, "")))
    if result.interrupted:
        lines.append("  " + words.said("interrupted"))
    return lines


def _disagreement(result: ComparisonResult, afters: Sequence[str], words: _Words) -> list[str]:
    lines = []
    for after in afters:
        decided = _deciding(result, after)
        for by in disagreeing(result.contests, decided):
            assert decided is not None
            names = words.of("judges")
            lines.append(words.said("disagrees", by=names.get(by, by), after=after, decided=names[decided.by]))
    return lines


def _contest(one: Contest, words: _Words) -> list[str]:
    return [
        words.of("judges").get(one.by, one.by), one.after, words.of("verdicts")[one.verdict], f"{one.n:,}",
        f"{one.wins:,}/{one.ties:,}/{one.losses:,}", _share(one.win_rate), _share(one.length_controlled),
        "" if one.before_mean is None or one.after_mean is None
        else f"{_number(one.before_mean.mean)} → {_number(one.after_mean.mean)}",
    ]  # fmt: skip


def _by_category(contests: Sequence[Contest], words: _Words) -> list[str]:
    lines = []
    for one in contests:
        if one.by == "length_free_reward":
            continue
        for category, inner in one.by_category.items():
            rate = _share(inner.win_rate)
            by = words.of("judges").get(one.by, one.by)
            lines.append([one.after, category, by, words.of("verdicts")[inner.verdict], f"{inner.n:,}", rate])
    return _table([words.of("category_columns"), *lines]) if lines else []


def _measure(one: MeasureChange, words: _Words, named: bool) -> list[str]:
    return [
        words.of("measures").get(one.name, one.name) + (f" ({one.after_name})" if named else ""),
        _number(one.before.mean), _number(one.after.mean), _interval(one.difference), words.of("verdicts")[one.verdict],
    ]  # fmt: skip


def _cases(result: ComparisonResult, afters: Sequence[str], words: _Words) -> list[str]:
    most = int(load_config("evaluation.yaml")["compare"]["shown_cases"])
    before = result.models[0].name
    lines = []
    for after in afters:
        decided = _deciding(result, after)
        if decided is None:
            continue
        for outcome in ("loss", "win"):
            cases = [one for one in result.cases if one.after == after and one.outcome.get(decided.by) == outcome]
            if not cases:
                continue
            lines.append(words.said(f"cases_{outcome}", after=after, before=before))
            lines += [_case(one, before, after) for one in cases[:most]]
    return lines


def _case(one: ComparisonCase, before: str, after: str) -> str:
    said = " | ".join(f"{name}: {_cut(one.answers[name])}" for name in (before, after))
    return f"  {one.row + 1}: {_cut(one.prompt)} | {said}"


def _cut(text: str) -> str:
    text = "".join(c if c.isprintable() else " " for c in " ".join(text.split()))
    return text if len(text) <= _TEXT else text[:_TEXT] + "…"


def _percent(value: float) -> str:
    return f"{value * 100:.1f}%"


def _share(share: Share | None) -> str:
    if share is None or share.value != share.value:
        return ""
    return f"{_percent(share.value)} [{_percent(share.low)}, {_percent(share.high)}]"


def _number(value: float) -> str:
    if not math.isfinite(value):
        return ""
    return f"{value:.1f}" if abs(value) >= 100 else f"{value:.4g}"


def _interval(one: Difference) -> str:
    ends = f" [{one.low:+.3g}, {one.high:+.3g}]" if math.isfinite(one.low) and math.isfinite(one.high) else ""
    return f"{one.mean:+.3g}{ends}"


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns side by side; wide characters take two places, columns that are empty below their head are left out."""
    kept = [at for at in range(len(rows[0])) if any(row[at] for row in rows[1:])]
    widths = [max(_width(row[at]) for row in rows) for at in kept]
    return [
        "  ".join(row[at] + " " * (width - _width(row[at])) for at, width in zip(kept, widths, strict=True)).rstrip()
        for row in rows
    ]


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)
