"""Recipes: those of the project load and settle; what people write into one is read in its field's type or refused with a
line that helps."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.config_files import CONFIGS, load_config
from pipeline.refusal import Refused
from pipeline.training.demo_data import demo_data_names
from pipeline.training.recipe import (
    METHODS,
    ON_DEMO,
    Recipe,
    fields_of,
    parse_changes,
    parse_recipe,
    read_recipe,
    recipe_names,
)

ROOT = Path(__file__).resolve().parent.parent
PROMISED = {
    "sft_lora", "sft_full", "dpo_lora", "dpo_full_zero3", "dpo_t5", "dpo_repetition_badcase", "dpo_text2sql",
    "reward_model", "kto", "orpo", "simpo", "grpo_verifiable",
}  # fmt: skip
# What the pipelines that the recipes stand in for can set, by the names of TRL, peft and transformers
FIELDS = (
    "loss_type", "beta", "simpo_gamma", "lora_r", "lora_alpha", "lora_dropout", "lora_target_modules", "max_length",
    "max_samples", "dataset_num_proc", "output_dir", "logging_steps", "save_steps", "plot_loss", "val_size", "eval_steps",
    "eval_strategy", "per_device_eval_batch_size", "per_device_train_batch_size", "gradient_accumulation_steps",
    "learning_rate", "num_train_epochs", "lr_scheduler_type", "warmup_steps", "bf16", "fp16", "ddp_timeout",
    "resume_from_checkpoint", "ref_model_name_or_path", "adapter_name_or_path", "accelerate", "max_steps", "seed",
    "report_to", "run_name", "save_total_limit", "resize_vocab", "lora_modules_to_save", "data", "model_name_or_path",
)  # fmt: skip


def _refused(text: str) -> str:
    with pytest.raises(Refused) as refused:
        parse_recipe(text, "mine")
    zh = refused.value.said("zh")
    assert not re.search(r"{[a-z_]+}", zh) and "\n" not in zh and any("一" <= c <= "鿿" for c in zh)
    return str(refused.value)


# --- those of the project ---


def test_all_promised_recipes_are_there() -> None:
    assert set(recipe_names()) >= PROMISED


@pytest.mark.parametrize("name", recipe_names())
def test_each_recipe_runs_on_the_demo_as_it_is(name: str) -> None:
    recipe = read_recipe(name)
    assert parse_recipe(recipe.as_yaml(), name) == recipe
    settled = recipe.settled
    assert parse_recipe(settled.as_yaml(), name) == settled and not settled.on_demo
    assert settled["model_name_or_path"].startswith("demo:") and settled["max_steps"] <= 1000 and not settled["bf16"]
    for given in (settled["data"], settled.get("eval_data")):
        assert given is None or given.removeprefix("demo:") in demo_data_names()
    mine = recipe.changed({"model_name_or_path": "owner/model", "data": "mine.jsonl"}).settled
    assert mine["learning_rate"] == recipe.fields["learning_rate"] and "max_steps" not in mine.fields
    text = (CONFIGS / "recipes" / f"{name}.yaml").read_text(encoding="utf-8")
    assert f"python -m pipeline train {name} " in text and text.isascii()


@pytest.mark.parametrize("name", recipe_names())
def test_fields_set_by_hand_hold_on_the_demo(name: str) -> None:
    recipe = read_recipe(name).changed(parse_changes(["max_steps=6", "learning_rate=1e-6", "output_dir=out"])).settled
    assert (recipe["max_steps"], recipe["learning_rate"], recipe["output_dir"]) == (6, 1e-6, "out")


def test_values_of_practice_of_the_lora_recipe() -> None:
    recipe = read_recipe("dpo_lora")
    wanted = {"max_length": 4096, "per_device_train_batch_size": 1, "lora_r": 8, "lora_alpha": 16, "lora_dropout": 0.05,
              "learning_rate": 1e-4, "num_train_epochs": 1, "val_size": 0.05, "beta": 0.1}  # fmt: skip
    assert {name: recipe.fields[name] for name in wanted} == wanted


def test_every_field_of_the_pipelines_is_one() -> None:
    known = {**fields_of("simpo"), **fields_of("dpo")}
    assert [name for name in FIELDS if name not in known] == []
    for name, least in load_config("recipe_fields.yaml")["least"].items():
        owners = [fields_of(m)[name] for m in METHODS if name in fields_of(m)]
        assert all({"int", "float"} & set(one.types) for one in owners), (name, least)


def test_names_elsewhere_lead_to_fields_and_are_none_themselves() -> None:
    for theirs, ours in load_config("recipe_fields.yaml")["names_elsewhere"].items():
        owners = [method for method in METHODS if theirs in fields_of(method)]
        if owners:  # one method's field, another's name elsewhere: it must stay a field there
            assert parse_recipe(f"method: {owners[0]}\n", "x").changed({theirs: None}) is not None
        first = ours.partition(":")[0].partition(",")[0].strip()
        assert first == "method" or any(first in fields_of(method) for method in METHODS), (theirs, ours)


def test_simpo_is_cpo_with_its_loss() -> None:
    fields = read_recipe("simpo").settled.trainer_fields()
    assert fields["loss_type"] == "simpo" and fields["cpo_alpha"] == 0.0 and "data" not in fields


def test_the_list_of_fields_is_that_of_the_installed_trl() -> None:
    code = "import json, sys; sys.path.insert(0, 'docs'); import training_fields; print('@' + json.dumps(training_fields.described()))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120,
                          env={**os.environ, "TRL_EXPERIMENTAL_SILENCE": "1"})  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    made = json.loads(done.stdout.rpartition("@")[2] if done.stdout.startswith("@") else done.stdout.partition("\n@")[2])
    stored = json.loads((CONFIGS / "training_fields.json").read_text(encoding="utf-8"))
    assert stored == made, "out of date: make docs writes it anew"


# --- files ---


def test_places_that_hold_no_recipe(tmp_path: Path) -> None:
    def refused(named: str) -> str:
        with pytest.raises(Refused) as one:
            read_recipe(named)
        assert "{" not in one.value.said("zh")
        return str(one.value)

    assert "dpo_lora" in refused("dpo_lroa") and "did you mean" in refused("dpo_lroa.yaml")
    assert "did you mean" not in refused("something_else_entirely") and "sft_full" in refused("something_else_entirely")
    assert "folder" in refused(str(tmp_path))
    assert "device" in refused("/dev/null")
    assert refused("a\0b")
    for name, content, said in (
        ("latin", "method: dpo # é".encode("latin-1"), "UTF-8"), ("utf16", "method: dpo".encode("utf-16"), "UTF-8"),
        ("binary", bytes(range(256)), "UTF-8"), ("large", b"# " + b"x" * 1_000_001, "1 MB"), ("empty", b"", "field: value"),
        ("list", b"- method: dpo", "field: value"), ("null", b"method: dpo\n\0", "line 2"),
    ):  # fmt: skip
        path = tmp_path / f"{name}.yaml"
        path.write_bytes(content)
        assert said in refused(str(path)), name
    (tmp_path / "bom.yaml").write_bytes("\ufeffmethod: dpo\r\nbeta: 0.3\r\n".encode())
    assert read_recipe(str(tmp_path / "bom.yaml")) == Recipe("bom", "dpo", {"beta": 0.3})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("method: dpo\nbeta: [1, 2", "line"), ("method: dpo\nbeta: 1\nbeta: 2", "beta stands twice"),
        ("method: dpo\n beta: 1", "line 2"), ("a: &a [1]\nmethod: dpo\nbeta: *a", "aliases"),
        ("method: dpo\nbeta: !!python/object/apply:os.system [ls]", "line 2"), ("[" * 3000, "line"), ("{a: " * 3000, "line"),
        ("method: dpo\nrun_name: 2026-99-99", "line"), ("--- 1\n--- 2", "line"), ("\tmethod: dpo", "line 1"), ("42", "field: value"),
        ("on_demo: {}\nbeta: 1", "dpo"), ("method: dop", "dop"), ("method: [dpo]", "dpo"), ("method: {}", "dpo"),
        ("method: dpo\non_demo: 3", "field: value"), ("method: dpo\n? {a: 1}\n: 2", "line"), ("method: dpo\n? [a]\n: 2", "line"),
        ("method: dpo\n<<: {beta: 1}\n1: 2\n", ""), ("method: dpo\n3: 4", "3"),
    ],
)  # fmt: skip
def test_yaml_that_is_no_recipe(text: str, said: str) -> None:
    if said:
        assert said in _refused(text)
    else:
        _refused(text)


def test_aliases_that_grow_are_refused_at_once() -> None:
    bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{b}: &{b} [{','.join(['*' + a] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
    )
    assert "aliases" in _refused(f"method: dpo\n{bomb}")
    with pytest.raises(Refused):
        Recipe("x", "dpo", {}).changed(parse_changes(["lora_target_modules=[&a [x], *a]"]))


# --- fields ---


@pytest.mark.parametrize(
    ("field", "value", "made"),
    [
        ("learning_rate", "1e-4", 1e-4), ("learning_rate", "'1e-4'", 1e-4), ("learning_rate", "1", 1.0), ("beta", "5E-1", 0.5),
        ("max_length", "1e3", None), ("max_length", "4096.0", 4096), ("max_length", "'4096'", 4096), ("max_length", "null", None),
        ("bf16", "yes", True), ("bf16", "'False'", False), ("bf16", "1", None), ("use_peft", "on", True),
        ("lora_target_modules", "all-linear", ["all-linear"]), ("lora_target_modules", "q_proj, v_proj", ["q_proj", "v_proj"]),
        ("loss_type", "[sigmoid, sft]", ["sigmoid", "sft"]), ("loss_type", "sigmoid", ["sigmoid"]), ("loss_weights", "[1, 2]", [1.0, 2.0]),
        ("warmup_steps", "0.1", 0.1), ("warmup_steps", "100", 100), ("val_size", "0.05", 0.05), ("run_name", "7", "7"),
        ("save_steps", "5e2", 500), ("report_to", "none", "none"), ("run_name", "2026-01-02", "2026-01-02"),
        ("data", "{path: a, weight: 2}", {"path": "a", "weight": 2}), ("data", "[a, {path: b}]", ["a", {"path": "b"}]),
    ],
)  # fmt: skip
def test_values_in_their_field_s_type(field: str, value: str, made: Any) -> None:
    text = f"method: dpo\n{field}: {value}"
    if made is None and value != "null":
        assert field in _refused(text)
        return
    assert parse_recipe(text, "x").fields[field] == made
    assert Recipe("x", "dpo", {}).changed(parse_changes([f"{field}={value}"])).fields[field] == made


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("learning_rate: fast", "float"), ("learning_rate: .nan", "finite"), ("learning_rate: .inf", "finite"),
        ("learning_rate: -1", "at least 0"), ("learning_rate: [1]", "float"), ("learning_rate: true", "float"),
        ("max_length: 0", "at least 1"), ("max_length: 2.5", "int"), ("use_peft: maybe", "bool"), ("lora_r: null", "int"),
        ("lora_target_modules: {a: 1}", "list"), ("mix_strategy: first_exausted", "did you mean first_exhausted"),
        ("mix_strategy: zzz", "choose from"), ("learning_rte: 1", "did you mean learning_rate"), ("zzzzzzz: 1", "no such field"),
        ("cutoff_len: 1", "max_length"), ("pref_beta: 1", "beta"), ("warmup_ratio: 0.1", "warmup_steps"),
        ("num_generations: 8", "grpo"), ("max_prompt_lenght: 8", "max_prompt_length"),
        ("num_train_epochs: 1e400", "finite"), (f"max_length: {'9' * 5000}", "line"),
    ],
)  # fmt: skip
def test_fields_that_are_refused(line: str, said: str) -> None:
    assert said in _refused(f"method: dpo\n{line}")
    key, _, value = line.partition(": ")
    with pytest.raises(Refused):
        Recipe("x", "dpo", {}).changed(parse_changes([f"{key}={value}"]))


def test_settings_of_the_command_line() -> None:
    given = ["a=1", "b=1e-4", "c=", "d=x=y", " e =[1, 2]", "f={", "g='1'", "h=demo:pairs", "i=a: b: c"]
    assert parse_changes(given) == {
        "a": 1, "b": "1e-4", "c": None, "d": "x=y", "e": [1, 2], "f": "{", "g": "1", "h": "demo:pairs", "i": "a: b: c",
    }  # fmt: skip
    for word in ("", "a", "=1", " =1"):
        with pytest.raises(Refused, match="learning_rate=1e-4"):
            parse_changes([word])
    with pytest.raises(Refused, match="another method|other method"):
        read_recipe("kto").changed(parse_changes(["method=dpo"]))


@pytest.mark.parametrize("seed", range(25))
def test_any_recipe_comes_back_from_its_yaml(seed: int) -> None:
    rng = random.Random(seed)
    method = rng.choice(METHODS)
    known = fields_of(method)
    words = ("x", "汉字", "1e-4", "no", "null", "~", "- a", "a: b", "#", "'", "😀", " lead", "line\nbreak", "0x1F", "2026-01-01", "=")

    def value(types: tuple[str, ...]) -> Any:
        kind = rng.choice([t for t in types if t != "null"] or ["null"])
        if kind.startswith("list["):
            return [value((kind[5:-1],)) for _ in range(rng.randrange(1, 4))]
        return {"int": rng.randrange(1, 10**9), "float": rng.choice([1e-7, 0.5, 2.0, 1e15]), "bool": rng.random() < 0.5,
                "str": rng.choice(words), "list": [1, "a"], "dict": {"a": [1, {"b": None}]}, "null": None}[kind]  # fmt: skip

    given = {n: value(known[n].types) for n in rng.sample(sorted(known), 30) if not known[n].choices}
    whole = {"method": method, **given, ON_DEMO: {"learning_rate": 0.5}}
    recipe = parse_recipe(yaml.safe_dump(whole, allow_unicode=bool(seed % 2)), "x")
    assert parse_recipe(recipe.as_yaml(), "x") == recipe
    assert list(recipe.fields) == sorted(given)
