"""What the trainer will see of the first rows, as text and as HTML: prompt, what is learned, what is cut away."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

Sample = Mapping[str, Any]
MAX_CHARACTERS = 220  # of a prompt in a terminal: its end, where the answer begins
_MARKS = {"prompt": ("", ""), "trained": ("⟦", "⟧"), "cut": ("✂", "✂")}
STYLE = ".seen span{border-radius:3px;padding:0 1px}.seen .prompt{color:var(--dim)}" \
    ".seen .trained{background:color-mix(in srgb,var(--ok) 22%,transparent)}" \
    ".seen .cut{text-decoration:line-through;color:var(--error)}"  # fmt: skip


def is_preview(sample: Sample) -> bool:
    return sample.get("kind") == "tokens" and isinstance(sample.get("sides"), list)


def previews(samples: Sequence[Sample]) -> list[Sample]:
    return [sample for sample in samples if is_preview(sample)]


def preview_lines(samples: Sequence[Sample], words: Mapping[str, Any]) -> list[str]:
    """Two lines for each side: what becomes of it, and its text with what is learned in ⟦ ⟧ and what is cut in ✂ ✂."""
    lines = []
    for sample in previews(samples):
        for side in sample["sides"]:
            lines.append(head_of(sample, side, words))
            lines.append("  " + "".join(_marked(kind, text) for kind, text, _ in runs(side)))
    return lines


def head_of(sample: Sample, side: Sample, words: Mapping[str, Any]) -> str:
    """`line 3, chosen: 40 tokens, 22 learned, 0 cut away; stops with <|im_end|>`."""
    line = str(words["preview_side"]).format(
        line=sample.get("line"), side=side.get("name"), tokens=side.get("tokens"), trained=side.get("trained"),
        cut=side.get("cut"), stop=words["preview_no_stop"] if side.get("stop") is None else side["stop"],
    )  # fmt: skip
    return f"{line} ({words['preview_dropped']})" if sample.get("dropped") else line


def runs(side: Sample) -> Iterator[tuple[str, str, list[tuple[str, int]]]]:
    """(kind, text, its tokens) of neighbouring pieces of one kind; a gap stands as its number of tokens."""
    held: list[tuple[str, int]] = []
    kind = ""
    for piece in side.get("pieces", ()):
        now = str(piece.get("as"))
        text = f" … {piece.get('tokens')} … " if now == "gap" else str(piece.get("text", ""))
        if now not in (kind, "gap") and held:
            yield kind, "".join(t for t, _ in held), held
            held = []
        kind = kind if now == "gap" and held else now
        held.append((text, int(piece.get("tokens", 1))))
    if held:
        yield kind, "".join(t for t, _ in held), held


def _marked(kind: str, text: str) -> str:
    shown = text.replace("\r", "").replace("\n", "⏎")
    if kind == "prompt" and len(shown) > MAX_CHARACTERS:
        shown = "…" + shown[-MAX_CHARACTERS:]
    elif len(shown) > 2 * MAX_CHARACTERS:
        shown = f"{shown[:MAX_CHARACTERS]}…{shown[-MAX_CHARACTERS:]}"
    before, behind = _MARKS.get(kind, ("", ""))
    return f"{before}{shown}{behind}"


def preview_html(samples: Sequence[Sample], words: Mapping[str, Any], visible: Callable[[str], str]) -> str:
    """A block for each side, every token of what is learned in a span of its own. All text is escaped."""

    def safe(text: Any) -> str:
        return html.escape(visible(str(text)), quote=True)

    parts = []
    names = words["preview_as"]
    for sample in previews(samples):
        for side in sample["sides"]:
            parts.append(f"<p class='dim'>{safe(head_of(sample, side, words))}</p><pre class='card seen'>")
            for kind, _, tokens in runs(side):
                title = safe(names.get(kind, kind))
                for text, _ in tokens:
                    parts.append(f"<span class='{safe(kind)}' title='{title}'>{safe(text)}</span>")
            parts.append("</pre>")
    return "".join(parts)
