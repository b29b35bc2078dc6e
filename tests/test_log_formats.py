"""Each kind of log gives the curves that stand in it, whatever its name."""

from __future__ import annotations

import gzip
import json
import math
import struct
import zlib
from pathlib import Path

import pytest

from pipeline.logs.read_log import read_log
from pipeline.logs.training_log import TrainingLog


def read(folder: Path, text: str | bytes, name: str = "run.txt") -> TrainingLog:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_log([path], remembered=())


def values(log: TrainingLog, name: str) -> list[float]:
    return log.curves[name].values.tolist()


def steps(log: TrainingLog, name: str = "loss") -> list[float]:
    return log.steps_of(log.curves[name]).tolist()


# --- lines of text: each sample holds losses 2.5, 2.25, 2.0 and nothing else as a loss ---

LOSSES = [2.5, 2.25, 2.0]
BAR = " 10%|█         | {n}/100 [00:0{n}<01:30,  1.02it/s]"
SENTENCES = {
    "a sentence": "epoch 1, step {n}, training loss: {loss}\n",
    "with a time": "2026-03-01 10:00:0{n} INFO epoch 1, step {n}, training loss: {loss}, lr: 1e-05\n",
    "dict, bare": "{{'loss': {loss}, 'grad_norm': 0.5, 'learning_rate': 1e-05, 'epoch': 0.{n}, 'step': {n}}}\n",
    "dict, quoted": "{{'loss': '{loss}', 'grad_norm': '0.5', 'learning_rate': '1e-05', 'epoch': '0.{n}', 'step': {n}}}\n",
    "dict, numpy": "{{'loss': np.float64({loss}), 'grad_norm': np.float32(0.5), 'epoch': 0.{n}, 'step': {n}}}\n",
    "dict, tensor": "{{'loss': tensor({loss}), 'epoch': 0.{n}, 'step': {n}}}\n",
    "axolotl": "{{'loss': {loss}, 'grad_norm': 0.5, 'learning_rate': 1e-05, 'memory/max_mem_active(gib)': 20.5, 'epoch': 0.{n}, 'step': {n}}}\n",
    "nanoGPT": "iter {n}: loss {loss}, time 133.21ms, mfu 29.88%\n",
    "Megatron-LM": " iteration        {n}/    1000 | consumed samples:          640 | elapsed time per iteration (ms): 1234.5 | "
    "learning rate: 1.500000E-05 | global batch size:    64 | lm loss: {loss}E+00 | loss scale: 1.0 | grad norm: 0.500 | "
    "number of skipped iterations:   0 | number of nan iterations:   0 |\n",
    "Megatron-LM with a time": " [2026-03-01 10:00:0{n}] iteration        {n}/    1000 | consumed samples:          640 | "
    "lm loss: {loss}E+00 | grad norm: 0.500 |\n",
    "XTuner": "03/01 10:00:0{n} - mmengine - INFO - Iter(train) [  {n}/1000]  lr: 2.0000e-05  eta: 1:02:03  time: 1.5000  "
    "data_time: 0.0100  memory: 12345  loss: {loss}\n",
    "torchtune": "Step {n} | loss:{loss} lr:2e-05 tokens_per_second_per_gpu:1234.5 grad_norm:0.5 \n",
    "verl": "step:{n} - actor/pg_loss:{loss} - actor/grad_norm:0.500 - critic/score/mean:0.250 - timing_s/gen:12.5\n",
    "fairseq": '2026-03-01 10:00:0{n} | INFO | train_inner | {{"epoch": 1, "update": 0.{n}, "loss": "{loss}", "ppl": "5.7", '
    '"num_updates": "{n}", "lr": "1e-05", "gnorm": "0.5"}}\n',
    "Chinese": "第1轮 第{n}步 训练损失: {loss}\n",
    "Chinese, colon": "轮次：1，步数：{n}，损失：{loss}\n",
    "ChatLM-mini-Chinese": "epoch: 1, step: {n}, loss: {loss}, lr: 1e-05\n",
    "MiniMind": "Epoch:[1/3]({n}/9781), loss: {loss}, lr: 0.0001, epoch_time: 27.0min\n",
    "a rank in front": "[rank0]: step {n}: loss={loss}\n",
    "equals signs": "step={n} loss={loss} lr=1e-05\n",
    "JSON lines": '{{"step": {n}, "loss": {loss}, "lr": 1e-05}}\n',
    "LLaMA-Factory": '{{"current_steps": {n}, "total_steps": 100, "loss": {loss}, "lr": 1e-05, "epoch": 0.{n}, '
    '"percentage": {n}.0, "elapsed_time": "0:00:0{n}", "remaining_time": "0:01:30"}}\n',
    "ms-swift": '{{"loss": {loss}, "acc": 0.5, "grad_norm": 0.5, "learning_rate": 1e-05, "memory(GiB)": 12.3, '
    '"train_speed(iter/s)": 0.5, "epoch": 0.{n}, "global_step/max_steps": "{n}/100", "percentage": "{n}.00%", '
    '"elapsed_time": "{n}s", "remaining_time": "1m 30s"}}\n',
    "ms-swift console": "{{'loss': {loss}, 'acc': 0.5, 'grad_norm': 0.5, 'learning_rate': 1e-05, 'memory(GiB)': 12.3, "
    "'train_speed(iter/s)': 0.5, 'epoch': 0.{n}, 'global_step/max_steps': '{n}/100', 'percentage': '{n}.00%', "
    "'elapsed_time': '{n}s', 'remaining_time': '1m 30s'}}\n",
    "bar and dict": "\r" + BAR + "\r" + BAR + "{{'loss': {loss}, 'grad_norm': 0.5, 'epoch': 0.{n}}}\n",
    "bar with values": "\rEpoch 1:" + BAR[:-1] + ", loss={loss}, v_num=0]",
    "Lightning": "\rEpoch 0:  10%|█         | {n}/100 [00:0{n}<01:30,  1.02it/s, v_num=0, train_loss={loss}]",
    "Keras": "\r {n}/100 [==>...........................] - ETA: 1:30 - loss: {loss} - accuracy: 0.5000",
    "colours": "\x1b[32mINFO\x1b[0m step \x1b[1m{n}\x1b[0m: loss \x1b[36m{loss}\x1b[0m\n",
    "unsloth, tabs": "{n}\t{loss}\n",
    "unsloth, spaces": "{n}   {loss}\n",
    "unsloth, Markdown": "| {n} | {loss} |\n",
    "ColossalAI": "Epoch 1/3: 10%|█ | {n}/100 [00:0{n}<01:30,  1.02it/s, loss={loss}]\n",
    "OpenRLHF": "Train step of epoch 1:  10%|█ | {n}/100 [00:0{n}<01:30,  1.02s/it, gpt_loss={loss}, loss_mean=2.3, lr=1e-5]\n",
    "DeepSpeed": "steps: {n} loss: {loss} iter time (s): 0.512 samples/sec: 62.5\n",
    "DeepSpeed log_dist": "[2026-03-01 10:00:0{n},123] [INFO] [logging.py:96:log_dist] [Rank 0] step={n}, skipped=0, lr=[1e-05], "
    "mom=[(0.9, 0.95)]\nstep {n}, loss {loss}\n",
}
HEADS = {
    "unsloth, tabs": "Step\tTraining Loss\n",
    "unsloth, spaces": "Step   Training Loss\n",
    "unsloth, Markdown": "| Step | Training Loss |\n|------|------|\n",
}


