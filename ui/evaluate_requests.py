"""What the page's script of the tab Evaluate asks: the form and its command, a run, its result, one case of it."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from pipeline.refusal import Refused
from ui import evaluate_bundles, evaluate_case, evaluate_head, evaluate_runs
from ui.evaluate_panel import Answer, Asked, Checked, Form, Shown
from ui.evaluate_panels import panels
from ui.interface_words import words
from ui.pair_page import guarded, names_of
from ui.running_diagnosis import one_line
from ui.visitor_case import BadCase

FIRST = "scores"
_ODD = (KeyError, TypeError, ValueError, AttributeError, IndexError)  # a result of another version, or edited by hand
EMPTY = {"head": "", "now": "", "view": "", "findings": "", "cases": "", "log": ""}


@guarded
def evaluate_open(asked: Asked, lang: str) -> Answer:
    """The whole tab: an evaluation, or the form with those that are known."""
    if asked.get("id"):
        try:
            return {**_page(str(asked["id"]), lang), "state": "open"}
        except BadCase as bad:
            if bad.entry != "evaluations_gone":
                raise
    kind = _kind(asked)
    form = evaluate_case.form_of(asked.get("form"))
    start = (evaluate_head.gone(lang) if asked.get("id") else "") + _beside(asked, kind, lang)
    recent = evaluate_head.recent(names_of(asked.get("seen")), lang)
    parts = {"form": evaluate_head.case(kind, form, lang), "start": start, "recent": recent,
             "bundles": _bundles(kind, lang)}  # fmt: skip
    return {"state": "gone" if asked.get("id") else "start", "parts": parts, "kind": kind, "now": {"live": False}}


def _beside(asked: Asked, kind: str, lang: str) -> str:
    """What stands beside the form: the bundle that is open, else what this kind of evaluation tells."""
    with suppress(BadCase, Refused):
        if asked.get("bundle"):
            return evaluate_bundles.page(asked["bundle"], lang)
    return evaluate_head.intro(kind, lang)


def _bundles(kind: str, lang: str) -> str:
    return evaluate_bundles.listed(lang, invite=kind == "replay")


def _kind(asked: Asked) -> str:
    kind = asked.get("kind")
    return kind if isinstance(kind, str) and kind in panels() else FIRST


def _page(run_id: str, lang: str) -> Answer:
    """A run with what it has come to, or a stored report."""
    try:
        known = evaluate_runs.about(run_id)
    except BadCase:
        one = evaluate_runs.shown(run_id)
        parts = {**EMPTY, "head": evaluate_head.stored_head(one, lang), **_result(one, lang)}
        return {"parts": parts, "now": {"live": False, "of": one.kind, "link": "report"}}
    status = evaluate_runs.status(run_id)
    parts = {**EMPTY, "head": evaluate_head.head(run_id, known, status, lang),
             "now": evaluate_head.now(run_id, known, status, lang)}  # fmt: skip
    link = "evaluate"
    if not status.live and evaluate_runs.has_result(run_id):
        one = evaluate_runs.shown(run_id)
        parts |= _result(one, lang)
        try:
            evaluate_runs.keep_report(one)
            link = "report" if one.report is not None else link
        except OSError:
            pass
    elif status.live:
        running = panels()[known.kind].while_running
        parts["view"] = running(evaluate_runs.folder_of(run_id), lang) if running is not None else ""
    if not status.live:
        parts["log"] = evaluate_head.log(run_id, lang)
    return {"parts": parts, "now": {"live": status.live, "of": known.kind, "link": link}}


def _result(one: Shown, lang: str) -> dict[str, str]:
    """In the order in which every kind is read: what came out, what is wrong and what to do, the cases."""
    panel = panels()[one.kind]
    try:
        view, cases = panel.view(one, lang), panel.cases(one, lang) if panel.cases is not None else ""
    except _ODD as odd:
        view, cases = evaluate_head.unreadable(one_line(odd), lang), ""
    return {"view": view, "findings": evaluate_head.findings(one, lang), "cases": cases}


@guarded
def evaluate_now(asked: Asked, lang: str) -> Answer:
    """How far a run is, all of it once it has ended; without one the list of runs."""
    run_id = asked.get("id")
    if not run_id:
        return {"parts": {"recent": evaluate_head.recent(names_of(asked.get("seen")), lang)}}
    known, status = evaluate_runs.about(run_id), evaluate_runs.status(run_id)
    if not status.live:
        return _page(str(run_id), lang)
    parts = {"now": evaluate_head.now(str(run_id), known, status, lang)}
    running = panels()[known.kind].while_running
    if running is not None:
        parts["view"] = running(evaluate_runs.folder_of(run_id), lang)
    return {"parts": parts, "now": {"live": True}}


# --- the form ----------------------------------------------------------------------------------------------------


@guarded
def evaluate_kind(asked: Asked, lang: str) -> Answer:
    """The form of another kind."""
    kind = _kind(asked)
    form = evaluate_case.form_of(asked.get("form"))
    parts = {"form": evaluate_head.case(kind, form, lang), "start": _beside(asked, kind, lang),
             "bundles": _bundles(kind, lang)}  # fmt: skip
    return {"kind": kind, "parts": parts}


@guarded
def evaluate_form(asked: Asked, lang: str) -> Answer:
    """The command that the form stands for, and what is wrong with it."""
    checked, form = _checked(asked, lang)
    return {
        "parts": {"command": evaluate_head.command(checked, lang)},
        "problems": {name: line for name, line in checked.problems.items() if form.get(name)},
    }


def _checked(asked: Asked, lang: str) -> tuple[Checked, Form]:
    form = evaluate_case.form_of(asked.get("form"))
    return panels()[_kind(asked)].checked(form, lang), form


@guarded
def evaluate_start(asked: Asked, lang: str) -> Answer:
    """Start an evaluation."""
    checked, form = _checked(asked, lang)
    if checked.problems:
        return {"problems": dict(checked.problems)}
    try:
        return {"id": evaluate_runs.start(_kind(asked), checked, form, lang)}
    except BadCase as bad:
        return {"problems": {"start": str(words(lang)[bad.entry]).format(**bad.params)}}


# --- what is done with a run -------------------------------------------------------------------------------------


@guarded
def evaluate_stop(asked: Asked, lang: str) -> Answer:
    """Ask it to stop."""
    evaluate_runs.stop(asked.get("id"))
    return _page(str(asked.get("id")), lang)


@guarded
def evaluate_repeat(asked: Asked, lang: str) -> Answer:
    """Run the same once more."""
    evaluate_runs.again(str(asked.get("id")))
    return _page(str(asked.get("id")), lang)


@guarded
def evaluate_remove(asked: Asked, lang: str) -> Answer:
    """Delete a run with all it made."""
    evaluate_runs.remove(asked.get("id"))
    return {}


@guarded
def evaluate_again(asked: Asked, lang: str) -> Answer:
    """The form that a run was made with."""
    known = evaluate_runs.about(asked.get("id"))
    return {"form": known.asked, "kind": known.kind}


# --- bundles -----------------------------------------------------------------------------------------------------


@guarded
def evaluate_bundle(asked: Asked, lang: str) -> Answer:
    """What a bundle holds."""
    return {"parts": {"start": evaluate_bundles.page(asked.get("bundle"), lang)}}


@guarded
def evaluate_bundle_form(asked: Asked, lang: str) -> Answer:
    """The form of its next replay."""
    return {"form": evaluate_bundles.form_of(evaluate_bundles.named(asked.get("bundle"))), "kind": "replay"}


@guarded
def evaluate_bundle_replay(asked: Asked, lang: str) -> Answer:
    """One of its replays, as an evaluation. replay: NAME/FILE."""
    return {"id": evaluate_bundles.replay_in(asked.get("replay"))}


@guarded
def evaluate_bundle_remove(asked: Asked, lang: str) -> Answer:
    """Delete it with all that lies in it."""
    evaluate_bundles.removed(asked.get("bundle"))
    kind = _kind(asked)
    return {"parts": {"start": evaluate_head.intro(kind, lang), "bundles": _bundles(kind, lang)}, "removed": True}


@guarded
def evaluate_panel(asked: Asked, lang: str) -> Answer:
    """What only the panel of this kind knows: one case, a page of rows. `does`: which."""
    one = evaluate_runs.shown(asked.get("id"))
    does: Any = asked.get("does")
    found = panels()[one.kind].requests.get(does) if isinstance(does, str) else None
    if found is None:
        raise BadCase("pairs_no_answer")
    return found(one, asked, lang)


REQUESTS = [
    evaluate_open, evaluate_now, evaluate_kind, evaluate_form, evaluate_start, evaluate_stop, evaluate_repeat,
    evaluate_remove, evaluate_again, evaluate_panel, evaluate_bundle, evaluate_bundle_form, evaluate_bundle_replay,
    evaluate_bundle_remove,
]  # fmt: skip
