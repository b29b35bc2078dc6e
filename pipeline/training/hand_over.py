"""A recipe for another program: files that it takes unchanged, with the data, in a folder of their own.

    trl           config.yaml, accelerate.yaml, data/{train,test}.jsonl       trl dpo --config config.yaml ...
    llamafactory  train.yaml, data/*.json, data/dataset_info.json, deepspeed.json    llamafactory-cli train train.yaml
    script        run.sh, the recipe, the data and this project's own code, to run on another machine
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from pipeline.config_files import CONFIGS, load_config
from pipeline.refusal import Refused, Sentence
from pipeline.training.recipe import Recipe
from pipeline.training.start_job import PATHS, Settled, settle, spread_of, write_rows_of

KINDS = ("trl", "llamafactory", "script")
Own = tuple[Path, ...] | None
_ROOT = CONFIGS.parent
_CODE = ("pipeline", "diagnostics", "configs")
# What the script installs; versions as the project pins them.
_PACKAGES = (
    "torch", "transformers", "tokenizers", "safetensors", "huggingface_hub", "peft", "trl", "datasets", "accelerate",
    "deepspeed", "pandas", "numpy", "PyYAML", "Jinja2", "sentencepiece", "protobuf", "xxhash", "rensa", "psutil",
    "orjson", "regex", "sqlglot", "rapidfuzz", "filelock", "plotly", "httpx2",
)  # fmt: skip


@dataclass(frozen=True)
class HandedOver:
    """kind: of KINDS. folder: absolute. command: to be run in it. files: names in it. rows, eval_rows: of the data.
    local: paths of this machine that stand in the files; they have to exist where it runs. left_out: fields of the
    recipe that the other program has no place for and that don't change what is learned."""

    kind: str
    folder: str
    command: str
    files: tuple[str, ...]
    rows: int
    eval_rows: int
    local: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def as_text(self, lang: str) -> str:
        counts = {"folder": self.folder, "rows": self.rows, "eval_rows": self.eval_rows}
        lines = [Sentence("handed_over", counts).said(lang)]
        if self.left_out:
            lines.append(Sentence("handed_over_left_out", {"names": ", ".join(self.left_out)}).said(lang))
        if self.local:
            lines.append(Sentence("handed_over_local", {"names": ", ".join(self.local)}).said(lang))
        lines.append(f"cd {shlex.quote(self.folder)} && {self.command}")
        return "\n".join(lines) + "\n"


def hand_over(
    recipe: Recipe, kind: str, folder: Path, *, accelerate: str | None = None, own: Own = None
) -> HandedOver:  # fmt: skip
    """Write the files of one kind. folder: made where it isn't there; it must be empty. own: the folders whose files
    may be read as data, None for all of this machine. Raises Refused, also where the recipe holds what the other
    can't do."""
    if kind not in KINDS:
        raise Refused("export_kind", kind=kind, names=", ".join(KINDS))
    folder = folder.expanduser().absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise Refused("export_not_empty", path=folder)
        settled = settle(recipe)
        makers = {"trl": _trl, "llamafactory": _llamafactory, "script": _script}
        return makers[kind](settled, folder, accelerate, own)
    except OSError as failed:
        raise Refused("output_failed", path=folder, why=failed.strerror or failed) from None


def _local_paths(recipe: Recipe) -> tuple[str, ...]:
    values = [recipe.fields.get(name) for name in PATHS if name != "output_dir"]
    return tuple(v for v in values if isinstance(v, str) and os.path.isabs(v))


def _dump(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(yaml.safe_dump(dict(value), allow_unicode=True, sort_keys=False, width=1000), encoding="utf-8")


def _files(folder: Path) -> tuple[str, ...]:
    return tuple(sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()))


