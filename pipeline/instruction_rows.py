"""Prompts with the answers that are right for them, from files of supervised or preference data.

Read: the files of `pipeline.record_files`. A row that can't be understood is counted, never raised. Of a preference
pair the chosen side is the answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from pipeline.config_files import load_config
from pipeline.pairs.supervised_formats import ALPACA_ANSWERS, COLUMNS, TALKS
from pipeline.pairs.transcript_format import turns_of
from pipeline.pairs.turns import NotThisShape, as_turns
from pipeline.record_files import Unreadable, records

# (prompt column, answer column), first match wins. Columns of preference sets hold their better side.
_COLUMNS = (*(("instruction", answer) for answer in ALPACA_ANSWERS), *COLUMNS, ("指令", "输出"))
_ROLES = ("system", "user", "assistant")
# Of a long file this many rows are looked at; those taken are spread over them, as files are often sorted.
MAX_SCANNED = 20_000


@dataclass(frozen=True)
class InstructionRow:
    """One prompt with its answer. messages: the turns before the answer, the last one the user's; each a dict of
    `role` and `content`. input: alpaca's second field where the row has one, also part of the last turn."""

    messages: tuple[dict[str, str], ...]
    answer: str
    id: str
    input: str = ""

    @property
    def question(self) -> str:
        """The last turn."""
        return self.messages[-1]["content"]


@dataclass(frozen=True)
class InstructionRows:
    """Rows of one or more files. problem: None when there is at least one row, else `unreadable`, `empty`,
    `lfs_pointer`, `not_text`, `not_json`, `too_large`, `unknown_format`, `missing_dependency`, `no_known_columns`.

    left_out: rows looked at that hold no prompt with an answer. columns: of the first row that wasn't understood.
    """

    rows: tuple[InstructionRow, ...] = ()
    problem: str | None = None
    detail: str = ""
    left_out: int = 0
    columns: tuple[str, ...] = ()


def read_rows(path: str | Path, *, limit: int | None = None) -> InstructionRows:
    """Rows of one file, at most `limit` of them, evenly spread over the file. Never raises for bad content.

    limit: None takes all of the first 20,000.
    """
    place = Path(path)
    found: list[InstructionRow] = []
    left_out = 0
    columns: tuple[str, ...] = ()
    try:
        for number, raw in enumerate(islice(raw_rows(place), MAX_SCANNED)):
            row = as_row(raw, id=f"{place.name}:{number + 1}")
            if row is not None:
                found.append(row)
            else:
                left_out += 1
                if not columns and isinstance(raw, Mapping):
                    columns = tuple(str(k) for k in raw)[:12]
    except Unreadable as reason:
        if not found:
            return InstructionRows(problem=reason.args[0], detail=reason.args[1], left_out=left_out)
    except OSError as failed:
        return InstructionRows(problem="unreadable", detail=f"{place.name}: {failed.strerror or failed}")
    if not found:
        problem = "no_known_columns" if left_out else "empty"
        return InstructionRows((), problem, ", ".join(columns) or place.name, left_out, columns)
    return InstructionRows(tuple(spread(found, limit)), None, "", left_out, columns)


def read_all_rows(paths: Sequence[str], *, limit: int | None = None) -> InstructionRows:
    """Rows of several files together; each file gives its even share of `limit`."""
    return together([read_rows(path) for path in paths], limit=limit)


def together(read: Sequence[InstructionRows], *, limit: int | None = None) -> InstructionRows:
    """What several files gave, as one."""
    rows = [row for one in read for row in one.rows]
    if not rows:
        return read[0] if read else InstructionRows(problem="empty")
    return replace(read[0], rows=tuple(spread(rows, limit)), problem=None, detail="",
                   left_out=sum(one.left_out for one in read))  # fmt: skip


def probe_rows() -> tuple[InstructionRow, ...]:
    """The built-in questions of configs/probes.yaml; the id begins with the language."""
    return tuple(
        InstructionRow(({"role": "user", "content": row["prompt"]},), row["answer"], f"{row['lang']}:{number + 1}")
        for number, row in enumerate(load_config("probes.yaml")["rows"])
    )


