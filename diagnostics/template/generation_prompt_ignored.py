"""TPL005: add_generation_prompt changes nothing although answers have a header."""

from __future__ import annotations

from collections.abc import Iterator

from diagnostics.checkpoint_subject import CheckpointSubject
from diagnostics.report import Observation
from diagnostics.run_checks import NotMeasured, ok, warning
from diagnostics.template.rendered_turns import ANSWER, QUESTION, markers_in, rendered_turns
from diagnostics.thresholds import Thresholds


def generation_prompt_ignored(subject: CheckpointSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        Whether a prompt rendered for generation ends with the header that stands before every answer.
    Why it matters:
        Without the header the model first has to write it, or goes on with the user's turn: answers begin with role
        markers or answer nothing.
    How it is measured:
        The question is rendered with and without add_generation_prompt and compared with the question and its answer.
    Known false alarms:
        Templates whose user turn ends with the answer's header (Phi-3-medium) or that have no header (Llama 2).
    Fix:
        Add the header under {% if add_generation_prompt %} at the end of the template.
    References:
        https://github.com/huggingface/alignment-handbook/issues/116
        https://huggingface.co/docs/transformers/chat_templating
    """
    probe = subject.probe
    if probe.template is None:
        raise NotMeasured("template_fails" if probe.template_problem else "no_template")
    turns = rendered_turns(probe)
    if turns.closed is None or turns.open is None or turns.answered is None or ANSWER not in turns.answered:
        raise NotMeasured("template_fails")
    if turns.open != turns.closed:
        added = turns.open[len(turns.closed) :] if turns.open.startswith(turns.closed) else turns.open[-60:]
        yield ok("ok", ("generation prompt", added), added=added.strip())
        return
    before = turns.answered.partition(ANSWER)[0]
    header = before[len(turns.closed) :].strip() if before.startswith(turns.closed) else ""
    # A prompt that goes on after the end of the question's turn has opened the answer already (Command A).
    opened = len(markers_in(probe, turns.closed.rpartition(QUESTION)[2])) > 1
    if header and not opened:
        evidence = (("prompt ends with", turns.open[-80:]), ("answers follow", before[-80:]))
        yield warning("no_effect", *evidence, header=header)
    else:
        yield ok("not_needed", ("prompt ends with", turns.open[-80:]))
