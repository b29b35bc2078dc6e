"""What a run does one after the other: each maker passes over the rows apart, so that one model is in memory at a time.

Side passes make candidates and keep them in a journal each; the main pass makes those of the run's own model, joins the
others to them row by row and measures all; scorers that need a model of their own come after it. Where there is no such
model, the main pass makes what needs none loaded, so that its rows are whole as they are done.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from pipeline.candidates.candidate import CandidateStrategy
from pipeline.candidates.strategies import SEARCHES
from pipeline.refusal import Refused

Source = Literal["alteration", "endpoint", "correction", "model"]


@dataclass(frozen=True)
class Group:
    """Strategies that one maker serves. name: of its journal. model, adapter: of another checkpoint than the run's."""

    name: str
    source: Source
    strategies: tuple[CandidateStrategy, ...]
    model: str | None = None
    adapter: str | None = None


@dataclass(frozen=True)
class Plan:
    """side: passes before the main one. main: the run's own model, perhaps without strategies of its own as it measures
    those of others; without one the alterations, or a server; None where neither is asked for. scorers: names of passes
    after it."""

    strategies: tuple[CandidateStrategy, ...]
    side: tuple[Group, ...]
    main: Group | None
    scorers: tuple[str, ...] = ()

    @property
    def passes(self) -> int:
        return len(self.side) + 1 + len(self.scorers)


def make_plan(
    strategies: Sequence[CandidateStrategy], own: Literal["model", "endpoint", ""], scorers: Sequence[str] = ()
) -> Plan:
    """own: what --model is, "" for none. Raises Refused for a strategy that needs a model where there is none, and for
    a search at an endpoint, which only samples."""
    groups: dict[tuple[Source, str | None, str | None], list[CandidateStrategy]] = {}
    for strategy in strategies:
        source = source_of(strategy, own)
        apart = (strategy.model, strategy.adapter) if source == "model" else (None, None)
        groups.setdefault((source, *apart), []).append(strategy)
    side = list[Group]()
    main = Group("main", "model", ()) if own == "model" else None
    # Corrections of the run's own answers come last: the model stays in memory for the main pass.
    for (source, model, adapter), members in sorted(groups.items(), key=lambda group: group[0][0] == "correction"):
        if source == "model" and model is None and adapter is None:
            main = Group("main", "model", tuple(members))
        else:
            side.append(Group(f"{source}-{len(side)}", source, tuple(members), model, adapter))
    if main is None:
        # A server comes before the alterations, so that nothing is left behind where none answers.
        last = [group for source in ("alteration", "endpoint") for group in side if group.source == source][:1]
        side = [group for group in side if group not in last]
        main = replace(last[0], name="main") if last else None
    return Plan(tuple(strategies), tuple(side), main, tuple(scorers))


def source_of(strategy: CandidateStrategy, own: str) -> Source:
    """Who makes the candidates of a strategy. Raises Refused where nobody can."""
    if strategy.kind == "alteration":
        return "alteration"
    served = is_address(strategy.model) or (strategy.model is None and own == "endpoint")
    if strategy.kind == "endpoint":
        if not served:
            raise Refused("strategy_endpoint_where", given=strategy.name)
        return "endpoint"
    if strategy.kind == "correction":
        if own == "":
            raise Refused("strategy_without_model", given=strategy.name)
        return "correction"
    if served:
        if strategy.kind in SEARCHES:
            raise Refused("strategy_endpoint_search", given=strategy.name)
        return "endpoint"
    if strategy.model is None and own == "":
        raise Refused("strategy_without_model", given=strategy.name)
    return "model"


def is_address(model: str | None) -> bool:
    """Whether a model is named by where it is served."""
    return model is not None and model.lower().startswith(("http://", "https://"))
