"""The workspace of pairs: nothing lost on the way in, by a kill, by a second editor, or by an undo."""

from __future__ import annotations

import dataclasses
import datetime
import math
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.pair_workspace import (
    COLUMNS,
    Cancelled,
    Conflict,
    Counts,
    Saved,
    Undone,
    View,
    Workspace,
)
from pipeline.pair_workspace.schema import VERSION
from pipeline.pairs.all_formats import FORMATS
from pipeline.pairs.pair import Pair, text_of
from pipeline.pairs.read_pairs import PairFile
from pipeline.pairs.write_pairs import write_pairs
from pipeline.refusal import Refused

ROOT = Path(__file__).resolve().parent.parent


def question(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]


def some_pairs(rows: int, seed: int = 0) -> list[Pair]:
    """Pairs that differ in all that views ask for."""
    chance = random.Random(seed)
    words = ["今天", "天气", "很好", "Hello", "WORLD", "É", "100%", "a_b", "\\", "的"]
    pairs = []
    for n in range(rows):
        sides = [" ".join(chance.choices(words, k=chance.randint(0, 6))) for _ in range(3)]
        pairs.append(
            Pair(
                question(sides[0]), sides[1], None if chance.random() < 0.1 else sides[2],
                score_chosen=chance.choice([None, math.inf, *(k / 4 for k in range(8))]),
                score_rejected=chance.choice([None, 1.5, 2.5]),
                source=chance.choice([{}, {"rejected": {"strategy": "greedy"}}, {"rejected": {"strategy": "beam", "n": 4}}]),
                flags=chance.sample(["PRF005/near_duplicates", "PRF002", "长度/偏差"], k=chance.randint(0, 3)),
                status=chance.choice(["new", "new", "accepted", "edited", "discarded"]), id=str(n), line=n + 1,
            )
        )  # fmt: skip
    return pairs


@contextmanager
def workspace(folder: Path, pairs: Any) -> Iterator[Workspace]:
    made = Workspace.create(folder / "pairs.workspace", pairs, source_name="rows.jsonl")
    try:
        yield made
    finally:
        made.close()


def everything(pair: Pair) -> str:
    """All fields, also those that == leaves out; repr tells NaN, -0.0 and 1 from 1.0."""
    values = {field.name: getattr(pair, field.name) for field in dataclasses.fields(Pair)}
    return repr({**values, "source": sorted(pair.source.items())})


def refused(call: Any) -> str:
    """The entry that a call is refused with; its sentence is there in both languages."""
    with pytest.raises(Refused) as failed:
        call()
    assert failed.value.said("en") and failed.value.said("zh")
    return failed.value.sentence.entry


# --- pairs in and out ---

ODD = [
    Pair(question("q"), "a", "b"),
    Pair([], "", ""),
    Pair(question(""), None, None),
    Pair(question("kto"), None, "worse", score_rejected=-0.0),
    Pair([*question("1"), {"role": "assistant", "content": "2"}, {"role": "user", "content": "3", "name": "Li"}], "a", "b", system=""),
    Pair([{"content": "order", "role": "user"}], [{"role": "assistant", "content": "", "tool_calls": [{"f": 1}]}, {"role": "tool", "content": "7"}], "b"),
    Pair([{"role": "user", "content": [{"type": "image", "url": "x"}, {"type": "text", "text": "what"}]}], "a", "b"),
    Pair([{"role": "user", "content": None}], [], "b"),
    Pair(question("half \ud800 \ud83d\ude00"), "\ude00", "nul \0 after", system="\ud900", id="\udc80", flags=["\udc80", "z", "a"]),
    Pair(question("n"), "a", "b", score_chosen=math.nan, score_rejected=-math.inf),
    Pair(question("n"), "a", "b", score_chosen=3, score_rejected=10**30),  # type: ignore[arg-type]
    Pair(question("n"), "a", "b", score_chosen=True, id="0", line=7, origin="数据\udcff.jsonl"),
    Pair(question("json"), '{"a": 1}', "[]", extra={"exact": None, "a": [1, {"b": [math.nan, -math.inf, 10**40]}], "": ""}),
    Pair(question("table"), "a", "b", extra={"t": datetime.datetime(2026, 1, 2, 3, 4, 5, 6, datetime.UTC), "d": datetime.date(1, 1, 1), "b": b"\0\xff", "m": [("k", Decimal("1.10"))], "i": {1: datetime.timedelta(1, 2, 3)}, "half": "\ud800"}),
    Pair(question("made"), "a", "b", source={"rejected": {"strategy": "beam\ud800", "seed": 1}, "chosen": {}}, status="discarded"),
    Pair(question("odd source"), "a", "b", source={"rejected": ["x"]}, status="edited"),
    Pair(question("long"), "x" * 300_000, "的" * 100_000),
    Pair(question("'; DROP TABLE rows; --"), "%s", "{0}", id="' OR 1", status="accepted"),
]  # fmt: skip


def test_every_pair_comes_out_as_it_went_in(tmp_path: Path) -> None:
    before = [everything(pair) for pair in ODD]
    with workspace(tmp_path, ODD) as made:
        assert [everything(pair) for pair in made.pairs(discarded=True)] == before
        assert [everything(made.get(n).pair) for n in range(len(ODD))] == before
        assert len(list(made.pairs())) == len(ODD) - 1
        shown = made.page(View(), limit=100)
        texts = [(text_of(p.prompt)[:160], p.chosen and text_of(p.chosen)[:160]) for p in ODD]
        assert [(row.prompt, row.chosen or None) for row in shown][:8] == [(p, c or None) for p, c in texts][:8]
        assert [row.rejected_chars for row in shown] == [None if p.rejected is None else len(text_of(p.rejected)) for p in ODD]
        assert shown[16].chosen_chars == 300_000 and len(shown[16].chosen or "") == 160
        # and through an edit and back
        for n in range(len(ODD)):
            made.save(n, 0, chosen="another \ud800", prompt="\0", system="s", editor="a")
        while made.undo("a"):
            pass
        assert [everything(pair) for pair in made.pairs(discarded=True)] == before


@pytest.mark.parametrize("levels", [99, 100, 900, 50_000])
def test_deep_nesting_comes_out(tmp_path: Path, levels: int) -> None:
    deep: Any = []
    for _ in range(levels):
        deep = [deep]
    with workspace(tmp_path, [Pair(question("q"), "a", "b", extra={"deep": deep})]) as made:
        (found,) = made.pairs()
        depth, value = 0, found.extra["deep"]
        while value:
            (value,), depth = value, depth + 1
        assert depth == levels


def test_a_field_that_a_pair_gains_is_not_forgotten(tmp_path: Path) -> None:
    other = {"str": "x", "None": "x"}
    given = Pair(question("p"), [{"role": "assistant", "content": "c", "n": 1}], "r", "s", "i", 1.25, 2.5, {"chosen": {"a": 1}}, ["f"], "accepted", {"e": 1}, 9)
    for field in dataclasses.fields(Pair):
        if getattr(given, field.name) == field.default:
            setattr(given, field.name, other[type(field.default).__name__])
    with workspace(tmp_path, [given]) as made:
        assert [everything(pair) for pair in made.pairs()] == [everything(given)]


