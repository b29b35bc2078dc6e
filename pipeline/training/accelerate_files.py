"""Accelerate files: how a run is spread over processes, GPUs and machines. Read without accelerate or torch.

configs/accelerate/*.yaml are plain accelerate files, one for each way of running; `suited` makes one of them, or the
user's own, fit this machine. Traps of accelerate 1.15 that this answers:

- Several processes on a CPU are MULTI_GPU with use_cpu: true. MULTI_CPU starts one process unless mpirun starts them.
- FSDP on a CPU trains whole copies, and says nothing.
- A field inside a block (deepspeed_config ...) that it doesn't know is dropped without a word.
- Its own port, where none is named, is 29500 for every run. 0 stands for a free one, found when the run starts.
"""

from __future__ import annotations

import os
import re
import socket
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.config_files import CONFIGS, load_config
from pipeline.machine_devices import gpus_here
from pipeline.refusal import Refused

ACCELERATE_FILES = CONFIGS / "accelerate"
MAX_BYTES = 1_000_000  # of one accelerate file: more is another file by mistake
PLACEHOLDER_IP = "192.0.2.1"  # of the block kept for documentation (RFC 5737): no machine has it
_NO_GPU = ("NO", "MULTI_CPU")
_OTHER_DEVICES = ("MULTI_NPU", "MULTI_MLU", "MULTI_SDAA", "MULTI_MUSA", "MULTI_XPU", "MULTI_HPU", "MULTI_NEURON", "XLA")
_TRUE = (True, "true", "True")


