"""FWD003: what the model wants to write where the right answers end."""

from __future__ import annotations

from collections.abc import Iterator

from diagnostics.checkpoint_subject import CheckpointSubject
from diagnostics.forward.how_much_it_knows import require_known
from diagnostics.forward.trained_on_another_format import fits_another_format
from diagnostics.report import Observation
from diagnostics.run_checks import NotMeasured, error, info, ok, warning
from diagnostics.thresholds import Thresholds


def stop_never_learned(subject: CheckpointSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        The probability of every plausible stop in the place after the right answer: the ids generate() stops on, the
        template's terminator, other end tokens, padding, a line break, and end markers spelled out as characters.
    Why it matters:
        A model that gives its end token nothing there writes until the length limit; one that prefers another token,
        or the characters `[EOS]`, ends its answers in a way that generate() doesn't see.
    How it is measured:
        Under the format that fits best, after each whole answer, median over the rows. Markers that are no single token
        are spelled out by the tokenizer and their pieces' probabilities multiplied. Where a line break is likely, the
        place after it is looked at too.
    Known false alarms:
        A model that would have said more than the gold answer gives its end token little there, so a low median alone
        is not enough: nearly all rows must be low. Not judged where the model knows too little of the answers.
    Fix:
        Train again with the end token inside the loss; with pad = eos mask padding by attention mask, not by id.
    References:
        https://github.com/huggingface/trl/issues/1623
        https://github.com/mlabonne/llm-course/issues/33
        https://github.com/QwenLM/Qwen3/issues/927
    """
    from pipeline.score_answers import NotScored
    from pipeline.stop_probability import closing_token, stopping

    found = require_known(subject, limits)
    if found.level in ("little", "nothing"):
        raise NotMeasured("knows_too_little", nats=round(found.nats, 2), ln_v=round(found.ln_vocabulary, 2))
    scores = subject.answer_scores
    understood = set(subject.autopsy.understood)
    places = [i for i, row in enumerate(scores.rows) if row in understood]
    if len(places) < min(limits["forward_rows_min"], len(scores.rows)):
        raise NotMeasured("rows_not_understood", n=len(places), rows=len(scores.rows))
    try:
        ends = stopping(
            subject.loaded, subject.autopsy, [scores.pieces[i] for i in places], [scores.answers[i] for i in places],
            [scores.scores[i] for i in places],
        )  # fmt: skip
    except NotScored as reason:
        raise NotMeasured(reason.reason, detail=reason.detail) from None
    rows = len(places)
    subject.metrics["forward.stop_probability"] = round(ends.median, 5)
    subject.curves["stop_probability"] = [
        {"token": c.text, "kind": c.kind, "median": round(c.median, 5), "highest": round(c.highest, 5)}
        for c in ends.candidates[:8]
    ]  # fmt: skip
    learned = limits["stop_learned"]
    low = sum(p < limits["stop_low"] for p in ends.any_stop)
    stops = " ".join(ends.stops) or "—"
    rivals = [c for c in ends.candidates if c.kind != "stops" and c.median >= limits["stop_rival"]]
    marker = next((c for c in rivals if c.kind == "marker"), None)
    token = next((c for c in rivals if c.kind in ("terminator", "pad")), None)
    after_blank = sorted(ends.after_blank)[len(ends.after_blank) // 2] if ends.after_blank else 0.0
    after_end = sorted(ends.after_terminator)[len(ends.after_terminator) // 2] if ends.after_terminator else 0.0
    numbers = {
        "stops": stops, "median": 100 * ends.median, "highest": 100 * max(ends.any_stop, default=0.0), "low": low,
        "rows": rows, "below": 100 * limits["stop_low"],
        "next": ", ".join(f"{text!r} {100 * p:.0f}%" for text, p in ends.likeliest[:3]),
    }  # fmt: skip
    evidence = [(f"P({stops}) after the answers, median", round(ends.median, 5))]
    evidence += [(f"P({c.text!r})", round(c.median, 4)) for c in rivals[:3]]
    used = subject.autopsy.used
    closing = closing_token(subject.autopsy, used) if used is not None and used.declared else None
    template_end = next((c for c in ends.candidates if c.kind == "stops" and c.ids == (closing,)), None)
    weak = ends.median < learned and ends.share_of_rows(learned) < limits["stop_learned_share"]
    if marker is not None and marker.median > ends.median:
        yield error("written_out", *evidence, marker=marker.text, pieces=len(marker.ids),
                    p=100 * marker.median, **numbers)  # fmt: skip
    elif token is not None and weak and after_end >= limits["stop_rival"]:
        yield info("after_another_end", *evidence, token=token.text, p=100 * after_end, **numbers)
    elif token is not None and weak:
        other = fits_another_format(subject.autopsy, limits)
        yield error("other_token_other_format" if other else "other_token", *evidence, token=token.text,
                    id=token.ids[0], p=100 * token.median, **numbers)  # fmt: skip
    elif not ends.stop_ids:
        yield warning("nothing_to_stop_on", *evidence, **numbers)
    elif weak and after_blank >= limits["stop_rival"]:
        yield info("after_a_blank", *evidence, p=100 * after_blank, **numbers)
    elif low >= limits["stop_never_share"] * rows and found.source == "data":
        yield error("never", *evidence, **numbers)
    elif low >= limits["stop_never_share"] * rows:
        yield warning("never", *evidence, **numbers)
    elif weak:
        yield info("weak", *evidence, **numbers)
    elif template_end is not None and template_end.highest < limits["stop_low"]:
        yield info("ends_unlike_the_template", *evidence, end=template_end.text, p=100 * template_end.highest,
                   token=ends.candidates[0].text, **numbers)  # fmt: skip
    else:
        yield ok("ok", **numbers)
