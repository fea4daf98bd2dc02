// The ground of the picture: time, lanes, roles and faults.

const AXIS = 92, HEAD = 26, OVERVIEW = 64;
const canvas = $('canvas'), overview = $('overview');
const pen = canvas.getContext('2d');
const size = { width: 0, height: 0 };
let hits = [], taken = [];

const y = t => HEAD + (t - view.t0) / (view.t1 - view.t0) * (size.height - HEAD);
const timeAt = at => view.t0 + (at - HEAD) / (size.height - HEAD) * (view.t1 - view.t0);

function layOut() {
  const stage = $('stage').getBoundingClientRect();
  const ratio = window.devicePixelRatio || 1;
  size.width = stage.width - OVERVIEW;
  size.height = stage.height;
  for (const [one, width] of [[canvas, size.width], [overview, OVERVIEW]]) {
    one.width = width * ratio;
    one.height = size.height * ratio;
    one.style.width = width + 'px';
    one.getContext('2d').setTransform(ratio, 0, 0, ratio, 0, 0);
  }
  const shown = lanes.filter(lane => lane.on);
  // Nodes need room for what is said between them, clients for what they ask.
  const asking = shown.filter(lane => lane.client !== undefined).length;
  const usual = lane => lane.seat !== undefined ? (asking > 8 ? 4 : 3) : asking <= 4 ? 2 : 1;
  const weight = lane => lane.wide ? 5 : usual(lane);
  const all = shown.reduce((sum, lane) => sum + weight(lane), 0) || 1;
  const unit = Math.min((size.width - AXIS - 8) / all, 110);
  let x = AXIS;
  for (const lane of shown) {
    lane.width = unit * weight(lane);
    lane.x = x;
    // Faults and commits to the left, disk and roles to the right.
    const isNode = lane.seat !== undefined;
    lane.mid = lane.x + (isNode ? lane.width * .42 : Math.min(lane.width * .3, 16));
    x += lane.width;
  }
}

function draw() {
  hits = [];
  taken = [];
  pen.clearRect(0, 0, size.width, size.height);
  pen.lineJoin = 'round';
  drawGrid();
  const { t0, t1 } = view;
  for (const role of lines.roles.in(t0, t1)) drawTint(role);
  if (layers.faults) for (const band of lines.bands.in(t0, t1)) drawBand(band);
  for (const role of lines.roles.in(t0, t1)) drawRole(role);
  drawMessages();
  if (layers['disk writes']) for (const one of lines.writings.in(t0, t1)) drawWriting(one);
  drawOperations();
  drawFailure();
  drawLabels();
  drawHeads();
  drawOverview();
  describeWindow();
  base.width = canvas.width;
  base.height = canvas.height;
  base.getContext('2d').drawImage(canvas, 0, 0);
}

// What is pointed at, over a picture that stays as it is.
const base = document.createElement('canvas');
function drawHovered() {
  pen.drawImage(base, 0, 0, size.width, size.height);
  if (!hovered) return;
  const known = hits.length;
  taken = [];
  if (hovered.what === 'message' || hovered.what === 'transfer') drawMessage(hovered, false);
  if (hovered.what === 'operation') {
    drawTries(hovered);
    drawOperation(hovered);
  }
  if (hovered.what === 'notice') drawNotice(hovered);
  placeLabels();
  drawHeads();
  hits.length = known;
}

function drawGrid() {
  const every = step((view.t1 - view.t0) / Math.max(2, (size.height - HEAD) / 60));
  const digits = Math.max(0, Math.min(6, Math.ceil(-Math.log10(every / 1e6))));
  pen.textBaseline = 'middle';
  pen.textAlign = 'right';
  for (let t = Math.ceil(view.t0 / every) * every; t <= view.t1; t += every) {
    const at = y(t);
    pen.fillStyle = LINE;
    pen.fillRect(AXIS - 6, at, size.width, 1);
    pen.font = '11px system-ui, sans-serif';
    pen.fillStyle = INK;
    pen.fillText(seconds(t, digits), AXIS - 10, at - (failure ? 5 : 0));
    if (failure) {
      pen.font = '10px system-ui, sans-serif';
      pen.fillStyle = SOFT;
      pen.fillText(relative(t), AXIS - 10, at + 7);
    }
  }
}

