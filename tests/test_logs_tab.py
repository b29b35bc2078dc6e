"""The tab Logs as a visitor meets it: a real server, a real browser, logs written here."""

from __future__ import annotations

import csv
import gzip
import json
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
from app_in_browser import Server, serve

from diagnostics import report_store
from diagnostics.diagnose_log import diagnose_log
from diagnostics.render import to_html, to_markdown, to_text
from diagnostics.report import Finding, Report, Subject
from diagnostics.words import say
from pipeline.config_files import CONFIGS
from ui import followed_logs, log_charts, logs_tab, uploads
from ui.log_case import LogCase, checked_log
from ui.log_charts import ShownRun, chart, spot_of, to_csv
from ui.visitor_case import BadCase

HOSTILE = "<img src=x onerror=window.hacked=1>\u202e\x1b[31m$`{{value}}`__i18n__{\"key\":\"path\"}'\""
DRAWN = "#dd-log-plot .js-plotly-plot.dd-drawn"
PLOT = f"document.querySelector('{DRAWN}')"


def line(step: int, loss: float, **more: float) -> str:
    return json.dumps({"loss": loss, "grad_norm": 0.8, "learning_rate": 1e-5, "epoch": step / 100, "step": step, **more})


def sound(steps: int = 200, seed: int = 3) -> list[str]:
    """Lines of a run whose loss falls to 1.2 and stays there, evaluated every 20 steps."""
    rng = Random(seed)
    lines = []
    for step in range(1, steps + 1):
        level = 1.2 + 2.4 * math.exp(-step / 25)
        lines.append(line(step, round(level + rng.gauss(0, 0.04), 4)))
        if step % 20 == 0:
            lines.append(json.dumps({"eval_loss": round(level + 0.06, 4), "epoch": step / 100, "step": step}))
    return lines


def lost(after: int = 120) -> list[str]:
    """The same, and from one step on the loss is NaN."""
    kept = [text for text in sound() if json.loads(text)["step"] <= after]
    return kept + [f'{{"loss": NaN, "grad_norm": NaN, "learning_rate": 1e-05, "step": {s}}}' for s in range(after + 1, 201)]


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("logs")
    (folder / "sound.jsonl").write_text("\n".join(sound()) + "\n", encoding="utf-8")
    (folder / "lost.jsonl").write_text("\n".join(lost()) + "\n", encoding="utf-8")
    with gzip.open(folder / "packed.jsonl.gz", "wt", encoding="utf-8") as file:
        file.write("\n".join(sound(seed=5)) + "\n")
    return folder


@pytest.fixture
def tab(server: Server, visit: Callable[..., Any]) -> Iterator[Callable[..., Any]]:
    """Opens the page and its tab Logs."""

    def opened(**context: Any) -> Any:
        page = visit(server.url, **context)
        page.click("button[role=tab]:nth-of-type(2)")
        page.wait_for_selector("#dd-log-verdict .dd-verdict[data-report]")
        return page

    yield opened


def judged(page: Any, runs: int = 1) -> str:
    """Waits until so many runs beside the first example are judged and drawn; the headline."""
    page.wait_for_function(f"(document.querySelector('#dd-log-verdict .dd-verdict')?.dataset.report ?? '').split(',')"
                           f".filter(id => id && !id.startsWith('example-')).length === {runs}")  # fmt: skip
    page.wait_for_selector(DRAWN)
    page.wait_for_function(f"{PLOT}.data.length > 0")
    return str(page.inner_text("#dd-log-verdict h2"))


def read(page: Any, path: Path, runs: int = 1) -> str:
    page.fill("#dd-log-path input, #dd-log-path textarea", str(path))
    page.click("#dd-log-read")
    return judged(page, runs)


def drawn(page: Any, curve: str) -> list[dict[str, Any]]:
    """What Plotly drew of a curve: one trace, or a faint one and a smoothed one."""
    return list(page.evaluate(
        f"{PLOT}.data.filter(t => t.meta?.curve === '{curve}' && !t.meta.lost)"
        ".map(t => ({x: t.x, y: t.y, opacity: t.opacity ?? 1, name: t.name, colour: t.line.color}))"
    ))  # fmt: skip


# --- what a visitor sees ---


