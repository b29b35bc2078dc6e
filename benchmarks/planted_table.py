"""Sets with something planted in them, judged side by side, and the table of how often rightly."""

from __future__ import annotations

import argparse
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from typing import Any
from zlib import crc32

import numpy as np

GROUPS = ("sound", "too small to show", "faulty")


@dataclass(frozen=True)
class Case:
    """kind: row of the table. expected: CODE/outcome of findings that name what is planted, any of them; empty for a
    sound set. follows: findings that are true of the set because of it. small: the effect is below what a set of that
    size can show, so nothing has to be said."""

    kind: str
    name: str
    make: Callable[[np.random.Generator], Any]
    expected: frozenset[str] = frozenset()
    follows: frozenset[str] = frozenset()
    small: bool = False

    @property
    def group(self) -> str:
        return "too small to show" if self.small else "faulty" if self.expected else "sound"

    @property
    def full_name(self) -> str:
        return f"{self.kind}/{self.name}"

    def made(self, seed: int) -> Any:
        return self.make(np.random.default_rng([seed, crc32(self.full_name.encode())]))


@dataclass
class Row:
    """said: what false alarms were about."""

    sets: int = 0
    right: int = 0
    missed: int = 0
    false: int = 0
    said: Counter[str] = field(default_factory=Counter)

    def count(self, case: Case, found: frozenset[str]) -> None:
        wrong = found - case.expected - case.follows
        named = bool(found & case.expected)
        self.sets += 1
        self.right += named or (not case.expected and not wrong) or (case.small and not wrong)
        self.missed += bool(case.expected) and not named and not case.small
        self.false += bool(wrong)
        self.said.update(wrong)

    def line(self, name: str) -> str:
        said = ", ".join(f"{what} {count}" for what, count in self.said.most_common())
        return f"{name:34} {self.sets:5} {self.right:6} {self.missed:7} {self.false:13}  {said}".rstrip()


def run(cases: Sequence[Case], judge: Callable[[int, int], frozenset[str]], about: str, seeds: int) -> int:
    """The command of a benchmark. judge: takes the place of a case and a seed, gives what was found: of a module, as
    it runs in other processes. seeds: default. Exit status 2 for a name that no case has."""
    parser = argparse.ArgumentParser(description=about.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=seeds, help="sets of each case")
    parser.add_argument("--only", metavar="NAME", default="", help="cases whose kind/name contains this")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="sets at once")
    options = parser.parse_args()
    wanted = [(at, seed) for at, case in enumerate(cases) if options.only in case.full_name
              for seed in range(options.seeds)]  # fmt: skip
    if not wanted:
        parser.error(f"no case has {options.only!r} in its name")
    rows: dict[tuple[str, str], Row] = defaultdict(Row)
    sums: dict[str, Row] = defaultdict(Row)
    with ProcessPoolExecutor(max(1, options.jobs), mp_context=get_context("spawn")) as pool:
        for (at, _), found in zip(wanted, pool.map(judge, *zip(*wanted, strict=True), chunksize=4), strict=True):
            case = cases[at]
            rows[case.group, case.kind].count(case, found)
            sums[case.group].count(case, found)
    print(f"{'':34} {'sets':>5} {'right':>6} {'missed':>7} {'false alarms':>13}")
    for group in (one for one in GROUPS if one in sums):
        print(f"\n{group}")
        for (of, kind), row in rows.items():
            if of == group:
                print(row.line(f"  {kind}"))
        print(sums[group].line(f"  all {group}"))
    return 0
