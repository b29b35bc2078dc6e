"""What is checked before a training run: every check quiet on sound recipes and loud on the wrong ones."""

from __future__ import annotations

import ast
import inspect
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from diagnostics import render
from diagnostics.check_table import RECIPE_CHECKS
from diagnostics.diagnose_recipe import diagnose_recipe
from diagnostics.recipe_subject import RecipeSubject
from diagnostics.report import Finding, Report
from diagnostics.run_checks import run_checks
from diagnostics.thresholds import load_thresholds
from diagnostics.words import say
from pipeline.demo.build import DemoFolder
from pipeline.refusal import Refused
from pipeline.training import environment
from pipeline.training.accelerate_files import AccelerateFile, parse_accelerate, suited
from pipeline.training.environment import Gpu
from pipeline.training.recipe import parse_recipe, read_recipe
from pipeline.training.start_job import settle
from pipeline.training.token_preview import preview, sample_rows
from pipeline.training.training_data import write_rows

ROOT = Path(__file__).resolve().parent.parent
GIB = 2**30
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
BY_CODE = {check.code: check for check in RECIPE_CHECKS}
A100 = Gpu("NVIDIA A100-SXM4-80GB", 80 * GIB, 79 * GIB, (8, 0))
V100 = Gpu("Tesla V100-SXM2-16GB", 16 * GIB, 15 * GIB, (7, 0))
FIRED: set[tuple[str, str]] = set()


