"""GEN014: answers are good, except under the checkpoint's own decoding settings."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from diagnostics.checkpoint_subject import CheckpointSubject
from diagnostics.generation.answer_faults import enough, faults_of, loud, own_words, quoted, share, where
from diagnostics.report import Observation
from diagnostics.run_checks import error, info, ok
from diagnostics.thresholds import Thresholds
from pipeline.answer_grid import AnswerGrid
from pipeline.answer_overlap import topic_fit


def own_settings_spoil_answers(subject: CheckpointSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        Whether the settings in generation_config.json make answers worse than plain greedy decoding and mild sampling.
    Why it matters:
        Then the weights are sound and no training is needed: a temperature, a penalty or a beam setting is at fault.
    How it is measured:
        The same prompts under greedy, sampling (configs/sampling.yaml) and the own settings. Compared are the share
        of answers that loop, are empty, garbled or don't end where there was room; how much they share with the
        gold answers; and how improbable their tokens are to the model itself (nats per token).
    Known false alarms:
        Sampling always costs a little; the differences asked for (`gen_own_worse`, `gen_own_nats`,
        `gen_own_overlap_loss`) are large. Where plain decoding is just as bad, nothing is said here.
    Fix:
        Set the named fields back: temperature 0.7-1.0, top_p 0.9-1.0, repetition_penalty 1.0-1.1,
        no_repeat_ngram_size 0, length_penalty 1.0, min_length 0.
    References:
        https://huggingface.co/docs/transformers/generation_strategies
        https://arxiv.org/abs/1904.09751
    """
    grid = subject.generations
    settings = ", ".join(f"{k}={_short(v)}" for k, v in sorted(grid.own.strategy.settings.items())) or "–"
    if grid.own_refused is not None:
        where_set = ("generation_config.json", dict(grid.own.strategy.settings))
        yield error("refused", where_set, problem=grid.own_refused, settings=settings)
        return
    enough(grid, limits)
    wrong = {name: share([faults_of(grid, a, limits).any for a in answers]) for name, answers in grid.answers.items()}
    plain = min(wrong["greedy"], wrong.get("sampling", 1.0))
    if grid.own.same_as_greedy:
        yield ok("same_as_greedy", percent=round(100 * wrong["own"]), n=len(grid.asked))
        return
    overlap = {name: _overlap(grid, name) for name in grid.answers}
    nats = {name: _nats(grid, name) for name in grid.answers}
    for name, value in (*overlap.items(), *((f"{n}.nats", v) for n, v in nats.items())):
        if value is not None:
            metric = f"gen.nats.{name[:-5]}" if name.endswith(".nats") else f"gen.gold_overlap.{name}"
            subject.metrics[metric] = round(value, 4)
    bad, doubtful = loud(grid, limits)
    own = grid.answers["own"]
    spoiled = [a for a in own if faults_of(grid, a, limits).any] or list(own)
    evidence: list[tuple[str, Any]] = [("generation_config.json", dict(grid.own.strategy.settings))]
    evidence += [(where(grid, a), quoted(a)) for a in spoiled[:2]]
    numbers = {"own": round(100 * wrong["own"]), "plain": round(100 * plain), "n": len(own), "settings": settings}
    own_nats, calm = nats.get("own"), nats.get("sampling")
    own_overlap = overlap.get("own")
    # Against the worse of the two plain ones: what sampling costs anyway is no fault of the settings.
    usual = min((v for n in ("greedy", "sampling") if (v := overlap.get(n)) is not None), default=0.0)
    if wrong["own"] - plain >= limits["gen_own_worse"]:
        yield bad("worse", *evidence, **numbers)
    elif own_nats is not None and calm is not None and own_nats - calm >= limits["gen_own_nats"]:
        tell = bad if own_nats - calm >= 2 * limits["gen_own_nats"] else doubtful
        yield tell("too_random", *evidence, own_nats=own_nats, plain_nats=calm, n=len(own), settings=settings)
    elif own_overlap is not None and usual >= limits["gen_overlap_good"] and (
        own_overlap <= usual * (1 - limits["gen_own_overlap_loss"])
    ):
        numbers = {"own_overlap": own_overlap, "plain_overlap": usual, "n": len(own), "settings": settings}
        yield doubtful("further_from_gold", *evidence, **numbers)
    elif plain - wrong["own"] >= limits["gen_own_worse"]:
        yield info("needed", *evidence, **numbers)
    elif grid.source == "probes" and grid.parameters < limits["gen_probes_parameters"]:
        yield ok("ok_on_built_in", **numbers)  # of answers it never learned, nobody can say what spoils them
    else:
        yield ok("ok", **numbers)


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:30]}…"


def _overlap(grid: AnswerGrid, name: str) -> float | None:
    golds = grid.golds()
    if len(golds) != len(grid.answers[name]):  # beams are asked fewer prompts
        return None
    fit = topic_fit([own_words(grid, a) for a in grid.answers[name]], golds, least_units=1)
    return None if fit is None else fit.overlap


def _nats(grid: AnswerGrid, name: str) -> float | None:
    known = [a.nats for a in grid.answers[name] if a.nats is not None]
    return sum(known) / len(known) if known else None
