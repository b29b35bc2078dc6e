"""GEN006: an answer depends on what else is in its batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from diagnostics.checkpoint_subject import CheckpointSubject
from diagnostics.report import Observation
from diagnostics.run_checks import NotMeasured, info, ok, warning
from diagnostics.thresholds import Thresholds


def batch_changes_answers(subject: CheckpointSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        Whether the same prompts get the same first tokens alone, in a batch, and in a batch padded the tokenizer's way.
    Why it matters:
        A decoder padded on the right goes on from padding instead of from the prompt: answers of all but the longest
        row change silently. Whoever generates in batches then judges, or trains on, answers the model never gave.
    How it is measured:
        Some rows of different length, greedy, first tokens. Agreement is the mean share of equal tokens before the
        first difference; below `gen_batch_agreement` the batch changed the answers. Only in float32, where rounding
        can't.
    Known false alarms:
        Right padding only counts as a fault where tokenizer_config.json itself says so: unset means the library's
        default, and most scripts set the side themselves. Encoder-decoders are padded right by design.
    Fix:
        tokenizer.padding_side = "left" before generating with a decoder (save it with the tokenizer), and pass the
        attention mask.
    References:
        https://github.com/huggingface/transformers/issues/26569
        https://github.com/huggingface/transformers/issues/25790
        https://github.com/unslothai/unsloth/issues/3699
    """
    grid = subject.generations
    compared = grid.comparison
    if compared is None:
        raise NotMeasured("prompts_of_one_length")
    agreement = _agreement(compared.alone, compared.batched)
    tokenizer_way = _agreement(compared.alone, compared.as_tokenizer)
    subject.metrics["gen.batch_agreement"] = round(agreement, 4)
    subject.metrics["gen.batch_agreement_tokenizer_side"] = round(tokenizer_way, 4)
    if not compared.exact:
        raise NotMeasured("not_float32")
    least = limits["gen_batch_agreement"]
    numbers = {"percent": round(100 * agreement), "rows": len(compared.alone), "side": compared.needed_side}
    if agreement < least:
        yield warning("batch_differs", **numbers)
    if compared.tokenizer_side == compared.needed_side or tokenizer_way >= least:
        if agreement >= least:
            yield ok("ok", **numbers)
        return
    config = subject.tokenizer_files.tokenizer.config
    declared = config.get("padding_side") == compared.tokenizer_side
    told = warning if declared else info  # alone, or padded by hand, it answers rightly
    yield told(
        "right_padding_declared" if declared else "right_padding_by_default",
        (config.where("padding_side"), config.get("padding_side")),
        percent=round(100 * tokenizer_way), left=round(100 * agreement), rows=len(compared.alone),
    )  # fmt: skip


def _agreement(left: Sequence[Sequence[int]], right: Sequence[Sequence[int]]) -> float:
    """Mean over rows of the share of tokens before the first difference."""
    shares = []
    for one, other in zip(left, right, strict=True):
        longest = max(len(one), len(other))
        same = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
        shares.append(same / longest if longest else 1.0)
    return sum(shares) / len(shares)
