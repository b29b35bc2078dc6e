"""Records of files that are large, packed, damaged, mixed, or written by hand: the good ones kept, the bad ones named."""

from __future__ import annotations

import gzip
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

import pipeline.record_files as record_files
from pipeline.record_files import Record, Unreadable, records, text_lines

ROWS = [{"prompt": f"问题 {n}", "chosen": "好" * (n % 7), "rejected": "} ,{ [\n"} for n in range(50)]


def read(tmp_path: Path, content: str | bytes, name: str = "rows.json") -> list[Record]:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return list(records(path))


def sound(found: list[Record]) -> list[Any]:
    return [record.value for record in found if record.problem is None]


def bad(found: list[Record]) -> list[tuple[int, str | None]]:
    return [(record.line, record.problem) for record in found if record.problem]


LAYOUTS = {
    "array": lambda rows: json.dumps(rows),
    "indented": lambda rows: json.dumps(rows, indent=2, ensure_ascii=False),
    "lines": lambda rows: "\n".join(map(json.dumps, rows)),
    "windows lines": lambda rows: "\r\n".join(map(json.dumps, rows)) + "\r\n",
    "array a line": lambda rows: "[\n" + ",\n".join(map(json.dumps, rows)) + "\n]\n",
    "wrapped": lambda rows: json.dumps({"version": 1, "data": rows}, indent=1),
    "objects one after the other": lambda rows: "\n".join(json.dumps(row, indent=4) for row in rows),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", ["rows.json", "rows.jsonl"])
@pytest.mark.parametrize("chunk", [7, 1 << 20])
def test_layouts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: str, name: str, chunk: int) -> None:
    if name == "rows.jsonl" and layout in ("wrapped", "objects one after the other"):
        pytest.skip("no lines")
    monkeypatch.setattr(record_files, "CHUNK", chunk)
    monkeypatch.setattr(record_files, "FIRST_BYTES", max(chunk, 64))
    text = LAYOUTS[layout](ROWS)
    assert sound(read(tmp_path, text, name)) == ROWS
    assert sound(read(tmp_path, gzip.compress(text.encode()), name + ".gz")) == ROWS


def test_lines_are_those_of_the_file(tmp_path: Path) -> None:
    text = json.dumps(ROWS, indent=2)
    lines = text.splitlines()
    found = read(tmp_path, text)
    assert [lines[record.line - 1].strip() for record in found] == ["{"] * 50
    assert [record.line for record in read(tmp_path, "\n\n".join(map(json.dumps, ROWS)), "rows.jsonl")][:3] == [1, 3, 5]


@pytest.mark.parametrize("layout", ["array", "indented", "lines", "array a line"])
@pytest.mark.parametrize("chunk", [11, 1 << 20])
def test_one_broken_record_costs_only_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: str, chunk: int
) -> None:
    monkeypatch.setattr(record_files, "CHUNK", chunk)
    text = LAYOUTS[layout](ROWS)
    quote = text.index('"chosen"', text.index("20"))
    for broken in (text[:quote] + text[quote + 1 :], text[:quote] + "oops" + text[quote:]):
        found = read(tmp_path, broken)
        assert sound(found) == ROWS[:20] + ROWS[21:]
        assert [problem for _, problem in bad(found)] == ["not_json"]
        assert broken.splitlines()[bad(found)[0][0] - 1] in broken


@pytest.mark.parametrize("layout", ["array", "indented", "lines", "array a line"])
def test_cut_short(tmp_path: Path, layout: str) -> None:
    text = LAYOUTS[layout](ROWS)
    found = read(tmp_path, text[: text.index('"chosen"', text.index("20")) + 3])
    assert sound(found) == ROWS[:20]
    assert [problem for _, problem in bad(found)] == ["cut_short"]


def test_messages_of_a_broken_record_are_no_records(tmp_path: Path) -> None:
    talk = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]
    rows = [{"id": n, "messages": talk} for n in range(5)]
    text = json.dumps(rows).replace('"id": 2', '"id": two')
    found = read(tmp_path, text)
    assert [row["id"] for row in sound(found)] == [0, 1, 3, 4] and len(bad(found)) == 1


def test_what_stands_twice_is_said(tmp_path: Path) -> None:
    found = read(tmp_path, '{"prompt": "a", "prompt": "b"}\n{"prompt": "c"}\n', "rows.jsonl")
    assert [(r.line, r.problem, r.detail, r.value) for r in found] == [
        (1, "duplicate_key", "prompt", {"prompt": "b"}),
        (2, None, "", {"prompt": "c"}),
    ]


def test_two_writers_on_one_line(tmp_path: Path) -> None:
    found = read(tmp_path, '{"a": 1}\n{"a": 2}{"a": 3}\n{"a": 4}\n', "rows.jsonl")
    assert [(r.line, r.value["a"]) for r in found] == [(1, 1), (2, 2), (2, 3), (3, 4)]


