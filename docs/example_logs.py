"""Makes configs/examples/log_*.json: the logs behind the example buttons of the app's tab Logs.

`python docs/example_logs.py` fine-tunes the demo's decoder twice, once as the demo does and once on a few rows a
hundred times over, and writes both trainer_state.json files as they come out.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from pipeline.config_files import load_config  # noqa: E402
from pipeline.demo import cases  # noqa: E402
from pipeline.demo.build import build_demo  # noqa: E402

EXAMPLES = ROOT / "configs" / "examples"
RUNS = {"healthy": None, "few_rows": 64}  # rows of the demo that each is trained on, None for all


def make_log(root: Path, rows: int | None) -> dict[str, Any]:
    """What trainer_state.json says after a fine-tuning of the demo's base on its first `rows` rows, None for all."""
    settings = load_config("demo.yaml")
    schedule = {**settings["schedules"]["sft_decoder"], "log_every": 2, "eval_every": 10}
    settings = {**settings, "schedules": {**settings["schedules"], "sft_decoder": schedule}}
    shop = cases.open_workshop(root, settings, lambda line: print(line, file=sys.stderr))
    model = cases._load_decoder(root / "base_decoder")
    return cases._train_chat(replace(shop, rows=shop.rows[:rows]), model, cases._chat_tokenizer(shop), "sft_decoder")


def main() -> None:
    demo = build_demo(progress=lambda line: print(line, file=sys.stderr), only=["healthy_decoder"])
    for name, rows in RUNS.items():
        state = make_log(demo.root, rows)
        path = EXAMPLES / f"log_{name}.json"
        path.write_text(json.dumps(state, indent=0) + "\n", encoding="utf-8")
        print(path)


if __name__ == "__main__":
    main()
