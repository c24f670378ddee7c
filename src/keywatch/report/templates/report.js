"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const cases = [...document.querySelectorAll("details.case")];
  const rows = [...document.querySelectorAll("#glance tbody tr")];
  document.getElementById("needs-script")?.remove();
  const said = document.getElementById("said");

  // ---- charts: drawn when their case is opened, again when the theme changes

  function unpacked(columns) {
    const names = Object.keys(columns);
    const values = names.map((name) => {
      const column = columns[name];
      return column.texts ? column.at.map((number) => column.texts[number]) : column;
    });
    return (values[0] || []).map((_, row) => Object.fromEntries(names.map((name, at) => [name, values[at][row]])));
  }

  async function draw(place, theme) {
    const box = place.closest("details.case");
    const kind = place.dataset.chart;
    const drawn = (data.cases[box.dataset.case] || {})[kind];
    if (!drawn || !Object.keys(drawn).length) {
      place.textContent = kind === "map" ? "No database locates these addresses." : "No data.";
      return;
    }
    const specification = structuredClone(data.specifications[theme][kind]);
    const values = { rows: unpacked(drawn), week: [data.week], world: data.world };
    specification.description = place.dataset.told;
    // A map is about twice as wide as it is high: on a narrow page the rest would be empty.
    if (kind === "map") specification.height = Math.min(specification.height, Math.round(place.clientWidth * 0.52));
    for (const source of specification.data) if (source.name in values) source.values = values[source.name];
    place.drawn?.finalize();
    place.drawn = await vegaEmbed(place, specification, {
      mode: "vega", renderer: "svg", actions: false, defaultStyle: false, ast: true, hover: false,
      tooltip: { disableDefaultStyle: true },
    });
  }

  // One after the other in a place, or two themes would stand in it.
  function drawAfter(place, theme) {
    place.dataset.theme = theme;
    place.drawing = (place.drawing || Promise.resolve()).then(() => draw(place, theme));
  }

  let printing = false;

  function drawCase(box) {
    const theme = dark.matches && !printing ? "dark" : "light";
    const places = [...box.querySelectorAll(".chart")];
    places.filter((place) => place.dataset.theme !== theme).forEach((place) => drawAfter(place, theme));
  }

  for (const box of cases) {
    box.addEventListener("toggle", () => { if (box.open) drawCase(box); });
    if (box.open) drawCase(box);
  }
  dark.addEventListener("change", () => cases.filter((box) => box.open).forEach(drawCase));

  let opened = [];
  addEventListener("beforeprint", () => {
    printing = true;
    opened = cases.filter((box) => !box.open && !box.hidden);
    opened.forEach((box) => { box.open = true; });
    cases.filter((box) => !box.hidden).forEach(drawCase);
  });
  addEventListener("afterprint", () => {
    printing = false;
    opened.forEach((box) => { box.open = false; });
    cases.filter((box) => box.open).forEach(drawCase);
  });

  // ---- a link to a case opens it

  function openNamed() {
    const box = cases.find((each) => `#${each.id}` === location.hash);
    if (!box) return;
    box.open = true;
    box.scrollIntoView();
    box.querySelector("summary").focus({ preventScroll: true });
  }
  addEventListener("hashchange", openNamed);
  document.addEventListener("click", (event) => {
    // The hash may be the one that stands there already.
    const link = event.target.closest("a[href^='#case-']");
    if (link && link.getAttribute("href") === location.hash) openNamed();
  });
  openNamed();

  // ---- copy

  function textOf(source) {
    if (source.tagName !== "OL") return source.textContent;
    const steps = [...source.children].map((step, at) => `${at + 1}. ${step.textContent}`);
    return [source.dataset.title, ...steps, ""].join("\n");
  }

  async function copied(text) {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch {
      // Not offered to every page from a file: a selection always can be copied.
      const area = document.createElement("textarea");
      area.value = text;
      area.className = "unseen";
      document.body.append(area);
      area.select();
      const done = document.execCommand("copy");
      area.remove();
      return done;
    }
  }

  for (const button of document.querySelectorAll("button.copy")) {
    button.hidden = false;
    button.addEventListener("click", async () => {
      const done = await copied(textOf(document.getElementById(button.dataset.copy)));
      button.focus();
      said.textContent = done ? "Copied." : "Copying failed: select the text instead.";
      const label = button.firstChild;
      const before = button.dataset.label || (button.dataset.label = label.textContent);
      label.textContent = done ? "Copied ✓" : "Not copied";
      setTimeout(() => { label.textContent = before; said.textContent = ""; }, 2500);
    });
  }

  // ---- sort: a click on a head, again for the other way round

  function sortable(table, sorted = () => {}) {
    const body = table.tBodies[0];
    const heads = [...table.querySelectorAll("th[data-sort]")];
    function sort(head) {
      const key = head.dataset.sort;
      const numeric = key === "rank" || head.matches(".number, .ranked");
      const falling = head.getAttribute("aria-sort") ? head.getAttribute("aria-sort") === "ascending" : numeric && key !== "rank";
      heads.forEach((each) => each.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", falling ? "descending" : "ascending");
      const order = (one, other) => {
        const [a, b] = [one.dataset[key], other.dataset[key]];
        return (numeric ? a - b : a.localeCompare(b)) * (falling ? -1 : 1) || one.dataset.rank - other.dataset.rank;
      };
      const ordered = [...body.rows].sort(order);
      body.append(...ordered);
      sorted(ordered);
    }
    for (const head of heads) {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => sort(head));
    }
  }
  document.querySelectorAll("table.sortable").forEach((table) => sortable(table));

  // ---- filter a long table by words

  for (const table of document.querySelectorAll("table.filtered")) {
    if (table.tBodies[0].rows.length < 8) continue;
    const label = document.createElement("label");
    const input = document.createElement("input");
    const shown = document.createElement("span");
    input.type = "search";
    input.autocomplete = "off";
    shown.setAttribute("role", "status");
    label.append("Filter rows ", input);
    const bar = document.createElement("div");
    bar.className = "filter";
    bar.append(label, shown);
    table.before(bar);
    const all = [...table.tBodies[0].rows];
    input.addEventListener("input", () => {
      const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      all.forEach((row) => { row.hidden = !words.every((word) => row.textContent.toLowerCase().includes(word)); });
      const fitting = all.filter((row) => !row.hidden).length;
      shown.textContent = fitting === all.length ? "" : `${fitting} of ${all.length} rows`;
    });
  }

  // ---- filter and sort: the table and the cases alike

  const form = document.getElementById("filter");
  if (!form) return;
  form.hidden = false;
  const texts = rows.map((row) => `${row.textContent} ${row.dataset.reasons} ${cases[row.dataset.case].querySelector(".facts").textContent}`.toLowerCase());

  function filter() {
    const words = form.elements.text.value.toLowerCase().split(/\s+/).filter(Boolean);
    const { value: action } = form.elements.action;
    const owner = form.elements.owner ? form.elements.owner.value : "";
    let shown = 0;
    rows.forEach((row, at) => {
      const fits = (!action || row.dataset.action === action) && (!owner || row.dataset.owner === owner)
        && words.every((word) => texts[at].includes(word));
      row.hidden = !fits;
      cases.find((box) => box.dataset.case === row.dataset.case).hidden = !fits;
      shown += fits;
    });
    document.getElementById("shown").textContent = shown === rows.length ? "" : `${shown} of ${rows.length} keys`;
    document.getElementById("none-shown").hidden = shown > 0;
  }
  form.addEventListener("input", filter);
  form.addEventListener("submit", (event) => event.preventDefault());

  sortable(document.getElementById("glance"), (ordered) => {
    const end = document.getElementById("none-shown");
    ordered.forEach((row) => end.before(cases.find((box) => box.dataset.case === row.dataset.case)));
  });

  // ---- keys: the skip link leads to the first runbook, arrows from one to the next

  const runbooks = () => rows.filter((row) => !row.hidden)
    .sort((one, other) => one.rowIndex - other.rowIndex).map((row) => row.querySelector(".copy"));
  document.querySelector(".skip").addEventListener("click", (event) => {
    const [first] = runbooks();
    if (!first) return;
    event.preventDefault();
    first.focus();
  });
  document.getElementById("glance").addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const row = event.target.closest("tbody tr");
    if (!step || !row) return;
    const buttons = runbooks();
    const next = buttons[buttons.indexOf(row.querySelector(".copy")) + step];
    if (!next) return;
    event.preventDefault();
    next.focus();
  });

  document.getElementById("open-all").addEventListener("click", (event) => {
    const open = cases.some((box) => !box.open && !box.hidden);
    cases.forEach((box) => { if (!box.hidden) box.open = open; });
    event.target.textContent = open ? "Close all cases" : "Open all cases";
  });
  document.getElementById("print").addEventListener("click", () => print());
})();
