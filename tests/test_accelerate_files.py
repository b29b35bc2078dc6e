"""Accelerate files and the command made of them: what accelerate takes, what is refused, and runs of several processes."""

from __future__ import annotations

import json
import os
import re
import shlex
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from pipeline import machine_devices
from pipeline.config_files import load_config
from pipeline.refusal import Refused
from pipeline.training.accelerate_files import (
    ACCELERATE_FILES,
    accelerate_names,
    check_port,
    free_port,
    parse_accelerate,
    port_free,
    read_accelerate,
    suited,
)
from pipeline.training.extension_locks import extensions_root, free_abandoned
from pipeline.training.launch_line import LaunchLine, in_folder, launch_line, parse_command, read_line, threads

NAMES = sorted(path.stem for path in ACCELERATE_FILES.glob("*.yaml"))


def refusal(entry: str) -> Any:
    """The refusal with this entry; its line exists in both languages, every place filled."""

    class Entry:
        def __init__(self) -> None:
            self.raises = pytest.raises(Refused)

        def __enter__(self) -> Any:
            self.caught = self.raises.__enter__()
            return self.caught

        def __exit__(self, *failure: Any) -> Any:
            swallowed = self.raises.__exit__(*failure)
            refused = self.caught.value
            assert refused.sentence.entry == entry, str(refused)
            for lang in ("en", "zh"):
                assert "{" not in refused.said(lang).replace("{job}", "")
            return swallowed

    return Entry()


# --- what accelerate itself makes of the files ---

_ASK_ACCELERATE = """
import json, sys, typing, dataclasses, argparse
from accelerate.commands import launch
from accelerate.commands.config.config_args import ClusterConfig
from accelerate.utils.dataclasses import DistributedType, FullyShardedDataParallelPlugin, DeepSpeedPlugin
from accelerate.utils.launch import prepare_deepspeed_cmd_env, prepare_multi_gpu_env, prepare_simple_launcher_cmd_env
told = {"fields": sorted(ClusterConfig.__dataclass_fields__), "types": sorted(t.value for t in DistributedType), "files": {}}
parser = launch.launch_command_parser()
told["options"] = sorted(a.dest for a in parser._actions)
told["defaults"] = {a.dest: a.default for a in parser._actions if a.dest in ("rdzv_backend", "same_network")}
for path in sys.argv[1:]:
    args = parser.parse_args(["--config_file", path, "-m", "some.module"])
    args, held, from_file = launch._validate_launch_command(args)
    if args.use_deepspeed:
        args.deepspeed_fields_from_accelerate_config = ",".join(held.deepspeed_config)
        env = prepare_deepspeed_cmd_env(args)[1]
    elif args.use_fsdp or args.multi_gpu:
        env = prepare_multi_gpu_env(args)
    else:
        env = prepare_simple_launcher_cmd_env(args)[1]
    told["files"][path] = {"processes": args.num_processes, "machines": args.num_machines, "port": args.main_process_port,
        "deepspeed": args.use_deepspeed, "fsdp": args.use_fsdp, "multi_gpu": args.multi_gpu, "use_cpu": args.use_cpu,
        "env": {k: v for k, v in env.items() if k.startswith(("ACCELERATE_", "FSDP_"))}}
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def accelerate_says(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the installed accelerate reads from every file, as it stands and made to fit a CPU."""
    folder = tmp_path_factory.mktemp("accelerate")
    paths = []
    for name in NAMES:
        paths.append(str(ACCELERATE_FILES / f"{name}.yaml"))
        if name != "fsdp2":
            derived = folder / f"{name}.yaml"
            derived.write_text(suited(name, processes=2, gpus=0, main_process_ip="127.0.0.1").as_yaml(), encoding="utf-8")
            paths.append(str(derived))
    told = subprocess.run([sys.executable, "-c", _ASK_ACCELERATE, *paths], capture_output=True, check=False, timeout=120)
    assert told.returncode == 0, told.stderr.decode()
    return {"folder": folder, **json.loads(told.stdout)}