def sample(kind: str, losses: list[str]) -> str:
    lines = [SENTENCES[kind].format(n=n, loss=loss) for n, loss in enumerate(losses, 1)]
    return HEADS.get(kind, "") + "".join(lines) + ("" if lines[-1].endswith("\n") else "\n")


@pytest.mark.parametrize("kind", SENTENCES)
def test_line(tmp_path: Path, kind: str) -> None:
    log = read(tmp_path, sample(kind, [str(loss) for loss in LOSSES]))
    assert values(log, "loss") == LOSSES
    assert steps(log) == [1.0, 2.0, 3.0] and log.steps_known
    assert log.records == 3, log.records


@pytest.mark.parametrize("kind", SENTENCES)
def test_line_with_nan(tmp_path: Path, kind: str) -> None:
    if kind == "Megatron-LM" or kind.startswith("Megatron"):
        pytest.skip("the exponent is part of the sample")
    log = read(tmp_path, sample(kind, ["2.5", "nan", "2.0"]))
    found = values(log, "loss")
    assert len(found) == 3 and math.isnan(found[1]) and found[2] == 2.0


@pytest.mark.parametrize("kind", SENTENCES)
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "gb18030"])
def test_encodings_and_compression(tmp_path: Path, kind: str, encoding: str) -> None:
    text = sample(kind, [str(loss) for loss in LOSSES])
    data = text.replace("█", "#").encode(encoding, errors="replace")
    assert values(read(tmp_path, data), "loss") == LOSSES
    assert values(read(tmp_path, gzip.compress(data), "run.log.gz"), "loss") == LOSSES
    assert values(read(tmp_path, text.replace("\n", "\r\n").encode()), "loss") == LOSSES


