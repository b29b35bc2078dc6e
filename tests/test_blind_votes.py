"""Blind votes: the page can't know whose answer is where, nothing voted is lost, votes become outcomes by row."""

from __future__ import annotations

import json
import threading
from dataclasses import asdict

import pytest

from pipeline.evaluation.blind_votes import FILE, open_votes
from pipeline.evaluation.results import ComparisonCase, to_json
from pipeline.refusal import Refused


def write_rows(path, rows):
    cases = [
        ComparisonCase(row, f"question {row}", "dpo", answers={"sft": old, "dpo": new}, category="all")
        for row, old, new in rows
    ]
    path.write_text("".join(json.dumps(to_json(case)) + "\n" for case in cases), encoding="utf-8")
    return path


@pytest.fixture
def rows(tmp_path):
    return write_rows(tmp_path / "c.rows.jsonl", [(n, f"old {n}", f"new {n}") for n in range(1, 41)])


def side_of(case, text):
    return "left" if case.left.startswith(text) else "right"


def vote_all(votes, choose=lambda case: side_of(case, "new"), most=10**6):
    cast = []
    while len(cast) < most and (case := votes.next()) is not None:
        cast.append(case)
        assert votes.vote(case, choose(case))
    return cast


def test_the_page_is_shown_no_name_and_both_sides(rows, tmp_path):
    votes = open_votes(rows, tmp_path / "v", 3, repeat_every=0)
    cast = vote_all(votes)
    shown = json.dumps([asdict(case) for case in cast])
    assert "sft" not in shown and "dpo" not in shown
    left = sum(case.left.startswith("new") for case in cast)
    assert 10 < left < 30
    assert sorted(case.prompt for case in cast) == sorted(f"question {n}" for n in range(1, 41))
    assert [case.prompt for case in cast] != [f"question {n}" for n in range(1, 41)]
    assert votes.next() is None


def test_votes_become_outcomes_of_the_after_model(rows, tmp_path):
    votes = open_votes(rows, tmp_path / "v", repeat_every=0)

    def choose(case):
        n = int(case.prompt.split()[1])
        return side_of(case, "new") if n <= 20 else side_of(case, "old") if n <= 30 else "tie" if n <= 35 else "skip"

    vote_all(votes, choose)
    expected = {n: "win" if n <= 20 else "loss" if n <= 30 else "tie" for n in range(1, 36)}
    assert votes.outcomes() == expected
    assert open_votes(rows, tmp_path / "v", seed=99).outcomes() == expected
    counts = votes.counts()
    assert (counts.cases, counts.voted, counts.skipped, counts.left) == (40, 35, 5, 0)


def test_an_interrupted_round_goes_on_where_it_was(rows, tmp_path):
    first = open_votes(rows, tmp_path, 5)
    seen = vote_all(first, most=7)
    waiting = first.next()
    again = open_votes(rows, tmp_path, 5)
    assert again.next() == waiting and again.next() == waiting
    assert waiting.id not in {case.id for case in seen} and waiting.number == 8


def test_undo_brings_the_case_back(rows, tmp_path):
    votes = open_votes(rows, tmp_path, 1)
    assert votes.undo() is None
    one, two = vote_all(votes, most=2)
    assert votes.reveal(two)["vote"] == side_of(two, "new")
    assert votes.undo() == two and votes.reveal(two) is None
    assert votes.undo() == one and votes.undo() is None
    assert votes.outcomes() == {}
    assert votes.vote(one, "tie") and list(votes.outcomes().values()) == ["tie"]


def test_names_are_told_after_the_vote_only(rows, tmp_path):
    votes = open_votes(rows, tmp_path)
    case = votes.next()
    assert votes.reveal(case) is None
    votes.vote(case.id, "left")
    told = votes.reveal(case.id)
    assert told == {"left": "dpo" if case.left.startswith("new") else "sft",
                    "right": "sft" if case.left.startswith("new") else "dpo", "vote": "left"}  # fmt: skip


def test_a_key_hit_twice_counts_once(rows, tmp_path):
    votes = open_votes(rows, tmp_path)
    case = votes.next()
    assert votes.vote(case, "left") and not votes.vote(case, "right")
    assert len(votes.outcomes()) == 1
    with pytest.raises(Refused) as refused:
        votes.vote("0" * 16, "left")
    assert refused.value.sentence.entry == "votes_case_unknown"


