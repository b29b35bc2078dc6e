"""Bundles in the tab Evaluate (pipeline/evaluation/bundles.py): the list, what one holds with its replays over time,
one kept of a finished replay, and the form of the next replay. Only on one's own machine: in public there are none.
"""

from __future__ import annotations

import json
import shlex
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

from pipeline.evaluation.bundles import (
    NAME,
    Bundle,
    add_run,
    create_bundle,
    keep_replay,
    list_bundles,
    open_bundle,
    remove_bundle,
    rows_in,
    write_cases,
)
from pipeline.evaluation.replay_cases import ReplayCases, columns_of_cases, read_cases
from pipeline.evaluation.results import read_result_file
from pipeline.refusal import Refused
from pipeline.training.job_words import words as job_words
from ui import evaluate_case, evaluate_plots, evaluate_runs
from ui.allowed_paths import is_public
from ui.charts import finite_number
from ui.command_runs import read_object, write_object
from ui.evaluate_case import JOB
from ui.evaluate_panel import Answer, Asked, Form, Shown
from ui.evaluate_plots import Bar
from ui.interface_words import words
from ui.reject_head import ago
from ui.safe_html import prose, tag, text, with_specials
from ui.visitor_case import BadCase, named_lines

KEPT = "bundle.json"  # in a run's folder: the bundle that it was kept in
MOST_LISTED, MOST_REPLAYS, MOST_ROWS = 40, 60, 20
LONG = 400  # characters of a text in a list
NUMBERS = ("num_beams", "temperature", "top_p", "max_new_tokens")  # of decoding, that have a field of their own

Json = Mapping[str, Any]


def named(given: Any) -> Bundle:
    """The bundle of this name. Raises BadCase, Refused."""
    if is_public() or not isinstance(given, str) or not NAME.fullmatch(given):
        raise BadCase("bundles_gone")
    return open_bundle(given)


# --- the list ----------------------------------------------------------------------------------------------------


def listed(lang: str, *, invite: bool = False) -> str:
    """All bundles, the newest first. invite: without one, how to come by one."""
    said, found = words(lang), [] if is_public() else list_bundles()[:MOST_LISTED]
    if not found and (is_public() or not invite):
        return ""
    rows = [tag("p", "dd-dim", prose(said["bundles_none"]))] if not found else []
    for bundle in found:
        note = tag("span", "dd-dim", text(bundle.settings.note)) if bundle.settings.note else ""
        name = tag("span", "dd-recent-name", tag("span", "", tag("b", "", text(bundle.name))), note,
                   tag("span", "dd-dim", text(_holds(bundle, said))))  # fmt: skip
        last = _last_figure(bundle, lang)
        rows.append(tag("button", "dd-recent", name, tag("span", "dd-recent-end", last), type="button",
                        data_bundle=bundle.name))  # fmt: skip
    return tag("section", "dd-card dd-recents", tag("h3", "dd-h", text(said["bundles"])), *rows)


def _holds(bundle: Bundle, said: Mapping[str, Any]) -> str:
    counts = {"cases": _count(bundle.cases), "pairs": _count(bundle.pairs), "runs": len(bundle.settings.runs),
              "replays": len(bundle.replays)}  # fmt: skip
    shown = [str(said[f"bundle_{name}_n"]).format(n=f"{n:,}") for name, n in counts.items() if n or name != "pairs"]
    return " · ".join([*shown, str(said["bundle_changed"]).format(when=ago(bundle.changed, said))])


def _count(path: Path) -> int:
    """Rows of a file of a bundle, read again only where it has changed: the list stands beside every form."""
    try:
        there = path.stat()
    except OSError:
        return 0
    return _rows_at(path, there.st_mtime_ns, there.st_size)


@lru_cache(maxsize=200)
def _rows_at(path: Path, changed: int, size: int) -> int:
    return rows_in(path)


def _last_figure(bundle: Bundle, lang: str) -> str:
    for path in bundle.replays[:1]:
        with suppress(Refused, OSError):
            told = _headline(path, path.stat().st_mtime_ns, lang)
            return tag("span", f"dd-judged dd-{told.tone}", text(told.line))
    return ""


@lru_cache(maxsize=200)
def _headline(path: Path, changed: int, lang: str) -> Any:
    from ui.evaluate_replay import headline

    return headline(read_result_file(path), lang)


# --- one bundle --------------------------------------------------------------------------------------------------


