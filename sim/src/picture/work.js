// What disks and clients do.

function drawWriting(writing) {
  const lane = nodeLane(writing.seat);
  const how = strength(writing);
  if (!lane.on || how === 0) return;
  const x = lane.mid + (writing.job === 0 ? 12 : 18);
  const isFailing = failing(writing.step), isFar = view.crowd > 2;
  const colour = isFailing ? RED : writing.job === 0 ? '#3c4a59' : BROWN;
  const [, top, , height] = rect(x, writing.t0, 3, writing.t1);
  pen.globalAlpha = how === 1 ? .12 : writing.durable ? .8 : .95;
  pen.fillStyle = pen.strokeStyle = colour;
  if (writing.durable) {
    pen.fillRect(x - .75, top, 1.5, height);
    if (y(writing.t1) >= HEAD) pen.fillRect(x - 3, y(writing.t1) - 1.5, 6, 3);
  } else {
    pen.setLineDash([2, 2]);
    pen.lineWidth = 1.5;
    pen.beginPath();
    pen.moveTo(x, top);
    pen.lineTo(x, top + height);
    pen.stroke();
    pen.setLineDash([]);
    if (!writing.open) cross(x, y(writing.t1), 3);
  }
  if (y(writing.t0) >= HEAD && !isFar) {
    pen.lineWidth = 1.2;
    pen.fillStyle = '#ffffff';
    pen.beginPath();
    pen.arc(x, y(writing.t0), 2.4, 0, 7);
    pen.fill();
    pen.stroke();
  }
  pen.globalAlpha = 1;
  hits.push({ x: x - 4, y: top - 2, width: 8, height: height + 4, thing: writing });
  if (writing.job !== 0 && how === 2 && top > HEAD && !isFar) {
    addLabel(writing.text, x + 6, top + 5, { weight: 2, colour: BROWN, align: 'left',
      room: lane.x + lane.width - x - 10 });
  }
}

function drawOperations() {
  const { t0, t1 } = view;
  const shown = lines.operations.in(t0, t1).filter(operation => {
    const lane = clientLane(operation.client);
    return lane && lane.on && strength(operation) > 0;
  });
  if (layers['client requests']) for (const operation of shown) drawTries(operation);
  for (const operation of shown) drawOperation(operation);
  if (!layers['watch events']) return;
  for (const notice of lines.notices.in(t0, t1)) drawNotice(notice);
}

function drawNotice(notice) {
  const lane = clientLane(notice.client), from = nodeLane(notice.seat);
  const how = strength(notice), isFailing = failing(notice.step);
  if (!lane || !lane.on || how === 0) return;
  const x = lane.mid - 9, at = y(notice.t0);
  pen.globalAlpha = how === 1 ? .15 : 1;
  pen.fillStyle = isFailing ? RED : PURPLE;
  pen.beginPath();
  pen.moveTo(x, at - 3.5);
  pen.lineTo(x + 3.5, at);
  pen.lineTo(x, at + 3.5);
  pen.lineTo(x - 3.5, at);
  pen.fill();
  if (from.on && (notice === hovered || notice === pinned || isFailing)) {
    line(edge(from, lane), at, x, at, pen.fillStyle, 1.6);
  }
  pen.globalAlpha = 1;
  hits.push({ x: x - 4, y: at - 4, width: 8, height: 8, thing: notice });
  if (isFailing) {
    addLabel(notice.text, x - 8, at - 8, { weight: 20, colour: RED, align: 'right', room: 260,
      bold: true });
  }
}

function line(x0, y0, x1, y1, colour, width, dash = []) {
  pen.strokeStyle = pen.fillStyle = colour;
  pen.lineWidth = width;
  pen.setLineDash(dash);
  pen.beginPath();
  pen.moveTo(x0, y0);
  pen.lineTo(x1, y1);
  pen.stroke();
  pen.setLineDash([]);
}

// Each try: the question to its node, and the answer back.
function drawTries(operation) {
  const lane = clientLane(operation.client);
  const isFailing = failing(operation.step), how = strength(operation);
  const isPicked = operation === hovered || operation === pinned;
  const colour = isFailing ? RED : isPicked ? INK : '#8d9aa8';
  const width = isFailing ? 2 : isPicked ? 2 : .7;
  for (const one of operation.tries) {
    const to = nodeLane(one.seat);
    if (!to.on) continue;
    const x0 = edge(lane, to), x1 = edge(to, lane);
    pen.globalAlpha = isFailing || isPicked ? 1 : how === 1 ? .06
      : isFiltering() ? .9 : .38 / view.crowd;
    if (one.arrived >= 0) {
      line(x0, y(one.asked), x1, y(one.arrived), colour, width);
      arrowhead(x0, y(one.asked), x1, y(one.arrived), 5);
      if (one.text === 'the node is down') cross(x1, y(one.arrived), 3);
    } else {
      line(x0, y(one.asked), (x0 + x1) / 2, y(one.asked) + 3, colour, width, [4, 3]);
    }
    if (one.answered >= 0) {
      if (one.ended >= one.answered) {
        line(x1, y(one.answered), x0, y(one.ended), colour, width);
        arrowhead(x1, y(one.answered), x0, y(one.ended), 5);
      } else {
        line(x1, y(one.answered), (x0 + x1) / 2, y(one.answered) + 3, colour, width, [4, 3]);
      }
    }
    pen.globalAlpha = 1;
  }
}

