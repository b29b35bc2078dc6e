"""PRF021: where prompt and answer meet in tokens."""

from __future__ import annotations

from collections.abc import Iterator

from diagnostics.pairs_subject import PairsSubject
from diagnostics.report import Observation
from diagnostics.run_checks import NotMeasured, ok
from diagnostics.thresholds import Thresholds


def prompt_boundary(subject: PairsSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        Whether the prompt's tokens are those that prompt and answer together begin with.
    Why it matters:
        A prompt that ends in a space, or in letters that merge with the answer's first ones, is tokenised otherwise
        once an answer follows: the trainer warns in every batch, and training differs from generation at exactly the
        first token of the answer.
    How it is measured:
        Prompt alone and prompt with answer are tokenised as the trainer does; rows in which the former is no beginning
        of the latter.
    Known false alarms:
        Few rows in a large set don't matter.
    Fix:
        Strip white space at the end of prompts, or use the conversational layout with a chat template.
    References:
        https://github.com/huggingface/trl/pull/1153
    """
    tokens = subject.model.tokens
    usable = tokens.problem == 0
    if not usable.any():
        raise NotMeasured("not_tokenised")
    found = subject.found(tokens.not_prefix & usable, usable)
    if found.count:
        yield found.observed("merges", side="prompt", error="boundary_error")
    else:
        yield ok(of=found.of)
