// Tables that sort and filter, and marks of charts that say what they are. Without scripts all of it can still be read.
(() => {
  "use strict";
  // A page opened from a folder may not read other pages, so search shows titles only there.
  if (location.protocol === "file:" && typeof DOCUMENTATION_OPTIONS !== "undefined") DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;

  const key = (row, column) => {
    const cell = row.cells[column];
    return cell.dataset.sort ?? cell.textContent.trim();
  };
  const compare = (a, b) => {
    if (a === "" || b === "") return (a === "") - (b === ""); // what is missing comes last, whichever way
    const difference = Number(a) - Number(b);
    return Number.isNaN(difference) ? a.localeCompare(b) : difference;
  };

  const sortable = (table) => {
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") === "ascending";
        [...table.tHead.rows[0].cells].forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const rows = [...table.tBodies[0].rows].map((row) => [key(row, column), row]);
        rows.sort(([a], [b]) => (a === "" || b === "" ? compare(a, b) : (down ? -1 : 1) * compare(a, b)));
        table.tBodies[0].append(...rows.map(([, row]) => row));
      });
    });
  };

  const filterable = (form) => {
    const rows = [...document.getElementById(form.dataset.table).tBodies[0].rows];
    const apply = () => {
      const words = form.elements.text.value.toLowerCase().split(/\s+/).filter(Boolean);
      const part = form.elements.part.value, verdict = form.elements.verdict.value, all = form.elements.all.checked;
      let shown = 0;
      for (const row of rows) {
        const fits =
          (all || row.dataset.headline === "1") &&
          (!part || row.dataset.part === part) &&
          (!verdict || row.dataset.verdict === verdict) &&
          words.every((word) => row.dataset.find.includes(word));
        row.hidden = !fits;
        shown += fits;
      }
      form.querySelector("output").textContent = shown === 1 ? "1 claim" : `${shown} claims`;
    };
    form.addEventListener("input", apply);
    form.addEventListener("submit", (event) => event.preventDefault());
    apply();
  };

  const speaking = (chart) => {
    const said = chart.querySelector(".wb-said");
    const tell = (event) => {
      const mark = event.target.closest("[data-label]");
      if (mark) said.textContent = mark.dataset.label;
    };
    chart.addEventListener("pointerover", tell);
    chart.addEventListener("focusin", tell);
  };

  const start = () => {
    document.querySelectorAll("table.wb-sort").forEach(sortable);
    document.querySelectorAll("form.wb-filter").forEach(filterable);
    document.querySelectorAll(".wb-chart").forEach(speaking);
    // Wide tables scroll, so the keyboard must reach them.
    document.querySelectorAll(".cell_output, .pst-scrollable-table-container").forEach((box) => {
      if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
    });
  };
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
