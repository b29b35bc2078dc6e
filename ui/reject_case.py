"""From the form of the tab Rejects to the arguments of `python -m pipeline generate`, or to a line at each wrong field.

In public only the demo's models on the demo's or uploaded rows are run, few of them, by strategies that name nothing of
this machine or the network. Checked here, whatever a page sends.
"""

from __future__ import annotations

import math
import os
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.checkpoint import HUB_ID
from pipeline.config_files import load_config
from pipeline.demo.demo_names import PREFIX as DEMO
from pipeline.pairs.hub_pairs import hub_id
from pipeline.refusal import Refused
from ui import uploads
from ui.allowed_paths import is_public
from ui.visitor_case import BadCase, named_lines

DEMO_MODELS = ("off_topic_t5", "healthy_t5", "healthy_decoder", "undertrained_decoder", "never_stops_decoder")
DEMO_ROWS = ("sft", "held_out")
PREVIEW_ROWS = 50
PUBLIC_ROWS, PUBLIC_CANDIDATES, PUBLIC_TOKENS, PUBLIC_UPLOAD = 100, 16, 96, 4 * 2**20
DEFAULT_ROWS = 200
FOUNDING_ROWS = 48
TOKENS = 256
ADDRESSES = ("http://", "https://")


@dataclass(frozen=True)
class Field:
    """A parameter of a strategy. kind: whole | number | numbers (several between slashes) | text | pairs (KEY=VALUE) |
    rules (OLD=NEW, one a line). value: at first."""

    name: str
    kind: str = "whole"
    value: str = ""
    least: float = 0
    most: float = 10**6


N = Field("n", "whole", "1", 1, 64)
MORE = Field("more", "pairs")  # what else a strategy takes, as the command takes it
TEMPERATURE = Field("temperature", "numbers", "0.8", 0, 100)
TOP_P = Field("top_p", "number", "0.95", 0, 1)
MODEL_STRATEGIES: dict[str, tuple[Field, ...]] = {
    "sampling": (Field("n", "whole", "4", 1, 64), TEMPERATURE, TOP_P, MORE),
    "greedy": (MORE,),
    "beam": (N, Field("num_beams", "whole", "4", 2, 64), MORE),
    "diverse_beam": (Field("n", "whole", "2", 1, 64), Field("num_beams", "whole", "4", 2, 64), MORE),
    "correction": (Field("replace", "rules"),),
}
FURTHER = {"sampling": "top_k=50", "greedy": "repetition_penalty=1.1", "beam": "length_penalty=1.2",
           "diverse_beam": "num_beam_groups=4,diversity_penalty=1.0"}  # fmt: skip
OTHER_STRATEGIES: dict[str, tuple[Field, ...]] = {
    "earlier": (Field("model", "text"), N, TEMPERATURE),
    "endpoint": (Field("url", "text"), Field("model", "text"), N, TEMPERATURE),
}
"""Strategies by another model than the run's: an earlier checkpoint or smaller sibling, and a server."""


@dataclass
class Checked:
    """What a form means. options: (option, its value as it is run, the same as it is shown), a value of None for one
    that has none. problems: entry of interface.yaml and its parameters, by field.
    """

    options: list[tuple[str, str | None, str | None]] = field(default_factory=list)
    problems: dict[str, tuple[str, dict[str, Any]]] = field(default_factory=dict)
    demo: list[str] = field(default_factory=list)
    model: str = ""
    data: str = ""
    rows: int = 0

    def add(self, option: str, value: str | None = None, shown: str | None = None) -> None:
        self.options.append((option, value, value if shown is None else shown))

    def wrong(self, place: str, entry: str, **params: Any) -> None:
        self.problems.setdefault(place, (entry, params))

    def arguments(self, output: Path, *more: str) -> tuple[str, ...]:
        """Of `python -m pipeline`."""
        given = [
            part for option, value, _ in self.options for part in ((option,) if value is None else (option, value))
        ]
        return ("generate", *given, "--output", str(output), *more)

    def command(self, output: Path | str, *more: str) -> str:
        """The same as a line for a shell, an option a line. Where the demo is trained at home isn't known here."""
        lines = ["python -m pipeline generate"]
        lines += [option if shown is None else f"{option} {shown if shown.startswith(_AT_HOME) else shlex.quote(shown)}"
                  for option, _, shown in self.options]  # fmt: skip
        lines.append(f"--output {shlex.quote(str(output))}")
        return " \\\n  ".join((*lines, *more))


