// Keeps the page live over one WebSocket. New renderings are morphed in: focus, what is typed, open details, the
// selection and the place on the page stay. While somebody reads a list, new rows wait behind a button.
import { redraw } from "./charts.js";
import { hasSelection, revealScripted } from "./hands.js";
import { clock, span, tick } from "./times.js";

const FIRST_RETRY = 500;
const LONGEST_RETRY = 15000;
const MOST_GLOWING = 24;

const page = document.getElementById("page");
const button = document.getElementById("live");
const news = document.getElementById("news");
const stale = document.getElementById("stale");
let socket = null;
let paused = false;
let retry = FIRST_RETRY;
let timer = 0;
let staleSince = 0;
let reason = "";
let held = null;
let pointed = null;

function show(state, label) {
  button.dataset.state = state;
  button.lastElementChild.textContent = label;
  button.title = state === "paused" ? "Paused. Click to go on" : `${label}. ${reason} Click to pause`;
  button.setAttribute("aria-label", button.title);
  const old = state === "stale" && page.dataset.digest !== "";
  page.classList.toggle("fading", old);
  const words = old ? `✕ ${reason || "Meadow cannot be reached."} What is shown is from ${clock(staleSince / 1000)}.` : "";
  if (stale.textContent !== words) stale.textContent = words; // a change is read aloud
  stale.hidden = !old;
}

function connect() {
  clearTimeout(timer);
  if (socket || paused || document.hidden) return;
  const address = new URL(document.body.dataset.live, location.href);
  address.protocol = location.protocol === "https:" ? "wss:" : "ws:";
  address.searchParams.set("view", document.body.dataset.view);
  address.searchParams.set("have", page.dataset.digest);
  const mine = new WebSocket(address);
  socket = mine;
  mine.onmessage = (event) => hear(JSON.parse(event.data));
  mine.onclose = () => {
    if (socket !== mine) return;
    socket = null;
    if (paused || document.hidden) return;
    staleSince ||= Date.now();
    lost();
    timer = setTimeout(connect, retry * (0.7 + Math.random() * 0.6));
    retry = Math.min(retry * 1.7, LONGEST_RETRY);
  };
}

function lost() {
  const seconds = (Date.now() - staleSince) / 1000;
  if (seconds < 5 && !reason) show("reconnecting", "Reconnecting");
  else show("stale", `Stale for ${span(seconds)}`);
}

function disconnect() {
  clearTimeout(timer);
  const old = socket;
  socket = null;
  old?.close();
}

function hear(message) {
  retry = FIRST_RETRY;
  if (message.type === "broken") {
    staleSince ||= Date.now();
    reason = message.message;
    lost();
  } else if (message.type !== "hello") {
    staleSince = 0;
    reason = "";
    show("live", "Live");
    if (message.type === "page") receive(message);
  }
}

// The reader is busy with a list that has scrolled under them, is under the pointer, or has text selected.
function busy(list) {
  return scrollY > 60 || hasSelection() || (pointed !== null && list.contains(pointed));
}

function receive(message) {
  const next = document.createElement("main");
  next.innerHTML = message.html;
  const list = page.querySelector("tbody[data-list]");
  const coming = next.querySelector("tbody[data-list]");
  if (list && coming && busy(list)) {
    const added = hold(list, coming);
    held = added ? message : null;
    news.textContent = `${added} new`;
    news.hidden = !added;
  } else {
    release();
  }
  apply(next, message);
}

// Keeps the rows that are on the page, in their order, with their newest content; says how many are new.
function hold(list, coming) {
  const fresh = new Map([...coming.rows].map((row) => [row.id, row]));
  const kept = [...list.rows].map((row) => fresh.get(row.id) ?? row.cloneNode(true));
  const shown = new Set(kept.map((row) => row.id));
  const added = [...fresh.keys()].filter((id) => !shown.has(id)).length;
  coming.replaceChildren(...kept);
  return added;
}

function release() {
  held = null;
  news.hidden = true;
}

function apply(next, message) {
  const changed = [];
  window.Idiomorph.morph(page, next.childNodes, {
    morphStyle: "innerHTML",
    callbacks: {
      beforeNodeMorphed(before, after) {
        if (before.nodeType !== Node.ELEMENT_NODE) return true;
        if (before.matches("time") && before.dateTime === after.dateTime) return false;
        if (before.matches(".plot.drawn")) {
          before.dataset.chart = after.dataset.chart;
          return false;
        }
        if (before.matches("input, select, textarea") && (before === document.activeElement || touched(before))) {
          return false;
        }
        if (before.matches("td, dd, .state b") && !before.querySelector("time") && text(before) !== text(after)) {
          changed.push(before);
        }
        return true;
      },
      beforeAttributeUpdated(name, node) {
        return !((name === "open" && node.matches("details, dialog")) || (name === "hidden" && node.matches(".copy")) ||
          (name === "title" && node.matches("time")) || (name === "class" && node.matches(".glow")));
      },
    },
  });
  page.dataset.digest = message.digest;
  page.dataset.mood = message.mood;
  document.title = (message.mood === "bad" ? "✕ " : "") + message.title;
  const icon = document.getElementById("favicon");
  const address = icon.dataset.base + (message.mood === "bad" || message.mood === "warn" ? `-${message.mood}` : "") + ".svg";
  if (icon.getAttribute("href") !== address) icon.setAttribute("href", address);
  tick(page);
  revealScripted(page);
  redraw();
  glow(changed);
}

const text = (element) => element.textContent.replace(/\s+/g, " ").trim();

function touched(field) {
  if (field.matches("select")) return [...field.options].some((option) => option.selected !== option.defaultSelected);
  return field.value !== field.defaultValue || field.checked !== field.defaultChecked;
}

function glow(cells) {
  if (cells.length > MOST_GLOWING) return; // where everything moves, a glow says nothing
  for (const cell of cells) {
    cell.classList.add("glow");
    setTimeout(() => cell.classList.remove("glow"), 1000);
  }
}

function catchUp() {
  if (!held) return;
  const message = held;
  release();
  const next = document.createElement("main");
  next.innerHTML = message.html;
  apply(next, message);
}

export function startLive() {
  if (!document.body.dataset.live) return;
  button.hidden = false;
  show("reconnecting", "Connecting");
  button.addEventListener("click", () => {
    paused = !paused;
    if (paused) {
      disconnect();
      show("paused", "Paused");
    } else {
      show("reconnecting", "Connecting");
      connect();
    }
  });
  news.addEventListener("click", () => {
    scrollTo({ top: 0 });
    pointed = null;
    catchUp();
  });
  document.addEventListener("pointerover", (event) => { pointed = event.target; });
  document.documentElement.addEventListener("pointerleave", () => { pointed = null; });
  document.addEventListener("visibilitychange", () => (document.hidden ? disconnect() : connect()));
  addEventListener("pagehide", disconnect);
  addEventListener("pageshow", connect);
  addEventListener("online", () => { retry = FIRST_RETRY; connect(); });
  setInterval(() => {
    if (staleSince && !paused) lost();
    const list = page.querySelector("tbody[data-list]");
    if (held && list && !busy(list)) catchUp();
  }, 1000);
  connect();
}
