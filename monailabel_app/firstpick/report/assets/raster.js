"use strict";
/* A map of very many studies is painted as one picture: a shape for each would keep the browser busy for minutes. */

const MOST_SHAPES = 10000;
const DOT = 3; // pixels
const REACH = 12; // pixels from which a study answers to the pointer
let painting = null; // points, styles and which are shown, where they are painted

/** Whether there are too many studies for shapes: then each is a small square. */
const isPainted = () => page.data.map.points.length > MOST_SHAPES;

/** Paint these points from now on, or none of them: then Plotly draws them. */
function takePainting(now) {
  const map = byId("map");
  painting = now;
  if (now) paint();
  else map.querySelector(":scope > canvas")?.remove();
}

/** Where a study lies, in pixels from the corner of the map; axes tell of a zoom while it is under way. */
function pixels() {
  const { xaxis, yaxis } = byId("map")._fullLayout;
  const scale = ({ range: [low, high], _offset, _length }, isUp) => (value) => {
    const part = (value - low) / (high - low);
    return _offset + _length * (isUp ? 1 - part : part);
  };
  return [scale(xaxis, false), scale(yaxis, true)];
}

function paint() {
  const map = byId("map");
  if (!painting || !map._fullLayout?.xaxis) return;
  const canvas = map.querySelector(":scope > canvas") ?? map.appendChild(make("canvas", { ariaHidden: "true" }));
  const { clientWidth, clientHeight } = map;
  canvas.width = clientWidth * devicePixelRatio;
  canvas.height = clientHeight * devicePixelRatio;
  const context = canvas.getContext("2d");
  context.scale(devicePixelRatio, devicePixelRatio);
  const [across, down] = pixels();
  const { points, styles, shown } = painting;
  for (const isFront of [false, true]) {
    context.globalAlpha = isFront ? 0.85 : 0.08;
    points.forEach((point, row) => {
      if (shown[row] !== isFront) return;
      context.fillStyle = styles[row].colour;
      context.fillRect(across(point.x) - DOT / 2, down(point.y) - DOT / 2, DOT, DOT);
    });
  }
}

/** The painted study under the pointer, or null. */
function paintedAt({ clientX, clientY }) {
  const { left, top } = byId("map").getBoundingClientRect();
  const [across, down] = pixels();
  let best = null;
  let least = REACH ** 2;
  painting.points.forEach((point, row) => {
    if (!painting.shown[row]) return;
    const away = (across(point.x) - clientX + left) ** 2 + (down(point.y) - clientY + top) ** 2;
    if (away < least) [best, least] = [point, away];
  });
  return best;
}

function listenToPainting() {
  const map = byId("map");
  let start = null;
  map.on("plotly_afterplot", paint);
  map.on("plotly_relayouting", paint);
  map.addEventListener("pointermove", (event) => {
    if (!painting || event.pointerType === "touch") return;
    const point = event.buttons ? null : paintedAt(event);
    if (point) showHover(point, event);
    else byId("hover").hidden = true;
  });
  map.addEventListener("pointerleave", () => { if (painting) byId("hover").hidden = true; });
  map.addEventListener("pointerdown", (event) => { start = event; }, true);
  addEventListener("pointerup", (event) => {
    const isClick = painting && start && Math.hypot(event.clientX - start.clientX, event.clientY - start.clientY) < 4;
    start = null;
    const point = isClick ? paintedAt(event) : null;
    if (!point) return;
    byId("hover").hidden = true;
    choose(point.study_id);
  }, true);
}
