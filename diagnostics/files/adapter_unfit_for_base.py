"""ADP003: an adapter whose tensors fit neither its own configuration nor its base."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from diagnostics.checkpoint_subject import CheckpointSubject
from diagnostics.files.size_in_words import named
from diagnostics.report import Observation
from diagnostics.run_checks import NotMeasured, error, info, ok, warning
from diagnostics.thresholds import Thresholds
from pipeline.adapter_tensors import AdaptedModule, adapted_modules, full_copies, module_shapes
from pipeline.checkpoint import Checkpoint
from pipeline.weight_names import is_embedding_or_head

_LAYER = re.compile(r"(?:^|\.)(?:layers|h|block|blocks|layer)\.(\d+)\.")
# Weights that transformers packs and unpacks on loading: shapes on disk and in memory differ.
_PACKED = re.compile(r"experts|block_sparse_moe")
# Layers of torch.nn.Linear's transpose, [in, out].
_TRANSPOSED = ("gpt2", "gpt_bigcode", "openai-gpt", "imagegpt")


def adapter_unfit_for_base(subject: CheckpointSubject, limits: Thresholds) -> Iterator[Observation]:
    """An adapter whose tensors fit neither its own configuration nor its base.

    What it checks:
        Rank, scaling, target_modules and modules_to_save in adapter_config.json against the tensors; then every adapted
        module against the base: is there a module of that name, and does it have that shape?
    Why it matters:
        PEFT puts a fresh, empty adapter where a saved one finds no place, and says so in a warning only. The model then
        answers like its base.
    How it is measured:
        lora_A is [rank, in] and lora_B [out, rank]; in and out must be those of the base's weight.
    Known false alarms:
        Other methods than LoRA are counted and not compared, nor are experts, which transformers repacks. Lists of
        target modules that name more than the base has are usual and fine.
    Fix:
        Load the adapter on the base it was trained on; restore the adapter_config.json that was saved with it.
    References:
        https://github.com/huggingface/peft/issues/2699
        https://github.com/huggingface/transformers/pull/34068
        https://github.com/huggingface/peft/issues/334
    """
    checkpoint = subject.checkpoint
    if checkpoint.kind != "adapter":
        raise NotMeasured("not_an_adapter")
    config = checkpoint.adapter_config
    if not config.present:
        yield error("no_adapter_config", (checkpoint.store.label, "adapter_config.json"), file="adapter_config.json")
    if not checkpoint.tensors:
        if config.present:
            raise NotMeasured("no_weights")
        return
    kind = config.get("peft_type")
    modules = adapted_modules(checkpoint.tensors)
    if not modules:
        yield info("other_method", (config.where("peft_type"), kind), method=kind if isinstance(kind, str) else "?",
                   found=len(checkpoint.tensors))  # fmt: skip
        return
    found = list(_against_config(checkpoint, modules)) if config.value is not None else []
    base = subject.base
    if base is not None and base.problem is None and base.kind != "adapter":
        found += _against_base(checkpoint, base, modules)
    elif not found:
        found.append(info("not_compared", (config.where("base_model_name_or_path"), None), modules=len(modules)))
    yield from found
    if not found:
        rank = next(iter(modules.values())).rank
        yield ok(modules=len(modules), rank=rank, base=base.name if base is not None else "-")


def _against_config(checkpoint: Checkpoint, modules: Mapping[str, AdaptedModule]) -> Iterator[Observation]:
    config = checkpoint.adapter_config
    plain = config.get("peft_type") == "LORA"
    rank, alpha = config.get("r"), config.get("lora_alpha")
    if plain and alpha == 0:
        yield error("scaled_to_zero", (config.where("lora_alpha"), 0), alpha=0)
    others = {p: m.rank for p, m in modules.items() if m.rank not in (None, 0, rank) and not _PACKED.search(p)}
    if plain and type(rank) is int and others and not config.get("rank_pattern"):
        path, seen = next(iter(others.items()))
        yield error("rank_differs", (config.where("r"), rank), (path, seen), declared=rank, found=len(others),
                    of=len(modules), rank=seen, module=path)  # fmt: skip
    targets = config.get("target_modules")
    if isinstance(targets, list) and targets and all(isinstance(t, str) for t in targets):
        outside = [p for p in modules if not any(_targets(t, p) for t in targets) and not _PACKED.search(p)]
        if outside:
            yield error("not_targeted", (config.where("target_modules"), sorted(targets)[:20]), found=len(outside),
                        of=len(modules), modules=named(outside))  # fmt: skip
    saved = config.get("modules_to_save")
    copies = full_copies(checkpoint.tensors)
    if isinstance(saved, list):
        lost = [s for s in saved if isinstance(s, str) and not any(s in name.split(".") for name in copies)]
        if lost and not any(_in_base_only(s) for s in lost):
            yield error("saved_module_missing", (config.where("modules_to_save"), saved[:20]), modules=named(lost))


def _in_base_only(module: str) -> bool:
    """Heads that PEFT adds to the list by itself for classification tasks, whether the model has them or not."""
    return module in ("classifier", "score")


def _targets(target: str, path: str) -> bool:
    return path == target or path.endswith(f".{target}") or f".{path}".endswith(f".{target.removeprefix('model.')}")


def _against_base(
    checkpoint: Checkpoint, base: Checkpoint, modules: Mapping[str, AdaptedModule]
) -> Iterator[Observation]:
    shapes = module_shapes(base)
    if not shapes:
        yield info("base_unknown", (base.given, list(base.weight_names[:5])), base=base.name)
        return
    where = (base.given, base.config.get("model_type"))
    judged = {p: m for p, m in modules.items() if not _PACKED.search(p)}
    unknown = [p for p in judged if p not in shapes]
    if len(unknown) == len(judged) and judged:
        yield error("no_module_fits", where, (checkpoint.weight_names[0], unknown[:10]), modules=len(judged),
                    example=unknown[0], base=base.name, in_base=next(iter(shapes)))  # fmt: skip
        return
    if unknown:
        yield error("modules_unknown", where, (checkpoint.weight_names[0], unknown[:20]), found=len(unknown),
                    of=len(judged), modules=named(unknown), base=base.name)  # fmt: skip
    unfit = [p for p in judged if p in shapes and not _fits(checkpoint, base, judged[p], shapes[p])]
    if unfit:
        rows, columns = judged[unfit[0]].adapts
        seen = [(p, {"adapter": judged[p].adapts, "base": shapes[p]}) for p in unfit[:10]]
        yield error("shapes_differ", where, *seen,
                    found=len(unfit), of=len(judged), module=unfit[0], adapter=f"{rows} x {columns}",
                    wanted=" x ".join(map(str, shapes[unfit[0]])), base=base.name)  # fmt: skip
        return
    yield from _rows(checkpoint, base, shapes)
    if not unknown:
        yield from _bare_layers(checkpoint, base, judged, shapes)


def _fits(checkpoint: Checkpoint, base: Checkpoint, module: AdaptedModule, shape: tuple[int, ...]) -> bool:
    if len(shape) != 2 or checkpoint.adapter_config.get("use_qalora"):
        return True
    flipped = base.config.get("model_type") in _TRANSPOSED or checkpoint.adapter_config.get("fan_in_fan_out") is True
    rows, columns = module.adapts
    sizes = [shape, shape[::-1]] if flipped else [shape]
    return any(rows in (None, 0, a) and columns in (None, 0, b) for a, b in sizes)


def _rows(checkpoint: Checkpoint, base: Checkpoint, shapes: Mapping[str, tuple[int, ...]]) -> Iterator[Observation]:
    """Full copies of embedding or head with another number of rows: the vocabulary grew in training."""
    for name, tensor in full_copies(checkpoint.tensors).items():
        shape = shapes.get(name.removesuffix(".weight"))
        if shape is None or not is_embedding_or_head(name) or len(tensor.shape) != 2 or tensor.shape == shape:
            continue
        if tensor.shape[1:] == shape[1:]:
            yield warning("rows_resized", (tensor.name, list(tensor.shape)), (base.given, list(shape)), tensor=name,
                          rows=tensor.shape[0], base_rows=shape[0], base=base.name)  # fmt: skip
            return
        yield error("shapes_differ", (tensor.name, list(tensor.shape)), (base.given, list(shape)), found=1, of=1,
                    module=name, adapter=" x ".join(map(str, tensor.shape)), wanted=" x ".join(map(str, shape)),
                    base=base.name)  # fmt: skip
        return


def _bare_layers(
    checkpoint: Checkpoint, base: Checkpoint, modules: Mapping[str, AdaptedModule],
    shapes: Mapping[str, tuple[int, ...]],
) -> Iterator[Observation]:  # fmt: skip
    """Layers at the end of the base that this adapter, made for every layer, does not reach."""
    config = checkpoint.adapter_config
    if any(config.get(k) for k in ("layers_to_transform", "exclude_modules", "layer_replication", "layers_pattern")):
        return
    if not isinstance(config.get("target_modules"), list):
        return
    own = {int(m.group(1)) for p in modules if (m := _LAYER.search(p)) and len(m.group(1)) < 7}
    ends = {p.rpartition(".")[2] for p in modules}
    theirs = {int(m.group(1)) for p in shapes if p.rpartition(".")[2] in ends and (m := _LAYER.search(p))}
    if own and own == set(range(len(own))) and len(theirs) > len(own) and own < theirs:
        yield warning("layers_without_adapter", (base.given, base.config.get("num_hidden_layers")), layers=len(own),
                      base_layers=len(theirs), base=base.name)  # fmt: skip