@pytest.mark.parametrize("kind", SENTENCES)
def test_long_logs_are_read_like_short_ones(tmp_path: Path, kind: str) -> None:
    """Beyond the first lines forms are matched, which must give the same numbers."""
    if kind in ("bar and dict",):
        pytest.skip("its steps come from the bar, of one digit in this sample")
    losses = [round(3 - n / 1000, 3) for n in range(1, 801)]
    lines = [SENTENCES[kind].format(n=n, loss=loss) for n, loss in enumerate(losses, 1)]
    log = read(tmp_path, HEADS.get(kind, "") + "".join(lines) + "\n")
    assert values(log, "loss") == losses
    assert steps(log) == list(range(1, 801))


# --- evaluation told apart ---


@pytest.mark.parametrize(
    "line",
    [
        "step {n}: train loss 2.5, val loss 2.75\n",
        "Epoch 1, step {n}, eval_loss: 2.75\n",
        "{{'eval_loss': 2.75, 'eval_runtime': 1.5, 'eval_samples_per_second': 10.0, 'epoch': 0.{n}, 'step': {n}}}\n",
        "[eval] step {n} loss: 2.75\n",
        "step {n} validation loss = 2.75\n",
        "第{n}步 验证损失: 2.75\n",
        '{{"step": {n}, "eval/loss": 2.75}}\n',
        "step {n} | valid loss 2.75 | valid ppl 15.6\n",
    ],
)
def test_evaluation(tmp_path: Path, line: str) -> None:
    text = "".join(f"step {n}, loss: 2.5\n" + (line.format(n=n) if n % 2 == 0 else "") for n in range(1, 9))
    log = read(tmp_path, text)
    assert values(log, "eval_loss") == [2.75] * 4
    assert steps(log, "eval_loss") == [2.0, 4.0, 6.0, 8.0]
    assert set(values(log, "loss")) == {2.5} and len(values(log, "loss")) == 8


def test_speeds_and_summaries_are_no_metrics(tmp_path: Path) -> None:
    text = "".join(f"{{'loss': 2.{n}, 'learning_rate': 1e-05, 'epoch': 0.{n}}}\n" for n in range(5))
    text += "{'eval_loss': 2.5, 'eval_runtime': 1.5, 'eval_samples_per_second': 10.0, 'eval_steps_per_second': 2.0, 'epoch': 0.5}\n"
    text += "{'train_runtime': 100.0, 'train_samples_per_second': 1.0, 'train_steps_per_second': 0.1, 'train_loss': 2.2, 'epoch': 0.5}\n"
    log = read(tmp_path, text)
    assert set(log.curves) == {"loss", "learning_rate", "eval_loss"}
    assert log.settings["mean_train_loss"] == 2.2 and log.records == 7