def page(given: Any, lang: str) -> str:
    """What a bundle holds, and its replays. Raises BadCase, Refused."""
    bundle, said = named(given), words(lang)
    begin = tag("button", "dd-do dd-primary", text(said["bundle_replay"]), type="button", data_bundle_form=bundle.name)
    sure = str(said["bundle_remove_sure"]).format(name=bundle.name)
    remove = tag("button", "dd-small dd-remove", text(said["rejects_remove"]), type="button",
                 data_bundle_remove=bundle.name, data_sure=sure)  # fmt: skip
    close = tag("button", "dd-small", text(said["compare_close"]), type="button", data_bundle="")
    title = tag("div", "dd-head-title", tag("p", "dd-eyebrow", text(said["bundle"])), tag("h2", "", text(bundle.name)),
                tag("p", "dd-dim", text(_holds(bundle, said))))  # fmt: skip
    note = tag("p", "", text(bundle.settings.note)) if bundle.settings.note else ""
    head = tag("div", "dd-head-row", title, tag("div", "dd-head-tools", remove, close))
    top = tag("section", "dd-card dd-bundle-head", head, note, tag("div", "dd-bundle-do", begin))
    return top + _replays(bundle, lang) + _inside(bundle, lang)


def _replays(bundle: Bundle, lang: str) -> str:
    """The share of good cases of each replay, the newest first; of several models that of the one that gains most."""
    from ui.evaluate_replay import best_of

    said, bars = words(lang), []
    for path in bundle.replays[:MOST_REPLAYS]:
        try:
            result = read_result_file(path)
        except (Refused, OSError):
            continue
        summaries = [one for one in result.get("summary") or () if isinstance(one, Mapping)]
        shown = best_of(result) or next(iter(summaries), {})
        if not shown:
            continue
        share = shown.get("good_share")
        share = share if isinstance(share, Mapping) else {}
        counted = (finite_number(shown.get("good")) or 0) / max(1.0, finite_number(shown.get("cases")) or 0)
        value = finite_number(share.get("value"))
        value = counted if value is None else value
        counts = [f"{said['replay_changes'][name]} {int(finite_number(shown.get(name)) or 0):,}"
                  for name in ("fixed", "broken", "still_bad")] if shown is not summaries[0] else []  # fmt: skip
        note = " · ".join([str(shown.get("model", "")), *counts])
        tone = "bad" if finite_number(shown.get("broken")) else "good" if finite_number(shown.get("fixed")) else "even"
        bars.append(Bar(_day(result, path), value, share.get("low"), share.get("high"), note, tone,
                        ask="bundle_replay", sent=f"{bundle.name}/{path.name}"))  # fmt: skip
    title = tag("h3", "dd-h", text(said["bundle_replays"]))
    if not bars:
        return tag("section", "dd-card", title, tag("p", "dd-dim", text(said["bundle_no_replays"])))
    info = tag("p", "dd-dim", text(said["bundle_replays_info"]))
    return tag("section", "dd-card", title, info, evaluate_plots.interval_bars(bars, lang, middle=None))


def _day(result: Json, path: Path) -> str:
    created = result.get("created")
    return created[:16].replace("T", " ") if isinstance(created, str) and created else path.name.split(".")[0]


def _inside(bundle: Bundle, lang: str) -> str:
    said, settings = words(lang), bundle.settings
    rows = [
        ("model", settings.model or "–"),
        ("check", said["replay_checks"].get(settings.check, settings.check)),
        ("decoding", ", ".join(f"{name} {value}" for name, value in settings.decoding.items()) or said["bundle_usual"]),
        ("recipe", " · ".join([settings.recipe, *(f"{name}={value}" for name, value in settings.changes.items())])),
        ("place", bundle.folder),
    ]  # fmt: skip
    lines = (tag("tr", "", tag("th", "dd-left", text(said[f"bundle_{name}"]), scope="row"),
                 tag("td", "dd-left", text(value))) for name, value in rows)  # fmt: skip
    settled = tag("table", "dd-evaluate-table dd-bundle-settings", tag("tbody", "", *lines))
    states = job_words(lang)["states"]
    trained = []
    for run in bundle.runs:
        state = states.get(run.state, said["bundle_run_gone"])
        cells = (tag("td", "dd-left", text(state)), tag("td", "dd-left dd-dim", text(run.output)))
        trained.append(tag("tr", "", tag("th", "dd-left", text(run.job), scope="row"), *cells))
    runs = tag("div", "dd-scroll", tag("table", "dd-evaluate-table", tag("tbody", "", *trained)), tabindex=0)
    if not trained:
        line = f"python -m pipeline bundle train {shlex.quote(bundle.name)}"
        copy = tag("button", "dd-link", text(said["copy"]), type="button", data_copy=line, data_done=said["copied"])
        entry = "bundle_train" if bundle.pairs.is_file() else "bundle_no_pairs"
        command = tag("div", "dd-fix dd-command", tag("code", "", text(line)), copy) if bundle.pairs.is_file() else ""
        runs = tag("p", "dd-dim", text(said[entry])) + command
    parts = (
        tag("h3", "dd-h", text(said["bundle_holds"])), settled,
        tag("h4", "dd-also", text(said["bundle_runs"])), runs,
        _rows(bundle, "cases", (("text", "replay_head_case"), ("standard_answer", "replay_head_standard")), lang),
        _rows(bundle, "pairs", (("instruction", "score_suspect_prompt"), ("chosen", "score_chosen"),
                                ("rejected", "score_rejected")), lang),
    )  # fmt: skip
    return tag("section", "dd-card dd-bundle-holds", *parts)