_AT_HOME = '"$(python -m pipeline demo)"/'


def with_policy(command: str, policy: str) -> str:
    """The same command with another policy."""
    lines = command.split(" \\\n  ")
    return " \\\n  ".join(f"--choose {policy}" if line.startswith("--choose ") else line for line in lines)


def without_preview(command: str) -> str:
    """The same command for all rows."""
    return " \\\n  ".join(line for line in command.split(" \\\n  ") if not line.startswith("--preview"))


def alterations() -> tuple[str, ...]:
    """Names of the strategies that need no model, as the command knows them."""
    return tuple(load_config("alterations.yaml")["parameters"])


def further_settings(strategy: str) -> str:
    """An example of what a strategy takes beside its fields; empty where there is nothing."""
    if strategy in MODEL_STRATEGIES:
        return FURTHER[strategy]
    own = load_config("alterations.yaml")["parameters"].get(strategy, {})
    shown = ((name, rule["default"]) for name, rule in own.items())
    return ",".join(f"{name}={str(value).lower() if isinstance(value, bool) else value}" for name, value in shown)[:60]


def strategy_groups() -> dict[str, dict[str, tuple[Field, ...]]]:
    """What may be chosen here: made by the model, from the right answer, and, never in public, by another model."""
    altered: dict[str, tuple[Field, ...]] = dict.fromkeys(alterations(), (N, MORE))
    groups = {"model": MODEL_STRATEGIES, "altered": altered}
    if not is_public():
        return {**groups, "other": OTHER_STRATEGIES}
    return {group: {name: tuple(one for one in fields if one is not MORE) for name, fields in members.items()}
            for group, members in groups.items()}  # fmt: skip


def checked(form: Mapping[str, Any]) -> Checked:
    """The options that a form stands for, with what is wrong in it."""
    found = Checked()
    _model(form, found)
    _data(form, found)
    candidates = _strategies(form, found)
    _policy(form, found)
    _reward(form, found)
    _numbers(form, found, candidates)
    return found


def _text(form: Mapping[str, Any], name: str, most: int = 4096) -> str:
    value = form.get(name)
    return " ".join(value.split())[:most].strip("\"'") if isinstance(value, str) else ""


def _demo_path(name: str) -> Path:
    from pipeline.demo.build import default_root

    return default_root() / name


def _model(form: Mapping[str, Any], found: Checked) -> None:
    named = _text(form, "model")
    needed = any(form.get(f"strategy.{name}.on") is True for name in MODEL_STRATEGIES)
    if not named:
        if needed:
            found.wrong("model", "rejects_no_model")
        return
    found.model = named
    if named.startswith(DEMO):
        name = named[len(DEMO) :]
        if name not in DEMO_MODELS:
            found.wrong("model", "rejects_no_demo", names=", ".join(DEMO + one for one in DEMO_MODELS))
            return
        found.demo.append(name)
        path = _demo_path(name)
        found.add("--model", str(path), f"{_AT_HOME}{name}" if is_public() else None)
    elif is_public():
        found.wrong("model", "rejects_public_model", names=", ".join(DEMO + one for one in DEMO_MODELS))
        return
    elif _is_model(named):
        found.add("--model", _own(named))
        found.model = named if named.startswith(ADDRESSES) else os.path.basename(os.path.normpath(named))
    else:
        found.wrong("model", "not_found", path=named)
    adapter = _text(form, "adapter")
    if adapter and is_public():
        found.wrong("adapter", "rejects_not_public")
    elif adapter and not (os.path.lexists(_own(adapter)) or HUB_ID.match(adapter)):
        found.wrong("adapter", "rejects_adapter_not_found", path=adapter)
    elif adapter:
        found.add("--adapter", _own(adapter))


def _is_model(named: str) -> bool:
    try:
        return named.startswith(ADDRESSES) or os.path.lexists(_own(named)) or HUB_ID.match(named) is not None
    except ValueError:  # an embedded null byte
        return False


def _own(named: str) -> str:
    return os.path.expanduser(named) if named.startswith("~") and not is_public() else named