def test_fields_are_those_of_accelerate(accelerate_says: dict[str, Any]) -> None:
    table = load_config("accelerate_fields.yaml")
    assert set(table["fields"]) - {"fp16", "dynamo_backend"} == set(accelerate_says["fields"])
    assert sorted(table["fields"]["distributed_type"]["is"]) == accelerate_says["types"]
    options = set(accelerate_says["options"])
    assert set(table["blocks"]["fsdp_config"]) == {o for o in options if o.startswith("fsdp_")} | {"fsdp_ignored_modules"}
    of_deepspeed = re.compile(r"deepspeed_|zero|offload_(optimizer|param)_|gradient_")
    assert set(table["blocks"]["deepspeed_config"]) == {o for o in options if of_deepspeed.match(o)}


def test_accelerate_takes_every_file_as_it_stands(accelerate_says: dict[str, Any]) -> None:
    for name in NAMES:
        told = accelerate_says["files"][str(ACCELERATE_FILES / f"{name}.yaml")]
        file = read_accelerate(name)
        engine = "deepspeed" if told["deepspeed"] else "fsdp" if told["fsdp"] else "ddp"
        assert engine == file.engine
        assert (told["processes"], told["machines"]) == (file.processes, file.machines)
        env = told["env"]
        if file.engine == "deepspeed":
            assert env["ACCELERATE_DEEPSPEED_ZERO_STAGE"] == str(file.zero_stage)
            offload = env.get("ACCELERATE_DEEPSPEED_OFFLOAD_OPTIMIZER_DEVICE", "none") != "none"
            assert offload == file.offloads("optimizer")
        if file.zero_stage == 3 and file.engine == "deepspeed":
            assert env["ACCELERATE_DEEPSPEED_ZERO3_SAVE_16BIT_MODEL"] == "true"
        if name == "fsdp2":
            assert env["FSDP_VERSION"] == "2" and env["FSDP_STATE_DICT_TYPE"] == "FULL_STATE_DICT"
        assert file.saves_whole_weights


def test_no_file_brings_a_scheduler_or_an_optimizer_of_deepspeed() -> None:
    """DeepSpeed's WarmupLR trains at its own default of 1e-3 whatever the recipe says."""
    for name in NAMES:
        assert read_accelerate(name).deepspeed_json() is None
        assert not re.search(r"^\s*(scheduler|optimizer)\s*:", read_accelerate(name).text, re.MULTILINE)


def test_accelerate_reads_the_files_made_for_a_cpu(accelerate_says: dict[str, Any]) -> None:
    for path, told in accelerate_says["files"].items():
        if Path(path).parent == ACCELERATE_FILES:
            continue
        assert told["use_cpu"] is True
        assert told["processes"] == 2 * told["machines"]
        assert told["multi_gpu"] or told["deepspeed"], "MULTI_CPU and NO start one process only"
        if told["machines"] == 1:
            assert told["port"] not in (None, 0, 29500), "accelerate has found a free one"


def test_why_two_fields_go_on_the_command_line(accelerate_says: dict[str, Any]) -> None:
    """A default of accelerate's parser hides what the file says: once that is mended, launch_line need not help."""
    assert accelerate_says["defaults"] == {"rdzv_backend": "static", "same_network": False}


# --- fitting the machine ---


@pytest.mark.parametrize(
    ("gpus", "processes", "cpu", "kind", "count", "on_cpu"),
    [
        (0, None, False, "NO", 1, True),
        (0, 2, False, "MULTI_GPU", 2, True),
        (1, None, False, "NO", 1, False),
        (4, None, False, "MULTI_GPU", 4, False),
        (4, 2, False, "MULTI_GPU", 2, False),
        (4, 1, False, "NO", 1, False),
        (4, None, True, "NO", 1, True),
    ],
)
def test_default_by_machine(
    gpus: int, processes: int | None, cpu: bool, kind: str, count: int, on_cpu: bool
) -> None:
    file = suited(None, gpus=gpus, processes=processes, cpu=cpu)
    assert (file.distributed_type, file.processes, file.use_cpu) == (kind, count, on_cpu)


