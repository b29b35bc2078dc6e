"""What `generate` says of a run: a line while it goes, an account at its end, a preview of what would be chosen."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from pipeline.candidates.candidate import Candidate
from pipeline.candidates.policy import Policy, describe
from pipeline.candidates.problem_words import problem_said, with_problem_said
from pipeline.candidates.run import Run, RunResult, account
from pipeline.candidates.source_rows import SourceRows
from pipeline.candidates.write_candidates import MeasuredRow, Written, candidates_path
from pipeline.config_files import load_config
from pipeline.pairs.column_kinds import json_text
from pipeline.pairs.pair import text_of
from pipeline.refusal import Sentence

EXAMPLES = 5
_SHOWN = 240  # characters of a text in an example
_REASONS = 12  # reasons named


def progress_line(state: Mapping[str, Any], lang: str) -> str:
    """One short line of a progress file's content."""
    total, left = state["rows"]["total"], state["seconds_left"]
    return _say(
        "run_progress", lang, number=state["pass"]["number"], passes=max(state["pass"]["number"], state["pass"]["of"]),
        rows=f"{state['rows']['done']:,}", total="?" if total is None else f"{total:,}",
        candidates=f"{state['candidates']:,}", rate=f"{state['tokens_per_second']:,.0f}",
        left="?" if left is None else _time(left),
    )  # fmt: skip


def run_json(run: Run, result: RunResult) -> dict[str, Any]:
    """One document that says everything."""
    told = account(result.written) if result.written is not None else result.info.get("account", {})
    return {
        "schema": 1, "outcome": result.outcome, "already": result.already, "output": str(run.place.output),
        "candidates_file": str(run.place.candidates), "rows": {"done": result.rows, "total": result.total},
        "source": _source_json(run.rows), **told, **_spent(run, result),
    }  # fmt: skip


def _spent(run: Run, result: RunResult) -> dict[str, Any]:
    """Tokens that models wrote and what they cost, of all sessions of the run."""
    last = (result.info.get("sessions") or [{}])[-1] if result.already else run.progress.as_json()
    return {"tokens": last.get("tokens", 0), "cost": round(last.get("cost", 0.0), 6)}


def _source_json(rows: SourceRows) -> dict[str, Any]:
    return {"name": rows.name, "formats": dict(rows.formats), "left_out": dict(rows.left_out.most_common())}


def run_text(run: Run, result: RunResult, lang: str) -> str:
    """The same for people."""
    if result.already:
        return _say("run_already", lang, path=run.place.output) + "\n"
    assert result.written is not None
    lines = [
        _say("run_left_out", lang, rows=f"{count:,}", why=_reason_of_row(reason, lang))
        for reason, count in run.rows.left_out.most_common()
    ]
    lines += _written_lines(result.written, run.place.output, lang)
    if (spent := _spent(run, result))["cost"]:
        lines.append(_say("run_cost", lang, tokens=f"{spent['tokens']:,}", cost=f"{spent['cost']:g}"))
    return "\n".join(lines) + "\n"


def choose_text(result: RunResult, output: Path, options: argparse.Namespace) -> str:
    """The account of a choice made anew."""
    assert result.written is not None
    if options.format == "json":
        told = {"schema": 1, "outcome": "done", "output": str(output), **account(result.written)}
        return json_text(told, indent=2) + "\n"
    return "\n".join(_written_lines(result.written, output, options.lang)) + "\n"


def _written_lines(written: Written, output: Path, lang: str) -> list[str]:
    report = written.report
    lines = [
        _say("run_written", lang, path=output, pairs=f"{report.rows:,}", rows=f"{written.rows:,}",
             format=written.format),
        _say("run_candidates", lang, path=candidates_path(output).name, candidates=f"{written.candidates:,}"),
    ]  # fmt: skip
    lines += [
        _say("run_strategy", lang, name=name, pairs=f"{count:,}") for name, count in written.strategies.most_common()
    ]
    lines += [
        _say("run_problem", lang, candidates=f"{count:,}",
             problem=problem_said(name, lang, written.details.get(name, "")))
        for name, count in written.problems.most_common()
    ]  # fmt: skip
    if written.without_pair:
        lines.append(_say("run_without_pair", lang, rows=f"{written.without_pair:,}"))
    if written.without_gold:
        lines.append(_say("run_without_gold", lang, rows=f"{written.without_gold:,}"))
    lines += _reasons(written, lang)
    for reason, count in report.left_out.most_common():
        why = Sentence(f"holds_{reason}", {}, "formats").said(lang)
        lines.append(_say("run_cannot_hold", lang, pairs=f"{count:,}", format=written.format, why=why))
    return lines


