// The part of the page that shows a scene. gradio runs it once with `element`, `props`, `watch` and `trigger`.
// `props.value` is the JSON of a scene, see Studio.reconstruct; `props.film` is the JSON of a finished video.
const find = (name) => element.querySelector(name);
const [canvas, image, slider] = ['#orz-canvas', '#orz-image', '#orz-slider'].map(find);
const PATH_LABELS = { interpolate: 'through the photos', orbit: 'orbit', wobble: 'wobble', spiral: 'spiral' };
const KEYS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 2], ArrowDown: [0, -2] };
const MOST_TURN = 30;
let scene = null, path = 'interpolate', turn = 0, lift = 0, pose = null, wanted = false, busy = false;
let orbit = { yaw: 0.5, pitch: 0.45, distance: 1 }, target = [0, 0, 0], axes = null;

// Vectors
const add = (a, b, s = 1) => a.map((x, i) => x + s * b[i]);
const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
const cross = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
const unit = (a) => a.map((x) => x / (Math.hypot(...a) || 1));
const average = (all) => all.reduce((a, b) => add(a, b)).map((x) => x / all.length);
const centre = (m) => [m[3], m[7], m[11]];
const column = (m, i) => [m[i], m[4 + i], m[8 + i]];
const clamp = (x, most) => Math.min(Math.max(x, -most), most);

// The eye that looks at the drawing goes around `target`; it starts so that most of the points are in the picture.
function startDrawing() {
  const centres = scene.cameras.map(centre), mean = average(centres);
  const forward = unit(average(scene.cameras.map((m) => column(m, 2))));
  const ahead = unit(add(forward, scene.up, -dot(forward, scene.up)));
  axes = { up: scene.up, ahead, right: cross(ahead, scene.up) };
  const depth = Math.min(scene.distance, 6 * scene.extent), points = scene.points.map((p) => p.slice(0, 3));
  const seen = points.length ? average(points) : add(mean, forward, depth);
  target = average([mean, seen]);
  const frame = [...centres, seen], far = Math.max(...frame.map((p) => Math.hypot(...add(p, target, -1))), 0.5 * depth);
  orbit = { yaw: 0.5, pitch: 0.5, distance: 3 * far, start: 3 * far };
  for (let i = 0; i < 4; i++) fit(frame, points);
}

// Move the eye so that the cameras and the points fill the picture; 2 % of the points may lie outside on each side.
function fit(frame, points) {
  const shape = canvas.getBoundingClientRect(), width = shape.width || 400, height = shape.height || 400;
  const { project, right, up, focal } = projection(width, height);
  const [inside, cloud] = [frame, points].map((all) => all.map(project).filter(Boolean));
  const ends = [0, 1].map((axis) => {
    const sorted = cloud.map((q) => q[axis]).sort((a, b) => a - b), rest = Math.floor(0.02 * sorted.length);
    const all = [...inside.map((q) => q[axis]), ...sorted.slice(rest, sorted.length - rest)];
    return [Math.min(...all), Math.max(...all)];
  });
  const [x, y] = ends.map(([low, high]) => (low + high) / 2), scale = orbit.distance / focal;
  target = add(add(target, right, (x - width / 2) * scale), up, (height / 2 - y) * scale);
  orbit.distance *= 1.2 * Math.max((ends[0][1] - ends[0][0]) / width, (ends[1][1] - ends[1][0]) / height);
  orbit.start = orbit.distance;
}

function projection(width, height) {
  const { yaw, pitch, distance } = orbit;
  let out = axes.ahead.map((x, i) => Math.cos(yaw) * x + Math.sin(yaw) * axes.right[i]);
  out = out.map((x, i) => -Math.cos(pitch) * x + Math.sin(pitch) * axes.up[i]);
  const eye = add(target, out, distance), w = out.map((x) => -x);
  const right = unit(cross(w, axes.up)), up = cross(right, w), focal = 1.3 * Math.min(width, height);
  const project = (point) => {
    const q = add(point, eye, -1), z = dot(q, w);
    return z < 1e-3 * distance ? null : [width / 2 + focal * dot(q, right) / z, height / 2 - focal * dot(q, up) / z, z];
  };
  return { project, right, up, focal };
}

function corners(m, k, size) {
  const [fx, fy, cx, cy] = k, at = centre(m);
  return [[0, 0], [1, 0], [1, 1], [0, 1]].map(([u, v]) => {
    const ray = [(u - cx) / fx, (v - cy) / fy, 1];
    return ray.reduce((p, x, i) => add(p, column(m, i), size * x), at);
  });
}

