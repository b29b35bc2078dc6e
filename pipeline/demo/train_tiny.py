"""Trains one tiny model in seconds, and keeps the log that Trainer would have written."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

_GENERATOR = threading.Lock()
IGNORED = -100  # torch's cross-entropy leaves such labels out


@dataclass(frozen=True)
class Example:
    """Token ids of one row. `labels` are aligned with `ids` for a decoder; for T5 they are the target sequence."""

    ids: tuple[int, ...]
    labels: tuple[int, ...]


@dataclass(frozen=True)
class Schedule:
    """How long and how fast (configs/demo.yaml). `stop_at` ends the run before its schedule, as a kill would."""

    steps: int
    learning_rate: float
    matrix_rate: float
    batch_size: int
    seed: int
    stop_at: int | None = None
    warmup_steps: int = 10
    log_every: int = 10
    eval_every: int = 50


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """torch's one generator, seeded for a model's random start and held against the other thread that builds."""
    import torch

    with _GENERATOR:
        torch.manual_seed(seed)
        yield


def collate(batch: Sequence[Example], pad_id: int) -> dict[str, torch.Tensor]:
    """Right-padded `input_ids`, `attention_mask`, `labels` (rows, longest), int64; padded labels are ignored."""
    import torch

    width = max(len(e.ids) for e in batch)
    label_width = max(len(e.labels) for e in batch)
    return {
        "input_ids": torch.tensor([[*e.ids, *[pad_id] * (width - len(e.ids))] for e in batch]),
        "attention_mask": torch.tensor([[1] * len(e.ids) + [0] * (width - len(e.ids)) for e in batch]),
        "labels": torch.tensor([[*e.labels, *[IGNORED] * (label_width - len(e.labels))] for e in batch]),
    }


def mean_loss(model: Any, examples: Sequence[Example], pad_id: int) -> float:
    """Mean cross-entropy in nats per label that counts, over all `examples` in one batch, without gradients."""
    import torch

    model.eval()
    with torch.no_grad():
        loss = float(model(**collate(examples, pad_id)).loss)
    model.train()
    return loss


def train(
    model: Any,
    examples: Iterable[Example],
    held_out: Sequence[Example],
    schedule: Schedule,
    *,
    pad_id: int,
    rows_per_epoch: int,
    progress: Callable[[str], None],
) -> dict[str, Any]:
    """Train `model` in place on the endless stream `examples`; return the content of its `trainer_state.json`.

    Matrices inside the layers go to Muon, everything else to AdamW; both rates warm up linearly and fall along a
    cosine to 5 %. `log_history` holds what was measured: the mean training loss since the entry before (nats per
    label), the gradient's norm before clipping at 1, AdamW's rate, and the loss on `held_out`.
    """
    import torch

    from pipeline.demo.muon import Muon

    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    matrices = [p for name, p in trained.items() if _is_inner_matrix(name, p)]
    inner = {id(p) for p in matrices}
    muon = Muon(matrices, schedule.matrix_rate)
    others = [p for p in trained.values() if id(p) not in inner]
    adamw = torch.optim.AdamW(others, lr=schedule.learning_rate, betas=(0.9, 0.98), weight_decay=0.01, fused=True)
    history: list[dict[str, Any]] = []
    window: list[float] = []
    last = schedule.stop_at or schedule.steps
    model.train()
    for step, batch in enumerate(islice(_batches(examples, schedule.batch_size), last), start=1):
        share = _rate(step - 1, schedule)
        muon.learning_rate = schedule.matrix_rate * share
        for group in adamw.param_groups:
            group["lr"] = schedule.learning_rate * share
        loss = model(**collate(batch, pad_id)).loss
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(trained.values(), 1.0)
        adamw.step()
        muon.step()
        model.zero_grad(set_to_none=True)
        window.append(float(loss.detach()))
        epoch = round(step * schedule.batch_size / rows_per_epoch, 4)
        if step % schedule.log_every == 0 or step == last:
            history.append(
                {
                    "epoch": epoch,
                    "grad_norm": round(float(norm), 4),
                    "learning_rate": schedule.learning_rate * share,
                    "loss": round(sum(window) / len(window), 4),
                    "step": step,
                }
            )
            window = []
        if step % schedule.eval_every == 0 or step == last:
            eval_loss = round(mean_loss(model, held_out, pad_id), 4)
            history.append({"epoch": epoch, "eval_loss": eval_loss, "step": step})
            progress(f"step {step}/{last}, held-out loss {eval_loss:.3f}")
    model.eval()
    return {
        "best_global_step": None,
        "best_metric": None,
        "best_model_checkpoint": None,
        "epoch": round(last * schedule.batch_size / rows_per_epoch, 4),
        "eval_steps": schedule.eval_every,
        "global_step": last,
        "is_hyper_param_search": False,
        "is_local_process_zero": True,
        "is_world_process_zero": True,
        "log_history": history,
        "logging_steps": schedule.log_every,
        "max_steps": schedule.steps,
        "num_train_epochs": math.ceil(schedule.steps * schedule.batch_size / rows_per_epoch),
        "save_steps": schedule.steps,
        "train_batch_size": schedule.batch_size,
        "trial_name": None,
        "trial_params": None,
    }


def _is_inner_matrix(name: str, parameter: torch.nn.Parameter) -> bool:
    """Embeddings, head and T5's table of position biases are look-ups, which Muon is not for."""
    return parameter.ndim == 2 and not any(part in name for part in ("shared", "embed", "lm_head", "relative"))


def _batches(examples: Iterable[Example], size: int) -> Iterator[list[Example]]:
    """Not sorted by length: batches of like rows are of one task, and cost more steps than padding costs time."""
    stream = iter(examples)
    while batch := list(islice(stream, size)):
        yield batch


def _rate(step: int, schedule: Schedule) -> float:
    if step < schedule.warmup_steps:
        return (step + 1) / schedule.warmup_steps
    done = (step - schedule.warmup_steps) / max(1, schedule.steps - schedule.warmup_steps)
    return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * done))
