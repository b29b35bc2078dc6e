"""One checkpoint from path to report: opens it, runs the checks, ranks the causes, says it in words."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Sequence

from diagnostics.check_table import CHECKPOINT_CHECKS
from diagnostics.checkpoint_subject import CheckpointSubject
from diagnostics.judge import judge
from diagnostics.report import Report, Subject
from diagnostics.run_checks import DEPTHS, Check, Event
from diagnostics.thresholds import Thresholds, load_thresholds
from pipeline.candidates.model_fingerprint import checkpoint_fingerprint
from pipeline.checkpoint import open_base, open_checkpoint
from pipeline.refusal import Refused


def depth_for(path: str, *, model_config: str | None = None) -> str:
    """The depth a user most likely wants: everything for a model this machine runs within about a minute.

    Hub ids: `files`, nothing large is fetched unasked. Raises `PathNotFound`.
    """
    checkpoint = open_checkpoint(path, model_config=model_config)
    if checkpoint.local_folder() is None:
        return "files"
    parameters = sum(t.numel for t in checkpoint.tensors.values())
    if checkpoint.kind == "adapter":
        base = CheckpointSubject(checkpoint).base
        parameters += sum(t.numel for t in base.tensors.values()) if base is not None else 0
    return "samples" if parameters <= load_thresholds()["auto_depth_max_parameters"] else "weights"


def diagnose_checkpoint(
    path: str, *, tokenizer: str | None = None, model_config: str | None = None, base: str | None = None,
    data: Sequence[str] = (), log: Sequence[str] = (), prompts: str | None = None, depth: str = "files",
    max_rows: int = 64, seed: int = 0, device: str = "cpu", thresholds: Sequence[str] = (), lang: str = "en",
    cancel: threading.Event | None = None, on_event: Callable[[Event], None] | None = None,
    on_note: Callable[[str], None] | None = None,
) -> Report:  # fmt: skip
    """Diagnose one checkpoint. Nothing is written, no process of the subject is trusted.

    path: anything `pipeline.checkpoint.open_checkpoint` takes. depth: files | weights | forward | samples.
    on_event: called for every event of `run_checks` as it happens, findings in `lang` already said.
    Raises `pipeline.refusal.Refused` with one line for wrong arguments (a path that leads nowhere, an unknown
    threshold, no GPU), and `Interrupted` on Ctrl-C.
    """
    checkpoint = open_checkpoint(path, tokenizer=tokenizer, model_config=model_config)
    if base is not None:
        open_base(base)  # a wrong --base is the caller's mistake: said at once, not after a minute
    if device == "cuda" and depth in ("forward", "samples") and not _gpu_is_there():
        raise Refused("no_gpu")
    subject = CheckpointSubject(
        checkpoint, base_path=base, data_paths=tuple(data), log_paths=tuple(log), prompts_path=prompts,
        max_rows=max_rows, seed=seed, device=device, note=on_note or (lambda text: None),
        cancel=cancel,
    )  # fmt: skip
    try:
        if checkpoint.problem is None:
            subject.start_probe()
        limits = load_thresholds(thresholds)
        return _judge(subject, CHECKPOINT_CHECKS, limits, depth, lang, cancel, on_event)
    finally:
        subject.close()


def _gpu_is_there() -> bool:
    try:
        import torch
    except ImportError:
        return True  # what is missing is said where the model is loaded
    with warnings.catch_warnings():  # an old driver: the refusal says it in one line
        warnings.simplefilter("ignore")
        return torch.cuda.is_available()


def _judge(
    subject: CheckpointSubject, checks: Sequence[Check], limits: Thresholds, depth: str, lang: str,
    cancel: threading.Event | None, on_event: Callable[[Event], None] | None,
) -> Report:  # fmt: skip
    checkpoint = subject.checkpoint
    usable = checkpoint.problem is None
    if not usable:
        checks = checks[:1]  # the first check says what the path is; the others would only repeat it
    elif DEPTHS.index(depth) >= DEPTHS.index("weights"):
        subject.start_weight_scan()
    return judge(
        subject, checks, limits, depth=depth, lang=lang, usable=usable, cancel=cancel, on_event=on_event,
        about=lambda: Subject("checkpoint", checkpoint.name, checkpoint.revision, _fingerprint(subject)),
    )  # fmt: skip


def _fingerprint(subject: CheckpointSubject) -> str:
    """Of the values where every byte was read (depth `weights` and on), else of headers and small files."""
    scan = subject.__dict__.get("weight_scan")
    return str(scan.fingerprint) if scan is not None else checkpoint_fingerprint(subject.checkpoint)
