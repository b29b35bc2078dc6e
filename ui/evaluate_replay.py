"""The panel Bad-case replay: what each model fixed, broke or still gets wrong; every answer beside the right one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.candidates.strategies import run_number
from pipeline.evaluation.replay_cases import CHECKS, unmeasured_said
from pipeline.refusal import Refused
from ui import evaluate_bundles, evaluate_case, evaluate_head, evaluate_plots
from ui.allowed_paths import is_public, without_folders
from ui.charts import finite_number
from ui.evaluate_case import BUNDLE, Choice, Problems, number_field, select_field, text_field
from ui.evaluate_panel import FOLDER, Answer, Asked, Checked, Form, Headline, Panel, Shown
from ui.evaluate_plots import Bar, number
from ui.evaluate_rows import reason_said
from ui.interface_words import known, words
from ui.safe_html import tag, text, with_specials
from ui.visitor_case import BadCase

WORKBOOK = "replay.xlsx"
RESULT = "replay.replay.json"
MODEL, CASES = "demo:never_stops_decoder", "demo:repetition"
ALSO = "demo:healthy_decoder"
DECODING = ("beam", "greedy", "sampling")
OPTIONS = ("top_k", "repetition_penalty", "no_repeat_ngram_size", "length_penalty")
STATUSES = ("right", "unchecked", "wrong", "repeats", "unended", "empty", "failed")
CHANGES = ("broken", "fixed", "still_bad", "still_good")  # as cases are listed
TOLD = ("fixed", "broken", "still_bad")
TONES = {"right": "ok", "unchecked": "info", "wrong": "error", "repeats": "error", "unended": "warning",
         "empty": "error", "failed": "off"}  # fmt: skip
PAGE = 15
MOST_TEXT = 20_000  # characters of one answer
MOST_SEARCH = 200

Json = Mapping[str, Any]


# --- the form ----------------------------------------------------------------------------------------------------


def form(given: Form, lang: str) -> str:
    """Base, adapters and other models, cases; how answers are made is folded away."""
    said = words(lang)
    first = {"others": ALSO, "max_samples": "60", "max_new_tokens": "64"}  # of the demo, about a minute
    values = {"model": MODEL, "cases": CASES, **(first if not given else {}), **given}
    trained, demo = evaluate_case.jobs(lang), evaluate_case.demo_models()
    rows = evaluate_case.demo_rows("repetition", "held_out", "verifiable", "text2sql")
    checks = [Choice(name, str(said["replay_checks"].get(name, name))) for name in ("auto", *CHECKS)]
    database = "" if is_public() else text_field("database", values, lang, "replay_database")
    return "".join((
        text_field("model", values, lang, "replay_model", choices=[*demo, *trained]),
        text_field("others", values, lang, "replay_others", choices=[*trained[:6], *_picks(demo)], lines=3),
        text_field("cases", values, lang, "replay_cases", choices=rows, file=True),
        select_field("check", values, lang, "replay_check", checks),
        evaluate_case.answer_fields(values, lang, DECODING,
                                    text_field("options", values, lang, "replay_options", lines=2)),
        evaluate_case.more_fields(
            lang,
            number_field("max_samples", values, lang, "replay_max", "", min=1, step=1),
            text_field("pattern", values, lang, "replay_pattern"),
            database,
            text_field("columns", values, lang, "replay_columns", lines=2),
        ),
    ))  # fmt: skip


def _picks(demo: Sequence[Choice]) -> list[Choice]:
    """Of the demo's models those that go with its base."""
    return [choice for choice in demo if choice.value in (ALSO, f"{ALSO}_lora")]


