"""Which prompts a checkpoint is asked, and in which format: the user's prompts, rows of the data, or built-in ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from diagnostics.run_checks import NotMeasured
from diagnostics.thresholds import load_thresholds

if TYPE_CHECKING:
    from diagnostics.checkpoint_subject import CheckpointSubject
    from pipeline.answer_grid import AnswerGrid
    from pipeline.format_autopsy import Autopsy
    from pipeline.instruction_rows import InstructionRow
    from pipeline.prompt_formats import PieceMaker, PromptFormat, Variant
    from pipeline.sample_answers import Asked


MIN_ROOM = 24  # positions that must be left for an answer


def ask(subject: CheckpointSubject) -> AnswerGrid:
    """All answers the samples checks look at. Raises NotMeasured where nothing can be asked or nothing comes back."""
    from pipeline.answer_grid import ask_checkpoint, choose_rows
    from pipeline.prompt_formats import PieceMaker
    from pipeline.sample_answers import GenerationCancelled, GenerationFailed, budget_for
    from pipeline.score_answers import position_limit

    loaded = subject.loaded
    if loaded.random_parts:
        raise NotMeasured("parts_stay_random", n=len(loaded.random_parts))
    if loaded.tokenizer is None:
        raise NotMeasured("tokenizer_not_loaded", problem=loaded.tokenizer_problem)
    source, rows = _rows(subject)
    maker = PieceMaker(loaded.tokenizer, loaded.is_encoder_decoder)
    autopsy = _autopsy(subject)
    format_name, asked, used = _asked(subject, autopsy, rows, maker)
    if source == "probes":  # their answers are one word; how long a model's own are is nobody's fault
        asked = [replace(a, gold=None, gold_tokens=None) for a in asked]
        used = [replace(a, gold=None, gold_tokens=None) for a in used]
    limit = position_limit(loaded)
    fitting = [i for i, a in enumerate(asked) if limit is None or len(a.ids) + MIN_ROOM <= limit]
    asked, used = [asked[i] for i in fitting], [used[i] for i in fitting] if used else []
    budget = budget_for(sum(p.numel() for p in loaded.model.parameters()), subject.device)
    places = choose_rows([(len(a.ids), a.gold_tokens) for a in asked], budget)
    if not places:
        raise NotMeasured("nothing_to_ask")
    try:
        return ask_checkpoint(
            loaded, [asked[i] for i in places], source=source, format_name=format_name,
            as_used=[used[i] for i in places] if used else (), device=subject.device, seed=subject.seed,
            cancel=subject.cancel, note=subject.note,
        )  # fmt: skip
    except GenerationFailed as failed:
        raise NotMeasured("generation_failed", error=str(failed)) from None
    except GenerationCancelled:
        raise NotMeasured("cancelled") from None


def _rows(subject: CheckpointSubject) -> tuple[str, Sequence[InstructionRow]]:
    """(where they come from, rows)."""
    from pipeline.instruction_rows import spread
    from pipeline.prompt_file import read_prompts

    if subject.prompts_path is not None:
        found = read_prompts(subject.prompts_path, limit=subject.max_rows)
        if found.problem is not None:
            raise NotMeasured("prompts_not_read", problem=found.problem, detail=found.detail)
        return "prompts", found.rows
    rows, source = subject.asked_rows
    return source, spread(rows, subject.max_rows)


def _autopsy(subject: CheckpointSubject) -> Autopsy | None:
    try:
        return subject.autopsy
    except NotMeasured:
        return None


def _asked(
    subject: CheckpointSubject, autopsy: Autopsy | None, rows: Sequence[InstructionRow], maker: PieceMaker
) -> tuple[str, list[Asked], list[Asked]]:
    """(label of the format, prompts in it, the same prompts as generation would write them where that differs).

    The format is the one that fits best when it fits clearly better than the one generation uses; else the latter.
    """
    from pipeline.prompt_formats import declared_formats, family_formats, label_of, plain_formats, vocabulary_formats

    template = subject.probe.template
    declared = declared_formats(rows, _render(subject), template)
    usual = declared[0] if declared else plain_formats(rows, maker)[0]
    if declared and not maker.is_encoder_decoder:
        from pipeline.prompt_formats import Variant

        usual_variant = Variant()  # the template writes its own start token
    else:
        usual_variant = maker.first_variant(usual.frames, False)
    as_usual = _made(usual, usual_variant, rows, maker)
    if autopsy is None or not autopsy.clearly_better(load_thresholds().values):
        return label_of(usual, usual_variant, maker), as_usual, []
    best = autopsy.best
    formats = [*declared, *plain_formats(rows, maker), *family_formats(rows, maker), *vocabulary_formats(rows, maker)]
    same = next((f for f in formats if f.name == best.format.name), None)
    if same is None:  # made for the rows of the autopsy alone
        return label_of(usual, usual_variant, maker), as_usual, []
    made = _made(same, best.variant, rows, maker)
    return best.label, made, as_usual if [a.ids for a in made] != [a.ids for a in as_usual] else []


def _made(
    format: PromptFormat, variant: Variant, rows: Sequence[InstructionRow], maker: PieceMaker
) -> list[Asked]:
    from pipeline.sample_answers import Asked

    pieces = maker.pieces(format.frames, [row.answer for row in rows], variant)
    lengths = maker.many([row.answer for row in rows])
    return [
        Asked(row.id, row.question, piece.context, row.answer or None, len(ids) if row.answer else None)
        for row, piece, ids in zip(rows, pieces, lengths, strict=True)
    ]


def _render(subject: CheckpointSubject) -> Any:
    def render(messages: Sequence[Mapping[str, str]], add: bool, variables: Mapping[str, Any]) -> str | None:
        return subject.probe.render(
            [dict(m) for m in messages], add_generation_prompt=add, variables=dict(variables)
        ).text

    return render
