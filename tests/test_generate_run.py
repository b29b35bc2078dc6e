"""A run of candidates without a model: passes, journals, several processes, and what is left when it breaks off."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from pipeline.candidates.candidate import SEED_STEP, Cancelled, Candidate, CandidateStrategy, SourceRow
from pipeline.candidates.journal import Journal
from pipeline.candidates.plan import Group, make_plan
from pipeline.candidates.run import Opened, Place, Run
from pipeline.candidates.run_progress import RunProgress, read_progress
from pipeline.candidates.shards import Shard
from pipeline.candidates.source_rows import SourceRows
from pipeline.candidates.strategies import RunSettings, parse_strategies
from pipeline.candidates.text_measures import measure_texts
from pipeline.candidates.write_candidates import MeasuredRow, every_usable, read_candidates
from pipeline.config_files import load_config
from pipeline.pairs.open_source import open_source
from pipeline.refusal import Refused
from ui.reject_index import CandidateIndex
from ui.reject_live import Judging, LiveRows

ALTERATIONS = load_config("alterations.yaml")["parameters"]
ROWS = 40


class Scribe:
    """Answers at once, in another order than asked, never holding more than a handful of rows."""

    def __init__(self, group: Group, fails_at: int | None = None, most: int = 7) -> None:
        self.group, self.fails_at, self.most = group, fails_at, most
        self.held = 0

    def make(self, rows: Any, *, cancel: threading.Event, counter: Any) -> Iterator[tuple[SourceRow, list[Candidate]]]:
        open_rows: list[SourceRow] = []
        order = Random(0)
        for row in rows:
            if cancel.is_set():
                raise Cancelled
            open_rows.append(row)
            self.held = max(self.held, len(open_rows))
            if len(open_rows) == self.most:
                yield self._answered(open_rows.pop(order.randrange(self.most)), counter)
        while open_rows:
            yield self._answered(open_rows.pop(order.randrange(len(open_rows))), counter)

    def _answered(self, row: SourceRow, counter: Any) -> tuple[SourceRow, list[Candidate]]:
        if row.index == self.fails_at:
            raise OSError(5, "the disk has gone")
        made = []
        for strategy in self.group.strategies:
            for number in strategy.numbers:
                word = Random(SEED_STEP * row.index + number).choice(("mild", "wild", "tame"))
                made.append(Candidate(row.index, number, strategy.name, f"{word} {strategy.name} {number} \ud83d {row.question}",
                                      ended=True, tokens=4))  # fmt: skip
                counter.candidates += 1
                counter.tokens += 4
        return row, made


class Scribes:
    """Makers of the test: one kind for every group, and a scorer that needs all other passes."""

    def __init__(self, fails: dict[str, int] | None = None) -> None:
        self.fails = fails or {}
        self.opened: list[str] = []

    @contextmanager
    def open(self, group: Group) -> Iterator[Opened]:
        self.opened.append(group.name)
        yield Opened(Scribe(group, self.fails.get(group.name)) if group.strategies else None)

    @contextmanager
    def scorer(self, name: str) -> Iterator[Any]:
        self.opened.append(name)

        def score(held: MeasuredRow) -> None:
            if held.row.index == self.fails.get(name):
                raise OSError(5, "the disk has gone")
            held.chosen_measures["reward"] = 1.0
            for one in held.candidates:
                one.measures["reward"] = len(one.text) / 100

        yield score

    def close(self) -> None:
        pass


def data_file(folder: Path, rows: int = ROWS) -> Path:
    path = folder / "rows.jsonl"
    if not path.exists():
        lines = [{"instruction": f"Name {n} fruits.", "input": "", "output": f"apple {n}, pear", "topic": n} for n in range(rows)]
        lines.insert(3, {"instruction": "", "input": "", "output": "nobody asked"})
        path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def a_run(folder: Path, name: str = "out.jsonl", *, makers: Any = None, words: tuple[str, ...] = ("greedy", "cut_short", "sampling:n=2"),
          scorers: tuple[str, ...] = ("reward",), **more: Any) -> Run:  # fmt: skip
    rows = SourceRows(open_source(str(data_file(folder))), most=more.pop("most", None))
    plan = make_plan(parse_strategies(words, RunSettings(), ALTERATIONS), "model", scorers)
    place = Place(folder / name)
    shard = more.get("shard") or Shard()
    own = place.progress if not shard.rank else place.work / f"progress-{shard.rank}.json"
    others = [place.work / f"progress-{rank}.json" for rank in range(1, shard.world)] if not shard.rank else []

    def measure(held: MeasuredRow) -> None:
        measure_texts(held.row, held.candidates, [])

    return Run(
        place, rows, plan, makers or Scribes(), measure, every_usable, more.pop("format", "llamafactory-alpaca"),
        more.pop("settings", {"seed": 0}), RunProgress(own, others=others), **more,
    )  # fmt: skip


def written(folder: Path, name: str = "out.jsonl") -> tuple[bytes, bytes]:
    place = Place(folder / name)
    return place.output.read_bytes(), place.candidates.read_bytes()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes]:
    """The files of an undisturbed run."""
    folder = tmp_path_factory.mktemp("whole")
    assert a_run(folder)().outcome == "done"
    return written(folder)


# --- one run ---


def test_rows_come_out_in_order_with_every_candidate_of_every_pass(tmp_path: Path) -> None:
    makers = Scribes()
    result = a_run(tmp_path, makers=makers)()
    assert makers.opened == ["alteration-0", "main", "reward"]
    assert result.written is not None and (result.written.rows, result.written.candidates) == (ROWS, 4 * ROWS)
    rows = list(read_candidates(Place(tmp_path / "out.jsonl").candidates))
    assert [index for index, _, _ in rows] == list(range(ROWS))
    for index, candidates, line in rows:
        assert [(one.number, one.strategy) for one in candidates] == [
            (0, "greedy"), (1, "cut_short"), (2, "sampling"), (3, "sampling"),
        ]  # fmt: skip
        assert line["instruction"] == f"Name {index} fruits." and line["chosen"] == f"apple {index}, pear"
        assert line["chosen_measures"] == {"reward": 1.0}
        assert all(one.measures["reward"] == len(one.text) / 100 and one.measures["length"] for one in candidates)
    records = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(records) == 4 * ROWS and records[4]["rejected"].endswith("Name 1 fruits.") and records[4]["topic"] == 1
    assert records[0]["score_chosen"] == 1.0
    assert not (tmp_path / "out.jsonl.work").exists()
    info = Place(tmp_path / "out.jsonl").read_info()
    assert info is not None and info["state"] == "done" and info["account"]["rows_written"] == ROWS


def test_progress_tells_of_every_strategy(tmp_path: Path) -> None:
    a_run(tmp_path)()
    state = read_progress(tmp_path / "out.jsonl.progress.json")
    assert state is not None and state["state"] == "done" and state["candidates"] == 4 * ROWS
    assert state["tokens"] == 4 * 4 * ROWS and state["strategies"]["sampling"]["candidates"] == 2 * ROWS
    assert state["strategies"]["greedy"]["length"] > 10 and state["rows"] == {"done": ROWS, "total": ROWS}


def test_a_maker_is_never_asked_to_hold_more_than_it_takes(tmp_path: Path) -> None:
    """Rows flow through: nothing collects them before or behind a maker."""
    taken: list[int] = []

    class Counting(Scribes):
        @contextmanager
        def open(self, group: Group) -> Iterator[Opened]:
            scribe = Scribe(group)
            yield Opened(scribe if group.strategies else None)
            taken.append(scribe.held)

    a_run(tmp_path, makers=Counting())()
    assert taken == [7, 7]


# --- broken off and taken up again ---


@pytest.mark.parametrize("broken", [("alteration-0", 11), ("main", 0), ("main", 29), ("reward", 39)], ids=str)
def test_a_run_that_failed_anywhere_goes_on(tmp_path: Path, whole: tuple[bytes, bytes], broken: tuple[str, int]) -> None:
    with pytest.raises(OSError, match="the disk has gone"):
        a_run(tmp_path, makers=Scribes(dict([broken])))()
    assert not (tmp_path / "out.jsonl").exists()
    state = read_progress(tmp_path / "out.jsonl.progress.json")
    assert state is not None and state["state"] == "failed"
    with pytest.raises(Refused) as refused:
        a_run(tmp_path)()
    assert refused.value.sentence.entry == "run_exists"
    makers = Scribes()
    a_run(tmp_path, makers=makers)(resume=True)
    assert written(tmp_path) == whole
    passes = ["alteration-0", "main", "reward"]
    assert makers.opened == passes[passes.index(broken[0]) :], "a pass that is done opens nothing"


def test_other_settings_are_named(tmp_path: Path) -> None:
    with pytest.raises(OSError):
        a_run(tmp_path, makers=Scribes({"main": 5}))()
    with pytest.raises(Refused) as refused:
        a_run(tmp_path, settings={"seed": 1, "system": "x"})(resume=True)
    assert refused.value.sentence.entry == "run_differs"
    assert "seed: 0 -> 1" in str(refused.value) and "system: null -> x" in str(refused.value)
    assert a_run(tmp_path, settings={"seed": 1})(overwrite=True).outcome == "done"


def test_a_stopped_run_writes_its_finished_rows_and_goes_on(tmp_path: Path, whole: tuple[bytes, bytes]) -> None:
    run = a_run(tmp_path)
    count = 0

    def measure(held: MeasuredRow) -> None:
        nonlocal count
        count += 1
        measure_texts(held.row, held.candidates, [])
        if count == 17:
            run.cancel.set()

    run.measure, run.plan = measure, replace(run.plan, scorers=())
    result = run()
    assert result.outcome == "stopped" and result.rows == 17
    assert sum(1 for _ in read_candidates(run.place.candidates)) == 17
    assert a_run(tmp_path)(resume=True).outcome == "done"
    assert written(tmp_path) == whole


def test_a_finished_run_is_not_done_twice(tmp_path: Path) -> None:
    a_run(tmp_path)()
    makers = Scribes()
    result = a_run(tmp_path, makers=makers)(resume=True)
    assert result.already and makers.opened == []
    with pytest.raises(Refused) as refused:
        a_run(tmp_path)()
    assert refused.value.sentence.entry == "run_exists"


def test_a_file_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "out.jsonl").write_text("mine")
    for resume in (False, True):
        with pytest.raises(Refused):
            a_run(tmp_path)(resume=resume)
    assert (tmp_path / "out.jsonl").read_text() == "mine"


def test_a_preview_is_the_beginning_of_the_run(tmp_path: Path, whole: tuple[bytes, bytes]) -> None:
    result = a_run(tmp_path, preview=6)()
    assert (result.outcome, result.rows, result.total) == ("preview", 6, ROWS)
    assert not (tmp_path / "out.jsonl").exists()
    held = list(a_run(tmp_path, preview=6).done_rows())
    assert [one.row.index for one in held] == list(range(6)) and "reward" in held[0].candidates[0].measures
    makers = Scribes()
    a_run(tmp_path, preview=6, makers=makers)()
    assert makers.opened == [], "the same preview again makes nothing"
    a_run(tmp_path)(resume=True)
    assert written(tmp_path) == whole


def test_more_rows_than_before_can_be_asked_for(tmp_path: Path, whole: tuple[bytes, bytes]) -> None:
    a_run(tmp_path, preview=3, most=5)()
    a_run(tmp_path)(resume=True)
    assert written(tmp_path) == whole


def test_rows_can_be_looked_at_while_they_are_made_and_afterwards(tmp_path: Path) -> None:
    seen: list[int] = []
    run = a_run(tmp_path)

    def measure(held: MeasuredRow) -> None:
        measure_texts(held.row, held.candidates, [])
        watch.update()
        seen.append(len(watch))

    place = Place(tmp_path / "out.jsonl")
    watch = LiveRows(place.work, Judging(None), live=True)
    watch.update()
    assert len(watch) == 0 and watch.row(0) == []
    run.measure = measure
    with pytest.raises(OSError):
        run.makers = Scribes({"main": 30})
        run()
    assert seen == list(range(len(seen))) and len(seen) > 20
    row, index = watch.row(3), watch.id_of(3)
    assert row and not place.candidates.exists() and row[0]["instruction"] == f"Name {index} fruits."
    assert row[0]["chosen"] == f"apple {index}, pear" and [one["number"] for one in row] == [0, 1, 2, 3]
    a_run(tmp_path)(resume=True)
    finished = CandidateIndex(place.candidates)
    assert finished.update(60)
    last = finished.row(ROWS - 1)
    assert place.candidates.exists() and len(finished) == ROWS and last and finished.id_of(ROWS - 1) == ROWS - 1
    assert [one["number"] for one in last] == [0, 1, 2, 3] and last[0]["chosen_measures"] == {"reward": 1.0}
    assert finished.row(ROWS) == []


# --- the journal ---


def test_a_torn_or_damaged_line_costs_its_own_row_only(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "main")
    for row in (4, 0, 2, 1):
        journal.write(row, {"text": f"\ud83d answer {row}\n" * 3})
    journal.close()
    part = tmp_path / "main-0.rows"
    lines = part.read_bytes().splitlines(keepends=True)
    part.write_bytes(lines[0] + lines[1].replace(b"answer", b"ansver", 1) + lines[2] + lines[3][: len(lines[3]) // 2])
    found = Journal(tmp_path, "main")
    assert [row in found for row in range(6)] == [False, False, True, False, True, False] and found.rows == 2
    found.write(1, "again")
    found.write(0, "again")
    assert (found.read(4), found.read(1), found.read(3)) == ({"text": "\ud83d answer 4\n" * 3}, "again", None)
    found.close()
    assert Journal(tmp_path, "main").rows == 4


def test_a_row_is_whole_after_any_cut(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "main")
    for row in range(5):
        journal.write(row, {"text": "x" * row * 40})
    journal.close()
    part = tmp_path / "main-0.rows"
    content = part.read_bytes()
    for cut in range(len(content)):
        part.write_bytes(content[:cut])
        found = Journal(tmp_path, "main")
        assert found.rows == content[:cut].count(b"\n")
        assert all(found.read(row) == {"text": "x" * row * 40} for row in range(found.rows))
        found.close()


def test_a_journal_of_many_rows_takes_little_memory(tmp_path: Path) -> None:
    import tracemalloc

    journal = Journal(tmp_path, "main")
    for row in range(20_000):
        journal.write(row, row)
    journal.close()
    tracemalloc.start()
    found = Journal(tmp_path, "main")
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found.rows == 20_000 and held < 20_000 * 12
    assert found.read(12_345) == 12_345


# --- several processes ---


def shards(folder: Path, world: int, makers: Any = Scribes, **call: bool) -> list[str]:
    """All processes of one launch, here as threads; what each came to."""
    outcomes = [""] * world

    def one(rank: int) -> None:
        try:
            outcomes[rank] = str(a_run(folder, makers=makers(), shard=Shard(rank, world))(**call).outcome)
        except OSError as failed:
            outcomes[rank] = str(failed.strerror)

    threads = [threading.Thread(target=one, args=(rank,)) for rank in reversed(range(world))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return outcomes


def test_several_processes_write_what_one_writes(tmp_path: Path, whole: tuple[bytes, bytes]) -> None:
    assert shards(tmp_path, 3) == ["done"] * 3
    assert written(tmp_path) == whole
    assert not (tmp_path / "out.jsonl.work").exists()
    state = read_progress(tmp_path / "out.jsonl.progress.json")
    assert state is not None and state["processes"] == 3


def test_another_number_of_processes_goes_on(tmp_path: Path, whole: tuple[bytes, bytes]) -> None:
    class Failing(Scribes):
        def __init__(self) -> None:
            super().__init__({"main": 7})  # of process 1

    assert sorted(shards(tmp_path, 2, Failing)) == ["failed", "the disk has gone"]
    assert not (tmp_path / "out.jsonl.work" / "main-2.rows").exists()
    assert shards(tmp_path, 3, resume=True) == ["done"] * 3
    assert written(tmp_path) == whole


def test_what_an_earlier_launch_left_is_no_answer(tmp_path: Path, whole: tuple[bytes, bytes]) -> None:
    with pytest.raises(OSError):
        a_run(tmp_path, makers=Scribes({"main": 30}))()
    work = tmp_path / "out.jsonl.work"
    for name in ("hello-1", "ready-1"):
        (work / name).write_text("0" * 16)
    (work / "done-1").write_text("0" * 16 + " done")
    assert shards(tmp_path, 2, resume=True) == ["done"] * 2
    assert written(tmp_path) == whole


def test_launchers_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("RANK", "3"), ("WORLD_SIZE", "4"), ("LOCAL_RANK", "1")):
        monkeypatch.setenv(name, value)
    shard = Shard.from_environment()
    assert (shard.rank, shard.world, shard.device("cuda"), shard.device("cpu")) == (3, 4, "cuda:1", "cpu")
    assert [row for row in range(8) if shard.takes(row)] == [3, 7]
    for wrong in ("4", "x", "-1"):
        monkeypatch.setenv("RANK", wrong)
        with pytest.raises(Refused) as refused:
            Shard.from_environment()
        assert f"RANK={wrong}" in str(refused.value)


# --- strategies by name ---


def test_strategies_are_numbered_in_the_order_asked() -> None:
    settings = RunSettings(4, (0.5, 0.9), {"max_new_tokens": 64, "top_p": 0.8, "temperature": 0.7, "num_beams": 3})
    found = parse_strategies(
        ["greedy", "sampling", "sampling:temperature=1.1,n=1", "beam:n=2", "diverse_beam:num_beams=4", "cut_short:n=2,style=mid",
         "greedy:model=./early,max_new_tokens=9", "endpoint:url=http://h/v1,model=lora,n=1"], settings, ALTERATIONS,
    )  # fmt: skip
    assert [(one.name, one.first, one.candidates) for one in found] == [
        ("greedy", 0, 1), ("sampling", 1, 2), ("sampling", 3, 2), ("sampling", 5, 1), ("beam", 6, 2), ("diverse_beam", 8, 4),
        ("cut_short", 12, 2), ("greedy", 14, 1), ("endpoint", 15, 1),
    ]  # fmt: skip
    assert [one.parameters.get("temperature") for one in found] == [None, 0.5, 0.9, 1.1, None, None, None, None, 0.7]
    assert found[4].parameters == {"num_beams": 3, "max_new_tokens": 64}
    assert found[5].parameters["num_beam_groups"] == 4
    assert found[6].parameters == {"style": "mid"} and found[7].parameters["max_new_tokens"] == 9
    assert (found[7].model, found[8].model, found[8].adapter) == ("./early", "http://h/v1", "lora")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["samplin"], "sampling"), (["greedy:temperature=1"], "temperature is no setting"), (["sampling:top_p=0"], "0.0-1.0"),
        (["sampling:n=0"], "1-1000"), (["sampling:temperature=nan"], "temperature"), (["greedy:model="], "KEY=VALUE"),
        (["greedy", "greedy"], "twice"), (["sampling:n=600", "cut_short:n=500"], "1,100"), (["cut_short:style=loud"], "any, clean, mid"),
        (["cut_short:least_left=2"], "0.0-0.95"), (["diverse_beam:n=5,num_beams=5,num_beam_groups=2"], "5 beams"),
        (["sampling:n=2,n=3"], "given twice"), (["greedy:n=2"], "n is no setting"),
    ],
)  # fmt: skip
def test_strategies_that_make_no_sense(words: list[str], says: str) -> None:
    with pytest.raises(Refused) as refused:
        parse_strategies(words, RunSettings(), ALTERATIONS)
    assert says in str(refused.value)


def test_a_plan_puts_one_model_after_the_other() -> None:
    words = ["greedy", "correction", "cut_short", "sampling:model=./early", "greedy:model=./early", "greedy:adapter=./lora",
             "endpoint:url=http://h/v1", "sampling:model=http://h/v1"]  # fmt: skip
    plan = make_plan(parse_strategies(words, RunSettings(), ALTERATIONS), "model", ["reward"])
    assert [(group.source, group.model, group.adapter, len(group.strategies)) for group in plan.side] == [
        ("alteration", None, None, 1), ("model", "./early", None, 2), ("model", None, "./lora", 1), ("endpoint", None, None, 2),
        ("correction", None, None, 1),
    ]  # fmt: skip
    assert plan.main is not None and [one.name for one in plan.main.strategies] == ["greedy"] and plan.passes == 7


@pytest.mark.parametrize(
    ("word", "own", "entry"),
    [("greedy", "", "strategy_without_model"), ("correction", "", "strategy_without_model"),
     ("endpoint", "model", "strategy_endpoint_where"), ("beam", "endpoint", "strategy_endpoint_search")],
)  # fmt: skip
def test_strategies_without_their_model(word: str, own: Any, entry: str) -> None:
    with pytest.raises(Refused) as refused:
        make_plan(parse_strategies([word], RunSettings(), ALTERATIONS), own)
    assert refused.value.sentence.entry == entry


def test_greedy_at_a_server_is_a_request() -> None:
    plan = make_plan([CandidateStrategy("greedy", "greedy")], "endpoint")
    assert plan.main is not None and plan.main.source == "endpoint" and not plan.side


def test_without_a_model_the_main_pass_makes_what_needs_none() -> None:
    words = ["cut_short", "endpoint:url=http://h/v1"]
    plan = make_plan(parse_strategies(words, RunSettings(), ALTERATIONS), "")
    assert plan.main is not None and plan.main.source == "alteration" and plan.passes == 2
    alone = make_plan(parse_strategies(words[:1], RunSettings(), ALTERATIONS), "")
    assert alone.main is not None and [one.name for one in alone.main.strategies] == ["cut_short"] and not alone.side
