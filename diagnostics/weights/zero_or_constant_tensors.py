"""WGT003: weight matrices and norms that are all zero, or all one number."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from diagnostics.checkpoint_subject import CheckpointSubject
from diagnostics.report import Observation
from diagnostics.run_checks import NotMeasured, error, info, ok, warning
from diagnostics.thresholds import Thresholds
from pipeline.weight_names import layer_of

if TYPE_CHECKING:
    from pipeline.weight_scan import TensorScan

# Legitimately zero or constant: biases, positions, masks, scales of quantised weights, gates that open in training,
# adapters' matrices (WGT004 judges those).
_MAY_BE_CONSTANT = re.compile(
    r"bias|lora_|adapter|position|pos_emb|rotary|inv_freq|mask|scale|zeros?(?:_point)?$|gate$|gating|gamma|running_|"
    r"token_type|cls_token|class_embed|query_tokens|extra_state|sinks|A_log|(?:^|\.)D$|dt_|conv1d|conv\b|alpha|beta|"
    r"delta|rel_|router|memory|register|latents|time_mix|time_mod|time_decay|time_faaaa|x_[rwkvag]$|k_[ka]$|[wavg]0$"
)
# Start at zero in a block that is inserted as an identity and learns from there (arXiv 2401.02415).
_OUTPUT_PROJECTION = re.compile(r"(?:o_proj|out_proj|down_proj|c_proj|wo|w2|dense|dense_4h_to_h|fc2|fc_out)\.weight$")
_EXPERT = re.compile(r"experts?\b")
_NORM = re.compile(r"(?:norm\w*|ln_\w+|ln\d*|layer_norm\w*)\.weight$", re.IGNORECASE)
_FINAL_NORM = re.compile(r"^(?:\w+\.)*?(?:norm|final_layernorm|final_layer_norm|ln_f|final_norm)\.weight$")
# Their norms multiply by 1 + weight, so zero is where they start.
_NORM_ABOUT_ZERO = re.compile(r"gemma|qwen3_next|qwen3_5|nemotron|olmo_hybrid|minimax_m3")
_SHOWN = 8


def zero_or_constant_tensors(subject: CheckpointSubject, limits: Thresholds) -> Iterator[Observation]:
    """Weight matrices and norms that are all zero, or all one number.

    What it checks:
        Matrices whose elements are all zero, or all the same number, and norms whose weights are all zero.
    Why it matters:
        A zero matrix passes nothing on: the layer, the embedding or the head it belongs to is gone. It comes from
        saving an empty ZeRO-3 or FSDP shard, from an interrupted download into a preallocated file, or from a head
        that was created and never loaded.
    How it is measured:
        Absolute maximum and bit patterns of every tensor. Tensors that start at zero by design are left out by name:
        biases, positions, scales, gates, LoRA matrices.
    Known false alarms:
        Blocks inserted as identities (LLaMA Pro) before any training: only output projections are zero, which is
        mentioned, not reported. Norms of the form 1 + weight (Gemma) start at zero.
    Fix:
        Save again with the weights gathered (`stage3_gather_16bit_weights_on_model_save`, `zero_to_fp32.py`), or
        download the files again.
    References:
        https://github.com/vec2text/vec2text/pull/94
        https://arxiv.org/abs/2401.02415
    """
    scans = [t for t in subject.weight_scan.tensors.values() if t.has_values and not t.nan and not t.inf]
    if not scans:
        raise NotMeasured("quantised_weights")
    matrices = [t for t in scans if sum(n > 1 for n in t.tensor.shape) >= 2 and _judged(t)]
    zero = [t for t in matrices if t.zero]
    identity = bool(zero) and _identity_blocks({t.tensor.name for t in zero}, [t.tensor.name for t in matrices])
    experts = bool(zero) and all(_EXPERT.search(t.tensor.name) for t in zero)
    constant = [t for t in matrices if t.constant and not t.zero]
    norms = [t for t in scans if len(t.tensor.shape) == 1 and _NORM.search(t.tensor.name)]
    about_zero = bool(_NORM_ABOUT_ZERO.search(str(subject.model_files.config.get("model_type", ""))))
    zero_norms = [] if about_zero else [t for t in norms if t.zero]
    if identity:
        yield info("identity_blocks", *_evidence(zero), zero=len(zero), first=zero[0].tensor.name)
    elif experts:
        yield warning("zero_experts", *_evidence(zero), zero=len(zero), first=zero[0].tensor.name)
    elif zero:
        share = sum(t.tensor.numel for t in zero) / sum(t.tensor.numel for t in matrices)
        yield error(
            "zero_matrices", *_evidence(zero), zero=len(zero), matrices=len(matrices), share=100 * share,
            first=zero[0].tensor.name,
        )  # fmt: skip
    if constant:
        yield warning("constant_matrices", *_evidence(constant), constant=len(constant), first=constant[0].tensor.name)
    if zero_norms:
        final = any(_FINAL_NORM.match(t.tensor.name) for t in zero_norms)
        if final or len(zero_norms) > limits["zero_norms_share"] * len(norms):
            yield error("zero_norms", *_evidence(zero_norms), zero=len(zero_norms), norms=len(norms),
                        first=zero_norms[0].tensor.name)  # fmt: skip
        else:
            yield warning("some_zero_norms", *_evidence(zero_norms), zero=len(zero_norms), norms=len(norms),
                          first=zero_norms[0].tensor.name)  # fmt: skip
    if not zero and not constant and not zero_norms:
        yield ok(matrices=len(matrices), norms=len(norms))


def _identity_blocks(zero: set[str], names: Sequence[str]) -> bool:
    """Whether the zero matrices are just the output projections, attention's and the MLP's, of some but not all
    layers."""
    layers: dict[str, list[bool]] = {}
    for name in names:
        if _OUTPUT_PROJECTION.search(name):
            layers.setdefault(layer_of(name), []).append(name in zero)
    found = sum(sum(members) for members in layers.values() if all(members) and len(members) > 1)
    return found == len(zero) and not all(all(members) for members in layers.values())


def _judged(scan: TensorScan) -> bool:
    return not _MAY_BE_CONSTANT.search(scan.tensor.name) and scan.tensor.dtype in ("F64", "F32", "F16", "BF16")


def _evidence(scans: Sequence[TensorScan]) -> list[tuple[str, object]]:
    return [(f"{t.tensor.file}:{t.tensor.name}", t.largest) for t in scans[:_SHOWN]]
