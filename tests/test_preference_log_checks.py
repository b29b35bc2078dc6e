"""Preference training and reward logs: made by small formulas with noise, read from files, judged."""

from __future__ import annotations

import ast
import inspect
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from diagnostics.check_table import LOG_CHECKS
from diagnostics.diagnose_log import diagnose_log
from diagnostics.log_subject import LogSubject
from diagnostics.preference_log.preference_run import preference_run
from diagnostics.report import Report
from pipeline.logs.read_log import read_log

ROOT = Path(__file__).resolve().parent.parent
LN2 = math.log(2)
FAMILIES = ("DPO", "RWD")
SEEDS = (0, 1, 2, 3)
Rows = list[dict[str, float]]


# ---- logs made by formula


def rate_at(step: float, steps: float, peak: float, warm: float = 0.1) -> float:
    """Linear warm-up, cosine decay, as logged after the scheduler's step."""
    if step <= warm * steps:
        return peak * (step - 1) / max(1.0, warm * steps)
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warm * steps) / (steps - warm * steps)))


def trained(step: float, steps: float, warm: float = 0.1) -> float:
    """How much of the whole way is gone by a step, 0 to 1: the sum of the learning rates so far."""
    rates = [rate_at(s, steps, 1.0, warm) for s in range(1, int(steps) + 1)]
    return min(1.0, float(np.sum(rates[: max(0, int(step) - 1)]) / np.sum(rates)))


