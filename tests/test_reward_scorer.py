"""Reward models score and embedding models compare as the plain computation of one text at a time does."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_answering_models import ROWS, TEMPLATE
from tiny_answering_models import _tokenizer as tiny_tokenizer

from pipeline.candidates.candidate import SourceRow
from pipeline.candidates.embedder import load_embedder
from pipeline.candidates.reward_scorer import RewardScorer
from pipeline.checkpoint import open_checkpoint
from pipeline.load_model import LoadedModel, ModelNotLoaded, load_model
from pipeline.pairs.pair import Pair

ANSWERS = ["苹果、香蕉。", "red", "The three primary colors are red, yellow and blue. " * 3, "", "red"]


def row(question: str, system: str | None = None) -> SourceRow:
    return SourceRow(0, Pair([{"role": "user", "content": question}], None, None, system))


def llama_config(rows: int, **more: Any) -> Any:
    from transformers import LlamaConfig

    return LlamaConfig(vocab_size=rows, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
                       max_position_embeddings=256, bos_token_id=None, eos_token_id=1, **more)  # fmt: skip


def saved(model: Any, folder: Path, tokenizer: Any = None, template: str | None = TEMPLATE) -> Path:
    for name, parameter in model.named_parameters():  # the head of a new model gives numbers near 0
        if any(part in name for part in ("score", "classifier", "classification_head")):
            torch.nn.init.normal_(parameter)
    model.eval().save_pretrained(folder)
    tokenizer = tokenizer or tiny_tokenizer()
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Reward models of every form: a decoder with and without padding id, an encoder, an encoder-decoder."""
    from transformers import (
        BertConfig,
        BertForSequenceClassification,
        LlamaForSequenceClassification,
        T5Config,
        T5ForSequenceClassification,
    )

    torch.manual_seed(3)
    rows, root = len(tiny_tokenizer()), tmp_path_factory.mktemp("rewards")
    bert = BertConfig(vocab_size=rows, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
                      max_position_embeddings=128, initializer_range=0.3, num_labels=2, id2label={0: "Good", 1: "bad"},
                      label2id={"Good": 0, "bad": 1})  # fmt: skip
    t5 = T5Config(vocab_size=rows, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4, num_labels=1,
                  decoder_start_token_id=0, eos_token_id=1, pad_token_id=0, dropout_rate=0.0)  # fmt: skip
    pairs = tiny_tokenizer()
    pairs.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]
    return {
        "padded": saved(LlamaForSequenceClassification(llama_config(rows, num_labels=1, pad_token_id=0)), root / "padded"),
        "no_pad": saved(LlamaForSequenceClassification(llama_config(rows, num_labels=1)), root / "no_pad"),
        "joined": saved(LlamaForSequenceClassification(llama_config(rows, num_labels=1)), root / "joined", None, None),
        # the padding is the end token, as TRL leaves it where a tokenizer has no other: read before the last end token
        "end_pads": saved(LlamaForSequenceClassification(llama_config(rows, num_labels=1, pad_token_id=1)), root / "ends"),
        "bert": saved(BertForSequenceClassification(bert), root / "bert", pairs, None),
        "t5": saved(T5ForSequenceClassification(t5), root / "t5", None, None),
    }


OPEN: list[RewardScorer] = []


def scorer_of(model: LoadedModel) -> RewardScorer:
    OPEN.append(RewardScorer(model))
    return OPEN[-1]


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    """Ends the processes that render after each test."""
    yield
    while OPEN:
        OPEN.pop().close()


def loaded(folder: Path, **how: Any) -> LoadedModel:
    return load_model(open_checkpoint(str(folder)), head="reward", **how)


