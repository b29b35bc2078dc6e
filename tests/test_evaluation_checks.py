"""What the diagnosis says of evaluations: harm and overfitting are found, sound models and noise aren't called wrong."""

from __future__ import annotations

import ast
import inspect
import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from test_reward_statistics import of_quality

from diagnostics import report_store
from diagnostics.check_table import EVALUATION_CHECKS
from diagnostics.diagnose_evaluation import diagnose_evaluation
from diagnostics.evaluation_points import MOST_POINTS, thinned
from diagnostics.evaluation_shown import figure_place
from diagnostics.evaluation_subject import EvaluationSubject
from diagnostics.render import evidence_place, to_html, to_markdown, to_text, verdict_line
from diagnostics.report import Report
from diagnostics.run_checks import run_checks
from diagnostics.thresholds import load_thresholds
from diagnostics.words import say
from pipeline.config_files import CONFIGS
from pipeline.evaluation.answer_measures import WANTED
from pipeline.evaluation.ask_diagnosis import ask_diagnosis
from pipeline.evaluation.intervals import contest, contest_of_outcomes, paired_difference, share_of, spread_of
from pipeline.evaluation.replay import summary_of
from pipeline.evaluation.results import (
    AbilitiesResult,
    Ability,
    AbilityChange,
    ComparisonCase,
    ComparisonResult,
    Contest,
    Difference,
    MeasureChange,
    ModelNamed,
    Replayed,
    ReplayResult,
    Result,
    ScoredSet,
    ScoresResult,
    Suspect,
    to_json,
    write_result_file,
)
from pipeline.evaluation.reward_statistics import accuracy_gap, statistics_of
from pipeline.evaluation.typed_result import typed_result
from pipeline.refusal import Refused

ROOT = Path(__file__).resolve().parent.parent
SCHEMA = json.loads((CONFIGS / "report.schema.json").read_text(encoding="utf-8"))
HOSTILE = "<script>alert(1)</script>\x1b[31m`x`\u202egnp|"
LIMITS = load_thresholds()


# --- results from simulated data


def scored(
    role: str, chosen: np.ndarray, rejected: np.ndarray, chars: tuple[np.ndarray, np.ndarray], **more: Any
) -> ScoredSet:
    found = statistics_of(chosen, rejected, *chars, **more)
    doubted = found.suspects.pairs if found.suspects is not None else ()
    n = len(chosen)
    return ScoredSet(
        name=f"{role}.jsonl", role=role, path=f"{role}.jsonl", holds="pairs", rows=n, scored=n - found.not_finite,
        unscored={"not_finite": found.not_finite} if found.not_finite else {},
        suspects=tuple(Suspect(s.index, s.index + 1, s.margin, s.probability, "p", "c", "r") for s in doubted[:20]),
        **found.figures,
    )  # fmt: skip


def pairs(
    rng: np.random.Generator, n: int, role: str, *, accuracy: float = 0.7, scale: float = 1.0, flipped: float = 0.0,
    length: float = 0.0, leaning: float = 0.0,
) -> ScoredSet:  # fmt: skip
    """n pairs as a calibrated reward model scores them: a label is right with probability sigmoid(margin).

    accuracy: on average. scale: factor on all margins, above 1 too sure. flipped: share of labels turned round. length:
    reward per log-length. leaning: log-length by which chosen answers are longer.
    """
    spread = {0.7: 1.35, 0.9: 5.5}[accuracy]
    margins = rng.normal(0, spread, n)
    right = rng.random(n) < 1 / (1 + np.exp(-margins))
    margins = np.where(right, margins, -margins)
    turned = rng.random(n) < flipped
    margins = np.where(turned, -margins, margins) * scale
    sizes = np.exp(rng.normal(5, 0.6, n) + leaning), np.exp(rng.normal(5, 0.6, n))
    margins = margins + length * (np.log(sizes[0]) - np.log(sizes[1]))
    middle = rng.normal(0, 1, n)
    chars = tuple(np.maximum(size, 1).astype(int) for size in sizes)
    return scored(role, middle + margins / 2, middle - margins / 2, (chars[0], chars[1]))


def scores(*sets: ScoredSet, **more: object) -> ScoresResult:
    by = {one.role: one.accuracy for one in sets}
    train, held_out = by.get("train"), by.get("held_out")
    gap = accuracy_gap(train, held_out) if train is not None and held_out is not None else None
    return replace(ScoresResult(ModelNamed("rm", "rm", "reward"), "chat", sets, gap), **more)  # type: ignore[arg-type]


def compared(contests: tuple[Contest, ...], measures: tuple[MeasureChange, ...] = (), **more: object) -> ComparisonResult:
    models = ModelNamed("sft", "sft", "before"), ModelNamed("dpo", "dpo", "after"), ModelNamed("rm", "rm", "reward")
    matched = {"matched": contests[0].n if contests else 0, "only_before": 0, "only_after": 0, "matched_by": "prompt"}
    first = contests[0] if contests else None
    made = ComparisonResult(models, first.verdict if first else None, first.by if first else None, contests, measures,
                            matched)  # fmt: skip
    return replace(made, **more)  # type: ignore[arg-type]


def rewards(rng: np.random.Generator, n: int, gain: float, **more: object) -> Contest:
    before = rng.normal(0, 1, n)
    names = {"before_name": "sft", "after_name": "dpo", "by": "reward", **more}
    return contest(before, before + rng.normal(gain, 1, n), **names)  # type: ignore[arg-type]


def outcomes(wins: int, ties: int, losses: int, by: str = "task", **more: object) -> Contest:
    told = ["win"] * wins + ["tie"] * ties + ["loss"] * losses
    names = {"before_name": "sft", "after_name": "dpo", "by": by, **more}
    return contest_of_outcomes(told, **names)  # type: ignore[arg-type]


def measure(name: str, before: np.ndarray, after: np.ndarray, wanted: str = "lower") -> MeasureChange:
    difference = paired_difference(before, after)
    old, new = spread_of(before), spread_of(after)
    assert old is not None and new is not None
    return MeasureChange(name, "sft", "dpo", old, new, difference, wanted, "no_difference")


def replayed(*changes: str, loops: tuple[int, int] = (0, 0), same: bool = False) -> ReplayResult:
    """One case for each of `changes`; the first loops[0] answers of the base loop, and loops[1] of the adapter's."""
    rows = []
    for case, change in enumerate(changes):
        was, now = change in ("broken", "still_good"), change in ("fixed", "still_good")
        for model, good, told in (("base", was, None), ("lora", now, change)):
            looping = case < loops[model == "lora"] and not good
            status = "right" if good else "repeats" if looping else "wrong"
            answer = f"{case}" if same else f"{case} {model}"
            rows.append(Replayed(case, model, f"case {case}", "42", answer, status, good, told, "exact", repeats=looping))
    summary = tuple(summary_of(name, [r for r in rows if r.model == name], base="base") for name in ("base", "lora"))
    return ReplayResult((ModelNamed("base", "b", "base"), ModelNamed("lora", "l", "adapter")), summary, tuple(rows))


def abilities(*of: tuple[int, int, int]) -> AbilitiesResult:
    """(items right before, after, of all) by ability; who was right after was right before."""
    made = []
    for place, (before, after, n) in enumerate(of):
        hits = np.arange(n) < before, np.arange(n) < after
        change = paired_difference(hits[0].astype(float), hits[1].astype(float))
        verdict = "lost" if change.high < 0 else "gained" if change.low > 0 else "no_difference"
        verdict = "cannot_tell" if before <= n // 4 else "kept" if verdict == "no_difference" and change.low > -0.05 else verdict
        shares = {"sft": share_of(before, n), "dpo": share_of(after, n)}
        lost = ({"item": "1 + 1 =", "model": "dpo", "answer": "3"},) if verdict == "lost" else ()
        made.append(Ability(f"task{place}", "en", "built_in", n, 0.25, shares, (AbilityChange("dpo", change, verdict),), lost))
    return AbilitiesResult((ModelNamed("sft", "sft", "before"), ModelNamed("dpo", "dpo", "after")), tuple(made))


def found(result: Result) -> dict[str, tuple[str, str]]:
    """(severity, outcome) by code; the worst of each."""
    kind = result.kind
    subject = EvaluationSubject(Path("result.json"), LIMITS, typed_result(to_json(result)), to_json(result))
    order = ("ok", "info", "warning", "error")
    told: dict[str, tuple[str, str]] = {}
    for event in run_checks(EVALUATION_CHECKS[kind], subject, LIMITS, depth="files"):
        assert event.skipped is None or event.skipped.reason_id != "check_crashed", event.skipped
        if (one := event.finding) is not None:
            now = one.severity, one.outcome
            told[one.code] = max(told.get(one.code, now), now, key=lambda t: order.index(t[0]))
    return told


def report_of(result: Result, folder: Path, name: str = "result.json") -> Report:
    write_result_file(result, folder / name)
    report = diagnose_evaluation(folder / name)
    jsonschema.validate(json.loads(report.dumps()), SCHEMA)
    return report


# --- reward models


def test_an_overfitted_reward_model_is_named(tmp_path: Path) -> None:
    for seed in range(20):
        rng = np.random.default_rng(seed)
        train = pairs(rng, 400, "train", accuracy=0.9)
        train = scored("train", np.ones(400) + rng.random(400), -np.ones(400), (np.full(400, 90), np.full(400, 80)))
        told = found(scores(train, pairs(rng, 100, "held_out")))
        assert told["RWD010"] in (("error", "overfitted"), ("warning", "overfits")), seed
    report = report_of(scores(train, pairs(rng, 300, "held_out", scale=3)), tmp_path)
    assert report.verdict == "problems" and report.causes[0].id == "reward_overfit"
    assert verdict_line(report).startswith("The reward model is overfitted: 100.0% of its training pairs")


@pytest.mark.parametrize("n", [100, 300, 2000])
def test_sound_reward_models_raise_no_alarm(n: int) -> None:
    """0.7 on both sets, as human preferences allow, over many draws: no error, and hardly a warning."""
    alarms: list[tuple[str, str]] = []
    runs = 60 if n < 1000 else 15
    for seed in range(runs):
        rng = np.random.default_rng([n, seed])
        told = found(scores(pairs(rng, 4 * n, "train"), pairs(rng, n, "held_out")))
        assert not [one for one in told.items() if one[1][0] == "error"], (seed, told)
        alarms += [(code, what) for code, (severity, what) in told.items() if severity == "warning"]
    assert len(alarms) <= 0.05 * runs, alarms


def test_a_few_held_out_pairs_prove_nothing() -> None:
    train = scored("train", np.ones(50), -np.ones(50), (np.full(50, 9), np.full(50, 9)))
    few = scored("held_out", np.array([1.0] * 8 + [-1.0] * 2), np.zeros(10), (np.full(10, 9), np.full(10, 9)))
    assert found(scores(train, few))["RWD010"] == ("info", "gap_unsure")


