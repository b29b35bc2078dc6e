"""The candidates of one row side by side: the right answer first, then the reject that was taken, then the others."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from pipeline.candidates.duplicates import sql_fact
from pipeline.config_files import load_config
from pipeline.pairs.pair import content_text, text_of
from pipeline.refusal import Sentence
from ui.allowed_paths import is_public
from ui.charts import finite_number
from ui.interface_words import known, words
from ui.pair_difference import MAX_CHARACTERS, Difference, difference, spans_html
from ui.safe_html import tag, text, with_specials

Record = Mapping[str, Any]
"""One line of a candidates file."""
MAX_CARDS = 48
LITTLE_REPEATED = 0.05  # of the 4-grams: in any text, so it says nothing
LONG = 12_000  # characters of one candidate that are shown; a repeating one says nothing new after that


def strategy_name(name: str, lang: str) -> str:
    """A strategy in words; one that is unknown by its own name."""
    return str(words(lang).get(f"strategy_{name}", name.replace("_", " ")))


def text_of_side(side: Any) -> str:
    """An answer of a candidates file, whatever its form, as text."""
    if isinstance(side, str) or side is None:
        return side or ""
    return text_of(side) if isinstance(side, list) and all(isinstance(t, dict) for t in side) else str(side)


def question_of(record: Record) -> str:
    """What was asked: instruction and input, or the last turn of a prompt."""
    parts = [record.get("instruction"), record.get("input")]
    shown = "\n".join(part for part in parts if isinstance(part, str) and part.strip())
    turns = record.get("messages")
    if not shown and isinstance(turns, list) and turns and isinstance(turns[-1], dict):
        shown = content_text(turns[-1].get("content"))
    return shown


def gold_of(records: Sequence[Record]) -> str | None:
    """The right answer of a row, None where its data gives none."""
    for record in records:
        if record.get("chosen") is not None:
            return text_of_side(record["chosen"])
    return None


def picked_of(records: Sequence[Record]) -> Record | None:
    """The reject that was taken."""
    return next((r for r in records if r.get("choice") == "rejected"), None)


def shown_reject(records: Sequence[Record]) -> Record | None:
    """The reject that was taken; where nothing was chosen, the first candidate that is there."""
    found = picked_of(records)
    if found is not None or any(r.get("why") for r in records):
        return found
    return next((r for r in records if not r.get("problem")), None)


def row(records: Sequence[Record], lang: str) -> str:
    """One row: what was asked, and its candidates as cards."""
    said = words(lang)
    if not records:
        return tag("div", "dd-none", tag("p", "dd-dim", text(said["rejects_no_rows"])))
    gold, picked = gold_of(records), shown_reject(records)
    asked = tag("section", "dd-part dd-part-prompt", tag("h4", "", text(said["prompt"])),
                tag("div", "dd-answer", _plain(question_of(records[0]), said), tabindex=0))  # fmt: skip
    cards = []
    if gold is not None:
        against = difference(gold, text_of_side(picked.get("text")), LONG) if picked is not None else None
        cards.append(_gold(gold, against, lang))
    ranked = sorted((one for one in records if not one.get("problem")), key=_order)
    without = [one for one in records if one.get("problem")]
    cards += [_card(one, _against(one, records, gold), lang) for one in ranked[:MAX_CARDS]]
    more = len(ranked) - MAX_CARDS
    note = tag("p", "dd-dim", text(said["rejects_more_cards"].format(n=more))) if more > 0 else ""
    return asked + tag("div", "dd-cands", *cards) + note + _without_answer(without, lang)


def _without_answer(records: Sequence[Record], lang: str) -> str:
    """What gave nothing in this row, and why, in a line each."""
    lines = []
    for one in records[:MAX_CARDS]:
        why = problem_line(str(one["problem"]), str(one.get("problem_detail") or ""), lang)
        name = strategy_name(str(one.get("strategy", "")), lang)
        lines.append(tag("li", "", tag("b", "", text(name)), tag("span", "dd-dim", text(why))))
    if not lines:
        return ""
    head = tag("h4", "dd-preview-title", text(words(lang)["rejects_no_answer"]))
    return tag("section", "dd-cand-none", head, tag("ul", "", *lines))


def _against(record: Record, records: Sequence[Record], gold: str | None) -> str | None:
    """What a candidate is shown against: what stands chosen in its pair, a correction that came with it, else the right
    answer."""
    if record.get("corrected"):
        return text_of_side(record["corrected"])
    other = record.get("paired_with")
    if isinstance(other, int) and not isinstance(other, bool):
        return next((text_of_side(one.get("text")) for one in records if one.get("number") == other), gold)
    return gold


def nothing_yet(entry: str, lang: str, **params: str) -> str:
    """Instead of rows: why there are none."""
    return tag("div", "dd-none", tag("p", "dd-dim", text(str(words(lang)[entry]).format(**params))))


def _order(record: Record) -> tuple[int, int]:
    rank = {"rejected": 0, "chosen": 1}.get(str(record.get("choice")), 2)
    return rank, int(finite_number(record.get("number")) or 0)


def _gold(gold: str, against: Difference | None, lang: str) -> str:
    said = words(lang)
    shown = spans_html(against.chosen, "chosen") + _cut(against.cut[0], said) if against is not None else \
        _plain(gold, said)  # fmt: skip
    facts = tag("span", "dd-dim dd-cand-settings", text(said["pairs_chars"].format(n=f"{len(gold):,}")))
    head = tag("header", "", tag("b", "", text(said["rejects_gold"])), facts)
    return tag("article", "dd-cand dd-cand-gold", head, tag("div", "dd-answer", shown or _empty(said), tabindex=0))


def _card(record: Record, against: str | None, lang: str) -> str:
    """against: the answer that differences are marked against."""
    said = words(lang)
    choice = record.get("choice")
    name = strategy_name(str(record.get("strategy", "")), lang)
    settings = _settings(record.get("parameters"))
    badge = ""
    if choice in ("rejected", "chosen"):
        badge = tag("span", f"dd-cand-badge dd-badge-{choice}", text(said[f"rejects_is_{choice}"]))
    number = record.get("number")
    if isinstance(number, int):
        settings = " · ".join(filter(None, (said["rejects_number"].format(n=number), settings)))
    head = tag("header", "", tag("b", "", text(name)), badge, tag("span", "dd-dim dd-cand-settings", text(settings)))
    parts = [head]
    answer = text_of_side(record.get("text"))
    found = difference(against, answer, LONG) if against is not None else None
    shown = spans_html(found.rejected, "rejected") + _cut(found.cut[1], said) if found else _plain(answer, said)
    parts.append(tag("div", "dd-answer", shown or _empty(said), tabindex=0))
    better = record.get("corrected")
    if better:
        line = tag("b", "", text(said["rejects_correction"]))
        marked = spans_html(found.chosen, "chosen") if found else _plain(text_of_side(better), said)
        parts.append(tag("div", "dd-cand-better", line, tag("div", "dd-answer", marked, tabindex=0)))
    reasons = [why_line(one, lang) for one in _whys(record)]
    if reasons:
        listed = (tag("li", "", text(line)) for line in reasons if line)
        parts.append(tag("ul", "dd-cand-why", *listed))
    parts.append(_chips(record, lang))
    parts.append(_sql_error(record, lang))
    parts.append(_made(record, lang))
    css = {"rejected": " dd-cand-rejected", "chosen": " dd-cand-chosen"}.get(str(choice), "")
    quiet = " dd-cand-refused" if choice is None and record.get("why") else ""
    return tag("article", f"dd-cand{css}{quiet}", *parts, data_number=str(record.get("number", "")))


def _whys(record: Record) -> list[Mapping[str, Any]]:
    why = record.get("why")
    found: list[Mapping[str, Any]] = [one for one in why if isinstance(one, dict)] if isinstance(why, list) else []
    return found[:6]


def why_line(one: Mapping[str, Any], lang: str) -> str:
    """Why a policy took or left a candidate, as a sentence of candidates.yaml, or of this page where that one speaks of
    options of the command."""
    entry, params = str(one.get("entry", "")), one.get("params")
    params = params if isinstance(params, dict) else {}
    own = words(lang)["rejects_whys"].get(entry)
    if own is not None:
        with suppress(KeyError, ValueError, IndexError):
            return str(own).format(**params)
    return _sentence(entry, params, lang)


def problem_line(problem: str, detail: str, lang: str) -> str:
    """Why a candidate has no answer."""
    held = load_config(f"words/{known(lang)}/candidates.yaml")
    if problem == "nothing_to_alter" and isinstance(held.get(problem), dict):
        return str(held[problem].get(detail, detail.replace("_", " ")))
    line = _sentence(f"problem_{problem}", {"detail": detail}, lang)
    return line if not detail or detail in line else f"{line} ({detail[:300]})"


def _sentence(entry: str, params: Mapping[str, Any], lang: str) -> str:
    """What another version wrote stays readable: an entry that isn't there by its own name."""
    held = load_config(f"words/{known(lang)}/candidates.yaml")
    template = held.get(entry)
    if not isinstance(template, str):
        return entry.removeprefix("why_").removeprefix("problem_").removeprefix("sql_").replace("_", " ")
    shown = dict(params)
    if isinstance(shown.get("problem"), str):
        shown["problem"] = problem_line(shown["problem"], "", lang)
    try:
        return Sentence(entry, shown, words="candidates").said(known(lang))
    except (KeyError, ValueError, IndexError):
        return template


