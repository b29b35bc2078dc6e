// Work that takes longer than a click: its progress, its outcome, and the forms that begin it.
(() => {
  const P = window.ddPairs;
  const POLL = 500; // ms between two questions
  let polling = new Set();

  function poll(kind) {
    const set = P.state.id;
    if (polling.has(kind)) return;
    polling.add(kind);
    const place = document.createElement("div");
    place.dataset.kind = kind;
    P.root.querySelector(".dd-job").append(place);
    const next = async () => {
      if (set !== P.state.id) return place.remove();
      const answer = await P.server.pairs_job({ id: set, lang: P.state.lang, kind });
      if (set !== P.state.id) return place.remove();
      if (answer?.live) {
        if (place.innerHTML !== answer.progress) place.innerHTML = answer.progress;
        return setTimeout(next, POLL);
      }
      if (!answer) return setTimeout(next, 4 * POLL);
      polling.delete(kind);
      place.remove();
      if (answer.toast) P.toast(answer.toast, answer.bad);
      if (kind === "export") {
        P.part("export").querySelector(".dd-export-result").innerHTML = answer.outcome ?? "";
        if (answer.file) P.events.fetch();
      }
      if (kind === "bulk") closeBulk();
      if (kind !== "export" || !answer.file) P.open();
    };
    setTimeout(next, 150);
  }

  async function submit(form, from) {
    const given = {};
    for (const [name, value] of new FormData(form)) {
      const [first, second] = name.split(".");
      if (second) (given[first] ??= {})[second] = value;
      else given[first] = value;
    }
    for (const box of form.querySelectorAll("input[type=checkbox][name]")) given[box.name] = box.checked;
    const what = form.dataset.rpc;
    if (from?.name === "do") given.do = from.value;
    if (what === "export") given.push = from?.value === "1";
    const answer = await P.inTurn(() => P.ask(what, given));
    if (what === "export") for (const secret of form.querySelectorAll("[type=password]")) secret.value = "";
    if (!answer?.live) return;
    if (what === "answer") P.open();
    else poll(what);
  }

  function closeBulk() {
    P.part("bulk").innerHTML = "";
    P.root.querySelector("[data-toggle=bulk]")?.setAttribute("aria-expanded", "false");
  }

  async function toggleBulk() {
    if (P.part("bulk").innerHTML) return closeBulk();
    await P.inTurn(() => P.ask("bulk"));
    P.root.querySelector(".dd-bulk-open")?.setAttribute("aria-expanded", "true");
    P.part("bulk").querySelector("input")?.focus();
  }

  Object.assign(P, { poll, submit, closeBulk, toggleBulk, stopPolling: () => { polling = new Set(); } });
})();