def _data(form: Mapping[str, Any], found: Checked) -> None:
    token, named = form.get("token"), next(iter(named_lines(_text(form, "data"))), "")
    if isinstance(token, str) and token:
        files = uploads.files(token)
        if not files:
            found.wrong("data", "upload_gone")
        elif len(files) > 1:
            found.wrong("data", "pairs_one_file")
        elif is_public() and os.path.getsize(files[0]) > PUBLIC_UPLOAD:
            found.wrong("data", "pairs_too_large", most=str(PUBLIC_UPLOAD >> 20))
        else:
            found.data = os.path.basename(files[0])
            found.add("--data", files[0], found.data if is_public() else None)
        return
    if not named:
        found.wrong("data", "rejects_no_data")
    elif named.startswith(DEMO):
        rows = named[len(DEMO) :]
        if rows not in DEMO_ROWS:
            found.wrong("data", "rejects_no_demo", names=", ".join(DEMO + one for one in DEMO_ROWS))
            return
        found.data = named
        found.add("--data", str(_demo_path("data") / f"{rows}.jsonl"),
                  f"{_AT_HOME}data/{rows}.jsonl" if is_public() else None)  # fmt: skip
        found.demo += [] if found.demo else [DEMO_MODELS[1]]  # building one makes the rows too
    elif is_public():
        found.wrong("data", "rejects_public_data", names=", ".join(DEMO + one for one in DEMO_ROWS))
    else:
        try:
            there = os.path.isfile(named)
        except ValueError:
            there = False
        if there or hub_id(named) is not None or ":" in named:
            found.data = os.path.basename(named) if there else named
            found.add("--data", named)
        else:
            found.wrong("data", "rejects_data_not_found", path=named)


def _strategies(form: Mapping[str, Any], found: Checked) -> int:
    """Returns how many candidates a row they make."""
    known = {name: fields for group in strategy_groups().values() for name, fields in group.items()}
    total = 0
    for name, fields in known.items():
        if form.get(f"strategy.{name}.on") is not True:
            continue
        given, place = dict[str, str](), f"strategy.{name}"
        for one in fields:
            if one.kind == "rules":
                _rules(form, f"{place}.{one.name}", place, found)
                continue
            value = _text(form, f"{place}.{one.name}", 300)
            if not value:
                continue
            if not _fits(one, value):
                if one.kind == "pairs":
                    found.wrong(place, "rejects_bad_pairs", value=value)
                found.wrong(place, "rejects_bad_value", value=value, least=f"{one.least:g}", most=f"{one.most:g}")
            given[one.name] = value
        if name == "endpoint" and not given.get("url", "").startswith(ADDRESSES):
            found.wrong(place, "rejects_no_url")
        if name == "earlier" and not _is_model(given.get("model", "")):
            found.wrong(place, "rejects_no_earlier")
        if place in found.problems:
            continue
        total += max(int(given.get("n", "1")), int(given.get("num_beams", "1")))  # each beam is as dear as a sample
        if name in alterations() and given.get("n") == "1":
            del given["n"]  # their default
        more = given.pop("more", "")
        behind = ",".join((*(f"{key}={value}" for key, value in given.items()), *filter(None, (more,))))
        named = "sampling" if name == "earlier" else name
        found.add("--strategy", f"{named}:{behind}" if behind else named)
    if not any(option == "--strategy" for option, _, _ in found.options) and \
            not any(place.startswith("strategy.") for place in found.problems):  # fmt: skip
        found.wrong("strategies", "rejects_no_strategy")
    if is_public() and total > PUBLIC_CANDIDATES:
        found.wrong("strategies", "rejects_public_candidates", most=str(PUBLIC_CANDIDATES))
    return total


MOST_RULES = 50


def _rules(form: Mapping[str, Any], name: str, place: str, found: Checked) -> None:
    """Replacements, one a line, as --replace takes each."""
    from pipeline.candidates.correction import REGEX_MARK, Rule

    held = form.get(name)
    lines = [line.strip()[:1000] for line in held.splitlines() if line.strip()] if isinstance(held, str) else []
    if not lines:
        found.wrong(place, "rejects_no_rules")
    for line in lines[:MOST_RULES]:
        if is_public() and line.startswith(REGEX_MARK):
            found.wrong(place, "rejects_not_public")
            continue
        try:
            Rule.given(line)
            found.add("--replace", line)
        except Refused as refused:
            found.wrong(place, "bad_setting", error=refused.sentence)


def _fits(one: Field, value: str) -> bool:
    if one.kind == "pairs":
        return all(re.fullmatch(r"[a-z_]{1,40}=[^\s,=]{1,200}", part) for part in value.split(","))
    if one.kind == "text":
        return "," not in value and not any(c in value for c in "\0\n")
    parts = value.split("/") if one.kind == "numbers" else [value]
    try:
        numbers = [int(part) if one.kind == "whole" else float(part) for part in parts]
    except ValueError:
        return False
    return all(math.isfinite(n) and one.least <= n <= one.most for n in numbers)


