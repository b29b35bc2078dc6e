"""LLaMA-Factory's list of data sets: entries read as sources of pairs, and entries added without touching the others.

https://github.com/hiyouga/LLaMA-Factory, data/README.md and src/llamafactory/data/{parser,converter}.py: where an
entry names `columns`, those it doesn't name are not used; without `ranking: true` it is no data for DPO.
"""

from __future__ import annotations

import contextlib
import difflib
import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.pairs.all_formats import OWN_COLUMNS, free_name
from pipeline.pairs.read_pairs import PairFile, PairSource
from pipeline.refusal import Refused
from pipeline.whole_file import written_whole

FILE_NAME = "dataset_info.json"
MAX_BYTES = 64 * 2**20  # LLaMA-Factory's own has 20 KB

# Its names of columns by ours, and what it takes for them where an entry names no columns at all.
_ALPACA = {"prompt": "instruction", "query": "input", "response": "output", "history": "history"}
_COMMON = {"system": "system", "chosen": "chosen", "rejected": "rejected", "kto_tag": "kto_tag", "tools": "tools"}
_TALK = {"messages": "conversations"}
_UNNAMED = {"prompt": "instruction", "query": "input", "response": "output", "messages": "conversations"}
# Its tags with what it takes for them, and the roles they stand for.
_TAGS = {
    "role_tag": "from", "content_tag": "value", "user_tag": "human", "assistant_tag": "gpt",
    "observation_tag": "observation", "function_tag": "function_call", "system_tag": "system",
}  # fmt: skip
_ROLES = {
    "user_tag": "user", "assistant_tag": "assistant", "observation_tag": "tool", "function_tag": "tool_call",
    "system_tag": "system",
}  # fmt: skip
# How the formats that it can train on are described to it.
_OPENAI_TAGS = {
    "role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant",
    "observation_tag": "tool", "function_tag": "tool_call", "system_tag": "system",
}  # fmt: skip
LAYOUTS = ("alpaca", "messages", "llamafactory-alpaca", "llamafactory-sharegpt", "llamafactory-kto")
_TALKS = {"messages": "messages", "llamafactory-sharegpt": "conversations", "llamafactory-kto": "messages"}
_INSTEAD = {"kto": "llamafactory-kto"}


@dataclass(frozen=True)
class DatasetInfo:
    """The entries of one dataset_info.json, in its order. Read with `read_dataset_info`."""

    path: Path
    entries: Mapping[str, Any]
    ascii: bool = False

    def source(self, name: str, *, axis: str | None = None) -> PairSource:
        """The pairs or single answers of one entry. Raises Refused for an entry that isn't there, isn't sound, or whose
        data is neither a file here nor on the Hub."""
        entry = self.entries.get(name)
        if entry is None:
            near = ", ".join(difflib.get_close_matches(name, self.entries, n=3, cutoff=0.0))
            raise Refused("info_no_entry", path=self.path, name=name, near=near)
        if not isinstance(entry, dict) or not _is_sound(entry):
            raise Refused("info_entry_broken", path=self.path, name=name)
        talk = entry.get("formatting", "alpaca") != "alpaca"
        prepare = _Prepare(_columns(entry, talk), {**_TAGS, **entry.get("tags", {})} if talk else None)
        format = _format(entry, talk)
        if isinstance(hub := entry.get("hf_hub_url"), str):
            from pipeline.pairs.hub_pairs import HubPairs

            given = hub + (f":{entry['subset']}" if entry.get("subset") else "")
            return HubPairs(
                given, split=entry.get("split") or "train", folder=entry.get("folder"), format=format, axis=axis,
                prepare=prepare,
            )  # fmt: skip
        if not isinstance(file := entry.get("file_name"), str):
            raise Refused("info_elsewhere", path=self.path, name=name)
        place = self.path.parent / file
        if place.is_dir():
            raise Refused("info_is_folder", path=self.path, name=name, folder=place)
        return PairFile(place, format=format, axis=axis, prepare=prepare)

    def with_entries(self, added: Mapping[str, Mapping[str, Any]], *, replace: bool = False) -> DatasetInfo:
        """The same with entries added at the end, or in the place of those of the same name. Raises Refused where such
        a one differs and `replace` is False."""
        for name, entry in added.items():
            if name in self.entries and self.entries[name] != entry and not replace:
                raise Refused("info_entry_differs", path=self.path, name=name)
        return DatasetInfo(self.path, {**self.entries, **added}, self.ascii)

    def write(self) -> None:
        """Whole or not at all. Raises OSError."""
        text = json.dumps(self.entries, ensure_ascii=self.ascii, indent=2) + "\n"
        try:
            raw = text.encode()
        except UnicodeEncodeError:  # half a character, which UTF-8 has no bytes for
            raw = (json.dumps(self.entries, indent=2) + "\n").encode()
        place = Path(os.path.realpath(self.path))
        with written_whole(place, mode=0o666) as temporary:
            temporary.write_bytes(raw)
            with contextlib.suppress(OSError):
                temporary.chmod(place.stat().st_mode & 0o777)


