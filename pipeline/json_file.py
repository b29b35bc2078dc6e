"""Reading one JSON file of a checkpoint so that bad content is a value, never an exception."""

from __future__ import annotations

import gc
import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pipeline.file_store import FileStore

LFS_START = b"version https://git-lfs.github.com/spec/v1"
# Real configurations stay below 200 KB, and Python takes twenty times their size to hold them. Some files list every
# token, every tensor or every logged step. Vocabularies are read by the probe instead.
MAX_JSON_BYTES = 4 * 2**20
_LARGER = {
    "tokenizer_config.json": 32 * 2**20, "added_tokens.json": 32 * 2**20, "trainer_state.json": 100 * 2**20,
    "model.safetensors.index.json": 100 * 2**20, "pytorch_model.bin.index.json": 100 * 2**20,
}  # fmt: skip
# Deeper values would end every later recursion over them (str, json.dumps); real configurations stay below 10.
MAX_DEPTH = 100
_BYTE_ORDER_MARKS = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16", b"\xef\xbb": "utf-8-sig"}


@dataclass(frozen=True)
class JsonFile:
    """One JSON file. `problem` is None when `value` can be used (also when the file is absent: value None).

    Problems: `unreadable`, `link_to_nothing`, `is_folder`, `special_file`, `empty`, `lfs_pointer`,
    `too_large`, `not_text`, `not_json`, `wrong_type` (detail: the JSON text), and `not_utf8` (UTF-16) and
    `byte_order_mark`, which other readers of these files refuse; their `value` is there nevertheless.
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


@contextmanager
def collector_paused() -> Iterator[None]:
    """Python's collector looks through everything again and again while millions of small objects are made, though none
    of them can be garbage yet: half the time of reading a long header."""
    running = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if running:
            gc.enable()


def absent(name: str) -> JsonFile:
    """A file that is not there."""
    return JsonFile(name, present=False)


def read_json(store: FileStore, name: str) -> JsonFile:
    """Read `name` from `store`; whatever is wrong with it comes back as `problem`."""
    try:
        size, most = store.size(name), _LARGER.get(name, MAX_JSON_BYTES)
        if size > most:
            return JsonFile(name, True, problem="too_large", detail=f"{size / 2**20:,.0f} MB > {most / 2**20:,.0f} MB")
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
        with collector_paused():
            value = parse_json(raw, encoding)
    except UnicodeDecodeError as error:
        return JsonFile(name, True, problem="not_text", detail=f"byte {error.start}")
    except json.JSONDecodeError as error:
        return JsonFile(name, True, problem="not_json", detail=f"line {error.lineno}: {error.msg}")
    except ValueError as error:
        return JsonFile(name, True, problem="not_json", detail=str(error)[:120])
    if not isinstance(value, dict):
        return JsonFile(name, True, problem="wrong_type", detail=_beginning(value))
    if encoding != "utf-8":
        return JsonFile(name, True, value, "byte_order_mark" if encoding == "utf-8-sig" else "not_utf8")
    return JsonFile(name, True, value)


def parse_json(raw: bytes, encoding: str = "utf-8") -> Any:
    """The value of a JSON text. Raises ValueError (as UnicodeDecodeError or JSONDecodeError where it is one).

    Refuses what would break a later reader: nesting beyond MAX_DEPTH, integers of thousands of digits. Halves of
    surrogate pairs, which no encoding can write, become question marks.
    """
    text = raw.decode(encoding)
    try:
        value = json.loads(text)
        if re.search(r"\\u[dD][89a-fA-F]", text):
            value = json.loads(json.dumps(value, ensure_ascii=False).encode("utf-8", errors="replace"))
    except RecursionError:
        raise ValueError("nested too deep") from None
    except json.JSONDecodeError:
        raise
    except ValueError:  # the one other thing json refuses
        raise ValueError(f"a number of more than {sys.get_int_max_str_digits():,} digits") from None
    level = [value] if isinstance(value, (dict, list)) else []
    for _ in range(MAX_DEPTH):
        if not level:
            return value
        parts = [part for outer in level for part in (outer.values() if isinstance(outer, dict) else outer)]
        level = [part for part in parts if isinstance(part, (dict, list))]
    raise ValueError("nested too deep")


def _beginning(value: Any) -> str:
    """The first characters of a value as JSON, without writing all of it."""
    if isinstance(value, list) and len(value) > 5:
        return json.dumps(value[:5], ensure_ascii=False)[:40].removesuffix("]") + ", …]"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else f"{text[:40]}…"
