// Filters and order of the slides on the cohort page. They are in its address, and slide pages go through the same list.

export const SELECTS = ["status", "label", "fold"];
export const SORTS = ["slide", "status", "label", "predicted", "prob", "fold", "tiles"];
const CHOICES = ["target", "entry"]; // what the server looks up, "" for the first
const OTHER = "of."; // before the name of another target, whose column the list can be sorted by
const SORT_KEYS = { label: "truth" };

// Read the filters from an address; `target` and `entry` say whose labels and predictions are used.
export function readFilters(search) {
  const params = new URLSearchParams(search);
  const filters = { q: params.get("q") ?? "", wrong: params.get("wrong") === "1" };
  for (const name of [...CHOICES, ...SELECTS]) filters[name] = params.get(name) ?? "";
  const sort = params.get("sort") ?? "";
  filters.sort = SORTS.includes(sort) || sort.startsWith(OTHER) ? sort : "";
  filters.down = filters.sort !== "" && params.get("down") === "1";
  return filters;
}

// Query of an address with these filters: "?…", or "" without filters.
export function filterQuery(filters) {
  const params = new URLSearchParams();
  for (const name of [...CHOICES, "q", ...SELECTS]) if (filters[name].trim()) params.set(name, filters[name].trim());
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
  const key = SORT_KEYS[sort] ?? sort;
  const [x, y] = [a[key], b[key]];
  if (!x || !y) return Number(!x) - Number(!y);
  const sign = down ? -1 : 1;
  const areNumbers = Number.isFinite(Number(x)) && Number.isFinite(Number(y));
  return sign * (areNumbers ? x - y : x.localeCompare(y, undefined, { numeric: true }));
}

// The rows (objects of texts) that match the filters, in their order.
export function filterAndSort(rows, filters) {
  const listed = rows.filter((row) => matches(row, filters));
  return filters.sort ? listed.sort((a, b) => order(a, b, filters)) : listed;
}

// Address of the rows that the server lists for the target and model of these filters.
export function rowsAddress(filters) {
  const params = new URLSearchParams();
  for (const name of CHOICES) if (filters[name]) params.set(name, filters[name]);
  return params.size ? `/cohort.json?${params}` : "/cohort.json";
}