def plain_score(kind: str, folder: Path, question: str, answer: str) -> float:
    """The library's own class on one text, without any padding."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    if kind == "bert":
        logits = model(**tokenizer(question, answer, return_tensors="pt")).logits[0]
        return float(logits[0] - logits[1])
    if kind in ("joined", "t5"):
        text = question + answer + "</s>"
        return float(model(**tokenizer(text, return_tensors="pt")).logits[0, 0])
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    ids = tokenizer.apply_chat_template(turns, return_tensors="pt", return_dict=True)["input_ids"]
    return float(model(input_ids=ids).logits[0, 0])


@pytest.mark.parametrize("kind", ["padded", "no_pad", "joined", "end_pads", "bert", "t5"])
def test_scores_equal_one_text_at_a_time(folders: dict[str, Path], kind: str) -> None:
    scorer = scorer_of(loaded(folders[kind]))
    assert scorer.form == {"bert": "text_pair", "joined": "joined", "t5": "joined"}.get(kind, "chat_template")
    for question, _ in ROWS[:2]:
        scores = scorer.score(row(question), ANSWERS)
        wanted = [plain_score(kind, folders[kind], question, answer) for answer in ANSWERS]
        assert scores == pytest.approx(wanted, abs=1e-4)
        assert len({round(score, 3) for score in scores}) == 4 and scores[1] == scores[4]
    assert not scorer.unscored


def test_other_rows_do_not_change_a_score(folders: dict[str, Path]) -> None:
    scorer = scorer_of(loaded(folders["padded"]))
    alone = scorer.score(row(ROWS[0][0]), ANSWERS)
    scorer.score(row(ROWS[1][0] * 4), ANSWERS)
    assert scorer.score(row(ROWS[0][0]), ANSWERS) == alone  # to the last bit
    pieces = [piece for question, _ in ROWS for piece in scorer.reward_pieces(row(question), ANSWERS)]
    told: list[int] = []
    together = scorer.score_pieces(pieces, progress=told.append)
    assert together[: len(ANSWERS)] == pytest.approx(alone, abs=1e-4) and told[-1] == len(set(pieces)) == 64


def test_system_text_is_read(folders: dict[str, Path]) -> None:
    for kind in ("padded", "bert"):
        scorer = scorer_of(loaded(folders[kind]))
        with_system = scorer.score(row("Name three primary colors.", "Answer in one word."), ["red"])
        assert abs(with_system[0] - scorer.score(row("Name three primary colors."), ["red"])[0]) > 1e-3


def test_nothing_is_cut_and_every_missing_score_has_a_reason(folders: dict[str, Path], tmp_path: Path) -> None:
    scorer = scorer_of(loaded(folders["padded"]))
    long, short = scorer.score(row("列出5种不同的水果。"), ["苹果" * 400, "苹果"])
    assert math.isnan(long) and math.isfinite(short) and scorer.unscored == {"too_long": 1}
    assert scorer.reward_pieces(row("q"), ["苹果" * 400])[0].detail.endswith("> 256")
    broken = shutil.copytree(folders["padded"], tmp_path / "broken")
    (broken / "chat_template.jinja").write_text("{{ raise_exception('users only') }}")
    scorer = scorer_of(loaded(broken))
    assert math.isnan(scorer.score(row("q"), ["a"])[0]) and scorer.unscored == {"template_failed": 1}
    from safetensors.torch import load_file, save_file

    state = load_file(broken / "model.safetensors")
    state["score.weight"][0, 0] = math.nan
    save_file(state, broken / "model.safetensors", {"format": "pt"})
    (broken / "chat_template.jinja").write_text(TEMPLATE)
    scorer = scorer_of(loaded(broken))
    assert math.isnan(scorer.score(row("q"), ["a"])[0]) and scorer.unscored == {"weights_not_finite": 1}


def test_overflow_is_told_from_broken_weights(folders: dict[str, Path], tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(folders["padded"], tmp_path / "large")
    state = load_file(folder / "model.safetensors")
    state["model.norm.weight"] *= 1000
    sound = state["score.weight"] / 1000

    def reasons(value: float, dtype: str) -> dict[str, int]:
        state["score.weight"] = sound.clone()
        state["score.weight"][0, 0] = value
        save_file(state, folder / "model.safetensors", {"format": "pt"})
        with RewardScorer(load_model(open_checkpoint(str(folder)), head="reward", dtype=dtype)) as scorer:
            [score] = scorer.score(row("q"), ["a"])
            assert math.isnan(score) == bool(scorer.unscored)
            return dict(scorer.unscored)

    assert reasons(1e5, "float16") == {"overflow": 1} and reasons(1e5, "float32") == {}
    assert reasons(3e38, "float32") == {"overflow": 1}  # sound weights, an infinite reward
    assert reasons(math.inf, "float32") == reasons(math.nan, "float32") == {"weights_not_finite": 1}
    assert reasons(math.nan, "float16") == {"weights_not_finite": 1}


def test_head_of_an_adapter(folders: dict[str, Path], tmp_path: Path) -> None:
    """LoRA on a base that writes, its head in modules_to_save: scores as PEFT's own model gives them; without the
    head in the files, or on the base alone, it would be random."""
    from peft import LoraConfig, get_peft_model
    from safetensors.torch import load_file, save_file
    from transformers import LlamaForCausalLM, LlamaForSequenceClassification

    torch.manual_seed(5)
    tokenizer = tiny_tokenizer()
    base = saved(LlamaForCausalLM(llama_config(len(tokenizer), pad_token_id=0)), tmp_path / "base")
    model = LlamaForSequenceClassification.from_pretrained(base, num_labels=1)
    adapted = get_peft_model(model, LoraConfig(r=4, target_modules=["q_proj"], task_type="SEQ_CLS"))
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter)
    adapted.eval().save_pretrained(tmp_path / "adapter")
    scorer = scorer_of(loaded(tmp_path / "adapter", base=open_checkpoint(str(base))))
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "red"}]
    ids = tokenizer.apply_chat_template(turns, return_tensors="pt", return_dict=True)["input_ids"]
    assert scorer.score(row("q"), ["red"]) == pytest.approx([float(adapted(input_ids=ids).logits[0, 0])], abs=1e-4)
    headless = shutil.copytree(tmp_path / "adapter", tmp_path / "headless")
    state = {k: v for k, v in load_file(headless / "adapter_model.safetensors").items() if "score" not in k}
    save_file(state, headless / "adapter_model.safetensors", {"format": "pt"})
    for folder, given in ((headless, {"base": open_checkpoint(str(base))}), (base, {})):
        with pytest.raises(ModelNotLoaded, match=r"head_random: score\.weight"):
            loaded(folder, **given)
    with pytest.raises(ModelNotLoaded, match="no_adapter_base"):
        loaded(tmp_path / "adapter")


def test_what_is_no_reward_model(folders: dict[str, Path], tmp_path: Path) -> None:
    def changed(name: str, source: str, **settings: Any) -> Path:
        made = shutil.copytree(folders[source], tmp_path / name)
        config = json.loads((made / "config.json").read_text())
        (made / "config.json").write_text(json.dumps(config | settings))
        return made

    with pytest.raises(ModelNotLoaded, match="labels_unclear: 2: LABEL_0, LABEL_1"):
        scorer_of(loaded(changed("two", "bert", id2label={"0": "LABEL_0", "1": "LABEL_1"}, label2id={})))
    with pytest.raises(ModelNotLoaded, match="needs_remote_code"):
        loaded(changed("own", "padded", architectures=["Qwen2ForRewardModel"], auto_map={"AutoModel": "m.X"}))
    with pytest.raises(ModelNotLoaded, match="no_reward_head"):
        scorer_of(load_model(open_checkpoint(str(folders["padded"])), head="embedding"))
    with pytest.raises(ModelNotLoaded, match="parts_random"):
        loaded(changed("deep", "padded", num_hidden_layers=3))
    with pytest.raises(ModelNotLoaded, match="no_generation_head"):
        load_model(open_checkpoint(str(folders["padded"])))
    # a configuration that leaves out the number of labels: that of the head in the files
    unsaid = changed("unsaid", "padded", id2label=None, label2id=None)
    assert scorer_of(loaded(unsaid)).score(row("q"), ["a"]) == scorer_of(loaded(folders["padded"])).score(row("q"), ["a"])
    silent = tmp_path / "silent"
    shutil.copytree(folders["padded"], silent, ignore=shutil.ignore_patterns("tokenizer*", "*.jinja"))
    with pytest.raises(ModelNotLoaded, match="no_tokenizer"):
        scorer_of(loaded(silent))


def test_every_reason_has_words() -> None:
    named = (ModelNotLoaded.__doc__ or "").partition(":\n")[2].replace(".", "").split(",")
    reasons = [name.strip() for name in named]
    assert len(reasons) > 12 and "head_random" in reasons
    for reason in reasons:
        said = [ModelNotLoaded(reason, "score.weight").sentence.said(lang) for lang in ("en", "zh")]
        assert said[0] != said[1]


# --- embeddings ---


@pytest.fixture(scope="module")
def embedders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    from transformers import BartConfig, BartModel, BertConfig, BertForMaskedLM, LlamaForCausalLM, T5Config
    from transformers import T5ForConditionalGeneration as T5

    torch.manual_seed(4)
    rows, root = len(tiny_tokenizer()), tmp_path_factory.mktemp("embedders")
    bert = BertConfig(vocab_size=rows, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
                      max_position_embeddings=64)  # fmt: skip
    t5 = T5Config(vocab_size=rows, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4, dropout_rate=0.0)
    bart = BartConfig(vocab_size=rows, d_model=32, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4,
                      decoder_attention_heads=4, encoder_ffn_dim=64, decoder_ffn_dim=64, pad_token_id=0, dropout=0.0,
                      max_position_embeddings=128)  # fmt: skip
    return {
        "bert": saved(BertForMaskedLM(bert), root / "bert"), "t5": saved(T5(t5), root / "t5"),
        "llama": saved(LlamaForCausalLM(llama_config(rows)), root / "llama"),
        "bart": saved(BartModel(bart), root / "bart"),
    }  # fmt: skip


def plain_states(kind: str, folder: Path, text: str, most: int | None = None) -> Any:
    """Last hidden states of one text, (tokens, width)."""
    from transformers import AutoModel, AutoTokenizer, T5EncoderModel

    model = (T5EncoderModel if kind == "t5" else AutoModel).from_pretrained(folder).eval()
    model = model.get_encoder() if kind == "bart" else model
    ids = AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt").input_ids
    with torch.no_grad():
        return model(input_ids=ids[:, :most]).last_hidden_state[0]


def cosine(left: Any, right: Any) -> float:
    return float(torch.nn.functional.cosine_similarity(left, right, dim=0))


@pytest.mark.parametrize("kind", ["bert", "t5", "llama", "bart"])
def test_mean_of_last_hidden_states(embedders: dict[str, Path], kind: str) -> None:
    embedder = load_embedder(str(embedders[kind]))
    questions, answers = [q for q, _ in ROWS[:6]], [a for _, a in ROWS[:6]]
    wanted = [
        cosine(plain_states(kind, embedders[kind], q).mean(0), plain_states(kind, embedders[kind], a).mean(0))
        for q, a in zip(questions, answers, strict=True)
    ]
    assert embedder.similarity(questions, answers) == pytest.approx(wanted, abs=1e-5)
    assert embedder.embed(["a", "b"]).norm(dim=1).tolist() == pytest.approx([1, 1], abs=1e-5)
    assert embedder.similarity(["a", "a"], ["a", ""])[0] == pytest.approx(1) and embedder.truncated == 0
    assert math.isnan(embedder.similarity(["a"], [""])[0]) and embedder.similarity([], []) == []


def test_a_long_text_is_cut_and_counted(embedders: dict[str, Path]) -> None:
    embedder = load_embedder(str(embedders["bert"]))
    long = "苹果香蕉" * 60
    found = embedder.similarity(["red"], [long])
    states = plain_states("bert", embedders["bert"], long, 64).mean(0)
    assert found == pytest.approx([cosine(plain_states("bert", embedders["bert"], "red").mean(0), states)], abs=1e-5)
    assert embedder.truncated == 1


def sentence_folder(root: Path, source: Path, *, path: str, pooling: dict[str, Any], prompts: dict[str, str]) -> Path:
    from safetensors.torch import save_file

    root.mkdir()
    shutil.copytree(source, root / path if path else root, dirs_exist_ok=True)
    types = [("Transformer", path), ("Pooling", "1_Pooling"), ("Dense", "2_Dense"), ("Normalize", "3_Normalize")]
    modules = [{"idx": i, "name": str(i), "path": p, "type": f"sentence_transformers.models.{t}"} for i, (t, p) in enumerate(types)]
    (root / "modules.json").write_text(json.dumps(modules))
    (root / "config_sentence_transformers.json").write_text(json.dumps({"prompts": prompts}))
    for name, config in (("1_Pooling", pooling), ("2_Dense", {"activation_function": "torch.nn.modules.activation.Tanh"})):
        (root / name).mkdir()
        (root / name / "config.json").write_text(json.dumps(config))
    torch.manual_seed(6)
    width = 32 * sum(value is True for key, value in pooling.items() if key.startswith("pooling_mode"))
    save_file({"linear.weight": torch.randn(8, width), "linear.bias": torch.randn(8)}, root / "2_Dense" / "model.safetensors")
    return root


@pytest.mark.parametrize("path", ["", "0_Transformer"])
def test_a_sentence_transformers_folder_decides(embedders: dict[str, Path], tmp_path: Path, path: str) -> None:
    from safetensors.torch import load_file

    made = sentence_folder(
        tmp_path / "made", embedders["bert"], path=path,
        pooling={"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True, "include_prompt": False},
        prompts={"query": "question: ", "document": ""},
    )  # fmt: skip
    place = made / path if path else made
    (place / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 12}))
    embedder = load_embedder(str(made))
    assert embedder.how.pooling == ("cls", "mean") and embedder.limit == 12
    asked_text = "red and blue"
    asked, answered = plain_states("bert", place, f"question: {asked_text}"), plain_states("bert", place, ROWS[9][1] * 2, 12)
    skipped = len(plain_states("bert", place, "question: "))
    dense = load_file(made / "2_Dense" / "model.safetensors")

    def vector(states: Any, first: int) -> Any:
        whole = torch.cat([states[0], states[first:].mean(0)])
        return torch.tanh(dense["linear.weight"] @ whole + dense["linear.bias"])

    wanted = cosine(vector(asked, skipped), vector(answered, 0))
    assert embedder.similarity([asked_text], [ROWS[9][1] * 2]) == pytest.approx([wanted], abs=1e-5)
    assert embedder.truncated == 1


def test_other_poolings(embedders: dict[str, Path], tmp_path: Path) -> None:
    states = {text: plain_states("bert", embedders["bert"], text) for text in ("red", ROWS[1][1])}

    def weighted(s: Any) -> Any:
        return (s * torch.arange(1, len(s) + 1)[:, None]).sum(0)

    by_hand = {"max": lambda s: s.amax(0), "lasttoken": lambda s: s[-1], "weightedmean": weighted,
               "mean_sqrt_len_tokens": lambda s: s.mean(0), "cls": lambda s: s[0]}  # fmt: skip
    for name, pooled in by_hand.items():
        made = shutil.copytree(embedders["bert"], tmp_path / name)
        (made / "modules.json").write_text(json.dumps([
            {"path": "", "type": "sentence_transformers.models.Transformer"},
            {"path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
        ]))  # fmt: skip
        (made / "1_Pooling").mkdir()
        (made / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode": name}))
        left, right = (pooled(s) for s in states.values())
        assert load_embedder(str(made)).similarity(["red"], [ROWS[1][1]]) == pytest.approx([cosine(left, right)], abs=1e-5)


def test_parts_that_are_not_known(embedders: dict[str, Path], tmp_path: Path) -> None:
    made = shutil.copytree(embedders["bert"], tmp_path / "made")
    for listed in ('[{"path": "", "type": "own.Module"}]', '[{"path": "../bert", "type": "a.Transformer"}]', '{"a": 1}', "[",
                   '[{"path": "missing", "type": "a.Pooling"}]', "[3]"):  # fmt: skip
        (made / "modules.json").write_text(listed)
        with pytest.raises(ModelNotLoaded, match="unknown_modules"):
            load_embedder(str(made))
    (made / "modules.json").unlink()
    (made / "config.json").write_text(json.dumps(json.loads((made / "config.json").read_text()) | {"num_hidden_layers": 3}))
    with pytest.raises(ModelNotLoaded, match="parts_random"):
        load_embedder(str(made))
