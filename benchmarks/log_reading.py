"""How fast training logs are read, against pandas on the same content: python benchmarks/log_reading.py [--keep DIR]

Makes logs with a million losses each (150 to 450 MB) in a temporary folder, one kind after the other, and removes them.
What pandas reads are the same records as JSON lines, without the lines between. Absolute times depend on the machine,
the ratios hardly do: both sides are timed in turns, each in a process of its own, start-up included: ours is the whole
`python -m diagnostics log FILE --format json`. NO stands behind a promise that is not kept.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REPEATS = 3
RECORDS = 1_000_000
SPEED, MEMORY = 2.0, 300.0  # times as fast as pandas; MiB at most
NOISE = (
    "/usr/lib/python3.11/site-packages/torch/utils/checkpoint.py:31: UserWarning: None of the inputs are on the device",
    "Saving model checkpoint to output/checkpoint-{n}",
    "loaded 3 files in 2.5 s",
)


def loss_at(n: int) -> float:
    """A curve that falls; its numbers differ in length as those of real runs do."""
    return 2.0 / (1 + n / 100_000) + 0.3 * ((n * 2654435761) % 1000) / 1000


def records(not_a_number: int) -> Iterator[dict[str, float | int]]:
    """What every log of this benchmark holds; the loss of one record in the last 2% is NaN."""
    for n in range(RECORDS):
        yield {
            "step": n,
            "loss": float("nan") if n == not_a_number else round(loss_at(n), 4),
            "grad_norm": round(0.5 + (n % 977) / 1000, 6),
            "learning_rate": 1e-5 * (1 - n / RECORDS),
            "epoch": round(n / RECORDS * 3, 6),
        }


PREFERENCE = (
    "rewards/chosen", "rewards/rejected", "rewards/accuracies", "rewards/margins", "logps/chosen", "logps/rejected",
    "logits/chosen", "logits/rejected",
)  # fmt: skip


def _preference(n: int) -> dict[str, float]:
    return {key: round(((n * 31 + place * 7) % 997) / 100 - 4, 4) for place, key in enumerate(PREFERENCE)}


def hf_dict(n: int, r: dict[str, float | int]) -> str:
    kept = {k: v for k, v in r.items() if k != "step"}
    return str(kept) + "\n"


def hf_quoted(n: int, r: dict[str, float | int]) -> str:
    return str({k: f"{v:.4g}" for k, v in r.items() if k != "step"}) + "\n"


def hf_dpo(n: int, r: dict[str, float | int]) -> str:
    kept = {k: v for k, v in r.items() if k != "step"}
    return str({"loss": kept.pop("loss"), **_preference(n), **kept}) + "\n"


def hf_with_bars(n: int, r: dict[str, float | int]) -> str:
    share = n / RECORDS
    bar = "█" * int(share * 10)
    return (
        f"\r{share:4.0%}|{bar:<10}| {n}/{RECORDS} [00:{n % 60:02}<01:00,  3.14it/s]"
        + " " * 20
        + f"\n\r{share:4.0%}|{bar:<10}| {n}/{RECORDS} [00:{n % 60:02}<01:00,  3.14it/s]"
        + hf_dict(n, r)
    )


def sentence(n: int, r: dict[str, float | int]) -> str:
    minute, second = divmod(n // 10, 60)
    hour, minute = divmod(minute, 60)
    return (
        f"2026-03-{1 + hour // 24:02} {hour % 24:02}:{minute:02}:{second:02},{n % 1000:03} INFO "
        f"trainer.py:217 rank 0 - epoch {int(r['epoch']) + 1}, step {n}, training loss: {r['loss']:.6f}, "
        f"grad norm: {r['grad_norm']:.4f}, "
        f"lr: {r['learning_rate']:.3e}, tokens/s: {12000 + n % 777}\n"
    )


def deepspeed(n: int, r: dict[str, float | int]) -> str:
    return (
        f"[2026-03-01 {n // 36000 % 24:02}:{n // 600 % 60:02}:{n // 10 % 60:02},{n % 1000:03}] "
        f"[INFO] [logging.py:96:log_dist] [Rank 0] step={n}, skipped=0, "
        f"lr=[{r['learning_rate']:.6e}], mom=[(0.9, 0.95)]\n"
        f"steps: {n} loss: {r['loss']:.4f} iter time (s): 0.{n % 900 + 100} samples/sec: {60 + n % 9}.{n % 97:02}\n"
    )


def megatron(n: int, r: dict[str, float | int]) -> str:
    return (
        f" iteration {n:8d}/ {RECORDS:8d} | consumed samples: {n * 256:12d} | "
        f"elapsed time per iteration (ms): {1000 + n % 97}.4 | learning rate: {r['learning_rate']:.6E} | "
        f"global batch size:   256 | lm loss: {r['loss']:.6E} | loss scale: 1.0 | "
        f"grad norm: {r['grad_norm']:.3f} | number of skipped iterations:   0 | number of nan iterations:   0 |\n"
    )


def json_line(n: int, r: dict[str, float | int]) -> str:
    return json.dumps({**r, "tokens_per_second": 12000 + n % 777, "note": "x" * 60}) + "\n"


KINDS: dict[str, Callable[[int, dict[str, float | int]], str]] = {
    "dict lines": hf_dict,
    "dict lines, numbers quoted": hf_quoted,
    "dict lines of preference training": hf_dpo,
    "dict lines between progress bars": hf_with_bars,
    "sentences with timestamps": sentence,
    "DeepSpeed lines": deepspeed,
    "Megatron-LM lines": megatron,
    "JSON lines": json_line,
}


def write_log(path: Path, kind: str, *, nan_from: int, noise: bool) -> None:
    """A log of one kind. From `nan_from` on 1 loss (all of them where it lies before the last 2%) is NaN."""
    form = KINDS[kind]
    dice = random.Random(0)
    with open(path, "w", encoding="utf-8") as file:
        for n, record in enumerate(records(nan_from)):
            if n > nan_from and nan_from < 0.98 * RECORDS:
                record["loss"] = float("nan")
            file.write(form(n, record))
            if noise and n % 20 == 7:
                file.write(dice.choice(NOISE).format(n=n) + "\n")


def write_json(path: Path, kind: str) -> None:
    """The same records as JSON lines."""
    more = kind == "dict lines of preference training"
    form = json_line if kind == "JSON lines" else lambda n, r: json.dumps(r) + "\n"
    with open(path, "w", encoding="utf-8") as file:
        for n, record in enumerate(records(-1)):
            file.write(form(n, {**record, **_preference(n)} if more else record))


PANDAS = "import sys, pandas; pandas.read_json(sys.argv[1], lines=True)"


def timed(argv: list[str]) -> tuple[float, float, str]:
    """(seconds, peak memory in MiB, output) of one process."""
    wrapper = (
        "import resource, subprocess, sys, time\n"
        "began = time.perf_counter()\n"
        "done = subprocess.run(sys.argv[1:], stdout=subprocess.PIPE)\n"
        "took = time.perf_counter() - began\n"
        "print(took, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024)\n"
        "sys.stdout.flush()\n"
        "sys.stdout.buffer.write(done.stdout)\n"
    )
    done = subprocess.run([sys.executable, "-c", wrapper, *argv], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    head, _, rest = done.stdout.partition("\n")
    seconds, memory = map(float, head.split())
    return seconds, memory, rest


def promised(what: str, value: float, unit: str, least: float | None = None, most: float | None = None) -> bool:
    kept = (least is None or value >= least) and (most is None or value <= most)
    limit = f">= {least:g}" if least is not None else f"<= {most:g}" if most is not None else ""
    print(f"{what:<74} {value:>9.3g} {unit:<4} {limit:>8} {('YES' if kept else 'NO') if limit else '':>4}", flush=True)
    return kept


FOLLOW = """
import sys, time
from pathlib import Path
from pipeline.logs.follow_log import LogFollower
path = Path(sys.argv[1])
follower = LogFollower([path])
follower.read_more(), follower.log()
tail = b"".join(path.open("rb").readlines()[-200:])
took = []
for _ in range(5):
    with path.open("ab") as file:
        file.write(tail)
    began = time.perf_counter()
    assert follower.read_more()
    took.append(time.perf_counter() - began)
