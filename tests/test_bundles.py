"""Bundles: what belongs to one bad case stays together, through training and replay."""

from __future__ import annotations

import fcntl
import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from pipeline.__main__ import main
from pipeline.checkpoint import open_checkpoint
from pipeline.demo.build import DemoFolder
from pipeline.evaluation.adapters_on_base import ModelsOnBase
from pipeline.evaluation.bundles import (
    add_run,
    bundle_recipe,
    bundles_root,
    changed_bundle,
    create_bundle,
    go_on_with,
    keep_replay,
    list_bundles,
    next_replay,
    open_bundle,
    remove_bundle,
)
from pipeline.evaluation.replay import Replay, ReplayDecoding
from pipeline.evaluation.replay_answers import ANSWERS, KeptAnswers, left_by_another
from pipeline.evaluation.replay_cases import read_cases
from pipeline.evaluation.replay_judging import Answered, CaseJudge
from pipeline.evaluation.results import ModelNamed, Replayed, ReplayResult, read_result_file, to_json, write_result_file
from pipeline.refusal import Refused
from pipeline.training.job_folder import Job, Status, new_job, write_status


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DPO_DOCTOR_HOME", str(tmp_path / "home"))


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    rows = [{"prompt": f"“大”的反义词是什么？{i}", "chosen": "小", "rejected": "小" * 20, "category": "c"} for i in range(3)]
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def done_job(adapter: Path, state: str = "done") -> Job:
    """A job as a finished training leaves it."""
    job = new_job("dpo")
    shutil.copytree(adapter, job.output)
    write_status(job, Status(state=state, created=1.0, start=1.0, end=2.0, step=9, max_steps=9))
    return job


def made_job() -> Job:
    job = new_job("dpo")
    write_status(job, Status(state="done", created=1.0, start=1.0, end=2.0))
    return job


def test_created_found_and_removed(pairs: Path, tmp_path: Path) -> None:
    made = create_bundle("loops", pairs=pairs, model="demo:healthy_decoder", changes={"beta": 0.3}, note="一再重复",
                         decoding={"num_beams": 3, "max_new_tokens": 32}, check="repetition")  # fmt: skip
    assert made.folder == bundles_root() / "loops"
    assert sorted(one.name for one in made.folder.iterdir()) == ["bundle.yaml", "cases.json", "pairs.json", "replays", "runs"]
    first = json.loads(made.pairs.read_text())[0]
    assert {k: first[k] for k in ("instruction", "input", "chosen", "rejected")} == {
        "instruction": "“大”的反义词是什么？0", "input": "", "chosen": "小", "rejected": "小" * 20
    }  # fmt: skip
    cases = read_cases(made.cases).cases
    assert [(c.text[-1], c.standard_answer) for c in cases] == [("0", "小"), ("1", "小"), ("2", "小")]
    assert open_bundle("loops") == made == open_bundle(str(made.folder)) and list_bundles() == [made]
    recipe = bundle_recipe(made, {"max_steps": 5})
    assert (recipe["data"], recipe["beta"], recipe["max_steps"]) == (str(made.pairs), 0.3, 5)
    assert recipe["model_name_or_path"] == "demo:healthy_decoder"
    assert Path(recipe["output_dir"]).parent == made.folder / "runs"
    elsewhere = create_bundle(str(tmp_path / "else" / "where"), cases=made.cases)
    assert elsewhere.name == "where" and not elsewhere.pairs.exists() and list_bundles() == [made]
    with pytest.raises(Refused, match="pairs"):
        bundle_recipe(elsewhere)
    remove_bundle(made)
    assert list_bundles() == [] and not made.folder.exists()


def test_cases_stay_what_they_were(tmp_path: Path) -> None:
    talk = [{"role": "system", "content": "be kind"}, {"role": "user", "content": "1"},
            {"role": "assistant", "content": "2"}, {"role": "user", "content": "3"}]  # fmt: skip
    rows = [{"text": talk, "standard_answer": ["a", "b"], "check": "exact", "pattern": "p", "category": "k", "db_id": "d"},
            {"question": "=1", "answer": 5}]  # fmt: skip
    (tmp_path / "c.json").write_text(json.dumps(rows))
    made = create_bundle(str(tmp_path / "b"), cases=tmp_path / "c.json")
    for before, after in zip(read_cases(tmp_path / "c.json").cases, read_cases(made.cases).cases, strict=True):
        assert (before.answers, before.check, before.pattern, before.category, before.text) == (
            after.answers, after.check, after.pattern, after.category, after.text
        )  # fmt: skip
        assert before.row.pair.prompt == after.row.pair.prompt and before.row.pair.system == after.row.pair.system
        assert before.row.pair.extra == after.row.pair.extra


