"""PRF008, SFT006: marks of a chat template, and names of speakers, inside the text."""

from __future__ import annotations

from collections.abc import Iterator

from diagnostics.pairs_subject import PairsSubject
from diagnostics.report import Observation, Severity
from diagnostics.run_checks import ok
from diagnostics.thresholds import Thresholds


def template_in_text(subject: PairsSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        Whether answers or prompts hold what a chat template writes: `<|im_start|>`, `[INST]`, `### Response:`, a leaked
        system prompt, bare role names; or begin turns of other speakers (`Human:`, `用户：`).
    Why it matters:
        The trainer puts the template around the text once more. Markers inside an answer teach the model to write both
        speakers, and to go on after its answer; on one side only they are all that a preference loss learns.
    How it is measured:
        Marks that only a template writes are counted apart from speakers' names at the start of a line, which dialogues
        hold too: those are more than information only where one side has them more often than the other by
        `speakers_uneven`, or where so many supervised answers have them. A mark at the very end of an answer is an end
        marker and counted in PRF009 and SFT007. Marks in `prompts_rendered_share` of all prompts mean that the set was
        rendered beforehand.
    Known false alarms:
        Texts about chat templates, play scripts, interviews.
    Fix:
        Cut answers at the first mark; store prompts as messages without any template, and let the trainer render them.
    References:
        https://huggingface.co/docs/trl/dataset_formats
        https://github.com/huggingface/trl/issues/1858
    """
    table = subject.table
    quiet = True
    marked = {side: subject.found(table.flagged(f"template_{side}"), table.there[side]) for side in subject.answers}
    speaking = {side: subject.found(table.flagged(f"speaker_{side}"), table.there[side]) for side in subject.answers}
    for side, found in marked.items():
        if found.count:
            quiet = False
            yield found.observed(
                f"{side}_holds_template", side=side, flags=[f"template_{side}"], error="template_error",
                mark=table.commonest_sign(f"template_{side}"),
            )  # fmt: skip
        found = speaking[side]
        if found.count:
            quiet = False
            least = min(one.share for one in speaking.values()) if len(speaking) > 1 else 0.0
            uneven = found.share - least >= limits["speakers_uneven"]
            graded = found.severity(error="speakers_error")
            severity: Severity = graded if uneven else "info"
            yield found.observed(
                f"{side}_holds_speakers", side=side, flags=[f"speaker_{side}"], severity=severity,
                mark=table.commonest_sign(f"speaker_{side}"),
            )  # fmt: skip
    found = subject.found(table.flagged("template_prompt"))
    if found.count:
        quiet = False
        if found.share >= limits["prompts_rendered_share"]:
            yield found.observed(
                "prompts_rendered", side="prompt", flags=["template_prompt"], severity="info",
                mark=table.commonest_sign("template_prompt"),
            )  # fmt: skip
        else:
            yield found.observed(
                "some_prompts_hold_template", side="prompt", flags=["template_prompt"], error="template_error",
                mark=table.commonest_sign("template_prompt"),
            )  # fmt: skip
    if quiet:
        yield ok(of=table.rows)
    subject.metrics |= {f"pairs.template_share.{side}": round(found.share, 4) for side, found in marked.items()}
