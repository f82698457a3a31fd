// The boxes of the list: how many are ticked, all or none.
let live;

const boxes = () => [...live.querySelectorAll(".alerts input[name=ids]")];

export const ticks = {
  start(root) {
    live = root;
    live.addEventListener("change", ({ target }) => {
      if (target.closest("#all")) for (const box of boxes()) box.checked = target.checked;
      ticks.show();
    });
    ticks.show();
  },
  show() {
    const all = live.querySelector("#all");
    if (!all) return;
    const ticked = ticks.ids().length;
    all.hidden = false;
    all.firstChild.checked = ticked > 0 && ticked === boxes().length;
    all.firstChild.indeterminate = ticked > 0 && !all.firstChild.checked;
    live.querySelector("#picked").textContent = ticked ? `${ticked} ticked:` : "None ticked";
    for (const button of live.querySelectorAll("#acts button[name=do]")) button.disabled = !ticked;
  },
  ids: () => boxes().filter((box) => box.checked).map((box) => box.value),
  none() {
    for (const box of boxes()) box.checked = false;
    ticks.show();
  },
};
