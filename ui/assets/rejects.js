// Making rejected answers: the form and its command, which run is open, its progress, the way from row to row.
// All HTML comes from the server (ui/reject_requests.py); what is chosen goes back as values.
(() => {
  const POLL = 1000, LIST_POLL = 3000, REDRAW = 6000; // ms
  const FIELDS = ["data", "model", "adapter", "database"]; // native fields of the left column
  let root = null, server = null, events = null, anchored = null, words = {};
  let state = { lang: "en" };
  state = fresh("");
  let chain = Promise.resolve();
  const filled = new WeakMap(); // what stands in each part, as it came
  let restored = false;
  let commandTimer = 0, pollTimer = 0, drawn = 0, seenRows = -1;

  function fresh(id, partner = "") {
    return { id, partner, next: "", lang: state.lang, view: "all", place: 0, row: null, matching: 0, step: 1, state: "", pane: "rows", live: false };
  }

  const stored = (key, otherwise) => { try { return JSON.parse(localStorage.getItem(key)) ?? otherwise; } catch { return otherwise; } };
  const store = (key, value) => { try { localStorage.setItem(key, JSON.stringify(value)); } catch {} };
  const seen = () => stored("dd-rejects-seen", []);
  const part = (name) => root.querySelector(`[data-part="${name}"]`);
  const visible = () => Boolean(root?.isConnected && root.offsetParent);

  // --- asking ---

  async function ask(name, more = {}) {
    const { id, partner, lang, view, place, row, next } = state;
    root.dataset.busy = name === "now" ? root.dataset.busy ?? "" : "1";
    if (!root.dataset.busy) delete root.dataset.busy;
    let answer = null;
    try { answer = await server["rejects_" + name]({ id, partner, lang, view, place, row, next, seen: seen(), ...more }); } catch {}
    delete root.dataset.busy;
    if (id !== state.id || partner !== state.partner) return null; // something else was opened meanwhile
    if (!answer) {
      toast(words.pairs_no_answer_came, true);
      return null;
    }
    if (answer.toast) toast(answer.toast, answer.bad);
    if (answer.problems) complain(answer.problems);
    if (answer.parts) fill(answer.parts, name === "now");
    if (answer.now) Object.assign(state, answer.now);
    return answer;
  }

  function inTurn(work) { // two quick keys must not overtake each other
    chain = chain.then(work, work);
    return chain;
  }

  function fill(parts, unasked) {
    for (const [name, html] of Object.entries(parts)) {
      const place = part(name);
      if (!place || filled.get(place) === html) continue;
      const active = place.contains(document.activeElement) ? document.activeElement : null;
      if (unasked && active?.matches("select, input")) continue; // an open list, a number being typed
      filled.set(place, html);
      const key = active && ["data-go", "data-view", "data-place", "data-pane", "data-stop", "data-open", "name"].filter((n) => active.hasAttribute(n)).map((n) => `[${n}="${CSS.escape(active.getAttribute(n))}"]`).join("");
      const open = [...place.querySelectorAll("details[open][id]")].map((one) => one.id);
      place.innerHTML = html;
      for (const id of open) place.querySelector("#" + CSS.escape(id))?.setAttribute("open", "");
      if (key) place.querySelector(key)?.focus({ preventScroll: true });
    }
    if ("head" in parts) dress();
  }

  function dress() {
    for (const button of root.querySelectorAll("button.dd-pane")) button.setAttribute("aria-pressed", String(button.dataset.pane === state.pane));
  }

  const toast = (line, bad = false) => window.ddToast(root, line, bad);

  function complain(problems) { // each line where it hurts; what belongs nowhere stands at the buttons
    for (const place of document.querySelectorAll("#dd-rejects-body [data-problem]")) place.textContent = problems[place.dataset.problem] ?? "";
  }

  // --- which run ---

  function anchor(element) {
    anchored = element;
    follow();
  }

  function mount(element, functions, triggers) {
    root = element.querySelector(".dd-rejects");
    server = functions;
    events = triggers;
    listen();
    follow();
  }

  function follow() { // the server named a run, or another language
    const said = anchored?.querySelector("[data-lang]");
    if (!said || !root) return;
    words = JSON.parse(said.dataset.words);
    const { rejects, lang } = said.dataset;
    if (lang !== state.lang || !state.state) {
      const first = !state.state;
      state.lang = lang;
      if (first && rejects) return enter(rejects);
      open();
    }
  }

  function enter(id, partner = "") {
    clearTimeout(pollTimer);
    state = fresh(id, partner);
    drawn = 0;
    seenRows = -1;
    for (const name of ["head", "now", "bar", "rows", "files", "compare", "start", "preview"]) {
      part(name).innerHTML = "";
      filled.delete(part(name));
    }
    if (id) store("dd-rejects-seen", [...new Set([id, partner, ...seen()])].filter(Boolean).slice(0, 24));
    events.draw("");
    return open();
  }

  function open() {
    return inTurn(async () => {
      await restore();
      const form = part("setup").querySelector("form");
      const given = form?.dataset.lang === state.lang ? null : form ? values() : { ...stored("dd-rejects-form", {}), ...values() };
      const answer = await ask("open", { form: given });
      if (!answer?.state) return;
      if (answer.state === "gone") store("dd-rejects-seen", seen().filter((one) => one !== state.id));
      state.state = root.dataset.state = answer.state;
      document.querySelector("#dd-rejects-body")?.classList.toggle("dd-has-run", answer.state === "open" || answer.state === "compare");
      show(state.pane);
      if (answer.parts.setup) tally();
      command();
      address();
      poll();
    });
  }

  function poll() {
    clearTimeout(pollTimer);
    if (state.state === "open" && (state.live || state.reading)) pollTimer = setTimeout(again, POLL);
    else if (state.state === "compare" && state.live) pollTimer = setTimeout(again, 2 * POLL);
    else if (state.state === "start" && part("start").querySelector(".dd-pulse")) pollTimer = setTimeout(again, LIST_POLL);
  }

  async function again() {
    if (document.hidden || !visible()) return void (pollTimer = setTimeout(again, POLL));
    const { id } = state, before = state.live;
    const answer = await inTurn(() => ask("now", { rows: seenRows }));
    if (id !== state.id) return;
    if (answer?.rows !== undefined) seenRows = answer.rows;
    if (answer && before && !state.live) drawn = 0;
    if (state.pane === "spread" && state.state === "open" && Date.now() - drawn > REDRAW) draw();
    poll();
  }

  function address() {
    if (root) requestAnimationFrame(() => window.ddAddress?.("rejects", visible() ? state.id : ""));
  }

  function show(pane) {
    state.pane = root.dataset.pane = pane;
    document.querySelector("#dd-rejects-work").dataset.pane = state.state === "open" ? pane : "";
    dress();
    if (state.state !== "open") return;
    if (pane === "spread") draw();
    if (pane === "files") {
      inTurn(() => ask("files"));
      events.files(state.id);
    }
  }

  function draw() {
    drawn = Date.now();
    events.draw(state.id);
  }

  // --- going through ---

  function look(changes) {
    return inTurn(() => ask("row", changes));
  }

  function go(way) {
    const step = state.state === "compare" ? state.step : 1;
    return inTurn(async () => {
      const to = state.place + (way === "next" ? step : -step);
      if (to < 0 || to >= state.matching) return toast(way === "next" ? words.rejects_last_row : words.rejects_first_row);
      if (state.state === "compare") await ask("compare", { place: to });
      else await ask("row", { by: way === "next" ? 1 : -1 });
    });
  }

  // --- the form ---

  const native = (name) => document.querySelector(`#dd-rejects-${name} textarea, #dd-rejects-${name} input`);

  function give(name, value) { // into a native field, as if it were typed
    const field = native(name);
    if (!field || field.value === value) return;
    Object.getOwnPropertyDescriptor(Object.getPrototypeOf(field), "value").set.call(field, value);
    field.dispatchEvent(new Event("input", { bubbles: true }));
  }

  function values() {
    const found = {};
    for (const name of FIELDS) found[name] = native(name)?.value ?? "";
    found.token = document.querySelector("#dd-rejects-kept [data-token]")?.dataset.token ?? "";
    for (const field of root.querySelectorAll("[data-part=setup] [name]")) {
      if (field.type === "radio") { if (field.checked) found[field.name] = field.value; }
      else found[field.name] = field.type === "checkbox" ? field.checked : field.value;
    }
    return found;
  }

  function keep() {
    if (!restored || !part("setup").innerHTML) return; // what was kept is not yet in the fields
    const { token, ...held } = values();
    store("dd-rejects-form", held);
  }

  async function restore() { // once, as soon as the page has drawn the native fields
    if (restored) return;
    for (let n = 0; n < 40 && !FIELDS.slice(0, 2).every(native); n++) await new Promise((done) => setTimeout(done, 50));
    const held = stored("dd-rejects-form", {});
    for (const name of FIELDS) if (typeof held[name] === "string" && held[name]) give(name, held[name]);
    restored = true;
  }

  function apply(given) { // a preset, or what a run was made with
    for (const name of FIELDS) if (name in given) give(name, given[name]);
    for (const field of root.querySelectorAll("[data-part=setup] [name]")) {
      if (!(field.name in given)) {
        if (field.type === "checkbox" && field.name.startsWith("strategy.")) field.checked = false;
        continue;
      }
      const value = given[field.name];
      if (field.type === "radio") field.checked = field.value === value;
      else if (field.type === "checkbox") field.checked = value === true;
      else field.value = value ?? "";
    }
    for (const group of root.querySelectorAll(".dd-group")) if (group.querySelector(".dd-strategy-head :checked")) group.open = true;
    changed();
  }

  function tally() { // how many of a folded group are chosen, and which preset this is
    for (const group of root.querySelectorAll(".dd-group")) {
      const n = group.querySelectorAll(".dd-strategy-head :checked").length;
      group.querySelector(".dd-group-on").textContent = n || "";
    }
  }

  function changed(edited = true) {
    keep();
    tally();
    if (edited) for (const one of root.querySelectorAll("[data-preset]")) one.setAttribute("aria-pressed", "false");
    clearTimeout(commandTimer);
    commandTimer = setTimeout(command, 250);
  }

  function command() {
    if (state.state === "start" || state.state === "gone") inTurn(() => ask("command", { form: values() }));
  }

  async function start(more) {
    const answer = await inTurn(() => ask("start", { form: values(), ...more }));
    if (answer?.id) enter(answer.id, answer.partner ?? "");
    else if (answer?.problems) {
      const first = [...document.querySelectorAll("#dd-rejects-body [data-problem]")].find((one) => one.textContent);
      if (first?.closest("#dd-rejects-case")) document.querySelector("#dd-rejects-case").classList.add("dd-open");
      first?.scrollIntoView({ block: "center" });
    }
  }

  // --- events ---

  function listen() {
    root.addEventListener("click", clicked);
    root.addEventListener("submit", (event) => event.preventDefault());
    root.addEventListener("input", (event) => { if (event.target.closest("form")) changed(!["rows", "tokens", "seed"].includes(event.target.name)); });
    root.addEventListener("change", (event) => {
      const at = event.target;
      if (at.matches("[data-view]")) look({ view: at.value, place: 0, row: null });
      else if (at.matches("[data-place]")) look({ place: Math.max(0, Number(at.value) - 1 || 0), row: null });
      else if (at.matches("[data-at-once]")) inTurn(() => ask("choose", { policy: at.value })).then(poll);
    });
    document.querySelector("#dd-rejects-case")?.addEventListener("input", () => changed(false));
  }

  function clicked(event) {
    const at = (selector) => event.target.closest(selector);
    let hit;
    if ((hit = at("[data-open]"))) enter(hit.dataset.open);
    else if (at("[data-new]")) enter("");
    else if ((hit = at("[data-compare]"))) enter(state.id, hit.dataset.compare);
    else if ((hit = at("button[data-pane]"))) show(hit.dataset.pane);
    else if ((hit = at("[data-go]"))) go(hit.dataset.go);
    else if ((hit = at("[data-preset]"))) {
      apply(JSON.parse(hit.dataset.preset));
      for (const one of root.querySelectorAll("[data-preset]")) one.setAttribute("aria-pressed", String(one === hit));
    }
    else if ((hit = at("[data-start]"))) start({ preview: hit.dataset.start === "preview" });
    else if (at("[data-founding]")) start({ founding: true });
    else if (at("[data-stop]")) inTurn(() => ask("stop")).then(poll);
    else if ((hit = at("[data-remove]"))) {
      if (confirm(hit.dataset.remove)) inTurn(() => ask("remove")).then((answer) => { if (answer && !answer.bad) enter(""); });
    }
    else if (at("[data-choose]")) {
      const policy = root.querySelector("[name=again]").value;
      inTurn(() => ask("choose", { policy })).then(poll);
    }
    else if (at("[data-whole]")) inTurn(() => ask("whole")).then(poll);
    else if ((hit = at("[data-example]"))) {
      show("rows");
      look({ view: "all", row: Number(hit.dataset.example) }).then(() => part("bar").scrollIntoView({ block: "start" }));
    }
    else if (at("[data-resume]")) inTurn(() => ask("resume")).then(poll);
    else if (at("[data-pairs]")) inTurn(() => ask("pairs")).then((answer) => { if (answer?.set) events.pairs(answer.set); });
    else if (at("[data-again]")) inTurn(() => ask("again")).then((answer) => { if (answer?.form) { store("dd-rejects-form", answer.form); enter("").then(() => apply(answer.form)); } });
    else if ((hit = at("[data-share]"))) window.ddCopy?.(window.ddLink("rejects", state.id), hit);
  }

  document.addEventListener("keydown", (event) => {
    if (!visible() || !["open", "compare"].includes(state.state) || (state.state === "open" && state.pane !== "rows")) return;
    if (event.target.closest?.("input, textarea, select, [contenteditable=true], [role=tab]") || event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    const way = { j: "next", k: "previous", ArrowRight: "next", ArrowLeft: "previous" }[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!way) return;
    event.preventDefault();
    go(way);
  });

  document.addEventListener("visibilitychange", () => { if (!document.hidden && visible() && state.state) poll(); });
  new MutationObserver((changes) => { if (changes.some((one) => !root?.contains(one.target))) address(); }).observe(document.documentElement, { subtree: true, attributes: true, attributeFilter: ["aria-selected"] });

  window.ddRejects = { anchor, mount, changed: () => changed(false), start, apply, get state() { return state; } };
})();
