"""The kinds of evaluation that the tab Evaluate offers, in the order they stand in."""

from __future__ import annotations

from ui.evaluate_panel import Panel


def panels() -> dict[str, Panel]:
    """By kind."""
    from ui import evaluate_abilities, evaluate_compare, evaluate_replay, evaluate_scores

    found = [evaluate_scores.PANEL, evaluate_compare.PANEL, evaluate_replay.PANEL, evaluate_abilities.PANEL]
    return {panel.kind: panel for panel in found}
