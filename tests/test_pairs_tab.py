"""The tab Pairs as a visitor meets it: a real server, a real browser, sets written here."""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from app_in_browser import Server, serve
from loopback_hub import LoopbackHub, Repo
from written_pairs import rows, written

HOSTILE = "<img src=x onerror=window.hacked=1>\u202e\x1b[31m$`{{value}}`__i18n__{\"key\":\"path\"}'\"</textarea></script>"


@pytest.fixture
def tab(server: Server, visit: Callable[..., Any]) -> Iterator[Callable[..., Any]]:
    """Opens the page and its tab Pairs."""

    def opened(url: str = "", **context: Any) -> Any:
        page = visit(url or server.url, **context)
        page.click("button[role=tab]:nth-of-type(3)")
        page.wait_for_selector(".dd-pairs-empty")
        return page

    yield opened


def load(page: Any, path: Path) -> Any:
    page.fill("#dd-pairs-path input, #dd-pairs-path textarea", str(path))
    page.click("#dd-pairs-open")
    return ready(page)


def ready(page: Any) -> Any:
    """Waits until the set is open and checked."""
    page.wait_for_selector(".dd-pairs[data-state=open] .dd-pair", state="attached")
    page.wait_for_selector(".dd-badge")
    page.wait_for_function("document.querySelector('.dd-job').childElementCount === 0")
    return page


def listed(page: Any) -> list[int]:
    """Positions of the rows on the page."""
    return list(page.evaluate("[...document.querySelectorAll('tr[data-row]')].map(r => Number(r.dataset.row))"))


def shows(page: Any, position: int) -> None:
    """Waits until this pair is shown large and marked in the list."""
    page.wait_for_selector(f".dd-pair[data-position='{position}']")
    page.wait_for_selector(f"tr.dd-current[data-row='{position}']")


def said(page: Any, line: str) -> None:
    page.wait_for_function(f"document.querySelector('.dd-toast.dd-up')?.textContent.includes({json.dumps(line)})")


def exported(page: Any, format: str = "trl", suffix: str = ".jsonl") -> bytes:
    page.click("button.dd-pane[data-pane=export]")
    page.select_option("[name=format]", format)
    page.select_option("[name=suffix]", suffix)
    page.click("form[data-rpc=export] > button[type=submit]")
    page.wait_for_selector(f"#dd-pairs-file:has-text('.{format}{suffix}')")
    with page.expect_download() as download:
        page.click("#dd-pairs-file")
    assert download.value.suggested_filename.endswith(f".{format}{suffix}")
    return Path(download.value.path()).read_bytes()


def test_example_is_filtered_by_a_finding(tab: Callable[..., Any]) -> None:
    page = tab()
    page.click("#dd-pairs-examples button:last-child")
    ready(page)
    assert len(listed(page)) == 37 and page.is_visible(".dd-pair") and not page.is_visible("#dd-pairs-open")
    page.select_option("[data-view=finding]", "PRF002/identical")
    page.wait_for_function("document.querySelectorAll('tr[data-row]').length === 3")
    assert "3 of 37" in page.inner_text(".dd-matching")
    assert page.inner_text(".dd-part-chosen .dd-answer") == page.inner_text(".dd-part-rejected .dd-answer")
    assert "Same answers" in page.inner_text(".dd-pair-flags")
    page.click("button.dd-pane[data-pane=health]")
    page.click(".dd-health button[data-finding='PRF003/rejected_empty']")
    page.wait_for_function("document.querySelectorAll('tr[data-row]').length === 2")
    page.click("[data-clear]")
    page.wait_for_function("document.querySelectorAll('tr[data-row]').length === 37")


