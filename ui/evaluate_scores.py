"""The panel Reward scoring: how a reward model orders pairs, how sure it is, what it pays for length, and doubts."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.pairs.pair import Pair, text_of
from ui import evaluate_case, evaluate_head, evaluate_plots, pair_import
from ui.allowed_paths import is_public
from ui.charts import finite_number
from ui.evaluate_case import Problems, big, number_field, text_field
from ui.evaluate_panel import FOLDER, Answer, Asked, Checked, Form, Headline, Panel, Shown
from ui.evaluate_plots import Bar, Points, number
from ui.evaluate_rows import answers_in, reason_said, score_rows
from ui.interface_words import words
from ui.pair_case import GivenSet
from ui.safe_html import tag, text, with_specials
from ui.visitor_case import BadCase

ROWS, SUSPECTS = "rows.jsonl", "suspects.jsonl"
RESULT = f"{ROWS}.scores.json"
DATA, TRAIN = "demo:pairs_held_out", "demo:pairs"
MOST_POINTS = 200_000  # of one figure; more are thinned evenly
SHOWN_SUSPECTS, MOST_CATEGORIES = 20, 30
MOST_TEXT = 20_000  # characters of one side of a case
ROLES = ("data", "held_out", "train")  # the set whose figures come first

Json = Mapping[str, Any]


# --- the form ----------------------------------------------------------------------------------------------------


def form(given: Form, lang: str) -> str:
    """Model and data; what most leave as it is folded away."""
    said = words(lang)
    trained = evaluate_case.jobs(lang, reward=True)
    values = {"data": DATA, "train": TRAIN if not given else "",
              "reward_model": trained[0].value if trained else "", **given}  # fmt: skip
    none = ""
    if not trained and not values["reward_model"] and not is_public():
        button = tag("button", "dd-button", text(said["evaluate_train_one"]), type="button", data_recipe="reward_model")
        none = tag("div", "dd-evaluate-none", tag("span", "", text(said["evaluate_no_reward_model"])), button)
    rows = evaluate_case.demo_rows("pairs_held_out", "pairs", "reward_pairs")
    return "".join((
        text_field("reward_model", values, lang, "evaluate_reward_model", choices=trained), none,
        text_field("data", values, lang, "evaluate_score_data", choices=rows, file=True),
        text_field("train", values, lang, "evaluate_score_train", choices=rows, file=True),
        evaluate_case.more_fields(
            lang,
            text_field("prompts", values, lang, "evaluate_score_prompts", file=True),
            text_field("base", values, lang, "evaluate_base", choices=evaluate_case.demo_models()),
            text_field("category", values, lang, "evaluate_category"),
            text_field("columns", values, lang, "evaluate_columns", lines=2),
            number_field("max_samples", values, lang, "evaluate_max_samples", "", min=1, step=1),
        ),
    ))  # fmt: skip


def checked(given: Form, lang: str) -> Checked:
    """As a command of `score`."""
    problems = Problems(lang)
    model, data = problems.reward_model("reward_model", given), problems.data("data", given)
    train = problems.data("train", given, required=False)
    arguments = ["score", "--reward-model", model, "--data", data]
    if train:
        arguments += ["--train", train]
    if prompts := problems.data("prompts", given, required=False):
        arguments += ["--prompts", prompts]
    if base := problems.model("base", given, required=False):
        arguments += ["--base", base]
    if category := given.get("category", "").strip():
        arguments += ["--category", category]
    arguments += problems.columns("columns", given)
    if most := problems.number("max_samples", given, 1, 10**9):
        arguments += ["--max-samples", most]
    arguments += ["--output", f"{FOLDER}/{ROWS}", "--suspects", f"{FOLDER}/{SUSPECTS}", "--overwrite"]
    return Checked(tuple(arguments), problems.found, f"{evaluate_case.short(model)} · {evaluate_case.short(data)}")


# --- figures -----------------------------------------------------------------------------------------------------


def _sets(result: Json) -> list[Json]:
    """The set that is judged first."""
    there = [one for one in result.get("sets", ()) if isinstance(one, Mapping)]
    return sorted(there, key=lambda one: ROLES.index(one["role"]) if one.get("role") in ROLES else 0)


def _share(value: Any) -> Json | None:
    return value if isinstance(value, Mapping) and finite_number(value.get("value")) is not None else None


def _accuracy(one: Json) -> Json | None:
    held = one.get("accuracy")
    return _share(held.get("share")) if isinstance(held, Mapping) else None


def headline(result: Json, lang: str) -> Headline:
    """Accuracy in words, as far as its interval lets it be said."""
    said = words(lang)
    sets = _sets(result)
    if not sets:
        return Headline(str(said["evaluate_no_result"]))
    share = _accuracy(sets[0])
    if share is None:
        return Headline(str(said["score_verdict_answers"]).format(n=f"{sets[0].get('scored', 0):,}"))
    shown = {"share": number(share["value"], True), "n": f"{share['n']:,}"}
    entry = "below" if share["high"] < 0.5 else "chance" if share["low"] <= 0.5 else ""
    line = str(said[f"score_verdict_{entry}" if entry else "score_verdict"]).format(**shown)
    return Headline(line, "problems" if entry else "healthy")


def view(one: Shown, lang: str) -> str:
    """Verdict and figures, then the plots."""
    sets = _sets(one.result)
    if not sets:
        return tag("section", "dd-card", tag("p", "", text(words(lang)["evaluate_no_result"])))
    inner = _figures(sets[0], one.result, lang) + _notes(sets[0], one.result, lang)
    verdict = evaluate_head.verdict(one, headline(one.result, lang), inner, lang)
    return verdict + _plots(one, sets, lang)


def suspects(one: Shown, lang: str) -> str:
    """Doubtful labels of the set that is judged."""
    sets = _sets(one.result)
    return _suspects(one, sets[0], lang) if sets else ""


def _figures(one: Json, result: Json, lang: str) -> str:
    said = words(lang)
    cells = []
    share = _accuracy(one)
    if share is not None:
        wins, ties, losses = (int(one["accuracy"].get(name) or 0) for name in ("wins", "ties", "losses"))
        total = max(1, wins + ties + losses)
        between = str(said["score_interval"]).format(low=number(share["low"], True), high=number(share["high"], True))
        cells.append(big(said["score_accuracy"], number(share["value"], True), between))
        above = str(said["score_above_of"]).format(n=f"{losses:,}", of=f"{total:,}")
        tied = " " + str(said["score_ties"]).format(n=f"{ties:,}") if ties else ""
        cells.append(big(said["score_above"], number(losses / total, True), above + tied))
    for name in ("chosen", "rejected", "answers"):
        spread = one.get(name)
        if isinstance(spread, Mapping) and not (name == "answers" and share is not None):
            std = str(said["score_std"]).format(std=number(finite_number(spread.get("std"))))
            cells.append(big(said[f"score_{name}"], number(finite_number(spread.get("mean"))), std))
    margin = one.get("margin")
    if isinstance(margin, Mapping):
        between = str(said["score_interval"]).format(low=number(margin.get("low")), high=number(margin.get("high")))
        cells.append(big(said["score_margin"], number(margin.get("mean"), signed=True), between))
    gap = result.get("gap")
    if isinstance(gap, Mapping):
        between = str(said["score_interval"]).format(
            low=number(gap.get("low"), True), high=number(gap.get("high"), True)
        )
        cells.append(big(said["score_gap"], number(gap.get("mean"), True, signed=True), between))
    return tag("div", "dd-figures", *cells)


def _notes(one: Json, result: Json, lang: str) -> str:
    """How the model reads a row, and what of the data has no reward."""
    said = words(lang)
    lines = []
    form = said["score_forms"].get(result.get("form"))
    if form:
        lines.append(str(said["score_form"]).format(form=form))
    asked, share = finite_number(one.get("prompts")), _accuracy(one)
    if asked is not None and share is not None and asked < share["n"]:
        lines.append(str(said["score_prompts"]).format(n=f"{asked:,.0f}"))
    for name, entry in (("left_out", "score_left_rows"), ("unscored", "score_unscored")):
        held = one.get(name)
        for reason, n in list(held.items())[:6] if isinstance(held, Mapping) else []:
            lines.append(str(said[entry]).format(n=f"{n:,}", why=reason_said(str(reason), lang)))
    return tag("p", "dd-dim dd-evaluate-notes", text(" · ".join(lines))) if lines else ""


# --- plots -------------------------------------------------------------------------------------------------------


def _plots(one: Shown, sets: Sequence[Json], lang: str) -> str:
    first, said = sets[0], words(lang)
    top, left, right = "", "", ""
    if _accuracy(first) is not None:
        points_place = tag("div", "", _points_card(one, sets, 0, lang), data_part="points")
        side = tag("div", "dd-evaluate-aside", _no_case(lang), data_part="case")
        top = tag("div", "dd-evaluate-beside", points_place, side)
    drawn = evaluate_plots.calibration(first.get("calibration") or (), lang)
    if drawn:
        error = number(finite_number(first.get("calibration_error")), True)
        left += _card("score_calibration", drawn, lang, error=error)
    both = [(s, share) for s in sets if (share := _accuracy(s)) is not None]
    if len(both) > 1:
        bars = [Bar(said[f"score_set_{s['role']}"], share["value"], share["low"], share["high"], f"{share['n']:,}",
                    "plain" if s["role"] != "train" else "even") for s, share in both]  # fmt: skip
        left += _card("score_sets", evaluate_plots.interval_bars(bars, lang), lang)
    length = first.get("length")
    if isinstance(length, Mapping):
        right += _length(first, length, lang)
    right += _categories(first, lang)
    columns = [tag("div", "", column) for column in (left, right) if column]
    return top + (tag("div", "dd-evaluate-columns", *columns) if columns else "")


def _categories(one: Json, lang: str) -> str:
    held = one.get("by_category")
    if not isinstance(held, Mapping) or len(held) < 2:
        return ""
    named = [(str(name), s) for name, of in held.items() if (s := _share((of or {}).get("share"))) is not None]
    named.sort(key=lambda pair: pair[1]["value"])
    bars = [Bar(name, s["value"], s["low"], s["high"], f"{s['n']:,}", "bad" if s["high"] < 0.5 else "plain")
            for name, s in named[:MOST_CATEGORIES]]  # fmt: skip
    return _card("score_categories", evaluate_plots.interval_bars(bars, lang), lang)


def _card(entry: str, inner: str, lang: str, **params: Any) -> str:
    said = words(lang)
    info = said.get(f"{entry}_info")
    line = tag("p", "dd-dim", text(str(info).format(**params))) if info else ""
    return tag("section", "dd-card dd-chart", tag("h3", "dd-h", text(said[entry])), line, inner)


def _length(one: Json, length: Json, lang: str) -> str:
    said = words(lang)
    drawn = evaluate_plots.length_bins(length.get("bins") or (), lang)
    bars = []
    raw, corrected = _accuracy(one), length.get("corrected")
    without = _share(corrected.get("share")) if isinstance(corrected, Mapping) else None
    for entry, share, tone in (("raw", raw, "plain"), ("corrected", without, "even")):
        if share is not None and without is not None:
            bars.append(Bar(said[f"score_length_{entry}"], share["value"], share["low"], share["high"], "", tone))
    for entry, name in (
        ("longer", "accuracy_chosen_longer"),
        ("alike", "accuracy_alike"),
        ("shorter", "accuracy_rejected_longer"),
    ):
        share = _share(length.get(name))
        if share is not None and not drawn:
            bars.append(
                Bar(said[f"score_length_{entry}"], share["value"], share["low"], share["high"], f"{share['n']:,}")
            )
    sides = [(entry, share) for entry in ("right_for_longer", "right_for_shorter")
             if (share := _share(length.get(entry))) is not None]  # fmt: skip
    if len(sides) == 2:
        bars += [
            Bar(said[f"score_length_{entry}"], s["value"], s["low"], s["high"], f"{s['n']:,}") for entry, s in sides
        ]
    lines = []
    for entry in ("slope", "within"):
        value = finite_number(length.get(entry))
        if value is not None:
            lines.append(str(said[f"score_length_{entry}"]).format(**{entry: number(value, signed=True)}))
    inner = drawn + evaluate_plots.interval_bars(bars, lang)
    if not inner and not lines:
        return ""
    return _card("score_length", inner + (tag("p", "dd-dim", text(" ".join(lines))) if lines else ""), lang)


def _points_card(one: Shown, sets: Sequence[Json], place: int, lang: str) -> str:
    """The scatter of one set, with a choice of the others."""
    said, now = words(lang), sets[place]
    choice = ""
    if len([s for s in sets if _accuracy(s) is not None]) > 1:
        buttons = [
            tag("button", "dd-small", text(said[f"score_set_{s['role']}"]), type="button", data_ask="points",
                data_value=n, aria_pressed=str(n == place).lower())
            for n, s in enumerate(sets)
        ]  # fmt: skip
        choice = tag("div", "dd-evaluate-switch", *buttons, role="group", aria_label=said["score_show_set"])
    chosen, rejected, rows, total = _points(one, now)
    note = ""
    if len(chosen) < total:
        note = tag(
            "p", "dd-dim", text(str(said["score_scatter_thinned"]).format(n=f"{len(chosen):,}", of=f"{total:,}"))
        )
    groups = []
    for entry, tone, keep in (
        ("right", "good", lambda m: m > 0),
        ("wrong", "bad", lambda m: m < 0),
        ("tie", "even", lambda m: m == 0),
    ):
        at = [n for n in range(len(rows)) if keep(chosen[n] - rejected[n])]
        if at:
            groups.append(Points([chosen[n] for n in at], [rejected[n] for n in at], [rows[n] for n in at],
                                 str(said[f"score_{entry}"]), tone))  # fmt: skip
    drawn = evaluate_plots.scatter(groups, lang, x_title=said["score_chosen"], y_title=said["score_rejected"],
                                   set_name=str(now["role"]))  # fmt: skip
    head = tag("div", "dd-evaluate-card-head", tag("h3", "dd-h", text(said["score_scatter"])), choice)
    return tag("section", "dd-card dd-chart", head, drawn, note)


def _no_case(lang: str) -> str:
    """Beside the points until one is chosen."""
    return tag("section", "dd-card dd-case-none", tag("p", "dd-dim", text(words(lang)["score_scatter_info"])))


def _rows_of(one: Shown, held: Json) -> Path | None:
    """The file of rows of a set; the second set's lies beside the first's."""
    if one.folder is None:
        return None
    named = one.folder / f"rows.{held['role']}.jsonl"
    path = named if named.is_file() else one.folder / ROWS
    return path if path.is_file() else None


def _points(one: Shown, held: Json) -> tuple[list[float], list[float], list[int], int]:
    """(rewards of chosen, of rejected, rows, how many pairs there are)."""
    path = _rows_of(one, held)
    if path is not None:
        try:
            lines = score_rows(path)
        except OSError:
            lines = None
        if lines is not None:
            x, y = lines.numbers["score_chosen"], lines.numbers["score_rejected"]
            rows = [n for n in range(len(lines)) if math.isfinite(x[n]) and math.isfinite(y[n])]
            total = len(rows)
            if total:
                rows = rows[:: max(1, math.ceil(total / MOST_POINTS))]
                return [x[n] for n in rows], [y[n] for n in rows], rows, total
    kept = one.report.curves.get("points") if one.report is not None else None
    points = _kept_points(one, held)
    whole = isinstance(kept, Mapping) and len(kept.get("series") or ()) == 1
    total = int(finite_number(kept.get("rows")) or 0) if whole and isinstance(kept, Mapping) else len(points)
    return [p[0] for p in points], [p[1] for p in points], [int(p[2]) for p in points], max(total, len(points))


def _kept_points(one: Shown, held: Json) -> list[Sequence[Any]]:
    """Of a set, as the report holds them: [chosen, rejected, row, place of the set in the result]. Two sets may have
    one name, and both have a row 0."""
    kept = one.report.curves.get("points") if one.report is not None else None
    if not isinstance(kept, Mapping):
        return []
    place = next((n for n, s in enumerate(one.result.get("sets") or ()) if s is held), 0)
    return [p for p in kept.get("points") or () if isinstance(p, (list, tuple)) and len(p) == 4 and p[3] == place]


def points(one: Shown, asked: Asked, lang: str) -> Answer:
    """The scatter of another set. value: its place."""
    sets = _sets(one.result)
    value = str(asked.get("value", ""))
    place = int(value) if value.isdecimal() and int(value) < len(sets) else 0
    return {"parts": {"points": _points_card(one, sets, place, lang), "case": _no_case(lang)}}


# --- doubtful labels ---------------------------------------------------------------------------------------------


def _suspect_list(one: Shown, held: Json) -> list[Json]:
    found = [s for s in held.get("suspects") or () if isinstance(s, Mapping)]
    if found or one.report is None:
        return found
    names = {held.get("name"), None}
    return [{**s, "chosen": s["sides"][0]["text"], "rejected": s["sides"][1]["text"]}
            for s in one.report.samples if s.get("kind") == "suspect" and s.get("set") in names]  # fmt: skip


def _suspects(one: Shown, held: Json, lang: str) -> str:
    said = words(lang)
    if _accuracy(held) is None:
        return ""
    found = _suspect_list(one, held)
    count = int(finite_number(held.get("suspect_count")) or len(found))
    title = tag("h3", "dd-h", text(said["score_suspects"]))
    if not count:
        return tag("section", "dd-card", title, tag("p", "dd-dim", text(said["score_suspects_none"])))
    button = tag("button", "dd-do dd-primary", text(said["score_suspects_pairs"]), type="button", data_ask="to_pairs")
    rows = []
    for s in found[:SHOWN_SUSPECTS]:
        link = tag("button", "dd-link", text(_short(str(s.get("prompt", "")))), type="button",
                   data_case=s.get("row"), data_set=held["role"])  # fmt: skip
        rows.append(tag("tr", "", tag("td", "dd-left dd-suspect-prompt", link),
                        tag("td", "", text(number(s.get("margin")))),
                        tag("td", "", text(number(s.get("probability"), True)))))  # fmt: skip
    heads = (tag("th", css, text(said[f"score_suspect_{name}"]), scope="col")
             for name, css in (("prompt", "dd-left"), ("margin", ""), ("probability", "")))  # fmt: skip
    table = tag("table", "dd-evaluate-table", tag("thead", "", tag("tr", "", *heads)), tag("tbody", "", *rows))
    entry = "score_suspects_info" if count != 1 else "score_suspects_info_one"
    lines = [str(said[entry]).format(n=f"{count:,}")]
    noise = _share(held.get("label_noise"))
    if noise is not None:
        shares = {name: number(noise[name], True) for name in ("value", "low", "high")}
        lines.append(str(said["score_label_noise"]).format(**shares))
    info = tag("p", "dd-dim", text(" ".join(lines)))
    return tag("section", "dd-card", tag("div", "dd-evaluate-card-head", tag("div", "", title, info), button),
               tag("div", "dd-scroll", table, tabindex=0))  # fmt: skip


def _short(line: str, most: int = 110) -> str:
    line = " ".join(line.split())
    return line if len(line) <= most else line[:most] + "…"


class _Suspects:
    """Pairs of a file or of a report, as a source that ui/pair_import.py reads."""

    kind = "pairs"

    def __init__(self, pairs: list[Pair]) -> None:
        from collections import Counter

        self._pairs = pairs
        self.reasons: Counter[str] = Counter()
        self.formats: Counter[str] = Counter()

    def __iter__(self) -> Iterator[Pair]:
        for pair in self._pairs:
            self.formats["trl"] += 1
            yield pair


def to_pairs(one: Shown, asked: Asked, lang: str) -> Answer:
    """Doubtful labels as a set of the tab Pairs."""
    name = str(words(lang)["evaluate_suspects_name"]).format(name=_model_name(one.result))
    path = one.folder / SUSPECTS if one.folder is not None else None
    if path is not None and path.is_file() and path.stat().st_size:
        return {"set": pair_import.begin(GivenSet(name, (path,)))}
    found = [s for held in _sets(one.result)[:1] for s in _suspect_list(one, held)]
    if not found:
        raise BadCase("score_suspects_none")
    sides = ([str(s.get(name, "")) for name in ("prompt", "chosen", "rejected")] for s in found)
    made = [Pair([{"role": "user", "content": prompt}], chosen, rejected) for prompt, chosen, rejected in sides]
    return {"set": pair_import.begin(GivenSet(name, made=_Suspects(made)))}


def _model_name(result: Json) -> str:
    model = result.get("reward_model")
    return str(model.get("name", "")) if isinstance(model, Mapping) else ""


# --- one case ----------------------------------------------------------------------------------------------------


def case(one: Shown, asked: Asked, lang: str) -> Answer:
    """A pair with its rewards, side by side. row: its number; set: the role of its set."""
    said, sets = words(lang), _sets(one.result)
    held = next((s for s in sets if s.get("role") == asked.get("set")), sets[0] if sets else {})
    row = asked.get("row")
    if not isinstance(row, int) or isinstance(row, bool) or not held:
        raise BadCase("pairs_no_answer")
    found = _read_case(one, held, row)
    if found is None:
        raise BadCase("case_gone" if _rows_of(one, held) is None else "case_unreadable")
    prompt, sides, (before, after) = found
    margin = ""
    scores = [score for _, _, score in sides]
    if len(scores) == 2 and None not in scores:
        margin = str(said["case_margin"]).format(n=number(scores[0] - scores[1], signed=True))  # type: ignore[operator]
    shown = []
    for name, answer, score in sides:
        best = score is not None and score == max((s for s in scores if s is not None), default=None)
        css = "dd-case-side" + (" dd-better" if name == "chosen" else " dd-worse" if name == "rejected" else "")
        told = str(said["case_reward"]).format(n=number(score)) + (" ▲" if best and len(scores) > 1 else "")
        head = tag("header", "", tag("b", "", text(said.get(f"score_{name}", name))), tag("span", "dd-num", text(told)))
        shown.append(tag("div", css, head, tag("div", "dd-case-text", with_specials(answer[:MOST_TEXT]))))
    ways = [(way, to) for way, to in (("previous", before), ("next", after))]
    tools = [tag("button", "dd-small", text(said[f"case_{way}"]), type="button", data_case=to, data_set=held["role"],
                 data_way=way, disabled=to is None) for way, to in ways]  # fmt: skip
    tools.append(tag("button", "dd-small", text(said["case_close"]), type="button", data_close_case=True))
    title = str(said["case_row"]).format(n=f"{row + 1:,}")
    head = tag("div", "dd-case-head", tag("h3", "", text(" · ".join(p for p in (title, margin) if p))),
               tag("div", "dd-head-tools", *tools))  # fmt: skip
    asked_for = tag("div", "dd-case-text dd-case-prompt", with_specials(prompt[:MOST_TEXT]))
    card = tag("section", "dd-card dd-case-card", head, asked_for, tag("div", "dd-case-sides", *shown))
    return {"parts": {"case": card}}


Sides = list[tuple[str, str, float | None]]


def _read_case(one: Shown, held: Json, row: int) -> tuple[str, Sides, tuple[int | None, int | None]] | None:
    """(prompt, (side, text, reward) of each answer, the rows before and after it)."""
    path = _rows_of(one, held)
    if path is not None:
        try:
            lines = score_rows(path)
            record = lines.row(row)
        except OSError:
            return None
        if record is None:
            return None
        around = (row - 1 if row > 0 else None, row + 1 if row + 1 < len(lines) else None)
        return (*_sides(record, one.asked), around)
    listed = _suspect_list(one, held)
    place = next((n for n, s in enumerate(listed) if s.get("row") == row), None)
    if place is None:
        return None
    s = listed[place]
    beside = tuple(listed[n].get("row") if 0 <= n < len(listed) else None for n in (place - 1, place + 1))
    sides = [(name, str(s.get(name, "")), score)
             for name, score in zip(("chosen", "rejected"), _scores_of_point(one, held, row), strict=True)]  # fmt: skip
    return str(s.get("prompt", "")), sides, (beside[0], beside[1])


def _scores_of_point(one: Shown, held: Json, row: int) -> tuple[float | None, float | None]:
    found = next((p for p in _kept_points(one, held) if p[2] == row), (None, None))
    return finite_number(found[0]), finite_number(found[1])


def _sides(record: dict[str, Any], asked: Form) -> tuple[str, Sides]:
    """The prompt and the answers of a row, whatever its format."""
    found = answers_in(record, _columns(asked))
    scores = [finite_number(record.get(name)) for name in ("score_chosen", "score_rejected", "score")]
    if found is None or found.pair is None:
        return "", []
    prompt = "\n\n".join(text_of([message]) for message in found.pair.prompt)
    if found.pair.system:
        prompt = f"{found.pair.system}\n\n{prompt}"
    if found.paired:
        return prompt, [
            ("chosen", text_of(found.pair.chosen), scores[0]),
            ("rejected", text_of(found.pair.rejected), scores[1]),
        ]
    sides: Sides = [("answers", text_of(found.one), scores[2])] if found.one is not None else []
    several = record.get("scores")
    for n, answer in enumerate(found.several):
        score = several[n] if isinstance(several, list) and n < len(several) else None
        sides.append((str(n + 1), text_of(answer), finite_number(score)))
    return prompt, sides


def _columns(asked: Form) -> dict[str, str]:
    pairs = (line.strip().partition("=") for line in asked.get("columns", "").splitlines())
    return {column: name for name, equals, column in pairs if equals and name and column}


def files(one: Shown) -> list[tuple[str, Path]]:
    """Rows of both sets and the doubtful ones."""
    if one.folder is None:
        return []
    found = [("evaluate_download_rows", one.folder / ROWS)]
    found += [("evaluate_download_rows_second", one.folder / f"rows.{role}.jsonl") for role in ("held_out", "train")]
    return [*found, ("evaluate_download_suspects", one.folder / SUSPECTS)]


PANEL = Panel(
    "scores", RESULT, form, checked, headline, view, suspects,
    {"case": case, "points": points, "to_pairs": to_pairs}, files, shows_cause=True,
)  # fmt: skip