def test_first_visit_shows_a_finished_example(tab: Callable[..., Any]) -> None:
    page = tab()
    page.wait_for_selector("#dd-log-verdict [data-report^=example-]")
    page.wait_for_selector(DRAWN)
    assert "Now give your own log" in page.inner_text("#dd-log-verdict .dd-banner")
    assert len(page.query_selector_all("#dd-log-examples button")) == 2
    page.click("#dd-log-examples button:last-child")
    judged(page)
    assert page.query_selector("#dd-log-verdict .dd-problems") is not None
    assert "200 of 200 steps" in page.inner_text(".dd-facts")


def test_dropped_logs_are_drawn_and_judged(tab: Callable[..., Any], logs: Path) -> None:
    page = tab()
    page.set_input_files("#dd-log-upload input[type=file]", str(logs / "packed.jsonl.gz"))
    headline = judged(page)
    assert "Nothing wrong" in headline and page.query_selector("#dd-log-verdict .dd-healthy") is not None
    faint, smooth = drawn(page, "loss")
    assert len(faint["x"]) == 200 and faint["opacity"] < 1 and smooth["opacity"] == 1
    assert len(drawn(page, "eval_loss")[0]["x"]) == 10
    assert page.evaluate(f"{PLOT}.querySelectorAll('.scatterlayer .trace').length") >= 5
    assert page.evaluate("document.querySelector('#dd-log-upload .file-preview')") is None  # ready for the next one


def test_pasted_lines_are_a_log(tab: Callable[..., Any]) -> None:
    page = tab()
    page.fill("#dd-log-paste textarea", "\n".join(sound(60)))
    page.click("#dd-log-read")
    judged(page)
    assert page.inner_text("#dd-log-verdict .dd-eyebrow").startswith("pasted.log")


def test_anomalies_lead_to_their_findings_and_back(tab: Callable[..., Any], logs: Path) -> None:
    page = tab()
    read(page, logs / "lost.jsonl")
    assert page.query_selector("#dd-log-verdict .dd-problems") is not None
    crosses = page.evaluate(f"{PLOT}.data.filter(t => t.meta?.lost).flatMap(t => t.x)")
    assert crosses and min(crosses) == 121
    page.evaluate(f"{PLOT}.scrollIntoView({{block: 'center'}})")
    mark = page.evaluate(f"""() => {{
        const gd = {PLOT}, trace = gd.data.find(t => t.meta?.marks), box = gd.getBoundingClientRect();
        const name = k => gd._fullLayout[trace[k].replace(/^([xy])/, '$1axis')], x = name('xaxis'), y = name('yaxis');
        return {{code: trace.text[0], x: box.left + x._offset + x.d2p(trace.x[0]), y: box.top + y._offset + y.d2p(trace.y[0])}};
    }}""")
    page.mouse.move(mark["x"], mark["y"])
    page.mouse.click(mark["x"], mark["y"])
    page.wait_for_selector(f"#dd-log-details details.dd-finding.dd-flash[id^='dd-{mark['code']}']")
    page.click(f"#dd-log-details [id^='dd-{mark['code']}'] > summary")
    page.click(f"#dd-log-marks button:has-text('{mark['code']}')")  # the same with a keyboard
    page.wait_for_selector(f"#dd-log-details details[id^='dd-{mark['code']}'][open]")
    shapes = page.evaluate(f"{PLOT}.layout.shapes.length")
    page.click(f"#dd-log-details [id^='dd-{mark['code']}'] .dd-spot")
    page.wait_for_function(f"{PLOT}.layout.shapes.length > {shapes}")