def test_closing_block_is_no_step(tmp_path: Path) -> None:
    text = "".join(f"{{'loss': 2.{n}, 'learning_rate': 1e-05, 'epoch': 0.{n}}}\n" for n in range(5))
    text += "***** train metrics *****\n  epoch                    =        0.5\n"
    text += "  train_loss               =     0.1985\n  train_runtime            = 0:21:13.92\n"
    log = read(tmp_path, text)
    assert values(log, "loss") == [2.0, 2.1, 2.2, 2.3, 2.4] and log.records == 5
    assert log.settings["mean_train_loss"] == 0.1985
    own = "".join(f"epoch {n}\ntrain_loss = 2.{n}\n" for n in range(1, 6))
    assert values(read(tmp_path, own), "loss") == [2.1, 2.2, 2.3, 2.4, 2.5]


def test_unsloth_table(tmp_path: Path) -> None:
    for lines in (
        "Step\tTraining Loss\tValidation Loss\n10\t2.5\t2.75\n20\t2.25\t2.5\n30\t2.0\tNo log\n",
        "Step Training Loss Validation Loss\n10 2.5 2.75\n20 2.25 2.5\n",
        "| Step | Training Loss | Validation Loss |\n|---:|---:|---:|\n| 10 | 2.5 | 2.75 |\n| 20 | 2.25 | 2.5 |\n",
    ):
        log = read(tmp_path, "some words before\n" + lines + "and after, 12 of them\n")
        assert values(log, "loss")[:2] == [2.5, 2.25] and values(log, "eval_loss") == [2.75, 2.5], lines
        assert steps(log)[:2] == [10.0, 20.0]


# --- files of one format ---


def test_trainer_state(tmp_path: Path) -> None:
    history = [{"epoch": n / 10, "loss": 2.5 - n / 10, "step": n * 10, "learning_rate": 1e-5} for n in range(5)]
    history.append({"epoch": 0.5, "eval_loss": 2.75, "eval_runtime": 1.0, "step": 50})
    state = {"best_metric": None, "global_step": 50, "max_steps": 100, "log_history": history}
    for text in (json.dumps(state), json.dumps(state, indent=2)):
        log = read(tmp_path, text, "state")
        assert log.formats == ("trainer_state",) and log.records == 6 and log.max_steps == 100
        assert len(values(log, "loss")) == 5 and values(log, "eval_loss") == [2.75]
    folder = tmp_path / "run" / "checkpoint-50"
    folder.mkdir(parents=True)
    (folder / "trainer_state.json").write_text(json.dumps(state))
    assert read_log([tmp_path / "run"]).records == 6


def test_large_document_on_one_line(tmp_path: Path) -> None:
    history = [{"epoch": n / 10, "loss": 2.5, "step": n, "note": "x" * 50} for n in range(30_000)]
    log = read(tmp_path, json.dumps({"log_history": history}))
    assert len(values(log, "loss")) == 30_000


@pytest.mark.parametrize(
    "document",
    [
        [{"step": 1, "loss": 2.5}, {"step": 2, "loss": 2.25}],
        {"loss": [2.5, 2.25], "step": [1, 2]},
        {"train": {"loss": [2.5, 2.25], "step": [1, 2]}},
        {"history": [{"step": 1, "loss": 2.5}, {"step": 2, "loss": 2.25}]},
    ],
)
def test_other_documents(tmp_path: Path, document: object) -> None:
    log = read(tmp_path, json.dumps(document))
    assert values(log, "loss") == [2.5, 2.25] and steps(log) == [1.0, 2.0]