function draw() {
  const box = canvas.getBoundingClientRect(), ratio = window.devicePixelRatio || 1;
  if (!scene || !box.width) return;
  canvas.width = Math.round(box.width * ratio);
  canvas.height = Math.round(box.height * ratio);
  const pen = canvas.getContext('2d'), { project } = projection(box.width, box.height), style = getComputedStyle(element);
  pen.scale(ratio, ratio);
  const accent = style.getPropertyValue('--color-accent').trim() || '#e8590c', ink = getComputedStyle(find('.orz')).color;
  const faint = getComputedStyle(find('.orz-hint')).color;
  const far = scene.points.map((p) => [project(p), p]).filter(([q]) => q).sort((a, b) => b[0][2] - a[0][2]);
  const dab = Math.max(1.5, Math.min(9, 0.015 * box.width * orbit.start / orbit.distance));
  for (const [q, p] of far) {
    pen.fillStyle = `rgb(${p[3]},${p[4]},${p[5]})`;
    pen.fillRect(q[0] - dab / 2, q[1] - dab / 2, dab, dab);
  }
  line(pen, scene.paths[path].map((m) => project(centre(m))), faint, 1.2);
  const size = 0.055 * orbit.start, chosen = photoAt();
  scene.cameras.forEach((m, i) => frustum(pen, project, m, scene.intrinsics[i], size, i === chosen ? accent : ink, 1.6));
  if (pose) frustum(pen, project, pose, scene.intrinsics[0], 1.3 * size, accent, 2.4);
}

function line(pen, places, colour, width) {
  pen.strokeStyle = colour;
  pen.lineWidth = width;
  pen.beginPath();
  let inside = false;
  for (const q of places) {
    if (q) inside ? pen.lineTo(q[0], q[1]) : pen.moveTo(q[0], q[1]);
    inside = Boolean(q);
  }
  pen.stroke();
}

function frustum(pen, project, m, k, size, colour, width) {
  const tip = project(centre(m)), ends = corners(m, k, size).map(project);
  line(pen, [...ends, ends[0]], colour, width);
  ends.forEach((end) => line(pen, [tip, end], colour, 0.7 * width));
  const roof = add(corners(m, k, size)[0].map((x, i) => (x + corners(m, k, size)[1][i]) / 2), column(m, 1), -0.25 * size);
  line(pen, [ends[0], project(roof), ends[1]], colour, width);
}

// The number of the photo whose camera the slider stands at, or -1
const stepsBetween = () => (scene.paths.interpolate.length - 1) / Math.max(1, scene.cameras.length - 1);
function photoAt() {
  const place = Number(slider.value) / stepsBetween();
  return path === 'interpolate' && !turn && !lift && Number.isInteger(place) ? place : -1;
}

// The view: one request at a time, and the newest wish next.
async function show() {
  wanted = true;
  if (busy || !scene) return;
  busy = true;
  while (wanted) {
    wanted = false;
    const { token } = scene, start = performance.now();
    const query = new URLSearchParams({ path, step: slider.value, turn, lift, shown: find('#orz-shown').value });
    try {
      const answer = await fetch(`scene/${token}/view?${query}`);
      if (!answer.ok) throw new Error(await answer.text());
      const address = URL.createObjectURL(await answer.blob());
      URL.revokeObjectURL(image.src);
      image.src = address;
      await image.decode();
      pose = JSON.parse(answer.headers.get('X-Camera'));
      const spent = Math.round(performance.now() - start), rendered = Math.round(answer.headers.get('X-Milliseconds'));
      find('#orz-latency').textContent = `${rendered} ms to render, ${spent} ms until shown`;
    } catch (error) {
      find('#orz-latency').textContent = error.message;
    }
    image.dataset.step = slider.value;
    draw();
  }
  busy = false;
}

function moved() {
  const chosen = photoAt();
  element.querySelectorAll('.orz-photo').forEach((one, i) => one.setAttribute('aria-pressed', i === chosen));
  draw();
  show();
}

function choosePath(name, step) {
  path = name;
  find('#orz-path').value = name;
  slider.max = scene.paths[name].length - 1;
  slider.value = step;
  turn = lift = 0;
  moved();
}

const choosePhoto = (i) => choosePath('interpolate', Math.round(i * stepsBetween()));

function fill(box, entries) {
  box.replaceChildren(...entries.map(([value, label]) => new Option(label, value)));
}

function made(tag, text, attributes = {}) {
  const one = Object.assign(document.createElement(tag), attributes);
  one.append(text);
  return one;
}

function missing(label, why) {
  const one = made('span', label, { className: 'orz-missing', title: why });
  one.setAttribute('aria-disabled', 'true');
  one.append(made('em', why));
  return one;
}

function listFiles() {
  const film = made('button', 'Make the video', { type: 'button', id: 'orz-film' });
  film.onclick = () => trigger('film', { token: scene.token, course: path, shown: find('#orz-shown').value });
  const video = scene.video ? missing('Video, MP4', scene.video) : film;
  const files = scene.files.map(({ file, label, why }) => {
    if (why) return missing(label, why);
    return made('a', label, { href: `scene/${scene.token}/file/${file}`, download: file });
  });
  find('#orz-files').replaceChildren(video, ...files);
}

