"""What is known of a preference run before it is judged: its objective, where its loss starts, its beta."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from diagnostics.log.trend import Trend
from diagnostics.log_subject import PREFERENCE, LogSubject
from diagnostics.run_checks import NotMeasured
from pipeline.logs.training_log import LN2, Curve, Floats

SIDES = ("chosen", "rejected")
REWARDS = ("rewards/chosen", "rewards/rejected", "rewards/margins")

# Losses by the names trainers give them. Those of LOGISTIC are ln 2 for a policy that is still its reference.
LOGISTIC = ("sigmoid", "robust", "aot", "sigmoid_norm", "dpo", "discopop")
WITHOUT_REFERENCE = ("simpo", "orpo", "cpo")
ONES = ("hinge", "apo_zero", "apo_down")  # 1 at the start
USUAL_BETA = 0.1
# Numbers of batches that are summed or terms of a loss; others are other losses (IPO's 25 is 36 ln 2).
SUMMED = (2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 15, 16, 20, 24, 28, 30, 32, 40, 48, 50, 64, 80, 96, 100, 128, 256, 512)


@dataclass(frozen=True)
class PreferenceRun:
    """objective: `sigmoid`, `ipo`, `hinge`, `kto`, `without_reference` (SimPO, ORPO, CPO) or `other`.

    start: the loss, as logged, of a policy that is still its reference; None where it is not known. times: the start
    as a multiple of ln 2 (losses summed over accumulation or several terms), 1 otherwise. beta: configured, or measured
    from evaluations (`measured`), None. mean_logps: the log-probabilities are means over tokens and not sums.
    """

    objective: str
    start: float | None
    times: int
    beta: float | None
    measured: bool
    mean_logps: bool

    @property
    def supposed_beta(self) -> float:
        """beta, or the usual one where it is not known."""
        return self.beta if self.beta else USUAL_BETA


def preference_run(subject: LogSubject) -> PreferenceRun:
    """Raises NotMeasured where the log is not one of preference training."""
    subject.only(*PREFERENCE)
    log = subject.log
    said = str(log.settings.get("loss_type") or "").lower().strip("[]'\" ")
    free = _rewards_are_scaled_logps(subject)
    measured = free or _beta_of_evaluations(subject)
    configured = log.setting("beta")
    beta = configured if configured is not None else measured
    loss = subject.trend("loss", "eval_loss")
    moved = first_reward(subject)
    first = float(loss.values[0]) if loss is not None else math.nan
    if loss is not None and moved is None and len(loss) >= 30 and loss.noise > 0.05 * abs(first):
        whole = max(1, round(first / LN2)) * LN2
        if abs(first / whole - 1) > 1e-3:
            first = loss.first  # batches of single pairs
    logps = subject.trend("logps/chosen", "eval_logps/chosen")
    small = logps is not None and abs(logps.first) < 5
    objective, start, times = _objective(subject.kind, said, first, moved, beta, free is not None, small)
    if times > 1 and not said.startswith(LOGISTIC) and not _falls_as_a_sum(subject, times):
        objective, start, times = "other", (first if moved is not None else None), 1
    mean = small and (objective in ("ipo", "without_reference") or said == "sigmoid_norm")
    return PreferenceRun(objective, start, times, beta, configured is None and beta is not None, mean)


def _objective(
    kind: str, said: str, first: float, moved: float | None, beta: float | None, free: bool, small: bool
) -> tuple[str, float | None, int]:
    if kind == "orpo" or free or said.startswith(WITHOUT_REFERENCE):
        return "without_reference", None, 1
    if kind == "kto":
        return "kto", 0.5, 1
    if said.startswith("ipo") and beta:
        return "ipo", 1 / (4 * beta**2), 1
    if said.startswith(ONES):
        return "hinge", 1.0, 1
    if not math.isfinite(first):
        return ("sigmoid" if said.startswith(LOGISTIC) or not said else "other"), LN2, 1
    still = moved is None or moved < 0.2
    near = 0.04 if moved is not None else 0.15  # without rewards the first point may be some steps old
    times = round(first / LN2)
    if abs(first / LN2 - 1) < near and (not said or said.startswith(LOGISTIC)):
        return "sigmoid", LN2, 1
    if beta and still and not said.startswith(LOGISTIC) and abs(first * 4 * beta**2 - 1) < 0.15:
        return "ipo", 1 / (4 * beta**2), 1
    if still and small and first > 1.5 and not said.startswith(LOGISTIC) and _round_beta(first):
        return "ipo", first, 1  # 25 is 1/(4 * 0.1²) and 36 ln 2 alike; IPO averages log-probabilities over tokens
    # Exact where the rewards are 0: 1/(4 * 0.3²) is 4.007 ln 2, and an SFT term can make it anything.
    exact = 0.004 if moved is None else 0.0015 if moved < 1e-4 else 0.02
    if still and times in SUMMED and abs(first / (times * LN2) - 1) < exact:
        return "sigmoid", times * LN2, times
    if still and not said.startswith(LOGISTIC) and abs(first - 1) < 0.03:
        return "hinge", 1.0, 1
    if said and not said.startswith(LOGISTIC):
        return "other", (first if still else None), 1
    if moved is not None and still:  # rewards at 0 and another loss: a term is added (SFT loss, rpo_alpha)
        return "other", first, 1
    if moved is None and not said.startswith(LOGISTIC):
        return "other", None, 1
    return "sigmoid", LN2, 1


def _falls_as_a_sum(subject: LogSubject, times: int) -> bool:
    """Whether the loss at the end is `times` the mean of softplus(-margin), as it is for a sum of logistic losses.

    Other losses begin at 2 ln 2 too (NCA, BCO) and fall far less. Margins are taken as normal, as wide as the accuracy
    says; a third of the fall that they ask for is enough, as they may be skewed. Without margins only a loss that did
    not fall at all while pairs got ordered is told."""
    loss = subject.trend("loss")
    accuracies = subject.trend("rewards/accuracies", "accuracy")
    if loss is None or len(loss) < 5 or accuracies is None or len(accuracies) < 5:
        return True
    accuracy = mean_at_end(accuracies)
    left = mean_at_end(loss) / (times * LN2)
    margins = subject.trend("rewards/margins")
    if margins is None:
        return accuracy < 0.65 or left < 0.97
    margin = end_level(margins)
    if margin < 0.2 or accuracy < 0.55:
        return True
    width = margin / NormalDist().inv_cdf(min(accuracy, 0.99))
    many = margin + width * np.array([NormalDist().inv_cdf((i + 0.5) / 40) for i in range(40)])
    expected = float(np.logaddexp(0, -many).mean()) / LN2
    return 1 - left > (1 - expected) / 3


def _round_beta(first: float) -> bool:
    """Whether a first loss of 1/(4 beta²) belongs to a beta that somebody would write down."""
    beta = 1 / (2 * math.sqrt(first))
    return any(abs(beta / usual - 1) < 0.01 for usual in (0.01, 0.02, 0.03, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4))


def first_reward(subject: LogSubject) -> float | None:
    """The largest of the first logged rewards in size; None where none is logged."""
    found = [t for t in (subject.trend(f"rewards/{s}", f"eval_rewards/{s}") for s in (*SIDES, "margins")) if t]
    return max(abs(float(t.values[0])) for t in found) if found else None


def _rewards_are_scaled_logps(subject: LogSubject) -> float | None:
    """beta of a loss without reference: there the rewards are beta times the log-probabilities, row by row.

    Nearly so too where the reference knows its answers by heart and the policy doesn't; hence to the last digit."""
    factors: list[float] = []
    for prefix in ("", "eval_"):
        for side in SIDES:
            pair = beside(subject, f"{prefix}rewards/{side}", f"{prefix}logps/{side}")
            if pair is None:
                continue
            rewards, logps = pair
            if np.median(np.abs(rewards)) < 0.005 or np.any(logps == 0):
                return None
            factor = float(np.median(rewards / logps))
            fits = np.abs(rewards - factor * logps) <= 0.002 * np.abs(factor * logps) + 1.1e-4  # four digits
            if factor <= 0 or fits.mean() < 0.9:
                return None
            factors.append(factor)
    if not factors or max(factors) > 1.02 * min(factors):
        return None
    return _round(float(np.median(factors)))