@pytest.mark.parametrize("name", FORMATS)
def test_files_come_out_as_they_went_in(tmp_path: Path, name: str) -> None:
    path = tmp_path / "rows.jsonl"
    pairs = [Pair(question(f"问题 {n}"), f"好\r\n{n}", f"坏 {n}", score_chosen=n + 2.5, score_rejected=1.0, extra={"topic": n}) for n in range(30)]
    write_pairs(pairs, path, name)
    read = list(PairFile(path))
    assert len(read) >= 30
    with workspace(tmp_path, PairFile(path)) as made:
        assert [everything(pair) for pair in made.pairs()] == [everything(pair) for pair in read]


def test_import_streams_and_can_be_cancelled(tmp_path: Path) -> None:
    produced, seen = 0, list[tuple[int, int]]()

    def source(rows: int) -> Iterator[Pair]:
        nonlocal produced
        for n in range(rows):
            produced = n + 1
            yield Pair(question("q"), "a" * 10, "b")

    path = tmp_path / "w"
    made = Workspace.create(path, source(3500), source_name="s", progress=lambda rows: seen.append((rows, produced)))
    assert [rows for rows, _ in seen] == [1000, 2000, 3000, 3500] and all(rows == made_then for rows, made_then in seen)
    assert made.source_name == "s" and made.counts() == Counts(3500, new=3500)
    made.close()

    cancel = threading.Event()
    with pytest.raises(Cancelled):
        Workspace.create(
            tmp_path / "x", source(10**9), source_name="s", cancel=cancel, progress=lambda rows: rows < 2000 or cancel.set()
        )
    assert produced == 2001
    assert sorted(p.name for p in tmp_path.iterdir()) == ["w"]


def test_long_texts_do_not_wait_for_a_thousand_rows(tmp_path: Path) -> None:
    seen: list[int] = []
    pairs = (Pair(question("q"), "x" * 1_500_000, "y") for _ in range(7))
    Workspace.create(tmp_path / "w", pairs, source_name="s", progress=seen.append).close()
    assert seen == [3, 6, 7]


@pytest.mark.parametrize("failure", [ValueError("row"), OSError(5, "read"), KeyboardInterrupt()])
def test_an_import_that_fails_leaves_nothing(tmp_path: Path, failure: BaseException) -> None:
    def broken() -> Iterator[Pair]:
        yield ODD[0]
        raise failure

    with pytest.raises(type(failure)) as failed:
        Workspace.create(tmp_path / "w", broken(), source_name="s")
    assert failed.value is failure
    assert not list(tmp_path.iterdir())


def test_no_rows_at_all(tmp_path: Path) -> None:
    with workspace(tmp_path, []) as made:
        assert made.counts() == Counts(0) and made.page(View()) == [] and made.count(View(search="a")) == 0
        assert made.next(0, View()) is None and list(made.pairs()) == [] and made.undo("a") is None
        assert made.distribution("chosen_chars", View()).counts == ()
        assert made.bulk(View(), "discard", "a").changed == 0 and made.unexported() == 0
        assert refused(lambda: made.get(0)) == "workspace_no_row"


# --- views ---


def column_of(pair: Pair, column: str, measures: dict[str, np.ndarray], n: int) -> float | None:
    """What a view sorts and filters by, computed plainly."""
    chars = {side: None if getattr(pair, side) is None else len(text_of(getattr(pair, side))) for side in ("prompt", "chosen", "rejected")}
    if column == "length_ratio":
        return chars["chosen"] / chars["rejected"] if chars["rejected"] and chars["chosen"] is not None else None
    if column.endswith("_chars"):
        return chars[column.removesuffix("_chars")]
    if column in measures:
        return None if math.isnan(measures[column][n]) else float(measures[column][n])
    return getattr(pair, column, None)


def expected(pairs: list[Pair], view: View, measures: dict[str, np.ndarray]) -> list[int]:
    found = []
    for n, pair in enumerate(pairs):
        sides = (view.side,) if view.side else ("prompt", "chosen", "rejected", "system")
        made = pair.source.get("rejected", {}).get("strategy", "")
        values = {column: column_of(pair, column, measures, n) for column in view.ranges}
        if (
            any(view.search.lower() in (text_of(getattr(pair, s)) if s != "system" else pair.system or "").lower() for s in sides)
            and (view.finding is None or view.finding in pair.flags)
            and (view.status is None or view.status == pair.status)
            and (view.strategy is None or view.strategy == made)
            and all(
                values[c] is not None and (low is None or values[c] >= low) and (high is None or values[c] <= high)
                for c, (low, high) in view.ranges.items()
            )
        ):
            found.append(n)
    if view.sort == "position":
        return found[::-1] if view.descending else found

    def key(n: int) -> tuple[bool, float, int]:
        value = column_of(pairs[n], view.sort, measures, n)
        return value is None, 0 if value is None else -value if view.descending else value, n

    return sorted(found, key=key)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Workspace, list[Pair], dict[str, np.ndarray]]]:
    pairs = some_pairs(120)
    measures = {
        "similarity": np.array([math.nan if n % 7 == 0 else (n * 37 % 20) / 20 for n in range(120)], np.float32),
        "重叠": np.linspace(-1, 1, 120, dtype=np.float32),
    }
    with workspace(tmp_path_factory.mktemp("filled"), pairs) as made:
        made.set_measures(measures)
        yield made, pairs, measures


@pytest.mark.parametrize("seed", range(80))
def test_views_give_what_a_plain_filter_gives(filled: Any, seed: int) -> None:
    made, pairs, measures = filled
    chance = random.Random(seed)
    columns = (*COLUMNS, "重叠")

    def maybe(values: list[Any]) -> Any:
        return chance.choice(values) if chance.random() < 0.35 else None

    def limits() -> tuple[float | None, float | None]:
        low = chance.choice([None, 0, 0.25, 1, 5])
        return low, chance.choice([None, 0.75, 2, 20, math.inf])

    view = View(
        search=maybe(["天气", "hello", "world HELLO", "é", "100%", "a_b", "\\", "%", "_", "x", "天气 很好"]) or "",
        finding=maybe(["PRF005/near_duplicates", "PRF002", "长度/偏差", "none"]),
        strategy=maybe(["greedy", "beam", "", "none"]),
        status=maybe(["new", "accepted", "edited", "discarded"]),
        ranges={column: limits() for column in chance.sample(columns, k=chance.choice([0, 0, 1, 2]))},
        sort=chance.choice(["position", *columns]),
        descending=chance.random() < 0.5,
        side=maybe(["prompt", "chosen", "rejected", "system"]),
    )
    wanted = expected(pairs, view, measures)
    assert [row.position for row in made.page(view, limit=1000)] == wanted
    assert made.count(view) == len(wanted)
    assert [row.position for row in made.page(view, 3, 5)] == wanted[3:8]  # the texts are known by now
    for here, after in zip(wanted, wanted[1:], strict=False):
        assert (made.next(here, view), made.previous(after, view)) == (after, here)
    if wanted:
        assert made.previous(wanted[0], view) is None and made.next(wanted[-1], view) is None
    streamed = [pair.id for pair in made.pairs(view, discarded=True)]
    assert streamed == [str(n) for n in wanted]
    elsewhere = sorted({0, 60, 119} - set(wanted))  # a row that left the view still has neighbours in it
    every = expected(pairs, dataclasses.replace(view, search="", finding=None, strategy=None, status=None, ranges={}, side=None), measures)
    for here in elsewhere:
        beyond = [n for n in every[every.index(here) + 1 :] if n in wanted]
        before = [n for n in every[: every.index(here)] if n in wanted]
        assert made.next(here, view) == (beyond[0] if beyond else None)
        assert made.previous(here, view) == (before[-1] if before else None)