@pytest.mark.parametrize(("named", "given", "entry"), [
    ("../up", {}, "bundle_empty"), ("a b", {"pairs": True}, "bundle_name_wrong"), ("", {"pairs": True}, "bundle_name_wrong"),
    (".hidden", {"pairs": True}, "bundle_name_wrong"), ("a", {"pairs": True, "recipe": "none"}, "recipe_not_found"),
    ("a", {"pairs": True, "check": "bleu"}, "bundle_setting_wrong"),
    ("a", {"pairs": True, "decoding": {"beams": 2}}, "bundle_setting_wrong"), ("a", {"pairs": False}, "data_not_found"),
])  # fmt: skip
def test_refused_leaves_nothing(pairs: Path, tmp_path: Path, named: str, given: dict, entry: str) -> None:
    asked = {**given}
    if "pairs" in asked:
        asked["pairs"] = pairs if asked["pairs"] else tmp_path / "none.jsonl"
    with pytest.raises(Refused) as refused:
        create_bundle(named, **asked)
    assert refused.value.sentence.entry.startswith(entry) and "{" not in refused.value.said("zh")
    assert not bundles_root().exists() or not list(bundles_root().iterdir())


def test_there_already_and_not_there(pairs: Path) -> None:
    made = create_bundle("a", pairs=pairs)
    for call, entry in ((lambda: create_bundle("a", pairs=pairs), "bundle_there"),
                        (lambda: open_bundle("b"), "bundle_not_found")):  # fmt: skip
        with pytest.raises(Refused) as refused:
            call()
        assert refused.value.sentence.entry == entry
    for text in ("", "[1]", "a: [", "\x00", "x" * (2 << 20)):
        (made.folder / "bundle.yaml").write_text(text)
        with pytest.raises(Refused) as refused:
            open_bundle("a")
        assert refused.value.sentence.entry == "bundle_unreadable" and list_bundles() == []
    edited = {"name": 5, "check": "bleu", "runs": "no list", "decoding": {"num_beams": 2, "evil": 1}, "changes": None}
    (made.folder / "bundle.yaml").write_text(yaml.safe_dump(edited))
    held = open_bundle("a").settings
    assert (held.name, held.check, held.runs, held.changes) == ("a", "auto", (), {})
    assert held.decoding == {"num_beams": 2}


def test_runs_are_remembered_and_replayed(
    demo: DemoFolder, pairs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    adapter = demo.cases["healthy_decoder_lora"].checkpoint
    model = str(demo.base_decoder)
    assert main(["bundle", "create", "a", "--pairs", str(pairs), "--model", model, "--greedy", "--max-new-tokens", "9",
                 "--set", "beta=0.2"]) == 0  # fmt: skip
    kept = done_job(adapter)
    broken = done_job(adapter, "refused")
    for job in (kept, broken):
        assert main(["bundle", "add", "a", job.id]) == 0
    bundle = add_run(open_bundle("a"), kept.id)
    assert [(run.job, run.state) for run in bundle.runs] == [(kept.id, "done"), (broken.id, "refused")]
    assert bundle.trained() == [str(kept.output)]
    capsys.readouterr()
    assert main(["bundle", "replay", "a", "--device", "cpu", "--format", "json"]) in (0, 1)
    told = json.loads(capsys.readouterr().out)
    assert told["bundle"] == "a" and told["cases"] == 3 and [m["role"] for m in told["models"]] == ["base", "adapter"]
    assert told["decoding"]["strategy"] == "greedy" and told["decoding"]["max_new_tokens"] == 9
    [result] = open_bundle("a").replays
    assert read_result_file(result)["rows"] == told["rows"] and result.with_name(Path(told["output"]).name).is_file()
    shutil.rmtree(kept.folder)  # a job that was deleted leaves the bundle readable
    elsewhere = [*("replay", "--model", model, "--cases", str(bundle.cases)), "--output", str(bundle.folder.parent / "r.xlsx"),
                 "--greedy", "--max-new-tokens", "9", "--device", "cpu"]  # fmt: skip
    assert main([*elsewhere, "--bundle", "none"]) == 2 and "none" in capsys.readouterr().err
    assert main([*elsewhere, "--bundle", "a"]) in (0, 1)
    first, second = open_bundle("a").replays
    assert second == result and read_result_file(first)["bundle"] == "a" and first.with_name(f"{first.name.split('.')[0]}.xlsx").is_file()
    assert [run.state for run in open_bundle("a").runs] == ["gone", "refused"] and open_bundle("a").trained() == []
    assert main(["bundle", "list", "--lang", "zh"]) == 0
    assert "a：3 个案例，3 个偏好对，2 次训练，2 次回放" in capsys.readouterr().out
    assert main(["bundle", "remove", "a"]) == 2 and "--yes" in capsys.readouterr().err
    assert main(["bundle", "remove", "a", "--yes"]) == 0 and list_bundles() == []
    assert main(["bundle", "list"]) == 0 and "no bundle yet" in capsys.readouterr().out


def test_a_moved_folder_has_its_trainings_with_it(demo: DemoFolder, pairs: Path, tmp_path: Path) -> None:
    made = create_bundle("a", pairs=pairs)
    job = done_job(demo.cases["healthy_decoder_lora"].checkpoint)
    output = made.folder / "runs" / "20260102-030405"
    shutil.copytree(job.output, output)
    changed_bundle(made, runs=("gone-job",), outputs={"gone-job": str(output)})
    moved = tmp_path / "elsewhere" / "b"
    moved.parent.mkdir()
    made.folder.rename(moved)
    bundle = open_bundle(str(moved))
    assert [(run.state, run.output) for run in bundle.runs] == [("done", str(moved / "runs" / output.name))]
    assert bundle.trained() == [str(moved / "runs" / output.name)]


def test_writers_at_once_lose_no_run(pairs: Path) -> None:
    create_bundle("a", pairs=pairs)
    jobs = [new_job("dpo") for _ in range(24)]
    for job in jobs:
        write_status(job, Status(state="done", created=1.0, start=1.0, end=2.0))
    stale = open_bundle("a")
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda job: add_run(stale, job.id), jobs))
    held = open_bundle("a").settings
    assert sorted(held.runs) == sorted(job.id for job in jobs) and set(held.outputs) == set(held.runs)


