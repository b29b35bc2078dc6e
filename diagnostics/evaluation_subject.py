"""What the checks of an evaluation look at: one result file, its rows beside it, read once."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from diagnostics.run_checks import NotMeasured
from diagnostics.thresholds import Thresholds
from pipeline.evaluation.compare_answers import ORDER, deciding
from pipeline.evaluation.results import (
    AbilitiesResult,
    ComparisonResult,
    Contest,
    MeasureChange,
    ReplayResult,
    ReplaySummary,
    Result,
    ScoredSet,
    ScoresResult,
    Share,
    prompts_matched,
)

JUDGING = ("judge", "reward")  # roles of models that answer nothing themselves


@dataclass
class EvaluationSubject:
    """One result. result: None where the file holds none; problem: why. document: as it stands in the file. metrics,
    curves, samples: end up in the report under the same names."""

    path: Path
    limits: Thresholds
    result: Result | None = None
    document: Mapping[str, Any] = field(default_factory=dict)
    problem: str = ""
    metrics: dict[str, float] = field(default_factory=dict)
    curves: dict[str, Any] = field(default_factory=dict)
    samples: list[dict[str, Any]] = field(default_factory=list)

    @property
    def kind(self) -> str:
        return "evaluation" if self.result is None else self.result.kind

    @property
    def name(self) -> str:
        """What was looked at, as a person would call it."""
        if isinstance(self.result, ScoresResult):
            return self.result.reward_model.name
        if isinstance(self.result, (ComparisonResult, ReplayResult, AbilitiesResult)) and self.result.models:
            first, *rest = (model.name for model in self.result.models if model.role not in JUDGING)
            return f"{first} → {', '.join(rest)}" if rest else first
        return self.path.name

    @property
    def fingerprint(self) -> str:
        """Over the result without its times: the same figures give the same one."""
        told = {k: v for k, v in self.document.items() if k not in ("created", "seconds")}
        raw = json.dumps(told, ensure_ascii=False, sort_keys=True).encode("utf-8", errors="replace")
        return f"sha256:{hashlib.sha256(raw).hexdigest()}"

    @property
    def scores(self) -> ScoresResult:
        if not isinstance(self.result, ScoresResult):
            raise NotMeasured("no_result_of_kind", kind="scores")
        return self.result

    @property
    def comparison(self) -> ComparisonResult:
        if not isinstance(self.result, ComparisonResult):
            raise NotMeasured("no_result_of_kind", kind="comparison")
        return self.result

    @property
    def replay(self) -> ReplayResult:
        if not isinstance(self.result, ReplayResult):
            raise NotMeasured("no_result_of_kind", kind="replay")
        return self.result

    @property
    def abilities(self) -> AbilitiesResult:
        if not isinstance(self.result, AbilitiesResult):
            raise NotMeasured("no_result_of_kind", kind="abilities")
        return self.result

    # --- scores

    @property
    def pair_sets(self) -> tuple[ScoredSet, ...]:
        """Sets of pairs with at least one scored pair. Raises NotMeasured where there are none."""
        found = tuple(s for s in self.scores.sets if s.accuracy is not None and s.accuracy.share.n > 0)
        if not found:
            raise NotMeasured("no_pairs_scored")
        return found

    def set_of(self, role: str) -> ScoredSet | None:
        return next((s for s in self.pair_sets if s.role == role), None)

    @property
    def held_out(self) -> ScoredSet | None:
        """The set that was not trained on, as far as is said: `held_out`, else the data beside a training set."""
        return self.set_of("held_out") or (self.set_of("data") if self.set_of("train") else None)

    @property
    def trained(self) -> ScoredSet | None:
        """The set that was trained on: `train`, else the data beside a held-out set where the result has their gap."""
        if (train := self.set_of("train")) is not None:
            return train
        return self.set_of("data") if self.set_of("held_out") and self.scores.gap is not None else None

    @property
    def tested(self) -> ScoredSet:
        """The set whose accuracy says most about new pairs: held out, else the data, else what there is."""
        return self.held_out or self.set_of("data") or self.pair_sets[0]

    # --- comparison

    @property
    def contests(self) -> Mapping[str, tuple[Contest, ...]]:
        """By after model: its contests with at least one judged prompt, the one that decides first."""
        every = self.comparison.contests
        made: dict[str, tuple[Contest, ...]] = {}
        for after in afters(self.comparison):
            own = [c for c in every if c.after == after and c.n > 0 and c.win_rate is not None]
            first = deciding(own, after, prompts_matched(self.comparison.prompts, after))
            made[after] = tuple(sorted(own, key=lambda c: c is not first))
        return made

    @property
    def main_contests(self) -> tuple[Contest, ...]:
        """The contest that decides, of every after model that has one. Raises NotMeasured where nothing judged."""
        found = tuple(own[0] for own in self.contests.values() if own and own[0].by in ORDER)
        if not found:
            raise NotMeasured("nothing_judged")
        return found

    def measures(self, *names: str) -> Iterator[MeasureChange]:
        """Changes of the measures with these names. Raises NotMeasured where the result has none of them."""
        found = [m for m in self.comparison.measures if m.name in names and m.difference.n > 0]
        found = [m for m in found if math.isfinite(m.difference.mean)]
        if not found:
            raise NotMeasured("measure_absent", measures=list(names))
        return iter(found)

    # --- replay

    @property
    def replayed(self) -> tuple[ReplaySummary, ...]:
        """Summaries of the models after the base that answered: the run may have ended before one's turn. Raises
        NotMeasured where only the base answered."""
        base = self.replay.models[0].name if self.replay.models else ""
        found = tuple(s for s in self.replay.summary if s.model != base and s.cases)
        if not found:
            raise NotMeasured("only_base_replayed")
        return found


def afters(result: ComparisonResult | AbilitiesResult) -> list[str]:
    """Names of the models beside the first one."""
    return [model.name for model in result.models[1:] if model.role not in JUDGING]


def numbers_of(share: Share) -> dict[str, Any]:
    """A share as the params of a sentence."""
    return {"value": share.value, "low": share.low, "high": share.high, "n": share.n}


def count_of(told: Mapping[str, Any], name: str) -> int:
    """A count of a mapping that holds anything; 0 where it isn't one. Lists and mappings count their entries."""
    value = told.get(name, 0)
    if isinstance(value, Mapping):
        return sum(v for v in value.values() if isinstance(v, int) and not isinstance(v, bool))
    if isinstance(value, (list, tuple)):
        return len(value)
    return int(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else 0