def read_dataset_info(path: Path, *, absent_is_empty: bool = False) -> DatasetInfo:
    """Raises Refused for a file that isn't there, can't be read, or isn't an object of entries, with the reason."""
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise Refused("info_broken", path=path, why=f"{size:,} > {MAX_BYTES:,}")
        raw = path.read_bytes()
    except FileNotFoundError:
        if absent_is_empty:
            return DatasetInfo(path, {}, ascii=False)
        raise Refused("file_not_found", option=FILE_NAME, path=path) from None
    except OSError as failed:
        raise Refused("info_broken", path=path, why=failed.strerror or failed) from None
    try:
        found = json.loads(raw.decode("utf-8-sig"), object_pairs_hook=_each_key_once)
    except (ValueError, RecursionError) as failed:
        raise Refused("info_broken", path=path, why=failed or "nested too deeply") from None
    if not isinstance(found, dict):
        raise Refused("info_broken", path=path, why=type(found).__name__)
    return DatasetInfo(path, found, ascii=bool(found) and raw.isascii())


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        twice = next(key for key, times in Counter(key for key, _ in pairs).items() if times > 1)
        raise ValueError(f"{twice!r} stands twice in it")
    return found


def llamafactory_layout(format: str) -> str:
    """The format to write in, so that LLaMA-Factory reads what `format` holds."""
    return _INSTEAD.get(format, format)


def entries_for(
    name: str, file: Path, format: str, columns: Iterable[str], *, beside: Path
) -> dict[str, dict[str, Any]]:
    """The entries that describe a file written in one of LAYOUTS. Of alpaca pairs two: the ranking one, and one for
    supervised training on the chosen answers, `NAME_sft`.

    columns: those the file has. beside: the dataset_info.json. Raises Refused for another format, and for a table with
    talks in it.
    """
    suffix = file.suffix.lower()
    talk = format in _TALKS
    if format not in LAYOUTS or (talk and suffix == ".csv"):
        raise Refused("info_no_layout", format=format, suffix=suffix, formats=", ".join(LAYOUTS))
    there = set(columns)
    if suffix == ".csv" and "history" in there:
        raise Refused("info_no_layout", format=f"{format}, history", suffix=suffix, formats=", ".join(LAYOUTS))
    common = {name: name for name in ("system", "tools") if name in there}
    if talk:
        ranking = format == "llamafactory-sharegpt"
        entry: dict[str, Any] = {"file_name": _from(file, beside), "formatting": "sharegpt"}
        if ranking:
            entry["ranking"] = True
        sides = {"chosen": "chosen", "rejected": "rejected"} if ranking else {}
        wanted = {"kto_tag": "label"} if format == "llamafactory-kto" else {}
        entry["columns"] = {"messages": _TALKS[format], **sides, **wanted, **common}
        if not ranking:
            entry["tags"] = dict(_OPENAI_TAGS)
        return {name: entry}
    asked = {"prompt": "instruction", "query": "input"}
    earlier = {"history": "history"} if "history" in there else {}
    place = {"file_name": _from(file, beside)}
    if format == "alpaca":
        return {name: {**place, "columns": {**asked, "response": "output", **common, **earlier}}}
    return {
        name: {
            **place,
            "ranking": True,
            "columns": {**asked, "chosen": "chosen", "rejected": "rejected", **common, **earlier},
        },
        f"{name}_sft": {**place, "columns": {**asked, "response": "chosen", **common, **earlier}},
    }


