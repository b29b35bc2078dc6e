"""All checks of a preference set that need no model, against one MinHash pass over the same texts by a script.

Prints ratios of one run: time against the pass, growth of time with rows, memory, and how many of the planted
near-duplicates are named. `--rows 500000` for the large set.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

CHARACTERS = 400  # a side
NEAR = 0.03  # of the rows are copies of earlier ones with four characters changed
_COMMON = (
    "time|person|year|way|day|thing|man|world|life|hand|part|child|eye|woman|place|work|week|case|point|government|"
    "company|number|group|problem|fact|water|room|mother|area|money|story|month|lot|right|study|book|word|business|"
    "side|kind|head|house|service|friend|father|power|hour|game|line|end|member|law|car|city|community|name|president|"
    "minute|idea|body|information|back|parent|face|others|level|office|door|health|art|war|history|party|result|change|"
    "morning|reason|research|girl|guy|moment|air|teacher|force|education|issue|team"
)
_WORDS = _COMMON.split("|")


def write_pairs(path: Path, rows: int) -> list[int]:
    """Half Chinese, half English, none on the topic of another. Returns the rows that are near-copies."""
    rng = random.Random(1)
    han = [chr(0x4E00 + n) for n in range(3000)]

    def text(chinese: bool, size: int) -> str:
        if chinese:
            return "".join(rng.choices(han, k=size))
        return " ".join(rng.choices(_WORDS, k=size // 6))[:size]

    kept: list[dict[str, str]] = []
    copies = []
    with open(path, "w", encoding="utf-8") as file:
        for row in range(rows):
            if kept and rng.random() < NEAR:
                pair = dict(rng.choice(kept))
                letters = list(pair["chosen"])
                for _ in range(4):
                    letters[rng.randrange(len(letters))] = rng.choice(han)
                pair["chosen"] = "".join(letters)
                copies.append(row)
            else:
                prompt = text(row % 2 == 0, 60)
                pair = {side: prompt[:20] + text(row % 2 == 0, CHARACTERS - 20) for side in ("chosen", "rejected")}
                pair = {"prompt": prompt, **pair}
                if len(kept) < 5000:
                    kept.append(pair)
            file.write(json.dumps(pair, ensure_ascii=False) + "\n")
    return copies


def minhash_pass(path: Path) -> float:
    """Seconds for signatures of both answers and a look-up of each, as a script with the same library does it."""
    import rensa

    started = time.perf_counter()
    index = rensa.RMinHashLSH(0.7, 128, 32)
    with open(path, encoding="utf-8") as file:
        for row, line in enumerate(file):
            pair = json.loads(line)
            text = f"{pair['chosen']}\n{pair['rejected']}"
            signature = rensa.RMinHash(128, 42)
            signature.update(list({text[i : i + 4] for i in range(len(text) - 3)}))
            index.query(signature)
            index.insert(row, signature)
    return time.perf_counter() - started


def checks(path: Path) -> dict[str, object]:
    """Seconds, peak memory in MiB and the near-duplicates named, measured in a process of its own."""
    done = subprocess.run([sys.executable, __file__, "--child", str(path)], capture_output=True, text=True, check=True)
    found: dict[str, object] = json.loads(done.stdout)
    return found


def child(path: Path) -> None:
    from diagnostics.diagnose_pairs import diagnose_pairs

    started = time.perf_counter()
    diagnosis = diagnose_pairs(path)
    seconds = time.perf_counter() - started
    near = diagnosis.rows.get("PRF005/nearly_repeated", [])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "mib": peak, "near": [int(row) for row in near]}))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--child", metavar="FILE", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(Path(options.child))
        return 0
    with tempfile.TemporaryDirectory() as temporary:
        small, large = Path(temporary) / "small.jsonl", Path(temporary) / "large.jsonl"
        write_pairs(small, options.rows // 4)
        copies = set(write_pairs(large, options.rows))
        alone = minhash_pass(large)
        quarter, whole = checks(small), checks(large)
    exponent = math.log(float(whole["seconds"]) / float(quarter["seconds"])) / math.log(4)  # type: ignore[arg-type]
    named = set(whole["near"])  # type: ignore[call-overload]
    print(f"{options.rows:,} pairs of {CHARACTERS} characters a side, Chinese and English")
    print(f"MinHash pass alone       {alone:8.1f} s")
    print(f"all checks               {whole['seconds']:8.1f} s = {float(whole['seconds']) / alone:.2f} times (bar 1.5)")  # type: ignore[arg-type]
    print(f"time grows with rows^    {exponent:8.2f}   (bar 1.1)")
    print(f"memory                   {whole['mib']:8.0f} MiB (bar 1,536 at 500,000)")
    print(f"near-duplicates named    {len(named & copies):,} of {len(copies):,}, {len(named - copies)} others")
    return 0


if __name__ == "__main__":
    sys.exit(main())
