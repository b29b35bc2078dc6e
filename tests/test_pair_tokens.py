"""Pairs as token ids: the ids and the cut are those of the installed TRL; what is counted is what stands there."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tokenizer_folders import byte_level, chat_folder, t5_folder, unigram
from tokenizers import pre_tokenizers, processors

from pipeline.answer_endings import Endings
from pipeline.demo.build import DemoFolder
from pipeline.pair_token_counts import PairTokens, pair_tokens
from pipeline.pair_tokens import MAX_CHARACTERS, TokenisedPair, TokenisedSample, layout_for, tokenise_pairs
from pipeline.pairs.all_formats import FORMATS
from pipeline.pairs.pair import Pair

Q = "Which colour has a ripe banana?"
# Speaks of thinking only in front of a new answer, as Qwen3's and Gemma 4's do.
THINKING = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n<think>\n\n</think>\n\n' }}{% endif %}"
)
LLAMA = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no system') }}"
    "{% elif m['role'] == 'user' %}{{ '[INST] ' + m['content'] + ' [/INST]' }}"
    "{% else %}{{ ' ' + m['content'] + ' ' + eos_token }}{% endif %}{% endfor %}"
)
TOOLS = (
    "{% for t in tools or [] %}{{ '<|im_start|>tool ' + t['name'] + '<|im_end|>\n' }}{% endfor %}"
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + (m['content'] or '') + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' + ('!' if shout else '') }}{% endif %}"
)


def asked(text: str = Q) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]


def plain_pairs() -> list[Pair]:
    """Rows that every layout can hold."""
    long, longer = "A ripe banana is yellow. " * 4, "A ripe banana is yellow. " * 12
    return [
        Pair(asked(), "A ripe banana is yellow.", "A cherry."),
        Pair(asked(), "same", "same"),
        Pair(asked(), "", "The train leaves at 7:45."),
        Pair(asked(), "Yellow.", ""),
        Pair(asked(), "", ""),
        Pair(asked("List "), "five kinds", "$12.50"),  # the space may merge with what follows
        Pair(asked("The train costs $"), "12.50", "1"),
        Pair(asked(""), "Answer in one word.", "A"),
        Pair(asked(longer), "Yellow.", "Red."),  # the prompt alone fills short limits
        Pair(asked(long), long + "yes", long + "no"),  # the difference lies at the end
        Pair(asked("列出五种不同的水果。"), "苹果、香蕉、橘子、菠萝、草莓。", "火车七点四十五分出发。"),
        Pair(asked(), "Yellow.<|im_end|>", "Red.</s>"),  # the end is written already
        Pair(asked(), "Yellow.<|im_end|>\n", "Red.</s> "),
        Pair(asked(), "Yellow.[EOS]", "Red 🍌 <|unknown|>"),
        Pair(asked(), "\n\n Yellow. \n", "\tRed"),
        Pair(asked(), longer, "short"),
    ]


def conversations() -> list[Pair]:
    """Rows of several turns."""
    earlier = [*asked("List five kinds of fruit."), {"role": "assistant", "content": "Apples."}, *asked("And?")]
    call = {"role": "assistant", "content": "The train"}
    return [
        Pair(earlier, "Bananas.", "Cherries."),
        Pair(asked(), [call, {"role": "user", "content": "Which?"}, {"role": "assistant", "content": "7:45."}],
             [call, {"role": "user", "content": "Which?"}, {"role": "assistant", "content": "80."}]),
        Pair(asked(), [call], [call, {"role": "user", "content": "Which?"}]),
    ]  # fmt: skip


def with_system() -> list[Pair]:
    return [Pair(asked(), "Yellow.", "Red.", system="Answer in one word.")]


def with_variables() -> list[Pair]:
    """Tools and template variables as the row's own columns."""
    extra = {"tools": '[{"name": "train"}]', "chat_template_kwargs": {"shout": True}}
    return [Pair(asked(), "Yellow.", "Red.", extra=extra), Pair(asked("And?"), "12", "1", extra=extra)]


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory, demo: DemoFolder) -> Callable[[str], Any]:
    root, made = tmp_path_factory.mktemp("tokenizers"), dict[str, Any]()

    def load(name: str) -> Any:
        if name not in made:
            made[name] = Slow() if name == "slow" else loaded(_folder(root / name, name, demo))
        return made[name]

    return load


