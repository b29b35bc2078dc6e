"""Sentences in both languages. Checks give outcome ids and numbers; this is the only place that makes text.

configs/words/LANG/FAMILY.yaml holds, per code: `title`, `about`, one sentence per outcome, `fix` (or
`fix_OUTCOME`). configs/words/LANG/causes.yaml holds the causes, report.yaml the words around them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from diagnostics.report import Cause, Finding, Report, Skipped
from pipeline.config_files import load_config
from pipeline.refusal import Sentence

LANGUAGES = ("en", "zh")
_FIELD = re.compile(r"\{(\w+)(?::([^{}]*))?\}")
MAX_PARAM = 400  # characters of a user's string inside a sentence; the evidence holds it whole


def fill(template: str, params: Mapping[str, Any]) -> str:
    """Put params into `{name}` or `{name:.2f}`. A missing or unfit value is shown as it is, never raised.

    Not str.format: values are user data and must never be able to reach attributes.
    """

    def one(match: re.Match[str]) -> str:
        name, spec = match.group(1), match.group(2)
        if name not in params:
            return match.group(0)
        value = params[name]
        if isinstance(value, (list, tuple)):
            text = ", ".join(str(v) for v in value)
        elif spec and isinstance(value, (int, float)) and not isinstance(value, bool):
            try:
                text = format(value, spec)
            except ValueError:
                text = str(value)
        else:
            text = str(value)
        text = text.encode("utf-8", errors="replace").decode()  # a file name may hold what no encoding can write
        return text if len(text) <= MAX_PARAM else text[:MAX_PARAM] + "…"

    return _FIELD.sub(one, template)


def family_words(code: str, lang: str) -> Mapping[str, Any]:
    """The entry of one code in one language; empty when there is none, as for a report of a newer version."""
    try:
        entry = load_config(f"words/{lang}/{code[:3]}.yaml").get(code)
    except FileNotFoundError:
        return {}
    return entry if isinstance(entry, dict) else {}


# A log without steps is counted by its rows: `step {step}` of a template becomes `row {step}`.
_STEPS = {
    "en": (re.compile(r"\bstep (\{\w*step\})"), r"row \1"),
    "zh": (re.compile(r"第 (\{\w*step\}) 步"), r"第 \1 行"),
}


def _sentence(
    code: str, outcome: str, params: Mapping[str, Any], lang: str, by_rows: bool = False
) -> tuple[str, str]:  # fmt: skip
    words = family_words(code, lang)
    message = words.get(outcome)
    if message is None:  # a test asserts that this never happens for outcomes the checks can give
        message = f"{words.get('title', code)}: {outcome}"
    fix = words.get(f"fix_{outcome}", words.get("fix", ""))
    if by_rows:
        pattern, instead = _STEPS[lang if lang in _STEPS else "en"]
        message, fix = pattern.sub(instead, str(message)), pattern.sub(instead, str(fix))
    return fill(str(message), params), fill(str(fix), params)


def in_both_languages(sentence: Sentence) -> dict[str, Any]:
    """A sentence with words of its own as a param of a finding: said when the finding is."""
    params = {k: in_both_languages(v) if isinstance(v, Sentence) else v for k, v in sentence.params.items()}
    plain = {k: v if isinstance(v, (str, int, float, dict)) or v is None else str(v) for k, v in params.items()}
    return {"entry": sentence.entry, "words": sentence.words, "params": plain}


def _said(value: Any, lang: str) -> Any:
    """What in_both_languages made, or text by language, alone or several, in words; everything else as it is."""
    if isinstance(value, list) and value and all(isinstance(one, dict) for one in value):
        return ("；" if lang == "zh" else "; ").join(str(_said(one, lang)) for one in value)
    if isinstance(value, dict) and set(value) == {"en", "zh"} and all(isinstance(one, str) for one in value.values()):
        return value[lang]
    if not isinstance(value, dict) or set(value) != {"entry", "words", "params"}:
        return value
    try:
        params = {name: _said(one, lang) for name, one in value["params"].items()}
        return Sentence(str(value["entry"]), params, str(value["words"])).said(lang)
    except (KeyError, TypeError, AttributeError, FileNotFoundError):  # of a report of another version
        return str(value["entry"])


def say_finding(finding: Finding, lang: str, by_rows: bool = False) -> Finding:
    """The same finding with message and fix in `lang`. Fine findings carry no fix. by_rows: the numbers of its steps
    only count the rows of a log."""
    params = _in_words(finding.params, lang)
    message, fix = _sentence(finding.code, finding.outcome, params, lang, by_rows)
    return replace(finding, message=message, fix=fix if finding.severity in ("warning", "error") else "")


def _in_words(params: Mapping[str, Any], lang: str) -> Mapping[str, Any]:
    """Params with ids among them said in words: the `reason` why a row was left out, the `problem` that kept one from
    being tokenised, `kinds` of personal data and `reasons` without a reward with their counts, `abilities` (`chance`,
    `wide`), a `measure`, and what judged answers (`by`, `lead`, `others`)."""
    reason, problem, kinds, reasons = (params.get(name) for name in ("reason", "problem", "kinds", "reasons"))
    said = {name: _said(value, lang) for name, value in params.items()}
    if isinstance(reason, str):
        said["reason"] = load_config(f"words/{lang}/formats.yaml").get(f"row_{reason}", reason)
    if isinstance(problem, str):
        said["problem"] = load_config(f"words/{lang}/report.yaml")["token_problems"].get(problem, problem)
    if isinstance(kinds, dict):
        names = load_config(f"words/{lang}/report.yaml")["personal_data"]
        said["kinds"] = ", ".join(f"{names.get(kind, kind)}: {count}" for kind, count in kinds.items())
    if isinstance(reasons, dict):
        names = unscored_reasons(lang)
        said["reasons"] = ", ".join(f"{names.get(one, one)}: {count}" for one, count in reasons.items())
    for name in ("abilities", "chance", "wide"):
        if isinstance(value := params.get(name), (list, tuple)):
            joint = load_config(f"words/{lang}/evaluation.yaml")["abilities"]["joint"]
            said[name] = str(joint).join(said_ability(str(one), lang) for one in value)
    if isinstance(params.get("measure"), str):
        said["measure"] = load_config(f"words/{lang}/report.yaml")["measures"].get(params["measure"], params["measure"])
    judged = [name for name in ("by", "lead", "others") if isinstance(params.get(name), (str, list, tuple))]
    if judged:
        names = load_config(f"words/{lang}/report.yaml")["judged_by"]
        for name in judged:
            value = params[name]
            said[name] = names.get(value, value) if isinstance(value, str) else [names.get(v, v) for v in value]
    return said


def unscored_reasons(lang: str) -> dict[str, str]:
    """Why rows have no reward, by id."""
    names = {k.removeprefix("row_"): v for k, v in load_config(f"words/{lang}/formats.yaml").items()}
    return names | load_config(f"words/{lang}/report.yaml")["unscored"]


def said_ability(label: str, lang: str) -> str:
    """`arithmetic (en)` with the name in words where it is one of the built-in abilities."""
    name, between, rest = label.partition(" (")
    return f"{load_config(f'words/{lang}/evaluation.yaml')['abilities']['names'].get(name, name)}{between}{rest}"


def say_skipped(skipped: Skipped, lang: str) -> Skipped:
    """The same entry with its reason in `lang`; a `problem` and `measures` among the params are ids with words of
    their own."""
    words = load_config(f"words/{lang}/report.yaml")
    params = dict(skipped.params)
    if "problem" in params:
        params["problem"] = words["problems"].get(params["problem"], params["problem"])
    if "measures" in params:
        params["measures"] = [words["measures"].get(name, name) for name in params["measures"]]
    return replace(skipped, reason=fill(str(words["skipped"].get(skipped.reason_id, skipped.reason_id)), params))


def say_cause(cause: Cause, findings: Mapping[str, Finding], lang: str, kind: str = "checkpoint") -> Cause:
    """The same cause in `lang`; its explanation ends with the sentence of its strongest finding. kind: of the subject;
    what is said of a checkpoint isn't always true of a log."""
    words = load_config(f"words/{lang}/causes.yaml").get(cause.id, {})
    words = {**words, **{k.removeprefix(f"{kind}_"): v for k, v in words.items() if k.startswith(f"{kind}_")}}
    strongest = next((findings[c] for c in cause.supporting if c in findings), None)
    parts = [str(words.get("explanation", "")).strip()]
    if strongest is not None:
        parts.append(strongest.message)
    fix = strongest.fix if strongest is not None and strongest.fix else str(words.get("fix", ""))
    next_test = None
    if cause.next_test_id:
        next_test = load_config(f"words/{lang}/causes.yaml")["next_tests"].get(cause.next_test_id, cause.next_test_id)
    joiner = "" if lang == "zh" else " "
    return replace(
        cause,
        title=str(words.get("title", cause.id)),
        explanation=joiner.join(p for p in parts if p),
        fix=fix,
        next_test=next_test,
    )


def say(report: Report, lang: str) -> Report:
    """The whole report in `lang`, made from outcome ids: nothing is measured again."""
    by_rows = report.subject.kind == "log" and report.metrics.get("log.steps_known") == 0
    findings = tuple(say_finding(f, lang, by_rows) for f in report.findings)
    rank = {"error": 0, "warning": 1, "info": 2, "ok": 3}
    by_code: dict[str, Finding] = {}
    for finding in sorted(findings, key=lambda f: rank[f.severity]):
        by_code.setdefault(finding.code, finding)
    return replace(
        report,
        lang=lang,
        findings=findings,
        skipped=tuple(say_skipped(s, lang) for s in report.skipped),
        causes=tuple(say_cause(c, by_code, lang, report.subject.kind) for c in report.causes),
    )