def test_zoom_scale_axis_and_smoothing_need_no_server(tab: Callable[..., Any], logs: Path) -> None:
    page = tab()
    read(page, logs / "sound.jsonl")
    page.context.set_offline(True)
    whole = page.evaluate(f"{PLOT}.layout.yaxis.range")
    page.evaluate(f"{PLOT}.scrollIntoView({{block: 'start'}})")
    box = page.query_selector(f"{DRAWN} .nsewdrag").bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.6, box["y"] + 80)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.8, box["y"] + 84, steps=6)
    page.mouse.up()
    page.wait_for_function(f"{PLOT}.layout.xaxis.range[0] > 80 && {PLOT}.layout.xaxis.range[1] < 200")
    near = page.evaluate(f"{PLOT}.layout.yaxis.range")
    assert near[1] - near[0] < (whole[1] - whole[0]) / 4  # the scale follows, so that small things show
    page.mouse.dblclick(box["x"] + 300, box["y"] + 100)
    page.wait_for_function(f"{PLOT}.layout.xaxis.autorange === true")
    page.click("#dd-log-scale input")
    page.wait_for_function(f"{PLOT}.layout.yaxis.type === 'log'")
    page.click("#dd-axis label:has(input[value=epoch])")
    page.wait_for_function(f"Math.max(...{PLOT}.data[0].x) === 2")
    page.focus("#dd-smooth input[type=range]")
    page.keyboard.press("Home")
    page.wait_for_function(f"{PLOT}.data.filter(t => t.meta?.curve === 'loss').length === 1")
    page.context.set_offline(False)
    page.reload()  # both are as they were left
    judged(page)
    assert page.evaluate(f"{PLOT}.layout.yaxis.type") == "log" and len(drawn(page, "loss")) == 1
    assert page.input_value("#dd-log-path input, #dd-log-path textarea") == str(logs / "sound.jsonl")


def test_second_run_stands_beside_the_first(tab: Callable[..., Any], logs: Path, visit: Callable[..., Any]) -> None:
    page = tab()
    first = read(page, logs / "lost.jsonl")
    page.check("#dd-log-beside input")
    assert read(page, logs / "sound.jsonl", runs=2) == first
    rows = page.query_selector_all(".dd-compare tbody tr")
    assert [row.query_selector("th").inner_text() for row in rows] == ["lost.jsonl", "sound.jsonl"]
    assert rows[1].query_selector_all("td")[0].inner_text() == "200"
    assert len({trace["colour"] for trace in drawn(page, "loss")}) == 2
    address = page.url
    page.click(".dd-compare [data-run='1']")  # its findings are wanted
    page.wait_for_function("document.querySelector('.dd-compare tbody th').textContent === 'sound.jsonl'")
    assert "Nothing wrong" in page.inner_text("#dd-log-verdict h2")
    page.click(".dd-compare [data-remove='1']")
    judged(page, 1)
    page.wait_for_function("!document.querySelector('.dd-compare')")
    shared = visit(address, ready="#dd-log-verdict .dd-verdict")  # both open in the right tab
    assert judged(shared, 2) == first
    assert shared.is_visible(".dd-compare") and not shared.is_visible("#dd-case")


def test_exports(tab: Callable[..., Any], logs: Path) -> None:
    page = tab()
    read(page, logs / "lost.jsonl")
    saved = {}
    for form, button in {"png": "[data-picture=png]", "svg": "[data-picture=svg]", "csv": "#dd-log-csv",
                         "json": "#dd-log-json", "md": "#dd-log-md", "html": "#dd-log-html"}.items():  # fmt: skip
        with page.expect_download() as download:
            page.click(button)
        assert download.value.suggested_filename.endswith(f".{form}")
        saved[form] = Path(download.value.path()).read_bytes()
    assert saved["png"][:8] == b"\x89PNG\r\n\x1a\n" and len(saved["png"]) > 10_000
    picture = saved["svg"].decode()
    assert "<svg" in picture and "lost.jsonl" in picture and picture.count("<path") > 5
    rows = list(csv.DictReader(saved["csv"].decode().splitlines()))
    losses = [row for row in rows if row["curve"] == "loss"]
    assert len(losses) == 200 and losses[0]["step"] == "1" and losses[-1]["value"].lower() == "nan"
    assert json.loads(saved["json"])["subject"]["kind"] == "log"
    assert "▁" in saved["md"].decode() and "<polyline" in saved["html"].decode()


def test_language_switches_without_reading_again(tab: Callable[..., Any], logs: Path, tmp_path: Path) -> None:
    path = tmp_path / "gone.jsonl"
    path.write_text("\n".join(lost()), encoding="utf-8")
    page = tab()
    english = read(page, path)
    path.unlink()
    page.click("#dd-lang label:has(input[value=zh])")
    page.wait_for_function("document.querySelector('#dd-log-read').textContent.includes('读取')")
    page.wait_for_function(f"{PLOT}.layout.annotations.some(a => a.text.includes('损失'))")
    chinese = page.inner_text("#dd-log-verdict h2")
    assert chinese != english and any("\u4e00" <= c <= "\u9fff" for c in chinese)