def test_one_vote_in_ten_is_asked_again_with_the_sides_exchanged(rows, tmp_path):
    votes = open_votes(rows, tmp_path, 2)
    cast = vote_all(votes)
    by_prompt = {}
    for case in cast:
        by_prompt.setdefault(case.prompt, []).append(case)
    twice = [cases for cases in by_prompt.values() if len(cases) == 2]
    assert len(cast) == 44 and len(twice) == 4
    assert all((a.left, a.right) == (b.right, b.left) and a.id != b.id for a, b in twice)
    counts = votes.counts()
    assert (counts.voted, counts.repeats, counts.same) == (40, 4, 4)
    assert len(votes.outcomes()) == 40
    always_left = open_votes(rows, tmp_path / "other", 2)
    vote_all(always_left, lambda case: "left")
    assert (always_left.counts().repeats, always_left.counts().same) == (4, 0)


def test_equal_answers_are_ties_in_proportion(tmp_path):
    rows = write_rows(tmp_path / "r.jsonl", [(n, f"old {n}", f"old {n} " if n % 2 else f"new {n}") for n in range(200)])
    votes = open_votes(rows, tmp_path, repeat_every=0)
    assert (votes.counts().cases, votes.counts().equal) == (100, 100)
    cast = vote_all(votes, most=40)
    assert not any(case.left.strip() == case.right.strip() for case in cast)
    found = list(votes.outcomes().values())
    assert found.count("win") == 40 and 20 <= found.count("tie") <= 70
    assert votes.counts().voted == 40


def test_several_people(rows, tmp_path):
    anna, bo = (open_votes(rows, tmp_path, 4, voter=name, repeat_every=0) for name in ("Anna", "博"))
    vote_all(anna)
    vote_all(bo, lambda case: side_of(case, "old" if case.prompt in ("question 1", "question 2") else "new"))
    assert anna.outcomes() == bo.outcomes() == {n: "tie" if n < 3 else "win" for n in range(1, 41)}
    counts = anna.counts()
    assert (counts.voters, counts.shared, counts.agreed, counts.voted) == (2, 40, 38, 40)


def test_a_broken_last_line_loses_one_vote_only(rows, tmp_path):
    votes = open_votes(rows, tmp_path)
    vote_all(votes, most=5)
    file = tmp_path / FILE
    file.write_bytes(file.read_bytes()[:-20])
    again = open_votes(rows, tmp_path)
    assert again.counts().voted == 4
    vote_all(again, most=3)
    file.write_bytes(file.read_bytes() + b'[1]\n{"case": 3}\nnull\n\xff\xfe\n')
    assert open_votes(rows, tmp_path).counts().voted == 7


def test_people_at_the_same_time_lose_nothing(rows, tmp_path):
    def vote(name):
        vote_all(open_votes(rows, tmp_path, voter=name))

    threads = [threading.Thread(target=vote, args=(f"voter {n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counts = open_votes(rows, tmp_path).counts()
    assert (counts.voters, counts.shared, counts.agreed) == (4, 40, 40)


def test_votes_on_other_texts_count_no_more(rows, tmp_path):
    vote_all(open_votes(rows, tmp_path))
    write_rows(rows, [(n, f"old {n}", f"{'newer' if n <= 10 else 'new'} {n}") for n in range(1, 41)])
    again = open_votes(rows, tmp_path)
    assert set(again.outcomes()) == set(range(11, 41)) and again.counts().left == 10


def test_a_file_that_changed_is_refused(rows, tmp_path):
    votes = open_votes(rows, tmp_path)
    rows.write_text("{}\n" * 50)
    with pytest.raises(Refused) as refused:
        votes.next()
    assert refused.value.sentence.entry == "votes_rows_changed"


@pytest.mark.parametrize(("content", "entry"), [(None, "votes_rows_unreadable"), (b"", "votes_rows_none"),
                                                (b'{"row": 1}\n\xff\n[]\n', "votes_rows_none")])  # fmt: skip
def test_rows_without_anything_to_vote_on(tmp_path, content, entry):
    path = tmp_path / "rows.jsonl"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(Refused) as refused:
        open_votes(path, tmp_path)
    assert refused.value.sentence.entry == entry
    assert refused.value.said("zh") != refused.value.said("en")
