"""RUN014: a model that this method can't train."""

from __future__ import annotations

from collections.abc import Iterator

from diagnostics.recipe_subject import RecipeSubject
from diagnostics.report import Observation
from diagnostics.run_checks import error, ok, warning
from diagnostics.thresholds import Thresholds

FOR_ENCODER_DECODERS = ("sft", "dpo")
_NO_WRITERS = ("ForSequenceClassification", "ForTokenClassification", "ForMaskedLM", "ForQuestionAnswering")


def model_unfit_for_method(subject: RecipeSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        Whether model_name_or_path is a whole model of the kind that the method trains: no adapter, no encoder-decoder
        for TRL's trainers, no classifier for methods that train a writer.
    Why it matters:
        An adapter given as the model is put on its base by some loaders, and then the base is what DPO compares with.
        TRL has not trained encoder-decoders since 0.29: it ends in the middle of the first step.
    How it is measured:
        By adapter_config.json and by architectures and is_encoder_decoder of config.json.
    Known false alarms:
        None known.
    Fix:
        Give the base as model_name_or_path and the adapter as adapter_name_or_path. Encoder-decoders: sft or dpo.
    References:
        https://github.com/huggingface/trl/issues/947
        https://github.com/huggingface/trl/commit/e3b7897c8
    """
    checkpoint = subject.checkpoint
    if checkpoint.kind == "adapter" or checkpoint.adapter_config.value is not None and not checkpoint.config.value:
        base = str(checkpoint.adapter_config.get("base_model_name_or_path") or "?")
        yield error("adapter_as_model", (checkpoint.adapter_config.where("base_model_name_or_path"), base), base=base)
        return
    if checkpoint.problem is not None:
        yield error("nothing_there", ("model_name_or_path", subject.get("model_name_or_path")), path=checkpoint.name)
        return
    kinds = [str(one) for one in checkpoint.config.get("architectures") or ()]
    evidence = (checkpoint.config.where("architectures"), kinds)
    if checkpoint.is_encoder_decoder and subject.method not in FOR_ENCODER_DECODERS:
        yield error("encoder_decoder", evidence, method=subject.method, names=", ".join(FOR_ENCODER_DECODERS))
        return
    if subject.method != "reward" and kinds and all(k.endswith(_NO_WRITERS) for k in kinds):
        yield error("writes_nothing", evidence, kind=kinds[0], method=subject.method)
        return
    if not checkpoint.is_encoder_decoder and subject.method == "dpo" and "simpo" in (subject.get("loss_type") or ()):
        yield error("loss_for_encoder_decoders", ("loss_type", subject.get("loss_type")))
        return
    if subject.method == "reward" and int(checkpoint.config.get("num_labels") or 1) > 1:
        yield warning("several_labels", (checkpoint.config.where("num_labels"), checkpoint.config.get("num_labels")))
        return
    yield ok(kind=kinds[0] if kinds else str(checkpoint.config.get("model_type") or "?"), method=subject.method)