@pytest.fixture(scope="module")
def rows(demo: DemoFolder, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Folders with rows as a job has them, by recipe; made once."""
    made: dict[str, Path] = {}

    def of(name: str) -> Path:
        if name not in made:
            folder = tmp_path_factory.mktemp(name)
            recipe = read_recipe(name)
            settled = settle(recipe)
            write_rows(settled.recipe, folder, conversational=settled.conversational, encoder_decoder=settled.encoder_decoder)
            made[name] = folder
        return made[name]

    return of


def on_cpu(**fields: Any) -> AccelerateFile:
    spread = suited("cpu")
    return parse_accelerate(yaml.safe_dump({**spread.fields, **fields}), "mine")


def on_gpus(count: int = 1, **fields: Any) -> AccelerateFile:
    kind = {"distributed_type": "MULTI_GPU" if count > 1 else "NO"}
    fixed = {"num_processes": count, "num_machines": 1, "use_cpu": False, "main_process_port": 0}
    return parse_accelerate(yaml.safe_dump({**kind, **fixed, **fields}), "mine")


def subject_of(
    name: str, folder: Path | None, changes: dict[str, Any] | None = None, *, spread: AccelerateFile | None = None,
    gpus: tuple[Gpu, ...] = (), drop: tuple[str, ...] = (),
) -> RecipeSubject:  # fmt: skip
    recipe = settle(read_recipe(name)).recipe
    recipe = recipe.changed(changes or {})
    recipe = replace(recipe, fields={k: v for k, v in recipe.fields.items() if k not in drop})
    found = RecipeSubject(name, load_thresholds(), recipe=recipe, spread=spread or on_cpu(), rows_folder=folder)
    found.__dict__["gpus"] = gpus
    return found


def found_by(code: str, subject: RecipeSubject) -> list[Finding]:
    """The findings of one check; a crash is no finding."""
    findings = []
    try:
        for event in run_checks([BY_CODE[code]], subject, subject.limits, depth="files"):
            assert event.skipped is None or event.skipped.reason_id != "check_crashed", event.skipped
            if event.finding is not None:
                findings.append(event.finding)
                FIRED.add((code, event.finding.outcome))
    finally:
        subject.close()
    return findings


LORA = {"use_peft": True}
FULL = {"use_peft": False}
# (recipe, changes, code, outcome, severity)
CASES: list[tuple[str, dict[str, Any], str, str, str]] = [
    ("dpo_lora", {}, "RUN011", "ok", "ok"),
    ("dpo_lora", {"beta": 0}, "RUN011", "no_signal", "error"),
    ("dpo_lora", {"beta": 0, "loss_type": ["sigmoid", "sft"]}, "RUN011", "sft_only", "warning"),
    ("dpo_lora", {"beta": 0.5}, "RUN011", "large", "warning"),
    ("dpo_lora", {"beta": 5}, "RUN011", "far_too_large", "warning"),
    ("dpo_lora", {"beta": 0.05}, "RUN011", "small", "warning"),
    ("dpo_lora", {"beta": 1e-3}, "RUN011", "far_too_small", "warning"),
    ("dpo_lora", {"beta": 0.01, "loss_type": ["ipo"]}, "RUN011", "ok", "ok"),
    ("simpo", {}, "RUN011", "ok", "ok"),
    ("simpo", {"beta": 0.1}, "RUN011", "far_too_small", "warning"),
    ("simpo", {"beta": 2.0, "simpo_gamma": 3.0}, "RUN011", "margin_above_beta", "info"),
    ("orpo", {"beta": 0}, "RUN011", "sft_only", "warning"),
    ("grpo_verifiable", {"beta": 0}, "RUN011", "ok", "ok"),
    ("dpo_lora", {}, "RUN012", "ok", "ok"),
    ("dpo_lora", {"learning_rate": 0}, "RUN012", "zero", "error"),
    ("dpo_lora", {"learning_rate": 3}, "RUN012", "destroys", "error"),
    ("dpo_lora", {"learning_rate": 0.5}, "RUN012", "high_adapter", "warning"),
    ("dpo_lora", {"learning_rate": 1e-9}, "RUN012", "low_adapter", "warning"),
    ("dpo_lora", {"learning_rate": 3e-7}, "RUN012", "below_usual", "info"),
    ("dpo_lora", {"learning_rate": 0.5, **FULL}, "RUN012", "high_preference", "warning"),
    ("dpo_lora", {"learning_rate": 1e-9, **FULL}, "RUN012", "low", "warning"),
    ("sft_full", {"learning_rate": 0.5}, "RUN012", "high", "warning"),
    ("sft_full", {"learning_rate": 0.02}, "RUN012", "above_usual", "info"),
    ("dpo_t5", {"fp16": True}, "RUN013", "t5_in_fp16", "error"),
    ("dpo_t5", {"dtype": "float16"}, "RUN013", "t5_in_fp16", "error"),
    ("dpo_lora", {"fp16": True, "bf16": True}, "RUN013", "both", "error"),
    ("dpo_lora", {"fp16": True}, "RUN013", "fp16_on_cpu", "warning"),
    ("dpo_lora", {"dtype": "float16", **FULL}, "RUN013", "trained_in_float16", "warning"),
    ("dpo_lora", {}, "RUN013", "ok", "ok"),
    ("dpo_lora", {}, "RUN014", "ok", "ok"),
    ("dpo_t5", {}, "RUN014", "ok", "ok"),
    ("dpo_lora", {"loss_type": ["simpo"]}, "RUN014", "loss_for_encoder_decoders", "error"),
    ("dpo_lora", {}, "RUN015", "adapter_off", "ok"),
    ("dpo_full_zero3", {}, "RUN015", "copy", "ok"),
    ("dpo_full_zero3", {"sync_ref_model": True, "precompute_ref_log_probs": True}, "RUN015", "synced_and_precomputed", "error"),
    ("dpo_lora", {"sync_ref_model": True}, "RUN015", "synced_with_adapter", "error"),
    ("dpo_lora", {"ref_model_name_or_path": "/nowhere/at/all"}, "RUN015", "reference_not_there", "error"),
    ("dpo_lora", {}, "RUN016", "targets", "ok"),
    ("sft_full", {}, "RUN016", "full", "ok"),
    ("dpo_lora", {"lora_target_modules": ["q_proj", "v_proj"]}, "RUN016", "targets", "ok"),
    ("dpo_lora", {"lora_target_modules": ["query_key_value"]}, "RUN016", "no_target_there", "error"),
    ("dpo_lora", {"lora_target_modules": ["q_proj", "value"]}, "RUN016", "some_targets_absent", "warning"),
    ("dpo_lora", {"lora_target_modules": ["q_proj", "lm_head"]}, "RUN016", "head_targeted", "error"),
    ("dpo_lora", {"lora_target_modules": [r".*\.layers\.\d+\.q"]}, "RUN016", "targets_by_expression", "info"),
    ("dpo_lora", {"load_in_4bit": True, "load_in_8bit": True}, "RUN016", "both_quantisations", "error"),
    ("dpo_lora", {"load_in_4bit": True, **FULL}, "RUN016", "quantised_without_adapter", "error"),
    ("dpo_lora", {"load_in_4bit": True}, "RUN016", "quantised_on_cpu", "warning"),
    ("sft_full", {"lora_r": 4}, "RUN016", "fields_unread", "warning"),
    ("reward_model", {}, "RUN016", "full", "ok"),  # use_peft: false by hand, with LoRA fields at rest
    ("dpo_lora", {"lora_alpha": 0}, "RUN016", "alpha_zero", "error"),
    ("dpo_lora", {"lora_alpha": 256}, "RUN016", "alpha_unusual", "info"),
    ("dpo_lora", {"resize_vocab": True, "lora_modules_to_save": ["score"]}, "RUN016", "rows_added_to_saved", "info"),
    ("dpo_lora", {}, "RUN017", "ok", "ok"),
    ("dpo_lora", {"max_steps": -1, "num_train_epochs": 0}, "RUN017", "no_steps", "error"),
    ("dpo_lora", {"max_steps": 0}, "RUN017", "stops_at_once", "error"),
    ("dpo_lora", {"max_steps": 3000}, "RUN017", "many_epochs", "warning"),
    ("dpo_lora", {"warmup_steps": 200}, "RUN017", "warmup_too_long", "warning"),
    ("dpo_lora", {"logging_steps": 500}, "RUN017", "logged_once", "info"),
    ("dpo_lora", {"save_steps": 500}, "RUN017", "saved_at_end_only", "info"),
    ("dpo_lora", {"eval_strategy": "no"}, "RUN017", "held_out_unused", "info"),
    ("dpo_lora", {"per_device_train_batch_size": 5000}, "RUN017", "batch_above_rows", "info"),
    ("dpo_lora", {"eval_strategy": "no", "lr_scheduler_type": "reduce_lr_on_plateau"}, "RUN017", "scheduler_needs_evaluation",
     "error"),
    ("dpo_lora", {"load_best_model_at_end": True, "save_strategy": "epoch"}, "RUN017", "best_needs_same_strategy", "error"),
    ("dpo_lora", {"load_best_model_at_end": True, "save_steps": 70}, "RUN017", "best_needs_multiple", "error"),
    ("dpo_lora", {"load_best_model_at_end": True, "save_steps": 90}, "RUN017", "ok", "ok"),
    ("grpo_verifiable", {}, "RUN018", "ok", "ok"),
    ("grpo_verifiable", {"num_generations": 1}, "RUN018", "group_of_one", "error"),
    ("grpo_verifiable", {"num_generations": 5}, "RUN018", "groups_cut", "error"),
    ("grpo_verifiable", {"generation_batch_size": 8, "steps_per_generation": 2}, "RUN018", "generation_said_twice", "error"),
    ("grpo_verifiable", {"generation_batch_size": 40}, "RUN018", "generation_not_whole", "error"),
    ("grpo_verifiable", {"eval_strategy": "steps", "per_device_eval_batch_size": 3}, "RUN018", "eval_groups_cut", "error"),
    ("grpo_verifiable", {"temperature": 0.1}, "RUN018", "answers_alike", "warning"),
    ("kto", {"per_device_train_batch_size": 1}, "RUN018", "kto_alone", "error"),
    ("sft_full", {"packing": True, "max_length": None}, "RUN018", "packing_without_length", "error"),
    ("sft_full", {"padding_free": True}, "RUN018", "padding_free_not_cut", "error"),
    ("sft_full", {"packing": True, "packing_strategy": "wrapped"}, "RUN018", "packed_rows_cut", "warning"),
    ("sft_full", {"packing": True}, "RUN018", "packed_rows_mixed", "warning"),
    ("sft_full", {"packing": True, "attn_implementation": "flash_attention_2"}, "RUN018", "packed", "info"),
    ("dpo_lora", {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0]}, "RUN018", "weights_unlike_losses", "error"),
    ("dpo_lora", {"loss_type": ["exo_pair"]}, "RUN018", "exo_needs_smoothing", "error"),
    ("dpo_lora", {"label_smoothing": 0.6}, "RUN018", "smoothing_turns_pairs", "error"),
    ("dpo_lora", {"model_init_kwargs": {"device_map": "auto"}}, "RUN019", "ok", "ok"),  # of one process
    ("dpo_lora", {}, "RUN020", "ok", "ok"),
    ("dpo_lora", {"report_to": ["swanlab"]}, "RUN020", "absent", "error"),
    ("dpo_lora", {"use_liger_kernel": True}, "RUN020", "absent", "error"),
    ("dpo_lora", {"optim": "galore_adamw"}, "RUN020", "absent", "error"),
    ("dpo_lora", {"attn_implementation": "kernels-community/flash-attn2"}, "RUN020", "kernel_fetched", "info"),
    ("dpo_lora", {}, "RUN021", "ok", "ok"),
    ("dpo_lora", {}, "RUN024", "ok", "ok"),
    ("dpo_lora", {}, "RUN025", "ok", "ok"),
    ("kto", {"desirable_weight": 9.0}, "RUN026", "labels_uneven", "warning"),
    ("kto", {}, "RUN026", "ok", "ok"),
    ("dpo_lora", {}, "RUN027", "ok", "ok"),
    ("reward_model", {"max_length": 22}, "RUN027", "rows_left_out", "warning"),
    ("dpo_lora", {"max_length": 5}, "RUN027", "nothing_trained", "error"),
    ("dpo_lora", {"max_length": 15}, "RUN027", "trained", "ok"),  # every answer among the first is cut
    ("dpo_lora", {}, "RUN028", "ok", "ok"),
    ("dpo_lora", {"pad_token": "<|no_such|>"}, "RUN028", "unknown_token", "error"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "changes", "code", "outcome", "severity"), CASES, ids=[f"{c[2]}-{c[3]}-{n}" for n, c in enumerate(CASES)]
)
def test_fields(name: str, changes: dict[str, Any], code: str, outcome: str, severity: str, rows: Any) -> None:
    found = found_by(code, subject_of(name, rows(name), changes))
    assert (outcome, severity) in [(f.outcome, f.severity) for f in found], found
    if severity == "ok":
        assert all(f.severity in ("ok", "info") for f in found), found


def one(found: list[Finding]) -> tuple[str, str]:
    assert len(found) == 1, found
    return found[0].outcome, found[0].severity


def test_every_outcome_was_seen_once(rows: Any) -> None:
    """Of the checks whose outcomes hang on fields alone: none of them stands there without a case."""
    for code in ("RUN011", "RUN012", "RUN017", "RUN018"):
        written = {
            node.args[0].value
            for node in ast.walk(ast.parse(inspect.getsource(inspect.getmodule(BY_CODE[code].function))))
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("info", "warning", "error")
        }  # fmt: skip
        cases = {c[3] for c in CASES if c[2] == code} | {"evaluates_nothing", "nothing_held_out"}
        assert written <= cases, written - cases


def test_precision_on_gpus(rows: Any) -> None:
    folder = rows("dpo_lora")
    bf16 = {"bf16": True}
    assert one(found_by("RUN013", subject_of("dpo_lora", folder, bf16, spread=on_gpus(), gpus=(V100,)))) == (
        "bf16_unsupported", "error",
    )  # fmt: skip
    assert one(found_by("RUN013", subject_of("dpo_lora", folder, bf16, spread=on_gpus(), gpus=(A100,))))[0] == "ok"
    disagrees = on_gpus(mixed_precision="fp16", distributed_type="DEEPSPEED", deepspeed_config={"zero_stage": 2})
    assert one(found_by("RUN013", subject_of("dpo_lora", folder, bf16, spread=disagrees, gpus=(A100,)))) == (
        "deepspeed_disagrees", "error",
    )  # fmt: skip
    other = on_gpus(mixed_precision="fp16")
    assert one(found_by("RUN013", subject_of("dpo_lora", folder, bf16, spread=other, gpus=(A100,)))) == (
        "files_disagree", "warning",
    )  # fmt: skip


def test_models_that_a_method_cannot_train(demo: DemoFolder, rows: Any, tmp_path: Path) -> None:
    adapter = {"model_name_or_path": str(demo.root / "healthy_decoder_lora")}
    found = found_by("RUN014", subject_of("dpo_lora", rows("dpo_lora"), adapter))
    assert one(found) == ("adapter_as_model", "error") and found[0].params["base"]
    seq2seq = {"model_name_or_path": str(demo.root / "base_t5")}
    for method in ("kto", "reward_model", "grpo_verifiable"):
        assert one(found_by("RUN014", subject_of(method, None, seq2seq))) == ("encoder_decoder", "error")
    labels = tmp_path / "scores"
    labels.mkdir()
    config = json.loads((demo.root / "healthy_decoder" / "config.json").read_text())
    for kind, count, recipe, wanted in (
        ("LlamaForSequenceClassification", 1, "dpo_lora", ("writes_nothing", "error")),
        ("LlamaForSequenceClassification", 3, "reward_model", ("several_labels", "warning")),
    ):
        (labels / "config.json").write_text(json.dumps({**config, "architectures": [kind], "num_labels": count}))
        assert one(found_by("RUN014", subject_of(recipe, None, {"model_name_or_path": str(labels)}))) == wanted


def test_reference(demo: DemoFolder, rows: Any) -> None:
    folder, model = rows("dpo_lora"), str(demo.root / "healthy_decoder")
    for changes, wanted in (
        ({"ref_model_name_or_path": model}, ("reference_named_needlessly", "info")),
        ({"ref_model_name_or_path": str(demo.root / "base_decoder")}, ("reference_is_another", "warning")),
        ({"ref_model_name_or_path": str(demo.root / "healthy_decoder_lora")}, ("reference_is_adapter", "error")),
        (
            {"ref_model_name_or_path": model, "adapter_name_or_path": str(demo.root / "healthy_decoder_lora")},
            ("reference_without_adapter", "warning"),
        ),
    ):
        assert one(found_by("RUN015", subject_of("dpo_lora", folder, changes))) == wanted
    # merged into the model before training, so the reference has it: nothing to say
    adapter = {"adapter_name_or_path": str(demo.root / "healthy_decoder_lora")}
    assert one(found_by("RUN015", subject_of("dpo_lora", folder, adapter)))[1] == "ok"


def test_evaluation_needs_rows(rows: Any, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    source = rows("dpo_lora") / "data" / "train.jsonl"
    (tmp_path / "data" / "train.jsonl").write_bytes(source.read_bytes())
    found = found_by("RUN017", subject_of("dpo_lora", tmp_path))
    assert ("evaluates_nothing", "error") in [(f.outcome, f.severity) for f in found]
    quiet = found_by("RUN017", subject_of("dpo_lora", tmp_path, {"eval_strategy": "no"}))
    assert [(f.outcome, f.severity) for f in quiet] == [("nothing_held_out", "info")]


def test_spread(rows: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = rows("dpo_lora")

    def told(spread: AccelerateFile, changes: dict[str, Any] | None = None, gpus: tuple[Gpu, ...] = ()) -> dict[str, str]:
        found = found_by("RUN019", subject_of("dpo_lora", folder, changes, spread=spread, gpus=gpus))
        return {f.outcome: f.severity for f in found}

    monkeypatch.setattr("diagnostics.launch.spreading_unfit.torch_build", lambda: "cuda")
    zero3 = {"zero_stage": 3, "zero3_save_16bit_model": False, "zero3_init_flag": True}
    lost = on_gpus(2, distributed_type="DEEPSPEED", deepspeed_config=zero3)
    assert told(lost, gpus=(A100, A100)) == {"weights_not_gathered": "error"}
    whole = on_gpus(2, distributed_type="DEEPSPEED", deepspeed_config={**zero3, "zero3_save_16bit_model": True})
    assert told(whole, gpus=(A100, A100)) == {"ok": "ok"}
    settings = tmp_path / "ds.json"
    block = {"deepspeed_config_file": str(settings), "zero3_init_flag": False}

    def of_json(value: dict[str, Any]) -> AccelerateFile:
        settings.write_text(json.dumps({"zero_optimization": {"stage": 2}, **value}))
        return on_gpus(1, distributed_type="DEEPSPEED", deepspeed_config=block)

    own = {"scheduler": {"type": "WarmupLR", "params": {"warmup_num_steps": 10}}}
    assert told(of_json(own), gpus=(A100,)) == {"own_scheduler": "warning"}
    auto = {"scheduler": {"type": "WarmupLR", "params": {"warmup_max_lr": "auto", "warmup_num_steps": "auto"}}}
    assert told(of_json(auto), gpus=(A100,)) == {"ok": "ok"}
    assert told(of_json({"optimizer": {"type": "Adam", "params": {"lr": 1e-3}}}), gpus=(A100,)) == {"own_optimizer": "warning"}
    assert told(of_json({"train_micro_batch_size_per_gpu": 3}), gpus=(A100,)) == {"batches_disagree": "error"}
    mapped = {"model_init_kwargs": {"device_map": "auto"}}
    assert told(on_gpus(2), mapped, (A100, A100)) == {"device_map_with_processes": "error"}
    assert told(on_gpus(1), gpus=(A100, A100)) == {"gpus_idle": "info"}
    monkeypatch.setattr("diagnostics.launch.spreading_unfit.torch_build", lambda: "cpu")
    without = subject_of("dpo_lora", folder, gpus=(A100,), drop=("use_cpu",))
    assert {f.outcome: f.severity for f in found_by("RUN019", without)} == {"torch_without_cuda": "warning"}
    assert told(on_gpus(1)) == {"gpu_needed": "error"}


def test_versions(rows: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def told(installed: dict[str, str], changes: dict[str, Any]) -> set[str]:
        monkeypatch.setattr("diagnostics.launch.versions_known_bad.versions", lambda: {**environment.versions(), **installed})
        return {f.outcome for f in found_by("RUN021", subject_of("dpo_lora", None, changes))}

    assert told({"transformers": "4.46.0"}, {"gradient_accumulation_steps": 8}) == {"accumulation_wrong", "fields_differ"}
    assert told({"transformers": "4.46.0"}, {"gradient_accumulation_steps": 1}) == {"fields_differ"}
    assert told({"trl": "0.7.2"}, {}) == {"end_masked", "prompts_cut", "fields_differ"}
    assert told({"torch": "2.5.1+cu121"}, {}) == {"pickle_refused"}
    assert told({"peft": "0.17.1"}, LORA) == {"adapter_too_old"}
    assert told({"peft": "0.17.1"}, FULL) == {"ok"}
    assert told({"torch": "2.10.0"}, {}) == {"ok"}  # by numbers, not by letters


def test_port(rows: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    two = {"distributed_type": "MULTI_GPU", "num_processes": 2, "use_cpu": True}
    with socket.socket() as listener:
        listener.bind(("", 0))
        listener.listen()
        port = listener.getsockname()[1]
        report = diagnosed("dpo_lora", rows, accelerate=_file(rows("dpo_lora"), {**two, "main_process_port": port}))
        told = {f.code: (f.outcome, f.severity) for f in report.findings}
        assert told["RUN022"] == ("taken", "error") and report.causes[0].id == "port_in_use"
        assert "RUN010" in told and told["RUN010"][1] == "ok"  # one fault, one finding
        monkeypatch.setattr("diagnostics.launch.port_taken.USUAL", port)
        nameless = parse_accelerate(yaml.safe_dump(two), "mine")
        assert one(found_by("RUN022", subject_of("dpo_lora", None, spread=nameless))) == ("usual_taken", "warning")
    free = parse_accelerate(yaml.safe_dump({**two, "main_process_port": 0}), "mine")
    assert one(found_by("RUN022", subject_of("dpo_lora", None, spread=free)))[1] == "ok"


def _file(folder: Path, fields: dict[str, Any]) -> str:
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump(fields))
    return str(path)


def test_output_folder(rows: Any, tmp_path: Path) -> None:
    def told(**changes: Any) -> tuple[str, str]:
        return one(found_by("RUN023", subject_of("dpo_lora", None, changes)))

    assert told(output_dir=str(tmp_path / "new" / "deep")) == ("ok", "ok")
    file = tmp_path / "file"
    file.write_text("")
    assert told(output_dir=str(file)) == ("not_a_folder", "error")
    assert told(output_dir="/proc/1/out") == ("not_writable", "error")
    run = tmp_path / "run"
    (run / "checkpoint-5").mkdir(parents=True)
    (run / "checkpoint-5" / "trainer_state.json").write_text('{"global_step": 5}')
    assert told(output_dir=str(run)) == ("older_checkpoints", "warning")
    assert told(output_dir=str(run), resume_from_checkpoint="true") == ("nothing_to_resume", "error")
    assert told(output_dir=str(run), resume_from_checkpoint=str(run / "checkpoint-5")) == ("resume_not_whole", "error")
    assert told(output_dir=str(run), resume_from_checkpoint=str(run / "checkpoint-6")) == ("resume_not_there", "error")
    import numpy as np
    from safetensors.numpy import save_file

    save_file({"a": np.zeros(2, np.float32)}, run / "checkpoint-5" / "model.safetensors")
    (run / "checkpoint-5" / "optimizer.pt").write_bytes(b"x")
    assert [
        (f.outcome, f.severity)
        for f in found_by(
            "RUN023",
            subject_of("dpo_lora", None, {"output_dir": str(run), "resume_from_checkpoint": str(run / "checkpoint-5")}),
        )
    ] == [("resumes", "ok"), ("ok", "ok")]
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("")
    assert told(output_dir=str(tmp_path / "notes")) == ("not_empty", "info")


def test_disk(rows: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    full = {"save_steps": 1, "save_total_limit": None}
    monkeypatch.setattr("diagnostics.launch.disk_too_small.free_disk", lambda path: 20 * 10**6)
    # one checkpoint of 1.05 million weights: 4 + 8 bytes each, 12.6 MB
    assert one(found_by("RUN024", subject_of("sft_full", rows("sft_full"), full))) == ("too_small", "error")
    monkeypatch.setattr("diagnostics.launch.disk_too_small.free_disk", lambda path: 45 * 10**6)
    kept = {"save_steps": 50, "save_total_limit": 2}
    assert one(found_by("RUN024", subject_of("sft_full", rows("sft_full"), kept))) == ("nearly_full", "warning")
    assert one(found_by("RUN024", subject_of("dpo_lora", rows("dpo_lora"), kept)))[1] == "ok"  # adapters are small


def test_memory(rows: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = rows("dpo_lora")
    needed = subject_of("dpo_lora", folder).memory.host
    for free, wanted in ((needed // 2, "fits_in_no_way"), (int(needed * 1.05), "tight"), (needed * 2, "ok")):
        monkeypatch.setattr("diagnostics.launch.memory_too_small.free_ram", lambda free=free: free)
        found = found_by("RUN025", subject_of("dpo_lora", folder))
        assert one(found)[0] == wanted
    monkeypatch.setattr("diagnostics.launch.memory_too_small.free_ram", lambda: 64 * GIB)
    small = replace(A100, total=2 * GIB, free=GIB // 4)
    found = found_by("RUN025", subject_of("dpo_lora", folder, spread=on_gpus(), gpus=(small,)))
    assert [f.outcome for f in found] == ["fits_in_no_way", "gpu_in_use"]
    many = {"per_device_train_batch_size": 8192, "max_length": 256}
    alone = subject_of("dpo_lora", folder, {"per_device_train_batch_size": 8}, spread=on_gpus()).memory.device
    room = replace(A100, total=int(alone * 1.5), free=int(alone * 1.5))
    (said,) = found_by("RUN025", subject_of("dpo_lora", folder, many, spread=on_gpus(), gpus=(room,)))
    assert said.outcome == "too_small" and "per_device_train_batch_size" in str(said.params["changes"])
    monkeypatch.setattr("diagnostics.launch.memory_too_small.free_ram", lambda: 10**6)
    assert "host_too_small" in {
        f.outcome for f in found_by("RUN025", subject_of("dpo_lora", folder, spread=on_gpus(), gpus=(A100,)))
    }


def written(folder: Path, rows: list[dict[str, Any]]) -> Path:
    (folder / "data").mkdir(exist_ok=True)
    (folder / "data" / "train.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return folder


def turns(*texts: str) -> list[dict[str, str]]:
    return [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(texts)]


def test_rows(tmp_path: Path) -> None:
    def told(name: str, content: list[dict[str, Any]], changes: dict[str, Any] | None = None) -> list[tuple[str, str]]:
        found = found_by("RUN026", subject_of(name, written(tmp_path, content), changes))
        return [(f.outcome, f.severity) for f in found]

    pair = {"prompt": turns("1 + 1?"), "chosen": turns("", "2")[1:], "rejected": turns("", "3")[1:]}
    assert told("dpo_lora", [pair] * 20) == [("ok", "ok")]
    assert told("dpo_lora", [pair] * 3) == [("few_rows", "warning")]
    supervised = {"prompt": turns("1 + 1?"), "completion": turns("", "2")[1:]}
    assert told("dpo_lora", [supervised] * 20) == [("no_rows", "error")]
    assert told("dpo_lora", [pair] * 15 + [supervised] * 5) == [("other_rows", "error")]
    assert told("dpo_lora", []) == [("no_rows", "error")]
    assert told("kto", [{**supervised, "label": True}] * 20) == [("one_label", "error")]
    text = {"prompt": "1 + 1?", "chosen": "2", "rejected": "3"}
    assert told("dpo_lora", [text] * 20) == [("text_for_chat_model", "warning")]
    assert told("dpo_t5", [text] * 20) == [("ok", "ok")]
    (tmp_path / "data" / "train.jsonl").write_bytes(b"\x00\xff\n{\"prompt\": 3}\n[[[[\n" + b"[" * 50_000)
    assert [f.outcome for f in found_by("RUN026", subject_of("dpo_lora", tmp_path))] == ["no_rows"]


def test_stop_token(demo: DemoFolder, rows: Any, tmp_path: Path) -> None:
    """The same rows with models whose files say otherwise where generation stops."""
    model = tmp_path / "model"
    model.mkdir()
    for file in (demo.root / "healthy_decoder").iterdir():
        if file.is_file() and file.suffix != ".safetensors":
            (model / file.name).write_bytes(file.read_bytes())
    changes = {"model_name_or_path": str(model)}
    generation = json.loads((model / "generation_config.json").read_text())
    (model / "generation_config.json").write_text(json.dumps({**generation, "eos_token_id": 5}))
    found = found_by("RUN027", subject_of("dpo_lora", rows("dpo_lora"), changes))
    assert one(found) == ("other_stop_token", "error")
    (model / "chat_template.jinja").write_text(
        "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
    )
    found = found_by("RUN027", subject_of("dpo_lora", rows("dpo_lora"), changes))
    assert one(found) == ("stop_not_trained", "error")
    reward = {**changes, "max_length": 256}
    assert "reward_without_end" in {f.outcome for f in found_by("RUN027", subject_of("reward_model", rows("dpo_lora"), reward))}


def test_padding(demo: DemoFolder, rows: Any) -> None:
    def told(**tokens: Any) -> tuple[str, str]:
        subject = subject_of("dpo_lora", rows("dpo_lora"))
        for name, token in tokens.items():
            setattr(subject.tokenizer, name, token)
        return one(found_by("RUN028", subject))

    assert told(pad_token=None) == ("pad_becomes_end", "info")
    assert told(pad_token=None, eos_token=None) == ("neither", "error")
    assert told(pad_token="<|im_end|>", eos_token="<|im_end|>") == ("pad_is_end", "info")
    assert told(pad_token="<|im_start|>", unk_token="<|im_start|>", eos_token="<|im_end|>") == ("pad_is_unknown", "warning")


def diagnosed(name: str, rows: Any, **options: Any) -> Report:
    return diagnose_recipe(name, rows=str(rows(name)), accelerate=options.pop("accelerate", "cpu"), **options)


@pytest.mark.parametrize("name", sorted(p.stem for p in (ROOT / "configs" / "recipes").glob("*.yaml")))
def test_recipes_of_the_project_raise_no_alarm(name: str, rows: Any) -> None:
    report = diagnosed(name, rows)
    assert not [f for f in report.findings if f.severity in ("error", "warning")], [
        (f.code, f.outcome) for f in report.findings if f.severity in ("error", "warning")
    ]
    assert report.verdict == "healthy" and not report.causes
    assert not [s for s in report.skipped if s.reason_id == "check_crashed"], report.skipped


def test_report_is_one_of_the_schema(rows: Any) -> None:
    report = diagnosed("dpo_lora", rows, changes=["beta=0", "max_length=20"])
    held = json.loads(report.dumps())
    jsonschema.validate(held, json.loads((ROOT / "configs" / "report.schema.json").read_text()))
    assert held["subject"]["kind"] == "recipe" and report.verdict == "problems"
    assert report.causes[0].id == "dpo_no_signal"
    assert Report.from_json(held).subject == report.subject
    assert len(report.samples) == 4 and len(report.dumps()) < 100_000
    again = diagnosed("dpo_lora", rows, changes=["beta=0", "max_length=20"])
    free = ("RUN024", "RUN025")  # what is free changes from one moment to the next
    same = [[f.to_json() for f in one.findings if f.code not in free] for one in (report, again)]
    assert same[0] == same[1]


def test_preview_says_what_the_trainer_sees(rows: Any) -> None:
    """The cut falls where DPOTrainer cuts, and the parts are the whole row."""
    subject = subject_of("dpo_lora", rows("dpo_lora"))
    try:
        tokenizer = subject.tokenizer
        whole = preview(subject.rows, tokenizer, "dpo", max_length=None)
        cut = preview(subject.rows, tokenizer, "dpo", max_length=20)
    finally:
        subject.close()
    for uncut, entry in zip(whole, cut, strict=True):
        for full, side in zip(uncut["sides"], entry["sides"], strict=True):
            assert "".join(p["text"] for p in side["pieces"]) == "".join(p["text"] for p in full["pieces"])
            assert full["stop"] == "<|im_end|>" and full["cut"] == 0
            by_kind = {kind: sum(p["tokens"] for p in side["pieces"] if p["as"] == kind) for kind in ("prompt", "trained", "cut")}
            assert by_kind["prompt"] + by_kind["trained"] <= 20
            assert side["cut"] == by_kind["cut"] == max(0, side["tokens"] - 20)
            assert (side["stop"] is None) == (side["cut"] > 0)


def test_preview_of_other_shapes(rows: Any, tmp_path: Path) -> None:
    seq2seq = subject_of("dpo_t5", rows("dpo_t5"))
    try:
        shown = preview(seq2seq.rows, seq2seq.tokenizer, "dpo", max_length=64, encoder_decoder=True)
        text = "".join(p["text"] for p in shown[0]["sides"][0]["pieces"])
        assert seq2seq.rows.pairs[0].prompt[0]["content"] in text  # its tokenizer drops spaces before single tokens
    finally:
        seq2seq.close()
    words = " ".join(f"word{n}" for n in range(3000))
    folder = written(tmp_path, [{"prompt": turns(words + "日本語の文字😀"), "completion": turns("", "答え😀")[1:]}])
    long = subject_of("sft_full", folder, {"max_length": None})
    try:
        entry = preview(long.rows, long.tokenizer, "sft", max_length=None)[0]
    finally:
        long.close()
    (side,) = entry["sides"]
    assert side["name"] == "completion" and sum(p["tokens"] for p in side["pieces"]) == side["tokens"] > 3000
    assert len(side["pieces"]) < 700 and any(p["as"] == "gap" for p in side["pieces"])
    assert "😀" in "".join(p["text"] for p in side["pieces"] if p["as"] == "trained")


def test_rows_are_sampled_evenly(tmp_path: Path) -> None:
    folder = written(tmp_path, [{"prompt": "a", "chosen": str(n), "rejected": "x"} for n in range(5000)])
    sampled = sample_rows(folder / "data" / "train.jsonl", "dpo", 512)
    assert sampled.total == 5000 and 400 <= len(sampled.pairs) <= 512
    assert [int(p.chosen) + 1 for p in sampled.pairs] == [p.line for p in sampled.pairs]
    assert sampled.pairs[-1].line > 4900


def test_rendered(rows: Any) -> None:
    """Shown in text, Markdown and HTML, in both languages; text of rows is never markup."""
    report = diagnosed("dpo_lora", rows)
    hostile = [{"kind": "tokens", "line": 1, "method": "dpo", "dropped": True, "problem": "", "sides": [
        {"name": "chosen", "tokens": 3, "trained": 1, "cut": 0, "stop": None,
         "pieces": [{"text": "<script>alert(1)</script>\x1b[2J", "as": "prompt", "tokens": 1},
                    {"text": "", "as": "gap", "tokens": 9}, {"text": "x' onload='", "as": "trained", "tokens": 1}]}]}]  # fmt: skip
    for lang, words in (("en", "What the trainer sees"), ("zh", "训练器看到的前几行")):
        said = say(report, lang)
        assert words in render.to_text(said) and "⟦" in render.to_text(said)
        assert words in render.to_markdown(said) and words in render.to_html(said)
        assert "<|im_end|>" in render.to_text(said) and "<|im_end|>" not in render.to_html(said)
        bad = replace(said, samples=hostile)
        page = render.to_html(bad)
        assert "<script>" not in page and "onload='" not in page.replace("&#x27;", "") and "\x1b" not in page
        assert "\x1b" not in render.to_text(bad) and " … 9 … " in render.to_text(bad)


def test_sentences_of_refusals_come_in_both_languages(rows: Any, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("method: dpo\nbetaa: 0.1\n")
    english = diagnose_recipe(str(file))
    chinese = say(Report.from_json(json.loads(english.dumps())), "zh")
    assert english.verdict == "not_usable" and "beta" in english.findings[0].message
    assert "{" not in chinese.findings[0].message and chinese.findings[0].message.startswith("这不是可用的配方")
    assert diagnose_recipe(str(file), lang="zh").findings[0].message == chinese.findings[0].message


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe\x00", b"method: dpo\n  bad: [", b"- 1\n- 2\n", b"method: dpo\nbeta: .nan\n", b"a: &a [*a]\n"]
)
def test_files_that_are_no_recipe(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_bytes(content)
    report = diagnose_recipe(str(file))
    assert report.verdict == "not_usable" and [f.code for f in report.findings] == ["RUN010"]
    assert report.causes and report.causes[0].id == "bad_config" and "\n" not in report.findings[0].message


def test_models_and_data_that_are_not_there(rows: Any, tmp_path: Path) -> None:
    gone = diagnosed("dpo_lora", rows, changes=["model_name_or_path=/no/such/model"])
    assert gone.verdict == "problems" and "model_unusable" in {f.outcome for f in gone.findings}
    assert not [s for s in gone.skipped if s.reason_id == "check_crashed"], gone.skipped
    empty = tmp_path / "empty"
    empty.mkdir()
    nothing = diagnosed("dpo_lora", rows, changes=[f"model_name_or_path={empty}"])
    assert nothing.verdict == "problems"
    assert not [s for s in nothing.skipped if s.reason_id == "check_crashed"], nothing.skipped
    no_data = diagnose_recipe("dpo_lora", changes=["data=/no/such/file.jsonl"], accelerate="cpu")
    assert ("RUN010", "rows_unusable") in {(f.code, f.outcome) for f in no_data.findings}
    with pytest.raises(Refused):
        diagnose_recipe("no_such_recipe_at_all")
    with pytest.raises(Refused):
        diagnose_recipe("dpo_lora", changes=["no_such_field=3"])
    with pytest.raises(Refused):
        diagnose_recipe("dpo_lora", rows=str(tmp_path / "none"))
    bad = diagnosed("dpo_lora", rows, accelerate=_file(tmp_path, {"distributed_type": "NO", "zero_stages": 3}))
    assert ("RUN010", "spread_unusable") in {(f.code, f.outcome) for f in bad.findings}


def test_tokenizer_of_another_model(demo: DemoFolder, rows: Any) -> None:
    report = diagnosed("dpo_lora", rows, changes=[f"tokenizer_name_or_path={demo.root / 'base_t5'}"])
    assert report.verdict in ("problems", "warnings"), [(f.code, f.outcome) for f in report.findings]
    assert not [s for s in report.skipped if s.reason_id == "check_crashed"], report.skipped


def test_is_it_ready_for_dpo(demo: DemoFolder, rows: Any, tmp_path: Path) -> None:
    def answer(**changes: Any) -> str:
        report = diagnosed("dpo_lora", rows, changes=[f"{k}={v}" for k, v in changes.items()])
        return next(f.outcome for f in report.findings if f.code == "RUN029")

    assert answer() == "ready_by_files"
    assert answer(model_name_or_path=demo.root / "template_mismatch_decoder") in ("ready_by_files", "with_conditions")
    broken = tmp_path / "broken"
    broken.mkdir()
    for file in (demo.root / "healthy_decoder").iterdir():
        if file.is_file():
            content = file.read_bytes()
            (broken / file.name).write_bytes(content[: len(content) // 2] if file.suffix == ".safetensors" else content)
    report = diagnosed("dpo_lora", rows, changes=[f"model_name_or_path={broken}"])
    assert next(f for f in report.findings if f.code == "RUN029").outcome == "not_ready" and report.verdict == "problems"
    base = diagnosed("dpo_lora", rows, changes=["model_name_or_path=demo:undertrained_decoder"], depth="forward")
    assert next(f for f in base.findings if f.code == "RUN029").outcome in ("with_conditions", "not_ready")
    sound = diagnosed("dpo_lora", rows, depth="forward")
    assert next(f for f in sound.findings if f.code == "RUN029").outcome == "ready" and sound.verdict == "healthy"
    orpo = diagnosed("orpo", rows)
    assert next(s.reason_id for s in orpo.skipped if s.code == "RUN029") == "not_a_preference_method"


def test_command(rows: Any, tmp_path: Path) -> None:
    """Quick, without torch, one JSON document on standard output; errors give 1, a broken recipe 2 with a report."""
    folder = rows("dpo_lora")

    def run(*arguments: str) -> subprocess.CompletedProcess[bytes]:
        code = (
            "import sys; from diagnostics.command_line import run_command; s = run_command(sys.argv[1:]); "
            "print('torch' in sys.modules, file=sys.stderr); sys.exit(s)"
        )
        return subprocess.run(
            [sys.executable, "-c", code, "recipe", *arguments], capture_output=True, cwd=ROOT, env=ENVIRONMENT, timeout=120
        )

    fine = run("dpo_lora", "--rows", str(folder), "--accelerate", "cpu", "--format", "json")
    assert fine.returncode == 0, fine.stderr
    assert json.loads(fine.stdout)["verdict"] == "healthy" and fine.stderr.split()[-1] == b"False"
    wrong = run("dpo_lora", "--rows", str(folder), "--accelerate", "cpu", "--set", "beta=0", "--lang", "zh")
    assert wrong.returncode == 1 and "RUN011" in wrong.stdout.decode()
    broken = tmp_path / "broken.yaml"
    broken.write_text("method: [")
    assert run(str(broken)).returncode == 2 and run(str(broken)).stdout
    nowhere = run("nothing_like_it.yaml")
    assert nowhere.returncode == 2 and not nowhere.stdout and b"Traceback" not in nowhere.stderr


def test_gpus_as_the_driver_names_them() -> None:
    text = (
        "0, GPU-aaa, NVIDIA H100 80GB HBM3, 81559, 81000, 9.0\n1, GPU-bbb, Tesla V100, 16160, 100, 7.0\n"
        "2, GPU-ccc, Old Card, [N/A], [N/A], [N/A]\nbroken line\n"
    )
    gpus = environment.parse_gpus(text)
    assert [g.name for _, g in gpus] == ["NVIDIA H100 80GB HBM3", "Tesla V100", "Old Card"]
    assert gpus[0][1].capability == (9, 0) and gpus[2][1].capability is None and gpus[2][1].total == 0
    assert gpus[1][1].free == 100 * 2**20
    visible = environment._visible
    assert [g.name for g in visible(gpus, "1,0")] == ["Tesla V100", "NVIDIA H100 80GB HBM3"]
    assert [g.name for g in visible(gpus, "0,7,1")] == ["NVIDIA H100 80GB HBM3"]
    assert visible(gpus, "") == () and len(visible(gpus, None)) == 3
    assert [g.name for g in visible(gpus, "GPU-bbb")] == ["Tesla V100"]


def test_versions_are_compared_by_numbers() -> None:
    assert environment.older("4.9.0", "4.46.1") and not environment.older("4.46.1", "4.46.1")
    assert not environment.older("2.13.0+cpu", "2.6.0") and environment.older("1.16.0rc1", "1.16.1")


def test_free_disk_of_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    assert environment.existing_parent(tmp_path / "a" / "b") == tmp_path
    assert (environment.free_disk(tmp_path / "a" / "b") or 0) > 0


@pytest.fixture(autouse=True)
def no_gpus(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The machine that tests run on may have some: what a check says of them is tested with described ones."""
    monkeypatch.setattr(environment, "nvidia_gpus", lambda allowed=None: ())
    yield


def test_recipe_of_a_job_names_its_own_folder(rows: Any, tmp_path: Path) -> None:
    """A recipe whose output_dir is the job's folder finds the job's own files there, which are no other run's."""
    job = tmp_path / "out"
    job.mkdir()
    settled = settle(read_recipe("dpo_lora").changed({"output_dir": str(job)})).recipe
    (job / "recipe.yaml").write_text(settled.as_yaml())
    (job / "accelerate.yaml").write_text(suited("cpu").as_yaml())
    for name in (".job", "log.txt", "status.json"):
        (job / name).write_text("")
    report = diagnose_recipe(str(job / "recipe.yaml"), rows=str(rows("dpo_lora")), accelerate=str(job / "accelerate.yaml"))
    assert [f.outcome for f in report.findings if f.code == "RUN023"] == ["ok"]
    assert parse_recipe((job / "recipe.yaml").read_text(), "recipe").method == "dpo"


def test_light_tokenizers_are_those_of_transformers(demo: DemoFolder) -> None:
    """The short way to a tokenizer takes the class that AutoTokenizer would, and gives the same ids."""
    from transformers.models.auto import tokenization_auto as auto

    from pipeline.checkpoint import open_checkpoint
    from pipeline.load_model import load_tokenizer
    from pipeline.training import token_preview

    for kind, name in token_preview.OWN_CLASSES.items():
        assert str(auto.TOKENIZER_MAPPING_NAMES[kind]).removesuffix("Fast") == name, kind
    assert not set(token_preview.GENERIC_TYPES) & set(auto.MODELS_WITH_INCORRECT_HUB_TOKENIZER_CLASS)
    for name in ("healthy_decoder", "healthy_t5"):
        checkpoint = open_checkpoint(str(demo.root / name))
        short, long = token_preview.light_tokenizer(checkpoint)[0], load_tokenizer(checkpoint)[0]
        assert token_preview._light_class(checkpoint) and type(short) is type(long)
        for text in ("What is 3 plus 1?", " 列出4种颜色。 <|im_end|> x", ""):
            assert short(text)["input_ids"] == long(text)["input_ids"]
        assert short.chat_template == long.chat_template and short.special_tokens_map == long.special_tokens_map
