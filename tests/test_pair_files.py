"""Files of pairs: read row by row, written whole or not at all, and the same again after a round trip."""

from __future__ import annotations

import json
import random
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.pairs.all_formats import FORMATS, SUPERVISED, columns_given
from pipeline.pairs.pair import Pair
from pipeline.pairs.read_pairs import PairFile, recognise
from pipeline.pairs.write_pairs import SUFFIXES, UnknownSuffix, WriteReport, together, write_pairs
from pipeline.record_files import Unreadable
from pipeline.refusal import Refused

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
    assert file.kind == FORMATS[name].kind
    found = list(file)
    assert not file.left_out
    if file.kind == "one-sided":
        again = tmp_path / "again.jsonl"
        assert len(found) == 60 and write_pairs(found, again, "trl").rows == 30
        found = list(PairFile(again))
    assert found == PAIRS


@pytest.mark.parametrize("name", SUPERVISED)
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_round_trip_of_answers_to_learn(tmp_path: Path, name: str, suffix: str) -> None:
    path = tmp_path / f"rows{suffix}"
    report = write_pairs(PAIRS, path, name)
    assert (report.rows, report.left_out, report.dropped, report.replaced) == (30, {}, {"rejected": 30}, 0)
    file = PairFile(path)
    assert file.kind == "supervised" and file.format is SUPERVISED[name]
    again = tmp_path / f"again{suffix}"
    assert write_pairs(file, again, name).dropped == {}
    found = list(PairFile(again))
    assert [pair.line for pair in file] == [pair.line for pair in PairFile(path)]
    assert found == [replace(pair, rejected=None) for pair in PAIRS]


@pytest.mark.parametrize(
    ("rows", "kind", "read", "left_out"),
    [
        (
            [{"prompt": "a", "chosen": "b", "rejected": "c"}] * 3 + [{"instruction": "a", "output": "b"}, {"prompt": "a", "chosen": "b"}],
            "pairs", 3, {"supervised_row": 1, "side_absent": 1},
        ),
        (
            [{"instruction": "a", "output": "b"}] * 3 + [{"prompt": "a", "chosen": "b", "rejected": "c"}, {"query": "a", "response": "b"}],
            "supervised", 4, {"preference_row": 1},
        ),
        (
            [{"prompt": "a", "completion": "b", "label": True}] * 3 + [{"prompt": "a", "completion": "b"}, {"prompt": "a", "chosen": "b", "rejected": "c"}],
            "one-sided", 4, {"label_absent": 1},
        ),
    ],
)  # fmt: skip
def test_files_of_mixed_kinds(tmp_path: Path, rows: list[Any], kind: str, read: int, left_out: dict[str, int]) -> None:
    file = PairFile(write_lines(tmp_path / "rows.jsonl", rows))
    assert file.kind == kind
    assert (len(list(file)), file.reasons) == (read, left_out)


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


