"""DPO006: beta or learning rate far from what preference training works with."""

from __future__ import annotations

from collections.abc import Iterator

from diagnostics.log_subject import LogSubject
from diagnostics.preference_log.preference_run import (
    PreferenceRun,
    begins,
    end_level,
    peak_rate,
    preference_run,
    warming_up,
)
from diagnostics.report import Observation
from diagnostics.run_checks import NotMeasured, info, ok, warning
from diagnostics.thresholds import Thresholds


def beta_or_learning_rate_unusual(subject: LogSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        beta and the highest learning rate against those that work.
    Why it matters:
        Preference training wants a learning rate 10 to 100 times below that of SFT; with more the text breaks within
        some hundred steps, with much less nothing happens. A large beta ties the policy to its reference, a tiny one
        lets go of it.
    How it is measured:
        beta as configured, or measured from evaluations, whose rewards move by beta times their log-probabilities. The
        highest logged learning rate. All weights: 5e-7 to 1e-6 is usual, 5e-6 the most; adapters: up to 5e-5, often
        1e-4. Only what is outside for both is a warning, as logs seldom say which was trained.
    Known false alarms:
        Sound runs outside the usual exist, hence notes and warnings only. SimPO uses a beta of 2 and more and isn't
        judged by it.
    Fix:
        beta 0.1; 5e-7 to 1e-6 for all weights, 5e-6 to 1e-5 for an adapter.
    References:
        https://github.com/princeton-nlp/SimPO#hyperparameters
        https://huggingface.co/docs/trl/dpo_trainer
        https://github.com/eric-mitchell/direct-preference-optimization/issues/36
    """
    run = preference_run(subject)
    peak = peak_rate(subject)
    beta = run.beta if run.objective != "without_reference" else None
    if peak is None and beta is None:
        raise NotMeasured("no_curve", curve="learning_rate")
    full = str(subject.log.settings.get("finetuning_type", "")).lower() == "full"
    told = False
    if peak is not None:
        most = limits["dpo_rate_full_max"] if full else limits["dpo_rate_max"]
        usual = limits["dpo_rate_full_usual"] if full else limits["dpo_rate_usual"]
        evidence = ("highest learning_rate", peak)
        told = True
        if peak > most and not _sound(subject, run, limits):
            yield warning("learning_rate_high", evidence, peak=peak, most=most, curve="learning_rate")
        elif peak > most:
            yield info("learning_rate_high_and_sound", evidence, peak=peak, most=most)
        elif 0 < peak < limits["dpo_rate_min"] and _beyond_warmup(subject) and not _sound(subject, run, limits):
            least = limits["dpo_rate_min"]
            yield warning("learning_rate_low", evidence, peak=peak, least=least, curve="learning_rate")
        elif 0 < peak < limits["dpo_rate_min"]:
            yield info("learning_rate_below_usual", evidence, peak=peak)
        elif peak > usual:
            yield info("learning_rate_above_usual", evidence, peak=peak, usual=usual)
        else:
            told = False
    if beta is not None and beta > 0 and run.objective in ("sigmoid", "ipo", "kto", "hinge"):
        evidence = ("beta, measured" if run.measured else "beta", beta)
        if beta > limits["dpo_beta_max"]:
            yield warning("beta_large", evidence, beta=beta)
            told = True
        elif beta < limits["dpo_beta_min"]:
            yield warning("beta_small", evidence, beta=beta)
            told = True
        elif not limits["dpo_beta_low"] <= beta <= limits["dpo_beta_high"]:
            yield info("beta_unusual", evidence, beta=beta)
            told = True
    if not told:
        known = [(n, v) for n, v in (("highest learning_rate", peak), ("beta", beta)) if v is not None]
        yield ok("ok", *known, values=", ".join(f"{n} {v:.2g}" for n, v in known))


def _sound(subject: LogSubject, run: PreferenceRun, limits: Thresholds) -> bool:
    """Whether the loss fell as it should and not to nothing, on held-out pairs where there are some, and the chosen
    answers stayed likely."""
    loss = subject.evaluation
    if loss is None or len(loss) < 2:
        loss = subject.trend("loss")
    if loss is None or len(loss) < 2:
        return False
    logps = subject.trend("logps/chosen", "eval_logps/chosen")
    if logps is not None:
        began, ended = float(logps.values[:3].max()), end_level(logps)
        if ended < (1 + limits["dpo_fall_share"]) * began and began - ended > limits["dpo_fall_nats"]:
            return False
    start = run.start if run.start is not None else loss.first
    return 0.1 * start < end_level(loss) < 0.95 * start


def _beyond_warmup(subject: LogSubject) -> bool:
    """Whether the highest rate of the run is among those logged: not the end of a log, nor its warm-up alone."""
    rate = subject.trend("learning_rate")
    return rate is not None and len(rate) >= 5 and not warming_up(subject) and begins(subject, rate)