def test_keyboard_goes_through_and_undoes(tab: Callable[..., Any], tmp_path: Path) -> None:
    page = load(tab(), written(tmp_path / "train.jsonl", rows()))
    shows(page, 0)
    page.keyboard.press("j")
    page.keyboard.press("j")
    shows(page, 2)
    page.keyboard.press("k")
    shows(page, 1)
    page.keyboard.press("a")  # accepts 1, goes on
    shows(page, 2)
    page.keyboard.press("e")
    page.wait_for_selector(".dd-part-chosen .dd-editor textarea")
    page.keyboard.press("Control+a")
    page.keyboard.type("jads: a text whose letters are keys")
    assert page.input_value(".dd-part-chosen textarea").startswith("jads")
    page.keyboard.press("Control+Enter")
    said(page, "Saved")
    shows(page, 2)
    assert "jads" in page.inner_text(".dd-part-chosen .dd-answer")
    page.keyboard.press("s")
    page.wait_for_function("document.querySelector('.dd-part-rejected .dd-answer').textContent.includes('jads')")
    page.keyboard.press("u")
    page.wait_for_function("document.querySelector('.dd-part-chosen .dd-answer').textContent.includes('jads')")
    page.keyboard.press("d")
    shows(page, 3)
    page.keyboard.press("d")
    shows(page, 4)
    page.keyboard.press("u")  # 3 is there again
    said(page, "Taken back")
    shows(page, 3)
    page.keyboard.press("Shift+U")
    said(page, "Done again")
    page.keyboard.press("Shift+U")
    said(page, "Nothing to do again")
    page.keyboard.press("/")
    page.keyboard.type("number 7")  # letters that are keys elsewhere
    page.wait_for_function("document.querySelectorAll('tr[data-row]').length === 1")
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    page.wait_for_selector("dialog[open] .dd-keys")
    page.keyboard.press("Escape")
    page.click("[data-clear]")
    kept = [json.loads(line) for line in exported(page).decode().splitlines()]
    wanted = [r for i, r in enumerate(rows()) if i not in (2, 3)]
    assert [r["prompt"] for r in kept] == [r["prompt"] for r in wanted]
    assert kept == wanted


def test_bulk_discard_and_export(tab: Callable[..., Any], tmp_path: Path) -> None:
    page = load(tab(), written(tmp_path / "train.jsonl", rows(200)))
    page.select_option("[data-view=finding]", "PRF003/rejected_empty")
    page.wait_for_function("document.querySelector('.dd-matching').textContent.startsWith('100 of 200')")
    assert len(listed(page)) == 50
    page.click(".dd-bulk-open")
    page.click("[name=do][value=preview]")
    page.wait_for_selector(".dd-preview")
    assert "100 pairs would change" in page.inner_text(".dd-preview-line")
    assert len(page.query_selector_all(".dd-example")) == 5
    page.click("[name=do][value=start]")
    said(page, "100 discarded")
    page.wait_for_function("document.querySelector('[data-status=discarded]').textContent.includes('100')")
    page.select_option("[data-view=finding]", "")
    page.keyboard.press("u")
    page.wait_for_function("document.querySelector('[data-status=discarded]').textContent.includes('0')")
    page.keyboard.press("Shift+U")
    page.wait_for_function("document.querySelector('[data-status=discarded]').textContent.includes('100')")
    table = list(csv.DictReader(exported(page, suffix=".csv").decode().splitlines()))
    assert [r["prompt"] for r in table] == [r["prompt"] for i, r in enumerate(rows(200)) if i % 2 == 0]
    page.click("button.dd-pane[data-pane=health]")
    page.click("[data-judge]")
    page.wait_for_selector(".dd-health tbody tr:has(th:has-text('Rejected is empty')) td:nth-of-type(2) .dd-ok")


