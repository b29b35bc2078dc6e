"""Hugging Face Jobs in the tab Train: machines with their prices, what a run costs there, its start, and how it stands.

On one's own machine by the login of that machine, in public by the visitor's own, which the request brings along.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import gradio as gr

from pipeline.refusal import Refused
from pipeline.training import hub_jobs
from pipeline.training.hub_calls import hidden, own_token, usable_token
from pipeline.training.hub_jobs import HubRun, HubStatus
from pipeline.training.hub_prices import Hardware, hardware
from ui import hub_runs, train_case, train_checks, train_view, train_work
from ui.allowed_paths import is_public
from ui.interface_words import known, words
from ui.pair_page import Answer, Asked, guarded
from ui.reject_head import ago
from ui.safe_html import tag, text
from ui.train_setup import problem, said_problem
from ui.train_work import Work
from ui.visitor_case import BadCase

STAGES = {"SCHEDULING": "preparing", "RUNNING": "running"}
ENDS = {"completed": "done", "failed": "failed", "timeout": "failed", "canceled": "stopped", "deleted": "stopped"}
MAX_LISTED = 30
Logged = Callable[[Asked, str, str], Answer]


def login_offered() -> bool:
    """Whether visitors can log in here: on a Space with `hf_oauth: true`, which brings what that needs."""
    there = all(os.environ.get(n) for n in ("SPACE_ID", "OAUTH_CLIENT_ID", "OAUTH_CLIENT_SECRET", "OAUTH_SCOPES"))
    return there and all(find_spec(name) is not None for name in ("authlib", "itsdangerous"))


def token_of(login: gr.OAuthToken | None) -> str:
    """The visitor's in public, never the machine's. Raises BadCase, Refused."""
    if not is_public():
        return own_token()
    if login is None:
        raise BadCase("train_hub_login" if login_offered() else "train_hub_no_login")
    return usable_token(login.token)


def with_login(question: Logged) -> Callable[..., Answer]:
    """`question` with the token of whoever asks. Gradio fills `login` from the session, never from what is sent."""

    def answered(asked: Any, login: gr.OAuthToken | None = None) -> Answer:
        held = []

        def inside(asked: Asked, lang: str) -> Answer:
            held.append(token_of(login))
            return question(asked, lang, held[0])

        answer = guarded(inside)(asked)
        if held and "toast" in answer:
            answer["toast"] = hidden(str(answer["toast"]), held[0])
        return answer

    answered.__name__ = answered.__qualname__ = question.__name__
    answered.__doc__ = question.__doc__
    return answered


# --- before a start ---


def card(lang: str, inner: str = "") -> str:
    """The place below the form: a button that asks for machines, then these."""
    said = words(lang)
    info = said["train_hub_info_public" if is_public() else "train_hub_info"]
    look = tag("button", "dd-do", text(said["train_hub_look"]), type="button", data_hub_look=True)
    return (tag("h3", "dd-h", text(said["train_hub"])) + tag("p", "dd-dim", text(info))
            + (inner or look) + problem("hub"))  # fmt: skip


@with_login
def train_hub_look(asked: Asked, lang: str, token: str) -> Answer:
    """Whose account it is, machines with prices, and the runs of this project there."""
    who = hub_jobs.account(token)
    return {"parts": {"hub": card(lang, _machines(who, lang) + _listed(token, who.name, lang))}}


def _machines(who: hub_jobs.Account, lang: str) -> str:
    said = words(lang)
    there = hardware()
    options = [tag("option", "", text(_priced(one, lang)), value=one.name) for one in there]
    names = [tag("option", "", text(name), value=name) for name in who.namespaces]
    dated = ""
    if there.date:
        from pipeline.refusal import Sentence

        line = Sentence("hub_jobs/prices_of", {"date": there.date}, "training").said(known(lang))
        dated = tag("p", "dd-dim", text(line))
    fields = (
        _labelled(said["train_hub_machine"], tag("select", "dd-select", *options, name="hub_machine"), wide=True),
        _labelled(said["train_hub_account"], tag("select", "dd-select", *names, name="hub_namespace")),
        _labelled(said["train_hub_minutes"], tag("input", "", type="text", name="hub_minutes", inputmode="numeric",
                                                 placeholder=said["train_by_itself"], autocomplete="off")),
    )  # fmt: skip
    ask = tag("button", "dd-do dd-primary", text(said["train_hub_quote"]), type="button", data_hub_quote=True)
    return tag("div", "dd-train-fields", *fields) + dated + tag("div", "dd-form-end", ask)


def _labelled(name: str, control: str, *, wide: bool = False) -> str:
    css = "dd-train-field dd-wide-field" if wide else "dd-train-field"
    return tag("label", css, tag("span", "", tag("b", "", text(name))), control)


def _priced(one: Hardware, lang: str) -> str:
    said = words(lang)
    if one.usd_per_hour is None:
        return f"{one.label} · {said['train_hub_no_price']}"
    return f"{one.label} · {said['train_hub_price'].format(usd=f'{one.usd_per_hour:.2f}')}"


def _listed(token: str, namespace: str, lang: str) -> str:
    """Runs that this login can see on its account."""
    try:
        there = hub_jobs.all_runs(token, namespace)[:MAX_LISTED]
    except Refused as refused:
        return tag("p", "dd-dim", text(refused.said(known(lang))))
    rows = []
    for run_id, job_id, stage in there:
        named = f"{hub_runs.PREFIX}{namespace}--{run_id}"
        if hub_runs.ID.fullmatch(named):
            rows.append(_row(named, run_id, tag("span", "dd-dim", text(job_id)), stage))
    if not rows:
        return ""
    return tag("h3", "dd-h", text(words(lang)["train_hub_runs"])) + "".join(rows)


def _row(named: str, run_id: str, about: str, end: str) -> str:
    name = tag("span", "dd-recent-name", tag("b", "", text(run_id)), about)
    return tag("button", "dd-recent", name, tag("span", "dd-recent-end", text(end)), type="button", data_open=named)


def recent(lang: str) -> str:
    """The runs that were started from this machine; the Hub isn't asked for it."""
    said, rows = words(lang), []
    for run in hub_runs.own_runs()[:MAX_LISTED]:
        about = tag("span", "dd-dim", text(f"{run.hardware} · {run.namespace}"))
        rows.append(_row(hub_runs.id_of(run), run.id, about, ago(run.created, said)))
    if not rows:
        return ""
    return tag("section", "dd-card dd-recents", tag("h3", "dd-h", text(said["train_hub_runs"])), *rows)


