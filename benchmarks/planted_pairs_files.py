"""Rows of preference sets as files in the layouts people keep them in, files that hold no rows, and a tokenizer."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.planted_pairs_material import HALVES, LANGS, material
from benchmarks.planted_pairs_talk import Row, Turn

ENDINGS = {"array": ".json", "alpaca": ".json", "sharegpt": ".json", "csv": ".csv", "parquet": ".parquet"}
_SHAREGPT = {"user": "human", "assistant": "gpt", "system": "system"}
Record = dict[str, Any]


def write(rows: Sequence[Row], form: str, place: Path, seed: int = 0) -> Path:
    """The rows in one layout. place: without ending. Returns the file."""
    place.parent.mkdir(parents=True, exist_ok=True)
    file = place.with_name(place.name + ENDINGS.get(form, ".jsonl"))
    rng = Random(seed)
    records = [_record(row, form, number, rng) for number, row in enumerate(rows)]
    if form == "csv":
        with file.open("w", encoding="utf-8", newline="") as out:
            table = csv.DictWriter(out, list(records[0]))
            table.writeheader()
            table.writerows(records)
    elif form == "parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.Table.from_pylist(records), file)
    elif file.suffix == ".json":
        file.write_text(json.dumps(records, ensure_ascii=False, indent=2), encoding="utf-8")
    else:
        file.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records), encoding="utf-8")
    return file


def _messages(turns: Sequence[Turn]) -> list[Record]:
    return [{"role": role, "content": text} for role, text in turns]


def _record(row: Row, form: str, number: int, rng: Random) -> Record:
    question = row.question
    turns = _messages(row.prompt)
    answers = [[{"role": "assistant", "content": text}] for text in (row.chosen, row.rejected)]
    if form == "array":
        return {"entry_number": number, "prompt": question, "chosen": row.chosen, "rejected": row.rejected}
    if form == "alpaca":
        asked, _, given = question.partition("\n\n")
        return {"instruction": asked, "input": given, "chosen": row.chosen, "rejected": row.rejected}
    if form == "sharegpt":
        talk = [{"from": _SHAREGPT[role], "value": text} for role, text in row.prompt]
        sides = [{"from": "gpt", "value": text} for text in (row.chosen, row.rejected)]
        return {"conversations": talk, "chosen": sides[0], "rejected": sides[1]}
    if form == "conversational":
        return {"prompt": turns, "chosen": answers[0], "rejected": answers[1]}
    if form == "swift":
        return {"messages": turns + answers[0], "rejected_response": row.rejected}
    if form == "ultrafeedback":
        high, low = row.scores or (8.0, 6.0)
        return {
            "prompt": question, "prompt_id": f"{number:08x}", "chosen": turns + answers[0],
            "rejected": turns + answers[1], "messages": turns + answers[0], "score_chosen": high, "score_rejected": low,
        }  # fmt: skip
    if form == "pku":
        better = rng.randrange(2)
        sides = (row.chosen, row.rejected) if better == 0 else (row.rejected, row.chosen)
        return {"prompt": question, "response_0": sides[0], "response_1": sides[1], "better_response_id": better}
    if form == "kto":
        return {"prompt": question, "completion": row.chosen, "label": row.wanted}
    if form == "hh":
        talk = "".join(f"\n\n{'Human' if role == 'user' else 'Assistant'}: {text}" for role, text in row.prompt)
        return {"chosen": f"{talk}\n\nAssistant: {row.chosen}", "rejected": f"{talk}\n\nAssistant: {row.rejected}"}
    record = {"prompt": question, "chosen": row.chosen, "rejected": row.rejected}
    if row.scores is not None:
        record |= {"score_chosen": row.scores[0], "score_rejected": row.scores[1]}
    return record


# --- files that are no data set, or no longer one


def lfs_pointer(file: Path) -> Path:
    size = file.stat().st_size
    file.write_text(f"version https://git-lfs.github.com/spec/v1\noid sha256:{'9c1e' * 16}\nsize {size}\n")
    return file


def web_page(file: Path) -> Path:
    body = "<p>You need to be logged in to download this file.</p>\n" * 40
    file.write_text(f"<!DOCTYPE html>\n<html><head><title>Sign in</title></head><body>\n{body}</body></html>\n")
    return file


def cut_in_the_middle(file: Path) -> Path:
    """A download that broke off."""
    data = file.read_bytes()
    file.write_bytes(data[: len(data) * 3 // 5])
    return file


def unknown_columns(file: Path) -> Path:
    """Rows of another kind of data under the same name."""
    rows = [{"lon": i * 0.37 - 40, "lat": 50 - i * 0.11, "height": i % 900, "station": i // 7} for i in range(200)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def bytes_of_an_image(file: Path) -> Path:
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + Random(7).randbytes(40_000))
    return file


# --- a tokenizer for what is cut by length

_CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def tokenizer_folder(folder: Path) -> Path:
    """A byte-level BPE of 3,000 pieces made from the material of both halves, with ChatML. Made once."""
    if (folder / "tokenizer_config.json").exists():
        return folder
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

    texts = [
        text for lang in LANGS for half in HALVES for topic in material(lang, half).topics
        for point in topic.points for text in (point.text, point.more, *topic.questions)
    ]  # fmt: skip
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=3000, initial_alphabet=alphabet, show_progress=False)
    )
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in special])
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>",
        "chat_template": _CHATML, "model_max_length": 4096, "clean_up_tokenization_spaces": False,
    }  # fmt: skip
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder
