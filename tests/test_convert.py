"""`python -m pipeline convert` as a user meets it: the file, the account, the exit status, one line for what can't be
done."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from pipeline.__main__ import main
from pipeline.pairs.all_formats import EVERY_FORMAT
from pipeline.pairs.read_pairs import PairFile

ROOT = Path(__file__).resolve().parent.parent
GOOD = {"prompt": "a", "chosen": "b", "rejected": "c"}
PKU = {"prompt": "q", "response_0": "x", "response_1": "y", "better_response_id": 0, "safer_response_id": 1}


def lines(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row, ensure_ascii=False)) + "\n" for row in rows))
    return path


def account(capsys: pytest.CaptureFixture[str], *argv: object, status: int = 0) -> dict[str, Any]:
    """The one JSON document on standard output."""
    assert main(["convert", *map(str, argv), "--format", "json"]) == status
    told = capsys.readouterr()
    assert (told.err == "") == (status == 0)
    return json.loads(told.out)


def refused(capsys: pytest.CaptureFixture[str], *argv: object) -> str:
    """The one line on standard error."""
    assert main(["convert", *map(str, argv)]) == 2
    told = capsys.readouterr()
    assert told.out == "" and told.err.startswith("pipeline: ") and told.err.count("\n") == 1
    return told.err


@pytest.mark.parametrize("argv", [["--help"], ["convert", "--help"], ["demo", "--help"]], ids=" ".join)
def test_help_shows_a_runnable_example(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 0
    assert "python -m pipeline" in capsys.readouterr().out.split("example")[-1]


def test_the_account_names_every_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    talk = {"prompt": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}],
            "chosen": [{"role": "assistant", "content": "d"}], "rejected": [{"role": "assistant", "content": "e"}]}  # fmt: skip
    rows = [{**GOOD, "topic": "t"}, "{broken", talk, 7, {"prompt": "a", "chosen": "b"}, {"instruction": "a", "output": "b"},
            {**GOOD, "chosen": "half \ud83d"}, GOOD]  # fmt: skip
    path = tmp_path / "in.jsonl"
    path.write_bytes(b"\n".join(json.dumps(row).encode() if not isinstance(row, str) else row.encode() for row in rows))
    told = account(capsys, path, "--to", "trl", "--output", tmp_path / "out.csv")
    [source] = told["sources"]
    assert (source["rows"], source["kind"], source["format"]) == (4, "pairs", "trl")
    assert source["reason"] == "TRL: prompt, chosen and rejected are text"
    assert source["formats"] == {"trl": 3, "trl-conversational": 1} and source["recognised"]["agreed"] == 3
    assert {(one["reason"], one["where"][0]["line"]) for one in source["left_out"]} == {
        ("not_json", 2), ("not_an_object", 4), ("side_absent", 5), ("supervised_row", 6),
    }  # fmt: skip
    assert told["left_out"] == [
        {"reason": "prompt_of_several_turns", "rows": 1, "why": "the format holds prompts of one question only",
         "where": [{"source": str(path), "line": 3}]}
    ]  # fmt: skip
    assert told["output"] == {
        "path": str(tmp_path / "out.csv"), "format": "trl", "rows": 3, "columns": ["prompt", "chosen", "rejected", "topic"],
    }  # fmt: skip
    assert (told["replaced"], told["dropped"], told["dataset_info"]) == (1, {}, None)
    assert [pair.line for pair in PairFile(tmp_path / "out.csv")] == [2, 3, 4]


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_the_account_in_words(tmp_path: Path, capsys: pytest.CaptureFixture[str], lang: str) -> None:
    path = lines(tmp_path / "in.jsonl", [{"prompt": "a", "win": "b", "lose": "c"}, *["{x"] * 3, {**GOOD, "chosen": None}])
    assert main(["convert", str(path), "--to", "hh", "--output", str(tmp_path / "out.json"), "--lang", lang]) == 0
    told = capsys.readouterr().out
    assert "win = chosen, lose = rejected" in told and "not_json" not in told and "{" not in told
    said = {
        "en": ["rows read as trl: 1.", "rows left out: 3, not JSON (line 2: Expecting", "; line 3; line 4)", "written as hh: 1"],
        "zh": ["按 trl 读取 1 行", "略去 3 行：不是 JSON（第 2 行：", "; 第 3 行; 第 4 行）", "out.json：按 hh 写出 1 行"],
    }[lang]
    assert all(part in told for part in said), told


@pytest.mark.parametrize("to", EVERY_FORMAT)
def test_every_format_can_be_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str], to: str) -> None:
    rows = [{**GOOD, "prompt": f"q{n}", "score_chosen": 2, "score_rejected": 1} for n in range(5)]
    first = tmp_path / "out.parquet"
    assert account(capsys, lines(tmp_path / "in.jsonl", rows), "--to", to, "--output", first)["output"]["rows"] == 5
    told = account(capsys, first, "--from", to, "--to", "prompt-completion", "--output", tmp_path / "again.jsonl")
    written = [json.loads(line) for line in (tmp_path / "again.jsonl").read_text().splitlines()]
    assert [(row["prompt"], row["completion"]) for row in written] == [(f"q{n}", "b") for n in range(5)]
    assert told["sources"][0]["reason"] == "as asked for, not looked at"


def test_own_columns_in_and_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "in.csv"
    path.write_text("q,good,bad,nr\n你好,b,c,7\n")
    told = account(
        capsys, path, "--column", "prompt=q", "--column", "chosen=good", "--column=rejected=bad", "--column", "id=nr",
        "--column", "score_chosen=points", "--to", "prompt=问,chosen=好,rejected=坏", "--output", tmp_path / "out.json",
    )  # fmt: skip
    assert json.loads((tmp_path / "out.json").read_text()) == [{"问": "你好", "好": "b", "坏": "c", "id": "7"}]
    assert told["sources"][0]["absent_columns"] == ["points"]
    said = refused(capsys, path, "--to", "trl", "--output", tmp_path / "x.json")
    assert "(q, good, bad, nr)" in said and "--column prompt=question" in said


def test_the_axis_of_pku_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = lines(tmp_path / "in.jsonl", [{**PKU, "safer_response_id": 0}, PKU, PKU])
    out = tmp_path / "out.jsonl"
    out.write_text("precious\n")
    said = refused(capsys, path, "--to", "trl", "--output", out)
    assert f"{path} line 2: " in said and "--axis better or --axis safer" in said and out.read_text() == "precious\n"
    for axis, chosen in (("better", "x"), ("safer", "y")):
        account(capsys, path, "--to", "trl", "--output", out, "--axis", axis)
        assert [json.loads(line)["chosen"] for line in out.read_text().splitlines()] == ["x", chosen, chosen]
    agreeing = lines(tmp_path / "agree.jsonl", [{**PKU, "safer_response_id": 0}])
    assert account(capsys, agreeing, "--to", "trl", "--output", out)["output"]["rows"] == 1


def test_answers_to_learn_make_no_pairs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = lines(tmp_path / "in.jsonl", [{"instruction": "a", "output": "b"}] * 2)
    assert "One answer fits into alpaca, messages" in refused(capsys, path, "--to", "trl", "--output", tmp_path / "x.json")
    told = account(capsys, path, "--to", "messages", "--output", tmp_path / "out.json")
    assert (told["sources"][0]["kind"], told["output"]["rows"]) == ("supervised", 2)
    told = account(capsys, lines(tmp_path / "pairs.jsonl", [GOOD]), "--to", "alpaca", "--output", tmp_path / "sft.json")
    assert told["dropped"] == {"rejected": 1}
    assert json.loads((tmp_path / "sft.json").read_text()) == [{"instruction": "a", "input": "", "output": "b"}]


def test_nothing_written_leaves_what_was_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.json"
    out.write_text("precious")
    path = lines(tmp_path / "in.jsonl", [{"prompt": "a", "completion": "b", "label": True}] * 3)
    told = account(capsys, path, "--to", "trl", "--output", out, status=2)
    assert told["left_out"][0]["rows"] == 3 and told["output"]["rows"] == 0 and out.read_text() == "precious"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.jsonl", "out.json"]


def test_a_file_is_only_written_over_itself_when_nothing_is_lost(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = lines(tmp_path / "in.jsonl", [GOOD, {**GOOD, "topic": 1}])
    (tmp_path / "link.jsonl").symlink_to(path)
    account(capsys, tmp_path / "link.jsonl", "--to", "llamafactory-alpaca", "--output", path)
    assert json.loads(path.read_text().splitlines()[1]) == {
        "instruction": "a", "input": "", "chosen": "b", "rejected": "c", "topic": 1,
    }  # fmt: skip
    for rows, more in (([GOOD, "{x"], ("--to", "trl")), ([GOOD], ("--to", "alpaca"))):
        before = lines(path, rows).read_bytes()
        assert "would be lost; name another file" in refused(capsys, path, "--output", path, *more)
        assert path.read_bytes() == before
    os.link(path, tmp_path / "other name.jsonl")
    refused(capsys, tmp_path / "other name.jsonl", "--to", "alpaca", "--output", path)


def test_several_files_one_after_the_other_or_mixed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = lines(tmp_path / "one.jsonl", [{**GOOD, "prompt": f"one {n}"} for n in range(30)])
    two = lines(tmp_path / "two.jsonl", [{"instruction": f"two {n}", "chosen": "b", "rejected": "c"} for n in range(10)])

    def prompts(*argv: object) -> tuple[list[str], dict[str, Any]]:
        out = tmp_path / "out.jsonl"
        told = account(capsys, one, two, "--to", "trl", "--output", out, *argv)
        return [json.loads(line)["prompt"] for line in out.read_text().splitlines()], told

    plain, told = prompts()
    assert plain == [f"one {n}" for n in range(30)] + [f"two {n}" for n in range(10)]
    assert [source["format"] for source in told["sources"]] == ["trl", "llamafactory-alpaca"]
    weights = ("--weight", 3, "--weight", 1)
    mixed, told = prompts(*weights, "--seed", 7)
    assert mixed == prompts(*weights, "--seed", 7)[0] != prompts(*weights, "--seed", 8)[0]
    taken = [source["taken"]["rows"] for source in told["sources"]]
    assert taken == [sum(p.startswith(name) for p in mixed) for name in ("one", "two")] and (30 in taken or 10 in taken)
    every, told = prompts(*weights, "--strategy", "all_exhausted")
    assert set(every) == set(plain) and sum(source["taken"]["rows"] for source in told["sources"]) == len(every)
    assert {source["rows"] for source in told["sources"]} == {30, 10}
    once, _ = prompts(*weights, "--strategy", "all_exhausted_without_replacement")
    assert sorted(once) == sorted(plain) and once != plain


def test_rows_that_do_not_fit_are_named_with_their_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    marked = {**GOOD, "chosen": "x\n\nHuman: y"}
    one, two = lines(tmp_path / "one.jsonl", [GOOD, marked]), lines(tmp_path / "two.jsonl", [marked, GOOD])
    told = account(capsys, one, two, "--to", "hh", "--output", tmp_path / "out.jsonl")
    assert told["left_out"][0]["where"] == [{"source": str(one), "line": 2}, {"source": str(two), "line": 1}]


def test_dataset_info_is_extended(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, info = lines(tmp_path / "in.jsonl", [GOOD]), tmp_path / "data" / "dataset_info.json"
    info.parent.mkdir()
    to = ("--to", "llamafactory-alpaca", "--output", tmp_path / "data" / "mine.json", "--dataset-info", info)
    assert account(capsys, path, *to)["dataset_info"] == {"path": str(info), "entries": ["mine", "mine_sft"]}
    entries = json.loads(info.read_text())
    assert entries["mine"]["ranking"] is True and entries["mine"]["file_name"] == "mine.json"
    account(capsys, path, *to)
    assert json.loads(info.read_text()) == entries
    told = account(capsys, f"{info}:mine_sft", "--to", "messages", "--output", tmp_path / "sft.jsonl")
    assert (told["sources"][0]["kind"], told["output"]["rows"]) == ("supervised", 1)
    other = lines(tmp_path / "other.jsonl", [{**GOOD, "system": "s"}])
    said = refused(capsys, other, *to)
    assert "--replace-entry" in said and len(list(PairFile(tmp_path / "data" / "mine.json"))) == 1
    assert list(PairFile(tmp_path / "data" / "mine.json"))[0].system is None
    account(capsys, other, *to, "--replace-entry")
    assert json.loads(info.read_text())["mine"]["columns"]["system"] == "system"
    assert "it has mine, mine_sft" in refused(capsys, info, "--to", "trl", "--output", tmp_path / "x.json")


def test_a_broken_dataset_info_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    info = tmp_path / "dataset_info.json"
    info.write_text('{"a": {"file_name": "x.json"},')
    path = lines(tmp_path / "in.jsonl", [GOOD])
    refused(capsys, path, "--to", "alpaca", "--output", tmp_path / "out.json", "--dataset-info", info)
    assert info.read_text() == '{"a": {"file_name": "x.json"},' and not (tmp_path / "out.json").exists()


WRONG: dict[str, tuple[str, ...]] = {
    "nearest: trl,": ("{in}", "--to", "tlr", "--output", "{dir}/x.json"),
    "nearest: llamafactory-sharegpt": ("{in}", "--from", "sharegpt", "--to", "trl", "--output", "{dir}/x.json"),
    "has to end in .json": ("{in}", "--to", "trl", "--output", "{dir}/x.xlsx"),
    "the folder {dir}/no does not exist": ("{in}", "--to", "trl", "--output", "{dir}/no/x.json"),
    "a folder; name a file": ("{in}", "--to", "trl", "--output", "{dir}/folder.json"),
    "no such file. A data set of the Hub": ("{dir}/absent.jsonl", "--to", "trl", "--output", "{dir}/x.json"),
    "a folder; name the file in it": ("{dir}", "--to", "trl", "--output", "{dir}/x.json"),
    "missing: --to": ("{in}", "--output", "{dir}/x.json"),
    "missing: FILE": ("--to", "trl", "--output", "{dir}/x.json"),
    "choose from better, safer": ("{in}", "--to", "trl", "--output", "{dir}/x.json", "--axis", "worse"),
    "as in prompt=question": ("{in}", "--to", "trl", "--output", "{dir}/x.json", "--column", "prompt"),
    "nearest to promt: prompt": ("{in}", "--to", "trl", "--output", "{dir}/x.json", "--column", "promt=q"),
    "2 given for 1 files": ("{in}", "--to", "trl", "--output", "{dir}/x.json", "--weight", "1", "--weight", "2"),
    "above 0 is needed": ("{in}", "--to", "trl", "--output", "{dir}/x.json", "--weight", "nan"),
    "give --weight for each": ("{in}", "--to", "trl", "--output", "{dir}/x.json", "--seed", "3"),
    "--seed x": ("{in}", "--to", "trl", "--output", "{dir}/x.json", "--seed", "x", "--weight", "1"),
    "belong to --dataset-info": ("{in}", "--to", "trl", "--output", "{dir}/x.json", "--name", "x"),
    "has no entry": ("{in}", "--to", "trl", "--output", "{dir}/x.json", "--dataset-info", "{dir}/d.json"),
    "there is no row with columns in it": ("{dir}/empty.json", "--to", "trl", "--output", "{dir}/x.json"),
    "not JSON": ("{dir}/text.json", "--to", "trl", "--output", "{dir}/x.json"),
    "Git LFS pointer": ("{dir}/lfs.json", "--to", "trl", "--output", "{dir}/x.json"),
    "not a text file": ("{dir}/binary.json", "--to", "trl", "--output", "{dir}/x.json"),
}


@pytest.mark.parametrize("said", WRONG)
def test_what_can_not_be_done_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], said: str) -> None:
    places = {"in": str(lines(tmp_path / "in.jsonl", [GOOD])), "dir": str(tmp_path)}
    (tmp_path / "folder.json").mkdir()
    (tmp_path / "empty.json").write_bytes(b"")
    (tmp_path / "text.json").write_text("just words\n" * 9)
    (tmp_path / "lfs.json").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    (tmp_path / "binary.json").write_bytes(bytes(range(256)) * 9)
    before = sorted(tmp_path.iterdir())
    argv = [word.replace("{in}", places["in"]).replace("{dir}", places["dir"]) for word in WRONG[said]]
    assert said.replace("{dir}", places["dir"]) in refused(capsys, *argv)
    assert sorted(tmp_path.iterdir()) == before
    assert re.search("[\u4e00-\u9fff]", refused(capsys, *argv, "--lang", "zh"))


def test_a_full_pipe_and_a_closed_output(tmp_path: Path) -> None:
    path = lines(tmp_path / "in.jsonl", [GOOD])
    command = [sys.executable, "-m", "pipeline", "convert", str(path), "--to", "trl", "--output", str(tmp_path / "x.json")]
    done = subprocess.run(["bash", "-c", '"$@" >/dev/full', "x", *command], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "Traceback" not in done.stderr
    assert len(list(PairFile(tmp_path / "x.json"))) == 1


def test_no_standard_output_costs_the_account_alone(tmp_path: Path) -> None:
    path, out = lines(tmp_path / "in.jsonl", [GOOD]), tmp_path / "x.json"
    command = [sys.executable, "-m", "pipeline", "convert", str(path), "--to", "trl", "--output", str(out)]
    done = subprocess.run(["bash", "-c", '"$@" >&-', "x", *command], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1) and f"{out} is written" in done.stderr
    assert len(list(PairFile(out))) == 1


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "gbk", "utf-8"])
def test_the_document_is_json_in_any_encoding(tmp_path: Path, encoding: str) -> None:
    path = lines(tmp_path / "é 你好 😀.jsonl", [GOOD])
    command = [sys.executable, "-m", "pipeline", "convert", path, "--to", "trl", "--output", tmp_path / "x.json",
               "--format", "json", "--lang", "zh"]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=60, env={**os.environ, "PYTHONIOENCODING": encoding})
    told = json.loads(done.stdout.decode(encoding))
    assert told["sources"][0]["name"] == str(path) and told["sources"][0]["reason"].endswith("都是文本")


@pytest.mark.parametrize(
    ("content", "to", "reason"),
    [
        ("just words\n" * 9, "trl", "data_unusable"), ("[]", "trl", "data_unusable"), ("null", "trl", "data_unusable"),
        (json.dumps([{"instruction": "a", "output": "b"}]), "trl", "sides_missing"),
        (json.dumps([{**GOOD, "chosen": 3}]), "trl", "data_unusable"),
        (json.dumps([PKU]), "trl", "axis_needed"), (json.dumps([{"prompt": "a", "completion": "b", "label": True}]), "trl", "nothing_written"),
        (json.dumps([{**GOOD, **{f"{n}": n for n in range(10_000)}}]), "trl", "too_many_columns"),
    ],
)  # fmt: skip
def test_what_fails_is_a_document_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, to: str, reason: str
) -> None:
    (tmp_path / "in.json").write_text(content)
    out = tmp_path / "out.csv"
    told = account(capsys, tmp_path / "in.json", "--to", to, "--output", out, status=2)
    assert told["error"]["reason"] == reason and told["error"]["line"] and told["output"]["rows"] == 0 and not out.exists()
    lines(tmp_path / "good.jsonl", [GOOD])
    assert account(capsys, tmp_path / "good.jsonl", "--to", to, "--output", out)["error"] is None


def test_the_account_tells_what_became_of_rows_that_differ(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{**GOOD, "x": 1}, {**GOOD, "x": "y", "system": "s"}]
    path = lines(tmp_path / "in.jsonl", rows)
    argv = ("convert", str(path), "--to", "kto", "--output", str(tmp_path / "out.jsonl"))
    for lang, parts in (("en", ["can't hold: 1; so all", "too deep: x"]), ("zh", ["有 1 行无法写成纯文本", "文本：x"])):
        assert main([*argv, "--lang", lang]) == 0
        told = capsys.readouterr().out
        assert all(part in told for part in parts), told
    told = account(capsys, *argv[1:])
    assert (told["in_turns"], told["as_text"], told["put_first"]) == (1, ["x"], 0)
    before = path.read_bytes()
    assert "would be lost" in refused(capsys, path, "--to", "trl", "--output", path) and path.read_bytes() == before
    long = [{**GOOD, "chosen": "b" * 100_000}] * 120 + [{**GOOD, "topic": "t"}]
    assert main(["convert", str(lines(path, long)), "--to", "trl", "--output", str(tmp_path / "out.jsonl")]) == 0
    assert "rows moved to the front: 1;" in capsys.readouterr().out
    assert "topic" in json.loads((tmp_path / "out.jsonl").read_text().splitlines()[0])


def test_kto_for_llamafactory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out, info = lines(tmp_path / "in.jsonl", [GOOD]), tmp_path / "out.json", tmp_path / "dataset_info.json"
    argv = ("convert", str(path), "--to", "kto", "--output", str(out), "--dataset-info", str(info))
    assert main(list(argv)) == 0
    told = capsys.readouterr().out
    assert "written as llamafactory-kto: 1\n" in told and "write kto for TRL without --dataset-info" in told
    assert [row["label"] for row in json.loads(out.read_text())] == [True, False]
    assert json.loads(out.read_text())[0]["messages"][1] == {"role": "assistant", "content": "b"}
    account(capsys, f"{info}:out", "--to", "trl", "--output", tmp_path / "back.jsonl")
    assert json.loads((tmp_path / "back.jsonl").read_text()) == GOOD
    said = refused(capsys, f"{info}:out", "--to", "trl", "--output", info)
    assert "that would write into dataset_info.json" in said and "out" in json.loads(info.read_text())


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
def test_pipes_and_links_that_lead_nowhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, pipe, loop = lines(tmp_path / "in.jsonl", [GOOD]), tmp_path / "pipe.jsonl", tmp_path / "loop.jsonl"
    os.mkfifo(pipe)
    loop.symlink_to(loop)
    assert "FILE " in (said := refused(capsys, pipe, "--to", "trl", "--output", tmp_path / "x.json")) and "pipe, not a file" in said
    assert "--output " in (said := refused(capsys, path, "--to", "trl", "--output", pipe)) and "pipe, not a file" in said
    assert pipe.is_fifo() and os.strerror(errno.ELOOP) in refused(capsys, loop, "--to", "trl", "--output", tmp_path / "x.json")
    assert "missing: FILE" in refused(capsys, "", "--to", "trl", "--output", tmp_path / "x.json")


def test_a_format_asked_for_in_vain_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = lines(tmp_path / "in.jsonl", [GOOD])
    [source] = account(capsys, path, "--from", "kto", "--to", "trl", "--output", tmp_path / "x.json")["sources"]
    assert (source["formats"], source["reason"]) == ({"trl": 1}, "asked for was kto, which no row is in")


def test_interrupted_it_leaves_what_was_there(tmp_path: Path) -> None:
    path, out = tmp_path / "in.jsonl", tmp_path / "out" / "pairs.json"
    with open(path, "w") as file:
        file.writelines(json.dumps({**GOOD, "prompt": f"{n}", "chosen": "b" * 200}) + "\n" for n in range(400_000))
    out.parent.mkdir()
    out.write_text("precious")
    code = (  # a shell's background job would ignore the key
        "import runpy, signal\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "runpy.run_module('pipeline', run_name='__main__', alter_sys=True)"
    )
    command = [sys.executable, "-c", code, "convert", str(path), "--to", "trl", "--output", str(out)]
    running = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 60
    while not list(out.parent.glob(".*.part")) and time.monotonic() < end:
        time.sleep(0.02)
    time.sleep(0.5)  # of some ten seconds
    running.send_signal(signal.SIGINT)
    told, said = running.communicate(timeout=60)
    assert (running.returncode, told) == (3, "") and said == f"pipeline: interrupted; {out} is left as it was\n"
    assert [p.name for p in out.parent.iterdir()] == ["pairs.json"] and out.read_text() == "precious"