def test_named_takes_one_process_for_each_gpu_and_keeps_its_comments() -> None:
    file = suited("zero3", gpus=8)
    assert file.processes == 8 and not file.use_cpu and file.zero_stage == 3
    assert "# one for each GPU" in file.text and file.port == 0
    assert suited("zero3", gpus=1).processes == 1
    assert suited("zero2_offload", gpus=2).offloads("optimizer")
    assert not suited("zero3", gpus=2).offloads("param")


def test_memory_settings_say_how_it_is_spread() -> None:
    several = suited("several_machines_zero3", gpus=4, machines=3, main_process_ip="10.1.2.3", machine_rank=2)
    assert several.memory_settings() == {
        "device": "cuda", "processes": 12, "per_host": 4, "engine": "deepspeed", "zero_stage": 3,
        "offload_optimizer": False, "offload_param": False,
    }  # fmt: skip
    assert suited("fsdp2", gpus=2).memory_settings()["engine"] == "fsdp"


def test_own_file_keeps_what_it_says(tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("distributed_type: MULTI_GPU\nnum_processes: 2\nmixed_precision: bf16  # ours\n", encoding="utf-8")
    file = suited(own, gpus=4)
    assert file.processes == 2 and file.mixed_precision == "bf16" and "# ours" in file.text
    assert file.port == 0, "not 29500, which the run before may still hold"
    assert yaml.safe_load(suited(str(own), gpus=4, mixed_precision="no").text)["mixed_precision"] == "no"
    assert own.read_text(encoding="utf-8").startswith("distributed_type: MULTI_GPU\nnum_processes: 2")


def test_bare_no_of_yaml_is_mended(tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("distributed_type: NO # one\nmixed_precision: no\ngpu_ids: 0\n", encoding="utf-8")
    file = suited(own, gpus=1)
    assert yaml.safe_load(file.text) == {
        "distributed_type": "NO", "mixed_precision": "no", "gpu_ids": "0", "num_processes": 1,
    }  # fmt: skip
    assert "# one" in file.text


def test_layout_that_lines_can_not_change_is_written_anew(tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("{distributed_type: MULTI_GPU, num_processes: 2}\n", encoding="utf-8")
    assert suited(own, gpus=0, processes=3).fields == {
        "distributed_type": "MULTI_GPU", "num_processes": 3, "use_cpu": True, "main_process_port": 0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "entry"),
    [
        ("", "accelerate_unreadable"),
        ("- a\n", "accelerate_unreadable"),
        ("a: [1\n", "accelerate_unreadable"),
        ("a: " + "[" * 5000, "accelerate_unreadable"),
        ("!!python/object/apply:os.system ['true']", "accelerate_unreadable"),
        ("use_cpu: true\n", "accelerate_field_missing"),
        ("distributed_type: MULTI_GPU\nnum_proceses: 2\n", "accelerate_field_unknown_near"),
        ("distributed_type: MULTI_GPU\nxyzzy: 2\n", "accelerate_field_unknown"),
        ("distributed_type: DEEPSPEED\ndeepspeed_config: {zero_stge: 3}\n", "accelerate_field_unknown_near"),
        ("distributed_type: DEEPSPEED\ndeepspeed_config: {zero_stage: 4}\n", "accelerate_field_wrong"),
        ("distributed_type: DEEPSPEED\ndeepspeed_config: 3\n", "accelerate_field_wrong"),
        ("distributed_type: SEVERAL\n", "accelerate_field_wrong"),
        ("distributed_type: MULTI_GPU\nnum_processes: two\n", "accelerate_field_wrong"),
        ("distributed_type: MULTI_GPU\nnum_processes: true\n", "accelerate_field_wrong"),
        ("distributed_type: MULTI_GPU\nnum_processes: 0\n", "accelerate_field_wrong"),
        ("distributed_type: MULTI_GPU\nmain_process_port: 70000\n", "accelerate_field_wrong"),
        ("distributed_type: MULTI_GPU\nmixed_precision: bf61\n", "accelerate_field_wrong"),
        ("compute_environment: AMAZON_SAGEMAKER\ndistributed_type: 'NO'\n", "accelerate_field_wrong"),
        ("distributed_type: DEEPSPEED\ndeepspeed_config: {deepspeed_config_file: a.json, zero_stage: 3}\n", "accelerate_deepspeed_both"),
    ],
)
def test_unusable_files_are_refused(tmp_path: Path, text: str, entry: str) -> None:
    own = tmp_path / "own.yaml"
    own.write_text(text, encoding="utf-8")
    with refusal(entry):
        suited(own, gpus=2)


def test_refused_before_reading(tmp_path: Path) -> None:
    with refusal("accelerate_unknown_near") as caught:
        suited("zero4", gpus=2)
    assert "zero" in caught.value.sentence.params["near"]
    with refusal("accelerate_unknown"):
        suited("/nowhere/at/all", gpus=2)
    with refusal("accelerate_unreadable"):
        suited(tmp_path, gpus=2)
    with refusal("accelerate_unreadable"):
        suited("a\0b", gpus=2)
    for content in (b"\xff\xfe\x00", b"# long\n" * 200_000):
        (tmp_path / "own.yaml").write_bytes(content)
        with refusal("accelerate_unreadable"):
            suited(tmp_path / "own.yaml", gpus=2)


def test_what_can_not_run_here_is_refused() -> None:
    with refusal("accelerate_fsdp_on_cpu"):
        suited("fsdp2", gpus=0)
    with refusal("accelerate_too_many_processes"):
        suited("several_gpus", gpus=2, processes=8)
    with refusal("accelerate_ip_missing"):
        suited("several_machines", gpus=2)
    with refusal("accelerate_machine_rank"):
        suited("several_machines", gpus=2, main_process_ip="10.1.2.3", machine_rank=2)
    with refusal("accelerate_port_missing"):
        suited("several_machines", gpus=2, main_process_ip="10.1.2.3", port=0)


def test_deepspeed_file_of_the_user(tmp_path: Path) -> None:
    whole = {"zero_optimization": {"stage": 3, "offload_optimizer": {"device": "cpu"}}, "train_batch_size": "auto"}
    (tmp_path / "ds.json").write_text(json.dumps(whole), encoding="utf-8")
    own = tmp_path / "own.yaml"
    own.write_text(
        "distributed_type: DEEPSPEED\nnum_processes: 2\ndeepspeed_config:\n  deepspeed_config_file: ds.json\n", encoding="utf-8"
    )
    file = suited(own, gpus=2)
    assert file.zero_stage == 3 and file.offloads("optimizer") and not file.offloads("param")
    assert not file.saves_whole_weights
    assert file.fields["deepspeed_config"]["deepspeed_config_file"] == str(tmp_path / "ds.json")
    for content in ('{"a": ', "[]"):
        (tmp_path / "ds.json").write_text(content, encoding="utf-8")
        with refusal("accelerate_deepspeed_file"):
            suited(own, gpus=2)
    (tmp_path / "ds.json").unlink()
    with refusal("accelerate_deepspeed_file"):
        suited(own, gpus=2)


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0"])
def test_port_of_another_program_is_refused(address: str) -> None:
    with socket.socket() as held:
        held.bind((address, 0))
        held.listen()
        port = held.getsockname()[1]
        assert not port_free(port)
        with refusal("accelerate_port_taken"):
            suited("several_gpus", gpus=2, port=port)
        with refusal("accelerate_port_taken"):
            suited("several_machines", gpus=2, port=port, main_process_ip="127.0.0.1")
        suited("several_machines", gpus=2, port=port, main_process_ip="127.0.0.1", machine_rank=1)
        suited("one_process", gpus=1, port=port)  # listens nowhere
    assert port_free(port)
    check_port(suited("several_gpus", gpus=2, port=port))
    assert port_free(free_port())


@pytest.mark.parametrize(
    ("allowed", "seen"),
    [(None, 4), ("", 0), ("0", 1), ("2,3", 2), ("-1", 0), ("0,-1,1", 1), ("0,9", 1), ("GPU-8932f937,1", 2), (" 1 , 2 ", 2)],
)
def test_visible_devices(allowed: str | None, seen: int) -> None:
    assert machine_devices._visible(4, allowed) == seen


def test_gpus_are_counted_as_torch_counts_them() -> None:
    """In a process of its own, so that torch isn't loaded yet; then by torch itself."""
    code = (
        "import sys; from pipeline.machine_devices import gpus_here, cores_here; a = gpus_here();"
        "assert 'torch' not in sys.modules; c = cores_here(); import torch; print(a, torch.cuda.device_count(), gpus_here(), c)"
    )
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parent.parent)}
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120, env=env)
    before, by_torch, after, cores = map(int, told.stdout.split())
    assert before == by_torch == after
    assert 1 <= cores <= (os.cpu_count() or 1)