def _settings(parameters: Any) -> str:
    """The few parameters that tell candidates of one strategy apart."""
    shown = []
    for key, value in parameters.items() if isinstance(parameters, dict) else ():
        number = finite_number(value)
        if number is not None and key in _SHORT:
            shown.append(f"{_SHORT[key]} {number:.3g}")
    return " · ".join(shown[:4])


_SHORT = {"temperature": "T", "top_p": "top-p", "top_k": "top-k", "num_beams": "beams"}


def _chips(record: Record, lang: str) -> str:
    """Measures: what is bad is marked, and what was not measured is not there."""
    said = words(lang)
    measures = record.get("measures")
    measures = measures if isinstance(measures, dict) else {}
    chips = []
    topic = measures.get("on_topic")
    if isinstance(topic, bool):
        chips.append(_chip(said["rejects_on_topic" if topic else "rejects_off_topic"], "ok" if topic else "error"))
    if isinstance(measures.get("correct"), bool):
        right = measures["correct"]
        chips.append(
            _chip(said["rejects_correct_yes" if right else "rejects_correct_no"], "warning" if right else "ok")
        )
    chips += _sql(measures, said)
    for name, shown in (
        ("similarity", "{:.2f}"),
        ("length_ratio", "× {:.2f}"),
        ("rep_4", "{:.0%}"),
        ("reward", "{:.3g}"),
    ):
        value = finite_number(measures.get(name))
        if value is not None and not (name == "rep_4" and value < LITTLE_REPEATED):
            chips.append(_chip(f"{said[f'rejects_measure_{name}']} {shown.format(value)}", "off"))
    if record.get("ended") is False:
        chips.append(_chip(said["rejects_cut"], "warning"))
    copied = measures.get("duplicate_of")
    if copied == "chosen":
        chips.append(_chip(said["rejects_duplicate_gold"], "warning"))
    elif isinstance(copied, int):
        chips.append(_chip(said["rejects_duplicate"].format(n=copied), "off"))
    for name, entry in (("refusal", "rejects_refusal"), ("loop", "rejects_loop")):
        if measures.get(name):
            chips.append(_chip(said[entry], "warning"))
    if measures.get("same_script") is False:
        chips.append(_chip(said["rejects_other_script"], "warning"))
    return tag("div", "dd-cand-chips", *chips) if chips else ""


