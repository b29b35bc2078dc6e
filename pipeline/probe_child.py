"""The process behind `pipeline.probe`: a tokenizer and a template engine that may crash, hang or eat memory.

One JSON object a line on standard input, one a line back. Started by file path, imports nothing of the project,
neither torch nor transformers. The chat template environment has the settings of transformers'
`utils/chat_template_utils.py` (5.23), so that a template renders here as it does there.
"""

from __future__ import annotations

import sys

if __name__ == "__main__":
    del sys.path[0]  # this file's own folder: its modules must never shadow the standard library's

import contextlib
import json
import os
import re
from typing import Any

# Beyond what the process already uses; a chat prompt of a million tokens is a few MB.
RENDER_HEADROOM = 192 * 2**20
# The tokens of a request are some 200 bytes each, and a request holds a million characters at most.
ENCODE_HEADROOM = 768 * 2**20
# A plain sentence takes kilobytes.
TRIAL_HEADROOM = 128 * 2**20
MAX_TEXT = 8_000_000
# A fixed day: two runs over one input give the same report.
TODAY = (2026, 1, 15, 12, 0, 0)

Json = dict[str, Any]


class Refused(Exception):
    """A request that can't be served: (problem, detail)."""


# --- templates ---------------------------------------------------------------------------------------------------


def make_environment() -> Any:
    """Jinja environment as transformers sets it up for chat templates."""
    from datetime import datetime

    import jinja2
    from jinja2 import nodes
    from jinja2.ext import Extension
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """`{% generation %} ... {% endgeneration %}` marks what the model writes; it adds no text."""

        tags = {"generation"}

        def parse(self, parser: Any) -> Any:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return nodes.CallBlock(self.call_method("_inside"), [], [], body).set_lineno(line)

        def _inside(self, caller: Any) -> Any:
            return caller()

    def raise_exception(message: Any) -> None:
        raise jinja2.exceptions.TemplateError(str(message))

    def tojson(
        value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
    ) -> str:
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, "jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = lambda form: datetime(*TODAY).strftime(form)
    environment.globals["namespace"] = _guarded_namespace()
    return environment


def _guarded_namespace() -> Any:
    """Jinja's namespace without names that begin with an underscore: they lead to Python's internals."""
    from jinja2.exceptions import SecurityError
    from jinja2.utils import Namespace

    def refuse(name: Any) -> None:
        if isinstance(name, str) and name.startswith("_"):
            raise SecurityError(f"a namespace can't hold {name!r}")

    class Guarded(Namespace):
        def __setitem__(self, name: str, value: Any) -> None:
            refuse(name)
            super().__setitem__(name, value)

    def namespace(*args: Any, **attributes: Any) -> Guarded:
        for name in dict(*args, **attributes):
            refuse(name)
        return Guarded(*args, **attributes)

    return namespace


class Templates:
    """Compiles each template once."""

    def __init__(self) -> None:
        self.environment: Any = None
        self.compiled: dict[str, Any] = {}

    def render_many(self, request: Json) -> Json:
        """Each talk rendered, or why not; as many of the first ones as MAX_TEXT characters hold, at least one."""
        rendered: list[Json] = []
        length = 0
        for talk in request["talks"]:
            try:
                one = self.render({**request, "messages": talk})
            except Refused as refused:
                one = {"problem": refused.args[0], "detail": str(refused.args[1])[:500]}
            except MemoryError:
                one = {"problem": "memory", "detail": ""}
            length += len(one.get("text", ""))
            if rendered and length > MAX_TEXT:
                break
            rendered.append(one)
        return {"rendered": rendered}

    def render(self, request: Json) -> Json:
        import jinja2
        from jinja2.exceptions import SecurityError, TemplateError, TemplateSyntaxError

        text = request["template"]
        with memory_headroom(RENDER_HEADROOM):
            try:
                if self.environment is None:
                    self.environment = make_environment()
                if text not in self.compiled:
                    self.compiled[text] = self.environment.from_string(text)
                variables = {**request["variables"], "messages": request["messages"]}
                variables.setdefault("tools", None)
                variables.setdefault("documents", None)
                variables["add_generation_prompt"] = request["add_generation_prompt"]
                parts, length = [], 0
                for part in self.compiled[text].generate(**variables):
                    parts.append(part)
                    length += len(part)
                    if length > MAX_TEXT:
                        raise Refused("memory", f"more than {MAX_TEXT:,} characters")
                return {"text": "".join(parts)}
            except TemplateSyntaxError as error:
                raise Refused("syntax", f"line {error.lineno}: {error.message}") from None
            except SecurityError as error:
                raise Refused("forbidden", str(error)) from None
            except jinja2.exceptions.UndefinedError as error:
                raise Refused("raised", str(error)) from None
            except TemplateError as error:
                raise Refused("raised", str(error)) from None
            except OverflowError as error:  # the sandbox refuses ranges above 100,000
                raise Refused("forbidden" if "sandbox" in str(error) else "raised", str(error)) from None
            except (MemoryError, Refused):
                raise
            except Exception as error:  # a template can raise anything Python can
                raise Refused("raised", f"{type(error).__name__}: {error}") from None


