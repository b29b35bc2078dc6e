"""The app as a visitor meets it: a real server, a real browser."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from app_in_browser import Server, serve
from weight_files import tiny_llama, write_safetensors

from diagnostics import report_store
from diagnostics.report import Cause, Evidence, Finding, Report, Skipped, Subject
from diagnostics.words import say
from pipeline.config_files import CONFIGS, load_config
from ui import examples, uploads
from ui.allowed_paths import is_allowed
from ui.api import no_files
from ui.interface_words import browser_language
from ui.running_diagnosis import ONE_AT_A_TIME, Case, Run, find_run, start
from ui.visitor_case import BadCase, checked_case

ROOT = Path(__file__).resolve().parent.parent
HOSTILE = (
    "<script>window.hacked=1</script><img src=x onerror=window.hacked=1></style></textarea>`${window.hacked=1}`"
    "{{value}}"
    "[a](javascript:window.hacked=1)__i18n__{\"key\":\"path\"}\u202e\x1b[31m'\" onmouseover=window.hacked=1 x='"
)


# --- a checkpoint ---


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama whose layers are all NaN in one place, so that depth weights has something to say."""
    folder = tmp_path_factory.mktemp("models") / "tiny <b>llama"
    tensors = tiny_llama()
    tensors["model.layers.1.mlp.up_proj.weight"][3, 4] = np.nan
    write_safetensors(folder / "model.safetensors", tensors)
    config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 32, "num_hidden_layers": 2,
              "num_attention_heads": 4, "intermediate_size": 64, "vocab_size": 96}  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def diagnose(page: Any, path: Path | str, depth: str) -> str:
    """Fill the form, press the button, wait for the finished report; its address."""
    page.fill("#dd-path input, #dd-path textarea", str(path))
    page.click(f"#dd-depth label:has(input[value={depth}])")
    page.click("#dd-diagnose")
    page.wait_for_function("document.querySelector('.dd-verdict')?.dataset.report && document.querySelector('#dd-bar')"
                           " && !document.querySelector('.dd-verdict').dataset.running", timeout=60_000)  # fmt: skip
    page.wait_for_function("location.search.includes('report=')")
    return str(page.url)


@pytest.fixture(scope="module")
def diagnosed(server: Server, browser: Any, checkpoint: Path) -> tuple[str, str]:
    """(address, headline) of a report made by clicking."""
    page = browser.new_page(locale="en-US")
    page.goto(server.url)
    page.wait_for_selector(".dd-verdict")
    address = diagnose(page, checkpoint, "weights")
    headline = page.inner_text(".dd-verdict h2")
    page.close()
    return address, headline


# --- what a visitor sees ---


@pytest.mark.parametrize(("locale", "lang"), [("en-US", "en"), ("zh-CN", "zh"), ("zh", "zh")])
def test_first_screen_is_a_finished_report(server: Server, visit: Callable[..., Any], locale: str, lang: str) -> None:
    stored = report_store.read_report(CONFIGS / "examples" / "founding_case.json")
    page = visit(server.url, locale=locale)
    assert page.inner_text(".dd-verdict h2") == say(stored, lang).causes[0].title
    assert len(page.query_selector_all("#dd-examples button")) == 4
    assert page.query_selector(".dd-chart .js-plotly-plot") is None or stored.curves
    assert page.url == server.url


def test_tab_clicked_before_the_page_is_filled_stays_open(server: Server, browser: Any) -> None:
    page = browser.new_page(locale="en-US")
    held: list[Any] = []
    page.route("**/gradio_api/run/predict*", lambda route: route.continue_() if held else held.append(route))
    page.goto(server.url)
    page.click("button[role=tab]:has-text('Train')")
    while not held:
        page.wait_for_timeout(20)
    held[0].continue_()
    page.wait_for_selector(".dd-verdict", state="attached")
    page.wait_for_timeout(2000)  # that nothing closes it can't be waited for
    assert page.get_attribute("button[role=tab]:has-text('Train')", "aria-selected") == "true"
    page.close()


def test_diagnosis_shows_the_verdict(diagnosed: tuple[str, str], visit: Callable[..., Any]) -> None:
    address, headline = diagnosed
    page = visit(address)
    assert page.inner_text(".dd-verdict h2") == headline
    assert page.inner_text(".dd-verdict.dd-problems .dd-eyebrow").startswith("tiny <b>llama")
    assert page.query_selector("[id='dd-WGT001'] .dd-error") is not None
    page.click("[id='dd-WGT001'] summary")
    assert "up_proj" in page.inner_text("[id='dd-WGT001'] .dd-evidence")