def _spread(recipe: Recipe, accelerate: str | None, folder: Path) -> Any:
    """The accelerate file, written into `folder`; None where the recipe leaves it to the machine."""
    if (accelerate or recipe.get("accelerate") or recipe.get("num_processes")) is None:
        return None
    spread = spread_of(recipe, accelerate)
    (folder / "accelerate.yaml").write_text(spread.as_yaml(), encoding="utf-8")
    return spread


# --- trl ---

_NEEDS_OURS = ("adapter_name_or_path", "ref_model_name_or_path", "tokenizer_name_or_path", "resize_vocab")
_DONE_ALREADY = ("data", "eval_data", "val_size", "max_samples", "mix_strategy", "accelerate", "num_processes")


def _trl(settled: Settled, folder: Path, accelerate: str | None, own: Own) -> HandedOver:
    recipe = settled.recipe
    if recipe.method not in load_config("hand_over.yaml")["trl"] or settled.encoder_decoder:
        what = "encoder-decoder" if settled.encoder_decoder else recipe.method
        raise Refused("export_method", kind="trl", method=what)
    for name in _NEEDS_OURS:
        if recipe.get(name):
            raise Refused("export_field", kind="trl", field=name)
    for name in recipe.get("reward_funcs") or ():
        if name not in load_config("hand_over.yaml")["trl_rewards"]:
            raise Refused("export_field", kind="trl", field=f"reward_funcs: {name}")
    from pipeline.training.recipe import fields_of

    apart = [n for n in recipe.fields if fields_of(recipe.method)[n].own]
    rows = write_rows_of(settled, folder, own=own)
    data = folder / "data"
    if (data / "eval.jsonl").exists():
        (data / "eval.jsonl").rename(data / "test.jsonl")
    fields: dict[str, Any] = {"dataset_name": "data", **recipe.trainer_fields(), "output_dir": "output"}
    if recipe.get("chat_template"):
        if "chat_template_path" not in fields_of(recipe.method):
            raise Refused("export_field", kind="trl", field="chat_template")
        from pipeline.training.policy_model import chat_template

        fields["chat_template_path"] = "chat_template.jinja"
        (folder / "chat_template.jinja").write_text(chat_template(recipe.get("chat_template")), encoding="utf-8")
    _dump(folder / "config.yaml", fields)
    spread = _spread(recipe, accelerate, folder)
    command = f"trl {recipe.method} --config config.yaml"
    if spread is not None:
        command += " --accelerate_config accelerate.yaml"
    left = tuple(n for n in apart if n not in (*_DONE_ALREADY, "chat_template"))
    return HandedOver("trl", str(folder), command, _files(folder), rows.train, rows.eval, _local_paths(recipe), left)


# --- LLaMA-Factory ---


def _llamafactory(settled: Settled, folder: Path, accelerate: str | None, own: Own) -> HandedOver:
    from pipeline.pairs.dataset_info import entries_for, llamafactory_layout, read_dataset_info
    from pipeline.pairs.read_pairs import PairFile
    from pipeline.pairs.write_pairs import write_pairs

    table, recipe = load_config("hand_over.yaml")["llamafactory"], settled.recipe
    if recipe.method not in table["methods"] or settled.encoder_decoder:
        what = "encoder-decoder" if settled.encoder_decoder else recipe.method
        raise Refused("export_method", kind="LLaMA-Factory", method=what)
    fields, left = llamafactory_fields(recipe)
    rows = write_rows_of(settled, folder, own=own)
    data = folder / "data"
    info = read_dataset_info(data / "dataset_info.json", absent_is_empty=True)
    format = llamafactory_layout(table["formats"][recipe.method])
    for part in ("train", "eval"):
        source = data / f"{part}.jsonl"
        if not source.exists():
            continue
        target = data / f"{part}.json"
        report = write_pairs(PairFile(source), target, format)
        if report.rows == 0:
            raise Refused("export_rows", kind="LLaMA-Factory", path=source)
        info = info.with_entries(entries_for(part, target, format, report.columns, beside=info.path))
        source.unlink()
    info.write()
    fields = {**fields, "dataset": "train", "dataset_dir": "data", "output_dir": "output"}
    if (data / "eval.json").exists():
        fields["eval_dataset"] = "eval"
    spread = _spread(recipe, accelerate, folder)
    zero = deepspeed_json(spread.fields) if spread is not None else None
    command = "llamafactory-cli train train.yaml"
    if zero is not None:
        (folder / "deepspeed.json").write_text(json.dumps(zero, indent=1) + "\n", encoding="utf-8")
        fields["deepspeed"] = "deepspeed.json"
        command = f"FORCE_TORCHRUN=1 {command}"
    (folder / "accelerate.yaml").unlink(missing_ok=True)
    _dump(folder / "train.yaml", fields)
    return HandedOver(
        "llamafactory", str(folder), command, _files(folder), rows.train, rows.eval, _local_paths(recipe), tuple(left)
    )