def loaded(folder: Path) -> Any:
    """The tokenizer as its file has it; the class of a model would build its own splitting of text."""
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast.from_pretrained(folder)


def _folder(at: Path, name: str, demo: DemoFolder) -> Path:
    if name == "demo_decoder":
        return demo.cases["healthy_decoder"].checkpoint
    if name == "demo_t5":
        return demo.cases["healthy_t5"].checkpoint
    if name == "thinking":
        return chat_folder(at, tokenizer_config={"chat_template": THINKING})
    if name == "tools":
        return chat_folder(at, tokenizer_config={"chat_template": TOOLS})
    if name == "llama":  # puts a start token before text, and the template writes its own
        tokenizer = byte_level("<s>", "</s>")
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))]
        )
        return chat_folder(at, tokenizer=tokenizer, config={"eos_token_id": None}, generation_config={"eos_token_id": None, "pad_token_id": None}, tokenizer_config={
            "bos_token": "<s>", "eos_token": "</s>", "pad_token": None, "chat_template": LLAMA, "model_input_names": ["input_ids", "attention_mask"],
        })  # fmt: skip
    if name == "unigram":  # metaspace, an end token put behind every text, no template
        return t5_folder(at)
    if name == "prepends":  # a space before the text, and before each piece between tokens
        tokenizer = byte_level("<|endoftext|>", "<|im_start|>", "<|im_end|>")
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
        tokenizer.enable_truncation(max_length=8)  # what a tokenizer.json may declare is no cut of the trainer
        tokenizer.enable_padding(length=16)
        return chat_folder(at, tokenizer=tokenizer)
    return chat_folder(at)


class Slow:
    """A tokenizer written in Python, with the vocabulary of bytes: what is batched elsewhere is not here."""

    def __new__(cls) -> Any:
        from tokenizer_folders import CHATML
        from transformers import ByT5Tokenizer

        made = ByT5Tokenizer(eos_token="</s>")
        made.chat_template = CHATML
        return made


@pytest.fixture(scope="module")
def of_trl() -> Iterator[Callable[..., Any]]:
    """What the installed TRL makes of records: its own preparation and its own collator."""
    import trl
    from accelerate import PartialState
    from datasets import Dataset, disable_progress_bars
    from trl.trainer.dpo_trainer import DataCollatorForPreference

    disable_progress_bars()
    PartialState(cpu=True)

    def prepare(tokenizer: Any, records: list[dict[str, Any]], max_length: int | None, mode: str) -> Any:
        trainer = trl.DPOTrainer.__new__(trl.DPOTrainer)
        trainer._tokenizer = tokenizer
        args = trl.DPOConfig("unused", max_length=max_length, truncation_mode=mode, use_cpu=True, bf16=False, report_to=[])
        rows = Dataset.from_list([{**record, "position": n} for n, record in enumerate(records)])
        return trainer._prepare_dataset(rows, tokenizer, args, "train")

    def collate(rows: Any, max_length: int | None, mode: str) -> list[tuple[list[int], list[int]]]:
        """(ids, completion mask) of all chosen, then of all rejected."""
        made = DataCollatorForPreference(pad_token_id=0, max_length=max_length, truncation_mode=mode)(list(rows))
        return [
            (ids[attention == 1].tolist(), mask[attention == 1].tolist())
            for ids, attention, mask in zip(made["input_ids"], made["attention_mask"], made["completion_mask"], strict=True)
        ]

    prepare.collate = collate  # type: ignore[attr-defined]
    yield prepare


CASES = [
    ("chatml", "trl-conversational"), ("chatml", "trl-implicit"), ("chatml", "trl"), ("demo_decoder", "trl-conversational"),
    ("demo_decoder", "trl"), ("thinking", "trl-conversational"), ("llama", "trl-conversational"), ("llama", "trl"),
    ("unigram", "trl"), ("demo_t5", "trl"), ("prepends", "trl"), ("prepends", "trl-conversational"),
    ("tools", "trl-conversational"), ("slow", "trl"), ("slow", "trl-conversational"),
]  # fmt: skip
CUTS = [(m, mode) for m in (1, 7, 24, 60, 1024) for mode in ("keep_start", "keep_end")]


