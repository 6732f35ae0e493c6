"use strict";
/* What the labels so far teach: part of the page of a server that drafts masks, and of no other. */

const DRAFTS_MS = 5000;
let shownDrafts = "";

function makeDraftsSection() {
  const section = make("section", { id: "drafts" },
    make("h2", { id: "drafts-title", textContent: "Drafts" }),
    make("p", { id: "drafts-text" }),
    make("p", { id: "drafts-round" }),
    make("p", { id: "drafts-stop" }, make("b")),
    make("ul", { id: "drafts-warnings" }),
    make("div", { id: "corrections" }),
    make("p", { id: "corrections-text", className: "hint" }));
  section.setAttribute("aria-labelledby", "drafts-title");
  const picture = section.querySelector("#corrections");
  picture.setAttribute("role", "img");
  picture.setAttribute("aria-labelledby", "corrections-text");
  byId("lists-title").closest("section").before(section);
}

const minutesOf = (seconds) => (seconds ? `, ${(seconds / 60).toFixed(1)} min` : "");

function drawCorrections(corrections) {
  const picture = byId("corrections");
  picture.hidden = !corrections.length;
  byId("corrections-text").textContent = corrections.length
    ? `How alike draft and final label were in ${count(corrections.length, "study", "studies")} that had a draft, `
      + "the newest last; hollow where nobody had fetched it."
    : "No study that had a draft was submitted yet.";
  if (!corrections.length) return;
  const trace = { x: corrections.map((_, i) => i + 1), y: corrections.map((one) => one.dice), type: "scatter",
    mode: "lines+markers", line: { color: colour("accent"), width: 3 },
    marker: { size: 9, symbol: corrections.map((one) => (one.is_taken ? "circle" : "circle-open")) },
    text: corrections.map((one) => `${one.title.replaceAll("<", "&lt;")}${minutesOf(one.seconds)}`),
    hovertemplate: "%{text}: Dice %{y:.2f}<extra></extra>" };
  const layout = { ...basicLayout(), margin: { l: 52, r: 16, t: 16, b: 44 }, dragmode: false,
    xaxis: { title: { text: "labels" }, gridcolor: colour("line"), zeroline: false,
      dtick: corrections.length <= 12 ? 1 : undefined },
    yaxis: { title: { text: "Dice" }, range: [0, 1.04], gridcolor: colour("line"), zeroline: false } };
  Plotly.react(picture, [trace], layout, { displayModeBar: false, responsive: true });
}

function drawDrafts(drafts) {
  if (!byId("drafts")) makeDraftsSection();
  byId("drafts-text").textContent = drafts.message;
  byId("drafts-round").hidden = !drafts.next_round;
  if (byId("drafts-round").textContent !== drafts.next_round) drawn = ""; // the map may show something else now
  byId("drafts-round").textContent = drafts.next_round;
  byId("drafts-stop").hidden = !drafts.stop;
  byId("drafts-stop").firstChild.textContent = drafts.stop;
  byId("drafts-warnings").replaceChildren(...drafts.warnings.map(({ title, sentence }) =>
    make("li", {}, make("b", { textContent: title }), `: ${sentence}`)));
  drawCorrections(drafts.corrections);
}

async function keepDraftsFresh() {
  if (!byId("content").hidden && !document.hidden) {
    try {
      const drafts = await ask("drafts");
      const now = JSON.stringify(drafts);
      if (now !== shownDrafts) drawDrafts(drafts);
      shownDrafts = now;
    } catch {
      shownDrafts = ""; // what keeps the server from answering is said above
    }
  }
  setTimeout(keepDraftsFresh, byId("drafts") ? DRAFTS_MS : REFRESH_MS / 4);
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { shownDrafts = ""; });
keepDraftsFresh();
