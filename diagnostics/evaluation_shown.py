"""What a reader of a report on an evaluation wants first: the verdict with its figures, tables, cases side by side.

Made from the report alone, so that a stored one shows the same in either language. Values may be anything: a report
comes from a file.
"""

from __future__ import annotations

import html
import math
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from diagnostics.check_table import EVALUATION_CHECKS
from diagnostics.report import Finding, Report
from diagnostics.words import said_ability, unscored_reasons
from pipeline.config_files import load_config

KINDS = ("scores", "comparison", "replay", "abilities")
CODES = frozenset(check.code for checks in EVALUATION_CHECKS.values() for check in checks)
CASES_IN_TEXT, CASES_IN_MARKDOWN, CASES_IN_HTML = 3, 12, 120
_SEVERE = {"error": 0, "warning": 1, "info": 2, "ok": 3}
_LEADING = {"scores": ("RWD011", "RWD010"), "comparison": ("CMP001",), "replay": ("CMP020",), "abilities": ("CMP030",)}
_WIDTH, _PLOT, _EDGE, _DOTS = 520, 420, 44, 800
STYLE = (
    ".pair td{width:50%}.pair pre{margin:0}.plot .diagonal{stroke:var(--dim);stroke-dasharray:4 4}"
    ".plot circle{fill:var(--accent);fill-opacity:.45}.plot circle.s1{fill:var(--warning)}"
    ".figures td,.figures th{white-space:nowrap}"
)


