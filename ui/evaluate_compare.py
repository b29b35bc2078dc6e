"""The panel *Before and after* of the tab Evaluate: its form, its command, and what is asked about a result."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diagnostics import report_store
from pipeline.candidates.reward_functions import NAMES as CHECKS
from pipeline.candidates.reward_functions import REGEX
from pipeline.commands.compare import is_answers
from pipeline.commands.named_model import name_and_path
from pipeline.config_files import load_config
from ui import evaluate_case, evaluate_head, evaluate_runs, evaluate_votes
from ui import evaluate_compare_view as shown_as
from ui.allowed_paths import is_public
from ui.charts import finite_number
from ui.evaluate_case import Choice, Problems, number_field, select_field, text_field
from ui.evaluate_cases import OUTCOMES, Cases, Wanted, cases_of
from ui.evaluate_contests import deciding, first_shown, names_of
from ui.evaluate_panel import FOLDER, Answer, Asked, Checked, Form, Panel, Shown
from ui.interface_words import words
from ui.safe_html import tag, text
from ui.visitor_case import BadCase, named_lines

RESULT = "comparison.json"
MOST_SEARCH = 200
BEFORE, AFTER, PROMPTS = "demo:healthy_decoder", "demo:undertrained_decoder", "demo:pairs_held_out"
SHOWN_JOBS, SHOWN_DEMO = 5, (BEFORE, AFTER, "demo:never_stops_decoder")  # to be added by a click
ADDRESSES = ("http://", "https://")
DECODING = ("greedy", "beam", "sampling")


# --- the form ----------------------------------------------------------------------------------------------------


def form(given: Form, lang: str) -> str:
    """The two sides, the prompts and who judges; what most leave as it is folded away."""
    said = words(lang)
    trained, demo = evaluate_case.jobs(lang), evaluate_case.demo_models()
    few = [*trained[:SHOWN_JOBS], *(one for one in demo if one.value in SHOWN_DEMO)]
    values = dict(given) or {"before": BEFORE, "after": AFTER, "prompts": PROMPTS}
    checks = [Choice(name, str(said["compare_checks"][name])) for name in ("auto", *CHECKS, "none")]
    checks.append(Choice(REGEX, str(said["compare_checks"]["regex"])))
    of_machine = {"judge": "compare_judge", "judge_model": "compare_judge_model", "database": "replay_database"}
    own = [] if is_public() else [text_field(name, values, lang, entry) for name, entry in of_machine.items()]
    return "".join((
        text_field("before", values, lang, "compare_before", choices=[*trained, *demo], file=True),
        text_field("after", values, lang, "compare_after", choices=few, file=True, lines=2),
        text_field("prompts", values, lang, "compare_prompts",
                   choices=evaluate_case.demo_rows("pairs_held_out", "pairs"), file=True),
        text_field("reward_model", values, lang, "compare_reward_model",
                   choices=evaluate_case.jobs(lang, reward=True)),
        select_field("check", values, lang, "compare_check", checks),
        evaluate_case.answer_fields(values, lang, DECODING, samples=True),
        evaluate_case.more_fields(
            lang,
            text_field("pattern", values, lang, "compare_pattern"), *own,
            text_field("base", values, lang, "evaluate_base", choices=demo),
            text_field("category", values, lang, "evaluate_category"),
            text_field("columns", values, lang, "compare_columns", lines=2),
            number_field("max_samples", values, lang, "evaluate_max_samples", "", min=1, step=1),
        ),
    ))  # fmt: skip


def sides(problems: Problems, name: str, given: Form) -> list[str]:
    """Models, files of answers and servers that a field names, one a line."""
    if not named_lines(given.get(name, "")):
        problems.wrong(name, "compare_no_side")

    def other(line: str) -> str | None:
        if line.startswith(ADDRESSES) and not is_public():
            return line
        held = line.startswith((evaluate_case.PAIRS, evaluate_case.UPLOAD)) or is_answers(line)
        return problems.data(name, {name: line}) if held else None

    return problems.compared(name, given, other)


def _answers_prompts(named: str) -> bool:
    """Whether it is a model or a server, no file of answers."""
    source = name_and_path(named)[1]
    return not source.startswith((evaluate_case.PAIRS, evaluate_case.UPLOAD)) and not is_answers(source)


def checked(given: Form, lang: str) -> Checked:
    """As a command of `compare`."""
    problems = Problems(lang)
    before, after = sides(problems, "before", given)[:1], sides(problems, "after", given)
    arguments = ["compare", *(["--before", before[0]] if before else [])]
    for one in after:
        arguments += ["--after", one]
    # what the form begins with stays in it when one's own files are named, and has nothing to do with them
    wanted = given.get("prompts", "").strip() != PROMPTS or any(map(_answers_prompts, (*before, *after)))
    if wanted and (prompts := problems.data("prompts", given, required=False)):
        arguments += ["--prompts", prompts]
    elif before and all(map(_answers_prompts, (*before, *after))):
        problems.wrong("prompts", "compare_no_prompts")
    if reward := problems.reward_model("reward_model", given, required=False):
        arguments += ["--reward-model", reward]
    check = given.get("check", "auto")
    if check == REGEX:
        arguments += ["--check", REGEX + problems.pattern("pattern", given, "compare_no_pattern")]
    elif check in (*CHECKS, "none"):
        arguments += ["--check", check]
    judge = given.get("judge", "").strip()
    if judge and not is_public():
        if not judge.startswith(ADDRESSES):
            problems.wrong("judge", "compare_bad_address")
        name = given.get("judge_model", "").strip()
        arguments += ["--judge", f"{judge}#{name}" if name and "#" not in judge else judge]
    for name, option in (("database", "--database"), ("base", "--base")):
        check_named = problems.data if name == "database" else problems.model
        if (name != "database" or not is_public()) and (named := check_named(name, given, required=False)):
            arguments += [option, named]
    if category := given.get("category", "").strip():
        arguments += ["--category", category]
    arguments += [*problems.columns("columns", given), *problems.rows(given)]
    arguments += problems.answers(given, DECODING, int(load_config("evaluation.yaml")["replay"]["num_beams"]))
    arguments += ["--output", f"{FOLDER}/{RESULT}", "--overwrite"]
    shown = [evaluate_case.short(one) for one in (*before, *after)]
    return Checked(tuple(arguments), problems.found, " → ".join((shown[0], ", ".join(shown[1:]))) if shown else "")


# --- what is asked about a result --------------------------------------------------------------------------------


def _fields(asked: Asked) -> Mapping[str, Any]:
    fields = asked.get("fields")
    return fields if isinstance(fields, Mapping) else {}


def _after(one: Shown, asked: Asked) -> str:
    """The model that the page shows. Raises BadCase where the result has none."""
    _, afters = names_of(one.result)
    named = _fields(asked).get("after")
    if not afters:
        raise BadCase("pairs_no_answer")
    return named if isinstance(named, str) and named in afters else first_shown(one.result)


def _wanted(one: Shown, asked: Asked, **more: str) -> Wanted:
    """The filters as they stand on the page, some of them changed."""
    after = _after(one, asked)
    contest = deciding(one.result, after)
    given = {name: str(_fields(asked).get(name) or "")[:MOST_SEARCH] for name in ("outcome", "category", "search")}
    given |= more
    if given["outcome"] not in OUTCOMES:
        given["outcome"] = ""
    return Wanted(after, str(contest.get("by", "")) if contest is not None else "", **given)


def _cases(one: Shown, asked: Asked, lang: str, offset: int = 0, **more: str) -> Answer:
    page = shown_as.cases_page(cases_of(one), one, _wanted(one, asked, **more), offset, lang)
    return {"parts": {"listed": page}}


def another(one: Shown, asked: Asked, lang: str) -> Answer:
    """Another of the models."""
    after = _after(one, {"fields": {"after": asked.get("value")}})
    return {"parts": {"compare": shown_as.compared(one, after, lang), "cases": shown_as.cases(one, lang, after)}}


def filtered(one: Shown, asked: Asked, lang: str) -> Answer:
    """The cases that pass the filters."""
    return _cases(one, asked, lang)


def of_outcome(one: Shown, asked: Asked, lang: str) -> Answer:
    """All wins, ties or losses."""
    return _cases(one, asked, lang, outcome=str(asked.get("value", "")), category="", search="")


def of_category(one: Shown, asked: Asked, lang: str) -> Answer:
    """All cases of a category."""
    return _cases(one, asked, lang, outcome="", category=str(asked.get("value", "")), search="")


def turned(one: Shown, asked: Asked, lang: str) -> Answer:
    """The cases from another place on."""
    offset = finite_number(_number(asked.get("value")))
    return _cases(one, asked, lang, int(offset or 0))


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def case(one: Shown, asked: Asked, lang: str) -> Answer:
    """The case of a point that was clicked. set: who judged."""
    place = _place(one, cases_of(one), asked)
    found = cases_of(one).case(place) if place is not None else {}
    by = str(asked.get("set") or "")
    close = tag("button", "dd-small", text(words(lang)["compare_close"]), type="button", data_close_case=True)
    if not found:
        gone = tag("p", "dd-dim", text(words(lang)["compare_case_gone"]))
        return {"parts": {"case": tag("article", "dd-card dd-case-card", gone, close)}}
    return {"parts": {"case": shown_as.case_card(found, place or 0, by, one, lang, tools=close, opened=True)}}


# --- people ------------------------------------------------------------------------------------------------------


def vote(one: Shown, asked: Asked, lang: str) -> Answer:
    """A vote on the case that is shown (`left`, `right`, `tie`, `skip`), `undo`, or `reveal CASE` of a vote cast."""
    said, does = words(lang), str(asked.get("value", ""))
    votes = evaluate_votes.votes_of(one, _after(one, asked), evaluate_votes.voter_of(asked))
    told = ""
    if does.startswith("reveal "):
        case = does.removeprefix("reveal ")
        names = votes.reveal(case)
        told = evaluate_votes.told(names["vote"], case, said, names) if names is not None else ""
    elif does == "undo":
        votes.undo()
        told = tag("span", "", text(said["votes_undone"]))
    elif does in ("left", "right", "tie", "skip"):
        case = str(_fields(asked).get("vote_case") or "")
        votes.vote(case, does)  # type: ignore[arg-type]
        told = evaluate_votes.told(does, case, said)
    return {"parts": {"votes": evaluate_votes.arena(one, votes, lang, told)}}


def votes(one: Shown, asked: Asked, lang: str) -> Answer:
    """`open` the voting, `close` it, or `count` the votes into the result and its report."""
    after, does = _after(one, asked), str(asked.get("value", ""))
    if does == "close":
        return {"parts": {"votes": evaluate_votes.card(one, after, lang)}}
    cast = evaluate_votes.votes_of(one, after, evaluate_votes.voter_of(asked))
    if does == "count" and one.folder is not None:
        evaluate_votes.put_into_result(one, cast, RESULT, evaluate_runs.PRINTED)
        made = evaluate_runs.shown(one.id)
        if made.report is not None:
            report_store.save(made.report, one.id)
        parts = {"view": shown_as.view(made, lang), "findings": evaluate_head.findings(made, lang),
                 "cases": shown_as.cases(made, lang, after)}  # fmt: skip
        return {"parts": parts, "toast": words(lang)["votes_put_in"]}
    return {"parts": {"votes": evaluate_votes.arena(one, cast, lang)}}


def _place(one: Shown, cases: Cases, asked: Asked) -> int | None:
    """Of a file of rows points name the place; of a stored report the row."""
    row = asked.get("row")
    if not isinstance(row, int) or isinstance(row, bool):
        return None
    return row if one.rows is not None else cases.place_of(row, _after(one, asked))


def files(one: Shown) -> list[tuple[str, Path]]:
    """What people voted."""
    return [("votes_download", one.folder / evaluate_votes.FILE)] if one.folder is not None else []


PANEL = Panel(
    "comparison", RESULT, form, checked, shown_as.headline, shown_as.view, shown_as.cases,
    {"case": case, "after": another, "filter": filtered, "outcome": of_outcome, "category": of_category, "page": turned,
     "vote": vote, "votes": votes}, files,
)  # fmt: skip
