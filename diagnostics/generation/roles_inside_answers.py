"""GEN007: one completion holds a whole conversation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from diagnostics.checkpoint_subject import CheckpointSubject
from diagnostics.generation.answer_faults import enough, loud, quoted, where
from diagnostics.report import Observation
from diagnostics.run_checks import info, ok
from diagnostics.thresholds import Thresholds
from pipeline.written_markers import other_turn


def roles_inside_answers(subject: CheckpointSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        Whether answers go on with the next turn: a user's marker, a new question with its answer, a second answer.
    Why it matters:
        The answer itself may be fine; what follows is the model talking to itself because nothing stopped it. Cut at
        the marker, the data can be saved; left in, it teaches the next model to do the same.
    How it is measured:
        Greedy and sampled answers, special tokens visible, are searched for the turn markers of
        configs/written_markers.yaml after some text. Names with a colon count at the start of a line only. Rows whose
        gold answer holds such a marker are left out.
    Known false alarms:
        Dialogues, exam questions and forms hold such lines rightly; single answers are only information.
    Fix:
        Stop on the token that ends a turn, or pass stop_strings; train with the end token in the labels.
    References:
        https://github.com/stochasticai/xTuring/issues/129
        https://github.com/huggingface/trl/issues/1025
    """
    grid = subject.generations
    answers = [a for name in ("greedy", "sampling") for a in grid.answers.get(name, ())]
    answers = [a for a in answers if other_turn(f". {grid.asked[a.row].gold or ''}") is None]
    found = [(a, marker) for a in answers if (marker := other_turn(a.text)) is not None]
    rate = len(found) / len(answers) if answers else 0.0
    subject.metrics["gen.other_turn_share"] = round(rate, 4)
    enough(grid, limits)
    if not found:
        yield ok(n=len(answers))
        return
    bad, doubtful = loud(grid, limits)
    marker = Counter(m for _, m in found).most_common(1)[0][0]
    evidence = [(where(grid, a), quoted(a, 300)) for a, m in found if m == marker][:3]
    numbers = {"marker": marker, "n": len(found), "total": len(answers), "percent": round(100 * rate)}
    if rate >= limits["gen_turns_share_bad"]:
        yield bad("many", *evidence, **numbers)
    elif rate >= limits["gen_turns_share"] and len(found) >= 2:
        yield doubtful("some", *evidence, **numbers)
    else:
        yield info("seldom", *evidence, **numbers)