def _beta_of_evaluations(subject: LogSubject) -> float | None:
    """Evaluations see the same rows each time, so their rewards move by beta times their log-probabilities."""
    by, of = [], []
    for side in SIDES:
        pair = beside(subject, f"eval_rewards/{side}", f"eval_logps/{side}")
        if pair is not None and len(pair[0]) > 1:
            by.append(np.diff(pair[1]))
            of.append(np.diff(pair[0]))
    if not by:
        return None
    x, y = np.concatenate(by), np.concatenate(of)
    if np.abs(x).max(initial=0.0) < 0.005 or not (x @ x):
        return None
    beta = float(x @ y / (x @ x))
    left = y - beta * x
    return _round(beta) if beta > 0 and left @ left < 0.02 * (y @ y) else None


def _round(value: float) -> float:
    """Two digits: what was configured has no more."""
    return float(f"{value:.2g}")


def beside(subject: LogSubject, left: str, right: str) -> tuple[Floats, Floats] | None:
    """The finite values of two curves in the rows that hold both."""
    one, two = subject.log.get(left), subject.log.get(right)
    if one is None or two is None:
        return None
    a, b = same_rows(one, two)
    both = np.isfinite(a) & np.isfinite(b)
    return (a[both], b[both]) if both.any() else None


def same_rows(one: Curve, two: Curve) -> tuple[Floats, Floats]:
    """Values of both curves in the rows that hold both."""
    if one.rows is two.rows:  # logged together from the first row to the last
        return one.values, two.values
    _, at_one, at_two = np.intersect1d(one.rows, two.rows, return_indices=True)
    return one.values[at_one], two.values[at_two]


