// <dd-figure>, the figures that ui/evaluate_plots.py makes. Plotly, which comes with a plot component that the tab holds
// for this (loader()), draws axes and lines; the points of a scatter stand on a canvas below it, as dots while they are few
// and as one picture of how many lie where once they are many.
(() => {
  const COARSE = matchMedia("(pointer: coarse)").matches; // on a touch screen a finger scrolls the page
  const ZOOM = 1.6, STEP = 0.12, WAIT = 100; // WAIT: ms
  const NEAR = 14, MOVED = 4; // pixels
  const MANY = 5000; // points: from here on they are counted per pixel
  const NARROW = 480, LETTER = 9, PLACE = 110; // px: where the name of an axis, or that of a place on it, may not fit into one line
  const shown = new Map(); // element -> {figure, clicked, place, width, open, points, canvas, ring, tip}
  let loaded = null;

  function plotly() { // one wait for all figures
    loaded ??= new Promise((done) => {
      const look = () => (window.Plotly ? done(window.Plotly) : setTimeout(look, WAIT));
      look();
    });
    return loaded;
  }

  const widths = new ResizeObserver((entries) => { for (const { target } of entries) measured(target); });

  function draw(element, figure, clicked) {
    clear(element);
    shown.set(element, { figure, clicked, place: null, width: 0, open: null, over: null });
    element.setAttribute("role", figure.moves ? "group" : "img");
    element.setAttribute("aria-label", figure.label ?? "");
    element.style.minHeight = (figure.layout.height ?? 240) + "px";
    widths.observe(element);
  }

  function clear(element) {
    const it = shown.get(element);
    if (!it) return;
    shown.delete(element);
    widths.unobserve(element);
    if (it.place) window.Plotly?.purge(it.place);
    element.replaceChildren();
    element.classList.remove("dd-drawn", "dd-clicks");
  }

  function measured(element) {
    const it = shown.get(element);
    if (!it || !element.clientWidth) return;
    if (!it.place) make(element, it);
    else if (it.width && it.width !== element.clientWidth) {
      it.width = element.clientWidth;
      window.Plotly.Plots.resize(it.place);
    }
  }

  function narrowed(axis, width) { // its name and its names of places in lines that fit
    if (axis.title?.text) axis.title.text = inLines(axis.title.text, width / LETTER);
    if (axis.ticktext) Object.assign(axis, { ticktext: axis.ticktext.map((name) => name.replace(" … ", "<br>… ")), tickangle: 0 });
  }

  function inLines(line, most) { // broken at its last space that leaves so many letters before it
    const at = line.length > most ? line.lastIndexOf(" ", most) : -1;
    return at > 0 ? line.slice(0, at) + "<br>" + line.slice(at + 1) : line;
  }

  async function make(element, it) {
    const { figure } = it, place = it.place = document.createElement("div");
    element.append(place);
    const Plotly = await plotly();
    if (shown.get(element) !== it) return;
    const layout = { ...structuredClone(figure.layout), autosize: true, dragmode: figure.moves && !COARSE ? "pan" : false };
    place.addEventListener("wheel", (event) => { // the page scrolls; with Ctrl, as a pinch is too, the figure zooms
      if (!figure.moves || !(event.ctrlKey || event.metaKey)) event.stopPropagation();
    }, { capture: true });
    const each = element.clientWidth / (layout.xaxis?.ticktext?.length || 1);
    if (element.clientWidth < NARROW || each < PLACE) narrowed(layout.xaxis ?? {}, element.clientWidth);
    await Plotly.newPlot(place, structuredClone(figure.data), layout, { displayModeBar: false, displaylogo: false, doubleClick: false, scrollZoom: Boolean(figure.moves) });
    if (shown.get(element) !== it) return;
    it.width = element.clientWidth;
    if (figure.moves) {
      place.on("plotly_doubleclick", () => show(it, "whole"));
      element.tabIndex = 0;
      element.addEventListener("keydown", (event) => keyed(event, element, it));
    }
    if (figure.points) scattered(element, it);
    if (figure.points) element.classList.add("dd-clicks");
    tools(element, it);
    element.classList.add("dd-drawn");
  }

  // --- points ---

  function scattered(element, it) {
    it.points = it.figure.points.map(({ trace, colour, x, y, rows }) => ({
      trace, rgb: [1, 3, 5].map((n) => parseInt(colour.slice(n, n + 2), 16)), x: numbers(Float32Array, x), y: numbers(Float32Array, y), rows: numbers(Int32Array, rows),
    }));
    it.canvas = document.createElement("canvas");
    it.canvas.className = "dd-points";
    it.place.querySelector(".svg-container").prepend(it.canvas);
    for (const name of ["ring", "tip"]) {
      it[name] = document.createElement("div");
      it[name].className = `dd-point-${name}`;
      it[name].hidden = true;
      element.append(it[name]);
    }
    paint(it);
    for (const name of ["plotly_afterplot", "plotly_relayouting", "plotly_restyle"]) it.place.on(name, () => paint(it));
    let from = null;
    const drag = (event) => event.target.closest?.(".nsewdrag");
    element.addEventListener("pointerdown", (event) => { from = drag(event) && !event.button ? [event.clientX, event.clientY] : null; }, { capture: true });
    addEventListener("pointerup", function up(event) { // Plotly covers the page while something is dragged
      if (!it.place.isConnected) return removeEventListener("pointerup", up, { capture: true });
      if (!from) return;
      const still = Math.hypot(event.clientX - from[0], event.clientY - from[1]) < MOVED;
      from = null;
      const hit = still ? nearest(it, event) : null;
      if (!hit) return;
      it.open = hit.row;
      ring(it);
      it.clicked(hit.row);
    }, { capture: true });
    element.addEventListener("pointermove", (event) => {
      const hit = event.pointerType === "mouse" && !event.buttons && drag(event) ? nearest(it, event) : null;
      if (hit?.row === it.over?.row) return;
      it.over = hit;
      tip(it);
    });
    element.addEventListener("pointerleave", () => { it.over = null; tip(it); });
  }

  function numbers(kind, { bdata }) {
    const text = atob(bdata), bytes = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
    return new kind(bytes.buffer);
  }

  function scales(it) { // pixel = a * value + b, within the plot's area
    const { xaxis, yaxis } = it.place._fullLayout;
    const [left, right] = xaxis.range, [bottom, top] = yaxis.range;
    const ax = xaxis._length / (right - left), ay = -yaxis._length / (top - bottom);
    return { ax, bx: -left * ax, ay, by: -top * ay, width: xaxis._length, height: yaxis._length, left: xaxis._offset, top: yaxis._offset };
  }

  const there = (it) => it.points.filter(({ trace }) => it.place._fullData[trace]?.visible === true);

  function paint(it) {
    const at = scales(it), dense = Math.min(2, devicePixelRatio || 1), { canvas } = it;
    const width = Math.max(1, Math.round(at.width * dense)), height = Math.max(1, Math.round(at.height * dense));
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    canvas.style.cssText = `left:${at.left}px;top:${at.top}px;width:${at.width}px;height:${at.height}px`;
    const context = canvas.getContext("2d"), groups = there(it);
    context.clearRect(0, 0, width, height);
    const total = it.points.reduce((sum, { x }) => sum + x.length, 0);
    (total < MANY ? dots : counted)(context, groups, at, dense, it.figure);
    ring(it);
    tip(it);
  }

  function dots(context, groups, at, dense, { size, opacity }) {
    const reach = (size / 2) * dense;
    context.globalAlpha = opacity;
    for (const { x, y, rgb } of groups) {
      context.fillStyle = `rgb(${rgb})`;
      for (let i = 0; i < x.length; i++) {
        context.beginPath();
        context.arc((at.ax * x[i] + at.bx) * dense, (at.ay * y[i] + at.by) * dense, reach, 0, 7);
        context.fill();
      }
    }
  }

  function counted(context, groups, at, dense, { size, opacity }) { // no group hides another, whichever comes first
    const { width, height } = context.canvas, side = Math.max(1, Math.round(size * dense * 0.8)), half = side >> 1;
    const sums = groups.map(() => new Uint16Array(width * height));
    groups.forEach(({ x, y }, g) => {
      const sum = sums[g];
      for (let i = 0; i < x.length; i++) {
        const left = Math.round((at.ax * x[i] + at.bx) * dense) - half, top = Math.round((at.ay * y[i] + at.by) * dense) - half;
        if (left < 0 || top < 0 || left + side > width || top + side > height) continue;
        for (let row = top; row < top + side; row++) for (let n = row * width + left, end = n + side; n < end; n++) sum[n]++;
      }
    });
    const image = context.createImageData(width, height), out = image.data;
    const alpha = Uint8Array.from({ length: 64 }, (_, n) => 255 * (1 - (1 - opacity) ** n));
    for (let n = 0, total = width * height; n < total; n++) {
      let all = 0, r = 0, g = 0, b = 0;
      for (let k = 0; k < sums.length; k++) {
        const many = sums[k][n];
        if (!many) continue;
        all += many;
        const { rgb } = groups[k];
        r += many * rgb[0]; g += many * rgb[1]; b += many * rgb[2];
      }
      if (!all) continue;
      out[4 * n] = r / all; out[4 * n + 1] = g / all; out[4 * n + 2] = b / all; out[4 * n + 3] = alpha[Math.min(63, all)];
    }
    context.putImageData(image, 0, 0);
  }

  function nearest(it, event) {
    const box = it.place.getBoundingClientRect(), at = scales(it);
    const px = event.clientX - box.left - at.left, py = event.clientY - box.top - at.top;
    let best = (COARSE ? 2 : 1) * NEAR, hit = null;
    best *= best;
    for (const { x, y, rows } of there(it)) {
      for (let i = 0; i < x.length; i++) {
        const dx = at.ax * x[i] + at.bx - px, dy = at.ay * y[i] + at.by - py, far = dx * dx + dy * dy;
        if (far < best) { best = far; hit = { row: rows[i], x: x[i], y: y[i] }; }
      }
    }
    return hit;
  }

  function spot(it, x, y) { // where a point stands within the figure, null outside the plot's area
    const at = scales(it), left = at.ax * x + at.bx, top = at.ay * y + at.by;
    return left < 0 || top < 0 || left > at.width || top > at.height ? null : [left + at.left, top + at.top, at];
  }

  function ring(it) { // around the point that is open
    let at = null;
    if (it.open !== null) {
      for (const { x, y, rows } of there(it)) {
        const n = rows.indexOf(it.open);
        if (n >= 0) at = spot(it, x[n], y[n]);
      }
    }
    it.ring.hidden = !at;
    if (at) it.ring.style.cssText = `left:${at[0]}px;top:${at[1]}px`;
  }

  function tip(it) {
    const at = it.over && spot(it, it.over.x, it.over.y);
    it.tip.hidden = !at;
    if (!at) return;
    const said = (value) => Number(value.toPrecision(4)).toLocaleString();
    it.tip.textContent = `${it.figure.names[0]} ${said(it.over.x)} · ${it.figure.names[1]} ${said(it.over.y)}`;
    it.tip.classList.toggle("dd-left", at[0] > at[2].width / 2 + at[2].left);
    it.tip.style.cssText = `left:${at[0]}px;top:${at[1]}px`;
  }

  function mark(element, row) {
    const it = shown.get(element);
    if (!it) return;
    it.open = row;
    if (it.ring) ring(it);
  }

  // --- moving, and a picture ---

  function tools(element, it) {
    const bar = document.createElement("div");
    bar.className = "dd-figure-tools";
    for (const [what, sign] of [...(it.figure.moves ? [["closer", "+"], ["farther", "−"], ["whole", "⤢"]] : []), ["picture", "↓"]]) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = sign;
      button.title = it.figure.words?.[what] ?? "";
      button.setAttribute("aria-label", button.title || what);
      button.addEventListener("click", () => (what === "picture" ? picture(it) : show(it, what)));
      bar.append(button);
    }
    element.append(bar);
  }

  function show(it, what, by = [0, 0]) {
    const change = {};
    ["xaxis", "yaxis"].forEach((axis, n) => {
      const [low, high] = (what === "whole" ? it.figure : it.place).layout[axis].range;
      const half = ((high - low) / 2) * (what === "closer" ? 1 / ZOOM : what === "farther" ? ZOOM : 1);
      const middle = (low + high) / 2 + by[n] * STEP * (high - low);
      change[`${axis}.range`] = [middle - half, middle + half];
    });
    window.Plotly.relayout(it.place, change);
  }

  function keyed(event, element, it) {
    if (event.target !== element || event.ctrlKey || event.metaKey || event.altKey) return;
    const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
    const what = { "+": "closer", "=": "closer", "-": "farther", 0: "whole" }[event.key];
    if (!way && !what) return;
    event.preventDefault();
    event.stopPropagation();
    show(it, what ?? "", way);
  }

  async function picture(it) {
    const dark = document.body.classList.contains("dark"), layout = structuredClone(it.figure.layout);
    const width = Math.max(600, it.width), height = layout.height + 48;
    Object.assign(layout, { paper_bgcolor: dark ? "#1c2025" : "#ffffff", width, height, margin: { l: 24, r: 24, t: 40, b: 56 } });
    layout.font.color = dark ? "#e6e8ea" : "#1f2328";
    if (it.figure.moves) for (const axis of ["xaxis", "yaxis"]) layout[axis].range = it.place.layout[axis].range.slice();
    if (it.canvas) layout.images = [{ source: it.canvas.toDataURL(), xref: "x domain", yref: "y domain", x: 0, y: 1, sizex: 1, sizey: 1, sizing: "stretch", layer: "below" }];
    const link = document.createElement("a");
    link.href = await window.Plotly.toImage({ data: it.place.data, layout }, { format: "png", width, height, scale: 2 });
    link.download = `dpo-doctor-${(it.figure.label ?? "").replace(/[^\p{L}\p{N}.-]+/gu, "_").slice(0, 60) || "figure"}.png`;
    link.click();
  }

  class Figure extends HTMLElement {
    connectedCallback() {
      const tell = (row) => this.dispatchEvent(new CustomEvent("dd-point", { bubbles: true, detail: { set: this.dataset.set ?? "", row } }));
      draw(this, JSON.parse(this.dataset.figure), tell);
    }

    disconnectedCallback() { clear(this); }

    mark(row) { mark(this, row); }
  }
  if (!customElements.get("dd-figure")) customElements.define("dd-figure", Figure);
})();
