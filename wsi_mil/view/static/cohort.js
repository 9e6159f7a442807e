// The cohort page: filter, sort and search the table. The address holds the filters, so that the list can be shared.

import { SELECTS, filterQuery, filterAndSort, readFilters } from "./listing.js";

const form = document.getElementById("filters");
const body = document.querySelector("#slides tbody");
const heads = [...document.querySelectorAll("button[data-sort]")];
const rows = [...body.rows];
const slides = rows.map((row) => ({ ...JSON.parse(row.dataset.row), row }));
const filters = readFilters(location.search);

for (const name of ["q", ...SELECTS]) form.elements[name].value = filters[name];
for (const name of SELECTS) if (form.elements[name].selectedIndex < 0) form.elements[name].value = filters[name] = "";
form.elements.wrong.checked = filters.wrong;

function show() {
  const listed = filterAndSort(slides, filters);
  const hidden = new Set(rows);
  for (const { row } of listed) hidden.delete(row);
  for (const row of rows) row.hidden = hidden.has(row);
  body.append(...listed.map(({ row }) => row), ...hidden);
  for (const head of heads) {
    const active = head.dataset.sort === filters.sort;
    head.closest("th").ariaSort = !active ? "none" : filters.down ? "descending" : "ascending";
  }
  const count = listed.length;
  const all = `${rows.length} ${rows.length === 1 ? "slide" : "slides"}`;
  document.getElementById("shown").textContent = count === rows.length ? all : `${count} of ${all}`;
  document.getElementById("none").hidden = count > 0;
  updateAddress();
}

// Links to slides carry the filters, so that "next slide" follows this list.
function updateAddress() {
  const query = filterQuery(filters);
  history.replaceState(null, "", query || location.pathname);
  for (const link of body.querySelectorAll("a")) link.search = query;
}

form.addEventListener("input", ({ target }) => {
  filters[target.name] = target.type === "checkbox" ? target.checked : target.value;
  if (!["target", "entry"].includes(target.name)) return show();
  if (target.name === "target") filters.label = filters.sort = ""; // those of the other target differ
  updateAddress();
  location.reload(); // labels and predictions of another target or model come from the server
});
form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("reset", (event) => {
  event.preventDefault();
  for (const name of ["q", ...SELECTS]) form.elements[name].value = filters[name] = "";
  form.elements.wrong.checked = filters.wrong = filters.down = false;
  filters.sort = "";
  show();
});
for (const head of heads) {
  head.addEventListener("click", () => {
    filters.down = filters.sort === head.dataset.sort && !filters.down;
    filters.sort = head.dataset.sort;
    show();
  });
}
show();