@contextlib.contextmanager
def memory_headroom(extra: int) -> Any:
    """Within this block the process may grow by `extra` bytes at most (Linux)."""
    try:
        import resource

        with open("/proc/self/statm", "rb") as file:
            used = int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        soft, hard = resource.getrlimit(resource.RLIMIT_AS)
        limit = used + extra if hard == resource.RLIM_INFINITY else min(used + extra, hard)
        resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    except (ImportError, OSError, ValueError):
        yield
        return
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


# --- tokenizers --------------------------------------------------------------------------------------------------


def readable(path: str) -> str:
    """A name of this file that the libraries can take: they refuse bytes that are no UTF-8."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return f"/dev/fd/{os.open(os.fsencode(path), os.O_RDONLY)}"
    return path


class FastTokenizer:
    """tokenizer.json, vocab.json + merges.txt, or vocab.txt, through the `tokenizers` library."""

    def __init__(self, request: Json) -> None:
        from tokenizers import AddedToken, Tokenizer

        if request["kind"] == "tokenizer.json":
            tokenizer = Tokenizer.from_file(readable(request["path"]))
        elif request["kind"] == "merges.txt":
            tokenizer = _byte_level(request)
        else:
            tokenizer = _word_piece(request)
        tokenizer.no_truncation()
        tokenizer.no_padding()
        known = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
        self.missing: list[str] = []
        self.moved: list[list[Any]] = []
        new = []
        for entry in request["add"]:
            actual = tokenizer.token_to_id(entry["content"])
            if actual is None:
                self.missing.append(entry["content"])
            elif entry["id"] is not None and actual != entry["id"]:
                self.moved.append([entry["content"], entry["id"], actual])
            if entry["content"] not in known:
                flags = {k: entry[k] for k in ("special", "lstrip", "rstrip", "single_word", "normalized")}
                new.append(AddedToken(entry["content"], **flags))
                known.add(entry["content"])
        if new:  # as transformers does: a declared token the vocabulary lacks takes the next free id
            tokenizer.add_tokens(new)
        self.tokenizer = tokenizer
        if request["kind"] != "tokenizer.json":
            _set_ends(tokenizer, request)
        for content, declared in ((e["content"], e["id"]) for e in request["add"] if e["content"] in self.missing):
            actual = tokenizer.token_to_id(content)
            if declared is not None and actual != declared:
                self.moved.append([content, declared, actual])

    def describe(self) -> Json:
        added = self.tokenizer.get_added_tokens_decoder()
        size = self.tokenizer.get_vocab_size(True)
        top = max([size - 1, *added])
        if self.tokenizer.id_to_token(size - 1) is None:  # ids with holes
            top = max(self.tokenizer.get_vocab(True).values(), default=0)
        return {
            "size": size, "top": top, "model": type(self.tokenizer.model).__name__, "missing": self.missing,
            "moved": self.moved, "added": [[i, t.content, t.special] for i, t in sorted(added.items())],
        }  # fmt: skip

    def encode(self, texts: list[str], special: bool) -> list[list[int]]:
        return [e.ids for e in self.tokenizer.encode_batch(texts, add_special_tokens=special)]

    def decode(self, batches: list[list[int]]) -> list[str]:
        return list(self.tokenizer.decode_batch(batches, skip_special_tokens=False))

    def ids(self, tokens: list[str]) -> list[int | None]:
        return [self.tokenizer.token_to_id(token) for token in tokens]

    def tokens(self, ids: list[int]) -> list[str | None]:
        return [self.tokenizer.id_to_token(i) if 0 <= i < 2**32 else None for i in ids]

    def beyond(self, first: int) -> int:
        return sum(i >= first for i in self.tokenizer.get_vocab(True).values())

    def vocabulary(self) -> list[str | None]:
        by_id = {i: token for token, i in self.tokenizer.get_vocab(True).items()}
        return [by_id.get(i) for i in range(max(by_id, default=-1) + 1)] if max(by_id, default=0) < 10_000_000 else []


def _byte_level(request: Json) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    model = models.BPE.from_file(readable(request["path"]), readable(request["merges"]))
    tokenizer = Tokenizer(model)
    if tokenizer.token_to_id("\u0120") is None and tokenizer.token_to_id("\u0120the") is None:
        raise Refused("unsupported", "vocab.json without byte-level pieces")
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=request["add_prefix_space"])
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _word_piece(request: Json) -> Any:
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

    model = models.WordPiece.from_file(readable(request["path"]), unk_token=request["special"].get("unk", "[UNK]"))
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=request["lowercase"])
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer


def _set_ends(tokenizer: Any, request: Json) -> None:
    """What a plain call adds, where no tokenizer.json says it."""
    from tokenizers import processors

    special = request["special"]
    if request["kind"] == "vocab.txt":
        first, last = special.get("cls"), special.get("sep")
    else:
        first = special.get("bos") if request["add_bos"] else None
        last = special.get("eos") if request["add_eos"] else None
    ends = [(t, tokenizer.token_to_id(t)) for t in (first, last) if t and tokenizer.token_to_id(t) is not None]
    names = {t for t, _ in ends}
    single = [*([first] if first in names else []), "$A", *([last] if last in names else [])]
    tokenizer.post_processor = processors.TemplateProcessing(single=single, special_tokens=ends)


class PieceTokenizer:
    """spiece.model or tokenizer.model through SentencePiece, with added tokens cut out before as transformers does."""

    def __init__(self, request: Json) -> None:
        import sentencepiece

        self.model = sentencepiece.SentencePieceProcessor()
        self.model.Load(readable(request["path"]))
        size = self.model.GetPieceSize()
        self.added: dict[str, int] = {}
        self.special: set[str] = set()
        self.missing: list[str] = []
        self.moved: list[list[Any]] = []
        sentinels = int(request["sentinels"])
        for place in range(sentinels):  # T5: <extra_id_0> has the highest id
            self.added[f"<extra_id_{sentinels - 1 - place}>"] = size + place
        top = size + sentinels
        for entry in request["add"]:
            content, declared = entry["content"], entry["id"]
            actual = self.added.get(content, self._piece(content))
            if actual is None:
                self.missing.append(content)
                actual = declared if declared is not None else top
            elif declared is not None and declared != actual:
                self.moved.append([content, declared, actual])
            self.added[content] = actual
            top = max(top, actual + 1)
            if entry["special"]:
                self.special.add(content)
        self.top = top - 1
        self.by_id = {i: content for content, i in self.added.items()}
        special = request["special"]
        self.first = self.added.get(special.get("bos", "")) if request["add_bos"] else None
        self.last = self.added.get(special.get("eos", "")) if request["add_eos"] else None
        longest = sorted(self.added, key=len, reverse=True)
        self.split = re.compile("(" + "|".join(map(re.escape, longest)) + ")") if longest else None

    def _piece(self, content: str) -> int | None:
        found = int(self.model.PieceToId(content))
        return found if self.model.IdToPiece(found) == content else None

    def describe(self) -> Json:
        added = [[i, content, content in self.special] for content, i in sorted(self.added.items(), key=lambda a: a[1])]
        size = max(self.top + 1, self.model.GetPieceSize())
        return {"size": size, "top": size - 1, "model": "SentencePiece", "missing": self.missing, "moved": self.moved,
                "added": added}  # fmt: skip

    def encode(self, texts: list[str], special: bool) -> list[list[int]]:
        result = []
        for text in texts:
            ids: list[int] = []
            for part in self.split.split(text) if self.split else [text]:
                if part in self.added:
                    ids.append(self.added[part])
                elif part:
                    ids += self.model.EncodeAsIds(part)
            if special:
                ids = [*([self.first] if self.first is not None else []), *ids]
                ids += [self.last] if self.last is not None else []
            result.append(ids)
        return result

    def decode(self, batches: list[list[int]]) -> list[str]:
        texts = []
        for ids in batches:
            parts: list[str] = []
            run: list[int] = []
            for i in [*ids, -1]:
                if 0 <= i < self.model.GetPieceSize() and i not in self.by_id:
                    run.append(i)
                    continue
                if run:
                    parts.append(self.model.DecodeIds(run))
                    run = []
                parts.append(self.by_id.get(i, ""))
            texts.append("".join(parts))
        return texts

    def ids(self, tokens: list[str]) -> list[int | None]:
        return [self.added.get(token, self._piece(token)) for token in tokens]

    def tokens(self, ids: list[int]) -> list[str | None]:
        size = self.model.GetPieceSize()
        return [self.by_id.get(i) or (self.model.IdToPiece(i) if 0 <= i < size else None) for i in ids]

    def beyond(self, first: int) -> int:
        return max(0, self.model.GetPieceSize() - first) + sum(
            i >= max(first, self.model.GetPieceSize()) for i in self.added.values()
        )

    def vocabulary(self) -> list[str | None]:
        return self.tokens(list(range(max(self.top + 1, self.model.GetPieceSize()))))


# --- requests ----------------------------------------------------------------------------------------------------


class Server:
    """Holds at most one tokenizer."""

    def __init__(self) -> None:
        self.templates = Templates()
        self.tokenizer: FastTokenizer | PieceTokenizer | None = None

    def answer(self, request: Json) -> Json:
        what = request["do"]
        if what == "render":
            return self.templates.render(request)
        if what == "render_many":
            return self.templates.render_many(request)
        if what == "load":
            make = PieceTokenizer if request["kind"] == "sentencepiece" else FastTokenizer
            self.tokenizer = make(request)
            return self.tokenizer.describe()
        if self.tokenizer is None:
            raise Refused("not_loaded", "")
        if what == "encode":
            with memory_headroom(TRIAL_HEADROOM if request.get("trial") else ENCODE_HEADROOM):
                return {"ids": self.tokenizer.encode(request["texts"], request["special"])}
        if what == "decode":
            return {"texts": self.tokenizer.decode(request["batches"])}
        if what == "ids":
            return {"ids": self.tokenizer.ids(request["tokens"])}
        if what == "tokens":
            return {"tokens": self.tokenizer.tokens(request["ids"])}
        if what == "beyond":
            return {"n": self.tokenizer.beyond(request["first"])}
        if what == "vocabulary":
            return {"tokens": self.tokenizer.vocabulary()}
        raise Refused("unknown_request", what)


def serve(requests: Any, answers: Any) -> None:
    """Answer until the requests end. Whatever goes wrong in one of them is its answer."""
    server = Server()
    for line in requests:
        request = json.loads(line)
        try:
            answer = server.answer(request)
        except Refused as refused:
            answer = {"problem": refused.args[0], "detail": str(refused.args[1])[:500]}
        except MemoryError:
            answer = {"problem": "memory", "detail": ""}
        except ImportError as error:
            answer = {"problem": "missing_dependency", "detail": str(error)[:500]}
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # a Rust panic is no Exception
            panic = not isinstance(error, Exception)
            # The Rust library raises plain `Exception` or panics: the names say nothing.
            said = str(error) if panic or type(error) is Exception else f"{type(error).__name__}: {error}"
            answer = {"problem": "crashed" if panic else "failed", "detail": said[:500]}
        answer["id"] = request["id"]
        # Lone surrogates of a broken text can't be written as UTF-8: ASCII escapes can hold everything.
        answers.write(json.dumps(answer).encode("ascii") + b"\n")
        answers.flush()


def main() -> None:
    """Serve on the standard streams; what libraries print goes nowhere."""
    answers = os.fdopen(os.dup(1), "wb")
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    with contextlib.suppress(BrokenPipeError, KeyboardInterrupt):
        serve(sys.stdin.buffer, answers)


if __name__ == "__main__":
    main()
