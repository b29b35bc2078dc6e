"""GEN001: generation settings saved with the model that spoil its answers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from diagnostics.checkpoint_subject import CheckpointSubject
from diagnostics.report import Observation
from diagnostics.run_checks import NotMeasured, error, info, ok, warning
from diagnostics.thresholds import Thresholds
from diagnostics.tokenizer.stop_ids import stop_ids
from pipeline.checkpoint import ENCODER_DECODER_TYPES, Checkpoint
from pipeline.json_file import JsonFile

NUMBERS = (
    "temperature", "top_p", "top_k", "min_p", "repetition_penalty", "length_penalty", "no_repeat_ngram_size",
    "num_beams", "max_length", "max_new_tokens", "min_length", "min_new_tokens", "num_return_sequences",
)  # fmt: skip
# Without effect unless do_sample is on; the values generate() uses anyway.
SAMPLING = {"temperature": 1.0, "top_p": 1.0, "top_k": 50, "min_p": None, "typical_p": 1.0}


# Encoder-decoders whose configuration class sets no start token where config.json is silent.
NO_START_BY_DEFAULT = ("t5", "longt5", "switch_transformers")


def generation_defaults(subject: CheckpointSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        The settings that generate() takes from the files when nobody passes any.
    Why it matters:
        A sound model looks broken under them: cut after 20 tokens, pushed off topic by a repetition penalty, forbidden
        to end, or with damaged logits made to look like words. An encoder-decoder without a start token writes nothing.
    How it is measured:
        generation_config.json (without it, config.json) field by field: impossible values are errors, extreme ones
        warnings by the thresholds, settings without effect are mentioned.
    Known false alarms:
        Summarisation models are published with beams, no_repeat_ngram_size 3 and short limits: not blamed.
        temperature beside do_sample=false is a habit without effect.
    Fix:
        Delete the field from generation_config.json, or pass your own settings to generate().
    References:
        https://github.com/huggingface/transformers/issues/13424
        https://github.com/huggingface/autotrain-advanced/issues/544
        https://github.com/charent/ChatLM-mini-Chinese
    """
    model = subject.model_files
    stops = stop_ids(model).ids  # also tells models that never generate
    file = model.generation_config if model.generation_config.value is not None else model.config
    if file.value is None:
        raise NotMeasured("no_config")
    wrong = [k for k in NUMBERS if file.get(k) is not None and not _number(file.get(k))]
    for key in wrong:
        yield error("not_a_number", (file.where(key), file.get(key)), field=key, value=file.get(key))
    if _no_start(model, file):
        yield error("no_decoder_start", (file.where("decoder_start_token_id"), None), file=file.name)
    found = bool(wrong) or _no_start(model, file)
    settings = {k: None if k in wrong else file.get(k) for k in NUMBERS}
    for seen in [
        *_impossible(file, settings, stops), *_length(file, settings, limits),
        *_sampling(file, settings, limits), *_repetition(file, settings, limits, model.is_encoder_decoder),
    ]:  # fmt: skip
        found = True
        yield seen
    if found:
        return
    if model.is_encoder_decoder and settings["max_length"] is None and settings["max_new_tokens"] is None:
        yield info("default_length", (file.where("max_length"), None))
        return
    shown = {k: v for k, v in settings.items() if v is not None}
    yield ok("ok", *((file.where(k), v) for k, v in shown.items()), file=file.name, n=len(shown))


def _no_start(model: Checkpoint, file: JsonFile) -> bool:
    """Whether generate() has nothing to begin an encoder-decoder's answer with: it then fails. A generation_config.json
    counts alone, whatever config.json says."""
    if not model.is_encoder_decoder or model.config.get("model_type") not in ENCODER_DECODER_TYPES:
        return False
    if file is model.config and model.config.get("model_type") not in NO_START_BY_DEFAULT:
        return False
    return file.get("decoder_start_token_id") is None and file.get("bos_token_id") is None


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value == value


