"""Logs made at random from a seed: noise leaves curves unchanged, pieces give what one read gives, nothing breaks."""

from __future__ import annotations

import os
import random
import time
import tracemalloc
from collections.abc import Sequence
from pathlib import Path

import pytest

from pipeline.logs.follow_log import LogFollower
from pipeline.logs.raw_text import RawText
from pipeline.logs.read_log import LogReader, read_log
from pipeline.logs.training_log import TrainingLog
from tests.test_log_formats import HEADS, SENTENCES, event_file

# How long the mutations below go on; CI gives a minute and more.
FUZZ_SECONDS = float(os.environ.get("LOG_FUZZ_SECONDS", "4"))

NOISE = (
    "Loading checkpoint shards: 100%|██████████| 2/2 [00:0{d}<00:00,  1.46it/s]",
    "\r  {d}%|▎         | {n}/1000 [00:0{d}<05:00,  3.{d}0it/s]\r  {d}%|▎         | {n}/1000 [00:0{d}<05:00,  3.{d}1it/s]",
    "Map:  3{d}%|███▍      | 3{d}00/10000 [00:0{d}<00:08, 801.2{d} examples/s]",
    "Downloading shards: 100%|#####| 4/4 [00:0{d}<00:00, 52.{d}MB/s]",
    "/usr/lib/python3.11/site-packages/torch/utils/checkpoint.py:{n}: UserWarning: torch.utils.checkpoint: please pass in",
    "  warnings.warn(",
    "2026-03-01 10:0{d}:00,{n} - INFO - checkpoint saved to output/checkpoint-{n}",
    "Saving model checkpoint to output/checkpoint-{n}",
    "loaded {d} files in 2.{d} s",
    "the loss function is mse",
    "Using {d} workers, {n} samples, 2.{d} GB of memory",
    "Traceback (most recent call last):",
    '  File "/home/user/train.py", line {n}, in <module>',
    "    trainer.train(resume_from_checkpoint={d})",
    "RuntimeError: shape mismatch: {d} and {n}",
    "[2026-03-01 00:29:01,87{d}] [INFO] [config.py:1000:print]   loss_scale ................... 1.0",
    "[2026-03-01 00:29:01,87{d}] [INFO] [config.py:1000:print]   zero_config .................. stage=2 overlap_comm=False",
    '    "steps_per_print": 1{d}, ',
    '    "fp16": {{',
    '        "loss_scale": 0, ',
    "    }}",
    "learning_rate: 1e-0{d}",
    "wandb: Run summary:",
    "wandb:   train/loss 2.{d}",
    "best loss so far: 1.{d}",
    "GPU {d}: 7{d}C, 30{d}W, 9{d}% used",
    "模型参数量：{n} 万，加载耗时 {d} 秒",
    "{{'input_ids': [1, 2, {n}], 'attention_mask': [1, 1, 1]}}",
    "Number of trainable parameters = {n},822,816",
    "",
    "=" * 60,
    "Generating train split: {n} examples [00:0{d}, 9000{d}.1 examples/s]",
    "NCCL version 2.2{d}.5+cuda12.4",
    "INFO 03-01 10:00:0{d} [gpu_worker.py:3{n}] Available KV cache memory: 6.{d} GiB",
)
# Their steps come from the bars between lines, or a table ends where something else stands.
DEPENDENT = ("bar and dict", "unsloth, tabs", "unsloth, spaces", "unsloth, Markdown")


def lines_of(kind: str, count: int) -> list[str]:
    made = [SENTENCES[kind].format(n=n, loss=round(3 - n / 1000, 3)) for n in range(1, count + 1)]
    return [line if line.endswith("\n") else line + "\n" for line in made]


def fingerprint(log: TrainingLog) -> str:
    """Everything that was read, for comparison; NaN equals NaN."""
    curves = {name: (log.steps_of(c).tolist(), c.values.tolist()) for name, c in sorted(log.curves.items())}
    rest = (log.step.tolist(), log.epoch.tolist(), log.time.tolist(), log.records, log.lines, sorted(log.keys))
    said = [(m.id, m.line, m.row, m.count) for m in log.messages]
    return repr((curves, rest, said, log.restarts, log.problem, sorted((k, str(v)) for k, v in log.settings.items())))


