"""What a tokenizer's small files declare: special tokens, added tokens with their ids, the chat template.

Precedence as in transformers (`PreTrainedTokenizerBase.from_pretrained`, 5.23): with `added_tokens_decoder` in
tokenizer_config.json that file alone counts; without it special_tokens_map.json and added_tokens.json are read too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.checkpoint import TokenizerFiles
from pipeline.config_files import load_config
from pipeline.json_file import JsonFile

# In the order in which transformers gives new ids to those a vocabulary lacks.
ROLES = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")
# Nobody adds a million tokens by hand; a file that claims so would only be there to fill the memory.
MAX_ADDED = 300_000


@dataclass(frozen=True)
class AddedToken:
    """One token beyond the trained vocabulary, as declared. `where`: `tokenizer_config.json:added_tokens_decoder`."""

    content: str
    id: int | None
    special: bool
    where: str
    lstrip: bool = False
    rstrip: bool = False
    single_word: bool = False
    normalized: bool = False


@dataclass(frozen=True)
class SpecialToken:
    """The string in a role (bos, eos, ...) and where it is declared; `class default` where no file says it."""

    content: str
    where: str


def token_text(value: Any) -> str | None:
    """A special token as files write it: a string, or an object with `content`."""
    if isinstance(value, Mapping):
        value = value.get("content")
    return value if isinstance(value, str) and value else None


def special_tokens(files: TokenizerFiles) -> dict[str, SpecialToken]:
    """Role -> token for every role that the files, or the class they name, set."""
    own, extra = files.config, files.special_tokens_map
    found: dict[str, SpecialToken] = {}
    map_wins = extra.value is not None and not isinstance(own.get("added_tokens_decoder"), dict)
    for source in (own, extra) if map_wins else (extra, own):
        for role in ROLES:
            key = f"{role}_token"
            if source.value is None or key not in source.value:
                continue
            text = token_text(source.value[key])
            if text is not None:
                found[role] = SpecialToken(text, source.where(key))
            elif source.value[key] is None:  # an explicit null takes the token away
                found.pop(role, None)
    defaults = load_config("tokenizer_classes.yaml")["special_tokens"].get(tokenizer_class(files), {})
    for role, text in defaults.items():
        key = f"{role}_token"
        if role not in found and all(f.value is None or key not in f.value for f in (own, extra)):
            found[role] = SpecialToken(text, "class default")
    return found


def tokenizer_class(files: TokenizerFiles) -> str:
    """`tokenizer_class` without `Fast`; empty when not declared."""
    name = files.config.get("tokenizer_class")
    return name.removesuffix("Fast") if isinstance(name, str) else ""


def added_tokens(files: TokenizerFiles) -> tuple[AddedToken, ...]:
    """Tokens of `added_tokens_decoder`, else of added_tokens.json, by id; then those named without an id."""
    found: dict[str, AddedToken] = {}
    decoder = files.config.get("added_tokens_decoder")
    roles = {s.content for s in special_tokens(files).values()}
    if isinstance(decoder, dict):
        where = files.config.where("added_tokens_decoder")
        for key, entry in list(decoder.items())[:MAX_ADDED]:
            text = token_text(entry)
            if text is None or not str(key).isdecimal() or text in found:
                continue
            flags = entry if isinstance(entry, Mapping) else {}
            found[text] = AddedToken(
                text, int(key), bool(flags.get("special")) or text in roles, where, bool(flags.get("lstrip")),
                bool(flags.get("rstrip")), bool(flags.get("single_word")), bool(flags.get("normalized")),
            )  # fmt: skip
    for text, number in list((files.added_tokens.value or {}).items())[:MAX_ADDED]:
        if type(number) is int and text and text not in found:
            found[text] = AddedToken(text, number, text in roles, files.added_tokens.name)
    listed = sorted(found.values(), key=lambda t: t.id if t.id is not None else 0)
    for source in (files.config, files.special_tokens_map):
        for key in ("additional_special_tokens", "extra_special_tokens"):
            named = source.get(key)
            values = list(named.values()) if isinstance(named, dict) else named if isinstance(named, list) else []
            for value in values[:MAX_ADDED]:
                text = token_text(value)
                if text is not None and text not in found:
                    found[text] = AddedToken(text, None, True, source.where(key))
                    listed.append(found[text])
    return tuple(listed)


@dataclass(frozen=True)
class ChatTemplate:
    """The template transformers would use. names: those of a list of named templates."""

    text: str | None
    source: str
    names: tuple[str, ...] = ()
    shadowed: bool = False  # another, different template in tokenizer_config.json loses against the file


def chat_template(files: TokenizerFiles) -> ChatTemplate:
    """chat_template.jinja before the entry in tokenizer_config.json; of named ones `default`, else the first."""
    named = _named(files.config)
    own = named.get("default") if named else None
    if own is None and named:
        own = next(iter(named.values()))
    if files.chat_template_file is not None:
        source = next((n for n in ("chat_template.jinja", "chat_template.json") if n in files.names), "chat_template")
        shadowed = own is not None and own.strip() != files.chat_template_file.strip()
        return ChatTemplate(files.chat_template_file, source, shadowed=shadowed)
    return ChatTemplate(own, files.config.where("chat_template"), tuple(n for n in named if n))


def _named(config: JsonFile) -> dict[str, str]:
    value = config.get("chat_template")
    if isinstance(value, str):
        return {"": value} if value else {}
    if isinstance(value, dict):
        return {str(k): v for k, v in value.items() if isinstance(v, str)}
    if isinstance(value, list):
        pairs = ((e.get("name"), e.get("template")) for e in value if isinstance(e, dict))
        return {str(name): text for name, text in pairs if isinstance(text, str)}
    return {}
