
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const PAGE = 100;

  // include shared.js

  // ---- details of a row
  function table(heads, rows) {
    const head = el("tr", {}, ...heads.map((h) => el("th", { scope: "col" }, h)));
    const body = rows.map((r) => el("tr", {}, ...r.map((c) => el("td", {}, c))));
    return el("div", { class: "inner" }, el("table", {}, el("thead", {}, head), el("tbody", {}, ...body)));
  }
  function part(title, ...content) {
    return el("section", {}, el("h4", {}, title), ...content);
  }
  function pairs(entries) {
    return el("dl", {}, ...entries.flatMap(([k, v]) => [el("dt", {}, k), el("dd", {}, v)]));
  }
  const CAPTIONS = { samples: "samples", reconstructions: "images with their reconstructions below",
    interpolations: "interpolations", neighbors: "samples with their nearest training images below",
    class_samples: "samples by class" };
  function picture(name, [width, height, png]) {
    const part = width > 400 ? 2 : 1; // half the pixels: sharp on high-density screens, even lines on others
    const size = { width: Math.round(width / part), height: Math.round(height / part) };
    const image = el("img", { src: "data:image/png;base64," + png, ...size, alt: CAPTIONS[name] || name });
    return el("figure", {}, el("figcaption", {}, CAPTIONS[name] || name), image);
  }
  function curve(c, seeds) {
    const svg = el("svg", { viewBox: "0 0 200 80", role: "img", "aria-label": c.name + " while training" });
    svg.append(el("path", { class: "frame", d: "M0 0V80H200" }));
    for (const [seed, d] of c.paths) svg.append(el("path", { class: "c" + (seeds.indexOf(seed) % 5), d }));
    return el("figure", {}, el("figcaption", {}, c.name + (c.log ? " (log)" : "")),
      el("div", { class: "range" }, el("span", {}, c.high)), svg,
      el("div", { class: "range" }, el("span", {}, c.low), el("span", {}, c.images + " images")));
  }
  function game(turns) {
    return turns.map((t) => {
      const rows = t.rows.map((r) => [r.networks.join(", "),
        ...t.terms.map((term) => (Object.hasOwn(r.weights, term) ? String(r.weights[term]).replace("-", "−") : "·"))]);
      const title = turns.length > 1 || t.notes.length ? el("p", {}, ["turn " + t.turn, ...t.notes].join(", ")) : null;
      return el("div", {}, ...(title ? [title] : []), table(["", ...t.terms], rows));
    });
  }
  function panel(g, i) {
    const box = el("div", { class: "panel" });
    const found = (data.rows[g] || [])[i];
    if (!found) {
      box.append(el("p", {}, "The details of this row are omitted to keep the page small; --format json has them."));
      return box;
    }
    const card = found.k === null ? null : data.cards[found.k];
    if (card && (card.summary || card.paper)) {
      box.append(el("section", { class: "wide" }, el("p", {}, card.summary), el("p", { class: "meta" }, card.paper)));
    }
    if (found.p) {
      const figures = Object.keys(CAPTIONS).filter((name) => found.p[name]).map((name) => picture(name, found.p[name]));
      const title = "Images of seed " + found.d + ", the median by score";
      const section = part(title, el("div", { class: "pictures" }, ...figures));
      section.className = "wide";
      box.append(section);
    } else if (found.n) {
      box.append(el("p", { class: "wide note" }, "The images and curves of this row are omitted to keep the page small."));
    }
    if (found.v && found.v.length) {
      const seeds = [...new Set(found.v.flatMap((c) => c.paths.map(([s]) => s)))];
      const keys = seeds.map((s, k) => el("span", { class: "k" + (k % 5) }, "seed " + s));
      const section = part("Training curves of " + (seeds.length === 1 ? "one seed" : "all seeds"), el("p", { class: "keys" }, ...keys),
        el("div", { class: "curves" }, ...found.v.map((c) => curve(c, seeds))));
      section.className = "wide";
      box.append(section);
    }
    const metrics = found.m.map(([k, text, sd, n]) => [data.groups[g].metrics[k], text, sd, String(n)]);
    box.append(part("Scores", table(["score", "mean ± 95 %", "sd", "seeds"], metrics)));
    const lost = found.f.map(([seed, kind, reason]) => [String(seed), kind, "", "", "", reason]);
    const heads = ["seed", "score", "smallest class", "training, s", "finished", ""];
    const all = [...found.s.map((s) => [...s.map(String), ""]), ...lost];
    if (!lost.length) { heads.pop(); for (const r of all) r.pop(); }
    box.append(part("Seeds", table(heads, all)));
    if (card && card.game.length) box.append(part("Game", ...game(card.game)));
    if (found.o.length) box.append(part("Options", pairs(found.o)));
    box.append(part("Cost", pairs(found.c)));
    if (card && Object.keys(card.deviations).length) {
      box.append(part("Deviations from the paper", pairs(Object.entries(card.deviations))));
    }
    if (found.x) {
      const code = el("code", {}, found.x);
      const section = part("Command that repeats the run (seed " + found.d + ")", el("div", { class: "command" }, code, copyButton(code)));
      section.className = "wide";
      box.append(section);
    }
    return box;
  }

  // ---- tables
  function numberOf(text) {
    const found = text.replaceAll(",", "").replace("−", "-").match(/-?\d+(?:\.\d+)?(?:e[-+]?\d+)?/);
    return found ? Number(found[0]) : NaN;
  }
  const boards = [...document.querySelectorAll("article")].map((article) => {
    const body = article.querySelector("tbody:not(.floor)");
    const more = article.querySelector(".more");
    const heads = [...article.querySelectorAll("thead th")];
    const g = Number(article.dataset.g);
    let rows = [...body.rows];
    const words = new Map(rows.map((r) => [r, r.cells[1].textContent.toLowerCase()]));
    const byIndex = new Map(rows.map((r) => [Number(r.dataset.i), r]));
    const opened = new Map();
    let limit = PAGE;
    let query = [];
    const none = el("tr", { class: "none" }, el("td", { colspan: heads.length }, "No row matches the filter."));

    function show() {
      let matching = 0;
      for (const row of rows) {
        const fits = query.every((q) => words.get(row).includes(q));
        matching += fits;
        row.hidden = !fits || matching > limit;
        const detail = opened.get(row);
        if (detail) detail.hidden = row.hidden;
      }
      none.remove();
      if (!matching) body.append(none);
      const rest = matching - limit;
      more.hidden = rest <= 0;
      more.querySelector("span").textContent = rest > 0 ? rest.toLocaleString("en") + " more" : "";
      return matching;
    }
    function toggle(row, open = !opened.has(row)) {
      const button = row.querySelector("button");
      if (open && !opened.has(row)) {
        const detail = el("tr", { class: "detail" }, el("td", { colspan: heads.length }, panel(g, Number(row.dataset.i))));
        opened.set(row, detail);
        row.after(detail);
      } else if (!open && opened.has(row)) {
        opened.get(row).remove();
        opened.delete(row);
      }
      row.classList.toggle("open", open);
      button.setAttribute("aria-expanded", String(open));
    }
    function sort(column) {
      const head = heads[column];
      const before = head.getAttribute("aria-sort");
      const first = head.firstChild.dataset.better === "higher" ? "descending" : "ascending";
      const order = before === null ? first : before === "ascending" ? "descending" : "ascending";
      for (const h of heads) h.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", order);
      const sign = order === "ascending" ? 1 : -1;
      const text = head.classList.contains("text");
      const keys = new Map(rows.map((r) => [r, text ? r.cells[column].textContent.toLowerCase() : numberOf(r.cells[column].textContent)]));
      rows.sort((a, b) => {
        const x = keys.get(a), y = keys.get(b);
        if (text) return sign * (x < y ? -1 : x > y ? 1 : 0);
        if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y);
        return sign * (x - y);
      });
      const sheet = document.createDocumentFragment();
      for (const row of rows) {
        sheet.append(row);
        if (opened.has(row)) sheet.append(opened.get(row));
      }
      body.append(sheet);
      show();
    }
    heads.forEach((head, column) => head.firstChild.addEventListener("click", () => sort(column)));
    body.addEventListener("click", (event) => {
      const row = event.target.closest("tr[data-i]");
      if (row && row.parentNode === body && !String(getSelection())) toggle(row);
    });
    more.querySelector("button").addEventListener("click", () => { limit += 5 * PAGE; show(); });
    for (const row of rows.slice(0, PAGE)) row.querySelector("button").setAttribute("aria-expanded", "false");

    const output = article.querySelector(".plot output");
    for (const point of article.querySelectorAll(".pt")) {
      const on = () => {
        for (const other of article.querySelectorAll(".pt.on")) other.classList.remove("on");
        point.classList.add("on");
        output.textContent = point.dataset.t;
      };
      point.addEventListener("pointerenter", on);
      point.addEventListener("click", on);
    }
    show();
    return { article, byIndex, filter(text) { query = text; limit = PAGE; return show(); } };
  });

  // ---- filters
  const filter = document.getElementById("filter");
  const dataset = document.getElementById("dataset");
  function apply() {
    const query = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const board of boards) board.filter(query);
  }
  let waiting = 0;
  filter.addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(apply, 80); });
  if (dataset) {
    dataset.addEventListener("change", () => {
      for (const set of document.querySelectorAll(".set")) set.hidden = dataset.value !== "" && set.dataset.set !== dataset.value;
    });
  }
  // A link to a closed part of the page opens it.
  function openTarget() {
    const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    const closed = target && target.closest("details");
    if (closed) { closed.open = true; target.scrollIntoView(); }
  }
  addEventListener("hashchange", openTarget);
  openTarget();
})();
