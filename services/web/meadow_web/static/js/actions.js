// Actions without leaving the page: the confirmation comes into a dialog, the outcome into a toast.
import { revealScripted } from "./hands.js";
import { tick } from "./times.js";

const HEADERS = { "X-Meadow-Fragment": "1" };

async function post(address, fields) {
  const response = await fetch(address, { method: "POST", headers: HEADERS, body: new URLSearchParams(fields) });
  const type = response.headers.get("Content-Type") ?? "";
  const text = await response.text();
  if (type.startsWith("text/html")) return new DOMParser().parseFromString(text, "text/html");
  throw new Error(text || `Meadow answered ${response.status}.`);
}

export function toast(element) {
  const place = document.getElementById("toasts");
  place.append(element);
  while (place.children.length > 4) place.firstElementChild.remove();
  revealScripted(place);
  tick(place);
  if (element.matches(".well:not(.keep)")) setTimeout(() => element.remove(), 8000);
}

function complain(words) {
  const element = document.createElement("div");
  element.className = "toast bad";
  element.dataset.toast = "";
  element.textContent = words;
  toast(element);
}

function outcome(page) {
  const found = page.querySelector("[data-toast]");
  if (found) toast(document.adoptNode(found));
  else complain(page.querySelector("main p:not(.code), p")?.textContent.trim() || "Nothing was done.");
}

async function submit(form, submitter, dialog) {
  const fields = new FormData(form);
  const button = submitter ?? form.querySelector("button");
  button.disabled = true;
  document.body.classList.add("waiting");
  try {
    const page = await post(button.getAttribute("formaction") ?? form.getAttribute("action"), fields);
    const confirm = page.querySelector("form[data-confirm]");
    if (confirm) { // after a fault it comes a second time, with what was typed
      dialog.replaceChildren(document.adoptNode(confirm));
      if (!dialog.open) {
        dialog.addEventListener("close", () => button.focus(), { once: true });
        dialog.showModal();
      }
      dialog.querySelector(form.matches("[data-confirm]") ? "textarea" : "[data-cancel]").focus();
    } else {
      dialog.close();
      outcome(page);
    }
  } catch (error) {
    dialog.close();
    complain(error.message === "Failed to fetch" ? "Meadow cannot be reached. Nothing was sent." : error.message);
  } finally {
    button.disabled = false;
    document.body.classList.remove("waiting");
  }
}

export function startActions() {
  const dialog = document.getElementById("dialog");
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (!form.matches("[data-act], #dialog [data-confirm]")) return;
    event.preventDefault();
    submit(form, event.submitter, dialog);
  });
  dialog.addEventListener("click", (event) => {
    if (!event.target.closest("[data-cancel]") && event.target !== dialog) return;
    event.preventDefault();
    dialog.close();
  });
  dialog.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || !event.target.matches("input")) return;
    event.preventDefault(); // typing a reason does not confirm by accident
    dialog.querySelector("button").focus();
  });
  for (const element of document.querySelectorAll("#toasts .well:not(.keep)")) setTimeout(() => element.remove(), 8000);
}
