"""TOK004: generate() waits for another token than the one that ends a turn."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from diagnostics.checkpoint_subject import CheckpointSubject
from diagnostics.report import Observation
from diagnostics.run_checks import NotMeasured, error, info, ok, warning
from diagnostics.template.rendered_turns import Marker, RenderedTurns, rendered_turns
from diagnostics.template.template_missing import says_chat
from diagnostics.thresholds import Thresholds
from diagnostics.tokenizer.foreign_ids import embedding_rows, foreign_ids
from diagnostics.tokenizer.stop_ids import StopIds, stop_ids
from pipeline.config_files import load_config
from pipeline.probe import Probe

# Architectures that write text; a bare `MistralModel` embeds, and ends its texts on purpose.
GENERATES = re.compile(r"CausalLM|LMHead|ConditionalGeneration|Generator")
BASE_NAME = re.compile(r"(?i)(?:^|[-_./])(?:base|pt|pretrain(?:ed)?)(?:$|[-_./])")


def stop_ids_disagree(subject: CheckpointSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        The token that ends an answer in the rendered template (without a template: the tokenizer's eos) against the
        ids that generate() stops on.
    Why it matters:
        transformers stops on generation_config.json, not on the tokenizer's eos. When the two disagree the model writes
        its end marker, is not stopped, and goes on with the next question by itself.
    How it is measured:
        Stop ids: eos_token_id of generation_config.json if that file exists (a missing key then means none), else of
        config.json. End of a turn: the first control token after the answer in a rendered conversation; where there is
        none, the token that opens the next turn. Whether a plain call puts the end token behind a prompt is tried.
        Not judged where the ids belong to another tokenizer (TOK002) or the token that ends a turn has no row.
    Known false alarms:
        Formats whose last turn ends otherwise than the template writes it (configs/chat_markers.yaml). Engines that
        also stop on the tokenizer's eos (vLLM, MLX) hide the fault that transformers shows. A base model that ships a
        chat template looks much like a chat model that can't stop; it is only mentioned where the one token in all
        files is also bos, nothing was trained here, and neither name nor sampling settings speak of chat. A tokenizer
        that appends its end token is right for training texts and for models that embed, where it is only mentioned.
    Fix:
        Put the id of the token that ends a turn into eos_token_id of generation_config.json.
    References:
        https://github.com/QwenLM/Qwen3/issues/927
        https://github.com/huggingface/open-r1/pull/663
        https://github.com/hiyouga/LLaMA-Factory/issues/7454
        https://github.com/meta-llama/llama-cookbook/issues/640
    """
    model = subject.model_files
    stops = stop_ids(model)
    if stops.unusable:
        yield error("unusable_stop_id", (stops.where, stops.value), value=stops.unusable[0], where=stops.where)
        if not stops.ids:
            return
    probe = subject.probe if subject.tokenizer_files.tokenizer.store is not None else None
    rows = embedding_rows(subject)
    if not stops.ids:
        if probe is None and stops.source == "none":
            raise NotMeasured("no_tokenizer")
        yield _no_stop(probe, stops, rows)
        return
    if probe is None:
        raise NotMeasured("no_tokenizer")
    if not model.is_encoder_decoder:
        yield from _end_behind_prompt(subject, probe)
    if foreign_ids(subject) is not None:
        raise NotMeasured("stop_ids_of_another_tokenizer")
    subject.metrics["tokenizer.stop_ids"] = len(stops.ids)
    if model.is_encoder_decoder:
        yield from _encoder_decoder(probe, stops, rows)
        return
    turns = rendered_turns(probe) if probe.template is not None else RenderedTurns()
    end = next((m for m in turns.after if m.is_token is not False), None)
    if end is None and turns.next_turn is not None and turns.next_turn.is_token and not turns.after:
        end = turns.next_turn
    unread = probe.template_problem is not None or (probe.template is not None and turns.answered is None)
    if end is None and unread and (probe.special.get("eos") or ("", None))[1] not in stops.ids:
        raise NotMeasured("template_fails")
    if end is not None and end.id not in stops.ids:
        _require_row(end.text, end.id, rows)
    if end is None:
        yield _by_eos(probe, stops, rows)
    else:
        yield _by_template(subject, probe, stops, turns, end, rows)


