// Words in the picture: the weightiest first, none over another.

let waiting = [];
function addLabel(text, x, at, how) {
  waiting.push({ text, x, at, ...how });
  return false;
}

function markLabels() {
  const { t0, t1 } = view;
  if (layers['roles, votes']) {
    for (const change of lines.changes.in(t0, t1)) {
      const lane = nodeLane(change.seat);
      if (!lane.on || strength(change) === 0) continue;
      const at = y(change.t0), isFailing = failing(change.step);
      const colour = isFailing ? RED : change.part === 3 ? BLUE : change.part === 4 ? INK
        : change.part === 1 || change.part === 2 ? '#9a5b00' : '#44515f';
      if (change.part === 4) {
        pen.strokeStyle = pen.fillStyle = INK;
        cross(lane.mid, at, 5);
      } else if (change.part !== 5) {
        line(lane.mid - 8, at, lane.mid + 8, at, colour, 1.6);
      }
      addLabel(change.text, lane.mid + 24, at + 1, {
        weight: isFailing ? 21 : change.part === 3 ? 9 : change.part === 4 ? 8.5 : 7, colour,
        align: 'left', room: Math.max(170, lane.x + lane.width - lane.mid - 28), chip: true,
        bold: change.part === 3 || isFailing, thing: change,
      });
    }
    for (const cut of lines.cuts.in(t0, t1)) {
      const lane = nodeLane(cut.seat);
      if (!lane.on) continue;
      addLabel('✂ ' + cut.text.replace(/ is gone.*/, ''), lane.mid + 24, y(cut.t0), {
        weight: 7.5, colour: '#7b1fa2', align: 'left', room: 110, chip: true, thing: cut });
    }
  }
  if (layers.commits) {
    for (const commit of lines.commits.in(t0, t1)) {
      const lane = nodeLane(commit.seat), how = strength(commit);
      if (!lane.on || how === 0) continue;
      const at = y(commit.t0), isFailing = failing(commit.step);
      pen.globalAlpha = how === 1 ? .15 : 1;
      const colour = isFailing ? RED : GREEN;
      line(lane.mid - 13, at, lane.mid - 7, at, colour, commit.first ? 3 : 1.2);
      pen.globalAlpha = 1;
      hits.push({ x: lane.mid - 15, y: at - 3, width: 9, height: 6, thing: commit });
      if (how === 2) {
        addLabel((commit.first ? '✓' : '') + commit.through, lane.mid - 15, at, {
          weight: isFailing ? 18 : commit.first ? 3.5 : .5, colour, align: 'right', room: 46,
          thing: commit,
        });
      }
    }
  }
  if (layers.faults) {
    for (const mark of lines.marks.in(t0, t1)) {
      if (mark.seat < 0) continue;
      const lane = nodeLane(mark.seat);
      if (!lane.on) continue;
      const text = mark.sign === 1 ? mark.text : mark.text.split(' ')[0];
      addLabel('⚡'.repeat(mark.sign === 0 ? 1 : 0) + text, lane.mid + 24, y(mark.t0), {
        weight: 4.5, colour: mark.sign === 1 ? BROWN : '#5b3f86', align: 'left', room: 150,
        chip: true, thing: mark });
    }
    for (const band of lines.bands.in(t0, t1)) {
      const lane = nodeLane(band.seat);
      if (!lane.on || lane.x + 4 + band.row * 9 > lane.mid - 14) continue;
      const at = Math.max(y(band.t0), HEAD + 2) + 8;
      addLabel(band.fault, lane.x + 4 + band.row * 9, at, { weight: 10,
        colour: BAND[band.fault[0]] || SOFT, align: 'left', room: 60, chip: true, thing: band });
    }
  }
}

function drawLabels() {
  if (layers.labels) markLabels();
  placeLabels();
}

function placeLabels() {
  waiting.sort((a, b) => b.weight - a.weight);
  let drawn = 0;
  for (const label of waiting.slice(0, 2500)) {
    if (drawn > 400) break;
    if (place(label)) drawn += 1;
  }
  waiting = [];
}

