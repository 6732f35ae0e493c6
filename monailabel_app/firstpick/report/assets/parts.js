"use strict";
/* What all of the page shares: state, colours, cards, lists and the panel of one study.
   Whatever comes from a study is set as text, never as markup. */

const COLOURS = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442"]; // Okabe and Ito
const SYMBOLS = ["circle", "square", "diamond", "triangle-up", "triangle-down", "cross", "star"];
const GLYPHS = {
  circle: "●", square: "■", diamond: "◆", "triangle-up": "▲", "triangle-down": "▼", cross: "✚", star: "★", x: "✖",
};
const STATUSES = {
  open: { colour: "#56b4e9", symbol: "circle" },
  reserved: { colour: "#e69f00", symbol: "diamond" },
  done: { colour: "#009e73", symbol: "square" },
  skipped: { colour: "#999999", symbol: "x" },
};

const AT_ONCE = 1000; // entries of a list: as many as the server sends unasked

const page = {
  data: null, // {status, proposal, map, made?, pictures?, series?, ...}: the server's answers, or the file's
  isLive: false,
  wantsToken: false, // whether the server lets in only who signs in
  rows: new Map(), // study id -> row of map.points
  picks: new Map(), // study id -> pick
  titles: new Map(), // study id -> what people read
  lists: new Map(), // failed, left_out and noted -> {items: studies as far as they are here, total}
  unfolded: new Map(), // title of a list -> how many of its entries are shown
  pictures: new Map(), // study id -> picture, in a file
  series: new Map(), // study id -> names of its series, the primary first, in a file
  seriesPictures: new Map(), // study id -> {name: picture} of its series, in a file
  lookalikes: new Map(), // study id -> rows of map.points, in a file
  chosen: null, // study id in the panel
  alike: [], // its look-alikes
  note: "", // what is to be known of it
  names: [], // of its series, if it is of several
  filter: { text: "", status: "", category: null },
  colourBy: "nearest_pick",
};

const byId = (id) => document.getElementById(id);

