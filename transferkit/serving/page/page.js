"use strict";
/* Sends images in groups, shows what the model says about each, and keeps marks.
   Files stay in the page only as long as their cards do. */
(() => {
  const byId = (id) => document.getElementById(id);
  const TOKEN = "transferkit-token";
  const IMAGES_PER_GROUP = 8; // small groups show progress; the server gathers them anyway
  const BYTES_PER_PART = 1000; // headers of a part, at most
  const RETRIES = 30;
  const percent = (share) => `${(100 * share).toFixed(1)} %`;
  const plural = (count, one, many) => `${count} ${count === 1 ? one : many}`;
  const wait = (seconds) => new Promise((done) => setTimeout(done, 1000 * seconds));

  let model = null;
  let token = sessionStorage.getItem(TOKEN);
  let waiting = []; // {file, card} in the order of their arrival
  let isSending = false;
  let round = { total: 0, answered: 0, failed: 0 }; // since nothing was waiting

  // Requests.

  class Refused extends Error {
    constructor(status, reason, retryAfter) {
      super(reason);
      Object.assign(this, { status, retryAfter });
    }
  }

  async function ask(path, options = {}) {
    const headers = token ? { Authorization: `Bearer ${token}` } : {};
    let response;
    try {
      response = await fetch(path, { ...options, headers });
    } catch {
      throw new Refused(0, "the server cannot be reached, or has dropped the connection");
    }
    if (response.ok) return response;
    let reason = response.statusText;
    try {
      reason = (await response.json()).error ?? reason;
    } catch {
      // The answer is not from transferkit, but from something before it.
    }
    if (response.status === 401) lock();
    throw new Refused(response.status, reason, Number(response.headers.get("Retry-After")) || 1);
  }

  async function askPatiently(path, options) {
    for (let attempt = 1; ; attempt++) {
      try {
        return await ask(path, options);
      } catch (error) {
        if (error.status !== 503 || attempt === RETRIES) throw error;
        await wait(error.retryAfter);
      }
    }
  }

  // The model.

  async function begin() {
    byId("about").textContent = "";
    try {
      model = await (await ask("/model")).json();
    } catch (error) {
      if (error.status !== 401) byId("about").textContent = error.message;
      return;
    }
    byId("unlock").hidden = true;
    byId("use").hidden = false;
    showModel();
    send();
  }

  function showModel() {
    document.title = `${model.name}: try the model`;
    byId("name").textContent = model.name;
    byId("about").textContent = `Tells ${plural(model.classes.length, "class", "classes")} apart, with ${model.backbone}.`;
    byId("version").textContent = `transferkit ${model.version}`;
    byId("kept-or-not").textContent = model.collects
      ? "It keeps those whose class you mark."
      : "It keeps none.";
    byId("classes").replaceChildren(...model.classes.map((name) => new Option("", name)));
    const secret = token ? " -H 'Authorization: Bearer TOKEN'" : "";
    byId("command").textContent = `curl${secret} -F images=@photo.jpg ${location.origin}/predict`;
    showFigures();
    byId("to-report").hidden = !model.report;
    if (model.report) byId("report").href = model.report;
  }

  function showFigures() {
    const part = model.metrics?.test ? "test" : "val";
    const figures = model.metrics?.[part];
    byId("figures").hidden = !figures;
    if (!figures) return;
    const { low, high } = figures.accuracy_interval ?? {};
    const interval = low === undefined ? "" : ` (${percent(low)} to ${percent(high)})`;
    const images = part === "test" ? "test images" : "validation images";
    const strong = document.createElement("strong");
    strong.textContent = `${percent(figures.accuracy)} accuracy`;
    byId("figures").replaceChildren(strong, `${interval} on ${figures.n} ${images}.`);
  }

  function lock() {
    byId("refused").textContent = token ? "This is not the token." : "";
    token = null;
    sessionStorage.removeItem(TOKEN);
    byId("use").hidden = true;
    byId("unlock").hidden = false;
    byId("token").focus();
  }

  function unlock(event) {
    event.preventDefault();
    token = byId("token").value.trim();
    sessionStorage.setItem(TOKEN, token);
    byId("token").value = "";
    begin();
  }

  // Images.

  function add(files) {
    const added = [...files].map((file) => ({ file, card: createCard(file) }));
    if (!added.length) return;
    if (!isSending) round = { total: 0, answered: 0, failed: 0 };
    round.total += added.length;
    byId("cards").prepend(...added.map((one) => one.card));
    byId("results").hidden = false;
    byId("clear").hidden = false;
    waiting.push(...added);
    send();
  }

  async function send() {
    if (isSending || !model) return;
    isSending = true;
    while (waiting.length && !byId("use").hidden) {
      tellStatus();
      const group = await nextGroup();
      if (group.length) await sendGroup(group);
    }
    isSending = false;
    tellStatus();
  }

  async function nextGroup() {
    const { images, bytes } = model.limits;
    const group = [];
    let size = BYTES_PER_PART;
    while (waiting.length && group.length < Math.min(images, IMAGES_PER_GROUP)) {
      const next = waiting[0];
      const more = next.file.size + BYTES_PER_PART;
      if (group.length && size + more > bytes) break;
      waiting.shift();
      const reason = await unsendable(next.file, more + BYTES_PER_PART > bytes);
      if (reason) {
        fail(next, reason);
      } else {
        group.push(next);
        size += more;
      }
    }
    return group;
  }

  async function unsendable(file, isLarge) {
    if (isLarge) return `it is larger than the ${model.limits.bytes / 1e6} MB of a request`;
    try {
      await file.slice(0, 1).arrayBuffer();
      return "";
    } catch {
      return "the browser cannot read it (is it a folder?)";
    }
  }

  async function sendGroup(group) {
    const body = new FormData();
    for (const { file } of group) body.append("images", file, file.name);
    try {
      const records = await (await askPatiently("/predict", { method: "POST", body })).json();
      group.forEach((one, i) => show(one, records[i]));
    } catch (error) {
      if (error.status === 401) waiting.unshift(...group);
      else for (const one of group) fail(one, error.message);
    }
  }

  function tellStatus() {
    const { total, answered, failed } = round;
    const done = answered + failed;
    byId("progress").hidden = done === total;
    byId("progress").max = total || 1;
    byId("progress").value = done;
    const unread = failed ? `, ${failed} without an answer` : "";
    if (!total) byId("status").textContent = "";
    else if (done < total) byId("status").textContent = `${done} of ${plural(total, "image", "images")}`;
    else byId("status").textContent = `${plural(answered, "image", "images")} answered${unread}`;
  }

  function clear() {
    waiting = [];
    round = { total: 0, answered: 0, failed: 0 };
    for (const image of byId("cards").querySelectorAll("img")) URL.revokeObjectURL(image.src);
    byId("cards").replaceChildren();
    byId("results").hidden = true;
    byId("clear").hidden = true;
    tellStatus();
    byId("files").focus();
  }

  // A card: an image, and what the model says about it.

  function createCard(file) {
    const card = byId("card").content.firstElementChild.cloneNode(true);
    card.setAttribute("aria-label", file.name);
    card.querySelector(".name").textContent = file.name;
    const image = card.querySelector("img");
    image.alt = file.name;
    image.addEventListener("load", () => URL.revokeObjectURL(image.src));
    image.addEventListener("error", () => {
      URL.revokeObjectURL(image.src);
      image.hidden = true;
      card.querySelector(".gone").hidden = false;
    });
    image.src = URL.createObjectURL(file);
    return card;
  }

  function fail({ card }, reason) {
    round.failed += 1;
    card.querySelector(".waiting").hidden = true;
    const problem = card.querySelector(".problem");
    problem.textContent = `No answer: ${reason}.`;
    problem.hidden = false;
    tellStatus();
  }

  function show(one, record) {
    if (record.status === "error") {
      fail(one, record.error);
      return;
    }
    round.answered += 1;
    const { card, file } = one;
    const find = (selector) => card.querySelector(selector);
    find(".waiting").hidden = true;
    find(".answer").hidden = false;
    const best = record.top[0].label;
    find(".label").textContent = record.abstained ? "Unsure" : record.label;
    find(".confidence").textContent = record.abstained ? "" : percent(record.confidence);
    if (record.abstained) {
      find(".unsure").textContent =
        `The best guess is ${best}, with a confidence of ${percent(record.confidence)}. ` +
        "That is too little for an answer.";
      find(".unsure").hidden = false;
    }
    find(".unusual").hidden = !record.unusual;
    find("tbody").replaceChildren(...record.top.map(createRow));
    if (record.set) {
      find(".set").textContent = `Set of labels: ${record.set.join(", ") || "none"}.`;
      find(".set").hidden = false;
    }
    offerEvidence(card, file, best);
    offerMark(card, file);
    tellStatus();
  }

  function createRow({ label, probability }) {
    const row = document.createElement("tr");
    const name = document.createElement("th");
    name.scope = "row";
    name.textContent = label;
    const bar = document.createElement("span");
    bar.className = "bar";
    const fill = document.createElement("i");
    fill.style.width = `${100 * probability}%`;
    bar.append(fill);
    const drawn = document.createElement("td");
    drawn.className = "wide-bar";
    drawn.setAttribute("aria-hidden", "true");
    drawn.append(bar);
    const number = document.createElement("td");
    number.className = "number";
    number.textContent = percent(probability);
    row.append(name, drawn, number);
    return row;
  }

  // Evidence, on request.

  function offerEvidence(card, file, label) {
    const button = card.querySelector(".evidence");
    button.hidden = !model.explains;
    button.textContent = "Show the evidence";
    button.setAttribute("aria-expanded", "false");
    button.addEventListener("click", () => toggleEvidence(card, file, label, button));
  }

  async function toggleEvidence(card, file, label, button) {
    const images = card.querySelector(".images");
    const note = card.querySelector(".evidence-note");
    if (images.classList.contains("both")) {
      images.lastElementChild.remove();
      showEvidence(images, button, false);
      note.textContent = "";
      return;
    }
    button.disabled = true;
    note.textContent = "Looking for the evidence";
    try {
      const path = `/explain?class=${encodeURIComponent(label)}`;
      const blob = await (await askPatiently(path, { method: "POST", body: file })).blob();
      images.append(await evidenceImage(blob, label));
      showEvidence(images, button, true);
      note.textContent = `The evidence for ${label} lies where it is yellow.`;
    } catch (error) {
      note.textContent = `No evidence: ${error.message}.`;
    }
    button.disabled = false;
    button.focus();
  }

  function showEvidence(images, button, isShown) {
    images.classList.toggle("both", isShown);
    button.setAttribute("aria-expanded", String(isShown));
    button.textContent = isShown ? "Hide the evidence" : "Show the evidence";
  }

  async function evidenceImage(blob, label) {
    const image = new Image();
    image.alt = `Evidence for ${label}`;
    image.src = URL.createObjectURL(blob);
    await image.decode();
    URL.revokeObjectURL(image.src);
    return image;
  }

  // Marks.

  function offerMark(card, file) {
    const mark = card.querySelector(".mark");
    mark.hidden = !model.collects;
    mark.querySelector("form").addEventListener("submit", (event) => {
      event.preventDefault();
      keepMark(card, file);
    });
  }

  async function keepMark(card, file) {
    const input = card.querySelector(".right");
    const told = card.querySelector(".marked");
    const label = input.value.trim();
    if (!model.classes.includes(label)) {
      input.setAttribute("aria-invalid", "true");
      told.textContent = label ? `No class is called ${label}.` : "Which class?";
      input.focus();
      return;
    }
    input.removeAttribute("aria-invalid");
    try {
      const path = `/marks?label=${encodeURIComponent(label)}`;
      await askPatiently(path, { method: "POST", body: file });
      told.textContent = `Kept as ${label}.`;
      card.classList.add("is-marked");
      card.querySelector(".mark").open = false;
    } catch (error) {
      told.textContent = `Not kept: ${error.message}.`;
    }
  }

  // What a user does.

  function listen() {
    for (const id of ["files", "camera"]) {
      byId(id).addEventListener("change", (event) => {
        add(event.target.files);
        event.target.value = ""; // so that the same file can be chosen again
      });
    }
    addEventListener("dragover", (event) => {
      event.preventDefault();
      byId("drop").classList.add("over");
    });
    addEventListener("dragleave", (event) => {
      if (!event.relatedTarget) byId("drop").classList.remove("over");
    });
    addEventListener("drop", (event) => {
      event.preventDefault();
      byId("drop").classList.remove("over");
      add(event.dataTransfer.files);
    });
    addEventListener("paste", (event) => add(event.clipboardData?.files ?? []));
    byId("clear").addEventListener("click", clear);
    byId("unlock").addEventListener("submit", unlock);
  }

  listen();
  begin();
})();
