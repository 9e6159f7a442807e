// Drawings over the slide: outlines, the selected tile, and the scale bar.

const TRUTH = "#00e5ff";
const TISSUE = "#3ddc84";
const HALO = "rgba(10, 20, 30, 0.75)";
const NICE = [5, 2, 1];

// Convert rings [[x, y, x, y, …], …] in level-0 pixels to one path.
export function pathOf(rings) {
  const path = new Path2D();
  for (const ring of rings) {
    path.moveTo(ring[0], ring[1]);
    for (let i = 2; i < ring.length; i += 2) path.lineTo(ring[i], ring[i + 1]);
    path.closePath();
  }
  return path;
}

// Draw on the canvas over a viewer; `transform` = {left, top, scale}: the slide's corner on the screen, and screen pixels per
// level-0 pixel.
export function drawMarks(canvas, transform, { truth, tissue, box }) {
  const ratio = window.devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const context = canvas.getContext("2d");
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.clearRect(0, 0, canvas.width, canvas.height);
  const scale = transform.scale * ratio;
  context.setTransform(scale, 0, 0, scale, transform.left * ratio, transform.top * ratio);
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
    const outline = new Path2D();
    outline.rect(box[0], box[1], box[2] - box[0], box[3] - box[1]);
    stroke(outline, "#ffffff", 2);
  }
}

// Scale bar of the largest length 1, 2 or 5 × 10ⁿ µm that takes at most `maxPx` pixels: [pixels, text].
export function scaleBar(umPerPx, maxPx) {
  const longest = maxPx * umPerPx;
  const power = 10 ** Math.floor(Math.log10(longest));
  const length = (NICE.find((n) => n * power <= longest) ?? 1) * power;
  const text = length >= 1000 ? `${length / 1000} mm` : `${Number(length.toPrecision(1))} µm`;
  return [length / umPerPx, text];
}
