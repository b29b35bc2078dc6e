"""Input that is no log, or only part of one: one clear answer, what is whole is used, memory stays bounded."""

from __future__ import annotations

import gzip
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.logs.read_log import read_log
from pipeline.logs.training_log import TrainingLog

ROOT = Path(__file__).resolve().parent.parent


def read(folder: Path, content: bytes | str, name: str = "run.log") -> TrainingLog:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_log([path], remembered=())


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "empty"),
        (b"  \n\n\t ", "empty"),
        (b"\0" * 100, "not_text"),
        (bytes(range(256)) * 40, "not_text"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(range(200)) * 9, "not_text"),
        (b"PK\x03\x04\x14\0\0\0\x08\0" + bytes(range(255)) * 9, "not_text"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 12\n", "lfs_pointer"),
        (b"hello\nworld\n", "no_metrics"),
        (b"{}", "no_metrics"),
        (b"[]", "no_metrics"),
        (b"null", "no_metrics"),
        (b"[1, 2, 3]", "no_metrics"),
        (b'{"log_history": []}', "no_metrics"),
        (b'{"log_history": null, "global_step": "x"}', "no_metrics"),
        (b'{"log_history": [[], 1, "x", null]}', "no_metrics"),
        (b'"loss"', "no_metrics"),
        (b"<html><body>loss: see below</body></html>", "no_metrics"),
        (b"\xff\xfe", "empty"),
    ],
)
def test_no_log(tmp_path: Path, content: bytes, problem: str) -> None:
    assert read(tmp_path, content).problem == problem


def test_truncated_document_gives_its_whole_records(tmp_path: Path) -> None:
    history = [{"step": n, "loss": 2.5, "epoch": n / 10} for n in range(1, 21)]
    text = json.dumps({"log_history": history, "max_steps": 100}, indent=1)
    place = text.index('"step": 15')
    log = read(tmp_path, text[:place])
    assert len(log.curves["loss"]) == 14
    assert [note.id for note in log.notes] == ["truncated"] and log.notes[0].params["n"] == 14
    lines = "".join(json.dumps(row) + "\n" for row in history)
    cut = read(tmp_path, lines[:-12])
    assert len(cut.curves["loss"]) == 20 or len(cut.curves["loss"]) == 19


def test_printed_record_that_never_ended(tmp_path: Path) -> None:
    log = read(tmp_path, "{'loss': 2.5, 'epoch': 0.1}\n{'loss': 2.25, 'epoch': 0.2, 'grad_no")
    assert log.curves["loss"].values.tolist() == [2.5, 2.25]