def checked(given: Form, lang: str) -> Checked:
    """As a command of `replay`."""
    problems = Problems(lang)
    model, cases = problems.model("model", given), problems.data("cases", given)
    others = problems.models("others", given, required=False)
    arguments = ["replay", "--model", model]
    for other in others:
        arguments += ["--adapter" if evaluate_case.is_adapter(other) else "--also", other]
    bundle = cases.removeprefix(BUNDLE) if cases.startswith(BUNDLE) else ""
    arguments += ["--cases", evaluate_case.resolved(cases), "--bundle", bundle] if bundle else ["--cases", cases]
    arguments += [*problems.answers(given, DECODING, 0), *_options(problems, given)]
    check = given.get("check") or "auto"
    if check in CHECKS:
        arguments += ["--check", check]
    if check == "pattern" or given.get("pattern", "").strip():
        arguments += ["--pattern", problems.pattern("pattern", given, "replay_no_pattern")]
    if database := problems.data("database", given, required=False):
        arguments += ["--database", database]
    arguments += [*problems.rows(given), *problems.columns("columns", given)]
    arguments += ["--output", f"{FOLDER}/{WORKBOOK}"]
    return Checked(tuple(arguments), problems.found, f"{evaluate_case.short(model)} · {evaluate_case.short(cases)}")


def _options(problems: Problems, given: Form) -> list[str]:
    """Options of decoding that hardly anybody needs, one NAME=VALUE a line."""
    found = []
    for line in (one.strip() for one in given.get("options", "").splitlines()):
        name, _, value = (part.strip() for part in line.partition("="))
        if line and name not in OPTIONS:
            problems.wrong("options", "replay_no_option", names=", ".join(OPTIONS))
        elif line:
            option = "--" + name.replace("_", "-")
            try:
                run_number(option, name, value)
            except Refused as refused:
                problems.found.setdefault("options", refused.said(problems.lang))
            found += [option, value]
    return found


# --- figures -----------------------------------------------------------------------------------------------------


def _summaries(result: Json) -> list[Json]:
    return [one for one in result.get("summary", ()) if isinstance(one, Mapping)]


def _n(one: Json, name: str) -> int:
    return int(finite_number(one.get(name)) or 0)


def best_of(result: Json) -> Json | None:
    """The one beside the base that gains most."""
    others = _summaries(result)[1:]
    return max(others, key=lambda one: _n(one, "fixed") - _n(one, "broken")) if others else None


def headline(result: Json, lang: str) -> Headline:
    """What became of the cases with the model that gains most."""
    said, best, all_of = words(lang), best_of(result), _summaries(result)
    if not all_of:
        return Headline(str(said["evaluate_no_result"]))
    if best is None:
        base = all_of[0]
        line = str(said["replay_verdict_alone"]).format(good=f"{_n(base, 'good'):,}", n=f"{_n(base, 'cases'):,}")
        return Headline(line)
    fixed, broken, still = (_n(best, name) for name in ("fixed", "broken", "still_bad"))
    shown = {
        "model": best.get("model", ""),
        "fixed": f"{fixed:,}",
        "broken": f"{broken:,}",
        "bad": f"{fixed + still:,}",
        "good": f"{broken + _n(best, 'still_good'):,}",
    }
    entry = "both" if broken else "fixed" if fixed else "nothing"
    if broken > fixed:
        entry = "worse" if fixed + still else "breaks"
    if entry == "nothing" and not still:
        entry = "clean"
    tone = {"breaks": "problems", "worse": "problems", "both": "warnings", "nothing": "warnings"}.get(entry, "healthy")
    return Headline(str(said[f"replay_verdict_{entry}"]).format(**shown), tone)


def view(one: Shown, lang: str) -> str:
    """Verdict and figures, then models against counts."""
    said, result = words(lang), one.result
    if not _summaries(result):
        return tag("section", "dd-card", tag("p", "", text(said["evaluate_no_result"])))
    inner = _figures(result, lang) + _notes(result, lang)
    return evaluate_head.verdict(one, headline(result, lang), inner, lang) + _models(result, lang)


