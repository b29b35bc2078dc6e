"""What the page's script asks: to see a set of pairs, and for work on it that takes longer than a click."""

from __future__ import annotations

from ui import (
    pair_bulk,
    pair_export,
    pair_filters,
    pair_health,
    pair_import,
    pair_jobs,
    pair_plots,
    pair_start,
    pair_workspaces,
)
from ui.interface_words import words
from ui.pair_actions import pairs_act, pairs_save
from ui.pair_page import (
    Answer,
    Asked,
    around,
    editor_of,
    guarded,
    listed,
    names_of,
    place_of,
    shown,
    text_of_field,
    whole,
)
from ui.visitor_case import BadCase


@guarded
def pairs_open(asked: Asked, lang: str) -> Answer:
    """The whole tab: a set, or what its import does or asks, or what one can begin with."""
    set_id = asked.get("id")
    if not set_id:
        return {"state": "start", "parts": {"start": pair_start.start(names_of(asked.get("seen")), lang)}}
    job = pair_jobs.find(set_id, "import")
    if job is not None and (job.live or job.state == "asking"):
        return {"state": "importing", "live": job.live, "parts": {"start": pair_start.importing(job, lang)}}
    if job is not None and job.problem is not None:
        pair_jobs.forget(job)
        pair_workspaces.remove_folder(str(set_id))
        return {"state": "failed", "parts": {"start": pair_start.failed(job, lang)}}
    try:
        with pair_workspaces.opened(set_id) as workspace:
            view = pair_filters.checked_view(asked.get("view"), workspace)
            if name := text_of_field(asked.get("name"), 200):
                pair_workspaces.name_editor(set_id, editor_of(asked), name)
            answer = listed(
                workspace, str(set_id), view, whole(asked.get("offset")), place_of(asked), lang, me=editor_of(asked)
            )
            answer["parts"] |= around(workspace, str(set_id), lang, form=asked.get("form") != lang)
    except BadCase:
        return {"state": "gone", "parts": {"start": pair_start.gone(names_of(asked.get("seen")), lang)}}
    judged = pair_jobs.find(set_id, "judge")
    return {**answer, "state": "open", "judging": bool(judged and judged.live)}


@guarded
def pairs_page(asked: Asked, lang: str) -> Answer:
    """Another view or page of it."""
    with pair_workspaces.opened(asked.get("id")) as workspace:
        view = pair_filters.checked_view(asked.get("view"), workspace)
        position = place_of(asked)
        return listed(workspace, asked["id"], view, whole(asked.get("offset")), position, lang,
                       at_end=asked.get("at") == "last", me=editor_of(asked))  # fmt: skip


@guarded
def pairs_plots(asked: Asked, lang: str) -> Answer:
    """Places for the histograms of a view, or the one of a column."""
    with pair_workspaces.opened(asked.get("id")) as workspace:
        column = asked.get("column")
        if column is None:
            return {"frame": pair_plots.frame(workspace, lang)}
        if column not in pair_filters.columns(workspace):
            raise BadCase("pairs_no_answer")
        view = pair_filters.checked_view(asked.get("view"), workspace)
        return {"plot": pair_plots.histogram(workspace, view, column, lang)}


@guarded
def pairs_show(asked: Asked, lang: str) -> Answer:
    """One pair large."""
    position = place_of(asked)
    if position is None:
        raise BadCase("pairs_no_answer")
    with pair_workspaces.opened(asked.get("id")) as workspace:
        return shown(workspace, asked["id"], workspace.get(position), lang, me=editor_of(asked),
                      place=text_of_field(asked.get("place"), 40))  # fmt: skip


@guarded
def pairs_health(asked: Asked, lang: str) -> Answer:
    """Before and after, and the findings now."""
    with pair_workspaces.opened(asked.get("id")) as workspace:
        return {"parts": {"health": pair_health.page(workspace, asked["id"], lang)}}


@guarded
def pairs_name(asked: Asked, lang: str) -> Answer:
    """How this editor wants to be called."""
    pair_workspaces.name_editor(str(asked.get("id")), editor_of(asked), text_of_field(asked.get("name"), 200))
    return {}


@guarded
def pairs_bulk(asked: Asked, lang: str) -> Answer:
    """The form of bulk actions on a view, what one would do, or its start."""
    with pair_workspaces.opened(asked.get("id")) as workspace:
        view = pair_filters.checked_view(asked.get("view"), workspace)
        if asked.get("do") == "start":
            pair_bulk.start(asked["id"], view, asked, editor_of(asked))
            return {"live": True}
        return {"parts": {"bulk": pair_bulk.form(workspace, view, asked, lang)}}


@guarded
def pairs_export(asked: Asked, lang: str) -> Answer:
    """Begin to write a file, or to push one."""
    pair_workspaces.folder_of(asked.get("id"))
    pair_export.start(asked["id"], asked)
    return {"live": True}


@guarded
def pairs_judge(asked: Asked, lang: str) -> Answer:
    """Judge the set as it is now."""
    pair_workspaces.folder_of(asked.get("id"))
    pair_health.judge_later(asked["id"])
    return {"live": True}


@guarded
def pairs_answer(asked: Asked, lang: str) -> Answer:
    """Go on with an import that asked something."""
    job = pair_jobs.find(asked.get("id"), "import")
    if job is None:
        raise BadCase("pairs_gone")
    pair_import.answer(job, asked)
    return {"live": True}


@guarded
def pairs_job(asked: Asked, lang: str) -> Answer:
    """What some longer work does now, and once what came of it. cancel: stop it."""
    kind = asked.get("kind")
    job = pair_jobs.find(asked.get("id"), kind if isinstance(kind, str) else None)
    if job is None:
        return {"live": False, "kind": kind}
    if asked.get("cancel") is True:
        job.cancel.set()
    if job.live:
        return {"live": True, "kind": job.kind, "progress": pair_start.progress(job, lang)}
    answer: Answer = {"live": False, "kind": job.kind}
    if job.problem is not None:
        entry, params = job.problem
        answer |= {"toast": str(words(lang)[entry]).format(**pair_jobs.said_params(params, lang)), "bad": True}
    elif job.note is not None:
        answer |= {"toast": pair_workspaces.without_places(job.note.said(lang)), "bad": True}
    elif isinstance(job.result, pair_export.Exported):
        answer |= {"outcome": pair_export.outcome(job.result, lang), "file": not job.result.address}
    elif job.kind == "bulk":
        answer["toast"] = pair_bulk.outcome(job.result, lang)
    return answer


REQUESTS = [
    pairs_open, pairs_page, pairs_plots, pairs_show, pairs_health, pairs_act, pairs_save, pairs_name, pairs_bulk,
    pairs_export, pairs_judge, pairs_answer, pairs_job,
]  # fmt: skip