@dataclass(frozen=True)
class Table:
    """head: one name a column; rows: as many cells each, the first names the row."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def is_evaluation(report: Report) -> bool:
    return report.subject.kind in KINDS


def lead_sentence(report: Report) -> str:
    """The plain verdict with its figures, and beside it the error of another check. Empty where nothing was judged."""
    codes = _LEADING.get(report.subject.kind, ())
    found = [f for f in report.findings if f.code in codes]
    # Held-out accuracy says how good a model is; that it is overfitted matters more where it is
    found.sort(key=lambda f: (_SEVERE.get(f.severity, 3), codes.index(f.code) * (-1 if f.severity == "error" else 1)))
    if not found or not found[0].message:
        return ""
    lead = found[0]
    other = _worst(report.findings, codes)
    joiner = "" if report.lang == "zh" else " "
    return lead.message + (joiner + other.message if other is not None and lead.severity != "error" else "")


def is_unjudged(report: Report) -> bool:
    """An evaluation whose leading check had nothing to judge by."""
    return any(one.code in _LEADING.get(report.subject.kind, ())[:1] for one in report.skipped)


def _worst(findings: Sequence[Finding], besides: Sequence[str]) -> Finding | None:
    return next((f for f in findings if f.severity == "error" and f.code not in besides), None)


def figure_place(code: str, where: str, lang: str) -> str:
    """What a figure of a finding is, in words: `rep_4: lora-1`, `win rate: reward`. What stands behind the colon is a
    name, or an id with words of its own."""
    report, own = (load_config(f"words/{lang}/{name}.yaml") for name in ("report", "evaluation"))
    places = report["evaluation"]["places"]
    if where in places:
        return str(places[where])
    place, colon, name = where.partition(": ")
    if code == "RWD016":
        said = unscored_reasons(lang).get(place)
    elif code == "CMP023":
        said = load_config(f"words/{lang}/candidates.yaml").get(f"problem_{place}")
        return where if said is None else str(said).replace("{detail}", name)
    else:
        said = places.get(place) or report["measures"].get(place)
    if said is None:
        return where
    ids = {"CMP001": report["judged_by"], "CMP002": report["judged_by"], "CMP011": own["compare"]["not_judged_reasons"]}
    name = said_ability(name, lang) if code == "CMP030" else str(ids.get(code, {}).get(name, name))
    return str(report["evaluation"]["place_named"]).format(place=said, name=name) if colon else str(said)


# --- tables


def tables(report: Report) -> list[Table]:
    """The figures of the result, as the report keeps it in curves["result"]."""
    result = report.curves.get("result")
    if not isinstance(result, Mapping) or not is_evaluation(report):
        return []
    words = load_config(f"words/{report.lang}/report.yaml")["evaluation"]
    make: Mapping[str, Callable[[Mapping[str, Any], Mapping[str, Any], str], Iterator[Table]]] = {
        "scores": _scores, "comparison": _comparison, "replay": _replay, "abilities": _abilities,
    }  # fmt: skip
    return [table for table in make[report.subject.kind](result, words, report.lang) if table.rows]


def _scores(result: Mapping[str, Any], words: Mapping[str, Any], lang: str) -> Iterator[Table]:
    sets = [one for one in _list(result, "sets") if isinstance(one, Mapping)]

    def row(name: str, of: Callable[[Mapping[str, Any]], str]) -> tuple[str, ...]:
        return (str(words[name]), *(of(one) for one in sets))

    rows = [
        row("role", lambda s: str(words["roles"].get(s.get("role"), s.get("role")))),
        row("rows", lambda s: _count(s.get("scored"))),
        row("accuracy", lambda s: _share(_map(_map(s, "accuracy"), "share"))),
        row("ties", lambda s: _count(_map(s, "accuracy").get("ties"))),
        row("chosen_mean", lambda s: _spread(s.get("chosen"))),
        row("rejected_mean", lambda s: _spread(s.get("rejected"))),
        row("answers_mean", lambda s: _spread(s.get("answers"))),
        row("margin", lambda s: _difference(s.get("margin"))),
        row("log_loss", lambda s: _number(s.get("log_loss"))),
        row("calibration_error", lambda s: _number(s.get("calibration_error"))),
        row("chosen_longer", lambda s: _share(_map(s, "length").get("accuracy_chosen_longer"))),
        row("rejected_longer", lambda s: _share(_map(s, "length").get("accuracy_rejected_longer"))),
        row("at_equal_length", lambda s: _share(_map(_map(_map(s, "length"), "corrected"), "share"))),
        row("suspects", lambda s: _count(s.get("suspect_count"))),
    ]
    kept = tuple(r for r in rows if any(cell not in ("–", "") for cell in r[1:]))
    yield Table(str(words["figures"]), ("", *(str(s.get("name", "")) for s in sets)), kept)
    for one in sets:
        by = _map(one, "by_category")
        found = tuple((str(name), _share(_map(_as_map(own), "share"))) for name, own in by.items())
        title = str(words["by_category_of"]).format(name=one.get("name", "")) if len(sets) > 1 else words["by_category"]
        yield Table(str(title), (str(words["category"]), str(words["accuracy"])), found)


def _comparison(result: Mapping[str, Any], words: Mapping[str, Any], lang: str) -> Iterator[Table]:
    judged = load_config(f"words/{lang}/report.yaml")["judged_by"]
    contests = [c for c in _list(result, "contests") if isinstance(c, Mapping)]
    names = ("after", "by", "win_rate", "counts", "equal_lengths", "means", "verdict")

    def row(c: Mapping[str, Any], *first: str) -> tuple[str, ...]:
        counts = " / ".join(_count(c.get(n)) for n in ("wins", "ties", "losses"))
        means = f"{_number(_map(c, 'before_mean').get('mean'))} → {_number(_map(c, 'after_mean').get('mean'))}"
        verdict = str(words["verdicts"].get(c.get("verdict"), c.get("verdict")))
        length = _share(c.get("length_controlled"))
        return (*first, _share(c.get("win_rate")), counts, length, means if c.get("after_mean") else "–", verdict)

    rows = tuple(row(c, str(c.get("after", "")), str(judged.get(c.get("by"), c.get("by")))) for c in contests)
    yield Table(str(words["contests"]), tuple(str(words[n]) for n in names), rows)
    measured = load_config(f"words/{lang}/report.yaml")["measures"]
    changes = [m for m in _list(result, "measures") if isinstance(m, Mapping)]
    yield Table(
        str(words["measures"]),
        tuple(str(words[n]) for n in ("measure", "model", "before_value", "after_value", "difference", "verdict")),
        tuple(
            (
                str(measured.get(m.get("name"), m.get("name"))), str(m.get("after_name", "")),
                _number(_map(m, "before").get("mean")), _number(_map(m, "after").get("mean")),
                _difference(m.get("difference")), str(words["verdicts"].get(m.get("verdict"), m.get("verdict"))),
            )
            for m in changes
        ),
    )  # fmt: skip
    for c in contests[:1]:
        found = tuple(row(_as_map(own), str(name)) for name, own in _map(c, "by_category").items())
        heads = ("category", "win_rate", "counts", "equal_lengths", "means", "verdict")
        yield Table(str(words["by_category"]), tuple(str(words[n]) for n in heads), found)


def _replay(result: Mapping[str, Any], words: Mapping[str, Any], lang: str) -> Iterator[Table]:
    summaries = [s for s in _list(result, "summary") if isinstance(s, Mapping)]
    names = ("good", "bad", "fixed", "broken", "still_bad", "right", "wrong", "repeats", "unended", "empty", "failed",
             "unchecked")  # fmt: skip
    heads = (str(words["model"]), *(str(words["statuses"][n]) for n in names))
    rows = tuple((str(s.get("model", "")), *(_count(s.get(n)) for n in names)) for s in summaries)
    yield Table(str(words["figures"]), heads, rows)


def _abilities(result: Mapping[str, Any], words: Mapping[str, Any], lang: str) -> Iterator[Table]:
    models = [m for m in _list(result, "models") if isinstance(m, Mapping)]
    names = [str(m.get("name", "")) for m in models]
    head = (str(words["ability"]), str(words["items"]), str(words["chance"]), *names, str(words["difference"]),
            str(words["verdict"]))  # fmt: skip
    rows = []
    for a in (one for one in _list(result, "abilities") if isinstance(one, Mapping)):
        scores = _map(a, "scores")
        changes = [c for c in _list(a, "changes") if isinstance(c, Mapping)]
        rows.append((
            _ability(a, lang), _count(a.get("n")), _percent(a.get("chance")),
            *(_share(scores.get(name)) for name in names), "; ".join(_difference(c.get("difference")) for c in changes),
            "; ".join(str(words["verdicts"].get(c.get("verdict"), c.get("verdict"))) for c in changes),
        ))  # fmt: skip
    yield Table(str(words["figures"]), head, tuple(rows))


def _ability(told: Mapping[str, Any], lang: str) -> str:
    name, of = str(told.get("name", "")), str(told.get("lang") or "")
    return said_ability(f"{name} ({of})" if of else name, lang)


def _as_map(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _map(value: Any, name: str) -> Mapping[str, Any]:
    return _as_map(_as_map(value).get(name))


def _list(value: Mapping[str, Any], name: str) -> list[Any]:
    found = value.get(name)
    return list(found) if isinstance(found, (list, tuple)) else []


def _real(value: Any) -> float | None:
    ok = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if ok else None


def _count(value: Any) -> str:
    number = _real(value)
    return "–" if number is None else f"{number:,.0f}"


def _number(value: Any) -> str:
    number = _real(value)
    return "–" if number is None else f"{number:.3g}" if abs(number) < 1000 else f"{number:,.0f}"


def _percent(value: Any) -> str:
    number = _real(value)
    return "–" if number is None else f"{number:.1%}"


def _share(value: Any) -> str:
    """`72.0% (66.6–76.8)`."""
    found = [_real(_as_map(value).get(name)) for name in ("value", "low", "high")]
    if found[0] is None:
        return "–"
    if found[1] is None or found[2] is None:
        return f"{found[0]:.1%}"
    return f"{found[0]:.1%} ({100 * found[1]:.1f}–{100 * found[2]:.1f})"


def _spread(value: Any) -> str:
    mean, std = (_real(_as_map(value).get(name)) for name in ("mean", "std"))
    return "–" if mean is None else f"{mean:.3g}" if std is None else f"{mean:.3g} ± {std:.3g}"


def _difference(value: Any) -> str:
    mean, low, high = (_real(_as_map(value).get(name)) for name in ("mean", "low", "high"))
    if mean is None:
        return "–"
    return f"{mean:+.3g}" if low is None or high is None else f"{mean:+.3g} ({low:+.3g} – {high:+.3g})"


# --- as text, Markdown, HTML


def table_lines(table: Table) -> list[str]:
    """For a terminal: columns padded, a Chinese character counted two cells."""
    lines = [table.head, *table.rows]
    wide = [max(_cells(line[at]) for line in lines) for at in range(len(table.head))]
    return [
        "  ".join(cell + " " * (width - _cells(cell)) for cell, width in zip(line, wide, strict=True)).rstrip()
        for line in lines
    ]  # fmt: skip


def _cells(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def cases(report: Report) -> list[Mapping[str, Any]]:
    """Samples that are cases of an evaluation, of two sides each."""
    if not is_evaluation(report):
        return []
    found = []
    for sample in report.samples:
        sides = sample.get("sides") if isinstance(sample, Mapping) else None
        if isinstance(sides, (list, tuple)) and len(sides) == 2 and all(isinstance(s, Mapping) for s in sides):
            found.append(sample)
    return found


def case_head(case: Mapping[str, Any], words: Mapping[str, Any], lang: str) -> str:
    """`lost · row 12 · math`. words: `evaluation` of report.yaml."""
    kind = str(words["kinds"].get(case.get("kind"), case.get("kind")))
    place = case.get("line", case.get("row"))
    parts = [kind, str(words["row"]).format(n=place) if place is not None else ""]
    ability = said_ability(str(case.get("ability") or ""), lang)
    parts += [str(case.get("category") or ""), ability, str(case.get("set") or "")]
    if (margin := _real(case.get("margin"))) is not None:
        parts.append(str(words["margin_is"]).format(margin=f"{margin:.3g}", percent=_percent(case.get("probability"))))
    return " · ".join(part for part in parts if part)


def side_note(side: Mapping[str, Any], words: Mapping[str, Any], judged: Mapping[str, Any]) -> str:
    """Scores and status under an answer."""
    scores = _map(side, "scores")
    told = [f"{judged.get(by, by)}: {_number(value)}" for by, value in scores.items()]
    status = side.get("status")
    return " · ".join([*([str(words["statuses"].get(status, status))] if status else []), *told])


def case_lines(report: Report, most: int) -> list[tuple[str, list[str]]]:
    """(head, its lines) of the first cases: prompt, reference, both answers."""
    words = load_config(f"words/{report.lang}/report.yaml")
    own, judged = words["evaluation"], words["judged_by"]
    made = []
    for case in cases(report)[:most]:
        lines = [f"{own['prompt']}: {case.get('prompt', '')}"]
        if case.get("reference") is not None:
            lines.append(f"{own['reference']}: {case['reference']}")
        for side in case["sides"]:
            note = side_note(side, own, judged)
            name = own["sides"].get(side.get("name"), side.get("name", ""))
            lines.append(f"{name}{f' ({note})' if note else ''}: {side.get('text', '')}")
        made.append((case_head(case, own, report.lang), lines))
    return made


def html_tables(report: Report, escape: Callable[[Any], str]) -> str:
    """escape: makes any value safe text."""
    parts = []
    for table in tables(report):
        head = "".join(f"<th scope='col'>{escape(name)}</th>" for name in table.head)
        rows = "".join(
            f"<tr><th scope='row'>{escape(row[0])}</th>{''.join(f'<td>{escape(cell)}</td>' for cell in row[1:])}</tr>"
            for row in table.rows
        )
        parts.append(f"<h2>{escape(table.title)}</h2><div class='card scroll'><table class='figures'>"
                     f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>")  # fmt: skip
    return "".join(parts)


def html_cases(report: Report, escape: Callable[[Any], str]) -> str:
    words = load_config(f"words/{report.lang}/report.yaml")
    own, judged = words["evaluation"], words["judged_by"]
    parts = []
    for case in cases(report)[:CASES_IN_HTML]:
        names = [own["sides"].get(s.get("name"), s.get("name", "")) for s in case["sides"]]
        heads = "".join(f"<th scope='col'>{escape(name)}</th>" for name in names)
        texts = "".join(
            f"<td><pre>{escape(side.get('text', ''))}</pre>"
            f"<span class='dim'>{escape(side_note(side, own, judged))}</span></td>"
            for side in case["sides"]
        )
        reference = case.get("reference")
        told = f"<p class='dim'>{escape(own['reference'])}: {escape(reference)}</p>" if reference is not None else ""
        parts.append(
            f"<section class='card'><p class='dim'>{escape(case_head(case, own, report.lang))}</p>"
            f"<pre>{escape(case.get('prompt', ''))}</pre>{told}"
            f"<div class='scroll'><table class='pair'><thead><tr>{heads}</tr></thead>"
            f"<tbody><tr>{texts}</tr></tbody></table></div></section>"
        )
    return f"<h2>{escape(own['cases'])}</h2>{''.join(parts)}" if parts else ""


def points_svg(report: Report) -> str:
    """Scatter of rewards with the diagonal, as an inline SVG; empty where the report holds no points."""
    kept = report.curves.get("points") if is_evaluation(report) else None
    if not isinstance(kept, Mapping):
        return ""
    words = load_config(f"words/{report.lang}/report.yaml")["evaluation"]
    points = [p for p in _list(kept, "points") if isinstance(p, (list, tuple)) and len(p) == 4]
    numbers = [(_real(p[0]), _real(p[1]), _real(p[3])) for p in points[:: max(1, math.ceil(len(points) / _DOTS))]]
    dots = [(x, y, int(series or 0)) for x, y, series in numbers if x is not None and y is not None]
    if not dots:
        return ""
    values = [v for x, y, _ in dots for v in (x, y)]
    low, high = min(values), max(values)
    span = (high - low) or 1.0

    def x_of(value: float) -> float:
        return _EDGE + (_WIDTH - _EDGE - 10) * (value - low) / span

    def y_of(value: float) -> float:
        return 10 + (_PLOT - _EDGE - 10) * (1 - (value - low) / span)

    axes = [str(words["axes"].get(name, name)) for name in (*_list(kept, "axes"), "", "")[:2]]
    drawn = "".join(f"<circle class='s{s}' cx='{x_of(x):.1f}' cy='{y_of(y):.1f}' r='3'/>" for x, y, s in dots)
    ticks = "".join(
        f"<text x='{x_of(v):.1f}' y='{_PLOT - _EDGE + 16}' font-size='11' text-anchor='{anchor}'>{v:.3g}</text>"
        f"<text x='{_EDGE - 6}' y='{y_of(v) + 4:.1f}' font-size='11' text-anchor='end'>{v:.3g}</text>"
        for v, anchor in ((low, "start"), (high, "end"))
    )
    labels = (
        f"<text x='{_WIDTH / 2:.0f}' y='{_PLOT - 10}' font-size='12' text-anchor='middle'>{html.escape(axes[0])}</text>"
        f"<text x='14' y='{_PLOT / 2:.0f}' font-size='12' text-anchor='middle' "
        f"transform='rotate(-90 14 {_PLOT / 2:.0f})'>{html.escape(axes[1])}</text>"
    )
    ends = f"x1='{x_of(low):.1f}' y1='{y_of(low):.1f}' x2='{x_of(high):.1f}' y2='{y_of(high):.1f}'"
    label = html.escape(f"{axes[0]} × {axes[1]}", quote=True)
    return (
        f"<svg class='plot' viewBox='0 0 {_WIDTH} {_PLOT}' width='{_WIDTH}' height='{_PLOT}' role='img' "
        f"aria-label='{label}'><line class='diagonal' {ends}/>{drawn}{ticks}{labels}</svg>"
    )