def test_rows_shown(filled: Any) -> None:
    made, pairs, _ = filled
    for row, pair in zip(made.page(View(), limit=120), pairs, strict=True):
        assert (row.score_chosen, row.score_rejected, row.status, list(row.flags)) == (pair.score_chosen, pair.score_rejected, pair.status, pair.flags)
        assert (row.strategy, row.revision, row.turns) == (pair.source.get("rejected", {}).get("strategy", ""), 0, False)
    assert made.page(View(), 1000) == [] and made.page(View(), 0, 0) == []
    with pytest.raises(Refused):
        made.page(View(sort="nothing"))
    with pytest.raises(Refused):
        made.count(View(ranges={"rows; DROP TABLE rows": (0, 1)}))
    with pytest.raises(Refused):
        made.page(View(search="a", side="r.position) OR (1"))  # type: ignore[arg-type]


@pytest.mark.parametrize("column", [*COLUMNS, "重叠"])
def test_distribution_counts_every_row_once(filled: Any, column: str) -> None:
    made, pairs, measures = filled
    values = [column_of(pair, column, measures, n) for n, pair in enumerate(pairs) if pair.status == "new"]
    finite = sorted(v for v in values if v is not None and math.isfinite(v))
    found = made.distribution(column, View(status="new"), bins=7)
    assert sum(found.counts) == len(finite) and found.missing == len(values) - len(finite)
    assert len(found.edges) == len(found.counts) + 1 <= 8 and list(found.edges) == sorted(found.edges)
    assert found.edges[0] <= finite[0] and found.edges[-1] >= finite[-1]
    for n, rows in enumerate(found.counts):
        low, high = found.edges[n], found.edges[n + 1]
        last = n == len(found.counts) - 1
        assert rows == sum(low <= v < high or (last and v == high) for v in finite), n


def test_distribution_of_extremes(tmp_path: Path) -> None:
    scores = [-1.7e308, 1.7e308, math.inf, math.nan, 0.0]
    with workspace(tmp_path, [Pair(question("q"), "aaa", "b", score_chosen=s, score_rejected=1e308) for s in scores]) as made:
        found = made.distribution("score_chosen", View(), bins=4)
        assert (found.counts, found.missing) == ((1, 0, 1, 1), 2)
        assert made.distribution("score_rejected", View()).counts == (5,)
        assert made.distribution("chosen_chars", View()).edges == (3, 4)
        close = np.array([1e16, 1e16 + 2, 1e16 + 4, 0.1 + 0.2, 0.3])
        made.set_measures({"wide": close, "close": np.maximum(close, 1e16)})
        assert made.distribution("wide", View()).counts[::39] == (2, 3)
        assert sum(made.distribution("close", View()).counts) == 5
        with pytest.raises(Refused):
            made.distribution("nothing", View())


def test_search_finds_what_could_not_be_stored_as_text(tmp_path: Path) -> None:
    texts = ["a\0Tail", "a\ud800Tail", "ÀÉÎ été", "K" * 60_000, "50%_\\", "straße", "ПРИВЕТ мир", "ＡＢＣ", "line\nbreak"]
    with workspace(tmp_path, [Pair(question("q"), text, "b", system="Sys Tem") for text in texts]) as made:
        for n, wanted in enumerate(["a\0tail", "a\ud800tAIL", "éî ÉTÉ", "k" * 55_000, "0%_\\", "STRAßE", "привет МИР", "ａｂｃ", "line\nBREAK"]):
            for _ in range(2):  # as read, then as remembered
                assert n in [row.position for row in made.page(View(search=wanted))], wanted
                assert made.count(View(search=wanted)) == (2 if n < 2 else 1)
        assert made.count(View(search="sys tem")) == len(texts) and made.count(View(search="sys tem", side="chosen")) == 0


def test_search_keeps_up_with_edits(tmp_path: Path) -> None:
    pairs = [Pair(question("q"), f"chosen {n}", "b") for n in range(50)]
    with workspace(tmp_path, pairs) as made:
        other = Workspace.open(tmp_path / "pairs.workspace")
        view = View(search="CHOSEN")
        assert made.count(view) == 50
        other.save(7, 0, chosen="none", editor="b")
        assert made.count(view) == 49 and made.next(6, view) == 8
        assert [row.position for row in made.page(view, 5, 3)] == [5, 6, 8]
        made.bulk(View(), "replace", "a", find="chosen", replace="x", side="chosen")
        assert made.count(view) == 0 and other.count(view) == 0
        made.undo("a")
        assert made.count(view) == other.count(view) == 49
        other.close()


def test_a_page_is_of_one_moment(tmp_path: Path) -> None:
    """Pairs that are read while others write are all from before."""
    with workspace(tmp_path, some_pairs(300)) as made:
        before = [everything(pair) for pair in made.pairs(discarded=True)]
        reading = made.pairs(discarded=True)
        found = [next(reading)]
        made.bulk(View(), "swap", "a")
        made.save(299, made.get(299).revision, chosen="later", editor="a")
        found += list(reading)
        assert [everything(pair) for pair in found] == before


# --- edits ---


