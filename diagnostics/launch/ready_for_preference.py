"""RUN029: is this SFT checkpoint ready for preference training?"""

from __future__ import annotations

from collections.abc import Iterator

from diagnostics.recipe_subject import RecipeSubject
from diagnostics.report import Finding, Observation
from diagnostics.run_checks import NotMeasured, info, ok
from diagnostics.thresholds import Thresholds

METHODS = ("dpo", "kto", "simpo", "cpo")
_OF_MODEL = ("CKP", "ADP", "TOK", "TPL", "WGT", "FWD")
_OWN = ("RUN014", "RUN027", "RUN028")


def ready_for_preference(subject: RecipeSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        Whether the model that preference training is to begin with is a sound SFT result: yes, no, or with conditions.
    Why it matters:
        DPO and its family move a model that answers well already a little; they can't teach it to answer, to stop, or
        its prompt format. What is wrong at the start is wrong in the reference too.
    How it is measured:
        From all findings on the model, its tokenizer, template and weights in this report; depth forward also asks the
        model for the training rows.
    Known false alarms:
        By the files alone an undertrained model looks like any other.
    Fix:
        Mend what is named, or train SFT longer first.
    References:
        https://arxiv.org/abs/2305.18290
        https://huggingface.co/blog/pref-tuning
    """
    if subject.method not in METHODS:
        raise NotMeasured("not_a_preference_method", method=subject.method)
    if subject.checkpoint.kind == "none" or subject.checkpoint.problem is not None:
        raise NotMeasured("no_weights")
    judged = [f for f in subject.findings if f.code[:3] in _OF_MODEL or f.code in _OWN]
    wrong, doubtful = _codes(judged, "error"), _codes(judged, "warning")
    # What the model itself shows counts also where it is no fault of a checkpoint: a base that knows no end of answers
    doubtful += [f.code for f in judged if f.code.startswith("FWD") and f.severity == "info" and f.code not in doubtful]
    asked = any(f.code.startswith("FWD") for f in judged)
    evidence = [(f.code, f.outcome) for f in judged if f.code in (*wrong, *doubtful) and f.severity != "ok"]
    if wrong:
        yield info("not_ready", *evidence, codes=", ".join(wrong))
    elif doubtful:
        yield info("with_conditions", *evidence, codes=", ".join(doubtful))
    elif asked:
        yield ok("ready", checks=len({f.code for f in judged}))
    else:
        yield ok("ready_by_files", checks=len({f.code for f in judged}))


def _codes(findings: list[Finding], severity: str) -> list[str]:
    return list(dict.fromkeys(f.code for f in findings if f.severity == severity))
