"""How right the diagnosis of reward models is: rewards drawn with something wrong in them, and sound ones.

    python benchmarks/planted_rewards.py [--seeds N] [--only NAME] [--jobs N]

People prefer the better of two answers with log odds in proportion to what is better about it (R. Bradley and M. Terry
1952, Biometrika 39:324); a model reads quality with an error, and its margins are as sure as it is right. Into that one
thing is planted, and `python -m diagnostics evaluation` judges the result. right: of sound sets those without a warning
or an error, of faulty ones those with a finding that names what was planted; false alarms: sets with a warning or an
error about anything else. What no set of that size could show has rows of its own: there it is right to say nothing.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ.setdefault("OMP_NUM_THREADS", "1")  # as many sets at once as there are cores

from benchmarks.drawn_rewards import Array, World, draw, result, scored  # noqa: E402
from benchmarks.planted_table import Case, run  # noqa: E402
from pipeline.evaluation.results import ScoresResult, write_result_file  # noqa: E402

Make = Callable[[np.random.Generator], ScoresResult]
# People and models: right in 64, 70, 80 and 91 of 100 pairs. The last is what benchmarks of easy pairs are
HARD, USUAL, GOOD, EASY = World(0.9, 1.0), World(1.3, 0.7), World(2.5, 0.5), World(8, 0.25)
LEVELS = {"hard": HARD, "usual": USUAL, "good": GOOD, "easy": EASY}


def cases() -> Iterator[Case]:
    for level, world in LEVELS.items():
        for n in (20, 50, 100, 300, 1000, 3000):
            yield Case("alone", f"{level}-{n}", _one(world, n))
        yield Case("beside its training set", f"{level}-large", _two(world, 2000, 400))
        yield Case("beside its training set", f"{level}-small", _two(world, 300, 50))
        for name, n, changed in (
            ("better ones longer", 1000, {"longer": 0.6}), ("better ones longer", 3000, {"longer": 1.0}),
            ("labels like length", 2000, {"longer": 0.4, "likes": 0.3}),
            ("several pairs a prompt", 300, {"per_prompt": 6}), ("several pairs a prompt", 1800, {"per_prompt": 6}),
            ("errors with heavy tails", 300, {"tails": True}),
            ("errors with heavy tails", 1000, {"tails": True}), ("errors with heavy tails", 3000, {"tails": True}),
            ("margins a third too large", 1000, {"scale": 1.33}), ("grades instead of log odds", 500, {"scale": 0.4}),
            ("some ties", 600, {"grid": 0.5}), ("4 kinds", 800, {"kinds": 4}), ("12 kinds", 600, {"kinds": 12}),
        ):  # fmt: skip
            yield Case(name, f"{level}-{n}", _one(replace(world, **changed), n))
    # By how far accuracy depends on length it is a lean or decides: how far that is isn't what was planted
    length = frozenset({"RWD013/pays_for_length", "RWD013/leans_to_length"})
    turned = frozenset({"RWD015/more_than_allowed"})
    sure = frozenset({"RWD014/far_too_sure"})
    for n in (300, 1000, 3000):
        for level in ("usual", "good"):
            for pays in (1.5, 3.0):
                yield Case("pays for length", f"{level}-{pays}-{n}", _one(replace(LEVELS[level], pays=pays), n), length)
        yield Case("pays for shortness", f"good-{n}", _one(replace(GOOD, pays=-1.5), n),
                   frozenset({"RWD013/leans_to_shortness"}))  # fmt: skip
        # The margins promise what they held before labels were exchanged, so too sure is true of them as well
        for share in (0.1, 0.2):
            yield Case("labels exchanged, easy pairs", f"{share}-{n}", _one(replace(EASY, turned=share), n), turned,
                       sure)  # fmt: skip
    # A model right in 80 of 100: the likelihood of its margins shows the exchanged labels in most such sets. That it is
    # too sure beside them is the other half of the same thing
    for share, n in ((0.1, 3000), (0.2, 1000), (0.2, 3000)):
        yield Case("labels exchanged, usual pairs", f"{share}-{n}", _one(replace(GOOD, turned=share), n), turned | sure)
    for n in (100, 400, 2000):
        yield Case("sides exchanged", f"usual-{n}", _one(replace(USUAL, turned=1.0), n),
                   frozenset({"RWD011/prefers_rejected"}), sure)  # fmt: skip
        yield Case("one number for all", f"{n}", _changed(n, lambda r, random: np.full_like(r, 0.125)),
                   frozenset({"RWD018/all_alike"}))  # fmt: skip
        yield Case("mostly ties", f"usual-{n}", _one(replace(USUAL, grid=3.0), n), frozenset({"RWD018/mostly_ties"}),
                   frozenset({"RWD011/at_chance", "RWD011/hardly_above_chance"}))  # fmt: skip
        yield Case("margins eight times too large", f"usual-{n}", _one(replace(USUAL, scale=8.0), n), sure)
    for n in (300, 1000, 3000):
        # Chance is said at two degrees, by how much of an interval of this width lies above it
        yield Case("head not trained", f"{n}", _changed(n, lambda r, random: random.normal(0, 0.3, r.shape)),
                   frozenset({"RWD011/at_chance", "RWD011/hardly_above_chance"}))  # fmt: skip
        yield Case("bounded rewards", f"{n}", _changed(n, lambda r, random: 30 * np.tanh(2 * r)), sure)
    for share, outcome in ((0.02, "some_not_numbers"), (0.3, "not_numbers")):
        yield Case("no numbers", f"{share}", _changed(500, _holes(share)), frozenset({f"RWD016/{outcome}"}))
    for level in ("hard", "usual"):
        for trained, held_out in ((100, 200), (1000, 400), (3000, 100)):
            # Known by heart is an error or a warning by the width of the interval. Margins that grew too large with it
            # are part of it
            yield Case("known by heart", f"{level}-{trained}-{held_out}", _by_heart(LEVELS[level], trained, held_out),
                       frozenset({"RWD010/overfitted", "RWD010/overfits"}), sure)  # fmt: skip
    for share, outcome in ((0.05, "some_shared"), (0.4, "many_shared")):
        yield Case("prompts in both sets", f"{share}", _two(USUAL, 1000, 300, shared=share),
                   frozenset({f"RWD017/{outcome}"}))  # fmt: skip
    for n in (200, 800, 3000):
        # 50 pairs of a kind may show no more than that it is ordered no better than by a coin
        yield Case("one of 4 kinds exchanged", f"good-{n}", _one(replace(GOOD, kinds=4, turned_kind=True), n),
                   frozenset({"RWD019/turned", "RWD019/fails"}), sure)  # fmt: skip
    # 20 pairs, right in 30 of 100: the interval of their accuracy ends below one half in some sets and not in others.
    # Their margins promise 70
    for level in ("usual", "hard"):
        yield Case("sides exchanged, 20 pairs", level, _one(replace(LEVELS[level], turned=1.0), 20),
                   frozenset({"RWD011/prefers_rejected", "RWD011/at_chance", "RWD011/hardly_above_chance"}), sure,
                   small=True)  # fmt: skip
    # 30 of 300 labels beside some 60 in which the model errs by itself: the likelihood holds no exchange in most sets
    yield Case("a tenth of 300 labels", "good", _one(replace(GOOD, turned=0.1), 300), turned, sure, small=True)


def _one(world: World, n: int) -> Make:
    return lambda random: result(scored(draw(world, n, random)))


def _two(world: World, trained: int, held_out: int, *, shared: float = 0.0) -> Make:
    return lambda random: result(
        scored(draw(world, trained, random), "train"), scored(draw(world, held_out, random), "held_out"),
        shared=round(shared * held_out),
    )  # fmt: skip


def _changed(n: int, change: Callable[[Array, np.random.Generator], Array]) -> Make:
    """Rewards (n, 2) of a usual model, changed."""

    def make(random: np.random.Generator) -> ScoresResult:
        pairs = draw(USUAL, n, random)
        rewards = change(np.stack([pairs.chosen, pairs.rejected], 1), random)
        return result(scored(replace(pairs, chosen=rewards[:, 0], rejected=rewards[:, 1])))

    return make


def _holes(share: float) -> Callable[[Array, np.random.Generator], Array]:
    return lambda rewards, random: np.where(random.random((len(rewards), 1)) < share, np.nan, rewards)


def _by_heart(world: World, trained: int, held_out: int) -> Make:
    """Labels that were trained on decide their own margin; margins of new pairs are two and a half times too large."""

    def make(random: np.random.Generator) -> ScoresResult:
        known = draw(world, trained, random)
        known = replace(known, chosen=known.rejected + np.abs(random.normal(6, 2, trained)))
        return result(scored(known, "train"), scored(draw(replace(world, scale=2.5), held_out, random), "held_out"))

    return make


CASES = tuple(cases())


def judge(number: int, seed: int) -> frozenset[str]:
    """CODE/outcome of each warning and error about one set of a case."""
    from diagnostics.diagnose_evaluation import diagnose_evaluation

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scores.json"
        write_result_file(CASES[number].made(seed), path)
        found = diagnose_evaluation(path).findings
    return frozenset(f"{one.code}/{one.outcome}" for one in found if one.severity in ("warning", "error"))


if __name__ == "__main__":
    sys.exit(run(CASES, judge, __doc__ or "", seeds=8))