def test_save_makes_revisions(tmp_path: Path) -> None:
    with workspace(tmp_path, [Pair(question("q"), "a", "b", score_chosen=1.0), *ODD]) as made:
        assert made.save(0, 0, chosen="better", editor="Li") == Saved(0, 1)
        assert made.save(0, 1, rejected="worse", system="be kind", status="accepted", editor="Wang") == Saved(0, 2)
        held = made.get(0)
        assert (held.pair.chosen, held.pair.rejected, held.pair.system, held.pair.status) == ("better", "worse", "be kind", "accepted")
        assert (held.revision, held.editor, held.pair.score_chosen) == (2, "Wang", 1.0)
        assert abs(datetime.datetime.fromisoformat(held.changed_at).timestamp() - time.time()) < 60
        assert made.swap(0, 2, "Li") == Saved(0, 3)
        assert made.discard(0, 3, "Li") == Saved(0, 4)
        assert made.accept(0, 4, "Li") == Saved(0, 5)
        pair = made.get(0).pair
        assert (pair.chosen, pair.rejected, pair.score_chosen, pair.score_rejected, pair.status) == ("worse", "better", None, 1.0, "accepted")
        history = [(r.revision, r.editor, r.action, r.changed, r.status) for r in made.revisions(0)]
        assert history == [
            (0, "", "import", (), "new"), (1, "Li", "save", ("chosen", "status"), "edited"),
            (2, "Wang", "save", ("rejected", "system", "status"), "accepted"),
            (3, "Li", "swap", ("chosen", "rejected", "scores", "status"), "edited"),
            (4, "Li", "discard", ("status",), "discarded"), (5, "Li", "accept", ("status",), "accepted"),
        ]  # fmt: skip
        assert [made.get(0, n).pair.chosen for n in range(6)] == ["a", "better", "better", "worse", "worse", "worse"]
        assert [made.get(0, n).pair.status for n in (0, 1, 4)] == ["new", "edited", "discarded"]
        assert refused(lambda: made.get(0, 6)) == "workspace_no_revision"
        assert refused(lambda: made.save(10**30, 0, chosen="x", editor="a")) == "workspace_no_row"
        assert refused(lambda: made.discard(-1, 0, "a")) == "workspace_no_row"


def test_what_holds_already_is_no_edit(tmp_path: Path) -> None:
    turns = [{"role": "assistant", "content": "a\r\nb"}, {"role": "tool", "content": "c"}]
    pairs = [Pair(question("q\r\nr"), turns, None, status="accepted"), Pair([*question("1"), *question("2")], "x", "x")]
    with workspace(tmp_path, pairs) as made:
        # a text field gives line ends as \n, what is empty for what isn't there, and turns as their text
        assert made.save(0, 0, prompt="q\nr", chosen="a\nb\nc", rejected="", system="", editor="a") == Saved(0, 0, changed=False)
        assert made.save(1, 0, prompt="1\n2", editor="a") == Saved(1, 0, changed=False)
        assert made.accept(0, 0, "a") == Saved(0, 0, changed=False)
        assert made.swap(1, 0, "a") == Saved(1, 0, changed=False)
        assert made.unexported() == 0 and made.undo("a") is None and len(made.revisions(0)) == 1
        assert made.save(1, 0, prompt="new", editor="a") == Saved(1, 1)
        assert [turn["content"] for turn in made.get(1).pair.prompt] == ["1", "new"]
        assert made.save(0, 0, chosen=[*turns, *question("d")], editor="a") == Saved(0, 1)
        assert len(made.get(0).pair.chosen or "") == 3


def test_a_second_editor_is_told_and_overwrites_nothing(tmp_path: Path) -> None:
    with workspace(tmp_path, ODD) as made:
        other = Workspace.open(tmp_path / "pairs.workspace")
        assert made.save(0, 0, chosen="mine", editor="Li") == Saved(0, 1)
        for call in (
            lambda: other.save(0, 0, chosen="yours", editor="Wang"), lambda: other.swap(0, 0, "Wang"),
            lambda: other.discard(0, 0, "Wang"), lambda: other.accept(0, 2, "Wang"),
        ):  # fmt: skip
            found = call()
            assert isinstance(found, Conflict)
            assert (found.position, found.revision, found.editor, found.pair.chosen) == (0, 1, "Li", "mine")
        assert other.get(0).revision == 1 and other.counts().edited == made.counts().edited
        other.close()


def test_counts_follow_every_way_of_changing(tmp_path: Path) -> None:
    with workspace(tmp_path, some_pairs(200)) as made:
        def recounted() -> Counts:
            statuses = Counter(pair.status for pair in made.pairs(discarded=True))
            return Counts(200, **statuses)  # type: ignore[arg-type]

        for step in (
            lambda: made.save(3, 0, chosen="x", editor="a"), lambda: made.bulk(View(status="new"), "accept", "a"),
            lambda: made.undo("a"), lambda: made.redo("a"), lambda: made.bulk(View(), "discard", "b"), lambda: made.undo("b"),
        ):  # fmt: skip
            step()
            assert made.counts() == recounted()
            assert sum(made.count(View(status=s)) for s in ("new", "accepted", "edited", "discarded")) == 200


# --- undo and redo ---


class Model:
    """Rows as layers of actions, one above the other, in memory."""

    def __init__(self, rows: int) -> None:
        self.layers: list[list[tuple[int, Any]]] = [[(0, (f"a{n}", f"b{n}", "new"))] for n in range(rows)]
        self.actions: list[dict[str, Any]] = []

    def state(self, row: int) -> Any:
        return self.layers[row][-1][1]

    def act(self, editor: str, changes: dict[int, Any]) -> None:
        changes = {row: state for row, state in changes.items() if state != self.state(row)}
        if not changes:
            return
        for action in self.actions:
            if action["editor"] == editor and action["state"] == "undone":
                action["state"] = "spent"
        number = len(self.actions) + 1
        below = {row: self.layers[row][-1][0] for row in changes}
        self.actions.append({"n": number, "editor": editor, "state": "done", "changes": changes, "below": below})
        for row, state in changes.items():
            self.layers[row].append((number, state))

    def undo(self, editor: str) -> tuple[int, int] | None:
        mine = [a for a in self.actions if a["editor"] == editor and a["state"] == "done"]
        if not mine:
            return None
        rows = [row for row in mine[-1]["changes"] if self.layers[row][-1][0] == mine[-1]["n"]]
        for row in rows:
            self.layers[row].pop()
        mine[-1]["state"] = "undone" if rows else "spent"
        return len(rows), len(mine[-1]["changes"]) - len(rows)

    def redo(self, editor: str) -> tuple[int, int] | None:
        mine = [a for a in self.actions if a["editor"] == editor and a["state"] == "undone"]
        if not mine:
            return None
        rows = [row for row in mine[0]["changes"] if self.layers[row][-1][0] == mine[0]["below"][row]]
        for row in rows:
            self.layers[row].append((mine[0]["n"], mine[0]["changes"][row]))
        mine[0]["state"] = "done" if rows else "spent"
        return len(rows), len(mine[0]["changes"]) - len(rows)


