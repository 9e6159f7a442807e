// Filters and order of the slides on the cohort page. They are in its address, and slide pages go through the same list.

export const SELECTS = ["status", "label", "fold"];
const NUMBERS = ["prob", "tiles"];
export const SORTS = ["slide", "status", "label", "predicted", "prob", "fold", "tiles"];

// Read the filters from an address; `entry` is the model whose predictions are used, "" for the first.
export function readFilters(search) {
  const params = new URLSearchParams(search);
  const filters = { entry: params.get("entry") ?? "", q: params.get("q") ?? "", wrong: params.get("wrong") === "1" };
  for (const name of SELECTS) filters[name] = params.get(name) ?? "";
  filters.sort = SORTS.includes(params.get("sort")) ? params.get("sort") : "";
  filters.down = filters.sort !== "" && params.get("down") === "1";
  return filters;
}

// Query of an address with these filters: "?…", or "" without filters.
export function filterQuery(filters) {
  const params = new URLSearchParams();
  for (const name of ["entry", "q", ...SELECTS]) if (filters[name].trim()) params.set(name, filters[name].trim());
  if (filters.wrong) params.set("wrong", "1");
  if (filters.sort) params.set("sort", filters.sort);
  if (filters.sort && filters.down) params.set("down", "1");
  return params.size ? `?${params}` : "";
}

function matches(row, filters) {
  const query = filters.q.trim().toLowerCase();
  if (filters.wrong && !row.wrong) return false;
  if (query && !`${row.slide} ${row.patient} ${row.reason} ${row.status}`.toLowerCase().includes(query)) return false;
  return SELECTS.every((name) => !filters[name] || row[name] === (filters[name] === "-" ? "" : filters[name]));
}

// Numeric order for numbers, natural order for names (s2 before s10); empty values are last in both directions.
function order(a, b, { sort, down }) {
  const [x, y] = [a[sort], b[sort]];
  if (!x || !y) return Number(!x) - Number(!y);
  const sign = down ? -1 : 1;
  return sign * (NUMBERS.includes(sort) ? x - y : x.localeCompare(y, undefined, { numeric: true }));
}

// The rows (objects of texts) that match the filters, in their order.
export function filterAndSort(rows, filters) {
  const listed = rows.filter((row) => matches(row, filters));
  return filters.sort ? listed.sort((a, b) => order(a, b, filters)) : listed;
}
