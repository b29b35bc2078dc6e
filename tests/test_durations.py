"""Durations are said one way in the whole house, in the language of who reads them."""

from __future__ import annotations

import pytest

from pipeline.durations import about, exactly


@pytest.mark.parametrize(
    ("seconds", "english", "chinese"),
    [
        (-3, "0 s", "0 秒"),
        (0.4, "0 s", "0 秒"),
        (59.9, "59 s", "59 秒"),
        (60, "1 min", "1 分钟"),
        (725, "12 min 5 s", "12 分钟 5 秒"),
        (3599, "59 min 59 s", "59 分钟 59 秒"),
        (12_000, "3 h 20 min", "3 小时 20 分钟"),
        (86_400, "1 d", "1 天"),
        (97_200, "1 d 3 h", "1 天 3 小时"),
        (90_000_000, "1,041 d 16 h", "1,041 天 16 小时"),
    ],
)
def test_of_what_was_measured(seconds: float, english: str, chinese: str) -> None:
    assert (exactly(seconds, "en"), exactly(seconds, "zh")) == (english, chinese)


@pytest.mark.parametrize(
    ("seconds", "english"),
    [(0, "1 ms"), (0.05, "50 ms"), (4.23, "4.2 s"), (9.96, "10 s"), (59.6, "1 min"), (725, "12 min"), (3599, "1 h"),
     (90_000, "1 d 1 h")],
)  # fmt: skip
def test_of_estimates(seconds: float, english: str) -> None:
    assert about(seconds, "en") == english