@pytest.mark.parametrize("kind", [kind for kind in SENTENCES if kind not in DEPENDENT])
def test_noise_changes_no_curve(tmp_path: Path, kind: str) -> None:
    dice = random.Random(kind)
    rows = lines_of(kind, 400)
    (tmp_path / "clean.txt").write_text("".join(rows))
    clean = read_log([tmp_path / "clean.txt"], remembered=())
    assert len(clean.curves["loss"]) == 400
    for share in (0.1, 0.5, 3.0):
        text = []
        for row in rows:
            while dice.random() < share / (1 + share):
                noise = dice.choice(NOISE).format(n=dice.randrange(100, 999), d=dice.randrange(1, 9))
                text.append(noise + "\n")
            text.append(row)
        (tmp_path / "noisy.txt").write_text("".join(text))
        noisy = read_log([tmp_path / "noisy.txt"], remembered=())
        for name in ("loss", "learning_rate", "grad_norm", "eval_loss"):
            assert (name in noisy.curves) == (name in clean.curves), (name, share)
            if name in clean.curves:
                assert noisy.curves[name].values.tolist() == clean.curves[name].values.tolist(), (name, share)
                assert noisy.steps_of(noisy.curves[name]).tolist() == clean.steps_of(clean.curves[name]).tolist()
        assert noisy.records == clean.records


def mixed(dice: random.Random, count: int) -> str:
    """Several kinds of lines, noise, colours, carriage returns, NaN, Chinese: what one file may hold at worst."""
    kinds = dice.sample([k for k in SENTENCES if k not in HEADS], 3)
    out = []
    for n in range(1, count):
        loss = dice.choice(["nan", "inf"]) if dice.random() < 0.02 else str(round(3 - n / 1000, 4))
        line = SENTENCES[dice.choice(kinds)].format(n=n, loss=loss)
        if "E+00" in line and not loss[0].isdigit():
            continue
        if dice.random() < 0.1:
            line = f"\x1b[3{dice.randrange(8)}m{line.strip()}\x1b[0m\n"
        out.append(line if line.endswith("\n") or dice.random() < 0.5 else line + "\n")
        while dice.random() < 0.5:
            out.append(
                dice.choice(NOISE).format(n=dice.randrange(100, 999), d=dice.randrange(1, 9))
                + dice.choice(["\n", "\r\n", "\r"])
            )
        if dice.random() < 0.01:
            out.append(
                "Epoch 3/5\nRunning evaluation\nloss: 2.75\n"
                if dice.random() < 0.5
                else "{'loss': 2.5,\n 'grad_norm': 0.5}\n"
            )
    return "".join(out) + "\n"


def pieces(data: bytes, cuts: Sequence[int]) -> TrainingLog:
    reader, raw, at = LogReader("x"), RawText(), 0
    reader.name_file(Path("x"))
    for cut in [*cuts, len(data)]:
        reader.feed(data[at:cut], raw)
        at = cut
    reader.feed(b"", raw, last=True)
    return reader.log()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "gb18030"])
def test_pieces_give_what_one_read_gives(seed: int, encoding: str) -> None:
    dice = random.Random(seed)
    data = mixed(dice, 500).encode(encoding, errors="replace")
    whole = fingerprint(pieces(data, []))
    for count in (1, 7, 100):
        cuts = sorted(dice.randrange(len(data)) for _ in range(count))
        assert fingerprint(pieces(data, cuts)) == whole
    one_by_one = data[:2500]
    assert fingerprint(pieces(one_by_one, range(1, len(one_by_one)))) == fingerprint(pieces(one_by_one, []))


@pytest.mark.parametrize("seed", range(6))
def test_forms_give_what_single_lines_give(seed: int) -> None:
    """The quick way against the slow one, which never learns a form."""
    data = mixed(random.Random(seed + 100), 1500).encode()
    slow, raw = LogReader("x"), RawText()
    slow.name_file(Path("x"))
    slow._text._forms._add = lambda form: None  # type: ignore[method-assign]
    slow._text._json_lines = lambda block: False  # type: ignore[method-assign]
    slow.feed(data, raw)
    slow.feed(b"", raw, last=True)
    assert fingerprint(slow.log()) == fingerprint(pieces(data, []))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "gb18030"])
@pytest.mark.parametrize("seed", range(3))
def test_following_gives_what_one_read_gives(tmp_path: Path, seed: int, encoding: str) -> None:
    dice = random.Random(seed)
    data = mixed(dice, 900).encode(encoding, errors="replace")
    path = tmp_path / "grows.log"
    follower = LogFollower([path])
    assert not follower.read_more() and follower.log().problem == "empty"
    at = 0
    for cut in [*sorted(dice.randrange(len(data)) for _ in range(25)), len(data)]:
        with open(path, "ab") as file:
            file.write(data[at:cut])
        assert follower.read_more() == (cut > at)
        assert not follower.read_more()
        at = cut
        if dice.random() < 0.3:
            follower.log()
    assert fingerprint(follower.log()) == fingerprint(read_log([path], remembered=()))
    assert fingerprint(follower.log(ended=True)) == fingerprint(read_log([path], remembered=()))