@dataclass(frozen=True)
class AccelerateFile:
    """name: of configs/accelerate, or the file's. text: YAML with comments. fields: what accelerate reads from it."""

    name: str
    text: str
    fields: Mapping[str, Any]
    path: Path | None = None

    def as_yaml(self) -> str:
        return self.text

    @property
    def distributed_type(self) -> str:
        return str(self.fields.get("distributed_type", "NO"))

    @property
    def use_cpu(self) -> bool:
        """Whether it trains on the CPU. TrainingArguments need `use_cpu` too then: bf16 is refused without it, and
        DeepSpeed takes one process for all of them."""
        return bool(self.fields.get("use_cpu", False))

    @property
    def engine(self) -> str:
        """ddp (also one process alone), deepspeed or fsdp."""
        return {"DEEPSPEED": "deepspeed", "FSDP": "fsdp"}.get(self.distributed_type, "ddp")

    @property
    def processes(self) -> int:
        """On all machines together."""
        given = self.fields.get("num_processes")
        return given if isinstance(given, int) else 1

    @property
    def machines(self) -> int:
        return int(self.fields.get("num_machines") or 1)

    @property
    def machine_rank(self) -> int:
        return int(self.fields.get("machine_rank") or 0)

    @property
    def processes_here(self) -> int:
        """On each machine."""
        return max(1, self.processes // self.machines)

    @property
    def port(self) -> int | None:
        """None: accelerate's own, 29500. 0: a free one, found at the start."""
        given = self.fields.get("main_process_port")
        return int(given) if given is not None else None

    @property
    def mixed_precision(self) -> str:
        return str(self.fields.get("mixed_precision") or "no")

    def block(self, name: str) -> Mapping[str, Any]:
        """Of deepspeed_config and its like; names of FSDP with `fsdp_` in front."""
        found: Mapping[str, Any] = self.fields.get(name) or {}
        return {_full(name, key): value for key, value in found.items()}

    def deepspeed_json(self) -> Mapping[str, Any] | None:
        """What deepspeed_config_file holds; None where none is named. Raises Refused where it can't be read."""
        path = self.block("deepspeed_config").get("deepspeed_config_file")
        return None if not path or self.engine != "deepspeed" else _deepspeed_file(Path(path), self.name)

    @property
    def zero_stage(self) -> int:
        """Of DeepSpeed; of FSDP that with the same effect: 3, or 2 where weights stay gathered. 0 without either."""
        if self.engine == "fsdp":
            return 2 if str(self.block("fsdp_config").get("fsdp_reshard_after_forward")).lower() == "false" else 3
        if self.engine != "deepspeed":
            return 0
        if (whole := self.deepspeed_json()) is not None:
            stage = _zero(whole).get("stage", 0)
            return stage if isinstance(stage, int) else 0
        return int(self.block("deepspeed_config").get("zero_stage", 2))

    def offloads(self, what: str) -> bool:
        """what: optimizer or param. Whether it waits in main memory or on disk."""
        if self.engine == "fsdp":
            return self.block("fsdp_config").get("fsdp_offload_params") in _TRUE
        if (whole := self.deepspeed_json()) is not None:
            offload = _zero(whole).get(f"offload_{what}")
            return isinstance(offload, Mapping) and offload.get("device", "cpu") != "none"
        return self.block("deepspeed_config").get(f"offload_{what}_device") not in (None, "none")

    @property
    def saves_whole_weights(self) -> bool:
        """False: what is saved can't be loaded by itself (of ZeRO-3, tensors of size 0)."""
        if self.engine == "fsdp":
            return self.block("fsdp_config").get("fsdp_state_dict_type") == "FULL_STATE_DICT"
        if self.zero_stage < 3:
            return True
        if (whole := self.deepspeed_json()) is not None:
            return _zero(whole).get("stage3_gather_16bit_weights_on_model_save") is True
        return self.block("deepspeed_config").get("zero3_save_16bit_model") in _TRUE

    def memory_settings(self) -> dict[str, Any]:
        """What an estimate of memory needs to know of it: keywords of memory_needed.settings_of."""
        return {
            "device": "cpu" if self.use_cpu else "cuda", "processes": self.processes, "per_host": self.processes_here,
            "engine": self.engine, "zero_stage": self.zero_stage, "offload_optimizer": self.offloads("optimizer"),
            "offload_param": self.offloads("param"),
        }  # fmt: skip


def accelerate_names() -> tuple[str, ...]:
    """Those of configs/accelerate, simplest first."""
    first = ("one_process", "cpu", "several_gpus", "zero1", "zero2", "zero2_offload", "zero3", "zero3_offload", "fsdp2")
    found = {path.stem for path in ACCELERATE_FILES.glob("*.yaml")}
    return tuple([name for name in first if name in found] + sorted(found - set(first)))


def read_accelerate(named: str | Path) -> AccelerateFile:
    """A name of configs/accelerate, or a file. Raises Refused."""
    if isinstance(named, str) and named in accelerate_names():
        path = ACCELERATE_FILES / f"{named}.yaml"
        return parse_accelerate(path.read_text(encoding="utf-8"), named)
    path = Path(named).expanduser()
    try:
        if path.is_dir():
            raise Refused("accelerate_unreadable", path=named, why="a folder")
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        near = _nearest(str(named).removesuffix(".yaml"), accelerate_names())
        entry = "accelerate_unknown_near" if near else "accelerate_unknown"
        raise Refused(entry, given=named, near=near, names=", ".join(accelerate_names())) from None
    except OSError as failed:
        raise Refused("accelerate_unreadable", path=named, why=failed.strerror or failed) from None
    except ValueError:  # a null byte
        raise Refused("accelerate_unreadable", path=named, why="null byte") from None
    if len(content) > MAX_BYTES:
        raise Refused("accelerate_unreadable", path=named, why=f"> {MAX_BYTES} bytes")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise Refused("accelerate_unreadable", path=named, why="not UTF-8") from None
    return parse_accelerate(text, str(named), path.absolute())


def parse_accelerate(text: str, name: str, path: Path | None = None) -> AccelerateFile:
    """Checked against configs/accelerate_fields.yaml. Raises Refused."""
    import yaml

    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as failed:
        mark = getattr(failed, "problem_mark", None)
        where = f"line {mark.line + 1}: " if mark is not None else ""
        why = getattr(failed, "problem", None) or str(failed).split("\n")[0]
        raise Refused("accelerate_unreadable", path=name, why=f"{where}{why}") from None
    if not isinstance(value, dict):
        raise Refused("accelerate_unreadable", path=name, why=type(value).__name__)
    if "distributed_type" not in value:
        raise Refused("accelerate_field_missing", path=name, field="distributed_type")
    # YAML reads a bare NO as false, which ends accelerate at `False.lower()`
    mended = {key: no for key, no in (("distributed_type", "NO"), ("mixed_precision", "no")) if value.get(key) is False}
    if isinstance(value.get("gpu_ids"), int) and not isinstance(value["gpu_ids"], bool):
        mended["gpu_ids"] = str(value["gpu_ids"])
    if mended:
        text = _with(text, mended)
        value = {**value, **mended}
    _check_fields(value, name)
    made = AccelerateFile(name, text, value, path)
    _check_deepspeed(made)
    return made


def _check_fields(value: Mapping[str, Any], name: str) -> None:
    table = load_config("accelerate_fields.yaml")
    for key, given in value.items():
        _check_one(name, str(key), given, table["fields"], "")
        block = table["blocks"].get(key)
        if block is None or not isinstance(given, Mapping):
            continue
        for inner, held in given.items():
            _check_one(name, _full(key, str(inner)), held, block, f"{key}.")


def _check_one(name: str, key: str, given: Any, known: Mapping[str, Any], block: str) -> None:
    if key not in known:
        near = _nearest(key, known)
        entry = "accelerate_field_unknown_near" if near else "accelerate_field_unknown"
        raise Refused(entry, path=name, field=block + key, near=near)
    wanted = known[key]
    types = [*wanted.get("types", ()), *wanted.get("or", ())]
    if "is" in wanted:
        fits = given in wanted["is"] or given is None and "null" in types
    else:
        fits = any(_has_type(given, one, bool(block)) for one in types)
    if fits and isinstance(given, (int, float)) and not isinstance(given, bool):
        fits = wanted.get("least", given) <= given <= wanted.get("most", given)
    if not fits:
        limits = "".join(f" {sign} {wanted[n]}" for n, sign in (("least", "≥"), ("most", "≤")) if n in wanted)
        said = ", ".join(str(one) for one in wanted.get("is", types)) + limits
        raise Refused("accelerate_field_wrong", path=name, field=block + key, value=given, wanted=said)


def _has_type(given: Any, kind: str, in_block: bool) -> bool:
    if kind == "bool":
        return isinstance(given, bool) or in_block and given in ("true", "false", "True", "False")
    if kind in ("int", "float"):
        return isinstance(given, (int, float) if kind == "float" else int) and not isinstance(given, bool)
    return {
        "str": isinstance(given, str), "dict": isinstance(given, dict), "list": isinstance(given, list),
        "null": given is None, "auto": given == "auto",
    }[kind]  # fmt: skip


def _check_deepspeed(file: AccelerateFile) -> None:
    """accelerate takes a DeepSpeed JSON or the fields of the block, and ends at its own words for both."""
    block = file.block("deepspeed_config")
    if file.engine != "deepspeed" or not block.get("deepspeed_config_file"):
        return
    in_json = [name for name in block if name in _SAID_IN_JSON]
    if in_json or "mixed_precision" in file.fields and file.fields["mixed_precision"] is not None:
        names = ", ".join([*in_json, *(["mixed_precision"] if not in_json else [])])
        raise Refused("accelerate_deepspeed_both", path=file.name, names=names)


_SAID_IN_JSON = (
    "zero_stage", "gradient_accumulation_steps", "gradient_clipping", "offload_optimizer_device",
    "offload_param_device", "offload_optimizer_nvme_path", "offload_param_nvme_path", "zero3_save_16bit_model",
)  # fmt: skip


def _deepspeed_file(path: Path, name: str) -> Mapping[str, Any]:
    from pipeline.json_file import parse_json

    try:
        with path.expanduser().open("rb") as file:
            value = parse_json(file.read(MAX_BYTES))
    except (OSError, RecursionError, ValueError) as failed:
        why = getattr(failed, "strerror", None) or str(failed).split("\n")[0]
        raise Refused("accelerate_deepspeed_file", path=name, file=path, why=why) from None
    if not isinstance(value, dict):
        raise Refused("accelerate_deepspeed_file", path=name, file=path, why=type(value).__name__)
    return value


def _zero(whole: Mapping[str, Any]) -> Mapping[str, Any]:
    found = whole.get("zero_optimization")
    return found if isinstance(found, Mapping) else {}


def _full(block: str, key: str) -> str:
    return f"fsdp_{key}" if block == "fsdp_config" and not key.startswith("fsdp") else key


def _nearest(word: str, known: Iterable[str]) -> str:
    from rapidfuzz import process
    from rapidfuzz.distance import OSA

    found = process.extractOne(word, list(known), scorer=OSA.normalized_similarity, score_cutoff=0.6)
    return str(found[0]) if found else ""


# --- making it fit ---


def suited(
    named: str | Path | None = None, *, processes: int | None = None, cpu: bool | None = False, gpus: int | None = None,
    port: int | None = None, mixed_precision: str | None = None, machine_rank: int | None = None,
    machines: int | None = None, main_process_ip: str | None = None,
) -> AccelerateFile:  # fmt: skip
    """An accelerate file for this machine. Raises Refused for what can't run here.

    named: a name of configs/accelerate or a file; None: what fits the machine (the CPU, one GPU, several). processes:
    on this machine; None: as the user's own file says, otherwise one for each GPU, and one on a CPU. cpu: on the CPU
    though there are GPUs. gpus: how many there are, None: looked up. port, mixed_precision, machine_rank, machines,
    main_process_ip: in place of what the file says.
    """
    found = gpus_here() if gpus is None else gpus
    if named is None:
        on_cpu = bool(cpu) or found == 0
        several = (processes or 1) > 1 if on_cpu else (processes or found) > 1
        named = "several_gpus" if several else "cpu" if on_cpu else "one_process"
    file = read_accelerate(named)
    settings: dict[str, Any] = {}
    for name, value in (
        ("main_process_port", port), ("mixed_precision", mixed_precision), ("machine_rank", machine_rank),
        ("num_machines", machines), ("main_process_ip", main_process_ip),
    ):  # fmt: skip
        if value is not None:
            settings[name] = value
    on_machines = int(settings.get("num_machines", file.machines))
    on_cpu = bool(cpu) or file.use_cpu or found == 0 and file.distributed_type not in _OTHER_DEVICES
    if on_cpu and file.engine == "fsdp":
        raise Refused("accelerate_fsdp_on_cpu", path=file.name)
    here = processes or _processes(file, found, on_cpu)
    chosen = file.fields.get("gpu_ids")
    devices = len(chosen.split(",")) if isinstance(chosen, str) and chosen not in ("all", "") else found
    if not on_cpu and here > devices and file.distributed_type not in _OTHER_DEVICES:
        raise Refused("accelerate_too_many_processes", path=file.name, processes=here, gpus=devices)
    settings["num_processes"] = here * on_machines
    if on_cpu:
        settings["use_cpu"] = True
    if here * on_machines > 1 and file.distributed_type in _NO_GPU:
        settings["distributed_type"] = "MULTI_GPU"  # the name that starts several processes, on a CPU too
    if on_machines == 1 and here > 1 and file.port is None and port is None:
        settings["main_process_port"] = 0  # not 29500, where the run before this one may still be
    if json_file := file.block("deepspeed_config").get("deepspeed_config_file"):
        found_at = _absolute(file, json_file)
        settings["deepspeed_config"] = {**file.fields["deepspeed_config"], "deepspeed_config_file": found_at}
    changed = {key: value for key, value in settings.items() if file.fields.get(key) != value}
    made = parse_accelerate(_with(file.text, changed), file.name, file.path)
    made.deepspeed_json()
    _check_machines(made)
    return made


def _processes(file: AccelerateFile, gpus: int, on_cpu: bool) -> int:
    """On this machine, where nobody says how many."""
    if file.path is not None and "num_processes" in file.fields:
        return file.processes_here
    if on_cpu or file.distributed_type in _NO_GPU:
        return 1
    return max(1, gpus)


def _absolute(file: AccelerateFile, named: str) -> str:
    """Beside the accelerate file where it isn't found from here: the run is started from its own folder."""
    path = Path(named).expanduser()
    if file.path is not None and not path.is_absolute() and not path.exists():
        path = file.path.parent / path
    return str(path.absolute())


def _check_machines(file: AccelerateFile) -> None:
    if file.machines > 1:
        if file.fields.get("main_process_ip") in (None, "", PLACEHOLDER_IP):
            raise Refused("accelerate_ip_missing", path=file.name)
        if not file.port:
            raise Refused("accelerate_port_missing", path=file.name)
        if file.machine_rank >= file.machines:
            raise Refused("accelerate_machine_rank", path=file.name, rank=file.machine_rank, last=file.machines - 1)
        if file.processes % file.machines:
            raise Refused("accelerate_uneven", path=file.name, processes=file.processes, machines=file.machines)
    check_port(file)


def check_port(file: AccelerateFile) -> None:
    """Raises Refused where the port that the run will listen on is another program's. The state of this moment: ask
    again right before a start that had to wait."""
    listens = file.machine_rank == 0 and (file.machines > 1 or file.processes > 1 or file.engine == "deepspeed")
    if listens and file.port and not port_free(file.port) and not _listens_itself(file):
        raise Refused("accelerate_port_taken", path=file.name, port=file.port, free=free_port())


def _listens_itself(file: AccelerateFile) -> bool:
    """Whether the port is held by the launcher that was started with this very file: it waits for the checks."""
    if file.path is None:
        return False
    import psutil

    with suppress(psutil.Error, OSError):
        for held in psutil.net_connections(kind="tcp"):
            if held.status == psutil.CONN_LISTEN and held.laddr and held.laddr.port == file.port and held.pid:
                with suppress(psutil.Error):
                    words = psutil.Process(held.pid).cmdline()
                    if str(file.path) in words or str(file.path.parent) in words:
                        return True
    return False


def port_free(port: int) -> bool:
    """Whether a program of this user could listen on it, on every address of this machine."""
    for family, address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
        try:
            listener = socket.socket(family, socket.SOCK_STREAM)
        except OSError:  # no IPv6 here
            continue
        with listener:
            if os.name == "posix":  # a port whose last connection is only being forgotten is free; on Windows it isn't
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with suppress(OSError, AttributeError):
                if family == socket.AF_INET6:
                    listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                listener.bind((address, port))
            except OSError as failed:
                if family == socket.AF_INET6 and failed.errno not in (13, 48, 98, 10013, 10048):  # IPv6 is switched off
                    continue
                return False
    return True


def free_port() -> int:
    """One that is free now, to be shown: where a run may take any, its file says 0 and the launcher finds one."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.bind(("", 0))
        return int(listener.getsockname()[1])


def _with(text: str, settings: Mapping[str, Any]) -> str:
    """The YAML with these fields set, its comments and order kept where that gives just them."""
    import yaml

    wanted = {**yaml.safe_load(text), **settings}
    lines = text.rstrip("\n").split("\n")
    for key, value in settings.items():
        if isinstance(value, Mapping):
            continue
        said = _scalar(value)
        pattern = re.compile(rf"{re.escape(key)}:(?P<held>\s*[^#]*?)(?P<note>\s+#.*)?$")
        for number, line in enumerate(lines):
            if hit := pattern.match(line):
                note = (hit["note"] or "").strip()
                start = f"{key}: {said}"
                column = max(len(start) + 2, len(line) - len(note))  # comments stay below one another
                lines[number] = f"{start:<{column}}{note}".rstrip()
                break
        else:
            lines.append(f"{key}: {said}")
    made = "\n".join(lines) + "\n"
    with suppress(yaml.YAMLError):
        if yaml.safe_load(made) == wanted:
            return made
    return yaml.safe_dump(wanted, sort_keys=False, allow_unicode=True)


def _scalar(value: Any) -> str:
    import yaml

    return str(yaml.safe_dump(value, allow_unicode=True, width=sys.maxsize)).removesuffix("\n").removesuffix("\n...")
