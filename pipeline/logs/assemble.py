"""From rows as they were read to a run: steps that only grow, one row for several ranks, restarts found."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.logs.ambiguous_names import Data, settled
from pipeline.logs.row_collector import ESTIMATE, RowCollector, column
from pipeline.logs.training_log import Curve, Floats, Message, Note, Restart, Rows, TrainingLog

# More backward jumps than one in this many rows come from processes that write into one file, not from restarts.
INTERLEAVED = 10
# Where more than this share of the rows repeats the step before, several processes write; one that goes back by no more
# than LATE steps is late.
RANKS, LATE = 0.3, 3
# Share of the rows before which the bar of an evaluation may stand.
EVALUATED = 0.35
BAR_LAG = 5.0  # steps that a progress bar may lag behind in a run of tiny steps
# Share of the losses that must bear a step for those without one to be means over an epoch.
MEANS = 0.8


def assemble(
    name: str,
    rows: RowCollector,
    *,
    files: Sequence[str] = (),
    formats: Sequence[str] = (),
    messages: Sequence[Message] = (),
    notes: Sequence[Note] = (),
    lines: int = 0,
    size: int = 0,
    ended: bool = False,
) -> TrainingLog:
    """The log of one run. `rows` is left as it is: a log that is followed goes on being filled, unless it has `ended`:
    then the log holds its columns themselves."""
    count = len(rows)
    step, epoch, time = (column(c, ended=ended) for c in (rows.step, rows.epoch, rows.time))
    step = np.where(step < 0, np.nan, step)
    drawn = column(rows.bar, ended=ended)
    data: Data = settled(rows.columns(ended=ended))
    settings = dict(rows.settings)
    total = settings.pop("bar_total", None)
    estimate = data.get(ESTIMATE)
    if (
        estimate is not None
    ):  # `step 100: train loss 2.1, val loss 2.2` beside lines of single steps, or instead of them
        key = "eval_train_loss" if "loss" in data and len(data["loss"][0]) >= len(estimate[0]) else "loss"
        named = estimate if key not in data else _merged(data[key], estimate)
        data = {**{k: v for k, v in data.items() if k != ESTIMATE}, key: named}
    left_out = _last_run(data, step, epoch)
    if left_out:
        notes = [*notes, Note("several_runs", {"file": name, "n": left_out})]
        data, step, epoch, time, drawn = _without(np.arange(count) >= left_out, data, step, epoch, time, drawn)
        count = len(step)
    data = _without_means(data, step)
    main = _main_rows(data, count)
    said = np.where(np.isfinite(step), 1.0, 0.0)  # rows that bear a step of their own, not that of the row before
    step, known = _steps(step, epoch, drawn, main, settings, total)
    keep = np.ones(count, dtype=bool)
    restarts: tuple[Restart, ...] = ()
    if known and count:
        step, keep, restarts = _in_order(step, epoch, main, data, rows.tables)
    data, step, epoch, time, said = _without(keep, data, step, epoch, time, said)
    if known and len(step) and np.any(np.diff(step) < 0):
        order = np.argsort(step, kind="stable")
        data, step, epoch, time, said = _sorted(order, data, step, epoch, time, said)
        if restarts:
            restarts = tuple(
                Restart(int(np.searchsorted(step, r.step)), r.step_before, r.step, r.dropped, r.dropped_not_finite)
                for r in restarts
            )
    if known:
        for key, (index, _) in data.items():  # what training logs beside its step belongs to it
            if not key.startswith("eval_"):
                said[index] = 1.0
        data, step, epoch, time = _one_row_a_step(data, said > 0 if said.any() else said == 0, step, epoch, time)
    if np.isnan(time).all():
        time = np.broadcast_to(np.float64(math.nan), len(step))  # no column of nothing but "unknown"
    curves = {key: Curve(key, index, values) for key, (index, values) in data.items() if len(index)}
    _add_loss_of_perplexity(curves)
    return TrainingLog(
        name,
        tuple(files),
        tuple(formats),
        step,
        epoch,
        time,
        curves,
        settings,
        tuple(messages),
        restarts,
        tuple(notes),
        steps_known=known,
        time_is_elapsed=rows.elapsed,
        records=rows.records,
        lines=lines,
        size=size,
        keys=tuple(rows.keys),
        problem=None if curves and not _is_one_number(curves, known, epoch, time) else "no_metrics",
    )


def _is_one_number(curves: Mapping[str, Curve], known: bool, epoch: Floats, time: Floats) -> bool:
    """A single row without any place in a run: a configuration or a sentence in which a loss is named."""
    placed = known or np.isfinite(epoch).any() or np.isfinite(time).any()
    return len(epoch) == 1 and not placed and not any(name.startswith("eval_") for name in curves)


# The first of these that a log holds says which rows are steps of training.
_MAIN = ("loss", "reward", "rewards/chosen", "rewards/accuracies", "accuracy", "perplexity")


def _main_rows(data: Data, count: int) -> Rows:
    """Rows of training, those of evaluation left out: their steps are the run's."""
    for name in _MAIN:
        if name in data:
            return data[name][0]
    evaluated = [index for name, (index, _) in data.items() if name.startswith("eval_")]
    mask = np.ones(count, dtype=bool)
    for index in evaluated:
        mask[index] = False
    return np.flatnonzero(mask) if mask.any() else np.arange(count)


