"""A row becomes the tokens that transformers would make of it, in the format the model was trained on."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from candidate_rows import source_rows

from pipeline.candidates.candidate import SourceRow
from pipeline.candidates.model_fingerprint import model_fingerprint
from pipeline.candidates.prompting import Problem, Prompt, Prompting, choose_prompting
from pipeline.checkpoint import Checkpoint, open_checkpoint
from pipeline.demo.build import DemoFolder
from pipeline.load_model import LoadedModel, load_model
from pipeline.pairs.pair import Pair
from pipeline.refusal import Refused

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
NO_SYSTEM = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    "{% if m['role'] == 'user' %}[INST] {{ m['content'] }} [/INST]{% else %} {{ m['content'] }}</s>{% endif %}{% endfor %}"
)
THINKING = CHATML.replace(
    "assistant\n{% endif %}", "assistant\n{% if enable_thinking is defined and not enable_thinking %}<think></think>{% endif %}{% endif %}"
)
HANGS_ON_LONG_TALKS = "{% if messages|length > 2 %}{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}{% endif %}" + CHATML


def _model(folder: Path, *, template: str | None, adds_bos: bool = False, positions: int = 256) -> tuple[LoadedModel, Checkpoint]:
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    torch.set_num_threads(1)
    special = ["<pad>", "</s>", "<s>", "<|im_start|>", "<|im_end|>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = {token: number for number, token in enumerate([*special, *alphabet, "Ġt", "he", "Ġthe"])}
    made = Tokenizer(models.BPE(words, [("Ġ", "t"), ("h", "e"), ("Ġt", "he")]))
    made.add_special_tokens(special)
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    if adds_bos:
        made.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 2)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, pad_token="<pad>", eos_token="</s>", bos_token="<s>")
    if template is not None:
        tokenizer.chat_template = template
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(
        vocab_size=len(words), hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=positions, eos_token_id=1, pad_token_id=0, bos_token_id=2,
    ))  # fmt: skip
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    checkpoint = open_checkpoint(str(folder))
    return load_model(checkpoint), checkpoint


def _row(*turns: str, index: int = 0, system: str | None = None, gold: str | None = None) -> SourceRow:
    roles = ("user", "assistant")
    messages = [{"role": roles[i % 2], "content": text} for i, text in enumerate(turns)]
    return SourceRow(index, Pair(messages, gold, None, system=system))


def _ids(made: Prompt | Problem) -> list[int]:
    assert isinstance(made, Prompt), made
    return list(made.ids)


@pytest.fixture(scope="module")
def chatml(tmp_path_factory: pytest.TempPathFactory) -> tuple[LoadedModel, Checkpoint]:
    return _model(tmp_path_factory.mktemp("chatml"), template=CHATML)


def test_declared_template_equals_transformers(chatml: tuple[LoadedModel, Checkpoint]) -> None:
    loaded, checkpoint = chatml
    rows = [
        _row("Name a fruit."), _row("你好，请列出水果。", system="你是助手。"), _row("one", "the two", "three"),
        _row("  spaces  \n"), _row("Name\u200b it 🙂"),
    ]  # fmt: skip
    with choose_prompting(loaded, checkpoint, rows, system="Be brief.") as prompting:
        made = prompting.prompts(rows)
    assert prompting.label == "chat_template"
    for row, one in zip(rows, made, strict=True):
        talk = [{"role": "system", "content": row.pair.system or "Be brief."}, *row.pair.prompt]
        asked = loaded.tokenizer.apply_chat_template(talk, add_generation_prompt=True, tokenize=False)
        assert _ids(one) == loaded.tokenizer(asked, add_special_tokens=False).input_ids
        assert isinstance(one, Prompt) and one.text == asked


@pytest.mark.parametrize("adds_bos", [False, True])
def test_one_start_token_and_system_in_front(tmp_path: Path, adds_bos: bool) -> None:
    loaded, checkpoint = _model(tmp_path, template=NO_SYSTEM, adds_bos=adds_bos)
    rows = [_row("hi", system="Be kind."), _row("hi", "yes", "the")]
    with choose_prompting(loaded, checkpoint, rows) as prompting:
        first, second = prompting.prompts(rows)
    assert _ids(first).count(2) == 1 and _ids(second).count(2) == 1
    assert isinstance(first, Prompt) and first.text == "<s>[INST] Be kind.\n\nhi [/INST]"
    assert isinstance(second, Prompt) and second.text == "<s>[INST] hi [/INST] yes</s>[INST] the [/INST]"
    with choose_prompting(loaded, checkpoint, rows, format="plain") as prompting:
        plain = prompting.prompt(_row("hi"))
    assert _ids(plain).count(2) == 1, "the template shows that this model is used to a start token"


def test_thinking_is_off_unless_asked_for(tmp_path: Path) -> None:
    loaded, checkpoint = _model(tmp_path, template=THINKING)
    for thinking in (False, True):
        with choose_prompting(loaded, checkpoint, [], thinking=thinking) as prompting:
            made = prompting.prompt(_row("hi"))
        assert isinstance(made, Prompt) and ("<think></think>" in made.text) is not thinking
        assert ("enable_thinking=False" in made.format) is not thinking


def test_named_formats(chatml: tuple[LoadedModel, Checkpoint]) -> None:
    loaded, checkpoint = chatml
    row = SourceRow(0, Pair([{"role": "user", "content": "Add.\n1 and 2"}], None, None, extra={"input": "1 and 2"}))
    texts = {}
    for name in ("chatml", "alpaca", "alpaca.system1", "llama2", "plain"):
        with choose_prompting(loaded, checkpoint, [row], format=name, system="S") as prompting:
            made = prompting.prompt(row)
        assert isinstance(made, Prompt)
        texts[name] = made.text
    assert texts["chatml"].startswith("<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nAdd.")
    assert texts["alpaca"] == "S\n\n### Instruction:\nAdd.\n\n### Input:\n1 and 2\n\n### Response:\n" == texts["alpaca.system1"]
    assert texts["llama2"] == "[INST] <<SYS>>\nS\n<</SYS>>\n\nAdd.\n1 and 2 [/INST]"
    assert texts["plain"] == "S\nAdd.\n1 and 2"
    with pytest.raises(Refused, match="nearest: .*chatml. All"):
        choose_prompting(loaded, checkpoint, [row], format="chatlm")
    with pytest.raises(Refused, match="lacks tokens"):
        choose_prompting(loaded, checkpoint, [row], format="phi3")


def test_without_a_template(tmp_path: Path) -> None:
    loaded, checkpoint = _model(tmp_path, template=None)
    with pytest.raises(Refused, match="declares no chat template"):
        choose_prompting(loaded, checkpoint, [], format="declared")
    with choose_prompting(loaded, checkpoint, []) as prompting:
        made = prompting.prompt(_row("hi"))
    assert isinstance(made, Prompt) and made.text == "hi" and prompting.name == "plain''"


def test_broken_template_is_said(tmp_path: Path) -> None:
    loaded, checkpoint = _model(tmp_path, template="{% if %}")
    said: list[str] = []
    with choose_prompting(loaded, checkpoint, [], note=said.append) as prompting:
        assert isinstance(prompting.prompt(_row("hi")), Prompt)
    assert len(said) == 1 and "can't be rendered" in said[0]
    assert "渲染不出来" in prompting.remarks[0].said("zh")
    with pytest.raises(Refused, match="can't be rendered"):
        choose_prompting(loaded, checkpoint, [], format="declared")


def test_what_has_no_prompt_is_a_problem(chatml: tuple[LoadedModel, Checkpoint]) -> None:
    loaded, checkpoint = chatml
    image = Pair([{"role": "user", "content": [{"type": "image_url", "image_url": {}}, {"type": "text", "text": "a"}]}], None, None)
    rows = [
        _row("x" * 300), _row("x" * 230), SourceRow(2, Pair([], None, None)), _row("  "), SourceRow(4, image),
        SourceRow(5, Pair([{"role": "user", "content": None}], None, None)),
        SourceRow(6, Pair([{"role": "user", "content": [{"type": "text", "text": "hi"}]}], None, None)),
        SourceRow(7, Pair([{"role": "tool", "content": "4"}], None, None)),
    ]  # fmt: skip
    with choose_prompting(loaded, checkpoint, rows) as prompting:
        made = prompting.prompts(rows, new_tokens=1)
        longer = prompting.prompts(rows, new_tokens=100)
        assert prompting.prompts([]) == []
    assert [getattr(one, "problem", None) for one in made] == [
        "prompt_too_long", None, *["prompt_not_rendered"] * 4, None, None,
    ]  # fmt: skip
    assert isinstance(longer[1], Problem) and longer[1].problem == "prompt_too_long" and "room for 156" in longer[1].detail
    with choose_prompting(loaded, checkpoint, rows, format="alpaca") as prompting:
        tool = prompting.prompts(rows)[7]
    assert isinstance(tool, Problem) and "role tool" in tool.detail


def test_a_talk_that_hangs_the_template_costs_itself_alone(tmp_path: Path) -> None:
    loaded, checkpoint = _model(tmp_path, template=HANGS_ON_LONG_TALKS)
    rows = [_row("hi"), _row("a", "b", "c"), _row("the")]
    with choose_prompting(loaded, checkpoint, []) as prompting, pytest.MonkeyPatch.context() as patched:
        patched.setattr("pipeline.probe.RENDER_SECONDS", 1.0)
        made = prompting.prompts(rows)
    assert isinstance(made[0], Prompt) and isinstance(made[2], Prompt)
    assert isinstance(made[1], Problem) and "timeout" in made[1].detail


def test_answers_are_tokenised_behind_the_prompt(chatml: tuple[LoadedModel, Checkpoint]) -> None:
    loaded, checkpoint = chatml
    with choose_prompting(loaded, checkpoint, [], format="hash_question") as prompting:
        prompt = prompting.prompt(_row("who?"))
        assert isinstance(prompt, Prompt) and prompt.text.endswith("### Answer:") and prompt.gap == " "
        found = prompting.answer_ids(prompt, ["the", " the", ""])
    joined = loaded.tokenizer(prompt.text + " the", add_special_tokens=False).input_ids
    assert [*prompt.ids, *found[0]] == joined and found[0] == found[1] and len(found[0]) == 1
    assert len(found[2]) == 1, "the space that the format asks for"


@pytest.fixture(scope="module")
def opened(demo: DemoFolder) -> Any:
    def open_case(name: str) -> tuple[LoadedModel, Checkpoint, list[SourceRow]]:
        case = demo.cases[name]
        checkpoint = open_checkpoint(
            str(case.checkpoint), tokenizer=str(case.tokenizer) if case.tokenizer else None,
            model_config=str(case.model_config) if case.model_config else None,
        )  # fmt: skip
        return load_model(checkpoint), checkpoint, source_rows(case.data_file, 64)

    return open_case


@pytest.mark.parametrize(
    ("name", "format", "found"),
    [
        ("healthy_decoder", "declared", False), ("template_mismatch_decoder", "chatml", True),
        ("undertrained_decoder", "declared", False), ("healthy_t5", "plain''", False),
    ],
)  # fmt: skip
def test_format_of_the_demo(opened: Any, name: str, format: str, found: bool) -> None:
    loaded, checkpoint, rows = opened(name)
    said: list[str] = []
    with choose_prompting(loaded, checkpoint, rows, note=said.append) as prompting:
        made = prompting.prompt(rows[0])
    assert (prompting.name, prompting.found, len(prompting.remarks)) == (format, found, int(found))
    assert any("another prompt format" in line for line in said) is found
    assert isinstance(made, Prompt) and made.ids[-1 if loaded.is_encoder_decoder else 0] == 1


def test_quick_enough_to_stream(opened: Any) -> None:
    """Far above what was measured (0.1 to 0.2 ms a row), so that a busy machine passes; a request a row takes longer."""
    loaded, checkpoint, rows = opened("healthy_decoder")
    many = [SourceRow(i, rows[i % len(rows)].pair) for i in range(2000)]
    with choose_prompting(loaded, checkpoint, [], format="declared") as prompting:
        start = time.monotonic()
        made = prompting.prompts(many)
        took = time.monotonic() - start
        asked = prompting._templates.probe._rendered
    assert took < 4.0 and not asked, "nothing is remembered of rows that stream"
    alone = _each(loaded, checkpoint, many[:40])
    assert made[:40] == alone


def _each(loaded: LoadedModel, checkpoint: Checkpoint, rows: list[SourceRow]) -> list[Prompt | Problem]:
    with choose_prompting(loaded, checkpoint, [], format="declared") as prompting:
        assert isinstance(prompting, Prompting)
        return [prompting.prompt(row) for row in rows]


def test_fingerprint_tells_models_apart(demo: DemoFolder, tmp_path: Path) -> None:
    import shutil

    one = open_checkpoint(str(demo.cases["healthy_decoder"].checkpoint))
    adapter = open_checkpoint(str(demo.cases["healthy_decoder_lora"].checkpoint))
    base = open_checkpoint(str(demo.base_decoder))
    copy = tmp_path / "copy"
    shutil.copytree(demo.cases["healthy_decoder"].checkpoint, copy)
    prints = [model_fingerprint(one), model_fingerprint(base), model_fingerprint(base, adapter)]
    assert len(set(prints)) == 3 and all(p.startswith("sha256:") and len(p) == 23 for p in prints)
    assert model_fingerprint(open_checkpoint(str(copy))) == prints[0], "the place doesn't matter"
    weights = copy / "model.safetensors"
    content = bytearray(weights.read_bytes())
    header = int.from_bytes(content[:8], "little")
    for place in range(8 + header, len(content), 512):  # as a step of training changes all tensors a little
        content[place] ^= 1
    weights.write_bytes(content)
    assert model_fingerprint(open_checkpoint(str(copy))) != prints[0]