function open() {
  if (!props.value) return;
  scene = JSON.parse(props.value);
  find('.orz-empty').hidden = true;
  find('.orz-result').hidden = false;
  find('.orz-count').textContent = `${scene.cameras.length} photos, ${scene.seconds.toFixed(1)} s`;
  find('#orz-photos').replaceChildren(...scene.names.map((name, i) => {
    const photo = made('button', made('img', '', { src: `scene/${scene.token}/photo/${i}`, alt: '' }), { type: 'button',
      className: 'orz-photo', title: name, onclick: () => choosePhoto(i) });
    photo.append(made('span', name));
    return photo;
  }));
  fill(find('#orz-path'), Object.keys(scene.paths).map((name) => [name, PATH_LABELS[name] || name]));
  fill(find('#orz-shown'), scene.maps.map((name) => [name, name]));
  find('#orz-shown').disabled = scene.maps.length < 2;
  find('#orz-depth').textContent = scene.maps.includes('depth') ? '' : `Depth: ${scene.model} has none.`;
  find('#orz-notes').replaceChildren(...scene.notes.map((note) => made('li', note)));
  find('#orz-video').hidden = true;
  listFiles();
  pose = null;
  startDrawing();
  choosePath('interpolate', 0);
}

function showVideo() {
  if (!props.film || !scene) return;
  const { token, file } = JSON.parse(props.film), video = find('#orz-video');
  if (token !== scene.token) return;
  video.src = `scene/${token}/file/${file}`;
  video.hidden = false;
  const saved = made('a', 'Video, MP4', { href: `scene/${token}/file/${file}?save=1`, download: file, id: 'orz-saved' });
  find('#orz-saved')?.remove();
  find('#orz-film').after(saved);
  video.play().catch(() => {});
}

// Drags: `change` gets the movement in pixels; a drag of no length is a click.
function onDrag(box, change, click) {
  const fingers = new Map();
  let length = 0, apart = 0;
  box.addEventListener('pointerdown', (event) => {
    box.setPointerCapture(event.pointerId);
    fingers.set(event.pointerId, [event.clientX, event.clientY]);
    length = apart = 0;
  });
  box.addEventListener('pointermove', (event) => {
    const before = fingers.get(event.pointerId);
    if (!before) return;
    const now = [event.clientX, event.clientY];
    fingers.set(event.pointerId, now);
    length += Math.hypot(now[0] - before[0], now[1] - before[1]);
    if (fingers.size === 1) return change(now[0] - before[0], now[1] - before[1]);
    const [a, b] = fingers.values(), gap = Math.hypot(a[0] - b[0], a[1] - b[1]);
    if (apart && box === canvas) zoom(apart / gap);
    apart = gap;
  });
  box.addEventListener('pointerup', (event) => {
    fingers.delete(event.pointerId);
    if (length < 4) click(event);
  });
  box.addEventListener('pointercancel', (event) => fingers.delete(event.pointerId));
}

function zoom(factor) {
  orbit.distance = Math.min(Math.max(orbit.distance * factor, 0.15 * orbit.start), 6 * orbit.start);
  draw();
}

onDrag(canvas, (dx, dy) => {
  orbit.yaw -= 0.008 * dx;
  orbit.pitch = clamp(orbit.pitch + 0.008 * dy, 1.5);
  draw();
}, (event) => {
  const box = canvas.getBoundingClientRect(), { project } = projection(box.width, box.height);
  const away = scene.cameras.map((m, i) => {
    const places = [centre(m), ...corners(m, scene.intrinsics[i], 0.055 * orbit.start)].map(project).filter(Boolean);
    const middle = [0, 1].map((axis) => places.reduce((sum, q) => sum + q[axis], 0) / places.length);
    return Math.hypot(middle[0] - event.clientX + box.left, middle[1] - event.clientY + box.top);
  });
  const nearest = away.indexOf(Math.min(...away));
  if (away[nearest] < 32) choosePhoto(nearest);
});
canvas.addEventListener('wheel', (event) => {
  event.preventDefault();
  zoom(Math.exp(0.0012 * event.deltaY));
}, { passive: false });
onDrag(image, (dx, dy) => {
  turn = clamp(turn - 0.15 * dx, MOST_TURN);
  lift = clamp(lift + 0.15 * dy, MOST_TURN);
  moved();
}, () => {});
image.addEventListener('dblclick', () => {
  turn = lift = 0;
  moved();
});
find('.orz').addEventListener('keydown', (event) => {
  const key = KEYS[event.key];
  if (!key || !scene || event.target.tagName === 'SELECT' || event.target.tagName === 'VIDEO') return;
  event.preventDefault();
  slider.value = Number(slider.value) + key[0] * (event.shiftKey ? 10 : 1);
  lift = clamp(lift + key[1], MOST_TURN);
  moved();
});
slider.addEventListener('input', moved);
find('#orz-path').addEventListener('change', (event) => choosePath(event.target.value, 0));
find('#orz-shown').addEventListener('change', show);
new ResizeObserver(draw).observe(canvas);
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => setTimeout(draw, 300));
watch('value', open);
watch('film', showVideo);
open();
