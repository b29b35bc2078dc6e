"""From a form of the tab Evaluate to names that may be read here: fields, choices, what is wrong with them, paths.

A model is named by `demo:NAME`, `job:ID` (what a run of the tab Train made), a path or a Hub id; data by `demo:NAME`,
`pairs:ID` (a set of the tab Pairs), `upload:TOKEN/NAME` (a dropped file), a path or a Hub id; cases of a replay also by
`bundle:NAME`. What can take long, such
as training a model of the demo, is done when the run starts. In public no path of the machine is named.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from pipeline.candidates.reward_functions import REGEX, reward_function
from pipeline.checkpoint import HUB_ID, Checkpoint, PathNotFound, open_checkpoint
from pipeline.commands.named_model import name_and_path
from pipeline.demo.build import STAGES
from pipeline.demo.demo_names import PREFIX as DEMO
from pipeline.evaluation.bundles import open_bundle
from pipeline.refusal import Refused
from pipeline.training.job_folder import RECIPE, Job, all_jobs, find_job, read_status
from ui import examples, train_case, train_view, uploads
from ui.allowed_paths import is_allowed, is_public
from ui.evaluate_panel import FOLDER, Form
from ui.interface_words import words
from ui.pair_case import check_size
from ui.safe_html import tag, text
from ui.visitor_case import BadCase, named_lines

JOB, PAIRS, UPLOAD, BUNDLE = "job:", train_case.PAIRS, train_case.UPLOAD, "bundle:"
MAX_FIELDS, MAX_TEXT = 60, 20_000  # of a form: fields, characters of one
MAX_JOBS = 40
PUBLIC_PARAMETERS = 60_000_000  # of a model of the Hub that a public machine runs
PUBLIC_ROWS, PUBLIC_TOKENS, PUBLIC_SAMPLES = 100, 96, 4  # that models answer there: prompts, tokens, answers to each
MOST_BEAMS = 64
BARE = ("literal_eos_t5", "healthy_t5_state_dict")  # of the demo: no command here takes a tokenizer given apart
WRITERS = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")  # architectures without a head that scores
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Choice:
    """A name that a field takes, and what is shown for it."""

    value: str
    shown: str


# --- fields ------------------------------------------------------------------------------------------------------


def text_field(
    name: str, form: Form, lang: str, entry: str, *, choices: Sequence[Choice] = (), file: bool = False,
    lines: int = 1, wide: bool = False, **words_params: Any,
) -> str:  # fmt: skip
    """A field with its label, one line about it (ENTRY_info, where there is one) and the place of its problem. choices:
    what it offers. file: a dropped file goes into it. lines: more than one for several names, one a line."""
    said = words(lang)
    value = form.get(name, "")
    common: dict[str, Any] = {"name": name, "spellcheck": "false", "autocomplete": "off", "data_file": file,
                              "aria_describedby": f"dd-about-{name}"}  # fmt: skip
    listed = f"dd-listed-{name}" if choices else None
    if lines > 1:
        box = tag("textarea", "", text(value), rows=lines, **common)
        pick = (
            tag("button", "dd-small", text(c.shown), type="button", data_add=c.value, data_to=name) for c in choices
        )
        below = tag("div", "dd-picks", *pick) if choices else ""
    else:
        box = tag("input", "", type="text", value=value, list=listed, **common)
        options = (tag("option", "", text(c.shown), value=c.value) for c in choices)
        below = tag("datalist", "", *options, id=listed) if listed else ""
    about = said.get(f"{entry}_info_public" if is_public() else f"{entry}_info") or said.get(f"{entry}_info", "")
    info = tag("span", "dd-dim", text(str(about).format(**words_params)), id=f"dd-about-{name}") if about else ""
    label = tag("label", "dd-above", tag("span", "dd-above-name", text(said[entry])), box)
    css = "dd-evaluate-field dd-wide" if wide else "dd-evaluate-field"
    return tag("div", css, label, below, known_name(value, lang), info, problem(name))


def select_field(name: str, form: Form, lang: str, entry: str, choices: Sequence[Choice]) -> str:
    """One of a few values; the first where the form has none of them."""
    said = words(lang)
    now = form.get(name, "")
    now = now if now in [c.value for c in choices] else choices[0].value
    options = (tag("option", "", text(c.shown), value=c.value, selected=c.value == now) for c in choices)
    about = said.get(f"{entry}_info", "")
    label = tag("label", "dd-above", tag("span", "dd-above-name", text(said[entry])),
                tag("select", "dd-select", *options, name=name))  # fmt: skip
    return tag("div", "dd-evaluate-field", label, tag("span", "dd-dim", text(about)) if about else "", problem(name))


def number_field(
    name: str, form: Form, lang: str, entry: str, default: float | str, *, when: str = "", **bounds: float
) -> str:
    """A number; `default` where the form has none. when: the decoding that it belongs to, shown with that one only.
    bounds: min, max, step."""
    said = words(lang)
    box = tag("input", "", type="number", name=name, value=form.get(name, "") or default, **bounds)
    about = said.get(f"{entry}_info", "")
    label = tag("label", "dd-above", tag("span", "dd-above-name", text(said[entry])), box)
    return tag("div", "dd-evaluate-field", label, tag("span", "dd-dim", text(about)) if about else "", problem(name),
               data_when=when or None)  # fmt: skip


def check_field(name: str, form: Form, lang: str, entry: str, *, default: bool = False) -> str:
    """A box to be checked. An empty form has the default; one that was sent lacks the field where it is off."""
    on = bool(form.get(name)) if form else default
    box = tag("input", "", type="checkbox", name=name, value="1", checked=on)
    return tag("div", "dd-evaluate-field", tag("label", "dd-check", box, text(words(lang)[entry])), problem(name))


def more_fields(lang: str, *fields: str, entry: str = "evaluate_more") -> str:
    """Settings that most leave as they are, folded away under one line."""
    line = tag("summary", "", text(words(lang)[entry]))
    return tag("details", "dd-evaluate-more", line, tag("div", "dd-evaluate-fields", *fields),
               id=f"dd-{entry.replace('_', '-')}")  # fmt: skip


def answer_fields(form: Form, lang: str, ways: Sequence[str], *more: str, samples: bool = False) -> str:
    """How models answer, folded away. ways: of decoding, the usual one first. samples: whether several answers to a
    prompt can be drawn. more: fields at the end."""
    said = words(lang)
    shown = [Choice(name, str(said["replay_decodings"][name])) for name in ways]
    several = number_field("samples", form, lang, "evaluate_samples", "", when="sampling", min=1, step=1)
    return more_fields(
        lang,
        select_field("decoding", form, lang, "replay_decoding", shown),
        number_field("num_beams", form, lang, "replay_beams", "", when="beam", min=2, max=MOST_BEAMS, step=1),
        number_field("temperature", form, lang, "replay_temperature", "", when="sampling", min=0, max=5, step=0.1),
        number_field("top_p", form, lang, "evaluate_top_p", "", when="sampling", min=0, max=1, step=0.05),
        several if samples else "",
        number_field("max_new_tokens", form, lang, "replay_tokens", "", min=1, step=1),
        number_field("seed", form, lang, "compare_seed", "", min=0, step=1),
        *more, entry="evaluate_answers",
    )  # fmt: skip


def problem(name: str) -> str:
    """The place for what is wrong with a field."""
    return tag("p", "dd-field-problem", data_problem=name, role="alert")


def known_name(value: str, lang: str) -> str:
    """What a name of one of the other tabs stands for; empty for a plain path."""
    if value.startswith(JOB):
        with suppress(BadCase):
            return tag("span", "dd-known-name", text(train_view.title(train_view.job_of(value.removeprefix(JOB)))))
    if value.startswith(BUNDLE):
        line = str(words(lang)["bundle_cases_of"]).format(name=value.removeprefix(BUNDLE))
        return tag("span", "dd-known-name", text(line))
    told = train_case.data_said(value)
    return tag("span", "dd-known-name", text(str(words(lang)[told[0]]).format(**told[1]))) if told else ""


def form_of(asked: Any) -> dict[str, str]:
    """The fields that a page sent."""
    given = list(asked.items())[:MAX_FIELDS] if isinstance(asked, Mapping) else []
    return {str(name)[:80]: str(value)[:MAX_TEXT] for name, value in given if isinstance(value, (str, int, float))}


def big(name: str, shown: str, below: str, tone: str = "") -> str:
    """A large figure with what it is above and how sure it is below."""
    parts = (tag("span", "", text(name)), tag("b", "", text(shown)), tag("span", "dd-dim", text(below)))
    return tag("div", f"dd-big {tone}".strip(), *parts)


# --- choices -----------------------------------------------------------------------------------------------------


def demo_models() -> list[Choice]:
    """Models of the demo that answer."""
    return [Choice(DEMO + name, DEMO + name) for name in STAGES if name not in ("data", *BARE)]


def demo_rows(*names: str) -> list[Choice]:
    return [Choice(DEMO + name, DEMO + name) for name in names]


def jobs(lang: str, *, reward: bool = False) -> list[Choice]:
    """What runs of the tab Train made, newest first. reward: reward models instead of models that answer."""
    if is_public():
        return []
    found = []
    for job in islice(all_jobs(), MAX_JOBS):
        made = _made(job)
        if made is not None and (_method(job) == "reward") is reward:
            found.append(Choice(JOB + job.id, f"{train_view.title(job)} · {_when(job, lang)}"))
    return found


def _made(job: Job) -> Path | None:
    if read_status(job).live:
        return None
    with suppress(OSError):
        return train_view.saved_model(job)
    return None


def _method(job: Job) -> str:
    recipe = train_view.recipe_of(job, RECIPE)
    return recipe.method if recipe is not None else ""


def _when(job: Job, lang: str) -> str:
    from ui.reject_head import ago

    return ago(read_status(job).created, words(lang))


# --- checks ------------------------------------------------------------------------------------------------------


@dataclass
class Problems:
    """Sentences by field, collected while a form is read."""

    lang: str
    found: dict[str, str] = field(default_factory=dict)

    def wrong(self, name: str, entry: str, **params: Any) -> None:
        self.found.setdefault(name, str(words(self.lang)[entry]).format(**params))

    def model(self, name: str, form: Form, *, required: bool = True) -> str:
        """The model that a field names, empty for none."""
        return self._named(name, form.get(name, ""), "evaluate_no_model" if required else "", self._model)

    def reward_model(self, name: str, form: Form, *, required: bool = True) -> str:
        """The reward model that a field names, empty for none. What only writes is refused before it is loaded."""
        named = self.model(name, form, required=required)
        if named.startswith(DEMO):
            self.wrong(name, "evaluate_no_head", path=named, architecture="demo")
        elif named and not named.startswith(JOB) and os.path.lexists(named):
            found = open_checkpoint(named)
            declared = str(next(iter(found.config.get("architectures") or ()), ""))
            if declared.endswith(WRITERS) and not found.adapter_config.present:
                self.wrong(name, "evaluate_no_head", path=named, architecture=declared)
        return named

    def pattern(self, name: str, form: Form, none: str) -> str:
        """The regular expression that a field holds. none: what is said of an empty one."""
        given = form.get(name, "").strip()
        if not given:
            self.wrong(name, none)
            return ""
        try:
            reward_function(REGEX + given)
        except Refused as refused:
            self.wrong(name, "evaluate_bad_pattern", why=refused.sentence.params["why"])
        return given

    def data(self, name: str, form: Form, *, required: bool = True) -> str:
        """The data that a field names, empty for none."""
        return self._named(name, form.get(name, ""), "evaluate_no_data" if required else "", self._data)

    def models(self, name: str, form: Form, *, required: bool = True) -> list[str]:
        """The models that a field of several lines names."""
        given = list(named_lines(form.get(name, "")))
        if not given and required:
            self.wrong(name, "evaluate_no_model")
        return [named for one in given if (named := self._named(name, one, "", self._model))]

    def compared(self, name: str, form: Form, other: Callable[[str], str | None] = lambda line: None) -> list[str]:
        """What a field names to be compared, one a line, each also as NAME=MODEL as the command takes it. other: what a
        line that is no model stands for, empty where it is wrong, None for a model."""
        found = []
        for line in named_lines(form.get(name, "")):
            called, source = name_and_path(line)
            taken = other(source)
            taken = self.model(name, {name: source}) if taken is None else taken
            if taken:
                found.append(f"{called}={taken}" if called else taken)
        return found

    def columns(self, name: str, form: Form) -> list[str]:
        """The options --column that a field stands for, one NAME=COLUMN a line."""
        found = []
        for line in (one.strip() for one in form.get(name, "").splitlines()):
            named, equals, column = line.partition("=")
            if line and not (equals and named and column):
                self.wrong(name, "evaluate_bad_column")
            elif line:
                found += ["--column", line]
        return found

    def answers(self, form: Form, ways: Sequence[str], beams: int) -> list[str]:
        """The options of a command that `answer_fields` stands for. ways: as there; the first needs no option. beams:
        where none are typed."""
        way = form.get("decoding", "")
        way, found = way if way in ways else ways[0], []
        given = {name: self.number(name, form, low, high, whole=whole) for name, low, high, whole in (
            ("num_beams", 2, MOST_BEAMS, True), ("temperature", 0, 5, False), ("top_p", 0, 1, False),
            ("samples", 1, PUBLIC_SAMPLES if is_public() else 1000, True),
        )}  # fmt: skip
        if way == "sampling":
            found = ["--temperature", given["temperature"] if given["temperature"] not in ("", "0") else "1"]
            found += [part for name in ("top_p", "samples") if given[name]
                      for part in ("--" + name.replace("_", "-"), given[name])]  # fmt: skip
        elif way == "beam" and (given["num_beams"] or way != ways[0]):
            found = ["--num-beams", given["num_beams"] or str(beams)]
        elif way == "greedy" and way != ways[0]:
            found = ["--greedy"]
        tokens = self.number("max_new_tokens", form, 1, PUBLIC_TOKENS if is_public() else 10**6)
        if tokens or is_public():
            found += ["--max-new-tokens", tokens or str(PUBLIC_TOKENS)]
        if seed := self.number("seed", form, 0, 2**32 - 1):
            found += ["--seed", seed]
        return found

    def rows(self, form: Form) -> list[str]:
        """How many rows at most; in public never more than a public machine answers."""
        most = self.number("max_samples", form, 1, PUBLIC_ROWS if is_public() else 10**9)
        return ["--max-samples", most or str(PUBLIC_ROWS)] if most or is_public() else []

    def number(self, name: str, form: Form, low: float, high: float, *, whole: bool = True) -> str:
        """A number as the command takes it, empty where none was typed."""
        given = form.get(name, "").strip()
        if not given:
            return ""
        try:
            value = float(given)
            if not low <= value <= high or (whole and value != int(value)):
                raise ValueError
        except (ValueError, OverflowError):
            self.wrong(name, "evaluate_bad_number", low=f"{low:,g}", high=f"{high:,.0f}" if whole else f"{high:g}")
            return ""
        return str(int(value)) if whole else f"{value:g}"

    def _named(self, name: str, given: str, none: str, check: Callable[[str, str], bool]) -> str:
        lines = named_lines(given)
        if not lines:
            if none:
                self.wrong(name, none)
            return ""
        return lines[0] if check(name, lines[0]) else ""

    def _model(self, name: str, named: str) -> bool:
        if named.startswith(DEMO):
            if named in [choice.value for choice in demo_models()]:
                return True
            self.wrong(name, "rejects_no_demo", names=", ".join(c.value for c in demo_models()))
            return False
        if named.startswith(JOB):
            with suppress(BadCase):
                if not is_public() and _made(train_view.job_of(named.removeprefix(JOB))) is not None:
                    return True
            self.wrong(name, "evaluate_job_gone")
            return False
        if not self._path(name, named):
            return False
        if os.path.lexists(named) and not _holds_model(open_checkpoint(named)):
            self.wrong(name, "evaluate_holds_no_model", path=named)
            return False
        return True

    def _data(self, name: str, named: str) -> bool:
        from pipeline.training.demo_data import demo_data_names

        if named.startswith(DEMO):
            if named.removeprefix(DEMO) in demo_data_names():
                return True
            self.wrong(name, "rejects_no_demo", names=", ".join(DEMO + n for n in demo_data_names()))
            return False
        if named.startswith(BUNDLE):
            with suppress(Refused, BadCase):
                return bool(_path_of(named, None))
            self.wrong(name, "bundles_gone")
            return False
        if named.startswith((PAIRS, UPLOAD)):
            told = train_case.data_said(named)
            if told is None or told[0].endswith("_gone"):
                self.wrong(name, told[0] if told else "upload_gone")
                return False
            return True
        return self._path(name, named)

    def _path(self, name: str, named: str) -> bool:
        if not is_allowed(named, examples.demo_roots()):
            self.wrong(name, "evaluate_path_refused", path=named)
        elif not os.path.lexists(named) and HUB_ID.match(named) is None:
            self.wrong(name, "evaluate_not_found", path=named)
        else:
            return True
        return False


# --- paths -------------------------------------------------------------------------------------------------------


def is_named(argument: str) -> bool:
    """Whether it has to be made a path of before a command can read it."""
    return name_and_path(argument)[1].startswith((DEMO, JOB, PAIRS, UPLOAD, BUNDLE))


def resolved(argument: str, tell: Tell | None = None) -> str:
    """The path that a name stands for, as NAME=PATH where it was given so; the argument itself where it is none. Raises
    BadCase, Refused, OSError."""
    called, source = name_and_path(argument)
    if called is not None and is_named(source):
        return f"{called}={_path_of(source, tell)}"
    return _path_of(argument, tell)


def _path_of(argument: str, tell: Tell | None) -> str:
    from pipeline.demo.demo_names import demo_model
    from pipeline.training.demo_data import demo_data

    if argument.startswith(DEMO):
        model = argument.removeprefix(DEMO) in STAGES
        return str(demo_model(argument, tell) if model else demo_data(argument, tell))
    if argument.startswith(JOB):
        try:
            made = _made(find_job(argument.removeprefix(JOB))) if not is_public() else None
        except Refused:
            made = None
        if made is None:
            raise BadCase("evaluate_job_gone")
        return str(made)
    if argument.startswith(BUNDLE):
        if is_public():
            raise BadCase("bundles_gone")
        return str(open_bundle(argument.removeprefix(BUNDLE)).cases)
    if argument.startswith(PAIRS):
        return str(train_case.pairs_file(argument.removeprefix(PAIRS)))
    if argument.startswith(UPLOAD):
        token, _, name = argument.removeprefix(UPLOAD).partition("/")
        found = [one for one in uploads.files(token) if not name or Path(one).name == name]
        if not found:
            raise BadCase("upload_gone")
        check_size(sum(os.path.getsize(one) for one in found))
        return found[0]
    return argument


def short(named: str) -> str:
    """A name as a list shows it: the one it was given, else its last part."""
    called, _ = name_and_path(named)
    if called is not None:
        return called[:80]
    if named.startswith(JOB):
        with suppress(BadCase):
            return train_view.title(train_view.job_of(named.removeprefix(JOB)))
    if named.startswith(PAIRS):
        told = train_case.data_said(named)
        return str(told[1].get("name", named)) if told else named
    return named.removeprefix(DEMO).removeprefix(BUNDLE).rstrip("/").rpartition("/")[2][:80] or named[:80]


def _holds_model(found: Checkpoint) -> bool:
    """Whether a command may be able to load it: weights are there, and in a folder what they are of."""
    described = found.config.present or found.adapter_config.present
    return found.problem is None and (described or found.kind == "state_dict")


def is_adapter(named: str) -> bool:
    """Whether a model that is here is an adapter on another."""
    path = named
    if named.startswith(JOB):
        with suppress(BadCase, Refused, OSError):
            path = resolved(named)
    with suppress(OSError, ValueError):
        return (Path(path) / "adapter_config.json").is_file()
    return False


def check_public(arguments: Sequence[str]) -> None:
    """Raises BadCase where a model of the Hub, or the one that it is an adapter on, is larger than a public machine
    runs, or that one lies on this machine. Asks the Hub."""
    if not is_public():
        return
    for argument in arguments:
        named = name_and_path(argument)[1]
        if not is_named(named) and HUB_ID.match(named) is not None and not os.path.lexists(named):
            _check_public_model(named, "--base" in arguments)


def _check_public_model(named: str, has_base: bool) -> None:
    """has_base: a base is given apart, which is a model of its own among the arguments."""
    try:
        checkpoint = open_checkpoint(named)
        size = sum(one.numel for one in checkpoint.tensors.values())
    except (PathNotFound, OSError, ValueError):
        return  # data, or nothing: the command says so
    if size > PUBLIC_PARAMETERS:
        raise BadCase("evaluate_too_large", name=named, n=f"{size:,}", most=f"{PUBLIC_PARAMETERS:,}")
    base = checkpoint.adapter_config.get("base_model_name_or_path")
    if has_base or not isinstance(base, str) or not base:
        return
    if not is_allowed(base, examples.demo_roots()):
        raise BadCase("base_refused", path=base)
    if base != named and HUB_ID.match(base) is not None and not os.path.lexists(base):
        _check_public_model(base, True)  # an adapter on an adapter is loaded by no command


def command_line(arguments: Sequence[str], folder: str) -> str:
    """The command to be run by hand, an option a line."""
    parts = [argument.replace(FOLDER, folder) for argument in arguments]
    lines, now = [], ["python", "-m", "pipeline"]
    for part in parts:
        if part.startswith("--"):
            lines.append(now)
            now = []
        now.append(shlex.quote(part))
    return " \\\n  ".join(" ".join(line) for line in [*lines, now] if line)
