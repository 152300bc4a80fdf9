// A scatter plot on a canvas: pictures and texts under the pointer, arrow keys, search. Texts reach the page as text only.
(function (root) {
  const data = JSON.parse(root.querySelector("script[type='application/json']").textContent);
  const canvas = root.querySelector("canvas"), card = root.querySelector(".wb-card"), search = root.querySelector("input");
  const count = root.querySelector("output");
  const n = data.x.length, pad = 14;
  let chosen = -1, shown = data.groups.map(() => true), hits = null, size = [0, 0], at = [];

  function place() {
    const width = canvas.clientWidth, height = Math.round(Math.min(width * 0.72, 560)), ratio = devicePixelRatio || 1;
    canvas.style.height = height + "px";
    canvas.width = width * ratio; canvas.height = height * ratio;
    canvas.getContext("2d").setTransform(ratio, 0, 0, ratio, 0, 0);
    size = [width, height];
    at = data.x.map((x, i) => [pad + x * (width - 2 * pad), pad + (1 - data.y[i]) * (height - 2 * pad)]);
    draw();
  }

  function dot(pen, i, radius) {
    const [x, y] = at[i];
    pen.beginPath();
    if (data.marks[data.group[i]] === 1) { pen.moveTo(x, y - radius * 1.2); pen.lineTo(x + radius * 1.1, y + radius * 0.9); pen.lineTo(x - radius * 1.1, y + radius * 0.9); }
    else pen.arc(x, y, radius, 0, 7);
    pen.fill();
  }

  function draw() {
    const pen = canvas.getContext("2d");
    pen.clearRect(0, 0, size[0], size[1]);
    for (let i = 0; i < n; i++) {
      if (!shown[data.group[i]]) continue;
      pen.globalAlpha = hits && !hits[i] ? 0.08 : 0.75;
      pen.fillStyle = data.colours[data.group[i]];
      dot(pen, i, n > 1500 ? 2.5 : 4);
    }
    pen.globalAlpha = 1;
    if (chosen < 0) return;
    pen.strokeStyle = "#111"; pen.lineWidth = 1.5;
    const partner = data.partner ? data.partner[chosen] : -1;
    if (partner >= 0) { pen.beginPath(); pen.moveTo(...at[chosen]); pen.lineTo(...at[partner]); pen.stroke(); }
    for (const i of partner >= 0 ? [chosen, partner] : [chosen]) {
      pen.fillStyle = data.colours[data.group[i]]; dot(pen, i, 6);
      pen.beginPath(); pen.arc(at[i][0], at[i][1], 8, 0, 7); pen.stroke();
    }
  }

  function choose(i) {
    chosen = i;
    card.replaceChildren();
    if (i >= 0) {
      const add = (tag, text) => { const e = document.createElement(tag); e.textContent = text; card.append(e); return e; };
      if (data.pictures && data.pictures[i]) { const e = add("img", ""); e.src = data.pictures[i]; e.alt = "picture of row " + data.row[i]; }
      add("strong", "row " + data.row[i] + (data.groups.length > 1 ? ", " + data.groups[data.group[i]] : ""));
      if (data.texts) add("p", data.texts[i]);
      if (data.notes) add("p", data.notes[i]);
    }
    draw();
  }

  function nearest(event) {
    const box = canvas.getBoundingClientRect(), x = event.clientX - box.left, y = event.clientY - box.top;
    let best = -1, least = 400;
    for (let i = 0; i < n; i++) {
      if (!shown[data.group[i]] || (hits && !hits[i])) continue;
      const d = (at[i][0] - x) ** 2 + (at[i][1] - y) ** 2;
      if (d < least) { least = d; best = i; }
    }
    return best;
  }

  canvas.addEventListener("pointermove", (e) => { const i = nearest(e); if (i >= 0 && i !== chosen) choose(i); });
  canvas.addEventListener("pointerdown", (e) => choose(nearest(e)));
  canvas.addEventListener("keydown", (e) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[e.key];
    if (!step) return;
    e.preventDefault();
    let i = chosen;
    for (let tried = 0; tried < n; tried++) {
      i = (i + step + n) % n;
      if (shown[data.group[i]] && (!hits || hits[i])) return choose(i);
    }
  });
  search.addEventListener("input", () => {
    const words = search.value.trim().toLowerCase();
    hits = words ? data.row.map((r, i) => String(r) === words || (data.texts ? data.texts[i].toLowerCase().includes(words) : false)) : null;
    count.textContent = hits ? hits.filter(Boolean).length + " rows" : "";
    draw();
  });
  root.querySelectorAll("button[data-group]").forEach((button) => button.addEventListener("click", () => {
    const g = Number(button.dataset.group);
    shown[g] = !shown[g];
    button.setAttribute("aria-pressed", shown[g]);
    draw();
  }));
  new ResizeObserver(place).observe(root);
})
