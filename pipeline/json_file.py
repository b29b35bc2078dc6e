"""Reading one JSON file of a checkpoint so that bad content is a value, never an exception."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from pipeline.file_store import FileStore

LFS_START = b"version https://git-lfs.github.com/spec/v1"
# A configuration above this size is not a configuration; tokenizer files are read by the probe instead.
MAX_JSON_BYTES = 64 * 2**20


@dataclass(frozen=True)
class JsonFile:
    """One JSON file. `problem` is None when `value` can be used (also when the file is absent: value None).

    Problems: `unreadable`, `empty`, `lfs_pointer`, `too_large`, `not_text`, `not_json`, `wrong_type`.
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
    try:
        text = raw.decode("utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError as error:
        return JsonFile(name, True, problem="not_text", detail=f"byte {error.start}")
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        return JsonFile(name, True, problem="not_json", detail=f"line {error.lineno}: {error.msg}")
    except (RecursionError, ValueError) as error:  # nested 100,000 deep; an integer of 5,000 digits
        return JsonFile(name, True, problem="not_json", detail=str(error)[:120])
    if not isinstance(value, dict):
        return JsonFile(name, True, problem="wrong_type", detail=type(value).__name__)
    return JsonFile(name, True, value=value)
