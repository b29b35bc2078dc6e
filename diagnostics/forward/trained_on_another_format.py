"""FWD004, the format autopsy: which prompt format the model was trained on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from diagnostics.checkpoint_subject import CheckpointSubject
from diagnostics.forward.how_much_it_knows import Standing, require_known
from diagnostics.report import Observation
from diagnostics.run_checks import NotMeasured, error, info, ok, warning
from diagnostics.thresholds import Thresholds
from pipeline.format_autopsy import Autopsy, Difference, FormatFit

SHOWN = 24
JOINED_OTHERWISE = ("plain_tight", "plain_space", "plain_blank_line")
MARKER = "[EOS]"  # the end marker that a format of configs/prompt_formats.yaml writes as text


def trained_on_another_format(subject: CheckpointSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        Under which prompt format the right answers are likeliest, and whether that is the one the files declare, or,
        where they declare none, the bare prompt as the tokenizer encodes it.
    Why it matters:
        A model asked in another format than the one it was trained on answers off topic, doesn't stop, or repeats
        itself, and nothing in the files or in the log shows why.
    How it is measured:
        The answers of the rows are scored under the declared template and some fifty formats in wide use, with and
        without start token and system message, on the same answer characters. The formats that fit best are scored on
        all rows; differences are paired by row and come with their 95% interval. The format that fits best is the one
        the model was trained on. Formats that make the same tokens are one. Only rows count that the model can do under
        some format. Where an adapter gains nothing over its base in a format of plain words, that format is the base's,
        not the one trained on.
    Known false alarms:
        Rows of a kind the model never learned say nothing. Formats that differ by white space, a start token or a
        system message fit nearly alike. A format that isn't in the list can't win: the closest one does.
    Fix:
        Generate in the format that fits best, or save that template into tokenizer_config.json.
    References:
        https://huggingface.co/docs/transformers/chat_templating
        https://github.com/hiyouga/LlamaFactory/issues/2509
        https://github.com/shibing624/MedicalGPT/issues/135
    """
    autopsy = subject.autopsy
    found = require_known(subject, limits)
    _draw(subject, autopsy)
    best, used = autopsy.best, autopsy.used
    rest = autopsy.next_best()
    gap = autopsy.difference(rest, best) if rest is not None else None
    numbers: dict[str, Any] = {
        "best": best.label, "nats": autopsy.nats(best), "rows": len(autopsy.understood),
        "rival": rest.label if rest else "—", "lead": gap.mean if gap else 0.0,
    }  # fmt: skip
    if used is None:
        yield info("nothing_declared", *_evidence(autopsy, best, rest), **numbers)
        return
    numbers |= {"used": used.label, "used_nats": autopsy.nats(used)}
    subject.metrics["forward.nats_used_format"] = round(autopsy.nats(used), 4)
    subject.metrics["forward.nats_best_format"] = round(autopsy.nats(best), 4)
    evidence = _evidence(autopsy, best, used)
    loss = autopsy.difference(used, best)
    if loss is not None and _only_start_tokens(best, used, loss, limits):
        numbers |= {"delta": loss.mean, "low": loss.low, "high": loss.high}
        kind = "two_start_tokens" if best.starts > 1 else "one_start_token" if best.starts else "no_start_token"
        make = warning if loss.mean >= limits["format_nats_sure"] else info
        yield make(kind, *evidence, **numbers)
        return
    if best.declared and used.declared and best.format.name != used.format.name and loss is not None:
        numbers |= {"delta": loss.mean, "low": loss.low, "high": loss.high}
        yield info("template_variant", *evidence, **numbers)
        return
    used = _reference(autopsy, used)
    numbers |= {"used": used.label, "used_nats": autopsy.nats(used)}
    loss = autopsy.difference(used, best)
    if best is used or loss is None or not _counts(loss, autopsy, limits):
        clear = best is used and gap is not None and gap.low > 0
        yield ok("used_fits_best" if clear else "used_fits_as_well", *evidence, **numbers)
        return
    numbers |= {"delta": loss.mean, "low": loss.low, "high": loss.high}
    if MARKER in best.format.label and MARKER not in used.label and found.level in ("knows", "partly"):
        # Without a template any unknown form of words fits the closest of the bare ones, a marker behind it included.
        known = autopsy.has_template or autopsy.maker.is_encoder_decoder
        alone = known or (gap is not None and gap.mean >= limits["format_nats_clear"])
        make = warning if alone and _clear(loss, autopsy, limits) else info
        yield make("marker_in_prompt" if alone else "words_around", *evidence, marker=MARKER, **numbers)
    elif autopsy.near_to(used, best):
        yield _variant(autopsy, loss, limits, evidence, numbers)
    elif (gain := _adapter_gains_nothing(subject, best, limits)) is not None:
        yield warning("base_format", *evidence, gain=gain, **numbers)
    else:
        yield _other(autopsy, found, loss, limits, evidence, numbers)


def _adapter_gains_nothing(subject: CheckpointSubject, best: FormatFit, limits: Thresholds) -> float | None:
    """Nats per token that an adapter gains in the format that fits best, where that is nothing and the format is plain
    words: then the format is what its base was pre-trained on. None where it gained, and for whole models."""
    words = best.format.wrapper or best.format.family == "plain"
    if not subject.loaded.adapter or not subject.autopsy.has_template or not words:
        return None
    try:
        seen = subject.beside_base.same_format
    except NotMeasured:
        return None
    assert seen is not None
    return seen.mean if seen.high < limits["gain_over_base_min"] else None