const relative = t =>
  (t > failure.time ? '+' : '−') + span(Math.round(Math.abs(t - failure.time)));

function step(least) {
  const power = 10 ** Math.floor(Math.log10(least));
  return [1, 2, 5, 10].map(n => n * power).find(n => n >= least);
}

const rect = (x0, t0, width, t1) => [x0, Math.max(y(t0), HEAD), width,
  Math.max(1, Math.min(y(t1), size.height) - Math.max(y(t0), HEAD))];

function drawTint(role) {
  const lane = nodeLane(role.seat);
  if (!lane.on) return;
  const [x, top, width, height] = rect(lane.x + 2, role.t0, lane.width - 4, role.t1);
  if (role.part < 4) {
    pen.fillStyle = TERMS[role.term % TERMS.length];
    pen.fillRect(x, top, width, height);
  } else {
    hatch(x, top, width, height, '#dfe3e8', 6);
  }
}

function hatch(x, top, width, height, colour, gap, back = false) {
  pen.save();
  pen.beginPath();
  pen.rect(x, top, width, height);
  pen.clip();
  pen.strokeStyle = colour;
  pen.lineWidth = 1;
  pen.beginPath();
  const lean = Math.min(width, 40);
  for (let at = Math.floor((top - lean) / gap) * gap; at < top + height + lean; at += gap) {
    for (let from = x; from < x + width; from += lean) {
      pen.moveTo(from, at + (back ? lean : 0));
      pen.lineTo(from + lean, at + (back ? 0 : lean));
    }
  }
  pen.stroke();
  pen.restore();
}

const BAND = { N: '#8360a8', P: '#6b7280', C: '#6b7280', D: BROWN, M: SOFT, K: SOFT };
function drawBand(band) {
  const lane = nodeLane(band.seat);
  if (!lane.on) return;
  const colour = BAND[band.fault[0]] || SOFT;
  const place = lane.x + 4 + band.row * 9;
  if (place > lane.mid - 14) return;
  const [x, top, width, height] = rect(place, band.t0, 7, band.t1);
  pen.globalAlpha = .22;
  pen.fillStyle = colour;
  pen.fillRect(x, top, width, height);
  pen.globalAlpha = 1;
  hatch(x, top, width, height, colour, band.fault[0] === 'N' ? 5 : 9, band.fault[0] === 'D');
  if (band.fault === 'P5' || band.fault === 'C5') {
    pen.fillStyle = 'rgba(107,114,128,.16)';
    pen.fillRect(lane.x + 2, top, lane.width - 4, height);
  }
  hits.push({ x, y: top, width, height, thing: band });
}

function drawRole(role) {
  const lane = nodeLane(role.seat);
  if (!lane.on) return;
  const { width, fill } = PART[role.part];
  const bar = rect(lane.mid - Math.max(width, 4) / 2, role.t0, Math.max(width, 4), role.t1);
  if (fill) {
    pen.fillStyle = fill;
    pen.fillRect(...bar);
    if (role.part === 5) hatch(...bar, '#7f8a96', 4);
  } else {
    pen.strokeStyle = '#9aa4af';
    pen.setLineDash([2, 3]);
    pen.beginPath();
    pen.moveTo(lane.mid, bar[1]);
    pen.lineTo(lane.mid, bar[1] + bar[3]);
    pen.stroke();
    pen.setLineDash([]);
  }
  hits.push({ x: bar[0] - 3, y: bar[1], width: bar[2] + 6, height: bar[3], thing: role });
}
