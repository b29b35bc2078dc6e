// What the page does without asking the server: copy, jump to a finding, keep what was opened, the address, the theme.
(() => {
  let wanted = new Map(); // details a visitor opened or closed: kept when a new finding redraws the report
  let report = null;

  const verdict = () => document.querySelector(".dd-verdict");

  function shareLink() {
    const id = verdict()?.dataset.report;
    const query = id ? "?report=" + encodeURIComponent(id) : "";
    const space = document.querySelector("#dd-space [data-space]")?.dataset.space;
    return (space ? "https://huggingface.co/spaces/" + space : location.origin + location.pathname) + query;
  }

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

  function said(button, word) {
    const before = button.textContent;
    button.textContent = word;
    setTimeout(() => { if (button.textContent === word) button.textContent = before; }, 1200);
  }

  function jump(id) {
    const target = document.getElementById(id);
    if (!target) return;
    for (let at = target; at; at = at.parentElement) {
      if (at.tagName === "DETAILS") { at.open = true; wanted.set(at.id, true); }
    }
    target.scrollIntoView({ behavior: "smooth", block: "center" });
    target.querySelector("summary")?.focus({ preventScroll: true });
    target.classList.add("dd-flash");
    setTimeout(() => target.classList.remove("dd-flash"), 1600);
  }

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
      jump(hit.dataset.jump);
    } else if ((hit = at("[data-copy]"))) {
      event.preventDefault();
      copy(hit.dataset.copy).then(() => said(hit, hit.dataset.done));
    } else if ((hit = at("#dd-link"))) {
      copy(shareLink()).then(() => said(hit, "✓ " + hit.textContent.replace("✓ ", "")));
    } else if ((hit = at("[data-give]"))) {
      give(hit.dataset.give);
    } else if (at("#dd-case-toggle")) {
      const open = document.querySelector("#dd-case").classList.toggle("dd-open");
      document.querySelector("#dd-case-toggle").setAttribute("aria-expanded", String(open));
    } else if (at("#dd-theme")) {
      const dark = document.body.classList.toggle("dark");
      try { localStorage.setItem("dd-theme", dark ? "dark" : "light"); } catch {}
    } else if (summary?.parentElement.id) {
      wanted.set(summary.parentElement.id, !summary.parentElement.open);
    }
  });

  function keepAddress() {
    const id = verdict()?.dataset.report;
    if (id === undefined || id === report) return;
    if (report !== null) wanted = new Map();
    report = id;
    const address = new URL(location.href);
    if (id) address.searchParams.set("report", id);
    else address.searchParams.delete("report");
    if (address.href === location.href) return;
    history.replaceState(history.state, "", address);
    if (window.parent !== window && document.querySelector("#dd-space [data-space]")) {
      // inside huggingface.co/spaces this sets the address of the page around this one
      window.parent.postMessage({ queryString: address.search.slice(1), hash: "" }, "https://huggingface.co");
    }
  }

  function nameCase() { // on a phone the form folds to one line that says what it holds
    const line = document.querySelector("#dd-case-toggle span");
    const path = document.querySelector("#dd-path textarea, #dd-path input")?.value ?? "";
    if (line && line.textContent !== path) line.textContent = path;
  }
  document.addEventListener("input", nameCase);

  function redrawn() {
    nameCase();
    for (const [id, open] of wanted) {
      const details = document.getElementById(id);
      if (details && details.open !== open) details.open = open;
    }
    keepAddress();
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
  }).observe(document.documentElement, { childList: true, subtree: true, attributes: true, attributeFilter: ["data-report", "open"] });
})();
