"""Rewards drawn from a model of preferences, with something wrong or nothing: the sets of planted_rewards.py."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.results import ModelNamed, ScoredSet, ScoresResult
from pipeline.evaluation.reward_statistics import accuracy_gap, statistics_of

Array = NDArray[np.float64]


@dataclass(frozen=True)
class World:
    """What rewards are drawn from, in standard deviations of quality and doublings of length.

    sharpness: of people, log odds a unit of quality. error: of the model's reading. longer: doublings that a unit of
    quality brings. likes: what people like a doubling, in log odds. pays: what the model pays for one. per_prompt:
    pairs of a prompt, which has four answers. tails: the error by Student's t with three degrees of freedom. scale: of
    the margins beside those that are as sure as they are right. grid: rewards are multiples of it. kinds: of prompts.
    turned: share of labels that are exchanged; turned_kind: all of the first kind, and no others.
    """

    sharpness: float
    error: float
    longer: float = 0.3
    likes: float = 0.0
    pays: float = 0.0
    per_prompt: int = 1
    tails: bool = False
    scale: float = 1.0
    grid: float = 0.0
    kinds: int = 0
    turned: float = 0.0
    turned_kind: bool = False


@dataclass
class Pairs:
    """chosen, rejected: rewards; chars: of both; prompts, kinds: of each pair."""

    chosen: Array
    rejected: Array
    chars: tuple[Array, Array]
    prompts: NDArray[np.int64]
    kinds: list[str]


_ANSWERS = np.array([(0, 1), (2, 3), (0, 2), (1, 3), (0, 3), (1, 2)])  # of a prompt, side by side


def answers(world: World, n: int, random: np.random.Generator) -> tuple[Array, Array, Array, NDArray[np.int64]]:
    """Quality, the model's reading of it, and log2 length, all (n, 2); prompts (n)."""
    asked = math.ceil(n / world.per_prompt)
    prompts = np.repeat(np.arange(asked), world.per_prompt)[:n]
    quality, length = random.normal(0, 1, (asked, 4)), random.normal(0, 0.6, (asked, 4))
    length += 8 + world.longer * quality + random.normal(0, 0.8, (asked, 1))
    error = random.standard_t(3, (asked, 4)) / math.sqrt(3) if world.tails else random.normal(0, 1, (asked, 4))
    read = quality + world.error * error + world.pays * (length - 8)
    sides = _ANSWERS[np.arange(n) % world.per_prompt]
    quality, read, length = (np.take_along_axis(of[prompts], sides, 1) for of in (quality, read, length))
    return quality, read, length, prompts


def preferred(world: World, quality: Array, length: Array, random: np.random.Generator) -> NDArray[np.bool_]:
    odds = world.sharpness * (quality[:, 0] - quality[:, 1]) + world.likes * (length[:, 0] - length[:, 1])
    return np.asarray(random.random(len(odds)) < 1 / (1 + np.exp(-odds)))


@cache
def calibration(world: World) -> float:
    """What readings are multiplied by so that sigmoid(margin) is the probability of the label: the maximum of the
    likelihood of 20,000 pairs, where its derivative is 0."""
    from scipy.optimize import brentq

    random = np.random.default_rng(0)
    quality, read, length, _ = answers(world, 20_000, random)
    signed = (read[:, 0] - read[:, 1]) * np.where(preferred(world, quality, length, random), 1, -1)
    return float(brentq(lambda times: np.mean(signed / (1 + np.exp(np.clip(times * signed, -500, 500)))), 1e-3, 100))


def draw(world: World, n: int, random: np.random.Generator) -> Pairs:
    quality, read, length, prompts = answers(world, n, random)
    sound = replace(world, scale=1.0, grid=0.0, kinds=0, turned=0.0, turned_kind=False)
    rewards = read * calibration(sound) * world.scale + random.normal(0, 1, prompts[-1] + 1)[prompts][:, None]
    if world.grid:
        rewards = np.round(rewards / world.grid) * world.grid
    kinds = random.integers(0, world.kinds, n) if world.kinds else np.zeros(n)
    first = preferred(world, quality, length, random) ^ (random.random(n) < world.turned)
    if world.turned_kind:
        first ^= kinds == 0
    at, chosen, chars = np.arange(n), np.where(first, 0, 1), np.maximum(2**length, 1).astype(int)
    named = [f"kind {kind:.0f}" for kind in kinds] if world.kinds else []
    return Pairs(rewards[at, chosen], rewards[at, 1 - chosen], (chars[at, chosen], chars[at, 1 - chosen]), prompts,
                 named)  # fmt: skip


def scored(pairs: Pairs, role: str = "data") -> ScoredSet:
    found = statistics_of(pairs.chosen, pairs.rejected, *pairs.chars, categories=pairs.kinds or None,
                          prompts=pairs.prompts)  # fmt: skip
    n = len(pairs.chosen)
    return ScoredSet(
        name=f"{role}.jsonl", role=role, path=f"{role}.jsonl", holds="pairs", rows=n, scored=n - found.not_finite,
        unscored={"not_finite": found.not_finite} if found.not_finite else {},
        category_column="kind" if pairs.kinds else "", **found.figures,
    )  # fmt: skip


def result(*sets: ScoredSet, shared: int = 0) -> ScoresResult:
    """One set, or that of training and the held-out one."""
    gap = None
    if len(sets) == 2 and sets[0].accuracy is not None and sets[1].accuracy is not None:
        gap = accuracy_gap(sets[0].accuracy, sets[1].accuracy)
    both = (shared, sets[1].rows) if len(sets) == 2 else (None, None)
    return ScoresResult(ModelNamed("reward", "reward", "reward"), "chat_template", sets, gap, *both)
