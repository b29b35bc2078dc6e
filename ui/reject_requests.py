"""What the page's script of the tab Rejects asks: the form and its command, a run, one row, what to do with it."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from diagnostics.report_store import ID
from ui import (
    reject_case,
    reject_compare,
    reject_head,
    reject_pairs,
    reject_preview,
    reject_runs,
    reject_setup,
    reject_view,
)
from ui.allowed_paths import is_public
from ui.interface_words import words
from ui.pair_page import Answer, Asked, guarded, names_of, text_of_field, whole
from ui.reject_case import PREVIEW_ROWS, Checked
from ui.reject_index import Rows
from ui.reject_live import MAIN, rows_of
from ui.reject_runs import About
from ui.visitor_case import BadCase

FORM_FIELDS = 300  # of a form are looked at: it has about a hundred
PUBLIC_OUTPUT = "rejects.json"  # as the command says it where paths of this machine are nobody's business


@guarded
def rejects_open(asked: Asked, lang: str) -> Answer:
    """The whole tab: a run, two runs compared, or the form with the runs that are known."""
    run_id, seen = asked.get("id"), names_of(asked.get("seen"))
    if asked.get("partner"):
        return {**_compared(asked, lang), "state": "compare"}
    if run_id:
        try:
            return {**_opened(asked, lang), "state": "open"}
        except BadCase as bad:
            if bad.entry != "rejects_gone":
                raise
    parts = {"start": (reject_head.gone(seen, lang) if run_id else "") + reject_head.recent(seen, lang)}
    if asked.get("form") is not None:  # the page has none in this language
        parts["setup"] = reject_setup.page(_form(asked), lang)
    return {"state": "gone" if run_id else "start", "parts": parts, "now": {"live": False}}


def _form(asked: Asked) -> dict[str, Any]:
    given = asked.get("form")
    return {str(k): v for k, v in list(given.items())[:FORM_FIELDS]} if isinstance(given, dict) else {}


def _opened(asked: Asked, lang: str) -> Answer:
    run_id = str(asked["id"])
    about = reject_runs.about(run_id)
    answer = _row(asked, lang)
    status = reject_runs.status(run_id)
    answer["parts"] |= {
        "head": reject_head.head(run_id, about, status, lang), "now": reject_head.now(run_id, about, status, lang),
        "files": reject_head.files(run_id, about, lang),
        "preview": reject_preview.panel(run_id, about, status, rows_of(run_id), lang),
    }  # fmt: skip
    answer["now"]["live"] = status.live
    return answer


def _row(asked: Asked, lang: str) -> Answer:
    """One row of the view asked for, and the bar that leads to others."""
    run_id = str(asked["id"])
    index = rows_of(run_id)
    known_all = index.update()
    view = text_of_field(asked.get("view"), 200) or "all"
    places = index.matching(view)
    if not len(places) and view != "all" and not len(index):
        view, places = "all", index.matching("all")
    place = _place(index, places, asked)
    parts = {"bar": "", "rows": ""}
    if len(index):
        parts["bar"] = reject_head.filters(index, view, place, len(places), lang)
        parts["rows"] = reject_view.row(index.row(places[place]) if len(places) else [], lang)
    else:
        live = reject_runs.status(run_id).live
        soon = "rejects_rows_later" if _in_side_pass(run_id) else "rejects_rows_soon"
        entry = soon if live else "rejects_rows_none"
        parts["rows"] = reject_view.nothing_yet(entry, lang)
    if not known_all:
        parts["bar"] += reject_view.nothing_yet("rejects_reading", lang, share=f"{index.share:.0%}")
    row = index.id_of(places[place]) if len(places) else None
    now = {"view": view, "place": place, "row": row, "matching": len(places), "step": 1, "reading": not known_all}
    return {"parts": parts, "now": now, "rows": len(index)}


def _in_side_pass(run_id: str) -> bool:
    """Whether the run makes candidates that a later pass brings together."""
    one = reject_runs.progress(run_id).get("pass")
    return isinstance(one, dict) and one.get("name") not in (MAIN, "reward", "embedding", "write", None)


def _place(index: Rows, places: Sequence[int], asked: Asked) -> int:
    """Where the row asked for stands in the view: rows that are finished meanwhile move it. `by`: so many further."""
    row, by = asked.get("row"), asked.get("by")
    place = whole(asked.get("place"))
    at = index.place_of(row) if isinstance(row, int) and not isinstance(row, bool) else None
    if at is not None:
        place = bisect_left(places, at) + (by if by in (1, -1) else 0)
    return max(0, min(place, len(places) - 1))


@guarded
def rejects_row(asked: Asked, lang: str) -> Answer:
    """Another row or view."""
    reject_runs.folder_of(asked.get("id"))
    return _row(asked, lang)


@guarded
def rejects_now(asked: Asked, lang: str) -> Answer:
    """What has changed since: progress, rows that were added, the list of runs."""
    return _now(asked, lang)


def _now(asked: Asked, lang: str) -> Answer:
    if asked.get("partner"):
        return _compared(asked, lang)
    run_id = asked.get("id")
    if not run_id:
        return {"parts": {"start": reject_head.recent(names_of(asked.get("seen")), lang)}}
    about, status = reject_runs.about(run_id), reject_runs.status(run_id)
    answer: Answer = {"parts": {"now": reject_head.now(str(run_id), about, status, lang)}, "now": {"live": status.live}}
    index = rows_of(run_id)
    complete = index.update()
    if len(index) != asked.get("rows") or index.live or not status.live or not complete:
        shown = _row(asked, lang)
        answer["parts"] |= shown["parts"]
        answer["now"] |= shown["now"]
    if not status.live:
        answer["parts"]["preview"] = reject_preview.panel(str(run_id), about, status, index, lang)
        answer["parts"] |= {"head": reject_head.head(str(run_id), about, status, lang),
                            "files": reject_head.files(str(run_id), about, lang)}  # fmt: skip
    return {**answer, "rows": len(index)}


@guarded
def rejects_compare(asked: Asked, lang: str) -> Answer:
    """Other rows of a comparison."""
    return _compared(asked, lang)


def _compared(asked: Asked, lang: str) -> Answer:
    ids = (str(asked.get("id")), str(asked.get("partner")))
    for run_id in ids:
        reject_runs.folder_of(run_id)
    shown, now = reject_compare.page(ids, whole(asked.get("place")), lang)
    return {"parts": {"compare": shown}, "now": now}


@guarded
def rejects_files(asked: Asked, lang: str) -> Answer:
    """Command, files and log as they are now."""
    run_id = asked.get("id")
    return {"parts": {"files": reject_head.files(str(run_id), reject_runs.about(run_id), lang)}}


# --- the form ---


@guarded
def rejects_command(asked: Asked, lang: str) -> Answer:
    """The command that the form stands for, and what is wrong with it."""
    found = reject_case.checked(_form(asked))
    output = PUBLIC_OUTPUT if is_public() else str(_next_output(asked)[1])
    policy = reject_setup.policy_described(found, lang)
    return {"parts": {"command": reject_setup.command_now(found, output, lang), "policy": policy},
            "problems": reject_setup.said_problems(found, lang), "now": {"next": _next_output(asked)[0]}}  # fmt: skip


def _next_output(asked: Asked) -> tuple[str, Path]:
    """The id that the next run will have, so that the command shown is the one that is started."""
    given = asked.get("next")
    return reject_runs.place_for(given if isinstance(given, str) and ID.fullmatch(given) else None)


@guarded
def rejects_start(asked: Asked, lang: str) -> Answer:
    """Start a run, a preview, or the two runs of the founding case."""
    if asked.get("founding") is True:
        return _founding(lang)
    preview = PREVIEW_ROWS if asked.get("preview") is True else 0
    found = reject_case.checked(_form(asked))
    if found.problems:
        return {"problems": reject_setup.said_problems(found, lang)}
    try:
        reject_runs.check_room()
        run_id = _start(found, _form(asked), lang, preview=preview, run_id=_next_output(asked)[0])
    except BadCase as bad:
        return {"problems": {"start": str(words(lang)[bad.entry]).format(**bad.params)}}
    return {"id": run_id}


def _start(
    found: Checked, form: dict[str, Any], lang: str, *, preview: int = 0, run_id: str | None = None, partner: str = "",
    name: str = "",
) -> str:  # fmt: skip
    made, output = reject_runs.place_for(run_id)
    more = ("--preview", str(preview)) if preview else ()
    command = found.command(PUBLIC_OUTPUT if is_public() else output, *([" ".join(more)] if more else []))
    about = About(name, found.arguments(output, *more), command, time.time(), tuple(found.demo), preview,
                  found.model, found.data, partner, {k: v for k, v in form.items() if k != "token"})  # fmt: skip
    reject_runs.start(made, about, _builder(about.demo))
    return made


def _builder(demo: tuple[str, ...]) -> Callable[[Callable[[str], None]], None] | None:
    """What trains the demo models of a run; None where they are there."""
    from pipeline.demo.build import build_demo, default_root

    missing = [name for name in demo if not (default_root() / name).is_dir()]

    def build(tell: Callable[[str], None]) -> None:
        build_demo(progress=tell, only=missing)

    return build if missing else None


def _founding(lang: str) -> Answer:
    """The founding case as it was beside what it should have been: two runs that know each other."""
    try:
        reject_runs.check_room(2)
        ids = [reject_runs.place_for(None)[0] for _ in range(2)]
        for place, form in enumerate(reject_case.founding_forms()):
            found = reject_case.checked(form)
            reject_case.raise_first(found)
            _start(found, form, lang, run_id=ids[place], partner=ids[1 - place], name=reject_head.FOUNDING[place])
    except BadCase as bad:
        return {"problems": {"start": str(words(lang)[bad.entry]).format(**bad.params)}}
    return {"id": ids[0], "partner": ids[1]}


# --- what is done with a run ---


@guarded
def rejects_stop(asked: Asked, lang: str) -> Answer:
    """Ask it to stop."""
    reject_runs.stop(asked.get("id"))
    return _state(asked, lang)


@guarded
def rejects_resume(asked: Asked, lang: str) -> Answer:
    """Go on where it stopped."""
    run_id = str(asked.get("id"))
    about = reject_runs.about(run_id)
    reject_runs.check_room()
    more = ("--resume",) if reject_runs.has_begun(run_id) else ()
    reject_runs.begin(run_id, (*about.arguments, *more), _builder(about.demo))
    return _state(asked, lang)


@guarded
def rejects_choose(asked: Asked, lang: str) -> Answer:
    """Choose anew from the candidates of a finished run, with another policy."""
    run_id, policy = str(asked.get("id")), asked.get("policy")
    about, status = reject_runs.about(run_id), reject_runs.status(run_id)
    if policy == reject_runs.policy_of(about):
        return _state(asked, lang)
    if not isinstance(policy, str) or policy not in reject_case.policies_for(about.arguments):
        raise BadCase("rejects_no_policy")
    if status.live:
        raise BadCase("rejects_still_live")
    form = {key: value for key, value in about.asked.items() if not key.startswith("policy.")}
    about = reject_runs.keep_about(
        run_id, about, asked={**form, "policy": policy}, arguments=_chosen_by(about.arguments, policy),
        command=reject_case.with_policy(about.command, policy),
    )  # fmt: skip
    if about.preview:  # nothing is written yet: what would be chosen is told at once
        return _now(asked, lang)
    reject_runs.begin(run_id, (*about.arguments, "--choose-only"))
    return _state(asked, lang)


@guarded
def rejects_whole(asked: Asked, lang: str) -> Answer:
    """From a preview on to all rows. Those that are done stay, whatever policy they were shown with."""
    run_id = str(asked.get("id"))
    about = reject_runs.about(run_id)
    if reject_runs.status(run_id).live:
        raise BadCase("rejects_still_live")
    reject_runs.check_room()
    if about.preview:
        given = about.arguments
        place = given.index("--preview")
        about = reject_runs.keep_about(
            run_id, about, preview=0, arguments=given[:place] + given[place + 2 :],
            command=reject_case.without_preview(about.command),
        )  # fmt: skip
    reject_runs.begin(run_id, (*about.arguments, "--resume"), _builder(about.demo))
    answer = _state(asked, lang)
    answer["parts"] |= {"head": reject_head.head(run_id, about, reject_runs.status(run_id), lang), "preview": ""}
    return answer


def _chosen_by(arguments: tuple[str, ...], policy: str) -> tuple[str, ...]:
    place = arguments.index("--choose") + 1
    return (*arguments[:place], policy, *arguments[place + 1 :])


def _state(asked: Asked, lang: str) -> Answer:
    run_id = str(asked.get("id"))
    about, status = reject_runs.about(run_id), reject_runs.status(run_id)
    return {"parts": {"now": reject_head.now(run_id, about, status, lang)}, "now": {"live": status.live}}


@guarded
def rejects_remove(asked: Asked, lang: str) -> Answer:
    """Delete a run with all it made."""
    reject_runs.remove(asked.get("id"))
    return {}


@guarded
def rejects_pairs(asked: Asked, lang: str) -> Answer:
    """Into the tab Pairs."""
    return {"set": reject_pairs.send(str(asked.get("id")), lang)}


@guarded
def rejects_again(asked: Asked, lang: str) -> Answer:
    """The form that a run was made with."""
    return {"form": reject_runs.about(asked.get("id")).asked}


REQUESTS = [
    rejects_open, rejects_row, rejects_now, rejects_compare, rejects_files, rejects_command, rejects_start,
    rejects_stop, rejects_resume, rejects_whole, rejects_choose, rejects_remove, rejects_pairs, rejects_again,
]  # fmt: skip
