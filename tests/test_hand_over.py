"""Recipes for other programs. What those programs make of them is looked at by interop/recipes_elsewhere.py."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pipeline.demo.build import DemoFolder
from pipeline.pairs.dataset_info import read_dataset_info
from pipeline.refusal import Refused
from pipeline.training.hand_over import deepspeed_json, hand_over, llamafactory_fields
from pipeline.training.recipe import Recipe, parse_recipe, read_recipe

SMALL = {"max_samples": 40, "val_size": 8}


def made(text: str) -> Recipe:
    return parse_recipe(f"method: dpo\nmodel_name_or_path: /m\n{text}", "r")


def test_trl_gets_what_was_set_and_data_beside_it(demo: DemoFolder, tmp_path: Path) -> None:
    done = hand_over(read_recipe("dpo_lora").changed(SMALL), "trl", tmp_path / "out")
    folder = tmp_path / "out"
    fields = yaml.safe_load((folder / "config.yaml").read_text())
    assert fields["dataset_name"] == "data" and fields["use_peft"] is True and fields["lora_r"] == 8
    assert not {"data", "val_size", "plot_loss", "accelerate"} & fields.keys()
    rows = [json.loads(line) for line in (folder / "data" / "train.jsonl").read_text().splitlines()]
    assert len(rows) == done.rows > 20 and rows[0].keys() == {"prompt", "chosen", "rejected"}
    assert (folder / "data" / "test.jsonl").exists() and done.eval_rows
    assert done.command == "trl dpo --config config.yaml" and fields["model_name_or_path"] in done.local
    for lang in ("en", "zh"):
        assert str(folder) in done.as_text(lang)


def test_llamafactory_gets_data_that_its_entries_describe(demo: DemoFolder, tmp_path: Path) -> None:
    for name, stage in (("dpo_lora", "dpo"), ("kto", "kto"), ("reward_model", "rm"), ("sft_lora", "sft"), ("orpo", "dpo")):
        folder = tmp_path / name
        done = hand_over(read_recipe(name).changed(SMALL), "llamafactory", folder)
        fields = yaml.safe_load((folder / "train.yaml").read_text())
        assert fields["stage"] == stage and fields["dataset_dir"] == "data" and fields["cutoff_len"]
        source = read_dataset_info(folder / "data" / "dataset_info.json").source(fields["dataset"])
        assert sum(1 for _ in source) == done.rows


def test_deepspeed_file_comes_along(demo: DemoFolder, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    done = hand_over(read_recipe("dpo_full_zero3").changed(SMALL), "llamafactory", folder)
    zero = json.loads((folder / "deepspeed.json").read_text())
    assert zero["zero_optimization"]["stage"] == 3
    assert zero["zero_optimization"]["stage3_gather_16bit_weights_on_model_save"] is True
    assert yaml.safe_load((folder / "train.yaml").read_text())["deepspeed"] == "deepspeed.json"
    assert done.command.startswith("FORCE_TORCHRUN=1 ")


@pytest.mark.parametrize(("stage", "offload"), [(1, None), (2, "optimizer"), (3, "param")])
def test_deepspeed_json(stage: int, offload: str | None) -> None:
    given = {"zero_stage": stage, **({f"offload_{offload}_device": "cpu"} if offload else {})}
    zero = deepspeed_json({"distributed_type": "DEEPSPEED", "deepspeed_config": given})
    assert zero is not None and zero["zero_optimization"]["stage"] == stage
    assert (f"offload_{offload}" in zero["zero_optimization"]) == bool(offload)
    assert deepspeed_json({"distributed_type": "NO"}) is None


def test_losses_are_said_in_its_words() -> None:
    fields, _ = llamafactory_fields(made("loss_type: [sigmoid, sft]\nloss_weights: [1.0, 0.5]\nuse_peft: true\n"))
    assert (fields["pref_loss"], fields["pref_ftx"], fields["finetuning_type"]) == ("sigmoid", 0.5, "lora")
    fields, _ = llamafactory_fields(made("loss_type: ipo\nbeta: 0.2\ngradient_checkpointing: false\n"))
    assert (fields["pref_loss"], fields["pref_beta"], fields["disable_gradient_checkpointing"]) == ("ipo", 0.2, True)
    for losses in ("[sigmoid, ipo]", "exo_pair", "[sft]"):
        with pytest.raises(Refused, match="loss_type"):
            llamafactory_fields(made(f"loss_type: {losses}\n"))
    with pytest.raises(Refused, match="chat_template"):
        llamafactory_fields(made("chat_template: /my/template.jinja\n"))


def test_adapter_is_merged_there_too() -> None:
    fields, _ = llamafactory_fields(made("use_peft: true\nadapter_name_or_path: /sft\nlora_target_modules: [q_proj, v_proj]\n"))
    assert fields["create_new_adapter"] is True and fields["lora_target"] == "q_proj,v_proj"


@pytest.mark.parametrize(
    ("name", "kind", "said"),
    [("orpo", "trl", "orpo"), ("dpo_t5", "trl", "encoder-decoder"), ("dpo_t5", "llamafactory", "encoder-decoder"),
     ("grpo_verifiable", "llamafactory", "grpo"), ("grpo_verifiable", "trl", "exact_answer"), ("dpo_lora", "axolotl", "axolotl")],
)  # fmt: skip
def test_what_the_other_program_cannot_do_is_refused(demo: DemoFolder, tmp_path: Path, name: str, kind: str, said: str) -> None:
    with pytest.raises(Refused, match=said):
        hand_over(read_recipe(name).changed(SMALL), kind, tmp_path / "out")


def test_folder_must_be_empty(tmp_path: Path) -> None:
    (tmp_path / "there").write_text("")
    with pytest.raises(Refused, match="not empty"):
        hand_over(made(""), "trl", tmp_path)
    with pytest.raises(Refused):
        hand_over(made(""), "trl", tmp_path / "there" / "below")


def test_script_brings_all_it_needs(demo: DemoFolder, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    hand_over(read_recipe("dpo_t5").changed(SMALL), "script", folder)
    run = folder / "run.sh"
    assert os.access(run, os.X_OK)
    subprocess.run(["sh", "-n", str(run)], check=True)
    programs = folder / ".venv" / "bin"  # an environment is there already: it is used as it is
    programs.mkdir(parents=True)
    (programs / "python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (programs / "python").chmod(0o755)
    env = {**os.environ, "DPO_DOCTOR_HOME": str(tmp_path / "home"), "PYTHONPATH": ""}
    text = run.read_text().replace(" --foreground", " --dry-run").replace("--set output_dir=output", "--format json")
    run.write_text(text)
    ended = subprocess.run([str(run), "--set", "max_steps=2"], env=env, capture_output=True, text=True, timeout=120)
    shown = json.loads(ended.stdout)
    assert ended.returncode in (0, 1), ended.stderr
    assert "max_steps: 2" in shown["recipe"] and shown["rows"]["train"] > 20