def rows_for(name: str, layout: str) -> list[Pair]:
    rows = plain_pairs()
    if layout != "trl":
        rows += conversations()
        rows += with_system() if name != "llama" else []
    return with_variables() if name == "tools" else rows


@pytest.mark.parametrize(("name", "layout"), CASES)
def test_ids_and_cut_are_those_of_trl(
    name: str, layout: Any, tokenizers: Callable[[str], Any], of_trl: Callable[..., Any]
) -> None:
    tokenizer = tokenizers(name)
    pairs = rows_for(name, layout)
    records = [record for pair in pairs for record in FORMATS[layout].write(pair).records]
    theirs = of_trl(tokenizer, records, None, "keep_start")
    ours = list(tokenise_pairs(pairs, tokenizer, layout=layout, max_length=None))
    assert [one.problem for one in ours] == [""] * len(pairs)
    for row, one in zip(theirs, ours, strict=True):
        assert (row["prompt_ids"], row["chosen_ids"], row["rejected_ids"]) == (
            list(one.prompt), list(one.chosen), list(one.rejected)
        ), one.pair  # fmt: skip
    for max_length, mode in CUTS:
        ours = list(tokenise_pairs(pairs, tokenizer, layout=layout, max_length=max_length, truncation_mode=mode))
        left = [one for one in ours if not one.dropped]
        assert (mode, len(left)) == ("keep_end", len(pairs)) or mode == "keep_start"
        rows = [theirs[one.position] for one in left]
        if not rows:
            continue
        expected = of_trl.collate(rows, max_length, mode)  # type: ignore[attr-defined]
        kept = [one.kept(side) for side in ("chosen", "rejected") for one in left]
        assert [([*context, *answer], [0] * len(context) + [1] * len(answer)) for context, answer in kept] == expected
    for max_length in (24, 60):  # rows whose prompt alone fills it
        survivors = of_trl(tokenizer, records, max_length, "keep_start")["position"]
        ours = list(tokenise_pairs(pairs, tokenizer, layout=layout, max_length=max_length))
        assert [one.position for one in ours if not one.dropped] == list(survivors)


def test_the_cut_leaves_out_and_keeps_something(tokenizers: Callable[[str], Any]) -> None:
    """The cases above hold rows of every kind: dropped, cut, and whole."""
    made = list(tokenise_pairs(rows_for("chatml", "trl"), tokenizers("chatml"), layout="trl", max_length=24))
    assert 1 <= sum(one.dropped for one in made) < len(made) - 4
    cut = [one for one in made if not one.dropped and one.kept("chosen")[1] != one.chosen]
    assert cut and len(cut) < len(made) - 4


def one_sided() -> list[Pair]:
    return [Pair(asked(), "Yellow.", None), Pair(asked("The train costs $"), None, "12.50")]


def test_one_side_alone_as_ktotrainer_does(tokenizers: Callable[[str], Any], of_trl: Callable[..., Any]) -> None:
    import trl

    tokenizer = tokenizers("prepends")
    trainer = trl.KTOTrainer.__new__(trl.KTOTrainer)
    trainer._tokenizer, trainer.calculate_KL = tokenizer, False
    trainer.desirable_weight = trainer.undesirable_weight = 1.0
    from datasets import Dataset

    records = [{"prompt": p.prompt[0]["content"], "completion": p.chosen or p.rejected, "label": p.chosen is not None} for p in one_sided()]
    args = trl.KTOConfig("unused", max_length=None, use_cpu=True, bf16=False, report_to=[])
    theirs = trainer._prepare_dataset(Dataset.from_list(records), tokenizer, args, "train")
    for row, one in zip(theirs, tokenise_pairs(one_sided(), tokenizer, layout="trl"), strict=True):
        assert (row["prompt_ids"], row["completion_ids"]) == (list(one.prompt), list(one.chosen or one.rejected or ()))
        assert (one.chosen is None, one.rejected is None) == (one.pair.chosen is None, one.pair.rejected is None)


