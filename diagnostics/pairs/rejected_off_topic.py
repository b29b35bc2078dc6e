"""PRF013: rejected answers that don't belong to their prompts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from diagnostics.pairs.topics import answers_of_other_rows, topics
from diagnostics.pairs_subject import PairsSubject, percent, sure_share
from diagnostics.report import Observation
from diagnostics.run_checks import NotMeasured, info, ok
from diagnostics.thresholds import Thresholds


def rejected_off_topic(subject: PairsSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        Whether rejected answers fit their own prompt and chosen answer better than those of other rows.
    Why it matters:
        A reject that is off topic is told apart at a glance: the loss falls fast, and nothing is learned about what
        makes an answer to this prompt better. Such rejects come from a model that was not trained, was loaded wrongly,
        or was prompted in another format than it was trained on.
    How it is measured:
        Word for word first: rejected answers that are the chosen one of another prompt. Then characters shared by an
        answer and its row (4 letters, or 2 characters of scripts without spaces, weighed by rarity), against up to 64
        other rows in the same script. An answer off topic beats half of the others by chance; one on topic nearly all.
        The share off topic is twice the share of answers below one half. Refusals are left out, and answers of fewer
        than 10 such pieces can't be judged. Where the chosen answers fit no better, words say nothing here.
    Known false alarms:
        Answers of labels or code that share no words with anything; answers in another language than the prompt.
    Fix:
        Diagnose the model that wrote the rejects (python -m diagnostics checkpoint), then generate them anew: good
        rejects are on topic and a little worse.
    References:
        https://arxiv.org/abs/2404.14723
        https://arxiv.org/abs/2410.08847
    """
    table = subject.table
    if subject.kind != "pairs":
        raise NotMeasured("no_pairs")
    found = topics(subject, limits)
    copied = subject.found(answers_of_other_rows(subject, limits), subject.paired)
    if sure_share(copied.share, copied.of) >= limits["copied_sure"] and not found.chosen_is_off:
        yield copied.observed("another_rows_answer", side="rejected")
        return
    rows_judged = min(found.rejected_to_row.rows, found.different)
    subject.need_rows(rows_judged)
    if found.shown:
        sure = limits["off_topic_certain"]
    else:
        sure = limits["off_topic_sure" if rows_judged >= limits["topics_least_rows"] else "off_topic_sure_few"]
    off = found.rejected_to_row
    if found.shown and found.rejected.rows and found.rejected.value < off.value:
        off = found.rejected  # it fits its prompt, so what it doesn't fit is the chosen answer
    mean = float(table.rejected_fit[found.judged].mean())
    numbers: dict[str, Any] = {
        "fit": percent(mean), "off": percent(min(1.0, off.value)), "judged": int(found.judged.sum()),
    }  # fmt: skip
    subject.metrics |= {
        "pairs.off_topic.rejected": round(found.rejected_to_row.value, 4),
        "pairs.off_topic.rejected_to_prompt": round(found.rejected.value, 4),
        "pairs.off_topic.chosen_to_prompt": round(found.chosen.value, 4),
    }  # fmt: skip
    suspects = found.judged & (table.rejected_fit < limits["fit_suspect"])
    suspects &= ~(table.prompt_fit["rejected"] > limits["fit_suspect"])  # NaN: not measured, so still a suspect
    rows = subject.found(suspects, found.judged)
    evidence = [("fit", round(mean, 3))]
    if found.chosen_is_off:
        yield info("chosen_rather", *evidence, **numbers)
    elif found.rejected_is_more_off and off.sure >= sure:
        yield rows.observed("off_topic", side="rejected", evidence=evidence, severity="error", **numbers)
    elif found.shown and found.rejected_is_more_off and off.value >= limits["off_topic_warn"]:
        yield rows.observed("partly_off_topic", side="rejected", evidence=evidence, severity="warning", **numbers)
    elif off.value >= limits["off_topic_worth_saying"]:
        yield info("a_few", *evidence, **numbers)
    else:
        yield ok("ok", *evidence, **numbers)
