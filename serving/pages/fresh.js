// Fetches this page again and takes over its part `#live`. Says whether the server could be asked.
import { morph } from "./morph.js";
import { localise } from "./times.js";

export async function fetched(address = location.href) {
  const answer = await fetch(address, { headers: { accept: "text/html" } });
  if (new URL(answer.url).pathname === "/sign-in") location.reload();
  return new DOMParser().parseFromString(await answer.text(), "text/html");
}

export async function refresh(insert = true) {
  let other;
  try {
    other = await fetched();
  } catch {
    return false;
  }
  const [mine, wanted] = [document, other].map((page) => page.getElementById("live"));
  if (!mine || !wanted) return false;
  morph(mine, wanted, insert);
  localise(mine);
  return true;
}

// Again and again while somebody looks; the next time begins when the last has ended.
export function each(seconds, work) {
  const step = async () => {
    if (!document.hidden) await work();
    setTimeout(step, seconds * 1000);
  };
  setTimeout(step, seconds * 1000);
}
