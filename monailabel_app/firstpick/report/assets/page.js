"use strict";
/* Where the data come from: this file, or the server, which is asked again every few seconds. */

const REFRESH_MS = 2000;
let drawn = "";

let token = ""; // of who signed in: nowhere but in the memory of this page

async function fetched(path) {
  const answer = await fetch(path, { cache: "no-store", headers: token ? { Authorization: `Bearer ${token}` } : {} });
  if (answer.ok) return answer;
  if (answer.status === 401) {
    byId("sign-in").hidden = false;
    if (!token) throw new Error("This server wants to know who asks. Sign in.");
  }
  throw new Error(await refusalOf(answer));
}

async function refusalOf(answer) {
  const text = await answer.json().then((body) => body.detail, () => "");
  return typeof text === "string" && text ? text : `The server answered ${answer.status}.`;
}

const ask = async (path) => (await fetched(path)).json();

const pictures = new Map(); // path -> promise of the address of its bytes

/** Show a picture for which the server wants a token: an address alone does not carry one. */
async function showFetched(node, path) {
  if (!pictures.has(path)) {
    pictures.set(path, fetched(path).then((answer) => answer.blob()).then((bytes) => URL.createObjectURL(bytes)));
  }
  try {
    node.src = await pictures.get(path);
  } catch {
    pictures.delete(path);
  }
}

async function signIn(event) {
  event.preventDefault();
  const form = event.target;
  try {
    const answer = await fetch("../auth/token", { method: "POST", body: new URLSearchParams(new FormData(form)) });
    if (!answer.ok) throw new Error(await refusalOf(answer));
    token = (await answer.json()).access_token;
  } catch (error) {
    showState(error instanceof TypeError ? "The server does not answer. Try again." : error.message);
    return;
  }
  page.wantsToken = true;
  form.hidden = true;
  form.reset();
  await refresh();
}

/* -- drawing */

/** How many studies failed, were left out and have notes: a file holds them all, the server sends the first. */
const totals = ({ progress, failed, left_out: leftOut, notes, n_noted: nNoted }) => [
  progress?.failed ?? failed.length, progress?.left_out ?? leftOut.length, nNoted ?? Object.keys(notes).length,
];

function takeLists(status) {
  const noted = Object.entries(status.notes).map(([id, notes]) =>
    ({ study_id: id, title: titleOf(id), reason: notes.join("; ") }));
  noted.sort((a, b) => a.title.localeCompare(b.title));
  const lists = { failed: status.failed, left_out: status.left_out, noted };
  Object.entries(lists).forEach(([name, items], k) => {
    const [former, total] = [page.lists.get(name), totals(status)[k]];
    const isKept = former?.total === total && former.items.length > items.length; // somebody asked for more
    page.lists.set(name, isKept ? former : { items, total });
    keepTitles(page.lists.get(name).items);
  });
}

function take(data) {
  const before = page.picks;
  page.data = data;
  page.rows = new Map(data.map.points.map((point, row) => [point.study_id, row]));
  page.picks = new Map(data.proposal.picks.map((pick) => [pick.study_id, pick]));
  page.titles = new Map();
  [data.proposal.picks, data.map.points].forEach(keepTitles);
  takeLists(data.status);
  // A study may be called constructor, which every plain object has.
  page.pictures = new Map(Object.entries(data.pictures ?? {}));
  page.lookalikes = new Map(Object.entries(data.lookalikes ?? {}));
  page.series = new Map(Object.entries(data.series ?? {}));
  page.seriesPictures = new Map(Object.entries(data.series_pictures ?? {}));
  const news = [...page.picks.values()].filter((pick) =>
    before.has(pick.study_id) && before.get(pick.study_id).status !== pick.status);
  if (news.length) announce(news.map((pick) => `${titleOf(pick.study_id)} is now ${pick.status}`).join("; "));
}

function drawAll() {
  const isFirst = byId("content").hidden;
  byId("content").hidden = false;
  drawSummary();
  fillColourBy();
  drawStatusButtons();
  drawSheet();
  drawReaders();
  drawMap();
  if (isFirst) listenToMap();
  drawCurve();
  drawLists();
  drawFound();
  if (page.chosen !== null) choose(page.chosen);
}

function redraw() {
  drawStatusButtons();
  drawSheet();
  drawMap();
  drawFound();
}

