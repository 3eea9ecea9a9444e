"use strict";
/* Fills in images as they come near, takes decisions, and saves them as decisions.csv.
   A decision is {path, action, label, sha256}, as a row of the file. */
(() => {
  const byId = (id) => document.getElementById(id);
  const contents = JSON.parse(byId("contents").textContent);
  const { images } = contents;
  const classes = new Set(contents.classes);
  const given = new Map(contents.decisions.map((decision) => [decision.path, decision]));
  const cards = [...document.querySelectorAll(".card")];
  const cardsOf = new Map();
  for (const card of cards.filter((each) => each.dataset.image)) {
    const number = Number(card.dataset.image);
    cardsOf.set(number, [...(cardsOf.get(number) ?? []), card]);
  }
  const numberOf = new Map(images.map((image, number) => [image.path, number]));
  const prepared = new Set();

  // What the browser keeps, in case the page is closed before the file is saved.

  let isKept = true;

  function kept() {
    try {
      return JSON.parse(localStorage.getItem(contents.key) ?? "null");
    } catch {
      isKept = false; // said in the status line
      return null;
    }
  }

  function keep() {
    try {
      localStorage.setItem(contents.key, JSON.stringify([...decisions.values()]));
    } catch {
      isKept = false;
    }
  }

  const unsaved = kept();
  const decisions = new Map(
    (unsaved ?? contents.decisions).map((decision) => [decision.path, decision]),
  );
  let isSaved = unsaved === null;

  // Decisions.

  function decide(number, action, label = "") {
    const { path, sha256, label: own } = images[number];
    const before = given.get(path);
    if (action === "keep" && before?.action === "relabel") {
      // What is kept is the label on this page, which an earlier decision gave the image.
      decisions.set(path, { path, action: "relabel", label: own, sha256 });
    } else {
      decisions.set(path, { path, action, label, sha256 });
    }
    changed([number]);
  }

  function undo(number) {
    const { path } = images[number];
    if (given.has(path)) decisions.set(path, given.get(path));
    else decisions.delete(path);
    changed([number]);
  }

  function isDecided(number) {
    const decision = decisions.get(images[number].path);
    return decision !== undefined && decision !== given.get(images[number].path);
  }

  /* Why an image cannot be given a label; empty if it can. */
  function problemWith(number, label) {
    if (!label) return "Which class? Type its name.";
    if (!classes.has(label)) return `No class is called ${label}.`;
    return label === images[number].label ? "It has this label already; keep it." : "";
  }

  function relabel(card, number) {
    const input = card.querySelector(".label");
    const label = input.value.trim().normalize("NFC");
    const problem = problemWith(number, label);
    if (!problem) return decide(number, "relabel", label);
    show(card, number);
    tell(card, problem);
  }

  function askForLabel(card, number) {
    relabel(card, number);
    if (!card.querySelector(".problem").hidden) card.querySelector(".label").focus();
  }

  function keepOnly(card, number) {
    const group = [...card.closest(".group").querySelectorAll(".card")];
    for (const other of group.map((each) => Number(each.dataset.image))) {
      decide(other, other === number ? "keep" : "exclude");
    }
  }

  function changed(numbers) {
    isSaved = false;
    keep();
    for (const number of numbers) {
      for (const card of cardsOf.get(number) ?? []) show(card, number);
    }
    tellStatus();
  }

  // What a card shows.

  function tell(card, problem) {
    const line = card.querySelector(".problem");
    line.textContent = problem;
    line.hidden = !problem;
    card.querySelector(".label").setAttribute("aria-invalid", String(Boolean(problem)));
  }

  function show(card, number) {
    const decided = isDecided(number);
    card.classList.toggle("decided", decided);
    if (!card.querySelector(".decide")) return;
    const decision = decided ? decisions.get(images[number].path) : null;
    const isKeeping = decision?.action === "relabel" && decision.label === images[number].label;
    const action = isKeeping ? "keep" : decision?.action;
    for (const radio of card.querySelectorAll("input[type=radio]")) {
      radio.checked = radio.value === action;
    }
    if (action === "relabel") card.querySelector(".label").value = decision.label;
    card.querySelector(".undo").hidden = !decided;
    tell(card, "");
  }

  function addControls(card, number) {
    const { path, label } = images[number];
    if (/\p{Surrogate}/u.test(path)) return addNote(card);
    const controls = byId("controls").content.cloneNode(true);
    controls.querySelector("legend").textContent = `Decision about ${path}`;
    for (const radio of controls.querySelectorAll("input[type=radio]")) {
      radio.name = `decision-${cards.indexOf(card)}`;
    }
    controls.querySelector(".label").value = card.dataset.suggested ?? "";
    controls.querySelector(".only").hidden = !card.closest(".group");
    if (!label) {
      // A file that cannot be read has no label to be changed.
      controls.querySelector("[value=relabel]").closest("label").remove();
      controls.querySelector(".label").hidden = true;
    }
    card.append(controls);
  }

  function addNote(card) {
    const note = document.createElement("p");
    note.className = "note";
    note.textContent = "Its name is not UTF-8: rename the file to decide about it.";
    card.append(note);
  }

  function addImages(card) {
    for (const image of card.querySelectorAll("img")) {
      const { thumbnail } = images[Number(image.dataset.thumbnail)];
      if (thumbnail) {
        image.src = thumbnail;
      } else {
        const gone = document.createElement("div");
        gone.className = "gone";
        gone.textContent = "not shown";
        image.replaceWith(gone);
      }
    }
  }

  function prepare(card) {
    if (prepared.has(card)) return;
    prepared.add(card);
    near.unobserve(card);
    addImages(card);
    if (!card.dataset.image) return;
    const number = Number(card.dataset.image);
    addControls(card, number);
    show(card, number);
  }

  const near = new IntersectionObserver(
    (seen) => seen.filter((one) => one.isIntersecting).forEach((one) => prepare(one.target)),
    { rootMargin: "800px" },
  );

  // The line at the bottom, and the file.

  function tellStatus() {
    const counts = { keep: 0, relabel: 0, exclude: 0 };
    for (const { action } of decisions.values()) counts[action] += 1;
    const parts = Object.entries(counts).filter(([, count]) => count);
    const told = parts.map(([action, count]) => `${count} ${action}`).join(", ");
    const waiting = decisions.size && !isSaved;
    const where = isKept ? "not saved yet" : "not saved yet, and lost if you close the page";
    byId("status").textContent =
      `${decisions.size} ${decisions.size === 1 ? "decision" : "decisions"}` +
      (told ? `: ${told}` : "") + (waiting ? ` (${where})` : "");
    byId("save").disabled = !decisions.size;
  }

  function csvCell(text) {
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  }

  function csv() {
    const rows = [...decisions.values()].map((d) => [d.path, d.action, d.label, d.sha256]);
    const lines = [["path", "action", "label", "sha256"], ...rows].map((row) => row.map(csvCell));
    return lines.map((line) => `${line.join(",")}\n`).join("");
  }

  function save() {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([csv()], { type: "text/csv" }));
    link.download = "decisions.csv";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
    isSaved = true;
    tellStatus();
    byId("status").textContent += " (saved as decisions.csv)";
  }

  // The filter.

  function isWanted(card, text, isUndecidedOnly) {
    if (isUndecidedOnly && card.dataset.image && isDecided(Number(card.dataset.image))) return false;
    if (!text) return true;
    const image = images[Number(card.dataset.image ?? -1)];
    const words = [image?.path, image?.label, card.dataset.suggested, card.textContent];
    return words.some((each) => each?.toLowerCase().includes(text));
  }

  function filter() {
    const text = byId("text").value.trim().toLowerCase();
    const isUndecidedOnly = byId("undecided").checked;
    for (const card of cards) card.hidden = !isWanted(card, text, isUndecidedOnly);
    for (const box of document.querySelectorAll(".group, .more, .kind")) {
      box.hidden = !box.querySelector(".card:not([hidden])");
      if (box.matches(".more")) box.open = Boolean(text);
    }
    const count = cards.filter((card) => !card.hidden).length;
    byId("shown").textContent =
      count === cards.length ? `${count} findings` : `${count} of ${cards.length} findings`;
  }

  // The keyboard.

  function move(card, step) {
    const shown = cards.filter((each) => each.dataset.image && each.checkVisibility());
    shown[shown.indexOf(card) + step]?.focus();
  }

  function press(event) {
    const card = event.target.closest(".card");
    const isTyping = event.target.matches(".label");
    if (!card?.dataset.image || isTyping || event.ctrlKey || event.metaKey || event.altKey) return;
    const number = Number(card.dataset.image);
    if (event.key === "n" || event.key === "p") {
      event.preventDefault();
      move(card, event.key === "n" ? 1 : -1);
      return;
    }
    prepare(card);
    if (!card.querySelector(".decide")) return;
    const does = {
      k: () => decide(number, "keep"),
      x: () => decide(number, "exclude"),
      r: () => images[number].label && askForLabel(card, number),
      u: () => undo(number),
    }[event.key];
    if (does) {
      event.preventDefault();
      does();
    }
  }

  function choose(event) {
    const card = event.target.closest(".card");
    if (!card) return;
    const number = Number(card.dataset.image);
    if (event.target.matches(".label")) relabel(card, number);
    else if (event.target.value === "relabel") askForLabel(card, number);
    else if (event.target.matches("input[type=radio]")) decide(number, event.target.value);
  }

  function click(event) {
    const card = event.target.closest(".card");
    if (event.target.matches(".undo")) undo(Number(card.dataset.image));
    if (event.target.matches(".only")) keepOnly(card, Number(card.dataset.image));
  }

  function begin() {
    for (const name of contents.classes) byId("classes").append(new Option("", name));
    for (const each of document.querySelectorAll(".scripted")) each.hidden = false;
    for (const card of cards) near.observe(card);
    for (const path of decisions.keys()) {
      const number = numberOf.get(path);
      for (const card of cardsOf.get(number) ?? []) show(card, number);
    }
    const main = document.querySelector("main");
    main.addEventListener("keydown", press);
    main.addEventListener("change", choose);
    main.addEventListener("click", click);
    main.addEventListener("focusin", (event) => {
      const card = event.target.closest(".card");
      if (card) prepare(card);
    });
    byId("filter").addEventListener("submit", (event) => event.preventDefault());
    byId("text").addEventListener("input", filter);
    byId("undecided").addEventListener("change", filter);
    byId("save").addEventListener("click", save);
    addEventListener("beforeunload", (event) => {
      if (!isSaved && !isKept) event.preventDefault();
    });
    filter();
    tellStatus();
  }

  begin();
})();
