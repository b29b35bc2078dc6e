"""GEN015: answers in pieces that this tokenizer never cuts text into."""

from __future__ import annotations

from collections.abc import Iterator

from diagnostics.checkpoint_subject import CheckpointSubject
from diagnostics.forward.how_much_it_knows import standing_if_measured
from diagnostics.generation.answer_faults import quoted, where
from diagnostics.report import Observation
from diagnostics.run_checks import NotMeasured, info, ok, warning
from diagnostics.thresholds import Thresholds


def pieces_of_another_vocabulary(subject: CheckpointSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        Whether the tokens of the answers are those the tokenizer itself would cut their text into.
    Why it matters:
        A model has only ever seen text as its own tokenizer cuts it, and writes it so. With the tokenizer of another
        model, or ids that were moved, the answers decode to pieces that no text is cut into.
    How it is measured:
        Each greedy answer is decoded and tokenised again; the share of its tokens that come back, without the first
        and the last of an answer. Judged over all answers, and only where several of them differ.
    Known false alarms:
        A model whose training text was tokenised in parts writes other pieces where the parts met; a model that knows
        its rows is not accused, and of a tiny model built-in prompts only inform. Weights that are random write random
        tokens too; whether they are is said by FWD001 and FWD002. Text that the tokenizer normalises away (double
        spaces, composed accents) comes back otherwise, in few tokens.
    Fix:
        Take the tokenizer from the folder the weights come from; give --base to compare it piece by piece (TOK012).
    References:
        https://arxiv.org/abs/2506.06446
    """
    grid = subject.generations
    rows = [(answer, kept, of) for answer, (kept, of) in zip(grid.answers["greedy"], grid.own_pieces, strict=True)]
    of = sum(n for _, _, n in rows)
    judged = [row for row in rows if row[2]]
    if len(judged) < limits["gen_answers_min"]:
        raise NotMeasured("too_few_answers", n=len(judged), least=int(limits["gen_answers_min"]))
    share = sum(kept for _, kept, _ in rows) / of
    subject.metrics["gen.own_pieces"] = round(share, 4)
    strange = [answer for answer, kept, n in judged if kept < n]
    numbers = {"percent": 100 * share, "tokens": of, "n": len(judged), "strange": len(strange)}
    known = standing_if_measured(subject, limits)
    # whoever finds the right answers likely reads and writes this vocabulary
    if known is not None and known.level in ("knows", "partly"):
        yield ok("ok", **numbers)
    elif share < limits["gen_own_pieces"] and len(strange) >= max(3, limits["gen_own_pieces_answers"] * len(judged)):
        evidence = [(where(grid, a), quoted(a)) for a in strange[:3]]
        if grid.source == "probes" and grid.parameters < limits["gen_probes_parameters"]:
            yield info("other_pieces", *evidence, **numbers)
        else:
            yield warning("not_its_pieces", *evidence, **numbers)
    else:
        yield ok("ok", **numbers)
