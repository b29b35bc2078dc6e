"""The process that trains: the same curve as TRL's own scripts, every method, stop and resume, what it writes and refuses."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.demo.build import DemoFolder
from pipeline.evaluation.said_numbers import is_one_number
from pipeline.refusal import Refused
from pipeline.training import run as training_run
from pipeline.training.curves_page import MAX_POINTS, read_curves, write_curves
from pipeline.training.job_folder import Job
from pipeline.training.progress_file import ProgressFile
from pipeline.training.recipe import parse_recipe
from pipeline.training.training_data import write_rows
from pipeline.training.training_rewards import reward_functions

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
DATA = {"sft": "demo:sft", "kto": "demo:kto", "grpo": "demo:verifiable", "rloo": "demo:verifiable"}
ONLINE = {"num_generations": 4, "per_device_train_batch_size": 8, "reward_funcs": ["exact_answer"], "max_completion_length": 8}

# Several runs in one process: the import of trl costs more than all of them. A run given with a step is told to stop there.
DRIVER = """
import json, runpy, sys, threading, time
from pathlib import Path
from pipeline.training.run import main

def stop_at(job, step):
    metrics = Path(job, "metrics.jsonl")
    while not (metrics.exists() and '"step": %d,' % step in metrics.read_text()):
        time.sleep(0.002)
    Path(job, "stop").write_text('{"save": true}')

codes = []
for kind, name, more in json.loads(sys.argv[1]):
    if kind == "trl":
        sys.argv = [name, "--config", more]
        runpy.run_path(name, run_name="__main__")
        codes.append(0)
        continue
    if more:
        threading.Thread(target=stop_at, args=(name, more), daemon=True).start()
    codes.append(main([name]))
    if more:
        Path(name, "stop").unlink()
        recipe = Path(name, "recipe.yaml")
        recipe.write_text(recipe.read_text() + "resume_from_checkpoint: last\\n")
        codes.append(main([name]))
print(json.dumps(codes))
"""


def make_job(folder: Path, method: str, model: Path, **fields: Any) -> Path:
    given = {
        "method": method, "model_name_or_path": str(model), "data": DATA.get(method, "demo:pairs"), "max_steps": 3,
        "logging_steps": 1, "per_device_train_batch_size": 4, "learning_rate": 1e-4, "report_to": "none", "use_cpu": True,
        "bf16": False, "save_strategy": "no", "max_samples": 60, "seed": 7, **fields,
    }  # fmt: skip
    recipe = parse_recipe(yaml.safe_dump(given), "recipe")
    folder.mkdir(parents=True)
    (folder / "recipe.yaml").write_text(recipe.as_yaml(), encoding="utf-8")
    t5 = model.name.endswith("t5")
    write_rows(recipe, folder, conversational=not t5, encoder_decoder=t5)
    return folder


def metrics(job: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (job / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def curve(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What has to be the same in two runs."""
    return [{k: v for k, v in r.items() if k != "time"} for r in records if "loss" in r]


