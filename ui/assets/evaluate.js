// Evaluations: the kind and its form, a run that is followed, its result with plots that open cases, links and downloads.
// All HTML comes from the server (ui/evaluate_requests.py). What a panel's HTML may ask stands in ui/evaluate_panel.py.
(() => {
  const POLL = 1000, LIST_POLL = 4000, TYPED = 400; // ms
  const CLEARED = ["head", "now", "view", "findings", "cases", "log", "start", "recent", "bundles", "command"];
  let root = null, server = null, events = null, anchored = null, named = "", words = {};
  let state = { lang: "en" };
  state = fresh("");
  let kind = "", bundle = ""; // bundle: the one that is open beside the form
  let forms = {}; // fields by kind, as they were typed
  let chain = Promise.resolve(), asking = 0, pollTimer = 0, typedTimer = 0;
  let fileField = ""; // the field that a dropped file goes into
  let opened = null, unread = ""; // {row, set} of the case that is open; what stands in its place without one
  const reloaded = history.state?.ddAt; // where the page was before it was loaded anew
  let touched = false, returning = false; // touched: until then the page opens itself
  const filled = new WeakMap();

  function fresh(id) {
    return { id, lang: state.lang, state: "", live: false, of: "", link: "evaluate" };
  }

  const stored = (key, otherwise) => { try { return JSON.parse(localStorage.getItem(key)) ?? otherwise; } catch { return otherwise; } };
  const store = (key, value) => { try { localStorage.setItem(key, JSON.stringify(value)); } catch {} };
  const seen = () => stored("dd-evaluate-seen", []);
  const body = () => document.querySelector("#dd-evaluate-body");
  const part = (name) => body()?.querySelector(`[data-part="${CSS.escape(name)}"]`);
  const visible = () => Boolean(root?.isConnected && root.offsetParent);
  const toast = (line, bad = false) => window.ddToast(root, line, bad);

  // --- asking ---

  async function ask(name, more = {}) {
    const { id, lang } = state, asked = kind;
    const quiet = name === "now" || name === "form";
    if (!quiet) body().dataset.busy = String(++asking);
    let answer = null;
    try { answer = await server["evaluate_" + name]({ id, lang, kind, bundle, form: forms[kind] ?? {}, seen: seen(), ...more }); } catch {}
    if (!quiet && --asking === 0) delete body().dataset.busy;
    if (id !== state.id || lang !== state.lang) return null; // something else was opened meanwhile
    if (!answer) {
      if (!quiet) toast(words.pairs_no_answer_came, true);
      return null;
    }
    if (answer.toast) toast(answer.toast, answer.bad);
    if (kind !== asked) delete answer.parts?.form; // another kind was chosen meanwhile, and is asked for in turn
    else if (answer.kind) choose(answer.kind);
    if (answer.parts) fill(answer.parts, name === "now");
    if (answer.problems) complain(answer.problems);
    if (answer.now) Object.assign(state, answer.now);
    if (answer.set) events.pairs(answer.set);
    return answer;
  }

  function inTurn(asks) {
    chain = chain.then(asks, asks);
    return chain;
  }

  function fill(parts, unasked) {
    for (const [name, html] of Object.entries(parts)) {
      const place = part(name);
      if (!place || filled.get(place) === html) continue;
      const active = place.contains(document.activeElement) ? document.activeElement : null;
      if (unasked && active?.matches("select, input, textarea")) continue; // an open list, something being typed
      filled.set(place, html);
      const key = active && keyOf(active);
      const open = [...place.querySelectorAll("details[open][id]")].map((one) => one.id);
      place.innerHTML = html;
      for (const id of open) place.querySelector("#" + CSS.escape(id))?.setAttribute("open", "");
      if (active && active !== place) stay(place, key && place.querySelector(key));
    }
  }

  function stay(place, element) { // what had the focus is gone: the Tab key goes on from here, not from the top of the page
    if (!element) place.tabIndex = -1;
    (element || place).focus({ preventScroll: true });
  }

  const KEYS = ["data-ask", "data-value", "data-open", "data-stop", "data-case", "data-set", "name", "value"];
  const keyOf = (active) => KEYS.filter((n) => active.hasAttribute(n)).map((n) => `[${n}="${CSS.escape(active.getAttribute(n))}"]`).join("");

  function complain(problems) {
    for (const place of body().querySelectorAll("[data-problem]")) place.textContent = problems[place.dataset.problem] ?? "";
  }

  // --- which evaluation ---

  function anchor(element) {
    anchored = element;
    follow();
  }

  function mount(element, functions, triggers) {
    root = element.querySelector(".dd-evaluate");
    server = functions;
    events = triggers;
    forms = stored("dd-evaluate-forms", {});
    kind = stored("dd-evaluate-kind", "");
    listen();
    follow();
  }

  async function follow() { // the server named an evaluation, or another language
    for (let n = 0; n < 100 && !(part("form") && part("log")); n++) await new Promise((done) => setTimeout(done, 50)); // drawn by and by
    const said = anchored?.querySelector("[data-lang]");
    if (!said || !root) return;
    words = JSON.parse(said.dataset.words);
    const { evaluate, lang, kind: asked } = said.dataset;
    const other = lang !== state.lang;
    state.lang = lang;
    if (asked && !touched) { // the address names a form
      choose(asked);
      bundle = reloaded?.bundle ?? "";
    }
    if (evaluate && evaluate !== named) enter(evaluate, evaluate === reloaded?.id && !touched ? reloaded.opened : null); // as the address has it, said once
    else if (other || !state.state) open();
    named = evaluate;
    visited();
  }

  function enter(id, row = null) { // row: {row, set} of a case to open in it
    clearTimeout(pollTimer);
    state = fresh(id);
    opened = row;
    visited();
    for (const name of CLEARED) if (part(name)) { part(name).innerHTML = ""; filled.delete(part(name)); }
    if (id) store("dd-evaluate-seen", [...new Set([id, ...seen()])].slice(0, 40));
    delete body().dataset.files; // they are of another evaluation
    return open();
  }

  function open() {
    return inTurn(async () => {
      const answer = await ask("open");
      if (!answer?.state) return;
      if (answer.state === "gone") store("dd-evaluate-seen", seen().filter((one) => one !== state.id));
      state.state = root.dataset.state = answer.state;
      body().dataset.state = answer.state;
      body().classList.toggle("dd-has-evaluation", answer.state === "open");
      if (answer.state === "open") {
        if (opened && !caseIn()) openCase(opened.row, opened.set); // drawn in another language, or come back to
        handOut();
      } else {
        keep();
        await ask("form");
      }
      address();
      poll();
    });
  }

  function handOut() { // files and link of what has a result
    if (!state.live && part("view").innerHTML) events.files(state.id);
    window.dispatchEvent(new CustomEvent("dd-evaluation", { detail: { id: state.id, kind: state.of, live: state.live } }));
  }

  function poll() {
    clearTimeout(pollTimer);
    if (state.state === "open" && state.live) pollTimer = setTimeout(again, POLL);
    else if (state.state !== "open" && part("recent")?.querySelector("[data-live]")) pollTimer = setTimeout(again, LIST_POLL);
  }

  async function again() {
    if (document.hidden || !visible()) return void (pollTimer = setTimeout(again, POLL));
    const { id } = state, before = state.live;
    await inTurn(() => (id === state.id ? ask("now") : null));
    if (id !== state.id) return;
    if (before && !state.live) { handOut(); address(); }
    poll();
  }

  function address() { // a report has a link that lasts longer than its run
    if (!root) return;
    const byReport = state.state === "open" && state.link === "report";
    root.querySelector(".dd-verdict").dataset.report = byReport ? state.id : "";
    requestAnimationFrame(() => window.ddAddress?.("evaluate", visible() && !byReport ? state.id || kind : ""));
  }

  // --- back and forward: a tab, an evaluation, a bundle and a case are entries of the browser's history ---

  const tabs = () => [...document.querySelectorAll("[role=tab]")];
  const where = () => ({ tab: tabs().findIndex((one) => one.getAttribute("aria-selected") === "true"), id: state.id, bundle, opened });
  const same = (one, other) => JSON.stringify(one) === JSON.stringify(other);

  function visited() { // before the address changes, which belongs to the new entry
    const now = where(), before = history.state?.ddAt;
    if (returning || now.tab < 0 || same(now, before)) return;
    const turned = now.opened && before?.opened && same({ ...now, opened: null }, { ...before, opened: null });
    history[before && touched && !turned ? "pushState" : "replaceState"]({ ...history.state, ddAt: now }, "");
  }

  function returned({ state: kept }) {
    const to = kept?.ddAt, now = where();
    if (!to) return;
    returning = true; // the tab changes a moment later than the rest
    bundle = to.bundle;
    if (to.tab !== now.tab) tabs()[to.tab]?.click();
    if (to.id !== now.id || to.bundle !== now.bundle) root ? enter(to.id, to.opened) : (state = fresh(to.id));
    else if (to.opened && !same(to.opened, now.opened)) openCase(to.opened.row, to.opened.set);
    else if (!to.opened && now.opened) closeCase();
    else address();
    opened = to.opened;
    returning = false;
  }

  addEventListener("popstate", returned);
  for (const type of ["pointerdown", "keydown"]) addEventListener(type, () => { touched = true; }, { capture: true, once: true });
  if (!reloaded) (function first() { tabs().length ? visited() : setTimeout(first, 100); })();

  // --- the form ---

  function choose(name) {
    kind = name;
    store("dd-evaluate-kind", kind);
  }

  function fieldsIn(place) {
    const found = {};
    for (const field of place.querySelectorAll("[name]")) {
      if (field.type === "radio" || field.type === "checkbox") { if (field.checked) found[field.name] = field.value; }
      else found[field.name] = field.value;
    }
    return found;
  }

  function keep() {
    const place = part("form").querySelector("[data-kind]");
    if (!place) return;
    forms[place.dataset.kind] = fieldsIn(place);
    store("dd-evaluate-forms", forms);
  }

  function typed() {
    keep();
    clearTimeout(typedTimer);
    typedTimer = setTimeout(() => inTurn(() => (state.state === "open" ? null : ask("form"))), TYPED);
  }

  async function start() {
    keep();
    clearTimeout(typedTimer);
    const answer = await inTurn(() => ask("start"));
    if (answer?.id) {
      enter(answer.id);
      body().scrollIntoView({ block: "nearest" });
    } else if (answer?.problems) {
      const first = [...body().querySelectorAll("[data-problem]")].find((one) => one.textContent);
      first?.closest("details")?.setAttribute("open", "");
      first?.scrollIntoView({ block: "center" });
    }
  }

  function put(name, value) { // into a field of the form, after what stands there where it takes several
    const field = part("form").querySelector(`[name="${CSS.escape(name)}"]`);
    if (!field) return;
    const lines = field.value.split("\n").map((line) => line.trim()).filter(Boolean);
    if (field.tagName !== "TEXTAREA") field.value = value;
    else if (!lines.includes(value)) field.value = [...lines, value].join("\n");
    field.closest("details")?.setAttribute("open", "");
    typed();
  }

  function uploaded() {
    const kept = document.querySelector("#dd-evaluate-kept [data-value]");
    const takes = [...part("form").querySelectorAll("[data-file]")];
    const field = takes.find((one) => one.name === fileField) ?? takes[0];
    if (kept && field) put(field.name, kept.dataset.value);
  }

  // --- one case ---

  const caseIn = () => part("case")?.querySelector(".dd-case-card");

  function openCase(row, set) {
    return inTurn(() => {
      if (!caseIn()) unread = part("case")?.innerHTML ?? "";
      return ask("panel", { does: "case", row: Number(row), set, fields: fields() });
    }).then((answer) => {
      if (!answer?.parts?.case) return;
      opened = { row: Number(row), set };
      visited();
      for (const figure of body().querySelectorAll("dd-figure[data-set]")) if (figure.mark && figure.dataset.set === set) figure.mark(Number(row));
      part("case").scrollIntoView({ block: "nearest", behavior: "smooth" });
    });
  }

  function closeCase() {
    const place = part("case");
    opened = null;
    visited();
    if (!place) return;
    const inside = place.contains(document.activeElement);
    place.innerHTML = unread;
    filled.delete(place);
    if (inside) stay(place);
    for (const figure of body().querySelectorAll("dd-figure[data-set]")) figure.mark?.(null);
  }

  const fields = () => fieldsIn(document.querySelector("#dd-evaluate-lower [data-fields]")); // which model, and filters as they stand

  const asked = (at, value) => inTurn(() => ask("panel", { does: at.dataset.ask, value, fields: fields() })).then(() => {
    if (!opened || caseIn()) return;
    opened = null; // what was asked drew the place of the case anew
    visited();
  });

  // --- events ---

  function listen() {
    body().addEventListener("click", clicked);
    body().addEventListener("submit", (event) => event.preventDefault());
    body().addEventListener("input", (event) => { if (event.target.closest("[data-kind]")) typed(); });
    body().addEventListener("change", changed);
    body().addEventListener("focusin", (event) => { if (event.target.dataset?.file !== undefined) fileField = event.target.name; });
    body().addEventListener("dd-point", (event) => openCase(event.detail.row, event.detail.set));
  }

  function changed(event) {
    const at = event.target;
    if (at.name === "kind" && at.closest("[data-part=form]")) {
      keep();
      choose(at.value);
      bundle = "";
      visited();
      address();
      inTurn(async () => { await ask("kind"); keep(); await ask("form"); });
    } else if (at.matches("[data-ask]:not(button)")) asked(at, at.type === "checkbox" ? (at.checked ? at.value : "") : at.value);
  }

  function clicked(event) {
    const at = (selector) => event.target.closest(selector);
    let hit;
    if (at("#dd-evaluate-start")) start();
    else if ((hit = at("[data-add]"))) put(hit.dataset.to, hit.dataset.add);
    else if ((hit = at("[data-open]"))) enter(hit.dataset.open);
    else if (at("[data-new]")) enter("");
    else if (at("[data-stop]")) inTurn(() => ask("stop")).then(poll);
    else if (at("[data-repeat]")) inTurn(() => ask("repeat")).then(() => { handOut(); address(); poll(); });
    else if (at("[data-again]")) inTurn(() => ask("again")).then(fillIn);
    else if ((hit = at("[data-bundle]"))) openBundle(hit.dataset.bundle);
    else if (at("[data-bundle-form]")) inTurn(() => ask("bundle_form")).then(fillIn);
    else if ((hit = at("[data-ask=bundle_replay]"))) inTurn(() => ask("bundle_replay", { replay: hit.dataset.value })).then((answer) => { if (answer?.id) enter(answer.id); });
    else if ((hit = at("[data-bundle-remove]"))) {
      if (confirm(hit.dataset.sure)) inTurn(() => ask("bundle_remove")).then((answer) => { if (answer?.removed) bundle = ""; });
    }
    else if ((hit = at("[data-remove]"))) {
      if (confirm(hit.dataset.remove)) inTurn(() => ask("remove")).then((answer) => { if (answer && !answer.bad) enter(""); });
    }
    else if ((hit = at("[data-share]"))) window.ddCopy?.(window.ddLink(state.link, state.id), hit);
    else if ((hit = at("[data-case]"))) openCase(hit.dataset.case, hit.dataset.set ?? "");
    else if (at("[data-close-case]")) closeCase();
    else if ((hit = at("[data-recipe]"))) train(hit.dataset.recipe);
    else if ((hit = at("button[data-ask]"))) asked(hit, hit.dataset.value ?? "");
  }

  function fillIn(answer) { // a form that was filled in before, or that a bundle fills in
    if (!answer?.form) return;
    forms[answer.kind] = answer.form;
    choose(answer.kind);
    store("dd-evaluate-forms", forms);
    enter("").then(() => document.querySelector("#dd-evaluate-case").scrollIntoView({ block: "nearest" }));
  }

  function openBundle(name) {
    bundle = name;
    if (state.state === "open") return enter("");
    visited();
    return inTurn(() => ask(name ? "bundle" : "kind")).then(() => root.scrollIntoView({ block: "nearest" }));
  }

  async function train(recipe) { // the tab Train with this recipe; it is drawn when it is opened first
    events.train();
    const pick = () => document.querySelector("#dd-train-body [name=pick]");
    for (let n = 0; n < 100 && !pick()?.offsetParent; n++) await new Promise((done) => setTimeout(done, 100));
    if (!pick()) return;
    pick().value = recipe;
    pick().dispatchEvent(new Event("change", { bubbles: true }));
  }

  document.addEventListener("keydown", (event) => { // from case to case without a mouse
    if (!visible() || state.state !== "open" || event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    if (event.target.closest?.("input, textarea, select, [contenteditable=true], [role=tab], dd-figure")) return;
    const way = { j: "next", k: "previous", ArrowRight: "next", ArrowLeft: "previous", Escape: "close" }[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    const button = way && part("case")?.querySelector(way === "close" ? "[data-close-case]" : `[data-way="${way}"]`);
    if (!button || button.disabled) return;
    event.preventDefault();
    button.click();
  });

  document.addEventListener("visibilitychange", () => { if (!document.hidden && visible() && state.state) again(); });
  new MutationObserver((changes) => {
    if (!changes.some((one) => !root?.contains(one.target))) return;
    visited();
    address();
    if (visible() && state.state && state.state !== "open" && !asking) inTurn(() => ask("kind")); // a run of the tab Train may have ended
  }).observe(document.documentElement, { subtree: true, attributes: true, attributeFilter: ["aria-selected"] });

  window.ddEvaluate = {
    anchor, mount, enter, uploaded, fill,
    handed: () => { if (state.state === "open" && !state.live) body().dataset.files = "1"; },
    ask: (does, more = {}) => inTurn(() => ask("panel", { does, ...more })),
    get state() { return state; },
  };
})();
