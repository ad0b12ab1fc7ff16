"use strict";
(() => {
  const data = JSON.parse(document.getElementById("film-data").textContent);
  const root = document.documentElement;
  const element = (id) => document.getElementById(id);
  const film = element("film"), canvas = element("overlay"), pen = canvas.getContext("2d");
  const play = element("play"), scrub = element("scrub"), clock = element("clock"), timeline = element("timeline");
  const playhead = element("playhead"), shelf = element("shelf"), showBoxes = element("boxes"), onlyMatches = element("matches"), hint = element("hint");
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const cards = [...document.querySelectorAll(".card")], lanes = [...document.querySelectorAll(".lane")];
  root.classList.add("live");

  // Boxes by segment: between two of one segment lies a straight line, between segments nothing.
  const things = data.things.map((thing, number) => ({
    ...thing, number,
    spans: thing.segments.map(([start, end]) => ({
      start, end, boxes: thing.boxes.filter(([time]) => time >= start - 1e-3 && time <= end + 1e-3),
    })),
  }));

  function boxAt(thing, time) {
    const span = thing.spans.find(({ start, end }) => time >= start && time < end);
    if (!span || !span.boxes.length) return null;
    const { boxes } = span;
    let low = 0, high = boxes.length - 1;
    if (time <= boxes[0][0]) return boxes[0].slice(1);
    if (time >= boxes[high][0]) return boxes[high].slice(1);
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (boxes[middle][0] <= time) low = middle; else high = middle;
    }
    const [from, to] = [boxes[low], boxes[high]];
    const share = (time - from[0]) / (to[0] - from[0] || 1);
    return [1, 2, 3, 4].map((side) => from[side] + (to[side] - from[side]) * share);
  }

  // The time: the film's, or our own where there is no film to play.
  let filmWorks = Boolean(film), ownTime = 0, ownPlaying = false, ownSince = 0;
  const last = Math.max(0, data.duration - 0.001);
  const isPlaying = () => (filmWorks ? !film.paused && !film.ended : ownPlaying);
  function now() {
    if (filmWorks) return film.currentTime;
    if (!ownPlaying) return ownTime;
    const time = ownTime + (performance.now() - ownSince) / 1000;
    if (time >= data.duration) { ownTime = data.duration; ownPlaying = false; return ownTime; }
    return time;
  }
  function seek(time) {
    const to = Math.min(Math.max(0, time), last);
    if (filmWorks) film.currentTime = to; else { ownTime = to; ownSince = performance.now(); }
    show(to);
  }
  function toggle() {
    if (filmWorks) { if (film.paused) film.play().catch(() => {}); else film.pause(); return; }
    if (ownPlaying) ownTime = now(); else if (ownTime >= last) ownTime = 0;
    ownPlaying = !ownPlaying;
    ownSince = performance.now();
    run();
  }

  const pad = (number) => String(number).padStart(2, "0");
  function words(time) {
    const tenths = Math.round(time * 10), minutes = Math.floor(tenths / 600), hours = Math.floor(minutes / 60);
    const rest = `${pad(Math.floor(tenths / 10) % 60)}.${tenths % 10}`;
    return hours ? `${hours}:${pad(minutes % 60)}:${rest}` : `${minutes}:${rest}`;
  }

  let shown = [], litBefore = "";
  function show(time) {
    const moment = Math.min(time, last);
    shown = things.filter((thing) => !onlyMatches.checked || sure(thing))
      .map((thing) => ({ thing, box: boxAt(thing, moment) })).filter(({ box }) => box);
    draw();
    clock.textContent = words(moment);
    if (document.activeElement !== scrub || isPlaying()) scrub.value = moment;
    const track = timeline.querySelector(".ruler .track");
    const left = track.getBoundingClientRect().left - timeline.getBoundingClientRect().left + timeline.scrollLeft;
    playhead.style.left = `${left + track.clientWidth * (moment / data.duration)}px`;
    playhead.style.height = `${timeline.scrollHeight - 12}px`;
    const lit = shown.map(({ thing }) => thing.number);
    if (lit.join() !== litBefore) light(lit);
    play.classList.toggle("playing", isPlaying());
    play.setAttribute("aria-label", isPlaying() ? "Pause" : "Play");
  }

  function light(lit) {
    litBefore = lit.join();
    const on = new Set(lit);
    for (const item of [...cards, ...lanes]) item.classList.toggle("on", on.has(Number(item.dataset.thing)));
    element("onscreen").textContent = lit.length ? `${lit.length} on screen` : "";
    // Bring the lit cards into view inside their own column; never move the page, nor what somebody is reading.
    const own = getComputedStyle(shelf).overflowY === "auto";
    if (!own || !lit.length || shelf.matches(":hover") || shelf.contains(document.activeElement)) return;
    const first = cards[lit[0]], final = cards[lit[lit.length - 1]];
    const inView = first.offsetTop >= shelf.scrollTop && final.offsetTop + final.offsetHeight <= shelf.scrollTop + shelf.clientHeight;
    if (!inView) shelf.scrollTo({ top: first.offsetTop - cards[0].offsetTop, behavior: still || !isPlaying() ? "auto" : "smooth" });
  }

  function draw() {
    const ratio = devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
    }
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, width, height);
    if (!showBoxes.checked) return;
    const frames = shown.map(({ thing, box: [left, top, right, bottom] }) => ({
      thing, x: left * width, y: top * height, w: (right - left) * width, h: (bottom - top) * height,
    }));
    frames.forEach(drawFrame);
    const taken = [];
    // Sure ones before the others, small ones before large: they have the least room for a label.
    [...frames].sort((one, other) => sure(other.thing) - sure(one.thing) || one.w * one.h - other.w * other.h).forEach((frame) => drawLabel(frame, width, height, taken));
  }

  const sure = (thing) => thing.decision === "match";
  function drawFrame({ thing, x, y, w, h }) {
    const corner = Math.min(10, w / 4, h / 4);
    pen.lineWidth = sure(thing) || !thing.decision ? 2.5 : 1.5;
    pen.globalAlpha = sure(thing) || !thing.decision ? 1 : 0.75;
    pen.setLineDash(sure(thing) || !thing.decision ? [] : [6, 4]);
    pen.beginPath();
    pen.roundRect(x, y, w, h, corner);
    pen.fillStyle = `${thing.colour}14`;
    if (sure(thing)) pen.fill();
    pen.save();
    pen.shadowColor = "#000000a0";
    pen.shadowBlur = 5;
    pen.strokeStyle = thing.colour;
    pen.stroke();
    pen.restore();
    pen.setLineDash([]);
    pen.globalAlpha = 1;
  }

  function ink(colour) {
    const [red, green, blue] = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16) / 255);
    return 0.299 * red + 0.587 * green + 0.114 * blue > 0.52 ? "#111" : "#fff";
  }
  function fit(text, room) {
    if (pen.measureText(text).width <= room) return text;
    let end = text.length;
    while (end > 1 && pen.measureText(`${text.slice(0, end)}…`).width > room) end -= 1;
    return `${text.slice(0, end).trimEnd()}…`;
  }
  function drawLabel({ thing, x, y, w, h }, width, height, taken) {
    const size = width < 520 ? 11 : 13, tall = size + 9;
    pen.font = `600 ${size}px system-ui, sans-serif`;
    pen.textBaseline = "middle";
    const price = thing.price ? `  ${thing.price}` : "";
    const title = fit(thing.title, Math.max(w, width * 0.2) - 16);
    const titleWide = pen.measureText(title).width;
    const wide = titleWide + pen.measureText(price).width + 14;
    const across = Math.max(2, Math.min(x, width - wide - 2));
    const right = Math.max(2, Math.min(x + w - wide, width - wide - 2));
    const places = [
      [across, y - tall - 3], [across, y + h + 3], [right, y - tall - 3], [across, y + 4], [across, y + h - tall - 4], [right, y + 4],
    ].map(([left, top]) => ({ left, top, wide, tall }));
    const free = (place) => place.top >= 2 && place.top + tall <= height - 2 &&
      !taken.some((other) => place.left < other.left + other.wide + 3 && other.left < place.left + wide + 3 &&
        place.top < other.top + other.tall + 2 && other.top < place.top + tall + 2);
    const place = places.find(free) || { ...places[3], top: Math.max(2, Math.min(places[3].top, height - tall - 2)) };
    taken.push(place);
    pen.beginPath();
    pen.roundRect(place.left, place.top, wide, tall, 6);
    pen.fillStyle = sure(thing) || !thing.decision ? thing.colour : "#17171ad0";
    pen.fill();
    const front = sure(thing) || !thing.decision ? ink(thing.colour) : thing.colour;
    pen.fillStyle = front;
    pen.fillText(title, place.left + 7, place.top + tall / 2 + 0.5);
    if (price) {
      pen.globalAlpha = 0.78;
      pen.fillText(price, place.left + 7 + titleWide, place.top + tall / 2 + 0.5);
      pen.globalAlpha = 1;
    }
  }

  let running = false;
  function run() {
    if (running) return;
    running = true;
    const step = (_, frame) => {
      show(frame && frame.mediaTime !== undefined ? frame.mediaTime : now());
      if (isPlaying()) next(); else running = false;
    };
    // A film's own frames, where the browser tells them: the boxes then belong to the picture that is seen.
    const next = () => (filmWorks && film.requestVideoFrameCallback && !film.ended
      ? film.requestVideoFrameCallback(step) : requestAnimationFrame((at) => step(at)));
    next();
  }

  function giveUpFilm() {
    filmWorks = false;
    film.hidden = true;
    hint.hidden = false;
    hint.textContent = "This browser cannot play the film; what was found in it is drawn here all the same.";
    fromAddress();
  }
  function fromAddress() {
    const match = /[#&]t=(\d+(?:\.\d+)?)/.exec(location.hash);
    if (match) seek(Number(match[1])); else show(now());
  }

  if (film) {
    film.controls = false;
    film.addEventListener("play", run);
    for (const event of ["pause", "seeked", "timeupdate", "ended", "loadeddata"]) film.addEventListener(event, () => { if (!isPlaying()) show(now()); });
    film.addEventListener("loadedmetadata", fromAddress);
    film.addEventListener("error", giveUpFilm);
    if (film.error) giveUpFilm();
  }
  play.addEventListener("click", toggle);
  scrub.addEventListener("input", () => seek(Number(scrub.value)));
  showBoxes.addEventListener("change", draw);
  onlyMatches.addEventListener("change", () => { root.classList.toggle("only-matches", onlyMatches.checked); show(now()); });
  onlyMatches.closest("label").hidden = !things.some((thing) => thing.decision && !sure(thing));
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-seek]");
    if (button) seek(Number(button.dataset.seek) + 0.02);
  });
  timeline.addEventListener("pointerdown", (event) => {
    const track = event.target.closest(".track");
    if (!track || event.target.closest(".bar")) return;
    const area = track.getBoundingClientRect();
    seek(((event.clientX - area.left) / area.width) * data.duration);
  });
  function thingUnder(event) {
    const area = canvas.getBoundingClientRect();
    const x = (event.clientX - area.left) / area.width, y = (event.clientY - area.top) / area.height;
    const hits = shown.filter(({ box: [left, top, right, bottom] }) => x >= left && x <= right && y >= top && y <= bottom);
    const size = ({ box: [left, top, right, bottom] }) => (right - left) * (bottom - top);
    return hits.sort((one, other) => size(one) - size(other))[0];
  }
  canvas.addEventListener("pointermove", (event) => { canvas.style.cursor = thingUnder(event) ? "pointer" : "default"; });
  canvas.addEventListener("click", (event) => {
    const hit = thingUnder(event);
    if (!hit) { toggle(); return; }
    const card = cards[hit.thing.number];
    card.scrollIntoView({ block: "nearest", behavior: still ? "auto" : "smooth" });
    card.classList.remove("flash");
    void card.offsetWidth;
    card.classList.add("flash");
  });
  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest("button, a, input");
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const card = event.target.closest(".card");
    if (event.key === "Enter" && card && event.target === card) { seek(things[Number(card.dataset.thing)].segments[0][0] + 0.02); return; }
    if (event.key === " " && typing) return;
    if (typing && typing.matches("input[type=range]") && event.key.startsWith("Arrow")) return;
    const frame = 1 / data.frameRate;
    const acts = {
      " ": toggle, k: toggle, ArrowLeft: () => seek(now() - 1), ArrowRight: () => seek(now() + 1),
      ",": () => seek(now() - frame), ".": () => seek(now() + frame), Home: () => seek(0), End: () => seek(last),
      b: () => { showBoxes.checked = !showBoxes.checked; draw(); },
    };
    const act = acts[event.key];
    if (act) { event.preventDefault(); act(); }
  });
  addEventListener("hashchange", fromAddress);
  new ResizeObserver(() => show(now())).observe(canvas);
  fromAddress();
})();
