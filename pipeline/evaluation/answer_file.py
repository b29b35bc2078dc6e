"""Answers of one model as a file holds them, whoever made it: prompt, answer or answers, what is right, category.

Known makers: plain columns, alpaca and AlpacaEval (instruction, input, output, generator), LLaMA-Factory's
generated_predictions.jsonl (prompt, predict, label), samples of lm-evaluation-harness (doc, arguments, resps), this
project's `generate` (rejected is the model's answer, chosen the right one), talks whose last turn is the answer, batch
files of OpenAI and vLLM (custom_id, response.body or body), MT-Bench (question_id, choices or turns; the first turn of
each), and one JSON object of answers by prompt. Names of columns are also known in capitals, as spreadsheets have them.
Texts stay as they are; only the key by which prompts are matched has its white space made one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from pipeline.candidates.row_databases import COLUMNS as DATABASE_COLUMNS
from pipeline.config_files import load_config
from pipeline.evaluation.categories import Categories
from pipeline.pairs.llamafactory_formats import alpaca_prompt
from pipeline.pairs.pair import Message, Pair, content_text, text_of
from pipeline.pairs.turns import NotThisShape, as_turns
from pipeline.record_files import Record, Unreadable, records
from pipeline.refusal import Refused, Sentence
from pipeline.sheet_records import sheet_records

ROLES = ("prompt", "answer", "reference", "category")
"""What --column can name."""
NAMED_LINES = 20
SHEET = ".xlsx"
FILTERED_AGAIN = "filtered_again"
"""Samples of lm-evaluation-harness stand in their file once for each filter, with the same answers."""
_TEXTS = ("text", "content", "response", "answer", "completion", "output", "generation")
_STOPPED = ("finish_reason", "stopped", "stop_reason", "finish_reasons")
_TABLES = (".csv", ".tsv", ".parquet", SHEET)  # of one row are no object of answers by prompt
_CUT = ("length", "max_tokens", "max_new_tokens", "model_length")


@dataclass(slots=True)
class AnsweredRow:
    """One prompt with its answers. index: place among the rows of its file, from 0; line: in it. key: of the prompt,
    None where the row has none. stopped: of each answer, None: nobody knows. references: what is right. id: what its
    maker calls it, empty for nothing."""

    index: int
    line: int
    pair: Pair | None
    key: bytes | None
    answers: tuple[str, ...]
    references: tuple[str, ...] = ()
    category: str = ""
    stopped: tuple[bool | None, ...] = ()
    id: str = ""


@dataclass
class AnswerFile:
    """name: short. rows: in the order of the file. left_out: rows without an answer, by reason, lines the first of
    them. columns: the columns used, by role. with_prompts: rows that have one."""

    name: str
    path: str
    rows: list[AnsweredRow]
    left_out: dict[str, int] = field(default_factory=dict)
    lines: dict[str, list[int]] = field(default_factory=dict)
    columns: dict[str, str] = field(default_factory=dict)
    category_column: str = ""
    digest: str = ""

    @property
    def with_prompts(self) -> int:
        return sum(row.key is not None for row in self.rows)


@dataclass
class _Wanted:
    columns: Mapping[str, str]
    prompts_only: bool = False
    used: dict[str, str] = field(default_factory=dict)
    """The first column of each role that was used."""


def read_answers(
    path: Path, *, name: str = "", option: str = "--before", columns: Mapping[str, str] | None = None,
    category: str | None = None, most: int | None = None,
) -> AnswerFile:  # fmt: skip
    """All rows of a file with their answers. columns: the file's column for a role. most: rows taken.

    Raises Refused for what can't be read, for rows without an answer (with the columns there are), and for more text
    than configs/evaluation.yaml allows in memory.
    """
    return _read(path, name, option, _Wanted(columns or {}), category, most)


def read_prompts_file(
    path: Path, *, option: str = "--prompts", columns: Mapping[str, str] | None = None, category: str | None = None,
    most: int | None = None,
) -> AnswerFile:  # fmt: skip
    """Prompts to be answered, with what is right where the file says it: `answers` of every row is empty. Raises
    Refused."""
    return _read(path, "", option, _Wanted(columns or {}, prompts_only=True), category, most)


def columns_given(words: Sequence[str]) -> dict[str, str]:
    """`--column NAME=COLUMN`, NAME one of ROLES. Raises Refused."""
    found: dict[str, str] = {}
    for word in words:
        name, equals, column = (part.strip() for part in word.partition("="))
        if not equals or not column or name not in ROLES:
            raise Refused("cases_column_wrong", given=word, all=", ".join(ROLES))
        found[name] = column
    return found


def prompt_key(turns: Sequence[Message]) -> bytes:
    """Of a prompt: its turns but for the system's, white space made one."""
    asked = [(turn.get("role"), turn.get("content")) for turn in turns if turn.get("role") != "system"]
    said = [f"{role if len(asked) > 1 else ''}\0{' '.join(_text(content).split())}" for role, content in asked]
    return hashlib.blake2b("\0\0".join(said).encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _text(content: Any) -> str:
    return content if isinstance(content, str) else content_text(content)


# --- reading ---


def _read(
    path: Path, name: str, option: str, wanted: _Wanted, category: str | None, most: int | None
) -> AnswerFile:  # fmt: skip
    found = AnswerFile(name or path.stem, str(path), [])
    limit = int(load_config("evaluation.yaml")["compare"]["most_characters"])
    categories = Categories(category or wanted.columns.get("category"))
    held = 0
    seen: list[str] = []
    reader = AnswerReader(wanted)
    for record in _records(path, option, wanted.columns.values()):
        if most is not None and len(found.rows) >= most:
            break
        if record.value is None and record.problem is not None:
            _leave_out(found, record.problem, record.line)
            continue
        value = record.value
        if isinstance(value, Mapping) and not seen:
            seen = [str(one) for one in value][:30]
        row = reader.row(record, len(found.rows))
        if row == FILTERED_AGAIN:
            continue
        if isinstance(row, str):
            _leave_out(found, row, record.line)
            continue
        found.rows.append(row)
        if has_later_turns(value):
            _leave_out(found, "later_turns", record.line)
        categories.add(_columns_of(value))
        held += sum(map(len, row.answers)) + sum(map(len, row.references))
        held += 0 if row.pair is None else len(text_of(row.pair.prompt))
        if held > limit:
            raise Refused("compare_file_too_large", path=path, n=f"{limit:,}")
    if not found.rows:
        _refuse(found, wanted, option, seen)
    found.category_column, labels = categories.found()
    for row, label in zip(found.rows, labels, strict=False):
        row.category = label
    found.columns = wanted.used
    return found


def _records(path: Path, option: str, given: Collection[str]) -> Iterator[Record]:
    """Of a file, an object of answers by prompt taken apart. Raises Refused."""
    try:
        if path.is_dir():
            raise Refused("compare_no_file", option=option, path=path)
        source = answer_sheet(path, given) if is_sheet(path) else records(path)
        first = next(source, None)
        if first is None:
            return
        second = next(source, None)
        is_table = any(suffix.lower() in _TABLES for suffix in path.suffixes)
        if second is None and not is_table and isinstance(first.value, Mapping) and _by_prompt(first.value):
            for prompt, answer in first.value.items():
                yield Record(first.line, {"prompt": prompt, "response": answer})
            return
        yield first
        if second is not None:
            yield second
            yield from source
    except Unreadable as reason:
        problem, detail = reason.args
        why = Sentence("no_rows" if problem == "empty" else problem, {"detail": detail})
        raise Refused("data_unusable", path=path, why=why) from None
    except OSError as failed:
        raise Refused("data_unusable", path=path, why=failed.strerror or failed) from None


def is_sheet(path: Path) -> bool:
    return path.suffix.lower() == SHEET


def answer_sheet(path: Path, given: Collection[str] = ()) -> Iterator[Record]:
    """Rows of the first sheet with a column that is known here or given. Raises Unreadable, OSError."""
    known = {*_names("prompt"), *_names("answer"), "instruction"}
    return sheet_records(path, lambda name: _folded(name) in known or name in given)


def _by_prompt(value: Mapping[str, Any]) -> bool:
    """Whether an object is answers by prompt and no row itself."""
    known = {name for role in ("prompt", "answer") for name in _names(role)}
    texts = all(isinstance(one, str) or (isinstance(one, list) and all(isinstance(t, str) for t in one))
                for one in value.values())  # fmt: skip
    return bool(value) and texts and not any(name in known for name in value)


def _leave_out(found: AnswerFile, reason: str, line: int) -> None:
    found.left_out[reason] = found.left_out.get(reason, 0) + 1
    if len(lines := found.lines.setdefault(reason, [])) < NAMED_LINES:
        lines.append(line)


def _refuse(found: AnswerFile, wanted: _Wanted, option: str, seen: Sequence[str]) -> None:
    role = "prompt" if wanted.prompts_only else "answer"
    if not seen:
        broken = next(iter(found.left_out), "")
        why = Sentence(broken if broken in ("not_json", "cut_short") else "no_rows", {"detail": found.path})
        raise Refused("data_unusable", path=found.path, why=why)
    raise Refused(f"compare_no_{role}", option=option, path=found.path, columns=", ".join(seen),
                  known=", ".join(_names(role)))  # fmt: skip


def _columns_of(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        return {}
    doc = value.get("doc")
    return _lower({**doc, **value} if isinstance(doc, Mapping) else value)


@cache
def _names(role: str) -> tuple[str, ...]:
    return tuple(load_config("evaluation.yaml")["compare"]["columns"][role])


class AnswerReader:
    """Reads the rows of one file, in their order."""

    def __init__(self, wanted: _Wanted | None = None) -> None:
        self._wanted = wanted or _Wanted({})
        self._filter = ""

    def row(self, record: Record, index: int) -> AnsweredRow | str:
        """The row, or why it is none: FILTERED_AGAIN, not_a_row, no_answer; of prompts no_prompt."""
        value = record.value
        if isinstance(value, Mapping) and "resps" in value:
            kept = str(value.get("filter"))
            self._filter = self._filter or kept
            if kept != self._filter:
                return FILTERED_AGAIN
        return _row(record, index, self._wanted)


def _row(record: Record, index: int, wanted: _Wanted) -> AnsweredRow | str:
    """The row, or why it is none."""
    value = record.value
    if isinstance(value, str):  # a list of answers, or of prompts, alone
        if wanted.prompts_only:
            asked = Pair([{"role": "user", "content": value}], None, None, line=record.line)
            key = prompt_key(asked.prompt)
            return AnsweredRow(index, record.line, asked, key, ()) if value.strip() else "no_prompt"
        return AnsweredRow(index, record.line, None, None, (value,), stopped=(None,))
    if not isinstance(value, Mapping):
        return "not_a_row"
    if isinstance(value.get("doc"), Mapping) and "resps" in value:
        value = _of_harness(value)
    value = _of_mt_bench(_of_batch(_lower(value)))
    turns, from_talk, prompt_columns = _prompt(value, wanted)
    answers: tuple[str, ...] = ()
    answer_column = ""
    if not wanted.prompts_only:
        answer_column, found = _answer(value, wanted, prompt_columns)
        if found is None and from_talk is not None:
            found, answer_column = (from_talk,), prompt_columns[0]
        if found is None:
            return "no_answer"
        answers = found
    elif not turns:
        return "no_prompt"
    pair = _pair(turns, value, record) if turns else None
    used = {*prompt_columns, answer_column}
    reference_column, references = _reference(value, wanted, used)
    if not references and wanted.prompts_only and from_talk:
        references = (from_talk,)
    for role, column in (("prompt", ", ".join(prompt_columns)), ("answer", answer_column),
                         ("reference", reference_column)):  # fmt: skip
        if column:
            wanted.used.setdefault(role, column)
    return AnsweredRow(
        index, record.line, pair, None if pair is None else prompt_key(pair.prompt), answers, references,
        stopped=_stopped(value, len(answers)), id=_id(value),
    )  # fmt: skip


def _pair(turns: list[Message], value: Mapping[str, Any], record: Record) -> Pair:
    system = value.get("system") if isinstance(value.get("system"), str) else None
    if turns[0]["role"] == "system":
        system, turns = _text(turns[0].get("content")) or system, turns[1:]
    held = {name: value[name] for name in DATABASE_COLUMNS if isinstance(value.get(name), (str, int))}
    if isinstance(second := value.get("input"), str) and second and text_of(turns).endswith(f"\n{second}"):
        held["input"] = second
    return Pair(turns, None, None, system=system or None, extra=held, line=record.line)


def _prompt(value: Mapping[str, Any], wanted: _Wanted) -> tuple[list[Message], str | None, tuple[str, ...]]:
    """The turns up to the answer, the answer where a talk ends with it, and the columns both stand in."""
    given = wanted.columns.get("prompt")
    if given is None and isinstance(value.get("instruction"), str):
        try:
            turns, _ = alpaca_prompt(value)
        except NotThisShape:
            turns = []
        if text_of(turns).strip():
            return turns, None, tuple(name for name in ("instruction", "input", "history") if value.get(name))
    for name in (given,) if given else _names("prompt"):
        held = value.get(name)
        if isinstance(held, str) and held.strip():
            talk = as_turns(held) if held.lstrip()[:2] in ("[{", '{"') else None
            if not talk:
                return [{"role": "user", "content": held}], None, (name,)
            held = talk
        found = as_turns(held) if isinstance(held, (list, Mapping)) else None
        if found:
            turns, said = found, None
            if turns[-1]["role"] == "assistant":
                said, turns = _text(turns[-1].get("content")), turns[:-1]
            if turns and any(turn["role"] != "system" for turn in turns):
                return turns, said, (name,)
    return [], None, ()


def _answer(
    value: Mapping[str, Any], wanted: _Wanted, taken: Sequence[str]
) -> tuple[str, tuple[str, ...] | None]:  # fmt: skip
    given = wanted.columns.get("answer")
    names = [given] if given else [name for name in _names("answer") if name not in taken]
    for name in names:
        if name in value and (found := texts_of(value[name])) is not None:
            return name, found
    return "", None


def _reference(value: Mapping[str, Any], wanted: _Wanted, taken: set[str]) -> tuple[str, tuple[str, ...]]:
    given = wanted.columns.get("reference")
    for name in (given,) if given else _names("reference"):
        if name in taken and not given:
            continue
        found = texts_of(value.get(name))
        if found and any(one.strip() for one in found):
            return name, tuple(one for one in found if one.strip())
    return "", ()


def texts_of(value: Any) -> tuple[str, ...] | None:
    """The text or texts of a column: a string, a number, an object with a text, a talk's last turn, a list of those.
    None for none; an empty text is one."""
    if isinstance(value, str):
        return (value,)
    if value is None or isinstance(value, bool) or (isinstance(value, float) and value != value):
        return None
    if isinstance(value, (int, float)):
        return (str(int(value)) if float(value).is_integer() else str(value),)
    if isinstance(value, (list, Mapping)) and (turns := as_turns(value)):
        return (_text(turns[-1].get("content")),)
    if isinstance(value, Mapping):
        return next(((value[name],) for name in _TEXTS if isinstance(value.get(name), str)), None)
    if isinstance(value, list):
        found = [texts_of(one) for one in value]
        flat = [text for one in found if one for text in one]
        return tuple(flat) if flat else None
    return None


def _of_harness(value: Mapping[str, Any]) -> dict[str, Any]:
    """A sample of lm-evaluation-harness: what was sent, what came back, and the target."""
    sent = value.get("arguments")
    if isinstance(sent, Mapping):
        sent = next(iter(sent.values()), None)
        sent = sent.get("arg_0") if isinstance(sent, Mapping) else sent
    while isinstance(sent, list) and sent:
        sent = sent[0]
    said = value.get("resps")
    while isinstance(said, list) and len(said) == 1 and isinstance(said[0], list):
        said = said[0]
    texts = [one for one in said if isinstance(one, str)] if isinstance(said, list) else []
    row: dict[str, Any] = {name: value["doc"][name] for name in value["doc"] if name in DATABASE_COLUMNS}
    if isinstance(sent, str):
        row["prompt"] = sent
    else:
        row |= {name: held for name, held in value["doc"].items() if name in _names("prompt")}
    if texts:
        row["response"] = texts
    if value.get("target") is not None:
        row["reference"] = str(value["target"])
    return row


def _lower(value: Mapping[str, Any]) -> Mapping[str, Any]:
    """With `Model Answer` known as `model_answer` too; a name as it stands goes before."""
    return {**{_folded(name): held for name, held in value.items()}, **value}


def _folded(name: Any) -> str:
    return "_".join(str(name).casefold().split())


def _of_batch(value: Mapping[str, Any]) -> Mapping[str, Any]:
    """A line of a batch file (https://platform.openai.com/docs/guides/batch): of what was asked, or of what came."""
    if "custom_id" not in value:
        return value
    asked, came = value.get("body"), value.get("response")
    row: dict[str, Any] = {"custom_id": value["custom_id"]}
    if isinstance(asked, Mapping):
        row |= {name: asked[name] for name in ("messages", "prompt") if name in asked}
    body = came.get("body") if isinstance(came, Mapping) else None
    choices = body.get("choices") if isinstance(body, Mapping) else None
    if not isinstance(choices, list):
        return row if isinstance(asked, Mapping) or not isinstance(came, str) else value
    choices = [one for one in choices if isinstance(one, Mapping)]
    said = [message.get("content") if isinstance(message := one.get("message"), Mapping) else one.get("text")
            for one in choices]  # fmt: skip
    row["response"] = ["" if text is None else text for text in said] or None
    return row | {"finish_reason": [one.get("finish_reason") for one in choices]}


def _of_mt_bench(value: Mapping[str, Any]) -> Mapping[str, Any]:
    """Answers or questions of MT-Bench. Only the first turn: what is asked next stands on each model's own answer."""
    if "question_id" not in value:
        return value
    row = dict(value)
    if (said := [turns[0] for turns in _turns_of_choices(value)]) and "response" not in value:
        row["response"] = said
    for column, role in (("turns", "prompt"), ("reference", "reference")):
        held = value.get(column)
        if "turns" in value and isinstance(held, list) and held and isinstance(held[0], str):
            row[role] = held[0]
    return row


def _turns_of_choices(value: Mapping[str, Any]) -> list[list[str]]:
    choices = value.get("choices")
    found = [one.get("turns") for one in choices if isinstance(one, Mapping)] if isinstance(choices, list) else []
    return [turns for turns in found if isinstance(turns, list) and turns and isinstance(turns[0], str)]


def has_later_turns(value: Any) -> bool:
    """Whether a row of MT-Bench goes on behind the first turn, which alone is read."""
    if not isinstance(value, Mapping) or "question_id" not in value:
        return False
    asked = value.get("turns")
    return any(len(turns) > 1 for turns in _turns_of_choices(value)) or (isinstance(asked, list) and len(asked) > 1)


def _id(value: Mapping[str, Any]) -> str:
    held = next((value[name] for name in _names("id") if value.get(name) is not None), "")
    return str(held) if isinstance(held, (str, int)) else ""


def _stopped(value: Mapping[str, Any], n: int) -> tuple[bool | None, ...]:
    held = next((value[name] for name in _STOPPED if value.get(name) is not None), None)
    several = held if isinstance(held, list) else [held] * (n == 1)
    found = [_has_stopped(one) for one in several[:n]]
    return (*found, *[None] * (n - len(found)))


def _has_stopped(value: Any) -> bool | None:
    if isinstance(value, bool):
        return value
    return value.lower() not in _CUT if isinstance(value, str) and value else None