def test_hostile_values(tmp_path: Path) -> None:
    lines = ['{"a": 1}', '{"a": ' + "[" * 100_000, '{"a": ' + "9" * 5000 + "}", '{"a": "\\ud800"}', '{"a": NaN}', '"x"']
    found = read(tmp_path, "\n".join(lines) + "\n", "rows.jsonl")
    assert bad(found) == [(2, "not_json"), (3, "not_json")]
    assert sound(found)[1] == {"a": "\ud800"} and sound(found)[3] == "x"


def test_table(tmp_path: Path) -> None:
    text = '\ufeffprompt,chosen,chosen\r\n"two\nlines, ""quoted""",b,c\r\n\r\nshort\r\na,b,c,d\r\nlast,b,c'
    found = read(tmp_path, text, "rows.csv")
    assert found[0] == Record(2, {"prompt": 'two\nlines, "quoted"', "chosen": "b", "chosen_2": "c"})
    assert found[1] == Record(5, {"prompt": "short", "chosen": None, "chosen_2": None})
    assert bad(found) == [(6, "too_many_cells")] and found[-1].value["prompt"] == "last"
    for mark in ";\t|":
        assert sound(read(tmp_path, f"prompt{mark}chosen\na, b{mark}c\n", "rows.csv")) == [{"prompt": "a, b", "chosen": "c"}]
    wide = ",".join(f"c{n}" for n in range(1000))
    assert len(read(tmp_path, f"{wide}\n{wide}\n", "rows.csv")[0].value) == 1000
    assert sound(read(tmp_path, "a,b\r1,2\r3,4\r", "rows.csv")) == [{"a": "1", "b": "2"}, {"a": "3", "b": "4"}]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "gb18030"])
def test_encodings(tmp_path: Path, encoding: str) -> None:
    text = "\n".join(json.dumps(row, ensure_ascii=False) for row in [{"prompt": "plain"}] * 3000 + ROWS)
    assert sound(read(tmp_path, text.encode(encoding), "rows.jsonl"))[3000:] == ROWS


def test_windows_text_of_the_west(tmp_path: Path) -> None:
    text = 'prompt,chosen\nwhat is it,"it\u2019s a caf\u00e9 \u2013 really"\n'
    assert sound(read(tmp_path, text.encode("cp1252"), "rows.csv"))[0]["chosen"] == "it\u2019s a caf\u00e9 \u2013 really"


def test_damaged_gzip_gives_what_stands_before(tmp_path: Path) -> None:
    import random

    rows = [{"n": n, "text": random.Random(n).randbytes(200).hex()} for n in range(3000)]
    packed = gzip.compress("\n".join(map(json.dumps, rows)).encode())
    found = sound(read(tmp_path, packed[: len(packed) // 2], "rows.jsonl.gz"))
    assert 1000 < len(found) < 2000 and found == rows[: len(found)]
    for place in range(len(packed) // 4, len(packed), len(packed) // 60):
        damaged = packed[:place] + bytes([packed[place] ^ 0x55, 0, 255]) + packed[place + 3 :]
        assert sound(read(tmp_path, damaged, "rows.jsonl.gz"))[:500] == rows[:500]


@pytest.mark.parametrize(
    ("content", "name", "problem"),
    [
        (b"", "a.json", "empty"), (b"version https://git-lfs.github.com/spec/v1\n", "a.parquet", "lfs_pointer"),
        (b"\x89PNG\r\n\x1a\n\0\0\0", "a.json", "not_text"), (b"PAR1 nothing", "a.parquet", "unreadable"),
        (b"hello\n" * 9, "a.jsonl", "not_json"), (b"hello", "a.exe", "unknown_format"), (b"[" * 10**5, "a.json", "not_json"),
    ],
)  # fmt: skip
def test_what_holds_no_records(tmp_path: Path, content: bytes, name: str, problem: str) -> None:
    with pytest.raises(Unreadable) as failed:
        read(tmp_path, content, name)
    assert failed.value.args[0] == problem


@pytest.mark.parametrize("indent", [None, 1])
def test_memory_does_not_grow_with_the_file(tmp_path: Path, indent: int | None) -> None:
    peaks = []
    for rows in (4_000, 40_000):
        path = tmp_path / f"{rows}.json"
        path.write_text(json.dumps([{"prompt": f"{n} " * 40, "chosen": "x" * 400} for n in range(rows)], indent=indent))
        tracemalloc.start()
        assert sum(1 for _ in records(path)) == rows
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0] < 60e6


def test_lines_of_text_keep_their_ends(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"one\r\ntwo\n\nlast \xe2\x80\xa8 line")
    assert list(text_lines(tmp_path / "a")) == ["one\r\n", "two\n", "\n", "last \u2028 line"]