function drawSummary() {
  const { status, proposal } = page.data;
  const n = proposal.picks.length;
  const chosenBy = proposal.provenance.strategy;
  const some = `${n} of ${count(proposal.n_pool, "study", "studies")}`;
  const round = proposal.round;
  const facts = [
    round > 1 ? `Round ${round}, chosen by ${chosenBy}: ${some} on ${proposal.encoder}`
      : `${some} by ${chosenBy} on ${proposal.encoder}`,
    `${status.n_labelled.toLocaleString("en")} labelled`,
    `${percent(n ? proposal.coverage[n - 1] : proposal.covered_before)} of the pool covered`,
  ];
  byId("summary").textContent = `${facts.join(" · ")}. ${proposal.note}`;
  byId("made").textContent = page.data.made ? `Made ${page.data.made} by FirstPick ${status.version}.`
    : `FirstPick ${status.version}.`;
  const nPictures = page.data.pictures ? page.pictures.size : Infinity;
  const nPoints = page.data.map.points.length;
  byId("map-bound").textContent = nPictures < nPoints
    ? `This file holds pictures of ${nPictures.toLocaleString("en")} of the ${nPoints.toLocaleString("en")} studies.` : "";
}

function drawStatusButtons() {
  const { points } = page.data.map;
  const buttons = ["", ...Object.keys(STATUSES)].map((name) => {
    const n = name ? points.filter((point) => point.status === name).length : points.length;
    const mark = name ? [glyph(STATUSES[name].symbol, STATUSES[name].colour)] : [];
    const button = make("button", { type: "button", onclick: () => {
      page.filter.status = name;
      redraw();
      byId("statuses").querySelector("[aria-pressed=true]").focus();
    } }, ...mark, `${name || "all"} (${n.toLocaleString("en")})`);
    button.setAttribute("aria-pressed", page.filter.status === name);
    return button;
  });
  byId("statuses").replaceChildren(...buttons);
}

function drawFound() {
  const { text, status } = page.filter;
  const n = page.data.map.points.filter(isShown).length;
  byId("found").textContent = text || status ? `${count(n, "study", "studies")} found` : "";
}

/* -- the server's answers */

function showState(text, progress = null) {
  byId("state").textContent = text;
  byId("progress").hidden = !progress?.total;
  if (progress?.total) byId("progress").value = (progress.done + progress.failed) / progress.total;
}

/** What, when it changes, changes the page. */
const essence = (status, proposal) => JSON.stringify([
  proposal.provenance, proposal.round, proposal.picks.map((pick) => [pick.study_id, pick.status, pick.client, pick.read_by, pick.series]),
  status.n_labelled, status.n_skipped, status.n_pool, totals(status),
  status.readers.map((reader) => ({ ...reader, studies: reader.studies.map((held) => held.study_id) })),
  status.unclaimed_labels,
]);

async function refresh() {
  try {
    const status = await ask("status");
    const notice = byId("notice");
    if (notice.textContent !== status.notice) notice.textContent = status.notice; // read aloud once
    notice.hidden = !status.notice;
    if (status.state !== "ready") {
      showState(status.message, status.progress);
      return;
    }
    const proposal = await ask("proposal");
    const now = essence(status, proposal);
    if (now !== drawn) {
      take({ status, proposal, map: await ask("map") });
      drawAll();
      drawn = now;
    }
    showState("Live: statuses change here as readers work.");
  } catch (error) {
    const isAway = error instanceof TypeError;
    showState(isAway ? "The server does not answer. Trying again; what is shown may be old." : error.message);
  }
}

async function keepFresh() {
  if (byId("sign-in").hidden && (!document.hidden || !drawn)) await refresh();
  setTimeout(keepFresh, REFRESH_MS);
}

/* -- start */

byId("find").addEventListener("input", (event) => {
  page.filter.text = event.target.value.trim().toLowerCase();
  redraw();
});
byId("colour-by").addEventListener("change", (event) => {
  page.colourBy = event.target.value;
  page.filter.category = null;
  redraw();
});
byId("zoom-in").addEventListener("click", () => zoom(1 / 1.5));
byId("zoom-out").addEventListener("click", () => zoom(1.5));
byId("zoom-reset").addEventListener("click", showAll);
byId("sign-in").addEventListener("submit", signIn);
byId("panel-close").addEventListener("click", closePanel);
addEventListener("keydown", (event) => {
  if (event.key === "Escape" && page.chosen !== null) closePanel();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => page.data && drawForPaper(false));
addEventListener("beforeprint", () => drawForPaper(true));
addEventListener("afterprint", () => drawForPaper(false));

const carried = byId("data");
if (carried) {
  take(JSON.parse(carried.textContent));
  drawAll();
} else {
  page.isLive = true;
  showState("Asking the server …");
  keepFresh();
}
