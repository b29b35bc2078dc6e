"""RUN018: batches, groups and packing that a trainer refuses or that change what is learned."""

from __future__ import annotations

from collections.abc import Iterator

from diagnostics.recipe_subject import RecipeSubject
from diagnostics.report import Observation
from diagnostics.run_checks import error, info, ok, warning
from diagnostics.thresholds import Thresholds


def batches_unsound(subject: RecipeSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        Whether a batch holds whole groups of answers (GRPO, RLOO), more than one row (KTO), and whether packing and
        padding_free go with the other fields.
    Why it matters:
        GRPO and RLOO compare the answers to one prompt with each other: a batch that cuts a group is refused, and a
        temperature near 0 makes them all alike. KTO estimates its baseline from the other rows of the batch. Packed
        rows see each other unless the attention knows where they end.
    How it is measured:
        The divisions that the trainers' configurations make, on the fields of the recipe and the number of processes.
    Known false alarms:
        None known.
    Fix:
        As the sentence says.
    References:
        https://huggingface.co/docs/trl/grpo_trainer
        https://huggingface.co/docs/trl/kto_trainer#batch-size-recommendations
        https://huggingface.co/docs/trl/reducing_memory_usage#packing
    """
    told = [*_groups(subject), *_kto(subject), *_packing(subject), *_losses(subject)]
    yield from told
    if not any(one.severity in ("error", "warning") for one in told):
        yield ok(each=subject.rows_each_step)


def _groups(subject: RecipeSubject) -> Iterator[Observation]:
    if subject.method not in ("grpo", "rloo"):
        return
    answers = int(subject.get("num_generations", 8))
    evidence = ("num_generations", answers)
    if answers < 2:
        yield error("group_of_one", evidence)
        return
    step = int(subject.get("per_device_train_batch_size", 8)) * subject.processes
    whole, several = subject.get("generation_batch_size"), subject.get("steps_per_generation")
    if whole is not None and several is not None:
        yield error("generation_said_twice", ("generation_batch_size", whole), ("steps_per_generation", several))
        return
    made = int(whole) if whole is not None else step * int(several or subject.get("gradient_accumulation_steps", 1))
    if made % answers:
        yield error("groups_cut", evidence, ("answers of a step", made), made=made, answers=answers)
    elif whole is not None and made % step:
        yield error(
            "generation_not_whole",
            ("generation_batch_size", made),
            ("rows of all processes", step),
            made=made,
            step=step,
        )
    if str(subject.get("eval_strategy", "no")) != "no":
        held, size = (
            int(subject.get("num_generations_eval") or answers),
            int(subject.get("per_device_eval_batch_size", 8)),
        )
        if size * subject.processes % held:
            yield error(
                "eval_groups_cut", ("per_device_eval_batch_size", size), made=size * subject.processes, answers=held
            )
    if float(subject.get("temperature", 1.0)) < 0.3:
        yield warning(
            "answers_alike", ("temperature", subject.get("temperature")), temperature=subject.get("temperature")
        )


def _kto(subject: RecipeSubject) -> Iterator[Observation]:
    size = int(subject.get("per_device_train_batch_size", 8))
    if subject.method == "kto" and size < 2 and subject.get("loss_type", "kto") == "kto":
        yield error("kto_alone", ("per_device_train_batch_size", size))


def _packing(subject: RecipeSubject) -> Iterator[Observation]:
    if subject.method != "sft":
        return
    packing, free = bool(subject.get("packing", False)), bool(subject.get("padding_free", False))
    strategy = str(subject.get("packing_strategy", "bfd"))
    attention = str(subject.get("attn_implementation", ""))
    if packing and subject.get("max_length") is None:
        yield error("packing_without_length", ("packing", True), ("max_length", None))
    if free and not packing and subject.get("max_length") is not None:
        yield error("padding_free_not_cut", ("padding_free", True), ("max_length", subject.get("max_length")))
    if packing and strategy == "wrapped":
        yield warning("packed_rows_cut", ("packing_strategy", strategy))
    elif (packing or free) and not attention.startswith(("flash_attention", "kernels-community")):
        yield warning("packed_rows_mixed", ("packing", packing), ("attn_implementation", attention or None))
    elif packing:
        yield info("packed", ("packing_strategy", strategy))


def _losses(subject: RecipeSubject) -> Iterator[Observation]:
    """What DPOConfig's trainer refuses."""
    if subject.method != "dpo":
        return
    given = subject.get("loss_type", "sigmoid")
    losses = [given] if isinstance(given, str) else list(given)
    weights = subject.get("loss_weights")
    if weights is not None and len(weights) != len(losses):
        yield error(
            "weights_unlike_losses",
            ("loss_type", losses),
            ("loss_weights", weights),
            losses=len(losses),
            weights=len(weights),
        )
    smoothing = float(subject.get("label_smoothing", 0.0))
    if "exo_pair" in losses and smoothing == 0:
        yield error("exo_needs_smoothing", ("label_smoothing", smoothing))
    elif smoothing >= 0.5:
        yield error("smoothing_turns_pairs", ("label_smoothing", smoothing), smoothing=smoothing)