# --- the line ---


def test_line_reads_back_as_it_was_written() -> None:
    spread = suited("zero3", processes=2, gpus=0)
    line = launch_line("/jobs/a b/it's 文/accelerate.yaml", ["-m", "pipeline.training.run", "/jobs/a b/$HOME;x"], spread)
    argv, env = parse_command(line.text)
    assert (tuple(argv), env) == (line.argv, dict(line.env))
    assert argv[:5] == [sys.executable, "-m", "accelerate.commands.launch", "--config_file", "/jobs/a b/it's 文/accelerate.yaml"]


def test_line_is_what_a_shell_would_start() -> None:
    line = LaunchLine((sys.executable, "-c", "import os,sys; print(os.environ['A B'[:1]], sys.argv[1:])", "a'b\\", '"$HOME"'), {"A": "x y"})
    by_shell = subprocess.run(["sh", "-c", line.text], capture_output=True, text=True, check=True)
    argv, env = parse_command(line.text)
    by_us = subprocess.run(argv, capture_output=True, text=True, check=True, env={**os.environ, **env})
    assert by_shell.stdout == by_us.stdout != ""


@pytest.mark.parametrize(
    ("line", "entry"),
    [
        ("", "line_empty"),
        ("A=1 B=2", "line_empty"),
        ("python a; rm b", "line_operator"),
        ("python a && b", "line_operator"),
        ("python a | tee log", "line_operator"),
        ("python a > log", "line_operator"),
        ("python $(b)", "line_operator"),
        ("python `b`", "line_operator"),
        ('python "$HOME"', "line_operator"),
        ("python $HOME", "line_operator"),
        ("python a\nrm b", "line_operator"),
        ("python a # note", "line_operator"),
        ("python 'a", "line_quote"),
        ('python "a', "line_quote"),
        ("python a\\", "line_quote"),
        ("python a\0b", "line_control"),
        ("python " + "a" * 100_001, "line_too_long"),
        ("HF_TOKEN=abc python a", "line_secret"),
        ("WANDB_API_KEY=abc python a", "line_secret"),
        ("python a --hub_token hf_" + "a" * 30, "line_secret"),
    ],
)
def test_lines_that_only_a_shell_could_run_are_refused(line: str, entry: str) -> None:
    with refusal(entry):
        parse_command(line)