def listed(one: Shown, lang: str) -> str:
    """The case that is read, the first of all cases, and the bundle that keeps them."""
    if not _summaries(one.result):
        return ""
    places = (("case", ""), ("listed", _cases_page(one, {}, lang)), ("bundle", evaluate_bundles.invitation(one, lang)))
    return "".join(tag("div", "", inner, data_part=name) for name, inner in places)


def _figures(result: Json, lang: str) -> str:
    said, best, base = words(lang), best_of(result), _summaries(result)[0]
    cells = []
    if best is not None:
        for name in TOLD:
            tone = {"fixed": "dd-healthy", "broken": "dd-problems"}.get(name, "") if _n(best, name) else ""
            cells.append(
                evaluate_case.big(said["replay_changes"][name], f"{_n(best, name):,}", str(best.get("model", "")), tone)
            )
    for summary in (base, best):
        share = summary.get("good_share") if summary is not None else None
        if summary is not None and isinstance(share, Mapping) and finite_number(share.get("value")) is not None:
            between = str(said["score_interval"]).format(
                low=number(share.get("low"), True), high=number(share.get("high"), True)
            )
            below = f"{summary.get('model', '')} · {between}"
            cells.append(evaluate_case.big(said["replay_good"], number(share.get("value"), True), below))
    return tag("div", "dd-figures", *cells)


def _notes(result: Json, lang: str) -> str:
    said, lines = words(lang), []
    decoding = result.get("decoding")
    if isinstance(decoding, Mapping):
        how = str(decoding.get("strategy", ""))
        told = str(said["replay_decodings"].get(how, how))
        if how == "beam":
            told += f" ({decoding.get('num_beams')})"
        elif how == "sampling":
            told += f" ({decoding.get('temperature')})"
        lines.append(told)
        checks = decoding.get("checks")
        if isinstance(checks, Mapping):
            lines += [f"{said['replay_checks'].get(name, name)}: {n}" for name, n in list(checks.items())[:8]]
    lines.insert(0, str(said["replay_cases_n"]).format(n=f"{_n(result, 'cases'):,}"))
    left = result.get("left_out")
    if isinstance(left, Mapping):
        lines += [str(said["score_left_rows"]).format(n=f"{n:,}", why=reason_said(str(reason), lang))
                  for reason, n in list(left.items())[:4]]  # fmt: skip
    return tag("p", "dd-dim dd-evaluate-notes", text(" · ".join(lines)))


def _models(result: Json, lang: str) -> str:
    """Models against counts, each with a bar of its cases."""
    said, all_of = words(lang), _summaries(result)
    there = [name for name in STATUSES if any(_n(one, name) for one in all_of)]
    changed = len(all_of) > 1
    measured = [
        name for name in ("similarity", "chrf") if any(finite_number(one.get(name)) is not None for one in all_of)
    ]
    heads = [tag("th", "", text(said["replay_head_model"]), scope="col")]
    heads += [tag("th", "", text(said["replay_changes"][n]), scope="col") for n in TOLD if changed]
    heads += [tag("th", "", text(said["replay_statuses"][n]), scope="col") for n in there]
    heads += [tag("th", "", text(said[f"replay_head_{n}"]), scope="col") for n in (*measured, "rep")]
    rows = []
    for place, one in enumerate(all_of):
        total = max(1, _n(one, "cases"))
        parts = [
            tag("i", f"dd-replay-{name}", style=f"width:{100 * _n(one, name) / total:.3f}%",
                title=f"{said['replay_statuses'][name]}: {_n(one, name)}")
            for name in there
            if _n(one, name)
        ]  # fmt: skip
        role = tag("span", "dd-dim", text(said["replay_base"])) if place == 0 else ""
        name = tag("th", "", tag("div", "dd-replay-model", tag("b", "", text(one.get("model", ""))), role),
                   tag("div", "dd-shares dd-replay-bar", *parts), scope="row")  # fmt: skip
        cells = [_count(one, n, lang, place > 0) for n in TOLD if changed]
        cells += [tag("td", "", text(f"{_n(one, n):,}"), data_of=said["replay_statuses"][n]) for n in there]
        rep = one.get("rep")
        value = finite_number(rep.get("rep_4")) if isinstance(rep, Mapping) else None
        figures = [(n, number(finite_number(one.get(n)), n == "similarity")) for n in measured]
        cells += [tag("td", "", text(shown), data_of=said[f"replay_head_{n}"])
                  for n, shown in (*figures, ("rep", number(value, True)))]  # fmt: skip
        rows.append(tag("tr", "", name, *cells))
    table = tag(
        "table", "dd-evaluate-table dd-replay-table", tag("thead", "", tag("tr", "", *heads)), tag("tbody", "", *rows)
    )
    bars = [
        Bar(str(one.get("model", "")), s["value"], s.get("low"), s.get("high"), f"{s.get('n', 0):,}", _bar_tone(one))
        for one in all_of
        if isinstance(s := one.get("good_share"), Mapping) and finite_number(s.get("value")) is not None
    ]
    drawn = evaluate_plots.interval_bars(bars, lang, middle=None) if bars else ""
    heading = tag("h3", "dd-h", text(said["replay_models"]))
    table += _unmeasured(result, lang)
    shares = tag("div", "dd-replay-shares", tag("h4", "dd-also", text(said["replay_shares"])), drawn) if drawn else ""
    return tag("section", "dd-card", heading, tag("div", "dd-scroll", table, tabindex=0), shares)


