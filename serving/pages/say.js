// Tells those who listen instead of look.
const status = document.getElementById("status");

export function say(text) {
  status.textContent = "";
  setTimeout(() => { status.textContent = text; }, 50); // the same words twice are to be read twice
}
