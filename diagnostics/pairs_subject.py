"""What the checks of preference and supervised data look at: one file of rows, measured once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from diagnostics.pair_model import PairModel
from diagnostics.report import Evidence, Observation, Severity
from diagnostics.run_checks import NotMeasured
from diagnostics.thresholds import Thresholds
from pipeline.pair_measures.pair_table import EXAMPLES, PairTable

LINES_LISTED = 1000  # of a finding's rows in the report; all of them are in `PairsSubject.rows`
_EXCERPT = 160


@dataclass
class PairsSubject:
    """One set of rows.

    kind: `pairs`, `one_sided` (wanted and unwanted answers apart, as KTO has them), `supervised`. problem: why nothing
    (more) could be read, an id as in `pipeline.record_files.Unreadable`. left_out: rows that gave no pair, by reason,
    and the first (line, reason, detail). model: tokenizer and model beside it.
    pending: positions of the rows of the findings yielded last, by outcome; whoever runs the checks files them.
    metrics, curves, samples: end up in the report under the same names.
    """

    table: PairTable
    limits: Thresholds
    kind: str = "pairs"
    name: str = ""
    problem: str | None = None
    detail: str = ""
    format: str = ""
    formats: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    left_out_lines: dict[str, list[int]] = field(default_factory=dict)
    first_left_out: tuple[int, str, str] = 0, "", ""
    model: PairModel = field(default_factory=lambda: PairModel(tuple))
    pending: dict[str, np.ndarray] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    curves: dict[str, Any] = field(default_factory=dict)
    samples: list[dict[str, Any]] = field(default_factory=list)

    @property
    def answers(self) -> tuple[str, ...]:
        """The sides that are there."""
        return ("chosen",) if self.kind == "supervised" else ("chosen", "rejected")

    @property
    def paired(self) -> np.ndarray:
        """(n,) rows with both sides. Raises NotMeasured where there are none."""
        found: np.ndarray = self.table.paired
        if not found.any():
            raise NotMeasured("no_pairs")
        return found

    def found(self, rows: np.ndarray, of: np.ndarray | None = None) -> FoundRows:
        """What a check found. rows: (n,) boolean. of: (n,) the rows it could have found, all by default."""
        return FoundRows(self, rows, self.table.rows if of is None else int(of.sum()))

    def need_rows(self, n: int) -> None:
        """Raises NotMeasured where n rows are too few for shares, topics and features."""
        least = max(1, int(self.limits["data_least_rows"]))
        if n < least:
            raise NotMeasured("too_few_rows", n=n, least=least)

    def side_values(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """A feature of both answers."""
        both = self.table.features[name]
        return both["chosen"], both["rejected"]


@dataclass
class FoundRows:
    """Rows a check found, counted and graded.

    A single odd row among many is information; `data_rows_warn` of them, and at least `data_rows_least`, a warning;
    `data_rows_error` an error.
    """

    subject: PairsSubject
    rows: np.ndarray
    of: int

    @property
    def count(self) -> int:
        return int(self.rows.sum())

    @property
    def share(self) -> float:
        return self.count / self.of if self.of else 0.0

    def severity(self, *, warn: str = "data_rows_warn", error: str = "data_rows_error") -> Severity:
        """By the share of rows and these thresholds."""
        limits = self.subject.limits
        if not self.count:
            return "ok"
        if self.count < limits["data_rows_least"] and self.share < 0.5:
            return "info"
        return "error" if self.share >= limits[error] else "warning" if self.share >= limits[warn] else "info"

    def observed(
        self,
        outcome: str,
        *,
        side: str = "",
        flags: Sequence[str] = (),
        evidence: Sequence[tuple[str, Any]] = (),
        severity: Severity | None = None,
        warn: str = "data_rows_warn",
        error: str = "data_rows_error",
        **params: Any,
    ) -> Observation:
        """The finding. side: the text of the examples shown. flags: of the table, whose examples show what was found.

        severity: by the share of rows where it isn't given.
        """
        table = self.subject.table
        where = np.flatnonzero(self.rows)
        self.subject.pending[outcome] = where
        shown = [Evidence(name, value) for name, value in evidence]
        if len(where):
            shown.append(Evidence("lines", table.line[where[:LINES_LISTED]].tolist()))
        examples = [(at, what) for flag in flags for at, what in table.examples.get(flag, ()) if self.rows[at] and what]
        if side and not examples:
            examples = [(one.position, getattr(one, side)) for one in table.sample if self.rows[one.position]]
        for position, what in examples[:EXAMPLES]:
            name = f"line {int(table.line[position])}" + (f": {side}" if side else "")
            shown.append(Evidence(name, what if len(what) <= _EXCERPT else what[:_EXCERPT] + "…"))
        numbers = {"rows": self.count, "of": self.of, "percent": percent(self.share), **params}
        if severity is None:
            severity = self.severity(warn=warn, error=error)
        return Observation(severity, outcome, numbers, tuple(shown))


def percent(share: float) -> float:
    """A share in percent as it is written in a sentence: to a tenth, small ones to their first digit, never 0 for some
    nor 100 for not all."""
    value = 100 * share
    if 0 < value < 1:
        return float(f"{value:.1g}")
    if 99.9 < value < 100:
        return 99.9
    rounded = round(value, 1)
    return int(rounded) if rounded == int(rounded) else rounded


def paired_auc(chosen: np.ndarray, rejected: np.ndarray) -> tuple[float, float]:
    """(area under the ROC curve of "the larger one is chosen" over pairs, its standard error). 0.5 is chance."""
    wins = (chosen > rejected) + 0.5 * (chosen == rejected)
    n = len(wins)
    return (float(wins.mean()), float(wins.std() / np.sqrt(n))) if n else (0.5, 0.5)


def unpaired_auc(chosen: np.ndarray, rejected: np.ndarray) -> tuple[float, float]:
    """The same over all combinations of one chosen and one rejected (Mann-Whitney), for answers that stand apart."""
    if not len(chosen) or not len(rejected):
        return 0.5, 0.5
    ordered = np.sort(rejected)
    wins = (np.searchsorted(ordered, chosen, "left") + np.searchsorted(ordered, chosen, "right")) / (2 * len(ordered))
    smaller = min(len(chosen), len(rejected))
    return float(wins.mean()), float(np.sqrt(0.25 / smaller))


def sure_share(share: float, n: int) -> float:
    """Lower end of the 95% Wilson interval of a share seen in n rows: what holds even with bad luck."""
    if not n:
        return 0.0
    z2 = 1.96**2
    middle = share + z2 / (2 * n)
    spread = 1.96 * float(np.sqrt(share * (1 - share) / n + z2 / (4 * n * n)))
    return (middle - spread) / (1 + z2 / n)
