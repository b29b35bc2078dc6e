"""How a row becomes exactly the tokens that a loaded model is given, in one format for the whole run.

Chat templates come from strangers: they are rendered in the limited process of `pipeline.probe` alone, many rows a
request. The start token stands in front once at most, whether the template or the tokenizer writes it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from pipeline.candidates.candidate import Note, SourceRow
from pipeline.checkpoint import Checkpoint
from pipeline.config_files import load_config
from pipeline.format_autopsy import Autopsy, format_autopsy
from pipeline.instruction_rows import InstructionRow
from pipeline.pairs.pair import Message, Pair, content_text
from pipeline.probe import Probe, open_probe
from pipeline.prompt_formats import (
    THINKING_OFF,
    Frame,
    PieceMaker,
    PromptFormat,
    Variant,
    family_formats,
    label_of,
    plain_formats,
    vocabulary_formats,
)
from pipeline.refusal import Refused, Sentence
from pipeline.score_answers import NotScored, position_limit

if TYPE_CHECKING:
    from pipeline.load_model import LoadedModel

AUTOPSY_ROWS = 32
ROWS_AT_ONCE = 256
TAIL = 48  # characters of the prompt that an answer is tokenised behind: more than any token at the boundary spans
_ROLES = ("system", "user", "assistant")
_MARK = "Zq7mark"  # a word that no template writes by itself


@dataclass(frozen=True)
class Prompt:
    """What the model is given for one row. ids: every token, the encoder's input in an encoder-decoder. text: the same
    with special tokens visible. format: what the form is called in charts. gap: white space that the format puts
    between prompt and answer and that is the answer's first token's (`Answer:` and ` Paris`)."""

    ids: tuple[int, ...]
    text: str
    format: str
    gap: str = field(default="", compare=False)


@dataclass(frozen=True)
class Problem:
    """Why a row has no prompt: `prompt_too_long` (more tokens than the context leaves beside the answer) or
    `prompt_not_rendered`; detail says more, in English."""

    problem: str
    detail: str = ""


class Prompting:
    """One format with everything that is needed to write it. Close it; also a context manager.

    name: `declared` (the checkpoint's chat template), `declared_whole` (as it writes whole conversations), `plain''`,
    a name of configs/prompt_formats.yaml, or one made from the vocabulary. label: the same for charts. found: it isn't
    what the files declare but what the model was trained on, as the autopsy showed. remarks: what was said through
    `note`, for whoever speaks another language.
    """

    def __init__(
        self, loaded: LoadedModel, templates: _Templates, maker: PieceMaker, *, system: str | None, thinking: bool
    ) -> None:  # fmt: skip
        self.loaded, self.maker, self.system = loaded, maker, system
        self.name = "plain''"
        self.label = ""
        self.variant = Variant()
        self.found = False
        self.remarks: list[Sentence] = []
        self._templates = templates
        self._variables = templates.thinking_variables(thinking)
        self._limit = position_limit(loaded)
        self._embedded = int(loaded.core.get_input_embeddings().weight.shape[0])

    @property
    def declared(self) -> bool:
        """Whether the checkpoint's template writes the prompts."""
        return self.name.startswith("declared")

    def prompts(self, rows: Sequence[SourceRow], *, new_tokens: int = 1) -> list[Prompt | Problem]:
        """The prompt of each row, or why it has none. new_tokens: for how many the context must have room behind it
        (decoders; an encoder's input has the context to itself). Nothing is ever cut."""
        made: list[Prompt | Problem] = []
        for start in range(0, len(rows), ROWS_AT_ONCE):
            made += self._made(rows[start : start + ROWS_AT_ONCE], new_tokens)
        return made

    def prompt(self, row: SourceRow, *, new_tokens: int = 1) -> Prompt | Problem:
        """The same of one row."""
        return self.prompts([row], new_tokens=new_tokens)[0]

    def answer_ids(self, prompt: Prompt, answers: Sequence[str]) -> list[tuple[int, ...]]:
        """The tokens of each answer behind this prompt, without an end token: as they are in the whole text where the
        prompt's tokens stay as they are, else those of the answer alone."""
        maker = self.maker
        if maker.is_encoder_decoder:
            return [tuple(ids) for ids in maker.many(answers)] if answers else []
        texts = [answer if answer[:1].isspace() else prompt.gap + answer for answer in answers]
        found: dict[int, tuple[int, ...]] = {}
        if maker.fast and self.variant.joint and texts:
            tail = prompt.text[-TAIL:]
            before, *whole = maker.many([tail, *(tail + text for text in texts)])
            found = {i: tuple(w[len(before) :]) for i, w in enumerate(whole) if w[: len(before)] == before}
        apart = [i for i in range(len(texts)) if i not in found]
        if apart:
            found.update(zip(apart, map(tuple, maker.many([texts[i] for i in apart])), strict=True))
        return [found[i] for i in range(len(texts))]

    def close(self) -> None:
        """End the process that renders."""
        self._templates.close()

    def __enter__(self) -> Prompting:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # --- one part of the rows ---

    def _made(self, rows: Sequence[SourceRow], new_tokens: int) -> list[Prompt | Problem]:
        found: list[Prompt | Problem | None] = [None] * len(rows)
        written: list[tuple[int, Frame]] = []
        for place, frame in self._frames(rows):
            if isinstance(frame, Problem):
                found[place] = frame
            else:
                written.append((place, frame))
        if written:
            texts = [Frame(frame.before, "") for _, frame in written]
            # What stands between prompt and answer is settled here: the prompt is tokenised by itself.
            pieces = self.maker.pieces(texts, [""] * len(texts), replace(self.variant, joint=False))
            shown = self.maker.tokenizer.batch_decode(
                [piece.context for piece in pieces], skip_special_tokens=False, clean_up_tokenization_spaces=False
            )
            for (place, frame), piece, text in zip(written, pieces, shown, strict=True):
                problem = self._unfit(piece.context, new_tokens)
                found[place] = problem or Prompt(piece.context, str(text), self.label, frame.gap)
        return [one for one in found if one is not None]

    def _unfit(self, ids: Sequence[int], new_tokens: int) -> Problem | None:
        if not ids:
            return Problem("prompt_not_rendered", "no token in it")
        if max(ids) >= self._embedded:
            return Problem("prompt_not_rendered", f"token id {max(ids)}, and the model has {self._embedded}")
        if self._limit is not None:
            room = self._limit - (0 if self.loaded.is_encoder_decoder else new_tokens)
            if len(ids) > room:
                return Problem("prompt_too_long", f"{len(ids)} tokens, room for {max(0, room)}")
        return None

    def _frames(self, rows: Sequence[SourceRow]) -> Iterator[tuple[int, Frame | Problem]]:
        """Each row's place and text; `gap` is what the answer brings along, the rest of it stands in `before`."""
        ready: list[tuple[int, list[Message]]] = []
        for place, row in enumerate(rows):
            messages = _messages(row.pair, self.system)
            if isinstance(messages, Problem):
                yield place, messages
            else:
                ready.append((place, messages))
        if self.declared:
            talks = [messages for _, messages in ready]
            whole = self.name == "declared_whole"
            texts = self._templates.render(talks, self._variables, answer=_MARK if whole else None)
            for (place, _), text in zip(ready, texts, strict=True):
                yield place, text if isinstance(text, Problem) else Frame(text, "")
            return
        plain: list[tuple[int, InstructionRow]] = []
        for place, messages in ready:
            other = next((str(m.get("role")) for m in messages if m.get("role") not in _ROLES), None)
            if other is not None:
                yield place, Problem("prompt_not_rendered", f"{self.label} has no place for the role {other}")
            else:
                plain.append((place, instruction_row(messages, rows[place].pair)))
        frames = named_format(self.name, [row for _, row in plain], self.maker)[0].frames
        for (place, _), frame in zip(plain, frames, strict=True):
            # A space goes into the answer's first token, a line break stays a token of its own.
            before, gap = (frame.before, frame.gap) if not frame.gap.strip(" ") else (frame.before + frame.gap, "")
            yield place, Frame(before, "", gap)


def named_format(name: str, rows: Sequence[InstructionRow], maker: PieceMaker) -> list[PromptFormat]:
    """The format of that name for these rows, as a list of one; empty where there is none that this tokenizer can
    write. Declared ones are not among them."""
    if name.startswith(("plain", "prefix ")):
        return plain_formats(rows, maker, only=name)
    if name.startswith("vocabulary "):
        return vocabulary_formats(rows, maker, only=name)
    return family_formats(rows, maker, only=name)


def instruction_row(messages: Sequence[Message], pair: Pair) -> InstructionRow:
    """A row as the formats and the autopsy know it. Its answer is empty where the data gives none."""
    turns = tuple({"role": str(m["role"]), "content": str(m["content"])} for m in messages)
    second = pair.extra.get("input")
    held = isinstance(second, str) and bool(second) and turns[-1]["content"].endswith(f"\n{second}")
    answer = pair.chosen if isinstance(pair.chosen, str) else _last_text(pair.chosen)
    return InstructionRow(turns, answer.strip(), pair.id or "", str(second) if held else "")


def _last_text(side: Sequence[Message] | None) -> str:
    return content_text(side[-1].get("content")) if side else ""


def _messages(pair: Pair, system: str | None) -> list[Message] | Problem:
    """The turns with the system message in front and every content a text."""
    turns: list[Message] = []
    for number, turn in enumerate(pair.prompt):
        content = turn.get("content")
        if isinstance(content, list):
            if any(not isinstance(p, Mapping) or not isinstance(p.get("text"), str) for p in content):
                return Problem("prompt_not_rendered", f"turn {number + 1} holds more than text")
            content = content_text(content)
        if not isinstance(content, str):
            if content is not None or not turn.get("tool_calls"):
                return Problem("prompt_not_rendered", f"turn {number + 1} holds no text")
            content = ""
        turns.append({**turn, "content": content})
    if not turns or not turns[-1]["content"].strip():
        return Problem("prompt_not_rendered", "there is nothing to answer")
    heading = pair.system or system
    if heading and turns[0].get("role") != "system":
        turns.insert(0, {"role": "system", "content": heading})
    return turns


class _Templates:
    """The checkpoint's chat template, if there is one that renders, in its limited process."""

    def __init__(self, loaded: LoadedModel, checkpoint: Checkpoint) -> None:
        self.probe: Probe = open_probe(checkpoint.tokenizer, templates_only=True)
        self.template = self.probe.template
        self._tokens: dict[str, Any] = {}
        if self.template is None and checkpoint.tokenizer.store is None:  # an adapter: the tokenizer is its base's
            own = getattr(loaded.tokenizer, "chat_template", None)
            self.template = own if isinstance(own, str) else None
            named = loaded.tokenizer.special_tokens_map
            self._tokens = {name: token for name, token in named.items() if isinstance(token, str)}
        self.problem = ""
        self.takes_system = True
        if self.template is None:
            return
        plain, headed = self._rendered([[_user("a")], [{"role": "system", "content": _MARK}, _user("a")]])
        if isinstance(plain, Problem):
            self.problem = plain.detail
        self.takes_system = isinstance(headed, str) and _MARK in headed

    @property
    def works(self) -> bool:
        return self.template is not None and not self.problem

    def thinking_variables(self, thinking: bool) -> dict[str, Any]:
        """The variables of THINKING_OFF that this template knows, turned the other way where thinking is asked for."""
        kept: dict[str, Any] = {}
        if not self.works or self.template is None:
            return kept
        plain = self._rendered([[_user("a")]])[0]
        for name, off in THINKING_OFF:
            value = off if not thinking else True if off is False else None
            if name not in self.template or value is None:
                continue
            text = self._rendered([[_user("a")]], {name: value})[0]
            if isinstance(text, str) and text != plain:
                kept[name] = value
        return kept

    def render(
        self, talks: Sequence[Sequence[Message]], variables: Mapping[str, Any], *, answer: str | None = None
    ) -> list[str | Problem]:  # fmt: skip
        """The text of each talk up to its answer. answer: render the whole conversation with this one instead of
        asking for the opening of an answer, and give what stands before it."""
        placed = [self.placed(talk) for talk in talks]
        if answer is None:
            return self._rendered(placed, variables)
        closed = [[*talk, {"role": "assistant", "content": answer}] for talk in placed]
        texts = self._rendered(closed, variables, opening=False)
        return [
            text if isinstance(text, Problem) else text[: text.rfind(answer)] if answer in text
            else Problem("prompt_not_rendered", "the template leaves the answer out")
            for text in texts
        ]  # fmt: skip

    def placed(self, messages: Sequence[Message]) -> list[Message]:
        """A system message in front of the first turn for templates that know no such role."""
        if self.takes_system or len(messages) < 2 or messages[0].get("role") != "system":
            return list(messages)
        heading, first, *rest = messages
        return [{**first, "content": f"{heading['content']}\n\n{first['content']}"}, *rest]

    def one(self, messages: Sequence[Mapping[str, str]], opening: bool, variables: Mapping[str, Any]) -> str | None:
        """The same for the autopsy: a text or None."""
        text = self._rendered([self.placed([dict(m) for m in messages])], variables, opening=opening)[0]
        return text if isinstance(text, str) else None

    def _rendered(
        self, talks: Sequence[Sequence[Message]], variables: Mapping[str, Any] | None = None, *, opening: bool = True
    ) -> list[str | Problem]:  # fmt: skip
        made = self.probe.render_many(
            talks, add_generation_prompt=opening, variables={**self._tokens, **(variables or {})},
            template=self.template,
        )  # fmt: skip
        return [
            one.text if one.text is not None else Problem("prompt_not_rendered", f"{one.problem} {one.detail}".strip())
            for one in made
        ]

    def close(self) -> None:
        self.probe.close()


def _user(text: str) -> Message:
    return {"role": "user", "content": text}


def choose_prompting(
    loaded: LoadedModel, checkpoint: Checkpoint, sample_rows: Sequence[SourceRow], *, format: str = "auto",
    system: str | None = None, thinking: bool = False, like: tuple[str, Variant] | None = None,
    note: Note = lambda text: None,
) -> Prompting:  # fmt: skip
    """The format to ask this model in.

    checkpoint: whose tokenizer files count; of an adapter without any, the base's tokenizer in `loaded`. sample_rows:
    of the data; those with a right answer show what the model was trained on. format: `auto` (the declared template,
    else the bare prompt; another one where the autopsy shows beyond doubt that the model was trained on it),
    `declared`, `plain`, or a name of configs/prompt_formats.yaml. system: for rows without their own. thinking: of a
    model that can be told. like: name and variant of another model's Prompting, taken in place of `auto` where this
    model's files can write it. Raises Refused.
    """
    if loaded.tokenizer is None:
        raise Refused("model_without_tokenizer", path=checkpoint.given, why=loaded.tokenizer_problem)
    _known(format)
    maker = PieceMaker(loaded.tokenizer, loaded.is_encoder_decoder)
    templates = _Templates(loaded, checkpoint)
    try:
        made = Prompting(loaded, templates, maker, system=system, thinking=thinking)

        def say(entry: str, **params: Any) -> None:
            made.remarks.append(Sentence(entry, params, "candidates"))
            note(str(made.remarks[-1]))

        rows = _sample(sample_rows, system)
        asked = rows or [InstructionRow(({"role": "user", "content": "a"},), "a", "")]
        if format == "declared" and not templates.works:
            raise Refused(
                "template_unusable" if templates.template is not None else "template_absent", path=checkpoint.given,
                why=templates.problem,
            )  # fmt: skip
        if like is not None and format == "auto" and _can_write(like[0], asked, maker, templates):
            _use(made, like[0], asked, like[1])
            return made
        if format in ("auto", "declared"):
            if templates.template is not None and not templates.works:
                say("template_unusable", why=templates.problem)
            _use(made, "declared" if templates.works else "plain''", asked)
        elif format == "plain":
            _use(made, "plain''", asked)
        elif not named_format(format, asked, maker):
            raise Refused("prompt_format_not_writable", value=format, path=checkpoint.given)
        else:
            _use(made, format, asked)
        if format == "auto":
            _look_for_another(made, [row for row in rows if row.answer], note, say)
        return made
    except BaseException:
        templates.close()
        raise


def _can_write(name: str, rows: Sequence[InstructionRow], maker: PieceMaker, templates: _Templates) -> bool:
    return templates.works if name.startswith("declared") else bool(named_format(name, rows, maker))


def _known(format: str) -> None:
    families = load_config("prompt_formats.yaml")["families"]
    own = [f"{name}.system{i + 1}" for name, family in families.items() for i in range(len(family.get("systems", ())))]
    names = ["auto", "declared", "plain", *families, *own]
    if format not in names:
        near = ", ".join(difflib.get_close_matches(format, names, n=3, cutoff=0.0))
        raise Refused("prompt_format_unknown", value=format, near=near, all=", ".join([*names[:3], *families]))


def _sample(rows: Sequence[SourceRow], system: str | None) -> list[InstructionRow]:
    """Rows that every format can write."""
    found = []
    for row in rows[:AUTOPSY_ROWS]:
        messages = _messages(row.pair, system)
        if not isinstance(messages, Problem) and all(m.get("role") in _ROLES for m in messages):
            found.append(instruction_row(messages, row.pair))
    return found


def _use(made: Prompting, name: str, rows: Sequence[InstructionRow], variant: Variant | None = None) -> None:
    """Take the format `name`; without a variant the usual one: the start token that the text lacks and this model is
    used to."""
    maker, templates = made.maker, made._templates
    made.name = name
    opened = "" if not templates.works else templates.one(rows[0].messages, True, made._variables) or ""
    bos = maker.tokenizer.bos_token
    declared_bos = bool(bos and opened.startswith(bos))
    if made.declared:
        shape = PromptFormat(name, "chat_template", "declared", (Frame(opened, ""),))
        if name == "declared_whole":
            shape = replace(shape, label="chat_template, whole conversation")
    else:
        shape = named_format(name, rows[:1], maker)[0]
    if variant is None:
        own = made.declared and not maker.is_encoder_decoder  # a template writes its own start token
        variant = Variant() if own else maker.first_variant(shape.frames, declared_bos)
    extra = max(0, maker.starts(shape, variant) - 1)
    made.variant = replace(variant, bos=max(0, variant.bos - extra))
    made.label = label_of(shape, made.variant, maker)
    for variable, value in made._variables.items() if made.declared else ():
        made.label += f" {variable}={value}"


def _look_for_another(made: Prompting, rows: Sequence[InstructionRow], note: Note, say: Any) -> None:
    """Take the format that the model was trained on where that is another one for certain, and say so."""
    found = _autopsy(made, rows, note)
    if found is None:
        return
    limits = {name: float(entry["value"]) for name, entry in load_config("thresholds.yaml").items()}
    if made.maker.is_encoder_decoder:  # these depend on the form of their input by hundredths of a nat
        limits["format_nats_min"] = limits["format_nats_min_encoder"]
    else:
        limits["format_share_min"] = limits["format_share_switch"]
    if not found.clearly_better(limits):
        return
    best, used = found.best, made.label
    name = best.format.name
    if name.startswith("declared_") and name != "declared_whole":  # thinking is switched as it was asked for
        name = "declared"
    loss = found.difference(found.used, best) if found.used is not None else None
    _use(made, name, found.rows, best.variant)
    if made.label == used:
        return
    made.found = True
    if loss is None:
        say("format_found_alone", format=made.label, rows=len(found.understood))
    else:
        say("format_found", format=made.label, used=used, nats=f"{loss.mean:.2f}", rows=loss.rows)


def _autopsy(made: Prompting, rows: Sequence[InstructionRow], note: Note) -> Autopsy | None:
    templates = made._templates
    if len(rows) < 3:
        return None
    try:
        return format_autopsy(
            made.loaded, rows, template=templates.template if templates.works else None,
            render=templates.one if templates.works else None, max_rows=AUTOPSY_ROWS, note=note,
        )  # fmt: skip
    except NotScored:  # generating says what is wrong with this model
        return None
