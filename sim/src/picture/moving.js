// Moving about, and pointing at things.

let asked = false;
function redraw() {
  if (asked) return;
  asked = true;
  requestAnimationFrame(() => {
    asked = false;
    draw();
  });
}

function look(t0, t1) {
  const length = Math.min(Math.max(t1 - t0, 50), END * 1.1);
  view.t0 = Math.max(-END * .02, Math.min(t0, END - length * .1));
  view.t1 = view.t0 + length;
  hovered = null;
  $('tip').hidden = true;
  redraw();
}

function zoom(by, around = (view.t0 + view.t1) / 2) {
  look(around - (around - view.t0) * by, around + (view.t1 - around) * by);
}

function goTo(t) {
  const length = view.t1 - view.t0;
  const isSeen = t >= view.t0 + length * .05 && t <= view.t1 - length * .05;
  if (!isSeen) look(t - length / 2, t + length / 2);
}

// The last election timeouts before the failure, fewer where much happens in them.
function toFailure() {
  const t = failure ? failure.time : Math.min(END, run.from + run.unit * 4);
  let length = run.unit * 3;
  const count = () => lines.messages.in(t - length, t).length;
  while (length > run.unit / 2 && count() > 450) length *= .8;
  // Nor where nothing happens before.
  const first = Math.min(...lines.messages.in(t - length, t).map(message => message.t0));
  if (failure && t - first < length / 3) length = Math.max((t - first) * 1.3, 2000);
  look(t - length, t + length * .08);
}

function highlight({ index, term, key }) {
  $('by-index').value = index === undefined ? '' : index;
  $('by-term').value = term === undefined ? '' : term;
  $('by-key').value = key === undefined ? '' : key;
  readFilter();
}

function readFilter() {
  const [, from, to] = /^\s*(\d+)(?:\s*-\s*(\d+))?\s*$/.exec($('by-index').value) || [];
  wanted.from = Number(from || 0);
  wanted.to = Number(to || from || 0);
  wanted.term = Number($('by-term').value) || 0;
  wanted.key = $('by-key').value.trim();
  wanted.only = $('only').checked;
  redraw();
}

function thingAt(x, at) {
  let best = null, least = 6;
  for (let place = hits.length - 1; place >= 0; place -= 1) {
    const hit = hits[place];
    if (hit.width !== undefined) {
      if (x >= hit.x && x <= hit.x + hit.width && at >= hit.y && at <= hit.y + hit.height) {
        // What lies behind everything else is what is left.
        const far = hit.thing.what === 'role' ? 5.5 : 1;
        if (far < least) [best, least] = [hit.thing, far];
      }
    } else {
      const far = distance(x, at, hit) + 1;
      if (far < least) [best, least] = [hit.thing, far];
    }
  }
  return best;
}

function distance(x, at, { x0, y0, x1, y1 }) {
  const dx = x1 - x0, dy = y1 - y0;
  const part = ((x - x0) * dx + (at - y0) * dy) / (dx * dx + dy * dy || 1);
  const along = Math.max(0, Math.min(1, part));
  return Math.hypot(x - x0 - along * dx, at - y0 - along * dy);
}

function listen() {
  let held = null;
  canvas.addEventListener('wheel', event => {
    event.preventDefault();
    if (event.ctrlKey || event.metaKey || event.altKey) {
      zoom(Math.exp(event.deltaY * .002), timeAt(event.offsetY));
    } else {
      const by = event.deltaY / size.height * (view.t1 - view.t0);
      look(view.t0 + by, view.t1 + by);
    }
  }, { passive: false });
  canvas.addEventListener('pointerdown', event => {
    held = { y: event.offsetY, t0: view.t0, t1: view.t1, moved: false };
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener('pointermove', event => {
    if (held) {
      const by = (held.y - event.offsetY) / (size.height - HEAD) * (held.t1 - held.t0);
      held.moved ||= Math.abs(held.y - event.offsetY) > 3;
      canvas.classList.toggle('moving', held.moved);
      if (held.moved) look(held.t0 + by, held.t1 + by);
      return;
    }
    const thing = event.offsetY < HEAD ? null : thingAt(event.offsetX, event.offsetY);
    showTip(thing, event);
    if (thing !== hovered) {
      hovered = thing;
      if (!asked) drawHovered();
    }
  });
  canvas.addEventListener('pointerup', event => {
    const was = held;
    held = null;
    canvas.classList.remove('moving');
    if (was && was.moved) return;
    if (event.offsetY < HEAD) {
      const lane = lanes.find(one => one.on && event.offsetX >= one.x
        && event.offsetX < one.x + one.width);
      if (lane) {
        lane.wide = !lane.wide;
        layOut();
        redraw();
      }
      return;
    }
    pin(thingAt(event.offsetX, event.offsetY));
  });
  canvas.addEventListener('pointerleave', () => {
    hovered = null;
    $('tip').hidden = true;
    if (!asked) drawHovered();
  });
  const jump = event => {
    if (event.type === 'pointermove' && event.buttons === 0) return;
    const t = event.offsetY / size.height * END, half = (view.t1 - view.t0) / 2;
    look(t - half, t + half);
  };
  overview.addEventListener('pointerdown', jump);
  overview.addEventListener('pointermove', jump);
  addEventListener('resize', () => {
    layOut();
    redraw();
  });
  addEventListener('keydown', event => {
    if (event.target.tagName === 'INPUT') return;
    const length = view.t1 - view.t0;
    const keys = {
      '+': () => zoom(.7), '=': () => zoom(.7), '-': () => zoom(1.4),
      ArrowDown: () => look(view.t0 + length * .1, view.t1 + length * .1),
      ArrowUp: () => look(view.t0 - length * .1, view.t1 - length * .1),
      PageDown: () => look(view.t0 + length * .9, view.t1 + length * .9),
      PageUp: () => look(view.t0 - length * .9, view.t1 - length * .9),
      Home: () => look(0, length), End: () => look(END - length * .92, END + length * .08),
      Escape: () => { highlight({}); pin(null); },
    };
    if (keys[event.key]) {
      event.preventDefault();
      keys[event.key]();
    }
  });
  for (const id of ['by-index', 'by-term', 'by-key', 'only']) {
    $(id).addEventListener('input', readFilter);
  }
  $('to-failure').onclick = toFailure;
  $('to-all').onclick = () => look(0, END * 1.02);
  $('zoom-in').onclick = () => zoom(.6);
  $('zoom-out').onclick = () => zoom(1.6);
  $('concerned').addEventListener('input', tellStory);
  $('replay').onclick = () => navigator.clipboard && navigator.clipboard.writeText(run.replay);
}