def test_layouts_of_files(tokenizers: Callable[[str], Any]) -> None:
    chat, text = tokenizers("chatml"), tokenizers("unigram")
    assert [layout_for(f, chat) for f in ("trl", "trl-implicit", "kto")] == ["trl", "trl-implicit", "trl-conversational"]
    assert {layout_for(f, text) for f in FORMATS} == {"trl"}


def test_batches_are_read_one_at_a_time_and_change_nothing(tokenizers: Callable[[str], Any]) -> None:
    read = 0

    def counted() -> Iterator[Pair]:
        nonlocal read
        for pair in plain_pairs() * 100:
            read += 1
            yield pair

    tokenizer = tokenizers("chatml")
    stream = tokenise_pairs(counted(), tokenizer)
    first = next(stream)
    assert read <= 300
    alone = [next(tokenise_pairs([pair], tokenizer)) for pair in plain_pairs()]
    together = [first, *stream][: len(alone)]
    assert [(o.prompt, o.chosen, o.rejected) for o in together] == [(o.prompt, o.chosen, o.rejected) for o in alone]


def test_cancel_ends_the_stream(tokenizers: Callable[[str], Any]) -> None:
    cancel = threading.Event()
    stream = tokenise_pairs(plain_pairs() * 100, tokenizers("chatml"), cancel=cancel)
    next(stream)
    cancel.set()
    assert len(list(stream)) < 300


@pytest.mark.parametrize("wrong", [{"max_length": 0}, {"truncation_mode": "middle"}])
def test_settings_trl_has_not(wrong: dict[str, Any], tokenizers: Callable[[str], Any]) -> None:
    with pytest.raises(ValueError):
        next(tokenise_pairs(plain_pairs(), tokenizers("chatml"), **wrong))


# --- bad rows ---


def test_bad_rows_are_named_and_harm_no_other(tokenizers: Callable[[str], Any]) -> None:
    good = Pair(asked(), "Yellow.", "Red.")
    surrogate = Pair(asked(), "half \ud83c", "Red.")
    rows = [
        (good, ""), (Pair(asked(), None, None), "no_sides"), (surrogate, "template_failed"),
        (Pair([], "Yellow.", "Red."), "empty_prompt"), (Pair([], "", None, system="Be brief."), ""),
        (Pair(asked("a" * MAX_CHARACTERS), "Yellow.", "Red."), "too_long"),
        (Pair([{"role": "user"}], "Yellow.", "Red."), "template_failed"),
        (Pair(asked(), "Yellow.", "Red.", extra={"tools": "[not json"}), "template_failed"),
        (Pair(asked(), "Yellow.", "Red.", extra={"chat_template_kwargs": 3}), "template_failed"), (good, ""),
    ]  # fmt: skip
    made = list(tokenise_pairs([pair for pair, _ in rows], tokenizers("chatml")))
    assert [one.problem for one in made] == [problem for _, problem in rows]
    assert all(one.detail for one in made if one.problem == "template_failed")
    assert [one.position for one in made] == list(range(len(rows)))
    assert (made[0].prompt, made[0].chosen) == (made[-1].prompt, made[-1].chosen) and made[0].chosen
    measured = pair_tokens([pair for pair, _ in rows], tokenizers("chatml"))
    assert [measured.problems[code] for code in measured.problem] == [problem for _, problem in rows]
    assert list(measured.n_chosen[[0, 1]]) == [len(made[0].chosen), -1]


def test_what_text_cannot_hold(tokenizers: Callable[[str], Any]) -> None:
    rows = [*conversations(), Pair(asked(), "half \ud83c", "Red.")]
    made = list(tokenise_pairs(rows, tokenizers("chatml"), layout="trl"))
    assert [one.problem for one in made] == [
        "prompt_of_several_turns", "answer_of_several_turns", "answer_of_several_turns", "not_encodable",
    ]  # fmt: skip


def test_a_template_that_refuses_some_rows(tokenizers: Callable[[str], Any]) -> None:
    made = list(tokenise_pairs([*with_system(), *plain_pairs()], tokenizers("llama")))
    assert [one.problem for one in made] == ["template_failed", *[""] * len(plain_pairs())]
    assert "no system" in made[0].detail


