"""WGT005: tokens that are used although their rows were never trained."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from diagnostics.checkpoint_subject import CheckpointSubject
from diagnostics.report import Observation
from diagnostics.run_checks import NotMeasured, error, info, ok, warning
from diagnostics.template.rendered_turns import markers_in, rendered_turns
from diagnostics.thresholds import Thresholds
from diagnostics.tokenizer.embedding_size import embedding_size
from diagnostics.tokenizer.rows_as_text import texts_of_rows
from diagnostics.tokenizer.stop_ids import stop_ids
from pipeline.weight_file import FLOAT_DTYPES
from pipeline.weight_names import embedding_tensor, head_tensor

if TYPE_CHECKING:
    from pipeline.checkpoint import Checkpoint
    from pipeline.embedding_rows import EmbeddingRows, RowFacts
    from pipeline.weight_file import TensorInfo

_SHOWN = 8
_LAST_IDS = 512  # where tokenizers keep reserved tokens and the rarest pieces


def untrained_token_rows(subject: CheckpointSubject, limits: Thresholds) -> Iterator[Observation]:
    """Tokens that are used although their rows were never trained.

    What it checks:
        The rows of the token that ends an answer, of the special tokens that the chat template writes, and of the
        tokens of the data, in the embedding and in the output head.
    Why it matters:
        A row that no gradient ever reached says nothing: the model can't tell the token from other unused ones, gives
        it next to no probability, and training on it with a frozen embedding gives infinite gradients. Chat tokens of
        a base model and freshly added tokens are the usual ones.
    How it is measured:
        A row counts as untrained if its norm is almost zero (below `untrained_row_norm` of the median), if it equals
        the row of another unused token bit by bit, or, for special tokens, if it lies at the mean of all rows
        (`untrained_row_from_mean`), where `resize_token_embeddings` puts new ones, or, in the output head, has just the
        size of a new random row (config.json's initializer_range) among rows that grew by training. Only single rows
        are read.
    Known false alarms:
        Rows of reserved tokens and of padding behind the vocabulary are untrained in most released models; they are
        not judged. The padding token's row is zero by design. A base model whose template nobody has trained yet gets
        a warning, no error.
    Fix:
        Train embedding and head too (`modules_to_save: [embed_tokens, lm_head]`, or `trainable_token_indices`), or use
        a template whose tokens the base model knows; at least start the rows from the mean of trained ones.
    References:
        https://arxiv.org/abs/2405.05417
        https://github.com/unslothai/unsloth/issues/658
        https://github.com/meta-pytorch/torchtune/issues/2429
        https://github.com/QwenLM/Qwen3/issues/1064
    """
    used = _used_tokens(subject)
    entering, leaving = _matrices(subject)
    inside = _measure(subject, *entering, [*used.template, *used.data], used.reserved)
    outside = _measure(subject, *leaving, [*used.terminators, *used.added], used.reserved)
    if inside is None or outside is None:
        readable = all(t.dtype in FLOAT_DTYPES for _, t in (entering, leaving))
        raise NotMeasured("rows_unread" if readable else "quantised_weights")
    fresh = _initializer_range(subject)
    ends = [i for i in used.terminators if i in outside.facts and _untrained(outside.facts[i], outside, limits, fresh)]
    marks = [i for i in used.template if i in inside.facts and _untrained(inside.facts[i], inside, limits, 0.0)]
    from_data = [
        i for i in used.data
        if (i in inside.facts and _untrained(inside.facts[i], inside, limits, None))
        or (i in used.added and i in outside.facts and _untrained(outside.facts[i], outside, limits, fresh))
    ]
    if len(ends) < len(used.terminators):  # without a tokenizer any of the ids that stop may be the one
        ends = []
    shown = {i: _evidence(inside, i, used) for i in (*marks, *from_data)}
    shown |= {i: _evidence(outside, i, used) for i in ends}
    evidence = list(shown.values())[:_SHOWN]
    in_use = bool(used.data) or not used.stops.isdisjoint(used.terminators)
    for token in ends[:1]:
        facts = outside.facts[token]
        told: dict[str, Any] = {
            "token": used.name(token), "id": token, "norm": facts.norm, "median": outside.median_norm,
            "twins": len(facts.twins), "from_mean": facts.from_mean,
        }  # fmt: skip
        if in_use:
            yield error("terminator_untrained", *evidence, **told)
        else:
            yield warning("unused_terminator_untrained", *evidence, **told)
    if marks and not ends:
        names = [used.name(i) for i in marks[:_SHOWN]]
        if used.data:
            yield error("template_tokens_untrained", *evidence, tokens=names, count=len(marks))
        else:
            yield warning("template_tokens_untrained", *evidence, tokens=names, count=len(marks))
    plain = [i for i in from_data if i not in marks]
    if plain:
        times = sum(used.data[i] for i in plain)
        share = times / sum(used.data.values())
        names = [used.name(i) for i in plain[:_SHOWN]]
        if share >= limits["untrained_data_share"]:
            yield error("data_tokens_untrained", *evidence, tokens=names, count=len(plain), share=100 * share)
        else:
            yield warning("data_tokens_untrained", *evidence, tokens=names, count=len(plain), share=100 * share)
    if not ends and not marks and not plain:
        if not used.data and not used.terminators:
            yield info("nothing_used")
        else:
            yield ok(checked=len(inside.facts.keys() | outside.facts.keys()), matrix=inside.tensor.name)


@dataclass(frozen=True)
class _UsedTokens:
    """terminators: one of these ends an answer. template: ids of the special tokens that the template writes.

    data: id -> how often. added: those of them that were added to the vocabulary. stops: ids on which generation ends.
    reserved: ids of tokens that nothing above uses.
    """

    terminators: tuple[int, ...]
    template: tuple[int, ...]
    data: Counter[int]
    added: frozenset[int]
    stops: frozenset[int]
    reserved: tuple[int, ...]
    names: dict[int, str]

    def name(self, token: int) -> str:
        return self.names.get(token, str(token))


def _used_tokens(subject: CheckpointSubject) -> _UsedTokens:
    try:
        stops = frozenset(stop_ids(subject.model_files).ids)
    except NotMeasured:
        stops = frozenset()
    try:
        probe = subject.probe
    except NotMeasured:
        probe = None
    if probe is None or probe.problem is not None:
        if not stops:
            raise NotMeasured("no_tokenizer")
        return _UsedTokens(tuple(sorted(stops)), (), Counter(), frozenset(), stops, (), {})
    eos = probe.special.get("eos", ("", None))[1]
    turns = rendered_turns(probe)
    terminator = turns.after[0].id if turns.after else eos
    # by design without training: the padding row stays zero, and nothing is meant to become unknown
    silent = {i for role in ("pad", "unk") if (i := probe.special.get(role, ("", None))[1]) is not None and i != eos}
    written = markers_in(probe, turns.answered or "")
    template = [m.id for m in written if m.id is not None and m.id != terminator and m.id not in silent]
    data: Counter[int] = Counter()
    try:
        texts = texts_of_rows(subject)
    except NotMeasured:
        texts = []
    for ids in probe.encode(texts):
        data.update(i for i in ids if i not in silent)
    busy = {terminator, *template, *data, *stops}
    rows = embedding_size(subject).rows
    reserved = [i for i in probe.added.values() if i not in busy][:_LAST_IDS]
    reserved += [i for i in range(max(0, probe.vocab_size - _LAST_IDS), probe.vocab_size) if i not in busy]
    reserved += range(max(probe.vocab_size, probe.top_id + 1), min(rows, probe.vocab_size + _LAST_IDS))
    wanted = [i for i in (terminator, *template, *data) if i is not None]
    names = {i: token for i, token in zip(wanted, probe.tokens(wanted), strict=True) if token is not None}
    stops |= {eos} if eos is not None else set()
    ends = () if terminator is None else (terminator,)
    added = frozenset(probe.added.values()).intersection(data)
    return _UsedTokens(ends, tuple(dict.fromkeys(template)), data, added, stops, tuple(reserved), names)


def _matrices(
    subject: CheckpointSubject,
) -> tuple[tuple[Checkpoint, TensorInfo], tuple[Checkpoint, TensorInfo]]:
    """Embedding and output matrix, each with the checkpoint that holds it: an adapter's full copies before its base."""
    own = subject.local_checkpoint
    places: list[Checkpoint] = [own]
    if own.kind == "adapter":
        if any(m in n for n in own.tensors for m in ("embed_tokens.lora_", "lm_head.lora_", "trainable_tokens_")):
            raise NotMeasured("adapter_changes_rows")
        if subject.local_base is None:
            raise NotMeasured("no_base")
        places.append(subject.local_base)
    embedding = next(((c, t) for c in places if (t := embedding_tensor(c.tensors)) is not None), None)
    if embedding is None:
        raise NotMeasured("no_embedding")
    return embedding, next(((c, t) for c in places if (t := head_tensor(c.tensors)) is not None), embedding)


def _measure(
    subject: CheckpointSubject, checkpoint: Checkpoint, tensor: TensorInfo, wanted: Sequence[int],
    reserved: Sequence[int],
) -> EmbeddingRows | None:  # fmt: skip
    from pipeline.embedding_rows import measure_rows

    subject.note(f"rows of {tensor.name}")
    return measure_rows(checkpoint, tensor, wanted, reserved)


def _initializer_range(subject: CheckpointSubject) -> float:
    """Standard deviation of a row that was just made; 0.0 where the configuration names none that can be used."""
    config = subject.model_files.config
    value = next((v for key in ("initializer_range", "init_std") if (v := config.get(key)) is not None), None)
    return float(value) if isinstance(value, float | int) and not isinstance(value, bool) and 0 < value < 10 else 0.0


def _untrained(facts: RowFacts, rows: EmbeddingRows, limits: Thresholds, fresh: float | None) -> bool:
    """fresh: standard deviation of new rows, for special tokens: 0.0 where their size says nothing (rows that are only
    read keep theirs). None for ordinary tokens, whose rows are rarely new."""
    if facts.norm <= limits["untrained_row_norm"] * rows.median_norm or facts.twins:
        return True
    if fresh is None:
        return False
    made = fresh * math.sqrt(rows.tensor.shape[1])
    as_made = made > 0 and abs(facts.norm / made - 1) <= limits["fresh_row_spread"]
    if as_made and facts.norm <= limits["fresh_row_norm"] * rows.median_norm:
        return True
    return facts.from_mean < limits["untrained_row_from_mean"]


def _evidence(rows: EmbeddingRows, token: int, used: _UsedTokens) -> tuple[str, dict[str, Any]]:
    facts = rows.facts[token]
    seen = {"token": used.name(token), "norm": facts.norm, "median_norm": rows.median_norm,
            "equal_rows": list(facts.twins[:4]), "distance_from_mean": facts.from_mean}  # fmt: skip
    return (f"{rows.tensor.file}:{rows.tensor.name}[{token}]", seen)