def _require_row(token: str, number: int | None, rows: int | None) -> None:
    """A stop id beyond the embedding can't be the cure: the model can't write that token."""
    if number is not None and rows is not None and number >= rows:
        raise NotMeasured("end_token_without_row", token=token, id=number, rows=rows)


def _no_stop(probe: Probe | None, stops: StopIds, rows: int | None) -> Observation:
    text, number = (probe.special.get("eos") or ("", None)) if probe is not None else ("", None)
    if number is None or (rows is not None and number >= rows):
        outcome = "not_declared_unnamed" if stops.source == "none" else "never_stops_unnamed"
    else:
        outcome = "not_declared" if stops.source == "none" else "never_stops"
    found = warning if stops.source == "none" else error
    return found(outcome, (stops.where, None), where=stops.where, eos=text, id=number)


def _end_behind_prompt(subject: CheckpointSubject, probe: Probe) -> Iterator[Observation]:
    """A tokenizer that ends every prompt for a model that is to go on behind it."""
    eos, number = probe.special.get("eos") or ("", None)
    declared = probe.files.config.get("add_eos_token") is True
    where = (probe.files.config.where("add_eos_token"), probe.files.config.get("add_eos_token"))
    names = subject.model_files.config.get("architectures")
    writes = not isinstance(names, list) or any(GENERATES.search(str(name)) for name in names)
    if probe.problem is None and number is not None:
        last = probe.encode(["a"], add_special_tokens=True)[0][-1:]
        if last == [number]:
            # apply_chat_template adds nothing behind its text: only prompts that are encoded plainly are closed
            found = warning if writes and probe.template is None else info
            yield found("eos_behind_prompts", where, ("tokenizer('a').input_ids[-1]", number), eos=eos, id=number)
    elif eos and declared:
        yield info("eos_behind_prompts_declared", where, eos=eos)


def _encoder_decoder(probe: Probe, stops: StopIds, rows: int | None) -> Iterator[Observation]:
    text, number = probe.special.get("eos") or ("", None)
    if number is None:
        raise NotMeasured("token_ids_unknown" if text else "no_eos")
    evidence = ((stops.where, stops.value), (f"eos {text}", number))
    if number not in stops.ids:
        _require_row(text, number, rows)
        yield error("decoder_waits_for_other", *evidence, eos=text, id=number, stops=stops.ids)
        return
    appended = probe.problem is None and probe.encode(["a"], add_special_tokens=True)[0][-1:] == [number]
    if probe.problem is None and not appended:
        yield info("eos_not_appended", *evidence, eos=text, id=number, stops=stops.ids)
    else:
        yield ok("ok_eos", *evidence, eos=text, id=number, stops=stops.ids)