def test_language_switches_without_running_again(diagnosed: tuple[str, str], visit: Callable[..., Any]) -> None:
    address, headline = diagnosed
    page = visit(address)
    numbers = page.inner_text(".dd-counts")
    page.click("#dd-lang label:has(input[value=zh])")
    page.wait_for_function("document.querySelector('#dd-diagnose').textContent.includes('诊断')")
    chinese = page.inner_text(".dd-verdict h2")
    assert chinese != headline and any("\u4e00" <= c <= "\u9fff" for c in chinese)
    assert [c for c in page.inner_text(".dd-counts") if c.isdigit()] == [c for c in numbers if c.isdigit()]
    page.reload()
    page.wait_for_selector(".dd-verdict")
    assert page.inner_text(".dd-verdict h2") == chinese  # the browser remembers
    page.click("#dd-lang label:has(input[value=en])")
    page.wait_for_function(f"document.querySelector('.dd-verdict h2').textContent === {json.dumps(headline)}")


def test_form_survives_a_reload(server: Server, visit: Callable[..., Any], checkpoint: Path) -> None:
    page = visit(server.url)
    diagnose(page, checkpoint, "files")
    page.reload()
    page.wait_for_selector("#dd-bar")
    assert page.input_value("#dd-path input, #dd-path textarea") == str(checkpoint)
    assert page.is_checked("#dd-depth input[value=files]")


def test_share_link_outlives_the_app(
    diagnosed: tuple[str, str], server: Server, home: Path, visit: Callable[..., Any]
) -> None:
    address, headline = diagnosed
    again = serve(home)
    try:
        page = visit(address.replace(server.url, again.url))
        assert page.inner_text(".dd-verdict h2") == headline
        missing = visit(again.url + "?report=" + "A" * 22)
        assert "no report" in missing.inner_text(".dd-verdict h2")
    finally:
        again.stop()


def test_dropped_files_are_a_checkpoint(server: Server, visit: Callable[..., Any], checkpoint: Path) -> None:
    page = visit(server.url)
    page.set_input_files("#dd-upload input[type=file]", [str(p) for p in sorted(checkpoint.iterdir())])
    page.wait_for_function("document.querySelector('#dd-kept').textContent.includes('config.json')")
    address = diagnose(page, "", "weights")
    assert page.query_selector("[id='dd-WGT001'] .dd-error") is not None
    assert page.inner_text(".dd-eyebrow").startswith("upload")
    stored = (server.home / "reports" / (address.split("report=")[1] + ".json")).read_text(encoding="utf-8")
    assert "dpo-doctor-uploads" not in stored  # whoever gets the link does not get the files


def test_bad_input_is_answered_in_words(server: Server, visit: Callable[..., Any]) -> None:
    page = visit(server.url)
    page.fill("#dd-path input, #dd-path textarea", "/nowhere/<img src=x>")
    page.click("#dd-diagnose")
    page.wait_for_selector(".dd-verdict[role=alert]")
    assert "/nowhere/<img src=x>" in page.inner_text(".dd-verdict")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_phone_has_no_sideways_scroll(diagnosed: tuple[str, str], visit: Callable[..., Any], theme: str) -> None:
    page = visit(diagnosed[0], viewport={"width": 390, "height": 844}, color_scheme=theme)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert not page.is_visible("#dd-diagnose")
    page.click("#dd-case-toggle")
    assert page.is_visible("#dd-diagnose")
    assert page.evaluate("document.body.classList.contains('dark')") == (theme == "dark")


def hostile_report() -> Report:
    finding = Finding("GEN002", "x", "error", "nothing-known", {"text": HOSTILE}, (Evidence(HOSTILE, HOSTILE),))
    return Report(
        subject=Subject("checkpoint", HOSTILE, HOSTILE, HOSTILE), verdict="problems",
        causes=(Cause(HOSTILE, 0.9, ("GEN002",), (HOSTILE,), "forward"), Cause("undertrained", 0.2, (), (), HOSTILE)),
        findings=(finding, replace(finding, code="WGT001", evidence=(Evidence(HOSTILE, {HOSTILE: [HOSTILE]}),))),
        skipped=(Skipped("FWD002", HOSTILE, {"x": HOSTILE}), Skipped("FWD003", "check_crashed", {"error": HOSTILE})),
        samples=(dict.fromkeys(("prompt", "gold", "strategy", "text", "stop"), HOSTILE) | {"ended": True},),
        curves={"format_autopsy": [{"label": HOSTILE, "format": HOSTILE, "nats": 1.0, "best": True, "declared": True}],
                "distance_to_base": [{"layer": HOSTILE, "relative": 0.1}]},
        created=HOSTILE, versions={HOSTILE: HOSTILE}, tool_version=HOSTILE, depth="files",
    )  # fmt: skip


