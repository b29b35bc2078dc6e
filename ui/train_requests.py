"""What the page's script of the tab Train asks: the form, its checks, a start; a job, and what is done with it."""

from __future__ import annotations

from typing import Any

from pipeline.refusal import Refused
from pipeline.training.hand_over import KINDS
from pipeline.training.job_folder import ASKED, Job, read_status
from ui import pair_workspaces, train_case, train_checks, train_hub, train_setup, train_view, train_work
from ui.allowed_paths import is_public
from ui.interface_words import words
from ui.log_charts import MAX_RUNS
from ui.pair_page import Answer, Asked, guarded, names_of
from ui.train_case import Checked, Form
from ui.train_setup import said_problem
from ui.visitor_case import BadCase

CHECK = ("check", "start", "hand_over")


@guarded
def train_open(asked: Asked, lang: str) -> Answer:
    """The whole tab: a job, several compared, or the form with the jobs that are known."""
    if asked.get("id") and not is_public():
        try:
            return {**_job_page(asked, lang), "state": "open"}
        except BadCase as bad:
            if bad.entry != "train_gone":
                raise
    answer = _form_page(train_case.checked(train_case.form_of(asked.get("form"))), asked, lang)
    answer["parts"]["start"] = (train_view.gone(lang) if asked.get("id") else "") + _recent(lang)
    answer["parts"] |= {"yaml": train_setup.yaml_box(train_case.checked(train_case.form_of(asked.get("form"))), lang),
                        "elsewhere": train_setup.elsewhere(lang), "hub": train_hub.card(lang),
                        "checks": _work_shown(asked, lang)}  # fmt: skip
    return {**answer, "state": "gone" if asked.get("id") else "start", "now": {"live": False, "partners": []}}


def _recent(lang: str) -> str:
    return "" if is_public() else train_view.recent(lang) + train_hub.recent(lang)


# --- the form ---


@guarded
def train_form(asked: Asked, lang: str) -> Answer:
    """The form after something in it was changed: another recipe, fields, or the YAML itself."""
    form = train_case.form_of(asked.get("form"))
    problems: dict[str, Any] = {}
    if asked.get("pick") is not None:
        form = train_case.picked(form, asked["pick"])
    if asked.get("set") is not None:
        form, problems = train_case.changed(form, asked["set"])
    answer = _form_page(train_case.checked(form), asked, lang)
    answer["problems"] |= {place: said_problem(wrong, lang) for place, wrong in problems.items()}
    return answer


def _form_page(found: Checked, asked: Asked, lang: str) -> Answer:
    problems = dict(found.problems)
    command = _command(found, problems)
    parts = {"case": train_setup.case(found, _open_pairs(asked), lang), "fields": train_setup.fields(found, lang),
             "launch": train_setup.launch(found, command, lang)}  # fmt: skip
    if found.recipe is None:  # what was there stays: the YAML is being typed
        parts = {"case": parts["case"]}
    return {"parts": parts, "form": {"name": found.form.name, "yaml": found.form.yaml},
            "problems": {place: said_problem(wrong, lang) for place, wrong in problems.items()}}  # fmt: skip


def _command(found: Checked, problems: dict[str, Any]) -> str:
    """The line that would start it, and what is wrong with one that was edited."""
    from pipeline.training.launch_line import LaunchLine, parse_command
    from pipeline.training.start_job import command_of

    if found.spread is None:
        return ""
    if found.form.command is not None:
        try:
            parse_command(found.form.command)
        except Refused as refused:
            problems["command"] = refused
    line = command_of("{job}", "{job}/accelerate.yaml", found.spread)
    if not is_public():
        return line
    argv, env = parse_command(line)  # without the folders of this machine
    kept = {name: value for name, value in env.items() if name != "PYTHONPATH"}
    return LaunchLine(("python", *argv[1:]), kept).text


def _open_pairs(asked: Asked) -> tuple[str, str, int] | None:
    """The set that is open in the tab Pairs of the same page."""
    set_id = asked.get("pairs")
    if not isinstance(set_id, str) or not set_id:
        return None
    try:
        about = pair_workspaces.about(set_id)
        with pair_workspaces.opened(set_id) as workspace:
            counts = workspace.counts()
        return set_id, about.name, counts.total - counts.discarded
    except (BadCase, Refused, OSError):
        return None


# --- checks, start, hand-over ---


@guarded
def train_begin(asked: Asked, lang: str) -> Answer:
    """Check the form, start it, or hand it over. `does`: which."""
    does = asked.get("does")
    if does not in CHECK:
        raise BadCase("pairs_no_answer")
    if does == "start" and is_public():
        raise BadCase("train_public")
    form = train_case.form_of(asked.get("form"))
    found = train_case.checked(form)
    problems = dict(found.problems)
    _command(found, problems)
    if found.recipe is not None and not found.recipe.settled.get("data"):
        problems.setdefault("data", BadCase("train_no_data"))
    if found.recipe is not None and not found.recipe.settled.get("model_name_or_path"):
        problems.setdefault("model_name_or_path", BadCase("no_path"))
    if problems or found.recipe is None:
        return {"problems": {place: said_problem(wrong, lang) for place, wrong in problems.items()}}
    options: dict[str, Any] = {}
    if does == "start":
        options = {"insist": asked.get("insist") is True}
    elif does == "hand_over":
        if asked.get("kind") not in KINDS:
            raise BadCase("pairs_no_answer")
        options = {"into": asked["kind"]}
    work = train_work.begin(str(does), found, lang, **options)
    return {"work": work.id, "parts": {"checks": train_checks.panel(work, lang)}, "problems": {}}


