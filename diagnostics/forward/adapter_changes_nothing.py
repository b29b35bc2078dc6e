"""FWD009: an adapter that leaves its base as it is."""

from __future__ import annotations

from collections.abc import Iterator

from diagnostics.checkpoint_subject import CheckpointSubject
from diagnostics.report import Observation
from diagnostics.run_checks import NotMeasured, error, ok, warning
from diagnostics.thresholds import Thresholds
from pipeline.score_answers import NotScored, Piece

ROWS = 6


def adapter_changes_nothing(subject: CheckpointSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        Whether the model's predictions differ with the adapter on and off.
    Why it matters:
        An adapter whose tensors are zero, empty or under other names gives the base back without a warning; whoever
        samples from it believes to sample from the training result.
    How it is measured:
        Logits of the same rows with the adapter on and switched off: largest difference, mean KL divergence in nats,
        share of places whose likeliest token changes.
    Known false alarms:
        A few steps at a learning rate of preference training (5e-7) move predictions by little, but by more than
        rounding.
    Fix:
        Take the last checkpoint-N, or train again with gradients reaching the adapter and parameters gathered on save.
    References:
        https://github.com/huggingface/transformers/pull/34068
    """
    from pipeline.adapter_effect import adapter_effect

    loaded = subject.loaded
    if not loaded.adapter:
        raise NotMeasured("not_an_adapter")
    if loaded.tokenizer is None:
        raise NotMeasured("tokenizer_not_loaded", problem=loaded.tokenizer_problem)
    rows, _ = subject.asked_rows

    def ids(text: str) -> tuple[int, ...]:
        return tuple(loaded.tokenizer(text, add_special_tokens=False, verbose=False).input_ids)[:128] or (0,)

    top = int(loaded.core.get_input_embeddings().weight.shape[0])
    pieces = [
        Piece(tuple(i % top for i in ids(row.question)), tuple(i % top for i in ids(row.answer))) for row in rows[:ROWS]
    ]
    try:
        seen = adapter_effect(loaded, pieces)
    except (NotScored, RuntimeError, IndexError, ValueError, TypeError) as failed:
        raise NotMeasured("forward_failed", detail=str(failed).splitlines()[0][:200]) from None
    subject.metrics["forward.adapter_divergence"] = seen.divergence
    numbers = {"largest": seen.largest, "divergence": seen.divergence, "changed": 100 * seen.changed,
               "places": seen.places}  # fmt: skip
    evidence = ("largest difference of a logit", seen.largest)
    if seen.largest == 0.0:
        yield error("exactly_the_base", evidence, **numbers)
    elif seen.largest < limits["adapter_logit_min"]:
        yield warning("hardly_anything", evidence, **numbers)
    else:
        yield ok("little" if seen.divergence < limits["adapter_divergence_little"] else "ok", **numbers)
