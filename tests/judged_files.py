"""The file checks run on a folder, and the tiny models they are run on."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch

from diagnostics.check_table import CHECKPOINT_CHECKS
from diagnostics.checkpoint_subject import CheckpointSubject
from diagnostics.report import Finding
from diagnostics.run_checks import run_checks
from diagnostics.thresholds import load_thresholds
from diagnostics.words import say_finding
from pipeline.checkpoint import open_checkpoint


def judged(path: Path, *, base: Path | None = None, **apart: Any) -> tuple[list[Finding], dict[str, str], dict[str, float]]:
    """Findings of the file checks, reasons of the skipped ones, metrics."""
    subject = CheckpointSubject(open_checkpoint(str(path), **apart), base_path=str(base) if base else None)
    checks = [c for c in CHECKPOINT_CHECKS if c.code[:3] in ("CKP", "ADP")]
    if subject.checkpoint.problem is not None:
        checks = checks[:1]
    findings, skipped = [], {}
    for event in run_checks(checks, subject, load_thresholds(), depth="files"):
        if event.finding is not None:
            findings.append(event.finding)
            for lang in ("en", "zh"):
                said = say_finding(event.finding, lang)
                assert not re.search(r"\{[a-z_]+(:[^{}]*)?\}", said.message), said.message
                assert said.message and (said.fix or said.severity in ("ok", "info"))
        if event.skipped is not None:
            assert event.skipped.reason_id != "check_crashed", (event.skipped.code, event.skipped.params)
            skipped[event.skipped.code] = event.skipped.reason_id
    return findings, skipped, subject.metrics


def signals(findings: list[Finding], *severities: str) -> set[str]:
    return {f.signal for f in findings if f.severity in (severities or ("error", "warning"))}


def made(kind: str, **changes: Any) -> Any:
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, LlamaConfig, Qwen2Config, T5Config

    torch.manual_seed(0)
    body = {"vocab_size": 96, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3, "pad_token_id": 0,
            "num_attention_heads": 2, "num_key_value_heads": 1, "bos_token_id": 1, "eos_token_id": 2}  # fmt: skip
    if kind == "t5":
        small = {"vocab_size": 96, "d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 2, "num_heads": 2}
        return AutoModelForSeq2SeqLM.from_config(T5Config(**{**small, **changes}))
    config = {"llama": LlamaConfig, "qwen2": Qwen2Config}[kind](**{**body, **changes})
    return AutoModelForCausalLM.from_config(config)
