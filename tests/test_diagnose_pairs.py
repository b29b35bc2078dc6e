"""`python -m diagnostics pairs`: from a file to a report, with and without tokenizer and model."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import numpy as np
import pytest
from demo_rejects import write_rejects
from test_cli import SCHEMA, report_of, run
from tiny_answering_models import ROWS

from diagnostics.diagnose_pairs import diagnose_pairs, diagnose_rows
from diagnostics.report import Report
from pipeline.demo.build import DemoFolder
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
