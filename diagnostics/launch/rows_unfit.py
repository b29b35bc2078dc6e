"""RUN026: whether there are rows, of the kind that the method learns from, and enough of them."""

from __future__ import annotations

from collections.abc import Iterator

from diagnostics.pairs_subject import percent
from diagnostics.recipe_subject import RecipeSubject
from diagnostics.report import Observation
from diagnostics.run_checks import error, info, ok, warning
from diagnostics.thresholds import Thresholds
from pipeline.training.row_columns import COLUMNS


def rows_unfit(subject: RecipeSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        Rows as the trainer reads them: that there are some, with the method's columns, enough for a step, and for KTO
        with both labels; and rows as text for a model with a chat template.
    Why it matters:
        Rows of another kind end the run at its first batch. With one label alone KTO has nothing to compare. Plain text
        given to a chat model teaches it to answer without its own turn markers.
    How it is measured:
        The lines of data/train.jsonl, of many every so-many-th; configs/thresholds.yaml says how many.
    Known false alarms:
        A handful of rows for a trial.
    Fix:
        Give data of the method's kind: pairs for DPO and its family, answers for SFT, prompts with an answer for GRPO.
    References:
        https://huggingface.co/docs/trl/dataset_formats
        https://huggingface.co/docs/trl/kto_trainer#imbalanced-data
    """
    rows = subject.rows
    looked = len(rows.pairs) + rows.unreadable
    columns = ", ".join(COLUMNS[subject.method])
    found = False
    if not rows.pairs:
        yield error(
            "no_rows", ("data/train.jsonl", rows.total), found=rows.total, method=subject.method, columns=columns
        )
        return
    if rows.unreadable:
        found = True
        share = percent(rows.unreadable / looked)
        yield error(
            "other_rows", ("rows", rows.unreadable), rows=rows.unreadable, of=looked, percent=share, columns=columns
        )
    count = subject.row_count
    if count is not None:
        subject.metrics["rows.train"] = count
        if count < limits["recipe_rows_least"]:
            found = True
            yield warning("few_rows", ("rows", count), rows=count, least=int(limits["recipe_rows_least"]))
    if subject.method == "kto":
        wanted, unwanted = (sum(label is one for label in rows.labels) for one in (True, False))
        if not wanted or not unwanted:
            found = True
            yield error("one_label", ("wanted", wanted), ("unwanted", unwanted), wanted=wanted, unwanted=unwanted)
        else:
            left = (
                wanted * float(subject.get("desirable_weight", 1.0)),
                unwanted * float(subject.get("undesirable_weight", 1.0)),
            )
            ratio = left[0] / max(left[1], 1e-9)
            if not limits["kto_weight_low"] <= ratio <= limits["kto_weight_high"]:
                found = True
                yield warning(
                    "labels_uneven",
                    ("wanted", wanted),
                    ("unwanted", unwanted),
                    wanted=wanted,
                    unwanted=unwanted,
                    ratio=ratio,
                )  # noqa: E501
    template = subject.checkpoint.kind != "none" and bool(_template(subject))
    if not rows.conversational and template and not subject.encoder_decoder:
        found = True
        yield warning("text_for_chat_model", ("chat_template", True))
    elif not rows.conversational and not template and not subject.encoder_decoder and subject.method != "reward":
        yield info("plain_text", ("chat_template", None))
    if not found:
        yield ok(rows=count if count is not None else looked, columns=columns)


def _template(subject: RecipeSubject) -> str | None:
    from pipeline.declared_tokens import chat_template

    return subject.get("chat_template") or chat_template(subject.checkpoint.tokenizer).text