function make(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

const keepTitles = (items) => items.forEach((item) => page.titles.set(item.study_id, item.title));
const titleOf = (studyId) => page.titles.get(studyId) ?? studyId;

/** A title that may break after its separators. */
const broken = (title) => title.split(/(?<=[_\-/.])/).flatMap((part) => [part, make("wbr")]);

/** Say which study an element is about: its id as the tooltip and as the key for programs. */
function about(studyId, node) {
  node.title = studyId;
  node.dataset.study = studyId;
  return node;
}

const percent = (part) => `${Math.round(100 * part)} %`;
const duration = (seconds) => (seconds < 90 ? `${Math.round(seconds)} s` : seconds < 5400 ? `${Math.round(seconds / 60)} min`
  : `${(seconds / 3600).toFixed(1)} h`);
const count = (n, one, many = `${one}s`) => `${n.toLocaleString("en")} ${n === 1 ? one : many}`;

const addressOf = (studyId) => studyId.split("/").map(encodeURIComponent).join("/");

/** Where the picture of a study is, or that of one of its series. */
function picture(studyId, series = "") {
  if (page.isLive) return `thumbnail/${addressOf(studyId)}${series && `?series=${encodeURIComponent(series)}`}`;
  return series ? new Map(Object.entries(page.seriesPictures.get(studyId) ?? {})).get(series) : page.pictures.get(studyId);
}

function image(studyId, alt = "", series = "") {
  const source = picture(studyId, series);
  if (!source) return make("span", { className: "no-picture", textContent: "no picture" });
  const node = make("img", { alt });
  if (page.wantsToken) showFetched(node, source);
  else node.src = source;
  return node;
}

function glyph(symbol, colour) {
  const mark = make("span", { className: "glyph", textContent: GLYPHS[symbol] });
  mark.style.color = colour;
  mark.setAttribute("aria-hidden", "true");
  return mark;
}

/** The pictures of a study's series under their names; of a study that is not of several, nothing. */
function seriesPictures(studyId, names) {
  return names.map((name) => make("span", { className: "series" },
    image(studyId, "", name), make("span", { textContent: name })));
}

function statusMark(status, client = "", readBy = []) {
  const { symbol, colour } = STATUSES[status];
  const names = status === "done" && readBy.length ? readBy.join(", ") : client;
  let by = names && status !== "open" ? ` · ${names}` : "";
  if (status === "open" && readBy.length) by = ` · read by ${readBy.join(", ")}`;
  return make("span", { className: "status" }, glyph(symbol, colour), `${status}${by}`);
}

function isShown(point) {
  const { text, status } = page.filter;
  const names = [point.title, point.study_id];
  return (!status || point.status === status) && (!text || names.some((name) => name.toLowerCase().includes(text)));
}

/* -- the batch */

const cards = new Map();

function makeCard(studyId) {
  const card = make("li", {},
    about(studyId, make("button", { type: "button", className: "card", onclick: () => choose(studyId, { focus: true }) },
      make("span", { className: "picture" }, image(studyId), make("span", { className: "rank" })),
      make("span", { className: "all-series" }),
      make("span", { className: "name" }),
      make("span", { className: "state" }),
      make("span", { className: "reason" }))));
  cards.set(studyId, card);
  return card;
}

function drawSheet() {
  const { picks } = page.data.proposal;
  const wanted = picks.map((pick) => cards.get(pick.study_id) ?? makeCard(pick.study_id));
  const sheet = byId("sheet");
  if (wanted.length !== sheet.children.length || wanted.some((card, i) => card !== sheet.children[i])) {
    sheet.replaceChildren(...wanted);
  }
  picks.forEach((pick, i) => {
    const card = wanted[i];
    card.hidden = !isShown(pick);
    card.querySelector(".card").classList.toggle("is-chosen", pick.study_id === page.chosen);
    card.querySelector(".rank").textContent = pick.rank;
    card.querySelector(".name").replaceChildren(...broken(titleOf(pick.study_id)));
    card.querySelector(".state").replaceChildren(statusMark(pick.status, pick.client, pick.read_by));
    card.querySelector(".reason").textContent = pick.reason;
    const strip = card.querySelector(".all-series");
    const names = JSON.stringify(pick.series);
    if (strip.dataset.names !== names) strip.replaceChildren(...seriesPictures(pick.study_id, pick.series));
    strip.dataset.names = names;
  });
  byId("no-picks").hidden = wanted.some((card) => !card.hidden);
}

/** What each reader did; a file tells nothing of that. */
function drawReaders() {
  const readers = page.data.status.readers ?? [];
  byId("readers").hidden = !readers.length;
  byId("readers").replaceChildren(...readers.map((reader) => {
    const facts = [`${reader.n_done.toLocaleString("en")} done`];
    if (reader.n_skipped) facts.push(`${reader.n_skipped.toLocaleString("en")} skipped`);
    if (reader.seconds) facts.push(duration(reader.seconds));
    if (reader.studies.length) facts.push(`${reader.studies.length.toLocaleString("en")} in progress`);
    return make("li", {}, make("b", { textContent: reader.client }), ` ${facts.join(", ")}`);
  }));
}

/* -- what is listed */

function studyButton(studyId) {
  const text = { textContent: titleOf(studyId) };
  if (!page.rows.has(studyId)) return about(studyId, make("span", text));
  const link = { type: "button", className: "link", onclick: () => choose(studyId, { focus: true }) };
  return about(studyId, make("button", { ...text, ...link }));
}

function drawLists() {
  const { status, proposal } = page.data;
  const named = (name) => page.lists.get(name).items.map((item) => [item.study_id, [item.reason]]);
  const copies = proposal.duplicates.map((copy) => [copy.study_id, ["repeats ", studyButton(copy.duplicate_of)]]);
  const unclaimed = status.unclaimed_labels ?? [];
  const nobodys = ["Nobody knows who drew it: it counts for no reader."];
  const lists = [
    ...(unclaimed.length ? [["Labels of no reader", unclaimed.map((id) => [id, nobodys])]] : []),
    ["Could not be read", named("failed"), "failed"],
    ["Unusual: unlike most others", proposal.unusual.map((id) => [id, []])],
    ["Copies, counted once", copies],
    ["Left out", named("left_out"), "left_out"],
    ["Noted while reading", named("noted"), "noted"],
  ];
  const opened = new Set([...byId("lists").querySelectorAll("details[open]")].map((node) => node.dataset.title));
  byId("lists").replaceChildren(...lists.map(([title, rows, name]) => {
    const total = name ? page.lists.get(name).total : rows.length;
    const shown = rows.slice(0, page.unfolded.get(title) ?? AT_ONCE);
    const items = shown.map(([id, why]) => make("li", {}, studyButton(id), make("span", { className: "why" }, ...why)));
    const body = items.length ? make("ul", {}, ...items) : make("p", { className: "hint", textContent: "None." });
    const list = make("details", { open: opened.has(title) },
      make("summary", {}, `${title} `, make("b", { textContent: total.toLocaleString("en") })), body);
    if (total > shown.length) {
      const textContent = `Show more: ${(total - shown.length).toLocaleString("en")} are not shown`;
      list.append(make("button", { type: "button", className: "link", textContent,
        onclick: () => showMore(title, shown.length + AT_ONCE, name) }));
    }
    list.dataset.title = title;
    return list;
  }));
}

/** Show so many entries of a list; what the server has not sent yet is asked for. */
async function showMore(title, n, name) {
  const list = page.lists.get(name);
  if (list && list.items.length < Math.min(n, list.total)) {
    try {
      const more = await ask(`lists/${name}?offset=${list.items.length}&limit=${AT_ONCE}`);
      keepTitles(more.studies);
      list.items.push(...more.studies);
      list.total = more.total;
    } catch (error) {
      announce(error.message);
      return;
    }
  }
  page.unfolded.set(title, n);
  drawLists();
  [...byId("lists").children].find((node) => node.dataset.title === title).querySelector("summary").focus({ preventScroll: true });
}

/* -- one study */

let openedFrom = null;

async function choose(studyId, { focus = false } = {}) {
  if (focus && !byId("panel").contains(document.activeElement)) openedFrom = document.activeElement;
  page.chosen = studyId;
  showPanel(true);
  page.alike = [];
  page.names = page.picks.get(studyId)?.series ?? [];
  page.note = "";
  drawPanel();
  drawSheet();
  if (focus) byId("panel").focus();
  const nothing = (error) => {
    announce(error.message);
    return [];
  };
  const found = await Promise.all([lookalikesOf, seriesOf, noteOn].map((get) => get(studyId).catch(nothing)));
  if (page.chosen !== studyId) return;
  [page.alike, page.names, page.note] = found;
  drawPanel();
  drawChosen();
}

function showPanel(is) {
  if (byId("panel").hidden !== is) return;
  byId("panel").hidden = !is;
  document.body.classList.toggle("has-panel", is);
  for (const chart of ["map", "curve"]) Plotly.Plots.resize(chart); // there is more or less room for them
}

function closePanel() {
  page.chosen = null;
  page.alike = [];
  showPanel(false);
  drawSheet();
  drawChosen();
  openedFrom?.focus();
}

async function lookalikesOf(studyId) {
  const pick = page.picks.get(studyId);
  if (pick?.lookalikes.length) return pick.lookalikes;
  if (page.isLive) return (await ask(`lookalikes/${addressOf(studyId)}`)).lookalikes;
  return (page.lookalikes.get(studyId) ?? []).map((row) => page.data.map.points[row].study_id);
}

/** The names of a study's series; none where it is not of several. */
async function seriesOf(studyId) {
  const pick = page.picks.get(studyId);
  if (pick) return pick.series;
  if (!page.isLive) return page.series.get(studyId) ?? [];
  const names = (await ask(`series/${addressOf(studyId)}`)).map((one) => one.name);
  return names.length > 1 ? names : [];
}

/** What is to be known of a study; the server is asked only for what it did not send. */
async function noteOn(studyId) {
  const { items, total } = page.lists.get("noted");
  const here = items.find((item) => item.study_id === studyId)?.reason ?? "";
  if (here || items.length >= total) return here;
  return (await ask(`notes/${addressOf(studyId)}`)).join("; ");
}

function drawPanel() {
  const studyId = page.chosen;
  const point = page.data.map.points[page.rows.get(studyId)];
  const pick = page.picks.get(studyId);
  const facts = [];
  if (pick) facts.push(make("p", {}, make("b", { textContent: `Pick ${pick.rank}. ` }), pick.reason));
  else if (point?.nearest_pick) {
    const owner = page.data.proposal.picks.find((other) => other.rank === point.nearest_pick);
    facts.push(make("p", {}, `Most like pick ${owner.rank}, `, studyButton(owner.study_id), "."));
  }
  for (const [name, value] of [["Group", point?.group], ["Stratum", point?.stratum]]) {
    if (value) facts.push(make("p", { className: "hint", textContent: `${name}: ${value}` }));
  }
  if (page.note) facts.push(make("p", { className: "hint", textContent: page.note }));
  const others = page.alike.map((id) => make("li", {},
    about(id, make("button", { type: "button", className: "alike", onclick: () => choose(id, { focus: true }) },
      image(id), make("span", {}, ...broken(titleOf(id)))))));
  about(studyId, byId("panel-title")).replaceChildren(...broken(titleOf(studyId)));
  byId("panel-body").replaceChildren(
    make("div", { className: "picture" }, image(studyId, `Middle slice of ${titleOf(studyId)}`)),
    make("div", { className: "all-series" }, ...seriesPictures(studyId, page.names)),
    make("p", {}, statusMark(pick?.status ?? point?.status ?? "open", pick?.client, pick?.read_by)),
    ...facts,
    make("h3", { textContent: "Look-alikes", hidden: !others.length }),
    make("ul", { className: "alikes" }, ...others));
}

function announce(text) {
  byId("announcer").textContent = text;
}
