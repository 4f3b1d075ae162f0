// Keyboard and pointer: search keys, rows that open, copying, the theme switch, filters that apply themselves.
import { read, write } from "./store.js";

const THEMES = ["system", "light", "dark"];

export function revealScripted(root = document) {
  for (const element of root.querySelectorAll("[data-copy][hidden], [data-close][hidden]")) element.hidden = false;
}

export function hasSelection() {
  const selection = getSelection();
  return selection !== null && !selection.isCollapsed && selection.toString() !== "";
}

function setTheme(theme) {
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  document.getElementById("theme").title = `Theme: ${theme}`;
  document.dispatchEvent(new CustomEvent("meadow:theme"));
}

async function copy(button) {
  try {
    await navigator.clipboard.writeText(button.dataset.copy);
  } catch {
    const area = document.createElement("textarea"); // without a secure context there is no clipboard object
    area.value = button.dataset.copy;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  button.classList.add("done");
  setTimeout(() => button.classList.remove("done"), 1000);
}

function onKey(event) {
  const typing = event.target.closest("input, select, textarea, dialog[open]");
  const palette = (event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k";
  if (palette || (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey)) {
    event.preventDefault();
    const search = document.getElementById("search");
    search.focus();
    search.select();
  } else if ((event.key === "j" || event.key === "k") && !typing && !event.ctrlKey && !event.metaKey) {
    const links = [...document.querySelectorAll("main tr[data-href] a:first-of-type")].filter((a) => a.closest("td"));
    const rows = [...new Set(links.map((a) => a.closest("tr")))];
    const now = rows.indexOf(document.activeElement.closest?.("tr"));
    const next = rows[Math.min(Math.max(now + (event.key === "j" ? 1 : -1), 0), rows.length - 1)];
    next?.querySelector("a").focus();
  }
}

function onClick(event) {
  const button = event.target.closest("[data-copy]");
  if (button) return void copy(button);
  const close = event.target.closest("[data-close]");
  if (close) return void close.closest("[data-toast]").remove();
  const row = event.target.closest("tr[data-href]");
  if (!row || event.target.closest("a, button, input, select, summary, label") || hasSelection()) return undefined;
  if (event.ctrlKey || event.metaKey) window.open(row.dataset.href);
  else location.href = row.dataset.href;
  return undefined;
}

// On narrow screens tabs and choices are strips to be pushed aside; the chosen one must be seen.
function showChosen() {
  for (const chosen of document.querySelectorAll(".tabs [aria-current], .head .choice [aria-current]")) {
    const strip = chosen.parentElement;
    const [outer, inner] = [strip.getBoundingClientRect(), chosen.getBoundingClientRect()];
    strip.scrollLeft += inner.left - outer.left - (outer.width - inner.width) / 2;
  }
}

export function startHands() {
  revealScripted();
  showChosen();
  document.addEventListener("keydown", onKey);
  document.addEventListener("click", onClick);
  document.addEventListener("change", (event) => {
    if (event.target.matches("[data-filters] select")) event.target.form.requestSubmit();
  });
  document.addEventListener("submit", (event) => {
    if (!event.target.matches("[data-filters], .search")) return;
    for (const field of event.target.elements) if (field.name && !field.value) field.disabled = true; // short addresses
    setTimeout(() => { for (const field of event.target.elements) field.disabled = false; });
  });
  const button = document.getElementById("theme");
  let theme = THEMES.includes(read("theme")) ? read("theme") : "system";
  button.hidden = false;
  setTheme(theme);
  button.addEventListener("click", () => {
    theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
    write("theme", theme);
    setTheme(theme);
  });
  const address = new URL(location.href);
  if (address.searchParams.has("flash") || address.searchParams.has("refresh")) {
    address.searchParams.delete("flash");
    address.searchParams.delete("refresh");
    history.replaceState(null, "", address);
  }
}
