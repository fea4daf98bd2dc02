// Messages and snapshots between the lanes.

// An arrow ends at the edge of what a lane is.
const edge = (lane, other) => {
  const half = lane.seat !== undefined ? 8 : 6;
  return lane.mid + (other.mid > lane.mid ? half : -half);
};

// More than so many are a wall: fewer are drawn, and those faintly.
const MOST = 5000, MANY = 1200;
function drawMessages() {
  const { t0, t1 } = view;
  let shown = lines.messages.in(t0, t1).filter(message => !kindsOff.has(message.kind)
    && nodeLane(message.from).on && nodeLane(message.to).on && strength(message) > 0);
  view.messages = shown.length;
  view.quiet = shown.length > MOST && !isFiltering();
  if (view.quiet) shown = shown.filter(message => !message.kind.startsWith('heartbeat'));
  const every = Math.ceil(shown.length / MOST);
  view.every = every;
  view.crowd = Math.max(1, shown.length / MANY);
  const rank = message => failing(message.step) ? 9 : strength(message) === 1 ? -9
    : message === hovered || message === pinned ? 8 : WEIGHT[message.kind];
  shown.sort((a, b) => rank(a) - rank(b));
  const isDense = view.crowd > 1;
  shown.forEach((message, place) => {
    if (every > 1 && place % every !== 0 && rank(message) < 5) return;
    drawMessage(message, isDense);
  });
  for (const transfer of lines.transfers.in(t0, t1)) {
    if (!kindsOff.has('snapshot') && strength(transfer) > 0) drawMessage(transfer, false);
  }
}

const UNDECIDED = ['on its way', 'about to leave'];
function drawMessage(message, dense) {
  const from = nodeLane(message.from), to = nodeLane(message.to);
  if (!from.on || !to.on) return;
  const isFailing = failing(message.step), isBright = strength(message) === 2;
  const isPicked = message === hovered || message === pinned;
  const lost = message.fate !== '' && !UNDECIDED.includes(message.fate);
  const isQuiet = message.kind.startsWith('heartbeat');
  let x0 = edge(from, to), x1 = edge(to, from), y0 = y(message.t0), y1 = y(message.t1);
  if (message.never) {
    // It came to nothing on the way: nobody knows where.
    x1 = x0 + (x1 - x0) * (message.fate === 'about to leave' ? .9 : .55);
    y1 = y0 + 7;
  }
  const isAhead = message.fate === 'on its way';
  if (y1 - y0 > 20000) y1 = y0 + 20000;
  pen.globalAlpha = isFailing || isPicked ? 1 : !isBright ? .1 : isAhead ? .3
    : (isQuiet ? .55 : .9) / (WEIGHT[message.kind] < 5 ? view.crowd : Math.sqrt(view.crowd));
  pen.strokeStyle = pen.fillStyle = isFailing ? RED : KIND[message.kind] || GREY;
  pen.lineWidth = isFailing ? 2.6 : isPicked ? 2.4 : message.what === 'transfer' ? 2.6
    : isQuiet ? .8 : WEIGHT[message.kind] >= 5 ? 1.7 : 1.2;
  if (lost) pen.setLineDash([5, 4]);
  else if (isAhead) pen.setLineDash([1, 3]);
  pen.beginPath();
  pen.moveTo(x0, y0);
  pen.lineTo(x1, y1);
  pen.stroke();
  pen.setLineDash([]);
  if (lost) cross(x1, y1, 3.2);
  else if (!isAhead) arrowhead(x0, y0, x1, y1, isQuiet ? 4 : 6);
  pen.globalAlpha = 1;
  hits.push({ x0, y0, x1, y1, thing: message });
  const isCrowded = dense && WEIGHT[message.kind] < 5 && !isFailing && !isPicked;
  if (layers.labels && isBright && !isCrowded && y1 > HEAD && y1 < size.height) {
    const weight = isFailing || isPicked ? 20 : WEIGHT[message.kind];
    const width = Math.abs(x1 - x0);
    if (isPicked || !isAhead && weight > 1 || (view.t1 - view.t0) < run.heartbeat * 8) {
      const left = x1 > x0;
      addLabel(labelOf(message), left ? x1 - 9 : x1 + 9, y1 - 7 - (y1 - y0) * 9 / (width || 1), {
        weight, colour: isFailing ? RED : darker(KIND[message.kind]),
        align: left ? 'right' : 'left', bold: isFailing,
        room: isFailing ? 260 : Math.max(60, width - 14), thing: message,
      });
    }
  }
}

const DARKER = { [GREY]: SOFT, [CYAN]: '#20719f', [ORANGE]: '#9a5b00' };
const darker = colour => DARKER[colour] || colour;

function labelOf(message) {
  const text = message.kind === 'append' ? appended(message)
    : message.text.replace(/ committed \d+| round \d+/g, '')
      .replace(/\b[0-9a-f]{9,}\b/, nonce => '…' + nonce.slice(-4));
  const term = /vote/.test(message.kind) ? ` · term ${message.term}` : '';
  const fate = message.fate === '' ? '' : ` · ${message.fate}`;
  return text + term + fate + (message.again ? ' · again' : '');
}

// An append by what it brings.
function appended({ text, after, through }) {
  const [, last] = /, (\d+@\d+)\]/.exec(text) || [];
  if (through - after > 1) return `append ${after + 1} to ${last}`;
  const [, term] = (last || '').split('@');
  const entry = (entries.get(through) || []).find(one => one.term === Number(term));
  return `append ${last}${entry ? ': ' + entry.text : ''}`;
}

function arrowhead(x0, y0, x1, y1, length) {
  const angle = Math.atan2(y1 - y0, x1 - x0);
  pen.beginPath();
  pen.moveTo(x1, y1);
  pen.lineTo(x1 - length * Math.cos(angle - .38), y1 - length * Math.sin(angle - .38));
  pen.lineTo(x1 - length * Math.cos(angle + .38), y1 - length * Math.sin(angle + .38));
  pen.fill();
}

function cross(x, at, half) {
  pen.lineWidth = 1.6;
  pen.beginPath();
  pen.moveTo(x - half, at - half);
  pen.lineTo(x + half, at + half);
  pen.moveTo(x - half, at + half);
  pen.lineTo(x + half, at - half);
  pen.stroke();
}