def _unmeasured(result: Json, lang: str) -> str:
    """Which models answered no case, or not all, and why."""
    absent = result.get("unmeasured")
    if not isinstance(absent, Mapping):
        return ""
    answered = {str(one.get("model")): _n(one, "cases") for one in _summaries(result)}
    lines = unmeasured_said(dict(list(absent.items())[:50]), answered, _n(result, "cases"), known(lang))
    return "".join(tag("p", "dd-run-why", text(without_folders(line))) for line in lines)



def _count(one: Json, name: str, lang: str, told: bool) -> str:
    n, of = _n(one, name), words(lang)["replay_changes"][name]
    if not told:
        return tag("td", "dd-dim", "–", data_of=of)
    tone = {"fixed": " dd-good", "broken": " dd-bad"}.get(name, "") if n else ""
    return tag("td", f"dd-replay-n{tone}", text(f"{n:,}"), data_of=of)


def _bar_tone(one: Json) -> str:
    change = one.get("change")
    verdict = change.get("verdict") if isinstance(change, Mapping) else None
    return {"better": "good", "worse": "bad"}.get(str(verdict), "even")


# --- the cases ---------------------------------------------------------------------------------------------------


@dataclass
class Case:
    """One case with each model's row, in the order of the models."""

    number: int
    prompt: str
    standard: str | None
    category: str = ""
    rows: dict[str, Json] = field(default_factory=dict)

    def changes(self) -> set[str]:
        return {str(row.get("change")) for row in self.rows.values() if row.get("change")}


def cases_of(one: Shown) -> list[Case]:
    """Regressions first, then what was fixed, what is still bad, the rest; from the report alone those it kept."""
    found: dict[int, Case] = {}
    for row in one.result.get("rows") or ():
        if isinstance(row, Mapping) and isinstance(row.get("case"), int):
            case = found.setdefault(row["case"], Case(row["case"], str(row.get("text", "")), row.get("standard_answer"),
                                                      str(row.get("category") or "")))  # fmt: skip
            case.rows[str(row.get("model", ""))] = row
    if not found and one.report is not None:
        for sample in one.report.samples:
            if sample.get("kind") in CHANGES and isinstance(sample.get("row"), int):
                case = found.setdefault(sample["row"], Case(sample["row"], str(sample.get("prompt", "")),
                                        sample.get("reference"), str(sample.get("category") or "")))  # fmt: skip
                base, after = sample["sides"][:2]
                case.rows.setdefault(str(base.get("name", "")), _side_row(base, None))
                case.rows[str(after.get("name", ""))] = _side_row(after, str(sample["kind"]))
    return sorted(found.values(), key=lambda case: (_rank(case), case.number))


