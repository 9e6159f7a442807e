const page = document.documentElement;
const at = (id) => document.getElementById(id);

at("opacity")?.addEventListener("input", (event) => page.style.setProperty("--opacity", event.target.value / 100));
at("truth")?.addEventListener("change", (event) => page.classList.toggle("no-truth", !event.target.checked));

function sift() {
  const words = at("find").value.toLowerCase().split(/\s+/).filter(Boolean);
  for (const row of document.querySelectorAll("#slides-table tbody tr")) {
    const text = row.textContent.toLowerCase();
    const isShown = words.every((word) => text.includes(word)) && (!at("wrong").checked || row.querySelector(".wrong"));
    row.classList.toggle("hidden", !isShown);
  }
}

at("find")?.addEventListener("input", sift);
at("wrong")?.addEventListener("change", sift);