def test_a_tokenizer_without_template_or_end(tokenizers: Callable[[str], Any], tmp_path: Path) -> None:
    made = next(tokenise_pairs(plain_pairs(), tokenizers("unigram"), layout="trl-conversational"))
    assert made.problem == "no_chat_template"
    bare = loaded(chat_folder(tmp_path, tokenizer_config={"eos_token": None}))
    assert {one.problem for one in tokenise_pairs(plain_pairs(), bare, layout="trl")} == {"no_end_token"}
    assert {one.problem for one in tokenise_pairs(plain_pairs(), bare)} == {""}


# --- measures ---


def measured(pairs: list[Pair], tokenizer: Any, **settings: Any) -> PairTokens:
    return pair_tokens(pairs, tokenizer, **settings)


def test_a_difference_behind_the_cut(tokenizers: Callable[[str], Any]) -> None:
    tokenizer, start = tokenizers("chatml"), "A ripe banana is yellow. " * 3
    pairs = [Pair(asked(), start + "yes", start + "no"), Pair(asked(), "same", "same"), Pair(asked(), "yes", "no")]
    whole = measured(pairs, tokenizer)
    assert list(whole.same) == list(whole.same_kept) == [False, True, False]
    cut = measured(pairs, tokenizer, max_length=int(whole.n_prompt[0]) + 10)
    assert list(cut.same_kept) == [True, True, False] and list(cut.same) == [False, True, False]
    assert list(cut.kept_chosen) == [10, *whole.n_chosen[1:]]
    # from the left the end stays, and with it the difference
    assert list(measured(pairs, tokenizer, max_length=10, truncation_mode="keep_end").same_kept) == [False, True, False]


def test_a_prompt_that_leaves_no_room(tokenizers: Callable[[str], Any]) -> None:
    tokenizer = tokenizers("chatml")
    pairs = [Pair(asked(Q * 5), "Yellow.", "Red."), Pair(asked(), "Yellow.", "Red.")]
    n = int(measured(pairs, tokenizer).n_prompt[0])
    for max_length, dropped in ((n - 1, True), (n, True), (n + 1, False)):
        found = measured(pairs, tokenizer, max_length=max_length)
        assert list(found.dropped) == [dropped, False] == list(found.nothing_left)
        assert list(found.kept_chosen[:1]) == [0 if dropped else 1]
        assert not found.same_kept[0] or not dropped
    left = measured(pairs, tokenizer, max_length=n, truncation_mode="keep_end")
    assert not left.dropped.any() and list(left.kept_chosen) == list(left.n_chosen)


def test_an_answer_without_tokens(tokenizers: Callable[[str], Any], tmp_path: Path) -> None:
    """A template that writes nothing behind an answer leaves an empty one without a token to learn."""
    bare = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    tokenizer = loaded(chat_folder(tmp_path, tokenizer_config={"chat_template": bare}))
    found = measured([Pair(asked(), "", "Red."), Pair(asked(), "Yellow.", "Red.")], tokenizer)
    assert list(found.nothing_left) == [True, False] and list(found.n_chosen == 0) == [True, False]
    assert not found.closed_rejected.any()
    # with an end behind it the empty answer is its end alone
    assert measured([Pair(asked(), "", "Red.")], tokenizers("chatml")).n_chosen[0] > 0


@pytest.mark.parametrize("layout", ["trl", "trl-conversational"])
def test_an_end_token_cut_off(layout: Any, tokenizers: Callable[[str], Any]) -> None:
    tokenizer = tokenizers("chatml")
    pairs = [Pair(asked(), "A ripe banana is yellow.", "Red.")]
    whole = measured(pairs, tokenizer, layout=layout)
    assert whole.closed_chosen[0] and whole.closed_rejected[0] and not whole.end_cut_chosen[0]
    behind = 0 if layout == "trl" else 1  # the template writes a line break behind the end token
    full = int(whole.n_prompt[0] + whole.n_chosen[0])
    for max_length, cut in ((full, False), (full - behind, False), (full - behind - 1, True)):
        found = measured(pairs, tokenizer, layout=layout, max_length=max_length)
        assert bool(found.end_cut_chosen[0]) is cut and not found.end_cut_rejected[0]
    assert not measured(pairs, tokenizer, layout=layout, max_length=5, truncation_mode="keep_end").end_cut_chosen[0]


