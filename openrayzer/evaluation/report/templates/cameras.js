"use strict";
// Cameras of a scene in three dimensions on a canvas that the user can turn. OpenCV cameras look along +z.
const cameraPlot = (() => {
  const add = (a, b, s = 1) => [a[0] + s * b[0], a[1] + s * b[1], a[2] + s * b[2]];
  const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
  const cross = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
  const unit = (a) => { const n = Math.hypot(...a); return n > 1e-9 ? a.map((x) => x / n) : null; };
  const centre = (pose) => pose.map((row) => row[3]);
  const axis = (pose, i) => pose.map((row) => row[i]);
  const distance = (a, b) => Math.hypot(...add(a, b, -1));

  // Orthogonal mean directions of the cameras, up and forward: the plot is upright, and the first view is from behind.
  function frame(poses) {
    const sum = (i, sign) => poses.reduce((total, pose) => add(total, axis(pose, i), sign), [0, 0, 0]);
    const up = unit(sum(1, -1)) || [0, -1, 0];
    const ahead = sum(2, 1);
    const forward = unit(add(ahead, up, -dot(ahead, up))) || unit(cross(up, Math.abs(up[0]) < 0.9 ? [1, 0, 0] : [0, 1, 0]));
    return { up, forward, right: cross(forward, up) };
  }

  function roundNumber(x) {
    const power = 10 ** Math.floor(Math.log10(x));
    return [1, 2, 5, 10].map((f) => f * power).find((f) => f >= x * 0.999);
  }

  const RATIO = 1.4; // width to height

  // cameras: {frames, groups: {name: {c2w, intrinsics}}}; centres: {name: {positions, colours}} of Gaussians;
  // kinds: [{name, label, kind, element}], element has the colour.
  return function plot(canvas, { cameras, centres, context, kinds }) {
    const shown = new Set(kinds.map(({ name }) => name));
    const all = kinds.flatMap(({ name }) => cameras.groups[name].c2w);
    const reference = cameras.groups[kinds[0].name].c2w;
    const base = frame(reference);
    let middle, extent, view, near = 1;

    // The shown cameras fill the plot; if all centres coincide, the plot has the size of a camera.
    function fit() {
      const points = kinds.filter(({ name }) => shown.has(name)).flatMap(({ name }) => cameras.groups[name].c2w.map(centre));
      const used = points.length ? points : all.map(centre);
      const range = [0, 1, 2].map((i) => [Math.min(...used.map((p) => p[i])), Math.max(...used.map((p) => p[i]))]);
      middle = range.map(([low, high]) => (low + high) / 2);
      extent = Math.hypot(...range.map(([low, high]) => high - low));
      if (!(extent > 1e-6)) extent = 1;
      // Extent of the cameras in the first view, in units of half the plot.
      const project = projector(2 * RATIO, 2, first, 1);
      const reach = used.map(project).flatMap(({ x, y }) => [Math.abs(x - RATIO) / RATIO, Math.abs(y - 1)]);
      near = (Object.keys(centres).length ? 0.5 : 0.84) / Math.max(...reach, 0.12); // Gaussians are farther away
    }
    const first = { turn: -0.55, tilt: 0.42, zoom: 1 };
    const reset = () => { view = { ...first }; };
    reset(); fit();

    // A direction of the world in the view: right, up, away.
    function turned(d, { turn, tilt }) {
      const [x, y, z] = [dot(d, base.right), dot(d, base.up), dot(d, base.forward)];
      const across = Math.cos(turn) * x + Math.sin(turn) * z, away = Math.cos(turn) * z - Math.sin(turn) * x;
      return [across, Math.cos(tilt) * y + Math.sin(tilt) * away, Math.cos(tilt) * away - Math.sin(tilt) * y];
    }

    // Perspective from a distance of 2.6 extents.
    function projector(width, height, seen, near) {
      const scale = 1.3 * height * near * seen.zoom;
      return (point) => {
        const [x, y, z] = turned(add(point, middle, -1), seen);
        const depth = Math.max(2.6 * extent + z, 0.05 * extent);
        return { x: width / 2 + scale * x / depth, y: height / 2 - scale * y / depth, depth };
      };
    }

    function draw() {
      const box = canvas.getBoundingClientRect(), dense = window.devicePixelRatio || 1;
      const width = box.width || 400, height = width / RATIO;
      canvas.style.height = `${height}px`;
      canvas.width = Math.round(width * dense); canvas.height = Math.round(height * dense);
      const pen = canvas.getContext("2d");
      pen.scale(dense, dense);
      pen.lineJoin = "round";
      const style = getComputedStyle(canvas);
      const probe = (name) => { canvas.style.color = `var(${name})`; const found = style.color; canvas.style.color = ""; return found; };
      const soft = probe("--soft"), line = probe("--line"), card = probe("--page");
      const project = projector(width, height, view, near);
      const stroke = (points, how, thick, dash = [], close = false) => {
        pen.strokeStyle = how; pen.lineWidth = thick; pen.setLineDash(dash);
        pen.beginPath();
        points.map(project).forEach(({ x, y }, i) => (i ? pen.lineTo(x, y) : pen.moveTo(x, y)));
        if (close) pen.closePath();
        pen.stroke();
      };
      floor(stroke, line);
      axes(pen, height, soft);
      const drawn = kinds.filter(({ name }) => shown.has(name));
      dots(pen, project, drawn);
      const bodies = [];
      for (const { name, element } of drawn) {
        const own = getComputedStyle(element).color, group = cameras.groups[name];
        stroke(group.c2w.map(centre), own, 1, [1, 3]);
        if (name !== "true" && cameras.groups.true && shown.has("true") && group.aligned) {
          group.c2w.forEach((pose, i) => stroke([centre(pose), centre(cameras.groups.true.c2w[i])], own, 1.6));
        }
        group.c2w.forEach((pose, i) => bodies.push({ name, own, pose, lens: group.intrinsics[i], frame: cameras.frames[i] }));
      }
      bodies.sort((a, b) => project(centre(b.pose)).depth - project(centre(a.pose)).depth);
      for (const body of bodies) frustum(pen, project, stroke, body, context.includes(body.frame));
      if (cameras.frames.length <= 12 && drawn.length) {
        pen.font = "600 11px system-ui, sans-serif"; pen.fillStyle = soft; pen.textAlign = "center";
        pen.lineWidth = 3; pen.strokeStyle = card; pen.setLineDash([]);
        cameras.groups[drawn[0].name].c2w.forEach((pose, i) => {
          const { x, y } = project(add(centre(pose), base.up, 0.12 * extent / near));
          pen.strokeText(cameras.frames[i], x, y); pen.fillText(cameras.frames[i], x, y);
        });
      }
    }

    // Centres of Gaussians, the farthest first; those behind the viewer are left out.
    function dots(pen, project, drawn) {
      const found = drawn.filter(({ name }) => name in centres).flatMap(({ name }) =>
        centres[name].positions.map((place, i) => ({ ...project(place), colour: centres[name].colours[i] })));
      found.sort((a, b) => b.depth - a.depth);
      for (const { x, y, depth, colour } of found) {
        if (depth < 0.3 * extent) continue;
        const side = Math.min(5, Math.max(1.5, 9 * extent / depth));
        pen.fillStyle = colour;
        pen.fillRect(x - side / 2, y - side / 2, side, side);
      }
    }

    function frustum(pen, project, stroke, { name, own, pose, lens }, given) {
      const size = 0.12 * extent / Math.max(near, 0.6), [fx, fy, cx, cy] = lens;
      const corner = (u, v) => {
        const ray = [(u - cx) / fx, (v - cy) / fy, 1].map((x) => x * size);
        return [0, 1, 2].reduce((p, i) => add(p, axis(pose, i), ray[i]), centre(pose));
      };
      const corners = [corner(0, 0), corner(1, 0), corner(1, 1), corner(0, 1)];
      const flat = corners.map(project);
      const dash = name === "true" ? [4, 3] : [];
      if (given) {
        pen.fillStyle = own; pen.globalAlpha = name === "true" ? 0.16 : 0.3;
        pen.beginPath(); flat.forEach(({ x, y }, i) => (i ? pen.lineTo(x, y) : pen.moveTo(x, y))); pen.fill();
        pen.globalAlpha = 1;
      }
      stroke(corners, own, 1.5, dash, true);
      corners.forEach((point) => stroke([centre(pose), point], own, 1, dash));
      stroke([corners[0], add(corner(0.5, 0), axis(pose, 1), -0.03 * extent), corners[1]], own, 1.5, dash); // this side up
      const { x, y } = project(centre(pose));
      pen.fillStyle = own; pen.setLineDash([]);
      pen.beginPath(); pen.arc(x, y, 2.4, 0, 2 * Math.PI); pen.fill();
    }

    const square = () => roundNumber(extent / 5);
    function ground() {
      const lowest = Math.min(...all.map((pose) => dot(add(centre(pose), middle, -1), base.up)));
      return add(middle, base.up, Math.max(lowest, -extent) - 0.16 * extent);
    }
    const onGround = (a, b) => add(add(ground(), base.right, a * square()), base.forward, b * square());

    function floor(stroke, how) {
      for (let i = -4; i <= 4; i++) { stroke([onGround(i, -4), onGround(i, 4)], how, 1); stroke([onGround(-4, i), onGround(4, i)], how, 1); }
    }

    // The axes of the world, in a corner.
    function axes(pen, height, how) {
      const [left, top] = [38, height - 38];
      pen.strokeStyle = pen.fillStyle = how; pen.lineWidth = 1.4; pen.setLineDash([]);
      pen.font = "11px system-ui, sans-serif"; pen.textAlign = "center";
      [["x", [1, 0, 0]], ["y", [0, 1, 0]], ["z", [0, 0, 1]]].forEach(([label, direction]) => {
        const [x, y] = turned(direction, view);
        pen.beginPath(); pen.moveTo(left, top); pen.lineTo(left + 20 * x, top - 20 * y); pen.stroke();
        pen.fillText(label, left + 28 * x, top - 28 * y + 4);
      });
    }

    let grip = null;
    canvas.addEventListener("pointerdown", (event) => { grip = [event.clientX, event.clientY]; canvas.setPointerCapture(event.pointerId); });
    canvas.addEventListener("pointermove", (event) => {
      if (!grip) return;
      turn((event.clientX - grip[0]) * 0.01, (event.clientY - grip[1]) * 0.01);
      grip = [event.clientX, event.clientY];
    });
    for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, () => { grip = null; });
    canvas.addEventListener("dblclick", () => { reset(); draw(); });
    canvas.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: [-0.1, 0], ArrowRight: [0.1, 0], ArrowUp: [0, -0.1], ArrowDown: [0, 0.1] }[event.key];
      if (step) turn(...step);
      else if (event.key === "+" || event.key === "=") zoom(1.2);
      else if (event.key === "-") zoom(1 / 1.2);
      else if (event.key === "0") { reset(); draw(); }
      else return;
      event.preventDefault();
    });
    function turn(across, up) { view.turn += across; view.tilt = Math.min(1.57, Math.max(-1.57, view.tilt + up)); draw(); }
    function zoom(factor) { view.zoom = Math.min(20, Math.max(0.1, view.zoom * factor)); draw(); }

    return {
      draw, zoom,
      reset: () => { reset(); draw(); },
      show: (name, on) => { on ? shown.add(name) : shown.delete(name); fit(); draw(); },
      square,
      // Mean distance of the centres of a group from the true centres; null if there are none to compare.
      error: (name) => {
        const group = cameras.groups[name], truth = cameras.groups.true;
        if (!truth || name === "true" || !group.aligned) return null;
        return group.c2w.reduce((sum, pose, i) => sum + distance(centre(pose), centre(truth.c2w[i])), 0) / group.c2w.length;
      },
    };
  };
})();
