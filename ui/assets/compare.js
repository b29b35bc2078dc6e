// Before and after: voting by keyboard, and a name for this browser's votes. What is drawn comes from
// ui/evaluate_votes.py and ui/evaluate_compare_view.py; the questions go by assets/evaluate.js.
(() => {
  const KEYS = { ArrowLeft: "left", ArrowRight: "right", ArrowDown: "tie", t: "tie", s: "skip", u: "undo", r: "reveal", Escape: "close" };
  const QUIET = 250; // ms: a key that is held down votes once
  let last = 0;

  function voter() { // several people vote on one comparison, each in an order of their own
    let name = null;
    try { name = localStorage.getItem("dd-voter"); } catch {}
    if (!name) {
      name = Array.from(crypto.getRandomValues(new Uint8Array(9)), (n) => n.toString(36).padStart(2, "0")).join("").slice(0, 18);
      try { localStorage.setItem("dd-voter", name); } catch {}
    }
    return name;
  }

  const arena = () => {
    const open = document.querySelector("#dd-evaluate-body .dd-votes-open");
    return open?.offsetParent ? open : null;
  };

  document.addEventListener("click", (event) => { // before evaluate.js reads the fields
    const hit = event.target.closest?.("[data-ask=vote], [data-ask=votes]");
    const field = hit?.closest("[data-fields]")?.querySelector("[name=voter]");
    if (field) field.value = voter();
    if (hit?.dataset.value === "open") whenOpen(hit);
    if (event.target.closest?.("[data-ask=outcome], [data-ask=category]")) {
      event.target.closest("[data-fields]")?.querySelector("[data-part=listed]")?.scrollIntoView({ block: "start", behavior: "smooth" });
    }
  }, { capture: true });

  function whenOpen(hit) { // the whole case in view, so that one votes without scrolling
    const place = hit.closest("[data-part=votes]");
    new MutationObserver((_, seen) => {
      if (!place.querySelector(".dd-votes-open")) return;
      seen.disconnect();
      place.scrollIntoView({ block: "start", behavior: "smooth" });
    }).observe(place, { childList: true });
  }

  document.addEventListener("keydown", (event) => {
    const open = arena();
    if (!open || event.ctrlKey || event.metaKey || event.altKey || event.shiftKey || event.isComposing) return;
    if (event.target.closest?.("input, textarea, select, [contenteditable=true], [role=tab], dd-figure")) return;
    const way = KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!way) return;
    event.preventDefault();
    event.stopPropagation(); // the case below isn't turned by the same key
    if (event.repeat || Date.now() - last < QUIET || document.querySelector("#dd-evaluate-body[data-busy]")) return;
    const button = open.querySelector(`[data-vote-key="${way}"]`);
    if (!button || button.disabled) return;
    last = Date.now();
    button.click();
  }, { capture: true });
})();
