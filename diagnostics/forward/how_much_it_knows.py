"""How much of the given answers a model knows: what the other forward checks ask before they judge."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from diagnostics.checkpoint_subject import CheckpointSubject
from diagnostics.run_checks import NotMeasured
from diagnostics.thresholds import Thresholds
from pipeline.format_autopsy import paired

Level = Literal["knows", "partly", "little", "nothing"]


@dataclass(frozen=True)
class Standing:
    """Level of one group of rows under the best format. nats, entropy: per token; share: of ln(vocabulary).

    source: `data` | `probes`. script: the writing system of the rows judged: the one the model knows best, as rows in
    a language it never learned say nothing. rows: of that group, of `total`. low: lower end of the 95% interval of
    nats over rows, nats itself where there are too few for one. known_nats: over the rows of all writing systems that
    the model has learned anything of.
    """

    level: Level
    nats: float
    entropy: float
    accuracy: float
    share: float
    ln_vocabulary: float
    script: str
    rows: int
    total: int
    source: str
    all_nats: float
    low: float
    known_nats: float


def standing(subject: CheckpointSubject, limits: Thresholds) -> Standing:
    """Where the model stands. Raises NotMeasured when nothing could be scored."""
    autopsy, scores = subject.autopsy, subject.answer_scores
    if not scores.scores:
        raise NotMeasured("rows_too_long")
    ln_v = autopsy.ln_vocabulary
    everything = list(range(len(scores.rows)))
    least = max(limits["forward_rows_min"], limits["forward_group_share"] * len(everything))
    groups = {script: places for script, places in scores.groups().items() if len(places) >= least}
    if not groups:
        groups = {"all": everything}
    script, places = min(groups.items(), key=lambda item: scores.nats(item[1]))
    nats = scores.nats(places)
    share = nats / ln_v
    short = subject.asked_rows[1] == "data" and (
        sum(len(scores.scores[p].nats) for p in places) <= limits["short_answer_tokens"] * len(places)
    )  # fmt: skip
    partly = limits["level_partly_short"] if short else limits["level_partly"]
    level: Level = (
        "nothing" if share >= limits["level_nothing"]
        else "little" if share >= limits["level_little"]
        else "partly" if share >= partly
        else "knows"
    )  # fmt: skip
    learned = [p for group in groups.values() if scores.nats(group) < limits["level_little"] * ln_v for p in group]
    learned = learned or places
    interval = paired([scores.scores[p].total for p in places], [len(scores.scores[p].nats) for p in places])
    return Standing(
        level, nats, scores.entropy(places), scores.accuracy(places), share, ln_v, script, len(places),
        len(everything), subject.asked_rows[1], scores.nats(),
        nats if interval is None else interval.low, scores.nats(learned),
    )  # fmt: skip


def standing_if_measured(subject: CheckpointSubject, limits: Thresholds) -> Standing | None:
    """Where the model stands, None when nothing could be scored."""
    try:
        return standing(subject, limits)
    except NotMeasured:
        return None


def require_known(subject: CheckpointSubject, limits: Thresholds) -> Standing:
    """The standing where it allows to judge format, stopping and the like. Raises NotMeasured where it doesn't:
    built-in questions count only for a model that can answer them, data rows unless hardly any is understood."""
    found = standing(subject, limits)
    understood = len(subject.autopsy.understood)
    if found.source == "probes" and (found.level != "knows" or understood < limits["forward_rows_min"]):
        raise NotMeasured("probes_not_known", nats=round(found.nats, 2), ln_v=round(found.ln_vocabulary, 2))
    if understood < min(limits["forward_rows_min"], found.total):
        raise NotMeasured("rows_not_understood", n=understood, rows=found.total)
    return found