# --- mutations of sound files ---

STATE = (
    b'{"global_step": 30, "log_history": [{"step": 10, "loss": 2.5, "epoch": 0.1}, {"step": 20, "loss": NaN, "epoch": 0.2},'
    b'\n {"step": 30, "eval_loss": 2.75, "epoch": 0.3, "deep": {"a": [1, {"b": null}]}}], "max_steps": 100}'
)
TABLE = b'step,train/loss,eval/loss,note\n1,2.5,,a\n2,2.25,2.75,"b, c"\n3,nan,inf,d\n'
PARTS = (
    b"{", b"}", b"[", b"]", b"'", b'"', b":", b",", b"|", b"\t", b"\0", b"\x1b[", b"\r", b"\n", b"nan", b"-inf", b"1e999",
    b"9" * 400, b"-", b"%", b"\xff\xfe", b"\xef\xbb\xbf", b"\x1f\x8b", b"loss", b"step", b"{'a':" * 50, b"[" * 200, b"(" * 200,
    b"\xe6\x8d\x9f", b"  " * 100, b"100%|", b"] ", b"/", b"2026-99-99 99:99:99", b"\\u0000", b"eval_", b"None", b"np.float64(",
)  # fmt: skip


def samples() -> list[bytes]:
    texts = [(HEADS.get(kind, "") + "".join(lines_of(kind, 30))).encode() for kind in SENTENCES]
    events = event_file([(n, tag, 2.5) for n in range(20) for tag in ("train/loss", "eval/loss")])
    noisy = "".join(NOISE[n % len(NOISE)].format(n=n, d=n % 9) + "\n" for n in range(100)).encode()
    return [
        *texts,
        STATE,
        TABLE,
        events,
        noisy,
        texts[0].decode().encode("utf-16"),
        mixed(random.Random(0), 200).encode(),
    ]


def mutated(dice: random.Random, known: Sequence[bytes]) -> bytes:
    data = bytearray(dice.choice(known))
    for _ in range(dice.randrange(1, 12)):
        size = len(data)
        at = dice.randrange(size + 1)
        end = min(size, at + int(dice.expovariate(1 / 40)))
        choice = dice.randrange(8)
        if choice == 0:
            del data[at:end]
        elif choice == 1:
            data[at:at] = dice.choice(PARTS) * dice.choice([1, 1, 1, 3, 100])
        elif choice == 2:
            data[at:at] = data[at:end] * dice.choice([1, 2, 30])
        elif choice == 3 and size:
            data[at - 1 if at else 0] ^= 1 << dice.randrange(8)
        elif choice == 4:
            other = dice.choice(known)
            start = dice.randrange(len(other) + 1)
            data[at:at] = other[start : start + dice.randrange(2000)]
        elif choice == 5:
            data[at:end] = dice.randbytes(end - at)
        elif choice == 6:
            del data[at:]
        else:
            data[at:end] = str(dice.choice([0, -1, 1e300, 10**30, 2**63, 1e-320, 0.1])).encode()
        if len(data) > 200_000:
            del data[200_000:]
    return bytes(data)


def test_mutations_break_nothing(tmp_path: Path) -> None:
    """No reader may raise, hang, or take memory beyond reason, whatever stands in a file."""
    seed = int(os.environ.get("LOG_FUZZ_SEED", "1"))
    known = samples()
    path = tmp_path / "mutated"
    ends = time.monotonic() + FUZZ_SECONDS
    tracemalloc.start()
    try:
        while time.monotonic() < ends:
            data = mutated(random.Random(seed), known)
            path.write_bytes(data)
            started = time.monotonic()
            tracemalloc.reset_peak()
            try:
                log = read_log([path], remembered=())
                assert log.problem is not None or log.curves
                for curve in log.curves.values():
                    assert len(curve.rows) == len(curve.values) <= len(log.step)
                    assert not len(curve) or 0 <= curve.rows.min() <= curve.rows.max() < len(log.step)
            except Exception as broken:
                raise AssertionError(f"LOG_FUZZ_SEED={seed}: {broken!r}") from broken
            took, peak = time.monotonic() - started, tracemalloc.get_traced_memory()[1]
            assert took < 15, f"LOG_FUZZ_SEED={seed} took {took:.1f} s"
            assert peak < 60 * 2**20 + 100 * len(data), f"LOG_FUZZ_SEED={seed} took {peak / 2**20:.0f} MiB"
            seed += 1
    finally:
        tracemalloc.stop()
