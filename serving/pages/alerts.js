// The alerts, live: new ones stand on top at once, or are counted while somebody reads.
import { dialogs } from "./dialogs.js";
import { follow } from "./feed.js";
import { each } from "./fresh.js";
import { keyboard } from "./keyboard.js";
import { again, reading, rows } from "./list.js";
import { say } from "./say.js";
import { ticks } from "./ticks.js";

const live = document.getElementById("live");
const news = document.getElementById("news");
const here = new URLSearchParams(location.search);
const wanted = here.get("status");
const unseen = new Set();
let due = 0;
let came = 0;

// What comes together is fetched once.
function soon() {
  due ||= setTimeout(() => {
    due = 0;
    again();
  }, 120);
}

// And said once.
function announce() {
  came += 1;
  if (came > 1) return;
  setTimeout(() => {
    say(counted(came));
    came = 0;
  }, 800);
}

const counted = (count) => `${count} new ${count === 1 ? "alert" : "alerts"}`;

function come({ id, status }) {
  if (document.getElementById(id) || (wanted && status !== wanted)) return;
  unseen.add(id);
  announce();
  if (reading()) {
    news.textContent = `Show ${counted(unseen.size)}`;
    news.hidden = false;
  } else {
    unseen.clear();
    soon();
  }
}

function moved(step) {
  if (document.getElementById(step.id)) soon();
  else if (wanted) come(step);
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
  await again(true);
  scrollTo({ top: 0 });
  rows()[0]?.focus();
}

news.addEventListener("click", showNews);
for (const one of document.querySelectorAll("#filters select, #filters [type=checkbox]")) {
  one.addEventListener("change", () => one.form.requestSubmit());
}
document.getElementById("filters").addEventListener("formdata", ({ formData }) => {
  for (const [name, value] of [...formData]) if (!value.trim()) formData.delete(name); // short addresses
});
ticks.start(live);
dialogs(live, again);
keyboard(showNews);
if (live.dataset.stream) follow(live.dataset.stream, { alert: come, status: moved });
each(60, again); // should a change ever be missed