def test_settings_are_changed_as_the_bundle_stands_now(pairs: Path) -> None:
    stale = create_bundle("a", pairs=pairs)
    job = made_job()
    add_run(stale, job.id)
    assert changed_bundle(stale, note="n").settings.runs == (job.id,) == open_bundle("a").settings.runs


def test_beginnings_in_one_second_have_names_of_their_own(pairs: Path, tmp_path: Path) -> None:
    made = create_bundle("a", pairs=pairs)
    assert len({next_replay(made, 1e9).name for _ in range(20)}) > 10
    assert len({bundle_recipe(made)["output_dir"] for _ in range(20)}) > 10
    row = Replayed(0, "base", "q", "a", "b", "wrong", False)
    for number in range(6):
        result = ReplayResult((ModelNamed("base", f"b{number}", "base"),), (), (row,), cases=1, created="2026-01-02T03:04:05Z")
        write_result_file(result, tmp_path / f"r{number}.json")
    with ThreadPoolExecutor(6) as pool:  # twelve writers of six results
        places = list(pool.map(lambda n: keep_replay(made, tmp_path / f"r{n % 6}.json"), range(12)))
    assert len(set(places)) == 6 and sorted(made.replays) == sorted(set(places))
    assert sorted(read_result_file(one)["models"][0]["source"] for one in places[:6]) == [f"b{n}" for n in range(6)]
    last = tmp_path / "last.json"
    write_result_file(replace(result, models=(ModelNamed("base", "last", "base"),)), last)
    assert made.replays[0] != keep_replay(made, last) == made.replays[0]


def test_one_of_two_creates_it_and_no_lock_is_left_in_it(pairs: Path) -> None:
    def create(_: int) -> str:
        try:
            return create_bundle("a", pairs=pairs).name
        except Refused as refused:
            return refused.sentence.entry

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(create, range(4))) == ["a", *["bundle_there"] * 3]
    add_run(open_bundle("a"), made_job().id)
    assert sorted(one.name for one in open_bundle("a").folder.iterdir()) == [
        "bundle.yaml", "cases.json", "pairs.json", "replays", "runs"
    ]  # fmt: skip


def test_two_replays_at_once_do_not_take_the_same_answers(pairs: Path) -> None:
    bundle = create_bundle("a", pairs=pairs)
    left = KeptAnswers(bundle.folder / "replays" / f"replay-20260102-030405{ANSWERS}")
    left.add("x", 0, Answered("a"))
    left.close()
    outputs = [next_replay(bundle) for _ in range(2)]
    go_on_with(bundle, outputs[0])
    going = KeptAnswers(outputs[0].with_name(outputs[0].stem + ANSWERS))
    go_on_with(bundle, outputs[1])
    assert going.of("x")[1] == {0: Answered("a")} and [one.name for one in left.path.parent.iterdir()] == [going.path.name]
    going.close()


