"""Documentation of checks and causes, made from the checks' docstrings, the words and the thresholds.

`docs/checks.md` is `python -m diagnostics explain all --format md`.
"""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Mapping
from typing import Any

from diagnostics.check_table import ALL_CHECKS
from diagnostics.render import explanation_to_html
from diagnostics.run_checks import Check
from diagnostics.words import family_words
from pipeline.config_files import load_config
from pipeline.refusal import Refused

SECTIONS = ("What it checks", "Why it matters", "How it is measured", "Known false alarms", "Fix", "References")
_NOT_OUTCOMES = ("title", "about", "fix")


class UnknownCode(Refused):
    """No check and no cause has this name."""


def explain(code: str, lang: str, form: str) -> str:
    """Documentation of one check (`TOK004`), one cause (`undertrained`) or `all`. form: text | md | json | html."""
    code = code.strip()
    checks = {c.code: c for c in ALL_CHECKS}
    causes = [c for c in load_config(f"words/{lang}/causes.yaml") if c != "next_tests"]
    if code.lower() == "all":
        pages = [_check_page(c, lang) for c in ALL_CHECKS] + [_cause_page(c, lang) for c in causes]
    elif code.upper() in checks:
        pages = [_check_page(checks[code.upper()], lang)]
    elif code.lower() in causes:
        pages = [_cause_page(code.lower(), lang)]
    else:
        names = {name.lower(): name for name in (*checks, *causes)}
        near = [names[n] for n in difflib.get_close_matches(code.lower(), names, n=3, cutoff=0.5)]
        if near:
            raise UnknownCode("unknown_code", code=code, near=", ".join(near))
        raise UnknownCode("unknown_code_all", code=code)
    if form == "json":
        import json

        return json.dumps(pages if len(pages) > 1 else pages[0], ensure_ascii=False, indent=1) + "\n"
    if form == "html":
        return explanation_to_html(pages, lang)
    words = load_config(f"words/{lang}/report.yaml")["around"]
    text = "\n".join(_markdown(page, words) for page in pages)
    if code.lower() == "all":
        made_by = "<!-- made by: python -m diagnostics explain all --format md -->\n\n" if form == "md" else ""
        text = f"# {words['all_checks']}\n\n{made_by}{text}"
    return text if form == "md" else re.sub(r"(?m)^#+ |\*\*|`", "", text)


def docstring_sections(check: Check) -> dict[str, str]:
    """The sections of a check's docstring by their headings; the first paragraph under the empty heading."""
    found: dict[str, str] = {"": ""}
    heading = ""
    for line in (inspect.getdoc(check.function) or "").splitlines():
        stripped = line.strip()
        name = next((s for s in SECTIONS if stripped.startswith(f"{s}:")), None)
        if name is not None and not line.startswith(" "):
            heading = name
            found[heading] = stripped[len(name) + 1 :].strip()
        else:
            found[heading] = f"{found[heading]}\n{stripped}".strip()
    return found


def _check_page(check: Check, lang: str) -> dict[str, Any]:
    words = family_words(check.code, lang)
    outcomes = {k: v for k, v in words.items() if k not in _NOT_OUTCOMES and not k.startswith("fix_")}
    return {
        "code": check.code, "name": check.name, "depth": check.depth, "title": words.get("title", check.name),
        "about": words.get("about", ""), "sections": docstring_sections(check) if lang == "en" else {},
        "outcomes": outcomes, "fix": words.get("fix", ""),
    }  # fmt: skip


def _cause_page(cause: str, lang: str) -> dict[str, Any]:
    words = load_config(f"words/{lang}/causes.yaml")[cause]
    row = load_config("causes.yaml")[cause]
    return {
        "code": cause, "name": cause, "title": words["title"], "about": words["explanation"], "fix": words["fix"],
        "for": row.get("for") or {}, "against": row.get("against") or {},
    }  # fmt: skip


def _markdown(page: dict[str, Any], words: Mapping[str, Any]) -> str:
    lines = [f"## {page['code']}: {page['title']}", ""]
    if "depth" in page:
        lines += [f"`{page['name']}` · {words['depth']} `{page['depth']}`", ""]
    if page["about"]:
        lines += [str(page["about"]).strip(), ""]
    for heading in SECTIONS:
        if text := page.get("sections", {}).get(heading):
            lines += [f"**{heading}.** {text}", ""]
    if outcomes := page.get("outcomes"):
        lines += [*(f"- `{name}`: {sentence}" for name, sentence in outcomes.items()), ""]
    for side in ("for", "against"):
        if page.get(side):
            signals = ", ".join(f"{signal} ({weight:g})" for signal, weight in page[side].items())
            lines += [f"**{words[side]}**: {signals}", ""]
    if page["fix"]:
        lines += [f"**{words['fix_lead']}** {page['fix']}" if not page.get("sections", {}).get("Fix") else "", ""]
    return "\n".join(lines).rstrip() + "\n"
