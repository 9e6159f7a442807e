// What is said in words and pictures beside the slide: its facts, the score at a place, the tiles with the highest scores.

import { layerAddress, made, number } from "./pane.js";

const by = (id) => document.getElementById(id);
export const spaced = (name) => name.replaceAll("_", " ");

export function showFacts(about, entry) {
  const { prediction, notes } = entry ?? { prediction: {}, notes: [] };
  const facts = [["label", about.label || "none"]];
  const wrong = about.label && prediction.predicted && about.label !== prediction.predicted;
  if (prediction.predicted) facts.push(["predicted", `${prediction.predicted}${wrong ? " ✗" : ""}`, wrong ? "wrong" : ""]);
  if (prediction.prob !== null && prediction.prob !== undefined) {
    const threshold = prediction.threshold === null ? "" : ` (threshold ${prediction.threshold.toFixed(3)})`;
    facts.push([`P(${prediction.prob_of})`, `${prediction.prob.toFixed(3)}${threshold}`]);
  }
  if (prediction.fold) facts.push(["fold", prediction.fold]);
  if (about.status !== "ok") facts.push(["status", about.status, about.status]);
  by("facts").replaceChildren(
    ...facts.map(([name, value, kind = ""]) => {
      const pair = made("div", "");
      pair.append(made("dt", "", name), made("dd", kind, value));
      return pair;
    }),
  );
  const texts = [...about.notes, ...(about.reason ? [about.reason] : []), ...notes];
  if (!about.entries.length) texts.push("There are no scores yet: no model has explained anything.");
  by("notes").replaceChildren(...texts.map((text) => made("li", "", text)));
}

// What is higher or lower than the ends of the colour bar is drawn as they are.
function beyond(shown, { low, high }) {
  if (shown > high) return `, beyond its upper end ${number(high)}`;
  return shown < low ? `, below its lower end ${number(low)}` : "";
}

// The score at a place, level-0 pixels (x, y); null where no tile is.
export function showScore(score, layer, method, [x, y]) {
  const place = made("p", "small", `x ${Math.floor(x)}, y ${Math.floor(y)} (level-0 pixels)`);
  if (!score) return by("reading").replaceChildren(made("p", "", "no scored tile here"), place);
  const many = score.n_tiles > 1 ? `, mean of ${score.n_tiles} overlapping tiles` : "";
  by("reading").replaceChildren(
    made("p", "value", number(score.value)),
    made("p", "", `${layer.kind || `${spaced(method)}: ${layer.unit}`}${many}`),
    made("p", "", `rank ${score.rank} of ${score.n}: higher than ${Math.floor(100 * score.below)} % of the tiles`),
    made("p", "small", `on the colour bar: ${number(score.shown)}${beyond(score.shown, layer)} (${Math.round(100 * score.place)} %)`),
    place,
  );
}

export const noScore = (text) => by("reading").replaceChildren(made("p", "small", text));

// The tiles with the highest scores of a layer; a click on one calls `chosen` with its box.
export function showStrip(about, state, layer, chosen) {
  const strip = by("strip");
  if (!layer?.n) return strip.replaceChildren(made("p", "small", "no tiles to show"));
  const address = layerAddress(about, state, state.method);
  const tiles = layer.top.map((tile, i) => {
    const button = made("button", "tile");
    button.type = "button";
    button.title = `${spaced(state.method)} ${number(tile.value)}: fly there`;
    const image = made("img", "");
    image.loading = "lazy";
    image.src = `${address}/tiles/${tile.index}.jpg?v=${about.ground.version}-${layer.version}`;
    image.alt = `tile ${i + 1} of the highest, score ${number(tile.value)}`;
    image.style.borderColor = `rgb(${tile.colour.join(",")})`;
    button.append(image, made("span", "", number(tile.value)));
    button.addEventListener("click", () => {
      for (const other of strip.querySelectorAll("[aria-current]")) other.removeAttribute("aria-current");
      button.setAttribute("aria-current", "true");
      chosen(tile.box);
    });
    return button;
  });
  strip.replaceChildren(made("h2", "", `Highest ${spaced(state.method)}`), ...tiles);
}
