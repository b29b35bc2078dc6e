// Draws the curves of training logs with the Plotly that the page's plot component loads. The server sends panels of
// named points (ui/log_charts.py); smoothing, scale, axis, zoom, layout, marks and pictures are made here.
// at: selectors of the plot, of what holds the data, of the box around both, and of the controls of one chart.
window.ddCurvesIn = (at) => {
  const RUN_COLOURS = ["#0f9d8f", "#d9730d", "#7c5cd6", "#2f7fd1", "#d6457f", "#8a8f1f"]; // as in page.css
  const SEVERITY = { error: "#d13a54", warning: "#c98208" };
  const GRID = "rgba(127,127,127,.18)", DIM = "#7d848d", ACCENT = "#0f9d8f";
  const LEFT = 52, GAP = 28, TITLE = 30, TICKS = 26, WIDE = 700; // pixels
  const FEW = 30; // points: fewer are shown as points and never smoothed
  const WINDOW = 0.12; // of a curve's points are averaged at full smoothing

  const settings = { smooth: 0.3, axis: "step", log: false };
  let chart = null; // what the server sent
  let sent = null; // the same as text
  let view = null; // [from, to] on the x axis that was zoomed to
  let flash = null; // a place to be shown for a moment
  let brush = !matchMedia("(pointer: coarse)").matches; // on a touch screen a finger scrolls the page

  const plot = () => document.querySelector(at.plot + " .js-plotly-plot");
  const finite = (v) => typeof v === "number" && isFinite(v);

  // --- points ---

  function prepare() { // per run: when it began, and step -> epoch and time for curves that don't say
    chart.starts = chart.runs.map(() => Infinity);
    chart.known = chart.runs.map(() => ({ epoch: [], time: [] }));
    const curves = chart.panels.flatMap((panel) => panel.curves);
    for (const curve of curves) {
      for (const axis of ["epoch", "time"]) {
        (curve[axis] ?? []).forEach((at, i) => {
          if (finite(at) && finite(curve.step[i])) chart.known[curve.run][axis].push([curve.step[i], at]);
        });
      }
      for (const at of curve.time ?? []) if (finite(at)) chart.starts[curve.run] = Math.min(chart.starts[curve.run], at);
    }
    for (const known of chart.known) for (const axis of ["epoch", "time"]) known[axis].sort((a, b) => a[0] - b[0]);
    let longest = 0;
    for (const curve of curves) for (const at of curve.time ?? []) if (finite(at)) longest = Math.max(longest, at - chart.starts[curve.run]);
    chart.unit = longest > 2 * 3600 ? ["hours", 3600] : longest > 180 ? ["minutes", 60] : ["seconds", 1];
  }

  function between(pairs, step) {
    if (!pairs.length || step < pairs[0][0] || step > pairs[pairs.length - 1][0]) return null;
    let low = 0, high = pairs.length - 1;
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (pairs[middle][0] <= step) low = middle; else high = middle;
    }
    const [a, b] = [pairs[low], pairs[high]];
    return b[0] > a[0] ? a[1] + ((b[1] - a[1]) * (step - a[0])) / (b[0] - a[0]) : a[1];
  }

  function axisNow() {
    const known = chart.known.some((run) => run[settings.axis]?.length);
    return settings.axis !== "step" && known ? settings.axis : "step";
  }

  function places(curve, axis) {
    if (axis === "step") return curve.step;
    const told = curve[axis] ?? curve.step.map((step) => between(chart.known[curve.run][axis], step));
    if (axis === "epoch") return told;
    return told.map((at) => (finite(at) ? (at - chart.starts[curve.run]) / chart.unit[1] : null));
  }

  function smoothed(values) { // a centred mean: unlike one that looks back it leaves every bend where it is
    const half = Math.round((settings.smooth * WINDOW * values.length) / 2);
    if (values.length < FEW || half < 1) return null;
    const sums = [0], counts = [0];
    values.forEach((v, i) => { sums.push(sums[i] + (v ?? 0)); counts.push(counts[i] + (v === null ? 0 : 1)); });
    return values.map((v, i) => {
      if (v === null) return null;
      // shorter at the start, where a loss falls steeply, so that it begins where it began
      const from = Math.max(i - half, 0), to = Math.min(i + Math.min(half, i), values.length - 1) + 1;
      return (sums[to] - sums[from]) / (counts[to] - counts[from]);
    });
  }

  function colour(curve) {
    if (chart.runs.length > 1) return RUN_COLOURS[curve.run % RUN_COLOURS.length];
    if (/rejected/.test(curve.curve)) return "#d6457f";
    if (/chosen/.test(curve.curve)) return ACCENT;
    if (curve.curve === "eval_loss") return "#d9730d";
    return RUN_COLOURS[curve.order % RUN_COLOURS.length];
  }

  function dash(curve) {
    if (chart.runs.length > 1 && curve.eval) return /rejected/.test(curve.curve) ? "dashdot" : "dash";
    if (chart.runs.length > 1) return /rejected/.test(curve.curve) || curve.order > 0 ? "dot" : "solid";
    return curve.eval && !/loss/.test(curve.curve) ? "dash" : "solid";
  }

  // --- the figure ---

  function figure(width) {
    const axis = axisNow();
    const columns = width >= WIDE ? 2 : 1;
    const rows = [[chart.panels[0]]];
    const others = chart.panels.slice(1);
    for (let i = 0; i < others.length; i += columns) rows.push(others.slice(i, i + columns));
    const heights = rows.map((_, i) => (i === 0 ? (columns > 1 ? 300 : 230) : columns > 1 ? 150 : 140));
    const inner = width - 10, wide = (r) => (rows[r].length === 1 ? inner : (inner - GAP * (columns - 1)) / columns);
    const headings = rows.map((row, r) => row.map((panel) => heading(panel, wide(r))));
    const titles = headings.map((row) => (row.some((text) => text.includes("<br>")) ? TITLE + 17 : TITLE));
    const total = heights.reduce((sum, h, r) => sum + h + titles[r] + TICKS, 0) + 4;
    const layout = {
      height: total, autosize: true, margin: { l: 0, r: 10, t: 0, b: 0 }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: "system-ui, sans-serif", size: 12, color: DIM }, showlegend: false, dragmode: brush ? "zoom" : false,
      hovermode: "x unified", hoverlabel: { font: { color: "#fff", size: 12 }, bgcolor: "#333a42", bordercolor: "#333a42" },
      annotations: [], shapes: [],
    };
    const traces = [];
    let top = 0, number = 0;
    rows.forEach((row, r) => {
      row.forEach((panel, c) => {
        const n = ++number === 1 ? "" : String(number);
        const span = wide(r);
        const left = c * (span + GAP);
        const y = [1 - (top + titles[r] + heights[r]) / total, 1 - (top + titles[r]) / total];
        layout["xaxis" + n] = {
          domain: [(left + LEFT) / inner, (left + span) / inner], anchor: "y" + n, gridcolor: GRID, zeroline: false, nticks: row.length < columns ? 10 : 5,
          ...(n ? { matches: "x" } : {}), ...(view ? { range: view, autorange: false } : { autorange: true }), tickfont: { size: 11 },
          unifiedhovertitle: { text: `${axisName(axis)} %{x:${axis === "step" ? ".10~g" : ".4~r"}}` },
        };
        layout["yaxis" + n] = {
          domain: y, anchor: "x" + n, gridcolor: GRID, zeroline: false, fixedrange: true, nticks: r === 0 ? 7 : 4, tickfont: { size: 11 },
          ...(isSmall(panel) ? { exponentformat: "e", minexponent: 2 } : { tickformat: "~g" }), ...range(panel, axis),
        };
        layout.annotations.push({
          xref: "paper", yref: "paper", x: left / inner, y: y[1], xanchor: "left", yanchor: "bottom", yshift: 6, showarrow: false,
          align: "left", text: headings[r][c], font: { size: r === 0 ? 14 : 13 },
        });
        if (r === 0) {
          layout.annotations.push({
            xref: "paper", yref: "paper", x: 1, y: y[1], xanchor: "right", yanchor: "bottom", yshift: 6, showarrow: false,
            text: axisName(axis), font: { size: 11, color: DIM },
          });
        }
        for (const curve of panel.curves) traces.push(...lines(curve, n, axis, isSmall(panel) ? ".3~e" : ".5~g"));
        marks(panel, n, axis, traces, layout);
      });
      top += heights[r] + titles[r] + TICKS;
    });
    return { traces, layout, total };
  }

  function axisName(axis) {
    if (axis === "time") return chart.words[chart.unit[0]];
    return chart.words[axis === "step" && !chart.steps_known ? "row" : axis];
  }

  function heading(panel, span) { // the title, and what each line is; evaluation that only repeats a colour is named once
    const many = chart.runs.length > 1, said = { solid: "━", dash: "╌", dot: "┈", dashdot: "–·" };
    const listed = [];
    const add = (entry) => { if (!listed.includes(entry)) listed.push(entry); };
    for (const curve of panel.curves) {
      const line = said[dash(curve)];
      if (many) add(`${line} ${curve.name}`);
      else if (curve.eval && panel.curves.some((c) => !c.eval && colour(c) === colour(curve))) add(`╌ ${chart.words.evaluation}`);
      else add(`<span style="color:${colour(curve)}">${line}</span> ${curve.name}`);
    }
    const title = `<b>${panel.title}</b>`;
    const alone = panel.curves.every((curve) => curve.name === panel.curves[0].name);
    if (alone && (panel !== chart.panels[0] || panel.curves[0].name.toLowerCase() === panel.title.toLowerCase())) return title;
    const letters = [panel.title, ...listed].map((text) => text.replace(/<[^>]*>/g, "")).join("   ");
    const pixels = [...letters].reduce((sum, c) => sum + (c > "\u2e80" ? 13 : 7), panel === chart.panels[0] ? 60 : 0);
    return `${title}${pixels > span ? "<br>" : "  "}<span style="font-size:12px">${listed.join("  ")}</span>`;
  }

  function isSmall(panel) { // as learning rates are: zeros behind the point say little
    return panel.curves.every((curve) => curve.value.every((v) => v === null || Math.abs(v) < 0.001));
  }

  function lines(curve, n, axis, form) {
    const x = places(curve, axis), tint = colour(curve), few = curve.value.length < FEW;
    const soft = curve.curve === "learning_rate" ? null : smoothed(curve.value); // a schedule has no noise
    const name = chart.runs.length > 1 ? `${chart.runs[curve.run]} · ${curve.name}` : curve.name;
    const shared = { type: "scatter", xaxis: "x" + n, yaxis: "y" + n, x, connectgaps: false, meta: { curve: curve.curve } };
    const made = [{
      ...shared, y: curve.value, name, mode: few ? "lines+markers" : "lines", opacity: soft ? 0.3 : 1, marker: { size: 5, color: tint },
      line: { color: tint, width: soft ? 1 : 1.8, dash: soft ? "solid" : dash(curve) }, hovertemplate: `%{y:${form}}`,
    }];
    if (soft) made.push({ ...shared, y: soft, name, mode: "lines", hoverinfo: "skip", line: { color: tint, width: 2, dash: dash(curve) } });
    const lost = curve.value.map((v, i) => (v === null ? i : -1)).filter((i) => i >= 0);
    if (lost.length) { // not a number: a cross where the curve last was
      const every = Math.ceil(lost.length / 60);
      const shown = lost.filter((_, i) => i % every === 0);
      const height = shown.map((i) => curve.value.slice(0, i).findLast(finite) ?? curve.value.find(finite) ?? 1);
      made.push({ ...shared, x: shown.map((i) => x[i]), y: height, name, mode: "markers", marker: { symbol: "x", size: 6, color: SEVERITY.error },
        hovertemplate: chart.words.not_a_number, meta: { curve: curve.curve, lost: true } });
    }
    return made;
  }

  function range(panel, axis) { // of what is in view, so that zooming in shows the small things
    let low = Infinity, high = -Infinity, positive = true;
    for (const curve of panel.curves) {
      const x = places(curve, axis);
      curve.value.forEach((v, i) => {
        if (v === null) return;
        if (v <= 0) positive = false;
        if (view && !(x[i] >= view[0] && x[i] <= view[1])) return;
        low = Math.min(low, v);
        high = Math.max(high, v);
      });
    }
    if (!(high >= low)) return { autorange: true };
    const log = settings.log && positive;
    if (log) [low, high] = [Math.log10(low), Math.log10(high)];
    const room = high > low ? (high - low) * 0.07 : log ? 0.1 : Math.abs(high) * 0.1 || 1;
    const ends = [low - room, high + room];
    return { type: log ? "log" : "linear", range: ends, ...(log ? logTicks(ends, panel === chart.panels[0] ? 6 : 4) : {}) };
  }

  function logTicks([low, high], count) { // Plotly's own crowd where a scale spans about one decade
    if (high - low > 1.6) return { dtick: Math.max(1, Math.ceil((high - low) / count)) };
    const digits = high - low > 0.4 ? 1 : 2;
    const at = Array.from({ length: count }, (_, i) => Number((10 ** (low + ((high - low) * (i + 0.5)) / count)).toPrecision(digits)));
    return { tickmode: "array", tickvals: [...new Set(at)], nticks: undefined };
  }

  function spot(place, panel, axis) { // a place by steps -> its curve, and x from and to, and the height there
    const curve = panel.curves.find((c) => c.curve === place.curve && c.run === (place.run ?? 0));
    if (!curve || !curve.step.length) return null;
    const x = places(curve, axis);
    let first = curve.step.findIndex((step) => step >= place.from);
    if (first < 0) first = curve.step.length - 1;
    let last = place.to === null ? first : curve.step.findLastIndex((step) => step <= place.to);
    if (last < first) last = first;
    const height = curve.value[first] ?? curve.value.slice(0, first).findLast(finite) ?? curve.value.find(finite);
    return x[first] === null || height === undefined ? null : { from: x[first], to: x[last] ?? x[first], height, wide: last > first };
  }

  function marks(panel, n, axis, traces, layout) {
    const found = chart.marks.map((mark) => ({ mark, at: spot(mark, panel, axis) })).filter((m) => m.at);
    found.sort((a, b) => a.at.from - b.at.from);
    const all = panel.curves.flatMap((curve) => places(curve, axis)).filter(finite);
    const near = 0.09 * (view ? view[1] - view[0] : all.reduce((a, b) => Math.max(a, b), -Infinity) - all.reduce((a, b) => Math.min(a, b), Infinity));
    const whole = near / 0.1; // a mark on nearly all of the curve is a mark on none of its places
    let before = null, lift = 0;
    for (const { mark, at } of found) {
      lift = before !== null && at.from - before < near ? lift + 1 : 0;
      before = at.from;
      mark.lift = lift;
      const tint = SEVERITY[mark.severity];
      layout.shapes.push(at.wide && at.to - at.from < whole
        ? { type: "rect", xref: "x" + n, yref: `y${n} domain`, x0: at.from, x1: at.to, y0: 0, y1: 1, fillcolor: tint, opacity: 0.1, line: { width: 0 }, layer: "below" }
        : { type: "line", xref: "x" + n, yref: `y${n} domain`, x0: at.from, x1: at.from, y0: 0, y1: 1, line: { color: tint, width: 1, dash: "dot" }, opacity: 0.6, layer: "below" });
    }
    if (found.length) {
      traces.push({
        type: "scatter", xaxis: "x" + n, yaxis: "y" + n, mode: "markers+text", name: "", x: found.map((m) => m.at.from), y: found.map((m) => m.at.height),
        text: found.map((m) => m.mark.code + "<br> ".repeat(m.mark.lift)), textposition: "top center", cliponaxis: false,
        textfont: { size: 11, color: found.map((m) => SEVERITY[m.mark.severity]) }, meta: { marks: found.map((m) => m.mark.target) },
        marker: { size: 11, color: found.map((m) => SEVERITY[m.mark.severity]), line: { width: 2, color: "rgba(255,255,255,.9)" } },
        customdata: found.map((m) => wrapped(`${m.mark.code}: ${m.mark.message}`)), hovertemplate: "%{customdata}<extra></extra>",
      });
    }
    const at = flash && spot(flash, panel, axis);
    if (at) {
      const pad = near / 8;
      layout.shapes.push({ type: "rect", xref: "x" + n, yref: `y${n} domain`, x0: at.from - pad, x1: at.to + pad, y0: 0, y1: 1, fillcolor: ACCENT, opacity: 0.28, line: { width: 0 }, layer: "below" });
    }
  }

  function wrapped(text) {
    return text.replace(/(.{40,58}?)[ ]/g, "$1<br>").replace(/([\u4e00-\u9fff，。；：、]{26})/g, "$1<br>");
  }

  // --- on the page ---

  function draw() {
    const gd = plot();
    if (!gd || !chart || !window.Plotly || !gd.clientWidth) return;
    if (gd._dragging) { setTimeout(draw, 300); return; }
    const { traces, layout, total } = figure(gd.clientWidth);
    gd.style.height = total + "px";
    gd.ddWidth = gd.clientWidth;
    window.Plotly.react(gd, traces, layout, { displayModeBar: false, displaylogo: false, responsive: true, doubleClick: false });
    gd.setAttribute("role", "img");
    gd.setAttribute("aria-label", chart.panels.map((panel) => panel.title).join(", "));
    gd.classList.add("dd-drawn");
    if (gd.ddWired) return;
    gd.ddWired = true;
    gd.on("plotly_relayout", (change) => {
      const key = Object.keys(change).find((k) => /^xaxis\d*\.range\[0\]$/.test(k));
      if (!key) return;
      view = [Number(change[key]), Number(change[key.replace("[0]", "[1]")])];
      draw();
    });
    gd.on("plotly_doubleclick", () => { view = null; draw(); });
    gd.on("plotly_click", ({ points, event }) => {
      for (const point of points) {
        const target = point.data.meta?.marks?.[point.pointNumber];
        if (!target) continue;
        const box = gd.getBoundingClientRect();
        const x = point.xaxis._offset + point.xaxis.d2p(point.x), y = point.yaxis._offset + point.yaxis.d2p(point.y);
        if (Math.hypot(event.clientX - box.left - x, event.clientY - box.top - y) < 24) { window.ddJump(target, gd); return; }
      }
    });
    new ResizeObserver(() => { if (gd.clientWidth && gd.clientWidth !== gd.ddWidth) draw(); }).observe(gd);
  }

  function take() { // what the server sent since, and a plot that was made anew
    const box = document.querySelector(at.data + " [data-chart]");
    const gd = plot();
    if (!box || !gd || !window.Plotly) return;
    const text = box.dataset.chart;
    if (text === sent && gd.classList.contains("dd-drawn")) return;
    if (text !== sent) {
      const old = chart;
      sent = text;
      chart = text ? JSON.parse(text) : null;
      if (!chart) return;
      const slider = document.querySelector(at.smooth), box = document.querySelector(at.scale);
      if (slider) settings.smooth = Number(slider.value); // as the browser remembered them
      if (box) settings.log = box.checked;
      prepare();
      if (!old || old.runs.join("\n") !== chart.runs.join("\n")) view = null;
    }
    draw();
  }

  async function picture(format) {
    const gd = plot();
    if (!gd || !chart) return;
    const dark = document.body.classList.contains("dark");
    const width = Math.max(gd.clientWidth, 900), { traces, layout, total } = figure(width);
    const name = chart.runs.join(", ");
    layout.margin = { l: 16, r: 26, t: 56, b: 12 };
    Object.assign(layout, { autosize: false, width: width + 32, height: total + 68, paper_bgcolor: dark ? "#1c2025" : "#ffffff", showlegend: false });
    layout.font.color = dark ? "#e6e8ea" : "#1f2328";
    layout.annotations.push({ xref: "paper", yref: "paper", x: 0, y: 1, yshift: 24, yanchor: "bottom", xanchor: "left", showarrow: false, text: legend(), font: { size: 15 } });
    const link = document.createElement("a");
    link.href = await window.Plotly.toImage({ data: traces, layout }, { format, width: layout.width, height: layout.height, scale: format === "png" ? 2 : 1 });
    link.download = `dpo-doctor-${name.replace(/[^\p{L}\p{N}.-]+/gu, "_").slice(0, 60)}.${format}`;
    link.click();
  }

  function legend() {
    if (chart.runs.length === 1) return `<b>${chart.runs[0]}</b>`;
    return chart.runs.map((name, i) => `<span style="color:${RUN_COLOURS[i % RUN_COLOURS.length]}">━</span> ${name}`).join("    ");
  }

  function set(name, value) {
    if (settings[name] === value) return;
    if (name === "axis") view = null;
    settings[name] = value;
    draw();
  }

  let fading = 0;
  document.addEventListener("click", (event) => {
    const panel = document.querySelector(at.box)?.closest("[role=tabpanel]");
    if (!panel?.contains(event.target)) return; // of another tab's chart
    const on = (selector) => event.target.closest?.(selector);
    let hit;
    if ((hit = on("[data-picture]"))) picture(hit.dataset.picture);
    else if ((hit = on("[data-brush]"))) {
      brush = !brush;
      hit.setAttribute("aria-pressed", String(brush));
      draw();
    } else if ((hit = on("[data-spot]"))) {
      event.preventDefault();
      const [curve, from, to] = JSON.parse(hit.dataset.spot);
      if (!chart) return;
      flash = { curve, from, to };
      if (view) view = null;
      draw();
      document.querySelector(at.box)?.scrollIntoView({ behavior: "smooth", block: "start" });
      clearTimeout(fading);
      fading = setTimeout(() => { flash = null; draw(); }, 4000);
    }
  });

  const made = { set, take };
  window.ddCurvesIn.all.push(made);
  return made;
};
window.ddCurvesIn.all = [];
window.ddCurves = window.ddCurvesIn({ plot: "#dd-log-plot", data: "#dd-curves-data", box: "#dd-log-chart", smooth: "#dd-smooth input[type=range]", scale: "#dd-log-scale input" });
