"""TPL001: the chat template fails, hangs or loses what was said."""

from __future__ import annotations

from collections.abc import Iterator

from diagnostics.checkpoint_subject import CheckpointSubject
from diagnostics.report import Observation
from diagnostics.run_checks import NotMeasured, error, info, ok, warning
from diagnostics.template.rendered_turns import QUESTION, rendered_turns
from diagnostics.thresholds import Thresholds
from pipeline.probe import RENDER_SECONDS


def template_does_not_render(subject: CheckpointSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        Whether the chat template renders a question, an answer, a further question and a system message, and whether
        their text arrives in the prompt; before that, whether the template's file is text.
    Why it matters:
        A template that drops a turn or a system message trains and prompts the model on something else than you think.
    How it is measured:
        The file is decoded as UTF-8, as transformers does, and rendered by Jinja's sandbox with the settings of
        transformers in a process with limited memory and time.
    Known false alarms:
        Some models have no system role and say so by raising; that is only mentioned.
    Fix:
        Take the template from the base model's tokenizer_config.json or chat_template.jinja.
    References:
        https://huggingface.co/docs/transformers/chat_templating
    """
    probe = subject.probe
    for unread in (probe.template_problem, *probe.other_templates):
        if unread is not None:
            what, file, detail = unread
            named = what if what in ("not_utf8", "unreadable") else "not_json"
            found = error if unread is probe.template_problem else warning
            yield found(named, (file, detail), file=file, detail=detail)
    if probe.template is None:
        if probe.template_problem is not None:
            return
        raise NotMeasured("no_template")
    turns = rendered_turns(probe)
    where = (probe.template_source, probe.template[:200])
    if turns.failed is not None:
        problem = turns.failed.problem or "raised"
        if problem == "missing_dependency":
            raise NotMeasured("template_engine_missing", detail=turns.failed.detail)
        renders_some = turns.open is not None and problem == "raised"
        yield (warning if renders_some else error)(
            "fails_on_answers" if renders_some else problem, where, ("problem", turns.failed.detail),
            detail=turns.failed.detail, file=probe.template_source, seconds=RENDER_SECONDS,
        )  # fmt: skip
        if not renders_some:
            return
    if turns.content_lost:
        yield error("content_lost", where, ("rendered", (turns.answered or "")[:400]), file=probe.template_source)
        return
    system = "Answer in one word"
    message = {"role": "system", "content": system}
    rendered = probe.render([message, {"role": "user", "content": QUESTION}], add_generation_prompt=True)
    if rendered.problem == "raised":
        yield info("no_system_role", ("problem", rendered.detail), detail=rendered.detail)
    elif rendered.text is not None and system not in rendered.text:
        yield info("system_dropped", ("rendered", rendered.text[:300]))
    elif turns.failed is None:
        yield ok("ok", where, file=probe.template_source, n=len(probe.template))
