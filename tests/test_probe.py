"""The child that holds tokenizer and template: it says what transformers says, and nothing in it harms the parent."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import pytest
from tokenizer_folders import CHATML, CORPUS, byte_level, chat_folder, t5_folder, unigram, write_json
from tokenizers import Tokenizer, models, pre_tokenizers

import pipeline.probe as probe_module
from pipeline.checkpoint import TokenizerFiles, read_tokenizer_files
from pipeline.file_store import LocalFolder
from pipeline.probe import Probe, TokenizerNotLoaded, open_probe
from pipeline.processes import start

TEXTS = ["Which colour?", "列出五种水果。", "a<|im_end|>\n", "  two  spaces\n\nend</s>", "é ü 🍌"]
TALK = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}]


def probe_of(folder: Path) -> Probe:
    return open_probe(read_tokenizer_files(LocalFolder(folder)))


@pytest.fixture(scope="module")
def bare() -> Probe:
    """No tokenizer at all: only templates."""
    with open_probe(TokenizerFiles(None)) as probe:
        yield probe


# --- as transformers ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["chat", "t5", "pad_not_in_vocabulary", "named_templates"])
def test_ids_and_templates_are_those_of_transformers(kind: str, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    if kind == "t5":
        folder = t5_folder(tmp_path / "m")
    elif kind == "pad_not_in_vocabulary":
        unknown = {"pad_token": "[PAD]", "additional_special_tokens": ["<x>"]}
        folder = chat_folder(tmp_path / "m", tokenizer_config=unknown)
    elif kind == "named_templates":
        named = [{"name": "rag", "template": "R"}, {"name": "default", "template": CHATML + "{{ bos_token }}"}]
        folder = chat_folder(tmp_path / "m", tokenizer_config={"chat_template": named, "bos_token": "<|endoftext|>"})
    else:
        folder = chat_folder(tmp_path / "m")
    expected = AutoTokenizer.from_pretrained(folder)
    with probe_of(folder) as probe:
        assert probe.problem is None
        assert probe.vocab_size == len(expected)
        for add in (False, True):
            assert probe.encode(TEXTS, add_special_tokens=add) == expected(TEXTS, add_special_tokens=add).input_ids
        assert {"eos", "pad"} <= probe.special.keys()
        for role, declared in probe.special.items():
            assert declared == (getattr(expected, f"{role}_token"), getattr(expected, f"{role}_token_id"))
        ids = expected("Which colour 列出").input_ids
        assert probe.tokens(ids) == expected.convert_ids_to_tokens(ids)
        assert probe.decode([ids]) == expected.batch_decode([ids], clean_up_tokenization_spaces=False)
        vocabulary = probe.vocabulary()
        assert {t: i for i, t in enumerate(vocabulary) if t is not None} == expected.get_vocab()
        if probe.template is not None:
            for prompt in (False, True):
                rendered = probe.render(TALK, add_generation_prompt=prompt).text
                assert rendered == expected.apply_chat_template(TALK, tokenize=False, add_generation_prompt=prompt)


def test_template_features_render_as_in_transformers(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    template = (
        "{%- set ns = namespace(last='') -%}\n{% for m in messages %}\n  {% if loop.index > 5 %}{% break %}"
        "{% endif %}\n"
        "    {%- if m.role == 'assistant' %}{% generation %}{{ m.content|trim }}{% endgeneration %}{{ eos_token }}\n"
        "{% else %}[{{ m['content'] }}]{{ m|tojson }}{% endif %}{% set ns.last = m.role %}{% endfor %}{{ ns.last }}"
        "{{ {'é': [1, none]}|tojson(indent=1) }}{{ tools is none }}{{ enable_thinking|default('unset') }}"
    )
    folder = chat_folder(tmp_path / "m", tokenizer_config={"chat_template": "wins not"})
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    expected = AutoTokenizer.from_pretrained(folder).apply_chat_template(TALK, tokenize=False)
    with probe_of(folder) as probe:
        assert probe.template_source == "chat_template.jinja" and probe.template_shadowed
        assert probe.render(TALK).text == expected
        with_switch = probe.render(TALK, variables={"enable_thinking": False}).text
        assert with_switch is not None and with_switch.endswith("False")


def test_vocab_and_merges_without_tokenizer_json(tmp_path: Path) -> None:
    whole = byte_level("<|endoftext|>")
    whole.model.save(str(tmp_path))
    write_json(tmp_path, "tokenizer_config.json", {"tokenizer_class": "GPT2Tokenizer"})
    with probe_of(tmp_path) as probe:
        assert (probe.problem, probe.source) == (None, "vocab.json")
        assert probe.special["eos"][0] == "<|endoftext|>"
        assert probe.encode(CORPUS[:8]) == [e.ids for e in whole.encode_batch(CORPUS[:8])]


def test_word_pieces(tmp_path: Path) -> None:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "which", "colour", "##s", "列", "出", "?"]
    (tmp_path / "vocab.txt").write_text("\n".join(words), encoding="utf-8")
    write_json(tmp_path, "tokenizer_config.json", {"tokenizer_class": "BertTokenizer"})
    with probe_of(tmp_path) as probe:
        assert probe.encode(["Which colours?"], add_special_tokens=True) == [[2, 4, 5, 6, 9, 3]]
        assert probe.encode(["列出 zzz"]) == [[7, 8, 1]]


def test_sentencepiece_model(tmp_path: Path) -> None:
    import sentencepiece

    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS), model_prefix=str(tmp_path / "spiece"), vocab_size=160, minloglevel=2,
        hard_vocab_limit=False, pad_id=0, eos_id=1, unk_id=2, bos_id=-1,
    )  # fmt: skip
    direct = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "spiece.model"))
    write_json(tmp_path, "tokenizer_config.json", {"tokenizer_class": "T5Tokenizer", "extra_ids": 10})
    with probe_of(tmp_path) as probe:
        size = direct.get_piece_size()
        assert (probe.problem, probe.vocab_size, probe.special["eos"]) == (None, size + 10, ("</s>", 1))
        assert probe.token_ids(["<extra_id_0>", "<extra_id_9>", "nothing"]) == [size + 9, size, None]
        plain = direct.encode("Which colour")
        assert probe.encode(["Which colour"], add_special_tokens=True) == [[*plain, 1]]
        assert probe.encode(["Which colour</s>"]) == [[*plain, 1]]
        assert probe.decode([[*plain, 1]]) == ["Which colour</s>"]


def test_small_files_alone_still_tell_ids_and_render(tmp_path: Path) -> None:
    folder = chat_folder(tmp_path / "m")
    (folder / "tokenizer.json").unlink()
    with probe_of(folder) as probe:
        assert probe.problem == "no_vocabulary"
        assert probe.special["eos"][1] == probe.added["<|im_end|>"]
        assert probe.tokens([probe.added["<|im_start|>"], 3]) == ["<|im_start|>", None]
        assert probe.render(TALK).text == "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\nyo<|im_end|>\n"
        with pytest.raises(TokenizerNotLoaded, match="no_vocabulary"):
            probe.encode(["a"])


# --- hostile and broken ------------------------------------------------------------------------------------------

HOSTILE = {
    "memory by doubling": ("{% set ns = namespace(s='aaaaaaaa') %}{% for i in range(60) %}{% set ns.s = ns.s ~ ns.s %}"
                           "{% endfor %}{{ ns.s }}", "memory"),
    "memory at once": ("{{ 'a' * 10 ** 11 }}", "memory"),
    "list by doubling": ("{% set ns = namespace(l=[1]) %}{% for i in range(60) %}{% set ns.l = ns.l + ns.l %}"
                         "{% endfor %}", "memory"),
    "endless output": ("{% for a in range(100000) %}{% for b in range(100000) %}aaaaaaaaaaaaaaaa{% endfor %}"
                       "{% endfor %}", "memory"),
    "classes": ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "forbidden"),
    "globals": ("{{ cycler.__init__.__globals__.os.system('touch /tmp/escaped') }}", "forbidden"),
    "format": ("{{ '{0.__class__.__base__}'.format(messages) }}", "forbidden"),
    "mutation": ("{{ messages.append(1) }}", "forbidden"),
    "namespace": ("{% set ns = namespace(__class__=1) %}", "forbidden"),
    "range": ("{{ range(10 ** 9)|length }}", "forbidden"),
    "endless macro": ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "raised"),
    "deep nesting": ("{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}", "raised"),
    "not closed": ("{% if x %}", "syntax"),
    "unknown name": ("{{ nothing.here.at_all }}", "raised"),
    "own exception": ("{{ raise_exception('no system role') }}", "raised"),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_template_is_a_value(bare: Probe, case: str) -> None:
    template, problem = HOSTILE[case]
    rendered = bare.render(TALK, template=template)
    assert (rendered.text, rendered.problem) == (None, problem)
    assert bare.render(TALK, template="{{ messages[0].content }}").text == "hi"
    assert not os.path.exists("/tmp/escaped")


def test_endless_template_costs_one_timeout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe_module, "RENDER_SECONDS", 0.7)
    endless = "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}"
    with probe_of(chat_folder(tmp_path / "m")) as probe:
        before = probe.encode(["Which colour"])
        began = time.monotonic()
        assert probe.render(TALK, template=endless).problem == "timeout"
        assert probe.render(TALK[:1], template=endless).problem == "timeout"  # known to hang: not tried again
        assert time.monotonic() - began < 3
        assert probe.encode(["Which colour"]) == before
        assert probe.render(TALK).problem is None


def test_child_killed_from_outside(tmp_path: Path) -> None:
    with probe_of(chat_folder(tmp_path / "m")) as probe:
        before = probe.encode(["Which colour"])
        assert probe._child is not None
        probe._child.process.kill()
        with pytest.raises(TokenizerNotLoaded, match="crashed"):
            probe.encode(["Which"])
        assert probe.encode(["Which colour"]) == before


def test_pathological_text_only_costs_a_timeout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = byte_level("<|endoftext|>")
    whole.save(str(tmp_path / "tokenizer.json"))
    with probe_of(tmp_path) as probe:
        # A million characters take this tokenizer about half a second.
        with monkeypatch.context() as short, pytest.raises(TokenizerNotLoaded, match="timeout"):
            short.setattr(probe_module, "ENCODE_SECONDS", 0.05)
            probe.encode(["Which colour has a ripe banana " * 2_000_000])
        assert probe.encode(["Which"])[0]


BROKEN = {
    "cut": lambda raw: raw[: len(raw) // 2],
    "not json": lambda raw: b"this is no tokenizer",
    "other json": lambda raw: b'{"a": 1}',
    "list": lambda raw: b"[1, 2]",
    "binary": lambda raw: bytes(range(256)) * 40,
    "model of an unknown kind": lambda raw: json.dumps({**json.loads(raw), "model": {"type": "Novel"}}).encode(),
    "vocabulary of words": lambda raw: json.dumps({**json.loads(raw), "model": {"type": "BPE", "vocab": 7}}).encode(),
    "merges of nothing": lambda raw: json.dumps(
        {**json.loads(raw), "model": {**json.loads(raw)["model"], "merges": [["zz", "qq"]]}}
    ).encode(),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_tokenizer_file_is_a_value(case: str, tmp_path: Path) -> None:
    folder = chat_folder(tmp_path / "m")
    path = folder / "tokenizer.json"
    path.write_bytes(BROKEN[case](path.read_bytes()))
    with probe_of(folder) as probe:
        assert probe.problem == ("not_utf8" if case == "binary" else "failed") and probe.detail
        assert probe.special["eos"][1] == probe.added["<|im_end|>"]
        assert probe.render(TALK).problem is None
        with pytest.raises(TokenizerNotLoaded):
            probe.encode(["a"])


@pytest.mark.parametrize(
    ("content", "problem"),
    [(b"", "empty"), (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 7\n", "lfs_pointer")],
)
def test_tokenizer_file_without_content(content: bytes, problem: str, tmp_path: Path) -> None:
    folder = chat_folder(tmp_path / "m")
    (folder / "tokenizer.json").write_bytes(content)
    with probe_of(folder) as probe:
        assert probe.problem == problem


def test_small_files_of_any_shape(tmp_path: Path) -> None:
    odd = {
        "eos_token": 7, "bos_token": ["<s>"], "pad_token": {"content": None}, "chat_template": {"default": 3},
        "added_tokens_decoder": {"x": {"content": "<a>"}, "5": 3, "-2": {"content": "<b>"}, "9": {"content": "<c>"}},
        "additional_special_tokens": [None, 3, {"content": "<d>"}], "tokenizer_class": 5, "extra_ids": "many",
    }  # fmt: skip
    write_json(tmp_path, "tokenizer_config.json", odd)
    write_json(tmp_path, "added_tokens.json", {"<e>": "1", "<f>": True, "<g>": 12})
    write_json(tmp_path, "special_tokens_map.json", {"eos_token": {"content": "</s>"}})
    with probe_of(tmp_path) as probe:
        assert probe.added == {"<c>": 9, "<g>": 12}
        assert probe.special == {} or probe.special == {"eos": ("</s>", None)}
        assert probe.template is None


def test_messages_with_broken_text(tmp_path: Path) -> None:
    with probe_of(chat_folder(tmp_path / "m")) as probe:
        rendered = probe.render([{"role": "user", "content": "\ud800 \x00 \u202e"}]).text
        assert rendered is not None and "\ud800" in rendered
        assert probe.encode([rendered])[0]


def test_two_probes_and_close(tmp_path: Path) -> None:
    unigram().save(str(tmp_path / "tokenizer.json"))
    other = probe_of(tmp_path)
    with probe_of(chat_folder(tmp_path / "m")) as probe:
        assert probe.vocab_size != other.vocab_size
    other.close()
    other.close()
    with pytest.raises(TokenizerNotLoaded):
        other.encode(["a"])


def test_processes_take_lists_and_limits() -> None:
    import subprocess
    import sys

    with pytest.raises(TypeError):
        start("echo hi")  # type: ignore[arg-type]
    code = "import sys; sys.stdin.read(1); b = bytearray(10**9)"
    child = start([sys.executable, "-c", code], memory_bytes=2**29, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    _, said = child.communicate(b"x", timeout=30)
    assert child.returncode == 1 and b"MemoryError" in said


def test_tokenizer_json_with_ids_that_moved(tmp_path: Path) -> None:
    folder = chat_folder(tmp_path / "m", tokenizer_config={"added_tokens_decoder": {"7": {"content": "<|im_end|>"}}})
    with probe_of(folder) as probe:
        assert probe.moved == (("<|im_end|>", 7, probe.special["eos"][1]),)


def test_ids_with_holes(tmp_path: Path) -> None:
    tokenizer = Tokenizer(models.WordLevel({"a": 0, "b": 90}, unk_token="a"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    with probe_of(tmp_path) as probe:
        assert (probe.vocab_size, probe.top_id) == (2, 90)


def test_the_child_needs_nothing_of_the_project(tmp_path: Path) -> None:
    """It runs by file path from anywhere: an installed package, another working directory."""
    copy = tmp_path / "elsewhere" / "probe_child.py"
    copy.parent.mkdir()
    shutil.copy(probe_module.CHILD, copy)
    (copy.parent / "json.py").write_text("raise RuntimeError('shadowed')")
    import subprocess
    import sys

    child = start([sys.executable, str(copy)], cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    request = {"id": 1, "do": "render", "template": "{{ 1 + 1 }}", "messages": [], "variables": {},
               "add_generation_prompt": False}  # fmt: skip
    said, _ = child.communicate(json.dumps(request).encode() + b"\n", timeout=30)
    assert json.loads(said) == {"text": "2", "id": 1}


# --- tokenizers that load and can't encode -----------------------------------------------------------------------

_MORE = {"type": "Replace", "pattern": {"Regex": "."}, "content": "x" * 10}
_FOR_EVER = {"type": "Split", "pattern": {"Regex": "^(([a-z \\S])+.)+[A-Z]([a-z\\S ])+$"}, "behavior": "Isolated",
             "invert": False}  # fmt: skip
PATHOLOGICAL = {
    "crashes": {"normalizer": {"type": "Replace", "pattern": {"String": ""}, "content": "x" * 1000}},
    "grows": {"normalizer": {"type": "Sequence", "normalizers": [_MORE] * 9}},
    "goes back and forth": {"pre_tokenizer": _FOR_EVER},
}


@pytest.mark.parametrize("case", PATHOLOGICAL)
def test_tokenizer_that_cannot_encode_a_sentence(case: str, tmp_path: Path) -> None:
    folder = chat_folder(tmp_path / "m")
    path = folder / "tokenizer.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **PATHOLOGICAL[case]}))
    began = time.perf_counter()
    with probe_of(folder) as probe:
        assert probe.problem in ("encode_crashed", "encode_memory", "encode_timeout")
        with pytest.raises(TokenizerNotLoaded):
            probe.encode(["a"])
        assert probe.special["eos"][1] == probe.added["<|im_end|>"]
    assert time.perf_counter() - began < probe_module.TRIAL_SECONDS + 6


def test_second_crash_is_the_last(tmp_path: Path) -> None:
    with probe_of(chat_folder(tmp_path / "m")) as probe:
        for _ in range(2):
            probe.encode(["a"])
            assert probe._child is not None
            probe._child.process.kill()
            with pytest.raises(TokenizerNotLoaded):
                probe.encode(["b"])
        assert probe.problem == "encode_crashed"


def test_long_texts_go_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe_module, "MAX_CHARACTERS", 20)
    texts = ["Which colour", "yellow", "b" * 50, "", "Which"]
    with probe_of(chat_folder(tmp_path / "m")) as probe:
        assert probe.encode(texts) == [probe.encode([t[:20]])[0] for t in texts]


@pytest.mark.skipif(os.name != "posix", reason="names are bytes on POSIX systems only")
def test_folder_whose_name_is_no_utf8(tmp_path: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/bad\xff"))
    try:
        chat_folder(folder)
    except (OSError, UnicodeError):
        folder.mkdir(exist_ok=True)
        shutil.copytree(chat_folder(tmp_path / "good"), folder, dirs_exist_ok=True)
    with probe_of(folder) as probe:
        assert probe.problem is None and probe.encode(["Which"])[0]


def test_text_files_that_are_not_utf8(tmp_path: Path) -> None:
    folder = chat_folder(tmp_path / "m", tokenizer_config={"chat_template": None})
    (folder / "chat_template.jinja").write_bytes(("{{ '你好' }}" + CHATML).encode("gbk"))
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "rag.jinja").write_bytes("é".encode("latin-1"))
    with probe_of(folder) as probe:
        assert probe.template is None and probe.template_problem == ("not_utf8", "chat_template.jinja", "4")
        assert probe.other_templates == (("not_utf8", "additional_chat_templates/rag.jinja", "0"),)
    path = folder / "tokenizer.json"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    with probe_of(folder) as probe:
        assert (probe.problem, probe.detail) == ("not_utf8", "BOM")