def _reasons(written: Written, lang: str) -> list[str]:
    """Why candidates were left, the commonest first; what was taken has its own line."""
    lines = []
    for entry, count in written.reasons.most_common(_REASONS):
        if not entry.startswith(("why_taken", "why_best")):
            why = _said_or_id(entry.replace("why_", "short_", 1), entry, lang)
            lines.append(_say("run_reason", lang, candidates=f"{count:,}", why=why))
    return lines


# --- the preview ---


def preview_text(run: Run, result: RunResult, policy: Policy | None, options: argparse.Namespace) -> str:
    """What a policy makes of the first rows, in words, numbers and examples, or as one JSON document."""
    written, examples = Written(format=run.format), list[tuple[MeasuredRow, Any]]()
    for held in run.done_rows():
        pairs = run.choose(held)
        written.add(held, pairs)
        written.report.rows += len(pairs)
        if pairs and len(examples) < EXAMPLES:
            examples.append((held, pairs[0]))
    if options.format == "json":
        told = {
            "schema": 1, "outcome": "preview", "output": str(run.place.output),
            "rows": {"done": result.rows, "total": result.total},
            "policy": None if policy is None else {**policy.as_json(), "in_words": describe(policy, options.lang)},
            **{name: value for name, value in account(written).items() if name != "columns"},
            "examples": [_example_json(held, pair) for held, pair in examples],
        }  # fmt: skip
        return json_text(told, indent=2) + "\n"
    lang = options.lang
    total = "?" if result.total is None else f"{result.total:,}"
    lines = [_say("preview_head", lang, rows=f"{written.rows:,}", total=total)]
    if policy is not None:
        lines += ["", _say("preview_policy", lang, name=policy.name), *_indented(describe(policy, lang).splitlines())]
    paired = f"{written.rows - written.without_pair:,}"
    lines += ["", _say("preview_pairs", lang, pairs=f"{written.report.rows:,}", rows=paired,
                       candidates=f"{written.candidates:,}")]  # fmt: skip
    lines += _indented(
        _say("run_strategy", lang, name=name, pairs=f"{count:,}") for name, count in written.strategies.most_common()
    )
    lines += _indented(_reasons(written, lang))
    if written.without_gold:
        lines.append(_say("run_without_gold", lang, rows=f"{written.without_gold:,}"))
    for number, (held, pair) in enumerate(examples, 1):
        worse = next(one for one in held.candidates if one.number == pair.candidate)
        lines += ["", _say("preview_example", lang, number=number, row=held.row.index + 1, strategy=worse.strategy)]
        lines += _indented((
            _say("preview_prompt", lang, text=_short(held.row.question)),
            _say("preview_chosen", lang, text=_short(text_of(pair.chosen))),
            _say("preview_rejected", lang, text=_short(pair.rejected)), *_whys(worse, lang),
        ))  # fmt: skip
    lines += ["", _say("preview_next", lang)]
    return "\n".join(lines) + "\n"


def _example_json(held: MeasuredRow, pair: Any) -> dict[str, Any]:
    worse = next(one for one in held.candidates if one.number == pair.candidate)
    return {
        "row": held.row.index, "prompt": held.row.question, "chosen": text_of(pair.chosen), "rejected": pair.rejected,
        "strategy": worse.strategy, "why": worse.why,
    }  # fmt: skip


def _whys(candidate: Candidate, lang: str) -> Iterable[str]:
    for why in islice(candidate.why, 2):
        params = {name: value for name, value in why.items() if name != "entry"}
        params = with_problem_said(why.get("params", params), lang)
        yield Sentence(str(why["entry"]), params, "candidates").said(lang)


def _indented(lines: Iterable[str]) -> list[str]:
    return [f"  {line}" for line in lines]


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _time(seconds: float) -> str:
    minutes, left = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{left:02}" if hours else f"{minutes}:{left:02}"


def _reason_of_row(reason: str, lang: str) -> str:
    if reason == "no_prompt":
        return _say("row_asks_nothing", lang)
    return Sentence(f"row_{reason}", {}, "formats").said(lang)


def _said_or_id(entry: str, otherwise: str, lang: str) -> str:
    words = load_config(f"words/{lang}/candidates.yaml")
    return str(words[entry]) if entry in words and "{" not in str(words[entry]) else otherwise


def _say(entry: str, lang: str, **params: Any) -> str:
    return Sentence(entry, params, "candidates").said(lang)
