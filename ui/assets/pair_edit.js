// Editing a pair, solving a conflict, and the keys.
(() => {
  const P = window.ddPairs;
  let base = null; // what the texts in the editor are an edit of

  const edit = (side) => P.inTurn(async () => {
    await P.shown();
    openEditor(side);
  });

  function openEditor(side, texts = null) {
    const box = P.part("pair").querySelector(`.dd-part[data-side="${side}"]`), place = box?.querySelector(".dd-editor");
    if (!place) return;
    if (place.hidden || texts) {
      const held = JSON.parse(place.dataset.texts), roles = JSON.parse(place.dataset.roles);
      place.replaceChildren();
      (texts ?? held).forEach((text, n) => {
        const area = document.createElement("textarea");
        area.value = text;
        area.setAttribute("aria-label", `${place.dataset.label}${roles.length > 1 ? " · " + (roles[n] ?? "") : ""}`);
        area.spellcheck = false;
        if (roles.length > 1) {
          const role = document.createElement("span");
          role.className = "dd-role";
          role.textContent = roles[n] ?? "";
          place.append(role);
        }
        area.dataset.before = texts ? "\u0000" : area.value;
        area.addEventListener("input", () => fit(area));
        place.append(area);
      });
      const foot = document.createElement("div");
      foot.className = "dd-form-end";
      foot.append(button(P.words.pairs_do_save, "Ctrl ⏎", "dd-primary", () => save(side)), button(P.words.pairs_do_cancel, "Esc", "", () => closeEditor(box)), count());
      place.append(foot);
      base = { position: P.state.position, revision: P.state.revision };
      place.hidden = false;
      box.classList.add("dd-editing");
      for (const area of place.querySelectorAll("textarea")) fit(area);
      counted(place);
    }
    const areas = place.querySelectorAll("textarea");
    areas[areas.length - 1]?.focus();
  }

  function button(text, key, css, run) {
    const made = document.createElement("button"), sign = document.createElement("kbd");
    made.type = "button";
    made.className = "dd-do " + css;
    sign.textContent = key;
    made.append(text, sign);
    made.addEventListener("click", run);
    return made;
  }

  function count() {
    const place = document.createElement("span");
    place.className = "dd-dim dd-count-now";
    return place;
  }

  function counted(place) {
    const n = [...place.querySelectorAll("textarea")].reduce((sum, area) => sum + [...area.value].length, 0);
    const shown = place.querySelector(".dd-count-now");
    if (shown) shown.textContent = P.words.pairs_chars.replace("{n}", n.toLocaleString("en"));
  }

  function fit(area) {
    area.style.height = "auto";
    area.style.height = Math.min(area.scrollHeight + 2, innerHeight * 0.6) + "px";
    counted(area.closest(".dd-editor"));
  }

  function closeEditor(box) {
    box.classList.remove("dd-editing");
    const place = box.querySelector(".dd-editor");
    place.hidden = true;
    place.replaceChildren();
    box.querySelector("[data-edit]")?.focus({ preventScroll: true });
  }

  const editors = () => [...(P.root?.querySelectorAll(".dd-editor:not([hidden])") ?? [])];
  const dirty = () => editors().some((place) => [...place.querySelectorAll("textarea")].some((area) => area.value !== area.dataset.before));

  function mayLeave() {
    return !dirty() || confirm(P.words.pairs_unsaved_edit);
  }

  function save(side) {
    const box = P.part("pair").querySelector(`.dd-part[data-side="${side}"]`), place = box.querySelector(".dd-editor");
    const areas = [...place.querySelectorAll("textarea")];
    if (areas.every((area) => area.value === area.dataset.before)) return closeEditor(box);
    return send(side, areas.map((area) => area.value), base);
  }

  function send(side, texts, at) {
    return P.inTurn(async () => {
      const answer = await P.ask("save", { side, texts, position: at.position, revision: at.revision });
      if (answer?.conflict) P.part("pair").querySelector(".dd-conflict")?.scrollIntoView({ block: "nearest" });
      else if (answer && !answer.bad) P.part("pair").querySelector(`[data-edit="${side}"]`)?.focus({ preventScroll: true });
    });
  }

  function solve(how) {
    const block = P.part("pair").querySelector(".dd-conflict");
    const side = block.dataset.side, revision = Number(block.dataset.conflict);
    if (how === "theirs") return P.inTurn(() => P.ask("show"));
    if (how === "again") return P.act(block.dataset.do, { revision });
    const mine = JSON.parse(block.dataset.mine);
    if (how === "mine") return send(side, mine, { position: P.state.position, revision });
    P.state.revision = revision;
    return openEditor(side, mine);
  }

  const KEYS = {
    j: () => P.go("next"), k: () => P.go("previous"), a: () => P.act("accept"), d: () => P.act("discard"), s: () => P.act("swap"),
    e: () => edit("chosen"), r: () => edit("rejected"), p: () => edit("prompt"), u: () => P.act("undo"), U: () => P.act("redo"),
    "/": () => P.root.querySelector("[data-view=search]")?.focus(), "?": () => P.part("help").showModal(),
    t: () => P.widen(!P.root.classList.contains("dd-wide-on")),
  };

  document.addEventListener("keydown", (event) => {
    if (!P.root?.isConnected || !P.root.offsetParent || P.state.state !== "open" || P.part("help").open) return;
    const typing = event.target.closest?.("input, textarea, select, [contenteditable=true]");
    const place = event.target.closest?.(".dd-editor");
    if (place && event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      save(place.closest("[data-side]").dataset.side);
    } else if (place && event.key === "Escape" && !event.isComposing) {
      if (!dirty() || confirm(P.words.pairs_unsaved_edit)) closeEditor(place.closest("[data-side]"));
    } else if (event.key === "Escape" && event.target.matches?.("[data-view=search]")) {
      event.target.blur();
    } else if (!typing && !event.ctrlKey && !event.metaKey && !event.altKey && !event.isComposing) {
      const row = event.target.closest?.("tr[data-row]");
      const key = row && event.key === "ArrowDown" ? "j" : row && event.key === "ArrowUp" ? "k" : event.key;
      if (row && event.key === "Enter") return P.large(Number(row.dataset.row));
      const run = KEYS[key] ?? KEYS[key.length === 1 && !event.shiftKey ? key.toLowerCase() : key];
      if (!run || (P.state.pane !== "review" && !"?uU".includes(key))) return;
      event.preventDefault();
      run();
    }
  });

  Object.assign(P, { edit, solve, dirty, mayLeave, editing: () => editors().length > 0 });
})();
