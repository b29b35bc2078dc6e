"""Every check of preference pairs and supervised rows: a set where it speaks up, with the rows it lists, and one just
below its threshold. The sets are the sound examples of the app, in both languages, with one thing spoilt."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from demo_rejects import write_rejects
from tokenizer_folders import chat_folder

from diagnostics.check_table import PAIR_CHECKS, SUPERVISED_CHECKS
from diagnostics.diagnose_pairs import PairsDiagnosis, diagnose_pairs, diagnose_rows
from diagnostics.report import Finding
from pipeline.demo.build import DemoFolder
from pipeline.pairs.pair import Pair

ROOT = Path(__file__).resolve().parent.parent
LANGS = ("en", "zh")
Row = dict[str, Any]
Rows = list[Row]


@cache
def _example(lang: str) -> str:
    return (ROOT / "configs" / "examples" / f"pairs_healthy_{lang}.jsonl").read_text(encoding="utf-8")


def sound(lang: str, *, scores: bool = False) -> Rows:
    """32 sound pairs; their scores speak for the sides."""
    keys = ("prompt", "chosen", "rejected", *(("score_chosen", "score_rejected") if scores else ()))
    return [{key: row[key] for key in keys} for row in map(json.loads, _example(lang).splitlines())]


def judged(rows: Rows, *, supervised: bool = False) -> PairsDiagnosis:
    pairs = [
        Pair(
            [{"role": "user", "content": row["prompt"]}], row["chosen"], None if supervised else row["rejected"],
            score_chosen=row.get("score_chosen"), score_rejected=row.get("score_rejected"), line=line,
        )
        for line, row in enumerate(rows, 1)
    ]  # fmt: skip
    return diagnose_rows(pairs, name="pairs")


def finding(diagnosis: PairsDiagnosis, signal: str) -> Finding | None:
    return next((f for f in diagnosis.report.findings if f.signal == signal), None)


def said(diagnosis: PairsDiagnosis, signal: str, severity: str, places: Sequence[int]) -> None:
    """The check says this, so loudly, of these rows and no other."""
    found = finding(diagnosis, signal)
    assert found is not None, [f.signal for f in diagnosis.report.findings if f.severity != "ok"]
    assert found.severity == severity, (found.severity, found.params)
    assert diagnosis.rows[signal].tolist() == list(places)
    lines = next(e.value for e in found.evidence if e.where == "lines")
    assert len(lines) == len(places)


# --- what is done to one row; `lang` chooses the words ---

SPOKEN = {"en": "\nHuman: And what about tomorrow?\nAssistant: Tomorrow is fine too.", "zh": "\n用户：那明天呢？\n助手：明天也可以。"}
SHARED = {
    "en": "User: Hello there, I have a question about my garden.\nAssistant: Of course, what would you like to know about it?\nUser: {}\nAssistant: ",
    "zh": "用户：你好，我想问一个关于花园的问题，可以吗？\n助手：当然可以，请说，我会尽量回答你的问题。\n用户：{}\n助手：",
}
PERSONAL = {"en": " Write to jane.roe@example.org.", "zh": "可以打 13812345678 问问。"}
LOOP = {"en": " and then we went home again", "zh": "然后我们又一次回家了，"}
CUT = {
    "en": "It takes about six minutes. Put the eggs into cold water right after that and",
    "zh": "大约需要六分钟。之后要马上把鸡蛋放进冷水里，然后",
}  # each ends within a sentence


def _set(side: str, make: Callable[[Row, str], str]) -> Callable[[Row, str], None]:
    def spoil(row: Row, lang: str) -> None:
        row[side] = make(row, lang)

    return spoil


def _misread(row: Row, lang: str) -> str:
    if lang == "zh":
        return row["chosen"].encode().decode("gbk", "ignore")
    return f"Don’t worry: {row['chosen']}".encode().decode("cp1252", "ignore")


@dataclass(frozen=True)
class Spoilt:
    """signal: of the pair check; also: of the supervised one. severity: with `rows` rows spoilt, `below` rows are too
    few. quiet: what is said then, information where nothing else is given, None for nothing at all."""

    signal: str
    spoil: Callable[[Row, str], None]
    rows: int
    below: int
    severity: str = "warning"
    also: str = ""
    quiet: str | None = "info"
    scores: bool = False


SPOILT = (
    Spoilt("PRF002/identical", _set("rejected", lambda row, _: row["chosen"]), 2, 1),
    Spoilt("PRF002/identical_but_for_space", _set("rejected", lambda row, _: row["chosen"] + " \n"), 2, 1),
    Spoilt("PRF003/chosen_empty", _set("chosen", lambda *_: " \n"), 2, 1, also="SFT002/chosen_empty"),
    Spoilt("PRF003/rejected_empty", _set("rejected", lambda *_: "\u200b\ufeff"), 2, 1),
    Spoilt("PRF003/prompt_empty", _set("prompt", lambda *_: ""), 2, 1, also="SFT002/prompt_empty"),
    Spoilt("PRF003/one_side_only", lambda row, _: row.update(rejected=None), 2, 1),
    Spoilt("PRF007/chosen_starts_with_prompt", _set("chosen", lambda row, _: f"{row['prompt']}\n{row['chosen']}"), 2, 1,
           also="SFT005/chosen_starts_with_prompt"),
    Spoilt("PRF007/rejected_holds_prompt", _set("rejected", lambda row, _: f"{row['rejected']} {row['prompt']} !"), 6, 3),
    Spoilt("PRF007/chosen_holds_prompt", _set("chosen", lambda row, _: f"{row['chosen']} {row['prompt']} !"), 6, 3,
           also="SFT005/chosen_holds_prompt"),
    Spoilt("PRF008/chosen_holds_template", _set("chosen", lambda row, _: f"{row['chosen']}<|im_end|>\n<|im_start|>user\n!"),
           2, 1, also="SFT006/chosen_holds_template"),
    Spoilt("PRF008/rejected_holds_speakers", _set("rejected", lambda row, lang: row["rejected"] + SPOKEN[lang]), 4, 3),
    Spoilt("PRF008/chosen_holds_speakers", _set("chosen", lambda row, lang: row["chosen"] + SPOKEN[lang]), 4, 3,
           also="SFT006/chosen_holds_speakers"),
    Spoilt("PRF008/some_prompts_hold_template", _set("prompt", lambda row, _: f"[INST] {row['prompt']} [/INST] "), 2, 1,
           also="SFT006/some_prompts_hold_template"),
    Spoilt("PRF009/on_some", _set("chosen", lambda row, _: row["chosen"] + "</s>"), 4, 1, also="SFT007/on_some"),
    Spoilt("PRF009/on_one_side", _set("rejected", lambda row, _: row["rejected"] + "<|im_end|>"), 7, 6, "error", quiet=None),
    Spoilt("PRF009/chosen_break_off", _set("chosen", lambda row, lang: row["chosen"] + CUT[lang]), 12, 11,
           also="SFT007/chosen_break_off"),
    Spoilt("PRF009/rejected_break_off", _set("rejected", lambda row, lang: row["rejected"] + CUT[lang]), 16, 15),
    Spoilt("PRF010/some_scores_reversed", lambda row, _: row.update(score_chosen=1, score_rejected=9), 2, 1, scores=True),
    Spoilt("PRF010/scores_equal", lambda row, _: row.update(score_chosen=5, score_rejected=5), 10, 9, scores=True),
    Spoilt("PRF010/chosen_loops", _set("chosen", lambda row, lang: LOOP[lang] * 20 + "!"), 6, 5, "error", quiet=None),
    Spoilt("PRF015/chosen_loops", _set("chosen", lambda row, lang: row["chosen"] + LOOP[lang] * 20 + "."), 2, 1,
           also="SFT008/chosen_loops"),
    Spoilt("PRF015/rejected_loops", _set("rejected", lambda row, lang: row["rejected"] + LOOP[lang] * 20 + "."), 10, 9),
    Spoilt("PRF016/replaced", _set("chosen", lambda row, _: f"{row['chosen'][:9]}\ufffd{row['chosen'][9:]}"), 2, 1,
           also="SFT009/replaced"),
    Spoilt("PRF016/misread", _set("chosen", _misread), 2, 1, also="SFT009/misread"),
    Spoilt("PRF016/half_characters", _set("chosen", lambda row, _: f"{row['chosen'][:-1]}\ud83d."), 2, 1,
           also="SFT009/half_characters"),
    Spoilt("PRF018/shared_turns", lambda row, lang: row.update(
        chosen=SHARED[lang].format(row["prompt"]) + row["chosen"][:40],
        rejected=SHARED[lang].format(row["prompt"]) + row["rejected"][:40]), 4, 3),
)  # fmt: skip
PLACES = [1, 4, 5, 8, 9, 10, 13, 14, 17, 19, 20, 23, 24, 26, 28, 31]


@pytest.mark.parametrize("lang", LANGS)
@pytest.mark.parametrize("case", SPOILT, ids=lambda case: case.signal)
def test_spoilt_rows(case: Spoilt, lang: str) -> None:
    for count, severity in ((case.rows, case.severity), (case.below, case.quiet)):
        rows, places = sound(lang, scores=case.scores), PLACES[:count]
        for place in places:
            case.spoil(rows[place], lang)
        for supervised, signal in ((False, case.signal), (True, case.also)):
            if not signal:
                continue
            diagnosis = judged(rows, supervised=supervised)
            if severity is None:
                assert finding(diagnosis, signal) is None
            else:
                said(diagnosis, signal, severity, places)


@pytest.mark.parametrize("lang", LANGS)
def test_sound_rows_are_sound(lang: str) -> None:
    for supervised in (False, True):
        report = judged(sound(lang, scores=True), supervised=supervised).report
        assert report.verdict == "healthy", [f.message for f in report.findings if f.severity in ("warning", "error")]


# --- PRF001, SFT001: the file ---


def _lines(path: Path, rows: Rows, broken: dict[int, str]) -> Path:
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    for place, text in sorted(broken.items()):
        lines.insert(place, text)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("lang", LANGS)
@pytest.mark.parametrize("supervised", [False, True], ids=["pairs", "supervised"])
def test_broken_records(supervised: bool, lang: str, tmp_path: Path) -> None:
    rows = [{"instruction": r["prompt"], "output": r["chosen"]} for r in sound(lang)] if supervised else sound(lang)
    code = "SFT001" if supervised else "PRF001"
    for broken, outcome, severity in (
        ({3: "{not json"}, "few_left_out", "info"),
        ({3: "{not json", 20: '"text"'}, "some_left_out", "warning"),
        (dict.fromkeys((3, 9, 12, 20), "[1, 2]"), "many_left_out", "error"),
    ):
        found = finding(diagnose_pairs(_lines(tmp_path / "rows.jsonl", rows, broken)), f"{code}/{outcome}")
        assert found is not None and found.severity == severity
        assert sorted(line for e in found.evidence for line in e.value) == [place + 1 for place in broken]
        assert found.params["left_out"] == len(broken) and f"line {min(broken) + 1}" in found.message


def test_unreadable_files_are_told_apart(tmp_path: Path) -> None:
    """None of these holds a row; each says what it is instead."""
    import pyarrow
    import pyarrow.parquet

    table = tmp_path / "rows.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(sound("en")), table)
    (tmp_path / "cut.parquet").write_bytes(table.read_bytes()[:900])
    contents = {
        "pointer.jsonl": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12\n", "lfs_pointer"),
        "empty.csv": (b"prompt,chosen,rejected\n", "empty"), "image.png": (b"\x89PNG\r\n\x1a\n\0\0", "not_text"),
        "rows.xlsx.log": (b"no rows here\nnor here", "unknown_format"),
        "null.jsonl": (b'{"prompt": "Why?", "chosen": null, "rejected": "So."}\n' * 30, "no_known_columns"),
        "twice.jsonl": (b'{"prompt": "Why?", "chosen": "a", "chosen": "b", "rejected": "c"}\n' * 30, "no_row_usable"),
    }
    for name, (content, _) in contents.items():
        (tmp_path / name).write_bytes(content)
    outcomes = {name: outcome for name, (_, outcome) in contents.items()} | {"cut.parquet": "unreadable"}
    for name, outcome in outcomes.items():
        report = diagnose_pairs(tmp_path / name).report
        assert [f.outcome for f in report.findings] == [outcome], name
        assert report.verdict == "not_usable" and report.causes[0].id == "unreadable_data"
    said_of_null = diagnose_pairs(tmp_path / "null.jsonl", lang="zh").report.findings[0].message
    assert "chosen (null)" in said_of_null and "prompt (string)" in said_of_null


def test_rows_before_a_failure_are_judged(tmp_path: Path) -> None:
    """A UTF-16 file with a damaged place far behind: what stands before it is kept."""
    rows = sound("zh") * 300
    path = tmp_path / "long.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-16")
    with open(path, "ab") as file:
        file.write(b"\x00\xd8\x41\x00" * 2)  # a half character is no UTF-16
    diagnosis = diagnose_pairs(path)
    found = finding(diagnosis, "PRF001/reading_failed")
    assert found is not None and found.severity == "error" and found.params["rows"] >= 3000
    assert len(diagnosis.measures["similarity"]) == found.params["rows"]
    assert "unreadable_data" in [cause.id for cause in diagnosis.report.causes]


# --- rows that stand more than once ---


def _many(lang: str) -> Rows:
    """The same pairs under seven headings: no row repeats another exactly."""
    return [{**row, "prompt": f"{n}. {row['prompt']}"} for n in range(1, 8) for row in sound(lang)]


@pytest.mark.parametrize("lang", LANGS)
def test_repeated_rows(lang: str) -> None:
    for supervised, code in ((False, "PRF004"), (True, "SFT003")):
        rows = sound(lang)
        twice = judged([*rows, dict(rows[3]), {**rows[9], "prompt": rows[9]["prompt"] + " "}], supervised=supervised)
        said(twice, f"{code}/repeated", "warning", [32, 33])
        said(judged([*rows, dict(rows[3])], supervised=supervised), f"{code}/repeated", "info", [32])


@pytest.mark.parametrize("lang", LANGS)
def test_rows_nearly_repeated(lang: str) -> None:
    for supervised, code in ((False, "PRF005"), (True, "SFT004")):
        for count, severity in ((5, "warning"), (4, "info")):
            rows = sound(lang)
            copies = [{**rows[place], "chosen": rows[place]["chosen"][:-1] + "!"} for place in PLACES[:count]]
            diagnosis = judged(rows + copies, supervised=supervised)
            said(diagnosis, f"{code}/nearly_repeated", severity, range(32, 32 + count))


@pytest.mark.parametrize("lang", LANGS)
def test_both_orders(lang: str) -> None:
    def turned(row: Row) -> Row:
        return {**row, "chosen": row["rejected"], "rejected": row["chosen"]}

    rows = sound(lang)
    said(judged([*rows, turned(rows[7])]), "PRF006/both_orders", "warning", [7, 32])
    said(judged([*rows, turned(rows[7]), turned(rows[21])]), "PRF006/both_orders", "error", [7, 21, 32, 33])
    many = _many(lang)
    said(judged([*many, turned(many[7])]), "PRF006/both_orders", "info", [7, 224])


# --- sides that are told apart by one thing ---


@pytest.mark.parametrize("lang", LANGS)
def test_length(lang: str) -> None:
    """The chosen answers go on and on; in a few rows only that is no bias."""
    more = {"en": " It is worth trying this once with care, and then again with what you have learned.",
            "zh": "不妨先小心地试一次，再用学到的经验重新做一次，效果会更好。"}[lang]  # fmt: skip
    rows = sound(lang)
    for n, row in enumerate(rows):
        row["chosen"], row["rejected"] = (row["chosen"] + more * 2, row["rejected"]) if n != 2 else (row["rejected"], row["chosen"])
    diagnosis = judged(rows)
    longer = [n for n, r in enumerate(rows) if len(r["chosen"]) >= 1.3 * len(r["rejected"])]
    said(diagnosis, "PRF011/chosen_longer", "error", longer)
    assert len(longer) >= 30
    even = sound(lang)
    for n, row in enumerate(even):
        if n % 2:
            row["chosen"], row["rejected"] = row["rejected"], row["chosen"]
    severity = [f.severity for f in judged(even).report.findings if f.code == "PRF011"]
    assert severity in (["ok"], ["info"])
    for row in rows:
        row["chosen"], row["rejected"] = row["rejected"], row["chosen"]
    said(judged(rows), "PRF011/chosen_shorter", "error", longer)


@pytest.mark.parametrize("lang", LANGS)
def test_one_phrase(lang: str) -> None:
    """No row is worse than another: none is listed."""
    begin = {"en": "Certainly, happy to help! ", "zh": "当然可以，很高兴为您解答！"}[lang]
    for count, outcome, severity in ((31, "by_words", "error"), (26, "word_leans", "info")):
        rows = sound(lang)
        for row in rows[:count]:
            row["chosen"] = begin + row["chosen"]
        diagnosis = judged(rows)
        found = finding(diagnosis, f"PRF012/{outcome}")
        assert found is not None and found.severity == severity
        assert found.params["piece"].lower() in begin.lower() and found.params["rejected"] == 0
        assert diagnosis.rows.get("PRF012/by_words", np.zeros(0)).tolist() == []


@pytest.mark.parametrize("lang", LANGS)
def test_rejects_of_other_rows(lang: str) -> None:
    for count, spoken in ((5, True), (2, False)):
        rows = sound(lang)
        for place in PLACES[:count]:
            rows[place]["rejected"] = rows[place - 1]["chosen"]
        diagnosis = judged(rows)
        if spoken:
            said(diagnosis, "PRF013/another_rows_answer", "warning", PLACES[:count])
        else:
            assert [f.severity for f in diagnosis.report.findings if f.code == "PRF013"] in (["ok"], ["info"])


@pytest.mark.parametrize("lang", LANGS)
def test_few_rejects_again_and_again(lang: str) -> None:
    rows = sound(lang)
    few = [row["rejected"] for row in rows]
    for row, text in zip(rows, few[:1] * 12 + few[1:3] * 10, strict=True):
        row["rejected"] = text
    said(judged(rows), "PRF014/few_texts", "error", range(12))  # the rows of the commonest text
    for n, row in enumerate(rows):
        row["rejected"] = few[n % 12]
    assert [f.severity for f in judged(rows).report.findings if f.code == "PRF014"] == ["ok"]


# --- what stands in the text, for information ---


@pytest.mark.parametrize("lang", LANGS)
def test_personal_data(lang: str) -> None:
    """Always information, however many; a number without its check digit is none."""
    for supervised, code in ((False, "PRF017"), (True, "SFT010")):
        rows = sound(lang)
        for place in PLACES[:12]:
            rows[place]["chosen"] += PERSONAL[lang]
        diagnosis = judged(rows, supervised=supervised)
        said(diagnosis, f"{code}/found", "info", PLACES[:12])
        name = {"en": "e-mail addresses: 12", "zh": "Chinese mobile numbers: 12"}[lang]
        found = finding(diagnosis, f"{code}/found")
        assert found is not None and name in found.message
        for place in PLACES[:12]:
            rows[place]["chosen"] = rows[place]["chosen"].replace("@", " at ").replace("138", "038")
        assert finding(judged(rows, supervised=supervised), f"{code}/found") is None


def test_labels_that_are_all_the_same() -> None:
    for count, severity in ((20, "warning"), (19, "info")):
        pairs = [Pair([{"role": "user", "content": r["prompt"]}], None, r["rejected"], line=n) for n, r in enumerate(sound("en")[:count], 1)]
        said(diagnose_rows(pairs, name="kto"), "PRF003/one_label_only", severity, range(count))


# --- with a tokenizer ---


def _talks(path: Path, rows: Rows, *, supervised: bool = False) -> Path:
    """As messages, which reach the trainer through the chat template."""
    if supervised:
        records = [
            {"messages": [{"role": "user", "content": r["prompt"]}, {"role": "assistant", "content": r["chosen"]}]}
            for r in rows
        ]
    else:
        records = [
            {"prompt": [{"role": "user", "content": r["prompt"]}],
             **{side: [{"role": "assistant", "content": r[side]}] for side in ("chosen", "rejected")}}
            for r in rows
        ]  # fmt: skip
    path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records), encoding="utf-8")
    return path


@dataclass
class Tokenised:
    """Judges rows beside a tokenizer with ChatML."""

    folder: Path
    tokenizer: str = field(init=False)

    def __post_init__(self) -> None:
        self.tokenizer = str(chat_folder(self.folder / "tokenizer"))

    def judged(self, rows: Rows, *, supervised: bool = False, max_length: int = 4096) -> PairsDiagnosis:
        path = _talks(self.folder / "talks.jsonl", rows, supervised=supervised)
        return diagnose_pairs(path, tokenizer=self.tokenizer, max_length=max_length)


@pytest.fixture
def beside(tmp_path: Path) -> Tokenised:
    return Tokenised(tmp_path)


@pytest.mark.parametrize("lang", LANGS)
def test_truncation(beside: Tokenised, lang: str) -> None:
    long = {"en": "Read this again, slowly and aloud. ", "zh": "请把这句话再慢慢地大声读一遍。"}[lang]
    for count, severity in ((2, "warning"), (1, "info")):
        rows = sound(lang)
        for place in PLACES[:count]:
            rows[place]["prompt"] = long * 60
        for supervised, code in ((False, "PRF019"), (True, "SFT011")):
            said(beside.judged(rows, supervised=supervised, max_length=500), f"{code}/dropped", severity, PLACES[:count])
        rows = sound(lang)
        for place in PLACES[:count]:
            rows[place]["chosen"], rows[place]["rejected"] = (long * 60 + end for end in ("yes", "no"))
        said(beside.judged(rows, max_length=500), "PRF019/same_after_cut", severity, PLACES[:count])
    rows = sound(lang)
    for place in PLACES[:7]:
        rows[place]["chosen"] = long * 60
    for supervised, code in ((False, "PRF019"), (True, "SFT011")):
        said(beside.judged(rows, supervised=supervised, max_length=500), f"{code}/end_cut", "warning", PLACES[:7])
    rows[PLACES[6]] = sound(lang)[PLACES[6]]
    for supervised, code in ((False, "PRF019"), (True, "SFT011")):
        said(beside.judged(rows, supervised=supervised, max_length=500), f"{code}/end_cut", "info", PLACES[:6])


@pytest.mark.parametrize("lang", LANGS)
@pytest.mark.parametrize(("mark", "outcome"), [("<|im_end|>", "end_twice"), ("[EOS]", "end_is_no_token")])
def test_end_tokens(beside: Tokenised, mark: str, outcome: str, lang: str) -> None:
    for count, severity in ((3, "warning"), (1, "info")):
        rows = sound(lang)
        for place in PLACES[:count]:
            rows[place]["chosen"] += mark
        for supervised, code in ((False, "PRF020"), (True, "SFT012")):
            said(beside.judged(rows, supervised=supervised), f"{code}/{outcome}", severity, PLACES[:count])


@pytest.mark.parametrize("lang", LANGS)
def test_template_without_an_end(tmp_path: Path, lang: str) -> None:
    template = "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}"
    folder = chat_folder(tmp_path / "open", tokenizer_config={"chat_template": template})
    for supervised, code in ((False, "PRF020"), (True, "SFT012")):
        path = _talks(tmp_path / "talks.jsonl", sound(lang), supervised=supervised)
        said(diagnose_pairs(path, tokenizer=str(folder)), f"{code}/no_end_token", "error", range(32))


@pytest.mark.parametrize("lang", LANGS)
def test_prompt_that_merges_with_its_answer(beside: Tokenised, lang: str, tmp_path: Path) -> None:
    """A space at the end of a prompt becomes one token with the first letter of the answer."""
    for count, severity in ((2, "warning"), (1, "info")):
        rows = sound(lang)
        for place in PLACES[:count]:
            rows[place]["prompt"] += " "
            for side in ("chosen", "rejected"):
                rows[place][side] = f"A ripe banana. {rows[place][side]}"
        path = _lines(tmp_path / "text.jsonl", rows, {})
        said(diagnose_pairs(path, tokenizer=beside.tokenizer), "PRF021/merges", severity, PLACES[:count])


@pytest.mark.parametrize("lang", LANGS)
def test_rows_that_give_no_tokens(beside: Tokenised, lang: str) -> None:
    for count, severity in ((2, "warning"), (1, "info")):
        rows = sound(lang)
        for place in PLACES[:count]:
            rows[place]["chosen"] = "\ud83d" + rows[place]["chosen"]
        path = beside.folder / "talks.jsonl"
        _talks(path, sound(lang))
        records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        for place in PLACES[:count]:
            records[place]["chosen"][0]["content"] = rows[place]["chosen"]
        path.write_text("".join(json.dumps(r) + "\n" for r in records), encoding="utf-8")
        diagnosis = diagnose_pairs(path, tokenizer=beside.tokenizer)
        said(diagnosis, "PRF019/not_tokenised", severity, PLACES[:count])
        found = finding(diagnosis, "PRF019/not_tokenised")
        assert found is not None and "template_failed" not in found.message and "not_encodable" not in found.message


# --- with a model ---


@pytest.fixture(scope="module")
def answered(demo: DemoFolder, tmp_path_factory: pytest.TempPathFactory) -> Rows:
    """Questions of the demo in both languages, with the right answer and what its own model says."""
    path = write_rejects(demo, "healthy_decoder", tmp_path_factory.mktemp("model") / "rejects.json", rows=120)
    return list(json.loads(path.read_text(encoding="utf-8")))


def _in(lang: str, rows: Rows) -> Rows:
    chinese = [any("\u4e00" <= c <= "\u9fff" for c in row["instruction"]) for row in rows]
    return [dict(row) for row, is_chinese in zip(rows, chinese, strict=True) if is_chinese == (lang == "zh")][:40]


@pytest.mark.parametrize("lang", LANGS)
def test_likelihoods(demo: DemoFolder, answered: Rows, tmp_path: Path, lang: str) -> None:
    model = str(demo.cases["healthy_decoder"].checkpoint)
    rows = _in(lang, answered)
    assert len(rows) >= 30
    path = tmp_path / "pairs.json"

    def judged_by_model(rows: Rows) -> PairsDiagnosis:
        path.write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
        return diagnose_pairs(path, model=model)

    own = judged_by_model(rows)
    assert {f.code: f.severity for f in own.report.findings if f.code in ("PRF022", "PRF024")} == {"PRF022": "ok", "PRF024": "ok"}
    scores = own.measures["ches"].astype(np.float64)
    ranked = own.rows["PRF023/ranked"]
    sound_scores = scores[np.isfinite(scores)]
    highest = np.flatnonzero(scores >= np.quantile(sound_scores, 0.9))
    assert finding(own, "PRF023/ranked").severity == "info"  # type: ignore[union-attr]
    assert set(ranked.tolist()) == set(highest.tolist()) and 0 < len(ranked) < len(rows)

    # Chosen answers backwards: the model never wrote such, and its own answers are on the other side.
    backwards = judged_by_model([{**row, "chosen": row["chosen"][::-1]} for row in rows])
    gap = -(backwards.measures["logps_chosen"] - backwards.measures["logps_rejected"])
    found = finding(backwards, "PRF022/chosen_improbable")
    assert found is not None and found.severity == "warning" and found.params["gap"] > 1
    listed = backwards.rows["PRF022/chosen_improbable"]
    assert len(listed) > len(rows) / 2 and (gap[listed] > 0).all()

    # Rejected answers of other rows: all of them are an error, one in eight is not.
    for step, severity in ((1, "error"), (8, "ok")):
        moved = [dict(row) for row in rows]
        places = list(range(0, len(rows), step))
        for place in places:
            moved[place]["rejected"] = rows[(place + 11) % len(rows)]["chosen"]
        diagnosis = judged_by_model(moved)
        found = next(f for f in diagnosis.report.findings if f.code == "PRF024")
        assert found.severity == severity, found.params
        if severity == "error":
            assert len(diagnosis.rows["PRF024/off_topic"]) == found.params["rows"] >= 0.4 * len(rows)


# --- the whole ---


def test_every_check_is_tried_here() -> None:
    """A new check needs a case of its own: its code stands in this file."""
    text = Path(__file__).read_text(encoding="utf-8")
    missing = [c.code for c in (*PAIR_CHECKS, *SUPERVISED_CHECKS) if f'"{c.code}' not in text]
    assert not missing


def test_no_name_stands_twice_in_a_configuration() -> None:
    """YAML keeps the last of two entries and says nothing: one check would judge by the other one's number."""

    class Strict(yaml.SafeLoader):
        pass

    def mapping(loader: yaml.SafeLoader, node: yaml.MappingNode) -> dict[Any, Any]:
        keys = [loader.construct_object(key, deep=True) for key, _ in node.value]
        twice = {key for key in keys if keys.count(key) > 1}
        assert not twice, (node.start_mark.name, twice)
        return dict(zip(keys, (loader.construct_object(value, deep=True) for _, value in node.value), strict=True))

    Strict.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, mapping)
    for path in sorted((ROOT / "configs").rglob("*.yaml")):
        with open(path, encoding="utf-8") as file:
            yaml.load(file, Strict)  # noqa: S506 - a subclass of SafeLoader
