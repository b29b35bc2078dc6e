"""Reading one JSON file of a checkpoint so that bad content is a value, never an exception."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from pipeline.file_store import FileStore

LFS_START = b"version https://git-lfs.github.com/spec/v1"
# A configuration above this size is not a configuration; tokenizer files are read by the probe instead.
MAX_JSON_BYTES = 64 * 2**20
# Deeper values would end every later recursion over them (str, json.dumps); real configurations stay below 10.
MAX_DEPTH = 100
_BYTE_ORDER_MARKS = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16", b"\xef\xbb": "utf-8-sig"}


@dataclass(frozen=True)
class JsonFile:
    """One JSON file. `problem` is None when `value` can be used (also when the file is absent: value None).

    Problems: `unreadable`, `empty`, `lfs_pointer`, `too_large`, `not_text`, `not_json`, `wrong_type`, and `not_utf8`:
    UTF-16 or a byte order mark, which other readers of these files refuse; its `value` is there nevertheless.
    """

    name: str
    present: bool
    value: dict[str, Any] | None = None
    problem: str | None = None
    detail: str = ""

    def get(self, key: str, default: Any = None) -> Any:
        """Field of a readable file, `default` otherwise."""
        return default if self.value is None else self.value.get(key, default)

    def where(self, key: str) -> str:
        """How evidence names a field: `generation_config.json:eos_token_id`."""
        return f"{self.name}:{key}"


def absent(name: str) -> JsonFile:
    """A file that is not there."""
    return JsonFile(name, present=False)


def read_json(store: FileStore, name: str) -> JsonFile:
    """Read `name` from `store`; whatever is wrong with it comes back as `problem`."""
    try:
        size = store.size(name)
        if size > MAX_JSON_BYTES:
            return JsonFile(name, True, problem="too_large", detail=f"{size:,} bytes")
        with store.open(name) as file:
            raw = file.read()
    except OSError as error:
        return JsonFile(name, True, problem="unreadable", detail=error.strerror or str(error))
    if not raw.strip():
        return JsonFile(name, True, problem="empty")
    if raw.startswith(LFS_START):
        return JsonFile(name, True, problem="lfs_pointer")
    encoding = _BYTE_ORDER_MARKS.get(raw[:2], "utf-8")
    try:
        value = parse_json(raw, encoding)
    except UnicodeDecodeError as error:
        return JsonFile(name, True, problem="not_text", detail=f"byte {error.start}")
    except json.JSONDecodeError as error:
        return JsonFile(name, True, problem="not_json", detail=f"line {error.lineno}: {error.msg}")
    except ValueError as error:
        return JsonFile(name, True, problem="not_json", detail=str(error)[:120])
    if not isinstance(value, dict):
        return JsonFile(name, True, problem="wrong_type", detail=type(value).__name__)
    if encoding != "utf-8":
        return JsonFile(name, True, value, "not_utf8", encoding.removesuffix("-sig"))
    return JsonFile(name, True, value)


def parse_json(raw: bytes, encoding: str = "utf-8") -> Any:
    """The value of a JSON text. Raises ValueError (as UnicodeDecodeError or JSONDecodeError where it is one).

    Refuses what would break a later reader: nesting beyond MAX_DEPTH, integers of thousands of digits. Halves of
    surrogate pairs, which no encoding can write, become U+FFFD.
    """
    text = raw.decode(encoding)
    try:
        value = json.loads(text)
        if re.search(r"\\u[dD][89a-fA-F]", text):
            value = json.loads(json.dumps(value, ensure_ascii=False).encode("utf-8", errors="replace"))
    except RecursionError:
        raise ValueError("nested too deep") from None
    level = [value] if isinstance(value, (dict, list)) else []
    for _ in range(MAX_DEPTH):
        if not level:
            return value
        parts = [part for outer in level for part in (outer.values() if isinstance(outer, dict) else outer)]
        level = [part for part in parts if isinstance(part, (dict, list))]
    raise ValueError("nested too deep")
