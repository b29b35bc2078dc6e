"""GEN005: answers that hold nothing, or little but special tokens."""

from __future__ import annotations

from collections.abc import Iterator

from diagnostics.checkpoint_subject import CheckpointSubject
from diagnostics.generation.answer_faults import before_other_end, enough, faults_of, loud, quoted, share, where
from diagnostics.report import Observation
from diagnostics.run_checks import info, ok
from diagnostics.thresholds import Thresholds


def answers_empty(subject: CheckpointSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        How many answers are empty, end with their very first token, or consist mostly of special tokens.
    Why it matters:
        An empty answer means that the model sees the end of a text where its answer should begin: a prompt format it
        doesn't know, or labels in which the end token followed the prompt.
    How it is measured:
        Greedy and sampled answers without special tokens and white space; rows whose gold answer is empty are left
        out. From `gen_empty_share` on it is doubtful, from `gen_empty_share_bad` on bad. Special tokens are counted
        among the tokens before the first end token.
    Known false alarms:
        Beam search prefers empty answers of many sound models, so beams alone are only information.
    Fix:
        Generate in the format the model was trained on; look for the end token right after the prompt in the labels.
    References:
        https://github.com/OpenRLHF/OpenRLHF/issues/352
        https://github.com/huggingface/transformers/issues/28679
    """
    grid = subject.generations
    empty: dict[str, float] = {}
    for name, answers in grid.answers.items():
        empty[name] = share([faults_of(grid, a, limits).empty for a in answers])
        subject.metrics[f"gen.empty_share.{name}"] = round(empty[name], 4)
    greedy = grid.answers["greedy"]
    content = [ids for a in greedy if (ids := before_other_end(grid, a))]
    special = sum(share([i in grid.special for i in ids]) for ids in content) / len(content) if content else 0.0
    subject.metrics["gen.special_share.greedy"] = round(special, 4)
    enough(grid, limits)
    bad, doubtful = loud(grid, limits)
    worst = min(empty["greedy"], empty.get("sampling", 1.0))
    hollow = [a for a in greedy if faults_of(grid, a, limits).empty]
    at_once = sum(a.ended and len(a.ids) == 1 for a in greedy)
    evidence = [(where(grid, a), quoted(a)) for a in hollow[:3]]
    percent = {name: round(100 * value) for name, value in empty.items()}
    numbers = {"greedy": percent["greedy"], "sampling": percent.get("sampling", 0), "n": len(greedy)}
    if special > limits["gen_special_share"]:
        shown = [(where(grid, a), quoted(a)) for a in greedy[:3]]
        yield bad("mostly_special", *shown, percent=round(100 * special), n=len(greedy))
    elif worst >= limits["gen_empty_share_bad"]:
        yield bad("empty", *evidence, at_once=at_once, **numbers)
    elif max(empty["greedy"], empty.get("sampling", 0.0)) >= limits["gen_empty_share"]:
        yield doubtful("some_empty", *evidence, at_once=at_once, **numbers)
    elif empty.get("beam", 0.0) >= limits["gen_empty_share_bad"]:
        yield info("empty_under_beams", percent=percent["beam"], n=len(greedy))
    else:
        yield ok("ok", **numbers)
