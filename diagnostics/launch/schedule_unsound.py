"""RUN017: steps, warm-up, evaluation and saving that don't fit the length of the run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import ceil
from typing import Any

from diagnostics.recipe_subject import RecipeSubject
from diagnostics.report import Observation
from diagnostics.run_checks import NotMeasured, error, info, ok, warning
from diagnostics.thresholds import Thresholds
from pipeline.config_files import load_config


def schedule_unsound(subject: RecipeSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        How many steps the run has, and whether warm-up, logging, evaluation and saving fit into them; how often each
        row is seen; load_best_model_at_end with the strategies it needs.
    Why it matters:
        A warm-up as long as the run never reaches its learning rate. Three epochs over preference pairs learn them by
        heart. Where nothing is saved before the end, a run that ends early leaves nothing. transformers refuses some
        combinations only after the model is loaded.
    How it is measured:
        Steps as transformers counts them, from the rows, batch size, accumulation and processes.
    Known false alarms:
        Trials of a few steps: what only concerns long runs is said as information.
    Fix:
        As the sentence says.
    References:
        https://huggingface.co/docs/transformers/main_classes/trainer#transformers.TrainingArguments
        https://arxiv.org/abs/2305.18290
    """
    told = [*_length(subject, limits), *_evaluation(subject), *_best(subject)]
    yield from told
    if not told:
        steps = subject.steps
        yield ok(steps=steps) if steps is not None else ok("unknown_length")
    if subject.steps is not None:
        subject.metrics["run.steps"] = subject.steps


def _share(value: Any, steps: int) -> float:
    """A number of steps, or below 1 a share of all."""
    number = float(value or 0)
    return ceil(number * steps) if 0 < number < 1 else number


def _length(subject: RecipeSubject, limits: Thresholds) -> Iterator[Observation]:
    steps, most = subject.steps, int(subject.get("max_steps", -1))
    epochs = float(subject.get("num_train_epochs", 3))
    if most == 0:  # the Trainer goes by epochs below 0 only, and looks at its limit after a step
        yield error("stops_at_once", ("max_steps", most))
        return
    if most < 0 and epochs <= 0:
        yield error("no_steps", ("num_train_epochs", epochs), ("max_steps", most))
        return
    try:
        rows = subject.row_count
    except NotMeasured:
        rows = None
    each = subject.rows_each_step
    if rows and most > 0:
        epochs = most * each / rows
    table: Mapping[str, Any] = load_config("training_ranges.yaml")
    usual = table["epochs_most"][subject.method]
    if rows:
        subject.metrics["run.epochs"] = round(epochs, 3)
        if each > rows:
            yield info("batch_above_rows", ("rows", rows), ("rows of a step", each), rows=rows, each=each)
        if epochs > usual:
            numbers = {"epochs": f"{epochs:.1f}", "most": usual, "method": subject.method, "rows": rows}
            if epochs <= limits["epochs_over_warn"] * usual or rows < limits["data_least_rows"]:
                yield info("many_epochs", ("epochs", epochs), **numbers)
            else:
                yield warning("many_epochs", ("epochs", epochs), **numbers)
    if steps is None:
        return
    warm = _share(subject.get("warmup_steps", 0), steps)
    if warm >= steps > 1:
        yield warning(
            "warmup_too_long",
            ("warmup_steps", subject.get("warmup_steps")),
            ("steps", steps),
            warm=int(warm),
            steps=steps,
        )
    if str(subject.get("logging_strategy", "steps")) == "steps":
        logs = _share(subject.get("logging_steps", 10), steps)
        if logs > steps:
            yield info("logged_once", ("logging_steps", subject.get("logging_steps")), every=int(logs), steps=steps)
    saving = str(subject.get("save_strategy", "steps"))
    if saving == "no" or saving == "steps" and _share(subject.get("save_steps", 500), steps) > steps:
        yield info(
            "saved_at_end_only", ("save_strategy", saving), ("save_steps", subject.get("save_steps")), steps=steps
        )


def _evaluation(subject: RecipeSubject) -> Iterator[Observation]:
    strategy = str(subject.get("eval_strategy", "no"))
    rows = subject.eval_rows
    if strategy != "no" and rows is False:
        yield error("evaluates_nothing", ("eval_strategy", strategy), strategy=strategy)
    elif strategy == "no" and rows:
        yield info("held_out_unused", ("eval_strategy", strategy))
    elif strategy == "no" and not rows and subject.method not in ("grpo", "rloo"):
        yield info("nothing_held_out", ("val_size", subject.get("val_size")))
    kind = str(subject.get("lr_scheduler_type", "linear"))
    if kind in ("reduce_lr_on_plateau", "greedy") and strategy == "no":
        yield error("scheduler_needs_evaluation", ("lr_scheduler_type", kind), kind=kind)


def _best(subject: RecipeSubject) -> Iterator[Observation]:
    """As TrainingArguments checks it."""
    if not subject.get("load_best_model_at_end", False):
        return
    saving, evaluating = str(subject.get("save_strategy", "steps")), str(subject.get("eval_strategy", "no"))
    if saving == "best":
        return
    if saving != evaluating:
        yield error(
            "best_needs_same_strategy",
            ("save_strategy", saving),
            ("eval_strategy", evaluating),
            saving=saving,
            evaluating=evaluating,
        )  # noqa: E501
        return
    save, each = (
        float(subject.get("save_steps", 500)),
        float(subject.get("eval_steps") or subject.get("logging_steps", 10)),
    )
    if saving == "steps" and each and (save < 1) == (each < 1):
        times = save / each
        if abs(times - round(times)) > 1e-6 or round(times) < 1:
            yield error(
                "best_needs_multiple", ("save_steps", save), ("eval_steps", each), save=f"{save:g}", each=f"{each:g}"
            )
    elif saving == "steps" and each:
        yield error(
            "best_needs_multiple", ("save_steps", save), ("eval_steps", each), save=f"{save:g}", each=f"{each:g}"
        )