def _rows(bundle: Bundle, what: str, columns: Sequence[tuple[str, str]], lang: str) -> str:
    """The first rows of its cases or its pairs, folded away."""
    from pipeline.record_files import Unreadable, records

    said, path = words(lang), bundle.cases if what == "cases" else bundle.pairs
    found: list[Json] = []
    with suppress(OSError, Unreadable):
        found = [record.value for record in islice(records(path), MOST_ROWS) if record.value is not None]
    if not found:
        return ""
    total = _count(path)
    heads = (tag("th", "dd-left", text(said[entry]), scope="col") for _, entry in columns)
    lines = [tag("tr", "", *(tag("td", "dd-left", with_specials(_told(row.get(name)))) for name, _ in columns))
             for row in found]  # fmt: skip
    table = tag("table", "dd-evaluate-table", tag("thead", "", tag("tr", "", *heads)), tag("tbody", "", *lines))
    title = str(said[f"bundle_{what}_n"]).format(n=f"{total:,}")
    more = str(said["bundle_first_rows"]).format(n=len(found)) if total > len(found) else ""
    return tag("details", "dd-more-facts", tag("summary", "", text(title)), tag("div", "dd-scroll", table, tabindex=0),
               tag("p", "dd-dim", text(more)) if more else "", id=f"dd-bundle-{what}")  # fmt: skip


def _told(value: Any) -> str:
    """A text of a row; of messages the last."""
    if isinstance(value, list) and value:
        value = value[-1].get("content", "") if isinstance(value[-1], Mapping) else value[0]
    shown = "" if value is None else str(value)
    return shown if len(shown) <= LONG else shown[:LONG] + "…"


# --- the next replay ---------------------------------------------------------------------------------------------


def form_of(bundle: Bundle) -> dict[str, str]:
    """The form of a replay of its cases through its model and what its trainings made."""
    settings, decoding = bundle.settings, dict(bundle.settings.decoding)
    way = "greedy" if decoding.pop("greedy", False) else "sampling" if decoding.get("temperature") else "beam"
    numbers = {name: str(decoding.pop(name)) for name in NUMBERS if name in decoding}
    others = dict.fromkeys([*bundle.trained(), *_beside_before(bundle)])
    return {"model": settings.model, "others": "\n".join(others), "cases": evaluate_case.BUNDLE + bundle.name,
            "check": settings.check, "decoding": way, **numbers,
            "options": "\n".join(f"{name}={value}" for name, value in decoding.items())}  # fmt: skip


def _beside_before(bundle: Bundle) -> list[str]:
    """What stood beside the base in the last replay and is still there."""
    for path in bundle.replays[:1]:
        with suppress(Refused, OSError, AttributeError, TypeError):
            models = read_result_file(path).get("models") or ()
            named = [str(one.get("source", "")) for one in models if one.get("role") != "base"]
            return [one for one in named if one and (Path(one).exists() or one.startswith(evaluate_case.DEMO))]
    return []


# --- a finished replay -------------------------------------------------------------------------------------------


def kept_in(one: Shown) -> str:
    """The bundle that a replay belongs to, empty for none or one that is gone."""
    name = one.result.get("bundle") or (read_object(one.folder / KEPT).get("name") if one.folder is not None else "")
    with suppress(BadCase, Refused):
        return named(name).name
    return ""


def invitation(one: Shown, lang: str) -> str:
    """The bundle that a replay is in, or the offer to keep it in one."""
    said, there = words(lang), kept_in(one)
    title = tag("h3", "dd-h", text(said["bundle_keep_title"]))
    if there:
        button = tag("button", "dd-do", text(said["bundle_open"]), type="button", data_bundle=there)
        line = tag("p", "dd-dim", text(str(said["bundle_kept_in"]).format(name=there)))
        return tag("section", "dd-card dd-bundle-keep", tag("div", "dd-run-line", tag("div", "", title, line), button))
    if is_public() or one.folder is None:
        return ""
    options = (tag("option", "", value=bundle.name) for bundle in list_bundles()[:MOST_LISTED])
    field = tag("input", "", type="text", name="bundle", list="dd-listed-bundle", autocomplete="off",
                placeholder=said["bundle_name"], aria_label=said["bundle_name"], maxlength=80)  # fmt: skip
    button = tag("button", "dd-do dd-primary", text(said["bundle_keep"]), type="button", data_ask="keep")
    row = tag("div", "dd-bundle-do", field, tag("datalist", "", *options, id="dd-listed-bundle"), button)
    return tag("section", "dd-card dd-bundle-keep", title, tag("p", "dd-dim", text(said["bundle_keep_info"])), row)


