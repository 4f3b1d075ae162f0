// Times tick here: relative ("4 min ago"), or exact in the reader's zone or in UTC. The exact one is always on hover.
import { read, write } from "./store.js";

const MODES = ["relative", "local", "utc"];
const LABELS = { relative: "Relative", local: "Local time", utc: "UTC" };
let mode = MODES.includes(read("times")) ? read("times") : "relative";

const pad = (value, size = 2) => String(value).padStart(size, "0");

export function span(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min`;
  if (whole < 86400) return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
  return `${Math.floor(whole / 86400)} d ${Math.floor((whole % 86400) / 3600)} h`;
}

function exact(date, utc) {
  const get = (part) => date[`get${utc ? "UTC" : ""}${part}`]();
  const day = `${get("FullYear")}-${pad(get("Month") + 1)}-${pad(get("Date"))}`;
  return [day, `${pad(get("Hours"))}:${pad(get("Minutes"))}:${pad(get("Seconds"))}.${pad(get("Milliseconds"), 3)}`];
}

// Epoch seconds as hours, minutes and seconds.
export function clock(seconds) {
  return exact(new Date(seconds * 1000), mode === "utc")[1].slice(0, 8);
}

function zone(date) {
  const minutes = -date.getTimezoneOffset();
  return `UTC${minutes < 0 ? "−" : "+"}${pad(Math.floor(Math.abs(minutes) / 60))}:${pad(Math.abs(minutes) % 60)}`;
}

function words(date, lasts, now) {
  const seconds = (now - date) / 1000;
  if (lasts) return `for ${span(seconds)}`;
  if (mode === "relative") {
    if (seconds < -1.5) return `in ${span(-seconds)}`;
    return seconds < 1.5 ? "now" : `${span(seconds)} ago`;
  }
  const [day, clock] = exact(date, mode === "utc");
  const [today] = exact(new Date(now), mode === "utc");
  return day === today ? clock : `${day.slice(5)} ${clock.slice(0, 8)}`;
}

export function tick(root = document) {
  const now = Date.now();
  for (const element of root.querySelectorAll("time[datetime]")) {
    const date = new Date(element.dateTime);
    if (Number.isNaN(date.getTime())) continue;
    const text = words(date, "lasts" in element.dataset, now);
    if (element.textContent !== text) element.textContent = text;
    const utc = mode === "utc";
    const title = `${exact(date, utc).join(" ")} ${utc ? "UTC" : zone(date)}`;
    if (element.title !== title) element.title = title;
  }
}

export function startTimes() {
  const button = document.getElementById("zone");
  const show = () => {
    button.lastElementChild.textContent = LABELS[mode];
    button.title = `Times: ${LABELS[mode].toLowerCase()}`;
    tick();
  };
  button.hidden = false;
  button.addEventListener("click", () => {
    mode = MODES[(MODES.indexOf(mode) + 1) % MODES.length];
    write("times", mode);
    show();
    document.dispatchEvent(new CustomEvent("meadow:times"));
  });
  show();
  setInterval(() => document.hidden || tick(), 1000);
}