def test_columns_given_are_used_before_others(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text(
        "uid,instruction,more,w,l,sys,points,minus,id\n"
        "7,Sum up,the text,good,bad,be brief,4.5,1,x\n"
        "8,Go,,good,bad,,3,2,y\n"
    )  # fmt: skip
    words = ["id=uid", "input=more", "chosen=w", "rejected=l", "system=sys", "score_chosen=points", "score_rejected=minus"]
    file = PairFile(path, columns=columns_given([*words, "history=earlier"]))
    first, second = file
    assert first == Pair([{"role": "user", "content": "Sum up\nthe text"}], "good", "bad", "be brief", "7", 4.5, 1.0,
                         extra={"id_2": "x", "input": "the text"})  # fmt: skip
    assert (second.prompt[0]["content"], second.system, second.score_chosen, second.id) == ("Go", None, 3.0, "8")
    assert file.absent == {"earlier"} and file.formats == {"llamafactory-alpaca": 2}


def test_a_table_with_mark_and_line_ends_in_its_cells(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(
        '\ufeffprompt,chosen,rejected\r\n"a\r\nb","""q"", 好\n",c\r\nd,e,f,g\r\n"h\n\ni",j,k\r\n'.encode()
    )
    file = PairFile(path)
    found = list(file)
    assert [(p.prompt[0]["content"], p.chosen, p.rejected, p.line) for p in found] == [
        ("a\r\nb", '"q", 好\n', "c", 2), ("h\n\ni", "j", "k", 6),
    ]  # fmt: skip
    assert [(one.line, one.reason) for one in file.left_out] == [(5, "too_many_cells")]


@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
def test_one_huge_value_costs_nothing_but_its_room(tmp_path: Path, suffix: str) -> None:
    good, huge = {"prompt": "a", "chosen": "b", "rejected": "c"}, 50_000_000
    rows = [json.dumps(row) for row in (good, {**good, "chosen": "x" * huge}, {"prompt": ["x" * huge]}, good)]
    path = tmp_path / f"rows{suffix}"
    path.write_text("\n".join(rows) if suffix == ".jsonl" else f"[{','.join(rows)}]")
    del rows
    file = PairFile(path)
    tracemalloc.start()
    lengths = [len(pair.chosen or "") for pair in file]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert lengths == [1, huge, 1] and file.left_out[0].reason == "prompt_is_no_text"
    assert peak < 8 * huge


def test_a_thousand_columns(tmp_path: Path) -> None:
    wide = {f"column {n}": n for n in range(1000)}
    rows = [{**wide, "prompt": f"a{n}", "chosen": "b", "rejected": "c"} if n % 10 else wide for n in range(100)]
    file = PairFile(write_lines(tmp_path / "rows.jsonl", rows))
    found = list(file)
    assert len(found) == 90 and found[0].extra == wide and file.reasons == {"prompt_absent": 10}
    assert write_pairs(found, tmp_path / "rows.parquet", "kto").rows == 90
    assert list(PairFile(tmp_path / "rows.parquet", format="kto"))[0].extra == wide


def test_what_is_no_text_is_no_answer(tmp_path: Path) -> None:
    good = {"prompt": "a", "chosen": "b", "rejected": "c"}
    rows = [good, {**good, "chosen": [1]}, {**good, "chosen": {"a": 1}}, {**good, "chosen": True}, {**good, "rejected": 7},
            [good], '"text"', None, {**good, "prompt": 7}, '{"prompt": "a", "chosen": NaN, "rejected": "c"}']  # fmt: skip
    file = PairFile(write_lines(tmp_path / "rows.jsonl", rows))
    assert [(pair.line, pair.rejected) for pair in file] == [(1, "c"), (5, "7")]
    assert [(one.line, one.reason) for one in file.left_out] == [
        (2, "side_is_no_answer"), (3, "side_is_no_answer"), (4, "side_is_no_answer"), (6, "not_an_object"),
        (7, "not_an_object"), (8, "not_an_object"), (9, "prompt_is_no_text"), (10, "side_absent"),
    ]  # fmt: skip


@pytest.mark.parametrize(("content", "problem"), [("[]", "empty"), ("[1, 2]", "no_known_columns"), ("", "empty")])
def test_files_without_a_row(tmp_path: Path, content: str, problem: str) -> None:
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(Unreadable) as failed:
        list(PairFile(tmp_path / "x.json"))
    assert failed.value.args[0] == problem


def test_a_file_can_be_read_again(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    write_pairs(PAIRS, path, "hh")
    file = PairFile(path)
    assert next(iter(file)) == PAIRS[0] and file.kind == "pairs"
    assert list(PairFile(path)) == PAIRS


def test_recognised_by_content(tmp_path: Path) -> None:
    found = recognise(write_lines(tmp_path / "x.jsonl", [{"prompt": "a", "chosen": "b", "reject": "c"}] * 5))
    assert found is not None
    assert (found.format.name, found.columns, found.agreed, found.looked_at) == ("trl", {"reject": "rejected"}, 5, 5)
    assert found.reason.said("zh") == "TRL：prompt、chosen、rejected 都是文本（列名：reject = rejected）"
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


def test_the_last_word_before_a_file_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "pairs.json"
    path.write_text("precious")
    seen: list[WriteReport] = []

    def refuse(report: WriteReport) -> None:
        seen.append(report)
        assert path.read_text() == "precious"
        raise ValueError

    with pytest.raises(ValueError):
        write_pairs(PAIRS, path, "trl", before_replacing=refuse)
    assert path.read_text() == "precious" and seen[0].rows == 30
    assert list(seen[0].columns) == ["prompt", "chosen", "rejected", "score_chosen", "score_rejected", "topic"]


def test_sides_that_stand_apart_find_each_other(tmp_path: Path) -> None:
    halves = [replace(p, rejected=None) for p in PAIRS] + [replace(p, chosen=None) for p in PAIRS]
    alone = replace(PAIRS[0], prompt=[{"role": "user", "content": "alone"}], chosen=None, line=99)
    random.Random(5).shuffle(halves)
    found = list(together([*halves, alone, PAIRS[3]]))
    assert sorted(p.line for p in found[:30]) == list(range(1, 31)) and all(p.paired for p in found[:31])
    assert found[30] == PAIRS[3] and found[31:] == [alone]
    assert sorted(map(str, found[:30])) == sorted(map(str, PAIRS))


def test_waiting_sides_take_no_room(tmp_path: Path) -> None:
    def halves() -> Iterator[Pair]:
        for wanted in (True, False):
            for n in range(2000):
                prompt = [{"role": "user", "content": f"{n}{'x' * 5000}"}]
                yield Pair(prompt, "y" * 5000, None) if wanted else Pair(prompt, None, "z" * 5000)

    tracemalloc.start()
    assert sum(pair.paired for pair in together(halves())) == 2000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4_000_000  # of 20 MB


def nested(levels: int) -> Any:
    found: Any = "x"
    for _ in range(levels):
        found = [found]
    return found


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_values_nested_deeply(tmp_path: Path, suffix: str) -> None:
    asked = [{"role": "user", "content": nested(900)}]
    pairs = [PAIRS[0], replace(PAIRS[1], extra={"deep": nested(25)}), Pair(asked, "b", None), PAIRS[3]]
    report = write_pairs([*pairs, replace(PAIRS[4], extra={"deeper": nested(150)})], tmp_path / f"x{suffix}", "trl")
    assert (report.rows, report.left_out) == (4, {"one_side_only": 1})
    assert report.as_text == ([] if suffix == ".csv" else ["deeper"])
    found = list(PairFile(tmp_path / f"x{suffix}"))
    assert [pair.chosen for pair in found] == ["好 1", "好 2", "好 4", "好 5"]
    if suffix != ".csv":
        assert found[1].extra["deep"] == nested(25)


@pytest.mark.parametrize("levels", [250, 920, 985, 1000, 100_000])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_value_nested_too_deeply_costs_its_row_alone(tmp_path: Path, suffix: str, levels: int) -> None:
    report = write_pairs([PAIRS[0], replace(PAIRS[1], extra={"x": nested(levels)})], tmp_path / f"x{suffix}", "kto")
    assert (report.rows, report.left_out) == (1, {"nested_too_deeply": 1})
    assert [pair.chosen for pair in PairFile(tmp_path / f"x{suffix}")] == ["好 1", None]


def test_a_table_has_not_too_many_columns(tmp_path: Path) -> None:
    pairs = [replace(PAIRS[0], extra={f"{n} {m}": 1 for m in range(1000)}) for n in range(11)]
    for suffix in (".csv", ".parquet"):
        (tmp_path / f"x{suffix}").write_text("precious")
        with pytest.raises(Refused, match="more than 10,000 different columns"):
            write_pairs(pairs, tmp_path / f"x{suffix}", "trl")
        assert (tmp_path / f"x{suffix}").read_text() == "precious"
    assert write_pairs(pairs, tmp_path / "x.jsonl", "trl").rows == 11


def test_a_link_stays_one_and_a_file_as_readable_as_it_was(tmp_path: Path) -> None:
    path, link = tmp_path / "there" / "pairs.jsonl", tmp_path / "link.jsonl"
    path.parent.mkdir()
    link.symlink_to(path)
    write_pairs(PAIRS, link, "trl")
    assert link.is_symlink() and list(PairFile(path)) == PAIRS
    path.chmod(0o600)
    write_pairs(PAIRS[:3], link, "trl")
    assert link.is_symlink() and path.stat().st_mode & 0o777 == 0o600 and len(list(PairFile(path))) == 3
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == [p.name for p in path.parent.iterdir() if p.name.startswith(".")] == []


def test_what_was_lost_is_said(tmp_path: Path) -> None:
    talk = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]
    edited = replace(PAIRS[2], flags=["x"], source={"chosen": "y"}, status="edited")
    mixed = [PAIRS[0], replace(PAIRS[1], prompt=talk, line=7), edited]
    report = write_pairs(mixed, tmp_path / "x.jsonl", "trl")
    assert (report.rows, report.left_out, report.lines) == (2, {"prompt_of_several_turns": 1}, {"prompt_of_several_turns": [7]})
    assert report.origins == {"prompt_of_several_turns": [""]}
    assert report.dropped == {"source": 1, "flags": 1, "status": 1}


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
