"""The prompt format of models whose answers stand beside each other.

The first decides as `generate` does: the declared template, or the format it was trained on where that is another for
certain. Whoever declares the same template is asked in the same format: a training may leave a model that answers a
little better, or a harmed one that answers at all, in another, and its answers would then tell of the format. A model
with another template decides for itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from pipeline.candidates.candidate import SourceRow
from pipeline.checkpoint import Checkpoint
from pipeline.prompt_formats import Variant

if TYPE_CHECKING:
    from pipeline.candidates.prompting import Prompting
    from pipeline.load_model import LoadedModel

AUTO = "auto"


@dataclass(frozen=True)
class FormatTaken:
    """The format that a model was asked in. name, variant: of its Prompting; label: for readers; template: digest of
    the chat template that its files declare, empty without one. own: it decided for itself. after: the format of the
    first model then, which this one may not be able to be asked in."""

    label: str
    name: str
    variant: Variant
    template: str
    own: bool = field(default=True, compare=False)
    after: str = field(default="", compare=False)

    @property
    def written(self) -> str:
        """What prompts look like in it, as one word."""
        variant = self.variant
        return f"{self.name}/{variant.bos}/{variant.joint:d}/{variant.end:d}"

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def read(cls, value: Any) -> FormatTaken | None:
        """What as_json made, None for anything else."""
        try:
            variant = value["variant"]
            texts = [value[name] for name in ("label", "name", "template")]
            numbers = Variant(int(variant["bos"]), bool(variant["joint"]), bool(variant["end"]))
        except (KeyError, TypeError, ValueError):
            return None
        if not all(isinstance(one, str) for one in texts):
            return None
        return cls(texts[0], texts[1], numbers, texts[2], value.get("own") is True, str(value.get("after") or ""))


class FormatOfFirst:
    """asked: `auto` for the rule above, else one format for all. first: of the model that decided, set by the first
    `choose`, or by whoever knows it from an earlier run."""

    def __init__(self, asked: str = AUTO, *, system: str | None = None, thinking: bool = False) -> None:
        self.asked, self.system, self.thinking = asked, system, thinking
        self.first: FormatTaken | None = None

    def choose(
        self, loaded: LoadedModel, tokenizer: Checkpoint, rows: Sequence[SourceRow]
    ) -> tuple[Prompting, FormatTaken]:  # fmt: skip
        """Close the Prompting. Raises Refused."""
        from pipeline.candidates.prompting import choose_prompting

        first = self.first
        like = (first.name, first.variant) if first is not None and first.template == template_of(tokenizer) else None
        made = choose_prompting(
            loaded, tokenizer, rows, format=self.asked, system=self.system, thinking=self.thinking, like=like
        )
        after = first.written if first is not None else ""
        one = FormatTaken(made.label, made.name, made.variant, template_of(tokenizer), like is None, after)
        if first is None:
            self.first = one
        return made, one

    def again(self, former: FormatTaken | None) -> bool:
        """Takes a format of an earlier run as the first one. Returns whether it can be, since only what a model decided
        for itself is the first's to decide."""
        if self.first is None and former is not None and (former.own or self.asked != AUTO):
            self.first = former
        return self.first is former

    def is_another(self, former: FormatTaken | None) -> bool:
        """Whether answers made in a former format aren't those that this rule would give now. False before the first
        has decided."""
        first = self.first
        if first is None or self.asked != AUTO or former is None or former.after == first.written:
            return False
        return former.template == first.template and (former.name, former.variant) != (first.name, first.variant)


def template_of(tokenizer: Checkpoint) -> str:
    """Digest of the chat template that the files declare, empty without one."""
    from pipeline.declared_tokens import chat_template

    text = chat_template(tokenizer.tokenizer).text
    return "" if text is None else hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def formats_said(formats: Mapping[str, str]) -> str:
    """`LABEL: MODEL, MODEL; LABEL: MODEL`."""
    by_label: dict[str, list[str]] = {}
    for name, label in formats.items():
        by_label.setdefault(label, []).append(name)
    return "; ".join(f"{label}: {', '.join(names)}" for label, names in by_label.items())
