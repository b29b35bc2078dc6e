"""LLaMA-Factory itself trains two steps on the files we export: python interop/llamafactory_trains.py [--keep DIR]

In a venv of its own in the user's cache, as it pins other versions of the same libraries.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from pipeline.config_files import load_config  # noqa: E402
from pipeline.demo.build import build_demo, default_root  # noqa: E402
from pipeline.demo.cases import demo_rows  # noqa: E402
from pipeline.demo.instructions import right_answers  # noqa: E402
from pipeline.pairs.dataset_info import entries_for, llamafactory_layout, read_dataset_info  # noqa: E402
from pipeline.pairs.pair import Pair  # noqa: E402
from pipeline.pairs.write_pairs import write_pairs  # noqa: E402

LLAMAFACTORY = "0.9.5"
TORCH = "2.13.0"
# torch comes first and in this version; its two companions have builds of their own for each device and aren't needed
# for text, but torchaudio is imported.
NOT_INSTALLED = {"torch", "torchvision", "torchaudio"}
ROWS, STEPS, SECONDS = 24, 2, 600


@dataclass(frozen=True)
class Run:
    """One training. format: what the pairs are exported as; entry: the name in dataset_info.json that is trained on;
    content: runs that have it in common read the same rows from different layouts, so their losses are equal."""

    name: str
    format: str
    entry: str
    stage: str
    content: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)


RUNS = (
    Run("DPO, alpaca", "llamafactory-alpaca", "alpaca_pairs", "dpo", "pairs"),
    Run("DPO, sharegpt", "llamafactory-sharegpt", "sharegpt_pairs", "dpo", "pairs"),
    Run("ORPO, alpaca", "llamafactory-alpaca", "alpaca_pairs", "dpo", settings={"pref_loss": "orpo"}),
    Run("reward model, sharegpt", "llamafactory-sharegpt", "sharegpt_pairs", "rm"),
    Run("KTO", llamafactory_layout("kto"), "kto_rows", "kto"),
    Run("SFT, alpaca", "alpaca", "alpaca_rows", "sft", "answers"),
    Run("SFT, messages", "messages", "message_rows", "sft", "answers"),
    Run("SFT on the chosen answers of pairs", "llamafactory-alpaca", "alpaca_pairs_sft", "sft", "answers"),
)


# --- its environment ---


def environment() -> Path:
    """The folder of programs of a venv with LLaMA-Factory; made when it isn't there, which takes minutes."""
    root = default_root().parent / f"interop-llamafactory-{LLAMAFACTORY}-torch-{TORCH}"
    programs = root / ("Scripts" if os.name == "nt" else "bin")
    done = root / "installed"
    if done.exists():
        return programs
    say(f"installing LLaMA-Factory {LLAMAFACTORY} in {root}")
    shutil.rmtree(root, ignore_errors=True)
    venv.create(root, with_pip=True)
    python = programs / "python"
    bound = root / "constraints.txt"
    bound.write_text(f"torch=={TORCH}\n", encoding="utf-8")

    def install(*what: str) -> None:
        run([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-c", str(bound), *what])

    install(f"torch=={TORCH}")
    install("--no-deps", f"llamafactory=={LLAMAFACTORY}")
    asked = (
        "import importlib.metadata as m, json, sysconfig;"
        "print(json.dumps([sysconfig.get_path('purelib'), m.requires('llamafactory')]))"
    )
    site, needed = json.loads(run([str(python), "-c", asked]))
    stub = Path(site) / "torchaudio"
    stub.mkdir(exist_ok=True)
    (stub / "__init__.py").write_text("", encoding="utf-8")
    install(*(line for line in needed if "extra ==" not in line and _name(line) not in NOT_INSTALLED))
    done.touch()
    return programs


def _name(requirement: str) -> str:
    return re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0].lower()


def run(command: Sequence[str]) -> str:
    """Its standard output. Raises RuntimeError with the end of what it said."""
    ended = subprocess.run(command, capture_output=True, text=True, timeout=3600, check=False)
    if ended.returncode != 0:
        raise RuntimeError(f"{' '.join(command)[:300]}\n{ended.stdout[-2000:]}\n{ended.stderr[-4000:]}")
    return ended.stdout


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


# --- what it is given ---


def pairs() -> list[Pair]:
    """Questions of the demo, each with two right answers; some with a system text and some with an earlier turn."""
    rows, _ = demo_rows(load_config("demo.yaml"))
    found: list[Pair] = []
    for row in {row.question.prompt: row for row in rows}.values():
        answers = right_answers(row.question)
        if len(answers) < 2:
            continue
        number = len(found)
        system = "Answer in a whole sentence." if number % 3 == 0 else None
        found.append(
            Pair([{"role": "user", "content": row.question.prompt}], answers[1], answers[0], system, f"row-{number}")
        )
        if len(found) == ROWS:
            break
    return found


def export(folder: Path) -> dict[str, int]:
    """All formats with their dataset_info.json. Returns how many rows each entry has."""
    info = read_dataset_info(folder / "dataset_info.json", absent_is_empty=True)
    given, rows = pairs(), dict[str, int]()
    earlier = [{"role": "user", "content": "Hi!"}, {"role": "assistant", "content": "Hello."}]
    for one in {(run.format, run.entry.removesuffix("_sft")) for run in RUNS}:
        format, name = one
        file = folder / f"{name}.json"
        written = [
            Pair([*(earlier if n % 4 == 1 else []), *p.prompt], p.chosen, p.rejected, p.system, p.id)
            for n, p in enumerate(given)
        ]
        report = write_pairs(written, file, format)
        if report.rows != ROWS or report.left_out:
            raise RuntimeError(f"{format}: {report}")
        records = json.loads(file.read_text(encoding="utf-8"))
        info = info.with_entries(entries_for(name, file, format, report.columns, beside=info.path))
        rows[name] = rows[f"{name}_sft"] = len(records)
    info.write()
    return rows


# --- the trainings ---


class NotTrained(Exception):
    """What is wrong with a training."""


def train(programs: Path, folder: Path, one: Run, rows: int) -> list[float]:
    """The losses that one training logs. Raises NotTrained."""
    output = folder / one.name.replace(" ", "_").replace(",", "")
    recipe = {
        "model_name_or_path": str(folder / "model"), "template": "chatml", "stage": one.stage, "do_train": True,
        "finetuning_type": "full", "dataset": one.entry, "dataset_dir": str(folder), "cutoff_len": 256,
        "output_dir": str(output), "max_steps": STEPS, "logging_steps": 1, "per_device_train_batch_size": 4,
        "learning_rate": 1e-4, "save_strategy": "no", "report_to": "none", "use_cpu": True, "bf16": False,
        "overwrite_cache": True, "dataloader_pin_memory": False, "preprocessing_num_workers": 1, **one.settings,
    }  # fmt: skip
    file = folder / f"{output.name}.yaml"  # JSON is YAML, and its reader of .json files can't open one
    file.write_text(json.dumps(recipe, indent=2), encoding="utf-8")
    quiet = {
        "CUDA_VISIBLE_DEVICES": "", "DISABLE_VERSION_CHECK": "1", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false", "PATH": f"{programs}{os.pathsep}{os.environ.get('PATH', '')}",
        "HF_DATASETS_CACHE": str(folder / "cache"), "PYTHONPATH": "",
    }  # fmt: skip
    command = [str(programs / "python"), "-m", "llamafactory.cli", "train", str(file)]
    try:
        ended = subprocess.run(
            command, env={**os.environ, **quiet}, cwd=folder, timeout=SECONDS, check=False, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise NotTrained(f"not done after {SECONDS} s") from None
    (folder / f"{output.name}.log").write_text(ended.stdout, encoding="utf-8")
    if ended.returncode != 0:
        raise NotTrained(f"exit status {ended.returncode}\n{ended.stdout[-3000:]}")
    seen = re.search(r"Num examples = ([\d,]+)", ended.stdout)
    if seen is None or int(seen[1].replace(",", "")) != rows:
        raise NotTrained(f"trained on {seen[1] if seen else 'no number of'} rows, exported were {rows}")
    history = json.loads((output / "trainer_state.json").read_text(encoding="utf-8"))["log_history"]
    losses = [row["loss"] for row in history if "loss" in row]
    if len(losses) != STEPS or not all(math.isfinite(loss) and loss > 0 for loss in losses):
        raise NotTrained(f"logged losses: {losses}")
    return losses


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", type=Path, metavar="DIR", help="leave files, recipes and logs there")
    keep: Path | None = parser.parse_args().keep
    programs = environment()
    model = build_demo(progress=say, only=["healthy_decoder"]).cases["healthy_decoder"].checkpoint
    wrong = 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) if keep is None else keep.absolute()
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copytree(model, folder / "model", dirs_exist_ok=True)
        rows = export(folder)
        first: dict[str, list[float]] = {}
        for one in RUNS:
            began = time.monotonic()
            try:
                losses = train(programs, folder, one, rows[one.entry])
                said = f"losses {', '.join(f'{loss:.4f}' for loss in losses)}"
                expected = first.setdefault(one.content, losses) if one.content else losses
                if any(abs(loss - other) > 1e-3 for loss, other in zip(losses, expected, strict=True)):
                    raise NotTrained(f"{said}; the same rows in another layout gave {expected}")
            except NotTrained as reason:
                said, wrong = str(reason), wrong + 1
            print(f"{one.name}: {said} ({time.monotonic() - began:.0f} s)", flush=True)
    print(f"{len(RUNS) - wrong} passed, {wrong} failed")
    return int(wrong > 0)


if __name__ == "__main__":
    raise SystemExit(main())
