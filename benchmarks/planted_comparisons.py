"""How right the diagnosis of comparisons is: answers before and after with a known difference, and with none.

    python benchmarks/planted_comparisons.py [--seeds N] [--only NAME] [--jobs N]

Texts in English and Chinese are written into two files and read, matched and measured as by `python -m pipeline
compare`; judges are drawn, with a taste of each prompt for one of the models that its answers share; then
`python -m diagnostics evaluation` judges the result. right: of sound comparisons, in which nothing differs, those that
are called neither better nor worse and raise no warning, of others those with the finding that names what was planted;
false alarms: comparisons with a verdict, a warning or an error about anything else. At 95% confidence one sound
comparison in twenty is called better or worse, and of those with kinds of prompts one in forty has a kind called worse;
more than that, or other alarms, would be wrong.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ.setdefault("OMP_NUM_THREADS", "1")  # as many comparisons at once as there are cores

from benchmarks.drawn_comparisons import Answers, Judges, Random, Row, compared, judged, rows_of, text  # noqa: E402
from benchmarks.planted_table import Case, run  # noqa: E402
from pipeline.evaluation.results import write_result_file  # noqa: E402

SOUND = Judges(reward=0.0)


def looping(share: float) -> Callable[[Random, Row, str], str]:
    return lambda random, row, after: after if random.random() >= share else (
        after + ("然后继续说" * 15 if row.chinese else " and then it goes on" * 12))  # fmt: skip


def switching(share: float) -> Callable[[Random, Row, str], str]:
    """Of the answers to Chinese prompts."""
    return lambda random, row, after: after if not row.chinese or random.random() >= share else text(random, 15, False)


def refusing(share: float, *, empty: bool = False) -> Callable[[Random, Row, str], str]:
    said = ("", "") if empty else ("I'm sorry, but I can't help with that.", "抱歉，我无法回答这个问题。")
    return lambda random, row, after: after if random.random() >= share else said[row.chinese]


def planted(kind: str, name: str, answers: Answers, judges: Judges = SOUND, *expected: str,
            follows: Sequence[str] = (), small: bool = False) -> Case:  # fmt: skip
    return Case(kind, name, lambda random: (answers, judges, random), frozenset(expected), frozenset(follows), small)


def sound() -> Iterator[Case]:
    for n in (20, 50, 100, 300, 1000):
        yield planted("tasks", f"{n}", Answers(n), Judges(task=0.0))
        yield planted("rewards", f"{n}", Answers(n))
        yield planted("a judge", f"{n}", Answers(n), Judges(judge=0.0))
    for n, same in ((40, 0.2), (100, 0.4), (200, 0.6), (500, 0.3)):
        yield planted("some answers equal", f"{n}", Answers(n, same=same))
    for n in (25, 200):
        yield planted("all answers equal", f"{n}", Answers(n, same=1.0), Judges(task=0.0, reward=0.0))
    for n, several in ((30, 3), (50, 5), (200, 2)):
        for name, by in (("task", Judges(task=0.0)), ("reward", SOUND)):
            yield planted("prompts that repeat", f"{name}-{n}x{several}", Answers(n, repeated=several), by)
            yield planted("several answers a prompt", f"{name}-{n}x{several}", Answers(n, samples=several), by)
    for n, kinds in ((60, 2), (200, 5), (300, 8), (600, 12)):
        yield planted("kinds of prompts", f"{n}-{kinds}", Answers(n, kinds=kinds), Judges(judge=0.0))
    for n, times in ((60, 1.5), (150, 2.0), (300, 0.6), (600, 1.3)):
        yield planted("longer, nobody cares", f"{n}-{times}", Answers(n, times=times), Judges(judge=0.0))
        yield planted("same length, judge likes length", f"{n}", Answers(n), Judges(judge=0.0, longer=1.0))
    for n in (50, 200, 500):
        yield planted("three judges", f"{n}", Answers(n), Judges(0.0, 0.0, 0.0))
        yield planted("half Chinese", f"{n}", Answers(n, chinese=0.5, kinds=2, cut=0.0), Judges(judge=0.0))


def faulty() -> Iterator[Case]:
    """Effects so large that fewer than one comparison in a hundred of that size would not show them at 95%."""
    worse = ["CMP001/worse", "CMP001/slightly_worse"]  # two degrees of it
    for n, odds, units in ((100, 2.8, 0.8), (300, 1.6, 0.5), (1000, 0.9, 0.3)):
        for kind, sign, expected in (("better", 1, ["CMP001/better"]), ("worse", -1, worse)):
            yield planted(kind, f"task-{n}", Answers(n), Judges(task=sign * odds), *expected)
            yield planted(kind, f"reward-{n}", Answers(n), Judges(reward=sign * units), *expected)
            yield planted(kind, f"judge-{n}", Answers(n), Judges(judge=sign * units), *expected)
    for n, kinds in ((400, 2), (300, 3), (600, 8), (1000, 12)):
        yield planted("one kind worse", f"{n}-{kinds}", Answers(n, kinds=kinds),
                      Judges(judge=lambda row: -1.4 if row.kind == "kind 0" else 0.5), "CMP003/worse_within",
                      follows=["CMP001/better"])  # fmt: skip
    for n, times in ((200, 1.8), (400, 1.6), (1000, 1.5)):
        # What is left at equal length is one half, and by chance somewhat below. By its own measure the judge likes it
        for name, by in (("judge", Judges(judge=0.0, longer=1.0)), ("reward", Judges(reward=0.0, longer=1.4))):
            yield planted("gain is length", f"{name}-{n}", Answers(n, 30, times), by, "CMP004/gone_at_equal_length",
                          "CMP004/worse_at_equal_length", follows=["CMP001/better"])  # fmt: skip
    # Most have two degrees of a warning: which one is said depends on the width of the interval
    for n, share in ((100, 0.4), (300, 0.25), (1000, 0.12)):
        yield planted("loops", f"{n}", Answers(n, chinese=0.3, after=looping(share)), SOUND, "CMP005/more",
                      "CMP005/far_more")  # fmt: skip
        yield planted("ends less often", f"{n}", Answers(n, cut=share), SOUND, "CMP006/ends_less",
                      "CMP006/ends_far_less")  # fmt: skip
        yield planted("answers in another language", f"{n}", Answers(n, chinese=0.6, after=switching(1.6 * share)),
                      SOUND, "CMP007/switches_more", "CMP007/switched")  # fmt: skip
        yield planted("refuses more", f"{n}", Answers(n, chinese=0.4, after=refusing(share)), SOUND,
                      "CMP008/refuses_more")  # fmt: skip
        yield planted("empty answers", f"{n}", Answers(n, chinese=0.4, after=refusing(share, empty=True)), SOUND,
                      "CMP008/more_empty", "CMP008/far_more_empty")  # fmt: skip
    for n, first in ((50, 2.0), (200, 2.5), (600, 1.8)):
        yield planted("judge goes by position", f"{n}", Answers(n), Judges(judge=0.0, first=first),
                      "CMP011/by_position")  # fmt: skip
    for n in (150, 400, 1000):
        yield planted("tasks worse, judge better", f"{n}", Answers(n), Judges(task=-2.4, judge=0.8),
                      "CMP002/worse_by_the_surer", follows=worse)  # fmt: skip
        yield planted("tasks worse, reward better", f"{n}", Answers(n, times=1.2), Judges(task=-2.4, reward=1.0),
                      "CMP002/worse_by_the_surer", follows=worse)  # fmt: skip
        yield planted("tasks better, reward worse", f"{n}", Answers(n), Judges(task=2.4, reward=-1.0),
                      "CMP002/better_by_the_surer", follows=["CMP001/better"])  # fmt: skip


def small() -> Iterator[Case]:
    """Effects that fewer than half of the comparisons of their size would show at 95%."""
    yield planted("slightly worse", "judge-50", Answers(50), Judges(judge=-0.15), "CMP001/worse", small=True)
    yield planted("slightly worse", "task-100", Answers(100), Judges(task=-0.4), "CMP001/worse", small=True)
    yield planted("one kind worse", "80-5", Answers(80, kinds=5),
                  Judges(judge=lambda row: -0.5 if row.kind == "kind 0" else 0.0), "CMP003/worse_within",
                  small=True)  # fmt: skip
    yield planted("loops", "100", Answers(100, after=looping(0.03)), SOUND, "CMP005/more", small=True)
    yield planted("ends less often", "100", Answers(100, cut=0.05), SOUND, "CMP006/ends_less", small=True)
    yield planted("refuses more", "100", Answers(100, after=refusing(0.05)), SOUND, "CMP008/refuses_more", small=True)


CASES = (*sound(), *small(), *faulty())


def judge(number: int, seed: int) -> frozenset[str]:
    """CODE/outcome of each warning and error about one comparison, and of the verdict better."""
    from diagnostics.diagnose_evaluation import diagnose_evaluation

    answers, judges, random = CASES[number].made(seed)
    rows = rows_of(answers, random)
    with tempfile.TemporaryDirectory() as folder:
        made = compared(rows, Path(folder), ends=answers.cut is not None)
        judged(made, rows, judges, random)
        path = Path(folder) / "comparison.json"
        write_result_file(made.result(), path)
        found = diagnose_evaluation(path).findings
    return frozenset(f"{one.code}/{one.outcome}" for one in found
                     if one.severity in ("warning", "error") or one.outcome == "better")  # fmt: skip


if __name__ == "__main__":
    sys.exit(run(CASES, judge, __doc__ or "", seeds=4))
