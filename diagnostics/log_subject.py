"""What the checks of a training log look at: one run, its trends measured once."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from diagnostics.log.trend import Trend, trend_of
from diagnostics.run_checks import NotMeasured
from pipeline.logs.training_log import TrainingLog

PREFERENCE = ("dpo", "kto", "orpo")
ONLINE = ("grpo", "ppo")


@dataclass
class LogSubject:
    """One run of training.

    metrics, curves, samples: filled by the checks; they end up in the report under the same names. vocab_size: of the
    model, where the user or the log says it.
    """

    log: TrainingLog
    vocab_size: int | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    curves: dict[str, Any] = field(default_factory=dict)
    samples: list[dict[str, Any]] = field(default_factory=list)
    _trends: dict[str, Trend | None] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """`sft`, `dpo`, `kto`, `orpo`, `reward_model`, `grpo`, `ppo`, `unknown`."""
        return self.log.kind

    def trend(self, *names: str) -> Trend | None:
        """The trend of the first of these curves that is logged, None where none is or none holds a number."""
        for name in names:
            if name not in self._trends:
                curve = self.log.curves.get(name)
                self._trends[name] = trend_of(self.log, curve) if curve is not None else None
            if self._trends[name] is not None:
                return self._trends[name]
        return None

    def needed(self, *names: str, points: int = 1) -> Trend:
        """The same; raises NotMeasured where there is none or it has too few points to be judged."""
        found = self.trend(*names)
        if found is None:
            raise NotMeasured("no_curve", curve=names[0])
        if len(found) < points:
            raise NotMeasured("too_few_points", curve=found.name, n=len(found), least=points)
        return found

    @cached_property
    def evaluation(self) -> Trend | None:
        """The trend of the evaluation loss; of several evaluation sets the first."""
        named = self.trend("eval_loss")
        if named is not None:
            return named
        groups = [
            n for n in self.log.curves if n.startswith("eval_") and n.endswith("_loss") and n != "eval_train_loss"
        ]
        return self.trend(*groups) if groups else None

    @property
    def crashed(self) -> bool:
        """A message says that the run broke off."""
        return any(m.id in ("traceback", "out_of_memory", "killed") for m in self.log.messages)

    @property
    def guessing(self) -> float | None:
        """ln(vocabulary): the loss of a model that knows nothing. None where the vocabulary is not known."""
        size = self.vocab_size or self.log.setting("vocab_size")
        return math.log(size) if size and 1 < size < 2**31 else None

    def only(self, *kinds: str) -> None:
        """Raises NotMeasured unless the run is one of these kinds."""
        if self.kind not in kinds:
            raise NotMeasured("another_training", kind=self.kind)

    def except_for(self, *kinds: str) -> None:
        """Raises NotMeasured where the run is one of these kinds."""
        if self.kind in kinds:
            raise NotMeasured("another_training", kind=self.kind)