POLICY_FIELDS = (
    Field("max_similarity", "number", "", 0, 1), Field("min_margin", "number", "", 0, 100),
    Field("min_length_ratio", "number", "", 0, 100), Field("max_length_ratio", "number", "", 0, 10_000),
    Field("max_rep_4", "number", "", 0, 1), Field("per_row", "whole", "", 1, 64),
)  # fmt: skip
NEEDS_REWARD = ("worst_of_n", "best_of_n")
NEEDS_CORRECTION = ("correction",)


def policies() -> dict[str, dict[str, Any]]:
    """The named policies, each with all its rules."""
    held = load_config("choice_policies.yaml")
    return {name: {**held["every"], **(own or {})} for name, own in held["policies"].items()}


def policies_for(arguments: Sequence[str]) -> list[str]:
    """Names of the policies that candidates made by this command can be chosen by."""
    left = (*(() if "--reward" in arguments else NEEDS_REWARD), *(() if "--replace" in arguments else NEEDS_CORRECTION))
    return [name for name in policies() if name not in left]


REWARD_PATTERN, REWARD_MODEL = "regex", "model"


def rewards() -> tuple[str, ...]:
    """Ways of scoring answers that may be chosen here. In public no pattern, which may take any time, and no model."""
    from pipeline.candidates.reward_functions import NAMES

    return NAMES if is_public() else (*NAMES, REWARD_PATTERN, REWARD_MODEL)


def _reward(form: Mapping[str, Any], found: Checked) -> None:
    from pipeline.candidates.reward_functions import REGEX, reward_function

    named, policy = _text(form, "reward", 60), _text(form, "policy", 60)
    value = form.get("reward.value")
    value = value.strip()[:1000] if isinstance(value, str) else ""
    if policy in NEEDS_CORRECTION and form.get("strategy.correction.on") is not True:
        found.wrong("policy", "rejects_needs_correction")
    if not named:
        if policy in NEEDS_REWARD:
            found.wrong("reward", "rejects_needs_reward")
    elif named not in rewards():
        found.wrong("reward", "rejects_not_public")
    elif named == REWARD_MODEL:
        if not _is_model(value) or value.startswith(ADDRESSES):
            found.wrong("reward", "rejects_no_reward_model")
        else:
            path = _own(value)
            found.add("--reward", path if "/" in path or os.sep in path else os.path.join(os.curdir, path))
    elif named == REWARD_PATTERN:
        if not value:
            found.wrong("reward", "rejects_no_pattern")
            return
        try:
            reward_function(REGEX + value)
            found.add("--reward", REGEX + value)
        except Refused as refused:
            found.wrong("reward", "bad_setting", error=refused.sentence)
    else:
        found.add("--reward", named)


def _policy(form: Mapping[str, Any], found: Checked) -> None:
    from pipeline.candidates.policy import parse_policy

    name = _text(form, "policy", 60)
    rules = policies().get(name or "all")
    if rules is None:
        found.wrong("policy", "rejects_no_policy")
        return
    changed = []
    for one in POLICY_FIELDS:
        value = _text(form, f"policy.{one.name}", 40)
        if not value:
            continue
        unset = value == ("all" if one.name == "per_row" else "none")  # no such rule
        if not unset and not _fits(one, value):
            found.wrong("policy", "rejects_bad_value", value=value, least=f"{one.least:g}", most=f"{one.most:g}")
        elif str(rules.get(one.name)) != value:
            changed.append(f"{one.name}={value}")
    other = _text(form, "policy.other", 400).replace(" ", "")
    if other and not _fits(MORE, other):
        found.wrong("policy", "rejects_bad_pairs", value=other)
    elif other:
        changed.append(other)
    given = f"{name or 'all'}:{','.join(changed)}" if changed else name or "all"
    if "policy" not in found.problems:
        try:
            parse_policy(given)
        except Refused as refused:
            found.wrong("policy", "bad_setting", error=refused.sentence)
    found.add("--choose", given)