def _reference(autopsy: Autopsy, used: FormatFit) -> FormatFit:
    """What another format must beat: of a template's own variants the best one, as a reasoning model's answers
    stand behind a closed thought."""
    return next((fit for fit in autopsy.fits if fit.declared), used) if used.declared else used


def _only_start_tokens(best: FormatFit, used: FormatFit, loss: Difference, limits: Thresholds) -> bool:
    """The same format with another number of start tokens fits better: by little, but in nearly every row."""
    if best.format.name != used.format.name or best.starts == used.starts:
        return False
    return loss.z >= limits["format_z_min"] and loss.mean >= limits["format_nats_start"]


def fits_another_format(autopsy: Autopsy, limits: Thresholds) -> bool:
    """Whether the model was clearly trained on another format than the one in use."""
    if autopsy.used is None:
        return False
    used = _reference(autopsy, autopsy.used)
    if autopsy.near_to(used, autopsy.best):
        return False
    loss = autopsy.difference(used, autopsy.best)
    return loss is not None and _counts(loss, autopsy, limits) and _clear(loss, autopsy, limits)


def _counts(loss: Difference, autopsy: Autopsy, limits: Thresholds) -> bool:
    """Large enough to be no accident and sure enough after trying some fifty formats."""
    least = limits["format_nats_min_encoder" if autopsy.maker.is_encoder_decoder else "format_nats_min"]
    if not autopsy.maker.is_encoder_decoder:
        least = max(least, limits["format_share_min"] * autopsy.nats(autopsy.best))
    return loss.mean >= least and loss.z >= limits["format_z_min"] and loss.agreeing >= limits["format_agreeing_min"]


def _clear(loss: Difference, autopsy: Autopsy, limits: Thresholds) -> bool:
    """Large enough to hurt: in nats, or beside a small loss."""
    share = limits["format_share_clear"] * autopsy.nats(autopsy.best)
    return loss.mean >= min(limits["format_nats_clear"], max(share, limits["format_nats_min"]))


def _variant(
    autopsy: Autopsy, loss: Difference, limits: Thresholds, evidence: list[tuple[str, Any]], numbers: dict[str, Any]
) -> Observation:  # fmt: skip
    best, used = autopsy.best, autopsy.used
    assert used is not None
    # Without a template the bare prompt is this tool's assumption; so is how instruction and input are joined.
    assumed = not autopsy.has_template and not autopsy.maker.is_encoder_decoder
    if assumed or best.format.name in JOINED_OTHERWISE:
        return info("words_around", *evidence, **numbers)
    encoder = autopsy.maker.is_encoder_decoder and _clear(loss, autopsy, limits)
    if encoder or loss.mean >= limits["format_nats_sure"]:
        return warning("variant_matters", *evidence, **numbers)
    return info("variant", *evidence, **numbers)


def _other(
    autopsy: Autopsy, found: Standing, loss: Difference, limits: Thresholds, evidence: list[tuple[str, Any]],
    numbers: dict[str, Any],
) -> Observation:  # fmt: skip
    best = autopsy.best
    if found.level in ("little", "nothing"):
        return info("unsure_other", *evidence, **numbers)
    if not autopsy.has_template and not autopsy.maker.is_encoder_decoder and best.format.wrapper:
        return info("words_around", *evidence, **numbers)
    if not _clear(loss, autopsy, limits):
        return info("slightly_better", *evidence, **numbers)
    make = error if loss.mean >= limits["format_nats_sure"] else warning
    if autopsy.has_template:
        if best.format.family == "plain" and found.level != "knows":
            return warning("bare_text", *evidence, **numbers)
        return make("other_format", *evidence, **numbers)
    if autopsy.maker.is_encoder_decoder:
        return make("other_input", *evidence, **numbers)
    return warning("template_lost", *evidence, **numbers)


def _evidence(autopsy: Autopsy, best: FormatFit, other: FormatFit | None) -> list[tuple[str, Any]]:
    shown = [(f"nats per answer token, {best.label}", round(autopsy.nats(best), 4))]
    if other is not None and other is not best:
        shown.append((f"nats per answer token, {other.label}", round(autopsy.nats(other), 4)))
    return shown


def _draw(subject: CheckpointSubject, autopsy: Autopsy) -> None:
    """The bar chart: every format with its nats and the interval of its distance to the best."""
    best = autopsy.nats(autopsy.best)
    bars = []
    for fit in (*autopsy.fits, *autopsy.others):
        complete = fit in autopsy.fits
        distance = autopsy.difference(fit, autopsy.best)
        # Formats dropped early were scored on fewer rows: their distance to the best on those is what compares.
        if distance is None:
            continue
        nats = best + distance.mean
        bars.append({
            "format": fit.format.name, "label": fit.label, "nats": round(nats, 4),
            "low": round(max(0.0, best + distance.low), 4), "high": round(best + distance.high, 4),
            "delta": round(distance.mean, 4), "declared": bool(fit.used), "best": fit is autopsy.best,
            "rows": distance.rows, "tokens": sum(autopsy.tokens[r] for r in fit.rows if r in autopsy.understood),
            "all_rows": complete, "same_as": list(fit.same_as),
        })  # fmt: skip
    bars.sort(key=lambda bar: (not bar["best"], bar["nats"]))
    kept = bars[:SHOWN] + [bar for bar in bars[SHOWN:] if bar["declared"]]
    subject.curves["format_autopsy"] = kept
