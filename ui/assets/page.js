// What the page does without asking the server: copy, jump to a finding, keep what was opened, the address, the theme.
(() => {
  // details a visitor opened or closed, by panel: kept when a new finding redraws the report
  const wanted = new Map();
  let report = null;

  // Each tab is a panel with a report of its own, and the same names in it.
  const panels = () => [...document.querySelectorAll("[role=tabpanel]")];
  const panelOf = (element) => element?.closest("[role=tabpanel]") ?? document;
  const panelNow = () => panels().find((panel) => panel.offsetParent !== null) ?? document;
  const inPanel = (panel, id) => panel.querySelector("#" + CSS.escape(id));
  const verdict = () => panelNow().querySelector(".dd-verdict");

  function keep(panel, id, open) {
    if (!wanted.has(panel)) wanted.set(panel, { report: null, open: new Map() });
    wanted.get(panel).open.set(id, open);
  }

  function shareLink(name, id) {
    const query = id ? `?${name}=` + encodeURIComponent(id) : "";
    const space = document.querySelector("#dd-space [data-space]")?.dataset.space;
    return (space ? "https://huggingface.co/spaces/" + space : location.origin + location.pathname) + query;
  }

  const toasts = new WeakMap(); // when each place is cleared

  window.ddToast = (root, line, bad = false) => { // what a tab says for a moment
    const place = root.querySelector(".dd-toast");
    place.textContent = line;
    place.classList.toggle("dd-bad", Boolean(bad));
    place.classList.add("dd-up");
    clearTimeout(toasts.get(place));
    toasts.set(place, setTimeout(() => place.classList.remove("dd-up"), bad ? 7000 : 3500));
  };

  async function copy(text) {
    try {
      await navigator.clipboard.writeText(text);
    } catch { // plain http on another machine has no clipboard
      const area = document.createElement("textarea");
      area.value = text;
      area.style.position = "fixed";
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
  }

  function copyLink(link, button) {
    copy(link).then(() => said(button, "✓ " + button.textContent.replace("✓ ", "")));
  }

  function said(button, word) {
    const before = button.textContent;
    button.textContent = word;
    setTimeout(() => { if (button.textContent === word) button.textContent = before; }, 1200);
  }

  function jump(id, from) {
    const panel = panelOf(from);
    const target = inPanel(panel, id);
    if (!target) return;
    for (let at = target; at; at = at.parentElement) {
      if (at.tagName === "DETAILS") { at.open = true; keep(panel, at.id, true); }
    }
    target.scrollIntoView({ behavior: "smooth", block: "center" });
    target.querySelector("summary")?.focus({ preventScroll: true });
    target.classList.add("dd-flash");
    setTimeout(() => target.classList.remove("dd-flash"), 1600);
  }

  window.ddJump = jump;

  function give(field) {
    document.querySelector("#dd-case")?.classList.add("dd-open");
    const input = () => document.querySelector(`#dd-${field} textarea, #dd-${field} input`);
    if (!input()?.offsetParent) document.querySelector("#dd-more > button")?.click();
    setTimeout(() => { input()?.scrollIntoView({ block: "center" }); input()?.focus(); }, 150);
  }

  document.addEventListener("click", (event) => {
    const at = (selector) => event.target.closest?.(selector);
    const summary = at("summary");
    let hit;
    if ((hit = at("[data-jump]"))) {
      event.preventDefault();
      jump(hit.dataset.jump, hit);
    } else if ((hit = at("[data-copy]"))) {
      event.preventDefault();
      copy(hit.dataset.copy).then(() => said(hit, hit.dataset.done));
    } else if ((hit = at("#dd-link, #dd-log-link"))) {
      copyLink(shareLink("report", verdict()?.dataset.report), hit);
    } else if ((hit = at("#dd-log-read, #dd-log-examples button, #dd-pairs-open, #dd-pairs-examples button, #dd-rejects-examples button"))) {
      hit.closest("#dd-log-case, #dd-pairs-case, #dd-rejects-case")?.classList.remove("dd-open"); // on a phone: what comes stands below
    } else if ((hit = at("[data-give]"))) {
      give(hit.dataset.give);
    } else if ((hit = at("#dd-case-toggle, #dd-log-case-toggle, #dd-pairs-case-toggle, #dd-rejects-case-toggle, #dd-train-case-toggle"))) {
      const open = hit.closest("#dd-case, #dd-log-case, #dd-pairs-case, #dd-rejects-case, #dd-train-case").classList.toggle("dd-open");
      hit.setAttribute("aria-expanded", String(open));
    } else if (at("#dd-theme")) {
      const dark = document.body.classList.toggle("dark");
      try { localStorage.setItem("dd-theme", dark ? "dark" : "light"); } catch {}
    } else if (summary?.parentElement.id) {
      keep(panelOf(summary), summary.parentElement.id, !summary.parentElement.open);
    }
  });

  function keepAddress() {
    const id = verdict()?.dataset.report;
    if (id === undefined || id === report) return;
    report = id;
    setAddress("report", id);
  }

  function setAddress(name, id) {
    const address = new URL(location.href);
    if (id) address.searchParams.set(name, id);
    else address.searchParams.delete(name);
    if (address.href !== location.href) history.replaceState(history.state, "", address);
    tell();
  }

  // Inside huggingface.co/spaces the address that people see is of the page around this one. It takes the query from
  // here, and on the way back it does not change by itself.
  const HUB = "https://huggingface.co";
  let told = query();

  function query() { // without what the page around this one adds: __theme, and __sign, which is a key to a private Space
    const found = new URLSearchParams(location.search);
    for (const name of [...found.keys()]) if (name.startsWith("__")) found.delete(name);
    return found.toString();
  }

  function tell() {
    const now = query();
    if (now === told || window.parent === window || !document.querySelector("#dd-space [data-space]")) return;
    told = now;
    window.parent.postMessage({ queryString: now, hash: "" }, HUB);
  }

  addEventListener("popstate", tell);

  window.ddAddress = setAddress;
  window.ddLink = shareLink;
  window.ddCopy = copyLink;

  function nameCase() { // on a phone the form folds to one line that says what it holds
    for (const [toggle, field] of [["#dd-case-toggle", "#dd-path"], ["#dd-log-case-toggle", "#dd-log-path"], ["#dd-pairs-case-toggle", "#dd-pairs-path"], ["#dd-rejects-case-toggle", "#dd-rejects-model"], ["#dd-train-case-toggle", "#dd-train-form"]]) {
      const line = document.querySelector(toggle + " span");
      const path = document.querySelector(`${field} textarea, ${field} input`)?.value ?? "";
      if (line && line.textContent !== path) line.textContent = path;
    }
  }
  document.addEventListener("input", nameCase);

  function redrawn() {
    nameCase();
    for (const [panel, kept] of wanted) {
      const now = panel.querySelector?.(".dd-verdict")?.dataset.report;
      if (kept.report !== null && now !== undefined && now !== kept.report) kept.open.clear();
      kept.report = now ?? kept.report;
      for (const [id, open] of kept.open) {
        const details = inPanel(panel, id);
        if (details && details.open !== open) details.open = open;
      }
    }
    keepAddress();
    for (const one of window.ddCurvesIn?.all ?? []) one.take();
  }

  let themed = false;
  function applyTheme() {
    if (themed || !verdict()) return;
    themed = true;
    document.querySelector("#dd-theme")?.setAttribute("aria-label", "light / dark");
    let kept = null;
    try { kept = localStorage.getItem("dd-theme"); } catch {}
    if (kept && !new URLSearchParams(location.search).has("__theme")) document.body.classList.toggle("dark", kept === "dark");
  }

  let waiting = false;
  new MutationObserver(() => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; applyTheme(); redrawn(); });
  }).observe(document.documentElement, { childList: true, subtree: true, attributes: true, attributeFilter: ["data-report", "data-chart", "open", "aria-selected"] });
})();
