"""One pair large: the prompt, both answers side by side with what differs, what was found, and who changed what."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pipeline.pairs.pair import Message, Pair, Side, content_text, text_of
from ui.interface_words import words
from ui.pair_difference import MAX_CHARACTERS, Difference, difference, spans_html
from ui.pair_filters import finding_name
from ui.pair_table import SIGNS
from ui.pair_workspaces import editor_name
from ui.safe_html import tag, text, with_specials

if TYPE_CHECKING:
    from pipeline.pair_workspace import Held, Revision

EDITABLE = 400_000  # characters: more would make the browser slow
MAX_REVISIONS = 30
ACTIONS = (("accept", "A", "dd-primary"), ("discard", "D", "dd-danger"), ("swap", "S", ""))
Counter = Any
"""text -> number of tokens, or None where no tokenizer was given."""


def pair_card(
    held: Held, revisions: Sequence[Revision], set_id: str, lang: str, *, me: str = "", place: str = "",
    count: Counter = None, above: str = "", stale: bool = False,
) -> str:  # fmt: skip
    """me: the editor who looks. place: such as `12 / 840`. count: of tokens. above: HTML between the head and the pair,
    such as a conflict. stale: the pair was changed since it was checked."""
    said = words(lang)
    pair = held.pair
    chosen, rejected = text_of(pair.chosen), text_of(pair.rejected)
    found = difference(chosen, rejected)
    both = pair.chosen is not None and pair.rejected is not None
    note = tag("p", "dd-dim dd-diff-note", text(said[found.note])) if found.note and both else ""
    sides = tag(
        "div", "dd-answers", _side("chosen", pair, found, said, count), _side("rejected", pair, found, said, count)
    )
    parts = [_bar(held, place, said), above, _flags(held, stale, lang), _prompt(pair, said, count), note, sides,
             _origin(pair, said), _history(revisions, set_id, lang, me)]  # fmt: skip
    return tag("article", f"dd-pair dd-pair-{pair.status}", *parts, data_position=str(held.position),
               data_now=str(held.revision), aria_label=said["pairs_pair"].format(n=held.position + 1))  # fmt: skip


def nothing_chosen(lang: str) -> str:
    """Beside a table without rows."""
    return tag("div", "dd-none", tag("p", "dd-dim", text(words(lang)["pairs_nothing_chosen"])))


def _bar(held: Held, place: str, said: Mapping[str, Any]) -> str:
    status = held.pair.status
    sign = tag("span", f"dd-status dd-status-{status}", SIGNS[status])
    title = tag("h3", "", text(said["pairs_pair"].format(n=held.position + 1)), " ",
                tag("span", "dd-state", sign, text(said[f"pairs_status_{status}"])))  # fmt: skip
    buttons = [_key_button(do, key, css, said) for do, key, css in ACTIONS]
    back = tag("button", "dd-small dd-back", text(said["pairs_back"]), type="button", data_back=True)
    place_now = tag("span", "dd-dim", text(place))
    move = tag("div", "dd-move", back, _step("previous", "‹", "K", said), place_now, _step("next", "›", "J", said))
    return tag("header", "dd-pair-bar", tag("div", "dd-pair-title", title, move), tag("div", "dd-pair-do", *buttons))


def _step(way: str, sign: str, key: str, said: Mapping[str, Any]) -> str:
    label = said[f"pairs_do_{way}"]
    return tag(
        "button", "dd-small", sign, tag("kbd", "", key), type="button", data_go=way, title=label, aria_label=label
    )


def _key_button(do: str, key: str, css: str, said: Mapping[str, Any]) -> str:
    name = text(said[f"pairs_do_{do}"])
    return tag("button", f"dd-do {css}".strip(), name, tag("kbd", "", key), type="button", data_do=do)


def _flags(held: Held, stale: bool, lang: str) -> str:
    """Findings of the pair. stale: it was changed since they were made."""
    said = words(lang)
    hint, css = (said["pairs_stale_flag"], "dd-flag dd-old") if stale else (said["pairs_show_all_such"], "dd-flag")
    chips = (
        tag("button", css, "⚑ ", text(finding_name(f, lang)), type="button", data_finding=f, title=hint)
        for f in held.pair.flags
    )
    return tag("div", "dd-pair-flags", *chips) if held.pair.flags else ""


def _prompt(pair: Pair, said: Mapping[str, Any], count: Counter) -> str:
    turns = list(pair.prompt)
    if pair.system is not None:
        turns.insert(0, {"role": "system", "content": pair.system})
    shown = _turns(turns, said) if len(turns) > 1 or pair.system is not None else _plain(text_of(turns), said)
    return _part("prompt", said["pairs_head_prompt"], shown, turns, text_of(turns), said, count, key="P")


def _side(name: str, pair: Pair, found: Difference, said: Mapping[str, Any], count: Counter) -> str:
    side: Side | None = getattr(pair, name)
    score = getattr(pair, f"score_{name}")
    if side is None:
        shown = tag("span", "dd-dim", text(said["pairs_no_side"]))
    elif not isinstance(side, str):
        shown = _turns(side, said)
    elif not side:
        shown = tag("span", "dd-dim", text(said["empty_answer"]))
    else:
        spans, cut = (found.chosen, found.cut[0]) if name == "chosen" else (found.rejected, found.cut[1])
        shown = spans_html(spans, name) + _cut(cut, said)
    turns = side if isinstance(side, list) else [{"role": "assistant", "content": side or ""}]
    key = "E" if name == "chosen" else "R"
    return _part(name, said[f"pairs_{name}"], shown, turns, text_of(side), said, count, score=score,
                 absent=side is None, key=key)  # fmt: skip


def _part(
    name: str, title: str, shown: str, turns: Sequence[Message], whole: str, said: Mapping[str, Any], count: Counter, *,
    score: float | None = None, absent: bool = False, key: str = "",
) -> str:  # fmt: skip
    """A text with its counts and what its editor begins with."""
    facts = [] if absent else [said["pairs_chars"].format(n=f"{len(whole):,}")]
    if count is not None and not absent:
        facts.append(said["tokens"].format(n=f"{count(whole):,}"))
    if score is not None:
        facts.append(said["pairs_score"].format(n=f"{score:.4g}"))
    texts = [t["content"] for t in turns if isinstance(t.get("content"), str)]
    roles = [said.get(f"pairs_role_{t['role']}", t["role"]) for t in turns if isinstance(t.get("content"), str)]
    large = sum(map(len, texts)) > EDITABLE
    edit = tag(
        "button", "dd-do dd-edit", text(said["pairs_do_edit"]), tag("kbd", "", key), type="button", data_edit=name,
        aria_label=f"{said['pairs_do_edit']}: {title}", disabled=large or not texts,
        title=said["pairs_too_long_to_edit"] if large else None,
    )  # fmt: skip
    head = tag("div", "dd-part-head", tag("h4", "", text(title)), tag("span", "dd-dim", text(" · ".join(facts))), edit)
    body = tag("div", "dd-answer", shown, tabindex=0)
    editor = ""
    if texts and not large:
        editor = tag("div", "dd-editor", data_roles=as_data(roles), data_texts=as_data(texts), data_label=title,
                     hidden=True)  # fmt: skip
    return tag("section", f"dd-part dd-part-{name}", head, body, editor, data_side=name)


def as_data(value: Any) -> str:
    """Texts as they are, for an attribute that the page's script reads: in plain ASCII, so that line ends, control
    characters and half characters arrive, and nothing in them is taken for a word to translate."""
    return json.dumps(value, ensure_ascii=True).replace("__", "\\u005f_")


def _turns(turns: Sequence[Message], said: Mapping[str, Any]) -> str:
    shown = []
    for turn in turns:
        content = turn.get("content")
        body = _plain(content_text(content), said) if isinstance(content, str) else tag(
            "code", "", text(json.dumps(content, ensure_ascii=False, default=str)[:4000]))  # fmt: skip
        rest = {k: v for k, v in turn.items() if k not in ("role", "content")}
        more = tag("code", "", text(json.dumps(rest, ensure_ascii=False, default=str)[:1000])) if rest else ""
        name = said.get(f"pairs_role_{turn['role']}", turn["role"])
        shown.append(tag("div", "dd-turn-shown", tag("span", "dd-role", text(name)), tag("div", "", body, more)))
    return "".join(shown)


def _plain(content: str, said: Mapping[str, Any]) -> str:
    if not content:
        return tag("span", "dd-dim", text(said["pairs_empty"]))
    return with_specials(content[:MAX_CHARACTERS]) + _cut(max(0, len(content) - MAX_CHARACTERS), said)


def _cut(n: int, said: Mapping[str, Any]) -> str:
    return tag("p", "dd-dim dd-cut-note", text(said["pairs_cut"].format(n=f"{n:,}"))) if n else ""


def _origin(pair: Pair, said: Mapping[str, Any]) -> str:
    """How the sides were made, where the pair stood, and columns of its file that have no place in a pair."""
    facts: list[tuple[str, str]] = []
    if pair.id is not None:
        facts.append(("id", pair.id))
    if pair.line:
        facts.append((said["pairs_line"], f"{pair.line:,}"))
    for name in ("chosen", "rejected"):
        made = pair.source.get(name)
        if made:
            listed = made if not isinstance(made, dict) else ", ".join(f"{k}: {v}" for k, v in made.items())
            facts.append((said["pairs_made"].format(side=said[f"pairs_{name}"]), str(listed)))
    facts += [(str(k), v if isinstance(v, str) else json.dumps(v, ensure_ascii=False, default=str))
              for k, v in list(pair.extra.items())[:40]]  # fmt: skip
    if not facts:
        return ""
    rows = (tag("tr", "", tag("th", "", text(k), scope="row"), tag("td", "", text(v[:1000]))) for k, v in facts)
    table = tag("div", "dd-scroll", tag("table", "dd-evidence", tag("tbody", "", *rows)))
    return tag("details", "dd-more-facts", tag("summary", "", text(said["pairs_origin"])), table, id="dd-pairs-origin")


def _history(revisions: Sequence[Revision], set_id: str, lang: str, me: str) -> str:
    if len(revisions) < 2:
        return ""
    said = words(lang)
    rows = []
    for one in reversed(revisions[-MAX_REVISIONS:]):
        who = editor_name(set_id, one.editor, lang, me)
        changed = ", ".join(said.get(f"pairs_part_{c}", c) for c in one.changed)
        did = said.get(f"pairs_did_{one.action}", one.action) + (f" ({one.rows:,})" if one.rows > 1 else "")
        rows.append(tag("tr", "", tag("td", "", text(shown_time(one.changed_at))), tag("td", "", text(who)),
                        tag("td", "", text(did)), tag("td", "", text(changed))))  # fmt: skip
    table = tag("div", "dd-scroll", tag("table", "dd-evidence", tag("tbody", "", *rows)))
    line = said["pairs_history"].format(n=len(revisions) - 1)
    return tag("details", "dd-more-facts", tag("summary", "", text(line)), table, id="dd-pairs-history")


def shown_time(when: str) -> str:
    """2026-11-21T01:02:03Z as `2026-11-21 01:02`, in UTC."""
    return when.replace("T", " ")[:16]