@pytest.mark.parametrize(
    ("line", "argv"),
    [
        ("python 'a; b' \"c > d\"", ["python", "a; b", "c > d"]),
        ("python a\\;b '$HOME' x#y", ["python", "a;b", "$HOME", "x#y"]),
        ("python \\\n  -m a \\\r\n b", ["python", "-m", "a", "b"]),
        ("python {job} *.py", ["python", "{job}", "*.py"]),
        ("python TOKENIZER=x", ["python", "TOKENIZER=x"]),
    ],
)
def test_lines_that_need_no_shell(line: str, argv: list[str]) -> None:
    assert parse_command(line) == (argv, {})


def test_token_of_a_tokenizer_is_no_secret() -> None:
    assert parse_command("MAX_TOKENS_PER_STEP=5 TOKENIZERS_PARALLELISM=false python a")[0] == ["python", "a"]


def test_line_of_another_folder() -> None:
    line = launch_line("{job}/accelerate.yaml", ["-m", "m", "{job}"], suited("cpu", gpus=0)).text
    argv, _ = parse_command(in_folder(line, "/tmp/it's here"))
    assert argv[4:] == ["/tmp/it's here/accelerate.yaml", "-m", "m", "/tmp/it's here"]


def test_program_that_is_not_there() -> None:
    with refusal("line_no_program"):
        read_line("no-such-program-anywhere -m a")
    assert read_line(shlex.join([sys.executable, "-V"])).argv == (sys.executable, "-V")