class Runs:
    """Jobs by name, all done, and what TRL's own scripts logged for some of them."""

    def __init__(self, root: Path, demo: DemoFolder) -> None:
        healthy = demo.cases["healthy_decoder"].checkpoint
        import trl

        scripts = Path(trl.__file__).parent / "scripts"
        steps: list[tuple[str, str, Any]] = []
        self.root = root
        for name, method, fields in (
            ("dpo_lora", "dpo", {"use_peft": True, "max_steps": 10}), ("dpo_full", "dpo", {"max_steps": 10}),
            ("sft", "sft", {"max_steps": 10}),
        ):  # fmt: skip
            job = make_job(root / name, method, healthy, **fields)
            asked = parse_recipe((job / "recipe.yaml").read_text(), name).trainer_fields()
            asked |= {"dataset_name": str(job / "data"), "output_dir": str(job / "bare"), "save_strategy": "steps"}
            (job / "bare.yaml").write_text(yaml.safe_dump(asked | {"save_steps": 500}))
            steps += [("run", str(job), 0), ("trl", str(scripts / f"{method}.py"), str(job / "bare.yaml"))]
        for name, fields in (("lora_stopped", {"use_peft": True}), ("full_stopped", {})):
            steps.append(("run", str(make_job(root / name, "dpo", healthy, max_steps=10, **fields)), 4))
        adapter = demo.root / "healthy_decoder_lora"
        base = demo.base_decoder
        wide = root / "wide_tokenizer"
        tokenizer(healthy, wide, ["<新>", "<new>"])
        for name, method, model, fields in (
            ("kto", "kto", healthy, {}), ("reward", "reward", healthy, {"use_peft": True}), ("orpo", "orpo", healthy, {}),
            ("simpo", "simpo", healthy, {}), ("cpo", "cpo", healthy, {"use_peft": True}), ("grpo", "grpo", healthy, ONLINE),
            ("rloo", "rloo", healthy, ONLINE | {"reward_funcs": ["regular_expression"], "reward_pattern": "."}),
            ("merged", "dpo", base, {"use_peft": True, "adapter_name_or_path": str(adapter)}),
            ("wide", "sft", healthy, {"use_peft": True, "resize_vocab": True, "tokenizer_name_or_path": str(wide)}),
            ("t5_dpo", "dpo", demo.cases["healthy_t5"].checkpoint, {"use_peft": True}),
            ("t5_sft", "sft", demo.cases["healthy_t5"].checkpoint, {}),
            ("other_reference", "dpo", healthy, {"ref_model_name_or_path": str(demo.root / "undertrained_decoder")}),
        ):  # fmt: skip
            steps.append(("run", str(make_job(root / name, method, model, **fields)), 0))
        done = subprocess.run(
            [sys.executable, "-c", DRIVER, json.dumps(steps)], env=ENVIRONMENT, cwd=ROOT, capture_output=True, text=True,
            timeout=400,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        codes = json.loads(done.stdout.splitlines()[-1])
        assert codes == [0] * len(codes), done.stderr[-3000:]


def tokenizer(model: Path, place: Path, more: list[str]) -> None:
    from transformers import AutoTokenizer

    held = AutoTokenizer.from_pretrained(model)
    held.add_tokens(more)
    held.save_pretrained(place)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, demo: DemoFolder) -> Runs:
    return Runs(tmp_path_factory.mktemp("runs"), demo)


@pytest.mark.parametrize("name", ["dpo_lora", "dpo_full", "sft"])
def test_the_same_curve_as_trl(runs: Runs, name: str) -> None:
    bare = json.loads(next((runs.root / name / "bare").glob("checkpoint-*/trainer_state.json")).read_text())
    theirs = [r for r in bare["log_history"] if "loss" in r]
    ours = [{k: v for k, v in r.items() if k != "time"} for r in metrics(runs.root / name) if "loss" in r]
    assert len(ours) == 10 and ours == theirs


@pytest.mark.parametrize(("whole", "stopped"), [("dpo_lora", "lora_stopped"), ("dpo_full", "full_stopped")])
def test_a_stopped_run_goes_on_as_if_it_had_not_been(runs: Runs, whole: str, stopped: str) -> None:
    job = runs.root / stopped
    (checkpoint,) = (job / "output").glob("checkpoint-*")
    assert 4 <= int(checkpoint.name.partition("-")[2]) < 10
    assert curve(metrics(job)) == curve(metrics(runs.root / whole))


METHODS_RUN = ["kto", "reward", "orpo", "simpo", "cpo", "grpo", "rloo", "other_reference", "t5_dpo", "t5_sft"]


@pytest.mark.parametrize("name", METHODS_RUN)
def test_every_method_trains(runs: Runs, name: str) -> None:
    job = runs.root / name
    losses = [r["loss"] for r in curve(metrics(job))]
    assert len(losses) == 3 and all(isinstance(loss, float) for loss in losses)
    progress = json.loads((job / "progress.json").read_text())
    assert progress["phase"] == "done" and progress["step"] == progress["max_steps"] == 3
    assert progress["peak_memory_bytes"] > 1e8 and progress["first_step_time"] > 0
    assert list((job / "output").glob("*model.safetensors")) and "<polyline" in (job / "output/curves.html").read_text()
    if name == "other_reference":  # another reference: the first margin is no longer nothing
        assert abs(losses[0] - 0.6931) > 0.01
    if name == "grpo":
        assert {r["rewards/exact_answer/mean"] > 0 for r in metrics(job) if "loss" in r} != {False}
    if name == "rloo":  # every answer has a character
        assert all(r["rewards/regular_expression/mean"] == 1 for r in metrics(job) if "loss" in r)
    if name in ("reward", "t5_dpo"):
        held = json.loads((job / "output/adapter_config.json").read_text())
        assert held["task_type"] == ("SEQ_CLS" if name == "reward" else "SEQ_2_SEQ_LM")