def test_hostile_text_is_only_text(server: Server, home: Path, visit: Callable[..., Any], tmp_path: Path) -> None:
    path = home / "reports" / ("H" * 22 + ".json")
    path.parent.mkdir(exist_ok=True)
    path.write_text(hostile_report().dumps(), encoding="utf-8")
    page = visit(server.url + "?report=" + "H" * 22, ready=".dd-chart .js-plotly-plot")
    for summary in page.query_selector_all(".dd-card summary"):
        summary.evaluate("e => { e.parentElement.open = true }")
    page.hover(".dd-samples .dd-text")
    assert page.evaluate("window.hacked") is None
    assert page.evaluate("document.querySelectorAll('#dd-report script, #dd-report img, #dd-report [onmouseover],"
                         " #dd-report [onerror], #dd-report a[href^=\"javascript\"]').length") == 0  # fmt: skip
    shown = page.inner_text(".dd-samples")
    assert "<script>window.hacked=1</script>" in shown and "${window.hacked=1}" in shown and "{{value}}" in shown
    assert "__i18n__" in shown and "\u202e" not in shown
    with page.expect_download() as download:
        page.click("#dd-html")
    saved = tmp_path / "saved.html"
    download.value.save_as(saved)
    assert "<script" not in saved.read_text(encoding="utf-8")
    offline = visit(saved.as_uri(), ready="h1")
    assert offline.evaluate("window.hacked") is None


@pytest.mark.parametrize("form", ["json", "md", "html"])
def test_downloads(diagnosed: tuple[str, str], visit: Callable[..., Any], form: str) -> None:
    page = visit(diagnosed[0], ready="#dd-bar")
    with page.expect_download() as download:
        page.click(f"#dd-{form}")
    content = Path(download.value.path()).read_text(encoding="utf-8")
    assert download.value.suggested_filename.endswith(f".{form}") and "WGT001" in content
    if form == "json":
        assert json.loads(content)["schema"] == 1


def test_api_gives_the_report(server: Server, checkpoint: Path) -> None:
    from gradio_client import Client
    from gradio_client.exceptions import AppError

    client = Client(server.url, verbose=False)
    named = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    assert list(named) == ["/diagnose_checkpoint", "/diagnose_log", "/diagnose_pairs"]  # what the page itself calls stays private
    log = client.predict(text="{'loss': 0.0, 'grad_norm': nan}\n" * 9, api_name="/diagnose_log")
    assert log["causes"][0]["id"] == "numeric_overflow" and len(log["curves"]["loss"]["value"]) == 9
    report = client.predict(str(checkpoint), depth="weights", lang="zh", api_name="/diagnose_checkpoint")
    assert report["schema"] == 1 and report["verdict"] == "problems" and report["lang"] == "zh"
    with pytest.raises(AppError, match="nothing at /nowhere"):
        client.predict("/nowhere", api_name="/diagnose_checkpoint")


def test_api_takes_nothing_in_a_report_for_a_file() -> None:
    from gradio_client.utils import is_file_obj, traverse

    trap = {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}
    found: list[Any] = []
    traverse(no_files({"findings": [{"params": trap, "evidence": [{"where": "x", "value": [trap]}]}]}), found.append,
             is_file_obj)  # fmt: skip
    assert not found


# --- parts of it, without a browser ---


def finished(run: Run) -> Run:
    for _ in range(600):
        if run.state == "done":
            return run
        time.sleep(0.05)
    raise AssertionError("still running")


