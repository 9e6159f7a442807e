const page = document.documentElement;
const element = (id) => document.getElementById(id);

element("opacity")?.addEventListener("input", (event) => page.style.setProperty("--opacity", event.target.value / 100));
element("truth")?.addEventListener("change", (event) => page.classList.toggle("no-truth", !event.target.checked));

element("output")?.addEventListener("input", (event) => {
  const chosen = event.target.value;
  for (const figure of document.querySelectorAll("figure[data-output]")) figure.hidden = Boolean(chosen) && figure.dataset.output !== chosen;
});

function filterRows() {
  const words = element("find").value.toLowerCase().split(/\s+/).filter(Boolean);
  for (const row of document.querySelectorAll("#slides-table tbody tr")) {
    const text = row.textContent.toLowerCase();
    const isShown = words.every((word) => text.includes(word)) && (!element("wrong")?.checked || row.querySelector(".wrong"));
    row.classList.toggle("hidden", !isShown);
  }
}

element("find")?.addEventListener("input", filterRows);
element("wrong")?.addEventListener("change", filterRows);