def test_unknown_form_is_asked_for(tab: Callable[..., Any], server: Server) -> None:
    page = tab()
    page.fill("#dd-log-paste textarea", "\n".join(f"[{s}] -> {3 / s:.4f} quux" for s in range(1, 90)))
    page.click("#dd-log-read")
    page.wait_for_selector("#dd-own")
    page.fill("#dd-own-pattern input, #dd-own-pattern textarea", "(?P<loss")
    page.click("#dd-own-read")
    page.wait_for_selector("#dd-log-verdict .dd-banner")
    page.fill("#dd-own-pattern input, #dd-own-pattern textarea", r"\[(?P<step>\d+)\] -> (?P<loss>\S+)")
    page.click("#dd-own-read")
    judged(page)
    page.wait_for_function("!document.querySelector('#dd-own')?.offsetParent")
    assert drawn(page, "loss")[0]["y"][0] == 3


@pytest.mark.parametrize(("given", "said"), [("", "Name a log first"), ("/nowhere/<img src=x>", "/nowhere/<img src=x>")])
def test_bad_input_is_answered_in_words(tab: Callable[..., Any], given: str, said: str) -> None:
    page = tab()
    page.fill("#dd-log-path input, #dd-log-path textarea", given)
    page.click("#dd-log-read")
    page.wait_for_selector("#dd-log-verdict .dd-verdict[role=alert]")
    assert said in page.inner_text("#dd-log-verdict")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_phone_has_no_sideways_scroll(tab: Callable[..., Any], logs: Path, theme: str) -> None:
    page = tab(viewport={"width": 390, "height": 844}, color_scheme=theme, has_touch=True, is_mobile=True)
    assert not page.is_visible("#dd-log-read")
    page.click("#dd-log-case-toggle")
    read(page, logs / "lost.jsonl")
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert not page.is_visible("#dd-log-read")  # folded again: what was read stands below
    assert page.evaluate(f"{PLOT}.layout.dragmode") is False  # a finger scrolls
    page.click("[data-brush]")
    page.wait_for_function(f"{PLOT}.layout.dragmode === 'zoom'")


def hostile_report() -> Report:
    points = {"n": 3, "step": [1, 2, 3], "value": [2.0, "NaN", 1.0]}
    finding = Finding("LOG002", "x", "error", "nothing-known", {"curve": "loss", "from_step": 2, "text": HOSTILE})
    odd = replace(finding, params={"curve": HOSTILE, "from_step": "x"})
    return Report(Subject("log", HOSTILE), "problems", (), (finding, odd), (),
                  curves={"loss": points, HOSTILE: points, "eval_loss": {"step": [1], "value": []}, "kl": HOSTILE},
                  metrics={"log.last_step": 3, "log.max_steps": "Infinity"})  # fmt: skip


def test_hostile_text_is_only_text(server: Server, home: Path, visit: Callable[..., Any]) -> None:
    path = home / "reports" / ("L" * 22 + ".json")
    path.parent.mkdir(exist_ok=True)
    path.write_text(hostile_report().dumps(), encoding="utf-8")
    page = visit(f"{server.url}?report={'L' * 22}", ready=DRAWN)
    page.hover(f"{DRAWN} .nsewdrag")
    assert page.evaluate("window.hacked") is None
    assert page.evaluate("document.querySelectorAll('#dd-log-report img, #dd-log-report [onerror]').length") == 0
    assert "\u202e" not in page.inner_text("#dd-log-report")


def test_tabs_keep_their_own_addresses(server: Server, visit: Callable[..., Any], logs: Path) -> None:
    page = visit(server.url)
    page.click("button[role=tab]:nth-of-type(2)")
    page.wait_for_selector("#dd-log-verdict .dd-verdict[data-report]")
    read(page, logs / "sound.jsonl")
    page.wait_for_function("location.search.includes('report=')")
    page.click("button[role=tab]:nth-of-type(1)")
    page.wait_for_function("!location.search.includes('report=')")
    page.click("button[role=tab]:nth-of-type(2)")
    page.wait_for_function("location.search.includes('report=')")


