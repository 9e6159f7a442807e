// The cohort page: filter, sort and search its table. What is chosen stands in the address, so that it can be shared.

const filters = document.getElementById("filters");
const body = document.querySelector("#slides tbody");
const heads = [...document.querySelectorAll("button[data-sort]")];
const rows = [...body.rows];
const SELECTS = ["status", "label", "fold"];

const given = new URLSearchParams(location.search);
const sorting = { by: given.get("sort") ?? "", down: given.get("down") === "1" };
for (const name of ["q", ...SELECTS]) filters.elements[name].value = given.get(name) ?? "";
for (const name of SELECTS) if (filters.elements[name].selectedIndex < 0) filters.elements[name].value = "";
filters.elements.wrong.checked = given.get("wrong") === "1";

function fits(row, chosen) {
  const { slide, patient, reason, status } = row.dataset;
  if (chosen.wrong && !row.dataset.wrong) return false;
  if (chosen.q && !`${slide} ${patient} ${reason} ${status}`.toLowerCase().includes(chosen.q)) return false;
  return SELECTS.every((name) => !chosen[name] || row.dataset[name] === (chosen[name] === "-" ? "" : chosen[name]));
}

// Numbers by size, names as people order them (s2 before s10); what is empty stands last either way.
function order(a, b) {
  const head = heads.find((found) => found.dataset.sort === sorting.by);
  const [x, y] = [a.dataset[sorting.by], b.dataset[sorting.by]];
  if (!x || !y) return Number(!x) - Number(!y);
  const sign = sorting.down ? -1 : 1;
  return sign * ("number" in head.dataset ? x - y : x.localeCompare(y, undefined, { numeric: true }));
}

function chosen() {
  const found = Object.fromEntries(SELECTS.map((name) => [name, filters.elements[name].value]));
  return { ...found, q: filters.elements.q.value.trim().toLowerCase(), wrong: filters.elements.wrong.checked };
}

function show() {
  const now = chosen();
  let count = 0;
  for (const row of rows) {
    row.hidden = !fits(row, now);
    count += !row.hidden;
  }
  const known = heads.some((head) => head.dataset.sort === sorting.by);
  body.append(...(known ? [...rows].sort(order) : rows));
  for (const head of heads) {
    const active = head.dataset.sort === sorting.by;
    head.closest("th").ariaSort = !active ? "none" : sorting.down ? "descending" : "ascending";
  }
  document.getElementById("shown").textContent = count === rows.length ? `${count} slides` : `${count} of ${rows.length} slides`;
  document.getElementById("none").hidden = count > 0;
  remember(now);
}

function remember(now) {
  const address = new URLSearchParams();
  if (given.get("entry")) address.set("entry", given.get("entry"));
  if (filters.elements.q.value.trim()) address.set("q", filters.elements.q.value.trim());
  for (const name of SELECTS) if (now[name]) address.set(name, now[name]);
  if (now.wrong) address.set("wrong", "1");
  if (sorting.by) address.set("sort", sorting.by);
  if (sorting.by && sorting.down) address.set("down", "1");
  history.replaceState(null, "", address.size ? `?${address}` : location.pathname);
  sessionStorage.setItem("cohort", location.search);
}

filters.addEventListener("input", (event) => {
  if (event.target.name !== "entry") return show();
  given.set("entry", event.target.value);
  remember(chosen());
  location.reload(); // the server knows what another model predicts
});
filters.addEventListener("submit", (event) => event.preventDefault());
filters.addEventListener("reset", (event) => {
  event.preventDefault();
  for (const name of ["q", ...SELECTS]) filters.elements[name].value = "";
  filters.elements.wrong.checked = false;
  sorting.by = "";
  show();
});
for (const head of heads) {
  head.addEventListener("click", () => {
    const again = sorting.by === head.dataset.sort;
    sorting.down = again && !sorting.down;
    sorting.by = head.dataset.sort;
    show();
  });
}
show();
