// What is drawn over the pixels: outlines, the tile that was chosen, and the scale bar.

const TRUTH = "#00e5ff";
const TISSUE = "#3ddc84";
const HALO = "rgba(10, 20, 30, 0.75)";
const NICE = [5, 2, 1];

// Rings [[x, y, x, y, …], …] in level-0 pixels as one path.
export function pathOf(rings) {
  const path = new Path2D();
  for (const ring of rings) {
    path.moveTo(ring[0], ring[1]);
    for (let i = 2; i < ring.length; i += 2) path.lineTo(ring[i], ring[i + 1]);
    path.closePath();
  }
  return path;
}

// Draw on a canvas over a viewer; `place` = {left, top, scale}: screen pixels of the slide's corner and of a level-0 pixel.
export function drawMarks(canvas, place, { truth, tissue, box }) {
  const ratio = window.devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const context = canvas.getContext("2d");
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.clearRect(0, 0, canvas.width, canvas.height);
  const scale = place.scale * ratio;
  context.setTransform(scale, 0, 0, scale, place.left * ratio, place.top * ratio);
  const stroke = (path, colour, px, dash = []) => {
    context.setLineDash(dash.map((part) => (part * ratio) / scale));
    context.strokeStyle = HALO;
    context.lineWidth = ((px + 2) * ratio) / scale;
    context.stroke(path);
    context.strokeStyle = colour;
    context.lineWidth = (px * ratio) / scale;
    context.stroke(path);
  };
  if (tissue) stroke(tissue, TISSUE, 1.5, [6, 5]);
  if (truth) stroke(truth, TRUTH, 2);
  if (box) {
    const around = new Path2D();
    around.rect(box[0], box[1], box[2] - box[0], box[3] - box[1]);
    stroke(around, "#ffffff", 2);
  }
}

// The longest of 1, 2, 5 × 10ⁿ µm that is at most `most` pixels long: [pixels, text].
export function scaleBar(umPerPx, most) {
  const longest = most * umPerPx;
  const power = 10 ** Math.floor(Math.log10(longest));
  const length = (NICE.find((n) => n * power <= longest) ?? 1) * power;
  const text = length >= 1000 ? `${length / 1000} mm` : `${Number(length.toPrecision(1))} µm`;
  return [length / umPerPx, text];
}
