"""CMP002: two ways to judge that come to opposite verdicts."""

from __future__ import annotations

from collections.abc import Iterator

from diagnostics.evaluation_subject import EvaluationSubject
from diagnostics.report import Observation
from diagnostics.run_checks import NotMeasured, ok, warning
from diagnostics.thresholds import Thresholds
from pipeline.evaluation.compare_answers import ORDER


def judges_disagree(subject: EvaluationSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        Whether tasks, people, a judging model and a reward model, where there are several, come to the same verdict.
    Why it matters:
        A reward that rises while the tasks are solved less often is being gamed; the policy has learned what the reward
        pays for and not what it stands for.
    How it is measured:
        Verdicts whose intervals leave one half out on opposite sides. One that shows no difference contradicts nothing.
    Known false alarms:
        They judge different things: an answer may be right and badly put.
    Fix:
        Believe tasks before people, people before a judge, a judge before a reward model, and read the cases in which
        they differ most.
    References:
        https://arxiv.org/abs/2210.10760
        https://arxiv.org/abs/2306.05685
    """
    several = found = False
    for after, contests in subject.contests.items():
        judges = sorted((c for c in contests if c.by in ORDER), key=lambda c: ORDER.index(c.by))
        several = several or len(judges) > 1
        judged = [c for c in judges if c.verdict != "no_difference"]
        lead = judged[0] if judged else None
        against = [c for c in judged if lead is not None and c.verdict != lead.verdict]
        if lead is None or not against:
            continue
        evidence = [
            (f"win rate: {c.by}", f"{c.win_rate.value:.3f} [{c.win_rate.low:.3f}, {c.win_rate.high:.3f}] n={c.n}")
            for c in (lead, *against) if c.win_rate is not None
        ]  # fmt: skip
        numbers = {"after": after, "lead": lead.by, "others": [c.by for c in against]}
        if lead.verdict == "worse":
            yield warning("worse_by_the_surer", *evidence, **numbers)
        else:
            yield warning("better_by_the_surer", *evidence, **numbers)
        found = True
    if not several:
        raise NotMeasured("one_judge_only")
    if not found:
        yield ok()
