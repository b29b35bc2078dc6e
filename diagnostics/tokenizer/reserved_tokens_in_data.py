"""TOK011: control tokens inside questions and answers of the data."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from diagnostics.checkpoint_subject import CheckpointSubject
from diagnostics.report import Observation
from diagnostics.run_checks import NotMeasured, info, ok, warning
from diagnostics.thresholds import Thresholds
from diagnostics.tokenizer.end_marker_is_plain_text import end_marker
from diagnostics.tokenizer.rows_as_text import data_rows
from pipeline.config_files import load_config


def reserved_tokens_in_data(subject: CheckpointSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        Whether the text of turns and answers holds this tokenizer's special or reserved tokens.
    Why it matters:
        A special token in the text ends the turn or opens another one in the middle of an answer; a reserved one has a
        row that was never trained and drags the gradient to infinity.
    How it is measured:
        Special tokens are searched as text in all turns and answers; an end marker at the very end and a start token
        at the very start are left to TOK006 and TOK007.
    Known false alarms:
        Tokens for reasoning, tool calls and media belong into content and are not counted. Data that is rendered
        already holds the markers of its template in most rows: said, not blamed. Texts about tokenizers hold them
        too: below the share of rows in the thresholds it is information.
    Fix:
        Remove or escape the tokens in the text, and let the template write them.
    References:
        https://github.com/unslothai/unsloth/issues/1056
        https://github.com/axolotl-ai-cloud/axolotl/pull/1771
    """
    probe = subject.probe
    rows = data_rows(subject)
    markers = load_config("chat_markers.yaml")
    reserved, content = re.compile(markers["reserved"]), re.compile(markers["content_tokens"])
    named = {t for t in probe.special_texts if len(t) > 2 and t[0] in "<[{" and not content.search(t)}
    texts = named | {t for t in probe.added if reserved.search(t)}
    if not texts:
        raise NotMeasured("no_special_tokens")
    pattern = re.compile("|".join(re.escape(t) for t in sorted(texts, key=len, reverse=True)))
    start = probe.special.get("bos", ("",))[0]
    counted: Counter[str] = Counter()
    marked, turned = 0, 0
    for row in rows:
        inside: set[str] = set()
        for text in (*(m["content"] for m in row.messages), row.answer):
            body = text.strip().removeprefix(start) if start else text.strip()
            if mark := end_marker(body):
                body = body[: -len(mark)]
            inside |= set(pattern.findall(body))
        marked += bool(inside)
        turned += len(inside) >= 2
        counted.update(inside)
    subject.metrics["data.special_token_rows"] = round(marked / len(rows), 4)
    if not marked:
        yield ok("ok", n=len(rows), tokens=len(texts))
        return
    names = [t for t, _ in counted.most_common(5)]
    params = {"n": marked, "total": len(rows), "percent": 100 * marked / len(rows), "tokens": names}
    evidence = [(f"--data: rows with {t}", n) for t, n in counted.most_common(5)]
    untrained = [t for t in names if reserved.search(t)]
    if untrained and sum(counted[t] for t in untrained) >= limits["reserved_rows_min"]:
        yield warning("reserved", *evidence, **{**params, "tokens": untrained})
    elif turned >= limits["rendered_share"] * len(rows):
        yield info("already_rendered", *evidence, **params)
    elif marked >= max(2, limits["special_in_data_share"] * len(rows)):
        yield warning("special_inside", *evidence, **params)
    else:
        yield info("few_special_inside", *evidence, **params)