def nothing_trained_yet(subject: LogSubject, trend: Trend) -> bool:
    """Whether the first point of `trend` was measured before any update: at step 0 or 1, or at learning rate 0."""
    log = subject.log
    if log.steps_known and trend.steps[0] <= (0 if trend.name.startswith("eval_") else 1):
        return True
    rate, curve = log.get("learning_rate"), log.get(trend.name)
    if rate is None or curve is None or not len(curve):
        return False
    so_far = rate.values[rate.rows <= curve.rows[0]]  # a schedule ends at 0 too
    return bool(len(so_far) and not so_far.any() and np.nanmax(rate.values) > 0)


def begins(subject: LogSubject, trend: Trend) -> bool:
    """Whether the first point of `trend` stands at the beginning of the run, and not at that of a log that was cut, of
    a resumed run, or of a table that starts with the first evaluation.

    By steps within the first ten or 3% of the run, or within its warm-up; by epochs no farther from 0 than two rows
    are from each other. Where the log knows neither, the first row is taken for the beginning."""
    log, curve = subject.log, subject.log.get(trend.name)
    if curve is None or not len(curve):
        return False
    if nothing_trained_yet(subject, trend):
        return True
    known = log.epoch[np.isfinite(log.epoch)]
    at_epoch = float(log.epoch[curve.rows[0]])
    apart = np.diff(np.unique(known))  # printed with few digits, epochs stand still for some rows
    told = len(apart) > 1 and math.isfinite(at_epoch)
    if told and at_epoch > 0.02 * float(known.max()) + 2.5 * float(np.median(apart)):
        return False
    if log.steps_known:
        first, length = float(trend.steps[0]), float(log.max_steps or log.last_step or trend.steps[-1])
        return first <= max(10.0, 0.03 * length) or (first <= 0.15 * length and _rate_still_rises(subject, curve))
    return not told or at_epoch <= 0.15 * float(known.max())


def _rate_still_rises(subject: LogSubject, curve: Curve) -> bool:
    """Whether the learning rate is below its peak in the row of the curve's first point and higher in the next."""
    rate = subject.log.get("learning_rate")
    if rate is None:
        return False
    at = np.flatnonzero(rate.rows >= curve.rows[0])
    if len(at) < 2:
        return False
    return bool(rate.values[at[0]] < rate.values[at[1]] and rate.values[at[0]] < 0.9 * np.nanmax(rate.values))


def off_throughout(subject: LogSubject, run: PreferenceRun, logged: list[Trend]) -> bool:
    """Both sides far from the reference in every row, on the same side of it and by the same in all.

    No training makes both so much likelier, as it can only take from elsewhere. Less likely is also what a run leaves
    that broke before the first row; there the loss of training in that row is still near its start."""
    if len(logged) < 2 or min(len(t) for t in logged) < 3:
        return False
    lowest = [float(np.abs(t.values).min()) for t in logged]
    moved = [float(np.ptp(t.values)) for t in logged]
    far = 4 * run.supposed_beta if run.mean_logps else 2.0
    if min(lowest) < far or any(m > 0.15 * low for m, low in zip(moved, lowest, strict=True)):
        return False
    signs = {float(np.sign(v)) for t in logged for v in t.values}
    loss = subject.trend("loss")
    return signs == {1.0} or (signs == {-1.0} and loss is not None and loss.values[0] > 1.5 * (run.start or LN2))