def test_run_is_found_again_and_stored(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DPO_DOCTOR_HOME", str(tmp_path))
    run = finished(start(Case(str(checkpoint), depth="files")))
    assert run.problem is None and find_run(run.id) is run
    stored = report_store.load(run.id)
    assert run.report is not None and stored.dumps() == run.report.dumps()
    assert [f.signal for f in run.findings] == [f.signal for f in stored.findings]


def test_run_can_be_cancelled_while_it_waits(checkpoint: Path) -> None:
    with ONE_AT_A_TIME:
        run = start(Case(str(checkpoint)))
        assert run.state == "waiting"
        run.cancel.set()
        assert finished(run).report is None


def test_store_keeps_out_what_is_no_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DPO_DOCTOR_HOME", str(tmp_path))
    report = say(hostile_report(), "en")
    first, second = report_store.save(report), report_store.save(report)
    assert first != second and len(first) >= 22
    for bad in ("", "short", "../" * 8 + "etc/passwd", "a" * 21, "a" * 65, "a" * 22 + "\n"):
        with pytest.raises(report_store.ReportNotFound):
            report_store.load(bad)
    (tmp_path / "reports" / ("b" * 22 + ".json")).write_text("[" * 100_000)
    with pytest.raises(report_store.ReportNotFound):
        report_store.load("b" * 22)
    assert not list((tmp_path / "reports").glob("*.part"))


def test_store_clips_what_is_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DPO_DOCTOR_HOME", str(tmp_path))
    report = hostile_report()
    large = replace(report.findings[0], evidence=(Evidence("x", "y" * (report_store.MAX_BYTES + 1)),))
    kept = report_store.load(report_store.save(replace(report, findings=(large,))))
    assert kept.findings[0].code == "GEN002" and len(kept.findings[0].evidence[0].value) < 5000


def test_concurrent_saves_leave_whole_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DPO_DOCTOR_HOME", str(tmp_path))
    report, wanted = hostile_report(), report_store.new_id()
    threads = [threading.Thread(target=report_store.save, args=(report, wanted)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert report_store.load(wanted).dumps() == report.dumps()


def test_public_app_keeps_to_its_folders(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DPO_DOCTOR_PUBLIC", "1")
    monkeypatch.chdir(ROOT)
    (tmp_path / "link").symlink_to(checkpoint)
    for named in (str(checkpoint), "/etc/passwd", "configs/words", "../x", "\0", str(tmp_path / "link")):
        assert not is_allowed(named, (tmp_path,)), named
        with pytest.raises(BadCase, match="path_refused"):
            checked_case(named, roots=(tmp_path,))
    assert is_allowed("owner/name@main") and is_allowed(str(checkpoint), (checkpoint,))
    monkeypatch.setenv("DPO_DOCTOR_ROOTS", str(checkpoint.parent))
    assert is_allowed(str(checkpoint)) and is_allowed(str(tmp_path / "link"))
    with pytest.raises(BadCase, match="path_refused"):
        checked_case(str(checkpoint), data="/etc/passwd")


def test_public_app_does_not_follow_an_adapter_to_this_machine(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DPO_DOCTOR_PUBLIC", "1")
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    for base in (str(checkpoint), "../../" + checkpoint.parent.name + "/" + checkpoint.name, str(tmp_path)):
        (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": base}))
        if not Path(base).is_absolute():
            assert (adapter / base).exists()
        with pytest.raises(BadCase, match="base_refused"):
            checked_case(str(adapter), roots=(adapter,))


def test_uploads_are_cleaned_and_sorted(tmp_path: Path) -> None:
    names = ("config.json", "tokenizer.json", "train rows;rm -rf.jsonl", "console.log", "trainer_log.jsonl", "a.exe")
    for name in names:
        (tmp_path / name).write_text("{}")
    kept = uploads.keep([str(tmp_path / n) for n in names])
    assert kept.checkpoint == ("config.json", "tokenizer.json") and kept.refused == ("a.exe",)
    assert kept.data == ("train_rows_rm_-rf.jsonl",) and kept.log == ("console.log", "trainer_log.jsonl")
    assert uploads.found(kept.token) == replace(kept, refused=())
    assert uploads.found("../" + kept.token) is None and uploads.found("A" * 22) is None
    assert uploads.safe_name("..\\..\\<script>.json") == "_script_.json"
    case = checked_case("owner/name", upload=kept)
    assert case.tokenizer == str(kept.folder) and case.model_config == str(kept.folder / "config.json")


def test_examples_are_three_sick_and_one_healthy() -> None:
    causes = [load_config("demo.yaml")["cases"][name]["cause"] for name in examples.NAMES]
    assert len(causes) == 4 and sum(cause is None for cause in causes) == 1


@pytest.mark.parametrize(
    ("header", "lang"),
    [("zh-CN,zh;q=0.9,en;q=0.8", "zh"), ("en-US,en;q=0.9,zh;q=0.8", "en"), ("fr,zh-TW;q=0.5", "zh"),
     ("de;q=x", "en"), (None, "en"), ("en;q=0.1, zh;q=0.7", "zh")],
)  # fmt: skip
def test_language_of_the_browser(header: str | None, lang: str) -> None:
    assert browser_language(header) == lang
