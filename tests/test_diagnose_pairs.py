"""`python -m diagnostics pairs`: from a file to a report, with and without tokenizer and model."""

from __future__ import annotations

import csv
import gzip
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from demo_rejects import write_rejects
from test_cli import ROOT, SCHEMA, report_of, run
from tiny_answering_models import ROWS
from tokenizer_folders import chat_folder, t5_folder

from diagnostics.diagnose_pairs import PairsDiagnosis, diagnose_pairs, diagnose_rows
from diagnostics.judge import Interrupted
from diagnostics.pairs_subject import percent
from diagnostics.render import to_html, to_markdown, to_text
from diagnostics.report import Report
from diagnostics.words import say
from pipeline.demo.build import DemoFolder
from pipeline.pairs.pair import Pair
from pipeline.pairs.read_pairs import PairFile

SUBJECTS = ["river", "bridge", "library", "garden", "museum", "harbour", "orchestra", "festival", "railway", "castle", "market", "forest", "island", "village", "factory", "theatre", "stadium", "observatory", "lighthouse", "monastery"]
VERBS = ["attracts", "shelters", "funds", "repairs", "documents", "surrounds", "employs", "supplies", "teaches", "protects"]
OBJECTS = ["visitors", "children", "farmers", "sailors", "painters", "engineers", "students", "neighbours", "merchants", "travellers"]


FORMS = (
    "Since {year} the {subject} {verb} {thing}, {more}.", "The {subject} {verb} {thing} and has done so since {year}; {more}.",
    "It {verb} {thing}: that is what the {subject} is known for, {more}.", "{thing} come from afar, as the {subject} {verb} them, {more}.",
    "Most of all the {subject} {verb} {thing}. It dates from {year}, {more}.", "Ask anybody and they say it {verb} {thing}; the {subject} of {year} is {more}.",
)
MORE = (
    "quiet in winter", "open to all", "run by volunteers", "short of money", "older than the town", "worth a visit",
    "painted blue", "near the square",
)
ASK = (
    "Tell me what the {subject} of {town} does.", "What is the {subject} in {town} good for?", "Why do people in {town} like their {subject}?",
    "I will be in {town} next week. Should I see the {subject}?", "Describe the {subject} of {town} in one sentence.",
)


def _sound(n: int = 60) -> list[dict[str, str]]:
    """Pairs on topic, both sides written alike; the rejected answer says another thing."""
    rng = Random(5)

    def answer(subject: str, year: int) -> str:
        return rng.choice(FORMS).format(subject=subject, verb=rng.choice(VERBS), thing=rng.choice(OBJECTS), more=rng.choice(MORE), year=year)

    rows = []
    for i in range(n):
        subject, year = SUBJECTS[i % 20], 1700 + rng.randrange(300)
        town = "".join(rng.choices("abcdefghijklmnoprstuvw", k=7)).capitalize()
        prompt = rng.choice(ASK).format(subject=subject, town=town)
        rows.append({"prompt": prompt, "chosen": answer(subject, year), "rejected": answer(subject, year)})
    return rows