def llamafactory_fields(recipe: Recipe) -> tuple[dict[str, Any], list[str]]:
    """(fields by its names, names of ours that it has no place for). Raises Refused for what would be another run."""
    table = load_config("hand_over.yaml")["llamafactory"]
    lora = bool(recipe.get("use_peft", False))
    made: dict[str, Any] = {**table["methods"][recipe.method], "do_train": True,
                            "finetuning_type": "lora" if lora else "full", "overwrite_cache": True}  # fmt: skip
    left: list[str] = []
    wanted = [*recipe.fields, *(n for n in table["always"] if n not in recipe.fields and recipe.get(n) is not None)]
    for name in wanted:
        value = recipe.get(name)
        if value is None or (name.startswith("lora_") and not lora):
            continue
        if name in table["same"]:
            made[name] = value
        elif name in table["renamed"]:
            made[table["renamed"][name]] = value
        elif name in _DONE_ALREADY or name in ("output_dir", "use_peft", "dtype", "loss_weights"):
            continue
        elif not _said_otherwise(name, value, recipe, table, made):
            left.append(name)
    if recipe.method in ("dpo",):
        made.update(_loss(recipe, table))
    if lora and "lora_target" not in made:
        made["lora_target"] = "all"
    if recipe.get("adapter_name_or_path"):
        made["create_new_adapter"] = True  # merges the one given first, as this project does
    if "bf16" not in recipe.fields and recipe.get("fp16", False) is False and "bf16" not in made:
        made["bf16"] = not recipe.get("use_cpu", False)
    return made, left


def _said_otherwise(
    name: str, value: Any, recipe: Recipe, table: Mapping[str, Any], made: dict[str, Any]
) -> bool:  # fmt: skip
    if name == "lora_target_modules":
        names = value if isinstance(value, list) else [value]
        made["lora_target"] = "all" if names == ["all-linear"] else ",".join(names)
    elif name == "lora_modules_to_save":
        made["additional_target"] = ",".join(value)
    elif name == "gradient_checkpointing":
        made["disable_gradient_checkpointing"] = not value
    elif name in ("load_in_4bit", "load_in_8bit"):
        if value:
            made["quantization_bit"] = 4 if name == "load_in_4bit" else 8
    elif name == "attn_implementation":
        if value not in table["attention"]:
            return False
        made["flash_attn"] = table["attention"][value]
    elif name == "loss_type":
        return recipe.method in ("dpo", "orpo", "simpo") or value in ("kto", "nll")
    elif name == "chat_template":
        if value != "chatml":  # its templates have names, and none is read from a file
            raise Refused("export_field", kind="LLaMA-Factory", field=f"chat_template: {value}")
        made["template"] = value
    elif name == "resume_from_checkpoint":
        made[name] = value
    elif name == "plot_loss":
        return not value
    else:
        return False
    return True


