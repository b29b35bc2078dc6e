// Histograms of the pairs: drawn by the server one by one, brushed here.
(() => {
  const P = window.ddPairs;
  let drawing = 0, brushing = null;

  async function plots() { // beside everything else, as over a large set each takes a moment
    const turn = ++drawing, { id, lang, view } = P.state;
    if (!P.root.querySelector(".dd-plots-box").open) return;
    const place = P.part("plots"), names = () => [...place.querySelectorAll("[data-plot]")].map((box) => box.dataset.plot).join();
    const framed = await P.server.pairs_plots({ id, lang });
    if (turn !== drawing || !framed?.frame) return;
    const made = document.createElement("div");
    made.innerHTML = framed.frame;
    const wanted = [...made.querySelectorAll("[data-plot]")].map((box) => box.dataset.plot).join();
    if (names() !== wanted || place.dataset.lang !== lang) place.innerHTML = framed.frame;
    place.dataset.lang = lang;
    for (const box of place.querySelectorAll("[data-plot]")) {
      const answer = await P.server.pairs_plots({ id, lang, view, column: box.dataset.plot });
      if (turn !== drawing || !answer) return;
      const end = box.contains(document.activeElement) ? document.activeElement.dataset.end : null;
      box.innerHTML = answer.plot ?? "";
      if (end) box.querySelector(`[data-end="${end}"]`)?.focus();
      box.hidden = !answer.plot;
    }
  }

  // --- brushing a histogram ---

  function barsAt(box, x) {
    const place = box.getBoundingClientRect(), edges = JSON.parse(box.dataset.edges);
    const n = edges.length - 1;
    return Math.min(n - 1, Math.max(0, Math.floor(((x - place.left) / place.width) * n)));
  }

  function drawBrush() {
    const { box, from, to } = brushing, mark = box.querySelector(".dd-brushed");
    const [a, b] = [Math.min(from, to), Math.max(from, to)];
    mark.setAttribute("x", a);
    mark.setAttribute("width", b - a + 1);
  }

  function endBrush(event) {
    if (!brushing) return;
    const { box, from, to } = brushing;
    brushing = null;
    const edges = JSON.parse(box.dataset.edges), n = edges.length - 1;
    if (event.type === "pointercancel" || n < 1) return box.querySelector(".dd-brushed").setAttribute("width", 0);
    const [a, b] = [Math.min(from, to), Math.max(from, to)];
    // a bin ends just below where the next begins
    const end = box.dataset.whole ? edges[b + 1] - 1 : edges[b + 1] - 1e-6 * Math.abs(edges[b + 1] - edges[b]);
    P.range(box.dataset.column, a === 0 ? null : edges[a], b === n - 1 ? null : Math.max(edges[a], end));
  }

  function listenToPlots() {
    P.root.addEventListener("pointerdown", (event) => {
      const box = event.target.closest(".dd-hist");
      if (!box || event.button) return;
      const at = barsAt(box, event.clientX);
      brushing = { box, from: at, to: at };
      box.setPointerCapture(event.pointerId);
      drawBrush();
    });
    P.root.addEventListener("pointermove", (event) => {
      if (!brushing) return;
      brushing.to = barsAt(brushing.box, event.clientX);
      drawBrush();
    });
    P.root.addEventListener("pointerup", endBrush);
    P.root.addEventListener("pointercancel", endBrush);
    const box = P.root.querySelector(".dd-plots-box");
    box.open = P.stored(localStorage, "dd-pairs-plots", false);
    box.addEventListener("toggle", () => {
      P.store(localStorage, "dd-pairs-plots", box.open);
      if (P.state.state === "open") plots();
    });
  }

  Object.assign(P, { plots, listenToPlots });
})();