def test_correction_makes_the_chosen_side(tab: Callable[..., Any], tmp_path: Path) -> None:
    page = load(tab(), written(tmp_path / "train.jsonl", rows()))
    page.click(".dd-bulk-open")
    page.check("[name=action][value=correct]", force=True)
    page.fill(".dd-bulk [name=find]", "wrong answer")
    page.fill(".dd-bulk [name=replace]", "good answer")
    page.click("[name=do][value=preview]")
    page.wait_for_selector(".dd-preview ins")
    assert "4 pairs would change" in page.inner_text(".dd-preview-line") and "4 are left out" in page.inner_text(".dd-preview-line")
    page.click("[name=do][value=start]")
    said(page, "4 corrected")
    kept = json.loads(exported(page, suffix=".json"))
    assert kept[2]["chosen"] == "The good answer to it is 14." and kept[2]["rejected"] == "The wrong answer to it is 14."
    assert kept[1]["chosen"] == rows()[1]["chosen"]


def test_two_people_edit_one_pair(tab: Callable[..., Any], visit: Callable[..., Any], tmp_path: Path) -> None:
    first = load(tab(), written(tmp_path / "train.jsonl", rows()))
    first.fill("[data-editor-name]", "Ann")
    first.press("[data-editor-name]", "Tab")
    first.wait_for_function("location.search.includes('pairs=')")
    second = visit(first.url, ready=".dd-pair")
    shows(second, 0)

    def edit(page: Any, typed: str) -> None:
        page.keyboard.press("e")
        page.wait_for_selector(".dd-part-chosen .dd-editor textarea")
        page.fill(".dd-part-chosen .dd-editor textarea", typed)
        page.keyboard.press("Control+Enter")

    first.click(".dd-pair-title h3")
    edit(first, "The right answer to it is 1, says Ann.")
    said(first, "Saved")
    edit(second, "The right answer to it is 2, says Ben.")
    second.wait_for_selector(".dd-conflict")
    block = second.inner_text(".dd-conflict")
    assert "Ann" in block and "says Ben" in block and "says Ann" in block
    assert "says Ann" in second.inner_text(".dd-part-chosen .dd-answer")  # nothing was written over it
    second.click("[data-solve=merge]")
    area = ".dd-part-chosen .dd-editor textarea"
    assert second.input_value(area) == "The right answer to it is 2, says Ben."
    second.fill(area, "The right answer to it is 1 or 2, say both.")
    second.keyboard.press("Control+Enter")
    said(second, "Saved")
    first.keyboard.press("d")  # seen before Ben saved
    first.wait_for_selector(".dd-conflict")
    assert "say both" in first.inner_text(".dd-conflict")
    first.click("[data-solve=again]")
    said(first, "Discarded")
    second.keyboard.press("a")
    second.wait_for_selector(".dd-conflict")
    second.click("[data-solve=theirs]")
    second.wait_for_function("!document.querySelector('.dd-conflict')")
    assert "discarded" in second.inner_text(".dd-state")


def test_keep_mine_saves_on_top(tab: Callable[..., Any], visit: Callable[..., Any], tmp_path: Path) -> None:
    first = load(tab(), written(tmp_path / "train.jsonl", rows()))
    second = visit(first.url, ready=".dd-pair")
    first.keyboard.press("s")
    said(first, "Swapped")
    second.keyboard.press("r")
    second.fill(".dd-part-rejected .dd-editor textarea", "Mine.")
    second.keyboard.press("Control+Enter")
    second.wait_for_selector(".dd-conflict")
    second.click("[data-solve=mine]")
    said(second, "Saved")
    assert second.inner_text(".dd-part-rejected .dd-answer") == "Mine."
    assert "wrong" in second.inner_text(".dd-part-chosen .dd-answer")
    assert second.inner_text("#dd-pairs-history summary").endswith("2")


