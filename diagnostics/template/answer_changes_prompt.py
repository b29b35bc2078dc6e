"""TPL002: the prompt for generating is not the beginning of the text that is trained on."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from diagnostics.checkpoint_subject import CheckpointSubject
from diagnostics.report import Observation
from diagnostics.run_checks import NotMeasured, info, ok, warning
from diagnostics.template.rendered_turns import ANSWER, rendered_turns
from diagnostics.thresholds import Thresholds

# What reasoning templates put in or leave out before an answer; releases do so on purpose.
THINKING = re.compile(r"</?(?:think|thinking|reasoning|thought|seed:think)>|\s", re.IGNORECASE)
CHANNEL = re.compile(r"<\|channel\|?>|<\|message\|>|analysis|final|thought|<channel\|>|\s")


def answer_changes_prompt(subject: CheckpointSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        Whether a question rendered with the generation prompt is the exact beginning of the same question with its
        answer, as text and as tokens.
    Why it matters:
        Training masks the prompt by this prefix and generation starts from it. Where they differ the model is asked to
        continue from a place it never saw, and labels are cut at the wrong token.
    How it is measured:
        Both are rendered and compared character by character, then encoded and compared token by token.
    Known false alarms:
        Templates of reasoning models open or close a <think> block on one side only: mentioned, not blamed.
    Fix:
        Make the template write the same text before the answer in both cases.
    References:
        https://github.com/huggingface/trl/pull/1153
        https://github.com/huggingface/trl/issues/1239
    """
    probe = subject.probe
    if probe.template is None:
        raise NotMeasured("template_fails" if probe.template_problem else "no_template")
    turns = rendered_turns(probe)
    if turns.open is None or turns.answered is None or ANSWER not in turns.answered:
        raise NotMeasured("template_fails")
    prompt, full = turns.open, turns.answered
    if not full.startswith(prompt):
        shared = len(os.path.commonprefix([prompt, full]))
        asked, trained = prompt[shared:], full[shared:].partition(ANSWER)[0]
        evidence = (("generates after", prompt[-120:]), ("trains after", full.partition(ANSWER)[0][-120:]))
        params = {"asked": asked[:60], "trained": trained[:60]}
        if not CHANNEL.sub("", THINKING.sub("", asked)) and not CHANNEL.sub("", THINKING.sub("", trained)):
            yield info("thinking_differs" if (asked + trained).strip() else "white_space_differs", *evidence, **params)
        else:
            yield warning("prefix_differs", *evidence, **params)
        return
    added = full[len(prompt) :].partition(ANSWER)[0]
    if probe.problem is not None:
        yield ok("ok_text", ("added before the answer", added), added=added)
        return
    short, long = probe.encode([prompt, full])
    if long[: len(short)] != short:
        place = next((n for n, (a, b) in enumerate(zip(short, long, strict=False)) if a != b), len(long))
        pieces = [p or "?" for p in probe.tokens([*short[place : place + 2], *long[place : place + 2]])]
        yield info("boundary_merges", (f"tokens from {place}", pieces), place=place, n=len(short))
    else:
        yield ok("ok", ("added before the answer", added), n=len(short))