def test_chance_and_turned_labels(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    chars = np.full(400, 50), np.full(400, 50)
    coin = scored("data", rng.normal(0, 1, 400), rng.normal(0, 1, 400), chars)
    assert found(scores(coin))["RWD011"][1] in ("at_chance", "hardly_above_chance")
    few = scored("data", rng.normal(0, 1, 12), rng.normal(0, 1, 12), (chars[0][:12], chars[1][:12]))
    assert found(scores(few))["RWD011"][0] in ("info", "ok")
    for above, told in ((2_400, ("error", "at_chance")), (2_600, ("warning", "hardly_above_chance")),
                        (2_200, ("error", "prefers_rejected")), (2_800, ("ok", "ok"))):  # fmt: skip
        margins = np.where(np.arange(5_000) < above, 1.0, -1.0)
        many = scored("data", margins, np.zeros(5_000), (np.full(5_000, 50), np.full(5_000, 50)))
        assert found(scores(many))["RWD011"] == told
    turned = pairs(rng, 400, "data", flipped=1.0)
    report = report_of(scores(turned), tmp_path)
    assert report.verdict == "problems" and report.causes[0].id == "pairs_swapped"
    assert "prefers the rejected answer" in verdict_line(report)


def test_length_is_found_where_it_decides_and_nowhere_else() -> None:
    rng = np.random.default_rng(5)
    assert found(scores(pairs(rng, 1500, "data", length=4.0)))["RWD013"][0] in ("warning", "error")
    assert found(scores(pairs(rng, 1500, "data", length=-4.0)))["RWD013"] == ("warning", "leans_to_shortness")
    assert found(scores(pairs(rng, 1500, "data", leaning=0.3)))["RWD013"][0] in ("ok", "info")
    assert "RWD013" not in found(scores(pairs(rng, 30, "data", length=2.0)))
    for seed in range(10):  # a sound model where longer answers are better, as most are
        natural = scored("data", *of_quality(1500, natural=0.6, paid=0, seed=seed)[:2],
                         of_quality(1500, natural=0.6, paid=0, seed=seed)[2:])  # fmt: skip
        assert found(scores(natural))["RWD013"] == ("info", "as_the_labels")
    assert "RWD013" not in found(scores(pairs(rng, 1500, "data", length=4.0, flipped=1.0)))


def test_margins_that_promise_too_much() -> None:
    rng = np.random.default_rng(6)
    assert found(scores(pairs(rng, 600, "data", scale=12)))["RWD014"] == ("warning", "far_too_sure")
    assert found(scores(pairs(rng, 600, "data")))["RWD014"] == ("ok", "ok")
    assert found(scores(pairs(rng, 3000, "data", scale=0.1)))["RWD014"] == ("info", "too_unsure")


def test_wrong_labels_are_more_than_the_margins_allow() -> None:
    rng = np.random.default_rng(7)
    assert found(scores(pairs(rng, 1500, "data", accuracy=0.9, flipped=0.08)))["RWD015"] == ("warning", "more_than_allowed")
    assert found(scores(pairs(rng, 1500, "data", accuracy=0.9)))["RWD015"][0] in ("ok", "info")
    for seed in range(10):
        rng = np.random.default_rng([9, seed])
        noisy = pairs(rng, 400, "data", accuracy=0.9, flipped=0.15)
        assert found(scores(noisy))["RWD015"] == ("warning", "more_than_allowed")
        assert found(scores(pairs(rng, 400, "data", accuracy=0.9)))["RWD015"][0] in ("ok", "info")
        # Margins of an overfitted model mean nothing, and those of trained pairs are known by heart
        assert found(scores(replace(noisy, role="train")))["RWD015"][0] == "info"
        known = scored("train", np.ones(400) + rng.random(400), -np.ones(400), (np.full(400, 90), np.full(400, 80)))
        assert found(scores(known, replace(noisy, role="held_out")))["RWD015"][0] == "info"


def test_a_category_that_is_turned_round_or_fails(tmp_path: Path) -> None:
    alarms = failing = 0
    for seed in range(20):
        rng = np.random.default_rng([10, seed])
        margins, kinds = rng.normal(1.2, 1.2, 800), rng.choice(["code", "math", "chat", "safety"], 800)
        chars = np.full(800, 50), np.full(800, 50)

        def of(margins: np.ndarray, kinds: np.ndarray = kinds, chars: Any = chars) -> ScoresResult:
            return scores(scored("data", margins, np.zeros(800), chars, categories=kinds.tolist()))

        alarms += found(of(margins))["RWD019"][0] != "ok"
        turned = of(np.where(kinds == "math", -margins, margins))
        assert found(turned)["RWD019"] == ("warning", "turned")
        lost = of(np.where(kinds == "math", rng.normal(0, 1, 800), margins))
        failing += found(lost)["RWD019"] == ("warning", "fails")
        assert found(of(-margins))["RWD019"] == ("info", "no_better_as_a_whole")
    assert alarms == 0 and failing >= 15, (alarms, failing)
    report = report_of(turned, tmp_path)
    assert report.causes[0].id == "pairs_swapped"
    assert any("On math the reward model prefers" in one.message for one in report.findings)
    assert "RWD019" not in found(scores(pairs(np.random.default_rng(1), 300, "data")))


@pytest.mark.parametrize("name", ["sigmoid", "tanh", "clipped"])
def test_bounded_rewards_are_no_label_noise(name: str) -> None:
    """Sound labels, read rightly in nine of ten; the same rewards without a bound tell turned labels."""
    bound = {"sigmoid": lambda r: 1 / (1 + np.exp(-r)), "tanh": np.tanh, "clipped": lambda r: np.clip(r, -2, 2)}[name]
    alarms, seen = 0, 0
    for seed in range(6):
        rng = np.random.default_rng(seed)
        quality = rng.normal(0, 1, (1000, 2))
        rewards = 7 * (quality + 0.25 * rng.normal(0, 1, (1000, 2)))
        first = rng.random(1000) < 1 / (1 + np.exp(-8 * (quality[:, 0] - quality[:, 1])))
        chars = rng.integers(20, 90, 1000), rng.integers(20, 90, 1000)

        def judged(rewards: Any, first: Any, chars: Any = chars) -> tuple[str, str]:
            sides = np.where(first[:, None], rewards, rewards[:, ::-1])
            return found(scores(scored("data", sides[:, 0], sides[:, 1], chars)))["RWD015"]

        alarms += judged(bound(rewards), first)[0] == "warning"
        seen += judged(rewards, first ^ (rng.random(1000) < 0.1)) == ("warning", "more_than_allowed")
    assert alarms == 0 and seen == 6, (alarms, seen)


def test_where_nothing_was_judged_nothing_is_called_right(tmp_path: Path) -> None:
    alone = ScoredSet(name="a", role="data", path="a", holds="answers", rows=40, scored=40,
                      answers=spread_of(np.random.default_rng(0).normal(0, 1, 40)))  # fmt: skip
    assert "not judged" in verdict_line(report_of(scores(alone), tmp_path))
    assert "not judged" in verdict_line(report_of(compared((), prompts={"matched": 40}), tmp_path))


def test_missing_rewards_shared_prompts_and_scale(tmp_path: Path) -> None:
    rng = np.random.default_rng(8)
    one = pairs(rng, 200, "data")
    assert found(scores(replace(one, unscored={"not_finite": 60}, rows=260)))["RWD016"] == ("error", "not_numbers")
    for reason, few, many in (("overflow", "some_overflow", "overflows"), ("not_finite", "some_not_numbers", "not_numbers")):
        assert found(scores(replace(one, unscored={reason: 60}, rows=260)))["RWD016"] == ("error", many)
        # 60 answers that are too long and 4 that are no numbers, in 2 of 232 rows
        lost = replace(one, unscored={"too_long": 60, reason: 4}, unscored_rows={"too_long": 30, reason: 2}, rows=232)
        assert found(scores(lost))["RWD016"] == ("warning", few)
        said = next(f.message for f in report_of(scores(lost), tmp_path).findings if f.code == "RWD016")
        assert "4 answers of data.jsonl, in 2 of 232 rows" in said and ("overflow" in said) == (reason == "overflow")
    broken = scores(replace(one, unscored={"weights_not_finite": 1, "not_finite": 1}, rows=202))
    assert found(broken)["RWD016"] == ("error", "weights_not_finite")
    assert report_of(broken, tmp_path).causes[0].id == "corrupt_weights"
    assert found(scores(replace(one, unscored={"too_long": 40}, rows=240)))["RWD016"] == ("warning", "many_missing")
    assert found(scores(replace(one, unscored={"too_long": 1}, rows=201)))["RWD016"] == ("info", "some_missing")
    # Both answers of 13 pairs are too long: reasons count answers, the share is of rows
    report = report_of(scores(replace(one, unscored={"too_long": 26}, rows=213)), tmp_path)
    assert any("13 of 213 rows of data.jsonl lack a reward" in f.message for f in report.findings)
    assert found(scores(replace(one, left_out={"no_other_side": 50})))["RWD016"] == ("ok", "ok")  # scored all the same
    assert "RWD012" not in found(scores(pairs(rng, 3, "data")))  # 2 right of 3 is no usual accuracy
    both = pairs(rng, 200, "train"), pairs(rng, 200, "held_out")
    assert found(scores(*both, shared_prompts=80, held_out_prompts=200))["RWD017"] == ("error", "many_shared")
    assert found(scores(*both, shared_prompts=6, held_out_prompts=200))["RWD017"] == ("warning", "some_shared")
    assert found(scores(*both, shared_prompts=0, held_out_prompts=200))["RWD017"] == ("ok", "ok")
    flat = scored("data", np.full(50, 0.25), np.full(50, 0.25), (np.full(50, 9), np.full(50, 8)))
    assert found(scores(flat))["RWD018"] == ("error", "all_alike") and "RWD011" not in found(scores(flat))
    each = rng.normal(0, 1, 50)  # rewards differ, but never within a pair
    same = scored("data", each, each, (np.full(50, 9), np.full(50, 9)))
    assert found(scores(same))["RWD018"] == ("error", "sides_alike")
    one = scored("data", np.array([2.8]), np.array([1.0]), (np.full(1, 9), np.full(1, 9)))
    same = scored("data", np.full(3, 1.5), np.full(3, 1.5), (np.full(3, 9), np.full(3, 9)))
    assert found(scores(one))["RWD018"][0] in ("ok", "info") and found(scores(same))["RWD018"][0] in ("ok", "info")
    far = scored("data", 1000 + rng.normal(1, 1, 200), 1000 + rng.normal(0, 1, 200), (np.full(200, 9), np.full(200, 8)))
    assert found(scores(far))["RWD018"] == ("info", "far_from_zero")


# --- before and after


def test_a_harmful_run_is_called_worse(tmp_path: Path) -> None:
    worse = outcomes(40, 32, 128, by="reward")
    report = report_of(compared((worse,)), tmp_path)
    assert report.verdict == "problems"
    assert verdict_line(report).startswith("dpo is worse than sft: by the reward model it wins only 28.0% of 200 prompts")
    assert report.causes == ()  # that it is worse says nothing of why
    assert "dpo 差于 sft" in verdict_line(say(report, "zh"))


def test_two_equal_models_are_seldom_called_different() -> None:
    """Verdicts at 95%: one comparison in forty is called worse by chance, and none of them far worse."""
    worse = 0
    for seed in range(200):
        told = found(compared((rewards(np.random.default_rng(seed), 200, 0.0),)))
        worse += told["CMP001"][0] in ("warning", "error")
        assert told["CMP001"][1] in ("no_difference", "alike", "better", "worse", "slightly_worse")
    assert worse <= 12, worse  # 5 expected; 12 and more in one of three hundred


def test_better_is_fine_and_a_small_loss_no_error() -> None:
    rng = np.random.default_rng(1)
    assert found(compared((rewards(rng, 300, 0.5),)))["CMP001"] == ("ok", "better")
    assert found(compared((outcomes(4700, 200, 5100),)))["CMP001"] == ("warning", "slightly_worse")
    assert found(compared((outcomes(3, 0, 4),)))["CMP010"] == ("info", "few_prompts")
    assert found(compared((outcomes(0, 11, 0),)))["CMP010"] == ("info", "all_tied")
    assert found(compared((outcomes(2, 5, 0),)))["CMP010"] == ("info", "too_few_prompts")


def test_a_reward_against_the_tasks(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    told = report_of(compared((outcomes(30, 100, 70), rewards(rng, 200, 0.8))), tmp_path)
    assert {f.code: f.outcome for f in told.findings}["CMP002"] == "worse_by_the_surer"
    assert told.causes[0].id == "dpo_overoptimised"
    assert found(compared((outcomes(70, 100, 30), rewards(rng, 200, 0.8))))["CMP002"] == ("ok", "ok")


def test_a_category_that_pays_for_the_whole() -> None:
    before = np.zeros(300)
    after = np.where(np.arange(300) < 220, 1.0, -1.0)
    kinds = ["chat"] * 220 + ["code"] * 80
    judged = contest(before, after, before_name="sft", after_name="dpo", by="reward", categories=kinds)
    assert found(compared((judged,)))["CMP003"] == ("warning", "worse_within")
    alarms = 0
    for seed in range(100):
        kinds = [f"kind{i % 10}" for i in range(300)]
        told = found(compared((rewards(np.random.default_rng(seed), 300, 0.15, categories=kinds),)))
        alarms += told["CMP003"][0] == "warning"
    assert alarms <= 4, alarms


def test_a_gain_that_is_length(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    lengths = rng.integers(100, 200, 800).astype(float), np.zeros(800)
    longer = np.where(rng.random(800) < 0.75, rng.uniform(1.3, 2.2, 800), rng.uniform(0.6, 0.95, 800))
    lengths = lengths[0], lengths[0] * longer
    gain = 3 * np.log(longer) + rng.normal(0, 1, 800)
    judged = contest(np.zeros(800), gain, before_name="sft", after_name="dpo", by="reward", lengths=lengths)
    report = report_of(compared((judged,)), tmp_path)
    assert {f.code: f.outcome for f in report.findings}["CMP004"] in ("gone_at_equal_length", "worse_at_equal_length")
    assert report.causes[0].id == "length_bias"
    real = contest(np.zeros(800), rng.normal(0.8, 1, 800), before_name="sft", after_name="dpo", by="reward", lengths=lengths)
    assert found(compared((real,)))["CMP004"] == ("ok", "ok")


def test_measures_that_got_worse_and_noise_that_did_not() -> None:
    rng = np.random.default_rng(9)
    n = 200
    hit = lambda share: (rng.random(n) < share).astype(float)  # noqa: E731
    harmed = (
        measure("rep_4", rng.random(n) * 0.05, rng.random(n) * 0.6), measure("loops", hit(0.02), hit(0.4)),
        measure("ended", hit(0.98), hit(0.5), "higher"), measure("same_language", hit(0.99), hit(0.6), "higher"),
        measure("empty", hit(0.0), hit(0.3)), measure("refusal", hit(0.05), hit(0.4), "none"),
        measure("template_text", hit(0.0), hit(0.2)), measure("kl_per_token", np.zeros(n), rng.random(n) + 0.2, "none"),
        measure("characters", np.full(n, 100.0), rng.normal(200, 10, n), "none"),
    )  # fmt: skip
    told = found(compared((outcomes(30, 40, 130),), harmed))
    expected = {
        "CMP005": ("error", "far_more"), "CMP006": ("error", "ends_far_less"), "CMP007": ("error", "switched"),
        "CMP008": ("error", "far_more_empty"), "CMP009": ("warning", "far_and_worse"), "CMP012": ("warning", "more_marks"),
    }  # fmt: skip
    assert {code: told[code] for code in expected} == expected
    assert found(compared((outcomes(130, 40, 30),), harmed))["CMP009"] == ("info", "far")
    near = measure("kl_k3_per_token", np.zeros(n), rng.random(n) * 0.1, "none")
    assert found(compared((outcomes(30, 40, 130),), (*harmed, near)))["CMP009"] == ("ok", "ok")  # the surer estimate
    alarms = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        still = tuple(measure(name, hit(0.1), hit(0.1)) for name in ("loops", "ended", "same_language", "empty", "refusal"))
        told = found(compared((outcomes(60, 80, 60),), still))
        alarms += sum(severity in ("warning", "error") for severity, _ in told.values())
    assert alarms <= 4, alarms


@pytest.mark.parametrize(("name", "shares", "wanted", "cause"), [
    ("ended", (0.98, 0.5), "higher", "stop_token_missing"), ("ended", (0.98, 0.85), "higher", "stop_token_missing"),
    ("empty", (0.0, 0.3), "lower", "empty_completion"), ("loops", (0.02, 0.4), "lower", "repetition"),
])  # fmt: skip
def test_what_went_wrong_names_where_to_look_in_the_pairs(
    name: str, shares: tuple[float, float], wanted: str, cause: str, tmp_path: Path
) -> None:
    rng = np.random.default_rng(3)
    before, after = ((rng.random(400) < share).astype(float) for share in shares)
    harmed = measure(name, before, after, wanted)
    assert report_of(compared((outcomes(190, 20, 190),), (harmed,)), tmp_path).causes[0].id == cause
    # answers that loop don't end: one cause, not two
    loops = measure("loops", np.zeros(400), (rng.random(400) < 0.5).astype(float))
    assert report_of(compared((outcomes(190, 20, 190),), (harmed, loops)), tmp_path).causes[0].id == "repetition"


def test_prompts_and_the_judge() -> None:
    prompts = {"matched": 50, "only_before": 30, "only_after": 0, "twice": 0, "matched_by": "prompt"}
    assert found(compared((outcomes(25, 0, 25),), prompts=prompts))["CMP010"] == ("warning", "many_unmatched")
    assert found(compared((), prompts={"matched": 0, "only_before": 4}))["CMP010"] == ("error", "none_matched")
    judge = {"dpo": {"prompts": 100, "both_orders": 90, "agreed": 30, "first_won": 55, "second_won": 5, "problems": {}}}
    assert found(compared((outcomes(20, 60, 20, by="judge"),), judge=judge))["CMP011"] == ("warning", "by_position")
    few = {"dpo": judge["dpo"] | {"prompts": 10, "both_orders": 10, "agreed": 4}}  # of a good judge's one in ten so
    assert found(compared((outcomes(20, 60, 20, by="judge"),), judge=few))["CMP011"] == ("info", "sometimes")
    spent = {"dpo": {**judge["dpo"], "both_orders": 40, "agreed": 40, "problems": {"not_asked": 60}}}
    assert found(compared((outcomes(20, 0, 20, by="judge"),), judge=spent))["CMP011"] == ("ok", "ok")
    whole = {"matched": 50, "only_before": 0, "only_after": 0, "matched_by": "prompt"}
    both = {**whole, "by_after": {"first": whole, "dpo": prompts}}
    assert found(compared((outcomes(25, 0, 25),), prompts=both))["CMP010"] == ("warning", "many_unmatched")
    judge["dpo"] |= {"agreed": 80, "problems": {"no_verdict": 25}}
    assert found(compared((outcomes(20, 60, 20, by="judge"),), judge=judge))["CMP011"] == ("warning", "often_silent")


# --- replays and abilities


def test_replays(tmp_path: Path) -> None:
    assert found(replayed(*["fixed"] * 4, "still_good"))["CMP020"] == ("ok", "fixed")
    assert found(replayed("fixed", "fixed", "broken"))["CMP020"] == ("warning", "some_broken")
    assert found(replayed("fixed", "broken", "broken"))["CMP020"] == ("warning", "more_broken")  # as chance has it
    assert found(replayed("fixed", *["broken"] * 9))["CMP020"] == ("error", "more_broken")
    told = found(replayed(*["still_bad"] * 6, loops=(6, 6), same=True))
    assert told["CMP021"] == ("warning", "answers_unchanged") and told["CMP022"] == ("warning", "as_many")
    assert found(replayed(*["still_bad"] * 6, loops=(1, 5)))["CMP022"] == ("error", "many_more")
    assert found(replayed("fixed", "fixed", loops=(2, 0)))["CMP022"] == ("ok", "ok")
    whole = replayed(*["still_bad"] * 12, loops=(12, 3))
    rows = [row for row in whole.rows if row.model == "base" or row.case < 3]  # the run was ended in between
    summary = tuple(summary_of(name, [r for r in rows if r.model == name], base="base") for name in ("base", "lora"))
    assert found(replace(whole, rows=tuple(rows), summary=summary))["CMP022"] == ("warning", "as_many")
    unasked = replace(whole, summary=(summary[0], summary_of("lora", [], base="base")))
    assert "CMP022" not in found(unasked)
    report = report_of(replayed(*["still_bad"] * 6, same=True), tmp_path)
    assert report.causes[0].id == "adapter_empty"
    shown = {sample["kind"] for sample in report_of(replayed("fixed", "broken", "still_bad"), tmp_path).samples}
    assert shown == {"fixed", "broken", "still_bad"}
    (told_of,) = [one for one in report_of(replayed("fixed", "broken"), tmp_path).findings if one.code == "CMP020"]
    assert ["broken cases", [2]] in [[one.where, one.value] for one in told_of.evidence]  # counted from 1, as printed


def test_failed_cases() -> None:
    result = replayed("fixed", "still_good")
    rows = tuple(replace(r, status="failed", good=None, change=None, problem="too_long: 900 > 512") for r in result.rows)
    summary = tuple(summary_of(name, [r for r in rows if r.model == name], base="base") for name in ("base", "lora"))
    assert found(replace(result, rows=rows, summary=summary))["CMP023"] == ("error", "all_failed")


def test_abilities(tmp_path: Path) -> None:
    assert found(abilities((90, 40, 100)))["CMP030"] == ("error", "ability_lost")
    assert found(abilities((90, 83, 100)))["CMP030"] == ("warning", "abilities_weaker")
    assert found(abilities((90, 90, 100)))["CMP030"][0] in ("ok", "info")
    told = found(abilities((20, 15, 100)))
    assert "CMP030" not in told and told["CMP031"] == ("info", "all_at_chance")
    little = {"dpo": AbilityChange("dpo", Difference(-0.05, -0.08, -0.02, 900), "lost")}
    assert found(replace(abilities((90, 40, 100)), overall=little))["CMP030"] == ("error", "some_lost_much_of_these")
    assert found(replace(abilities((90, 83, 100)), overall=little))["CMP030"] == ("warning", "some_lost")
    lost = replace(abilities((90, 40, 100)), overall={"dpo": AbilityChange("dpo", Difference(-0.5, -0.6, -0.4, 100), "lost")})
    report = report_of(lost, tmp_path)
    assert report.causes[0].id == "overtrained" and report.samples[0]["kind"] == "lost_item"
    assert "has lost much of what it could do" in verdict_line(report)


# --- the report


def every_kind() -> Iterator[Result]:
    rng = np.random.default_rng(11)
    yield scores(pairs(rng, 300, "train"), pairs(rng, 200, "held_out", accuracy=0.9, flipped=0.1))
    case = ComparisonCase(0, HOSTILE, "dpo", answers={"sft": HOSTILE, "dpo": "b"}, outcome={"reward": "loss"},
                          scores={"reward": {"sft": 1.0, "dpo": -1.0}})  # fmt: skip
    yield compared((rewards(rng, 200, -0.4, categories=["kind"] * 100 + [HOSTILE] * 100),),
                   (measure("rep_4", rng.random(200), rng.random(200)),), cases=(case,))  # fmt: skip
    yield replayed("fixed", "broken", "still_bad")
    yield abilities((90, 40, 100), (20, 20, 100))


@pytest.mark.parametrize("result", every_kind(), ids=lambda r: r.kind)
def test_every_kind_is_shown_in_all_forms(result: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DPO_DOCTOR_HOME", str(tmp_path / "home"))
    report = report_of(result, tmp_path)
    assert report.subject.kind == result.kind
    assert report_of(result, tmp_path).subject.fingerprint == report.subject.fingerprint
    again = report_store.load(report_store.save(report))  # what a share link opens
    for lang in ("en", "zh"):
        page, markdown, plain = to_html(say(again, lang)), to_markdown(say(again, lang)), to_text(say(again, lang))
        assert "<script" not in page and "default-src 'none'" in page and "class='figures'" in page
        assert "|" in markdown
        for shown in (page, markdown, plain):
            assert "\x1b" not in shown and "\u202e" not in shown
            assert not [name for name in ("{value", "{after}", "{set}") if name in shown]
        assert page == to_html(say(report, lang))
    assert len(to_text(report, figures=False)) < len(to_text(report))


def named_badly(result: Result, folder: Path) -> list[str]:
    """Evidence that a Chinese report doesn't name in Chinese."""
    made = report_of(result, folder)
    places = [evidence_place(f, e, "zh") for f in made.findings for e in f.evidence]
    assert places and all(e.where for f in made.findings for e in f.evidence)
    return [place for place in places if not re.match(r"[\u4e00-\u9fff]|(chosen|rejected) 较", place)]


def test_evidence_has_chinese_names(tmp_path: Path) -> None:
    rng = np.random.default_rng(8)
    n, margins = 200, np.random.default_rng(9).normal(1, 1, 200)
    chars = rng.integers(20, 90, n), rng.integers(20, 90, n)
    category = np.where(np.arange(n) % 2 == 0, "math", "code").tolist()
    held_out = scored("held_out", np.where(np.arange(n) % 2 == 0, -margins, margins), np.zeros(n), chars, categories=category)
    made: list[Result] = [
        scores(pairs(rng, 800, "train", accuracy=0.9), replace(held_out, unscored={"too_long": 30}, rows=230),
               shared_prompts=30, held_out_prompts=200),
        scores(pairs(rng, 800, "data", flipped=0.3, length=2.0)),
    ]
    won = np.where(np.arange(n) < 150, 1.0, -1.0)
    lengths = (np.full(n, 100), np.where(np.arange(n) % 3 == 0, 60, 140) + np.arange(n) % 7)
    judged = contest(np.zeros(n), won, before_name="sft", after_name="dpo", by="reward", lengths=lengths)
    whole = outcomes(10, 20, 170, categories=["math"] * 190 + ["code"] * 10)
    moved = [measure(name, np.zeros(n), rng.random(n) + 0.4) for name in WANTED]
    judging = {"dpo": {"prompts": 200, "both_orders": 150, "agreed": 60, "first_won": 80, "second_won": 10,
                       "problems": {"no_verdict": 30, "cut_off": 20}}}  # fmt: skip
    made.append(compared((whole, judged), tuple(moved), judge=judging))
    made.append(replayed("broken", "still_bad", "fixed", "still_good", loops=(2, 1)))
    failed = replayed("broken", "still_bad", "fixed", "still_good")
    rows = tuple(replace(r, status="failed", problem="endpoint_failed: 503") for r in failed.rows)
    summary = tuple(summary_of(name, [r for r in rows if r.model == name], base="base") for name in ("base", "lora"))
    made.append(replace(failed, rows=rows, summary=summary))
    lost = abilities((90, 30, 100), (80, 70, 100))
    named = [replace(a, name=name) for a, name in zip(lost.abilities, ("arithmetic", "reading"), strict=True)]
    made.append(replace(lost, abilities=tuple(named)))
    assert [place for result in made for place in named_badly(result, tmp_path)] == []
    text = to_text(say(report_of(made[-1], tmp_path), "zh"))
    assert "算术 (en)" in text and "arithmetic" not in text


def test_every_name_of_evidence_has_words() -> None:
    """The names that stand in the checks themselves, as far as they are written out."""
    for check in {check for checks in EVALUATION_CHECKS.values() for check in checks}:
        tree = ast.parse(Path(inspect.getfile(check.function)).read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if not (isinstance(node, ast.Tuple) and len(node.elts) == 2 and isinstance(node.elts[0], ast.Constant)):
                continue
            name = node.elts[0].value
            if isinstance(name, str) and not (isinstance(node.elts[1], ast.Constant) or name in ("chosen", "rejected")):
                assert figure_place(check.code, name, "zh") != name, f"{check.code}: {name}"


def test_points_come_from_the_rows_beside(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    one = replace(pairs(rng, 50, "data"), rows_file="rows.jsonl")
    with open(tmp_path / "rows.jsonl", "w", encoding="utf-8") as file:
        for at in range(50):
            told = {"score_chosen": at / 10, "score_rejected": None if at == 3 else -at / 10}
            file.write(json.dumps(told) + "\n")
    points = report_of(scores(one), tmp_path).curves["points"]
    assert points["rows"] == 49 and points["points"][5] == [0.6, -0.6, 6, 0] and points["series"] == ["data.jsonl"]
    outside = replace(one, rows_file="../rows.jsonl")
    (tmp_path / "in").mkdir()
    assert "points" not in report_of(scores(outside), tmp_path / "in").curves
    cut = tmp_path / "rows.jsonl"
    cut.write_bytes(cut.read_bytes()[:100] + b'\n{"score_chosen": [1], "score_rejected": "x"}\n\xff\xfe{{{')
    assert report_of(scores(one), tmp_path).verdict in ("healthy", "warnings")


def test_points_are_thinned_and_keep_what_stands_out() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(0, 1, (2, 50_000))
    x[777], y[777] = 40.0, -40.0
    found = thinned(((x[i], y[i], i, 0) for i in range(50_000)), ["x", "y"], ["one"], {5})
    rows = {point[2] for point in found["points"]}
    assert len(found["points"]) == MOST_POINTS and {5, 777} <= rows and found["rows"] == 50_000
    again = thinned(((x[i], y[i], i, 0) for i in range(50_000)), ["x", "y"], ["one"], {5})
    assert again == found


def test_a_large_result_makes_a_report_that_can_be_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DPO_DOCTOR_HOME", str(tmp_path / "home"))
    kept = tuple(
        ComparisonCase(i, "长" * 20_000, "dpo", answers={"sft": "a" * 50_000, "dpo": "b" * 50_000},
                       outcome={"task": "loss" if i % 2 else "win"}) for i in range(200)
    )  # fmt: skip
    report = report_of(compared((outcomes(50, 0, 150),), cases=kept), tmp_path)
    assert 0 < len(report.samples) <= 200 and len(report.dumps().encode()) < report_store.MAX_BYTES
    assert report_store.load(report_store.save(report)).samples


@pytest.mark.parametrize(
    "raw",
    [b"", b"{}", b"[1]", b"\xff\xfe", b'{"schema": 1, "kind": "scores"}', b"[" * 100_000,
     b'{"schema": 1, "kind": "scores", "reward_model": 3, "form": "", "sets": []}',
     b'{"schema": 1, "kind": "comparison", "models": [], "verdict": "great", "decided_by": null, "contests": []}'],
)  # fmt: skip
def test_what_is_no_result_is_said_in_a_report(raw: bytes, tmp_path: Path) -> None:
    (tmp_path / "result.json").write_bytes(raw)
    report = diagnose_evaluation(tmp_path / "result.json", lang="zh")
    assert report.verdict == "not_usable" and [f.code for f in report.findings] == ["CMP040"]
    assert report.findings[0].message == "这个文件不是评估结果。"  # what the parser said, in English, is evidence
    jsonschema.validate(json.loads(report.dumps()), SCHEMA)
    with pytest.raises(Refused):
        diagnose_evaluation(tmp_path / "absent.json")


@pytest.mark.parametrize("result", every_kind(), ids=lambda r: r.kind)
def test_results_with_holes_crash_no_check(result: Result) -> None:
    """What a result doesn't hold, or holds as null, is not measured and never a crash."""
    document = to_json(result)
    for lost in range(6):
        rng = np.random.default_rng(lost)

        def holes(value: object, rng: np.random.Generator = rng) -> object:
            if isinstance(value, dict):
                return {k: holes(v) for k, v in value.items()}
            if isinstance(value, list):
                return [] if rng.random() < 0.2 else [holes(v) for v in value]
            return None if isinstance(value, float) and rng.random() < 0.3 else value

        try:
            typed = typed_result({**holes(document), "kind": result.kind})  # type: ignore[dict-item]
        except Refused:
            continue
        found(typed)


def test_typed_again_it_is_the_same() -> None:
    for result in every_kind():
        assert to_json(typed_result(to_json(result))) == to_json(result)


def test_the_command_and_who_asks_it(tmp_path: Path) -> None:
    write_result_file(compared((outcomes(40, 32, 128),)), tmp_path / "worse.json")
    asked = ask_diagnosis(tmp_path / "worse.json", lang="zh")
    assert asked.status == 1 and asked.report["verdict"] == "problems" and "差于" in asked.shown.decode()
    write_result_file(compared((outcomes(128, 32, 40),)), tmp_path / "better.json")
    assert ask_diagnosis(tmp_path / "better.json", format="json").status == 0
    argv = [sys.executable, "-m", "diagnostics", "evaluation", str(tmp_path / "absent.json")]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=60, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 2 and done.stdout == "" and "no such file" in done.stderr


def test_thresholds_can_be_set(tmp_path: Path) -> None:
    write_result_file(compared((outcomes(4700, 200, 5100),)), tmp_path / "r.json")
    strict = diagnose_evaluation(tmp_path / "r.json", thresholds=["compare_worse_error=0.5"])
    assert strict.verdict == "problems" and not math.isnan(strict.metrics["comparison.win_rate.dpo"])