def _side_row(side: Json, change: str | None) -> Json:
    return {"model": side.get("name", ""), "answer": side.get("text", ""), "status": side.get("status", ""),
            "change": change}  # fmt: skip


def _rank(case: Case) -> int:
    return min((CHANGES.index(c) for c in case.changes() if c in CHANGES), default=len(CHANGES))


@dataclass(frozen=True)
class Wanted:
    """Which cases are listed. model: whose change and status count, empty for any."""

    change: str = ""
    status: str = ""
    model: str = ""
    search: str = ""

    @classmethod
    def of(cls, asked: Asked, result: Json) -> Wanted:
        """From a request, checked."""
        fields = asked.get("fields")
        given = {k: str(v)[:MOST_SEARCH] for k, v in fields.items()} if isinstance(fields, Mapping) else {}
        names = [one.get("model") for one in _summaries(result)]
        return cls(
            given.get("change", "") if given.get("change") in CHANGES else "",
            given.get("status", "") if given.get("status") in STATUSES else "",
            given.get("of_model", "") if given.get("of_model") in names else "",
            given.get("search", "").strip(),
        )

    def takes(self, case: Case) -> bool:
        """Whether one of the models that count stands so in this case, and the text is found."""
        rows = [row for name, row in case.rows.items() if not self.model or name == self.model]
        if (self.change or self.status) and not any(
            (not self.change or row.get("change") == self.change)
            and (not self.status or row.get("status") == self.status)
            for row in rows
        ):
            return False
        if not self.search:
            return True
        sought = self.search.lower()
        texts = [case.prompt, case.standard or "", *(str(row.get("answer", "")) for row in rows)]
        return any(sought in one.lower() for one in texts)


