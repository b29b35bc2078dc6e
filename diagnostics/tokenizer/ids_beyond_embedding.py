"""TOK002: the tokenizer gives ids that the model has no row for."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from diagnostics.checkpoint_subject import CheckpointSubject
from diagnostics.report import Observation
from diagnostics.run_checks import NotMeasured, error, info, ok, warning
from diagnostics.template.rendered_turns import markers_in, rendered_turns
from diagnostics.thresholds import Thresholds
from diagnostics.tokenizer.embedding_size import embedding_size
from diagnostics.tokenizer.foreign_ids import configured_ids, foreign_ids
from diagnostics.tokenizer.rows_as_text import texts_of_rows
from pipeline.config_files import load_config
from pipeline.probe import Probe

ID_KEYS = ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id", "forced_bos_token_id",
           "forced_eos_token_id")  # fmt: skip
MAX_LISTED = 2000


def ids_beyond_embedding(subject: CheckpointSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        Every id the tokenizer can give, and every id the configuration names, against the rows of the embedding; and
        whether the ids the configuration names are tokens of this tokenizer at all.
    Why it matters:
        An id beyond the last row ends training with an index error (on a GPU: a device-side assert without a line),
        and a tokenizer far smaller than the embedding is usually another model's.
    How it is measured:
        Rows come from the header of the weights, else from vocab_size. Ids beyond them are graded by use: ordinary
        pieces, bos/eos/pad/unk, and markers the template writes are errors; other added tokens a warning, or an error
        when the data uses them; tokens that stand for images or sound are only mentioned. Where none of the eos, bos
        and pad ids of the configuration is a token here, or all end ids are reserved ones beside another eos, it is
        another model's tokenizer; without a vocabulary only if added_tokens_decoder lists every special token.
    Known false alarms:
        More rows than tokens is padding to a round number (T5 32,100 and 32,128; Qwen 151,665 and 152,064) and fine.
        A tokenizer under 90% of the rows is only a warning, and only when 1,024 rows or more are unused.
    Fix:
        model.resize_token_embeddings(len(tokenizer)) and train, or the tokenizer that was saved with the weights.
    References:
        https://github.com/01-ai/Yi/issues/448
        https://github.com/huggingface/transformers/issues/4875
        https://github.com/huggingface/transformers/issues/1848
    """
    size = embedding_size(subject)
    rows = size.rows
    subject.metrics["tokenizer.embedding_rows"] = rows
    named = configured_ids((subject.model_files.config, subject.model_files.generation_config), ID_KEYS)
    beyond = {where: number for where, number in named.items() if number >= rows}
    if beyond:
        where, number = max(beyond.items(), key=lambda item: item[1])
        yield error("configured_id", *beyond.items(), (size.where, rows), where=where, id=number, rows=rows)
    if subject.tokenizer_files.tokenizer.store is None:
        if not beyond and not named:
            raise NotMeasured("no_tokenizer")
        if not beyond:
            yield ok("config_ids", rows=rows)
        return
    probe = subject.probe
    evidence = (size.where, rows)
    foreign = foreign_ids(subject)
    if foreign is not None:
        eos, eos_id = probe.special.get("eos", ("-", None))
        yield error(f"configured_ids_{foreign.kind}", *foreign.ids.items(), (f"eos {eos}", eos_id), eos=eos,
                    id=eos_id if eos_id is not None else "?", ids=list(dict.fromkeys(foreign.ids.values())),
                    names=list(dict.fromkeys(foreign.names)), where=next(iter(foreign.ids)))  # fmt: skip
    over = {text: number for text, number in probe.added.items() if number >= rows}
    ordinary = max(0, probe.top_id + 1 - rows - len(over)) if probe.problem is None else 0
    if ordinary:
        if probe.vocab_size <= probe.top_id:  # ids with holes: the range says nothing of their number
            ordinary = probe.tokens_from(rows)
        read = (probe.source, probe.vocab_size)
        yield error("pieces_beyond", evidence, read, n=ordinary, rows=rows, top=probe.top_id)
    elif over:
        yield _graded(subject, probe, over, rows, evidence)
    elif probe.problem is None:
        spare = rows - probe.vocab_size
        small = probe.vocab_size < limits["tokenizer_to_embedding_min"] * rows
        if small and spare >= limits["embedding_spare_rows"]:
            yield warning("far_smaller", evidence, (probe.source, probe.vocab_size), size=probe.vocab_size, rows=rows,
                          percent=100 * probe.vocab_size / rows)  # fmt: skip
        else:
            yield ok("ok", evidence, (probe.source, probe.vocab_size), size=probe.vocab_size, rows=rows, spare=spare)
    elif not beyond and foreign is None:
        if not probe.added and not named:
            raise NotMeasured("token_ids_unknown")
        yield ok("declared_ids", evidence, n=len(probe.added) + len(named), rows=rows)


def _graded(
    subject: CheckpointSubject, probe: Probe, over: Mapping[str, int], rows: int, evidence: tuple[str, Any]
) -> Observation:
    roles = {text: role for role, (text, _) in probe.special.items()}
    used = [t for t in over if t in roles]
    if not used and probe.template is not None:
        answered = rendered_turns(probe).answered or ""
        used = [m.text for m in markers_in(probe, answered) if m.text in over]
    if used:
        text = used[0]
        return error("special_beyond", evidence, (text, over[text]), token=text, id=over[text], rows=rows,
                     role=roles.get(text, "template"))  # fmt: skip
    media = re.compile(load_config("chat_markers.yaml")["placeholder_for_media"])
    others = [t for t in over if not media.search(t)]
    if not others:
        return info("media_beyond", evidence, tokens=list(over)[:5], n=len(over), rows=rows)
    in_data = _used_in_data(subject, probe, others)
    if in_data is not None:
        return error("used_beyond", evidence, (in_data, over[in_data]), token=in_data, id=over[in_data], rows=rows)
    return warning("added_beyond", evidence, *((t, over[t]) for t in others[:5]), tokens=others[:5], n=len(others),
                   rows=rows)  # fmt: skip


def _used_in_data(subject: CheckpointSubject, probe: Probe, tokens: list[str]) -> str | None:
    try:
        texts = texts_of_rows(subject)
    except NotMeasured:
        return None
    return next((t for t in tokens[:MAX_LISTED] if any(t in text for text in texts)), None)