def _written(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def _found(report: Report) -> dict[str, str]:
    return {f"{f.code}/{f.outcome}": f.severity for f in report.findings if f.severity != "ok"}


def test_sound_pairs_are_healthy(tmp_path: Path) -> None:
    done = run("pairs", str(_written(tmp_path / "sound.jsonl", _sound())), "--format", "json")
    report = report_of(done)
    assert done.returncode == 0 and report["verdict"] == "healthy" and report["causes"] == []
    assert report["subject"]["kind"] == "pairs"
    said = {s["code"]: s["reason"] for s in report["skipped"]}
    assert set(said) == {"PRF019", "PRF020", "PRF021", "PRF022", "PRF023", "PRF024"}
    assert said["PRF019"] == "no --tokenizer given" and said["PRF022"] == "no --model given"


def test_finding_lists_its_rows(tmp_path: Path) -> None:
    rows = _sound()
    for place in (3, 10, 41):
        rows[place]["rejected"] = " \n"
    diagnosis = diagnose_pairs(_written(tmp_path / "empty.jsonl", rows))
    assert diagnosis.report.causes[0].id == "empty_completion"
    assert diagnosis.rows["PRF003/rejected_empty"].tolist() == [3, 10, 41]
    finding = next(f for f in diagnosis.report.findings if f.outcome == "rejected_empty")
    assert next(e.value for e in finding.evidence if e.where == "lines") == [4, 11, 42]


def test_two_runs_say_the_same_and_languages_differ_in_words_alone(tmp_path: Path) -> None:
    path = _written(tmp_path / "sound.jsonl", _sound())

    def run_once(lang: str) -> dict:
        document = json.loads(diagnose_pairs(path, lang=lang).report.dumps())
        return {k: v for k, v in document.items() if k not in ("created", "seconds")}

    assert run_once("en") == run_once("en")
    english, chinese = run_once("en"), run_once("zh")
    assert [f["outcome"] for f in english["findings"]] == [f["outcome"] for f in chinese["findings"]]
    assert any("\u4e00" <= c <= "\u9fff" for f in chinese["findings"] for c in f["message"])


def test_pairs_that_are_held_give_the_report_of_their_file(tmp_path: Path) -> None:
    rows = _sound()
    rows[5]["chosen"] = rows[5]["rejected"]
    path = _written(tmp_path / "pairs.jsonl", rows)
    from_file, held = diagnose_pairs(path), diagnose_rows(list(PairFile(path)), name=path.name)
    assert _found(from_file.report) == _found(held.report)
    assert from_file.report.subject.fingerprint == held.report.subject.fingerprint
    assert held.rows.keys() == from_file.rows.keys()


@pytest.mark.parametrize(
    ("name", "content", "outcome"),
    [
        ("pointer.jsonl", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12\n", "lfs_pointer"),
        ("empty.json", b"", "empty"),
        ("other.csv", b"colour,taste\nred,sweet\ngreen,sour\n", "no_known_columns"),
        ("page.json", b"<html><body>404</body></html>", "not_json"),
        ("bytes.jsonl", bytes(range(256)) * 40, "not_text"),
        ("nothing.json", b"[1, 2, 3]", "no_known_columns"),
        ("cut.json", b'[{"prompt": "a", "chos', "not_json"),
    ],
)
def test_a_file_that_gives_no_pair_gets_a_report(tmp_path: Path, name: str, content: bytes, outcome: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    done = run("pairs", str(path), "--format", "json")
    report = report_of(done)
    assert done.returncode == 2 and report["verdict"] == "not_usable"
    assert report["causes"][0]["id"] == "unreadable_data"
    assert [f["outcome"] for f in report["findings"]] == [outcome]


def test_good_rows_stay_beside_broken_ones(tmp_path: Path) -> None:
    lines = [json.dumps(row) for row in _sound()]
    lines[10:10] = ["{broken", '"text"', "[1, 2]", '{"prompt": "only this"}', '{"prompt": "p", "prompt": "q", "chosen": "a", "rejected": "b"}']
    path = tmp_path / "mixed.jsonl"
    path.write_text("\n".join(lines), encoding="utf-8")
    report = diagnose_pairs(path).report
    finding = next(f for f in report.findings if f.code == "PRF001")
    assert finding.severity == "warning" and finding.params["left_out"] == 5 and finding.params["rows"] == 60
    assert finding.params["line"] == 11
    assert sorted(line for e in finding.evidence for line in e.value) == [11, 12, 13, 14, 15]


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (("/no/such/file.jsonl",), "/no/such/file.jsonl"),
        (("{sound}", "--from", "nonsense"), "nonsense"),
        (("{sound}", "--column", "prompt"), "prompt"),
        (("{sound}", "--max-length", "0"), "--max-length"),
        (("{sound}", "--tokenizer", "/no/such/tokenizer"), "/no/such/tokenizer"),
        (("{sound}", "--output", "{sound}"), "sound.jsonl"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_wrong_arguments(tmp_path: Path, argv: tuple[str, ...], says: str) -> None:
    path = _written(tmp_path / "sound.jsonl", _sound(25))
    before = path.read_bytes()
    done = run("pairs", *(word.format(sound=path) for word in argv))
    assert done.returncode == 2 and done.stdout == "" and "Traceback" not in done.stderr
    assert says in done.stderr and path.read_bytes() == before


def test_columns_of_own_names(tmp_path: Path) -> None:
    rows = [{"frage": r["prompt"], "gut": r["chosen"], "schlecht": r["rejected"]} for r in _sound()]
    path = _written(tmp_path / "own.jsonl", rows)
    assert report_of(run("pairs", str(path), "--format", "json"))["verdict"] == "not_usable"
    columns = ("--column", "prompt=frage", "--column", "chosen=gut", "--column", "rejected=schlecht")
    assert report_of(run("pairs", str(path), *columns, "--format", "json"))["verdict"] == "healthy"


def test_axis_is_asked_for(tmp_path: Path) -> None:
    rows = [
        {"prompt": r["prompt"], "response_0": r["chosen"], "response_1": r["rejected"], "better_response_id": 0, "safer_response_id": n % 3 == 0 and 1 or 0}
        for n, r in enumerate(_sound())
    ]
    path = _written(tmp_path / "pku.jsonl", rows)
    report = report_of(run("pairs", str(path), "--format", "json"))
    assert [f["outcome"] for f in report["findings"] if f["severity"] == "warning"] == ["axis_not_given"]
    assert report_of(run("pairs", str(path), "--axis", "better", "--format", "json"))["verdict"] == "healthy"


def test_supervised_rows_have_checks_of_their_own(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [{"instruction": r["prompt"], "input": "", "output": r["chosen"]} for r in _sound()]
    healthy = diagnose_pairs(_written(tmp_path / "sft.jsonl", rows))
    assert healthy.report.verdict == "healthy" and all(f.code.startswith("SFT") for f in healthy.report.findings)
    for row in rows[:30]:
        row["output"] = f"{row['output']}<|im_end|>\n<|im_start|>user\n{row['instruction']}"
    sick = diagnose_pairs(_written(tmp_path / "sick.jsonl", rows))
    assert sick.report.causes[0].id == "template_in_text"
    assert sick.rows["SFT006/chosen_holds_template"].tolist() == list(range(30))


@pytest.mark.parametrize("name", ["off_topic_t5", "healthy_t5", "healthy_decoder"])
def test_rejects_of_the_demo(demo: DemoFolder, tmp_path: Path, name: str) -> None:
    """The founding case: fluent answers to other questions. What sound models answer is on topic."""
    report = diagnose_pairs(write_rejects(demo, name, tmp_path / "rejects.json")).report
    ids = [cause.id for cause in report.causes]
    if name == "off_topic_t5":
        assert ids[0] == "rejected_off_topic" and report.causes[0].confidence > 0.9
    else:
        assert "rejected_off_topic" not in ids


def test_tokenizer_shows_what_truncation_destroys(demo: DemoFolder, tmp_path: Path) -> None:
    """The difference stands behind the cut in ten rows, three prompts fill everything."""
    folder = str(demo.cases["healthy_decoder"].checkpoint)
    rows = [{"prompt": q, "chosen": a, "rejected": a[::-1]} for q, a in ROWS * 3]
    for row in rows[:10]:
        row["chosen"], row["rejected"] = "one two three " * 40 + "yes", "one two three " * 40 + "no"
    for row in rows[10:13]:
        row["prompt"] = "say it again " * 60
    path = _written(tmp_path / "long.jsonl", rows)
    diagnosis = diagnose_pairs(path, tokenizer=folder, max_length=64)
    assert diagnosis.report.causes[0].id == "truncation_destroys_signal"
    assert diagnosis.rows["PRF019/same_after_cut"].tolist() == list(range(10))
    assert diagnosis.rows["PRF019/dropped"].tolist() == [10, 11, 12]
    assert not [f for f in diagnose_pairs(path, tokenizer=folder, max_length=2048).report.findings if f.code == "PRF019" and f.severity in ("warning", "error")]


def test_model_tells_likelihoods_and_topics(demo: DemoFolder, tmp_path: Path) -> None:
    case = demo.cases["healthy_decoder"]
    path = write_rejects(demo, "healthy_decoder", tmp_path / "rejects.json", rows=60)
    rows = json.loads(path.read_text("utf-8"))
    turned = [{**row, "rejected": rows[(n + 23) % 60]["rejected"]} for n, row in enumerate(rows)]
    path.write_text(json.dumps(turned, ensure_ascii=False), encoding="utf-8")
    diagnosis = diagnose_pairs(path, model=str(case.checkpoint))
    found = _found(diagnosis.report)
    assert found.get("PRF024/off_topic") == "error" and diagnosis.report.causes[0].id == "rejected_off_topic"
    for name in ("logps_chosen", "logps_rejected", "ches"):
        assert np.isfinite(diagnosis.measures[name]).sum() >= 50
    assert (diagnosis.measures["logps_chosen"][np.isfinite(diagnosis.measures["logps_chosen"])] < 0).all()


def test_schema_holds_for_every_kind(tmp_path: Path) -> None:
    import jsonschema

    for rows in (_sound(), [{"prompt": r["prompt"], "completion": r["chosen"], "label": n % 2 == 0} for n, r in enumerate(_sound())]):
        jsonschema.validate(json.loads(diagnose_pairs(_written(tmp_path / "rows.jsonl", rows)).report.dumps()), SCHEMA)


# --- hostile files ---

TURNS = [{"role": "user" if n % 2 == 0 else "assistant", "content": f"turn {n} of a long talk"} for n in range(20_001)]


def _mixed() -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for n, r in enumerate(_sound()):
        talk = {"prompt": [{"role": "user", "content": r["prompt"]}], "chosen": [{"role": "assistant", "content": r["chosen"]}],
                "rejected": [{"role": "assistant", "content": r["rejected"]}]}  # fmt: skip
        kinds = (r, talk, {"instruction": r["prompt"], "input": "", "chosen": r["chosen"], "rejected": r["rejected"]},
                 {"prompt": r["prompt"], "completion": r["chosen"], "label": True}, {"instruction": r["prompt"], "output": r["chosen"]})  # fmt: skip
        rows.append(kinds[n % 5])
    return rows


def _csv(path: Path) -> None:
    with open(path, "w", encoding="utf-8-sig", newline="") as file:
        table = csv.writer(file)
        table.writerow(["prompt", "chosen", "rejected"])
        for n, r in enumerate(_sound()):
            table.writerow([r["prompt"] + "\nThank you!", f'{r["chosen"]}\r\n"{n}"', f'{r["rejected"]}\r\n"{n + 1}"'])


def _lines(*rows: Any) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in rows), encoding="utf-8")

    return write


def _one(text: str) -> dict[str, str]:
    return {"prompt": text, "chosen": text, "rejected": text[:-1]}


HOSTILE: dict[str, Callable[[Path], None]] = {
    "mixed.jsonl": _lines(*_mixed()),
    "no_objects.jsonl": _lines(*_sound()[:20], "1", "null", '"x"', "[]", "true", "{}", "[{}]", "NaN", "1e999"),
    "columns_missing.jsonl": _lines(*({k: v for k, v in r.items() if k != ("prompt", "chosen", "rejected")[n % 3]} for n, r in enumerate(_sound()))),
    "many_columns.jsonl": _lines(*({**r, **{f"c{n}": n for n in range(1000)}} for r in _sound())),
    "scores.jsonl": _lines(*({**r, "score_chosen": float("nan"), "score_rejected": (float("inf"), -1e308, None)[n % 3]} for n, r in enumerate(_sound()))),
    "huge_scores.jsonl": _lines(*({**r, "score_chosen": 10**400, "score_rejected": -(10**400)} for r in _sound())),
    "one.jsonl": _lines(*_sound(1)), "two.jsonl": _lines(*_sound(2)),
    "no_sides.jsonl": _lines(*({"prompt": r["prompt"], "chosen": None, "rejected": None} for r in _sound())),
    "twice.jsonl": _lines(*['{"prompt": "a", "chosen": "b", "rejected": "c", "chosen": "d"}'] * 40),
    "halves.jsonl": _lines(*(_one("\ud800 a half character \udfff and more of it \ud83d") for _ in range(40))),
    "empty_texts.jsonl": _lines(*[{"prompt": "", "chosen": "", "rejected": ""}] * 40),
    "blank_texts.jsonl": _lines(*[{"prompt": " \n", "chosen": "\t", "rejected": "\u3000"}] * 40),
    "unseen_texts.jsonl": _lines(*[{"prompt": "\u200b" * 9, "chosen": "\ufeff\u200d", "rejected": "\0" * 50}] * 40),
    "letters.jsonl": _lines(*({"prompt": "问" if n % 2 else "a", "chosen": chr(97 + n % 26), "rejected": chr(98 + n % 26)} for n in range(60))),
    "right_to_left.jsonl": _lines(*(_one("مرحبا بالعالم كيف حالك " * 3 + "e\u0301\u0327\u0323" * 30 + f"\u202e{n}\u0489") for n in range(40))),
    "null_characters.jsonl": _lines(*({k: f"{v[:9]}\0{v[9:]}" for k, v in r.items()} for r in _sound())),
    "long_talk.jsonl": _lines(*_sound()[:30], {"prompt": TURNS, "chosen": [{"role": "assistant", "content": "Yes."}], "rejected": [{"role": "assistant", "content": "No."}]}),
    "long_value.jsonl": _lines(*_sound()[:30], _one("你好 " * 2_000_000)),
    "long_words.jsonl": _lines(*(_one("x" * 300_000 + str(n)) for n in range(30))),
    "nested.jsonl": _lines('{"prompt":' * 2000 + "1" + "}" * 2000, *_sound()),
    "brackets.jsonl": lambda path: path.write_text("[" * 1_000_000),
    "no_line_ends.jsonl": lambda path: path.write_text("z" * 3_000_000),
    "many_broken.jsonl": lambda path: path.write_text("\n".join([*map(json.dumps, _sound()), *["{bad"] * 5000, '{"prompt": "cut'])),
    "table.csv": _csv,
    "only_a_header.csv": lambda path: path.write_text("prompt,chosen,rejected\n"),
    "quote_left_open.csv": lambda path: path.write_text('prompt,chosen,rejected\na,"b,c\n' + "x,y,z\n" * 200),
    "kto.jsonl": _lines(*({"prompt": r["prompt"], "completion": r["chosen"], "label": n % 3 == 0} for n, r in enumerate(_sound()))),
    "utf_16.jsonl": lambda path: path.write_text("".join(json.dumps(r) + "\n" for r in _sound()), encoding="utf-16"),
    "chinese.jsonl": lambda path: path.write_text(
        "".join(json.dumps({"prompt": f"第{n}个问题是什么？", "chosen": f"是{n}。", "rejected": f"不是{n}。"}, ensure_ascii=False) + "\n" for n in range(40)), encoding="gb18030"),
    "packed.jsonl.gz": lambda path: path.write_bytes(gzip.compress("".join(json.dumps(r) + "\n" for r in _sound()).encode())),
    "packed_and_cut.jsonl.gz": lambda path: path.write_bytes(gzip.compress("".join(json.dumps(r) + "\n" for r in _sound()).encode())[:-500]),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files(tmp_path: Path, name: str) -> None:
    """Each gets a report with a line on what was read; no check fails, no library warns, and every form shows it."""
    path = tmp_path / name
    HOSTILE[name](path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = diagnose_pairs(path).report
    assert not [s.params for s in report.skipped if s.reason_id == "check_crashed"]
    assert any(f.code in ("PRF001", "SFT001") for f in report.findings)
    assert (report.verdict == "not_usable") == (report.metrics.get("pairs.rows", 0) == 0)
    for lang in ("en", "zh"):
        shown = say(report, lang)
        for text in (to_text(shown), to_markdown(shown), to_html(shown)):
            assert "{" not in "".join(f.message for f in shown.findings if "{" not in str(f.params)) and "\x1b" not in text


def test_what_hostile_files_say(tmp_path: Path) -> None:
    def found(name: str) -> dict[str, str]:
        path = tmp_path / name
        HOSTILE[name](path)
        return _found(diagnose_pairs(path).report)

    assert found("unseen_texts.jsonl")["PRF003/rejected_never_filled"] == "error"
    assert found("columns_missing.jsonl").get("SFT001/many_left_out") == "error"
    assert found("mixed.jsonl")["PRF003/one_side_only"] == "error"
    assert found("many_broken.jsonl")["PRF001/file_cut_short"] == "error"  # far behind the lines that are named
    assert found("packed_and_cut.jsonl.gz")["PRF001/file_cut_short"] == "error"
    assert found("halves.jsonl")["PRF016/half_characters"] == "error"
    assert not found("two.jsonl") and not found("packed.jsonl.gz") and not found("utf_16.jsonl")


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of a process's memory is told on Linux alone")
def test_memory_is_bounded(tmp_path: Path) -> None:
    """70 MB of long texts: blocks of rows are cut by their characters, not by their number alone."""
    path = tmp_path / "long.jsonl"
    rows = _sound()
    with open(path, "w", encoding="utf-8") as file:
        for n in range(300):
            row = rows[n % 60]
            file.write(json.dumps({**row, "chosen": f"{row['chosen']} {n} " * 3000}) + "\n")
    code = (
        "import sys\nfrom diagnostics.command_line import run_command\nrun_command(sys.argv[1:])\n"
        "print(next(line for line in open('/proc/self/status') if line.startswith('VmHWM')), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "pairs", str(path), "--format", "json"], cwd=ROOT, capture_output=True, text=True
    )
    assert report_of(done)["metrics"]["pairs.rows"] == 300
    assert int(done.stderr.split()[-2]) < 500_000, "kB"


# --- one seed, one report ---


def test_the_order_of_rows_changes_no_count() -> None:
    rows = _sound(200)
    for n in (3, 50, 77, 120):
        rows[n]["rejected"] = rows[n]["chosen"]
        rows[n + 1]["chosen"] += ("</s>", "<|im_end|>", "</s>", "[EOS]")[n % 4]
        rows[n + 2]["rejected"] = ""
    pairs = [Pair([{"role": "user", "content": r["prompt"]}], r["chosen"], r["rejected"], line=n) for n, r in enumerate(rows)]

    def counts(pairs: list[Pair]) -> dict[str, Any]:
        report = diagnose_rows(pairs, name="rows").report
        sampled = ("PRF005", "PRF013")  # near-duplicates, and rows drawn to compare with
        return {f.signal: (f.severity, dict(f.params)) for f in report.findings if f.code not in sampled}

    expected = counts(pairs)
    for seed in (1, 2):
        Random(seed).shuffle(pairs)
        assert counts(pairs) == expected


@pytest.mark.parametrize("seed", ["-1", str(2**63 - 1)])
def test_any_seed_will_do(tmp_path: Path, seed: str) -> None:
    path = str(_written(tmp_path / "sound.jsonl", _sound()))
    first, second = (report_of(run("pairs", path, "--seed", seed, "--format", "json")) for _ in range(2))
    for report in (first, second):
        del report["created"], report["seconds"]
    assert first == second


# --- stopped on the way ---


def test_ctrl_c_while_reading_judges_what_was_read(tmp_path: Path) -> None:
    rows = _sound(60) * 40
    for row in rows[:3]:
        row["rejected"] = ""
    path = _written(tmp_path / "many.jsonl", rows)

    def press(done: int) -> None:
        if done >= 1000:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted) as stopped:
        diagnose_pairs(path, tokenizer=str(chat_folder(tmp_path / "chat")), on_rows=press)
    report = stopped.value.report
    assert report.interrupted and report.verdict != "healthy" and report.metrics["pairs.rows"] == 1000
    said = {f.signal: f for f in report.findings}
    assert said["PRF001/reading_stopped"].params["rows"] == 1000 and "PRF003/rejected_empty" in said
    assert {s.code for s in report.skipped if s.reason_id == "cancelled"} >= {"PRF019", "PRF020", "PRF021", "PRF022"}
    assert not [s for s in report.skipped if s.reason_id == "check_crashed"]


def test_ctrl_c_before_the_first_row(tmp_path: Path) -> None:
    def none_yet() -> Any:
        raise KeyboardInterrupt
        yield

    with pytest.raises(Interrupted) as stopped:
        diagnose_rows(none_yet(), name="rows")
    report = stopped.value.report
    assert report.interrupted and not report.findings and {s.reason_id for s in report.skipped} == {"cancelled"}


def test_ctrl_c_in_a_check(tmp_path: Path) -> None:
    def press(event: Any) -> None:
        if event.kind == "check" and event.code == "PRF008":
            raise KeyboardInterrupt

    with pytest.raises(Interrupted) as stopped:
        diagnose_pairs(_written(tmp_path / "sound.jsonl", _sound()), on_event=press)
    report = stopped.value.report
    assert report.interrupted and {f.code for f in report.findings} >= {"PRF001", "PRF007"}
    assert "PRF008" in {s.code for s in report.skipped if s.reason_id == "cancelled"}


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="open files of another process are listed on Linux alone")
def test_ctrl_c_on_the_command_line(tmp_path: Path) -> None:
    path = tmp_path / "long.jsonl"
    lines = "".join(json.dumps(row) + "\n" for row in _sound())
    with open(path, "w", encoding="utf-8") as file:
        for _ in range(4000):
            file.write(lines)
    code = (  # a shell's background job would ignore the key
        "import runpy, signal, sys\nsignal.signal(signal.SIGINT, signal.default_int_handler)\nsys.argv[0] = 'diagnostics'\n"
        "runpy.run_module('diagnostics', run_name='__main__', alter_sys=True)"
    )
    with subprocess.Popen([sys.executable, "-c", code, "pairs", str(path), "--format", "json"], cwd=ROOT, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:  # fmt: skip
        folder, reading, deadline = Path(f"/proc/{process.pid}/fd"), 0, time.monotonic() + 60
        while reading < 20 and time.monotonic() < deadline:
            with_file = 0
            for link in folder.iterdir():
                try:
                    with_file += os.readlink(link) == str(path)
                except OSError:
                    continue
            reading += bool(with_file)
            time.sleep(0.05)
        pressed = time.monotonic()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
        took = time.monotonic() - pressed
    assert process.returncode == 3 and err == "" and took < 30
    report = json.loads(out)
    assert report["interrupted"] and 0 < report["metrics"]["pairs.rows"] < 240_000
    assert [f["outcome"] for f in report["findings"] if f["code"] == "PRF001"] == ["reading_stopped"]


@pytest.mark.parametrize("held", [False, True], ids=["file", "rows"])
def test_cancel_stops_soon(tmp_path: Path, held: bool) -> None:
    path = _written(tmp_path / "many.jsonl", _sound(60) * 100)
    cancel = threading.Event()

    def after(done: int) -> None:
        if done >= 1000:
            cancel.set()

    given: dict[str, Any] = {"cancel": cancel, "on_rows": after}
    done: PairsDiagnosis = (
        diagnose_rows(PairFile(path), name="rows", **given) if held else diagnose_pairs(path, **given)
    )
    assert done.report.metrics["pairs.rows"] == 1000 and done.report.interrupted
    assert {s.reason_id for s in done.report.skipped} == {"cancelled"} and not done.report.findings


def test_cancel_while_rows_are_tokenised(tmp_path: Path) -> None:
    cancel = threading.Event()
    done = diagnose_pairs(
        _written(tmp_path / "many.jsonl", _sound(60) * 100), tokenizer=str(chat_folder(tmp_path / "chat")), cancel=cancel,
        on_note=lambda text: cancel.set() if text.startswith("tokens") else None,
    )  # fmt: skip
    cancelled = {s.code for s in done.report.skipped if s.reason_id == "cancelled"}
    assert cancelled >= {"PRF019", "PRF020", "PRF022"} and done.report.interrupted
    assert {f.code for f in done.report.findings} >= {"PRF001", "PRF017"}


# --- tokenizers and models that can't be used ---

TALKS = [
    {"prompt": [{"role": "user", "content": r["prompt"]}], **{s: [{"role": "assistant", "content": r[s]}] for s in ("chosen", "rejected")}}
    for r in _sound()
]
RIVERS = "{% for m in messages %}{% if 'river' in m.content %}{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}{% endif %}{{ m.content }}{% endfor %}"


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{{ raise_exception('not today') }}", "it raises an error (not today)"),
        ("{% for %}", "it is no valid template"),
        (RIVERS, "it doesn't come to an end"),
        ("{% set ns = namespace(s='x' * 1000) %}{% for a in range(60) %}{% set ns.s = ns.s + ns.s %}{% endfor %}", "it takes all memory"),
    ],
    ids=["raises", "syntax", "endless_for_some", "memory"],
)  # fmt: skip
def test_templates_that_do_not_render(tmp_path: Path, template: str, reason: str) -> None:
    """They run in a process of their own first. Where rows are plain text the template isn't used, and doesn't matter."""
    folder = str(chat_folder(tmp_path / "chat", tokenizer_config={"chat_template": template}))
    report = diagnose_pairs(_written(tmp_path / "talks.jsonl", TALKS), tokenizer=folder).report
    said = {s.code: s.reason for s in report.skipped}
    assert reason in said["PRF019"] and said["PRF019"] == said["PRF020"] == said["PRF021"]
    assert reason not in {s.code: s.reason for s in say(report, "zh").skipped}["PRF019"]
    plain = diagnose_pairs(_written(tmp_path / "plain.jsonl", _sound()), tokenizer=folder).report
    assert {f.code for f in plain.findings} >= {"PRF019", "PRF020", "PRF021"}


def test_tokenizers_that_do_not_load(tmp_path: Path) -> None:
    path = _written(tmp_path / "talks.jsonl", TALKS)
    cut = chat_folder(tmp_path / "cut")
    (cut / "tokenizer.json").write_bytes((cut / "tokenizer.json").read_bytes()[:2000])
    (tmp_path / "nothing").mkdir()
    for folder, reason in ((cut, "the library refuses it"), (tmp_path / "nothing", "there is no vocabulary here")):
        said = {s.code: s.reason for s in diagnose_pairs(path, tokenizer=str(folder)).report.skipped}
        assert said["PRF019"].startswith("the tokenizer can't be used: ") and reason in said["PRF019"]


def test_tokenizers_without_a_template_and_of_encoder_decoders(tmp_path: Path) -> None:
    """Text goes to them as it is; one that ends every text by itself is no decoder's, and doubles no end."""
    path = _written(tmp_path / "talks.jsonl", TALKS)
    plain = chat_folder(tmp_path / "plain", tokenizer_config={"chat_template": None})
    whole, alone = t5_folder(tmp_path / "t5"), t5_folder(tmp_path / "alone")
    (alone / "config.json").unlink()
    for folder in (plain, whole, alone):
        found = _found(diagnose_pairs(path, tokenizer=str(folder)).report)
        assert not [name for name in found if name.startswith(("PRF020", "PRF021"))], (folder.name, found)


def test_models_that_can_not_be_asked(demo: DemoFolder, tmp_path: Path) -> None:
    import shutil

    from safetensors.torch import load_file, save_file

    path = _written(tmp_path / "talks.jsonl", TALKS)
    sound = demo.cases["healthy_decoder"].checkpoint

    def changed(name: str, change: Callable[[dict[str, Any], dict[str, Any]], None]) -> str:
        folder = tmp_path / name
        shutil.copytree(sound, folder)
        tensors, config = load_file(folder / "model.safetensors"), json.loads((folder / "config.json").read_text("utf-8"))
        change(tensors, config)
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
        return str(folder)

    def renamed(tensors: dict[str, Any], config: dict[str, Any]) -> None:
        for name in list(tensors):
            tensors[f"wrapped.{name}"] = tensors.pop(name)

    def not_finite(tensors: dict[str, Any], config: dict[str, Any]) -> None:
        name = next(n for n in tensors if "norm" in n)
        tensors[name] = tensors[name] * float("nan")

    def halved(tensors: dict[str, Any], config: dict[str, Any]) -> None:
        rows = config["vocab_size"]
        config["vocab_size"] = rows // 2
        for name, tensor in tensors.items():
            tensors[name] = tensor[: rows // 2].contiguous() if tensor.shape[0] == rows else tensor

    for name, change, reason in (
        ("renamed", renamed, "parts_stay_random"), ("not_finite", not_finite, "logits_not_finite"),
        ("halved", halved, "ids_beyond_embedding"),
    ):  # fmt: skip
        report = diagnose_pairs(path, model=changed(name, change)).report
        skipped = {s.code: s for s in report.skipped}
        assert {skipped[code].reason_id for code in ("PRF022", "PRF023", "PRF024")} == {reason}, name
        assert not re.search(r"[a-z]_[a-z]", skipped["PRF022"].reason), "in words"


def test_a_model_that_knows_nothing_of_the_rows_says_nothing_of_topics(demo: DemoFolder, tmp_path: Path) -> None:
    """Sound pairs of another kind than the demo's models were trained on: no alarm whatever they find likely."""
    path = _written(tmp_path / "talks.jsonl", TALKS)
    for name in ("healthy_decoder", "healthy_decoder_lora", "healthy_t5"):
        report = diagnose_pairs(path, model=str(demo.cases[name].checkpoint)).report
        assert {f.outcome for f in report.findings if f.code == "PRF024"} == {"model_ignores_prompts"}, name


# --- what is shown ---


def test_verdicts_speak_of_data(tmp_path: Path) -> None:
    rows = _sound()
    sound = diagnose_pairs(_written(tmp_path / "sound.jsonl", rows)).report
    assert to_text(sound).startswith("sound.jsonl: Nothing wrong found in this data.\n")
    few = diagnose_pairs(_written(tmp_path / "few.jsonl", rows[:5])).report
    assert "with few rows (5)" in to_text(few).splitlines()[0]
    for report in (sound, few):
        for verdict in ("healthy", "warnings", "problems", "not_usable"):
            for lang, wrong in (("en", "checkpoint"), ("zh", "检查点")):
                shown = say(replace(report, verdict=verdict, causes=(), findings=()), lang)
                assert wrong not in to_text(shown).splitlines()[0]


def test_lines_are_shown_as_ranges(tmp_path: Path) -> None:
    rows = _sound(1200)
    for n in (*range(100, 1180), *range(0, 60, 4)):
        rows[n]["rejected"] = ""
    report = diagnose_pairs(_written(tmp_path / "rows.jsonl", rows)).report
    finding = next(f for f in report.findings if f.outcome == "rejected_empty")
    assert len(next(e.value for e in finding.evidence if e.where == "lines")) == 1000
    assert "      lines: 1, 5, 9, 13, 17, 21, 25, 29, 33, 37, 41, 45 … (1,095 in all)\n" in to_text(report)
    chinese = to_text(say(report, "zh"))
    assert "行号: 1, 5, 9" in chinese and re.search(r"第 \d+ 行: 提示词: ", chinese)
    assert report.causes[0].id == "empty_completion"  # what the rows with two answers say is said of them alone
    assert not {"PRF012", "PRF014"} & {f.code for f in report.findings if f.severity in ("warning", "error")}
    for shown in (to_markdown(report), to_html(report)):
        assert "1, 5, 9, 13" in shown and "[1, 5" not in shown


def test_examples_show_what_was_found(tmp_path: Path) -> None:
    rows = _sound()
    for n in (4, 9):
        rows[n]["rejected"] += "<|im_end|>\n<|im_start|>user\nAnd the castle?"
    text = to_text(diagnose_pairs(_written(tmp_path / "rows.jsonl", rows)).report)
    shown = next(line for line in text.splitlines() if line.startswith("      line 5: rejected: "))
    assert "<|im_end|>⏎<|im_start|>user⏎And the castle?" in shown and shown.split(": ")[2].startswith("…")


@pytest.mark.parametrize(
    ("share", "said"), [(0, 0), (1, 100), (0.5, 50), (0.123456, 12.3), (0.00004, 0.004), (0.9999, 99.9), (0.03, 3), (1 / 3, 33.3)]
)
def test_percentages(share: float, said: float) -> None:
    assert percent(share) == said


def _numbers_that_judge() -> list[str]:
    """Names of thresholds in the checks of pairs."""
    places = [*(ROOT / "diagnostics" / "pairs").glob("*.py"), ROOT / "diagnostics" / "pairs_subject.py"]
    found = (re.findall(r'limits\["(\w+)"\]|(?:warn|error)="(\w+)"', path.read_text(encoding="utf-8")) for path in places)
    return sorted({name for pairs in found for both in pairs for name in both if name})


@pytest.mark.parametrize("value", ["0", "-1", "1e9"])
@pytest.mark.parametrize("name", ["kto.jsonl", "halves.jsonl", "empty_texts.jsonl", "one.jsonl"])
def test_no_threshold_makes_a_check_fail(tmp_path: Path, name: str, value: str) -> None:
    path = tmp_path / name
    HOSTILE[name](path)
    pairs, names = list(PairFile(path)), _numbers_that_judge()
    for changed in ([n] for n in names) if name == "kto.jsonl" else [names]:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            report = diagnose_rows(pairs, name=name, thresholds=[f"{n}={value}" for n in changed]).report
        assert not [(changed, s.params) for s in report.skipped if s.reason_id == "check_crashed"]


def test_the_best_feature_is_named_where_none_decides() -> None:
    """In 24 of 32 pairs the rejected answer alone has a digit in it."""
    rows = _sound(32)
    for n, row in enumerate(rows):
        row["chosen"], row["rejected"] = (re.sub(r"\d+", "old", row[side]) for side in ("chosen", "rejected"))
        row["rejected"] += " (7)." if n < 24 else ""
    pairs = [Pair([{"role": "user", "content": r["prompt"]}], r["chosen"], r["rejected"]) for r in rows]
    found = next(f for f in diagnose_rows(pairs, name="rows").report.findings if f.code == "PRF012")
    assert found.severity in ("ok", "info") and found.params["auc"] == pytest.approx(0.5 + 24 / 64, abs=0.01)
