"""What a probe raises without a tokenizer. Apart from it: every run of checks has to know it, few need a probe."""

from __future__ import annotations


class TokenizerNotLoaded(Exception):
    """Text was to be encoded or decoded and there is no tokenizer to do it. `problem` as in `Probe.problem`."""

    def __init__(self, problem: str, detail: str = "") -> None:
        super().__init__(f"{problem}: {detail}" if detail else problem)
        self.problem = problem
        self.detail = detail