def _sql(measures: Mapping[str, Any], said: Mapping[str, Any]) -> list[str]:
    """What the parser and the database say of a candidate."""

    def fact(name: str) -> Any:
        return sql_fact(measures, name)

    if fact("parses") is False:
        return [_chip(said["rejects_sql_broken"], "warning")]
    if fact("refused") is True:
        return [_chip(said["rejects_sql_refused"], "error")]
    shown = []
    if fact("equal_text") is True or fact("equal_canonical") is True:
        shown.append(_chip(said["rejects_sql_equal"], "warning"))
    elif fact("same_result") is True:
        shown.append(_chip(said["rejects_sql_same"], "warning"))
    elif fact("runs") is False:
        shown.append(_chip(said["rejects_sql_fails"], "warning"))
    elif fact("same_result") is False:
        shown.append(_chip(said["rejects_sql_other"], "ok"))
    elif fact("parses") is True:
        shown.append(_chip(said["rejects_sql_parses"], "off"))
    for name, entry in (("both_empty", "rejects_sql_both_empty"), ("in_doubt", "rejects_sql_in_doubt")):
        if fact(name) is True:
            shown.append(_chip(said[entry], "off"))
    return shown


def _sql_error(record: Record, lang: str) -> str:
    """Why a query isn't one, isn't run, or failed."""
    measures = record.get("measures")
    error = sql_fact(measures, "error") if isinstance(measures, dict) else None
    if not isinstance(error, dict):
        return ""
    line = _sentence(str(error.get("entry", "")), {k: v for k, v in error.items() if k != "entry"}, lang)
    return tag("p", "dd-cand-sql", text(line[:400]))