def _by_template(
    subject: CheckpointSubject, probe: Probe, stops: StopIds, turns: RenderedTurns, end: Marker, rows: int | None
) -> Observation:
    eos_text, eos_id = probe.special.get("eos") or ("", None)
    tail = (turns.answered or "")[-80:]
    if end.id is None:
        raise NotMeasured("token_ids_unknown")
    evidence = ((stops.where, stops.value), ("chat template, end of an answer", tail), (end.text, end.id))
    params = {"terminator": end.text, "id": end.id, "stops": stops.ids, "where": stops.where}
    if end.id in stops.ids:
        return ok("next_turn_stops" if turns.end_is_next_turn else "ok", *evidence, **params)
    later = [m for m in turns.after if m.id in stops.ids]
    if later and later[0] in turns.between:  # every turn ends with both, so the model writes both
        return info("stops_one_token_late", *evidence, **params, later=later[0].text)
    names = [n or "?" for n in probe.tokens(stops.ids)]
    usable = [i for i in stops.ids if rows is None or i < rows]  # never advise an id that the model has no row for
    params_of_all = {**params, "names": names, "new": [*usable, end.id]}
    is_base = _is_base_model(subject, stops, eos_id)
    other = _other_last_token(subject.model_files.config.get("model_type"), end.text, probe, stops)
    if later:  # only the whole conversation ends so
        if not (is_base or other) and _waits_for_document_end(end.text, names):
            return error("terminator_not_stopped_on", *evidence, **params_of_all)
        return warning("stops_after_conversation", *evidence, **params, later=later[0].text)
    if other:
        return info("last_turn_ends_otherwise", *evidence, **params, other=other)
    if turns.end_is_next_turn:
        return error("next_turn_not_stopped_on", *evidence, **params)
    if stops.source == "config" and eos_id == end.id:
        # Small files alone may leave generation_config.json out, and belong to an engine that goes by the tokenizer.
        found = warning if subject.model_files.weight_names else info
        return found("only_tokenizer_is_right", *evidence, **params)
    if is_base:
        return info("base_with_template", *evidence, **params, names=names)
    return error("terminator_not_stopped_on", *evidence, **params_of_all)


def _waits_for_document_end(turn_end: str, stop_names: Sequence[str]) -> bool:
    """Known names on both sides: a marker that ends turns, and only markers that end documents."""
    markers = load_config("chat_markers.yaml")
    return turn_end in markers["turn_ends"] and all(name in markers["document_ends"] for name in stop_names)


def _is_base_model(subject: CheckpointSubject, stops: StopIds, eos_id: int | None) -> bool:
    """Qwen's base models ship the chat template of their chat models. All their files stop on the token that
    separates documents, which is bos as well, and nothing says that they were trained to chat."""
    model, here = subject.model_files, subject.checkpoint
    trained = here.kind == "adapter" or here.trainer_state.present or "training_args.bin" in here.store.names()
    if trained or says_chat(subject) is not None or model.generation_config.get("do_sample") is True:
        return False
    if BASE_NAME.search(here.name) or BASE_NAME.search(str(model.config.get("_name_or_path", ""))):
        return True
    separators = {model.config.get("bos_token_id"), model.generation_config.get("bos_token_id")}
    return stops.ids == (eos_id,) and eos_id in separators and model.config.get("eos_token_id") == eos_id


def _other_last_token(model_type: object, turn_end: str, probe: Probe, stops: StopIds) -> str | None:
    for known in load_config("chat_markers.yaml")["last_turn_ends_otherwise"]:
        if known["turn_end"] != turn_end or (known["model_types"] and model_type not in known["model_types"]):
            continue
        if probe.token_ids([known["last"]])[0] in stops.ids:
            return str(known["last"])
    return None


def _by_eos(probe: Probe, stops: StopIds, rows: int | None) -> Observation:
    """No marker ends a turn in the template, or there is none: the tokenizer's eos is all there is to compare."""
    text, number = probe.special.get("eos") or ("", None)
    if not text:
        raise NotMeasured("no_eos")
    if number is None:
        raise NotMeasured("token_ids_unknown")
    evidence = ((stops.where, stops.value), (f"eos {text}", number))
    if number in stops.ids:
        return ok("ok_eos", *evidence, eos=text, id=number, stops=stops.ids)
    _require_row(text, number, rows)
    markers = load_config("chat_markers.yaml")
    names = [n or "?" for n in probe.tokens(stops.ids)]
    params = {"eos": text, "id": number, "stops": stops.ids, "names": names}
    # The tokenizer says that turns end with a chat marker, generate() waits for the end of a document: what a
    # trainer leaves that changes the tokenizer only. The other way round is how some makers publish on purpose.
    if text in markers["turn_ends"] and not any(name in markers["turn_ends"] for name in names):
        return warning("eos_not_stopped_on", *evidence, **params)
    return info("eos_differs", *evidence, **params)
