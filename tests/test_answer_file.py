"""Files of answers as their makers write them: prompts, answers, what is right; what can't be used is counted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.evaluation.answer_file import read_answers, read_prompts_file
from pipeline.evaluation.matched_answers import match
from pipeline.pairs.pair import text_of
from pipeline.refusal import Refused


def _written(folder: Path, name: str, rows: object) -> Path:
    path = folder / name
    if name.endswith(".jsonl"):
        assert isinstance(rows, list)
        path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
    else:
        path.write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    return path


MAKERS = {
    "llamafactory": [{"prompt": "2+2?", "predict": "4", "label": "four"}],
    "alpacaeval": [{"instruction": "2+2?", "output": "4", "generator": "m", "dataset": "koala", "reference": "four"}],
    "generate": [{"instruction": "2+2?", "input": "", "chosen": "four", "rejected": "4"}],
    "plain": [{"question": "2+2?", "prediction": "4", "answer": "four"}],
    "sft": [{"instruction": "2+2?", "output": "four", "model_answer": "4"}],
    "talk": [{"messages": [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}],
              "gold": "four"}],
    "harness": [{"doc_id": 0, "doc": {"question": "x"}, "target": "four", "filter": "none", "resps": [["4"]],
                 "filtered_resps": ["4"], "arguments": {"gen_args_0": {"arg_0": "2+2?", "arg_1": {}}}}],
    "chinese": [{"问题": "2+2?", "回答": "4", "标准答案": "four"}],
    "chinese spreadsheet": [{"编号": 1, "用户问题": "2+2?", "模型回答": "4", "参考回答": "four"}],
    "spreadsheet": [{"No": 1, "Question": "2+2?", "Model Answer": "4", "Reference": "four"}],
    "ms-swift": [{"response": "4", "labels": "four", "logprobs": None,
                  "messages": [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}]}],
}  # fmt: skip


@pytest.mark.parametrize("maker", MAKERS)
def test_the_answer_the_prompt_and_what_is_right(maker: str, tmp_path: Path) -> None:
    found = read_answers(_written(tmp_path, "a.json", MAKERS[maker]))
    [row] = found.rows
    assert row.pair is not None
    assert (text_of(row.pair.prompt), row.answers, row.references) == ("2+2?", ("4",), ("four",))


def test_an_object_of_answers_by_prompt(tmp_path: Path) -> None:
    found = read_answers(_written(tmp_path, "a.json", {"a b": "one", "c": "two"}))
    assert [row.answers for row in found.rows] == [("one",), ("two",)]
    assert found.with_prompts == 2


def test_a_spreadsheet_of_answers_under_a_title(tmp_path: Path) -> None:
    import openpyxl

    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    for row in (["十月汇总"], ["序号", "用户问题", "模型回答", "标准答案"], [1, "3 加 4 等于几？", 7, 7]):
        sheet.append(row)
    book.save(tmp_path / "a.xlsx")
    [row] = read_answers(tmp_path / "a.xlsx").rows
    assert row.pair is not None
    assert (text_of(row.pair.prompt), row.answers, row.references, row.line) == ("3 加 4 等于几？", ("7",), ("7",), 3)


def test_a_table_of_one_row_is_no_object_of_answers(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("fourth,column\n1,2\n", encoding="utf-8")
    with pytest.raises(Refused, match="fourth, column"):
        read_answers(tmp_path / "a.csv")


def test_several_answers_stops_and_categories(tmp_path: Path) -> None:
    rows = [
        {"prompt": "p", "responses": ["x", "y"], "finish_reason": ["stop", "length"], "task": "sum"},
        {"prompt": "q", "responses": ["z"], "finish_reason": ["stop"], "task": "list"},
    ]
    first, second = read_answers(_written(tmp_path, "a.jsonl", rows)).rows
    assert (first.answers, first.stopped, first.category) == (("x", "y"), (True, False), "sum")
    assert (second.answers, second.stopped, second.category) == (("z",), (True,), "list")


def test_rows_that_hold_no_answer_are_counted_and_named(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"prompt": "a", "response": "x"}\n{"prompt": "b"}\n{oops\n{"prompt": "c", "response": ""}\n')
    found = read_answers(path)
    assert [row.answers for row in found.rows] == [("x",), ("",)]
    assert found.left_out == {"no_answer": 1, "not_json": 1}
    assert found.lines == {"no_answer": [2], "not_json": [3]}


def test_a_file_without_answers_names_its_columns(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"prompt, words.*--column answer="):
        read_answers(_written(tmp_path, "a.jsonl", [{"prompt": "a", "words": "x"}]))
    found = read_answers(_written(tmp_path, "a.jsonl", [{"prompt": "a", "words": "x"}]), columns={"answer": "words"})
    assert found.rows[0].answers == ("x",)


def test_prompts_match_by_text_in_order_and_the_rest_is_counted(tmp_path: Path) -> None:
    before = [{"prompt": p, "response": f"b{i}"} for i, p in enumerate(["x  y", "twice", "twice", "gone"])]
    after = [{"instruction": p, "output": f"a{i}"} for i, p in enumerate(["twice", "new", "x y", "twice"])]
    found = match(*(read_answers(_written(tmp_path, n, r)) for n, r in (("b.jsonl", before), ("a.jsonl", after))))
    assert [(side.before, side.after) for side in found.sides] == [("b0", "a2"), ("b1", "a0"), ("b2", "a3")]
    assert found.counts == {"matched": 3, "only_before": 1, "only_after": 1, "twice": 2, "prompts": 2}
    assert found.names == {"before": ["gone"], "after": ["new"]}


def test_more_rows_of_a_prompt_that_both_have_are_answers_left_over(tmp_path: Path) -> None:
    before = [{"prompt": p, "response": "b"} for p in ("one", "two")]
    after = [{"prompt": p, "response": "a"} for p in ("one", "two", "two", "one", "one", "new")]
    files = [read_answers(_written(tmp_path, n, r)) for n, r in (("b.jsonl", before), ("a.jsonl", after))]
    for pair, alone in ((files, (0, 1)), (files[::-1], (1, 0))):
        counts = match(*pair).counts
        assert (counts["matched"], counts["only_before"], counts["only_after"]) == (2, *alone)
        assert (counts["twice"], counts["samples_left"]) == (3, 3)


def test_without_prompts_by_position_only_where_the_counts_agree(tmp_path: Path) -> None:
    b, a = (read_answers(_written(tmp_path, n, r)) for n, r in (("b.json", ["1", "2"]), ("a.json", ["3", "4"])))
    asked = _written(tmp_path, "p.json", [{"prompt": "p", "output": "1"}, {"prompt": "q"}])
    found = match(b, a, read_prompts_file(asked))
    assert found.by == "position"
    assert [text_of(side.pair.prompt) for side in found.sides if side.pair is not None] == ["p", "q"]
    assert [side.references for side in found.sides] == [("1",), ()]
    with pytest.raises(Refused, match=r"2 before, 3 after"):
        match(b, read_answers(_written(tmp_path, "c.json", ["1", "2", "3"])))


def _batch(n: int, said: str | None) -> dict[str, object]:
    message = {"index": 0, "message": {"role": "assistant", "content": said}, "finish_reason": "length"}
    body = {"object": "chat.completion", "choices": [message], "usage": {"total_tokens": 20}}
    return {"id": f"vllm-{said}", "custom_id": f"request-{n}", "error": None,
            "response": {"status_code": 200, "body": body} if said is not None else None}  # fmt: skip


def test_batch_files_stand_together_by_their_ids_in_whatever_order(tmp_path: Path) -> None:
    before = _written(tmp_path, "b.jsonl", [_batch(n, f"b{n}") for n in (0, 1, 2)])
    after = _written(tmp_path, "a.jsonl", [_batch(n, f"a{n}") for n in (2, 0, 1)])
    asked = [{"custom_id": f"request-{n}", "method": "POST", "body": {"messages": [{"role": "user", "content": f"p{n}"}]}}
             for n in (1, 0, 2)]  # fmt: skip
    prompts = read_prompts_file(_written(tmp_path, "p.jsonl", asked))
    found = match(read_answers(before), read_answers(after), prompts)
    assert found.by == "id" and found.as_json()["matched_by"] == "id"
    assert [(side.before, side.after, side.stopped_after) for side in found.sides] == [(f"b{n}", f"a{n}", False) for n in range(3)]
    assert [text_of(side.pair.prompt) for side in found.sides if side.pair is not None] == ["p0", "p1", "p2"]
    failed = read_answers(_written(tmp_path, "f.jsonl", [_batch(0, "x"), _batch(1, None)]))
    assert [row.id for row in failed.rows] == ["request-0"] and failed.left_out == {"no_answer": 1}


def test_rows_without_prompts_go_by_their_ids_not_their_place(tmp_path: Path) -> None:
    rows = [{"id": f"q{n}", "response": str(n)} for n in range(3)]
    b, a = (read_answers(_written(tmp_path, n, r)) for n, r in (("b.json", rows), ("a.json", [*rows[::-1], {"id": "x", "response": ""}])))
    found = match(b, a)
    assert all(side.before == side.after for side in found.sides)
    assert found.counts == {"matched": 3, "only_before": 0, "only_after": 1, "twice": 0} and found.names == {"after": ["x"]}
    same = read_answers(_written(tmp_path, "c.json", [{"id": "q", "response": str(n)} for n in range(3)]))
    assert match(same, same).by == "position"


def test_rows_that_are_only_numbered_go_by_their_place(tmp_path: Path) -> None:
    def numbered(name: str, first: int, n: int = 3) -> Path:
        return _written(tmp_path, name, [{"id": first + i, "response": f"{name}{i}"} for i in range(n)])

    b, a = read_answers(numbered("b.json", 0)), read_answers(numbered("a.json", 1))
    asked = _written(tmp_path, "p.json", [{"id": i, "prompt": f"p{i}"} for i in (3, 1, 2)])  # numbered as the second file is
    found = match(b, a, read_prompts_file(asked))
    assert [(side.before[-1], side.after[-1]) for side in found.sides] == [("0", "0"), ("1", "1"), ("2", "2")]
    assert [text_of(side.pair.prompt) for side in found.sides if side.pair is not None] == ["p1", "p2", "p3"]
    assert found.by == "position" and found.as_json()["numbered_from"] == [0, 1]
    for other in (numbered("c.json", 1, 2), numbered("d.json", 2),  # fewer rows, or a part of more: those are ids
                  _written(tmp_path, "e.json", [{"id": i, "response": str(i)} for i in (2, 1, 3)])):  # fmt: skip
        found = match(read_answers(tmp_path / "b.json"), read_answers(other))
        assert found.by == "id" and "numbered_from" not in found.as_json()


def test_the_first_turn_of_mt_bench(tmp_path: Path) -> None:
    said = [{"question_id": n, "model_id": "m", "choices": [{"index": 0, "turns": [f"a{n}", "later"]}]} for n in (81, 82)]
    asked = [{"question_id": n, "category": "math", "turns": [f"p{n}", "again"], "reference": [f"r{n}", ""]} for n in (82, 81)]
    b, a = (read_answers(_written(tmp_path, name, rows)) for name, rows in (("b.jsonl", said), ("a.jsonl", said[::-1])))
    assert b.left_out == {"later_turns": 2}
    found = match(b, a, read_prompts_file(_written(tmp_path, "q.jsonl", asked)))
    assert [(side.before, side.after, side.references) for side in found.sides] == [("a81", "a81", ("r81",)), ("a82", "a82", ("r82",))]


def test_nothing_in_common_is_refused(tmp_path: Path) -> None:
    b, a = (read_answers(_written(tmp_path, f"{n}.json", [{"prompt": n, "response": "x"}])) for n in "ba")
    with pytest.raises(Refused, match="not one prompt in common"):
        match(b, a)
