"""GEN010: answers that are no text."""

from __future__ import annotations

from collections.abc import Iterator

from diagnostics.checkpoint_subject import CheckpointSubject
from diagnostics.generation.answer_faults import enough, faults_of, loud, own_words, quoted, share, where
from diagnostics.report import Observation
from diagnostics.run_checks import ok
from diagnostics.thresholds import Thresholds
from pipeline.script_of_text import garbled_share, script_entropy, without_cut_character


def answers_garbled(subject: CheckpointSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        Replacement characters (bytes that form no character), control characters, and letters of many scripts at once.
    Why it matters:
        Word salad comes from weights that don't belong to the tokenizer or the architecture, were damaged or never
        trained. No decoding setting repairs it.
    How it is measured:
        Greedy answers: the share of characters nobody types (from `gen_garbled_characters` on) and the entropy over
        scripts (from `gen_script_entropy` on; a Chinese text with English terms stays below 0.69). A character cut by
        the length limit at the end of an answer is not counted, nor is what the gold answer holds too.
    Known false alarms:
        Rare characters of a byte-level tokenizer in an otherwise sound answer: judged by the share of answers.
    Fix:
        Check tokenizer against weights (TOK012, FWD001), and the weights themselves (WGT001, WGT003).
    References:
        https://github.com/hiyouga/LlamaFactory/issues/1649
        https://github.com/Vision-CAIR/MiniGPT-4/issues/129
    """
    grid = subject.generations
    rate: dict[str, float] = {}
    for name, answers in grid.answers.items():
        rate[name] = share([faults_of(grid, a, limits).garbled for a in answers])
        subject.metrics[f"gen.garbled_share.{name}"] = round(rate[name], 4)
    enough(grid, limits)
    bad, doubtful = loud(grid, limits)
    shown = [a for a in grid.answers["greedy"] if faults_of(grid, a, limits).garbled]
    evidence = [(where(grid, a), quoted(a)) for a in shown[:3]]
    bytes_broken = share([garbled_share(without_cut_character(own_words(grid, a))) > 0 for a in shown]) >= 0.5
    entropy = sum(script_entropy(own_words(grid, a)) for a in shown) / len(shown) if shown else 0.0
    numbers = {"percent": round(100 * rate["greedy"]), "n": len(grid.asked), "entropy": entropy}
    tell = bad if rate["greedy"] >= limits["gen_garbled_answers_bad"] else doubtful
    if rate["greedy"] < limits["gen_garbled_answers"]:
        yield ok("ok", **numbers)
    elif bytes_broken:
        yield tell("broken_characters", *evidence, **numbers)
    else:
        yield tell("mixed_scripts", *evidence, **numbers)
