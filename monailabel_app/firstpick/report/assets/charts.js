"use strict";
/* The map and the curve, drawn by Plotly. No text of a study goes to Plotly, which would take tags in it for markup. */

const CONFIG = { displayModeBar: false, scrollZoom: true, responsive: true, doubleClick: false };
const OTHERS = { colour: "#999999", symbol: "circle", size: 6 };
const MAX_LEGEND = 24;
const isTouch = matchMedia("(pointer: coarse)");
let isWhole = true; // whether the map shows all, and not what somebody zoomed to

const colour = (name) => getComputedStyle(document.body).getPropertyValue(`--${name}`).trim();

function basicLayout() {
  return {
    autosize: true,
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { color: colour("ink"), family: "system-ui, sans-serif", size: 13 },
    showlegend: false,
  };
}

/* -- colours and shapes */

const QUARTERS = ["least sure quarter", "second quarter", "third quarter", "surest quarter"];

const COLOUR_BY = {
  nearest_pick: { label: "pick it is most like", name: (key) => `like pick ${key}` },
  status: { label: "status", name: (key) => key },
  group: { label: "group", name: (key) => key },
  stratum: { label: "stratum", name: (key) => key },
  unsure: { label: "what the labels leave unsure", name: (key) => QUARTERS[key - 1] },
};

function fillColourBy() {
  const known = Object.keys(COLOUR_BY).filter((key) => page.data.map.points.some((point) => point[key]));
  if (!known.includes(page.colourBy)) page.colourBy = known[0];
  byId("colour-by-label").textContent = isPainted() ? "Colour by" : "Colour and shape by";
  byId("colour-by").replaceChildren(...known.map((key) =>
    make("option", { value: key, textContent: COLOUR_BY[key].label, selected: key === page.colourBy })));
}

/** Each category with its colour and shape, which both differ among the first 49; the largest (or first) ones first. */
function categories() {
  const sizes = new Map();
  for (const point of page.data.map.points) {
    const key = point[page.colourBy] || "";
    sizes.set(key, (sizes.get(key) ?? 0) + 1);
  }
  const keys = [...sizes.keys()].filter((key) => key !== "");
  if (["nearest_pick", "unsure"].includes(page.colourBy)) keys.sort((a, b) => a - b);
  else keys.sort((a, b) => sizes.get(b) - sizes.get(a) || String(a).localeCompare(b));
  const styles = new Map();
  keys.forEach((key, k) => {
    const own = { colour: COLOURS[k % 7], symbol: SYMBOLS[(k + Math.floor(k / 7)) % 7], size: 8 };
    styles.set(key, page.colourBy === "status" ? { ...STATUSES[key], size: 8 } : k < 49 ? own : OTHERS);
  });
  if (sizes.has("")) styles.set("", OTHERS);
  return { sizes, styles };
}

function drawLegend({ sizes, styles }) {
  const entry = ([key, style]) => {
    const name = key === "" ? "not known" : COLOUR_BY[page.colourBy].name(key);
    const button = make("button", { type: "button", onclick: () => {
      page.filter.category = page.filter.category === key ? null : key;
      redraw();
    } }, glyph(isPainted() ? "square" : style.symbol, style.colour), `${name} (${sizes.get(key).toLocaleString("en")})`);
    button.setAttribute("aria-pressed", page.filter.category === key);
    return make("li", {}, button);
  };
  const all = [...styles];
  const more = all.length - MAX_LEGEND;
  byId("legend").replaceChildren(
    make("li", { className: "mark" }, make("span", { className: "ring" }), "picked, with its rank"),
    make("li", { className: "mark" }, make("span", { className: "frame" }), "labelled"),
    ...all.slice(0, MAX_LEGEND).map(entry),
    ...(more > 0 ? [make("li", { className: "hint", textContent: `and ${count(more, "other")}` })] : []));
}

/* -- the map */

