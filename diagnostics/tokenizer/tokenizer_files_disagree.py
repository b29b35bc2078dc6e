"""TOK009: the tokenizer's files contradict one another."""

from __future__ import annotations

from collections.abc import Iterator

from diagnostics.checkpoint_subject import CheckpointSubject
from diagnostics.report import Observation
from diagnostics.run_checks import error, info, ok, warning
from diagnostics.thresholds import Thresholds
from pipeline.declared_tokens import ROLES, token_text
from pipeline.probe import Probe

# Roles that decide what is learned and where generation stops; the others only name tokens nobody writes.
MATTERS = ("eos", "bos")
CLASS_DEFAULT = "class default"


def tokenizer_files_disagree(subject: CheckpointSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        Special tokens and their ids in tokenizer_config.json, special_tokens_map.json, added_tokens.json and the
        vocabulary itself, and which of two chat templates wins.
    Why it matters:
        Which file wins depends on the version of transformers and on slow or fast tokenizer: training and serving then
        use different tokens under one name.
    How it is measured:
        Strings per role, id per string and string per id are compared between all files that are there. Without a
        vocabulary a role's token must stand in added_tokens_decoder, where the tokens of all other roles stand.
    Known false alarms:
        pad, unk or mask may differ without effect, and special_tokens_map.json is not read at all where
        tokenizer_config.json lists added_tokens_decoder; only mentioned.
    Fix:
        Load with AutoTokenizer, set the tokens, save_pretrained once more, and delete the older files.
    References:
        https://github.com/huggingface/transformers/issues/29774
        https://github.com/QwenLM/Qwen3/issues/1422
    """
    probe = subject.probe
    files = probe.files
    found = False
    for text, declared, actual in probe.moved[:5]:
        found = True
        where = files.config.where("added_tokens_decoder")
        yield error("id_moved", (where, declared), (probe.source, actual), token=text, declared=declared, actual=actual,
                    file=probe.source)  # fmt: skip
    for text, first, second in _two_ids(probe)[:5]:
        found = True
        yield error("two_ids", (files.config.where("added_tokens_decoder"), first), (files.added_tokens.name, second),
                    token=text, first=first, second=second)  # fmt: skip
    for role in ROLES:
        key = f"{role}_token"
        own, other = token_text(files.config.get(key)), token_text(files.special_tokens_map.get(key))
        if own is not None and other is not None and own != other:
            found = True
            evidence = ((files.config.where(key), own), (files.special_tokens_map.where(key), other))
            params = {"role": role, "own": own, "other": other, "wins": probe.declared[role].content}
            if isinstance(files.config.get("added_tokens_decoder"), dict):  # then nobody reads the other file
                yield info("role_differs_unread", *evidence, **params)
            else:
                yield (warning if role in MATTERS else info)("role_differs", *evidence, **params)
    absent = [t for t in probe.missing if t in {s.content for s in probe.declared.values()}]
    others = [t for t in probe.missing if t not in absent]
    # The end token is the matter of TOK006.
    absent = [t for t in absent if t != probe.special.get("eos", ("",))[0]]
    if absent:
        found = True
        roles = [r for r, s in probe.declared.items() if s.content in absent]
        bad = "bos" in roles or "pad" in roles
        ids = probe.token_ids(absent)
        yield (warning if bad else info)("role_not_in_vocabulary", (probe.declared[roles[0]].where, absent),
                                         tokens=absent, roles=roles, ids=ids, file=probe.source)  # fmt: skip
    if others:
        found = True
        yield info("declared_not_in_vocabulary", (files.config.where("added_tokens_decoder"), others[:8]),
                   tokens=others[:5], n=len(others), file=probe.source)  # fmt: skip
    for role, text in _not_listed(probe):
        found = True
        listed = (files.config.where("added_tokens_decoder"), len(probe.added))
        bad = role in MATTERS or role == "pad"
        yield (warning if bad else info)("role_not_listed", (probe.declared[role].where, text), listed, role=role,
                                         token=text, n=len(probe.added))  # fmt: skip
    if probe.template_shadowed:
        found = True
        yield info("two_templates", (probe.template_source, "used"), (files.config.where("chat_template"), "ignored"),
                   wins=probe.template_source)  # fmt: skip
    if not found:
        yield ok("ok", n=len(probe.declared), files=list(files.names))


def _not_listed(probe: Probe) -> list[tuple[str, str]]:
    """(role, token) whose token no list of the small files holds, though it holds those of all other roles."""
    if probe.problem is None or not isinstance(probe.files.config.get("added_tokens_decoder"), dict):
        return []
    named = {role: s.content for role, s in probe.declared.items() if s.where != CLASS_DEFAULT}
    absent = [(role, text) for role, text in named.items() if text not in probe.added]
    others = set(named.values()) & probe.added.keys()
    # A list that lacks several tokens is not complete, and says nothing.
    return absent[:1] if others and len({text for _, text in absent}) == 1 else []


def _two_ids(probe: Probe) -> list[tuple[str, int, int]]:
    decoder = probe.files.config.get("added_tokens_decoder")
    listed = probe.files.added_tokens.value
    if not isinstance(decoder, dict) or not listed:
        return []
    by_text = {token_text(entry): int(key) for key, entry in decoder.items() if str(key).isdecimal()}
    return [
        (text, by_text[text], number)
        for text, number in listed.items()
        if text in by_text and type(number) is int and by_text[text] != number
    ]
