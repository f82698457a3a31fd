// One person, moving: what is known of them is fetched again as soon as it holds as of another moment.
import { dialogs } from "./dialogs.js";
import { follow } from "./feed.js";
import { each, refresh } from "./fresh.js";

const live = document.getElementById("live");

async function look() {
  const answer = await fetch(live.dataset.watch).catch(() => null);
  if (answer?.status === 401) location.reload();
  if (answer?.ok && Date.parse((await answer.json()).at) !== Date.parse(live.dataset.at)) await refresh();
}

dialogs(live, () => refresh());
follow(live.dataset.stream, { alert: () => refresh(), status: () => refresh() });
each(1, look);
each(30, () => refresh()); // events that have come to the lake meanwhile
