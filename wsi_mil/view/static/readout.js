// Texts and images around the slide: its label and prediction, the score at a position, the highest scoring tiles.

import { layerUrl, createElement, number } from "./pane.js";
import { entryOf, methodTitle } from "./state.js";

const by = (id) => document.getElementById(id);

export function showFacts(slide, state) {
  const entry = entryOf(slide, state);
  const { prediction, notes } = entry ?? { prediction: {}, notes: [] };
  const target = slide.targets.find(({ name }) => name === state.target);
  const facts = [[target?.truth ?? "label", target?.label || "none"]];
  const wrong = prediction.is_wrong;
  if (prediction.predicted) facts.push(["predicted", `${prediction.predicted}${wrong ? " ✗" : ""}`, wrong ? "wrong" : ""]);
  if (prediction.number) facts.push([prediction.name, prediction.number]);
  if (prediction.fold) facts.push(["fold", prediction.fold === "mean" ? "mean of all" : prediction.fold]);
  if (slide.status !== "ok") facts.push(["status", slide.status, slide.status]);
  by("facts").replaceChildren(
    ...facts.map(([name, value, kind = ""]) => {
      const pair = createElement("div", "");
      pair.append(createElement("dt", "", name), createElement("dd", kind, value));
      return pair;
    }),
  );
  const texts = [...slide.notes, ...(slide.reason ? [slide.reason] : []), ...notes];
  if (!entry) texts.push("There are no heatmaps yet: `explain` has not finished for any model.");
  by("notes").replaceChildren(...texts.map((text) => createElement("li", "", text)));
}

// Scores outside the range of the colour bar are drawn in the colour of its nearest end.
function outOfRange(shown, { low, high }) {
  if (shown > high) return `, above its maximum ${number(high)}`;
  return shown < low ? `, below its minimum ${number(low)}` : "";
}

// Show the score at a position (x, y) in level-0 pixels; null outside of tiles.
export function showScore(score, layer, title, [x, y]) {
  const position = createElement("p", "small", `x ${Math.floor(x)}, y ${Math.floor(y)} (level-0 pixels)`);
  if (!score) return by("reading").replaceChildren(createElement("p", "", "no scored tile here"), position);
  const overlap = score.n_tiles > 1 ? `, mean of ${score.n_tiles} overlapping tiles` : "";
  by("reading").replaceChildren(
    createElement("p", "value", number(score.value)),
    createElement("p", "", `${layer.kind || `${title}: ${layer.unit}`}${overlap}`),
    createElement("p", "", `rank ${score.rank} of ${score.n}: higher than ${Math.floor(100 * score.below)} % of the tiles`),
    createElement("p", "small", `on the colour bar: ${number(score.shown)}${outOfRange(score.shown, layer)} (${Math.round(100 * score.place)} %)`),
    position,
  );
}

export const noScore = (text) => by("reading").replaceChildren(createElement("p", "small", text));

// Show the highest scoring tiles of a layer; a click on one calls `onSelect` with its box.
export function showStrip(slide, state, layer, onSelect) {
  const strip = by("strip");
  if (!layer?.n) return strip.replaceChildren(createElement("p", "small", "no tiles to show"));
  const address = layerUrl(slide, state, state.method);
  const title = methodTitle(slide, state, state.method);
  const tiles = layer.top.map((tile, i) => {
    const button = createElement("button", "tile");
    button.type = "button";
    button.title = `${title} ${number(tile.value)}: go to this tile`;
    const image = createElement("img", "");
    image.loading = "lazy";
    image.src = `${address}/tiles/${tile.index}.jpg?v=${slide.image.version}-${layer.version}`;
    image.alt = `tile ${i + 1} by score, score ${number(tile.value)}`;
    image.style.borderColor = `rgb(${tile.colour.join(",")})`;
    button.append(image, createElement("span", "", number(tile.value)));
    button.addEventListener("click", () => {
      for (const other of strip.querySelectorAll("[aria-current]")) other.removeAttribute("aria-current");
      button.setAttribute("aria-current", "true");
      onSelect(tile.box);
    });
    return button;
  });
  strip.replaceChildren(createElement("h2", "", `Highest ${title}`), ...tiles);
}
