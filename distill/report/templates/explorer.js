"use strict";
(() => {
  const root = document.getElementById("explorer");
  if (!root) return;
  const plain = (text) => text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();
  const items = [...root.querySelectorAll(".item")].map((node) => ({
    node,
    row: node.parentElement,
    outcomes: node.dataset.outcome.split(" "),
    text: plain(node.textContent),
  }));
  const find = (name) => root.querySelector(`[name="${name}"]`);
  const search = find("search");
  const chosen = ["benchmark", "category", "outcome"].map(find).filter(Boolean);
  const status = root.querySelector('[role="status"]');
  const empty = root.querySelector(".nothing");
  const more = root.querySelector("[data-do=more]");
  const number = new Intl.NumberFormat("en");
  const shown = () => items.filter((item) => !item.row.hidden);

  const fits = (item, words) =>
    words.every((word) => item.text.includes(word)) &&
    chosen.every(({ name, value }) =>
      value === "" ||
      (name === "outcome" ? item.outcomes.includes(value) : item.node.dataset[name] === value));

  const page = 25;
  let room = page;
  const update = () => {
    const words = plain(search.value).split(/\s+/).filter(Boolean);
    const fitting = items.filter((item) => fits(item, words));
    const open = new Set(fitting.slice(0, room));
    for (const item of items) item.row.hidden = !open.has(item);
    const left = fitting.length - open.size;
    const found = `${number.format(fitting.length)} of ${number.format(items.length)} items`;
    status.textContent = left ? `${found}, the first ${number.format(open.size)} shown` : `${found} shown`;
    empty.hidden = fitting.length > 0;
    more.parentElement.hidden = left === 0;
    more.textContent = `Show ${number.format(Math.min(left, page))} more`;
  };
  const refresh = () => {
    room = page;
    update();
  };

  let waiting = 0;
  search.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(refresh, 120);
  });
  chosen.forEach((select) => select.addEventListener("change", refresh));
  root.querySelector("[data-do=clear]").addEventListener("click", () => {
    for (const control of [search, ...chosen]) control.value = "";
    refresh();
    search.focus();
  });
  more.addEventListener("click", () => {
    const next = shown().length;
    room += page;
    update();
    shown()[next].node.firstElementChild.focus();
  });
  root.querySelector("[data-do=open]").addEventListener("click", () => {
    for (const item of shown()) item.node.open = true;
  });
  root.querySelector("[data-do=close]").addEventListener("click", () => {
    for (const item of items) item.node.open = false;
  });

  root.addEventListener("keydown", (event) => {
    if (event.target === search && event.key === "Escape" && search.value) {
      search.value = "";
      refresh();
      event.preventDefault();
      return;
    }
    if (!event.target.matches(".item > summary") && event.target !== search) return;
    const rows = shown().map((item) => item.node.firstElementChild);
    const at = rows.indexOf(event.target);
    const moves = { ArrowDown: at + 1, ArrowUp: at - 1 };
    if (at >= 0) Object.assign(moves, { Home: 0, End: rows.length - 1 });
    if (!(event.key in moves) || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    const next = moves[event.key] < 0 ? search : rows[Math.min(moves[event.key], rows.length - 1)];
    if (next) next.focus();
  });

  root.querySelector(".controls").hidden = false;
  update();
})();
(() => {
  // On paper a closed section cannot be opened; the items stay as the reader left them.
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details:not(.item, [open])")];
    for (const details of opened) details.open = true;
  });
  addEventListener("afterprint", () => {
    for (const details of opened) details.open = false;
  });
})();