def test_reload_comes_back_to_the_same(tab: Callable[..., Any], visit: Callable[..., Any], tmp_path: Path) -> None:
    page = load(tab(), written(tmp_path / "train.jsonl", rows(120)))
    page.select_option("[data-view=sort]", "chosen_chars")
    page.click("[data-turn]")
    page.wait_for_selector("tr.dd-current")
    page.click("[data-offset='50'] >> nth=0")
    page.wait_for_function("document.querySelector('.dd-pager').textContent.includes('51')")
    page.keyboard.press("j")
    page.wait_for_function("document.querySelectorAll('tr.dd-current')[0] === document.querySelectorAll('tr[data-row]')[1]")
    before = listed(page), page.get_attribute("tr.dd-current", "data-row")
    page.wait_for_selector(f".dd-pair[data-position='{before[1]}']")
    page.reload()
    page.wait_for_selector(".dd-pair")
    assert (listed(page), page.get_attribute("tr.dd-current", "data-row")) == before
    page.click("button[role=tab]:nth-of-type(1)")
    page.wait_for_function("!location.search.includes('pairs=')")
    page.click("button[role=tab]:nth-of-type(3)")
    page.wait_for_function("location.search.includes('pairs=')")
    shared = visit(page.url, ready=".dd-pair")
    assert listed(shared)[0] == 0
    shared.click("[data-new]")
    shared.wait_for_selector("[data-open] >> text=train.jsonl")
    shared.click("[data-open]")
    shared.wait_for_selector(".dd-pairs[data-state=open] .dd-pair")
    missing = visit(page.url.split("?")[0] + "?pairs=" + "A" * 22, ready=".dd-part-start-box [role=alert]")
    assert "isn't here" in missing.inner_text(".dd-part-start-box h2")


def test_own_columns_are_asked_for(tab: Callable[..., Any], tmp_path: Path) -> None:
    odd = [{"Frage": r["prompt"], "gut": r["chosen"], "schlecht": r["rejected"], "nr": i} for i, r in enumerate(rows())]
    page = tab()
    page.fill("#dd-pairs-path input, #dd-pairs-path textarea", str(written(tmp_path / "odd.jsonl", odd)))
    page.click("#dd-pairs-open")
    page.wait_for_selector("form[data-rpc=answer]")
    assert "Question number 0?" in page.inner_text(".dd-part-start-box .dd-evidence")
    page.click("form[data-rpc=answer] [type=submit]")
    said(page, "Choose a column")
    for wanted, name in (("prompt", "Frage"), ("chosen", "gut"), ("rejected", "schlecht")):
        page.select_option(f"[name='columns.{wanted}']", name)
    page.click("form[data-rpc=answer] [type=submit]")
    ready(page)
    assert page.inner_text(".dd-part-prompt .dd-answer") == "Question number 0?" and len(listed(page)) == 8


def test_axis_is_asked_for(tab: Callable[..., Any], tmp_path: Path) -> None:
    rated = [{"prompt": f"Q{i}", "response_0": f"zero {i}", "response_1": f"one {i}", "better_response_id": 0,
              "safer_response_id": 1} for i in range(4)]  # fmt: skip
    page = tab()
    page.set_input_files("#dd-pairs-upload input[type=file]", str(written(tmp_path / "pku.jsonl", rated)))
    page.wait_for_selector("form[data-rpc=answer]")
    page.check("[name=axis][value=safer_response_id]", force=True)
    page.click("form[data-rpc=answer] [type=submit]")
    ready(page)
    assert page.inner_text(".dd-part-chosen .dd-answer") == "one 0"


def test_brushing_filters(tab: Callable[..., Any], tmp_path: Path) -> None:
    long = [{**r, "chosen": "word " * (i + 1)} for i, r in enumerate(rows(60))]
    page = load(tab(), written(tmp_path / "train.jsonl", long))
    page.click(".dd-plots-box > summary")
    page.wait_for_selector("[data-column=chosen_chars]")
    box = page.query_selector("[data-column=chosen_chars]").bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.52, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] - 2, box["y"] + 20, steps=5)
    page.mouse.up()
    page.wait_for_selector(".dd-range-chip")
    left = listed(page)
    assert left == list(range(left[0], 60)) and 20 < left[0] < 40
    page.fill("[data-range=chosen_chars][data-end=most]", "250")
    page.press("[data-range=chosen_chars][data-end=most]", "Enter")
    page.wait_for_function(f"document.querySelectorAll('tr[data-row]').length === {50 - left[0]}")
    page.click(".dd-range-chip")
    page.wait_for_function("document.querySelectorAll('tr[data-row]').length === 50")


