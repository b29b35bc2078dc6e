"""TOK003: a special token is one token alone, but not after ordinary text."""

from __future__ import annotations

from collections.abc import Iterator

from diagnostics.checkpoint_subject import CheckpointSubject
from diagnostics.report import Observation
from diagnostics.run_checks import NotMeasured, error, ok, warning
from diagnostics.template.rendered_turns import markers_in, rendered_turns
from diagnostics.thresholds import Thresholds

# A letter, punctuation, a line break, their Chinese kin, a blank: what stands before an end marker in real answers.
BEFORE = ("a", ".", "\n", "。", "汉", " ")


def marker_splits_in_text(subject: CheckpointSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        Whether eos, bos, pad and the template's markers are recognised as one token wherever they stand.
    Why it matters:
        An end marker that falls into pieces after a full stop is learned as text: the model writes the characters and
        generation never stops.
    How it is measured:
        Each marker is encoded after a letter, a full stop, a line break, 。, 汉 and a blank; the ids must end in
        exactly its id. Tokens the vocabulary lacks are left to TOK006 and TOK009.
    Known false alarms:
        None known: a marker that is one token in every context is what every trainer relies on.
    Fix:
        Save the marker as a special AddedToken with normalized=False and single_word=False, or append its id yourself.
    References:
        https://github.com/huggingface/transformers/issues/23818
        https://github.com/turboderp/exllama/issues/199
        https://github.com/allenai/open-instruct/pull/114
    """
    probe = subject.probe
    if probe.problem is not None:
        raise NotMeasured("tokenizer_not_loaded")
    turns = rendered_turns(probe) if probe.template is not None else None
    ends = {probe.special["eos"][0]} if "eos" in probe.special else set()
    if turns is not None and turns.end is not None and turns.end.is_token:
        ends.add(turns.end.text)
    texts = [text for role, (text, _) in probe.special.items() if role in ("bos", "eos", "pad")]
    if turns is not None and turns.answered is not None:
        texts += [m.text for m in markers_in(probe, turns.answered)]
    texts = [t for t in dict.fromkeys(texts) if t not in probe.missing]
    wanted = {t: i for t, i in zip(texts, probe.token_ids(texts), strict=True) if i is not None}
    if not wanted:
        raise NotMeasured("no_special_tokens")
    pairs = [(before, text) for text in wanted for before in BEFORE]
    encoded = probe.encode([before + text for before, text in pairs])
    split: dict[str, list[tuple[str, list[int]]]] = {}
    for (before, text), ids in zip(pairs, encoded, strict=True):
        if ids[-1:] != [wanted[text]] or ids.count(wanted[text]) != 1:
            split.setdefault(text, []).append((before, ids))
    for text, cases in split.items():
        before, ids = cases[0]
        pieces = [p or "?" for p in probe.tokens(ids)]
        found = error if text in ends else warning
        yield found("end_splits" if text in ends else "marker_splits", (repr(before + text), pieces), token=text,
                    id=wanted[text], before=repr(before), pieces=pieces, n=len(cases), total=len(BEFORE))  # fmt: skip
    if not split:
        yield ok(tokens=list(wanted)[:8], n=len(wanted), contexts=len(BEFORE))