def test_environment_of_a_run() -> None:
    plain = launch_line("f", ["-m", "m"], suited("cpu", gpus=0), environment={"PYTHONPATH": "/x", "HF_TOKEN": "hf_secret"})
    assert plain.env["PYTHONPATH"].endswith(f"{os.pathsep}/x") and "HF_TOKEN" not in plain.env
    assert plain.env["ACCELERATE_USE_CPU"] == "true" and plain.env["OMP_NUM_THREADS"] == "1"
    zero = launch_line("f", ["-m", "m"], suited("zero3", gpus=0, processes=2), environment={})
    assert (zero.env["DS_ACCELERATOR"], zero.env["ACCELERATE_USE_CPU"]) == ("cpu", "false")
    assert not {"DS_ACCELERATOR", "ACCELERATE_USE_CPU"} & set(launch_line("f", ["m"], suited("zero3", gpus=2)).env)
    own = launch_line("f", ["-m", "m"], suited("cpu", gpus=0), parameters=10**9, environment={"OMP_NUM_THREADS": "3"})
    assert own.env["OMP_NUM_THREADS"] == "3"
    both = parse_accelerate("distributed_type: MULTI_GPU\nrdzv_backend: c10d\nsame_network: true\nnum_processes: 2\n", "own")
    assert launch_line("f", ["-m", "m"], both).argv[5:] == ("--rdzv_backend", "c10d", "--same_network", "-m", "m")


def test_threads_are_divided_among_processes() -> None:
    on_cpu, on_two = suited("cpu", gpus=0), suited("zero3", gpus=0, processes=2)
    assert threads(on_cpu, 10**9, cores=16) == 16 and threads(on_two, 10**9, cores=16) == 8
    assert threads(on_two, 10**9, cores=1) == 1
    assert threads(on_cpu, 1_400_000, cores=16) == threads(on_cpu, None, cores=16) == 1
    assert threads(suited("zero3", gpus=2), 10**9, cores=16) == 1
    assert threads(suited("zero3_offload", gpus=2), 10**9, cores=16) == 8  # the optimizer's step is the CPU's


# --- real runs of two processes ---

_TRAIN = """
import json, os, sys
import torch
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments

out = sys.argv[1]
torch.manual_seed(0)
rows = [{"input_ids": (torch.arange(24) + 7 * i) % 64, "labels": (torch.arange(24) + 7 * i) % 64} for i in range(64)]
args = TrainingArguments(output_dir=out, max_steps=4, per_device_train_batch_size=4, logging_steps=1, report_to=[],
    save_strategy="no", learning_rate=5e-3, disable_tqdm=True, use_cpu=True, seed=0)
model = LlamaForCausalLM(LlamaConfig(vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
    num_attention_heads=2, num_key_value_heads=2))
trainer = Trainer(model=model, args=args, train_dataset=rows)
trainer.train()
trainer.save_model(out)
if trainer.is_world_process_zero():
    from safetensors.torch import load_file
    saved = load_file(os.path.join(out, "model.safetensors"))
    json.dump({"losses": [r["loss"] for r in trainer.state.log_history if "loss" in r], "processes": args.world_size,
        "kind": trainer.accelerator.distributed_type.value, "threads": torch.get_num_threads(),
        "empty": [name for name, value in saved.items() if value.numel() == 0], "tensors": len(saved)},
        open(os.path.join(out, "result.json"), "w"))
if torch.distributed.is_initialized():
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
sys.stdout.flush()
os._exit(0)  # now and then gloo ends a process by SIGABRT while Python takes itself down, all work done
"""