def test_one_giant_line(tmp_path: Path) -> None:
    for filler in (b"x", b"loss ", b"1", b"{", b"[", b"'a': ", b"loss: 1, ", b"- ", b"=", b"\xe6\x8d\x9f", b"|"):
        started = time.monotonic()
        log = read(tmp_path, filler * (5_000_000 // len(filler)) + b"\nstep 1, loss: 2.5\n")
        assert time.monotonic() - started < 20, filler
        assert log.curves["loss"].values[-1] == 2.5, filler


def test_a_json_line_longer_than_any_line(tmp_path: Path) -> None:
    row = json.dumps({"step": 1, "loss": 2.5, "note": "x" * 3_000_000})
    log = read(tmp_path, row + '\n{"step": 2, "loss": 2.25}\n')
    assert log.curves["loss"].values.tolist()[-1] == 2.25
    assert any(note.id == "long_lines" for note in log.notes)


def test_too_large_is_refused_at_once(tmp_path: Path) -> None:
    path = tmp_path / "big.log"
    with open(path, "wb") as file:
        file.truncate(10 * 2**30)
    started = time.monotonic()
    log = read_log([path], max_bytes=2**20, remembered=())
    assert log.problem == "too_large" and time.monotonic() - started < 2


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_pipes_sockets_and_devices(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.log"
    os.mkfifo(pipe)
    place = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(place))
        for path in (pipe, Path("/dev/zero"), place):
            assert read_log([path], remembered=()).problem == "special_file"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_unreadable(tmp_path: Path) -> None:
    path = tmp_path / "run.log"
    path.write_text("step 1, loss: 2.5\n")
    path.chmod(0)
    assert read_log([path], remembered=()).problem == "unreadable"


def test_paths_that_lead_nowhere(tmp_path: Path) -> None:
    (tmp_path / "dangling.log").symlink_to(tmp_path / "nothing")
    (tmp_path / "a.log").symlink_to(tmp_path / "b.log")
    (tmp_path / "b.log").symlink_to(tmp_path / "a.log")
    for name in ("dangling.log", "a.log"):
        assert read_log([tmp_path / name], remembered=()).problem == "unreadable"
    for name in ("missing.log", "*.nothing"):
        with pytest.raises(FileNotFoundError):
            read_log([tmp_path / name], remembered=())


def test_folders_that_contain_themselves(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "again").symlink_to(run, target_is_directory=True)
    (run / "train.log").write_text("step 1, loss: 2.5\n")
    assert read_log([run], remembered=()).records == 1


def test_a_file_that_can_not_be_read_leaves_the_others(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text("step 1, loss: 2.5\n")
    (tmp_path / "b.log").write_bytes(bytes(range(256)) * 40)
    log = read_log([tmp_path / "a.log", tmp_path / "b.log"], remembered=())
    assert log.problem is None and [note.id for note in log.notes] == ["file_not_read"]


_LIMITED = """
import sys
from pipeline.logs.read_log import read_log
log = read_log([sys.argv[1]], remembered=())
# not ru_maxrss: a child inherits the peak of the process it was forked from
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]
print(log.problem, [note.id for note in log.notes], int(peak) // 1024)
"""


@pytest.mark.parametrize("start", [b"step 1, loss: 2.5\n", b'{"log_history": [{"step": 1, "loss": 2.5}, '])
def test_compressed_bombs_are_bounded(tmp_path: Path, start: bytes) -> None:
    path = tmp_path / "bomb.log.gz"
    with gzip.open(path, "wb", compresslevel=6) as file:
        file.write(start)
        for _ in range(150):
            file.write(b" " * 2**20)
    done = subprocess.run(
        [sys.executable, "-c", _LIMITED, str(path)], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert "unpacks_to_too_much" in done.stdout, (done.stdout, done.stderr)
    if b"log_history" not in start:
        assert int(done.stdout.split()[-1]) < 300


def test_damaged_compression(tmp_path: Path) -> None:
    whole = gzip.compress("".join(f"step {n}, loss: 2.5\n" for n in range(20_000)).encode())
    for damaged in (whole[: len(whole) // 2], whole[:2000] + b"\xff" * 50 + whole[2050:]):
        log = read(tmp_path, damaged, "run.log.gz")
        assert log.problem is None or log.problem == "no_metrics"
        assert log.problem or any(note.id in ("damaged_gzip", "truncated") for note in log.notes)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 200_000,
        '{"a":' * 200_000,
        "{'a':" * 100_000,
        '{"log_history": [' + "[" * 100_000,
        '{"log_history": [{"loss": ' + "[" * 100_000 + "]" * 100_000 + "}]}",
        "{'loss': " + "(" * 5000 + ")" * 5000 + "}",
        '{"loss": 2.5, "a": ' + '{"b": ' * 500 + "1" + "}" * 500 + "}\n",
    ],
    ids=range(7),
)
def test_deep_nesting(tmp_path: Path, text: str) -> None:
    read(tmp_path, text)
    read(tmp_path, f"step 1, loss: 2.5\n{text}\n")


@pytest.mark.parametrize(
    "line",
    [
        '{"step": 1e18, "loss": 2.5}',
        '{"step": 1000000000000000000, "loss": 2.5}',
        '{"step": -5, "loss": 2.5}',
        '{"step": 1e400, "loss": 1e400}',
        '{"step": ' + "9" * 400 + ', "loss": 2.5}',
        '{"step": 1, "loss": 2.5, "loss": 2.25}',
        '{"step": null, "loss": "NaN"}',
        '{"step": "x", "loss": []}',
        '{"step": true, "loss": false}',
        "step 1e400, loss: 1e400",
        "step 99999999999999999999999999, loss: 2.5",
        "step -1, loss: -inf",
        "epoch 0/0, step 0/0, loss: 0/0",
        "step 1, loss: 1.2.3.4",
        "step 1, loss: " + "9" * 5000,
        "9999-99-99 99:99:99 step 1, loss: 2.5",
        "0000-00-00 00:00:00 step 1, loss: 2.5",
    ],
)
@pytest.mark.parametrize("times", [1, 40])
def test_numbers_out_of_range(tmp_path: Path, line: str, times: int) -> None:
    log = read(tmp_path, f"{line}\n" * times + '{"step": 3, "loss": 1.5}\n')
    assert log.problem is None and 1.5 in log.curves["loss"].values.tolist()


def test_ever_new_names_are_bounded(tmp_path: Path) -> None:
    rows = [json.dumps({"step": n, "loss": 2.5, **{f"name_{n}_{k}": 1.0 for k in range(20)}}) for n in range(2000)]
    log = read(tmp_path, "\n".join(rows))
    assert len(log.curves) <= 400 and len(log.curves["loss"]) == 2000


def test_table_with_broken_rows(tmp_path: Path) -> None:
    text = "step,loss\n1,2.5\n2\n3,2.25,9\n\n4,2.0\nx,y\n"
    log = read(tmp_path, text)
    assert log.curves["loss"].values.tolist() == [2.5, 2.0]
    assert [(note.id, note.params["n"]) for note in log.notes] == [("rows_left_out", 2)]
