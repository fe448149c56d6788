"use strict";
(() => {
  const data = JSON.parse(document.getElementById("scene-data").textContent);
  const table = document.getElementById("scene-table");
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  const panel = document.getElementById("scene");
  const find = document.getElementById("find");
  const state = { sort: "number", dir: "asc", scene: null };
  let openedPlace = null;
  const tidy = (value, decimals) => (value === null || value === undefined ? "–" : value.toFixed(decimals).replace("-", "−"));

  // ---- elements; data becomes text nodes and attributes only
  function make(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  }

  // ---- the table: sort, find, open
  const rowOf = (place) => body.querySelector(`tr[data-place="${place}"]`);
  function sort() {
    const column = heads.findIndex((head) => head.dataset.key === state.sort);
    if (column < 0) return;
    heads.forEach((head, i) => {
      if (i === column) head.setAttribute("aria-sort", state.dir === "asc" ? "ascending" : "descending");
      else head.removeAttribute("aria-sort");
    });
    const textual = state.sort === "name", sign = state.dir === "asc" ? 1 : -1;
    const key = (row) => row.cells[column].dataset.value;
    const order = [...body.rows].sort((a, b) => {
      const [x, y] = [key(a), key(b)];
      if (x === undefined || y === undefined) return (x === undefined) - (y === undefined) || a.dataset.place - b.dataset.place;
      const compared = textual ? x.localeCompare(y, undefined, { numeric: true }) : x - y;
      return sign * compared || a.dataset.place - b.dataset.place;
    });
    body.append(...order);
  }
  function filter() {
    const words = find.value.toLowerCase();
    let shown = 0;
    for (const row of body.rows) {
      row.hidden = !data.scenes[row.dataset.place].name.toLowerCase().includes(words);
      shown += !row.hidden;
    }
    document.getElementById("count").textContent = words ? `${shown} of ${body.rows.length} scenes` : `${body.rows.length} scenes`;
  }
  heads.forEach((head) => head.querySelector("button").addEventListener("click", () => {
    const again = state.sort === head.dataset.key;
    const first = ["name", "number"].includes(head.dataset.key) ? "asc" : "desc";
    change({ sort: head.dataset.key, dir: again ? (state.dir === "asc" ? "desc" : "asc") : first });
  }));
  body.addEventListener("click", (event) => {
    const row = event.target.closest("tr");
    if (row) change({ scene: data.scenes[row.dataset.place].number });
  });
  find.addEventListener("input", filter);

  // ---- one scene
  function open(place) {
    const scene = data.scenes[place];
    if (!scene) return;
    steps(place);
    if (place === openedPlace) return;
    openedPlace = place;
    panel.querySelectorAll(":scope > :not(header)").forEach((element) => element.remove());
    pictures(scene);
    const split = make("div", { class: "split" });
    panel.append(split);
    cameras(scene, split);
    numbers(scene, split);
  }
  // The head of the open scene, with buttons for its neighbours in the sorted table.
  function steps(place) {
    const scene = data.scenes[place];
    for (const row of body.rows) row.removeAttribute("aria-current");
    rowOf(place).setAttribute("aria-current", "true");
    panel.querySelector(":scope > header")?.remove();
    const order = [...body.rows].filter((row) => !row.hidden).map((row) => Number(row.dataset.place));
    const at = order.indexOf(place);
    const step = (label, text, other) => {
      const button = make("button", { type: "button", class: "step", "aria-label": label }, text);
      button.disabled = other === undefined;
      button.addEventListener("click", () => change({ scene: data.scenes[other].number }));
      return button;
    };
    panel.prepend(make("header", {},
      make("h3", {}, scene.name),
      make("span", { class: "note" }, `context frames ${scene.context.join(", ")}`),
      step("Scene before", "←", order[at - 1]), step("Scene after", "→", order[at + 1])));
  }
  const methodLabel = (name) => (data.methods[name] || { label: name.replaceAll("_", " ") }).label;
  const methodKind = (name) => (data.methods[name] || { kind: "baseline" }).kind;

  function picture(scene, group, frame, source, caption) {
    const placement = group in data.methods ? undefined : data.placements.find((name) => group.startsWith(`${name}_`));
    const label = placement ? `${methodLabel(placement)}: ${group.slice(placement.length + 1).replaceAll("_", " ")}`
      : { context: `Context ${frame}`, target: "Target" }[group] || methodLabel(group);
    const kind = ["context", "target"].includes(group) ? "" : methodKind(placement || group);
    const figure = make("figure", {});
    const absent = (text) => make("div", { class: "absent" }, text);
    if (source) {
      const image = make("img", { alt: `${label}, frame ${frame} of ${scene.name}`, loading: "lazy", tabindex: "0" });
      image.addEventListener("load", () => image.classList.toggle("few", image.naturalWidth < 160));
      image.addEventListener("error", () => image.replaceWith(absent("neither in this page nor in its folder")));
      image.src = source;
      figure.append(image);
    } else figure.append(absent("picture missing"));
    figure.append(make("figcaption", { class: kind }, make("b", {}, label), caption));
    return figure;
  }
  function captionOf(view, method) {
    const values = view && view.metrics[method];
    if (!values) return "";
    return Object.entries(values).filter(([, value]) => value !== null)
      .map(([name, value]) => `${data.metrics[name].short} ${tidy(value, data.metrics[name].decimals)}`).join(" · ") || "not finite";
  }
  function pictures(scene) {
    const groups = Object.keys(scene.pictures);
    if (!groups.length) {
      panel.append(make("p", { class: "note" }, "This scene has no pictures."));
    } else if (scene.pictures.context) {
      panel.append(make("h3", {}, "Context"), make("div", { class: "strip" }, ...Object.entries(scene.pictures.context).map(([frame, source]) =>
        picture(scene, "context", frame, source, ""))));
    }
    for (const frame of scene.target) {
      const view = scene.views[frame];
      const own = groups.filter((group) => group !== "context" && frame in scene.pictures[group]);
      if (!own.length) continue;
      panel.append(make("h3", {}, `Target frame ${frame}${view && view.equal ? ", which is also a context view" : ""}`));
      panel.append(make("div", { class: "strip" }, ...own.map((group) =>
        picture(scene, group, frame, scene.pictures[group][frame], captionOf(view, group)))));
    }
  }
  const numberCell = (rows, method, name) => make("td", {}, tidy(rows[method][name], data.metrics[name].decimals));
  function plainTable(columns, rows) {
    return make("table", {},
      make("thead", {}, make("tr", {}, make("td", {}), ...columns.map((label) => make("th", { scope: "col" }, label)))),
      make("tbody", {}, ...rows));
  }
  const byMethod = (rows, methods, names) => plainTable(names.map((name) => data.metrics[name].label), methods.map((method) =>
    make("tr", { class: methodKind(method) }, make("th", { scope: "row" }, methodLabel(method)), ...names.map((name) => numberCell(rows, method, name)))));
  const byMetric = (rows, methods, names) => plainTable(methods.map(methodLabel), names.map((name) =>
    make("tr", {}, make("th", { scope: "row" }, data.metrics[name].label), ...methods.map((method) => numberCell(rows, method, name)))));
  function numbers(scene, split) {
    const column = make("div");
    split.append(column);
    for (const [title, rows] of [["Metrics of this scene", scene.metrics], ["Poses of this scene", scene.poses],
      ["Depth of this scene", scene.depth], ["Gaussians of this scene", scene.gaussians]]) {
      const methods = Object.keys(rows);
      if (!methods.length) continue;
      const names = [...new Set(methods.flatMap((name) => Object.keys(rows[name])))];
      column.append(make("h3", {}, title), make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": title },
        rows === scene.metrics ? byMethod(rows, methods, names) : byMetric(rows, methods, names)));
    }
  }

  // ---- the cameras of the open scene
  let plot = null;
  function cameras(scene, split) {
    plot = null;
    if (!scene.cameras) {
      split.append(make("div", {}, make("h3", {}, "Cameras"), make("p", { class: "note" }, "This page has no cameras of this scene.")));
      return;
    }
    const groups = scene.cameras.groups;
    const names = ["true", ...Object.keys(groups).filter((name) => name !== "true")].filter((name) => name in groups);
    const comparable = names.length < 2 || names.every((name) => name === "true" || groups[name].aligned);
    const canvas = make("canvas", { tabindex: "0", role: "img" });
    const tools = make("div", { class: "plot-tools" });
    const kinds = names.map((name) => {
      const label = name === "true" ? "True cameras" : methodLabel(name);
      const kind = name === "true" ? "true" : methodKind(name);
      const element = make("label", { class: kind });
      const box = make("input", { type: comparable ? "checkbox" : "radio", name: "cameras" });
      box.checked = comparable || name === names[0];
      element.append(box, label);
      tools.append(element);
      return { name, label, kind, element, box };
    });
    const own = cameraPlot(canvas, { cameras: scene.cameras, centres: scene.centres, context: scene.context, kinds });
    plot = own;
    const update = () => kinds.forEach(({ name, box }) => own.show(name, box.checked));
    kinds.forEach(({ box }) => box.addEventListener("change", update));
    const button = (text, label, act, kind = "") => {
      const element = make("button", { type: "button", "aria-label": label, class: kind }, text);
      element.addEventListener("click", act);
      return element;
    };
    tools.append(button("−", "Smaller", () => own.zoom(1 / 1.25), "push"), button("+", "Larger", () => own.zoom(1.25)), button("reset", "First view", own.reset));
    const errors = kinds.map(({ name, label }) => [label, own.error(name)]).filter(([, error]) => error !== null);
    const note = errors.length ? `Mean distance from the true centres: ${errors.map(([label, error]) => `${label} ${error.toPrecision(2)}`).join(", ")}.`
      : "true" in groups ? "" : comparable ? "There are no true cameras." : "There are no true cameras. Each placement has its own frame, so the plot shows one placement at a time.";
    canvas.setAttribute("aria-label", `Cameras of ${scene.name}: frames ${scene.cameras.frames.join(", ")}; ${kinds.map(({ label }) => label).join(", ")}. ${note} Arrow keys turn, plus and minus zoom.`);
    split.append(make("div", { class: "camera-plot" }, make("h3", {}, "true" in groups ? "Cameras, predicted and true" : "Cameras, as predicted"), canvas, tools,
      make("p", { class: "note" }, `${note} A square of the grid is ${Number(own.square().toPrecision(2))} units wide. Context views are filled.${Object.keys(scene.centres).length ? " Dots are centres of Gaussians, with their colours." : ""} Drag or press arrow keys to turn.`)));
    update();
  }
  const redraw = () => plot && plot.draw();
  window.addEventListener("resize", redraw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);

  // ---- a large picture; arrow keys show its neighbours at the same position, so that differences flicker
  const large = document.getElementById("large");
  let images = [], shownImage = 0;
  function enlarge(index) {
    shownImage = (index + images.length) % images.length;
    const image = images[shownImage], big = large.querySelector("img");
    big.src = image.src; big.alt = image.alt; big.className = image.className;
    large.querySelector("p").textContent = `${image.alt}. ← → for its neighbours.`;
    if (!large.open) large.showModal();
  }
  function begin(image) { images = [...image.closest(".strip").querySelectorAll("img")]; enlarge(images.indexOf(image)); }
  panel.addEventListener("click", (event) => { if (event.target.matches(".strip img")) begin(event.target); });
  panel.addEventListener("keydown", (event) => { if (event.key === "Enter" && event.target.matches(".strip img")) begin(event.target); });
  large.addEventListener("keydown", (event) => {
    if (event.key === "ArrowRight") enlarge(shownImage + 1);
    if (event.key === "ArrowLeft") enlarge(shownImage - 1);
  });
  large.addEventListener("click", (event) => { if (event.target === large) large.close(); });

  // ---- colour scheme
  const scheme = document.getElementById("scheme");
  scheme.addEventListener("click", () => {
    const now = document.documentElement.dataset.scheme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
    document.documentElement.dataset.scheme = now === "dark" ? "light" : "dark";
    redraw();
  });

  // ---- the address holds the state: #sort=psnr&dir=desc&scene=3
  function change(values) {
    const moved = "scene" in values && values.scene !== state.scene;
    Object.assign(state, values);
    const address = new URLSearchParams({ sort: state.sort, dir: state.dir });
    if (state.scene !== null) address.set("scene", state.scene);
    history.replaceState(null, "", `#${address}`);
    show({ scroll: moved });
  }
  function show({ scroll }) {
    sort();
    const place = data.scenes.findIndex((scene) => scene.number === state.scene);
    open(place < 0 ? (openedPlace ?? Number(body.rows[0]?.dataset.place ?? -1)) : place);
    if (scroll) panel.scrollIntoView({ block: "nearest" });
  }
  function read() {
    const address = new URLSearchParams(location.hash.slice(1));
    if (!location.hash.includes("=")) return false;
    if (heads.some((head) => head.dataset.key === address.get("sort"))) state.sort = address.get("sort");
    if (["asc", "desc"].includes(address.get("dir"))) state.dir = address.get("dir");
    else if (address.has("sort")) state.dir = ["name", "number"].includes(state.sort) ? "asc" : "desc";
    if (address.has("scene")) state.scene = Number(address.get("scene"));
    return address.has("scene");
  }
  window.addEventListener("hashchange", () => { if (location.hash.includes("=")) { read(); show({ scroll: true }); } });
  const linked = read();
  filter();
  show({ scroll: linked });
})();
