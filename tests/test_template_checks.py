"""TPL001-TPL005: what is wrong with a chat template, on real small tokenizers."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_tokenizer_checks import alarms, findings
from tokenizer_folders import CHATML, byte_level, chat_folder

LLAMA3 = (
    "{% for m in messages %}{{ '<|start_header_id|>' + m.role + '<|end_header_id|>\n\n' + m.content + '<|eot_id|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)


@pytest.mark.parametrize(
    ("template", "signal", "severity"),
    [
        (CHATML, "TPL001/ok", "ok"),
        ("{% for m in messages %}{{ m.content }}", "TPL001/syntax", "error"),
        ("{{ ''.__class__.__mro__ }}", "TPL001/forbidden", "error"),
        ("{{ 'a' * 10 ** 11 }}", "TPL001/memory", "error"),
        ("{{ nobody.knows }}", "TPL001/raised", "error"),
        (LLAMA3.replace("{% endfor", "{% if m.role == 'assistant' %}{{ no.such }}{% endif %}{% endfor"),
         "TPL001/fails_on_answers", "warning"),
        (CHATML.replace("+ message['content'] ", ""), "TPL001/content_lost", "error"),
        ("{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}" + CHATML,
         "TPL001/no_system_role", "info"),
        ("{% set messages = messages|rejectattr('role', 'equalto', 'system') %}" + CHATML, "TPL001/system_dropped",
         "info"),
        (CHATML.replace("assistant\n' }}{% endif", "assistant\nSure: ' }}{% endif"), "TPL002/prefix_differs",
         "warning"),
        (CHATML.replace("assistant\n' }}{% endif", "assistant\n<think>\n' }}{% endif"), "TPL002/thinking_differs",
         "info"),
        (CHATML.replace("assistant\n' }}{% endif", "assistant\n\n' }}{% endif"), "TPL002/white_space_differs", "info"),
        (CHATML.partition("{% if add")[0], "TPL005/no_effect", "warning"),
        (LLAMA3, "TPL004/turn_end_is_text", "error"),
        (LLAMA3.replace("<|eot_id|>", "<|eot_id|><|im_end|>"), "TPL004/turn_end_is_text_then_token", "info"),
        (LLAMA3.replace("<|eot_id|>", "<|im_end|>"), "TPL004/headers_are_text", "info"),
    ],
)  # fmt: skip
def test_template(template: str, signal: str, severity: str, tmp_path: Path) -> None:
    seen = findings(chat_folder(tmp_path / "m", tokenizer_config={"chat_template": template}))
    assert seen[signal].severity == severity
    if severity == "info":
        assert alarms(seen) == set()


def test_content_as_list_of_parts(tmp_path: Path) -> None:
    """Templates of image models loop over parts and find no text in a plain string."""
    parts = CHATML.replace("message['content']", "(message['content']|map(attribute='text')|join)")
    seen = findings(chat_folder(tmp_path / "m", tokenizer_config={"chat_template": parts}))
    assert seen["TOK004/ok"].params["terminator"] == "<|im_end|>"
    assert "TPL001/content_lost" not in seen


def test_missing_template(tmp_path: Path) -> None:
    chat = chat_folder(tmp_path / "model-instruct", tokenizer_config={"chat_template": None})
    assert findings(chat)["TPL003/missing"].severity == "info"
    plain = chat_folder(
        tmp_path / "base", tokenizer=byte_level("<|endoftext|>", "<|im_start|>", "<mask>"),
        generation_config={"eos_token_id": 420, "pad_token_id": None},
        tokenizer_config={"chat_template": None, "eos_token": "<|endoftext|>"},
    )  # fmt: skip
    assert findings(plain)["TPL003/not_needed"].severity == "ok"


def test_template_of_another_family_names_both_sides(tmp_path: Path) -> None:
    found = findings(chat_folder(tmp_path / "m", tokenizer_config={"chat_template": LLAMA3}))["TPL004/turn_end_is_text"]
    assert found.params["marker"] == "<|eot_id|>" and found.params["k"] > 1


@pytest.mark.parametrize("encoding", ["gbk", "utf-16"])
def test_template_in_another_encoding(encoding: str, tmp_path: Path) -> None:
    """transformers stops with UnicodeDecodeError; nothing else may be concluded from such a file."""
    folder = chat_folder(tmp_path / "m", tokenizer_config={"chat_template": None})
    (folder / "chat_template.jinja").write_bytes(("{{ '系统你好' }}" + CHATML).encode(encoding))
    seen = findings(folder)
    assert alarms(seen) == {"TPL001/not_utf8"} and seen["TPL001/not_utf8"].severity == "error"
    assert seen["TPL001/not_utf8"].params["file"] == "chat_template.jinja"


def test_further_template_in_another_encoding(tmp_path: Path) -> None:
    folder = chat_folder(tmp_path / "m")
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "rag.jinja").write_bytes("你好".encode("gbk"))
    seen = findings(folder)
    assert alarms(seen) == {"TPL001/not_utf8"} and seen["TPL001/not_utf8"].severity == "warning"


def test_turn_end_that_no_list_holds(tmp_path: Path) -> None:
    """Without a vocabulary the list of added tokens tells, if it is complete."""
    foreign = chat_folder(tmp_path / "m", tokenizer_config={"chat_template": LLAMA3})
    (foreign / "tokenizer.json").unlink()
    assert findings(foreign)["TPL004/turn_end_not_listed"].severity == "warning"
    partial = chat_folder(tmp_path / "n", tokenizer_config={"chat_template": LLAMA3, "bos_token": "<s>"})
    (partial / "tokenizer.json").unlink()
    assert "TPL004/turn_end_not_listed" not in findings(partial)
    own = chat_folder(tmp_path / "o")
    (own / "tokenizer.json").unlink()
    assert alarms(findings(own)) == set()
