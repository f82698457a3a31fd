// Forms are sent, and forms that ask more are shown, without leaving the page. Without this script both are pages.
import { fetched } from "./fresh.js";
import { say } from "./say.js";

let dialog;

export function dialogs(root, done) {
  dialog = document.createElement("dialog");
  dialog.setAttribute("aria-labelledby", "form-title");
  document.body.append(dialog);
  root.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-dialog]");
    if (!link || event.metaKey || event.ctrlKey || event.shiftKey) return;
    event.preventDefault();
    ask(link.href);
  });
  document.addEventListener("submit", (event) => sent(event, done));
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog || event.target.closest("[data-close]")) {
      event.preventDefault();
      dialog.close();
    }
  });
}

export async function ask(address) {
  const form = (await fetched(address)).querySelector("[data-in-dialog]");
  if (!form) {
    location.assign(address);
    return;
  }
  dialog.replaceChildren(document.importNode(form, true));
  dialog.showModal();
  dialog.querySelector("[autofocus]")?.focus();
}

function sent(event, done) {
  const { target: form, submitter } = event;
  if (!form.matches("#acts, [data-in-dialog]")) return;
  event.preventDefault();
  const data = new URLSearchParams(new FormData(form, submitter));
  if (submitter?.hasAttribute("data-dialog")) ask(`${submitter.getAttribute("formaction")}?${data}`);
  else post(form.getAttribute("action"), data, done);
}

export async function post(address, data, done) {
  const answer = await fetch(address, { method: "POST", body: data, headers: { accept: "text/html" } });
  if (answer.status === 401) location.reload();
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  if (!answer.ok) {
    problem(page.querySelector("main p")?.textContent ?? "That could not be done.");
    return;
  }
  dialog.close();
  for (const id of data.getAll("ids")) untick(id);
  await done();
  say(page.querySelector(".said")?.textContent ?? "Done", true);
}

function untick(id) {
  const box = document.getElementById(id)?.querySelector("input[name=ids]");
  if (box) box.checked = false;
}

function problem(text) {
  const told = dialog.open ? dialog.querySelector("form") : document.getElementById("live");
  told.querySelector(".problem")?.remove();
  const line = document.createElement("p");
  line.className = "problem";
  line.setAttribute("role", "alert");
  line.textContent = text;
  told.prepend(line);
}