@with_login
def train_hub_begin(asked: Asked, lang: str, token: str) -> Answer:
    """Say what it costs, or start what was said. `does`: quote or start."""
    if asked.get("does") == "start":
        quote = train_work.find(asked.get("quote"))
        if quote is None or quote.kind != "hub_quote" or quote.prepared is None:
            raise BadCase("train_hub_quote_gone")
        work = train_work.begin("hub_start", train_case.checked(quote.form), lang, quote=quote, token=token)
        return {"work": work.id, "parts": {"checks": train_checks.panel(work, lang)}, "problems": {}}
    form = train_case.form_of(asked.get("form"))
    found = train_case.checked(form)
    problems = dict(found.problems)
    if form.accelerate is None and isinstance(problems.get("accelerate"), Refused):
        problems.pop("accelerate")  # of this machine; it is spread over the one there
    if found.recipe is not None and not found.recipe.settled.get("data"):
        problems.setdefault("data", BadCase("train_no_data"))
    if found.recipe is not None and not found.recipe.settled.get("model_name_or_path"):
        problems.setdefault("model_name_or_path", BadCase("no_path"))
    minutes, typed = None, asked.get("minutes")
    if isinstance(typed, str) and typed.strip():
        if not (typed.strip().isascii() and typed.strip().isdigit() and len(typed.strip()) < 7):
            problems["hub"] = BadCase("train_hub_bad_minutes")
        else:
            minutes = int(typed)
    if problems or found.recipe is None:
        return {"problems": {place: said_problem(wrong, lang) for place, wrong in problems.items()}}
    machine, namespace = hardware().named(str(asked.get("machine"))), asked.get("namespace")
    who = hub_jobs.account(token)
    if namespace not in who.namespaces:
        namespace = who.name
    work = train_work.begin("hub_quote", found, lang, machine=machine, minutes=minutes, namespace=namespace)
    return {"work": work.id, "parts": {"checks": train_checks.panel(work, lang)}, "problems": {}}