def spread(rows: Sequence[InstructionRow], limit: int | None) -> list[InstructionRow]:
    """`limit` rows at even distances, all when there are fewer."""
    if limit is None or len(rows) <= limit:
        return list(rows)
    return [rows[i * len(rows) // limit] for i in range(limit)]


def raw_rows(path: Path) -> Iterator[Any]:
    """Values of the records of one file; None for one that can't be read. Raises Unreadable, OSError."""
    return (record.value for record in records(path))


# --- rows ---


def as_row(raw: Any, *, id: str) -> InstructionRow | None:
    """One record as prompt and answer; None when it holds none of both."""
    if not isinstance(raw, Mapping):
        return None
    record = {str(k).strip().lower(): v for k, v in raw.items() if v is not None}
    if record.get("label") is False or record.get("kto_tag") is False:  # the bad half of unpaired preference data
        return None
    name = str(record.get("id") or record.get("prompt_id") or id)
    row = _from_messages(record, name) or _from_columns(record, name) or _from_transcript(record, name)
    return row if row is not None and row.answer.strip() and row.question.strip() else None


def _text(value: Any) -> str | None:
    """A string, a list of text parts, or a number; None for anything else."""
    if isinstance(value, str):
        return value
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, Mapping):
        return _text(value.get("content", value.get("value", value.get("text"))))
    if isinstance(value, list) and value and all(isinstance(p, Mapping) for p in value):
        parts = [_text(p.get("text", p.get("value"))) for p in value if p.get("type", "text") == "text"]
        return "".join(p for p in parts if p) or None
    return None


def turns(value: Any) -> list[dict[str, str]] | None:
    """Messages of a list in either notation; None when it isn't one or a turn is no text of system, user, assistant."""
    if isinstance(value, Mapping) or (isinstance(value, str) and value.lstrip()[:1] != "["):
        return None
    found: list[dict[str, str]] = []
    for turn in as_turns(value) or ():
        content = _text(turn["content"])
        if turn["role"] not in _ROLES or content is None:
            return None
        found.append({"role": turn["role"], "content": content})
    return found or None


def _split(messages: list[dict[str, str]], id: str) -> InstructionRow | None:
    """The last answer of a conversation, with the turns before it."""
    while messages and messages[-1]["role"] != "assistant":
        messages = messages[:-1]
    if len(messages) < 2 or messages[-2]["role"] != "user":
        return None
    return InstructionRow(tuple(messages[:-1]), messages[-1]["content"].strip(), id)


def _from_messages(record: Mapping[str, Any], id: str) -> InstructionRow | None:
    system = _text(record.get("system")) or _text(record.get("system_prompt"))
    for key in TALKS:
        messages = turns(record.get(key))
        if messages is None:
            continue
        before = turns(record.get("prompt")) or []
        asked = record.get("prompt")
        if key == "chosen" and not before and isinstance(asked, str) and messages[0]["role"] == "assistant":
            before = [{"role": "user", "content": asked}]
        if key == "chosen" and messages[: len(before)] != before:
            messages = before + messages
        if messages[-1]["role"] == "user" and (answer := _answer(record)) is not None:
            messages = [*messages, {"role": "assistant", "content": answer}]
        if system and messages[0]["role"] != "system":
            messages = [{"role": "system", "content": system}, *messages]
        if (row := _split(messages, id)) is not None:
            return row
    before = turns(record.get("prompt")) or []
    answer = _answer(record) if before else None
    return _split([*before, {"role": "assistant", "content": answer}], id) if answer is not None else None


def _answer(record: Mapping[str, Any]) -> str | None:
    """The answer beside a list of messages: a string, one turn, or a list with one turn."""
    for key in ("chosen", "completion", "response", "output", "answer"):
        value = record.get(key)
        if isinstance(value, list) and value:
            value = value[-1]
        if (text := _text(value)) is not None:
            return text
    return None


def _from_columns(record: Mapping[str, Any], id: str) -> InstructionRow | None:
    better = {"0": 0, "1": 1}.get(str(record.get("better_response_id", "")))
    if better is not None and isinstance(record.get("prompt"), str):
        answer = _text(record.get(f"response_{better}"))
        return _plain(record, str(record["prompt"]), answer, id) if answer else None
    preferred = {"1": "output_1", "2": "output_2"}.get(str(record.get("preference", "")), "")
    asked = _text(record.get("instruction") or record.get("prompt"))
    if asked and (answer := _text(record.get(preferred))):
        return _plain(record, asked, answer, id)
    for prompt_key, answer_key in _COLUMNS:
        prompt, answer = record.get(prompt_key), record.get(answer_key)
        if isinstance(prompt, str) and prompt.strip() and (text := _text(answer)) is not None and text.strip():
            return _plain(record, prompt, text, id, second=prompt_key == "instruction")
    return None


def _plain(
    record: Mapping[str, Any], prompt: str, answer: str, id: str, *, second: bool = True
) -> InstructionRow:  # fmt: skip
    extra = _text(record.get("input")) if second else None
    extra = extra.strip() if extra and extra.strip() != prompt.strip() else ""
    messages: list[dict[str, str]] = []
    if system := _text(record.get("system")):
        messages.append({"role": "system", "content": system})
    history = record.get("history")
    for pair in history if isinstance(history, list) else ():
        if isinstance(pair, (list, tuple)) and len(pair) == 2 and all(isinstance(p, str) for p in pair):
            messages += [{"role": "user", "content": pair[0]}, {"role": "assistant", "content": pair[1]}]
    messages.append({"role": "user", "content": f"{prompt}\n{extra}" if extra else prompt})
    return InstructionRow(tuple(messages), answer.strip(), id, extra)


def _from_transcript(record: Mapping[str, Any], id: str) -> InstructionRow | None:
    """The talk that HH-RLHF marks in one text."""
    text = record.get("chosen")
    if not isinstance(text, str) or "\n\nAssistant:" not in text:
        return None
    try:
        return _split([{**turn, "content": turn["content"].strip()} for turn in turns_of(text)], id)
    except NotThisShape:
        return None