# A run that begins anew behind another: its epoch falls below this share of what was reached, and to its beginning.
NEW_RUN, NEW_RUN_ROWS = 0.5, 3
_PREFERENCE = ("rewards/margins", "rewards/chosen", "rewards/accuracies", "logps/chosen")


def _last_run(data: Data, step: Floats, epoch: Floats) -> int:
    """How many rows belong to trainings that ended before the last one of a file began; 0 for most files. Told by the
    metrics of preference training, which supervised training before it lacks, and by an epoch that begins anew where
    no step tells whether rows are repeated."""
    if "loss" not in data:
        return 0
    main = data["loss"][0]
    begins = 0
    preferred = next((data[name][0] for name in _PREFERENCE if name in data), None)
    if preferred is not None:
        first = int(preferred[0])
        before, after = main[main < first], main[main >= first]
        if len(before) >= NEW_RUN_ROWS and len(after) and np.isin(after, preferred).mean() > 0.9:
            begins = first
    rest = main[main >= begins]
    if len(rest) > NEW_RUN_ROWS and not np.isfinite(step[rest]).any() and np.isfinite(epoch[rest]).all():
        at = epoch[rest]
        reached = np.maximum.accumulate(at)
        anew = np.flatnonzero((np.diff(at) < 0) & (at[1:] < NEW_RUN * reached[:-1])) + 1
        anew = anew[(at[anew] <= 2 * at[0]) & (len(at) - anew >= NEW_RUN_ROWS)]
        if 0 < len(anew) <= 50 and len(anew) * INTERLEAVED < len(at):
            begins = int(rest[anew[-1]])
    return begins


def _without_means(data: Data, step: Floats) -> Data:
    """Without the mean over an epoch (`Epoch 1 done, average loss 4.4`) among losses that all bear a step."""
    if "loss" not in data:
        return data
    rows, values = data["loss"]
    known = np.isfinite(step[rows])
    if known.all() or known.mean() < MEANS:
        return data
    return {**data, "loss": (rows[known], values[known])}


def _steps(
    step: Floats, epoch: Floats, bar: Floats, main: Rows, settings: dict[str, Any], bar_total: Any
) -> tuple[Floats, bool]:
    """(step of every row, whether they are known). Where the log gives none: from the epoch and the number of steps
    planned, else from the progress bar, else rows are numbered."""
    count = len(step)
    if not count:
        return step, False
    if np.isfinite(step[main]).mean() > 0.5:
        return _filled(step), True
    if not len(main) and np.isfinite(step).any():
        return _filled(step), True
    planned, epochs = settings.get("max_steps"), settings.get("num_train_epochs")
    if (
        isinstance(planned, float)
        and isinstance(epochs, float)
        and planned > 0
        and epochs > 0
        and np.isfinite(epoch).all()
    ):
        found = np.round(epoch / epochs * planned)
        if np.all(np.diff(found[main]) >= 0) and len(np.unique(found[main])) > 0.7 * len(main):
            return found, True
    if isinstance(bar_total, float) and np.isfinite(bar[main]).mean() > 0.8:
        moved = bar[main][np.isfinite(bar[main])]
        # The bar of an evaluation stands between: the row after it has come at least as far as the one before.
        reached = np.maximum.accumulate(moved)
        moved = reached if (moved < reached).mean() <= EVALUATED else moved
        forward = len(moved) > 1 and bool(np.all(np.diff(moved) >= 0))
        regular = _regular(moved) if forward else None
        if regular is not None or (forward and len(np.unique(moved)) > 0.7 * len(moved)):
            settings.setdefault("max_steps", bar_total)
            found = _filled(bar)
            if regular is not None:
                found[main[np.isfinite(bar[main])]] = regular
            return found, True
    numbers = np.full(count, np.nan)
    numbers[main] = np.arange(1, len(main) + 1)
    return _filled(numbers), False