began = time.perf_counter()
follower.log()
print(sorted(took)[2], time.perf_counter() - began)
"""


def measure_kind(folder: Path, kind: str) -> bool:
    path, same = folder / "run.log", folder / "records.jsonl"
    kept = True
    write_json(same, kind)
    for nan_from, noise in ((int(RECORDS * 0.99), True), (RECORDS // 2, False)):
        write_log(path, kind, nan_from=nan_from, noise=noise)
        ours, theirs = [], []
        for _ in range(REPEATS):
            ours.append(timed([sys.executable, "-m", "diagnostics", "log", str(path), "--format", "json"]))
            theirs.append(timed([sys.executable, "-c", PANDAS, str(same)]))
        seconds, pandas = (statistics.median(run[0] for run in runs) for runs in (ours, theirs))
        report = json.loads(ours[0][2])
        found = [f for f in report["findings"] if f["code"] == "LOG002" and f["severity"] in ("warning", "error")]
        name = f"{kind}, {path.stat().st_size / 1e6:.0f} MB" + ("" if noise else ", NaN from half way on")
        promised(f"{name}: seconds", seconds, "s")
        promised(f"{name}: seconds of pandas.read_json", pandas, "s")
        kept &= promised(f"{name}: speed / pandas.read_json", pandas / seconds, "", least=SPEED)
        kept &= promised(f"{name}: memory", max(run[1] for run in ours), "MiB", most=MEMORY)
        kept &= promised(f"{name}: NaN found", float(bool(found)), "", least=1)
        kept &= promised(f"{name}: losses read", report["metrics"].get("log.loss.points", 0) / RECORDS, "", least=1)
    more, whole = map(float, timed([sys.executable, "-c", FOLLOW, str(path)])[2].split())
    promised(f"{kind}: 200 lines more of a followed log", 1000 * more, "ms", most=50)
    promised(f"{kind}: all curves of a followed log anew", whole, "s")
    path.unlink()
    same.unlink()
    return kept


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", metavar="DIR", help="make the files there")
    parser.add_argument("--kind", metavar="TEXT", default="", help="only kinds whose name holds this")
    options = parser.parse_args()
    folder = Path(options.keep or tempfile.mkdtemp(prefix="log-reading-"))
    folder.mkdir(exist_ok=True)
    kept = True
    try:
        for kind in KINDS:
            if options.kind in kind:
                kept &= measure_kind(folder, kind)
    finally:
        if not options.keep:
            shutil.rmtree(folder, ignore_errors=True)
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