def test_an_end_token_that_stands_twice(tokenizers: Callable[[str], Any]) -> None:
    tokenizer = tokenizers("chatml")
    pairs = [
        Pair(asked(), "Yellow.<|im_end|>", "Red."), Pair(asked(), "Yellow.<|im_end|> \n", "Red.<|endoftext|>"),
        Pair(asked(), "<|im_end|> is a token", "Red."),
    ]  # fmt: skip
    chat, text = measured(pairs, tokenizer), measured(pairs, tokenizer, layout="trl")
    assert list(chat.end_doubled_chosen) == [True, True, False]
    assert list(chat.end_doubled_rejected) == [False, True, False]
    # text gets an end token only where it doesn't end with one
    assert list(text.end_doubled_chosen) == [False, True, False]
    assert text.closed_chosen.all() and chat.closed_chosen.all()
    # a tokenizer that closes every text itself, as T5's does, closes what TRL closed already
    assert measured(plain_pairs()[:4], tokenizers("unigram")).end_doubled_chosen.all()
    assert not measured(plain_pairs()[:4], tokenizers("llama")).end_doubled_chosen.any()


def test_two_ends_that_the_template_writes_are_one(tmp_path: Path) -> None:
    """Phi-3's template closes a turn and then the text."""
    phi = (
        "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% else %}{{ '<|endoftext|>' }}{% endif %}"
    )
    tokenizer = loaded(chat_folder(tmp_path, tokenizer_config={"chat_template": phi}))
    assert Endings(tokenizer).written == 2
    found = measured([Pair(asked(), "Yellow.", "Red."), Pair(asked(), "Yellow.<|im_end|>", "Red.")], tokenizer)
    assert list(found.end_doubled_chosen) == [False, True] and found.closed_chosen.all()
    whole = int(found.n_prompt[0] + found.n_chosen[0])
    # the first of the two is what ends the answer
    assert not measured([Pair(asked(), "Yellow.", "Red.")], tokenizer, max_length=whole - 1).end_cut_chosen[0]


def test_an_end_that_is_written_as_characters(tokenizers: Callable[[str], Any]) -> None:
    pairs = [
        Pair(asked(), "Yellow.[EOS]", "Red.</s>\n"), Pair(asked(), "Yellow.<|im_end|>", "Red."),
        Pair(asked(), "[EOS] is a word", "x" * 5000 + "</s>"),
    ]  # fmt: skip
    found = measured(pairs, tokenizers("chatml"))
    assert list(found.end_spelled_chosen) == [True, False, False]
    assert list(found.end_spelled_rejected) == [True, False, True]
    assert found.spelled == {"[EOS]": 1, "</s>": 2}
    t5 = measured(pairs, tokenizers("unigram"))
    assert t5.spelled == {"[EOS]": 1, "<|im_end|>": 1}


def test_a_prompt_whose_tokens_change(tokenizers: Callable[[str], Any]) -> None:
    tokenizer = tokenizers("chatml")
    pairs = [Pair(asked("List "), "five kinds", "five"), Pair(asked("List"), " five kinds", " five")]
    found = measured(pairs, tokenizer, layout="trl")
    assert list(found.not_prefix) == [True, False] and found.prompt_lost[0] == 1
    assert measured(plain_pairs(), tokenizers("thinking")).not_prefix.all()
    assert not measured(plain_pairs(), tokenizer).not_prefix.any()


def test_one_side_is_measured_alone(tokenizers: Callable[[str], Any]) -> None:
    found = measured(one_sided(), tokenizers("chatml"))
    assert list(found.n_rejected == -1) == [True, False] and list(found.n_chosen == -1) == [False, True]
    assert list(found.closed_chosen) == [True, False]
    assert not (found.nothing_left | found.same | found.same_kept).any()


def test_measures_of_nothing(tokenizers: Callable[[str], Any]) -> None:
    found = measured([], tokenizers("chatml"))
    assert len(found) == 0 and found.n_prompt.shape == found.dropped.shape == (0,)