def _regular(bar: Floats) -> Floats | None:
    """Every k-th step, where a bar that is drawn ten times a second at most says so but for its delay; else None."""
    if bar[-1] == bar[0]:
        return None
    every = max(1.0, float(np.round((bar[-1] - bar[0]) / (len(bar) - 1))))
    regular = every * np.arange(1, len(bar) + 1, dtype=np.float64)
    late = regular - bar
    return regular if late.min() == 0 and late.max() <= max(every, BAR_LAG) else None


def _filled(step: Floats) -> Floats:
    """Rows without a step get that of the row before, the first ones 0."""
    known = np.isfinite(step)
    if known.all():
        return step
    place = np.where(known, np.arange(len(step)), -1)
    np.maximum.accumulate(place, out=place)
    return np.where(place >= 0, step[place], 0.0)


def _in_order(
    step: Floats, epoch: Floats, main: Rows, data: Data, tables: Sequence[int] = ()
) -> tuple[Floats, np.ndarray[Any, Any], tuple[Restart, ...]]:
    """Steps that grow along the rows: counted on over epochs, repeated parts of a restart left out."""
    keep = np.ones(len(step), dtype=bool)
    at = step[main]
    back = np.flatnonzero(np.diff(at) < 0) + 1
    if not len(back):
        return _evaluations_follow(step, main, tables), keep, ()
    losses = next((data[name][1] for name in _MAIN if name in data and len(data[name][1]) == len(main)), None)
    if _counts_within_epochs(at, epoch[main], back) or (
        losses is not None and _begins_anew(at, epoch[main], losses, back)
    ):
        # Each epoch begins at step 1 again: what was reached before is added. A last evaluation at the end of an epoch
        # belongs to it.
        step = step.copy()
        ends = np.concatenate([at[back - 1], at[-1:]])
        longest = float(np.max(ends))
        offset = np.zeros(len(step))
        for number, place in enumerate(back, 1):
            offset[main[place] :] = number * longest
        step += offset
        return _evaluations_follow(step, main, tables), keep, ()
    if len(back) * INTERLEAVED > len(at):
        return step, keep, ()
    moves = np.diff(at)
    if (moves == 0).mean() > RANKS:  # several processes: one of them came a little late
        stride = float(np.median(moves[moves > 0])) if (moves > 0).any() else 1.0
        back = back[at[back - 1] - at[back] > LATE * stride]
    restarts: list[tuple[int, Restart]] = []
    for place in back:
        row, resumed = int(main[place]), float(step[main[place]])
        reached = float(np.max(at[:place]))
        repeated = np.flatnonzero(keep[:row] & (step[:row] >= resumed))
        lost = (
            any(
                not np.isfinite(values[np.isin(index, repeated)]).all()
                for key, (index, values) in data.items()
                if key in ("loss", "grad_norm")
            )
            if len(repeated) and len(restarts) < 50
            else False
        )
        keep[repeated] = False
        restarts.append((row, Restart(row, reached, resumed, len(repeated), lost)))
    shift = np.cumsum(~keep)
    return (
        step,
        keep,
        tuple(
            Restart(row - int(shift[row]), r.step_before, r.step, r.dropped, r.dropped_not_finite)
            for row, r in restarts
        ),
    )


def _counts_within_epochs(at: Floats, epoch: Floats, back: Rows) -> bool:
    """Whether the step begins anew with each epoch: every jump back comes with the next epoch and to the beginning."""
    if not np.isfinite(epoch[back]).all() or not np.isfinite(epoch[back - 1]).all():
        return False
    first = float(at[0])
    gap = float(np.median(np.diff(at[: back[0]]))) if back[0] > 1 else max(1.0, first)
    low = np.all(at[back] <= first + 2 * max(1.0, gap))
    return bool(low and np.all(epoch[back] > epoch[back - 1]) and np.all(np.diff(epoch) >= 0))