def _numbers(form: Mapping[str, Any], found: Checked, candidates: int) -> None:
    def whole(name: str, least: int, most: int) -> int | None:
        value = _text(form, name, 40).replace(",", "")
        if not value:
            return None
        if not (value.isascii() and value.isdigit() and least <= int(value[:12]) <= most):
            found.wrong(name, "rejects_bad_value", value=value, least=f"{least:,}", most=f"{most:,}")
            return None
        return int(value)

    rows = whole("rows", 1, PUBLIC_ROWS if is_public() else 10**9)
    if is_public():
        rows = rows or PUBLIC_ROWS
    if rows is not None:
        found.add("--max-samples", str(rows))
        found.rows = rows
    tokens = whole("tokens", 1, PUBLIC_TOKENS if is_public() else 10**6)
    tokens = tokens or (PUBLIC_TOKENS if is_public() else None)
    if tokens is not None:
        found.add("--max-new-tokens", str(tokens))
    seed = whole("seed", 0, 2**31 - 1)
    if seed is not None:
        found.add("--seed", str(seed))
    database = _text(form, "database")
    if database and is_public():
        found.wrong("database", "rejects_not_public")
    elif database and not os.path.exists(_own(database)):
        found.wrong("database", "file_not_found", option="SQLite", path=database)
    elif database:
        found.add("--database", _own(database))
        found.add("--dedup", "sql")


# --- what one begins with ---


def defaults() -> dict[str, Any]:
    """A form with which one click runs: the demo's sound T5 on its rows, sampled, on topic."""
    held: dict[str, Any] = {"data": f"{DEMO}sft", "model": f"{DEMO}healthy_t5", "adapter": "", "database": "",
                            "rows": str(PUBLIC_ROWS if is_public() else DEFAULT_ROWS), "seed": "0",
                            "tokens": str(PUBLIC_TOKENS if is_public() else TOKENS)}  # fmt: skip
    first = load_config("candidate_presets.yaml")
    return held | presets()[first["default"]][1]


def strategy_fields(words: Sequence[str]) -> dict[str, Any]:
    """Fields of the form for strategies as the command names them, with its defaults where they say nothing. Of two of
    one name the first; one that needs a model which isn't named is left out."""
    found: dict[str, Any] = {}
    for word in words:
        name, _, rest = word.partition(":")
        if f"strategy.{name}.on" in found or "{" in rest:
            continue
        given = dict(part.split("=", 1) for part in rest.split(",") if "=" in part)
        fields = MODEL_STRATEGIES.get(name, (N, MORE))
        found[f"strategy.{name}.on"] = True
        for one in fields:
            value = given.pop(one.name, "" if given and one.name == "top_p" else one.value)
            found[f"strategy.{name}.{one.name}"] = value
        if given:
            found[f"strategy.{name}.more"] = ",".join(f"{key}={value}" for key, value in given.items())
    return found


def presets() -> dict[str, tuple[dict[str, str], dict[str, Any]]]:
    """(what it is for by language, fields of the form) of each preset of configs/candidate_presets.yaml that needs
    nothing this form lacks."""
    found = {}
    for name, held in load_config("candidate_presets.yaml")["presets"].items():
        policy, _, changes = str(held["choose"]).partition(":")
        if name == "text2sql" and is_public():
            continue
        fields = strategy_fields(held["strategies"])
        if is_public():
            fields = {key: value for key, value in fields.items() if not key.endswith(".more")}
        given = dict(part.split("=", 1) for part in changes.split(",") if "=" in part)
        rules = {f"policy.{one.name}": given.pop(one.name, "") for one in POLICY_FIELDS}
        rules["policy.other"] = ",".join(f"{key}={value}" for key, value in given.items())
        if policy in NEEDS_REWARD:
            rules["reward"] = str(held.get("reward", "exact_answer"))
        found[name] = (held["about"], {**fields, **rules, "policy": policy})
    return found


def founding_forms() -> tuple[dict[str, Any], dict[str, Any]]:
    """The founding case as it was, and as it should have been: rejects sampled from a model that was never fine-tuned,
    taken as they came; and rejects of the fine-tuned one, on topic and near the right answer."""
    common = {"data": f"{DEMO}held_out", "rows": str(FOUNDING_ROWS), "seed": "0", "tokens": "48"}
    sick = {
        **common,
        "model": f"{DEMO}off_topic_t5",
        "policy": "all",
        **strategy_fields(["sampling:n=1,temperature=0.8"]),
    }
    # the demo's sound model is right so often that only hot samples err in most rows
    hot = {"strategy.sampling.n": "6", "strategy.sampling.temperature": "0.8/1.2/1.6", "strategy.sampling.top_p": "1.0"}
    sound = {**common, "model": f"{DEMO}healthy_t5", **presets()["on_topic"][1], **hot}
    return sick, sound


def raise_first(found: Checked) -> None:
    """For callers that have no fields. Raises BadCase."""
    for entry, params in found.problems.values():
        raise BadCase(entry, **params)