def keep(one: Shown, asked: Asked, lang: str) -> Answer:
    """Put a replay into a bundle: one that is there, or a new one of its cases and settings."""
    from ui.evaluate_replay import RESULT

    fields = asked.get("fields")
    name = str(fields.get("bundle") or "").strip() if isinstance(fields, Mapping) else ""
    if is_public() or one.folder is None:
        raise BadCase("bundles_gone")
    if not NAME.fullmatch(name):
        raise BadCase("bundle_name_wrong")
    new = name not in {bundle.name for bundle in list_bundles()}
    bundle = _made(name, one) if new else open_bundle(name)
    for other in named_lines(one.asked.get("others", "")):
        with suppress(Refused):
            bundle = add_run(bundle, other.removeprefix(JOB)) if other.startswith(JOB) else bundle
    keep_replay(bundle, one.folder / RESULT)
    write_object(one.folder / KEPT, {"name": bundle.name})
    told = str(words(lang)["bundle_made" if new else "bundle_kept"]).format(name=bundle.name)
    return {"toast": told, "parts": {"bundle": invitation(one, lang)}}


def _made(name: str, one: Shown) -> Bundle:
    """A bundle of what a replay was asked with. Raises BadCase, Refused, OSError."""
    asked = one.asked
    decoding: dict[str, Any] = {} if asked.get("decoding") != "greedy" else {"greedy": True}
    wanted = {"sampling": ("temperature", "top_p"), "beam": ("num_beams",), "greedy": ()}
    for number in (*wanted.get(asked.get("decoding") or "beam", ()), "max_new_tokens"):
        if (value := _number(asked.get(number))) is not None:
            decoding[number] = value
    if asked.get("decoding") == "sampling":
        decoding.setdefault("temperature", 1)
    for line in asked.get("options", "").splitlines():
        option, _, typed = (part.strip() for part in line.partition("="))
        if (value := _number(typed)) is not None:
            decoding[option] = value
    model, check, pattern = (asked.get(name, "").strip() for name in ("model", "check", "pattern"))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cases.json"
        cases = _cases(one, asked, path)
        if check == "pattern":  # bundles keep no pattern, cases do
            held = (replace(case, check=case.check or check, pattern=case.pattern or pattern) for case in cases.cases)
            cases, check = replace(cases, cases=tuple(held)), "auto"
        write_cases(cases, path)
        return create_bundle(name, cases=path, model=evaluate_case.resolved(model) if model.startswith(JOB) else model,
                             decoding=decoding, check=check or "auto")  # fmt: skip


def _number(typed: Any) -> float | int | None:
    try:
        value = float(typed)
        return int(value) if value.is_integer() else value
    except (TypeError, ValueError, OverflowError):
        return None


def _cases(one: Shown, asked: Form, path: Path) -> ReplayCases:
    """The cases that were replayed: as they were given, or as the result holds them where that file is gone."""
    most = _number(asked.get("max_samples"))
    columns = [line.strip() for line in asked.get("columns", "").splitlines() if line.strip()]
    with suppress(BadCase, Refused, OSError):
        given = Path(evaluate_case.resolved((named_lines(asked.get("cases", "")) or ("",))[0]))
        return read_cases(given, columns=columns_of_cases(columns), most=int(most) if most else None)
    base = (one.result.get("models") or [{}])[0].get("name")
    rows = [{"text": row.get("text"), "standard_answer": row.get("standard_answer"), "category": row.get("category")}
            for row in one.result.get("rows") or () if row.get("model") == base]  # fmt: skip
    path.write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8", errors="replace")
    return read_cases(path)


# --- what the page asks ------------------------------------------------------------------------------------------


def replay_in(given: Any) -> str:
    """An id under which the page shows a replay of a bundle. given: NAME/FILE. Raises BadCase, Refused, OSError."""
    name, _, file = str(given or "").partition("/")
    path = next((path for path in named(name).replays if path.name == file), None)
    if path is None:
        raise BadCase("bundles_gone")
    return evaluate_runs.opened_elsewhere(path)


def removed(given: Any) -> None:
    """Delete a bundle with its replays and trainings. Raises BadCase, Refused."""
    remove_bundle(named(given))
