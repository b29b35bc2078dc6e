// Training: the recipe as form and as YAML, checks and start, a job that is watched, jobs compared.
// All HTML comes from the server (ui/train_requests.py). The YAML is the form's one truth; fields are changes of it.
(() => {
  const POLL = 2000, WORK_POLL = 600, LIST_POLL = 5000, TYPED = 500; // ms
  const curves = window.ddCurvesIn({ plot: "#dd-train-plot", data: "#dd-train-app", box: "#dd-train-chart", smooth: "#dd-train-smooth", scale: "#dd-train-scale" });
  let root = null, server = null, events = null, anchored = null, named = "", words = {};
  let state = { lang: "en" };
  state = fresh("");
  let form = null; // {name, yaml, accelerate, command}: the last two only where they were edited
  let work = ""; // a check or a start that is under way
  let chain = Promise.resolve(), asking = 0;
  const filled = new WeakMap(), owed = new Map(); // owed: parts that wait until their open list is left
  let pollTimer = 0, workTimer = 0, typedTimer = 0, plotted = false;

  function fresh(id) {
    return { id, partners: [], lang: state.lang, state: "", live: false, watch: false, version: "", was_live: null };
  }

  const stored = (key, otherwise) => { try { return JSON.parse(localStorage.getItem(key)) ?? otherwise; } catch { return otherwise; } };
  const store = (key, value) => { try { localStorage.setItem(key, JSON.stringify(value)); } catch {} };
  const body = () => document.querySelector("#dd-train-body");
  const part = (name) => body().querySelector(`[data-part="${name}"]`);
  const visible = () => Boolean(root?.isConnected && root.offsetParent);
  const field = (name) => body().querySelector(`[name="${CSS.escape(name)}"]`);

  // --- asking ---

  async function ask(name, more = {}) {
    const { id, partners, lang, version, was_live } = state;
    const quiet = name === "now" || name === "work_now";
    if (!quiet) body().dataset.busy = String(++asking);
    const sent = form?.yaml;
    let answer = null;
    const onHub = id.startsWith("hf--") && ["open", "now"].includes(name) ? "hub_" : "";
    try { answer = await server["train_" + onHub + name]({ id, partners, lang, version, was_live, form, work, pairs: window.ddPairs?.state.id ?? "", ...more }); } catch {}
    if (!quiet && --asking === 0) delete body().dataset.busy;
    if (id !== state.id || lang !== state.lang) return null; // something else was opened meanwhile
    if (!answer) {
      if (!quiet) toast(words.pairs_no_answer_came, true);
      return null;
    }
    if (answer.toast) toast(answer.toast, answer.bad);
    if (answer.bad && name !== "open" && state.state === "open") open(); // its folder may be gone
    if (answer.form) {
      const area = field("yaml");
      const ahead = area && document.activeElement === area && area.value !== sent; // more was typed meanwhile
      form = { ...form, ...answer.form, ...(ahead ? { yaml: area.value } : {}) };
      store("dd-train-form", form);
      if (area && area.value !== form.yaml) {
        const { selectionStart, selectionEnd } = area;
        area.value = form.yaml;
        if (document.activeElement === area) area.setSelectionRange(selectionStart, selectionEnd);
      }
    }
    if (answer.parts) fill(answer.parts, quiet);
    if (answer.problems) complain(answer.problems);
    if (answer.now) Object.assign(state, answer.now);
    if (answer.version !== undefined) state.version = answer.version;
    if (answer.now && "live" in answer.now) state.was_live = state.live;
    return answer;
  }

  function inTurn(asks) { // a field left for a button is told before the button
    chain = chain.then(asks, asks);
    return chain;
  }

  function fill(parts, unasked) {
    for (const [name, html] of Object.entries(parts)) {
      const place = part(name);
      if (!place || filled.get(place) === html) continue;
      const active = place.contains(document.activeElement) ? document.activeElement : null;
      if (unasked && active?.matches("select, input, textarea")) { owed.set(name, html); continue; } // an open list
      owed.delete(name);
      if (name === "log" && heldOpen(place)) continue; // text that is being marked
      filled.set(place, html);
      const focused = active && keyOf(place, active);
      const open = [...place.querySelectorAll("details[open][id]")].map((one) => one.id);
      const tail = place.querySelector("[data-tail]");
      const from = tail && tail.scrollHeight - tail.scrollTop - tail.clientHeight > 40 ? tail.scrollTop : null;
      place.innerHTML = html;
      for (const id of open) place.querySelector("#" + CSS.escape(id))?.setAttribute("open", "");
      const next = place.querySelector("[data-tail]");
      if (next) next.scrollTop = from ?? next.scrollHeight; // a log is read from its end, unless somebody reads further up
      if (focused) focusAgain(place, focused);
      if (name === "curves") chart();
    }
  }

  const KEYS = ["data-open", "data-stop", "data-resume", "data-work", "name"];

  function keyOf(place, active) { // how to find what has the focus once it was drawn anew, and what was typed into it
    const key = KEYS.filter((n) => active.hasAttribute(n)).map((n) => `[${n}="${CSS.escape(active.getAttribute(n))}"]`).join("");
    const like = active.tagName.toLowerCase();
    const text = active.matches("textarea, input[type=text]");
    return {
      key, like, nth: [...place.querySelectorAll(like)].indexOf(active), said: active.matches("pre") ? null : active.textContent,
      typed: text && active.value !== active.defaultValue ? active.value : null,
      from: text ? active.selectionStart : null, to: text ? active.selectionEnd : null,
    };
  }

  function focusAgain(place, was) {
    let next = was.key ? place.querySelector(was.key) : place.querySelectorAll(was.like)[was.nth];
    if (!was.key && next && was.said !== null && next.textContent !== was.said) next = null; // another button stands there
    if (!next) return;
    if (was.typed !== null) { // the next field was begun before the answer about the last one came
      next.value = was.typed;
      next.dataset.begun = "";
    }
    next.focus({ preventScroll: true });
    if (was.from !== null) next.setSelectionRange(was.from, was.to);
  }

  function left(event) { // of a field that was drawn anew while it was typed into, browsers say no change
    const at = event.target;
    if (at.dataset?.begun !== undefined) {
      delete at.dataset.begun;
      if (at.value !== at.defaultValue) changed(event);
    }
    setTimeout(() => { for (const [name, html] of [...owed]) if (!part(name)?.contains(document.activeElement)) fill({ [name]: html }); });
  }

  function heldOpen(place) {
    const marked = getSelection();
    return !marked.isCollapsed && place.contains(marked.anchorNode);
  }

  function chart() {
    const there = Boolean(part("curves").querySelector("[data-chart]"));
    body().classList.toggle("dd-has-curves", there);
    if (there && !plotted) { plotted = true; events.draw(); }
    curves.take();
  }

  const toast = (line, bad = false) => window.ddToast(root, line, bad);

  function complain(problems) {
    for (const place of body().querySelectorAll("[data-problem]")) place.textContent = problems[place.dataset.problem] ?? "";
  }

  // --- which job ---

  function anchor(element) {
    anchored = element;
    follow();
  }

  function mount(element, functions, triggers) {
    root = element.querySelector(".dd-train");
    server = functions;
    events = triggers;
    form = stored("dd-train-form", null);
    work = stored("dd-train-work", "");
    listen();
    follow();
  }

  async function follow() { // the server named a job, or another language
    for (let n = 0; n < 100 && !(part("case") && part("log")); n++) await new Promise((done) => setTimeout(done, 50)); // drawn by and by
    const said = anchored?.querySelector("[data-lang]");
    if (!said || !root) return;
    words = JSON.parse(said.dataset.words);
    const { train, lang } = said.dataset;
    const other = lang !== state.lang;
    state.lang = lang;
    if (train && train !== named) enter(train); // as the address has it, said once
    else if (other || !state.state) { state.version = ""; open(); }
    named = train;
  }

  function enter(id) {
    clearTimeout(pollTimer);
    state = fresh(id);
    for (const name of ["head", "now", "numbers", "findings", "compare", "curves", "log", "start"]) {
      part(name).innerHTML = "";
      filled.delete(part(name));
      owed.delete(name);
    }
    body().classList.remove("dd-has-curves");
    return open();
  }

  function open() {
    return inTurn(async () => {
      const answer = await ask("open");
      if (!answer?.state) { if (answer && state.id.startsWith("hf--")) enter(""); return; } // said by a toast
      state.state = root.dataset.state = answer.state;
      body().classList.toggle("dd-has-job", answer.state === "open");
      const tail = part("log").querySelector("[data-tail]");
      if (tail) tail.scrollTop = tail.scrollHeight;
      address();
      poll();
      if (answer.state !== "open" && work) watchWork();
    });
  }

  function poll() {
    clearTimeout(pollTimer);
    if (state.state === "open" && state.watch) pollTimer = setTimeout(again, POLL);
    else if (["start", "gone"].includes(state.state) && part("start").querySelector("[data-live]")) pollTimer = setTimeout(again, LIST_POLL);
  }

  async function again() {
    if (document.hidden || !visible()) return; // taken up again when the page is looked at
    const { id } = state;
    await inTurn(() => (id === state.id ? ask("now") : null));
    if (id === state.id) poll();
  }

  function address() {
    if (root) requestAnimationFrame(() => window.ddAddress?.("train", visible() ? state.id : ""));
  }

  // --- the form ---

  function typed() { // the YAML while it is written
    clearTimeout(typedTimer);
    typedTimer = setTimeout(() => inTurn(() => ask("form")), TYPED);
  }

  function set(changes) {
    return inTurn(() => ask("form", { set: changes }));
  }

  function edited(name, value) { // the accelerate file or the command as it is now, null for as it is made
    form = { ...form, [name]: value };
    store("dd-train-form", form);
    return inTurn(() => ask("form"));
  }

  function changed(event) {
    const at = event.target;
    if (!at.name || at.name.startsWith("hub_")) return;
    if (at.name === "yaml") { form = { ...form, yaml: at.value }; return typed(); }
    if (at.name === "pick") return inTurn(() => ask("form", { pick: at.value }));
    if (at.name === "compare") { if (at.value) { state.partners = [...state.partners, at.value]; open(); } return; }
    if (at.name === "accelerate_text") return edited("accelerate", at.value);
    if (at.name === "command") return edited("command", at.value);
    if (["accelerate", "num_processes"].includes(at.name)) form = { ...form, accelerate: null, command: null };
    return set({ [at.name]: at.type === "checkbox" ? at.checked : at.value });
  }

  async function begin(does, more = {}, request = "begin") {
    const yaml = field("yaml");
    if (yaml) form = { ...form, yaml: yaml.value };
    clearTimeout(typedTimer);
    const answer = await inTurn(() => ask(request, { does, ...more }));
    if (answer?.work) {
      work = answer.work;
      store("dd-train-work", work);
      document.querySelector("#dd-train-case").classList.remove("dd-open");
      part("checks").scrollIntoView({ block: "nearest", behavior: "smooth" });
      watchWork();
    } else if (answer?.problems) {
      const first = [...body().querySelectorAll("[data-problem]")].find((one) => one.textContent);
      if (first?.closest("#dd-train-case")) document.querySelector("#dd-train-case").classList.add("dd-open");
      first?.scrollIntoView({ block: "center" });
    }
  }

  function watchWork() {
    clearTimeout(workTimer);
    workTimer = setTimeout(async () => {
      if (document.hidden) return watchWork();
      const answer = await inTurn(() => ask("work_now"));
      if (answer && !answer.done) return watchWork();
      if (!answer) return state.state === "open" ? undefined : watchWork();
      if (answer.gone || answer.job) { work = ""; store("dd-train-work", ""); }
      if (answer.job) { fill({ checks: "" }); enter(answer.job); }
      else if (answer.file) events.file(answer.file);
      else if (!answer.gone) open().then(() => part("checks").scrollIntoView({ block: "start", behavior: "smooth" }));
    }, WORK_POLL);
  }

  function give(selector, value) { // into a field of another tab, as if it were typed
    const input = document.querySelector(`${selector} textarea, ${selector} input`);
    if (!input) return;
    Object.getOwnPropertyDescriptor(Object.getPrototypeOf(input), "value").set.call(input, value);
    input.dispatchEvent(new Event("input", { bubbles: true }));
  }

  function diagnose(hit) { // the result as a case of the first tab
    document.querySelector("[role=tab]")?.click();
    setTimeout(() => {
      give("#dd-path", hit.dataset.diagnose);
      give("#dd-data", hit.dataset.rows);
      give("#dd-log", hit.dataset.log);
      setTimeout(() => document.querySelector("#dd-diagnose")?.click(), 200);
    }, 200);
  }

  // --- events ---

  function listen() {
    body().addEventListener("change", changed);
    body().addEventListener("input", (event) => {
      if (event.target.name === "yaml") changed(event);
      else if (event.target.id === "dd-train-smooth") curves.set("smooth", Number(event.target.value));
      else if (event.target.id === "dd-train-scale") curves.set("log", event.target.checked);
    });
    body().addEventListener("focusout", left);
    body().addEventListener("submit", (event) => event.preventDefault());
    body().addEventListener("keydown", (event) => { if (event.key === "Enter" && event.target.matches("input[type=text]")) event.target.blur(); });
    body().addEventListener("click", clicked);
  }

  function clicked(event) {
    const at = (selector) => event.target.closest(selector);
    let hit;
    if (at("#dd-train-start")) begin("start");
    else if (at("#dd-train-check")) begin("check");
    else if ((hit = at("[data-hand-over]"))) begin("hand_over", { kind: hit.dataset.handOver });
    else if (at("[data-hub-look]")) inTurn(() => ask("hub_look"));
    else if (at("[data-hub-quote]")) begin("quote", { machine: field("hub_machine").value, namespace: field("hub_namespace").value, minutes: field("hub_minutes").value }, "hub_begin");
    else if ((hit = at("[data-hub-start]"))) { hit.disabled = true; begin("start", { quote: hit.dataset.hubStart }, "hub_begin").then(() => { hit.disabled = false; }); }
    else if (at("[data-hub-cancel]")) { if (confirm(words.train_hub_confirm_cancel)) inTurn(() => ask("hub_cancel")).then(poll); }
    else if (at("[data-insist]")) begin("start", { insist: true });
    else if (at("[data-cancel]")) inTurn(() => ask("cancel"));
    else if ((hit = at("[data-open]"))) enter(hit.dataset.open);
    else if (at("[data-new]")) enter("");
    else if ((hit = at("[data-take]"))) set({ data: hit.dataset.take });
    else if ((hit = at("[data-as-made]"))) edited(hit.dataset.asMade, null);
    else if ((hit = at("[data-copy-from]"))) window.ddCopy?.(field(hit.dataset.copyFrom).value, hit);
    else if ((hit = at("[data-stop]"))) inTurn(() => ask("stop", { how: hit.dataset.stop })).then(poll);
    else if (at("[data-resume]")) resume();
    else if ((hit = at("[data-drop]"))) { state.partners = state.partners.filter((one) => one !== hit.dataset.drop); state.version = ""; open(); }
    else if (at("[data-again]")) inTurn(() => ask("again")).then((answer) => { if (answer?.again) { form = { ...answer.again, accelerate: null, command: null }; store("dd-train-form", form); enter(""); } });
    else if ((hit = at("[data-diagnose]"))) diagnose(hit);
    else if ((hit = at("[data-share]"))) window.ddCopy?.(window.ddLink("train", state.id), hit);
  }

  async function resume() {
    const answer = await inTurn(() => ask("resume"));
    if (answer?.changed && confirm(words.train_insist_resume)) await inTurn(() => ask("resume", { insist: true }));
    poll();
  }

  document.addEventListener("visibilitychange", () => { if (!document.hidden && visible() && state.state) again(); });
  new MutationObserver((changes) => {
    if (!changes.some((one) => !root?.contains(one.target))) return;
    address();
    if (visible() && state.state) { // this tab was opened: another set of pairs may be open, a run gone on
      if (state.state === "open") poll();
      else if (!asking) inTurn(() => ask("form"));
    }
  }).observe(document.documentElement, { subtree: true, attributes: true, attributeFilter: ["aria-selected"] });

  window.ddTrain = {
    anchor, mount, enter,
    uploaded: () => { const kept = document.querySelector("#dd-train-kept [data-value]"); if (kept) set({ data: kept.dataset.value }); },
    get state() { return state; }, get form() { return form; },
  };
})();
