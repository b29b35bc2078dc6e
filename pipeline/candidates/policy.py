"""Policies: which candidates of a row become its rejected answers, and which one its chosen answer.

Named ones stand in configs/choice_policies.yaml. One is given as a name (`on_topic`), a name with changes
(`hard:max_similarity=0.7,per_row=2`), or a YAML file of the user's with fields and, where it builds on another than
the default, `base`.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

from pipeline.config_files import load_config
from pipeline.refusal import Refused, Sentence

Want = Literal["required", "preferred", "ignored"]
Repetition = Literal["refuse", "allow", "required"]
Tolerance = Literal["refuse", "allow"]
Prefer = Literal["hard", "easy", "middle", "varied", "worst", "best", "first"]
ChosenFrom = Literal["data", "best_candidate", "correction"]
MarginBy = Literal["reward", "logp", "similarity", "auto"]
MAX_POLICY_BYTES = 100_000
_NONE = ("none", "null", "~", "")
_TRUE, _FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")
_SHARES = ("max_similarity", "min_similarity", "max_rep_4")
_RATIOS = ("min_length_ratio", "max_length_ratio")


@dataclass(frozen=True)
class Policy:
    """Rules and an order; what each field means stands in configs/choice_policies.yaml. None: no such rule.

    per_row: rejects a row yields, None for all. Shares are between 0 and 1; min_margin is in what margin_by says.
    """

    name: str
    on_topic: Want
    ended: Want
    same_script: Want
    sql_parses: Want
    max_similarity: float | None
    min_similarity: float | None
    min_margin: float | None
    margin_by: MarginBy
    min_length_ratio: float | None
    max_length_ratio: float | None
    max_rep_4: float | None
    repetition: Repetition
    refusals: Tolerance
    template_text: Tolerance
    prefer: Prefer
    per_row: int | None
    varied_strategies: bool
    chosen_from: ChosenFrom
    sql: Literal["no_same_result"]
    correct: Literal["never"]
    may_be_right: Tolerance

    @property
    def needs_reward(self) -> bool:
        """Whether nothing can be chosen without a reward: a reward function's or a reward model's."""
        return self.prefer in ("worst", "best") or self.chosen_from == "best_candidate"

    def as_json(self) -> dict[str, Any]:
        """Every field by name, as a policy file may hold it."""
        return {one.name: getattr(self, one.name) for one in fields(self)} | {"per_row": self.per_row or "all"}


_TYPES: Mapping[str, Any] = get_type_hints(Policy)
FIELDS: tuple[str, ...] = tuple(name for name in _TYPES if name != "name")


@cache
def judging_limits() -> Mapping[str, float]:
    """How single measures are read: the values under `judging` in configs/choice_policies.yaml, by name."""
    return {name: entry["value"] for name, entry in load_config("choice_policies.yaml")["judging"].items()}


def policy_names() -> list[str]:
    """Names of the policies that come with the project, the default first."""
    table = load_config("choice_policies.yaml")
    return [table["default"], *(name for name in table["policies"] if name != table["default"])]


def parse_policy(given: str | None) -> Policy:
    """The policy asked for: a name, a name with changes, or the path of a YAML file; None for the default. Raises
    Refused: `policy_*`."""
    if given is None or not given.strip():
        return _named(policy_names()[0])
    given = given.strip()
    if given.lower().endswith((".yaml", ".yml")):
        return _from_file(Path(given))
    name, colon, changes = given.partition(":")
    changed: dict[str, Any] = {}
    for change in changes.split(",") if colon else []:
        key, equals, value = (part.strip() for part in change.partition("="))
        if not equals or not key:
            raise Refused("policy_form", given=given, part=change.strip())
        if key in changed:
            raise Refused("policy_key_twice", policy=name.strip(), key=key)
        changed[key] = value
    policy = _named(name.strip(), changed)
    return policy if not changed else _renamed(policy, given)


def policy_from(values: Mapping[str, Any], *, name: str, base: str | None = None) -> Policy:
    """A policy with other fields than `base` (None: the default), as a form or a file has them. Raises Refused."""
    return _renamed(_named(base or policy_names()[0], values, called=name), name)


def _named(name: str, changed: Mapping[str, Any] | None = None, *, called: str | None = None) -> Policy:
    table = load_config("choice_policies.yaml")
    if name not in table["policies"]:
        raise Refused("policy_unknown", value=name, near=_near(name, policy_names()), all=", ".join(policy_names()))
    values = {**table["every"], **table["policies"][name]}
    for key, value in (changed or {}).items():
        if key not in FIELDS:
            near = _near(str(key), FIELDS)
            raise Refused("policy_key_unknown", policy=called or name, key=key, near=near, all=", ".join(FIELDS))
        values[key] = value
    policy = Policy(name=name, **{key: _typed(called or name, key, values[key]) for key in FIELDS})
    for low, high in (("min_similarity", "max_similarity"), ("min_length_ratio", "max_length_ratio")):
        least, most = getattr(policy, low), getattr(policy, high)
        if least is not None and most is not None and least > most:
            raise Refused("policy_nothing_left", policy=called or name, low=f"{low}={least}", high=f"{high}={most}")
    return policy


def _renamed(policy: Policy, name: str) -> Policy:
    return Policy(**{**{one.name: getattr(policy, one.name) for one in fields(policy)}, "name": name})


def _near(word: str, known: Any) -> str:
    return difflib.get_close_matches(word, list(known), n=1, cutoff=0.0)[0]


def _typed(policy: str, key: str, value: Any) -> Any:
    """The value of a field as its type, from YAML or from text."""
    text = str(value).strip().lower() if value is not None else "none"
    kind = _TYPES[key]

    def wrong(wanted: str | Sentence) -> Refused:
        return Refused("policy_value_wrong", policy=policy, key=key, value=value, wanted=wanted)

    if options := get_args(kind) if _is_literal(kind) else ():
        if text not in options:
            fixed = len(options) == 1
            raise wrong(Sentence("policy_wants_fixed", {"value": options[0]}) if fixed else ", ".join(options))
        return text
    if kind is bool:
        if text not in _TRUE + _FALSE:
            raise wrong("true, false")
        return text in _TRUE
    if key == "per_row":
        if text == "all":
            return None
        if isinstance(value, bool) or not text.isascii() or not text.isdigit() or not 1 <= int(text[:9]) <= 1000:
            raise wrong(Sentence("policy_wants_count"))
        return int(text)
    if text in _NONE:
        return None
    try:
        number = float("nan") if isinstance(value, bool) else float(text)
    except ValueError:
        number = math.nan
    if key in _SHARES and not 0 <= number <= 1:
        raise wrong(Sentence("policy_wants_share"))
    if key in _RATIOS and not 0 <= number < math.inf:
        raise wrong(Sentence("policy_wants_ratio"))
    if not math.isfinite(number):
        raise wrong(Sentence("policy_wants_number"))
    return number


def _is_literal(kind: Any) -> bool:
    return bool(get_args(kind)) and all(isinstance(option, str) for option in get_args(kind))


def _from_file(path: Path) -> Policy:
    import yaml

    try:
        with open(path, encoding="utf-8-sig") as file:
            content = file.read(MAX_POLICY_BYTES + 1)
        if len(content) > MAX_POLICY_BYTES:
            raise Refused("policy_file_wrong", path=path, why=Sentence("policy_file_long", {"most": MAX_POLICY_BYTES}))
        found = yaml.safe_load(content)
    except FileNotFoundError:
        raise Refused("policy_file_missing", path=path) from None
    except UnicodeDecodeError:
        raise Refused("policy_file_wrong", path=path, why="UTF-8") from None
    except OSError as failed:
        raise Refused("policy_file_wrong", path=path, why=failed.strerror or type(failed).__name__) from None
    except (yaml.YAMLError, RecursionError, ValueError) as failed:
        mark = getattr(failed, "problem_mark", None)
        where = "" if mark is None else f"{mark.line + 1}:{mark.column + 1} "
        why = where + str(getattr(failed, "problem", None) or type(failed).__name__)
        raise Refused("policy_file_wrong", path=path, why=why) from None
    if not isinstance(found, Mapping):
        raise Refused("policy_file_wrong", path=path, why=Sentence("policy_file_no_fields"))
    values = {str(key): value for key, value in found.items()}
    base = values.pop("base", None)
    name = values.pop("name", None)
    return policy_from(values, name=str(name or path.stem)[:100], base=None if base is None else str(base))


_WANTS = ("on_topic", "ended", "same_script", "sql_parses")
_LIMITS = ("max_similarity", "min_similarity", "min_length_ratio", "max_length_ratio")


def describe(policy: Policy, lang: str) -> str:
    """The policy in words and numbers, one rule a line."""

    def say(entry: str, **params: Any) -> str:
        return Sentence(entry, params, words="candidates").said(lang)

    about = f"policy_{policy.name.partition(':')[0]}"
    lines = [say(about)] if about in load_config(f"words/{lang}/candidates.yaml") else []
    lines.append(say(f"policy_chosen_{policy.chosen_from}"))
    lines.append(say("policy_never"))
    lines += [say(f"policy_{key}_{wish}") for key in _WANTS if (wish := getattr(policy, key)) != "ignored"]
    if policy.repetition != "allow":
        most = policy.max_rep_4
        lines.append(say(f"policy_repetition_{policy.repetition}" + ("" if most is not None else "_loop"), most=most))
    lines += [say(f"policy_{key}") for key in ("refusals", "template_text") if getattr(policy, key) == "refuse"]
    if policy.may_be_right == "refuse":
        lines.append(say("policy_may_be_right_refuse"))
    worth = judging_limits()["length_worth"]
    lines += [
        say(f"policy_{key}", value=value, worth=worth) for key in _LIMITS if (value := getattr(policy, key)) is not None
    ]
    if policy.min_margin is not None:
        lines.append(say(f"policy_margin_{policy.margin_by}", value=policy.min_margin))
    lines.append(say(f"policy_prefer_{policy.prefer}"))
    if policy.varied_strategies and policy.prefer != "varied":
        lines.append(say("policy_varied_strategies"))
    lines.append(say("policy_every") if policy.per_row is None else say("policy_per_row", count=policy.per_row))
    return "\n".join(lines)