@guarded
def train_work_now(asked: Asked, lang: str) -> Answer:
    """How far it is; `job` once a start has come to one."""
    work = train_work.find(asked.get("work"))
    if work is None:
        return {"done": True, "gone": True, "parts": {"checks": ""}}
    answer: Answer = {"done": work.done, "kind": work.kind, "parts": {"checks": train_checks.panel(work, lang)}}
    if work.done and isinstance(work.problem, (Refused, BadCase)) and work.kind not in ("check", "hub_start"):
        place = train_case.place_of(work.problem) if isinstance(work.problem, Refused) else "yaml"
        if place != "yaml":
            answer["problems"] = {place: said_problem(work.problem, lang)}
    if work.done and work.job and not work.refused:
        answer["job"] = work.job
    if work.done and work.file is not None:
        answer["file"] = work.id
    return answer


def _work_shown(asked: Asked, lang: str) -> str:
    work = train_work.find(asked.get("work"))
    return train_checks.panel(work, lang) if work is not None else ""


@guarded
def train_cancel(asked: Asked, lang: str) -> Answer:
    """Give up a check or a start."""
    work = train_work.find(asked.get("work"))
    if work is not None:
        work.cancel.set()
    return {}


# --- a job ---


def _own(asked: Asked) -> Job:
    """The job that is asked about. Raises BadCase, in public always: what runs here is no stranger's business."""
    if is_public():
        raise BadCase("train_public")
    return train_view.job_of(asked.get("id"))


def _partners(asked: Asked, job: Job) -> list[Job]:
    found = []
    for name in dict.fromkeys(names_of(asked.get("partners"))):
        try:
            other = train_view.job_of(name)
        except BadCase:
            continue
        if other != job:
            found.append(other)
    return found[: MAX_RUNS - 1]


def _job_page(asked: Asked, lang: str) -> Answer:
    job = _own(asked)
    partners = _partners(asked, job)
    answer = _job_now({**asked, "version": None}, job, partners, lang)
    answer["parts"] |= {"head": train_view.head(job, partners, lang), "start": "",
                        "compare": train_view.compared([job, *partners], lang) if partners else ""}  # fmt: skip
    return answer


def _job_now(asked: Asked, job: Job, partners: list[Job], lang: str) -> Answer:
    live = read_status(job).live
    shown = [job, *partners]
    version = f"{lang}:{train_view.versions(shown)}"
    parts = {"now": train_view.now(job, lang), "log": train_view.log(job, lang)}
    if version != asked.get("version") or live != asked.get("was_live"):
        parts |= {"curves": train_view.curves(shown, lang), "findings": train_view.findings(job, live, lang),
                  "numbers": train_view.numbers(job, lang)}  # fmt: skip
        if partners:
            parts["compare"] = train_view.compared(shown, lang)
    if live != asked.get("was_live"):
        parts["head"] = train_view.head(job, partners, lang)
    watch = any(read_status(one).live for one in shown)
    now = {"live": live, "watch": watch, "partners": [one.id for one in partners]}
    return {"parts": parts, "version": version, "now": now}


@guarded
def train_now(asked: Asked, lang: str) -> Answer:
    """What has changed since: state, numbers, curves, log; or the list of jobs."""
    if not asked.get("id"):
        return {"parts": {"start": _recent(lang)}}
    job = _own(asked)
    return _job_now(asked, job, _partners(asked, job), lang)


@guarded
def train_stop(asked: Asked, lang: str) -> Answer:
    """Politely, or at once."""
    from pipeline.training.stop_job import stop_job

    job = _own(asked)
    stop_job(job, firmly=asked.get("how") == "now")
    return _job_now({**asked, "version": None}, job, _partners(asked, job), lang)


@guarded
def train_resume(asked: Asked, lang: str) -> Answer:
    """Go on from the newest checkpoint; `changed` where the recipe was edited since and `insist` doesn't say."""
    from pipeline.training.start_job import resume_job

    job = _own(asked)
    try:
        resume_job(job, insist=asked.get("insist") is True)
    except Refused as refused:
        if refused.sentence.entry != "job_recipe_changed":
            raise
        return {"changed": True}  # whether to go on all the same is asked
    return _job_now({**asked, "version": None}, job, _partners(asked, job), lang)


@guarded
def train_again(asked: Asked, lang: str) -> Answer:
    """The form that a job was started with."""
    job = _own(asked)
    try:
        text = job.path(ASKED).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        recipe = train_view.recipe_of(job)
        if recipe is None:
            raise BadCase("train_no_recipe_left") from None
        text = recipe.as_yaml()
    name = train_view.stem(job)
    return {"again": Form(name, text).__dict__, "toast": words(lang)["train_again_done"]}


REQUESTS = [
    train_open, train_form, train_begin, train_work_now, train_cancel, train_now, train_stop, train_resume, train_again,
    *train_hub.HUB_REQUESTS,
]  # fmt: skip
