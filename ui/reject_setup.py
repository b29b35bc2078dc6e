"""The form of the tab Rejects: presets, strategies as cards, the policy in words and numbers, and the command."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.refusal import Refused
from ui import reject_case
from ui.allowed_paths import is_public
from ui.interface_words import known, words
from ui.pair_jobs import said_params
from ui.reject_case import MORE, POLICY_FIELDS, PREVIEW_ROWS, Checked, Field
from ui.reject_head import command
from ui.reject_view import strategy_name
from ui.safe_html import tag, text


def page(values: Mapping[str, Any], lang: str) -> str:
    """The whole form. values: of its fields; what is missing is as it is at first."""
    said = words(lang)
    first = reject_case.defaults()
    if any(key.startswith("strategy.") and key.endswith(".on") for key in values):
        first = {key: value for key, value in first.items() if not key.endswith(".on")}
    given = {**first, **values}
    how = tag("section", "dd-card dd-setup", tag("h2", "", text(said["rejects_title"])),
              tag("p", "dd-dim", text(said["rejects_text"])), _founding(said),
              _presets(given, lang), _strategies(given, lang))  # fmt: skip
    return tag("form", "dd-rejects-form", how, _policies(given, lang), _run(given, lang), data_lang=lang,
               autocomplete="off")  # fmt: skip


def _presets(given: Mapping[str, Any], lang: str) -> str:
    said = words(lang)
    shown = []
    on = {key for key, value in given.items() if key.endswith(".on") and value is True}
    for name, (about, fields) in reject_case.presets().items():
        same = {key for key in fields if key.endswith(".on")} == on and all(
            str(given.get(key, "")) == str(value) for key, value in fields.items()
        )
        title = said["rejects_presets"].get(name, name.replace("_", " "))
        shown.append(tag("button", "dd-preset", tag("b", "", text(title)),
                         tag("span", "dd-dim", text(about[known(lang)])), title=about[known(lang)],
                         type="button", data_preset=json.dumps(fields), aria_pressed=str(same).lower()))  # fmt: skip
    head = tag("h3", "dd-also", text(said["rejects_presets_head"]))
    return head + tag("div", "dd-presets", *shown)


def _founding(said: Mapping[str, Any]) -> str:
    """The two runs that show what this is about."""
    line = tag("span", "", tag("b", "", text(said["rejects_founding_head"])), text(" "),
               text(said["rejects_founding_text"]))  # fmt: skip
    button = tag("button", "dd-button", text(said["rejects_founding"]), type="button", data_founding=True)
    return tag("div", "dd-founding", line, button)


def _strategies(given: Mapping[str, Any], lang: str) -> str:
    said = words(lang)
    parts = []
    for name, members in reject_case.strategy_groups().items():
        brief = " dd-strategies-brief" if name == "altered" else ""
        cards = tag("div", f"dd-strategies{brief}",
                    *(_card(one, fields, given, lang) for one, fields in members.items()))  # fmt: skip
        title = text(said[f"rejects_group_{name}"])
        if name == "model":
            parts.append(tag("h3", "dd-also", title) + cards)
            continue
        on = any(given.get(f"strategy.{one}.on") is True for one in members)
        parts.append(tag("details", "dd-group", tag("summary", "", title, tag("span", "dd-group-on")), cards,
                         id=f"dd-rejects-group-{name}", open=on))  # fmt: skip
    return "".join(parts) + problem("strategies")


def _card(name: str, fields: Sequence[Field], given: Mapping[str, Any], lang: str) -> str:
    said = words(lang)
    on = given.get(f"strategy.{name}.on") is True
    box = tag("input", "", type="checkbox", name=f"strategy.{name}.on", checked=on)
    about = said["rejects_strategy_info"].get(name, "")
    head = tag("label", "dd-strategy-head", box, tag("span", "", tag("b", "", text(strategy_name(name, lang))),
                                                     tag("span", "dd-dim", text(about))))  # fmt: skip
    inputs = [_field(f"strategy.{name}.{one.name}", one, given, said) for one in fields if one is not MORE]
    inputs += [_more(name, given, said) for one in fields if one is MORE]
    settings = tag("div", "dd-strategy-fields", *inputs) if inputs else ""
    return tag("div", "dd-strategy", head, settings, problem(f"strategy.{name}"))


def _more(strategy: str, given: Mapping[str, Any], said: Mapping[str, Any]) -> str:
    """What else the strategy takes, folded where nothing stands in it."""
    own = reject_case.further_settings(strategy)
    if not own:
        return ""
    value = str(given.get(f"strategy.{strategy}.more", ""))
    box = tag("input", "", type="text", name=f"strategy.{strategy}.more", value=value, spellcheck="false",
              placeholder=own, aria_label=said["rejects_field"]["more"])  # fmt: skip
    return tag("details", "dd-strategy-more", tag("summary", "", text(said["rejects_field"]["more"])), box,
               open=bool(value))  # fmt: skip


def _field(name: str, one: Field, given: Mapping[str, Any], said: Mapping[str, Any]) -> str:
    value = given.get(name, one.value)
    if one.kind == "rules":
        area = tag("textarea", "", text(str(value)), name=name, rows="2", spellcheck="false",
                   placeholder=said["rejects_field_hint"].get(one.name))  # fmt: skip
        title = tag("span", "", text(said["rejects_field"][one.name]))
        return tag("label", "dd-small-field dd-wide-field", title, area)
    wide = {"text": " dd-wide-field", "pairs": " dd-wide-field", "numbers": " dd-broad-field"}.get(one.kind, "")
    mode = {"whole": "numeric", "number": "decimal"}.get(one.kind, "text")
    box = tag("input", "", type="text", inputmode=mode, name=name, value=str(value), spellcheck="false",
              placeholder=said["rejects_field_hint"].get(one.name))  # fmt: skip
    return tag("label", f"dd-small-field{wide}", tag("span", "", text(said["rejects_field"][one.name])), box)


def _policies(given: Mapping[str, Any], lang: str) -> str:
    said = words(lang)
    chosen = str(given.get("policy") or "all")
    rules = reject_case.policies()
    cards = []
    for name, own in rules.items():
        box = tag("input", "", type="radio", name="policy", value=name, checked=name == chosen)
        numbers = tag("span", "dd-dim dd-rules", text(rule_line(own, lang))) if name != "all" else ""
        title, _, about = str(said["rejects_policies"].get(name, name)).partition(": ")
        cards.append(tag("label", "dd-choice", box, tag("span", "", tag("b", "", text(title)),
                                                        tag("span", "dd-dim", text(about)), numbers)))  # fmt: skip
    fields = []
    for one in POLICY_FIELDS:
        value = given.get(f"policy.{one.name}", "")
        box = tag("input", "", type="text", inputmode="decimal", name=f"policy.{one.name}", value=str(value),
                  placeholder=said["rejects_as_policy"])  # fmt: skip
        fields.append(tag("label", "dd-small-field", tag("span", "", text(said["rejects_rule"][one.name])), box))
    other = str(given.get("policy.other", ""))
    box = tag("input", "", type="text", name="policy.other", value=other, spellcheck="false",
              placeholder="ended=required,same_script=ignored")  # fmt: skip
    fields.append(
        tag("label", "dd-small-field dd-wide-field", tag("span", "", text(said["rejects_rule"]["other"])), box)
    )
    is_open = other or any(given.get(f"policy.{one.name}") for one in POLICY_FIELDS)
    more = tag("details", "dd-more-facts", tag("summary", "", text(said["rejects_policy_more"])),
               tag("div", "dd-strategy-fields", *fields), tag("div", "", data_part="policy"), id="dd-rejects-rules",
               open=bool(is_open))  # fmt: skip
    return tag("section", "dd-card dd-setup", tag("h3", "dd-h", text(said["rejects_policy"])),
               tag("p", "dd-dim", text(said["rejects_policy_text"])),
               tag("div", "dd-choices dd-policies", *cards), problem("policy"), _rewards(given, said),
               more)  # fmt: skip


def _rewards(given: Mapping[str, Any], said: Mapping[str, Any]) -> str:
    """How answers are told right from wrong, or scored."""
    now, names = str(given.get("reward") or ""), ("", *reject_case.rewards())
    options = (tag("option", "", text(said["rejects_rewards"][name or "none"]), value=name, selected=name == now)
               for name in names)  # fmt: skip
    select = tag("select", "dd-select", *options, name="reward", aria_label=said["rejects_reward"])
    value = ""
    if reject_case.REWARD_MODEL in names:
        box = tag("input", "", type="text", name="reward.value", value=str(given.get("reward.value", "")),
                  spellcheck="false", aria_label=said["rejects_reward_value"])  # fmt: skip
        value = tag("label", "dd-reward-value", box)
    line = tag("span", "dd-reward-words", tag("b", "", text(said["rejects_reward"])),
               tag("span", "dd-dim", text(said["rejects_reward_info"])))  # fmt: skip
    return tag("div", "dd-reward", line, tag("div", "dd-reward-fields", select, value)) + problem("reward")


def rule_line(rules: Mapping[str, Any], lang: str) -> str:
    """What a policy demands, in a few words and its numbers."""
    said = words(lang)["rejects_rules"]
    parts = []
    if rules.get("on_topic") in ("required", "preferred"):
        parts.append(said[f"on_topic_{rules['on_topic']}"])
    if rules.get("max_similarity") is not None:
        parts.append(said["max_similarity"].format(n=f"{rules['max_similarity']:.0%}"))
    low, high = rules.get("min_length_ratio"), rules.get("max_length_ratio")
    if low is not None and high is not None:
        parts.append(said["length"].format(low=f"{low:g}", high=f"{high:g}"))
    elif low is not None or high is not None:
        parts.append(
            said["length_least" if high is None else "length_most"].format(n=f"{high if low is None else low:g}")
        )
    if rules.get("repetition") == "required":
        parts.append(said["loops_only"])
    elif rules.get("max_rep_4") is not None and rules.get("repetition") == "refuse":
        parts.append(said["max_rep_4"].format(n=f"{rules['max_rep_4']:.0%}"))
    if rules.get("min_margin"):
        parts.append(said["min_margin"].format(n=f"{rules['min_margin']:g}"))
    per_row = rules.get("per_row")
    if isinstance(per_row, int) and per_row > 1:
        parts.append(said["per_row"].format(n=per_row))
    prefer = said.get(f"chosen_{rules.get('chosen_from')}") or said.get(f"prefer_{rules.get('prefer')}")
    return " · ".join([*parts, *([prefer] if prefer else [])])


def _run(given: Mapping[str, Any], lang: str) -> str:
    said = words(lang)
    fields = []
    for name in ("rows", "tokens", "seed"):
        box = tag("input", "", type="text", inputmode="numeric", name=name, value=str(given.get(name, "")),
                  placeholder=said["rejects_all_rows"] if name == "rows" else None)  # fmt: skip
        fields.append(
            tag("label", "dd-small-field", tag("span", "", text(said[f"rejects_{name}"])), box, problem(name))
        )
    preview = said["rejects_preview"].format(n=PREVIEW_ROWS)
    buttons = [
        tag("button", "dd-do dd-primary", text(said["rejects_run"]), type="button", data_start="run"),
        tag("button", "dd-do", text(preview), type="button", data_start="preview"),
    ]  # fmt: skip
    note = tag("p", "dd-dim", text(said["rejects_public_note"])) if is_public() else ""
    return tag("section", "dd-card dd-setup", tag("h3", "dd-h", text(said["rejects_run_head"])),
               tag("div", "dd-strategy-fields", *fields), note,
               tag("div", "dd-command-box", data_part="command"),
               tag("p", "dd-field-problem", data_problem="start", role="alert"),
               tag("div", "dd-form-end", *buttons))  # fmt: skip


def problem(place: str) -> str:
    """Where the page's script puts the line that says what is wrong with a field."""
    return tag("p", "dd-field-problem", data_problem=place, role="alert")


def command_now(found: Checked, output: str, lang: str) -> str:
    """The command of the form, or what is still missing."""
    said = words(lang)
    if found.problems:
        return tag("p", "dd-dim", text(said["rejects_no_command"]))
    return command(found.command(output), lang)


def policy_described(found: Checked, lang: str) -> str:
    """The policy of the form, a rule a line."""
    from pipeline.candidates.policy import describe, parse_policy

    given = next((value for option, value, _ in found.options if option == "--choose"), None)
    try:
        lines = describe(parse_policy(given), known(lang)).splitlines()
    except (Refused, KeyError):
        return ""
    return tag("ul", "dd-policy-lines", *(tag("li", "", text(line)) for line in lines))


def said_problems(found: Checked, lang: str) -> dict[str, str]:
    """A line for each field that is wrong."""
    said = words(lang)
    return {
        place: str(said[entry]).format(**said_params(params, lang)) for place, (entry, params) in found.problems.items()
    }