def start_training(folder: Path, spread: Any, number: int = 0) -> subprocess.Popen[bytes]:
    script, file = folder / "train.py", folder / f"accelerate{number}.yaml"
    script.write_text(_TRAIN, encoding="utf-8")
    file.write_text(spread.as_yaml(), encoding="utf-8")
    argv, env = parse_command(launch_line(file, [str(script), str(folder)]).text)
    with (folder / f"log{number}.txt").open("wb") as log:
        return subprocess.Popen(argv, env={**os.environ, **env}, stdout=log, stderr=subprocess.STDOUT, cwd="/")


def result_of(folder: Path, *started: subprocess.Popen[bytes]) -> SimpleNamespace:
    until = time.monotonic() + 900  # the first ZeRO run of a virtual environment compiles for one minute, on a busy machine for five
    while any(process.poll() is None for process in started) and time.monotonic() < until:
        if any(process.poll() for process in started):
            break  # the others would wait for the one that failed
        time.sleep(0.1)
    for process in started:
        if process.poll() is None:
            process.terminate()  # the launcher ends what it started, which is in no group of its
            process.wait(60)
    logs = "\n".join(path.read_text(encoding="utf-8", errors="replace")[-3000:] for path in sorted(folder.glob("log*")))
    assert [process.returncode for process in started] == [0] * len(started), logs
    return SimpleNamespace(**json.loads((folder / "result.json").read_text(encoding="utf-8")))


@pytest.fixture(scope="module")
def plain_losses(tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    """Of two processes that hold whole copies."""
    folder = tmp_path_factory.mktemp("plain")
    result = result_of(folder, start_training(folder, suited(None, processes=2, gpus=0)))
    assert (result.processes, result.kind, result.threads) == (2, "MULTI_CPU", int(os.environ.get("OMP_NUM_THREADS", 1)))
    assert result.losses[-1] < result.losses[0] - 0.2
    return list(result.losses)


@pytest.mark.parametrize("name", ["zero3", "zero3_offload"])
def test_deepspeed_with_two_cpu_processes_trains_as_whole_copies_do(
    tmp_path: Path, name: str, plain_losses: list[float]
) -> None:  # fmt: skip
    free_abandoned(extensions_root())  # of tests that were killed while they built: these would wait for ever
    result = result_of(tmp_path, start_training(tmp_path, suited(name, processes=2, gpus=0)))
    assert (result.processes, result.kind) == (2, "DEEPSPEED")
    assert result.losses == pytest.approx(plain_losses, abs=1e-4)
    assert result.tensors == 21 and not result.empty


def test_two_machines_train_together(tmp_path: Path, plain_losses: list[float]) -> None:
    """Two launchers of one process each, on one machine."""
    port = free_port()
    started = [
        start_training(
            tmp_path,
            suited("several_machines", processes=1, gpus=0, port=port, machine_rank=rank, main_process_ip="127.0.0.1"),
            rank,
        )
        for rank in (0, 1)
    ]
    result = result_of(tmp_path, *started)
    assert result.processes == 2 and result.losses == pytest.approx(plain_losses, abs=1e-5)


def test_names_are_listed_simplest_first() -> None:
    assert accelerate_names()[0] == "one_process" and sorted(accelerate_names()) == NAMES