def test_public_visitors_drop_or_paste(visit: Callable[..., Any], tmp_path: Path, logs: Path) -> None:
    running = serve(tmp_path, DPO_DOCTOR_PUBLIC="1")
    try:
        page = visit(running.url)
        page.click("button[role=tab]:nth-of-type(2)")
        page.wait_for_selector("#dd-log-upload")
        assert not page.is_visible("#dd-log-path")
        page.set_input_files("#dd-log-upload input[type=file]", str(logs / "sound.jsonl"))
        assert "Nothing wrong" in judged(page)
        assert not page.is_visible("#dd-follow")  # a dropped file is a copy
    finally:
        running.stop()


# --- parts of it, without a browser ---


def test_public_app_keeps_to_its_folders(logs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DPO_DOCTOR_PUBLIC", "1")
    (tmp_path / "link.log").symlink_to(logs / "sound.jsonl")
    for roots in ("", str(tmp_path)):
        monkeypatch.setenv("DPO_DOCTOR_ROOTS", roots)
        for named in (logs, logs / "sound.jsonl", "/etc/*", "/etc/passwd", tmp_path / "link.log", tmp_path, "~/x", "\0"):
            with pytest.raises(BadCase):
                checked_log(str(named))
    monkeypatch.setenv("DPO_DOCTOR_ROOTS", str(logs))
    case = checked_log(str(logs / "sound.jsonl"))
    assert case.grows and case.max_bytes
    with pytest.raises(BadCase, match="upload_gone"):
        checked_log(token="../" * 8)


def test_page_judges_as_the_command_line_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also by the vocabulary that a config.json beside the log tells."""
    monkeypatch.setenv("DPO_DOCTOR_HOME", str(tmp_path / "home"))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", "vocab_size": 32_000}))
    path, rng = tmp_path / "flat.jsonl", Random(3)
    grow(path, [line(s, round(math.log(32_000) + rng.gauss(0, 0.01), 4)) for s in range(1, 201)])

    def found(report: Report | None) -> list[tuple[str, str, str]]:
        assert report is not None
        return [(f.code, f.outcome, f.severity) for f in report.findings]

    alone = found(diagnose_log([path]))
    assert "at_guessing" in {outcome for _, outcome, _ in alone}
    shown = logs_tab._added(logs_tab.NOTHING, LogCase((str(path),)), False, "en")
    assert found(report_store.load(shown["runs"][0]["id"])) == alone
    followed = followed_logs.follow([str(path)])
    assert followed.poll() and found(followed.report) == alone
    followed_logs.stop(followed.id)


def test_dropped_files_of_one_name_stay_apart(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "trainer_log.jsonl").write_text(line(1, 2.0))
    token, names, refused = uploads.keep_logs([str(tmp_path / f / "trainer_log.jsonl") for f in ("a", "b")])
    assert len(names) == 2 == len(uploads.files(token)) and not refused


def test_chart_gets_no_more_points_than_it_can_draw(tmp_path: Path) -> None:
    path = tmp_path / "long.jsonl"
    rows = [line(s, 2.0 + (50.0 if s == 17_001 else 0.0)) for s in range(1, 30_001)]
    path.write_text("\n".join(rows), encoding="utf-8")
    run = ShownRun("x", diagnose_log([path]))
    for runs in ([run], [run] * 4):
        panels = json.loads(chart(runs, "en"))["panels"]
        curve = panels[0]["curves"][0]
        assert len(curve["value"]) <= 1300 / len(runs) and max(curve["value"]) == 52.0
    assert len(to_csv([run]).splitlines()) > 1200


def test_every_panel_and_curve_has_a_name() -> None:
    for lang in ("en", "zh"):
        said = log_charts.words(lang)
        assert all(f"panel_{entry}" in said for entry, _ in log_charts.PANELS)
        assert all(log_charts.full_name(name, said) for _, names in log_charts.PANELS for name in names)


def test_report_files_hold_a_small_curve(logs: Path) -> None:
    report = diagnose_log([logs / "lost.jsonl"])
    lines = [text for text in to_text(report).splitlines() if "→" in text]
    assert [re.split(r"  +", text.strip())[0] for text in lines] == ["training loss", "evaluation loss"]
    assert "█" in lines[0] and "×" in lines[0] and "×" not in lines[1]
    assert "训练损失" in to_text(say(report, "zh"))
    page = to_html(report)
    assert page.count("<polyline") == 2 and "class='spot error'" in page and "<script" not in page
    for shown in (to_text(hostile_report()), to_markdown(hostile_report()), to_html(hostile_report())):
        assert "\x1b" not in shown and "\u202e" not in shown
    assert "<img" not in to_html(hostile_report())


def test_unreadable_log_is_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "empty.log").write_text("")
    for lang, said in (("en", "log"), ("zh", "日志")):
        report = diagnose_log([tmp_path / "empty.log"], lang=lang)
        shown = to_text(report)
        assert said in shown and "checkpoint" not in shown and "检查点" not in shown


def test_examples_are_one_sound_and_one_faulty() -> None:
    verdicts = {p.name: diagnose_log([p]).verdict for p in sorted((CONFIGS / "examples").glob("log_*.json"))}
    assert verdicts == {"log_few_rows.json": "problems", "log_healthy.json": "healthy"}


def test_spot_needs_a_curve_and_a_step() -> None:
    finding = Finding("LOG004", "x", "warning", "y", {"curve": "loss", "from_step": 5, "to_step": 9})
    assert spot_of(finding) == ("loss", 5.0, 9.0)
    assert spot_of(replace(finding, params={"curve": "loss", "from_step": "NaN"})) is None
    assert spot_of(replace(finding, params={"from_step": 5})) is None


# --- a log that grows ---


def grow(path: Path, lines: list[str]) -> None:
    with open(path, "a", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")


def test_growing_log_is_followed(tab: Callable[..., Any], tmp_path: Path) -> None:
    path = tmp_path / "growing.jsonl"
    lines = lost()
    grow(path, lines[:60])
    page = tab()
    assert "Nothing wrong" in read(page, path)
    points = len(drawn(page, "loss")[0]["x"])
    page.check("#dd-follow input")
    page.wait_for_selector(".dd-live")
    assert "Last new line" in page.inner_text("#dd-live-line")
    page.evaluate(f"{PLOT}.scrollIntoView({{block: 'start'}})")
    grow(path, lines[60:90])
    page.wait_for_function(f"{PLOT}.data[0].x.length > {points}")
    plot = page.evaluate_handle(PLOT)
    assert "Nothing wrong" in page.inner_text("#dd-log-verdict h2")
    grow(path, lines[90:])
    page.wait_for_selector("#dd-log-verdict .dd-problems")
    page.wait_for_function(f"Math.max(...{PLOT}.data[0].x) === 200")
    assert page.evaluate("plot => plot.isConnected", plot)  # redrawn in place: a zoom would have stayed
    page.click("button[role=tab]:nth-of-type(1)")
    page.click("button[role=tab]:nth-of-type(2)")
    page.wait_for_function("!document.querySelector('#dd-follow input').checked && !document.querySelector('.dd-live')")
    assert page.query_selector("#dd-log-verdict .dd-problems") is not None
    page.reload()  # what its link opens is what was seen last
    judged(page)
    assert page.query_selector("#dd-log-verdict .dd-problems") is not None


def test_following_ends_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DPO_DOCTOR_HOME", str(tmp_path))
    path = tmp_path / "growing.jsonl"
    lines = sound()
    grow(path, lines[:30])
    followed = followed_logs.follow([str(path)])
    assert followed.poll() and not followed.poll() and not followed.silent
    grow(path, lines[30:40])
    followed._judging = 0.0
    assert followed.poll() and followed.report is not None
    assert len(followed.report.curves["loss"]["value"]) == sum("grad_norm" in text for text in lines[:40])
    followed.last_line -= followed_logs.SILENT_SECONDS + 1
    assert followed.silent
    followed.asked -= followed_logs.FORGOTTEN_SECONDS + 1
    other = followed_logs.follow([str(path)])
    assert followed_logs.find_followed(followed.id) is None and report_store.load(followed.id).subject.kind == "log"
    followed_logs.stop(other.id)
    path.unlink()
    with pytest.raises(FileNotFoundError):
        followed.poll()