def line_of(subject: LogSubject, prefix: str, beta: float | None) -> tuple[float, float] | None:
    """Log-probability of the chosen answers at a reward of 0, and nats for each unit of reward (1 / beta), from the
    rows that log both. prefix: `eval_`, or empty for the rows of training.

    A reward is beta times the way from the reference, so over the same pairs the two lie on a line. None where the
    slope is not known to a fifth, and where single pairs drive the rewards: long answers have both the larger rewards
    and the lower log-probabilities."""
    chosen = beside(subject, f"{prefix}rewards/chosen", f"{prefix}logps/chosen")
    if chosen is None or len(chosen[0]) < 4:
        return None
    if beta:
        return float(np.median(chosen[1] - chosen[0] / beta)), 1 / beta
    rewards = subject.trend(f"{prefix}rewards/chosen")
    if rewards is None or (
        len(rewards) >= 12 and rewards.noise > 0.1 * float(np.ptp([s.level for s in rewards.stretches]))
    ):
        return None
    rejected = beside(subject, f"{prefix}rewards/rejected", f"{prefix}logps/rejected")
    sides = [side for side in (chosen, rejected) if side is not None and len(side[0]) >= 4]
    x = np.concatenate([side[0] - side[0].mean() for side in sides])
    y = np.concatenate([side[1] - side[1].mean() for side in sides])
    if not float(x @ x):
        return None
    slope = float(x @ y / (x @ x))
    left = y - slope * x
    doubt = math.sqrt(float(left @ left) / (len(x) - len(sides) - 1) / float(x @ x))
    return (float(np.median(chosen[1] - slope * chosen[0])), slope) if slope > 5 * doubt else None


def peak_rate(subject: LogSubject) -> float | None:
    """The highest learning rate of the run, logged or configured; None where neither is known.

    Logs that print it with few digits show 0 for a small one, which says nothing."""
    rate = subject.trend("learning_rate")
    configured = subject.log.setting("learning_rate")
    if rate is not None and rate.values.max() > 0:
        return float(rate.values.max())
    return configured if configured is not None and configured >= 0 else None


def warming_up(subject: LogSubject) -> bool:
    """Whether the learning rate rose to the very end of the log: the run had not come beyond its warm-up."""
    rate = subject.trend("learning_rate")
    if rate is None or len(rate) < 3:
        return False
    third = max(2, len(rate) // 3)
    return bool(
        np.all(np.diff(rate.values) >= 0) and rate.values[-1] > rate.values[-third] and rate.values[-1] > rate.values[0]
    )


def end_level(trend: Trend) -> float:
    """Where the curve ended: the median of its last fifth, of three points at least; the last of fewer than six."""
    return trend.level(0.8, 1.0) if len(trend) > 5 else float(trend.values[-1])


def mean_at_end(trend: Trend) -> float:
    """Mean of the last fifth, of five points at least: the median of accuracies that are 0 or 1 says little."""
    return float(trend.values[-max(5, len(trend) // 5) :].mean())


def best_logged(subject: LogSubject, name: str) -> Trend | None:
    """The evaluations where there are three or nothing else, else what training logs."""
    evaluated, logged = subject.trend(f"eval_{name}"), subject.trend(name)
    return evaluated if evaluated is not None and (len(evaluated) >= 3 or logged is None) else logged


def step_beyond(trend: Trend, level: float, *, above: bool) -> float:
    """The step from which stretches of the curve stay beyond `level`; its last stretch where none do."""
    from_step = trend.stretches[-1].first_step
    for stretch in reversed(trend.stretches):
        if (stretch.level > level) != above:
            break
        from_step = stretch.first_step
    return from_step


def needed_loss(subject: LogSubject, points: int) -> Trend:
    """The training loss, or that of evaluations where it isn't logged; raises NotMeasured for fewer points."""
    loss = subject.trend("loss")
    if loss is None or len(loss) < 2:
        evaluated = subject.evaluation
        if evaluated is not None and len(evaluated) >= 2:
            return evaluated
    if loss is None:
        raise NotMeasured("no_curve", curve="loss")
    if len(loss) < points:
        raise NotMeasured("too_few_points", curve="loss", n=len(loss), least=points)
    return loss
