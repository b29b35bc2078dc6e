"""PRF012: one simple feature that tells chosen from rejected without reading either."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from diagnostics.pairs_subject import PairsSubject, paired_auc, percent, unpaired_auc
from diagnostics.report import Observation, Severity
from diagnostics.run_checks import info, ok
from diagnostics.thresholds import Thresholds

# Features of the table by the outcome that names them; what is missing here is told by text, PRF011 tells length.
OUTCOMES = {
    "chinese": "by_language", "digits": "by_digits", "lines": "by_lines", "markdown": "by_markdown",
    "finished": "by_ending", "repeated": "by_repetition", "refuses": "by_refusal",
}  # fmt: skip


def single_feature(subject: PairsSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        Whether one feature that has nothing to do with being right separates the sides: the language, a fixed word or
        phrase, how answers end, markdown, digits, loops, refusals.
    Why it matters:
        The model learns exactly that feature. The loss falls to nothing within a few steps, accuracy is 1.0, and the
        answers are no better: chosen in Chinese and rejected in English teaches Chinese.
    How it is measured:
        For each feature the area under the ROC curve of ordering a pair by it (0.5 is chance). Fixed words are found by
        counting in how many answers of each side every mark and every piece of 2 and 4 characters stands. `feature_auc`
        must be reached, and `feature_auc_sure` with two standard errors to spare.
    Known false alarms:
        Sets that teach exactly this feature on purpose: another language, a style, refusals.
    Fix:
        Take rejected answers from the same model, prompt and format as the chosen ones (on policy), or take the feature
        out of both sides.
    References:
        https://github.com/hiyouga/LLaMA-Factory/issues/5116
        https://arxiv.org/abs/2410.08847
    """
    table = subject.table
    if subject.kind == "pairs":
        there = subject.paired & (table.chars["chosen"] > 0) & (table.chars["rejected"] > 0)
        masks = there, there
    else:
        masks = tuple(table.there[side] & (table.chars[side] > 0) for side in ("chosen", "rejected"))
    n = min(int(masks[0].sum()), int(masks[1].sum()))
    subject.need_rows(n)
    best: tuple[float, str, float] = (0.0, "", 0.5)  # among those that reach feature_auc
    strongest = 0.5
    for name, outcome in OUTCOMES.items():
        chosen, rejected = (values[mask] for values, mask in zip(subject.side_values(name), masks, strict=True))
        auc, error_of = (paired_auc if subject.kind == "pairs" else unpaired_auc)(chosen, rejected)
        subject.metrics[f"pairs.auc.{name}"] = round(auc, 4)
        if name == "repeated" and max(chosen.mean(), rejected.mean()) < limits["loops_seen"]:
            continue
        strongest = max(strongest, auc, 1 - auc)
        if max(auc, 1 - auc) >= limits["feature_auc"]:
            best = max(best, (max(auc, 1 - auc) - 2 * error_of, outcome, auc))
    sure, outcome, auc = best
    words = table.words.best([one.chosen for one in table.sample], [one.rejected for one in table.sample])
    if words is not None:
        subject.metrics["pairs.auc.best_piece"] = round(words.auc, 4)
        if _is_length(subject, words.auc, masks):  # that is PRF011's
            words = None
        else:
            strongest = max(strongest, words.auc)
    decides = max(auc, 1 - auc)
    if words is not None and words.auc >= limits["feature_auc"] and words.auc > decides - 0.02:
        side = "chosen" if words.chosen > words.rejected else "rejected"
        rows = np.zeros(table.rows, bool)
        yield subject.found(rows).observed(
            "by_words", side=side, severity="error" if words.auc >= limits["feature_auc_error"] else "warning",
            evidence=[("piece of text", words.text)], piece=words.text.strip() or words.text, where=side,
            chosen=percent(words.chosen), rejected=percent(words.rejected), auc=round(words.auc, 3),
        )  # fmt: skip
        return
    if not outcome or sure < limits["feature_auc_sure"]:
        if words is not None and words.auc >= limits["feature_worth_saying"]:
            yield info(
                "word_leans", ("piece of text", words.text), piece=words.text.strip() or words.text,
                chosen=percent(words.chosen), rejected=percent(words.rejected), auc=round(words.auc, 3),
            )  # fmt: skip
        else:
            yield ok(auc=round(strongest, 3), of=n)
        return
    feature = next(name for name, said in OUTCOMES.items() if said == outcome)
    chosen, rejected = (values[mask] for values, mask in zip(subject.side_values(feature), masks, strict=True))
    counted = feature in ("lines", "markdown")  # shares otherwise
    means: dict[str, Any] = {
        side: round(float(values.mean()), 1) if counted else percent(float(values.mean()))
        for side, values in (("chosen", chosen), ("rejected", rejected))
    }
    severity: Severity = "error" if decides >= limits["feature_auc_error"] else "warning"
    found = subject.found(np.zeros(table.rows, bool))
    numbers: dict[str, Any] = {"auc": round(decides, 3), "of_pairs": n, **means}
    yield found.observed(outcome, severity=severity, **numbers)


def _is_length(subject: PairsSubject, auc: float, masks: tuple[np.ndarray, np.ndarray]) -> bool:
    """Whether length alone orders the answers about as well: longer texts hold more of every piece."""
    chosen, rejected = (
        subject.table.chars[side][mask] for side, mask in zip(("chosen", "rejected"), masks, strict=True)
    )
    by_length, _ = (paired_auc if subject.kind == "pairs" else unpaired_auc)(chosen, rejected)
    ratio = np.median(chosen) / max(1.0, float(np.median(rejected)))
    return max(by_length, 1 - by_length) >= auc - 0.02 and max(ratio, 1 / max(ratio, 1e-9)) >= 1.5
