"""GEN002: the model spells its end marker out in characters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from diagnostics.checkpoint_subject import CheckpointSubject
from diagnostics.generation.answer_faults import quoted, where
from diagnostics.report import Observation
from diagnostics.run_checks import error, info, ok
from diagnostics.thresholds import Thresholds
from pipeline.answer_grid import AnswerGrid
from pipeline.config_files import load_config
from pipeline.written_markers import written_end_marker


def end_marker_as_text(subject: CheckpointSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        Whether answers hold an end marker such as [EOS] or </s> as ordinary characters, left over after special
        tokens were dropped.
    Why it matters:
        A marker learned as text ends nothing: generate() waits for an id that never comes and the answer runs on.
        Preference pairs made from such answers teach the next model the same characters.
    How it is measured:
        Greedy and sampled answers without special tokens are searched for the markers of
        configs/written_markers.yaml. A marker that is one token of this tokenizer is told apart: it is a token that
        the files don't declare as special. Reported from `gen_marker_share` of the answers on, and at least two.
    Known false alarms:
        Answers about tokenizers or HTML may quote a marker; a gold answer that holds the same marker in the middle
        of its text is such a case. One or two in many are therefore only information.
    Fix:
        Append the id of the end token to the training labels instead of its characters, then train again.
    References:
        https://github.com/turboderp/exllama/issues/199
        https://github.com/allenai/open-instruct/pull/114
    """
    grid = subject.generations
    answers = [a for name in ("greedy", "sampling") for a in grid.answers.get(name, ())]
    found = [
        (a, marker)
        for a in answers
        if (marker := written_end_marker(a.plain)) is not None and not _gold_quotes(grid, a.row, marker)
    ]
    rate = len(found) / len(answers)
    subject.metrics["gen.end_marker_as_text"] = round(rate, 4)
    if not found:
        yield ok(n=len(answers))
        return
    marker, _ = Counter(m for _, m in found).most_common(1)[0]
    evidence = [(where(grid, a), quoted(a)) for a, m in found if m == marker][:3]
    numbers = {"marker": marker, "n": len(found), "total": len(answers), "percent": round(100 * rate)}
    if rate < limits["gen_marker_share"] or len(found) < 2:
        yield info("seldom", *evidence, **numbers)
    elif marker in load_config("written_markers.yaml")["padding_markers"]:
        yield error("padding_written", *evidence, **numbers)
    elif any(grid.token_names.get(i) == marker for a, m in found if m == marker for i in a.ids):
        yield error("token_not_special", *evidence, **numbers)
    else:
        yield error("written", *evidence, **numbers)


def _gold_quotes(grid: AnswerGrid, row: int, marker: str) -> bool:
    """The data holds the marker inside a sentence: it is talked about. At the end of an answer it is the fault."""
    gold = grid.asked[row].gold
    return gold is not None and marker in gold.rstrip()[: -len(marker)]