def test_language_switches_without_losing_the_place(tab: Callable[..., Any], tmp_path: Path) -> None:
    page = load(tab(), written(tmp_path / "train.jsonl", rows()))
    page.keyboard.press("j")
    shows(page, 1)
    page.click("#dd-lang label:has(input[value=zh])")
    page.wait_for_function("document.querySelector('[data-do=accept]')?.textContent.includes('接受')")
    shows(page, 1)
    assert "rejected 为空" in page.inner_text(".dd-pair-flags") and "偏好对" in page.inner_text(".dd-panes")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_phone_has_no_sideways_scroll(tab: Callable[..., Any], tmp_path: Path, theme: str) -> None:
    page = tab(viewport={"width": 390, "height": 844}, color_scheme=theme, has_touch=True, is_mobile=True)
    page.click("#dd-pairs-case-toggle")
    load(page, written(tmp_path / "train.jsonl", rows()))
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert not page.is_visible(".dd-pair")
    page.click("tr[data-row='3']")
    page.wait_for_selector(".dd-pair[data-position='3']")
    assert not page.is_visible(".dd-pairs-table")
    for pane in ("health", "export", "review"):
        page.click(f"button.dd-pane[data-pane={pane}]")
        page.wait_for_timeout(300)
        assert page.evaluate("document.documentElement.scrollWidth") == 390, pane
    page.click("[data-back]")
    assert page.is_visible(".dd-pairs-table")
    assert page.evaluate("document.body.classList.contains('dark')") == (theme == "dark")


def test_hostile_text_is_only_text(tab: Callable[..., Any], tmp_path: Path) -> None:
    hostile = [{"prompt": HOSTILE, "chosen": HOSTILE + "1", "rejected": HOSTILE + "\r\nend", "id": HOSTILE, HOSTILE: HOSTILE}] * 2
    page = load(tab(), written(tmp_path / "x.jsonl", hostile))
    page.keyboard.press("r")
    page.wait_for_selector(".dd-part-rejected textarea")
    area = page.input_value(".dd-part-rejected textarea")
    assert area == HOSTILE + "\nend"  # as it is, so that saving changes nothing else
    page.keyboard.press("End")
    page.keyboard.type("!")
    page.keyboard.press("Control+Enter")
    said(page, "Saved")
    page.fill("[data-view=search]", HOSTILE[:20])
    page.wait_for_function("document.querySelector('.dd-matching').textContent.startsWith('2 of 2')")
    page.click(".dd-bulk-open")
    page.wait_for_selector(".dd-bulk")
    assert page.evaluate("window.hacked") is None
    assert page.evaluate("document.querySelectorAll('#dd-pairs-work img, #dd-pairs-work script, #dd-pairs-work [onerror]').length") == 0
    assert "\u202e" not in page.inner_text("#dd-pairs-work")
    kept = [json.loads(line) for line in exported(page).decode().splitlines()]
    assert kept[0]["rejected"] == HOSTILE + "\r\nend!" and kept[0]["chosen"] == HOSTILE + "1" and kept[1] == hostile[1]