def _from(file: Path, beside: Path) -> str:
    try:
        return Path(os.path.relpath(file.absolute(), beside.absolute().parent)).as_posix()
    except ValueError:  # another drive
        return str(file.absolute())


def _is_sound(entry: Mapping[str, Any]) -> bool:
    tables = [entry.get(name, {}) for name in ("columns", "tags")]
    texts = [value for name in ("subset", "split", "folder", "formatting") if (value := entry.get(name)) is not None]
    return all(
        isinstance(table, dict) and all(isinstance(value, str | None) for value in table.values()) for table in tables
    ) and all(isinstance(text, str) for text in texts)


def _columns(entry: Mapping[str, Any], talk: bool) -> dict[str, str]:
    """Our names by the file's, for the columns the entry uses."""
    ours = {**(_TALK if talk else _ALPACA), **_COMMON}
    named = entry.get("columns", _UNNAMED)
    found = {theirs: ours[name] for name, theirs in named.items() if name in ours and theirs}
    if entry.get("ranking"):
        found = {theirs: name for theirs, name in found.items() if name != "output"}
        for side in ("chosen", "rejected"):
            if side not in found.values():
                found.setdefault(side, side)
    return found


def _format(entry: Mapping[str, Any], talk: bool) -> str:
    if entry.get("ranking"):
        return "llamafactory-sharegpt" if talk else "llamafactory-alpaca"
    if entry.get("columns", {}).get("kto_tag"):
        return "kto"
    return "messages" if talk else "alpaca"


class _Prepare:
    """Makes a record of the file what our readers know: columns under our names, those the entry doesn't use under
    names that mean nothing to them, turns with our roles."""

    def __init__(self, columns: Mapping[str, str], tags: Mapping[str, str | None] | None) -> None:
        self._columns, self._tags = columns, tags
        self._taken = {*OWN_COLUMNS, *columns.values()}

    def __call__(self, record: dict[str, Any]) -> dict[str, Any]:
        found = {}
        for name, value in record.items():
            ours = self._columns.get(name)
            if ours is None:
                ours = free_name(name, record) if name in self._taken else name
            elif ours in ("conversations", "chosen", "rejected") and self._tags is not None:
                value = self._turns(value, self._tags)
            found[ours] = value
        return found

    def _turns(self, value: Any, tags: Mapping[str, str | None]) -> Any:
        if isinstance(value, str) and value[:1] in ("[", "{"):  # as a table holds it
            try:
                value = json.loads(value)
            except (ValueError, RecursionError):
                return value
        if isinstance(value, dict):
            return self._turn(value, tags)
        return [self._turn(turn, tags) for turn in value] if isinstance(value, list) else value

    def _turn(self, turn: Any, tags: Mapping[str, str | None]) -> Any:
        who, what = tags["role_tag"], tags["content_tag"]
        if not isinstance(turn, dict) or who not in turn or what not in turn:
            return turn
        roles = {tags[tag]: role for tag, role in _ROLES.items() if tags[tag]}
        rest = {key: value for key, value in turn.items() if key not in (who, what)}
        name = turn[who]
        return {"role": roles.get(name, name) if isinstance(name, str) else name, "content": turn[what], **rest}