@pytest.mark.parametrize("seed", range(25))
def test_undo_and_redo_against_a_plain_model(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    rows = 6
    model = Model(rows)
    with workspace(tmp_path, [Pair(question("q"), f"a{n}", f"b{n}") for n in range(rows)]) as made:
        for step in range(120):
            editor = chance.choice("xy")
            row, kind = chance.randrange(rows), chance.randrange(9)
            chosen, rejected, status = model.state(row)
            if kind == 0:
                text = f"{editor}{step}"
                made.save(row, made.get(row).revision, chosen=text, editor=editor)
                model.act(editor, {row: (text, rejected, "edited")})
            elif kind == 1:
                made.swap(row, made.get(row).revision, editor)
                model.act(editor, {row: (rejected, chosen, "edited")})
            elif kind == 2:
                made.discard(row, made.get(row).revision, editor)
                model.act(editor, {row: (chosen, rejected, "discarded")})
            elif kind == 3:
                view = View(search=chance.choice(["a", "b", "x"]), side="chosen")
                held = [r for r in range(rows) if view.search in model.state(r)[0]]
                action = chance.choice(["accept", "discard", "swap"])
                made.bulk(view, action, editor)
                becomes = {
                    "accept": lambda s: (*s[:2], "accepted"), "discard": lambda s: (*s[:2], "discarded"), "swap": lambda s: (s[1], s[0], "edited"),
                }[action]  # fmt: skip
                held = [r for r in held if action == "discard" or model.state(r)[2] != "discarded"]
                model.act(editor, {r: becomes(model.state(r)) for r in held})
            else:
                name = "undo" if kind < 7 else "redo"
                found = getattr(made, name)(editor)
                wanted = getattr(model, name)(editor)
                if wanted is None:
                    assert found is None
                elif wanted[0]:
                    assert isinstance(found, Undone) and (found.rows, found.left) == wanted, (step, name)
                else:
                    assert isinstance(found, Conflict) and found.left == wanted[1]
            states = [(p.chosen, p.rejected, p.status) for p in made.pairs(discarded=True)]
            assert states == [model.state(r) for r in range(rows)], (step, kind)
        for n in range(rows):  # every state ever held is still there, in order
            history = made.revisions(n)
            assert [one.revision for one in history] == list(range(len(history)))
        assert sqlite3.connect(tmp_path / "pairs.workspace").execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_undo_leaves_what_another_did_later(tmp_path: Path) -> None:
    with workspace(tmp_path, [Pair(question("q"), f"a{n}", "b") for n in range(10)]) as made:
        made.bulk(View(), "discard", "Li")
        made.save(4, 1, chosen="kept", editor="Wang")
        assert made.undo("Li") == Undone("discard", 9, 1, 0)
        assert made.get(4).pair.chosen == "kept" and made.counts() == Counts(10, new=9, edited=1)
        assert made.redo("Li") == Undone("discard", 9, 1, 0)
        made.save(0, made.get(0).revision, chosen="mine", editor="Li")
        made.save(0, made.get(0).revision, chosen="yours", editor="Wang")
        found = made.undo("Li")
        assert isinstance(found, Conflict) and (found.editor, found.pair.chosen, found.left) == ("Wang", "yours", 1)
        assert made.undo("Li") == Undone("discard", 8, 2, 1)  # past the one that can't be taken back
        assert made.undo("Li") is None


def test_undo_outlives_the_program(tmp_path: Path) -> None:
    path = tmp_path / "pairs.workspace"
    with workspace(tmp_path, ODD) as made:
        made.save(0, 0, chosen="x", editor="Li")
    again = Workspace.open(path)
    assert again.undo("Wang") is None
    assert again.undo("Li") == Undone("save", 1, 0, 0) and again.get(0).pair.chosen == "a"
    again.close()
    again = Workspace.open(path)
    assert again.redo("Li") == Undone("save", 1, 0, 0) and again.get(0).pair.chosen == "x"
    again.close()


# --- bulk ---

BULK = [
    Pair(question("p x"), "good", "bad x"), Pair(question("p"), "bad y", "bad x"), Pair(question("p"), "good", "fine"),
    Pair(question("x x"), None, "x"), Pair(question("p"), "x", None), Pair(question("p"), "same", "same"),
    Pair(question("p"), "x", "gone x", status="discarded"), Pair(question("p"), "ok", "ok x", status="accepted"),
    Pair(question("p"), [{"role": "assistant", "content": "x", "k": 1}, {"role": "assistant", "content": [{"type": "text", "text": "x"}, {"type": "image"}]}], "x \ud800"),
    Pair(question("p"), "s", "s", score_chosen=1.0, source={"chosen": {"a": 1}}),
    Pair(question("p"), "\ufffd", "a\0b", source={"rejected": {"strategy": "beam"}, "chosen": {"strategy": "human"}}),
]  # fmt: skip


def said(value: Any) -> str:
    """All that is said in a text or in turns."""
    if isinstance(value, list):
        return "|".join(said(part.get("content", part.get("text", ""))) for part in value)
    return value


def with_said(value: Any, find: str, put: str) -> Any:
    if isinstance(value, list):
        return [{k: with_said(v, find, put) if k in ("content", "text") else v for k, v in part.items()} for part in value]
    return value.replace(find, put)


def plain_bulk(pair: Pair, action: str, find: str, put: str, side: str, *, asked: bool) -> Pair | str:
    """What becomes of one pair, said plainly: the new one, `already` or `left`."""
    if pair.status == "discarded" and action != "discard" and not asked:
        return "left"
    if action in ("discard", "accept"):
        status = {"discard": "discarded", "accept": "accepted"}[action]
        return "already" if pair.status == status else dataclasses.replace(pair, status=status)
    if action == "swap":
        other = dict(pair.source)
        for a, b in (("chosen", "rejected"), ("rejected", "chosen")):
            other.pop(b, None)
            if a in pair.source:
                other[b] = pair.source[a]
        new = dataclasses.replace(pair, chosen=pair.rejected, rejected=pair.chosen, score_chosen=pair.score_rejected, score_rejected=pair.score_chosen, source=other)
    else:
        place = "rejected" if action == "correct" else side
        before = getattr(pair, place)
        if before is None or find not in said(before):
            return "left"
        after = with_said(before, find, put)
        if action == "replace":
            new = dataclasses.replace(pair, **{place: after})
        elif after == pair.chosen:
            return "already"
        else:
            made = {"strategy": "correction", "find": find, "replace": put}
            new = dataclasses.replace(pair, chosen=after, score_chosen=None, source={**pair.source, "chosen": made})
    return "already" if new == pair else dataclasses.replace(new, status="edited")


@pytest.mark.parametrize("status", [None, "discarded"])
@pytest.mark.parametrize(
    ("action", "find", "put", "side"),
    [
        ("discard", None, None, None), ("accept", None, None, None), ("swap", None, None, None),
        ("replace", "x", "yy", "chosen"), ("replace", "x", "", "rejected"), ("replace", "x", "x", "rejected"),
        ("replace", "x", "\ud800", "prompt"), ("replace", "\0", "-", "rejected"), ("replace", "\ufffd", "-", "chosen"),
        ("replace", "p", "%", "system"), ("correct", "x", "y", None), ("correct", " x", "", None), ("correct", "\0", "x", None),
        ("correct", "bad", "\ud800", None),
    ],
)  # fmt: skip
def test_bulk_does_what_its_preview_says(tmp_path: Path, action: Any, find: Any, put: Any, side: Any, status: Any) -> None:
    view = View(status=status)
    with workspace(tmp_path, BULK) as made:
        wanted, counted, changed = list[Pair](), Counter[str](), list[int]()
        for n, pair in enumerate(BULK):
            in_view = status is None or pair.status == status
            after = plain_bulk(pair, action, find or "", put or "", side or "", asked=status == "discarded") if in_view else "out"
            counted["changed" if isinstance(after, Pair) else after] += 1
            wanted.append(after if isinstance(after, Pair) else pair)
            if isinstance(after, Pair):
                changed.append(n)
        options = {"find": find, "replace": put, "side": side}
        shown = made.preview(view, action, **options)
        assert (shown.changes, shown.already, shown.left) == (counted["changed"], counted["already"], counted["left"])
        assert [example.position for example in shown.examples] == changed[:5]
        for example in shown.examples:
            assert everything(example.before) == everything(BULK[example.position])
            assert everything(example.after) == everything(wanted[example.position])
        assert made.unexported() == 0
        looked: list[int] = []
        done = made.bulk(view, action, "Li", **options, progress=looked.append)
        assert (done.changed, done.already, done.left) == (shown.changes, shown.already, shown.left)
        assert looked == [sum(counted.values()) - counted["out"]]
        assert [everything(pair) for pair in made.pairs(discarded=True)] == [everything(pair) for pair in wanted]
        assert made.count(View(strategy="beam")) == sum(p.source.get("rejected", {}).get("strategy") == "beam" for p in wanted)
        again = made.preview(view, action, **options)
        assert action in ("swap", "replace") or again.changes == 0 or status is not None
        if counted["changed"]:
            assert made.undo("Li") == Undone(action, counted["changed"], 0, changed[0])
        assert [everything(pair) for pair in made.pairs(discarded=True)] == [everything(pair) for pair in BULK]


def test_bulk_cancelled_writes_nothing(tmp_path: Path) -> None:
    with workspace(tmp_path, some_pairs(3000)) as made:
        before = [everything(pair) for pair in made.pairs(discarded=True)]
        cancel = threading.Event()
        done = made.bulk(View(), "swap", "Li", progress=lambda rows: rows < 2000 or cancel.set(), cancel=cancel)
        assert done.cancelled and done.changed == 0
        assert [everything(pair) for pair in made.pairs(discarded=True)] == before
        assert made.unexported() == 0 and made.undo("Li") is None
        assert made.bulk(View(), "swap", "Li").changed > 2000


def test_bulk_refuses_what_makes_no_sense(tmp_path: Path) -> None:
    with workspace(tmp_path, BULK) as made:
        assert refused(lambda: made.bulk(View(), "replace", "Li", find="", replace="x", side="chosen")) == "workspace_find_empty"
        assert refused(lambda: made.preview(View(), "correct", replace="x")) == "workspace_find_empty"
        assert refused(lambda: made.bulk(View(), "replace", "Li", find="x", replace="y")) == "workspace_side_unknown"
        side: Any = "status"
        assert refused(lambda: made.preview(View(), "replace", find="x", side=side)) == "workspace_side_unknown"


# --- findings, measures, exports ---


def test_flags_are_replaced_and_counted_without_the_discarded(tmp_path: Path) -> None:
    with workspace(tmp_path, [Pair(question("q"), "a", "b", flags=["old", "twice", "twice"]) for _ in range(10)]) as made:
        assert made.flags() == {"old": 10, "twice": 10}
        made.set_flags({"few": [7, 3, 3], "PRF005/near_duplicates": np.arange(10), "none": [], "first": range(2)})
        assert made.flags() == {"PRF005/near_duplicates": 10, "few": 2, "first": 2, "none": 0}
        assert made.get(3).pair.flags == ["few", "PRF005/near_duplicates"] and made.count(View(finding="old")) == 0
        made.discard(3, 0, "Li")
        assert made.flags() == {"PRF005/near_duplicates": 9, "first": 2, "few": 1, "none": 0}
        assert made.count(View(finding="few")) == 2 and made.count(View(finding="few", status="discarded")) == 1
        for wrong in ([10], [-1]):
            with pytest.raises(ValueError, match="outside"):
                made.set_flags({"few": wrong})
        assert made.flags()["first"] == 2  # nothing of the failed one
        made.set_flags({})
        assert made.flags() == {} and made.get(3).pair.flags == []


def test_measures_belong_to_the_texts(tmp_path: Path) -> None:
    with workspace(tmp_path, [Pair(question("q"), f"a{n}", "b") for n in range(5)]) as made:
        made.set_measures({"similarity": np.array([0.5, math.nan, 0.25, 1, 0], np.float32)})
        made.set_measures({"overlap": np.ones(5, np.float32)})
        assert made.measures() == ("similarity", "overlap")
        high = View(ranges={"similarity": (0.5, None)})
        assert [row.position for row in made.page(high)] == [0, 3]
        made.save(0, 0, chosen="other", editor="Li")
        assert [row.position for row in made.page(high)] == [3]
        made.undo("Li")
        assert [row.position for row in made.page(high)] == [0, 3]
        made.discard(0, 2, "Li")
        assert [row.position for row in made.page(high)] == [0, 3]
        assert made.distribution("overlap", View()).missing == 0
        for wrong in ({"x": np.ones(4)}, {"prompt_chars": np.ones(5)}, {"position": np.ones(5)}, {"": np.ones(5)}):
            with pytest.raises(ValueError):
                made.set_measures(wrong)
        assert made.measures() == ("similarity", "overlap")


def test_unexported_counts_actions_since_what_was_written(tmp_path: Path) -> None:
    with workspace(tmp_path, ODD) as made:
        assert made.unexported() == 0
        made.save(0, 0, chosen="x", editor="Li")
        made.bulk(View(), "accept", "Wang")
        made.undo("Wang")
        assert made.unexported() == 3
        reading = made.pairs()
        next(reading)
        made.save(1, made.get(1).revision, chosen="while it was written", editor="Li")
        list(reading)
        made.exported(tmp_path / "out.jsonl", "trl")
        assert made.unexported() == 1
        list(made.pairs())
        made.exported(tmp_path / "out\udcff.jsonl", "trl")
        assert made.unexported() == 0
        other = Workspace.open(tmp_path / "pairs.workspace")
        other.discard(0, other.get(0).revision, "Wang")
        assert made.unexported() == other.unexported() == 1
        other.exported(tmp_path / "out.jsonl", "trl")
        assert made.unexported() == 0
        other.close()


# --- several at once ---

SAVER = """
import random, sys
from pathlib import Path
from pipeline.pair_workspace import Saved, View, Workspace
w = Workspace.open(Path(sys.argv[1]))
chance, editor = random.Random(sys.argv[2]), sys.argv[2]
while True:
    row = chance.randrange(40)
    text = f"{editor} {chance.random()} " + "x" * chance.choice([1, 400, 30_000])
    done = w.save(row, w.get(row).revision, chosen=text, editor=editor)
    if isinstance(done, Saved):
        print(row, done.revision, text, sep="\\t", flush=True)
    if chance.random() < 0.1:
        done = w.bulk(View(), "swap", editor)
        print("bulk", done.changed, w.counts().edited, sep="\\t", flush=True)
"""


def started(code: str, *arguments: object, **options: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)], cwd=ROOT, stdout=subprocess.PIPE, text=True, encoding="utf-8", **options
    )


