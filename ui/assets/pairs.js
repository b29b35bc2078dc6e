// Going through pairs: which set is open, asking the server for parts of the page, the list, the way from pair to pair.
// All HTML comes from the server (ui/pair_requests.py); what is typed goes back as values. pair_edit.js, pair_plots.js
// and pair_jobs.js add to `window.ddPairs` what they are named after.
(() => {
  const PAGE = 50; // rows of one page, as in pair_table.py
  let root = null, server = null, events = null, anchored = null, words = {}, lasting = true;
  let state = fresh("");
  let chain = Promise.resolve(); // requests go one after the other: two quick keys must not overtake each other
  let queued = 0;
  let searchTimer = 0;

  function fresh(id) {
    return { id, lang: "en", view: {}, offset: 0, position: null, revision: 0, matching: 0, state: "", pane: "review" };
  }

  // --- what this browser keeps ---

  const stored = (area, key, otherwise) => { try { return JSON.parse(area.getItem(key)) ?? otherwise; } catch { return otherwise; } };
  const store = (area, key, value) => { try { area.setItem(key, JSON.stringify(value)); } catch {} };

  function editor() { // who edits: a random sign of this browser
    let id = stored(localStorage, "dd-editor", null);
    if (!id) {
      id = btoa(String.fromCharCode(...crypto.getRandomValues(new Uint8Array(16)))).replace(/\+/g, "-").replace(/\//g, "_").replace(/=/g, "");
      store(localStorage, "dd-editor", id);
    }
    return id;
  }

  function remember() {
    if (!state.id) return;
    store(sessionStorage, "dd-pairs-" + state.id, { view: state.view, offset: state.offset, position: state.position });
  }

  const seen = () => stored(localStorage, "dd-pairs-seen", []);

  // --- asking ---

  async function ask(name, more = {}) {
    const { id, lang, view, offset, position, revision } = state;
    root.dataset.busy = "1";
    const answer = await server["pairs_" + name]({ id, lang, view, offset, position, revision, editor: editor(), ...more });
    delete root.dataset.busy;
    if (id !== state.id) return null; // another set was opened meanwhile
    if (!answer) {
      toast(words.pairs_no_answer_came, true);
      return null;
    }
    if (answer.toast) toast(answer.toast, answer.bad);
    if (name === "open" && answer.parts && P.editing()) { // what is being typed outlives a refresh
      delete answer.parts.pair;
      delete answer.now;
    }
    if (answer.parts) fill(answer.parts);
    if (answer.now) {
      Object.assign(state, answer.now);
      remember();
    }
    if (answer.gone) open();
    return answer;
  }

  function inTurn(work) {
    queued += 1;
    const run = () => { queued -= 1; return work(); };
    chain = chain.then(run, run);
    return chain;
  }

  const part = (name) => root.querySelector(`[data-part="${name}"]`);

  function focusKey(element) { // how to find the same control again after its part was redrawn
    const names = ["data-view", "data-range", "data-end", "data-row", "data-do", "data-go", "data-edit", "data-offset", "data-pane", "data-status", "name"];
    const found = names.filter((n) => element.hasAttribute?.(n)).map((n) => `[${n}="${CSS.escape(element.getAttribute(n))}"]`);
    return found.length ? found.join("") : "";
  }

  function fill(parts) {
    for (const [name, html] of Object.entries(parts)) {
      const place = part(name);
      if (!place) continue;
      const active = place.contains(document.activeElement) ? document.activeElement : null;
      const key = active ? focusKey(active) : "";
      const scroll = place.querySelector(".dd-pairs-rows")?.scrollTop;
      place.innerHTML = html;
      if (active?.matches("[data-view=search]")) { // what is being typed stays as it is
        place.querySelector("[data-view=search]")?.replaceWith(active);
        active.focus();
      } else if (active && name !== "pair") {
        (key.includes("data-row") ? place.querySelector(".dd-current") : place.querySelector(key || "none"))?.focus({ preventScroll: true });
      } else if (active) {
        place.querySelector(".dd-pair")?.querySelector(key || "none")?.focus({ preventScroll: true });
      }
      const rows = place.querySelector(".dd-pairs-rows");
      if (rows && scroll !== undefined) rows.scrollTop = scroll;
    }
    if ("list" in parts) inSight();
    if ("head" in parts) dress();
    if ("filters" in parts) root.querySelector("[data-wide]")?.setAttribute("aria-pressed", String(root.classList.contains("dd-wide-on")));
  }

  function dress() { // what the head shows of this browser's own
    const name = root.querySelector("[data-editor-name]");
    if (name) name.value = stored(localStorage, "dd-editor-name", "") ?? "";
    for (const button of root.querySelectorAll("button.dd-pane")) button.setAttribute("aria-pressed", String(button.dataset.pane === state.pane));
  }

  function inSight() {
    const row = root.querySelector("tr.dd-current"), box = row?.closest(".dd-pairs-rows");
    if (!box) return;
    const top = row.offsetTop - box.querySelector("thead").offsetHeight, bottom = row.offsetTop + row.offsetHeight;
    if (top < box.scrollTop) box.scrollTop = top;
    else if (bottom > box.scrollTop + box.clientHeight) box.scrollTop = bottom - box.clientHeight;
  }

  const toast = (line, bad = false) => window.ddToast(root, line, bad);

  // --- which set ---

  function anchor(element) {
    anchored = element;
    follow();
  }

  function mount(element, functions, triggers) {
    root = element.querySelector(".dd-pairs");
    server = functions;
    events = triggers;
    listen();
    follow();
  }

  function follow() { // the server named a set, or another language
    const said = anchored?.querySelector("[data-lang]");
    if (!said || !root) return;
    words = JSON.parse(said.dataset.words);
    lasting = said.dataset.lasting === "1";
    root.querySelector(".dd-plots-box > summary").textContent = words.pairs_plots_head;
    const { pairs, lang } = said.dataset;
    if (pairs !== state.id && pairs !== said.dataset.left) enter(pairs, lang);
    else if (lang !== state.lang || !state.state) {
      state.lang = lang;
      open();
    }
  }

  function enter(id, lang = state.lang) {
    state = { ...fresh(id), lang, ...stored(sessionStorage, "dd-pairs-" + id, {}) };
    P.stopPolling();
    for (const place of root.querySelectorAll("[data-part]")) place.innerHTML = "";
    root.querySelector(".dd-job").innerHTML = "";
    if (id) store(localStorage, "dd-pairs-seen", [id, ...seen().filter((one) => one !== id)].slice(0, 8));
    return open();
  }

  function open() {
    return inTurn(async () => {
      const id = state.id;
      const form = part("export");
      const answer = await ask("open", { seen: seen(), name: stored(localStorage, "dd-editor-name", ""), form: form.innerHTML ? form.dataset.lang : "" });
      if (!answer || id !== state.id) return;
      const before = state.state;
      if (!answer.state) return; // what went wrong was said
      state.state = answer.state;
      root.dataset.state = state.state;
      document.querySelector("#dd-pairs-body")?.classList.toggle("dd-has-set", state.state === "open");
      if (state.state === "open" && before !== "open") document.querySelector("#dd-pairs-case")?.classList.remove("dd-open");
      if (state.state !== "start") document.querySelector("#dd-pairs-problem")?.replaceChildren();
      if (state.state === "failed" || state.state === "gone") forget(id);
      if (state.state === "importing" && answer.live) setTimeout(open, 500);
      form.dataset.lang = state.lang;
      if (state.state === "open") {
        show(state.pane);
        P.plots();
        if (answer.judging) P.poll("judge");
      }
      address();
    });
  }

  function forget(id) {
    store(localStorage, "dd-pairs-seen", seen().filter((one) => one !== id));
    if (state.state === "failed") state.id = ""; // nothing is left of it
  }

  function leave() { // back to where another set can be opened
    if (!P.mayLeave()) return;
    anchored.querySelector("[data-lang]").dataset.left = state.id;
    events.leave();
    enter("");
    setTimeout(() => document.querySelector("#dd-pairs-path textarea, #dd-pairs-path input")?.focus(), 300);
  }

  function address() { // of the tab that is open
    if (root) requestAnimationFrame(() => window.ddAddress?.("pairs", root.isConnected && root.offsetParent ? state.id : ""));
  }

  // --- going through ---

  const rows = () => [...root.querySelectorAll("tr[data-row]")];
  const current = () => rows().findIndex((row) => Number(row.dataset.row) === state.position);

  function mark(row, focus) {
    for (const other of rows()) {
      const on = other === row;
      other.classList.toggle("dd-current", on);
      other.setAttribute("aria-selected", String(on));
      other.tabIndex = on ? 0 : -1;
    }
    if (focus) row.focus({ preventScroll: true });
    inSight();
    state.position = Number(row.dataset.row);
    state.revision = Number(row.dataset.revision);
  }

  async function shown() { // the pair that is marked in the list
    if (Number(part("pair").querySelector(".dd-pair")?.dataset.position) === state.position) return;
    const at = state.offset + current() + 1;
    await ask("show", { place: `${at.toLocaleString("en")} / ${state.matching.toLocaleString("en")}` });
  }

  function pick(position) {
    if (!P.mayLeave()) return;
    return inTurn(async () => {
      const row = rows().find((one) => Number(one.dataset.row) === position);
      if (!row) return;
      mark(row, true);
      await shown();
    });
  }

  function go(way) {
    if (!P.mayLeave()) return;
    return inTurn(async () => {
      const all = rows(), at = current(), to = all[at < 0 ? 0 : at + (way === "next" ? 1 : -1)];
      if (to) {
        mark(to, Boolean(document.activeElement?.closest?.("tr[data-row]")));
        if (!queued) await shown(); // of several quick steps only the last one is shown
        return;
      }
      const offset = state.offset + (way === "next" ? PAGE : -PAGE);
      if (offset < 0 || offset >= state.matching) toast(way === "next" ? words.pairs_last_one : words.pairs_first_one);
      else await ask("page", { offset, position: null, at: way === "next" ? "first" : "last" });
    });
  }

  function page(offset, at = "first") {
    if (!P.mayLeave()) return;
    return inTurn(() => ask("page", { offset, position: null, at }));
  }

  function look(changes) { // another view
    if (!P.mayLeave()) return;
    state.view = { ...state.view, ...changes };
    for (const [key, value] of Object.entries(state.view)) if (value === "" || value === null) delete state.view[key];
    P.closeBulk();
    P.plots();
    return inTurn(() => ask("page", { offset: 0 }));
  }

  function range(column, low, high) {
    const ranges = { ...(state.view.ranges ?? {}) };
    if (low === null && high === null) delete ranges[column];
    else ranges[column] = [low, high];
    return look({ ranges });
  }

  function show(pane) {
    state.pane = root.dataset.pane = pane;
    const work = document.querySelector("#dd-pairs-work");
    if (work) work.dataset.pane = pane;
    dress();
    if (pane === "health") inTurn(() => ask("health"));
  }

  // --- doing ---

  function act(action, more = {}) {
    if (!P.mayLeave()) return;
    return inTurn(async () => {
      if (state.position === null && action !== "undo" && action !== "redo") return;
      const answer = await ask("act", { do: action, ...more });
      if (answer?.conflict) part("pair").querySelector(".dd-conflict")?.scrollIntoView({ block: "nearest" });
    });
  }

  // --- events ---

  function listen() {
    root.addEventListener("click", clicked);
    root.addEventListener("submit", (event) => { event.preventDefault(); P.submit(event.target, event.submitter); });
    root.addEventListener("change", (event) => {
      const at = event.target, key = at.dataset.view;
      if (key && key !== "search") look({ [key]: at.value });
      else if (at.dataset.range) {
        const now = [...(state.view.ranges?.[at.dataset.range] ?? [null, null])];
        now[at.dataset.end === "least" ? 0 : 1] = at.value === "" ? null : Number(at.value);
        P.range(at.dataset.range, ...now);
      } else if (at.matches("[data-editor-name]")) {
        store(localStorage, "dd-editor-name", at.value);
        inTurn(() => ask("name", { name: at.value }));
      } else if (at.name === "action") at.form.dataset.action = at.value;
      else if (at.name === "format") at.form.dataset.format = at.value;
      else if (at.name === "suffix") {
        const file = at.form.querySelector("[name=file]");
        if (file) file.value = file.value.replace(/\.[a-z]+$/, at.value);
      }
    });
    P.listenToPlots();
    root.addEventListener("input", (event) => {
      const form = event.target.form;
      if (form?.dataset.rpc === "bulk") form.dataset.old = "1"; // its preview is of something else now
      if (!event.target.matches("[data-view=search]")) return;
      clearTimeout(searchTimer);
      searchTimer = setTimeout(() => look({ search: event.target.value }), 300);
    });
  }

  function clicked(event) {
    const at = (selector) => event.target.closest(selector);
    let hit;
    if ((hit = at("[data-open]"))) { events.take(hit.dataset.open); enter(hit.dataset.open); }
    else if (at("[data-new]")) leave();
    else if ((hit = at("[data-cancel]"))) server.pairs_job({ id: state.id, lang: state.lang, kind: hit.dataset.cancel, cancel: true });
    else if ((hit = at("button[data-pane]"))) show(hit.dataset.pane);
    else if ((hit = at("[data-toggle=bulk]"))) P.toggleBulk();
    else if ((hit = at("[data-do]:not(section)"))) act(hit.dataset.do);
    else if ((hit = at("[data-go]"))) go(hit.dataset.go);
    else if ((hit = at("[data-edit]"))) P.edit(hit.dataset.edit);
    else if ((hit = at("[data-solve]"))) P.solve(hit.dataset.solve);
    else if ((hit = at("[data-offset]"))) page(Number(hit.dataset.offset));
    else if ((hit = at("[data-unrange]"))) P.range(hit.dataset.unrange, null, null);
    else if (at("[data-clear]")) clearView();
    else if (at("[data-turn]")) look({ descending: !state.view.descending });
    else if ((hit = at("[data-finding]"))) { show("review"); clearView({ finding: hit.dataset.finding }); }
    else if ((hit = at("[data-status]"))) { show("review"); look({ status: state.view.status === hit.dataset.status ? "" : hit.dataset.status }); }
    else if (at("[data-judge]")) inTurn(() => ask("judge")).then((answer) => { if (answer?.live) P.poll("judge"); });
    else if (at("[data-keys]")) part("help").showModal();
    else if (at("[data-close]")) part("help").close();
    else if (at("[data-back]")) root.classList.remove("dd-one");
    else if ((hit = at("[data-share]"))) window.ddCopy?.(window.ddLink("pairs", state.id), hit);
    else if (event.target === part("help")) part("help").close();
    else if (at("[data-wide]")) widen(!root.classList.contains("dd-wide-on"));
    else if ((hit = at("tr[data-row]"))) large(Number(hit.dataset.row));
  }

  function large(position) { // one pair, beside the list or instead of it
    widen(false);
    root.classList.add("dd-one");
    return pick(position);
  }

  function widen(on) {
    root.classList.toggle("dd-wide-on", on);
    root.querySelector("[data-wide]")?.setAttribute("aria-pressed", String(on));
    inSight();
  }

  function clearView(more = {}) {
    const { sort, descending } = state.view;
    state.view = { ...(sort ? { sort } : {}), ...(descending ? { descending } : {}) };
    const search = root.querySelector("[data-view=search]");
    if (search) search.value = "";
    return look(more);
  }

  addEventListener("beforeunload", (event) => {
    const lost = !lasting && Number(root?.querySelector("[data-unexported]")?.dataset.unexported ?? 0) > 0;
    if (lost || P.dirty()) event.preventDefault();
  });

  document.addEventListener("visibilitychange", () => { // others may have changed something meanwhile
    if (!document.hidden && root?.isConnected && root.offsetParent && state.state === "open" && !P.editing() && !part("bulk").innerHTML) open();
  });

  new MutationObserver((seen) => { if (seen.some((one) => !root?.contains(one.target))) address(); }).observe(document.documentElement, { subtree: true, attributes: true, attributeFilter: ["aria-selected"] });

  const P = window.ddPairs = {
    anchor, mount, ask, inTurn, part, go, large, widen, range, act, shown, open, stored, store, toast,
    exported: () => { if (state.id) setTimeout(open, 300); },
    get root() { return root; }, get server() { return server; }, get events() { return events; }, get words() { return words; },
    get state() { return state; },
  };
})();