def test_many_rows_and_progress(tokenizers: Callable[[str], Any]) -> None:
    told: list[int] = []
    pairs = plain_pairs() * 300
    found = measured(pairs, tokenizers("chatml"), progress=told.append)
    assert len(found) == len(pairs) == told[-1] and told[0] == 4096
    assert found.n_chosen[: len(plain_pairs())].tolist() == found.n_chosen[-len(plain_pairs()) :].tolist()
    assert found.n_chosen.dtype.name == "int32" and found.same.dtype.name == "bool"


# --- encoder-decoder ---


@pytest.mark.parametrize("name", ["unigram", "demo_t5"])
def test_encoder_decoder_encodes_apart(name: str, tokenizers: Callable[[str], Any]) -> None:
    tokenizer = tokenizers(name)
    pairs = [Pair(asked(), "Yellow.", "Red."), Pair(asked(Q * 8), "A ripe banana is yellow. " * 4, "")]
    made = list(tokenise_pairs(pairs, tokenizer, max_length=8, encoder_decoder=True))
    for one, pair in zip(made, pairs, strict=True):
        assert list(one.prompt) == tokenizer(pair.prompt[0]["content"]).input_ids
        assert list(one.chosen) == tokenizer(text_target=pair.chosen).input_ids
        assert one.chosen[-1] == one.rejected[-1] == tokenizer.eos_token_id
        assert one.kept("chosen") == (one.prompt[:8], one.chosen[:8])
    found = measured(pairs, tokenizer, max_length=8, encoder_decoder=True)
    assert not found.dropped.any() and not found.not_prefix.any() and not found.end_doubled_chosen.any()
    assert list(found.end_cut_chosen) == [False, True] and found.closed_chosen.all()
    assert list(found.n_rejected[1:]) == [1] == list(found.kept_rejected[1:])
    back = measured(pairs, tokenizer, max_length=8, truncation_mode="keep_end", encoder_decoder=True)
    assert not back.end_cut_chosen.any() and list(back.kept_chosen) == list(found.kept_chosen)


def test_encoder_decoder_whose_tokenizer_writes_no_end(tokenizers: Callable[[str], Any], tmp_path: Path) -> None:
    tokenizer = unigram()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A", special_tokens=[])
    without = loaded(t5_folder(tmp_path, tokenizer=tokenizer))
    rows = [Pair(asked(), "Yellow.", "Red.</s>")]
    found = measured(rows, without, encoder_decoder=True)
    assert found.closed_chosen.all() and found.closed_rejected.all() and not found.end_doubled_rejected.any()
    assert measured(rows, tokenizers("unigram"), encoder_decoder=True).end_doubled_rejected.all()


# --- a sample for a model ---


def test_sample_is_fair_and_repeats(tokenizers: Callable[[str], Any]) -> None:
    from collections import Counter

    made = list(tokenise_pairs([Pair(asked(), f"{n}", "no") for n in range(40)], tokenizers("chatml")))
    counted: Counter[int] = Counter()
    for seed in range(200):
        sample = TokenisedSample(8, seed)
        assert list(sample.passing(made)) == made
        positions = [one.position for one in sample.pairs]
        assert len(set(positions)) == 8 and positions == sorted(positions)
        counted.update(positions)
    assert set(counted) == set(range(40)) and max(counted.values()) < 3 * min(counted.values())  # 40 expected of each
    again = TokenisedSample(8, 3), TokenisedSample(8, 3)
    assert [[o.position for o in s.pairs] for s in again if list(s.passing(made))][0] == [o.position for o in again[1].pairs]


def test_sample_leaves_out_what_cannot_be_asked(tokenizers: Callable[[str], Any]) -> None:
    sample = TokenisedSample(10)
    rows = [Pair(asked(), "Yellow.", "Red."), Pair(asked(Q * 20), "a", "b"), *one_sided(), Pair(asked(), None, None)]
    pair_tokens(rows, tokenizers("chatml"), max_length=60, sample=sample)
    assert [one.position for one in sample.pairs] == [0]
    assert sample.left_out == {"dropped": 1, "one_side_only": 2, "no_sides": 1}
    nothing = TokenisedPair(Pair(asked(), "", "b"), 0, (1,), (), (2,))
    sample.add(nothing)
    assert sample.left_out["nothing_left"] == 1