@pytest.mark.parametrize(
    "table",
    [
        "step,loss\n1,2.5\n2,2.25\n",
        "Step;Loss\n1;2.5\n2;2.25\n",
        "step\tloss\n1\t2.5\n2\t2.25\n",
        '"Step","run-1 - train/loss","run-1 - train/loss__MIN","run-1 - train/loss__MAX"\n1,2.5,2.5,2.5\n2,2.25,2.25,2.25\n',
        "Wall time,Step,Value\n1700000000.0,1,2.5\n1700000001.0,2,2.25\n",
        "step,metric,value\n1,train/loss,2.5\n2,train/loss,2.25\n",
        "_runtime,_timestamp,_step,train/loss,train/epoch\n1.0,1700000000,1,2.5,0.1\n2.0,1700000001,2,2.25,0.2\n",
        "epoch,step,train_loss,val_loss\n0,1,2.5,\n0,2,2.25,\n",
    ],
)
def test_tables(tmp_path: Path, table: str) -> None:
    log = read(tmp_path, table, "train_loss.csv")
    assert values(log, "loss") == [2.5, 2.25] and steps(log) == [1.0, 2.0]


def _varint(number: int) -> bytes:
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


def _field(number: int, value: bytes | float | int, kind: int) -> bytes:
    key = _varint(number << 3 | kind)
    if kind == 0:
        return key + _varint(int(value))  # type: ignore[arg-type]
    if kind == 1:
        return key + struct.pack("<d", value)
    if kind == 5:
        return key + struct.pack("<f", value)
    assert isinstance(value, bytes)
    return key + _varint(len(value)) + value


def event_file(points: list[tuple[int, str, float]]) -> bytes:
    """An event file as TensorBoard writes it; its checksums are not looked at."""
    events = [_field(1, 1.7e9, 1) + _field(3, b"brain.Event:2", 2)]
    for step, tag, value in points:
        summary = _field(1, _field(1, tag.encode(), 2) + _field(2, value, 5), 2)
        events.append(_field(1, 1.7e9 + step, 1) + _field(2, step, 0) + _field(5, summary, 2))
    made = b""
    for event in events:
        length = struct.pack("<Q", len(event))
        made += length + struct.pack("<I", zlib.crc32(length)) + event + struct.pack("<I", zlib.crc32(event))
    return made


def test_event_files(tmp_path: Path) -> None:
    points = [(1, "train/loss", 2.5), (1, "train/learning_rate", 1e-5), (2, "train/loss", 2.25), (2, "eval/loss", 2.75)]
    points += [(2, "eval/runtime", 1.0), (2, "train/total_flos", 1e15)]
    log = read(tmp_path, event_file(points), "anything")
    assert log.formats == ("tensorboard",)
    assert values(log, "loss") == [2.5, 2.25] and values(log, "eval_loss") == [2.75] and steps(log) == [1.0, 2.0]
    assert set(log.curves) == {"loss", "learning_rate", "eval_loss"}
    cut = event_file(points)[:-7]
    assert values(read(tmp_path, cut, "cut"), "loss") == [2.5, 2.25]


# --- several files, ranks, restarts ---


def test_files_of_one_run_join_in_order(tmp_path: Path) -> None:
    for number in (10, 2, 1):
        text = "".join(f"step {number * 10 + n}, loss: {number}.{n}\n" for n in range(3))
        (tmp_path / f"trainer_{number}.log").write_text(text)
    log = read_log([str(tmp_path / "trainer_*.log")], remembered=())
    assert values(log, "loss") == [1.0, 1.1, 1.2, 2.0, 2.1, 2.2, 10.0, 10.1, 10.2]
    assert len(log.files) == 3 and not log.restarts


