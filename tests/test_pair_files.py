"""Files of pairs: read row by row, written whole or not at all, and the same again after a round trip."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.pairs.all_formats import FORMATS
from pipeline.pairs.pair import Pair
from pipeline.pairs.read_pairs import PairFile, recognise
from pipeline.pairs.write_pairs import SUFFIXES, UnknownSuffix, write_pairs
from pipeline.record_files import Unreadable

PAIRS = [
    Pair([{"role": "user", "content": f"问题 {n}\n\"引号\", 逗号"}], f"好 {n}", "" if n % 5 == 0 else f"坏\r\n{n}", line=n,
         score_chosen=float(n + 10), score_rejected=1.5, extra={"topic": f"t{n % 3}"})
    for n in range(1, 31)
]  # fmt: skip


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_round_trip(tmp_path: Path, name: str, suffix: str) -> None:
    path = tmp_path / f"pairs{suffix}"
    report = write_pairs(PAIRS, path, name)
    assert (report.rows, report.left_out, report.dropped, report.replaced) == (30, {}, {}, 0)
    file = PairFile(path)
    found = list(file)
    assert not file.left_out
    if name == "kto":
        again = tmp_path / "again.jsonl"
        assert len(found) == 60 and write_pairs(found, again, "trl").rows == 30
        found = list(PairFile(again))
    assert found == PAIRS


def write_lines(path: Path, rows: list[Any]) -> Path:
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows) + "\n")
    return path


def test_good_rows_are_kept_and_bad_ones_named(tmp_path: Path) -> None:
    good = {"prompt": "a", "chosen": "b", "rejected": "c"}
    rows = [
        good, "{broken", 7, {"prompt": "a", "chosen": "b"}, '{"prompt": "a", "chosen": "b", "rejected": "c", "chosen": "d"}',
        {**good, "rejected": None}, {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}],
        "rejected_response": "c"}, good,
    ]  # fmt: skip
    file = PairFile(write_lines(tmp_path / "rows.jsonl", rows))
    assert [pair.line for pair in file] == [1, 7, 8]
    assert file.formats == {"trl": 2, "ms-swift": 1}
    assert [(one.line, one.reason) for one in file.left_out] == [
        (2, "not_json"), (3, "not_an_object"), (4, "side_absent"), (5, "duplicate_key"), (6, "side_absent"),
    ]  # fmt: skip


def test_recognised_by_content(tmp_path: Path) -> None:
    found = recognise(write_lines(tmp_path / "x.jsonl", [{"prompt": "a", "chosen": "b", "reject": "c"}] * 5))
    assert found is not None
    assert (found.format.name, found.columns, found.agreed, found.looked_at) == ("trl", {"reject": "rejected"}, 5, 5)
    with pytest.raises(Unreadable) as failed:
        list(PairFile(write_lines(tmp_path / "y.jsonl", [{"text": "only", "note": "x"}])))
    assert failed.value.args == ("no_known_columns", "text, note")


def test_what_was_there_stays_when_writing_fails(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text("precious\n")

    def broken() -> Any:
        yield PAIRS[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_pairs(broken(), path, "trl")
    assert path.read_text() == "precious\n" and [p.name for p in tmp_path.iterdir()] == ["pairs.jsonl"]
    with pytest.raises(UnknownSuffix):
        write_pairs(PAIRS, tmp_path / "pairs.xls", "trl")


def test_a_file_may_be_written_over_itself(tmp_path: Path) -> None:
    path = tmp_path / "pairs.json"
    write_pairs(PAIRS, path, "trl")
    assert write_pairs(PairFile(path), path, "llamafactory-sharegpt").rows == 30
    assert list(PairFile(path)) == PAIRS


def test_what_was_lost_is_said(tmp_path: Path) -> None:
    talk = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]
    mixed = [PAIRS[0], replace(PAIRS[1], prompt=talk, line=7), replace(PAIRS[2], flags=["x"], source={"chosen": "y"})]
    report = write_pairs(mixed, tmp_path / "x.jsonl", "trl")
    assert (report.rows, report.left_out, report.lines) == (2, {"prompt_of_several_turns": 1}, {"prompt_of_several_turns": [7]})
    assert report.dropped == {"source": 1, "flags": 1}


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_half_characters(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x{suffix}"
    report = write_pairs([replace(PAIRS[0], chosen="a\ud83d"), replace(PAIRS[1], chosen="😀")], path, "trl")
    found = list(PairFile(path))
    assert found[1].chosen == "😀"
    assert (found[0].chosen, report.replaced) == (("a\ud83d", 0) if suffix.startswith(".json") else ("a?", 1))


def test_columns_of_many_kinds_in_parquet(tmp_path: Path) -> None:
    values: list[Any] = [1, "two", 3.5, None, [1], {"a": 1}]
    mixed = [replace(PAIRS[n % 30], extra={"any": value, "number": n}) for n, value in enumerate(values)]
    write_pairs(mixed, tmp_path / "x.parquet", "trl")
    found = list(PairFile(tmp_path / "x.parquet"))
    assert [pair.extra["number"] for pair in found] == [0, 1, 2, 3, 4, 5]
    assert [pair.extra.get("any") for pair in found] == ["1", "two", "3.5", None, "[1]", '{"a": 1}']