def test_public_visitors_are_warned_of_loss(visit: Callable[..., Any], tmp_path: Path) -> None:
    running = serve(tmp_path, DPO_DOCTOR_PUBLIC="1")
    try:
        page = visit(running.url)
        page.click("button[role=tab]:nth-of-type(3)")
        page.wait_for_selector(".dd-pairs-empty")
        page.fill("#dd-pairs-path input, #dd-pairs-path textarea", "/etc/passwd")
        page.click("#dd-pairs-open")
        page.wait_for_selector("#dd-pairs-problem [role=alert]")
        assert "not open to visitors" in page.inner_text("#dd-pairs-problem")
        page.set_input_files("#dd-pairs-upload input[type=file]", str(written(tmp_path / "train.jsonl", rows())))
        ready(page)
        assert not page.is_visible(".dd-unexported")
        page.keyboard.press("d")
        page.wait_for_selector(".dd-unexported")
        asked = []
        page.on("dialog", lambda dialog: (asked.append(dialog.type), dialog.accept()))
        address = page.url
        page.reload()
        assert asked == ["beforeunload"] and page.url == address
        ready(page)
        exported(page)
        page.wait_for_function("!document.querySelector('.dd-unexported')")
        page.reload()
        assert asked == ["beforeunload"]
        assert "dpo-doctor-pairs" not in page.content() and str(tmp_path) not in page.content()
    finally:
        running.stop()


def test_push_needs_a_token_that_nobody_keeps(visit: Callable[..., Any], tmp_path: Path) -> None:
    home = tmp_path / "home"
    with LoopbackHub({}, writers={"hf_secretvalue": "ann"}) as hub:
        running = serve(home, HF_ENDPOINT=hub.endpoint, HF_HOME=str(home / "hf"), HF_TOKEN="", DPO_DOCTOR_PUBLIC="1",
                        TMPDIR=str(tmp_path))  # fmt: skip
        try:
            page = visit(running.url)
            page.click("button[role=tab]:nth-of-type(3)")
            page.wait_for_selector(".dd-pairs-empty")
            page.set_input_files("#dd-pairs-upload input[type=file]", str(written(tmp_path / "train.jsonl", rows())))
            ready(page)
            page.keyboard.press("d")
            page.wait_for_selector(".dd-unexported")
            page.click("button.dd-pane[data-pane=export]")
            page.click("#dd-pairs-push > summary")

            def push(repo: str, token: str, line: str) -> None:
                page.fill("[name=repo]", repo)
                page.fill("[name=token]", token)
                page.click("#dd-pairs-push [type=submit]")
                said(page, line)
                assert page.input_value("[name=token]") == ""

            push("pairs", "hf_secretvalue", "owner/name")
            push("ann/pairs", "", "your own token")
            push("ann/pairs", "hf_wrong", "doesn't know this token")
            push("ben/pairs", "hf_secretvalue", "may not write to ben/pairs")
            assert not hub.written
            page.fill("[name=repo]", "ann/pairs")
            page.fill("[name=token]", "hf_secretvalue")
            page.click("#dd-pairs-push [type=submit]")
            page.wait_for_selector(".dd-export-result a")
            assert page.get_attribute(".dd-export-result a", "href") == f"{hub.endpoint}/datasets/ann/pairs"
            assert hub.private == {"ann/pairs": True}
            (name, content), = hub.written.items()
            assert name == "ann/pairs/data/train.jsonl"
            assert [json.loads(line) for line in content.decode().splitlines()] == rows()[1:]
            page.wait_for_function("!document.querySelector('.dd-unexported')")
        finally:
            running.stop()
    files = [p for p in tmp_path.rglob("*") if p.is_file()]
    assert files and not [p for p in files if b"hf_secretvalue" in p.read_bytes()]