def _loss(recipe: Recipe, table: Mapping[str, Any]) -> dict[str, Any]:
    """One loss of its own, with an SFT term where the recipe adds one."""
    losses = list(recipe.get("loss_type", ["sigmoid"]))
    weights = list(recipe.get("loss_weights") or [1.0] * len(losses))
    plain = [(n, w) for n, w in zip(losses, weights, strict=False) if n != "sft"]
    sft = sum(w for n, w in zip(losses, weights, strict=False) if n == "sft")
    if len(plain) != 1 or plain[0][0] not in table["losses"]:
        raise Refused("export_field", kind="LLaMA-Factory", field=f"loss_type: {losses}")
    made: dict[str, Any] = {"pref_loss": table["losses"][plain[0][0]]}
    if sft:
        made["pref_ftx"] = sft / plain[0][1]
    return made


def deepspeed_json(accelerate: Mapping[str, Any]) -> dict[str, Any] | None:
    """The DeepSpeed configuration that an accelerate file stands for; None for one without DeepSpeed."""
    if accelerate.get("distributed_type") != "DEEPSPEED":
        return None
    given = accelerate.get("deepspeed_config") or {}
    stage = int(given.get("zero_stage", 2))
    zero: dict[str, Any] = {"stage": stage, "overlap_comm": True, "contiguous_gradients": True}
    for what in ("optimizer", "param"):
        device = given.get(f"offload_{what}_device", "none")
        if device not in (None, "none") and (what == "optimizer" or stage == 3):
            zero[f"offload_{what}"] = {"device": device, "pin_memory": True}
    if stage == 3:
        zero["stage3_gather_16bit_weights_on_model_save"] = True
    auto = ("train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps", "gradient_clipping")
    return {**dict.fromkeys(auto, "auto"), "zero_allow_untested_optimizer": True, "fp16": {"enabled": "auto"},
            "bf16": {"enabled": "auto"}, "zero_optimization": zero}  # fmt: skip


# --- a script for another machine ---

_RUN = """#!/bin/sh
# Trains on this machine what recipe.yaml says. Options go to `python -m pipeline train`, such as
#   ./run.sh --set model_name_or_path=/models/sft --set num_processes=8
set -eu
cd "$(dirname "$0")"
if [ ! -x .venv/bin/python ]; then
  python3 -m venv .venv
  .venv/bin/python -m pip install --upgrade pip
  .venv/bin/python -m pip install -r requirements.txt
fi
PYTHONPATH="$PWD/dpo_doctor" exec .venv/bin/python -m pipeline train recipe.yaml{accelerate} --foreground \\
  --set output_dir=output "$@"
"""


def _script(settled: Settled, folder: Path, accelerate: str | None, own: Own) -> HandedOver:
    rows = write_rows_of(settled, folder, own=own)
    fields = {k: v for k, v in settled.recipe.fields.items() if k not in (*_DONE_ALREADY, "output_dir")}
    fields["data"] = "data/train.jsonl"
    if rows.eval:
        fields["eval_data"] = "data/eval.jsonl"
    spread = _spread(settled.recipe, accelerate, folder)
    recipe = replace(settled.recipe, fields=fields)
    (folder / "recipe.yaml").write_text(recipe.as_yaml(), encoding="utf-8")
    for name in _CODE:
        shutil.copytree(_ROOT / name, folder / "dpo_doctor" / name, ignore=shutil.ignore_patterns("__pycache__"))
    pinned = (_ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    kept = [line for line in pinned if line.partition("==")[0] in _PACKAGES]
    (folder / "requirements.txt").write_text("\n".join(kept) + "\n", encoding="utf-8")
    run = folder / "run.sh"
    option = " --accelerate accelerate.yaml" if spread is not None else ""
    run.write_text(_RUN.format(accelerate=option), encoding="utf-8")
    run.chmod(0o755)
    files = tuple(name for name in _files(folder) if not name.startswith("dpo_doctor/"))
    return HandedOver("script", str(folder), "./run.sh", files, rows.train, rows.eval, _local_paths(recipe))
