// Fetches this page again and takes over what moves: `#live`, and what is counted beside it.
import { morph } from "./morph.js";
import { localise } from "./times.js";

export async function fetched(address = location.href) {
  const answer = await fetch(address, { headers: { accept: "text/html" } });
  if (new URL(answer.url).pathname === "/sign-in") location.reload();
  return new DOMParser().parseFromString(await answer.text(), "text/html");
}

// One at a time, so that no older answer is taken over a newer one; who asks meanwhile shares the next.
let running = Promise.resolve();
let next = null;

export function refresh(insert = true) {
  if (next) {
    next.insert &&= insert;
    return next.done;
  }
  const mine = { insert };
  next = mine;
  mine.done = running = running.then(() => {
    next = null;
    return take(mine.insert);
  });
  return mine.done;
}

async function take(insert) {
  let other;
  try {
    other = await fetched();
  } catch {
    return; // the mark of the feed says that we are not connected; it is tried again
  }
  for (const id of ["live", "unread"]) {
    const [mine, wanted] = [document, other].map((page) => page.getElementById(id));
    if (mine && wanted) morph(mine, wanted, insert);
  }
  localise();
}

// Again and again while somebody looks; the next time begins when the last has ended.
export function each(seconds, work) {
  const step = async () => {
    if (!document.hidden) await work();
    setTimeout(step, seconds * 1000);
  };
  setTimeout(step, seconds * 1000);
}
