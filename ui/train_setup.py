"""The form of the tab Train: recipe, model and data on the left; its fields, the YAML and how it is launched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.demo.build import STAGES
from pipeline.demo.demo_names import PREFIX, is_demo
from pipeline.refusal import Refused
from pipeline.training.accelerate_files import accelerate_names
from pipeline.training.hand_over import KINDS
from pipeline.training.recipe import Recipe, fields_of, recipe_names
from ui import train_case
from ui.allowed_paths import is_public
from ui.interface_words import known, words
from ui.safe_html import tag, text
from ui.train_case import Checked
from ui.visitor_case import BadCase

DEMO_ROWS = ("pairs", "sft", "kto", "verifiable")
ORDER = ("sft_lora", "sft_full", "sft_t5", "dpo_lora", "dpo_full_zero3", "dpo_t5", "dpo_repetition_badcase",
         "dpo_text2sql", "kto", "orpo", "simpo", "cpo", "reward_model", "grpo_verifiable", "rloo")  # fmt: skip
SWITCHES = ("use_peft",)
CPU_FILES = ("one_process", "cpu", "zero1", "zero2", "zero3")


def case(found: Checked, pairs: tuple[str, str, int] | None, lang: str) -> str:
    """The left column. pairs: (id, name, rows) of the set that is open in the tab Pairs."""
    said = words(lang)
    names = [*(n for n in ORDER if n in recipe_names()), *(n for n in recipe_names() if n not in ORDER)]
    options = [_option(n, train_case.described(n, lang)[0], found.form.name) for n in names]
    about = tag("p", "dd-dim", text(train_case.described(found.form.name, lang)[1]))
    recipe = found.recipe
    model, data = (value_text(_now(recipe, name)) for name in train_case.ABOVE)
    offer = ""
    if pairs is not None and data != train_case.PAIRS + pairs[0]:
        line = said["train_use_pairs"].format(name=pairs[1], n=f"{pairs[2]:,}")
        offer = tag("button", "dd-link dd-take-pairs", text(line), type="button", data_take=train_case.PAIRS + pairs[0])
    told = train_case.data_said(_now(recipe, "data"))
    note = tag("p", "dd-dim", text(str(said[told[0]]).format(**told[1]))) if told else ""
    public = "_public" if is_public() else ""
    return "".join((
        _above("train_recipe", tag("select", "dd-select", *options, name="pick"), about, said),
        problem("pick"),
        _above("train_model", _box("model_name_or_path", model, "dd-train-models", said["train_model"]),
               tag("p", "dd-dim", text(said[f"train_model_info{public}"])), said),
        problem("model_name_or_path"),
        _above("train_data", _box("data", data, "dd-train-rows", said["train_data"]), note
               or tag("p", "dd-dim", text(said[f"train_data_info{public}"])), said),
        offer, problem("data"),
        _listed("dd-train-models", [PREFIX + s for s in STAGES if s != "data"]),
        _listed("dd-train-rows", [PREFIX + n for n in DEMO_ROWS]),
    ))  # fmt: skip


def _option(value: str, shown: str, now: str) -> str:
    return tag("option", "", text(shown), value=value, selected=value == now)


def _above(entry: str, control: str, below: str, said: Mapping[str, Any]) -> str:
    return tag("label", "dd-train-above", tag("span", "dd-above-name", text(said[entry])), control) + below


def _box(name: str, value: str, listed: str, label: str) -> str:
    return tag("input", "", type="text", name=name, value=value, list=listed, spellcheck="false", autocomplete="off",
               aria_label=label)  # fmt: skip


def _listed(name: str, values: Sequence[str]) -> str:
    return tag("datalist", "", *(tag("option", "", value=v) for v in values), id=name)


def fields(found: Checked, lang: str) -> str:
    """The important fields, as they will be used; empty while the YAML is no recipe."""
    said, recipe = words(lang), found.recipe
    title, about = train_case.described(found.form.name, lang)
    note = tag("p", "dd-banner", text(said["train_public_note"])) if is_public() else ""
    head = note + tag("div", "dd-train-head", tag("h2", "", text(title)), tag("p", "dd-dim", text(about)))
    if recipe is None:
        return head
    groups = []
    for group, names in train_case.GROUPS.items():
        there = [name for name in names if train_case.has(recipe, name)]
        if not there:
            continue
        boxes = [_field(name, recipe, lang) for name in there if name not in SWITCHES]
        heading = tag("h3", "dd-also", text(said[f"train_group_{group}"]))
        off = ""
        if group == "lora":
            on = bool(recipe.settled.get("use_peft", False))
            switch = tag("input", "", type="checkbox", name="use_peft", checked=on)
            heading = tag("h3", "dd-also", tag("label", "dd-check", switch, text(said["train_group_lora"])))
            off = "" if on else " dd-lora-off"
        foot = _effective(found, said) if group == "batch" else ""
        groups.append(tag("div", f"dd-train-group{off}", heading, tag("div", "dd-train-fields", *boxes), foot))
    return head + "".join(groups) + tag("p", "dd-dim dd-train-more", text(said["train_fields_more"]))


def _now(recipe: Recipe | None, name: str) -> Any:
    return None if recipe is None or name not in fields_of(recipe.method) else recipe.settled.fields.get(name)


def value_text(value: Any) -> str:
    """As it is typed into a field; empty for none."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        plain = all(isinstance(v, (str, int, float)) for v in value)
        return ", ".join(value_text(v) for v in value) if plain else str(value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def breakable(name: str) -> str:
    """A field's name, which may go on in the next line after an underscore."""
    return "<wbr>".join(text(part + "_") for part in name.split("_"))[:-1]


def _field(name: str, recipe: Recipe, lang: str) -> str:
    said = words(lang)
    value = value_text(_now(recipe, name))
    label = tag("span", "", tag("b", "", text(said["train_field"].get(name, name))), tag("code", "", breakable(name)))
    default = value_text(fields_of(recipe.method)[name].default)
    if name in train_case.CHOICES:
        known_choices = train_case.CHOICES[name]
        now = value or default
        shown = known_choices if now in known_choices else (*known_choices, now)
        options = (_option(c, said["train_report_none"] if c == "none" else c, now) for c in shown)
        control = tag("select", "dd-select", *options, name=name)
    else:
        control = tag("input", "", type="text", name=name, value=value, placeholder=default or said["train_by_itself"],
                      spellcheck="false", autocomplete="off")  # fmt: skip
    hint = said["train_hint"].get(name)
    return tag("label", "dd-train-field", label, control, problem(name), title=hint)


def _effective(found: Checked, said: Mapping[str, Any]) -> str:
    batch = found.effective_batch
    if batch is None or found.recipe is None:
        return ""
    size, steps, processes, product = batch
    line = said["train_effective"].format(size=size, steps=steps, processes=processes, n=product)
    return tag("p", "dd-train-effective", text(line))


def yaml_box(found: Checked, lang: str) -> str:
    """The recipe itself."""
    said = words(lang)
    area = tag("textarea", "", text(found.form.yaml), name="yaml", rows="18", spellcheck="false", wrap="off",
               aria_label=said["train_yaml"])  # fmt: skip
    copy = tag("button", "dd-link", text(said["copy"]), type="button", data_copy_from="yaml")
    head = tag("div", "dd-train-text-head", tag("h3", "dd-h", text(said["train_yaml"])), copy)
    model = str(_now(found.recipe, "model_name_or_path"))
    own = found.recipe is not None and found.recipe.on_demo and is_demo(model)
    note = tag("p", "dd-dim", text(said["train_on_demo_info"])) if own else ""
    return head + tag("p", "dd-dim", text(said["train_yaml_info"])) + note + area + problem("yaml")


def launch(found: Checked, command: str, lang: str) -> str:
    """How it is spread, the exact command, and the ways to take it elsewhere."""
    said, recipe = words(lang), found.recipe
    if recipe is None:
        return ""
    chosen = str(_now(recipe, "accelerate") or "")
    about = said["train_accelerate"]
    options = [_option("", said["train_accelerate_auto"], chosen)]
    names = list(accelerate_names())
    if chosen and chosen not in names:
        names.append(chosen)
    options += [_option(n, f"{n} · {about[n]}" if n in about else n, chosen) for n in names]
    label = tag("span", "", tag("b", "", text(said["train_spread"])), tag("code", "", "accelerate"))
    select = tag("label", "dd-train-field dd-wide-field", label,
                 tag("select", "dd-select", *options, name="accelerate"), problem("accelerate"))  # fmt: skip
    fields_shown = tag("div", "dd-train-fields", select, _field("num_processes", recipe, lang))
    parts = [tag("h3", "dd-h", text(said["train_launch"])), fields_shown]
    spread = found.form.accelerate or (found.spread.as_yaml() if found.spread is not None else "")
    if spread:
        as_made = tag("button", "dd-link", text(said["train_as_made"]), type="button", data_as_made="accelerate")
        file = tag("textarea", "", text(spread), name="accelerate_text", rows="12", spellcheck="false", wrap="off",
                   aria_label=said["train_accelerate_file"])  # fmt: skip
        summary = said["train_accelerate_file"]
        if found.form.accelerate is not None:
            summary += f" · {said['train_edited']}"
        parts.append(tag("details", "dd-more-facts", tag("summary", "", text(summary)),
                         tag("p", "dd-dim", text(said["train_accelerate_info"])), file,
                         as_made if found.form.accelerate is not None else "",
                         id="dd-train-accelerate-file", open=found.form.accelerate is not None))  # fmt: skip
    if command:
        shown = found.form.command if found.form.command is not None else command
        copy = tag("button", "dd-link", text(said["copy"]), type="button", data_copy_from="command")
        as_made = tag("button", "dd-link", text(said["train_as_made"]), type="button", data_as_made="command")
        ways = tag("span", "", as_made if found.form.command is not None else "", copy)
        head = tag("div", "dd-train-text-head", tag("b", "", text(said["train_command"])), ways)
        parts.append(tag("div", "dd-train-command", head, tag("p", "dd-dim", text(said["train_command_info"])),
                         tag("textarea", "", text(shown), name="command", rows="4", spellcheck="false",
                             aria_label=said["train_command"]), problem("command")))  # fmt: skip
    return "".join(parts)


def elsewhere(lang: str) -> str:
    """Buttons that make files for other programs and machines."""
    said = words(lang)
    buttons = []
    for kind in KINDS:
        title, _, about = str(said["train_hand_over_kinds"][kind]).partition(": ")
        buttons.append(tag("button", "dd-preset", tag("b", "", text(title)), tag("span", "dd-dim", text(about)),
                           type="button", data_hand_over=kind))  # fmt: skip
    return (tag("h3", "dd-h", text(said["train_hand_over"])) + tag("p", "dd-dim", text(said["train_hand_over_info"]))
            + tag("div", "dd-presets", *buttons) + problem("hand_over"))  # fmt: skip


def problem(place: str) -> str:
    """Where the page's script puts the line that says what is wrong with a field."""
    return tag("p", "dd-field-problem", data_problem=place, role="alert")


def said_problem(wrong: Refused | BadCase | str, lang: str) -> str:
    """One line."""
    if isinstance(wrong, Refused):
        return wrong.said(known(lang))
    if isinstance(wrong, BadCase):
        return str(words(lang)[wrong.entry]).format(**wrong.params)
    return wrong