function drawMap() {
  const { points } = page.data.map;
  const found = categories();
  drawLegend(found);
  const styles = points.map((point) => found.styles.get(point[page.colourBy] || ""));
  const shown = points.map((point) => isShown(point)
    && (page.filter.category === null || (point[page.colourBy] || "") === page.filter.category));
  const at = (chosen) => ({ x: chosen.map((point) => point.x), y: chosen.map((point) => point.y) });
  const overlay = (chosen, rest) => ({ ...at(chosen), type: "scatter", mode: "markers", hoverinfo: "skip", ...rest });
  const picked = points.filter((point) => point.rank);
  const ink = colour("ink");
  const dense = points.length > 1000;
  const isRaster = isPainted();
  const traces = [
    isRaster ? overlay([], {}) : overlay(points, { hoverinfo: "none", marker: {
      color: styles.map((style) => style.colour),
      symbol: styles.map((style) => style.symbol),
      size: styles.map((style) => (dense ? style.size - 2 : style.size)),
      opacity: shown.map((is) => (is ? 0.85 : 0.08)),
      line: { width: dense ? 0.3 : 0.6, color: colour("soft") },
    } }),
    overlay([], { mode: "lines", line: { color: ink, width: 1, dash: "dot" } }),
    overlay(points.filter((point) => point.status === "done"),
      { marker: { symbol: "square-open", size: 14, color: ink, line: { width: 1.5 } } }),
    overlay(picked, {
      mode: "markers+text",
      marker: { symbol: "circle-open", size: 17, color: ink, line: { width: 2 } },
      text: picked.map((point) => `${point.rank}`),
      textposition: "top right",
      textfont: { size: 13, color: ink, weight: 700 },
    }),
    overlay([], { marker: { symbol: "circle-open", size: 26, color: colour("accent"), line: { width: 4 } } }),
  ]; // drawChosen fills two of them
  const axis = { showgrid: false, zeroline: false, showticklabels: false, ticks: "" };
  const { xaxis, yaxis } = isWhole ? {} : byId("map").layout;
  const layout = { ...basicLayout(), margin: { l: 1, r: 1, t: 1, b: 1 }, 
    xaxis: { ...axis, range: xaxis?.range ?? wholeRange("x") }, yaxis: { ...axis, range: yaxis?.range ?? wholeRange("y") },
    hovermode: "closest", hoverdistance: isTouch.matches ? 30 : 12,
    dragmode: isTouch.matches && isWhole ? false : "pan" }; // an untouched map lets a finger scroll the page
  Plotly.react("map", traces, layout, CONFIG);
  takePainting(isRaster ? { points, styles, shown } : null);
  if (page.chosen !== null) drawChosen();
}

/** Ring the chosen study and tie it to its look-alikes. */
function drawChosen() {
  const pointOf = (studyId) => page.data.map.points[page.rows.get(studyId)];
  const chosen = pointOf(page.chosen);
  const others = chosen ? page.alike.map(pointOf).filter(Boolean) : [];
  const ends = (axis) => [others.flatMap((other) => [chosen[axis], other[axis], null]), chosen ? [chosen[axis]] : []];
  return Plotly.restyle("map", { x: ends("x"), y: ends("y") }, [1, 4]);
}

/** From the lowest to the highest place, with room for the marks. */
function wholeRange(axis) {
  let [low, high] = [Infinity, -Infinity];
  for (const point of page.data.map.points) {
    low = Math.min(low, point[axis]);
    high = Math.max(high, point[axis]);
  }
  const room = 0.06 * (high - low) || 1;
  return [low - room, high + room];
}

function zoom(factor) {
  const { xaxis, yaxis } = byId("map").layout;
  const around = ([low, high]) => [0, 1].map((end) => (low + high) / 2 + (end - 0.5) * (high - low) * factor);
  Plotly.relayout("map", { "xaxis.range": around(xaxis.range), "yaxis.range": around(yaxis.range) });
}

async function showAll() {
  await Plotly.relayout("map", { "xaxis.range": wholeRange("x"), "yaxis.range": wholeRange("y") });
  isWhole = true;
  drawMap();
}

/** The study nearest to the chosen one in a direction; sideways counts double. */
function neighbour(stepX, stepY) {
  const { points } = page.data.map;
  const from = points[page.rows.get(page.chosen)];
  if (!from) return page.data.proposal.picks[0]?.study_id ?? points[0].study_id;
  const { xaxis, yaxis } = byId("map").layout;
  let best = null;
  let least = Infinity;
  for (const point of points) {
    const right = (point.x - from.x) / Math.abs(xaxis.range[1] - xaxis.range[0]);
    const up = (point.y - from.y) / Math.abs(yaxis.range[1] - yaxis.range[0]);
    const ahead = right * stepX + up * stepY;
    const aside = Math.abs(right * stepY) + Math.abs(up * stepX);
    if (isShown(point) && ahead > 0 && ahead >= aside && ahead + 2 * aside < least) {
      best = point;
      least = ahead + 2 * aside;
    }
  }
  return best?.study_id ?? null;
}

function onMapKey(event) {
  const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  if (step) {
    const next = neighbour(...step);
    if (next !== null) {
      choose(next);
      const { status, rank } = page.data.map.points[page.rows.get(next)] ?? {};
      announce(`${titleOf(next)}, ${rank ? `pick ${rank}, ` : ""}${status}`);
    }
  } else if (event.key === "Enter" && page.chosen !== null) choose(page.chosen, { focus: true });
  else if (event.key === "+" || event.key === "=") zoom(1 / 1.5);
  else if (event.key === "-") zoom(1.5);
  else if (event.key === "0") showAll();
  else return;
  event.preventDefault();
}

