"""A recipe's YAML edited in place: one field set or taken out, every comment and the order of the file kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from pipeline.training.recipe import ON_DEMO

WIDTH = 10_000  # no value is broken over lines


def with_values(text: str, changes: Mapping[str, Any]) -> str:
    """The text with these fields as they are given, on the demo too; None takes one out. Raises yaml.YAMLError."""
    for name, value in changes.items():
        text = _without_own(text, name)
        text = _without(text, name) if value is None else _with(text, name, value)
    return text


def _entries(text: str) -> dict[str, tuple[yaml.Node, yaml.Node]]:
    """The file's names, each with the nodes of name and value."""
    whole = yaml.compose(text, Loader=yaml.SafeLoader)
    return {key.value: (key, value) for key, value in whole.value} if isinstance(whole, yaml.MappingNode) else {}


def _with(text: str, name: str, value: Any) -> str:
    dumped = yaml.safe_dump(value, default_flow_style=True, width=WIDTH, allow_unicode=True)
    dumped = dumped.removesuffix("\n...\n").strip()
    there = _entries(text)
    if name in there:
        start, end = there[name][1].start_mark.index, _end(there[name][1], text)
        if start == end:  # nothing stood behind the colon
            dumped = f" {dumped}"
        return text[:start] + dumped + _comment_kept(text[end:], end - start - len(dumped))
    if ON_DEMO in there:
        at = there[ON_DEMO][0].start_mark.index
        head = text[:at].rstrip()
        return f"{head}\n{name}: {dumped}\n\n{text[at:]}"
    return f"{text.rstrip()}\n{name}: {dumped}\n"


def _comment_kept(rest: str, shorter: int) -> str:
    """What follows a value that is now so many characters shorter, a comment in the same column where that can be."""
    line = rest.partition("\n")[0]
    spaces = len(line) - len(line.lstrip(" "))
    if line.strip() == "" or not line.lstrip().startswith("#"):
        return rest
    return " " * max(1, spaces + shorter) + rest[spaces:]


def _end(node: yaml.Node, text: str) -> int:
    """Where a value ends; of a block its last part, not the next name, which is where YAML has it."""
    if isinstance(node, (yaml.SequenceNode, yaml.MappingNode)) and not node.flow_style and node.value:
        last = node.value[-1]
        return _end(last[1] if isinstance(last, tuple) else last, text)
    end = int(node.end_mark.index)
    while end > node.start_mark.index and text[end - 1 : end] in "\r\n":
        end -= 1
    return end


def _without(text: str, name: str) -> str:
    there = _entries(text)
    return _cut(text, *there[name]) if name in there else text


def _without_own(text: str, name: str) -> str:
    """Without what `on_demo` says of this field."""
    block = _entries(text).get(ON_DEMO)
    if block is None or not isinstance(block[1], yaml.MappingNode):
        return text
    inside = {key.value: (key, value) for key, value in block[1].value}
    if name not in inside:
        return text
    return _cut(text, *(block if len(inside) == 1 else inside[name]))


def _cut(text: str, key: yaml.Node, value: yaml.Node) -> str:
    """Without the lines of one name; in a flow mapping, which has no lines of its own, nothing is taken out."""
    start = text.rfind("\n", 0, key.start_mark.index) + 1
    if text[start : key.start_mark.index].strip():
        return text
    stop = text.find("\n", _end(value, text))
    return text[:start] + ("" if stop < 0 else text[stop + 1 :])
