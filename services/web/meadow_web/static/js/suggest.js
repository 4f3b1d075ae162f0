// Offers what may come next in a search field: a combobox in the words of WAI-ARIA. Without it the field works as it is.
// What is offered comes from tasks, so it is put on the page as text only.
const PAUSE = 120;
const LONGEST = 2048;

const list = document.createElement("ul");
let field = null; // the field that has the focus
let offered = { written: "", start: 0, end: 0, suggestions: [] };
let active = -1;
let timer = 0;
let asking = null;

const isOpen = () => !list.hidden;
const fits = () => isOpen() && field.value === offered.written; // else more was typed since, and a new list is on its way
const characters = (text) => [...text]; // the server counts characters, a field counts UTF-16 units

function enter(input) {
  field = input;
  const attributes = { role: "combobox", "aria-autocomplete": "list", "aria-expanded": "false", "aria-controls": list.id };
  for (const [name, value] of Object.entries(attributes)) field.setAttribute(name, value);
}

function leave() {
  close();
  for (const name of ["role", "aria-autocomplete", "aria-expanded", "aria-controls"]) field?.removeAttribute(name);
  field = null;
}

function close() {
  clearTimeout(timer);
  asking?.abort();
  asking = null;
  forget();
  list.hidden = true;
  list.replaceChildren();
  field?.setAttribute("aria-expanded", "false");
}

function forget() {
  list.children[active]?.setAttribute("aria-selected", "false");
  active = -1;
  field?.removeAttribute("aria-activedescendant");
}

async function ask(step = 0) {
  clearTimeout(timer);
  asking?.abort();
  const mine = new AbortController();
  const asked = field;
  const { value } = asked;
  asking = mine;
  if (value.length > LONGEST) return close();
  const address = new URL(asked.dataset.suggest, location.href);
  address.searchParams.set("q", value);
  address.searchParams.set("position", characters(value.slice(0, asked.selectionStart)).length);
  try {
    const response = await fetch(address, { signal: mine.signal });
    const answer = response.ok ? await response.json() : { suggestions: [] };
    if (asking === mine && field === asked && asked.value === value) show({ written: value, ...answer }, step);
  } catch {
    if (asking === mine) close(); // nobody answers: the live state of the page says so, and the field still searches
  }
  return undefined;
}

function show(answer, step) {
  if (!answer.suggestions.length) return close();
  forget();
  offered = answer;
  list.replaceChildren(...answer.suggestions.map(option));
  list.hidden = false;
  list.scrollTop = 0;
  field.setAttribute("aria-expanded", "true");
  place();
  if (step) move(step);
  return undefined;
}

function option(suggestion, index) {
  const item = document.createElement("li");
  item.id = `suggestion-${index}`;
  item.setAttribute("role", "option");
  item.setAttribute("aria-selected", "false");
  for (const [name, text] of [["mono", suggestion.text], ["small", suggestion.help]]) {
    const part = document.createElement("span");
    part.className = name;
    part.textContent = text;
    if (text) item.append(part);
  }
  return item;
}

function place() {
  if (!isOpen()) return;
  const box = (field.closest(".search") ?? field).getBoundingClientRect();
  list.style.left = `${box.left}px`;
  list.style.top = `${box.bottom + 4}px`;
  list.style.width = `${Math.max(box.width, Math.min(420, innerWidth - 2 * box.left))}px`;
}

function move(step) {
  const count = list.children.length;
  const from = active;
  forget();
  active = from < 0 && step < 0 ? count - 1 : (from + step + count) % count;
  const chosen = list.children[active];
  chosen.setAttribute("aria-selected", "true");
  chosen.scrollIntoView({ block: "nearest" });
  field.setAttribute("aria-activedescendant", chosen.id);
}

function take(index) {
  const { text, kind } = offered.suggestions[index];
  const written = characters(field.value);
  const before = written.slice(0, offered.start).join("");
  const after = written.slice(offered.end).join("");
  const unfinished = kind === "field" || kind === "key"; // its value comes next
  const put = unfinished || after.startsWith(" ") ? text : `${text} `;
  field.value = before + put + after;
  field.setSelectionRange(before.length + put.length, before.length + put.length);
  close();
  if (unfinished) ask();
}

function onKey(event) {
  if (!field || event.target !== field || event.isComposing || event.ctrlKey || event.metaKey || event.altKey) return;
  const { key } = event;
  if (key === "ArrowDown" && !fits()) ask(1);
  else if (key === "Escape" && isOpen()) close();
  else if (!fits()) return;
  else if (key === "ArrowDown") move(1);
  else if (key === "ArrowUp") move(-1);
  else if ((key === "Enter" || (key === "Tab" && !event.shiftKey)) && active >= 0) take(active);
  else return;
  event.preventDefault();
}

export function startSuggestions() {
  list.id = "suggestions";
  list.className = "suggestions";
  list.setAttribute("role", "listbox");
  list.setAttribute("aria-label", "Suggestions");
  list.hidden = true;
  document.body.append(list);
  document.addEventListener("focusin", (event) => event.target.matches("[data-suggest]") && enter(event.target));
  document.addEventListener("focusout", (event) => event.target === field && leave());
  document.addEventListener("input", (event) => {
    if (event.target !== field) return;
    clearTimeout(timer);
    forget();
    if (field.value) timer = setTimeout(() => ask(), PAUSE);
    else close();
  });
  document.addEventListener("keydown", onKey);
  document.addEventListener("submit", close);
  list.addEventListener("pointerdown", (event) => event.preventDefault()); // the focus stays in the field
  list.addEventListener("click", (event) => {
    const item = event.target.closest("[role=option]");
    if (item && fits()) take([...list.children].indexOf(item));
  });
  addEventListener("resize", place);
  addEventListener("scroll", place, { passive: true });
  if (document.activeElement?.matches("[data-suggest]")) enter(document.activeElement);
}
