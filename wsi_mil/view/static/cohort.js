// The cohort page: filter, sort and search its table. What is chosen stands in the address, so that it can be shared.

import { SELECTS, choiceText, listed, readChoice } from "./listing.js";

const filters = document.getElementById("filters");
const body = document.querySelector("#slides tbody");
const heads = [...document.querySelectorAll("button[data-sort]")];
const rows = [...body.rows];
const lines = rows.map((row) => ({ ...row.dataset, row }));
const choice = readChoice(location.search);

for (const name of ["q", ...SELECTS]) filters.elements[name].value = choice[name];
for (const name of SELECTS) if (filters.elements[name].selectedIndex < 0) filters.elements[name].value = choice[name] = "";
filters.elements.wrong.checked = choice.wrong;

function show() {
  const found = listed(lines, choice);
  const hidden = new Set(rows);
  for (const { row } of found) hidden.delete(row);
  for (const row of rows) row.hidden = hidden.has(row);
  body.append(...found.map(({ row }) => row), ...hidden);
  for (const head of heads) {
    const active = head.dataset.sort === choice.sort;
    head.closest("th").ariaSort = !active ? "none" : choice.down ? "descending" : "ascending";
  }
  const count = found.length;
  const all = `${rows.length} ${rows.length === 1 ? "slide" : "slides"}`;
  document.getElementById("shown").textContent = count === rows.length ? all : `${count} of ${all}`;
  document.getElementById("none").hidden = count > 0;
  remember();
}

// The links to the slides carry the list with them: there, "next" is what is next here.
function remember() {
  const address = choiceText(choice);
  history.replaceState(null, "", address || location.pathname);
  for (const link of body.querySelectorAll("a")) link.search = address;
}

filters.addEventListener("input", ({ target }) => {
  choice[target.name] = target.type === "checkbox" ? target.checked : target.value;
  if (target.name !== "entry") return show();
  remember();
  location.reload(); // the server knows what another model predicts
});
filters.addEventListener("submit", (event) => event.preventDefault());
filters.addEventListener("reset", (event) => {
  event.preventDefault();
  for (const name of ["q", ...SELECTS]) filters.elements[name].value = choice[name] = "";
  filters.elements.wrong.checked = choice.wrong = choice.down = false;
  choice.sort = "";
  show();
});
for (const head of heads) {
  head.addEventListener("click", () => {
    choice.down = choice.sort === head.dataset.sort && !choice.down;
    choice.sort = head.dataset.sort;
    show();
  });
}
show();