function showHover(point, event) {
  const rank = point.rank ? `Pick ${point.rank} · ` : "";
  const hover = byId("hover");
  hover.replaceChildren(image(point.study_id), make("b", { textContent: point.title }),
    make("span", {}, rank, statusMark(point.status)));
  hover.hidden = false;
  const x = Math.min(event.clientX + 16, innerWidth - hover.offsetWidth - 8);
  const y = Math.min(event.clientY + 16, innerHeight - hover.offsetHeight - 8);
  hover.style.transform = `translate(${Math.max(x, 8)}px, ${Math.max(y, 8)}px)`;
}

function listenToMap() {
  const map = byId("map");
  map.on("plotly_hover", ({ points: [hit], event }) => showHover(page.data.map.points[hit.pointIndex], event));
  map.on("plotly_unhover", () => { byId("hover").hidden = true; });
  map.on("plotly_click", ({ points: [hit] }) => {
    byId("hover").hidden = true;
    choose(page.data.map.points[hit.pointIndex].study_id);
  });
  map.on("plotly_relayout", (change) => {
    const wasWhole = isWhole;
    isWhole &&= !Object.keys(change).some((key) => key.includes("axis"));
    if (wasWhole && !isWhole && isTouch.matches) drawMap(); // now a finger moves the map
  });
  map.on("plotly_doubleclick", showAll);
  map.addEventListener("keydown", onMapKey);
  listenToPainting();
}

/* -- the curve */

function drawCurve() {
  const { proposal } = page.data;
  const curve = [proposal.covered_before, ...proposal.coverage];
  const size = proposal.outlook?.suggested_batch_size;
  const ink = colour("ink");
  const traces = [
    { x: curve.map((_, i) => i), y: curve, type: "scatter", mode: curve.length > 40 ? "lines" : "lines+markers",
      line: { color: colour("accent"), width: 3 }, marker: { size: 7 }, hovertemplate: "%{x} picks: %{y:.0%}<extra></extra>" },
  ];
  const layout = { ...basicLayout(), margin: { l: 52, r: 16, t: 28, b: 44 }, dragmode: false,
    xaxis: { title: { text: "picks annotated" }, rangemode: "tozero", gridcolor: colour("line"), zeroline: false,
      dtick: curve.length <= 12 ? 1 : undefined },
    yaxis: { title: { text: "covered" }, range: [0, 1.04], tickformat: ".0%", gridcolor: colour("line"), zeroline: false },
    shapes: [], annotations: [] };
  if (size < curve.length) {
    const isRight = size > curve.length / 2;
    traces.push({ x: [size], y: [curve[size]], type: "scatter", mode: "markers", hoverinfo: "skip",
      marker: { symbol: "diamond", size: 15, color: "#d55e00", line: { color: ink, width: 1.5 } } });
    layout.shapes.push({ type: "line", x0: size, x1: size, y0: 0, y1: 1, yref: "paper",
      line: { color: "#d55e00", width: 2, dash: "dash" } });
    layout.annotations.push({ x: size, y: 1, yref: "paper", yanchor: "bottom", xanchor: isRight ? "right" : "left",
      text: `suggested batch size: ${size}`, showarrow: false, font: { color: ink } });
  }
  byId("curve-text").textContent = curveText(proposal, curve);
  return Plotly.react("curve", traces, layout, { displayModeBar: false, responsive: true });
}

function curveText(proposal, curve) {
  const n = proposal.picks.length;
  const end = `With what is labelled, ${count(n, "pick")} cover ${percent(curve[n])} of the pool.`;
  const { advice, outlook } = proposal;
  const hint = outlook ? ` ${outlook.text}` : "";
  const chance = advice ? ` In common with this batch: other seeds ${percent(advice.jaccard_seeds)}, bootstrap samples of `
    + `the pool ${percent(advice.jaccard_bootstrap)}, random batches ${percent(advice.jaccard_chance)}.` : "";
  return `${end}${hint}${chance}`;
}

/* -- paper */

function drawForPaper(is) {
  document.body.classList.toggle("is-printing", is);
  if (!page.data?.map) return;
  drawMap();
  drawCurve();
  const size = is ? { width: 680, height: 420 } : { width: undefined, height: undefined, autosize: true };
  Plotly.relayout("map", size);
  Plotly.relayout("curve", is ? { ...size, height: 300 } : size);
}
