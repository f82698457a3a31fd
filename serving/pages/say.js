// Tells what happened to those who listen, and what they did themselves to those who look, too.
const status = document.getElementById("status");
let fading = 0;

export function say(text, shown = false) {
  clearTimeout(fading);
  status.textContent = "";
  status.classList.toggle("shown", shown);
  setTimeout(() => { status.textContent = text; }, 50); // the same words twice are to be read twice
  if (shown) fading = setTimeout(() => status.classList.remove("shown"), 5000);
}
