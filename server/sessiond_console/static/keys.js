// The keyboard. Ctrl-K and Meta-K always work. While somebody types, the only other key that works is
// Escape, which leaves the field. Together with Alt, Ctrl or Meta, the other keys do nothing.
import { unfoldAll } from "./page.js";

const items = () => [...document.querySelectorAll("article.message, tr[data-row]")];
const current = () => document.querySelector(".current");

export function setUpKeys() {
  document.addEventListener("keydown", (event) => {
    if ((event.ctrlKey || event.metaKey) && event.key === "k") {
      event.preventDefault();
      focusOn("go");
      return;
    }
    const typing = event.target.closest("input, textarea, select, [contenteditable]");
    if (event.key === "Escape" && typing) typing.blur();
    if (typing || event.ctrlKey || event.altKey || event.metaKey) return;
    const act = ACTS[event.key];
    if (act && act() !== false) event.preventDefault();
  });
}

const ACTS = {
  j: () => move(1),
  k: () => move(-1),
  "]": () => moveTurn(1),
  "[": () => moveTurn(-1),
  o: () => {
    const link = current()?.querySelector("a[data-open]");
    if (link) link.click();
    else for (const one of current()?.querySelectorAll("details") ?? []) one.open = !one.open;
  },
  e: unfoldAll,
  r: () => current()?.querySelector("a.raw")?.click(),
  "/": () => focusOn("q") || focusOn("go"),
  g: () => focusOn("at") || focusOn("go"),
  f: () => document.querySelector("[data-follow]")?.click(),
  b: () => openFor("mark", "mark-seq"),
  c: () => openFor("copy", "copy-seq"),
  "?": () => document.getElementById("help").showModal(),
};

function focusOn(id) {
  const found = document.getElementById(id);
  found?.focus();
  found?.select?.();
  return Boolean(found);
}

function openFor(id, field) {
  const dialog = document.getElementById(id);
  if (!dialog) return false;
  const input = document.getElementById(field);
  const all = document.querySelectorAll("article.message");
  input.value = current()?.dataset.seq ?? all[all.length - 1]?.dataset.seq ?? "";
  dialog.open = true;
  dialog.scrollIntoView({ block: "center" });
  dialog.querySelector("input:not([type=hidden])").focus();
  return true;
}

function move(step) {
  const all = items();
  if (!all.length) return false;
  const at = all.indexOf(current());
  const next = at < 0 ? (step > 0 ? firstVisible(all) : all.length - 1) : at + step;
  return choose(all[Math.min(all.length - 1, Math.max(0, next))]);
}

function moveTurn(step) {
  const all = items();
  let at = Math.max(0, all.indexOf(current()));
  const turn = all[at]?.dataset.turn;
  while (all[at] && (all[at].dataset.turn === turn || !all[at].dataset.turn)) at += step;
  return all[at] ? choose(all[at]) : false;
}

function firstVisible(all) {
  const found = all.findIndex((one) => one.getBoundingClientRect().bottom > 60);
  return Math.max(0, found);
}

function choose(item) {
  current()?.classList.remove("current");
  item.classList.add("current");
  item.scrollIntoView({ block: "nearest" });
  return true;
}