def preference_rows(
    seed: int, *, steps: int = 500, every: int = 10, first_step: bool = True, pairs: int = 80, beta: float = 0.1,
    peak: float = 5e-6, chosen: float = -0.4, margin: float = 1.2, spread: float = 1.0, logps: float = -260.0,
    lengths: float = 60.0, speed: float = 1.0, evals: int = 0, eval_pairs: int = 500, offset: float = 0.0,
    loss: Callable[[Any], Any] = lambda m: np.logaddexp(0, -m), scale: float = 1.0, epochs: float = 1.0, norm: float = 8.0,
) -> Rows:  # fmt: skip
    """A preference run as TRL logs it. chosen, margin: mean rewards at the end; spread: of single pairs' margins there;
    speed: of the way (above 1: done early); offset: of both rewards before training."""
    rng = np.random.default_rng(seed)
    rows: Rows = []

    def one(step: float, count: int, prefix: str) -> dict[str, float]:
        gone = 1 - (1 - trained(step, steps)) ** speed
        common = rng.normal(0, 0.35 * spread * gone, count) + offset
        wide = rng.normal(margin * gone, spread * gone + (0.02 if gone or offset else 0.0), count)
        ups = chosen * gone + common + 0.5 * (wide - wide.mean())
        downs = ups - wide
        at = logps + rng.normal(0, lengths, count) if not prefix else logps + 3 * np.sin(np.arange(count))
        return {
            f"{prefix}loss": float(np.mean(loss(wide))) * scale,
            f"{prefix}rewards/chosen": float(ups.mean()),
            f"{prefix}rewards/rejected": float(downs.mean()),
            f"{prefix}rewards/margins": float(wide.mean()),
            f"{prefix}rewards/accuracies": float(np.mean(wide > 0)),
            f"{prefix}logps/chosen": float((at + (ups - offset) / beta).mean()),
            f"{prefix}logps/rejected": float((at - 15 + (downs - offset) / beta).mean()),
            f"{prefix}logits/chosen": -1.2 + rng.normal(0, 0.05),
            f"{prefix}logits/rejected": -1.1 + rng.normal(0, 0.05),
        }

    for step in [*([1] if first_step else []), *range(every, steps + 1, every)]:
        row = one(step, pairs, "") | {
            "grad_norm": float(norm * rng.lognormal(0, 0.2)),
            "learning_rate": rate_at(step, steps, peak),
            "epoch": epochs * step / steps,
            "step": step,
        }
        rows.append(row)
        if evals and step > 1 and step % max(every, steps // evals) == 0:
            rows.append(one(step, eval_pairs, "eval_") | {"epoch": epochs * step / steps, "step": step})
    return rows


def online_rows(
    seed: int, *, rows: int = 100, start: float = 0.35, end: float = 0.6, spread: float = 0.3, noise: float = 0.06,
    kl: float = 0.08, length: tuple[float, float] = (220.0, 260.0), by_length: float = 0.0, clipped: float = 0.05,
    alike: float = 0.15, entropy: tuple[float, float] = (0.9, 0.4), shape: Callable[[float], float] = lambda u: u,
) -> Rows:  # fmt: skip
    """A GRPO run as TRL logs it."""
    rng = np.random.default_rng(seed)
    found = []
    for at in range(rows):
        u = (at + 1) / rows
        more = rng.normal(0, 15)
        found.append({
            "loss": float(rng.normal(0, 0.003) + 0.04 * kl * u), "grad_norm": float(0.3 * rng.lognormal(0, 0.2)),
            "learning_rate": 1e-6 * (1 - u), "reward": float(start + (end - start) * shape(u) + rng.normal(0, noise) + by_length * more),
            "reward_std": float(max(0.0, spread * rng.lognormal(0, 0.1))), "frac_reward_zero_std": float(np.clip(alike + rng.normal(0, 0.05), 0, 1)),
            "kl": float(kl * u * rng.lognormal(0, 0.2)), "entropy": float((entropy[0] + (entropy[1] - entropy[0]) * u) * rng.lognormal(0, 0.05)),
            "completions/mean_length": float(length[0] + (length[1] - length[0]) * u + more), "completions/max_length": 512.0,
            "completions/clipped_ratio": float(np.clip(clipped + rng.normal(0, 0.03), 0, 1)), "epoch": u, "step": 10 * (at + 1),
        })  # fmt: skip
    return found


def reward_rows(
    seed: int, *, rows: int = 60, train: tuple[float, float] = (0.5, 0.72), evals: tuple[float, ...] = (0.62, 0.66, 0.69, 0.70),
    losses: tuple[float, float] = (0.70, 0.55), eval_losses: tuple[float, ...] = (0.64, 0.61, 0.59, 0.585), pairs: int = 16,
    epochs: float = 1.0,
) -> Rows:  # fmt: skip
    """A reward model's run: accuracies of `pairs` pairs a row, held-out ones of many."""
    rng = np.random.default_rng(seed)
    found: Rows = []
    for at in range(rows):
        u = 1 - math.exp(-4 * (at + 1) / rows)
        right = train[0] + (train[1] - train[0]) * u
        found.append({
            "loss": float(losses[0] + (losses[1] - losses[0]) * u + rng.normal(0, 0.25 / math.sqrt(pairs))),
            "accuracy": float(rng.binomial(pairs, min(1.0, right)) / pairs), "margin": float(2 * (right - 0.5) + rng.normal(0, 0.1)),
            "min_reward": -2.0 * u, "max_reward": 2.0 * u, "mean_reward": float(rng.normal(0, 0.05)),
            "grad_norm": float(5 * rng.lognormal(0, 0.3)), "learning_rate": 1e-5 * (1 - at / rows), "epoch": epochs * (at + 1) / rows, "step": 10 * (at + 1),
        })  # fmt: skip
        place = (at + 1) * len(evals) / rows
        if place == int(place):
            which = int(place) - 1
            found.append({
                "eval_loss": eval_losses[which] + float(rng.normal(0, 0.004)), "eval_accuracy": evals[which] + float(rng.normal(0, 0.008)),
                "eval_margin": 0.4, "eval_mean_reward": 0.0, "epoch": epochs * (at + 1) / rows, "step": 10 * (at + 1),
            })  # fmt: skip
    return found


# ---- the files


def as_state(folder: Path, rows: Rows, **state: Any) -> Path:
    file = folder / "trainer_state.json"
    file.write_text(json.dumps({"log_history": rows, "global_step": rows[-1].get("step", len(rows)), **state}))
    return file


def as_text(folder: Path, rows: Rows, *, before: str = "", quoted: bool = False) -> Path:
    """The Trainer's printed dicts: four digits, no steps, the learning rate in scientific notation."""

    def number(name: str, value: float) -> Any:
        text = f"{value:.3e}" if name == "learning_rate" else repr(round(value, 4))
        return text if quoted else float(text)

    lines = [str({k: number(k, v) for k, v in row.items() if k != "step"}) for row in rows]
    file = folder / "train.log"
    file.write_text(before + "\n".join(lines) + "\n")
    return file


def as_llamafactory(folder: Path, rows: Rows, total: int) -> Path:
    """trainer_log.jsonl: loss, accuracy and learning rate, nothing else."""
    file = folder / "trainer_log.jsonl"
    lines = [
        json.dumps({
            "current_steps": row["step"], "total_steps": total, "loss": row["loss"], "accuracy": row["rewards/accuracies"],
            "lr": row["learning_rate"], "epoch": row["epoch"], "percentage": round(100 * row["step"] / total, 2),
            "elapsed_time": "0:01:00", "remaining_time": "0:02:00",
        })  # fmt: skip
        for row in rows
        if "loss" in row
    ]
    file.write_text("\n".join(lines) + "\n")
    return file


def found(report: Report) -> dict[str, str]:
    """code/outcome → severity, of the two families; a check that crashed fails the test."""
    assert not [s for s in report.skipped if s.reason_id == "check_crashed"], report.skipped
    return {f.signal: f.severity for f in report.findings if f.code[:3] in FAMILIES}


def alarms(report: Report) -> list[str]:
    return [signal for signal, severity in found(report).items() if severity in ("warning", "error")]


def diagnose(file: Path) -> Report:
    return diagnose_log([file])


# ---- sound runs

IPO = {"loss": lambda m: (m / 0.1 - 5.0) ** 2, "chosen": -0.03, "margin": 0.3, "spread": 0.12, "logps": -1.6, "lengths": 0.3}


def without_reference(rows: Rows, beta: float) -> Rows:
    """Rewards of SimPO and ORPO: beta times mean log-probabilities."""
    for row in rows:
        for prefix in ("", "eval_"):
            if f"{prefix}logps/chosen" not in row:
                continue
            for side in ("chosen", "rejected"):
                row[f"{prefix}logps/{side}"] /= 260
                row[f"{prefix}rewards/{side}"] = beta * row[f"{prefix}logps/{side}"]
            row[f"{prefix}rewards/margins"] = row[f"{prefix}rewards/chosen"] - row[f"{prefix}rewards/rejected"]
    return rows


def as_kto(rows: Rows) -> Rows:
    for row in rows:
        row.pop("rewards/accuracies", None)
        if "loss" in row:
            row["kl"] = abs(row["rewards/chosen"]) * 2
    return rows


SOUND: dict[str, Callable[[int], Rows]] = {
    "lora": lambda s: preference_rows(s),
    "lora_with_evaluations": lambda s: preference_rows(s, evals=5),
    "lora_high_rate": lambda s: preference_rows(s, peak=2e-4, margin=2.5, spread=2.5, chosen=-1.0),
    "full": lambda s: preference_rows(s, peak=5e-7, margin=0.8, spread=0.9, chosen=-0.3, evals=4),
    "published": lambda s: preference_rows(s, steps=1000, peak=5e-7, margin=1.36, spread=2.4, chosen=-1.59, evals=10, logps=-330),
    "zephyr": lambda s: preference_rows(s, beta=0.01, peak=5e-7, margin=1.0, spread=1.5, chosen=-0.9, logps=-280, evals=5),
    "batch_of_one": lambda s: preference_rows(s, pairs=1, every=1, steps=300),
    "batch_of_four": lambda s: preference_rows(s, pairs=4, every=1, steps=200, margin=2.0),
    "late_first_row": lambda s: preference_rows(s, first_step=False, every=50, steps=1500, margin=1.5),
    "short": lambda s: preference_rows(s, steps=60, every=5, margin=1.5, speed=2),
    "easy_pairs": lambda s: preference_rows(s, margin=5.0, spread=1.5, chosen=0.5, evals=4),
    "chosen_rises": lambda s: preference_rows(s, chosen=0.8, margin=1.5),
    "third_epoch_perfect": lambda s: preference_rows(s, epochs=3, margin=6.0, spread=1.2, chosen=-2.0, steps=1500, every=25),
    "one_evaluation_at_the_end": lambda s: preference_rows(s, first_step=False, evals=1),  # the rate is 0 again there
    "single_short_pairs": lambda s: preference_rows(s, pairs=1, every=5, steps=1500, beta=0.05, margin=0.8, logps=-30, lengths=7.5, evals=1),
    "few_rows_early": lambda s: preference_rows(s, steps=60, every=10, margin=0.8, spread=0.9, speed=4, first_step=False),
    "summed_losses": lambda s: preference_rows(s, scale=8.0),
    "half_precision": lambda s: [
        {k: v + (0.03 * math.sin(i + len(k)) if k.startswith(("rewards/c", "rewards/r")) else 0.0) for k, v in row.items()}
        for i, row in enumerate(preference_rows(s))
    ],
    "label_smoothing": lambda s: preference_rows(s, margin=3.0, spread=0.3, loss=lambda m: 0.95 * np.logaddexp(0, -m) + 0.05 * np.logaddexp(0, m)),
    "with_sft_loss": lambda s: preference_rows(s, loss=lambda m: np.logaddexp(0, -m) + 1.3 + 0.1 * np.exp(-m)),
    "ipo": lambda s: preference_rows(s, **IPO, evals=5),
    "ipo_without_evaluations": lambda s: preference_rows(s, **IPO),
    "hinge": lambda s: preference_rows(s, loss=lambda m: np.maximum(0, 1 - m), margin=1.5),
    "kto": lambda s: as_kto(preference_rows(s, loss=lambda m: 1 - 1 / (1 + np.exp(-m / 2)), margin=1.6)),
    "orpo": lambda s: [row | {"log_odds_chosen": 0.2, "log_odds_ratio": -0.6, "nll_loss": 1.4} for row in without_reference(preference_rows(s), 0.1)],
    "simpo": lambda s: without_reference(preference_rows(s, peak=1e-6, evals=4), 2.5),
    "nca": lambda s: [row | {"loss": 2 * LN2 + 0.02 * math.sin(i)} if i else row | {"loss": 2 * LN2}
        for i, row in enumerate(preference_rows(s, margin=1.2))],
    "bco": lambda s: preference_rows(s, margin=1.2, loss=lambda m: 2 * LN2 - 0.07 * np.tanh(m)),
    "resumed": lambda s: [row for row in preference_rows(s, margin=1.5, chosen=-0.9) if row["step"] >= 200],
    "end_of_simpo": lambda s: [row for row in without_reference(preference_rows(s, peak=1e-6), 2.5) if row["step"] >= 460],
    "zephyr_drift": lambda s: preference_rows(s, beta=0.01, peak=5e-7, margin=0.95, spread=1.5, chosen=-1.25, logps=-263, evals=10),
    "reward_model": lambda s: reward_rows(s),
    "reward_model_of_small_batches": lambda s: reward_rows(s, pairs=2, rows=120),
    "reward_model_noisy_labels": lambda s: reward_rows(s, train=(0.5, 0.66), evals=(0.6, 0.63, 0.65, 0.65), losses=(0.7, 0.62), eval_losses=(0.66, 0.65, 0.64, 0.64)),
    "grpo": lambda s: online_rows(s),
    "grpo_slow": lambda s: online_rows(s, start=0.3, end=0.42, rows=300),
    "grpo_short": lambda s: online_rows(s, rows=12),
    "grpo_reasoning_grows": lambda s: online_rows(s, length=(300, 900), end=0.75),
    "grpo_solved": lambda s: [
        row | {"frac_reward_zero_std": min(1.0, 0.2 + i / 60), "reward_std": max(0.0, 0.3 - i / 300)}
        for i, row in enumerate(online_rows(s, start=0.3, end=0.97, noise=0.02, shape=lambda u: min(1.0, 2 * u)))
    ],
    "grpo_length_and_some_cut": lambda s: [row | {"completions/clipped_ratio": 0.02 + 0.4 * i / 100} for i, row in enumerate(online_rows(s, length=(300, 900), end=0.75))],
    "ppo_reward_alone": lambda s: [{k: row[k] for k in ("loss", "reward", "step")} | {"value_loss": 0.2} for row in online_rows(s, start=2.0, end=1.5, noise=0.3)],
    "grpo_without_kl": lambda s: [{k: v for k, v in row.items() if k != "kl"} for row in online_rows(s)],
    "ppo": lambda s: [row | {"value_loss": 0.2 + 0.5 / (i + 1)} for i, row in enumerate(
        [{k: v for k, v in r.items() if k not in ("frac_reward_zero_std", "reward_std", "entropy")} for r in online_rows(s, start=-0.7, end=4.4, noise=0.8, rows=200, kl=6.0)])],
}  # fmt: skip


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", SOUND)
def test_sound_runs_raise_no_alarm(tmp_path: Path, name: str, seed: int) -> None:
    rows = SOUND[name](seed)
    for file in (as_state(tmp_path, rows), as_text(tmp_path, rows, quoted=bool(seed % 2))):
        report = diagnose(file)
        expected = {"LOG011/times_ln2"} if name == "summed_losses" else set()  # said, and no fault of the training
        told = [(f.signal, f.message) for f in report.findings if f.severity in ("warning", "error")]
        assert {signal for signal, _ in told} == expected, (file.name, told)
        assert found(report)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", ["lora", "batch_of_four", "easy_pairs", "ipo", "with_sft_loss", "orpo", "simpo", "hinge"])
def test_llamafactory_logs_of_sound_runs(tmp_path: Path, name: str, seed: int) -> None:
    """Only loss and accuracy are there."""
    rows = SOUND[name](seed)
    report = diagnose(as_llamafactory(tmp_path, rows, int(rows[-1]["step"])))
    assert report.verdict == "healthy", [(f.signal, f.message) for f in report.findings]
    assert any(code.startswith("DPO") for code in found(report))


def test_half_of_a_log_is_judged_too(tmp_path: Path) -> None:
    """A run that is followed: whatever is there so far is no alarm."""
    for name in ("lora", "full", "kto", "ipo", "grpo", "reward_model"):
        rows = SOUND[name](1)
        for share in (0.02, 0.1, 0.3, 0.6):
            part = rows[: max(1, int(share * len(rows)))]
            report = diagnose(as_state(tmp_path, part, max_steps=rows[-1]["step"]))
            assert not alarms(report), (name, share, alarms(report))


# ---- faults


def zero(rows: Rows, *names: str, after: int = 0) -> Rows:
    return [{k: (0.0 if k in names and i >= after else v) for k, v in row.items()} for i, row in enumerate(rows)]


REWARDS = ("rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies")


def still(seed: int, **more: Any) -> Rows:
    """Policy and reference are one: rewards exactly 0, the loss ln 2, log-probabilities of whichever pairs came."""
    rows = zero(preference_rows(seed, chosen=0, margin=0, spread=0, **more), *REWARDS)
    return [row | {"loss": LN2} for row in rows]


def moving(rows: Rows) -> Rows:
    return [row | {"logps/chosen": row["logps/chosen"] + 2.0 * i, "logps/rejected": row["logps/rejected"] + 2.0 * i} for i, row in enumerate(rows)]


def collapse(seed: int) -> Rows:
    rng = np.random.default_rng(seed)
    return preference_rows(seed, chosen=-27.0, margin=float(rng.normal(-0.5, 0.3)), spread=14.0, evals=5, speed=3, peak=1e-5)


def ends(rows: Rows, shape: Callable[[float], dict[str, float]], after: float = 0.6) -> Rows:
    return [row | (shape((i / len(rows) - after) / (1 - after)) if i / len(rows) > after else {}) for i, row in enumerate(rows)]


def loss_alone(rows: Rows) -> Rows:
    return [{k: row[k] for k in ("loss", "learning_rate", "epoch", "step")} for row in rows]


def as_table(rows: Rows) -> Rows:
    """What the table of a model card says: evaluations, each with the last training loss before it."""
    return [row | {"loss": before["loss"]} for before, row in zip(rows, rows[1:], strict=False) if "eval_loss" in row]


FAULTS: dict[str, tuple[Callable[[int], Rows], str, str]] = {
    "no_completion": (lambda s: zero(still(s), "logps/chosen", "logps/rejected"), "DPO001/no_completion_token", "dpo_no_signal"),
    "no_completion_one_row": (lambda s: zero(still(s), "logps/chosen", "logps/rejected")[3:4], "DPO001/no_completion_token", "dpo_no_signal"),
    "no_rejected_token": (lambda s: zero(preference_rows(s), "logps/rejected"), "DPO001/no_completion_token_on_one_side", "dpo_no_signal"),
    "shared_reference": (lambda s: moving(still(s)), "DPO001/rewards_zero_while_moving", "dpo_no_signal"),
    "frozen_adapter": (lambda s: still(s), "DPO001/policy_is_reference", "dpo_no_signal"),
    "frozen_adapter_short": (lambda s: still(s, steps=100, every=20), "DPO001/policy_is_reference", "dpo_no_signal"),
    "frozen_without_gradient": (lambda s: zero(still(s), "grad_norm"), "DPO001/no_gradient", "dpo_no_signal"),
    "no_gradient": (lambda s: zero(preference_rows(s, chosen=0, margin=0, spread=0.02), "grad_norm"), "DPO001/no_gradient", "dpo_no_signal"),
    "rate_zero": (lambda s: zero(still(s), "learning_rate"), "DPO001/learning_rate_zero", "learning_rate_misconfigured"),
    "loss_frozen": (lambda s: loss_alone(still(s)), "DPO001/loss_frozen", "dpo_no_signal"),
    "rate_zero_by_loss": (lambda s: zero(loss_alone(still(s)), "learning_rate"), "DPO001/learning_rate_zero_by_loss", "learning_rate_misconfigured"),
    "rate_tiny": (lambda s: preference_rows(s, peak=1e-9, chosen=-0.0004, margin=0.0006, spread=0.004), "DPO001/learning_rate_too_small", "dpo_no_signal"),
    "reaches_nothing": (lambda s: preference_rows(s, peak=1e-6, chosen=-0.0004, margin=0.0006, spread=0.004), "DPO001/rewards_next_to_nothing", "dpo_no_signal"),
    "hardly_moved": (lambda s: preference_rows(s, peak=2e-7, chosen=0.01, margin=0.025, spread=0.03, evals=4), "DPO001/hardly_moved", "undertrained"),
    "hardly_moved_few_steps": (lambda s: preference_rows(s, steps=40, every=4, chosen=0.002, margin=0.01, spread=0.02), "DPO001/hardly_moved", "undertrained"),
    "rate_far_too_high": (lambda s: preference_rows(s, peak=2e-3, chosen=-40.0, margin=1.4, spread=3.0, logps=-60, lengths=8, evals=4), "DPO006/learning_rate_high", "likelihood_displacement"),
    "ipo_hardly_moved": (lambda s: preference_rows(s, **IPO | {"margin": 0.002, "spread": 0.002, "chosen": -0.002}, peak=1e-7), "DPO001/hardly_moved", "undertrained"),
    "reference_differs": (lambda s: preference_rows(s, offset=1.7), "DPO002/differs", "dpo_reference_mismatch"),
    "reference_differs_slightly": (lambda s: preference_rows(s, offset=-0.35), "DPO002/differs", "dpo_reference_mismatch"),
    "reference_differs_late_log": (lambda s: preference_rows(s, offset=12.0, first_step=False), "DPO002/differs_later", "dpo_reference_mismatch"),
    "reference_knows_by_heart": (lambda s: preference_rows(s, offset=-3.3, logps=-34.0, lengths=6, chosen=0.7, margin=1.7, first_step=False, every=2, steps=46, evals=4), "DPO002/differs_later", "dpo_reference_mismatch"),
    "reference_differs_strong_noise": (
        lambda s: [row | {"rewards/margins": 4.0 * (-1) ** i, "rewards/chosen": 10 + 2.0 * (-1) ** i, "rewards/rejected": 10 - 2.0 * (-1) ** i,
                          "loss": 4.0 if i % 2 else 0.02} for i, row in enumerate(preference_rows(s, first_step=False, steps=70))],
        "DPO002/differs_later", "dpo_reference_mismatch"),
    "reference_differs_throughout": (lambda s: as_table(preference_rows(s, offset=13.0, margin=0.4, chosen=-0.1, spread=0.3, evals=10)), "DPO002/differs_throughout", "dpo_reference_mismatch"),
    "reference_likelier_throughout": (lambda s: as_table([row | {"loss": 5.5} if "loss" in row else row for row in preference_rows(s, offset=-25.0, margin=0.02, chosen=0, spread=0.3, evals=10)]), "DPO002/differs_throughout", "dpo_reference_mismatch"),
    "chosen_fell_before_the_first_evaluation": (lambda s: preference_rows(s, chosen=-22.0, margin=4.5, spread=2.5, speed=6, evals=5), "DPO003/falls", "likelihood_displacement"),
    "chosen_fell_in_a_table": (lambda s: as_table(preference_rows(s, chosen=-24.0, margin=6.0, spread=2.5, speed=6, evals=5)), "DPO003/falls", "likelihood_displacement"),
    "chosen_falls_dearly": (lambda s: preference_rows(s, chosen=-14.0, margin=2.3, spread=1.5, speed=3, evals=5), "DPO003/falls", "likelihood_displacement"),
    "chosen_falls_without_margin": (lambda s: [{k: v for k, v in row.items() if k in ("loss", "rewards/chosen", "logps/chosen", "step", "learning_rate")}
        for row in preference_rows(s, chosen=-24.0, margin=4.0, spread=2.5)], "DPO003/falls_alone", "likelihood_displacement"),
    "chosen_falls_far_without_margin": (lambda s: [{k: v for k, v in row.items() if k in ("loss", "rewards/chosen", "logps/chosen", "step", "learning_rate")}
        for row in preference_rows(s, chosen=-24.0, margin=5.0, spread=2.5, logps=-80, lengths=10)], "DPO003/falls_far_alone", "likelihood_displacement"),
    "chosen_reward_falls_alone": (lambda s: [{k: v for k, v in row.items() if k in ("loss", "rewards/chosen", "step", "learning_rate")}
        for row in preference_rows(s, chosen=-24.0, margin=4.0, spread=2.5)], "DPO003/rewards_fall", "likelihood_displacement"),
    "simpo_breaks_language": (lambda s: without_reference(preference_rows(s, peak=1e-6, chosen=-130.0, margin=40.0, spread=10.0), 2.5), "DPO003/falls_far", "likelihood_displacement"),
    "chosen_falls": (lambda s: preference_rows(s, chosen=-25.0, margin=4.0, spread=2.5, evals=5), "DPO003/falls", "likelihood_displacement"),
    "chosen_falls_far": (lambda s: preference_rows(s, chosen=-24.0, margin=5.0, spread=2.5, logps=-80, lengths=10, evals=5), "DPO003/falls_far", "likelihood_displacement"),
    "chosen_falls_logps_only": (lambda s: [
        {k: v for k, v in row.items() if not k.endswith(("rewards/chosen", "rewards/rejected"))}
        for row in preference_rows(s, chosen=-30.0, margin=4.0, spread=2.5)], "DPO003/falls", "likelihood_displacement"),
    "chosen_falls_rewards_only": (lambda s: [
        {k: v for k, v in row.items() if "logps" not in k and "logits" not in k}
        for row in preference_rows(s, chosen=-32.0, margin=2.0, spread=3.0)], "DPO003/rewards_fall_together", "likelihood_displacement"),
    "separable": (lambda s: preference_rows(s, margin=30.0, spread=2.0, chosen=1.0, speed=12, steps=500), "DPO004/at_once", "dpo_overoptimised"),
    "separable_few_rows": (lambda s: preference_rows(s, margin=140.0, spread=4.0, chosen=-0.1, steps=30, every=10, speed=3), "DPO004/at_once", "dpo_overoptimised"),
    "margins_far": (lambda s: preference_rows(s, margin=20.0, spread=8.0, chosen=-2.0), "DPO004/margins_far", "dpo_overoptimised"),
    "nothing_left": (lambda s: preference_rows(s, margin=13.0, spread=0.8, chosen=-1.0, speed=4, steps=1500, every=20), "DPO004/nothing_left", "dpo_overoptimised"),
    "stands_still": (lambda s: [row | {"eval_rewards/chosen": -6.0, "eval_loss": 0.67, "loss": 0.0} for row in as_table(preference_rows(s, evals=5, margin=9.0))],
        "DPO004/stands_still", "dpo_overoptimised"),
    "kto_by_heart": (lambda s: as_kto(preference_rows(s, loss=lambda m: 1 - 1 / (1 + np.exp(-m / 2)), margin=8.7, spread=1.2, chosen=2.8, epochs=60)), "DPO004/by_heart", "dpo_overoptimised"),
    "collapsed": (collapse, "DPO005/collapsed", "diverged"),
    "collapsed_without_evaluation": (lambda s: [r for r in collapse(s) if "loss" in r], "DPO005/collapsed", "diverged"),
    "collapsed_within_ten_rows": (lambda s: [
        row | {"loss": loss, "rewards/chosen": up, "rewards/rejected": up - m, "rewards/margins": m, "rewards/accuracies": float(m > 0)}
        for row, (loss, up, m) in zip(preference_rows(s, steps=10, every=1, first_step=False, pairs=2, peak=5e-5), [
            (LN2, 0.0, 0.0), (0.79, 0.4, -0.2), (1.27, 7.2, -0.9), (0.0, 33.0, 21.0), (0.03, 11.2, 3.6), (1.34, 19.0, -1.0), (4.9, 24.1, -4.9),
            (0.001, 19.5, 6.9), (0.0, 21.9, 10.0), (16.4, 40.6, -16.4)], strict=True)], "DPO005/collapsed", "diverged"),
    "shaken": (lambda s: [
        row | {"loss": loss, "rewards/chosen": up, "rewards/rejected": up - m, "rewards/margins": m, "rewards/accuracies": 0.5 + 0.5 * (loss < 0.1)}
        for row, (loss, up, m) in zip(preference_rows(s, steps=8, every=1, first_step=False, pairs=2, peak=1e-4), [
            (LN2, 0.0, 0.0), (2.1, 9.0, -0.8), (0.01, 9.0, 5.2), (3.95, 6.4, 0.1), (0.0, 6.2, 17.2), (2.5, 13.7, 5.6), (0.0, 8.4, 11.7), (0.5, 10.6, 7.6)], strict=True)], "DPO005/shaken", "diverged"),
    "broken_by_the_first_evaluation": (lambda s: as_table([row | ({"loss": 0.66 if row["step"] <= 110 else 2.5} if "loss" in row else {"eval_loss": 2.4}) for row in preference_rows(s, chosen=-27.0, margin=-0.6, spread=8.0, speed=30, evals=5)]), "DPO005/collapsed", "diverged"),
    "two_evaluations_far_above": (lambda s: [
        {"loss": 4.7, "step": 500}, {"eval_loss": 6.2, "eval_rewards/chosen": -29.0, "eval_rewards/rejected": -28.0, "eval_rewards/accuracies": 0.46, "step": 500},
        {"loss": 0.03, "step": 1000}, {"eval_loss": 8.2 + 0.1 * s, "eval_rewards/chosen": -36.0, "eval_rewards/rejected": -34.8, "eval_rewards/accuracies": 0.45, "step": 1000}], "DPO005/collapsed", "diverged"),
    "not_one_loss_below_its_start": (lambda s: [
        *({"loss": loss, "rewards/chosen": -1.1, "rewards/rejected": -1.4, "rewards/margins": 0.3, "rewards/accuracies": 0.58, "step": 100.0 * (i + 1)} for i, loss in enumerate((0.91, 0.82, 0.76))),
        {"eval_loss": 0.81, "eval_rewards/chosen": -0.27, "eval_rewards/rejected": -0.19, "eval_rewards/accuracies": 0.45, "step": 300.0}], "DPO005/worse_than_untouched", "diverged"),
    "worse_by_loss": (lambda s: [{k: v for k, v in row.items() if "accuracies" not in k} | {"loss": LN2 + 0.5 * min(1.0, i / 20)} for i, row in enumerate(preference_rows(s, chosen=-3.0, margin=0.2))], "DPO005/worse_by_loss", "diverged"),
    "evaluation_rose_by_loss": (lambda s: [{k: v for k, v in row.items() if k != "eval_rewards/accuracies"} | ({"eval_loss": 0.62 + max(0.0, row["step"] / 500 - 0.4)} if "eval_loss" in row else {})
        for row in preference_rows(s, margin=4.0, spread=1.5, epochs=4, evals=10)], "DPO007/rose_by_loss", "overtrained"),
    "evaluation_rose": (lambda s: [
        row | ({"eval_loss": 0.62 + max(0.0, row["step"] / 500 - 0.4), "eval_rewards/accuracies": 0.68 - max(0.0, 0.1 * (row["step"] / 500 - 0.4))} if "eval_loss" in row else {})
        for row in preference_rows(s, margin=4.0, spread=1.5, epochs=4, evals=10)], "DPO007/rose", "overtrained"),
    "evaluation_gap": (lambda s: [
        row | ({"eval_loss": 0.75 + 0.0001 * row["step"], "eval_rewards/accuracies": 0.55} if "eval_loss" in row else {})
        for row in preference_rows(s, margin=4.0, spread=1.5, epochs=3, evals=5)], "DPO007/gap", "overtrained"),
    "reward_overfit": (lambda s: reward_rows(s, train=(0.55, 1.0), evals=(0.66, 0.68, 0.69, 0.69), losses=(0.7, 0.02), eval_losses=(0.62, 0.66, 0.9, 1.2), epochs=5), "RWD001/gap", "reward_overfit"),
    "reward_evaluation_rose": (lambda s: [{k: v for k, v in r.items() if "accuracy" not in k} for r in
        reward_rows(s, losses=(0.7, 0.1), eval_losses=(0.6, 0.58, 0.75, 0.95), epochs=4)], "RWD001/evaluation_rose", "reward_overfit"),
    "reward_at_chance": (lambda s: reward_rows(s, train=(0.5, 0.51), evals=(0.5, 0.51, 0.505, 0.51), losses=(0.7, 0.692), eval_losses=(0.694, 0.693, 0.693, 0.693)), "RWD002/at_chance", "undertrained"),
    "reward_at_chance_without_evaluation": (lambda s: [r for r in reward_rows(s, train=(0.5, 0.5), losses=(0.7, 0.693), rows=150, pairs=64) if "loss" in r], "RWD002/at_chance", "undertrained"),
    "held_out_at_chance": (lambda s: reward_rows(s, train=(0.5, 0.99), evals=(0.5, 0.51, 0.5, 0.5), losses=(0.7, 0.05), eval_losses=(0.7, 0.8, 1.0, 1.3)), "RWD002/held_out_at_chance", "reward_overfit"),
    "no_spread": (lambda s: [row | {"reward_std": 0.0, "frac_reward_zero_std": 1.0, "grad_norm": 0.0, "loss": 0.0, "reward": 0.0} for row in online_rows(s)], "RWD003/never_any", "no_group_variance"),
    "no_spread_one_row": (lambda s: [row | {"reward_std": 0.0, "frac_reward_zero_std": 1.0, "loss": 0.0} for row in online_rows(s)[:1]], "RWD003/never_any", "no_group_variance"),
    "one_reward_throughout": (lambda s: [{k: v for k, v in row.items() if k not in ("reward_std", "frac_reward_zero_std")} | {"reward": 0.0, "grad_norm": 0.0, "kl": 0.0} for row in online_rows(s)], "RWD003/reward_constant", "no_group_variance"),
    "no_gradient_though_rewards_differ": (lambda s: zero(online_rows(s), "grad_norm", "kl"), "RWD003/no_gradient", "adapter_empty"),
    "hardly_any_spread": (lambda s: online_rows(s, alike=0.93, spread=0.02, start=0.02, end=0.03, noise=0.01), "RWD003/hardly_any", "no_group_variance"),
    "spread_lost": (lambda s: ends(online_rows(s, end=0.7, noise=0.03), lambda u: {"reward": 0.0, "reward_std": 0.0, "frac_reward_zero_std": 1.0}, after=0.4), "RWD003/spread_lost", "diverged"),
    "clipped": (lambda s: online_rows(s, clipped=0.95, length=(470, 508)), "RWD004/mostly_cut", "decoding_settings"),
    "clipped_by_share_alone": (lambda s: [{k: v for k, v in row.items() if "length" not in k} for row in online_rows(s, clipped=0.95)], "RWD004/mostly_cut_by_share", "decoding_settings"),
    "cut_ever_more": (lambda s: [row | {"completions/clipped_ratio": 0.02 + 0.6 * (i / 100)} for i, row in enumerate(online_rows(s, end=0.36, length=(200, 950)))], "RWD004/cut_ever_more", "stop_token_never_learned"),
    "paid_until_cut": (lambda s: [row | {"completions/clipped_ratio": 0.02 + 0.6 * (i / 100)} for i, row in enumerate(online_rows(s, end=2.8, length=(200, 950)))], "RWD005/paid_until_cut", "dpo_overoptimised"),
    "paid_by_length": (lambda s: online_rows(s, length=(150, 420), by_length=0.004, start=0.2, end=0.9, noise=0.02), "RWD005/paid_by_length", "dpo_overoptimised"),
    "kl_exploded": (lambda s: ends(online_rows(s, end=0.7), lambda u: {"reward": 0.55 * (1 - u), "kl": 0.3 * math.exp(6 * u)}), "RWD006/kl_exploded", "diverged"),
    "kl_exploded_at_once": (lambda s: [row | ({"reward": 0.0, "reward_std": 0.0, "frac_reward_zero_std": 1.0, "kl": 8.0 + math.sin(i)} if i else {"kl": 0.0, "frac_reward_zero_std": 0.5})
        for i, row in enumerate(online_rows(s, rows=40))], "RWD006/kl_exploded", "diverged"),
    "entropy_gone": (lambda s: ends(online_rows(s, end=0.7, kl=0.02), lambda u: {"reward": 0.5 * (1 - u), "entropy": 0.5 * math.exp(-5 * u)}, after=0.5), "RWD006/entropy_gone", "diverged"),
    "kl_negative": (lambda s: [row | {"kl": -1.2 * (i + 1)} for i, row in enumerate(online_rows(s, start=-0.6, end=-2.4))], "RWD006/kl_negative", "diverged"),
    "reward_collapsed": (lambda s: [{"loss": row["loss"], "value_loss": 0.3, "step": row["step"],
        "reward": (0.4 + 3.0 * u if u < 0.4 else 1.6 - 10.0 * (u - 0.4)) + 0.1 * math.sin(7 * i + s)}
        for i, row in enumerate(online_rows(s)) for u in (i / 100,)], "RWD006/reward_collapsed", "diverged"),
    "kl_from_start": (lambda s: [row | {"kl": 900 / (1 + i)} for i, row in enumerate(online_rows(s))], "RWD006/kl_from_start", "dpo_reference_mismatch"),
    "grpo_hardly_moved": (lambda s: online_rows(s, start=0.35, end=0.37, kl=0.001, rows=200), "RWD007/hardly_moved", "undertrained"),
}  # fmt: skip


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", FAULTS)
def test_faults_are_found(tmp_path: Path, name: str, seed: int) -> None:
    make, signal, cause = FAULTS[name]
    report = diagnose(as_state(tmp_path, make(seed)))
    told = [(f.signal, f.message) for f in report.findings if f.code[:3] in FAMILIES]
    assert signal in alarms(report), told
    assert report.causes and report.causes[0].id == cause, ([(c.id, c.confidence) for c in report.causes], told)


@pytest.mark.parametrize("name", [n for n in FAULTS if n not in ("rate_zero", "reference_differs", "reference_differs_slightly", "rate_tiny", "no_spread_one_row", "no_completion_one_row")])
def test_faults_are_found_in_printed_lines(tmp_path: Path, name: str) -> None:
    """Four digits, and no steps: a check may say another outcome of its own there, not another cause."""
    make, signal, cause = FAULTS[name]
    report = diagnose(as_text(tmp_path, make(5), quoted=True))
    told = [(f.signal, f.message) for f in report.findings if f.code[:3] in FAMILIES]
    assert any(a.startswith(signal[:6]) for a in alarms(report)), told
    assert report.causes[0].id == cause, ([(c.id, c.confidence) for c in report.causes], told)


def test_configured_beta_of_zero(tmp_path: Path) -> None:
    report = diagnose(as_text(tmp_path, still(0), before="DPOConfig: beta: 0.0\nbeta = 0.0\n"))
    assert "DPO001/beta_zero" in alarms(report) and report.causes[0].id == "dpo_no_signal"


def test_loss_of_zero_in_the_first_steps(tmp_path: Path) -> None:
    """The reference is the raw base under an SFT adapter; LLaMA-Factory's log holds loss and accuracy only."""
    rows = [row | {"loss": 0.0004, "rewards/accuracies": 1.0} for row in preference_rows(0, every=5, first_step=False, steps=200)]
    report = diagnose(as_llamafactory(tmp_path, rows, 200))
    assert "DPO002/loss_zero_at_start" in alarms(report)
    assert report.causes[0].id in ("dpo_reference_mismatch", "dpo_overoptimised")


def test_run_stopped_within_its_warmup(tmp_path: Path) -> None:
    rows = preference_rows(2, steps=5000, every=4, pairs=4, first_step=False)[:40]
    report = diagnose(as_llamafactory(tmp_path, rows, 5000))
    assert "DPO001/stopped_in_warmup" in alarms(report) and report.causes[0].id == "undertrained"


@pytest.mark.parametrize("planned", [500, 80])
def test_a_log_that_ends_while_the_rate_still_rises(tmp_path: Path, planned: int) -> None:
    """The loss moved already. A warm-up as long as the run is no run that was stopped."""
    rows = [row | {"learning_rate": 2e-8 * row["step"]} for row in preference_rows(2, steps=80, every=8, margin=0.5, speed=2)]
    report = diagnose(as_llamafactory(tmp_path, rows, planned))
    assert ("DPO001/ends_in_warmup" in alarms(report)) == (planned == 500)
    assert report.causes[0].id == ("undertrained" if planned == 500 else "learning_rate_misconfigured")


def test_the_end_of_a_solved_run_is_no_fault(tmp_path: Path) -> None:
    rows = SOUND["grpo_solved"](3)
    report = diagnose(as_state(tmp_path, rows[60:]))
    assert not alarms(report) and "RWD003/none_here" in found(report)
    never = [row | {"reward": 0.0} for row in rows[60:]]
    assert "RWD003/never_any" in alarms(diagnose(as_state(tmp_path, never)))


def test_groups_without_spread_where_no_mean_reward_is_logged(tmp_path: Path) -> None:
    rows = [{"loss": 0.0, "reward_std": 0.0, "frac_reward_zero_std": 1.0, "learning_rate": 1e-6, "epoch": 0.1 * i} for i in range(1, 9)]
    report = diagnose(as_text(tmp_path, rows, before="loss_type: grpo\n"))
    assert "RWD003/never_any_spread" in alarms(report), found(report)


def test_losses_of_ln_2_alone_are_a_frozen_policy(tmp_path: Path) -> None:
    file = tmp_path / "train.log"
    file.write_text("\n".join(f"step {i} training loss: 0.6931" for i in range(10, 110, 10)))
    report = diagnose(file)
    assert report.causes[0].id == "dpo_no_signal" and "DPO001/loss_frozen" in alarms(report)
    file.write_text("\n".join(f"step {i} training loss: {0.6931 + 0.004 * math.sin(i):.4f}" for i in range(10, 110, 10)))
    assert "DPO001/loss_frozen" not in alarms(diagnose(file))


def test_a_resumed_run_has_no_wrong_reference(tmp_path: Path) -> None:
    """Its first rewards were learned before the log begins."""
    for seed in SEEDS:
        rows = [row for row in preference_rows(seed, margin=4.0, chosen=-3.0, speed=6) if row["step"] >= 150]
        for file in (as_state(tmp_path, rows), as_text(tmp_path, rows)):
            report = diagnose(file)
            assert not [signal for signal in alarms(report) if signal.startswith("DPO002")]
            assert "not_the_beginning" in {s.reason_id for s in report.skipped if s.code == "DPO002"}


def test_the_margin_that_is_said_is_the_one_at_the_end(tmp_path: Path) -> None:
    report = diagnose(as_state(tmp_path, FAULTS["chosen_fell_before_the_first_evaluation"][0](0)))
    fall = next(f for f in report.findings if f.code == "DPO003")
    assert fall.params["margin"] == pytest.approx(4.5, abs=0.3)
    assert fall.params["began"] == pytest.approx(-260, abs=10) and fall.params["ended"] == pytest.approx(-480, abs=15)


# ---- what is recognised


@pytest.mark.parametrize(
    ("name", "objective", "start"),
    [
        ("lora", "sigmoid", LN2), ("summed_losses", "sigmoid", 8 * LN2), ("ipo", "ipo", 25.0), ("ipo_without_evaluations", "ipo", 25.0), ("hinge", "hinge", 1.0),
        ("kto", "kto", 0.5), ("orpo", "without_reference", None), ("simpo", "without_reference", None),
        ("label_smoothing", "sigmoid", LN2), ("batch_of_one", "sigmoid", LN2),
    ],
)  # fmt: skip
def test_objective_is_told_by_its_start(tmp_path: Path, name: str, objective: str, start: float | None) -> None:
    run = preference_run(LogSubject(read_log([as_state(tmp_path, SOUND[name](0))])))
    assert run.objective == objective
    assert run.start == (None if start is None else pytest.approx(start, rel=0.01))


@pytest.mark.parametrize("beta", [0.01, 0.05, 0.1, 0.5])
def test_beta_is_measured_from_evaluations(tmp_path: Path, beta: float) -> None:
    rows = preference_rows(3, beta=beta, evals=5)
    run = preference_run(LogSubject(read_log([as_state(tmp_path, rows)])))
    assert run.measured and run.beta == pytest.approx(beta, rel=0.06)
    assert preference_run(LogSubject(read_log([as_state(tmp_path, preference_rows(3, beta=beta))]))).beta is None


def test_logs_without_rewards_are_told_as_dpo(tmp_path: Path) -> None:
    rows = [{"loss": row["loss"], "learning_rate": row["learning_rate"], "step": row["step"]} for row in preference_rows(0)]
    folder = tmp_path / "dpo"
    folder.mkdir()
    text = "\n".join(f"step {r['step']} loss {r['loss']:.4f} lr {r['learning_rate']:.8f}" for r in rows)
    (folder / "train_dpo.log").write_text(text)
    (folder / "train.log").write_text("beta: 0.1\n" + text)
    (folder / "sft.log").write_text(text)
    kinds = {n: read_log([folder / n]).kind for n in ("train_dpo.log", "train.log", "sft.log")}
    assert kinds == {"train_dpo.log": "dpo", "train.log": "dpo", "sft.log": "sft"}


def test_supervised_losses_are_no_preference_logs(tmp_path: Path) -> None:
    rows = [{"loss": 2.2 - 0.01 * i, "learning_rate": 1e-4, "step": i + 1} for i in range(60)]
    report = diagnose(as_state(tmp_path, rows))
    assert not found(report)
    assert {s.reason_id for s in report.skipped if s.code[:3] in FAMILIES} == {"another_training"}


# ---- what is not judged


def test_too_little_is_said_and_not_judged(tmp_path: Path) -> None:
    report = diagnose(as_state(tmp_path, preference_rows(0)[:1]))
    skipped = {s.code: s.reason_id for s in report.skipped if s.code.startswith("DPO")}
    assert skipped["DPO001"] == skipped["DPO003"] == skipped["DPO005"] == "too_few_points"
    assert not alarms(report)


def test_first_row_at_rate_zero_is_no_fault(tmp_path: Path) -> None:
    """Rewards of exactly 0 and an accuracy of 0, as ties count as wrong."""
    rows = [row | dict.fromkeys(REWARDS, 0.0) | {"loss": LN2} if i < 2 else row for i, row in enumerate(preference_rows(0, every=1, steps=200, pairs=8))]
    assert not alarms(diagnose(as_state(tmp_path, rows)))


def test_loss_of_zero_is_how_grpo_starts(tmp_path: Path) -> None:
    rows = [row | {"loss": 0.0} for row in online_rows(0)]
    assert not alarms(diagnose(as_state(tmp_path, rows)))


def test_nan_among_the_rewards_does_not_stop_the_checks(tmp_path: Path) -> None:
    rows = [row | ({k: float("nan") for k in row if k.startswith(("rewards/", "logps/"))} if i in (7, 8, 30) else {}) for i, row in enumerate(preference_rows(1, evals=4))]
    report = diagnose(as_state(tmp_path, rows))
    assert not alarms(report) and "DPO003/drifts" in found(report) or "DPO003/ok" in found(report)


# ---- the steps that are named


def test_alarms_name_curve_and_step(tmp_path: Path) -> None:
    for name, (make, _, _) in FAULTS.items():
        report = diagnose(as_state(tmp_path, make(1)))
        for f in report.findings:
            if f.code[:3] not in FAMILIES or f.severity not in ("warning", "error") or f.code == "DPO006":
                continue
            assert f.params.get("curve") in report.curves, (name, f.signal)
            if f.signal != "RWD001/gap":
                assert isinstance(f.params.get("from_step"), float), (name, f.signal)
            assert "{" not in f.message and "nan" not in f.message.split(), (name, f.message)


def test_the_step_of_a_collapse_is_near_where_it_happened(tmp_path: Path) -> None:
    rows = preference_rows(0, steps=1000, margin=1.2)
    broken = [row | ({"loss": 4.0 + 0.3 * math.sin(i), "rewards/chosen": -20.0, "rewards/rejected": -19.6, "rewards/accuracies": 0.45} if row["step"] > 600 else {}) for i, row in enumerate(rows)]
    finding = next(f for f in diagnose(as_state(tmp_path, broken)).findings if f.signal == "DPO005/collapsed")
    assert 550 <= finding.params["from_step"] <= 700 and f"step {finding.params['from_step']:g}" in finding.message


# ---- the table


@pytest.mark.parametrize("check", [c for c in LOG_CHECKS if c.code[:3] in FAMILIES], ids=lambda c: c.code)
def test_every_outcome_of_a_module_has_words_and_alarms_a_cause(check: Any) -> None:
    """Also outcomes that helpers of the module return."""
    causes = yaml.safe_load((ROOT / "configs/causes.yaml").read_text("utf-8"))
    known = {signal for row in causes.values() for signal in row["for"]}
    words = [yaml.safe_load((ROOT / f"configs/words/{lang}/{check.code[:3]}.yaml").read_text("utf-8"))[check.code] for lang in ("en", "zh")]
    used = set()
    for node in ast.walk(ast.parse(inspect.getsource(inspect.getmodule(check.function)))):
        name = getattr(getattr(node, "func", None), "id", "")
        if name in ("say", "ok", "info", "warning", "error") and node.args:
            first = node.args[0]
            for choice in (first.body, first.orelse) if isinstance(first, ast.IfExp) else (first,):
                used.add(choice.value)
                assert all(choice.value in w for w in words), choice.value
                if name in ("warning", "error", "say"):
                    assert f"{check.code}/{choice.value}" in known, f"{check.code}/{choice.value}"
    fixed = {"title", "about"}
    assert {k for k in words[0] if k not in fixed and not k.startswith("fix")} == used, "words nobody says"
    for lang_words in words:
        assert all(k == "fix" or k.removeprefix("fix_") in used for k in lang_words if k.startswith("fix"))