def test_an_adapter_is_merged_and_its_base_kept(runs: Runs, demo: DemoFolder) -> None:
    from peft import AutoPeftModelForCausalLM

    output = runs.root / "merged/output"
    base = output / "prepared_base"
    assert json.loads((output / "adapter_config.json").read_text())["base_model_name_or_path"] == str(base)
    assert metrics(runs.root / "merged")[0]["loss"] == pytest.approx(0.693147, abs=1e-5)  # the reference has it too
    merged, plain = tensors(base), tensors(demo.base_decoder)
    assert any((merged[n] != plain[n]).any() for n in plain if n.endswith("q_proj.weight"))
    assert AutoPeftModelForCausalLM.from_pretrained(output) is not None


def test_more_tokens_get_rows_that_are_trained(runs: Runs, demo: DemoFolder) -> None:
    output = runs.root / "wide/output"
    rows = tensors(demo.cases["healthy_decoder"].checkpoint)["model.embed_tokens.weight"].shape[0]
    saved, base = tensors(output), tensors(output / "prepared_base")
    assert rows % 64 == 0 and base["model.embed_tokens.weight"].shape[0] == rows + 64
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        trained = saved[f"base_model.model.{name}"]
        assert trained.shape == base[name].shape and (trained != base[name]).any()


def tensors(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return load_file(next(folder.glob("*model.safetensors")))


def test_waits_for_the_start_and_ends_politely_when_terminated(tmp_path: Path, demo: DemoFolder) -> None:
    from pipeline.training.checkpoints import last_whole

    job = make_job(tmp_path / "job", "dpo", demo.cases["healthy_decoder"].checkpoint, use_peft=True, max_steps=2000)
    (job / "waiting").write_text(f"{os.getpid()}\n")
    with (job / "log.txt").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "pipeline.training.run", str(job)], env=ENVIRONMENT, cwd=ROOT, stderr=log, stdout=log
        )
        try:
            wait_until(lambda: (job / "progress.json").exists() and '"waiting"' in (job / "progress.json").read_text())
            assert not (job / "output").exists()
            (job / "waiting").unlink()
            wait_until(lambda: (job / "metrics.jsonl").exists() and (job / "metrics.jsonl").read_bytes().count(b"\n") > 2)
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
        finally:
            process.kill()
    assert "stopped after step" in (job / "log.txt").read_text().splitlines()[-1]
    progress = json.loads((job / "progress.json").read_text())
    assert progress["phase"] == "stopped" and progress["step"] == curve(metrics(job))[-1]["step"]
    found = last_whole(job / "output")
    assert found is not None and found.name == f"checkpoint-{progress['step']}"
    assert not list((job / "output").glob("*.safetensors"))  # nothing that looks like a result


def wait_until(true: Any, seconds: float = 120) -> None:
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until
        time.sleep(0.05)


# --- without a training process -----------------------------------------------------------------------------------


