"""Long logs are matched by two processes; what is read is the same."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from pipeline.logs import form_worker, read_log
from pipeline.logs.training_log import TrainingLog


def write_long(path: Path) -> Path:
    """Lines of several forms, bars, records cut in two, and lines that say nothing, 4 MB."""
    rng = random.Random(7)
    lines = ["***** Running training *****", "  Num Epochs = 3", "  Total optimization steps = 60,000"]
    for step in range(1, 30_001):
        loss = 0.9 + 2 / (1 + step / 500) + rng.gauss(0, 0.02)
        lines.append(f"{{'loss': {loss:.4f}, 'grad_norm': {rng.random():.6f}, 'learning_rate': {1e-5 * (1 - step / 6e4):.3e}, 'epoch': {step / 2e4:.4f}}}")
        if step % 7 == 0:
            lines.append(f"  {step // 600}%|##        | {step}/60000 [00:10<10:00,  9.00it/s]")
        if step % 500 == 0:
            lines.append(f"{{'eval_loss': {loss + 0.05:.4f}, 'eval_runtime': 3.2, 'epoch': {step / 2e4:.4f}}}")
        if step % 911 == 0:
            lines += ["{'loss': nan, 'grad_norm': nan,", " 'learning_rate': 1e-5, 'epoch': 0.1}", f"Saving model checkpoint to out/checkpoint-{step}"]
    path.write_text("\n".join(lines) + "\n")
    return path


def same(one: TrainingLog, other: TrainingLog) -> None:
    assert one.curves.keys() == other.curves.keys() and one.settings == other.settings
    assert (one.records, one.lines, one.steps_known) == (other.records, other.lines, other.steps_known)
    np.testing.assert_array_equal(one.step, other.step)
    for name, curve in one.curves.items():
        np.testing.assert_array_equal(curve.rows, other.curves[name].rows)
        np.testing.assert_array_equal(curve.values, other.curves[name].values)


def test_two_processes_read_what_one_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_long(tmp_path / "train.log")
    alone = read_log.read_log([path], remembered=())
    assert len(alone.curves["loss"]) > 30_000 and len(alone.curves["eval_loss"]) == 60
    monkeypatch.setattr(read_log, "worth_a_worker", lambda size: True)
    answers = []
    take = form_worker.FormWorker.take
    monkeypatch.setattr(form_worker.FormWorker, "take", lambda *args: answers.append(take(*args)) or answers[-1])
    same(read_log.read_log([path], remembered=()), alone)
    assert sum(a is not None for a in answers) > 3, "the other process did nothing"


def test_a_worker_that_dies_is_no_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_long(tmp_path / "train.log")
    alone = read_log.read_log([path], remembered=())
    monkeypatch.setattr(read_log, "worth_a_worker", lambda size: True)
    send = form_worker.FormWorker.send
    sent = []

    def dying(worker: form_worker.FormWorker, *args: object) -> None:
        send(worker, *args)
        sent.append(1)
        if len(sent) == 3:
            worker._process.kill()

    monkeypatch.setattr(form_worker.FormWorker, "send", dying)
    same(read_log.read_log([path], remembered=()), alone)
    assert len(sent) >= 3
