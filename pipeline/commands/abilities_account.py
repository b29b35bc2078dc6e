"""What the command abilities says on a terminal: each model's verdict, every ability, the first lost items."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.config_files import load_config
from pipeline.evaluation.results import AbilitiesResult, Ability, AbilityChange
from pipeline.refusal import Sentence

_TEXT = 60  # characters of a text in a line


def account_text(result: AbilitiesResult, lang: str, written: Sequence[str] = ()) -> str:
    """The whole account. written: files that were made, in one line each."""
    words = load_config(f"words/{lang}/evaluation.yaml")["abilities"]

    def said(name: str, **params: Any) -> str:
        return Sentence(f"abilities/{name}", params, "evaluation").said(lang)

    before, *afters = [model.name for model in result.models]
    n = sum(ability.n for ability in result.abilities)
    head = [said("asked", n=f"{n:,}", abilities=len(result.abilities), before=before, afters=", ".join(afters))]
    if result.left_out:
        reasons = words["left_out_reasons"]
        why = ", ".join(f"{_reason(name, reasons)} {count:,}" for name, count in result.left_out.items())
        head.append(said("left_out", why=why))
    if result.interrupted:
        head.append(said("interrupted"))
    verdicts = [*(_verdict(result, after, words, said) for after in afters), *_shown(result, said)]
    blocks = [head, verdicts, _table(result, before, afters, words), _lost(result, said),
              [said("written", path=path) for path in written]]  # fmt: skip
    return "\n\n".join("\n".join(lines) for lines in blocks if lines) + "\n"


def _reason(name: str, reasons: Mapping[str, str]) -> str:
    model, colon, why = name.rpartition(": ")
    return f"{model}{colon}{reasons.get(why, why)}"


def _verdict(result: AbilitiesResult, after: str, words: Mapping[str, Any], said: Any) -> str:
    change = result.overall.get(after)
    if change is None or change.difference is None:
        return str(said("no_verdict", after=after))
    by = {which: [_named(ability, words) for ability in result.abilities
                  for one in ability.changes if one.after == after and one.verdict == which]
          for which in ("lost", "gained", "kept", "cannot_tell")}  # fmt: skip
    line = said(
        "verdict", after=after, verdict=words["verdicts"].get(change.verdict, change.verdict),
        points=_points(change.difference.mean), low=_points(change.difference.low),
        high=_points(change.difference.high), n=f"{change.difference.n:,}",
    )  # fmt: skip
    parts = [said(f"which_{which}", names=words["joint"].join(by[which])) for which in ("lost", "gained") if by[which]]
    if by["cannot_tell"]:
        parts.append(said("at_chance", n=len(by["cannot_tell"]), of=len(result.abilities)))
    return "\n  ".join([str(line), *parts])


def _shown(result: AbilitiesResult, said: Any) -> list[str]:
    """From which loss on one can be told at all."""
    own = [change.shown_loss for ability in result.abilities for change in ability.changes if change.difference]
    least = [loss for loss in own if loss is not None]
    whole = [loss for change in result.overall.values() if (loss := change.shown_loss) is not None]
    if not own or not whole:
        return []
    if not least:
        return [str(said("shown_loss_all", all=f"{100 * max(whole):.1f}"))]
    span = [f"{100 * loss:.0f}" for loss in (min(least), max(least))]
    return [str(said("shown_loss", one="–".join(dict.fromkeys(span)), all=f"{100 * max(whole):.1f}"))]


def _table(
    result: AbilitiesResult, before: str, afters: Sequence[str], words: Mapping[str, Any]
) -> list[str]:  # fmt: skip
    rows = [[*words["columns"][:3], before, *(cell for after in afters for cell in (after, *words["columns"][3:]))]]
    for ability in result.abilities:
        changes = {change.after: change for change in ability.changes}
        row = [_named(ability, words), f"{ability.n:,}", _percent(ability.chance), _score(ability, before)]
        for after in afters:
            row += [_score(ability, after), *_change(changes.get(after), words)]
        rows.append(row)
    widths = [max(_wide(row[place]) for row in rows) for place in range(len(rows[0]))]
    return ["  ".join(cell + " " * (width - _wide(cell)) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows]  # fmt: skip


def _change(change: AbilityChange | None, words: Mapping[str, Any]) -> tuple[str, str]:
    if change is None:
        return "-", "-"
    apart = change.difference
    shown = "-" if apart is None else f"{_points(apart.mean)} [{_points(apart.low)}, {_points(apart.high)}]"
    return shown, str(words["verdicts"].get(change.verdict, change.verdict))


def _lost(result: AbilitiesResult, said: Any) -> list[str]:
    lost = [item for ability in result.abilities
            if any(change.verdict == "lost" for change in ability.changes) for item in ability.lost_items]  # fmt: skip
    if not lost:
        lost = [item for ability in result.abilities for item in ability.lost_items]
    most = int(load_config("evaluation.yaml")["abilities"]["shown_items"])
    if not lost:
        return []
    lines = [said("lost_items")]
    for item in lost[:most]:
        lines.append("  " + said("lost_item", prompt=_short(item["prompt"]), expected=_short(item["expected"]),
                                 model=item["model"], answer=_short(item["answer"])))  # fmt: skip
    return lines


def _named(ability: Ability, words: Mapping[str, Any]) -> str:
    name = str(words["names"].get(ability.name, ability.name)) if ability.source == "built_in" else ability.name
    return f"{name} ({ability.lang})" if ability.lang else name


def _score(ability: Ability, model: str) -> str:
    share = ability.scores.get(model)
    return "-" if share is None else f"{_percent(share.value)} [{_percent(share.low)}, {_percent(share.high)}]"


def _percent(value: float) -> str:
    return f"{100 * value:.0f}%"


def _points(value: float) -> str:
    return f"{100 * value:+.1f}"


def _short(text: object) -> str:
    line = " ".join(str(text).split())
    return line if len(line) <= _TEXT else line[: _TEXT - 1] + "…"


def _wide(text: str) -> int:
    return sum(1 + (unicodedata.east_asian_width(char) in "WF") for char in text)