def _begins_anew(at: Floats, epoch: Floats, losses: Floats, back: Rows) -> bool:
    """Whether steps begin anew with epochs that are not numbered: each time at the beginning, after as many steps as
    before and with a loss that goes on where it had come to. A run that was started again begins with another."""
    first = float(at[0])
    gap = float(np.median(np.diff(at[: back[0]]))) if back[0] > 1 else max(1.0, first)
    if not np.all(at[back] <= first + 2 * max(1.0, gap)):
        return False
    numbered = np.isfinite(epoch[back]) & np.isfinite(epoch[back - 1])
    if np.any(epoch[back][numbered] <= epoch[back - 1][numbered]) and np.any(np.diff(epoch[np.isfinite(epoch)]) > 0):
        return False
    ends = at[back - 1]
    if float(np.ptp(ends)) > 2 * max(1.0, gap):
        return False
    few = max(1, min(5, int(back[0]) // 3))
    begun = float(np.median(losses[:few]))
    before = np.array([np.median(losses[max(0, place - few) : place]) for place in back[:20]])
    after = np.array([np.median(losses[place : place + few]) for place in back[:20]])
    goes_on = np.abs(after - before) < np.abs(after - begun)
    return bool(np.all(goes_on[:1]) and goes_on.mean() > 0.5)


def _evaluations_follow(step: Floats, main: Rows, tables: Sequence[int]) -> Floats:
    """A row of evaluation that lies behind the training it follows counted something of its own: it takes that step.

    tables: rows at which tables begin. One table for each metric, as W&B exports them, are side by side, not in a row.
    """
    if not len(main) or len(main) == len(step):
        return step
    step = step.copy()
    reached = np.zeros(len(step))
    reached[main] = step[main]
    for part in np.split(reached, [at for at in tables if 0 < at < len(reached)]):
        np.maximum.accumulate(part, out=part)
    behind = np.ones(len(step), dtype=bool)
    behind[main] = False
    behind &= step < reached
    if np.count_nonzero(behind) > 1 and np.all(np.diff(step[behind]) > 0):
        return step  # evaluations listed behind the training, each with its own step: no counter begins anew
    step[behind] = reached[behind]
    return step


def _without(keep: np.ndarray[Any, Any], data: Data, *columns: Floats) -> tuple[Any, ...]:
    if keep.all():
        return data, *columns
    place = np.cumsum(keep) - 1
    kept = {}
    for key, (index, values) in data.items():
        stays = keep[index]
        kept[key] = (place[index[stays]], values[stays])
    return kept, *(c[keep] for c in columns)


def _sorted(order: Rows, data: Data, *columns: Floats) -> tuple[Any, ...]:
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    moved = {}
    for key, (index, values) in data.items():
        new = place[index]
        by = np.argsort(new, kind="stable")
        moved[key] = (new[by], values[by])
    return moved, *(c[order] for c in columns)


def _one_row_a_step(data: Data, said: np.ndarray[Any, Any], *columns: Floats) -> tuple[Any, ...]:
    """Rows that bear the same step become one: processes that log side by side, a progress bar drawn again. A metric
    that stands there several times becomes its mean; one NaN makes it NaN. said: whether a row bears a step of its own;
    evaluations that only stand behind a step are several."""
    step = columns[0]
    if not len(step) or not np.any(np.diff(step) == 0):
        return data, *columns
    starts = np.concatenate([[True], (np.diff(step) != 0) | ~said[1:]])
    group = np.cumsum(starts) - 1
    merged = {}
    for key, (index, values) in data.items():
        at = group[index]
        first = np.concatenate([[True], np.diff(at) != 0]) if len(at) else np.empty(0, dtype=bool)
        if first.all():
            merged[key] = (at, values)
            continue
        places = np.flatnonzero(first)
        with np.errstate(all="ignore"):
            sums = np.add.reduceat(values, places)
        merged[key] = (at[places], sums / np.diff(np.append(places, len(at))))
    firsts = np.flatnonzero(starts)
    out = []
    for values in columns:
        known = values[firsts]
        if np.isnan(known).any():  # the first of them may be the one without epoch or time
            filled = np.full(len(firsts), np.nan)
            ok = np.isfinite(values)
            filled[group[ok][::-1]] = values[ok][::-1]
            known = filled
        out.append(known)
    return merged, *out


def _merged(one: tuple[Rows, Floats], other: tuple[Rows, Floats]) -> tuple[Rows, Floats]:
    rows, values = np.concatenate([one[0], other[0]]), np.concatenate([one[1], other[1]])
    order = np.argsort(rows, kind="stable")
    return rows[order], values[order]


def _add_loss_of_perplexity(curves: dict[str, Curve]) -> None:
    """Perplexity is the exponential of the loss: where only it is logged the loss is its logarithm."""
    for prefix in ("", "eval_"):
        found = curves.get(f"{prefix}perplexity")
        if found is not None and f"{prefix}loss" not in curves:
            with np.errstate(all="ignore"):
                curves[f"{prefix}loss"] = Curve(
                    f"{prefix}loss", found.rows, np.log(np.maximum(found.values, math.ulp(0.0)))
                )