def test_nothing_answered_is_lost_by_a_kill(tmp_path: Path) -> None:
    """Processes that save in a loop, two at once, are killed 20 times at any moment."""
    path = tmp_path / "pairs.workspace"
    Workspace.create(path, [Pair(question("q"), f"a{n}", f"b{n}") for n in range(40)], source_name="s").close()
    chance = random.Random(5)
    answered: dict[tuple[int, int], str] = {}
    for round_number in range(10):
        both = [started(SAVER, path, f"{name}{round_number}") for name in ("Li", "Wang")]
        lines = []
        for process in both:
            assert process.stdout is not None
            lines += [process.stdout.readline() for _ in range(chance.randint(1, 30))]
        time.sleep(chance.random() * 0.05)
        for process in both:
            process.kill()
        for process in both:
            assert process.stdout is not None
            lines += process.stdout.read().splitlines(keepends=True)
            assert process.wait() == -9
        for line in lines:
            row, *rest = line.split("\t")
            if line.endswith("\n") and row != "bulk":
                answered[int(row), int(rest[0])] = rest[1].rstrip("\n")
        made = Workspace.open(path)
        for (row, revision), text in answered.items():
            assert made.get(row, revision).pair.chosen == text, (round_number, row, revision)
        swaps = [(one.action, one.rows) for one in made.revisions(0) if one.action == "swap"]
        assert all(rows == 40 for _, rows in swaps)  # a bulk edit is whole or not there
        made.close()
        with sqlite3.connect(path) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert len(answered) > 150