function place(label) {
  const { x, at, align, room } = label;
  if (at < HEAD + 6 || at > size.height - 4 || room < 14) return false;
  pen.font = (label.bold ? '600 ' : '') + '11px system-ui, sans-serif';
  let text = label.text, width = pen.measureText(text).width;
  if (width > room) {
    const fits = Math.floor(text.length * room / width) - 1;
    if (fits < 3) return false;
    text = text.slice(0, fits).trimEnd() + '…';
    width = pen.measureText(text).width;
  }
  const pad = label.chip ? 3 : 0;
  const left = align === 'right' ? x - width : x;
  const box = label.turned ? [x - 6, at, x + 6, at + width]
    : [left - pad, at - 6.5, left + width + pad, at + 6.5];
  if (taken.some(other => box[0] < other[2] && other[0] < box[2] && box[1] < other[3]
    && other[1] < box[3])) return false;
  taken.push(box);
  pen.textAlign = 'left';
  pen.textBaseline = 'middle';
  if (label.turned) {
    pen.save();
    pen.translate(x, at);
    pen.rotate(Math.PI / 2);
    halo(text, 0, 0, label.colour);
    pen.restore();
  } else if (label.chip) {
    pen.fillStyle = 'rgba(255,255,255,.93)';
    pen.strokeStyle = label.colour;
    pen.lineWidth = .8;
    pen.beginPath();
    pen.roundRect(box[0], box[1], box[2] - box[0], 13, 3);
    pen.fill();
    pen.stroke();
    pen.fillStyle = label.colour;
    pen.fillText(text, left, at + .5);
  } else {
    halo(text, left, at, label.colour);
  }
  if (label.thing) {
    hits.push({ x: box[0], y: box[1], width: box[2] - box[0], height: box[3] - box[1],
      thing: label.thing });
  }
  return true;
}

function halo(text, x, at, colour) {
  pen.lineWidth = 3;
  pen.strokeStyle = 'rgba(255,255,255,.85)';
  pen.strokeText(text, x, at);
  pen.fillStyle = colour;
  pen.fillText(text, x, at);
}

function drawHeads() {
  pen.fillStyle = '#ffffff';
  pen.fillRect(0, 0, size.width, HEAD - 2);
  pen.fillStyle = '#c3ccd6';
  pen.fillRect(0, HEAD - 2, size.width, 1);
  pen.textBaseline = 'middle';
  for (const lane of lanes.filter(one => one.on)) {
    const isConcerned = failure && failure.nodes.includes(lane.seat);
    pen.font = '600 13px system-ui, sans-serif';
    pen.fillStyle = isConcerned ? RED : INK;
    pen.textAlign = lane.seat !== undefined ? 'center' : 'left';
    const x = lane.seat !== undefined ? lane.mid : lane.mid - 6;
    pen.fillText(lane.width < 24 ? lane.name.slice(1) : lane.name, x, HEAD / 2 - 1);
    if (lane.seat !== undefined && lane.width > 110) {
      // What it is where the window begins.
      const role = lines.roles.in(view.t0, view.t0 + 1).filter(r => r.seat === lane.seat).pop();
      if (role) {
        const part = PARTS[role.part].replace('pre-candidate', 'asks');
        pen.font = '11px system-ui, sans-serif';
        pen.textAlign = 'left';
        pen.fillStyle = SOFT;
        const text = role.part < 4 ? `${part}, term ${role.term}` : part;
        if (pen.measureText(text).width + 15 < lane.x + lane.width - x) {
          pen.fillText(text, x + 15, HEAD / 2);
        }
      }
    }
  }
  pen.font = '11px system-ui, sans-serif';
  pen.fillStyle = SOFT;
  pen.textAlign = 'right';
  pen.fillText('true time', AXIS - 10, HEAD / 2);
}