def _cases_page(one: Shown, asked: Asked, lang: str) -> str:
    said, wanted = words(lang), Wanted.of(asked, one.result)
    all_cases = cases_of(one)
    listed = [case for case in all_cases if wanted.takes(case)]
    value = str(asked.get("value", "")) if asked.get("does") == "page" else "0"
    offset = min(int(value) if value.isdecimal() else 0, max(0, (len(listed) - 1) // PAGE * PAGE))
    rows = [_case_row(case, one, lang) for case in listed[offset : offset + PAGE]]
    names = [str(s.get("model", "")) for s in _summaries(one.result)]
    heads = [said["replay_head_case"], said["replay_head_standard"], *names]
    head = tag("tr", "", *(tag("th", "dd-left", text(h), scope="col") for h in heads))
    table = tag("table", "dd-evaluate-table dd-replay-list", tag("thead", "", head), tag("tbody", "", *rows))
    body = tag("div", "dd-scroll", table, tabindex=0) if rows else tag("p", "dd-dim", text(said["replay_none_match"]))
    note = ""
    if len(all_cases) < _n(one.result, "cases"):
        numbers = {"n": f"{len(all_cases):,}", "of": f"{_n(one.result, 'cases'):,}"}
        note = tag("p", "dd-dim", text(str(said["replay_some_cases"]).format(**numbers)))
    bar = _filters(wanted, names, len(listed), offset, len(all_cases), lang)
    return tag("section", "dd-card", tag("h3", "dd-h", text(said["replay_all_cases"])), note, bar, body)


def _filters(wanted: Wanted, names: Sequence[str], n: int, offset: int, total: int, lang: str) -> str:
    said = words(lang)

    def select(name: str, entry: str, now: str, choices: Sequence[tuple[str, str]]) -> str:
        options = [tag("option", "", text(said[entry]), value="")]
        options += [tag("option", "", text(shown), value=value, selected=value == now) for value, shown in choices]
        return tag("select", "dd-select" + (" dd-active" if now else ""), *options, name=name, data_ask="cases",
                   aria_label=said[entry])  # fmt: skip

    parts = [
        select("change", "replay_any_change", wanted.change, [(c, said["replay_changes"][c]) for c in CHANGES]),
        select("status", "replay_any_status", wanted.status, [(s, said["replay_statuses"][s]) for s in STATUSES]),
        select("of_model", "replay_any_model", wanted.model, [(name, name) for name in names]),
        tag("input", "", type="search", name="search", value=wanted.search, data_ask="cases",
            placeholder=said["replay_search"], aria_label=said["replay_search"]),
    ]  # fmt: skip
    entry = "replay_matching" if n < total else "replay_cases_n"
    shown = str(said[entry]).format(n=f"{n:,}", of=f"{total:,}")
    moves = ""
    if n > PAGE:
        steps = (("previous", offset - PAGE, offset == 0), ("next", offset + PAGE, offset + PAGE >= n))
        moves = tag("div", "dd-move", *(_step(way, to, off, lang) for way, to, off in steps))
    return tag("div", "dd-filter-row dd-replay-filters", *parts, tag("span", "dd-matching", text(shown)), moves)


def _step(way: str, to: int, off: bool, lang: str) -> str:
    """To another page."""
    line = words(lang)[f"compare_{way}"]
    return tag("button", "dd-small", {"previous": "‹", "next": "›"}[way], type="button", data_ask="page",
               data_value=max(0, to), disabled=off, aria_label=line, title=line)  # fmt: skip


def _case_row(case: Case, one: Shown, lang: str) -> str:
    shown = text(f"{case.number + 1} · {_short(case.prompt)}")
    link = tag("button", "dd-link", shown, type="button", data_case=case.number, data_set="cases")
    standard = text(_short(case.standard or "–", 70))
    cells = [tag("th", "dd-left", link, scope="row"),
             tag("td", "dd-left dd-dim", standard, data_of=words(lang)["replay_head_standard"])]  # fmt: skip
    for summary in _summaries(one.result):
        name = str(summary.get("model", ""))
        row = case.rows.get(name)
        chips = _chips(row, lang) if row is not None else tag("span", "dd-dim", "–")
        cells.append(tag("td", "dd-left", chips, data_of=name))
    return tag("tr", "", *cells)


def _chips(row: Json, lang: str) -> str:
    said, status = words(lang), str(row.get("status", ""))
    shown = [
        tag("span", f"dd-measure dd-{TONES.get(status, 'off')}", text(said["replay_statuses"].get(status, status)))
    ]
    change = str(row.get("change") or "")
    if change in ("fixed", "broken"):
        tone, sign = ("ok", "✓ ") if change == "fixed" else ("error", "✗ ")
        shown.append(tag("span", f"dd-measure dd-{tone}", text(sign + said["replay_changes"][change])))
    return tag("span", "dd-cand-chips", *shown)


def _short(line: str, most: int = 90) -> str:
    line = " ".join(line.split())
    return line if len(line) <= most else line[:most] + "…"


def cases(one: Shown, asked: Asked, lang: str) -> Answer:
    """The cases that a filter takes, or another page of them."""
    return {"parts": {"listed": _cases_page(one, asked, lang)}}


# --- one case ----------------------------------------------------------------------------------------------------


def case(one: Shown, asked: Asked, lang: str) -> Answer:
    """The standard answer and every model's, side by side. row: number of the case."""
    said, wanted = words(lang), Wanted.of(asked, one.result)
    all_cases = cases_of(one)
    number_of = asked.get("row")
    found = next((c for c in all_cases if c.number == number_of), None)
    if found is None:
        raise BadCase("case_unreadable")
    listed = [c.number for c in all_cases if wanted.takes(c)]
    at = listed.index(found.number) if found.number in listed else None
    ways = (("previous", listed[at - 1] if at else None),
            ("next", listed[at + 1] if at is not None and at + 1 < len(listed) else None))  # fmt: skip
    tools = [
        tag("button", "dd-small", text(said[f"case_{way}"]), type="button", data_case=to, data_set="cases",
            data_way=way, disabled=to is None)
        for way, to in ways
    ]  # fmt: skip
    tools.append(tag("button", "dd-small", text(said["case_close"]), type="button", data_close_case=True))
    title = str(said["replay_case"]).format(n=f"{found.number + 1:,}")
    place = f"{at + 1:,} / {len(listed):,}" if at is not None else ""
    head = tag("div", "dd-case-head", tag("h3", "", text(" · ".join(p for p in (title, found.category, place) if p))),
               tag("div", "dd-head-tools", *tools))  # fmt: skip
    sides = []
    if found.standard is not None:
        sides.append(
            _side(tag("b", "", text(said["replay_head_standard"])), "", text(found.standard[:MOST_TEXT]), "", "better")
        )
    for summary in _summaries(one.result):
        row = found.rows.get(str(summary.get("model", "")))
        if row is not None:
            sides.append(_answer_side(row, lang))
    asked_for = tag("div", "dd-case-text dd-case-prompt", with_specials(found.prompt[:MOST_TEXT]))
    return {
        "parts": {"case": tag("section", "dd-card dd-case-card", head, asked_for, tag("div", "dd-case-sides", *sides))}
    }


def _answer_side(row: Json, lang: str) -> str:
    said = words(lang)
    facts = []
    for name, percent in (("similarity", True), ("chrf", False)):
        value = finite_number(row.get(name))
        if value is not None:
            facts.append(f"{said[f'replay_head_{name}']} {number(value, percent)}")
    rep = row.get("rep")
    value = finite_number(rep.get("rep_4")) if isinstance(rep, Mapping) else None
    if value:
        facts.append(f"{said['replay_head_rep']} {number(value, True)}")
    if isinstance(row.get("tokens"), int):
        facts.append(str(said["tokens"]).format(n=row["tokens"]))
    if row.get("checked_by"):
        facts.append(str(said["replay_checks"].get(row["checked_by"], row["checked_by"])))
    if row.get("problem"):
        facts.append(str(row["problem"])[:200])
    answer = marked(str(row.get("answer", ""))[:MOST_TEXT], str(row.get("loop") or ""))
    css = "worse" if row.get("good") is False or row.get("change") in ("broken", "still_bad") else ""
    return _side(tag("b", "", text(row.get("model", ""))), _chips(row, lang), answer, " · ".join(facts), css)


def _side(name: str, chips: str, answer: str, facts: str, css: str) -> str:
    foot = tag("p", "dd-dim dd-case-facts", text(facts)) if facts else ""
    return tag("div", f"dd-case-side dd-{css}" if css else "dd-case-side", tag("header", "", name, chips),
               tag("div", "dd-case-text", answer), foot)  # fmt: skip


def marked(answer: str, loop: str) -> str:
    """An answer with the stretch marked in which it says one thing over and over. loop: what it says."""
    unit = loop.strip()
    first = answer.find(unit) if unit else -1
    if first < 0 or answer.count(unit) < 2:
        return with_specials(answer)
    last = answer.rfind(unit) + len(unit)
    if answer[last:].strip() and unit.startswith(answer[last:].strip()):  # the last round was cut short
        last = len(answer)
    before, inside, after = answer[:first], answer[first:last], answer[last:]
    return with_specials(before) + tag("mark", "dd-repeat", text(inside)) + with_specials(after)


def files(one: Shown) -> list[tuple[str, Path]]:
    """The workbook."""
    return [("evaluate_download_xlsx", one.folder / WORKBOOK)] if one.folder is not None else []


PANEL = Panel(
    "replay", RESULT, form, checked, headline, view, listed,
    {"case": case, "cases": cases, "page": cases, "keep": evaluate_bundles.keep}, files, shows_cause=True,
)  # fmt: skip