function drawOperation(operation) {
  const lane = clientLane(operation.client);
  const isFailing = failing(operation.step), how = strength(operation);
  const half = operation.writes ? 5 : 4;
  const bar = rect(lane.mid - half, operation.t0, half * 2, operation.t1);
  bar[3] = Math.max(bar[3], 3);
  pen.globalAlpha = how === 1 ? .15 : 1;
  pen.fillStyle = OUTCOME[operation.outcome];
  pen.fillRect(...bar);
  if (!operation.writes) {
    // A question is hollow.
    pen.fillStyle = 'rgba(255,255,255,.62)';
    pen.fillRect(bar[0] + 1.5, bar[1] + 1, bar[2] - 3, bar[3] - 2);
  }
  if (operation.outcome === 3) hatch(...bar, '#ffffff', 5);
  if (operation.outcome === 2) hatch(...bar, '#ffffff', 7, true);
  pen.lineWidth = isFailing || operation === pinned || operation === hovered ? 2.4 : 1;
  pen.strokeStyle = isFailing ? RED : operation.outcome === 0 ? '#7d8894'
    : darkOutcome(operation.outcome);
  pen.strokeRect(...bar);
  pen.globalAlpha = 1;
  hits.push({ x: bar[0] - 2, y: bar[1] - 1, width: bar[2] + 4, height: bar[3] + 2,
    thing: operation });
  if (!layers.labels || how === 1) return;
  const answer = operation.outcome === 0 ? '…' : operation.answer;
  const weight = isFailing ? 19 : operation === hovered || operation === pinned ? 18 : 2.5;
  const colour = isFailing ? RED : INK;
  const room = lane.x + lane.width - lane.mid - half - 6;
  const first = Math.max(bar[1] + 6, HEAD + 14);
  if (room > 70) {
    const at = { weight, colour, align: 'left', room, bold: isFailing, thing: operation };
    if (addLabel(operation.asked, lane.mid + half + 4, first, at)) return;
    addLabel('→ ' + answer, lane.mid + half + 4, first + 14, {
      ...at, colour: isFailing ? RED : darkOutcome(operation.outcome), weight: weight - .1 });
  } else {
    const below = Math.min(y(operation.next), size.height) - first - 2;
    addLabel(`${operation.asked} → ${answer}`, lane.mid + half + 7, first - 5, {
      weight, colour, align: 'left', room: below, turned: true, bold: isFailing,
      thing: operation });
  }
}

const darkOutcome = outcome => ['#5d6b7a', '#005f47', '#8f5500', '#56606b'][outcome];

function drawFailure() {
  for (const mark of lines.marks.in(view.t0, view.t1)) {
    if (mark.sign !== 2) continue;
    line(AXIS, y(mark.t0), size.width, y(mark.t0), GREEN, 1.2, [8, 4]);
    addLabel(mark.text, size.width - 8, y(mark.t0) - 7, { weight: 15, colour: GREEN,
      align: 'right', room: 300 });
  }
  if (!failure || failure.time < view.t0 || failure.time > view.t1) return;
  const at = y(failure.time);
  line(AXIS - 6, at, size.width, at, RED, 1.4, [6, 3]);
  for (const seat of failure.nodes) {
    const lane = nodeLane(seat);
    if (!lane || !lane.on) continue;
    pen.strokeStyle = RED;
    pen.lineWidth = 2.4;
    pen.beginPath();
    pen.arc(lane.mid, at, 11, 0, 7);
    pen.stroke();
  }
  pen.font = '600 11px system-ui, sans-serif';
  const text = `${failure.id}, step ${failure.step}`;
  const width = pen.measureText(text).width + 12;
  pen.fillStyle = RED;
  pen.fillRect(size.width - width, at + 3, width, 17);
  pen.fillStyle = '#ffffff';
  pen.textAlign = 'left';
  pen.fillText(text, size.width - width + 6, at + 12);
  taken.push([size.width - width, at + 3, size.width, at + 20]);
}
