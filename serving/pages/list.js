// The list of alerts as it stands on the page, and how it is brought up to date under somebody's hands.
import { refresh } from "./fresh.js";
import { ticks } from "./ticks.js";

const live = document.getElementById("live");

export const rows = () => [...live.querySelectorAll(".alert")];
export const current = () => document.activeElement?.closest?.(".alert");

// While somebody reads, chooses or answers, nothing new is put before what they look at.
export function reading() {
  const busy = document.querySelector("dialog[open]") || ticks.ids().length || current();
  return Boolean(busy) || scrollY > 120 || new URLSearchParams(location.search).has("cursor");
}

export async function again(insert = !reading()) {
  const all = rows();
  const at = all.indexOf(current());
  await refresh(insert);
  ticks.show();
  if (at < 0 || all[at].isConnected) return;
  const next = [...all.slice(at + 1), ...all.slice(0, at).reverse()].find((row) => row.isConnected);
  next?.focus();
}
