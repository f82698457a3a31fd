// One key for what is done often. They can be turned off, since dictation software types letters.
import { ask, post } from "./dialogs.js";
import { again, current, rows } from "./list.js";
import { say } from "./say.js";
import { ticks } from "./ticks.js";

const SETTING = "telltale.keys";
let help;
let showNews;

function step(by) {
  const all = rows();
  const at = all.indexOf(current());
  const next = at < 0 ? all[by > 0 ? 0 : all.length - 1] : all[Math.min(Math.max(at + by, 0), all.length - 1)];
  next?.focus();
  next?.scrollIntoView({ block: "nearest" });
}

// What is ticked, or else the alert where the focus is; `may`: in one of these states.
function meant() {
  const ticked = ticks.ids();
  return ticked.length ? ticked : current() ? [current().id] : [];
}

function address(path) {
  const query = meant().map((id) => ["ids", id]);
  return `${path}?${new URLSearchParams([...query, ["back", location.pathname + location.search]])}`;
}

async function acknowledge() {
  const fields = meant().map((id) => ["ids", id]);
  const data = new URLSearchParams([...fields, ["do", "ACKNOWLEDGED"], ["back", location.pathname + location.search]]);
  await post("/alerts/act", data, again);
}

function some(work) {
  return () => (meant().length ? work() : say("No alert is chosen: j and k go through them", true));
}

const KEYS = {
  j: () => step(1),
  k: () => step(-1),
  x: () => current()?.querySelector("input[name=ids]").click(),
  a: some(acknowledge),
  d: some(() => ask(address("/alerts/dismiss"))),
  o: some(() => ask(address("/alerts/outcome"))),
  p: () => current() && location.assign(current().querySelector(".person a").href),
  Enter: () => location.assign(current().querySelector(".type a").href),
  n: () => showNews(),
  "/": () => document.querySelector("#filters [name=user]").focus(),
  "?": () => help.showModal(),
  Escape: () => ticks.none(),
};

function pressed(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  if (event.target.matches("input:not([type=checkbox]), select, textarea")) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  const on = localStorage.getItem(SETTING) !== "off";
  if (!on && !["Escape", "Enter"].includes(event.key)) return;
  if (event.key === "Enter" && event.target !== current()) return; // a link or a button has its own
  if (!Object.hasOwn(KEYS, event.key)) return;
  event.preventDefault();
  KEYS[event.key]();
}

export function keyboard(show) {
  showNews = show;
  help = document.getElementById("help");
  const button = document.getElementById("help-button");
  button.hidden = false;
  button.addEventListener("click", () => help.showModal());
  const on = document.getElementById("keys-on");
  on.checked = localStorage.getItem(SETTING) !== "off";
  on.addEventListener("change", () => localStorage.setItem(SETTING, on.checked ? "on" : "off"));
  document.addEventListener("keydown", pressed);
}
