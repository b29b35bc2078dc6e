"""The workbook: nothing of the data becomes a formula, nothing is lost, and a taken place is gone round."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import replace
from pathlib import Path

import openpyxl
import pytest

from pipeline.evaluation.place_to_write import in_the_way, write_where_possible
from pipeline.evaluation.replay import summary_of
from pipeline.evaluation.replay_workbook import FILLS, MOST_CHARACTERS, cell_text, write_workbook
from pipeline.evaluation.results import ModelNamed, Replayed, ReplayResult, now

HOSTILE = (
    "=1+1", '=HYPERLINK("http://127.0.0.1","x")', "+1", "-2", "@SUM(A1)", "\t=1", "＝1", "#N/A", "1e5",
    "a\x00\x07\x1b[31m\x7f", "half \ud800", "x" * 40_000, "😀" * 20_000, "_x000D_", "\r\nline\rend", "<f>1</f>&amp;", "\ufffe", "", "  a  ",
)  # fmt: skip


def made(texts: tuple[str, ...] = HOSTILE, *, models: tuple[str, str] = ("base", "=ad+apter")) -> ReplayResult:
    changes = ("still_good", "fixed", "still_bad", "broken")
    rows = []
    for place, text in enumerate(texts):
        base = Replayed(place, models[0], text, text, text, "wrong", False, None, "exact", False, similarity=0.5,
                        chrf=12.25, rep={"rep_2": 0.25}, category=text[:9], tokens=3)  # fmt: skip
        other = replace(base, model=models[1], status="right", good=True, right=True, change=changes[place % 4])
        rows += [base, other]
    named = (ModelNamed(models[0], "=path", "base"), ModelNamed(models[1], "@path", "adapter"))
    told = tuple(summary_of(one, [r for r in rows if r.model == one], base=models[0]) for one in models)
    decoding = {"strategy": "beam", "num_beams": 5, "prompt_format": {"base": "=plain"}}
    return ReplayResult(named, told, tuple(rows), decoding, len(texts), left_out={"=no_text": 2}, created=now())


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_no_formula_and_nothing_lost(tmp_path: Path, lang: str) -> None:
    path = tmp_path / "replay.xlsx"
    write_workbook(made(), path, lang=lang, whole_in="replay.replay.json")
    with zipfile.ZipFile(path) as parts:
        sheets = [name for name in parts.namelist() if "worksheets/" in name]
        assert len(sheets) == 3
        for name in sheets:
            text = parts.read(name).decode("utf-8")
            assert not re.search(r"<f[ >/]", text)
            assert set(re.findall(r'<c [^>]*\bt="(\w+)"', text)) <= {"inlineStr", "n"}
    summary, cases, beside = openpyxl.load_workbook(path).worksheets
    assert cases.freeze_panes == "E2" and cases.auto_filter.ref == f"A1:V{2 * len(HOSTILE) + 1}"
    assert beside.freeze_panes == "D2" and beside.max_row == len(HOSTILE) + 1
    assert [row[0].value for row in cases.iter_rows(min_row=2, max_row=3)] == [4, 4]  # what was broken stands first
    for sheet in (summary, cases, beside):
        assert {cell.data_type for row in sheet.iter_rows() for cell in row} <= {"s", "n", "inlineStr"}
    for row in cases.iter_rows(min_row=2):
        text = HOSTILE[row[0].value - 1]
        shown = row[6].value or ""
        assert len(shown.encode("utf-16-le")) // 2 <= MOST_CHARACTERS
        assert (shown == text) == (text in ("=1+1", HOSTILE[1], "+1", "-2", "@SUM(A1)", "\t=1", "＝1", "#N/A",
                                            "1e5", "<f>1</f>&amp;", "  a  ", ""))  # fmt: skip
        assert row[6].quotePrefix == (text.lstrip()[:1] in ("=", "+", "-", "@", "＝") and bool(text.strip()))
        assert isinstance(row[13].value, float) and row[15].value == 0.25 and row[11].value == 3
        if len(text) > 20_000:
            assert "replay.replay.json" in shown[-120:] and f"{len(text):,}" in shown[-120:]
            assert text.startswith(shown[: shown.index("…")])
    fills = {row[2].value: row[2].fill.fgColor.rgb[-6:] for row in cases.iter_rows(min_row=2) if row[2].value}
    assert sorted(set(fills.values()) & set(FILLS.values())) == sorted(FILLS.values())


def test_what_cells_show() -> None:
    assert cell_text("a\x00b\x1bc\x7f\r\nd\re") == "a␀b␛c␡\nd␍e"
    assert cell_text("\ud83d alone, 😀 together, \ufffe") == "\\ud83d alone, 😀 together, \\ufffe"
    assert cell_text("_x000D_ _x00_ _X000D_") == "_x005F_x000D_ _x00_ _X000D_"
    for length in range(32_600, 32_800, 7):
        shown = cell_text("好" * length + "_x0041_" * 60, whole_in="f.json", cut="[{n} {all} {path}]")
        assert len(shown) <= MOST_CHARACTERS
        assert not re.search(r"_x(0(0(5F?)?)?)?\[", shown)  # no half of an escape before the mark


def test_a_place_that_is_taken(tmp_path: Path) -> None:
    def write(path: Path) -> None:
        path.write_text("new")

    path = tmp_path / "r.xlsx"
    assert write_where_possible(path, write) == (path, "") and write_where_possible(path, write) == (path, "")
    for lock in ("~$r.xlsx", ".~lock.r.xlsx#"):
        path.write_text("open")
        (tmp_path / lock).touch()
        assert write_where_possible(path, write) == (tmp_path / "r-2.xlsx", "open") and path.read_text() == "open"
        (tmp_path / lock).unlink()
        (tmp_path / "r-2.xlsx").unlink()
    (tmp_path / "d.xlsx").mkdir()
    (tmp_path / "d-2.xlsx").mkdir()
    assert write_where_possible(tmp_path / "d.xlsx", write) == (tmp_path / "d-3.xlsx", "folder")
    os.mkfifo(tmp_path / "f.xlsx")
    assert in_the_way(tmp_path / "f.xlsx") == "special"

    def refuses(place: Path) -> None:
        if place.parent == tmp_path:
            raise PermissionError(13, "Permission denied")
        write(place)

    place, why = write_where_possible(tmp_path / "elsewhere-of-tests.xlsx", refuses)
    assert why == "Permission denied" and place.parent != tmp_path and place.read_text() == "new"
    place.unlink()

    def full(place: Path) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        write_where_possible(tmp_path / "full.xlsx", full)


def test_another_name_is_nobody_elses(tmp_path: Path) -> None:
    for name in ("r.xlsx", "r-2.xlsx", "~$r.xlsx"):
        (tmp_path / name).write_text("mine")
    place, why = write_where_possible(tmp_path / "r.xlsx", lambda path: path.write_text("new") and None)
    assert (place.name, why) == ("r-3.xlsx", "open") and (tmp_path / "r-2.xlsx").read_text() == "mine"


def test_a_full_disk_is_tried_once(tmp_path: Path) -> None:
    """An empty file still finds room there, and a large workbook takes minutes to fail."""
    tried: list[Path] = []

    def full(place: Path) -> None:
        tried.append(place)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OSError, match="No space left"):
        write_where_possible(tmp_path / "full.xlsx", full)
    assert [place.parent for place in tried] == [tmp_path, Path(tempfile.gettempdir())]


@pytest.mark.parametrize("room", [3_000, 120_000])
def test_without_room_there_is_no_workbook_and_one_error(tmp_path: Path, room: int) -> None:
    """room: bytes of a file; the smaller is too little for the parts of a sheet, which lie elsewhere until then."""
    program = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from test_replay_workbook import made, write_workbook\n"
        "import random, openpyxl, openpyxl.cell, openpyxl.styles\n"
        "texts = tuple(''.join(map(chr, random.Random(n).choices(range(97, 50_000), k=900))) for n in range(60))\n"
        "result = made(texts[:2] if sys.argv[2] == '3000' else texts)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))\n"
        "try:\n"
        "    write_workbook(result, Path(sys.argv[1]))\n"
        "except OSError as failed:\n"
        "    print(failed.strerror)\n"
    )
    path = tmp_path / "r.xlsx"
    path.write_text("before")
    places = os.pathsep.join(map(str, (Path(__file__).parent, Path(__file__).parent.parent)))
    ran = subprocess.run(
        [sys.executable, "-c", program, str(path), str(room)], capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": places, "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    assert ran.stderr == "" and ran.stdout == os.strerror(errno.EFBIG) + "\n"
    assert path.read_text() == "before" and [one.name for one in tmp_path.iterdir()] == ["r.xlsx"]


def test_a_failed_write_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "r.xlsx"
    path.write_text("before")
    with pytest.raises(KeyError):
        write_workbook(replace(made(("a",)), rows=(replace(made(("a",)).rows[0], status="unheard of"),)), path)
    assert path.read_text() == "before" and [one.name for one in tmp_path.iterdir()] == ["r.xlsx"]
