"""TOK006: the end marker of the training text is not one token of this tokenizer."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from functools import cache

from diagnostics.checkpoint_subject import CheckpointSubject
from diagnostics.report import Observation
from diagnostics.run_checks import NotMeasured, error, info, ok, warning
from diagnostics.template.rendered_turns import rendered_turns, token_ids_as_written
from diagnostics.thresholds import Thresholds
from diagnostics.tokenizer.rows_as_text import data_rows
from diagnostics.tokenizer.stop_ids import stop_ids
from pipeline.config_files import load_config
from pipeline.probe import Probe


def end_marker_is_plain_text(subject: CheckpointSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        Whether the marker at the end of the training answers ([EOS], </s>, <|im_end|>, ...) is one token of this
        tokenizer, and whether the declared eos is in its vocabulary at all.
    Why it matters:
        A marker of several pieces is learned as text: the model writes its characters, generate() waits for a token
        that never comes, and the answers run on off topic until the length limit.
    How it is measured:
        The bracketed marker at the very end of each answer is counted; one that ends enough of them is encoded after a
        letter. Without --data only the declared eos is looked up.
    Known false alarms:
        Closing tags of XML or HTML (</answer>) are not end markers and not counted.
    Fix:
        Take the marker out of the text and append tokenizer.eos_token_id as an id, then train again.
    References:
        https://github.com/charent/ChatLM-mini-Chinese
        https://github.com/turboderp/exllama/issues/199
    """
    probe = subject.probe
    if "eos" in probe.special and probe.special["eos"][0] in probe.missing:
        text, number = probe.special["eos"]
        yield error("eos_not_in_vocabulary", (probe.declared["eos"].where, text), (probe.source, probe.vocab_size),
                    eos=text, id=number, file=probe.source)  # fmt: skip
    try:
        rows = data_rows(subject)
    except NotMeasured:
        if probe.problem is not None or "eos" not in probe.special:
            raise
        if probe.special["eos"][0] not in probe.missing:
            text, number = probe.special["eos"]
            yield ok("eos_is_token", (f"eos {text}", number), eos=text, id=number)
        return
    counted = Counter(m for m in (end_marker(row.answer) for row in rows) if m)
    prompts = Counter(m for m in (end_marker(row.messages[-1]["content"]) for row in rows if row.messages) if m)
    marker, n = counted.most_common(1)[0] if counted else ("", 0)
    share = n / len(rows)
    subject.metrics["data.end_marker_share"] = round(share, 4)
    if n < limits["end_marker_rows_min"] or share < limits["end_marker_share"]:
        yield ok("no_marker_in_data", n=len(rows), share=100 * share)
        return
    yield _judge(subject, probe, marker, n, len(rows), prompts[marker])


@cache
def _pattern() -> re.Pattern[str]:
    return re.compile(load_config("chat_markers.yaml")["end_marker_at_end"])


def end_marker(text: str) -> str:
    """The bracketed marker that `text` ends with, trailing white space aside; empty when there is none."""
    found = _pattern().search(text[-200:])
    return found.group(0).strip() if found else ""


def _judge(
    subject: CheckpointSubject, probe: Probe, marker: str, n: int, total: int, in_prompts: int
) -> Observation:
    eos = probe.special["eos"][0] if "eos" in probe.special else "-"
    number, is_token = token_ids_as_written(probe, [marker])[marker]
    params = {"marker": marker, "n": n, "total": total, "percent": 100 * n / total, "eos": eos}
    evidence = (
        (f"--data: answers that end with {marker}", n), (f"--data: prompts that end with {marker}", in_prompts),
        (f"id of {marker}", number),
    )  # fmt: skip
    if is_token is None:
        return warning("marker_not_declared", *evidence, **params)
    if not is_token:
        ids = probe.encode([f"a{marker}"])[0][len(probe.encode(["a"])[0]) :]
        pieces = [p or "?" for p in probe.tokens(ids)]
        if "unk" in probe.special and set(ids) <= {probe.special["unk"][1]}:
            return error("marker_is_unknown", *evidence, (marker, pieces), **params)
        return error("marker_is_text", *evidence, (marker, pieces), **params, pieces=pieces, k=len(pieces))
    try:
        stops = stop_ids(subject.model_files).ids
    except NotMeasured:
        stops = ()
    end = rendered_turns(probe).end if probe.template is not None else None
    if marker == eos or number in stops or (end is not None and end.text == marker):
        return info("marker_is_eos", *evidence, **params, id=number if number is not None else "?")
    return warning("marker_not_stopped_on", *evidence, **params, id=number, stops=stops)
