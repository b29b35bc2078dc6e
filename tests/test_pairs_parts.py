"""Parts of the tab Pairs without a browser: differences, requests, imports, words."""

from __future__ import annotations

import json
import re
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest
from tokenizer_folders import chat_folder
from written_pairs import rows, written

from pipeline.config_files import CONFIGS
from ui import pair_difference, pair_health, pair_import, pair_jobs, pair_workspaces
from ui.interface_words import words
from ui.pair_case import EXAMPLES, checked_source, example
from ui.pair_difference import difference, spans_html
from ui.pair_requests import REQUESTS, pairs_page, pairs_save, pairs_show
from ui.visitor_case import BadCase


def longest(a: Sequence[str], b: Sequence[str]) -> int:
    table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            table[i + 1][j + 1] = table[i][j] + 1 if x == y else max(table[i][j + 1], table[i + 1][j])
    return table[-1][-1]


def test_common_subsequence_is_a_longest_one() -> None:
    rng = Random(3)
    for _ in range(400):
        a, b = (rng.choices("abcd", k=rng.randrange(14)) for _ in range(2))
        found = pair_difference._common(a, b)
        assert all(a[i] == b[j] for i, j in found) and len(found) == longest(a, b)
        assert found == sorted(found) and len({i for i, _ in found}) == len({j for _, j in found}) == len(found)


@pytest.mark.parametrize(("a", "b", "chosen", "rejected"), [
    ("The quick brown fox jumps.", "The quick red fox jumps.", "brown", "red"),
    ("我喜欢吃苹果，因为它甜。", "我喜欢吃橘子，因为它甜。", "苹果", "橘子"),
    ("end<|im_end|>", "end", "<|im_end|>", ""),
    ("line one\nline two", "line one line two", "\n", " "),
    ("naïve e\u0301", "naïve e", "e\u0301", "e"),
])  # fmt: skip
def test_difference_is_by_words_and_characters(a: str, b: str, chosen: str, rejected: str) -> None:
    found = difference(a, b)
    assert "".join(part for _, part in found.chosen) == a and "".join(part for _, part in found.rejected) == b
    assert "".join(part for same, part in found.chosen if not same) == chosen
    assert "".join(part for same, part in found.rejected if not same) == rejected


def test_difference_stays_affordable() -> None:
    rng = Random(5)
    long = "".join(rng.choices("的一是不了在人有我他", k=60_000))
    for a, b in ((long, long[:30_000] + "另" + long[30_001:]), ("哈" * 60_000, "哈呵" * 30_000), ("a " * 30_000, "b\n" * 30_000)):
        started = time.perf_counter()
        found = difference(a, b)
        assert time.perf_counter() - started < 5 and found.cut[0] == len(a) - pair_difference.MAX_CHARACTERS
    assert difference("x" * 10, "x" * 10).note == "pairs_same_sides"
    assert difference("one two three", "vier fünf sechs").note == "pairs_little_shared"


def test_marks_are_escaped() -> None:
    found = difference("same <b>bold</b> text here", "same <i>thin</i> text here")
    for side, spans in (("chosen", found.chosen), ("rejected", found.rejected)):
        shown = spans_html(spans, side)
        assert "<b>" not in shown and "<i>" not in shown and ("<ins" in shown) == (side == "chosen")
    assert "␣" in spans_html([(False, " ")], "chosen")


def test_requests_survive_whatever_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DPO_DOCTOR_HOME", str(tmp_path))
    set_id = pair_import.begin(checked_source(str(written(tmp_path / "train.jsonl", rows()))))
    settled(set_id, "judge")
    odd: list[Any] = [None, 7, "x", [], {}, "../" * 9, "A" * 22, {"id": set_id}, -1, 2**70, float("nan"), True, [[1, 2], 3], "\ud800"]
    fields = ("id", "lang", "view", "offset", "position", "revision", "do", "texts", "side", "action", "find", "editor",
              "format", "suffix", "which", "columns", "column", "kind", "name", "seen", "form", "place")  # fmt: skip
    rng = Random(1)
    for request in REQUESTS:
        for value in odd:
            assert isinstance(request(value), dict)
        for _ in range(60):
            asked = {"id": set_id, **{f: rng.choice(odd) for f in rng.sample(fields, 6)}}
            answer = request(asked)
            assert isinstance(answer, dict)
            json.dumps(answer).encode()
    views = [{"ranges": {"chosen_chars": [1, 10**400]}}, {"ranges": {"x; DROP": [1, 2]}}, {"sort": "1; --"}, {"search": "%_\\'\""},
             {"finding": "'", "status": "x"}, {"strategy": "\u2014"}]  # fmt: skip
    for view in views:
        assert pairs_page({"id": set_id, "view": view}).get("parts"), view
    with pair_workspaces.opened(set_id) as workspace:
        assert workspace.counts().total == 8


