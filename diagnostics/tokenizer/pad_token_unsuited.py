"""TOK005: the token that fills up batches."""

from __future__ import annotations

from collections.abc import Iterator

from diagnostics.checkpoint_subject import CheckpointSubject
from diagnostics.report import Observation
from diagnostics.run_checks import error, info, ok, warning
from diagnostics.template.rendered_turns import rendered_turns
from diagnostics.thresholds import Thresholds


def pad_token_unsuited(subject: CheckpointSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        Which token pads, whether it is also an end token, and whether tokenizer and configuration name the same.
    Why it matters:
        Collators that mask labels by token id mask every end token too when pad is eos, and the model never learns to
        stop. An encoder-decoder starts decoding from its pad token: there the two must agree.
    How it is measured:
        pad of the tokenizer, pad_token_id of config.json and generation_config.json, eos and the template's end marker.
    Known false alarms:
        pad = eos is how most released models are published; it harms only with such a collator, so it is no more than
        information here. Whether the model learned to stop is what FWD003 and GEN003 measure.
    Fix:
        Give padding a token of its own (unk or a reserved one), or mask labels by attention mask.
    References:
        https://github.com/unslothai/unsloth/issues/416
        https://github.com/huggingface/blog/issues/1302
        https://github.com/mlabonne/llm-course/issues/33
    """
    probe = subject.probe
    model = subject.model_files
    ends = {probe.special["eos"][0]} if "eos" in probe.special else set()
    if probe.template is not None and not model.is_encoder_decoder:
        end = rendered_turns(probe).end
        ends |= {end.text} if end is not None else set()
    configured = [
        (file.where("pad_token_id"), file.get("pad_token_id"))
        for file in (model.generation_config, model.config)
        if file.get("pad_token_id") is not None
    ]
    unusable = [(where, value) for where, value in configured if type(value) is not int or value < -1]
    if unusable:
        yield error("unusable_id", *unusable, value=unusable[0][1], where=unusable[0][0])
        return
    configured = [(where, value) for where, value in configured if value >= 0]  # -1: no padding index, old LLaMA files
    if "pad" not in probe.special:
        if configured:  # older files leave the token's name to the class
            yield ok("only_configured", *configured, where=configured[0][0], id=configured[0][1])
        elif model.is_encoder_decoder:
            yield warning("encoder_decoder_without_pad", *configured)
        else:
            yield info("no_pad", *configured)
        return
    text, number = probe.special["pad"]
    evidence = (f"pad {text}", number)
    differing = [(where, value) for where, value in configured if number is not None and value != number]
    shown = number if number is not None else "?"
    where, other = differing[0] if differing else ("", None)
    if differing and model.is_encoder_decoder:
        yield warning("ids_differ", evidence, *differing, pad=text, id=shown, where=where, other=other)
    elif text in ends:
        yield info("pad_is_end", evidence, pad=text, id=shown)
    elif differing:
        yield info("ids_differ", evidence, *differing, pad=text, id=shown, where=where, other=other)
    else:
        yield ok("ok", evidence, pad=text, id=shown)
