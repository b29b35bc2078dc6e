"""GEN011: answers begin with the placeholder of span corruption."""

from __future__ import annotations

from collections.abc import Iterator

from diagnostics.checkpoint_subject import CheckpointSubject
from diagnostics.generation.answer_faults import quoted, where
from diagnostics.report import Observation
from diagnostics.run_checks import error, info, ok
from diagnostics.thresholds import Thresholds
from pipeline.written_markers import starts_with_sentinel


def pretraining_sentinels(subject: CheckpointSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        Whether answers begin with <extra_id_0>, the token with which T5's pre-training target begins.
    Why it matters:
        A model that answers so has only ever filled in gaps: this is the pre-trained checkpoint, or a fine-tuning that
        changed next to nothing, and not the fine-tuned result.
    How it is measured:
        Greedy answers with special tokens visible. From `gen_sentinel_share` of the answers on it is an error.
    Known false alarms:
        A model trained on purpose to fill gaps; its gold answers begin with the token too and are left out.
    Fix:
        Point at the folder that the fine-tuning wrote, not at its base.
    References:
        https://github.com/huggingface/transformers/issues/8704
        https://arxiv.org/abs/1910.10683
    """
    grid = subject.generations
    judged = [a for a in grid.answers["greedy"] if starts_with_sentinel(grid.asked[a.row].gold or "") is None]
    found = [(a, s) for a in judged if (s := starts_with_sentinel(a.text)) is not None]
    rate = len(found) / len(judged) if judged else 0.0
    subject.metrics["gen.sentinel_share"] = round(rate, 4)
    if not found:
        yield ok(n=len(judged))
        return
    evidence = [(where(grid, a), quoted(a)) for a, _ in found[:3]]
    numbers = {"sentinel": found[0][1], "n": len(found), "total": len(judged), "percent": round(100 * rate)}
    if rate >= limits["gen_sentinel_share"]:
        yield error("sentinels", *evidence, **numbers)
    else:
        yield info("seldom", *evidence, **numbers)
