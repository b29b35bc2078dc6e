"""TOK007: two start tokens in front of a prompt."""

from __future__ import annotations

from collections.abc import Iterator

from diagnostics.checkpoint_subject import CheckpointSubject
from diagnostics.report import Observation
from diagnostics.run_checks import NotMeasured, error, info, ok, warning
from diagnostics.template.rendered_turns import rendered_turns
from diagnostics.thresholds import Thresholds
from diagnostics.tokenizer.rows_as_text import data_rows
from pipeline.probe import Probe


def double_bos(subject: CheckpointSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        How often the start token stands in front: once from the template, once from the tokenizer, once in the data.
    Why it matters:
        Two start tokens are a prompt the model was never trained on; trained so and used otherwise, answers get worse.
    How it is measured:
        The rendered prompt is encoded without special tokens, as apply_chat_template does, and its first two ids are
        compared with bos; a plain call shows whether the tokenizer adds its own; data rows are searched for a literal
        bos at their start.
    Known false alarms:
        Llama 3 and DeepSeek write bos in the template and add it in a plain call: right as long as rendered text is
        encoded with add_special_tokens=False. That is only mentioned.
    Fix:
        Encode rendered text with add_special_tokens=False, and take literal start tokens out of the data.
    References:
        https://github.com/OpenRLHF/OpenRLHF/issues/393
        https://github.com/huggingface/trl/issues/1400
        https://github.com/deepseek-ai/DeepSeek-R1/issues/151
    """
    probe = subject.probe
    if "bos" not in probe.special:
        raise NotMeasured("no_bos")
    bos, number = probe.special["bos"]
    opened = rendered_turns(probe).open if probe.template is not None else None
    by_template = _leading(opened or "", bos)
    by_tokenizer, told_by = _added_by_tokenizer(subject, probe, number)
    seen = False
    if opened is not None and by_template >= 2:
        seen = True
        start = probe.encode([opened])[0][:4] if probe.problem is None else opened[:80]
        yield error("template_writes_two", (probe.template_source, opened[:120]), ("first ids", start), bos=bos,
                    n=by_template)  # fmt: skip
    in_data = _rows_with_bos(subject, bos)
    if in_data is not None and in_data[0]:
        seen = True
        n, total = in_data
        params = {"bos": bos, "n": n, "total": total, "percent": 100 * n / total}
        rows = (f"--data: rows that begin with {bos}", n)
        if by_template or by_tokenizer:
            bad = n >= limits["bos_in_data_share_bad"] * total
            by = "template" if by_template else "tokenizer"
            yield (error if bad else warning)("bos_in_data", rows, **params, by=by)
        else:
            yield info("bos_only_in_data", rows, **params)
    if seen:
        return
    evidence = (probe.template_source, (opened or "")[:60])
    if by_template and by_tokenizer:
        yield info("both_add", evidence, (told_by, True), bos=bos)
    elif opened is not None and not by_template and by_tokenizer:
        yield info("template_without_bos", evidence, (told_by, True), bos=bos)
    else:
        yield ok("ok", evidence, bos=bos, by="template" if by_template else "tokenizer" if by_tokenizer else "-")


def _leading(text: str, bos: str) -> int:
    """How many start tokens `text` begins with, white space between them aside."""
    count, rest = 0, text.lstrip()
    while bos and rest.startswith(bos):
        count, rest = count + 1, rest[len(bos) :].lstrip()
    return count


def _added_by_tokenizer(subject: CheckpointSubject, probe: Probe, number: int | None) -> tuple[bool, str]:
    if probe.problem is None and number is not None:
        return probe.encode(["a"], add_special_tokens=True)[0][:1] == [number], "tokenizer('a').input_ids[0]"
    config = probe.files.config
    return config.get("add_bos_token") is True, config.where("add_bos_token")


def _rows_with_bos(subject: CheckpointSubject, bos: str) -> tuple[int, int] | None:
    """(rows whose first turn begins with a literal bos, rows); None without data."""
    try:
        rows = data_rows(subject)
    except NotMeasured:
        return None
    starts = [(row.messages[0]["content"] if row.messages else row.answer) for row in rows]
    return sum(_leading(text, bos) > 0 for text in starts), len(rows)