def test_data_set_of_the_hub(visit: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "repo").mkdir()
    written(tmp_path / "repo" / "train.jsonl", rows())
    written(tmp_path / "repo" / "test.jsonl", rows(3))
    repos = {"ann/pairs": Repo({"main": tmp_path / "repo"}), "ann/secret": Repo({"main": tmp_path / "repo"}, "private")}
    with LoopbackHub(repos) as hub:
        running = serve(tmp_path / "home", HF_ENDPOINT=hub.endpoint, HF_HOME=str(tmp_path / "hf"), HF_TOKEN="hf_of_the_machine",
                        DPO_DOCTOR_PUBLIC="1")  # fmt: skip
        try:
            page = visit(running.url)
            page.click("button[role=tab]:nth-of-type(3)")
            page.wait_for_selector(".dd-pairs-empty")
            page.fill("#dd-pairs-path input, #dd-pairs-path textarea", "ann/secret")  # the machine's login is not theirs
            page.click("#dd-pairs-open")
            page.wait_for_selector(".dd-part-start-box [role=alert]")
            assert "not open to everyone" in page.inner_text(".dd-part-start-box [role=alert]")
            page.fill("#dd-pairs-path input, #dd-pairs-path textarea", "ann/pairs")
            page.click("#dd-pairs-more > button")
            # Gradio makes its fields only now, and gives them their first value once more a frame after they show:
            # on a busy machine what a script fills in between is taken back
            split = page.wait_for_selector("#dd-pairs-split :is(input, textarea)")
            until = time.monotonic() + 20
            while page.evaluate("(e) => new Promise(done => requestAnimationFrame(() => requestAnimationFrame("
                                "() => done(e.value))))", split) != "test":  # fmt: skip
                assert time.monotonic() < until
                split.fill("test")
            split.press("Tab")
            page.click("#dd-pairs-open")
            ready(page)
            assert len(listed(page)) == 3 and page.inner_text(".dd-head-title h2") == "pairs"
        finally:
            running.stop()


def test_import_can_be_stopped(tab: Callable[..., Any], tmp_path: Path, server: Server) -> None:
    big = tmp_path / "big.jsonl"
    line = json.dumps({"prompt": "q " * 40, "chosen": "c " * 100, "rejected": "r " * 100}) + "\n"
    with big.open("w", encoding="utf-8") as file:
        for _ in range(150_000):
            file.write(line)
    page = tab()
    page.fill("#dd-pairs-path input, #dd-pairs-path textarea", str(big))
    page.click("#dd-pairs-open")
    page.click("[data-cancel=import]")
    page.wait_for_selector(".dd-part-start-box [role=alert]")
    assert "Stopped" in page.inner_text(".dd-part-start-box h2 >> nth=0")
    held = [p for p in (server.home / "pairs").iterdir() if (p / "about.json").is_file()]
    assert not [p for p in held if "big.jsonl" in (p / "about.json").read_text(encoding="utf-8")]


def test_bad_files_are_answered_in_words(tab: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("")
    (tmp_path / "picture.jsonl").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 40)
    page = tab()
    for name, line in (("nowhere.jsonl", "nothing at"), ("empty.jsonl", "empty"), ("picture.jsonl", "text")):
        page.fill("#dd-pairs-path input, #dd-pairs-path textarea", str(tmp_path / name))
        page.click("#dd-pairs-open")
        page.wait_for_function("[...document.querySelectorAll('#dd-pairs-work [role=alert]')]"
                               f".some(e => e.textContent.includes({json.dumps(line)}))")  # fmt: skip
    assert page.is_visible("#dd-pairs-open")


def test_api_judges_an_uploaded_file(server: Server, tmp_path: Path) -> None:
    from gradio_client import Client, handle_file
    from gradio_client.exceptions import AppError

    client = Client(server.url, verbose=False)
    path = written(tmp_path / "train.jsonl", rows(40))
    for given in ({"file": handle_file(str(path))}, {"path": str(path)}):
        report = client.predict(**given, lang="zh", api_name="/diagnose_pairs")
        assert report["schema"] == 1 and report["subject"]["kind"] == "pairs" and report["lang"] == "zh"
        assert report["subject"]["name"] == "train.jsonl"
        assert "PRF003" in {f["code"] for f in report["findings"] if f["severity"] != "ok"}
    for bad in ({"file": {"path": "/etc/passwd"}}, {"path": "/nowhere"}, {}):
        with pytest.raises(AppError):
            client.predict(**bad, api_name="/diagnose_pairs")
