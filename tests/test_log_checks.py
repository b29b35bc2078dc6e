"""What a log of supervised training says: each fault once as it looks in reality, and its sound neighbours quiet."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diagnostics.diagnose_log import diagnose_log
from diagnostics.report import Report

Values = Sequence[float]


def fall(start: float, end: float, n: int, *, noise: float = 0.02, tau: float = 0.15, seed: int = 0) -> np.ndarray:
    """A loss as it usually falls: fast at first, noisy all along."""
    x = np.linspace(0, 1, n)
    curve = end + (start - end) * (np.exp(-x / tau) - math.exp(-1 / tau)) / (1 - math.exp(-1 / tau))
    return curve * (1 + noise * np.random.default_rng(seed).standard_normal(n))


def cosine(peak: float, n: int, warm: int = 10) -> np.ndarray:
    up = peak * (np.arange(n) + 1) / warm
    down = peak * 0.5 * (1 + np.cos(np.pi * np.clip((np.arange(n) - warm) / max(1, n - warm - 1), 0, 1)))
    return np.where(np.arange(n) < warm, up, down)


def state(
    path: Path,
    losses: Values,
    *,
    evals: Values = (),
    rate: Values | None = None,
    norm: Values | None = None,
    every: int = 10,
    epochs: float = 2.0,
    planned: int | None = None,
    **more: Any,
) -> Path:
    """A trainer_state.json with these columns."""
    n = len(losses)
    rate = cosine(2e-5, n) if rate is None else rate
    history = []
    for k, loss in enumerate(losses):
        row = {
            "step": (k + 1) * every,
            "epoch": epochs * (k + 1) / n,
            "loss": float(loss),
            "learning_rate": float(rate[k]),
        }
        row |= {"grad_norm": float(norm[k]) if norm is not None else 1.0 + 0.1 * math.sin(k)}
        history.append(row)
    for k, value in enumerate(evals):
        at = round((k + 1) * n / len(evals))
        history.append({"step": at * every, "epoch": epochs * at / n, "eval_loss": float(value), "eval_runtime": 3.0})
    history.sort(key=lambda r: r["step"])
    whole = {
        "global_step": n * every,
        "max_steps": planned or n * every,
        "num_train_epochs": round(epochs),
        "log_history": history,
        **more,
    }
    path.write_text(json.dumps(whole))
    return path


def text(report: Report) -> str:
    return "; ".join(f"{f.severity} {f.code}/{f.outcome}: {f.message}" for f in report.findings if f.severity != "ok")


def first_cause(report: Report) -> str:
    return report.causes[0].id if report.causes else report.verdict


SOUND: dict[str, Callable[[Path, int], Path]] = {
    "fine_tune": lambda p, s: state(p, fall(1.6, 1.05, 120, seed=s), evals=[1.2, 1.12, 1.09, 1.08]),
    "noisy_batches_of_one": lambda p, s: state(p, fall(1.6, 1.1, 300, noise=0.25, seed=s)),
    "short": lambda p, s: state(p, fall(1.9, 1.2, 15, noise=0.04, seed=s), every=1, epochs=3),
    "slightly_overfit": lambda p, s: state(p, fall(1.6, 0.8, 100, seed=s), evals=[1.2, 1.10, 1.11, 1.13], epochs=3),
    "pretraining": lambda p, s: state(p, fall(10.9, 3.1, 400, noise=0.02, tau=0.08, seed=s), epochs=1),
    "constant_rate": lambda p, s: state(p, fall(1.5, 1.0, 120, seed=s), rate=[2e-4] * 120, epochs=3),
    "epochs_in_steps": lambda p, s: state(p, np.concatenate([fall(1.5, 1.2, 60, seed=s), 1.0 * (1 + 0.02 * np.random.default_rng(s).standard_normal(60))]), epochs=2),
    "easy_task": lambda p, s: state(p, fall(2.0, 0.06, 100, noise=0.05, seed=s), evals=[0.09, 0.07, 0.06], epochs=1),
    "first_gradient_infinite": lambda p, s: state(p, fall(1.6, 1.05, 120, seed=s), norm=[float("inf")] * 3 + [1.0] * 117),
    "prefix_tuning": lambda p, s: state(p, fall(2.7, 1.2, 200, noise=0.05, seed=s), rate=np.linspace(2e-2, 0, 200), epochs=0.3),
    "one_bad_batch": lambda p, s: state(p, np.where(np.arange(300) == 200, 45.0, fall(1.6, 1.1, 300, noise=0.15, seed=s))),
    "two_spikes": lambda p, s: state(p, np.where(np.isin(np.arange(200), (60, 140)), 4.0, fall(1.6, 1.1, 200, seed=s))),
    "twenty_epochs_still_gaining": lambda p, s: state(p, fall(1.5, 0.45, 200, tau=0.3, seed=s), evals=[1.3, 1.1, 1.0, 0.97, 0.95, 0.94], epochs=20),
    "cosine_with_restarts": lambda p, s: state(p, fall(1.6, 1.05, 120, seed=s), rate=[*cosine(2e-5, 40), *cosine(2e-5, 40, 1), *cosine(2e-5, 40, 1)]),
    "continued": lambda p, s: state(p, fall(1.02, 1.005, 100, noise=0.02, seed=s)),
}  # fmt: skip


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", sorted(SOUND))
def test_sound_runs_raise_no_alarm(name: str, seed: int, tmp_path: Path) -> None:
    report = diagnose_log([SOUND[name](tmp_path / "trainer_state.json", seed)])
    assert report.verdict == "healthy" and not report.causes, text(report)


def _diverges(seed: int) -> np.ndarray:
    return np.concatenate(
        [
            fall(1.6, 1.1, 80, seed=seed),
            np.linspace(1.2, 7.5, 40) * (1 + 0.05 * np.random.default_rng(seed).standard_normal(40)),
        ]
    )


def _resumed(path: Path, seed: int, *, kept: bool) -> Path:
    """Steps up to 600, then again from 500: with the state restored, or without."""
    first = fall(2.0, 1.2, 60, seed=seed)
    again = fall(1.22 if kept else 1.75, 1.1, 50, seed=seed + 1, tau=0.3)
    rate = cosine(2e-5, 100)
    rows = [{"step": 10 * (k + 1), "loss": v, "learning_rate": rate[k]} for k, v in enumerate(first)]
    rows += [
        {"step": 510 + 10 * k, "loss": v, "learning_rate": rate[50 + k] if kept else cosine(2e-5, 50)[k]}
        for k, v in enumerate(again)
    ]
    path = path.with_name("train.jsonl")
    path.write_text("\n".join(json.dumps({k: float(v) for k, v in row.items()}) for row in rows))
    return path


def _summed(path: Path, seed: int) -> Path:
    """Sums over 8 batches, as the console shows them with the settings above."""
    path = path.with_name("train.log")
    head = "***** Running training *****\n  Num examples = 4,000\n  Gradient Accumulation steps = 8\n"
    path.write_text(head + "".join(f"{{'loss': {v:.4f}, 'epoch': {k / 60:.2f}}}\n" for k, v in enumerate(8 * fall(2.1, 1.4, 60, seed=seed), 1)))
    return path


FAULTS: dict[str, tuple[str, str, Callable[[Path, int], Path]]] = {
    "diverges": ("diverged", "LOG003", lambda p, s: state(p, _diverges(s))),
    "never_learns_and_rises": ("diverged", "LOG003", lambda p, s: state(p, fall(2.0, 6.0, 100, noise=0.05, seed=s))),
    "slow_divergence": ("diverged", "LOG003", lambda p, s: state(p, np.concatenate([fall(6.0, 3.3, 100, noise=0.01, seed=s), np.linspace(3.3, 3.65, 100)]), evals=[3.9, 3.5, 3.32, 3.31, 3.4, 3.5, 3.62])),
    "broke_in_the_first_steps": ("diverged", "LOG003", lambda p, s: state(p, [0.5, *fall(3.4, 1.9, 30, seed=s)], rate=[0.003] * 31)),
    "half_of_the_rows_cut": ("labels_all_masked", "LOG010", lambda p, s: state(p, np.where(np.arange(200) % 2, 0.0, fall(1.6, 1.0, 200, seed=s)), norm=np.where(np.arange(200) % 2, 0.0, 1.3))),
    "sum_without_evaluation": ("loss_scale_artifact", "LOG011", lambda p, s: _summed(p, s)),
    "left_behind": ("overtrained", "LOG008", lambda p, s: state(p, fall(9.8, 0.4, 40, tau=0.5, seed=s), evals=[9.9, 7.0, 6.3, 6.2, 6.15, 6.2, 6.3, 6.4], epochs=10)),
    "few_evaluations_rise": ("overtrained", "LOG007", lambda p, s: state(p, [0.27, 0.24, 0.15], evals=[0.428, 0.504, 0.689], epochs=3)),
    "blows_up_at_the_end": ("diverged", "LOG003", lambda p, s: state(p, [*fall(2.0, 1.2, 191, seed=s), *[7.5] * 9])),
    "nan_without_gradient": ("labels_all_masked", "LOG010", lambda p, s: state(p, [float("nan")] * 20, norm=[0.0] * 20)),
    "nan_from_the_middle": ("numeric_overflow", "LOG002", lambda p, s: state(p, [*fall(1.6, 1.2, 50, seed=s), *[float("nan")] * 50])),
    "zero_beside_nan": ("numeric_overflow", "LOG002", lambda p, s: state(p, [*fall(1.6, 1.2, 50, seed=s), *[0.0] * 50], norm=[1.0] * 50 + [float("nan")] * 50)),
    "all_masked": ("labels_all_masked", "LOG010", lambda p, s: state(p, [0.0] * 40, norm=[0.0] * 40)),
    "collapses_to_zero": ("numeric_overflow", "LOG010", lambda p, s: state(p, [*fall(1.6, 0.8, 50, seed=s), *[0.0] * 30])),
    "no_gradient": ("adapter_empty", "LOG013", lambda p, s: state(p, 1.6 + 0.02 * np.random.default_rng(s).standard_normal(60), norm=[0.0] * 60)),
    "rate_zero": ("learning_rate_misconfigured", "LOG009", lambda p, s: state(p, 1.6 + 0.02 * np.random.default_rng(s).standard_normal(60), rate=[0.0] * 60)),
    "endless_warm_up": ("learning_rate_misconfigured", "LOG009", lambda p, s: state(p, fall(2.2, 1.9, 80, tau=0.8, seed=s), rate=np.linspace(1e-8, 1e-6, 80))),
    "schedule_too_short": ("learning_rate_misconfigured", "LOG009", lambda p, s: state(p, fall(1.8, 1.2, 100, seed=s), rate=[*cosine(2e-5, 60), *[0.0] * 40])),
    "rate_of_nothing": ("learning_rate_misconfigured", "LOG009", lambda p, s: state(p, 1.9 + 0.02 * np.random.default_rng(s).standard_normal(80), rate=[1e-8] * 80)),
    "summed_loss": ("loss_scale_artifact", "LOG011", lambda p, s: state(p, 8 * fall(1.3, 0.9, 80, seed=s), evals=[1.05, 0.98, 0.94, 0.93])),
    "stopped_in_warm_up": ("undertrained", "LOG006", lambda p, s: state(p, fall(2.4, 2.3, 20, seed=s), every=1, planned=2000, rate=np.linspace(1e-7, 2e-6, 20), epochs=0.01)),
    "stopped_early": ("undertrained", "LOG006", lambda p, s: state(p, np.linspace(3.0, 2.0, 60) * (1 + 0.01 * np.random.default_rng(s).standard_normal(60)), planned=2000, rate=[2e-5] * 60, epochs=0.6)),
    "still_falling": ("undertrained", "LOG006", lambda p, s: state(p, np.linspace(3.2, 1.7, 80) * (1 + 0.01 * np.random.default_rng(s).standard_normal(80)), epochs=1)),
    "far_from_language": ("undertrained", "LOG006", lambda p, s: state(p, fall(10.5, 5.2, 100, seed=s), epochs=1)),
    "evaluation_rises": ("overtrained", "LOG007", lambda p, s: state(p, fall(1.5, 0.3, 120, tau=0.4, seed=s), evals=[1.1, 1.0, 1.05, 1.2, 1.35, 1.5], epochs=8)),
    "by_heart": ("overtrained", "LOG008", lambda p, s: state(p, fall(2.1, 0.04, 120, noise=0.1, seed=s), rate=[5e-4] * 120, epochs=20)),
    "resumed_without_state": ("resume_lost_state", "LOG012", lambda p, s: _resumed(p, s, kept=False)),
    "gradient_explodes": ("diverged", "LOG013", lambda p, s: state(p, np.concatenate([fall(1.6, 1.3, 60, seed=s), np.full(40, 1.32)]), norm=[*[0.8] * 60, *np.geomspace(1, 300, 40)])),
}  # fmt: skip


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", sorted(FAULTS))
def test_faults_are_named(name: str, seed: int, tmp_path: Path) -> None:
    cause, code, make = FAULTS[name]
    report = diagnose_log([make(tmp_path / "trainer_state.json", seed)])
    assert first_cause(report) == cause, text(report)
    assert code in report.causes[0].supporting, text(report)
    for finding in report.findings:
        if finding.severity in ("warning", "error"):
            assert isinstance(finding.params.get("from_step"), (int, float)), f"{finding.code} names no step"


@pytest.mark.parametrize("seed", range(3))
def test_a_restart_with_its_state_is_no_fault(seed: int, tmp_path: Path) -> None:
    report = diagnose_log([_resumed(tmp_path / "x", seed, kept=True)])
    assert report.verdict == "healthy", text(report)
    assert any(f.outcome == "restarted" for f in report.findings)


def test_one_late_step_turns_no_verdict(tmp_path: Path) -> None:
    losses = fall(1.6, 1.1, 120)
    losses[-1] = 6.0
    assert diagnose_log([state(tmp_path / "trainer_state.json", losses)]).verdict == "healthy"


def test_logs_of_few_values_are_not_judged(tmp_path: Path) -> None:
    report = diagnose_log([state(tmp_path / "trainer_state.json", [1.5, 1.4, 1.3], planned=30, epochs=3)])
    skipped = {s.code for s in report.skipped}
    assert {"LOG003", "LOG004", "LOG005", "LOG012"} <= skipped and report.verdict == "healthy", text(report)


def test_overflow_lines(tmp_path: Path) -> None:
    """Some twenty skipped steps at the start are how a loss scale is found; thousands are a run without training."""
    line = "[2024-09-11 17:52:18,030] [INFO] [loss_scaler.py:183:update_scale] [deepspeed] OVERFLOW! Rank 0 Skipping step. Attempted loss scale: {0}, reducing to {1}\n"
    step = "[2024-09-11 17:53:18,030] [INFO] [logging.py:96:log_dist] [Rank 0] step={0}, skipped={1}, lr=[1e-05], mom=[(0.9, 0.95)]\n{{'loss': {2}, 'learning_rate': 1e-05, 'epoch': {3}}}\n"
    good, bad = tmp_path / "good.log", tmp_path / "bad.log"
    good.write_text(
        "".join(line.format(2**k, 2 ** (k - 1)) for k in range(32, 16, -1))
        + "".join(step.format(10 * k, 16, round(float(v), 4), k / 50) for k, v in enumerate(fall(2, 1, 60), 1))
    )
    bad.write_text("".join(step.format(10 * k, 10 * k, 11.0, k / 50) + line.format(1, 1) * 10 for k in range(1, 60)))
    assert diagnose_log([good]).verdict == "healthy", text(diagnose_log([good]))
    report = diagnose_log([bad])
    assert first_cause(report) == "numeric_overflow" and "LOG014" in report.causes[0].supporting, text(report)


@pytest.mark.parametrize(("message", "cause"), [
    ("UserWarning: Could not find response key `### Response:` in the following instance: ...", "labels_all_masked"),
    ("UserWarning: None of the inputs have requires_grad=True. Gradients will be None", "adapter_empty"),
    ("Did not save the model. stage3_gather_16bit_weights_on_model_save is False. Saving the full checkpoint instead", "incomplete_checkpoint"),
    ("Found missing adapter keys while loading the checkpoint: ['base_model.model.lm_head']", "weights_not_loaded"),
])  # fmt: skip
def test_programs_that_say_it_themselves(message: str, cause: str, tmp_path: Path) -> None:
    log = tmp_path / "train.log"
    log.write_text(
        message
        + "\n"
        + "".join(f"{{'loss': {v:.4f}, 'epoch': {k / 60:.2f}}}\n" for k, v in enumerate(fall(1.6, 1.1, 60), 1))
    )
    assert first_cause(diagnose_log([log])) == cause


@pytest.mark.parametrize(("end", "cause"), [
    ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.", "out_of_memory"),
    ("OSError: [Errno 28] No space left on device", "disk_full"),
    ("RuntimeError: The server socket has failed to listen on any local network address. EADDRINUSE: address already in use", "port_in_use"),
    ("ModuleNotFoundError: No module named 'flash_attn'", "missing_dependency"),
    ("RuntimeError: Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu!", "device_mismatch"),
    ("ValueError: something of its own", "run_crashed"),
])  # fmt: skip
@pytest.mark.parametrize("trained", [False, True])
def test_what_ended_the_run(end: str, cause: str, trained: bool, tmp_path: Path) -> None:
    log = tmp_path / "train.log"
    rows = (
        "".join(f"{{'loss': {v:.4f}, 'epoch': {k / 60:.2f}}}\n" for k, v in enumerate(fall(1.6, 1.1, 40), 1))
        if trained
        else ""
    )
    log.write_text(rows + f'Traceback (most recent call last):\n  File "train.py", line 3, in <module>\n{end}\n')
    report = diagnose_log([log])
    assert first_cause(report) == cause, text(report)
    assert report.verdict == ("problems" if trained else "not_usable")


def test_a_run_that_goes_on_after_an_error_was_no_crash(tmp_path: Path) -> None:
    log = tmp_path / "train.log"
    rows = [f"{{'loss': {v:.4f}, 'epoch': {k / 60:.2f}}}\n" for k, v in enumerate(fall(1.6, 1.1, 60), 1)]
    log.write_text(
        "".join(rows[:20]) + "Traceback (most recent call last):\nConnectionError: retrying\n" + "".join(rows[20:])
    )
    report = diagnose_log([log])
    assert report.verdict == "healthy" and any(f.outcome == "survived" for f in report.findings), text(report)


def test_guessing_is_known_from_the_configuration_beside(tmp_path: Path) -> None:
    """A loss that stays at ln(vocabulary) is said to be that of guessing."""
    flat = 6.95 + 0.01 * np.random.default_rng(0).standard_normal(80)
    path = state(tmp_path / "trainer_state.json", flat)
    assert "LOG005" not in {f.code for f in diagnose_log([path]).findings if f.severity == "error"}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", "vocab_size": 1024}))
    report = diagnose_log([path])
    assert report.metrics["log.ln_vocabulary"] == pytest.approx(math.log(1024))
    assert first_cause(report) == "undertrained" and "LOG005" in report.causes[0].supporting, text(report)


@pytest.mark.parametrize(("lang", "said", "never"), [("en", "row ", "step "), ("zh", "行", "步")])
def test_rows_are_not_called_steps(lang: str, said: str, never: str, tmp_path: Path) -> None:
    """A console that prints no step: the place is said, and as what it is."""
    log = tmp_path / "train.log"
    log.write_text("".join(f"{{'loss': {v:.4f}}}\n" for v in [*fall(1.6, 1.1, 60), *[float("nan")] * 40]))
    found = next(f for f in diagnose_log([log], lang=lang).findings if f.code == "LOG002")
    assert said in found.message and never not in found.message.replace("logged", ""), found.message