def test_ranks_in_one_file(tmp_path: Path) -> None:
    lines = [f"[rank{rank}] step {n}, loss: {n + rank / 4}\n" for n in range(1, 30) for rank in (1, 0, 3, 2)]
    log = read(tmp_path, "".join(lines))
    assert values(log, "loss") == [n + 0.375 for n in range(1, 30)] and not log.restarts
    late = lines[:]
    late[20], late[25] = late[25], late[20]
    assert values(read(tmp_path, "".join(late)), "loss") == values(log, "loss")


def test_restart(tmp_path: Path) -> None:
    first = [f"step {n}, loss: {3 - n / 100}\n" for n in range(1, 101)]
    second = [f"step {n}, loss: {2.5 - n / 100}\n" for n in range(81, 161)]
    log = read(tmp_path, "".join(first + ["resuming\n"] + second))
    assert steps(log) == list(range(1, 161))
    (restart,) = log.restarts
    assert (restart.step_before, restart.step, restart.dropped) == (100, 81, 20)
    assert values(log, "loss")[79:82] == [3 - 80 / 100, 2.5 - 81 / 100, 2.5 - 82 / 100]


def test_duplicated_steps_become_one(tmp_path: Path) -> None:
    log = read(tmp_path, "".join(f"step {n}, loss: {n}\n" * 2 for n in range(1, 6)))
    assert steps(log) == [1, 2, 3, 4, 5] and values(log, "loss") == [1, 2, 3, 4, 5]


# --- what looks like a metric and is none ---


@pytest.mark.parametrize(
    "line",
    [
        "[2026-03-01 00:29:01,871] [INFO] [config.py:1000:print]   loss_scale ................... 1.0",
        "[2026-03-01 00:29:01,871] [INFO] [config.py:1000:print]   gradient_clipping ............ 1.0",
        '    "steps_per_print": 10, ',
        '    "loss_scale": 0, ',
        '        "initial_scale_power": 16,',
        "[2026-03-01 00:29:01,869] [INFO] [logging.py:96:log_dist] [Rank 0] step=0, skipped=0, lr=[0.0], mom=[(0.9, 0.999)]",
        "learning_rate: 1e-06",
        "  max_grad_norm: 1.0",
        "loaded 3 files in 2.5 s",
        "the loss function is mse",
        "Using loss_type sigmoid with beta 0.1",
        "best loss so far: 1.5",
        "Model size: 124.4M parameters, loss over 50257 classes",
        "wandb:  train/loss ▇▅▃▁",
        "Downloading model.safetensors: 100%|██████████| 548M/548M [00:10<00:00, 52.3MB/s]",
        "Map: 100%|##########| 1000/1000 [00:01<00:00, 900.12 examples/s]",
        "Loss:  10%|█         | 7/100 [00:07<01:30,  1.02it/s]",
        '  File "/usr/lib/python3.11/site-packages/torch/nn/modules/loss.py", line 1179, in forward',
        "Training loss curve saved to output/training_loss.png",
        "eval every 100 steps, 3 epochs",
        "per_device_train_batch_size=8, gradient_accumulation_steps=4, learning_rate=1e-05, reward_model=None",
        "UserWarning: lr_scheduler.step() was called before optimizer.step(), 1 time",
    ],
)
def test_lines_that_are_no_rows(tmp_path: Path, line: str) -> None:
    text = "".join(f"step {n}, loss: 2.5\n{line}\n" for n in range(1, 31))
    log = read(tmp_path, text)
    assert values(log, "loss") == [2.5] * 30 and steps(log) == list(range(1, 31))
    assert log.records == 30
    assert set(log.curves) <= {"loss", "learning_rate", "skipped_steps"}
    assert read(tmp_path, f"{line}\n" * 3).problem == "no_metrics" or "lr=[" in line


def test_names_that_were_found_are_told(tmp_path: Path) -> None:
    log = read(tmp_path, '{"step": 1, "objective_a": 2.5}\n{"step": 2, "objective_a": 2.25}\n')
    assert "objective_a" in log.keys and not {"loss", "eval_loss"} & set(log.curves)