def _chip(line: str, kind: str) -> str:
    return tag("span", f"dd-measure dd-{kind}", text(line))


def _made(record: Record, lang: str) -> str:
    """How it was made, to be opened."""
    said = words(lang)
    model = record.get("model")
    if is_public() and isinstance(model, str):
        model = os.path.basename(model)
    facts: list[tuple[str, Any]] = [
        (said["rejects_seed"], record.get("seed")), (said["rejects_model_name"], model),
        (said["rejects_format"], record.get("prompt_format")),
    ]  # fmt: skip
    tokens = record.get("tokens")
    if isinstance(tokens, int):
        facts.append((said["rejects_token_count"], f"{tokens:,}"))
    parameters = record.get("parameters")
    facts += list(parameters.items()) if isinstance(parameters, dict) else []
    measures = record.get("measures")
    for name, value in measures.items() if isinstance(measures, dict) else ():
        if isinstance(value, dict):
            facts += [(f"{name}.{key}", one) for key, one in value.items() if not isinstance(one, dict)]
        else:
            facts.append((name, value))
    shown = [(str(k), _fact(v)) for k, v in facts if v is not None and v != ""]
    rows = (tag("tr", "", tag("th", "", text(k), scope="row"), tag("td", "", text(v))) for k, v in shown)
    sent = record.get("prompt")
    prompt = tag("div", "dd-answer dd-cand-sent", _plain(sent, said)) if isinstance(sent, str) and sent else ""
    inner = tag("table", "dd-evidence", tag("tbody", "", *rows))
    return tag("details", "dd-cand-made", tag("summary", "", text(said["rejects_made"])), inner, prompt)


def _fact(value: Any) -> str:
    number = finite_number(value)
    return (f"{number:.4g}" if number is not None and not isinstance(value, int) else str(value))[:300]


def _plain(content: str, said: Mapping[str, Any]) -> str:
    if not content:
        return _empty(said)
    return with_specials(content[:MAX_CHARACTERS]) + _cut(max(0, len(content) - MAX_CHARACTERS), said)


def _empty(said: Mapping[str, Any]) -> str:
    return tag("span", "dd-dim", text(said["empty_answer"]))


def _cut(n: int, said: Mapping[str, Any]) -> str:
    return tag("p", "dd-dim dd-cut-note", text(said["rejects_text_cut"].format(n=f"{n:,}"))) if n else ""
