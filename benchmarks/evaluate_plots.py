"""How a scatter of many points stays usable in a real browser: made, sent, drawn, clicked, panned.

    python benchmarks/evaluate_plots.py [--points N]

Prints milliseconds and frames a second, of this machine's browser (without a graphics card WebGL is drawn by the
processor, so these are the slowest figures a visitor sees).
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
FRAMES = 40  # of one panning


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=100_000)
    n = parser.parse_args().points
    import gradio as gr
    from app_in_browser import FLAGS
    from install_chromium import installed_chromium
    from playwright.sync_api import sync_playwright

    from ui.evaluate_plots import Points, loader, scatter
    from ui.look import look

    chance = random.Random(0)
    before = [chance.gauss(0, 1) for _ in range(n)]
    after = [b * 0.6 + chance.gauss(0.3, 1) for b in before]
    began = time.perf_counter()
    won = [i for i in range(n) if after[i] > before[i]]
    lost = [i for i in range(n) if after[i] <= before[i]]
    groups = [Points([before[i] for i in of], [after[i] for i in of], of, name, tone)
              for of, name, tone in ((won, "wins", "good"), (lost, "losses", "bad"))]  # fmt: skip
    figure = scatter(groups, "en", x_title="reward before", y_title="reward after")
    print(f"{n:,} points: made in {1000 * (time.perf_counter() - began):.0f} ms, {len(figure) / 2**20:.2f} MiB of HTML")
    with gr.Blocks() as page:
        loader()
        gr.HTML("<div id='place'></div>")
    _, url, _ = page.launch(prevent_thread_lock=True, quiet=True, **look())
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=installed_chromium(), args=FLAGS)
        tab = browser.new_page(viewport={"width": 1240, "height": 900})
        tab.goto(url)
        tab.wait_for_function("window.Plotly && document.querySelector('#place')")
        drawn = tab.evaluate(
            """async (sent) => {
              const place = document.querySelector('#place'), began = performance.now();
              window.clicked = [];
              place.addEventListener('dd-point', (e) => window.clicked.push([e.detail.row, performance.now()]));
              place.innerHTML = sent;
              const element = place.firstChild;
              while (!element.classList.contains('dd-drawn')) await new Promise((r) => requestAnimationFrame(r));
              await new Promise((r) => requestAnimationFrame(() => requestAnimationFrame(r)));
              return performance.now() - began; }""",
            figure,
        )
        print(f"drawn {drawn:.0f} ms after its HTML came")
        box = tab.locator("#place .nsewdrag").bounding_box()
        assert box is not None
        middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        tab.mouse.move(*middle)
        tab.wait_for_timeout(500)
        tab.evaluate("addEventListener('pointerdown', () => (window.pressed = performance.now()), {capture: true})")
        tab.mouse.click(*middle)
        tab.wait_for_function("window.clicked.length")
        took = tab.evaluate("window.clicked[0][1] - window.pressed")
        print(f"click on a point: told after {took:.0f} ms")
        tab.evaluate("""window.times = [];
          const tick = () => { times.push(performance.now()); requestAnimationFrame(tick); };
          requestAnimationFrame(tick)""")
        tab.mouse.down()
        first = tab.evaluate("performance.now()")
        for step in range(FRAMES):
            tab.mouse.move(middle[0] + 3 * step, middle[1] + step)
        last = tab.evaluate("performance.now()")
        tab.mouse.up()
        gaps = tab.evaluate(
            """([a, b]) => { const t = times.filter((x) => x >= a && x <= b);
                             return t.slice(1).map((x, i) => x - t[i]); }""",
            [first, last],
        )
        gaps.sort()
        print(f"panned: {1000 * len(gaps) / sum(gaps):.0f} frames a second, the slowest after {gaps[-1]:.0f} ms")
        browser.close()
    page.close()


if __name__ == "__main__":
    main()
