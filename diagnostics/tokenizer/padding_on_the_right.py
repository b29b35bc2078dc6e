"""TOK008: the side on which shorter rows of a batch are filled up."""

from __future__ import annotations

from collections.abc import Iterator

from diagnostics.checkpoint_subject import CheckpointSubject
from diagnostics.report import Observation
from diagnostics.run_checks import NotMeasured, info, ok, warning
from diagnostics.thresholds import Thresholds


def padding_on_the_right(subject: CheckpointSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        padding_side of the tokenizer against the kind of model.
    Why it matters:
        A decoder that generates for a batch padded on the right continues after padding instead of after the prompt.
    How it is measured:
        padding_side in tokenizer_config.json. Its effect on this model's answers is measured by GEN006.
    Known false alarms:
        Most decoders are published with right padding, which training wants; batch generation code sets left itself.
        So right padding is only mentioned here.
    Fix:
        Set tokenizer.padding_side = "left" before generating for a batch.
    References:
        https://github.com/huggingface/transformers/issues/26569
        https://github.com/huggingface/transformers/issues/25790
    """
    tokenizer = subject.tokenizer_files.tokenizer
    if tokenizer.store is None:
        raise NotMeasured("no_tokenizer")
    if tokenizer.config.value is None:
        raise NotMeasured("no_tokenizer_config")
    side = tokenizer.config.get("padding_side")
    evidence = (tokenizer.config.where("padding_side"), side)
    if side not in ("left", "right", None):
        yield warning("unknown_side", evidence, side=side)
    elif subject.model_files.is_encoder_decoder:
        if side == "left":
            yield info("left_on_encoder", evidence)
        else:
            yield ok("ok_encoder_decoder", evidence, side=side or "right")
    elif side == "left":
        yield ok("ok", evidence, side=side)
    elif side == "right":
        yield info("right", evidence)
    else:
        yield ok("not_declared", evidence)
