"""The panel *Abilities kept* of the tab Evaluate: what each model can still do, and what guessing gets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ui import evaluate_case
from ui.allowed_paths import is_public
from ui.charts import finite_number
from ui.evaluate_case import Problems, number_field, text_field
from ui.evaluate_contests import names_of
from ui.evaluate_panel import FOLDER, Checked, Form, Headline, Panel, Shown
from ui.evaluate_plots import Bar, interval_bars, number
from ui.interface_words import words
from ui.safe_html import prose, tag, text, with_specials
from ui.visitor_case import named_lines

RESULT = "abilities.json"
BEFORE, AFTER = "demo:healthy_decoder", "demo:undertrained_decoder"
SHOWN_JOBS, SHOWN_DEMO = 5, (BEFORE, AFTER, "demo:never_stops_decoder")  # to be added by a click
WORST = ("lost", "cannot_tell", "no_difference", "gained", "kept")
TONES = {"lost": "bad", "kept": "good", "gained": "good"}
SHOWN_ITEMS, LONG = 20, 4000  # lost items of one ability, characters of one text


# --- the form ----------------------------------------------------------------------------------------------------


def form(given: Form, lang: str) -> str:
    """The models; whose questions, folded away."""
    trained, demo = evaluate_case.jobs(lang), evaluate_case.demo_models()
    few = [*trained[:SHOWN_JOBS], *(one for one in demo if one.value in SHOWN_DEMO)]
    values = dict(given) or {"before": BEFORE, "after": AFTER}
    return "".join((
        text_field("before", values, lang, "abilities_before", choices=[*trained, *demo]),
        text_field("after", values, lang, "abilities_after", choices=few, lines=2),
        text_field("items", values, lang, "abilities_items", file=True),
        evaluate_case.more_fields(
            lang,
            "" if is_public() else text_field("tasks", values, lang, "abilities_tasks"),
            number_field("max_samples", values, lang, "abilities_max", "", min=1, step=1),
        ),
    ))  # fmt: skip


def checked(given: Form, lang: str) -> Checked:
    """As a command of `abilities`."""
    problems = Problems(lang)
    sides = {name: problems.compared(name, given) for name in ("before", "after")}
    for name in sides:
        if not named_lines(given.get(name, "")):
            problems.wrong(name, "evaluate_no_model")
    before, after = "".join(sides["before"][:1]), sides["after"]
    arguments = ["abilities", "--before", before]
    for one in after:
        arguments += ["--after", one]
    if items := problems.data("items", given, required=False):
        arguments += ["--items", items]
    for task in () if is_public() else given.get("tasks", "").replace("，", ",").split(","):
        if task := task.strip():
            arguments += [f"--lm-eval={task}"]
    if most := problems.number("max_samples", given, 1, 10**6):
        arguments += ["--max-samples", most]
    arguments += ["--output", f"{FOLDER}/{RESULT}"]
    shown = ", ".join(evaluate_case.short(one) for one in after)
    return Checked(tuple(arguments), problems.found, f"{evaluate_case.short(before)} → {shown}" if before else "")


# --- the page ----------------------------------------------------------------------------------------------------


def headline(result: Mapping[str, Any], lang: str) -> Headline:
    """How many abilities are lost, or that none is."""
    said = words(lang)
    _, afters = names_of(result)
    lines, tone = [], "healthy"
    for after in afters[:3]:
        lost = [a for a in _abilities(result) if _verdict(a, after) == "lost"]
        overall = _overall(result, after)
        if lost or overall == "lost":
            tone = "problems"
            lines.append(str(said["abilities_line_lost"]).format(after=after, n=len(lost)))
        else:
            known = overall in ("kept", "gained")
            tone = tone if known or tone == "problems" else "neutral"
            lines.append(str(said[f"abilities_line_{'kept' if known else 'unknown'}"]).format(after=after))
    return Headline(" · ".join(lines) or str(said["evaluate_no_result"]), tone if lines else "neutral")


def view(one: Shown, lang: str) -> str:
    """The verdict of each model, then every ability before and after."""
    result = one.result
    _, afters = names_of(result)
    verdicts = "".join(verdict(result, after, lang) for after in afters)
    return verdicts + overall(result, lang) + "".join(by_language(result, lang))


def verdict(result: Mapping[str, Any], after: str, lang: str) -> str:
    """Which abilities one model lost and gained, in a sentence."""
    said = words(lang)
    before, _ = names_of(result)
    of = _abilities(result)
    lost = [_named(a, lang) for a in of if _verdict(a, after) == "lost"]
    gained = [_named(a, lang) for a in of if _verdict(a, after) == "gained"]
    kept, guessed = (sum(_verdict(a, after) == found for a in of) for found in ("kept", "cannot_tell"))
    whole = _overall(result, after)
    named = {"before": before, "after": after}
    if lost or whole == "lost":
        entry, tone = "abilities_lost", "problems"
    elif whole in ("kept", "gained"):
        entry, tone = f"abilities_{whole}", "healthy"
    else:
        entry, tone = "abilities_guessing" if whole == "cannot_tell" else "abilities_unknown", "neutral"
    lines = []
    for which, names in (("lost", lost), ("gained", gained)):
        if names:
            listed = ("、" if lang == "zh" else ", ").join(names)
            lines.append(str(said[f"abilities_which_{which}"]).format(names=listed))
    lines.append(str(said["abilities_counts"]).format(kept=kept, n=len(of)))
    if guessed:
        lines.append(str(said["abilities_guessed"]).format(n=guessed, of=len(of), before=before))
    n = sum(int(finite_number(a.get("n")) or 0) for a in of)
    eyebrow = tag("p", "dd-eyebrow", text(str(said["abilities_eyebrow"]).format(**named, n=f"{n:,}", of=len(of))))
    notes = [tag("p", "dd-banner", text(said["compare_interrupted"]))] if result.get("interrupted") else []
    return tag("section", f"dd-card dd-verdict dd-evaluate-verdict dd-{tone}", eyebrow,
               tag("h2", "", text(str(said[entry]).format(**named))),
               *(tag("p", "dd-lead", prose(line)) for line in lines), *notes)  # fmt: skip


def overall(result: Mapping[str, Any], lang: str) -> str:
    """How far each model is from the one before, over all items."""
    said = words(lang)
    held = result.get("overall")
    bars = []
    for after, change in held.items() if isinstance(held, Mapping) else ():
        apart = change.get("difference") if isinstance(change, Mapping) else None
        value = finite_number(apart.get("mean")) if isinstance(apart, Mapping) else None
        if value is None or not isinstance(apart, Mapping):
            continue
        found = str(change.get("verdict", ""))
        note = str(said["abilities_verdicts"].get(found, ""))
        bars.append(Bar(str(after), value, apart.get("low"), apart.get("high"), note, TONES.get(found, "even")))
    if not bars:
        return ""
    head = tag("h3", "dd-h", text(said["abilities_overall"])) + tag("p", "dd-dim", text(said["abilities_overall_info"]))
    less, more = str(said["abilities_less"]), str(said["abilities_more"])
    return tag("section", "dd-card", head, interval_bars(bars, lang, middle=0.0, ends=None, below=less, above=more))


def by_language(result: Mapping[str, Any], lang: str) -> list[str]:
    """A card a language, in it each ability with all models on one scale, the lost ones first."""
    said = words(lang)
    shown = []
    for of in dict.fromkeys(str(a.get("lang", "")) for a in _abilities(result)):
        mine = sorted((a for a in _abilities(result) if str(a.get("lang", "")) == of), key=lambda a: _rank(a, result))
        name = said["abilities_langs"].get(of, of)
        head = tag("h3", "dd-h", text(str(said["abilities_in"]).format(lang=name)))
        about = tag("p", "dd-dim", text(said["abilities_in_info"]))
        each = tag("div", "dd-abilities", *(_ability(a, result, lang) for a in mine))
        shown.append(tag("section", "dd-card", head, about, each))
    return shown


def _ability(ability: Mapping[str, Any], result: Mapping[str, Any], lang: str) -> str:
    """One ability: a bar for each model with chance as a line, the verdicts, the questions that were lost."""
    said = words(lang)
    before, afters = names_of(result)
    scores = ability.get("scores")
    chance = finite_number(ability.get("chance")) or 0.0
    bars, chips = [], []
    for name in (before, *afters):
        share = scores.get(name) if isinstance(scores, Mapping) else None
        value = finite_number(share.get("value")) if isinstance(share, Mapping) else None
        if value is None or not isinstance(share, Mapping):
            continue
        found = "" if name == before else _verdict(ability, name)
        line = str(said["abilities_verdicts"].get(found, found))
        tone = "even" if name == before else TONES.get(found, "plain")
        bars.append(Bar(name, value, share.get("low"), share.get("high"), line if len(afters) > 1 else "", tone))
        if found and len(afters) == 1:
            chips.append(tag("span", f"dd-measured dd-measured-{found}", text(line)))
    n = str(said["abilities_items_n"]).format(n=f"{int(finite_number(ability.get('n')) or 0):,}")
    luck = str(said["abilities_chance"]).format(share=number(chance, percent=True, whole=True)) if chance else ""
    facts = tag("span", "dd-dim", text(" · ".join(part for part in (n, luck, _shown_loss(ability, said)) if part)))
    head = tag("div", "dd-ability-head", tag("h4", "", text(_named(ability, lang, False))), facts, *chips)
    return tag("article", "dd-ability", head, interval_bars(bars, lang, middle=chance or None, filled=True),
               _lost(ability, before, any(_verdict(ability, name) == "lost" for name in afters), lang))  # fmt: skip


def _shown_loss(ability: Mapping[str, Any], said: Mapping[str, Any]) -> str:
    """How much would have to be lost to be called so; empty where nothing is there to lose, or was found to be."""
    held = [c for c in ability.get("changes") or () if isinstance(c, Mapping) and c.get("verdict") == "no_difference"]
    if not held or "shown_loss" not in held[0]:
        return ""
    share = finite_number(held[0]["shown_loss"])
    if share is None:
        return str(said["abilities_too_few"])
    return str(said["abilities_shown_loss"]).format(share=number(share, percent=True, whole=True))


def _lost(ability: Mapping[str, Any], before: str, is_lost: bool, lang: str) -> str:
    """What was right before and is wrong now. is_lost: whether that is more than chance."""
    said = words(lang)
    items = [item for item in ability.get("lost_items") or () if isinstance(item, Mapping)]
    if not items:
        return ""
    rows = []
    for item in items[:SHOWN_ITEMS]:
        asked = _first(item, "prompt", "question", "item")
        cells = ((said["compare_reference"], _first(item, "expected", "reference", "right")),
                 (before, _first(item, "before", "answer_before")),
                 (str(item.get("model", "")), _first(item, "answer", "after")))  # fmt: skip
        shown = (
            tag("div", "dd-lost-side", tag("span", "dd-label", text(name)),
                tag("div", "dd-case-text", with_specials(answer[:LONG])))
            for name, answer in cells if answer
        )  # fmt: skip
        rows.append(tag("li", "", tag("div", "dd-lost-asked", with_specials(asked[:LONG])), *shown))
    more = len(items) - SHOWN_ITEMS
    note = tag("p", "dd-dim", text(str(said["abilities_more_items"]).format(n=more))) if more > 0 else ""
    title = tag("summary", "", text(str(said["abilities_lost_items"]).format(n=len(items))))
    key = f"dd-lost-{ability.get('lang', '')}-{ability.get('name', '')}"
    css = "dd-more-facts dd-is-lost" if is_lost else "dd-more-facts"
    return tag("details", css, title, tag("ul", "dd-lost", *rows), note, id=key)


def _first(item: Mapping[str, Any], *names: str) -> str:
    for name in names:
        value = item.get(name)
        if value not in (None, ""):
            return value if isinstance(value, str) else str(value)
    return ""


def _abilities(result: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    held = result.get("abilities")
    return [a for a in held if isinstance(a, Mapping)] if isinstance(held, (list, tuple)) else []


def _verdict(ability: Mapping[str, Any], after: str) -> str:
    for change in ability.get("changes") or ():
        if isinstance(change, Mapping) and change.get("after") == after:
            return str(change.get("verdict", ""))
    return ""


def _overall(result: Mapping[str, Any], after: str) -> str:
    held = result.get("overall")
    change = held.get(after) if isinstance(held, Mapping) else None
    return str(change.get("verdict", "")) if isinstance(change, Mapping) else ""


def _rank(ability: Mapping[str, Any], result: Mapping[str, Any]) -> int:
    found = [_verdict(ability, after) for after in names_of(result)[1]]
    return min((WORST.index(one) for one in found if one in WORST), default=len(WORST))


def _named(ability: Mapping[str, Any], lang: str, with_lang: bool = True) -> str:
    said = words(lang)
    name = str(ability.get("name", ""))
    shown = str(said["abilities_names"].get(name, name.replace("_", " ")))
    of = str(ability.get("lang", ""))
    return f"{shown} ({said['abilities_langs'].get(of, of)})" if with_lang and of else shown


PANEL = Panel("abilities", RESULT, form, checked, headline, view)
