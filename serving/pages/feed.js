// The live feed, resumed where it broke off; closed while nobody looks, since a browser has few connections.
const RETRY_MS = 2000;

export function follow(address, heard) {
  const mark = document.getElementById("feed");
  const url = new URL(address, location.href);
  let source = null;

  function tell(connected) {
    mark.hidden = false;
    mark.textContent = connected ? "live" : "not connected";
    mark.classList.toggle("off", !connected);
  }

  function open() {
    source = new EventSource(url);
    source.onopen = () => tell(true);
    source.onerror = () => {
      tell(false);
      if (source.readyState === EventSource.CLOSED) setTimeout(open, RETRY_MS); // refused: it does not try by itself
    };
    for (const [name, hear] of Object.entries(heard)) {
      source.addEventListener(name, (event) => {
        if (event.lastEventId) url.searchParams.set("after", event.lastEventId);
        hear(JSON.parse(event.data));
      });
    }
  }

  document.addEventListener("visibilitychange", () => {
    if (document.hidden) source.close();
    else if (source.readyState === EventSource.CLOSED) open();
  });
  open();
}
