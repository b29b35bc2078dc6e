"""GEN009: answers in another writing system than asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from diagnostics.checkpoint_subject import CheckpointSubject
from diagnostics.generation.answer_faults import enough, loud, own_words, quoted, where
from diagnostics.report import Observation
from diagnostics.run_checks import NotMeasured, ok
from diagnostics.thresholds import Thresholds
from pipeline.answer_grid import AnswerGrid
from pipeline.script_of_text import main_script


def answers_in_other_script(subject: CheckpointSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        Whether answers use the writing system of their gold answers, or of the prompts where these all use one.
    Why it matters:
        A Chinese model that answers in English was trained on other data, under another prompt format, or is its base.
    How it is measured:
        The main script of every greedy answer (Chinese and Japanese told apart by kana) against that of its own gold
        answer, so translations are judged rightly. Without gold answers only where all prompts share one script, and
        Latin letters are then let pass: code and formulas are written in them. Short texts are left out.
    Known false alarms:
        Code, names and formulas; a model that rightly answers in the language of the system prompt.
    Fix:
        Check which weights these are (base or fine-tuned) and that the prompt format is the trained one.
    References:
        https://github.com/Vision-CAIR/MiniGPT-4/issues/129
        https://github.com/hiyouga/LlamaFactory/issues/1347
    """
    grid = subject.generations
    enough(grid, limits)
    wanted = _wanted(grid, limits)
    pairs = []
    for answer in grid.answers["greedy"]:
        script = main_script(own_words(grid, answer), least_letters=int(limits["gen_script_letters"]), least_share=0.6)
        if script is not None and wanted[answer.row] is not None:
            pairs.append((answer, script, str(wanted[answer.row])))
    if len(pairs) < limits["gen_answers_min"]:
        raise NotMeasured("script_unknown")
    by_gold = bool(grid.golds())
    wrong = [(a, s, w) for a, s, w in pairs if s != w and (by_gold or s != "latin")]
    rate = len(wrong) / len(pairs)
    subject.metrics["gen.other_script_share"] = round(rate, 4)
    evidence = [(where(grid, a), quoted(a)) for a, _, _ in wrong[:3]]
    bad, doubtful = loud(grid, limits)
    if rate < limits["gen_script_share"]:
        yield ok(percent=round(100 * rate), n=len(pairs))
        return
    got, expected = Counter((s, w) for _, s, w in wrong).most_common(1)[0][0]
    tell = bad if rate >= limits["gen_script_share_bad"] else doubtful
    yield tell("other_script", *evidence, got=got, wanted=expected, percent=round(100 * rate), n=len(pairs))


def _wanted(grid: AnswerGrid, limits: Thresholds) -> list[str | None]:
    """The script each answer should have; None where nobody can say."""
    least = int(limits["gen_script_letters"])
    if grid.golds():
        return [main_script(a.gold or "", least_letters=least, least_share=0.6) for a in grid.asked]
    prompts = {main_script(a.question, least_letters=4, least_share=0.9) for a in grid.asked}
    only = prompts.pop() if len(prompts) == 1 else None
    return [only] * len(grid.asked)
