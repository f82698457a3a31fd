// Who came by a link from elsewhere may be signed in: a strict cookie stays behind then, but not in what we ask here.
const next = document.querySelector("input[name=next]").value;
if (new URLSearchParams(location.search).has("next")) {
  const answer = await fetch(next, { redirect: "manual", headers: { accept: "text/html" } });
  if (answer.ok) location.replace(next);
}
