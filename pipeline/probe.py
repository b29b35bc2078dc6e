"""Tokenizer and chat template of a checkpoint, asked in a child process that may crash, hang or eat memory.

A tokenizer file and a template are input from strangers: a template can loop for ever or double a string until
memory ends, a tokenizer file can make the Rust code panic. Here that costs one child process and becomes a value.
No torch, no transformers.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.checkpoint import TokenizerFiles, wrong_byte
from pipeline.config_files import load_config
from pipeline.declared_tokens import (
    ROLES,
    AddedToken,
    added_tokens,
    chat_template,
    special_tokens,
    tokenizer_class,
)  # fmt: skip
from pipeline.file_store import FileStore
from pipeline.json_file import LFS_START
from pipeline.line_child import ChildFailed, LineChild
from pipeline.tokenizer_not_loaded import TokenizerNotLoaded

CHILD = Path(__file__).with_name("probe_child.py")
# A tokenizer of 256,000 entries with its merges takes about 1 GiB of address space while it is being read.
MEMORY_BYTES = 2 * 2**30
CPU_SECONDS = 300
CHILD_ENV = {
    "TOKENIZERS_PARALLELISM": "false", "RAYON_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1", "PYTHONSAFEPATH": "",
    "PYTHONDONTWRITEBYTECODE": "1", "RUST_BACKTRACE": "0",
}  # fmt: skip
# Rendering takes milliseconds, reading the largest tokenizers a second or two, a plain sentence less than a
# millisecond: these only end what would never end.
RENDER_SECONDS = 5.0
LOAD_SECONDS = 20.0
TRIAL_SECONDS = 4.0
ENCODE_SECONDS = 20.0
# A request of a million characters takes a second; longer texts hold nothing that their beginning does not show.
MAX_CHARACTERS = 1_000_000
# Plain text as answers hold it, in both languages, long enough to wake a pattern that goes back and forth for ever.
PLAIN_TEXT = (
    "Name five kinds of fruit, and say in one sentence each where they grow.\n\n1. Apples grow here: $2.50 a kilo!\n",
    "the train leaves at seven and comes back before noon so that everybody is at home again for lunch " * 2,
    "列出五种不同的水果，并说明它们分别产自哪里。火车七点四十五分出发，票价八十元。",
)
# What ends the child or makes it useless; the same template would do it again.
FATAL = ("timeout", "memory", "crashed")
# One text may be to blame; after two the tokenizer is.
MAX_FATAL = 2
# A request costs 0.1 ms beside the 0.05 ms of rendering one short talk: from some ten talks on it no longer counts.
TALKS_AT_ONCE = 256
FILES_READ = ("tokenizer.json", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "vocab.json", "vocab.txt")
FILES_NOT_READ = ("tiktoken.model", "qwen.tiktoken", "source.spm", "tekken.json")


@dataclass(frozen=True)
class Rendered:
    """What a template made of some messages. `text` is None when there is a problem.

    Problems: `timeout`, `memory`, `forbidden` (the sandbox refused), `syntax`, `raised` (the template or an operation
    in it raised; `detail` says what), `crashed`, `no_template`, `missing_dependency`.
    """

    text: str | None
    problem: str | None = None
    detail: str = ""


class Probe:
    """One tokenizer with its template. Close it; also usable as a context manager. Safe for several threads.

    templates_only: the vocabulary is not read, which takes a second for the largest; `problem` is `not_asked` then.
    problem: None when text can be encoded. Else `no_vocabulary` (only the small files are here), `unsupported`
        (a vocabulary format that is not read), `not_local`, `lfs_pointer`, `empty`, `unreadable`, `not_utf8`
        (`detail`: the first wrong byte, or `BOM`), `failed` (the library refused the file, `detail` says why),
        `timeout`, `memory`, `crashed`, `missing_dependency`; `encode_timeout`, `encode_memory`, `encode_crashed`: it
        loads, but can't encode a plain sentence. Templates render and the declared ids are known in every case.
    template_problem: (problem, file, detail) when a file of the template can't be read as text; there is no template
        then. other_templates: the same of further templates that are not used by default.
    vocab_size: tokens including added ones, `len(tokenizer)`; 0 when not loaded. top_id: the highest id; -1.
    special: role -> (text, id), roles as declared; id None when the files here don't tell it.
    added: added tokens -> id. special_texts: those of them that are special.
    missing: declared tokens that the vocabulary lacks; transformers gives them the next free ids, and so does this.
    moved: (text, declared id, actual id) where the two differ.
    """

    def __init__(self, files: TokenizerFiles, *, templates_only: bool = False) -> None:
        self.files = files
        self.problem: str | None = None
        self.detail = ""
        self.vocab_size = 0
        self.top_id = -1
        self.model = ""
        self.source = ""
        self.missing: tuple[str, ...] = ()
        self.moved: tuple[tuple[str, int, int], ...] = ()
        self.declared = special_tokens(files)
        self._declared_added = added_tokens(files)
        self.added: dict[str, int] = {t.content: t.id for t in self._declared_added if t.id is not None}
        self.special_texts = frozenset(
            [t.content for t in self._declared_added if t.special] + [s.content for s in self.declared.values()]
        )
        self.template_problem = files.chat_template_problem
        self.other_templates = files.other_template_problems
        chosen = chat_template(files)
        self.template = chosen.text
        self.template_source = chosen.source
        self.template_names = chosen.names
        self.template_shadowed = chosen.shadowed
        self._lock = threading.RLock()
        self._child: LineChild | None = None
        self._loaded_in: LineChild | None = None
        self._load: dict[str, Any] | None = None
        self._rendered: dict[str, Rendered] = {}
        self._fatal = 0
        self._hopeless: dict[str, Rendered] = {}
        if templates_only:
            self.problem = "not_asked"
            self._set_special({})
        else:
            self._open()

    # --- loading ---

    def _open(self) -> None:
        request = self._load_request()
        if request is None:
            self._set_special({})
            return
        self._load = request
        with self._lock:
            answer = self._ask(request, LOAD_SECONDS)
            self._loaded_in = self._child
        if "problem" in answer:
            self.problem, self.detail = answer["problem"], answer["detail"]
            if self.problem == "failed" and (wrong := self._not_utf8(self.source)):
                self.problem, self.detail = "not_utf8", wrong
            self._load = None
            self._set_special({})
            return
        self.vocab_size, self.top_id, self.model = answer["size"], answer["top"], answer["model"]
        self.missing = tuple(answer["missing"])
        self.moved = tuple((text, declared, actual) for text, declared, actual in answer["moved"])
        self.added = {text: number for number, text, _ in answer["added"]}
        self.special_texts = self.special_texts | {text for _, text, special in answer["added"] if special}
        texts = [s.content for s in self.declared.values()]
        self._set_special(dict(zip(texts, self.token_ids(texts), strict=True)))
        with self._lock:
            tried = self._ask({"do": "encode", "texts": PLAIN_TEXT, "special": True, "trial": True}, TRIAL_SECONDS)
        if tried.get("problem") in FATAL:  # else it refuses some text and may take another: toys know few words
            self._give_up(tried)

    def _give_up(self, answer: Mapping[str, Any]) -> None:
        """What crashed or hung would do so again: nothing more is encoded."""
        self.problem, self.detail = f"encode_{answer['problem']}", answer["detail"]
        self._load = None

    def _not_utf8(self, name: str) -> str:
        """Where a text file stops to be UTF-8, `BOM` for a byte order mark; empty when it is UTF-8 or no text file."""
        store = self.files.store
        if store is None or not name.endswith((".json", ".txt")):
            return ""
        try:
            with store.open(name) as file:
                return wrong_byte(file.read(2**26))
        except OSError:
            return ""

    def _set_special(self, ids: Mapping[str, int | None]) -> None:
        self.special: Mapping[str, tuple[str, int | None]] = {
            role: (token.content, ids.get(token.content, self.added.get(token.content)))
            for role, token in self.declared.items()
        }

    def _load_request(self) -> dict[str, Any] | None:
        """What the child needs, or None with `problem` set."""
        store, names = self.files.store, self.files.names
        present = [n for n in FILES_READ if n in names]
        if present == ["vocab.json"] and "merges.txt" not in names:
            present = []
        if "tokenizer.json" not in present and "vocab.json" in present and "merges.txt" not in names:
            present.remove("vocab.json")
        if store is None or not present:
            unread = [n for n in FILES_NOT_READ if n in names] + (["vocab.json"] if "vocab.json" in names else [])
            self.problem, self.detail = ("unsupported", ", ".join(unread)) if unread else ("no_vocabulary", "")
            return None
        name = self.source = present[0]
        kind = {"tokenizer.json": name, "vocab.txt": name, "vocab.json": "merges.txt"}.get(name, "sentencepiece")
        differing = load_config("tokenizer_classes.yaml")["sentencepiece_ids_differ"]
        if kind == "sentencepiece" and tokenizer_class(self.files) in differing:
            self.problem, self.detail = "unsupported", f"{name} of {tokenizer_class(self.files)}"
            return None
        path = self._local(store, name)
        merges = self._local(store, "merges.txt") if kind == "merges.txt" else None
        if path is None or (kind == "merges.txt" and merges is None):
            return None
        config = self.files.config
        special = {role: token.content for role, token in self.declared.items()}
        is_t5 = tokenizer_class(self.files) in ("T5Tokenizer", "MT5Tokenizer")
        is_llama = tokenizer_class(self.files) in ("LlamaTokenizer", "CodeLlamaTokenizer", "GemmaTokenizer")
        return {
            "do": "load", "kind": kind, "path": str(path), "merges": str(merges) if merges else None,
            "special": special, "add": [asdict(t) for t in self._to_add()],
            "add_bos": config.get("add_bos_token", is_llama) is True,
            "add_eos": config.get("add_eos_token", is_t5) is True,
            "add_prefix_space": config.get("add_prefix_space") is True,
            "lowercase": config.get("do_lower_case", True) is not False,
            "sentinels": self._sentinels(),
        }  # fmt: skip

    def _to_add(self) -> list[AddedToken]:
        """Declared tokens in the order in which transformers adds them: by id, then roles, then the unnumbered."""
        listed = [t for t in self._declared_added if t.id is not None]
        known = {t.content for t in listed}
        roles = [AddedToken(s.content, None, True, s.where) for r in ROLES if (s := self.declared.get(r)) is not None]
        for token in [*roles, *self._declared_added]:
            if token.content not in known:
                listed.append(token)
                known.add(token.content)
        return listed

    def _sentinels(self) -> int:
        default = load_config("tokenizer_classes.yaml")["appended_sentinels"].get(tokenizer_class(self.files), 0)
        declared = self.files.config.get("extra_ids", default)
        return declared if type(declared) is int and 0 <= declared <= 10_000 else int(default)

    def _local(self, store: FileStore, name: str) -> Path | None:
        """The file on this machine when it can be what its name says; else None with `problem` set."""
        try:
            path = store.local_path(name)
            if path is None:
                self.problem, self.detail = "not_local", name
                return None
            with store.open(name) as file:
                first = file.read(len(LFS_START))
        except OSError as error:
            self.problem, self.detail = "unreadable", f"{name}: {error.strerror or error}"
            return None
        if not first or first == LFS_START:
            self.problem, self.detail = ("lfs_pointer" if first else "empty"), name
            return None
        return path

    # --- requests ---

    def _ask(self, request: Mapping[str, Any], seconds: float) -> dict[str, Any]:
        """Ask the child, a new one if the last is dead. A dead child is an answer with a problem."""
        try:
            if self._child is None:
                self._child = LineChild(
                    [sys.executable, "-X", "utf8", str(CHILD)], memory_bytes=MEMORY_BYTES, cpu_seconds=CPU_SECONDS,
                    env=CHILD_ENV,
                )  # fmt: skip
            return self._child.ask(request, seconds)
        except ChildFailed as failed:
            self._child = self._loaded_in = None
            return {"problem": failed.args[0], "detail": failed.args[1]}
        except OSError as error:  # no process could be started
            self._child = None
            return {"problem": "crashed", "detail": error.strerror or str(error)}

    def _ask_tokenizer(self, request: Mapping[str, Any]) -> dict[str, Any]:
        with self._lock:
            if self._load is None:
                raise TokenizerNotLoaded(self.problem or "closed", self.detail)
            if self._child is None or self._loaded_in is not self._child:
                reloaded = self._ask(self._load, LOAD_SECONDS)
                if "problem" in reloaded:
                    raise TokenizerNotLoaded(reloaded["problem"], reloaded["detail"])
                self._loaded_in = self._child
            answer = self._ask(request, ENCODE_SECONDS)
        if "problem" in answer:
            self._fatal += answer["problem"] in FATAL
            if self._fatal >= MAX_FATAL:
                self._give_up(answer)
            raise TokenizerNotLoaded(answer["problem"], answer["detail"])
        return answer

    def encode(self, texts: Sequence[str], *, add_special_tokens: bool = False) -> list[list[int]]:
        """Token ids of each text (of its first MAX_CHARACTERS); added tokens in the text are matched. Raises
        TokenizerNotLoaded."""
        clean = [t[:MAX_CHARACTERS].encode("utf-8", "replace").decode("utf-8") for t in texts]
        ids: list[list[int]] = []
        while len(ids) < len(clean):
            part: list[str] = []
            for text in clean[len(ids) :]:
                if part and sum(map(len, part)) + len(text) > MAX_CHARACTERS:
                    break
                part.append(text)
            ids += self._ask_tokenizer({"do": "encode", "texts": part, "special": add_special_tokens})["ids"]
        return ids

    def decode(self, batches: Sequence[Sequence[int]]) -> list[str]:
        """Text of each list of ids, special tokens shown. Raises TokenizerNotLoaded."""
        if not batches:
            return []
        texts: list[str] = self._ask_tokenizer({"do": "decode", "batches": [list(b) for b in batches]})["texts"]
        return texts

    def token_ids(self, tokens: Sequence[str]) -> list[int | None]:
        """Id of each token by its exact text, None when it is no token or, without a vocabulary, not known."""
        if self._load is None:
            return [self.added.get(token) for token in tokens]
        ids: list[int | None] = self._ask_tokenizer({"do": "ids", "tokens": list(tokens)})["ids"]
        return ids

    def tokens(self, ids: Sequence[int]) -> list[str | None]:
        """Piece at each id, None when there is none or, without a vocabulary, not known."""
        if self._load is None:
            by_id = {number: text for text, number in self.added.items()}
            return [by_id.get(i) for i in ids]
        found: list[str | None] = self._ask_tokenizer({"do": "tokens", "ids": list(ids)})["tokens"]
        return found

    @property
    def cannot_encode(self) -> bool:
        """Whether it loads and then crashes, hangs or exhausts the memory on plain text."""
        return (self.problem or "").startswith("encode_")

    def tokens_from(self, first: int) -> int:
        """How many tokens have an id of at least `first`. Raises TokenizerNotLoaded."""
        return int(self._ask_tokenizer({"do": "beyond", "first": first})["n"])

    @property
    def lists_special_tokens(self) -> bool:
        """Whether a token that is not in `added` is no special token of this tokenizer: always with a vocabulary;
        without one when added_tokens_decoder holds every token that a role names."""
        if self.problem is None:
            return True
        listed = isinstance(self.files.config.get("added_tokens_decoder"), dict) and bool(self.added)
        return listed and bool(self.declared) and all(s.content in self.added for s in self.declared.values())

    def vocabulary(self) -> list[str | None]:
        """All pieces by id. Raises TokenizerNotLoaded."""
        found: list[str | None] = self._ask_tokenizer({"do": "vocabulary"})["tokens"]
        return found

    def render(
        self, messages: Sequence[Mapping[str, Any]], *, add_generation_prompt: bool = False,
        variables: Mapping[str, Any] | None = None, template: str | None = None,
    ) -> Rendered:  # fmt: skip
        """Render `messages` by the checkpoint's template (or `template`), special tokens set as transformers does.

        Never raises. A template that hung, crashed or exhausted the memory once is not tried again.
        """
        text = template if template is not None else self.template
        if text is None:
            return Rendered(None, "no_template")
        if text in self._hopeless:
            return self._hopeless[text]
        request = {"do": "render", "messages": [dict(m) for m in messages],
                   **self._how(text, add_generation_prompt, variables)}  # fmt: skip
        key = json.dumps(request, sort_keys=True, default=str)
        with self._lock:
            if key not in self._rendered:
                answer = self._ask(request, RENDER_SECONDS)
                rendered = _rendered(answer)
                if rendered.problem in FATAL:
                    self._hopeless[text] = rendered
                self._rendered[key] = rendered
            return self._rendered[key]

    def render_many(
        self, talks: Sequence[Sequence[Mapping[str, Any]]], *, add_generation_prompt: bool = False,
        variables: Mapping[str, Any] | None = None, template: str | None = None,
    ) -> list[Rendered]:  # fmt: skip
        """`render` of each talk with few requests and without remembering them, for rows that stream.

        A talk at which the template hangs, crashes or exhausts the memory costs itself alone; after MAX_FATAL of them
        in a row the template is not tried again.
        """
        text = template if template is not None else self.template
        if text is None:
            return [Rendered(None, "no_template")] * len(talks)
        how = self._how(text, add_generation_prompt, variables)
        found: list[Rendered] = []
        fatal = 0
        one_by_one = 0  # talks up to this place are asked for alone: one of them ended the child
        while len(found) < len(talks):
            if text in self._hopeless:
                found.append(self._hopeless[text])
                continue
            part: list[list[dict[str, Any]]] = []
            size = 0
            for talk in talks[len(found) : len(found) + TALKS_AT_ONCE]:
                size += sum(len(str(m.get("content", ""))) for m in talk)
                if part and (size > MAX_CHARACTERS or len(found) < one_by_one):
                    break
                part.append([dict(m) for m in talk])
            with self._lock:
                answer = self._ask({"do": "render_many", "talks": part, **how}, RENDER_SECONDS)
            if "problem" not in answer:  # fewer than asked for where their texts are very long
                found += [_rendered(one) for one in answer["rendered"]]
                fatal = 0
            elif len(part) > 1:
                one_by_one = len(found) + len(part)
            else:
                found.append(_rendered(answer))
                fatal += answer["problem"] in FATAL
                if fatal >= MAX_FATAL:
                    self._hopeless[text] = found[-1]
        return found

    def _how(self, template: str, prompt: bool, variables: Mapping[str, Any] | None) -> dict[str, Any]:
        tokens = {f"{role}_token": s.content for role, s in self.declared.items()}
        return {"template": template, "add_generation_prompt": prompt, "variables": {**tokens, **(variables or {})}}

    def close(self) -> None:
        """End the child."""
        with self._lock:
            if self._child is not None:
                self._child.end()
            self._child = self._loaded_in = self._load = None

    def __enter__(self) -> Probe:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _rendered(answer: Mapping[str, Any]) -> Rendered:
    problem = answer.get("problem")
    return Rendered(answer.get("text"), "raised" if problem == "failed" else problem, answer.get("detail", ""))


def open_probe(tokenizer: TokenizerFiles, *, templates_only: bool = False) -> Probe:
    """Start the child and load the tokenizer. Never raises for bad content: see `Probe.problem`."""
    return Probe(tokenizer, templates_only=templates_only)
