"""TPL004: the template's control markers are not tokens of this tokenizer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from diagnostics.checkpoint_subject import CheckpointSubject
from diagnostics.report import Observation
from diagnostics.run_checks import NotMeasured, error, info, ok, warning
from diagnostics.template.rendered_turns import Marker, markers_in, rendered_turns
from diagnostics.thresholds import Thresholds
from pipeline.probe import Probe


def markers_are_plain_text(subject: CheckpointSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        Whether what looks like a control token in the rendered template (<|im_end|>, <|eot_id|>, <end_of_turn>, ...) is
        one token of this tokenizer.
    Why it matters:
        A template of another model family is cut into ordinary pieces here. When the marker that ends a turn is among
        them, generate() has no id to stop on, and the model repeats itself until the limit.
    How it is measured:
        Each marker is encoded after a letter and must give exactly one id of that very text. Without a vocabulary the
        marker that ends a turn must stand in added_tokens_decoder, if that holds every special token.
    Known false alarms:
        Role headers as plain text are a format of their own (Zephyr, TinyLlama, OLMo) and only mentioned as long as the
        turn ends with a token. [INST] and <<SYS>> are plain text in Llama 2 and not looked at.
    Fix:
        Use the template of this tokenizer's family, or add the markers as special tokens, resize the embedding and
        train.
    References:
        https://github.com/hiyouga/LLaMA-Factory/issues/6736
        https://github.com/turboderp/exllama/issues/199
    """
    probe = subject.probe
    if probe.template is None:
        raise NotMeasured("template_fails" if probe.template_problem else "no_template")
    turns = rendered_turns(probe)
    text = turns.continued or turns.answered or turns.open
    if text is None:
        raise NotMeasured("template_fails")
    markers = list({m.text: m for m in markers_in(probe, text)}.values())
    if not markers:
        yield ok("no_markers")
        return
    if probe.problem is not None and probe.lists_special_tokens and _unknown(turns.after):
        marker = turns.after[0].text
        listed = (probe.files.config.where("added_tokens_decoder"), len(probe.added))
        yield warning("turn_end_not_listed", listed, ("end of an answer", marker), marker=marker, n=len(probe.added),
                      markers=[m.text for m in markers if m.is_token is None][:5])  # fmt: skip
        return
    if all(m.is_token is None for m in markers):
        raise NotMeasured("token_ids_unknown")
    plain = [m for m in markers if m.is_token is False]
    if not plain:
        known = [m.text for m in markers if m.is_token]
        yield ok("ok", *((m.text, m.id) for m in markers[:6] if m.is_token), n=len(known), tokens=known[:8])
        return
    evidence = [(m.text, _pieces(probe, m)) for m in plain[:5]]
    names = [m.text for m in plain]
    end = turns.after[0] if turns.after else None
    if end is not None and end.is_token is False:
        real = next((m for m in turns.after if m.is_token is not False), None)
        params = {"marker": end.text, "pieces": _pieces(probe, end), "k": len(_pieces(probe, end)), "markers": names}
        if real is None:
            yield error("turn_end_is_text", *evidence, **params)
        else:
            yield info("turn_end_is_text_then_token", *evidence, **params, token=real.text)
    else:
        yield info("headers_are_text", *evidence, markers=names[:5], n=len(names))


def _unknown(after: Sequence[Marker]) -> bool:
    """Something ends an answer that looks like a control token, and nothing that does so is a known token."""
    return bool(after) and all(m.is_token is None for m in after)


def _pieces(probe: Probe, marker: Marker) -> list[str]:
    bare = len(probe.encode(["a"])[0])
    return [p or "?" for p in probe.tokens(probe.encode([f"a{marker.text}"])[0][bare:])]
