"""Prompt formats: the checkpoint's own template and the ones in wide use, written around given rows.

The text of every format is data (configs/prompt_formats.yaml). What a format makes of a row is a `Frame`; as token
ids it is a `Piece` (score_answers.py) in a few variants: start token or not, prompt and answer tokenised together
or apart, end token of an encoder's input or not.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pipeline.config_files import load_config
from pipeline.instruction_rows import InstructionRow
from pipeline.score_answers import Piece
from pipeline.written_markers import ends_like_a_turn

# Asks for the text a template makes: messages, add_generation_prompt, further variables -> text, None if it fails.
Render = Callable[[Sequence[Mapping[str, str]], bool, Mapping[str, Any]], str | None]
# Variables by which templates switch a reasoning model's thinking off.
THINKING_OFF: tuple[tuple[str, Any], ...] = (("enable_thinking", False), ("thinking", False), ("reasoning", "off"))
LINE_END = "⏎"


@dataclass(frozen=True)
class Frame:
    """One row in one format. before: all text up to the answer (the encoder's text in an encoder-decoder). gap:
    white space that belongs between the two. after: what closes the answer. question: the last question as in it."""

    before: str
    question: str
    gap: str = ""
    after: str = ""

    @property
    def around_question(self) -> tuple[str, str]:
        """What stands before and after the last question, without white space."""
        place = self.before.rfind(self.question)
        parts = (self.before, "") if place < 0 else (self.before[:place], self.before[place + len(self.question) :])
        return "".join(parts[0].split()), "".join(parts[1].split())


@dataclass(frozen=True)
class PromptFormat:
    """A format with its frames, one for each row.

    family: `declared` (the checkpoint's template), `plain` (nothing around the question), or a key of
    configs/prompt_formats.yaml, or `vocabulary` (made from the names of special tokens).
    wrapper: words only, no marker tokens.
    """

    name: str
    label: str
    family: str
    frames: tuple[Frame, ...]
    wrapper: bool = False


@dataclass(frozen=True)
class Variant:
    """How a format becomes ids. bos: start tokens put in front (decoder). joint: prompt and answer tokenised
    together. end: the end token closes the encoder's input."""

    bos: int = 0
    joint: bool = True
    end: bool = True


def whole_characters(text: str) -> str:
    """U+FFFD for each half of a character (lone surrogate) of a broken file, which no tokenizer takes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return "".join("\ufffd" if "\ud800" <= c <= "\udfff" else c for c in text)
    return text


class PieceMaker:
    """Makes token ids of frames with one tokenizer. Everything about a boundary between prompt and answer is here."""

    def __init__(self, tokenizer: Any, is_encoder_decoder: bool) -> None:
        self.tokenizer = tokenizer
        self.is_encoder_decoder = is_encoder_decoder
        self.bos: int | None = tokenizer.bos_token_id
        self.eos: int | None = tokenizer.eos_token_id
        bare = self.ids("a")
        whole = list(tokenizer("a").input_ids)
        self.adds_bos = self.bos is not None and len(whole) > len(bare) and whole[0] == self.bos
        self.adds_eos = self.eos is not None and len(whole) > len(bare) and whole[-1] == self.eos
        self.fast = bool(getattr(tokenizer, "is_fast", False))
        self.lead = self._lead(bare) if is_encoder_decoder else ()

    def _lead(self, bare: list[int]) -> tuple[int, ...]:
        """What the tokenizer puts before a target: a language code or a start token, nothing for T5."""
        target = list(self.tokenizer(text_target="a").input_ids)
        for start in range(len(target)):
            if target[start : start + len(bare)] == bare:
                return tuple(target[:start])
        return ()

    @cached_property
    def added(self) -> frozenset[str]:
        """Texts of all tokens that are matched whole."""
        return frozenset(self.tokenizer.get_added_vocab()) | frozenset(self.tokenizer.all_special_tokens)

    def ids(self, text: str) -> list[int]:
        """Ids of a text, nothing added."""
        return list(self.tokenizer(whole_characters(text), add_special_tokens=False, verbose=False).input_ids)

    def many(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of many texts, nothing added."""
        held = [whole_characters(text) for text in texts]
        return [list(i) for i in self.tokenizer(held, add_special_tokens=False, verbose=False).input_ids]

    def clipped(self, answer: str, tokens: int) -> str:
        """The first `tokens` tokens of an answer as text, cut at a character."""
        if not self.fast:
            return answer if len(self.ids(answer)) <= tokens else answer[: 2 * tokens]
        offsets = self.tokenizer(
            whole_characters(answer), add_special_tokens=False, return_offsets_mapping=True, verbose=False
        ).offset_mapping  # fmt: skip
        return answer if len(offsets) <= tokens else answer[: offsets[tokens - 1][1]]

    def pieces(self, frames: Sequence[Frame], answers: Sequence[str], variant: Variant) -> list[Piece]:
        """Ids of every row. An answer's tokens are all that hold a character of it, so that every format is charged
        for the whole answer whatever its first token merges with."""
        if self.is_encoder_decoder:
            return self._encoder_pieces(frames, answers, variant)
        start = (self.bos,) * variant.bos if self.bos is not None else ()
        if not variant.joint or not self.fast:
            before, after = self.many([f.before for f in frames]), self.many(answers)
            return [Piece((*start, *b), tuple(a)) for b, a in zip(before, after, strict=True)]
        texts = [whole_characters(f.before + f.gap + a) for f, a in zip(frames, answers, strict=True)]
        encoded = self.tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        made = []
        for frame, ids, offsets in zip(frames, encoded.input_ids, encoded.offset_mapping, strict=True):
            boundary = len(frame.before) + len(frame.gap)
            first = next((i for i, (_, end) in enumerate(offsets) if end > boundary), len(ids))
            made.append(Piece((*start, *ids[:first]), tuple(ids[first:])))
        return made

    def _encoder_pieces(self, frames: Sequence[Frame], answers: Sequence[str], variant: Variant) -> list[Piece]:
        end = (self.eos,) if variant.end and self.eos is not None else ()
        inputs, targets = self.many([f.before for f in frames]), self.many(answers)
        if variant.end and self.adds_eos:  # whatever else the tokenizer puts around an input comes along
            asked = [whole_characters(f.before) for f in frames]
            inputs = [list(i) for i in self.tokenizer(asked, verbose=False).input_ids]
            end = ()
        return [Piece((*i, *end), tuple(t), self.lead) for i, t in zip(inputs, targets, strict=True)]

    def first_variant(self, frames: Sequence[Frame], declared_bos: bool) -> Variant:
        """The variant every format is tried in first: with a start token where this model is used to one."""
        if self.is_encoder_decoder:
            return Variant(end=self.adds_eos or self.eos is None)
        bos_text = self.tokenizer.bos_token
        own = bool(frames) and bos_text is not None and frames[0].before.startswith(bos_text)
        return Variant(bos=int((self.adds_bos or declared_bos) and not own and self.bos is not None))

    def other_variants(self, chosen: Variant, frames: Sequence[Frame]) -> list[Variant]:
        """Variants near `chosen` that are worth a try for a format that fits well."""
        if self.is_encoder_decoder:
            return [Variant(end=not chosen.end)] if self.eos is not None else []
        found = [Variant(chosen.bos, not chosen.joint)] if self.fast else []
        if self.bos is not None:
            bos_text = self.tokenizer.bos_token
            own = int(bool(frames) and bos_text is not None and frames[0].before.startswith(bos_text))
            found += [Variant(n, chosen.joint) for n in range(3 - own) if n != chosen.bos]
        return found

    def starts(self, format: PromptFormat, variant: Variant) -> int:
        """How many start tokens the model sees in front."""
        if self.is_encoder_decoder or self.bos is None or not format.frames:
            return 0
        text = self.tokenizer.bos_token
        before, own = format.frames[0].before, 0
        while text and before.startswith(text):
            before, own = before[len(text) :], own + 1
        return own + variant.bos


def label_of(format: PromptFormat, variant: Variant, maker: PieceMaker) -> str:
    """How a format in a variant is called in charts: the same in every language."""
    label = format.label
    if maker.is_encoder_decoder:
        return label + (maker.tokenizer.eos_token or "") * int(variant.end and maker.eos is not None)
    starts = maker.starts(format, variant)
    if starts:
        label = f"{maker.tokenizer.bos_token}" * starts + f" {label}"
    return label if variant.joint else f"{label} ‖"


# --- the formats ---


def declared_formats(rows: Sequence[InstructionRow], render: Render, template: str | None) -> list[PromptFormat]:
    """The checkpoint's template as generation uses it; then what it makes of a whole conversation, and without
    thinking, where these differ. Empty when there is no template or it fails."""
    if template is None:
        return []
    made: list[PromptFormat] = []
    used = _declared(rows, render, {})
    if used is None:
        return []
    made.append(PromptFormat("declared", "chat_template", "declared", used))
    for variable, value in THINKING_OFF:
        if variable in template and (quiet := _declared(rows, render, {variable: value})) and quiet != used:
            made.append(PromptFormat(f"declared_{variable}", f"chat_template {variable}={value}", "declared", quiet))
    whole = _whole_conversations(rows, render)
    if whole is not None and [f.before for f in whole] != [f.before + f.gap for f in used]:
        made.append(PromptFormat("declared_whole", "chat_template, whole conversation", "declared", whole))
    return made


def _answered(row: InstructionRow) -> list[dict[str, str]]:
    return [*row.messages, {"role": "assistant", "content": row.answer}]


def _declared(rows: Sequence[InstructionRow], render: Render, variables: Mapping[str, Any]) -> tuple[Frame, ...] | None:
    frames = []
    for row in rows:
        before = render(row.messages, True, variables)
        if before is None:
            return None
        whole = render(_answered(row), False, variables) or ""
        place = whole.rfind(row.answer)
        gap = whole[len(before) : place] if whole.startswith(before) and place >= len(before) else None
        fits = gap is not None and not gap.strip()
        after = whole[place + len(row.answer) :] if place >= 0 else ""
        frames.append(Frame(before, row.question.strip(), gap if fits and gap is not None else "", after))
    return tuple(frames)


def _whole_conversations(rows: Sequence[InstructionRow], render: Render) -> tuple[Frame, ...] | None:
    frames = []
    for row in rows:
        whole = render(_answered(row), False, {})
        if whole is None or (place := whole.rfind(row.answer)) < 0:
            return None
        frames.append(Frame(whole[:place], row.question.strip(), "", whole[place + len(row.answer) :]))
    return tuple(frames)


def plain_formats(
    rows: Sequence[InstructionRow], maker: PieceMaker, *, only: str | None = None
) -> list[PromptFormat]:  # fmt: skip
    """The question alone, first as generation without a template uses it, then with what may stand behind it.

    only: the name of the one wanted; none of that name gives an empty list.
    """
    table = load_config("prompt_formats.yaml")
    eos = maker.tokenizer.eos_token
    made = []
    for between in table["plain"]["encoder" if maker.is_encoder_decoder else "decoder"]:
        if only not in (None, f"plain{between!r}"):
            continue
        if "{eos}" in between and (eos is None or maker.is_encoder_decoder):
            continue
        text = between.replace("{eos}", eos or "")
        white = not text.strip()  # white space may merge with the answer's first token: it is the answer's side
        tail, gap = ("", text) if white else (text, "")
        frames = tuple(Frame(_joined(row) + tail, row.question, gap) for row in rows)
        made.append(PromptFormat(f"plain{between!r}", _show("{prompt}" + text), "plain", frames, wrapper=True))
    if only is not None or sum(bool(row.input) for row in rows) >= 0.3 * len(rows) > 0:
        for name, between in (("tight", ""), ("space", " "), ("blank_line", "\n\n")):
            if only not in (None, f"plain_{name}"):
                continue
            frames = tuple(Frame(_joined(row, between), row.question) for row in rows)
            label = _show("{instruction}" + between + "{input}")
            made.append(PromptFormat(f"plain_{name}", label, "plain", frames, wrapper=True))
    if maker.is_encoder_decoder:
        for prefix in table["encoder_prefixes"]:
            if only not in (None, f"prefix {prefix}"):
                continue
            frames = tuple(Frame(prefix + _joined(row), row.question) for row in rows)
            label = _show(prefix + "{prompt}")
            made.append(PromptFormat(f"prefix {prefix}", label, f"prefix {prefix.strip()}", frames, wrapper=True))
    return made


def _joined(row: InstructionRow, between: str = "\n") -> str:
    """All turns as lines; `between` joins instruction and input."""
    texts = [m["content"] for m in row.messages]
    if row.input and between != "\n":
        texts[-1] = texts[-1].removesuffix(f"\n{row.input}") + between + row.input
    return "\n".join(texts)


def _show(text: str) -> str:
    return text.replace("\n", LINE_END)


def family_formats(
    rows: Sequence[InstructionRow], maker: PieceMaker, *, only: str | None = None
) -> list[PromptFormat]:  # fmt: skip
    """The formats in wide use that this tokenizer can write; `name.systemN` with a family's own system message.

    only: the name of the one wanted, then also of an encoder-decoder that is not known to be trained on it.
    """
    made = []
    for name, family in load_config("prompt_formats.yaml")["families"].items():
        if only is not None and only.partition(".")[0] != name:
            continue
        if only is None and maker.is_encoder_decoder and not family.get("encoder"):
            continue
        texts = " ".join(str(family[k]) for k in ("user", "assistant"))
        if not set(family.get("tokens", ())) <= maker.added:
            continue
        if ("{bos}" in texts.replace(" {text} {eos}{bos}", "") and maker.bos is None) or (
            "{eos}" in str(family["user"]) and maker.eos is None
        ):
            continue
        for place, system in enumerate(("", *family.get("systems", ()))):
            if only not in (None, name + (f".system{place}" if place else "")):
                continue
            frames = tuple(_family_frame(family, row, system, place, maker) for row in rows)
            label = str(family["label"]) + (f" + system {place}" if place else "")
            made.append(PromptFormat(name + (f".system{place}" if place else ""), label, name, frames,
                                     wrapper=bool(family.get("wrapper"))))  # fmt: skip
    return made


def _family_frame(
    family: Mapping[str, Any], row: InstructionRow, system: str, place: int, maker: PieceMaker
) -> Frame:  # fmt: skip
    """`system`: the family's own system message, used where the row has none."""

    def with_ends(text: str) -> str:
        ends = (("{bos}", maker.tokenizer.bos_token or ""), ("{eos}", maker.tokenizer.eos_token or ""))
        for key, end in ends:
            text = text.replace(key, end)
        return text

    opening, closing = (with_ends(part) for part in str(family["assistant"]).split("{text}"))
    messages = list(row.messages)
    own_system = "\n".join(m["content"] for m in messages if m["role"] == "system")
    if row.input and place and family.get("systems_with_input"):
        system = str(family["systems_with_input"][place - 1])
    heading = own_system or system
    heading = with_ends(str(family["system"])).replace("{text}", heading) if heading else ""
    inside = heading if family.get("system_inside_user") else ""
    text = "" if inside else heading
    last = len(messages) - 1
    for number, message in enumerate(messages):
        content = message["content"]
        if message["role"] == "user":
            pattern = with_ends(str(family["user"]))
            if number == last and row.input and "input" in family:
                pattern = with_ends(str(family["input"]))
                instruction = content.removesuffix(f"\n{row.input}")
                text += pattern.replace("{text}", inside + instruction).replace("{input}", row.input)
            else:
                text += pattern.replace("{text}", inside + content)
            inside = ""
        elif message["role"] == "assistant":
            text += opening + content + closing
    text += opening
    # A space before the answer usually becomes part of its first token: it is the answer's side of the boundary.
    bare = text.rstrip(" ")
    return Frame(bare, row.question, text[len(bare) :], closing)


def vocabulary_formats(
    rows: Sequence[InstructionRow], maker: PieceMaker, *, only: str | None = None
) -> list[PromptFormat]:  # fmt: skip
    """Formats made from special tokens whose names say what they are for: a speaker's, a separator.

    only: the name of the one wanted.
    """
    table = load_config("prompt_formats.yaml")
    names = sorted(t for t in maker.added if t.strip() and len(t) <= 40)
    users = [t for t in names if re.search(table["user_token"], t)][:2]
    assistants = [t for t in names if re.search(table["assistant_token"], t)][:2]
    taken = {maker.tokenizer.bos_token, maker.tokenizer.eos_token, maker.tokenizer.pad_token, maker.tokenizer.unk_token}
    separators = [t for t in names if re.search(table["separator_token"], t) and t not in taken][:3]
    enders = [t for t in names if ends_like_a_turn(t)][:3]
    made = []

    def add(name: str, before: str, between: str) -> None:
        if only not in (None, f"vocabulary {name}"):
            return
        tail = between.rstrip(" ")
        frames = tuple(Frame(before + _joined(r) + tail, r.question, between[len(tail) :]) for r in rows)
        label = _show(f"{before}{{prompt}}{between}")
        made.append(PromptFormat(f"vocabulary {name}", label, "vocabulary", frames))

    for user in users:
        for assistant in assistants:
            if user == assistant:
                continue
            add(f"{user}{assistant}", user, assistant)
            add(f"{user}{assistant} lines", f"{user}\n", f"\n{assistant}\n")
            add(f"{user}{assistant} spaces", f"{user} ", f" {assistant} ")
            for end in enders:
                add(f"{user}{assistant}{end}", user, f"{end}{assistant}")
                add(f"{user}{assistant}{end} lines", f"{user}\n", f"{end}\n{assistant}\n")
    for separator in separators:
        add(f"{separator}", "", separator)
        add(f"{separator} spaces", "", f" {separator} ")
    return made


def near(one: Frame, other: Frame) -> bool:
    """Whether two frames differ by white space or by what stands in front of the question's own wrapping only."""
    (a, after_a), (b, after_b) = one.around_question, other.around_question
    if after_a != after_b:
        return False
    return a == b or (bool(after_a) and bool(a) and bool(b) and (a.endswith(b) or b.endswith(a)))
