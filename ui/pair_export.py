"""A set as a file: in any format, to download or for whatever takes a file next; and into a data set of the Hub."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diagnostics.report_store import new_id
from pipeline.config_files import load_config
from pipeline.pairs.all_formats import EVERY_FORMAT
from pipeline.pairs.pair import Pair
from pipeline.pairs.write_pairs import SUFFIXES, WriteReport, write_pairs
from ui import pair_hub, pair_jobs, pair_workspaces
from ui.allowed_paths import is_public
from ui.interface_words import known as known_language
from ui.interface_words import words
from ui.pair_jobs import Job
from ui.pair_workspaces import About
from ui.private_folder import private_folder
from ui.safe_html import tag, text
from ui.uploads import safe_name
from ui.visitor_case import BadCase

if TYPE_CHECKING:
    from pipeline.pair_workspace import Workspace

FIRST = (
    "trl", "trl-conversational", "trl-implicit", "llamafactory-alpaca", "llamafactory-sharegpt", "ms-swift", "openai",
    "kto",
)  # fmt: skip
OWN = "own"  # columns of the visitor's naming
OWN_COLUMNS = ("prompt", "chosen", "rejected")
WHICH = {"all": None, "reviewed": ("accepted", "edited")}


@dataclass(frozen=True)
class Exported:
    """A file that was written. address: of the data set, where it was pushed."""

    path: Path
    format: str
    which: str
    report: WriteReport
    address: str = ""


def export_to(
    workspace: Workspace, path: Path, format: str, which: str = "all", job: Job | None = None
) -> WriteReport:  # fmt: skip
    """Write the pairs that are not discarded. which: of WHICH. Raises OSError, Refused, Stopped."""
    return write_pairs(_counted(workspace.pairs(), WHICH[which], job), path, format)


def _counted(pairs: Iterator[Pair], statuses: tuple[str, ...] | None, job: Job | None) -> Iterator[Pair]:
    for number, pair in enumerate(pairs):
        if job is not None and number % 500 == 0:
            job.progress(number)
        if statuses is None or pair.status in statuses:
            yield pair


def start(set_id: str, asked: Mapping[str, Any]) -> Job:
    """Write a file, and push it where a repository is named. Raises BadCase."""
    format, suffix, which = (str(asked.get(key, "")) for key in ("format", "suffix", "which"))
    if format == OWN:
        format = _own(asked.get("columns"))
    elif format not in EVERY_FORMAT:
        raise BadCase("pairs_no_answer")
    if suffix not in SUFFIXES or which not in WHICH:
        raise BadCase("pairs_no_answer")
    target: tuple[str, str, str] | None = None
    if asked.get("push") is True:
        target = pair_hub.check_target(asked.get("repo"), asked.get("file"), asked.get("token"))
        if not target[1].endswith(suffix):
            raise BadCase("pairs_push_suffix", suffix=suffix)
    known = pair_workspaces.about(set_id)
    private = asked.get("private") is not False

    def work(job: Job) -> None:
        folder = private_folder("downloads") / f"pairs-{new_id()}"
        folder.mkdir(mode=0o700)
        path = folder / file_name(known, format, suffix)
        with pair_workspaces.opened(set_id) as workspace:
            job.at("pairs_job_writing", workspace.counts().total)
            report = export_to(workspace, path, format, which, job)
            address = ""
            if target is not None:
                if not report.rows:
                    raise BadCase("pairs_nothing_to_push")
                job.at("pairs_job_pushing")
                address = pair_hub.push(path, *target, private)
                workspace.exported(path, format)
        job.result = Exported(path, format, which, report, address)

    return pair_jobs.start(Job(set_id, "export"), work)


def _own(given: Any) -> str:
    """The name of a format in columns that a visitor named. Raises BadCase."""
    named = {ours: str(given.get(ours, "")).strip() for ours in OWN_COLUMNS} if isinstance(given, dict) else {}
    if (
        not all(named.values())
        or len(set(named.values())) < len(OWN_COLUMNS)
        or any(c in n for n in named.values() for c in ",=")
    ):
        raise BadCase("pairs_own_missing")
    return ",".join(f"{ours}={theirs[:100]}" for ours, theirs in named.items())


def file_name(known: About, format: str, suffix: str) -> str:
    """`train.trl.jsonl` for a set read from train.json."""
    stem = safe_name(known.name).split(".")[0][:60] or "pairs"
    return f"{stem}.{OWN if '=' in format else format}{suffix}"


def downloaded(set_id: str) -> None:
    """Its last file was fetched: nothing of it would be lost now."""
    job = pair_jobs.find(set_id, "export")
    if job is not None and isinstance(job.result, Exported) and job.result.path.is_file():
        with pair_workspaces.opened(set_id) as workspace:
            workspace.exported(job.result.path, job.result.format)


def last_file(set_id: str) -> Path | None:
    """The file written last, as long as it is there."""
    job = pair_jobs.find(set_id, "export")
    done = job is not None and isinstance(job.result, Exported) and job.result.path.is_file()
    return job.result.path if done and job is not None else None


# --- shown ---


def form(known: About, lang: str) -> str:
    """What to write and where to. The result comes below it."""
    said = words(lang)
    format = known.format if known.format in EVERY_FORMAT else FIRST[0]
    names = dict.fromkeys((*FIRST, *EVERY_FORMAT))
    formats = [(f, f"{f} · {said[f'pairs_format_{f}']}" if f"pairs_format_{f}" in said else f) for f in names]
    formats.append((OWN, said["pairs_format_own"]))
    fields = [
        _field(said["pairs_format"], _choice("format", formats, format)),
        _field(said["pairs_file_type"], _choice("suffix", [(s, s) for s in SUFFIXES], known.suffix)),
        _field(said["pairs_which"], _choice("which", [(w, said[f"pairs_which_{w}"]) for w in WHICH], "all")),
    ]
    own = (
        _field(
            f"{said['pairs_own_columns']}: {said[f'pairs_part_{c}']}", _input(f"columns.{c}", value=c, maxlength=100)
        )
        for c in OWN_COLUMNS
    )
    make = tag("button", "dd-do dd-primary", text(said["pairs_make_file"]), type="submit", name="push", value="")
    hint = "hf_…" if is_public() else said["pairs_token_login"]
    target = (
        _field(said["pairs_repo"], _input("repo", placeholder="owner/name", maxlength=200)),
        _field(said["pairs_repo_file"], _input("file", value=f"data/train{known.suffix}", maxlength=300)),
        _field(said["pairs_token"], _input("token", type="password", placeholder=hint, maxlength=400)),
    )
    box = tag("input", "", type="checkbox", name="private", checked=True)
    push = tag("button", "dd-do", text(said["pairs_push"]), type="submit", name="push", value="1")
    hub = tag(
        "details", "dd-more-facts", tag("summary", "", text(said["pairs_push_head"])), tag("div", "dd-form", *target),
        tag("label", "dd-check", box, text(said["pairs_private"])), tag("p", "dd-dim", text(said["pairs_token_info"])),
        push, id="dd-pairs-push",
    )  # fmt: skip
    head = tag("h3", "dd-h", text(said["pairs_export"])) + tag("p", "dd-dim", text(said["pairs_export_info"]))
    inner = tag(
        "form", "", tag("div", "dd-form", *fields), tag("div", "dd-form dd-only-own", *own), make, hub,
        data_rpc="export", data_format=format,
    )  # fmt: skip
    return tag("section", "dd-card", head, inner, tag("div", "dd-export-result", aria_live="polite"))


def _input(name: str, type: str = "text", **more: Any) -> str:
    return tag("input", "", type=type, name=name, autocomplete="off", spellcheck="false", **more)


def _field(label: str, control: str) -> str:
    return tag("label", "dd-field", tag("span", "", text(label)), control)


def _choice(name: str, choices: list[tuple[str, str]], chosen: str) -> str:
    options = (tag("option", "", text(shown), value=value, selected=value == chosen) for value, shown in choices)
    return tag("select", "dd-select", *options, name=name)


def outcome(done: Exported, lang: str) -> str:
    """What was written, and what the format had no place for."""
    said = words(lang)
    report = done.report
    lines = [said["pairs_written"].format(n=f"{report.rows:,}", name=done.path.name, size=size_of(done.path))]
    for reason, n in report.left_out.most_common():
        where = report.lines.get(reason, [])
        listed = ", ".join(f"{line:,}" for line in where[:10] if line) + (" …" if len(where) > 10 else "")
        why = load_config(f"words/{known_language(lang)}/formats.yaml").get(f"holds_{reason}", reason)
        lines.append(
            said["pairs_left_out"].format(n=f"{n:,}", why=why) + (f" ({said['pairs_line']} {listed})" if listed else "")
        )
    dropped = [(name, n) for name, n in report.dropped.most_common(12) if name != "flags"]  # findings are made anew
    if dropped:
        named = ", ".join(f"{name} ({n:,})" for name, n in dropped)
        lines.append(said["pairs_dropped"].format(names=named))
    if report.replaced:
        lines.append(said["pairs_replaced"].format(n=f"{report.replaced:,}"))
    shown = [tag("p", "" if not number else "dd-dim", text(line)) for number, line in enumerate(lines)]
    if done.address:
        link = tag("a", "dd-link", text(done.address), href=done.address, target="_blank", rel="noopener noreferrer")
        shown.insert(0, tag("p", "", text(said["pairs_pushed"]), " ", link))
    return "".join(shown)


def size_of(path: Path) -> str:
    size = float(path.stat().st_size)
    for unit in ("B", "KB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return ""