def test_public_sets_are_found_by_their_id_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DPO_DOCTOR_HOME", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("DPO_DOCTOR_PUBLIC", "1")
    for named in ("/etc/passwd", str(tmp_path), "~/x", "\0", "ann/../x"):
        with pytest.raises(BadCase):
            checked_source(named)
    set_id, folder = pair_workspaces.new_folder()
    assert folder.is_relative_to(tmp_path) and folder.stat().st_mode & 0o77 == 0
    assert pair_workspaces.recent() == [] and not pair_workspaces.lasting()
    for other in ("", "..", set_id[:-1], set_id + "/..", "a" * 22):
        with pytest.raises(BadCase):
            pair_workspaces.folder_of(other)
    line = pair_workspaces.without_places(f"{folder}/pairs.sqlite: damaged")
    assert line == "pairs.sqlite: damaged"


def test_examples_are_one_sound_and_one_faulty() -> None:
    from diagnostics.diagnose_pairs import diagnose_pairs

    for lang in ("en", "zh"):
        verdicts = {name: diagnose_pairs(example(name, lang).paths[0]).report.verdict for name in EXAMPLES}
        assert verdicts["healthy"] == "healthy" and verdicts["sick"] in ("warnings", "problems"), (lang, verdicts)


def test_every_finding_of_a_row_has_a_name() -> None:
    """Outcomes that the checks of pairs mark rows with, as their source names them."""
    for path in sorted((CONFIGS.parent / "diagnostics" / "pairs").glob("*.py")):
        for outcome in re.findall(r"\.observed\(\s*\"(\w+)\"", path.read_text(encoding="utf-8")):
            for lang in ("en", "zh"):
                assert outcome in words(lang)["pairs_found"], f"{path.name}: {outcome}"


def test_every_problem_has_words() -> None:
    folder = CONFIGS.parent / "ui"
    named = {entry for path in folder.glob("*.py") for entry in re.findall(r"BadCase\(\s*\"(\w+)\"", path.read_text(encoding="utf-8"))}
    assert len(named) > 40
    for lang in ("en", "zh"):
        assert not named - words(lang).keys()


def settled(set_id: str, kind: str) -> pair_jobs.Job:
    """The work of this kind on a set, once it has ended."""
    for _ in range(1200):
        job = pair_jobs.find(set_id, kind)
        if job is not None and not job.live:
            return job
        time.sleep(0.05)
    raise AssertionError(f"{kind} did not end")


def test_tokens_are_counted_where_a_tokenizer_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import AutoTokenizer

    monkeypatch.setenv("DPO_DOCTOR_HOME", str(tmp_path / "home"))
    folder = chat_folder(tmp_path / "tokenizer")
    path = written(tmp_path / "train.jsonl", rows(30))
    set_id = pair_import.begin(checked_source(str(path), tokenizer=str(folder), max_length=4))
    assert settled(set_id, "import").problem is None and settled(set_id, "judge").problem is None
    _, now = pair_health.reports(set_id)
    assert now is not None and "PRF019" not in {entry.code for entry in now.skipped}
    wanted = len(AutoTokenizer.from_pretrained(folder).encode(rows()[0]["chosen"], add_special_tokens=False))
    for _ in range(400):  # loaded in the background
        shown = pairs_show({"id": set_id, "position": 0})["parts"]["pair"]
        if " tokens" in shown:
            break
        time.sleep(0.05)
    assert f"{len(rows()[0]['chosen'])} characters · {wanted} tokens" in shown
    broken = pair_import.begin(checked_source(str(path), tokenizer=str(tmp_path)))
    judged = settled(broken, "judge")
    assert judged.problem is None and (judged.note is not None or pair_health.reports(broken)[1] is not None)
    assert pairs_show({"id": broken, "position": 0})["parts"]


def test_texts_go_back_into_the_turns_they_came_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DPO_DOCTOR_HOME", str(tmp_path))
    record = {
        "prompt": [{"role": "system", "content": "S"}, {"role": "user", "content": "a"},
                   {"role": "assistant", "content": "b", "name": "x"}, {"role": "user", "content": "c\r\nd"}],
        "chosen": [{"role": "assistant", "content": "one"}, {"role": "user", "content": "two"},
                   {"role": "assistant", "content": "three"}],
        "rejected": [{"role": "assistant", "content": "no"}],
    }  # fmt: skip
    set_id = pair_import.begin(checked_source(str(written(tmp_path / "talk.jsonl", [record] * 3))))
    settled(set_id, "judge")
    asked = {"id": set_id, "position": 0, "editor": "e" * 22}
    assert pairs_save({**asked, "revision": 0, "side": "prompt", "texts": ["T", "a", "b", "c\ne"]})["toast"] == "Saved"
    assert pairs_save({**asked, "revision": 1, "side": "chosen", "texts": ["one", "2", "three"]})["toast"] == "Saved"
    with pair_workspaces.opened(set_id) as workspace:
        pair = workspace.get(0).pair
    assert pair.system == "T" and [t["content"] for t in pair.prompt] == ["a", "b", "c\r\ne"] and pair.prompt[1]["name"] == "x"
    assert isinstance(pair.chosen, list) and [t["content"] for t in pair.chosen] == ["one", "2", "three"]
    late = pairs_save({**asked, "revision": 1, "side": "rejected", "texts": ["yes"]})
    assert late["conflict"] and "dd-conflict" in late["parts"]["pair"] and pair.rejected == "no"
