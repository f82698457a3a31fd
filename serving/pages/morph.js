// Makes a part of the document what the server has it to be now, and leaves alone what has not changed: focus,
// selection, opened details and ticked boxes stay. Elements with `data-key` are told apart by it; without `insert`
// none is added.

export function morph(from, to, insert = true) {
  if (from.tagName === "TIME" && from.dateTime === to.dateTime) return; // its text is the reader's (times.js)
  attributes(from, to);
  if (from.hasAttribute("data-keep")) return;
  children(from, to, insert);
}

function attributes(from, to) {
  for (const { name } of [...from.attributes]) {
    if (!to.hasAttribute(name) && name !== "open" && name !== "class") from.removeAttribute(name);
  }
  for (const { name, value } of to.attributes) {
    if (name !== "open" && from.getAttribute(name) !== value) from.setAttribute(name, value);
  }
}

function children(from, to, insert) {
  const keyed = new Map([...from.children].filter((one) => one.dataset?.key).map((one) => [one.dataset.key, one]));
  let at = from.firstChild;
  for (const wanted of [...to.childNodes]) {
    const key = wanted.dataset?.key;
    const found = key ? keyed.get(key) : like(at, wanted);
    if (!found && key && !insert) continue;
    if (!found) {
      const made = document.importNode(wanted, true);
      if (key) made.classList?.add("new");
      from.insertBefore(made, at);
      continue;
    }
    if (found === at) at = at.nextSibling;
    else from.insertBefore(found, at);
    update(found, wanted, insert);
    keyed.delete(key);
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}

function like(at, wanted) {
  const same = at && at.nodeType === wanted.nodeType && at.nodeName === wanted.nodeName && !at.dataset?.key;
  return same ? at : null;
}

function update(found, wanted, insert) {
  if (found.nodeType === Node.ELEMENT_NODE) {
    morph(found, wanted, insert);
  } else if (found.data !== wanted.data) {
    found.data = wanted.data;
    glow(found.parentElement);
  }
}

function glow(element) {
  if (!element.closest("[data-glow]")) return;
  element.classList.remove("moved");
  void element.offsetWidth; // so that the animation begins anew
  element.classList.add("moved");
}
