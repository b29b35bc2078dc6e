"""FWD001: tensors that don't land in the model, so that parts of it stay random."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from diagnostics.checkpoint_subject import CheckpointSubject
from diagnostics.report import Observation
from diagnostics.run_checks import NotMeasured, error, info, ok, warning
from diagnostics.thresholds import Thresholds
from pipeline.load_model import LoadedModel, ModelNotLoaded

# Buffers that older versions saved and newer ones compute, and heads that only a trainer needs.
HARMLESS = re.compile(
    r"(?:^|\.)(?:inv_freq|rotary_emb\..*|masked_bias|attn\.bias|attention\.bias|position_ids|v_head\..*|value_head\..*"
    r"|score\.weight|summary\..*|relative_attention_bias\.weight)$"
)
EMBEDDING = re.compile(r"(?:embed_tokens|shared|wte|embed_in|word_embeddings|lm_head|embed_out|final_logits_bias)")
HEAD = re.compile(r"(?:^|\.)(?:lm_head|embed_out|output)\.(?:weight|bias)$")
LAYER = re.compile(r"\.(?:layers?|h|block|blocks)\.\d+\.")
# Failures of this installation rather than of the checkpoint.
INSTALLATION = re.compile(
    r"ImportError|ModuleNotFound|No module|pip install|requires? .* (?:package|library|version)|quantiz|bitsandbytes"
    r"|CUDA|out of memory|OutOfMemory|only layer adapters",
    re.IGNORECASE,
)


def weights_stay_random(subject: CheckpointSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        Whether every parameter of the model is filled by a tensor of the files, and every tensor finds its place.
    Why it matters:
        A parameter that nothing fills keeps its random start. transformers says so in a warning and goes on; the model
        then answers nonsense though the file is sound.
    How it is measured:
        The model is loaded the way `from_pretrained` does it and the missing, unexpected and misfitting names are
        counted. Names are taken as they are: no prefix is stripped. Tied parameters are filled by their twin. For an
        adapter its own tensors are counted too.
    Known false alarms:
        Position buffers that older versions saved, value heads of a trainer and copies that PEFT writes twice are
        expected and not counted.
    Fix:
        Save the unwrapped model (`accelerator.unwrap_model(model).save_pretrained(...)`), or rename the keys by the
        list of unexpected ones, and load again.
    References:
        https://huggingface.co/docs/transformers/main_classes/model#transformers.PreTrainedModel.from_pretrained
        https://github.com/huggingface/accelerate/issues/438
        https://github.com/huggingface/peft/issues/2566
    """
    outcome = subject.load_outcome
    if isinstance(outcome, ModelNotLoaded):
        yield _not_loaded(outcome)
        return
    subject.metrics["forward.missing_tensors"] = len(outcome.missing_keys)
    subject.metrics["forward.unexpected_tensors"] = len(outcome.unexpected_keys)
    found = [*_adapter(outcome), *_misfits(outcome), *_missing(outcome), *_unexpected(outcome)]
    if not found:
        yield ok(total=outcome.total_keys)
    yield from found


def _not_loaded(reason: ModelNotLoaded) -> Observation:
    if reason.reason_id == "adapter_not_loaded" and not INSTALLATION.search(reason.detail):
        if reason.detail.startswith("KeyError"):
            name = reason.detail.partition(":")[2].strip(" '\"")
            return error("adapter_names_unknown", ("adapter_model", reason.detail), name=name)
        return error("adapter_does_not_fit", ("adapter_config.json", reason.detail), detail=reason.detail)
    if reason.reason_id == "model_not_loaded" and not INSTALLATION.search(reason.detail):
        return warning("cannot_be_loaded", ("from_pretrained", reason.detail), detail=reason.detail)
    raise NotMeasured(reason.reason_id, detail=reason.detail)


def _names(keys: Sequence[str]) -> str:
    return ", ".join(keys[:3]) + (", …" if len(keys) > 3 else "")


def _missing(loaded: LoadedModel) -> Iterator[Observation]:
    missing = loaded.missing_keys
    if not missing:
        return
    evidence = ("missing_keys", list(missing[:20]))
    wrapped = [k for k in loaded.unexpected_keys if any(k.endswith(f".{m}") for m in missing)]
    if all(HEAD.search(k) for k in missing):
        yield error("head_missing", evidence, names=_names(missing))
    elif wrapped:
        prefix = next(k[: -len(m)] for k in wrapped for m in missing if k.endswith(f".{m}"))
        yield error("names_wrapped", evidence, ("unexpected_keys", wrapped[:5]), n=len(missing),
                    total=loaded.total_keys, prefix=prefix, names=_names(missing))  # fmt: skip
    else:
        yield error("missing", evidence, n=len(missing), total=loaded.total_keys, names=_names(missing))


def _misfits(loaded: LoadedModel) -> Iterator[Observation]:
    rows = [m for m in loaded.mismatched_keys if EMBEDDING.search(m[0]) and m[1][1:] == m[2][1:]]
    if rows:
        name, in_file, in_model = rows[0]
        yield error("embedding_size", (name, list(in_file)), ("config.json:vocab_size", in_model[0]), name=name,
                    in_file=in_file[0], in_model=in_model[0])  # fmt: skip
    others = [m for m in loaded.mismatched_keys if m not in rows]
    if others:
        name, in_file, in_model = others[0]
        yield error("shapes", *((n, f"{list(a)} -> {list(b)}") for n, a, b in others[:5]), n=len(others), name=name,
                    in_file=list(in_file), in_model=list(in_model))  # fmt: skip


def _unexpected(loaded: LoadedModel) -> Iterator[Observation]:
    left = [k for k in loaded.unexpected_keys if not HARMLESS.search(k)]
    if not left:
        if loaded.unexpected_keys:
            yield info("harmless_extra", ("unexpected_keys", list(loaded.unexpected_keys[:10])),
                       n=len(loaded.unexpected_keys), names=_names(loaded.unexpected_keys))  # fmt: skip
        return
    evidence = ("unexpected_keys", left[:20])
    if loaded.missing_keys or loaded.mismatched_keys:
        return  # said with the missing ones
    layers = {m.group(0) for k in left if (m := LAYER.search(f".{k}"))}
    if layers:
        yield error("layers_left_out", evidence, n=len(left), layers=len(layers), names=_names(left))
    else:
        yield warning("left_over", evidence, n=len(left), names=_names(left))


def _adapter(loaded: LoadedModel) -> Iterator[Observation]:
    if not loaded.adapter:
        return
    if loaded.adapter_missing_keys:
        yield error("adapter_not_filled", ("missing_keys", list(loaded.adapter_missing_keys[:20])),
                    n=len(loaded.adapter_missing_keys), names=_names(loaded.adapter_missing_keys),
                    extra=len(loaded.adapter_unexpected_keys))  # fmt: skip
        return
    left = loaded.adapter_unexpected_keys
    if left:
        yield warning("adapter_left_over", ("unexpected_keys", list(left[:20])), n=len(left), total=loaded.adapter_keys,
                      names=_names(left))  # fmt: skip
