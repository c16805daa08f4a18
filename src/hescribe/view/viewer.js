// The controls: section, gene, layers, colours; the address holds what is shown.
"use strict";

(async function (HEscribe) {
  const $ = (id) => document.getElementById(id), SIDES = ["left", "right"];
  const DO_NOT_READ = { "do not use": "no better than chance on held-out donors: do not use", untested: "untested on held-out donors" };
  const WEAK = "weak: above chance as a mean over held-out donors, but not in each, or only by depth";
  const NOVELTY = "novelty", SUGGESTED = 50;
  const source = HEscribe.source(), maps = new HEscribe.Maps({ left: $("left-plot"), right: $("right-plot") });
  let section, at, genePlace, shown = {};

  const said = (text) => { $("said").textContent = text; };

  function readAddress() {
    return Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
  }

  function writeAddress() {
    if (!section) return;
    const { x, y, width } = maps.place();
    const state = {
      section: section.id, gene: section.genes[genePlace] ?? "", left: $("left").value, right: $("right").value, scale: $("scale").value,
      opacity: $("opacity").value, x: x.toFixed(1), y: y.toFixed(1), width: width.toFixed(1),
    };
    history.replaceState(null, "", "#" + new URLSearchParams(state));
  }

  function choices() {
    const domains = section.domains.map((d) => "domain: " + d.name);
    return [...section.layers, ...domains, ...(section.has_ood ? [NOVELTY] : [])];
  }

  function fill(select, wanted, fallback) {
    const all = choices();
    select.replaceChildren(...all.map((c) => new Option(c, c)));
    select.value = all.includes(wanted) ? wanted : all[Math.min(fallback, all.length - 1)];
  }

  async function openSection(place, wanted) {
    at = place;
    $("section").value = String(place);
    section = await source.section(place);
    const [spots, names] = await Promise.all([source.spots(place), source.names(place)]);
    await maps.show(section, spots, names, { tiles: source.tile && source.tile(place), picture: section.picture });
    fill($("left"), wanted.left, 0);
    fill($("right"), wanted.right, 1);
    suggest("");
    genePlace = Math.max(section.genes.indexOf(wanted.gene ?? ""), 0);
    $("gene").value = section.genes[genePlace] ?? "";
    await paint();
    if (wanted.width > 0) maps.look(Number(wanted.x), Number(wanted.y), Number(wanted.width));
    if (wanted.gene && !section.genes.includes(wanted.gene)) said(`Section ${section.id} has no gene ${wanted.gene}; it shows ${section.genes[genePlace]}.`);
  }

  function suggest(typed) {
    const start = typed.toLowerCase(), found = [];
    for (const [k, gene] of section.genes.entries()) {
      if (!gene.toLowerCase().includes(start)) continue;
      const score = section.pearson[k] === null ? "" : `, Pearson ${section.pearson[k].toFixed(2)}`;
      found.push(new Option(section.trust[k] + score, gene));
      if (found.length === SUGGESTED) break;
    }
    $("genes").replaceChildren(...found);
  }

  async function valuesOf(choice) {
    if (choice === NOVELTY) return { values: maps.novelty, kind: "novelty", low: 0, high: 1 };
    if (choice.startsWith("domain: ")) {
      const column = section.domains.findIndex((d) => "domain: " + d.name === choice), groups = section.domains[column].values;
      const codes = await source.domain(at, column);
      return { values: codes.map((v) => (v < 0 ? NaN : v)), kind: "groups", groups, n_groups: groups.length };
    }
    const values = await source.values(at, genePlace, section.layers.indexOf(choice));
    let low = Infinity, high = -Infinity;
    for (const v of values) if (v === v) { low = Math.min(low, v); high = Math.max(high, v); }
    if (choice === "error") { high = Math.max(-low, high); low = -high; }
    if (!(high > low)) { low = Number.isFinite(low) ? low : 0; high = low + 1; }
    return { values, kind: choice === "error" ? "error" : "values", low, high };
  }

  function share(parts) {
    const comparable = SIDES.map((s) => parts[s]).filter((p) => p.kind === "values" && p.choice !== "interval width");
    if ($("scale").value !== "shared" || comparable.length < 2) return;
    const low = Math.min(...comparable.map((p) => p.low)), high = Math.max(...comparable.map((p) => p.high));
    comparable.forEach((p) => Object.assign(p, { low, high }));
  }

  async function paint() {
    if (!section.genes.length) return said(`Section ${section.id} has no genes to show.`);
    const parts = {}, trust = section.trust[genePlace], gene = section.genes[genePlace];
    for (const side of SIDES) parts[side] = { choice: $(side).value, ...(await valuesOf($(side).value)) };
    share(parts);
    for (const side of SIDES) {
      const part = parts[side], ofGene = section.layers.includes(part.choice);
      const pale = ofGene && part.choice !== "measured" && trust in DO_NOT_READ;
      maps.paint(side, part.values, { ...part, pale, opacity: Number($("opacity").value) });
      const title = ofGene ? `${gene}, ${part.choice}` : part.choice;
      $(side + "-title").textContent = title;
      $(side + "-plot").setAttribute("aria-label", `Map of ${title} in section ${section.id}`);
      drawKey(side, part.groups || []);
    }
    shown = parts;
    const word = DO_NOT_READ[trust] || (trust === "weak" ? WEAK : "");
    said([...section.notes, word && `${gene} is ${word}.`].filter(Boolean).join("\n"));
    compare(maps.chosen);
    writeAddress();
    HEscribe.painted = (HEscribe.painted || 0) + 1;
  }

  function drawKey(side, groups) {
    $(side + "-key").replaceChildren(...groups.map((name, k) => {
      const entry = document.createElement("span");
      entry.textContent = name;
      entry.style.setProperty("--c", HEscribe.groupColour(k));
      return entry;
    }));
  }

  function summary(values, wanted) {
    let n = 0, sum = 0, square = 0;
    for (let i = 0; i < values.length; i++) if (values[i] === values[i] && wanted(i)) { n += 1; sum += values[i]; square += values[i] ** 2; }
    const mean = n ? sum / n : NaN;
    return { n, mean, sd: n > 1 ? Math.sqrt(Math.max((square - n * mean * mean) / (n - 1), 0)) : NaN };
  }

  function compare(indices) {
    const chosen = new Set(indices);
    if (!chosen.size) { $("statistics").textContent = "Draw around spots with the lasso to compare them with the others."; return; }
    const table = document.createElement("table"), line = (cells, tag) => {
      const row = table.insertRow();
      for (const cell of cells) row.append(Object.assign(document.createElement(tag), { textContent: cell }));
    };
    line(["", "spots", ...SIDES.flatMap((s) => [$(s + "-title").textContent + ": mean", "sd"])], "th");
    for (const [name, wanted] of [["selected", (i) => chosen.has(i)], ["others", (i) => !chosen.has(i)]]) {
      const found = SIDES.map((s) => (shown[s].kind === "groups" ? { n: 0, mean: NaN, sd: NaN } : summary(shown[s].values, wanted)));
      const number = (v) => (Number.isFinite(v) ? v.toFixed(3) : "-");
      line([name, name === "selected" ? chosen.size : section.n_spots - chosen.size, ...found.flatMap((f) => [number(f.mean), number(f.sd)])], "td");
    }
    $("statistics").replaceChildren(table);
  }

  function download(name, content) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(content);
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }

  // A cell that starts like a formula would be run by a spreadsheet.
  const quoted = (text) => `"${String(text).replace(/^[=+\-@\t\r]/, "'$&").replaceAll('"', '""')}"`;

  function saveTable() {
    const { x, y, name } = maps.spots, picked = maps.chosen;
    const rows = picked.length ? picked : Array.from(x.keys());
    const cell = (part, i) => (part.groups ? quoted(part.groups[part.values[i]] ?? "") : Number.isFinite(part.values[i]) ? part.values[i].toPrecision(6) : "");
    const head = ["spot", "x_um", "y_um", ...SIDES.map((s) => quoted($(s + "-title").textContent))].join(",");
    const lines = rows.map((i) => [quoted(name[i]), x[i].toFixed(2), y[i].toFixed(2), ...SIDES.map((s) => cell(shown[s], i))].join(","));
    download("spots.csv", new Blob([head + "\n" + lines.join("\n") + "\n"], { type: "text/csv" }));
  }

  async function savePicture() {
    const drawn = SIDES.map((s) => maps.canvases(s)).map((c) => (c.canvas ? c.canvas : c));
    const canvas = document.createElement("canvas"), line = 28, brush = canvas.getContext("2d");
    canvas.width = drawn[0].width + drawn[1].width;
    canvas.height = Math.max(drawn[0].height, drawn[1].height) + line;
    brush.fillStyle = "#ffffff";
    brush.fillRect(0, 0, canvas.width, canvas.height);
    brush.fillStyle = "#1c1c1c";
    brush.font = "16px system-ui, sans-serif";
    SIDES.forEach((s, k) => {
      brush.fillText(`${section.id}: ${$(s + "-title").textContent}`, k * drawn[0].width + 8, 20);
      brush.drawImage(drawn[k], k * drawn[0].width, line);
    });
    canvas.toBlob((blob) => download("view.png", blob));
  }

  const guarded = (work) => async (...given) => { try { await work(...given); } catch (error) { said(String(error.message || error)); } };

  maps.onmove = (() => { let wait; return () => { clearTimeout(wait); wait = setTimeout(writeAddress, 200); }; })();
  maps.onselect = compare;
  maps.onhover = (i) => {
    const says = (side) => `${$(side + "-title").textContent}: ${shown[side].groups ? (shown[side].groups[shown[side].values[i]] ?? "-") : shown[side].values[i].toFixed(3)}`;
    $("spot").textContent = i < 0 ? "" : `spot ${maps.spots.name[i]} — ${SIDES.map(says).join(", ")}`;
  };
  $("section").onchange = guarded(() => openSection(Number($("section").value), { ...readAddress(), width: 0 }));
  $("gene").oninput = guarded(async () => {
    const typed = $("gene").value, place = section.genes.indexOf(typed);
    suggest(typed);
    if (place >= 0) { genePlace = place; await paint(); }
  });
  $("gene").onchange = () => {
    if (section.genes.includes($("gene").value)) return;
    said(`Section ${section.id} shows no gene ${$("gene").value}; ${section.genes.length} are there, best predicted first.`);
  };
  $("gene").onfocus = () => $("gene").select();
  for (const id of ["left", "right", "scale", "opacity"]) $(id).onchange = guarded(paint);
  $("whole").onclick = () => maps.whole();
  $("picture").onclick = guarded(savePicture);
  $("table").onclick = guarded(saveTable);
  window.addEventListener("resize", () => { if (section) { const p = maps.place(); maps.look(p.x, p.y, p.width); } });

  await guarded(async () => {
    const wanted = readAddress(), ids = Array.from($("section").options, (o) => o.text);
    await openSection(Math.max(ids.indexOf(wanted.section ?? ""), 0), wanted);
    HEscribe.ready = true;
  })();
})(window.HEscribe);