def quoted(work: Work, lang: str) -> str:
    """What it takes and costs, and the button that starts it."""
    said, made = words(lang), work.prepared
    if made is None:
        return tag("section", "dd-card", tag("p", "dd-dim", text(said["train_hub_quote_gone"])))
    line = made.cost.line.said(known(lang)) if made.cost is not None else said["train_hub_no_estimate"].format(
        hardware=made.machine.label, timeout=made.timeout // 60)  # fmt: skip
    if made.most_usd is None:
        most, start = said["train_hub_most_unknown"], said["train_hub_start_unknown"]
    else:
        usd = f"{made.most_usd:.2f}"
        most = said["train_hub_most"].format(usd=usd, timeout=made.timeout // 60)
        start = said["train_hub_start"].format(usd=usd)
    where = said["train_hub_where"].format(namespace=work.namespace, machine=_priced(made.machine, lang))
    button = tag("button", "dd-do dd-primary", text(start), type="button", data_hub_start=work.id)
    head = tag("section", "dd-card dd-verdict dd-healthy dd-hub-quote", tag("h2", "", text(most)),
               tag("p", "", text(line)), tag("p", "dd-dim", text(where)), train_checks.rows_line(work.rows, lang),
               tag("div", "dd-form-end", button), data_report=None)  # fmt: skip
    return head + (train_checks.memory(work.estimate, lang) if work.estimate is not None else "")


# --- a run ---


@with_login
def train_hub_open(asked: Asked, lang: str, token: str) -> Answer:
    """The page of one run."""
    run, folder = hub_runs.found(asked.get("id"), token)
    answer = _now(asked, run, folder, lang, token)
    said = words(lang)
    facts = " · ".join((run.hardware, run.namespace, run.job_id or "–", ago(run.created, said)))
    tools = (tag("button", "dd-small", text(said["copy_link"]), type="button", data_share=True),
             tag("button", "dd-small", text(said["train_another"]), type="button", data_new=True))  # fmt: skip
    title = tag("div", "dd-head-title", tag("h2", "", text(run.id)), tag("p", "dd-dim", text(facts)))
    head = tag("section", "dd-card dd-train-jobhead",
               tag("div", "dd-head-row", title, tag("div", "dd-head-tools", *tools)))  # fmt: skip
    empty = dict.fromkeys(("start", "findings", "numbers", "curves", "compare"), "")
    answer["parts"] |= {"head": head, **empty}
    return {**answer, "state": "open"}


@with_login
def train_hub_now(asked: Asked, lang: str, token: str) -> Answer:
    """State, cost so far, and the end of its output."""
    run, folder = hub_runs.found(asked.get("id"), token)
    return _now(asked, run, folder, lang, token)


@with_login
def train_hub_cancel(asked: Asked, lang: str, token: str) -> Answer:
    """End it on the Hub."""
    run, folder = hub_runs.found(asked.get("id"), token)
    hub_runs.cancelled(run, token)
    return _now(asked, run, folder, lang, token)


def _now(asked: Asked, run: HubRun, folder: Any, lang: str, token: str) -> Answer:
    try:
        status = hub_runs.status_of(run, token)
    except Refused as refused:  # gone, or the Hub is silent for the moment: what is kept is shown
        line = tag("p", "dd-run-why", text(hidden(refused.said(known(lang)), token)), role="alert")
        again = refused.sentence.entry not in ("hub_jobs_gone", "hub_jobs_token_refused", "hub_jobs_forbidden")
        parts = {"now": tag("section", "dd-card dd-run", line, _links(run, lang), role="status")}
        return {"parts": parts, "version": "", "now": {"live": again, "watch": again, "partners": []}}
    output, cut = hub_runs.output_of(run, folder, token, bool(status.end))
    parts = {"now": _state(run, status, lang, token), "log": _log(output, cut, lang, token)}
    live = not status.end
    watch = live or not output and cut is None
    return {"parts": parts, "version": "", "now": {"live": live, "watch": watch, "partners": []}}


def _state(run: HubRun, status: HubStatus, lang: str, token: str) -> str:
    said = words(lang)
    tone = ENDS.get(status.end) or STAGES.get(status.stage, "preparing")
    sign = tag("i", "", "✓" if tone == "done" else "✕", aria_hidden="true") if status.end else tag("i", "dd-pulse")
    line = hidden(status.line.said(known(lang)), token)
    do = ""
    if not status.end:
        do = tag("button", "dd-do dd-danger", text(said["train_hub_cancel"]), type="button", data_hub_cancel=True)
    top = tag("div", "dd-run-line", tag("div", "", tag("span", f"dd-run-state dd-state-{tone}", sign, text(line))),
              tag("div", "dd-run-do", do))  # fmt: skip
    return tag("section", f"dd-card dd-run dd-run-{tone}", top, _limit(run, said), _links(run, lang),
               data_live="" if status.end else "1", role="status")  # fmt: skip


def _limit(run: HubRun, said: Any) -> str:
    if run.timeout_seconds >= 10**9:
        return ""
    entry, usd = "train_hub_limit_unknown", ""
    if run.usd_per_hour is not None:
        entry, usd = "train_hub_limit", f"{run.usd_per_hour * run.timeout_seconds / 3600:.2f}"
    return tag("p", "dd-dim", text(said[entry].format(timeout=run.timeout_seconds // 60, usd=usd)))


def _links(run: HubRun, lang: str) -> str:
    said = words(lang)
    base = run.url.partition("/jobs/")[0]
    links = [(run.url, said["train_hub_at"])]
    if run.output_repo:
        links.append((f"{base}/{run.output_repo}", run.output_repo))
    shown = (tag("a", "dd-link", text(name), href=to, target="_blank", rel="noopener noreferrer")
             for to, name in links if to.startswith(("https://", "http://")))  # fmt: skip
    return tag("p", "dd-hub-links", *shown)


def _log(output: str, cut: Refused | None, lang: str, token: str) -> str:
    said = words(lang)
    shown = train_view.readable(hidden(output, token)) or said["train_log_empty"]
    why = tag("p", "dd-run-why", text(hidden(cut.said(known(lang)), token))) if cut is not None else ""
    tail = tag("pre", "dd-log-end", text(shown), tabindex=0, data_tail=True)
    return tag("section", "dd-card", tag("h3", "dd-h", text(said["train_log"])), why, tail)


HUB_REQUESTS = [train_hub_look, train_hub_begin, train_hub_open, train_hub_now, train_hub_cancel]