def test_settings_edited_by_hand(pairs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = create_bundle("a", pairs=pairs)
    (bundle.folder / "bundle.yaml").write_text("changes: {day: 2024-01-01}\nruns: [1]\noutputs: {1: [2], x: /y}\n")
    job = new_job("dpo")
    write_status(job, Status(state="done", created=1.0, start=1.0, end=2.0))
    assert main(["bundle", "list"]) == 0 and main(["bundle", "show", "a"]) == 0
    assert add_run(open_bundle("a"), job.id).settings.outputs == {"x": "/y", job.id: str(job.output)}
    assert "2024-01-01" in (bundle.folder / "bundle.yaml").read_text() and "a" in capsys.readouterr().out


def test_files_of_others_are_left_alone(pairs: Path, tmp_path: Path) -> None:
    for name in ("pairs.json", "notes.txt"):
        own = tmp_path / f"own-{name}"
        own.mkdir()
        (own / name).write_text("mine")
        with pytest.raises(Refused) as refused:
            create_bundle(str(own), pairs=pairs)
        assert refused.value.sentence.entry == "bundle_not_written"
        assert [(one.name, one.read_text()) for one in own.iterdir()] == [(name, "mine")]
    (bundles_root() / "a").mkdir(parents=True)
    (bundles_root() / "a" / "pairs.json").write_text("[")  # of a start that was killed
    made = create_bundle("a", pairs=pairs)
    (made.folder / "notes.txt").write_text("mine")
    remove_bundle(made)
    assert [one.name for one in made.folder.iterdir()] == ["notes.txt"] and list_bundles() == []


def test_a_replay_that_broke_off_goes_on(demo: DemoFolder, pairs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = create_bundle("a", pairs=pairs, model=str(demo.base_decoder), decoding={"greedy": True, "max_new_tokens": 5})
    models = ModelsOnBase(open_checkpoint(str(demo.base_decoder)))
    left = bundle.folder / "replays" / "replay-20260102-030405.replay.answers.jsonl"
    kept = KeptAnswers(left)
    decoding = ReplayDecoding.of(greedy=True, max_new_tokens=5)
    Replay(models, read_cases(bundle.cases), CaseJudge(), decoding, kept=kept).run()
    assert left.is_file()
    live = left.with_name("replay-20260103-030405.replay.answers.jsonl")
    live.write_bytes(left.read_bytes())
    with open(live, "ab") as writing:
        fcntl.flock(writing, fcntl.LOCK_SH)  # as a replay holds it that is still running
        kept.close()
        assert main(["bundle", "replay", "a", "--device", "cpu"]) in (0, 1)
    assert "3 of 3 answers were made before" in capsys.readouterr().out
    assert live.is_file() and not left.exists() and len(open_bundle("a").replays) == 1
    held = KeptAnswers(left)
    held.add("x", 0, Answered("a"))
    assert not left_by_another(left)
    held.close()
    assert left_by_another(left)


def test_kept_replay_is_a_copy_that_stays_one(pairs: Path, tmp_path: Path) -> None:
    made = create_bundle("a", pairs=pairs)
    row = Replayed(0, "base", "q", "a", "b", "wrong", False)
    result = ReplayResult((ModelNamed("base", "b", "base"),), (), (row,), cases=1, created="2026-01-02T03:04:05Z",
                          rows_file="out.rows.jsonl")  # fmt: skip
    for name, text in (("out.xlsx", "book"), ("out.rows.jsonl", "rows"), ("other.json", "{}")):
        (tmp_path / name).write_text(text)
    write_result_file(result, tmp_path / "out.replay.json")
    place = keep_replay(made, tmp_path / "out.replay.json")
    assert keep_replay(made, tmp_path / "out.replay.json") == place and made.replays == [place]
    held, stem = read_result_file(place), place.name.split(".")[0]
    assert held["bundle"] == "a" and held["rows"] == to_json(result)["rows"] and "-20260102-" in stem or "-20260101-" in stem
    assert place.with_name(f"{stem}.xlsx").read_text() == "book" and place.with_name(held["rows_file"]).read_text() == "rows"
    write_result_file(replace(result, cases=2, summary=()), tmp_path / "out.replay.json")
    write_result_file(replace(result, created="", rows_file="../../etc"), tmp_path / "alone.json")
    with pytest.raises(Refused, match="other.json"):
        keep_replay(made, tmp_path / "other.json")
    assert not list(made.folder.glob(f"replays/{keep_replay(made, tmp_path / 'alone.json').name.split('.')[0]}.xlsx"))
    assert len(made.replays) == 2 and made.changed > 0