def _impossible(file: JsonFile, settings: dict[str, Any], stops: tuple[int, ...]) -> Iterator[Observation]:
    sampled = file.get("do_sample") is True
    beams = settings["num_beams"] or 1
    temperature, top_p, penalty = settings["temperature"], settings["top_p"], settings["repetition_penalty"]
    if sampled and temperature is not None and temperature <= 0:
        yield error("temperature_zero", (file.where("temperature"), temperature), value=temperature)
    if sampled and top_p is not None and not 0 < top_p <= 1:
        yield error("out_of_range", (file.where("top_p"), top_p), field="top_p", value=top_p, range="0 < top_p <= 1")
    if penalty is not None and penalty <= 0:
        yield error("out_of_range", (file.where("repetition_penalty"), penalty), field="repetition_penalty",
                    value=penalty, range="> 0")  # fmt: skip
    count = settings["num_return_sequences"] or 1
    if count > 1 and ((beams == 1 and not sampled) or (beams > 1 and count > beams)):
        yield error("too_many_sequences", (file.where("num_return_sequences"), count), n=count, beams=beams)
    forbidden = set(_ids(file.get("suppress_tokens")))
    words = file.get("bad_words_ids")
    for word in words if isinstance(words, list) else ():
        forbidden |= set(_ids(word)) if isinstance(word, list) and len(word) == 1 else set()
    if stops and set(stops) <= forbidden:
        yield error("end_is_forbidden", (file.where("suppress_tokens"), sorted(set(stops))), stops=stops)
    longest = settings["max_new_tokens"]
    least = settings["min_new_tokens"]
    if longest is None:
        longest, least = settings["max_length"], settings["min_length"]
    if longest is not None and least is not None and least > longest:
        yield error("minimum_above_maximum", (file.where("min_length"), least), least=least, longest=longest)


def _ids(value: Any) -> list[int]:
    return [v for v in value if type(v) is int] if isinstance(value, list) else []


def _length(file: JsonFile, settings: dict[str, Any], limits: Thresholds) -> Iterator[Observation]:
    for key, limit in (("max_new_tokens", "max_new_tokens_min"), ("max_length", "max_length_min")):
        value = settings[key]
        if value is not None and value <= limits[limit] and not (key == "max_length" and settings["max_new_tokens"]):
            yield warning("very_short", (file.where(key), value), field=key, value=value)


def _sampling(file: JsonFile, settings: dict[str, Any], limits: Thresholds) -> Iterator[Observation]:
    sampled = file.get("do_sample") is True
    beams = settings["num_beams"] or 1
    if sampled:
        temperature = settings["temperature"]
        if temperature is not None and temperature >= limits["temperature_max"]:
            yield warning("temperature_high", (file.where("temperature"), temperature), value=temperature,
                          limit=limits["temperature_max"])  # fmt: skip
        if beams > 1:
            yield info("beams_with_sampling", (file.where("num_beams"), beams), beams=beams)
    else:
        idle = [k for k, usual in SAMPLING.items() if file.get(k) is not None and file.get(k) != usual]
        if idle:
            yield info("sampling_off", *((file.where(k), file.get(k)) for k in idle), fields=idle)
    if file.get("remove_invalid_values") is True:
        yield warning("hides_invalid_values", (file.where("remove_invalid_values"), True))


def _repetition(
    file: JsonFile, settings: dict[str, Any], limits: Thresholds, encoder_decoder: bool
) -> Iterator[Observation]:
    beams = settings["num_beams"] or 1
    length_penalty = settings["length_penalty"]
    if length_penalty is not None and length_penalty < 0:
        evidence = (file.where("length_penalty"), length_penalty)
        if beams > 1:
            yield warning("short_beams_favoured", evidence, value=length_penalty, beams=beams)
        else:
            yield info("length_penalty_idle", evidence, value=length_penalty)
    penalty = settings["repetition_penalty"]
    if penalty is not None and penalty >= limits["repetition_penalty_max"]:
        yield warning("penalty_high", (file.where("repetition_penalty"), penalty), value=penalty,
                      limit=limits["repetition_penalty_max"])  # fmt: skip
    elif penalty is not None and 0 < penalty < limits["repetition_penalty_min"]:
        yield warning("penalty_rewards_repetition", (file.where("repetition_penalty"), penalty), value=penalty)
    size = settings["no_repeat_ngram_size"]
    if size is not None and 0 < size <= limits["no_repeat_ngram_size_bad"]:
        yield warning("ngram_ban_tight", (file.where("no_repeat_ngram_size"), size), size=size)
    elif size is not None and 0 < size <= limits["no_repeat_ngram_size_doubtful"] and not encoder_decoder:
        yield info("ngram_ban", (file.where("no_repeat_ngram_size"), size), size=size)