RACER = """
import sys
from pathlib import Path
from pipeline.pair_workspace import Saved, Workspace
w = Workspace.open(Path(sys.argv[1]))
print("ready", flush=True)
for line in sys.stdin:
    done = w.save(0, int(line), chosen=f"{sys.argv[2]} {line.strip()}", editor=sys.argv[2])
    print(type(done).__name__, done.revision, w.get(0, done.revision).editor, flush=True)
"""


def test_of_two_processes_one_wins_each_revision(tmp_path: Path) -> None:
    path = tmp_path / "pairs.workspace"
    Workspace.create(path, ODD, source_name="s").close()
    both = [started(RACER, path, name, stdin=subprocess.PIPE) for name in ("Li", "Wang")]
    winners = Counter[str]()
    assert all(process.stdout is not None and process.stdout.readline() == "ready\n" for process in both)
    for base in range(150):
        for process in both[:: 1 if base % 2 else -1]:
            assert process.stdin is not None
            process.stdin.write(f"{base}\n")
            process.stdin.flush()
        answers = [process.stdout.readline().split() for process in both if process.stdout is not None]
        assert sorted(kind for kind, *_ in answers) == ["Conflict", "Saved"], answers
        assert {revision for _, revision, _ in answers} == {str(base + 1)}
        assert len({editor for *_, editor in answers}) == 1  # the loser is told who won
        winners[answers[0][2]] += 1
    for process in both:
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(timeout=30) == 0
    made = Workspace.open(path)
    assert Counter(one.editor for one in made.revisions(0)[1:]) == winners
    assert made.get(0).revision == 150
    made.close()


IMPORTER = """
import sys
from pathlib import Path
from pipeline.pair_workspace import Workspace
from pipeline.pairs.pair import Pair
pairs = (Pair([{"role": "user", "content": "q"}], "a" * 100, "b") for _ in range(20_000))
Workspace.create(Path(sys.argv[1]), pairs, source_name="s", progress=lambda rows: print(rows, flush=True))
print("done", flush=True)
"""


def test_an_import_that_is_killed_leaves_no_workspace(tmp_path: Path) -> None:
    path = tmp_path / "pairs.workspace"
    for lines in (1, 8, 20):
        process = started(IMPORTER, path)
        assert process.stdout is not None
        for _ in range(lines):
            assert int(process.stdout.readline()) % 1000 == 0
        process.kill()
        rest = process.stdout.read()
        process.wait()
        if path.exists():
            assert lines == 20
            made = Workspace.open(path)
            assert made.counts().total == 20_000
            made.close()
            path.unlink()
        else:
            assert "done" not in rest
    Workspace.create(path, ODD, source_name="s").close()


def test_threads_read_while_one_writes(tmp_path: Path) -> None:
    failures: list[BaseException] = []
    with workspace(tmp_path, some_pairs(500)) as made:
        over = threading.Event()

        def read() -> None:
            try:
                while not over.is_set():
                    for view in (View(search="天气"), View(sort="score_chosen"), View(status="edited")):
                        rows = made.page(view, limit=500)
                        assert all(view.status is None or row.status == view.status for row in rows)
                        made.count(view)
                    assert made.counts().total == 500
            except BaseException as failed:
                failures.append(failed)

        readers = [threading.Thread(target=read) for _ in range(3)]
        for thread in readers:
            thread.start()
        for n in range(60):
            assert isinstance(made.save(n, made.get(n).revision, chosen=f"天气 {n}", editor="Li"), Saved)
            if n % 20 == 0:
                made.bulk(View(), "swap", "Wang")
                made.undo("Wang")
                made.undo("Li")
                made.redo("Li")
        over.set()
        for thread in readers:
            thread.join()
        assert not failures
    with pytest.raises(ValueError, match="closed"):
        made.counts()


# --- what is refused ---


def test_files_that_are_no_workspace(tmp_path: Path) -> None:
    def kept(name: str, content: bytes) -> Path:
        (tmp_path / name).write_bytes(content)
        return tmp_path / name

    other = tmp_path / "other.db"
    connection = sqlite3.connect(other)
    connection.execute("CREATE TABLE rows(a)")
    connection.commit()
    connection.close()
    os.mkfifo(tmp_path / "pipe")
    for path in (
        kept("rows.jsonl", b'{"prompt": "a", "chosen": "b", "rejected": "c"}\n' * 9), kept("empty", b""),
        kept("short", b"SQLite format 3\0"), kept("zeros", bytes(5000)), other, tmp_path, tmp_path / "pipe",
    ):  # fmt: skip
        assert refused(lambda path=path: Workspace.open(path)) == "workspace_no_workspace", path
    assert refused(lambda: Workspace.open(tmp_path / "nothing")) == "workspace_not_found"
    assert refused(lambda: Workspace.open(tmp_path / "nul\0")) == "workspace_not_found"
    assert refused(lambda: Workspace.create(tmp_path / ("x" * 300), ODD, source_name="s")) == "workspace_unreadable"
    assert not (tmp_path / "nothing").exists()


def test_a_newer_file_stays_as_it_is(tmp_path: Path) -> None:
    with workspace(tmp_path, ODD) as made:
        made.save(0, 0, chosen="x", editor="Li")
    path = tmp_path / "pairs.workspace"
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {VERSION + 1}")
    connection.close()
    content = path.read_bytes()
    assert refused(lambda: Workspace.open(path)) == "workspace_newer"
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    "planted",
    [
        "CREATE TRIGGER t AFTER UPDATE ON rows BEGIN DELETE FROM revisions; END", "CREATE VIEW v AS SELECT load_extension('x')",
        "DROP TABLE flags", "ALTER TABLE rows ADD COLUMN more",
    ],
)  # fmt: skip
def test_other_tables_than_ours_are_not_trusted(tmp_path: Path, planted: str) -> None:
    with workspace(tmp_path, ODD):
        pass
    with sqlite3.connect(tmp_path / "pairs.workspace") as connection:
        connection.execute(planted)
    assert refused(lambda: Workspace.open(tmp_path / "pairs.workspace")) == "workspace_damaged"