def test_methods_that_encoder_decoders_lack(demo: DemoFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job = make_job(tmp_path / "job", "kto", demo.cases["healthy_t5"].checkpoint)
    assert training_run.main([str(job)]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: kto: encoder-decoders")


def test_gives_up_where_the_starter_is_gone(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    (tmp_path / "waiting").write_text(f"{gone.pid}\n")
    with pytest.raises(Refused, match="is gone"):
        training_run._wait_for_start(Job("j", tmp_path), ProgressFile(tmp_path))


@pytest.mark.parametrize(("recipe", "said"), [
    (None, "recipe.yaml"), ("method: dpoo\n", "dpo"), ("method: dpo\nmax_steps: [\n", "recipe"), ("method: dpo\nbeta: x\n", "beta"),
])  # fmt: skip
def test_bad_recipes_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], recipe: str | None, said: str) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/train.jsonl").write_text("{}\n")
    if recipe is not None:
        (tmp_path / "recipe.yaml").write_text(recipe)
    assert training_run.main([str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and said in line


def test_what_can_not_be_written_is_refused(tmp_path: Path) -> None:
    from pipeline.training.step_records import Asked, StepRecords

    (tmp_path / "metrics.jsonl").mkdir()
    with pytest.raises(Refused, match=r"metrics\.jsonl"):
        StepRecords(tmp_path, ProgressFile(tmp_path), Asked(tmp_path, main=True))
    with pytest.raises(Refused, match=r"progress\.json"):
        ProgressFile(tmp_path / "absent").phase("loading")


def test_numbers_that_are_none_are_named(tmp_path: Path) -> None:
    from pipeline.training.step_records import Asked, StepRecords, record_line

    line = json.loads(record_line(3, 0.5, 1.0, {"loss": float("nan"), "grad_norm": float("inf"), "lr": 1e-4, "名": "值"}))
    assert line == {
        "step": 3, "epoch": 0.5, "time": 1.0, "loss": None, "grad_norm": None, "lr": 1e-4, "名": "值",
        "non_finite": ["loss", "grad_norm"],
    }  # fmt: skip
    (tmp_path / "metrics.jsonl").write_bytes(b'{"step": 1}\n{"ste')  # killed while it wrote
    StepRecords(tmp_path, ProgressFile(tmp_path), Asked(tmp_path, main=True)).close()
    assert (tmp_path / "metrics.jsonl").read_bytes().endswith(b'{"ste\n')


def test_a_full_disk_is_stopped_for_without_saving(tmp_path: Path) -> None:
    from pipeline.training.step_records import _GO_ON, _STOP, _STOP_UNSAVED, Asked

    asked = Asked(tmp_path, main=True)
    assert asked() == _GO_ON
    for text, told in (("", _STOP), ('{"save": false}', _STOP_UNSAVED), ("\x00[[[", _STOP)):
        (tmp_path / "stop").write_text(text)
        assert asked() == told
    assert Asked(tmp_path, main=False)() == _GO_ON


def test_progress_is_not_written_at_every_step(tmp_path: Path) -> None:
    progress = ProgressFile(tmp_path)
    progress.phase("training")
    written = set()
    for step in range(1, 400):
        progress.step(step, 1000, 0.1, (1, 0))
        written.add((tmp_path / "progress.json").stat().st_ino)
    assert len(written) < 30
    progress.step(1000, 1000, 1.0, (1, 0))
    assert json.loads((tmp_path / "progress.json").read_text())["step"] == 1000


def test_the_page_of_curves_keeps_spikes_and_stays_small(tmp_path: Path) -> None:
    rows = [{"step": s, "loss": 9.0 if s == 5003 else 1 / (s + 1), "num_tokens": s, "<b>": s} for s in range(10_000)]
    lines = [json.dumps(r) for r in rows] + ["{", json.dumps({"step": 7, "loss": None, "non_finite": ["loss"]})]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines))
    curves, bad = read_curves(tmp_path / "metrics.jsonl")
    assert set(curves) == {"loss", "<b>"} and len(curves["loss"]) <= MAX_POINTS + 2
    assert (5003.0, 9.0) in curves["loss"] and bad == {"loss": [7.0]}
    page = write_curves(tmp_path, tmp_path).read_text(encoding="utf-8")
    assert len(page) < 40_000 and "<script" not in page and "<b>" not in page and page.count("<polyline") == 2


def reward(name: str, completions: list[str], answers: list[str], **fields: Any) -> list[float]:
    recipe = parse_recipe(yaml.safe_dump({"method": "grpo", "reward_funcs": [name], **fields}), "r")
    (made,) = reward_functions(recipe)
    assert made.__name__ == name
    as_messages = [[{"role": "assistant", "content": text}] for text in completions]
    given = made(prompts=[""] * len(answers), completions=as_messages, completion_ids=[], answer=answers)
    assert given == made(completions=completions, answer=answers)
    return list(given)


def test_rewards_of_exact_answers_in_both_languages() -> None:
    right = [
        ("答案是 1,234", "1234"), ("The answer is: 三十五", "35"), (r"\boxed{0.5}", "1/2"), ("苹果。", "苹果"), (" Paris! ", "paris"),
        ("一共二十五个", "二十五"),
    ]  # fmt: skip
    wrong = [("答案是 1235", "1234"), ("香蕉", "苹果"), ("", "7"), ("Paris or London", "paris"), ("I don't know", "35")]
    assert reward("exact_answer", [a for a, _ in right], [b for _, b in right]) == [1.0] * len(right)
    assert reward("exact_answer", [a for a, _ in wrong], [b for _, b in wrong]) == [0.0] * len(wrong)


def test_what_is_one_number() -> None:
    assert all(map(is_one_number, ["5", "-3.5%", "$1,200", "3/4", "二十五", "#### 72", "1e5", "5万"]))
    assert not any(map(is_one_number, ["three apples 3", "列出三种水果", "5 6", "苹果", "", "x5"]))


def test_a_pattern_can_not_hold_up_the_run() -> None:
    began = time.monotonic()
    assert reward("regular_expression", ["a" * 5000 + "b"], ["x"], reward_pattern=r"(?:a|aa)+$") == [0.0]
    assert time.monotonic() - began < 10
    assert reward("regular_expression", ["<a>7</a>", "7"], ["7", "7"], reward_pattern=r"^<a>\d+</a>$") == [1.0, 0.0]


def test_reward_of_queries(tmp_path: Path) -> None:
    import sqlite3

    with sqlite3.connect(tmp_path / "d.sqlite") as database:
        database.executescript("create table t (a int, b text); insert into t values (1, 'x'), (2, 'y'), (3, 'y');")
    gold = "SELECT count(*) FROM t WHERE b = 'y'"
    answers = ["```sql\nSELECT 2\n```", "SELECT count(a) FROM t WHERE b = 'x'", "DROP TABLE t", "不知道", gold.lower().replace("'Y'", "'y'")]
    given = reward("sql_execution", answers, [gold] * 5, reward_database=str(tmp_path / "d.sqlite"))
    assert given == [1.0, 0.0, 0.0, 0.0, 1.0]


@pytest.mark.parametrize(("fields", "said"), [
    ({}, "no reward"), ({"reward_funcs": ["os.system"]}, "not run"), ({"reward_funcs": ["exact_anser"]}, "exact_answer"),
    ({"reward_funcs": ["regular_expression"]}, "reward_pattern"),
    ({"reward_funcs": ["regular_expression"], "reward_pattern": "("}, "pattern"),
    ({"reward_funcs": ["sql_execution"], "reward_database": "/nowhere.db"}, "nowhere"),
])  # fmt: skip
def test_rewards_that_are_none(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(Refused, match=said):
        reward_functions(parse_recipe(yaml.safe_dump({"method": "grpo", **fields}), "r"))


def test_models_that_are_none(tmp_path: Path, demo: DemoFolder) -> None:
    from pipeline.training.policy_model import open_policy

    healthy, adapter = str(demo.cases["healthy_decoder"].checkpoint), str(demo.root / "healthy_decoder_lora")
    template = tmp_path / "broken.jinja"
    template.write_text("{% for %}")
    for fields, said in (
        ({}, "model_name_or_path"), ({"model_name_or_path": adapter}, "adapter_name_or_path"),
        ({"model_name_or_path": str(tmp_path)}, "no model"), ({"model_name_or_path": str(tmp_path / "x")}, "x"),
        ({"model_name_or_path": healthy, "adapter_name_or_path": healthy}, "no adapter"),
        ({"model_name_or_path": healthy, "ref_model_name_or_path": adapter}, "reference"),
        ({"model_name_or_path": healthy, "tokenizer_name_or_path": str(tmp_path)}, "tokenizer"),
        ({"model_name_or_path": healthy, "chat_template": str(template)}, "Jinja"),
    ):  # fmt: skip
        recipe = parse_recipe(yaml.safe_dump({"method": "dpo", **fields}), "r")
        with pytest.raises(Refused, match=said):
            open_policy(recipe, tmp_path / "out", makes=True, note=lambda line: None)
    assert not (tmp_path / "out").exists()


def test_a_bare_state_dict_becomes_a_folder(tmp_path: Path, demo: DemoFolder) -> None:
    import torch

    from pipeline.training.policy_model import open_policy

    healthy = demo.cases["healthy_decoder"].checkpoint
    torch.save(tensors(healthy), tmp_path / "best.bin")
    fields = {
        "method": "dpo", "model_name_or_path": str(tmp_path / "best.bin"), "tokenizer_name_or_path": str(healthy),
        "model_config": str(healthy / "config.json"),
    }  # fmt: skip
    recipe = parse_recipe(yaml.safe_dump(fields), "r")
    policy = open_policy(recipe, tmp_path, makes=True, note=lambda line: None)
    assert policy.prepared is not None and policy.model == str(policy.prepared)
    made, had = tensors(policy.prepared), tensors(healthy)
    assert made.keys() == had.keys() and all(torch.equal(made[n], had[n]) for n in had)
    again = policy.prepared.stat().st_mtime_ns
    assert open_policy(recipe, tmp_path, makes=True, note=lambda line: None).model == policy.model
    assert policy.prepared.stat().st_mtime_ns == again


def test_where_a_run_goes_on(tmp_path: Path) -> None:
    def point(value: str) -> str | None:
        recipe = parse_recipe(f"method: dpo\nresume_from_checkpoint: {value}\n", "r")
        return training_run.resume_point(recipe, tmp_path)

    assert point("null") is None and point("'false'") is None
    with pytest.raises(Refused, match="no whole checkpoint"):
        point("last")
    (tmp_path / "checkpoint-3").mkdir()
    with pytest.raises(Refused, match="not a whole checkpoint"):
        point(str(tmp_path / "checkpoint-3"))
