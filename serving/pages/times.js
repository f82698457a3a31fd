// Times as the reader's clock and calendar have them. In a store that takes its time from events nothing is "ago".
const DAY = 86400;
const wall = document.body.dataset.clock === "wall";
const hour = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const date = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });
const whole = new Intl.DateTimeFormat(undefined, {
  year: "numeric", month: "short", day: "numeric", hour: "2-digit", minute: "2-digit",
});

function said(then) {
  const ago = (Date.now() - then) / 1000;
  if (wall && ago >= 0 && ago < 60) return "just now";
  if (wall && ago >= 0 && ago < 3600) return `${Math.floor(ago / 60)} min ago`;
  if (wall && ago >= 0 && ago < DAY) return hour.format(then);
  return (new Date(then).getFullYear() === new Date().getFullYear() ? date : whole).format(then);
}

export function localise(root = document) {
  for (const time of root.querySelectorAll("time[datetime]")) {
    time.title ||= time.textContent;
    const text = said(new Date(time.dateTime));
    if (time.textContent !== text) time.textContent = text;
  }
}

localise();
setInterval(localise, 15000);
