// The list of alerts, live: new ones stand on top at once, or are counted while somebody reads.
import { follow } from "./feed.js";
import { each, refresh } from "./fresh.js";
import { keyboard } from "./keyboard.js";
import { ticks } from "./ticks.js";
import { dialogs } from "./dialogs.js";
import { say } from "./say.js";

const live = document.getElementById("live");
const news = document.getElementById("news");
const here = new URLSearchParams(location.search);
const unseen = new Set();
let due = 0;

function reading() {
  const busy = document.querySelector("dialog[open]") || live.querySelector("input[name=ids]:checked");
  return scrollY > 120 || here.has("cursor") || busy || live.querySelector(".alerts")?.contains(document.activeElement);
}

function soon(insert) {
  clearTimeout(due);
  due = setTimeout(() => refresh(insert).then(ticks.show), 120); // what comes together is fetched once
}

function come(id) {
  if (document.getElementById(id)) return;
  unseen.add(id);
  const count = `${unseen.size} new ${unseen.size === 1 ? "alert" : "alerts"}`;
  if (reading()) {
    news.textContent = `Show ${count}`;
    news.hidden = false;
  } else {
    unseen.clear();
    soon(true);
  }
  say(count);
}

async function showNews() {
  if (news.hidden) return;
  unseen.clear();
  news.hidden = true;
  if (here.has("cursor")) {
    here.delete("cursor");
    location.search = here;
    return;
  }
  await refresh();
  ticks.show();
  scrollTo({ top: 0 });
  live.querySelector(".alert")?.focus();
}

news.addEventListener("click", showNews);
document.querySelectorAll("#filters select").forEach((one) => one.addEventListener("change", () => one.form.requestSubmit()));
document.getElementById("filters").addEventListener("formdata", ({ formData }) => {
  for (const [name, value] of [...formData]) if (!value.trim()) formData.delete(name); // short addresses
});
dialogs(live, () => refresh(!reading()).then(ticks.show));
ticks.start(live);
keyboard({ live, showNews });
if (live.dataset.stream) follow(live.dataset.stream, { alert: come, status: () => soon(!reading()) });
each(60, () => refresh(!reading()).then(ticks.show)); // should a change ever be missed