def test_damaged_and_truncated_files(tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    Workspace.create(whole, some_pairs(3000), source_name="s").close()
    content = whole.read_bytes()
    path = tmp_path / "damaged"

    def use() -> None:
        made = Workspace.open(path)
        try:
            made.page(View(), limit=5000)
            list(made.pairs(discarded=True))
            made.revisions(2999)
        finally:
            made.close()

    for size in (101, 5000, len(content) // 2, len(content) - 16384):
        path.write_bytes(content[:size])
        assert refused(use) == "workspace_damaged", size
    chance = random.Random(1)
    seen = 0
    for _ in range(60):  # pages of noise anywhere: refused, or not read at all, and never anything else
        damaged = bytearray(content)
        at = chance.randrange(1, len(content) // 16384) * 16384
        damaged[at : at + 16384] = chance.randbytes(16384)
        path.write_bytes(damaged)
        try:
            use()
        except Refused as failed:
            assert failed.sentence.entry == "workspace_damaged"
            seen += 1
    assert seen > 30
    broken = sqlite3.connect(whole)
    broken.execute("UPDATE contents SET source = x'7b', prompt = CAST(x'ff' AS TEXT)")
    broken.commit()
    broken.close()
    shutil.copy(whole, path)
    assert refused(use) == "workspace_damaged"


@contextmanager
def nobody() -> Iterator[Path]:
    """A folder, and the rights of a user who may only read what is not theirs."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    before = os.geteuid()
    try:
        yield folder
    finally:
        if before == 0:
            os.seteuid(0)
        folder.chmod(0o755)
        shutil.rmtree(folder)


def test_a_folder_that_can_not_be_written(tmp_path: Path) -> None:
    with nobody() as folder:
        Workspace.create(folder / "w", ODD, source_name="s").close()
        (folder / "w").chmod(0o444)
        folder.chmod(0o555)
        if os.geteuid() == 0:
            os.seteuid(65534)
        opened = refused(lambda: Workspace.open(folder / "w"))
        made = refused(lambda: Workspace.create(folder / "x", ODD, source_name="s"))
        if os.getuid() == 0:
            os.seteuid(0)
        assert (opened, made) == ("workspace_read_only", "workspace_read_only")
        assert [p.name for p in folder.iterdir()] == ["w"]


def test_an_import_replaces_nothing(tmp_path: Path) -> None:
    path = tmp_path / "w"
    path.write_text("mine")
    assert refused(lambda: Workspace.create(path, ODD, source_name="s")) == "workspace_exists"
    assert path.read_text() == "mine"
    path.unlink()
    log = tmp_path / "w-wal"
    log.write_text("edits")
    assert refused(lambda: Workspace.create(path, ODD, source_name="s")) == "workspace_log_left"
    assert log.read_text() == "edits"
    assert refused(lambda: Workspace.create(tmp_path / "no" / "w", ODD, source_name="s")) == "workspace_no_folder"

    def meanwhile() -> Iterator[Pair]:
        yield ODD[0]
        (tmp_path / "late").write_text("somebody else's")

    assert refused(lambda: Workspace.create(tmp_path / "late", meanwhile(), source_name="s")) == "workspace_exists"
    assert (tmp_path / "late").read_text() == "somebody else's"


def test_somebody_who_keeps_writing(tmp_path: Path) -> None:
    with workspace(tmp_path, ODD):
        other = sqlite3.connect(tmp_path / "pairs.workspace", isolation_level=None)
        made = Workspace.open(tmp_path / "pairs.workspace", busy_seconds=0.2)
        other.execute("BEGIN IMMEDIATE")
        begun = time.monotonic()
        assert refused(lambda: made.save(0, 0, chosen="x", editor="Li")) == "workspace_busy"
        assert 0.1 < time.monotonic() - begun < 10
        assert made.get(0).pair == ODD[0] and made.count(View(search="q")) > 0  # reading goes on
        other.execute("ROLLBACK")
        assert made.save(0, 0, chosen="x", editor="Li") == Saved(0, 1)
        made.close()
        other.close()


FULL = """
import resource, sys
from pathlib import Path
from pipeline.pair_workspace import View, Workspace
from pipeline.refusal import Refused
path = Path(sys.argv[1])
w = Workspace.open(path)
resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 200_000,) * 2)
for n in range(1000):
    try:
        w.save(n % 10, w.get(n % 10).revision, chosen=f"{n} " + "x" * 20_000, editor="Li")
    except Refused as failed:
        print("refused", failed.sentence.entry, flush=True)
        break
    print(n, flush=True)
print(len(w.page(View())), flush=True)
"""


def test_a_disk_that_takes_no_more(tmp_path: Path) -> None:
    path = tmp_path / "pairs.workspace"
    with workspace(tmp_path, [Pair(question("q"), "a", "b") for _ in range(10)]) as made:
        with made._connections.reading() as connection:
            connection.execute(f"PRAGMA max_page_count = {connection.execute('PRAGMA page_count').fetchone()[0] + 3}")
        saved = 0
        with pytest.raises(Refused) as failed:
            for n in range(100):
                made.save(0, n, chosen="x" * 20_000 + str(n), editor="Li")
                saved = n + 1
        assert failed.value.sentence.entry == "workspace_disk_full"
        assert made.get(0).revision == saved
        assert isinstance(made.save(0, saved, chosen="again", editor="Li"), Saved)  # once there is room
    process = started(FULL, path)  # a real refusal of the system to write on
    out, _ = process.communicate(timeout=60)
    *numbers, last, rows = out.splitlines()
    assert last == "refused workspace_unreadable" and numbers and rows == "10"
    made = Workspace.open(path)
    texts = [made.get(n, revision).pair.chosen for n in range(10) for revision in range(made.get(n).revision + 1)]
    assert all(any(str(text).startswith(f"{n} ") for text in texts) for n in numbers)
    made.close()


def test_a_file_taken_away_while_it_is_open(tmp_path: Path) -> None:
    path = tmp_path / "pairs.workspace"
    with workspace(tmp_path, ODD) as made:
        made.save(0, 0, chosen="x", editor="Li")
        path.rename(tmp_path / "moved")
        assert refused(lambda: made.save(0, 1, chosen="y", editor="Li")) == "workspace_gone"
        assert refused(lambda: made.undo("Li")) == "workspace_gone"
        path.write_bytes(b"another file")
        for call in (made.counts, lambda: made.save(0, 0, chosen="y", editor="Li")):
            assert refused(call) == "workspace_gone"
        path.unlink()
        (tmp_path / "moved").rename(path)
        assert made.save(0, 1, chosen="y", editor="Li") == Saved(0, 2)
