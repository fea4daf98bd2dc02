'use strict';

// The run. Times are microseconds of true time, texts are places in `words`.
const run = JSON.parse(document.getElementById('data').textContent);
const word = place => run.words[place];
const failure = run.failure;
const END = Math.max(run.end, failure ? failure.time : 0, 1);
const $ = id => document.getElementById(id);

// Colours that the colour-blind can tell apart (after Okabe and Ito); red is for the failure alone.
const INK = '#1d2733', SOFT = '#5d6b7a', LINE = '#e3e8ee', RED = '#c8102e';
const BLUE = '#0068a8', ORANGE = '#d98200', GREEN = '#00795a', PURPLE = '#a8508a';
const GREY = '#a9b4bf', BROWN = '#7a5c33', CYAN = '#3f97cc';
const TERMS = ['#eef4fa', '#fbf4e6', '#ebf6f1', '#f8eff6', '#f6f5e4', '#f0f1f4'];
const PARTS = ['follower', 'pre-candidate', 'candidate', 'leader', 'down', 'starting'];
const PART = [
  { width: 6, fill: '#93a1b0' }, { width: 9, fill: '#f3c36f' }, { width: 11, fill: ORANGE },
  { width: 14, fill: BLUE }, { width: 0, fill: null }, { width: 6, fill: '#d5dbe2' },
];
const OUTCOMES = ['no answer yet', 'done', 'refused', 'unknown'];
const OUTCOME = ['#ffffff', GREEN, ORANGE, '#8b95a1'];
const JOBS = ['log', 'checkpoint', 'received snapshot', 'install'];
const KIND = {
  'append': BLUE, 'append answer': CYAN, 'heartbeat': GREY, 'heartbeat answer': GREY,
  'pre-vote': ORANGE, 'pre-vote answer': ORANGE, 'vote': ORANGE, 'vote answer': ORANGE,
  'timeout now': ORANGE, 'propose': PURPLE, 'propose refused': PURPLE, 'read index': GREEN,
  'read index answer': GREEN, 'snapshot': BROWN,
};
// Which labels are drawn first, where there is not room for all.
const WEIGHT = {
  'vote': 6, 'vote answer': 6, 'timeout now': 6, 'pre-vote': 5, 'pre-vote answer': 5, 'append': 4,
  'read index': 4, 'read index answer': 4, 'propose': 3, 'propose refused': 3, 'append answer': 3,
  'snapshot': 6, 'heartbeat': 1, 'heartbeat answer': 0,
};

// ---- the things ---------------------------------------------------------------------------------

const failing = step => failure !== null && step > 0 && step === failure.began;
const seconds = (t, digits = 6) => (t / 1e6).toFixed(digits) + ' s';
const span = us => Math.abs(us) < 1000 ? us + ' µs'
  : Math.abs(us) < 1e6 ? (us / 1000).toFixed(us < 1e5 ? 2 : 1) + ' ms'
  : (us / 1e6).toFixed(3) + ' s';
const node = seat => 'n' + seat;
const client = number => number === run.clients ? 'probe' : 'c' + number;

const entries = new Map();
for (const [index, term, text, key] of run.entries) {
  const entry = { index, term, text: word(text), key: word(key) };
  if (!entries.has(index)) entries.set(index, []);
  entries.get(index).push(entry);
}
const keysOf = (after, through) => {
  const keys = [];
  for (let index = after + 1; index <= Math.min(through, after + 500); index += 1) {
    for (const entry of entries.get(index) || []) keys.push(entry.key);
  }
  return keys;
};

const messages = run.messages.map(([from, to, sent, arrived, step, kind, term, text, after, through,
  fate]) => ({
  what: 'message', from, to, t0: sent, t1: arrived < 0 ? sent : arrived, never: arrived < 0, step,
  kind: run.kinds[kind], term, text: word(text), after, through, fate: word(fate),
})).sort((a, b) => a.t0 - b.t0 || a.step - b.step);
{
  // An answer that says nothing new belongs to a heartbeat.
  const told = new Map();
  for (const message of messages) {
    if (message.kind !== 'append answer' || !/^matched/.test(message.text)) continue;
    const link = message.from + '>' + message.to, known = told.get(link);
    if (known && known.term === message.term && message.through <= known.through) {
      message.kind = 'heartbeat answer';
      message.after = message.through = 0;
    } else {
      if (known && known.term === message.term) message.after = known.through;
      told.set(link, { term: message.term, through: message.through });
    }
  }
  // What comes a second time left only once.
  const left = new Set();
  for (const message of messages) {
    const name = [message.from, message.to, message.t0, message.term, message.text].join(' ');
    message.again = left.has(name);
    left.add(name);
  }
}

const standings = run.standings.map(([seat, at, step, part, term, vote, leader, why]) => ({
  what: 'standing', seat, t0: at, t1: at, step, part, term, vote, leader, why: word(why),
}));
const roles = [];
const changes = [];
{
  const last = new Map(), terms = new Map(), votes = new Map();
  for (const now of standings) {
    const before = last.get(now.seat);
    if (before) before.t1 = now.t0;
    const role = { ...now, what: 'role', t1: END };
    last.set(now.seat, role);
    roles.push(role);
    const known = terms.get(now.seat);
    const isUp = now.part < 4, wasUp = before && before.part < 4;
    const parts = [];
    if (now.part === 4 && before) parts.push(`down ${now.why}`.trim());
    if (now.part === 5) parts.push('recovers');
    if (isUp && before && before.part >= 4) parts.push(`up, term ${now.term}`);
    else if (isUp && wasUp && (now.part !== before.part || now.term !== known)) {
      parts.push(`${PARTS[now.part]} ${now.term}`);
    }
    const vote = `${now.term} ${now.vote}`;
    if (isUp && now.vote >= 0 && votes.get(now.seat) !== vote
      && !(now.vote === now.seat && now.part === 3)) {
      parts.push(now.vote === now.seat ? 'votes for itself' : `votes for n${now.vote}`);
    }
    if (isUp && now.vote >= 0) votes.set(now.seat, vote);
    if (isUp) terms.set(now.seat, now.term);
    if (parts.length > 0) {
      changes.push({ ...now, what: 'change', text: parts.join(' · '), before });
    }
  }
}

const progress = run.progress.map(([seat, at, step, index, term, persisted, committed, applied,
  why]) => ({
  what: 'progress', seat, t0: at, t1: at, step, index, term, persisted, committed, applied,
  why: word(why),
}));
const commits = [], cuts = [];
const course = new Map();
{
  const last = new Map();
  let most = 0;
  for (const now of progress) {
    if (!course.has(now.seat)) course.set(now.seat, []);
    course.get(now.seat).push(now);
    const before = last.get(now.seat);
    if (now.committed > 0 && (!before || before.committed < now.committed)) {
      const first = now.committed > most;
      most = Math.max(most, now.committed);
      commits.push({
        ...now, what: 'commit', first, after: before ? before.committed : now.committed - 1,
        through: now.committed,
      });
    }
    if (now.why) cuts.push({ ...now, what: 'cut', text: now.why });
    last.set(now.seat, now);
  }
}

const writings = run.writings.map(([seat, job, from, to, step, ended, text, after, through,
  durable]) => ({
  what: 'writing', seat, job, t0: from, t1: to < 0 ? END : to, open: to < 0, step: ended || step,
  text: word(text), after, through, durable: durable === 1,
  term: Number((/term (\d+)/.exec(word(text)) || [])[1] || 0),
}));

const bands = run.bands.map(([seat, fault, from, to, text]) => ({
  what: 'band', seat, fault: word(fault), t0: from, t1: to < 0 ? END : Math.min(to, END),
  text: word(text), step: -1,
})).sort((a, b) => a.t0 - b.t0);
{
  // Bands that overlap lie side by side.
  const rows = new Map();
  for (const band of bands) {
    if (!rows.has(band.seat)) rows.set(band.seat, []);
    const ends = rows.get(band.seat);
    let row = ends.findIndex(end => end <= band.t0);
    if (row < 0) row = ends.length;
    ends[row] = band.t1;
    band.row = row;
  }
}

const marks = run.marks.map(([sign, seat, at, step, text]) => ({
  what: 'mark', sign, seat, t0: at, t1: at, step, text: word(text),
}));
const transfers = run.transfers.map(([from, to, begun, ended, step, arrived, text]) => ({
  what: 'transfer', from, to, t0: begun, t1: ended < 0 ? END : ended, never: false, step,
  kind: 'snapshot', text: word(text), arrived: arrived === 1, term: 0,
  fate: arrived === 1 ? '' : ended < 0 ? 'on its way' : 'came to nothing',
  through: Number((/of (\d+)@/.exec(word(text)) || [])[1] || 0), after: 0,
}));
for (const transfer of transfers) transfer.after = Math.max(0, transfer.through - 1);
const notices = run.notices.map(([who, seat, at, step, text, index]) => ({
  what: 'notice', client: who, seat, t0: at, t1: at, step, text: word(text), index,
}));
const operations = run.operations.map(([who, number, begun, over, step, writes, asked, key, outcome,
  answer, index, term, tries]) => ({
  what: 'operation', client: who, number, t0: begun, step, writes: writes === 1, asked: word(asked),
  key: word(key), outcome, answer: word(answer), index, term, after: Math.max(0, index - 1),
  through: index, over,
  tries: tries.map(([seat, asked, arrived, answered, ended, text]) => (
    { seat, asked, arrived, answered, ended, text: word(text) })),
}));
for (const operation of operations) {
  const ended = operation.tries.reduce((most, one) => Math.max(most, one.ended), -1);
  operation.t1 = operation.over >= 0 ? operation.over : operation.outcome ? ended : END;
}
{
  // A label may be as long as nothing else begins.
  const next = new Map();
  for (const operation of [...operations].sort((a, b) => b.t0 - a.t0)) {
    operation.next = next.has(operation.client) ? next.get(operation.client) : Infinity;
    next.set(operation.client, operation.t0);
  }
}

// What touches a piece of time, found by buckets.
class Timeline {
  constructor(things) {
    this.width = END / 1024 + 1;
    this.buckets = [];
    this.stamp = 0;
    for (const thing of things) {
      const last = Math.floor(thing.t1 / this.width);
      for (let place = Math.floor(thing.t0 / this.width); place <= last; place += 1) {
        (this.buckets[place] ||= []).push(thing);
      }
    }
  }

  in(from, to) {
    this.stamp += 1;
    const found = [];
    const first = Math.max(0, Math.floor(from / this.width));
    const last = Math.min(this.buckets.length - 1, Math.floor(to / this.width));
    for (let place = first; place <= last; place += 1) {
      for (const thing of this.buckets[place] || []) {
        if (thing.seen !== this.stamp && thing.t1 >= from && thing.t0 <= to) {
          thing.seen = this.stamp;
          found.push(thing);
        }
      }
    }
    return found;
  }
}
const lines = {
  messages: new Timeline(messages), roles: new Timeline(roles), changes: new Timeline(changes),
  commits: new Timeline(commits), cuts: new Timeline(cuts), writings: new Timeline(writings),
  bands: new Timeline(bands), marks: new Timeline(marks), transfers: new Timeline(transfers),
  notices: new Timeline(notices), operations: new Timeline(operations),
};

// ---- what is shown ------------------------------------------------------------------------------

const view = { t0: 0, t1: END };
const lanes = [];
for (let seat = 0; seat < run.members; seat += 1) {
  lanes.push({ name: node(seat), seat, on: true, wide: false, x: 0, width: 0 });
}
{
  const active = new Set([...operations, ...notices].map(thing => thing.client));
  for (let number = 0; number <= run.clients; number += 1) {
    if (active.has(number)) {
      lanes.push({ name: client(number), client: number, on: true, wide: false, x: 0, width: 0 });
    }
  }
}
// Whose answer it is that must not be has room for its words.
for (const operation of operations.filter(one => failing(one.step))) {
  lanes.find(lane => lane.client === operation.client).wide = true;
}
const nodeLane = seat => lanes[seat];
const clientLane = number => lanes.find(lane => lane.client === number);
const kindsOff = new Set();
const layers = {
  'client requests': true, 'disk writes': true, 'commits': true, 'faults': true,
  'roles, votes': true, 'watch events': true, 'labels': true,
};
const wanted = { from: 0, to: 0, term: 0, key: '', only: false };
let hovered = null, pinned = null;

const isFiltering = () => wanted.to > 0 || wanted.term > 0 || wanted.key !== '';
const matches = thing => {
  if (wanted.to > 0) {
    const isInside = thing.through >= wanted.from && thing.after < wanted.to;
    if (!isInside) return false;
  }
  if (wanted.term > 0 && thing.term !== wanted.term) return false;
  if (wanted.key !== '') {
    const own = [thing.key, thing.text, thing.asked].some(t => t && t.includes(wanted.key));
    if (!own && !(thing.through > 0
      && keysOf(thing.after, thing.through).some(key => key.includes(wanted.key)))) return false;
  }
  return true;
};
// 2: in full strength, 1: faint, 0: not at all.
const strength = thing => {
  if (thing === hovered || thing === pinned || failing(thing.step)) return 2;
  if (!isFiltering() || matches(thing)) return 2;
  return wanted.only ? 0 : 1;
};

// ---- drawing ------------------------------------------------------------------------------------

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

// ---- labels -------------------------------------------------------------------------------------

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

// ---- the whole run ------------------------------------------------------------------------------

function drawOverview() {
  const small = overview.getContext('2d');
  const at = t => t / END * (size.height - 2);
  small.clearRect(0, 0, OVERVIEW, size.height);
  const column = (OVERVIEW - 8) / Math.max(1, run.members);
  for (const role of roles) {
    small.fillStyle = role.part === 4 ? '#30363d' : role.part === 3 ? BLUE
      : role.part < 3 && role.part > 0 ? ORANGE : role.part === 5 ? '#b0b8c0' : '#dbe1e7';
    small.fillRect(4 + role.seat * column, at(role.t0), column - 2,
      Math.max(.6, at(role.t1) - at(role.t0)));
  }
  small.fillStyle = 'rgba(131,96,168,.75)';
  for (const band of bands) {
    small.fillRect(4 + band.seat * column, at(band.t0), 2,
      Math.max(1, at(band.t1) - at(band.t0)));
  }
  for (const mark of marks.filter(one => one.sign === 2)) {
    small.fillStyle = GREEN;
    small.fillRect(0, at(mark.t0), OVERVIEW, 1.5);
  }
  if (failure) {
    small.fillStyle = RED;
    small.fillRect(0, at(failure.time) - 1, OVERVIEW, 2.5);
  }
  small.fillStyle = 'rgba(29,39,51,.10)';
  small.strokeStyle = INK;
  small.lineWidth = 1.4;
  const top = at(Math.max(0, view.t0)), height = Math.max(3, at(view.t1) - top);
  small.fillRect(1, top, OVERVIEW - 2, height);
  small.strokeRect(1, top, OVERVIEW - 2, height);
}

function describeWindow() {
  const sampled = (view.quiet ? ', heartbeats left out' : '')
    + (view.every > 1 ? `, one of ${view.every} drawn` : '');
  $('window').textContent = `${seconds(Math.max(0, view.t0), 3)} to ${seconds(view.t1, 3)} `
    + `(${span(Math.round(view.t1 - view.t0))}): ${view.messages} messages${sampled}`;
}

// ---- words for what is pointed at ---------------------------------------------------------------

const standsAt = (seat, t) => {
  const list = course.get(seat) || [];
  let low = 0, high = list.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (list[middle].t0 <= t) low = middle + 1; else high = middle;
  }
  return list[low - 1];
};

function facts(thing, t) {
  const rows = [];
  const add = (name, value) => {
    if (value !== '' && value !== undefined) rows.push([name, String(value)]);
  };
  const end = () => `${seconds(thing.t1)}, ${span(thing.t1 - thing.t0)} later`;
  const range = () => {
    if (!(thing.through > 0)) return;
    const list = [];
    for (let i = thing.after + 1; i <= thing.through && list.length < 8; i += 1) {
      for (const entry of entries.get(i) || []) list.push(`${i}@${entry.term} ${entry.text}`);
    }
    if (thing.through - thing.after > 8) list.push('…');
    add('entries', list.join('\n'));
  };
  let title = '';
  switch (thing.what) {
    case 'message': case 'transfer':
      title = `${node(thing.from)} → ${node(thing.to)}: ${thing.text}`;
      add('kind', thing.kind);
      if (thing.term) add('term', thing.term);
      add('sent', seconds(thing.t0));
      if (thing.fate !== '') add('lost', thing.fate + meaning(thing.fate));
      if (!thing.never) {
        add(thing.fate === '' ? 'absorbed' : 'due', end());
      }
      if (thing.again) add('note', 'a copy: sent once, arrived again');
      range();
      break;
    case 'role': case 'standing': case 'change': {
      title = `${node(thing.seat)} ${thing.text || PARTS[thing.part]}`;
      if (thing.part < 4) {
        add('role', `${PARTS[thing.part]} in term ${thing.term}`);
        add('vote', thing.vote < 0 ? 'none' : node(thing.vote));
        add('leader', thing.leader < 0 ? 'none known' : node(thing.leader));
      }
      if (thing.why) {
        add('because', thing.why.split(' ').map(id => `${id}${meaning(id)}`).join('\n'));
      }
      const now = standsAt(thing.seat, t ?? thing.t0);
      if (now) {
        add('log ends', `${now.index}@${now.term}`);
        add('on disk', now.persisted);
        add('committed', now.committed);
        add('applied', now.applied);
      }
      add(thing.what === 'role' ? 'since' : 'at', seconds(thing.t0));
      break;
    }
    case 'commit':
      title = `${node(thing.seat)} commits through ${thing.through}`
        + (thing.first ? ', first of all' : '');
      add('at', seconds(thing.t0));
      range();
      break;
    case 'cut':
      title = `${node(thing.seat)}: ${thing.text}`;
      add('at', seconds(thing.t0));
      break;
    case 'writing':
      title = `${node(thing.seat)} disk: ${thing.text}`;
      add('for', JOBS[thing.job]);
      add('handed over', seconds(thing.t0));
      if (thing.open) add('durable', 'not yet');
      else if (thing.durable) add('durable', end());
      else add('lost', `${seconds(thing.t1)}: nobody knows what of it survives`);
      range();
      break;
    case 'band':
      title = `${thing.fault} at ${node(thing.seat)}: ${thing.text}`;
      add('fault', run.faults[thing.fault]);
      add('from', seconds(thing.t0));
      add('to', `${seconds(thing.t1)}, ${span(thing.t1 - thing.t0)}`);
      break;
    case 'mark':
      title = (thing.seat < 0 ? '' : node(thing.seat) + ': ') + thing.text;
      add('at', seconds(thing.t0));
      break;
    case 'notice':
      title = `${client(thing.client)} is told by ${node(thing.seat)}: ${thing.text}`;
      add('at', seconds(thing.t0));
      break;
    case 'operation':
      title = `${client(thing.client)} #${thing.number}: ${thing.asked}`;
      add('outcome', OUTCOMES[thing.outcome] + (thing.answer ? `: ${thing.answer}` : ''));
      if (thing.index) add('as of', `${thing.index}@${thing.term}`);
      add('asked', seconds(thing.t0));
      if (thing.outcome) add('over', end());
      thing.tries.forEach((one, place) => {
        if (place < 12) add(`try ${place + 1}`, `${node(one.seat)} at ${seconds(one.asked)}`
          + (one.text ? `: ${one.text}` : ''));
      });
      break;
  }
  if (thing.step > 0) add('step', thing.step + (failing(thing.step) ? ', the failing one' : ''));
  return { title, rows };
}

const meaning = id => run.faults[id] ? `: ${run.faults[id]}` : '';

function showTip(thing, event) {
  const tip = $('tip');
  tip.hidden = !thing;
  if (!thing) return;
  const { title, rows } = facts(thing, timeAt(event.offsetY));
  tip.replaceChildren(element('b', title), ...rows.map(([name, value]) =>
    element('div', `${name}: ${value}`)));
  const box = tip.getBoundingClientRect();
  const left = event.clientX + 16 + box.width < innerWidth ? event.clientX + 14
    : event.clientX - box.width - 14;
  tip.style.left = Math.max(4, left) + 'px';
  tip.style.top = Math.max(4, Math.min(event.clientY + 12, innerHeight - box.height - 8)) + 'px';
}

function element(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

function pin(thing) {
  pinned = thing;
  const box = $('selected');
  box.hidden = !thing;
  if (thing) {
    const { title, rows } = facts(thing);
    const list = element('dl');
    for (const [name, value] of rows) {
      const dd = element('dd', value);
      dd.style.whiteSpace = 'pre-wrap';
      list.append(element('dt', name), dd);
    }
    const chips = element('p');
    const chip = (text, act) => {
      const button = element('button', text);
      button.onclick = act;
      chips.append(button, ' ');
    };
    const { through: index, term, key } = thing;
    if (index > 0) chip(`index ${index}`, () => highlight({ index }));
    if (term > 0) chip(`term ${term}`, () => highlight({ term }));
    if (key) chip(`key ${key}`, () => highlight({ key }));
    chip('unpin', () => pin(null));
    box.replaceChildren(element('h2', 'Pinned'), element('b', title), list, chips);
  }
  redraw();
}

// ---- what led here ------------------------------------------------------------------------------

const story = [];
{
  const tell = (t, who, text, seats, thing) => story.push({ t, who, text, seats, thing });
  for (const change of changes) {
    tell(change.t0, node(change.seat), change.text, [change.seat], change);
  }
  for (const cut of cuts) tell(cut.t0, node(cut.seat), cut.text, [cut.seat], cut);
  for (const band of bands) {
    tell(band.t0, node(band.seat), `${band.fault} ${band.text}, for ${span(band.t1 - band.t0)}`,
      [band.seat], band);
  }
  for (const mark of marks) {
    tell(mark.t0, mark.seat < 0 ? '' : node(mark.seat), mark.text,
      mark.seat < 0 ? [] : [mark.seat], mark);
  }
  for (const transfer of transfers) {
    tell(transfer.t1, node(transfer.from), `${transfer.text} to n${transfer.to} `
      + (transfer.arrived ? 'arrives' : transfer.fate), [transfer.from, transfer.to], transfer);
  }
  for (const writing of writings) {
    if (!writing.durable && !writing.open && writing.job === 0) {
      tell(writing.t1, node(writing.seat), `loses a write not yet durable: ${writing.text}`,
        [writing.seat], writing);
    }
  }
  for (const operation of operations) {
    if (failing(operation.step)) {
      tell(operation.t1, client(operation.client), `${operation.asked} → ${operation.answer}`, [],
        operation);
    }
  }
  story.sort((a, b) => b.t - a.t);
}

function tellStory() {
  const only = $('concerned').checked;
  const list = $('story');
  const shown = story.filter(one => !only || one.seats.length === 0
    || one.seats.some(seat => failure.nodes.includes(seat))).slice(0, 300);
  const items = shown.map(one => {
    const item = element('li');
    item.append(element('time', (one.t / 1e6).toFixed(3)), element('b', one.who),
      element('span', one.text));
    item.onclick = () => {
      goTo(one.t);
      pin(one.thing);
    };
    return item;
  });
  if (failure) {
    const item = element('li', undefined, 'failure');
    item.append(element('time', (failure.time / 1e6).toFixed(3)),
      element('span', `${failure.id} does not hold`));
    item.onclick = toFailure;
    items.unshift(item);
  }
  list.replaceChildren(...items);
}

// ---- moving about -------------------------------------------------------------------------------

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

// ---- the page around it -------------------------------------------------------------------------

function check(parent, text, on, act, colour) {
  const label = element('label');
  const box = element('input');
  box.type = 'checkbox';
  box.checked = on;
  box.addEventListener('input', () => {
    act(box.checked);
    layOut();
    redraw();
  });
  label.append(box);
  if (colour) {
    const swatch = element('span', '', 'swatch');
    swatch.style.borderColor = colour;
    label.append(swatch);
  }
  label.append(text);
  label.title = text;
  parent.append(label);
}

function fillHead() {
  const title = $('title');
  if (failure) {
    document.title = `${failure.id} in ${run.run}`;
    title.append(element('span', failure.id, 'id'), ` does not hold in ${run.run}`);
    title.append(element('small', `step ${failure.step}, true time ${seconds(failure.time)}`
      + (failure.nodes.length ? `, at ${failure.nodes.map(node).join(' ')}` : '')));
    $('what').textContent = failure.what = named(failure.what);
    $('while').textContent = [whileText(), ...entriesNamed()].join(' ');
  } else {
    document.title = run.run;
    title.append(run.run, ' ', element('span', 'shows no failure', 'held'));
    title.append(element('small', `${run.steps} steps, ${seconds(END, 3)} of true time`));
    $('what').hidden = true;
  }
  $('replay').textContent = run.replay;
  $('options').textContent = run.header;
  $('counters').textContent = run.counters || 'none';
  const dropped = [];
  for (const name of ['messages', 'standings', 'progress', 'writings', 'bands', 'marks',
    'transfers', 'notices']) {
    const count = run[name + '_dropped'];
    if (count > 0) dropped.push(`${count} older ${name}`);
  }
  if (run.from > 0) dropped.push(`what happened before ${seconds(run.from, 3)}`);
  if (dropped.length > 0) $('dropped').textContent = 'Left out: ' + dropped.join(', ') + '.';
}

// Members by their places, not by their long ids.
function named(text) {
  run.ids.forEach((id, seat) => {
    text = text.replaceAll(`NodeId(${id})`, node(seat));
    text = text.replace(new RegExp(`\\bn?${BigInt(id).toString(16)}\\b`, 'g'), node(seat));
  });
  return text;
}

// What was being done when it showed.
function whileText() {
  const leaving = messages.find(one => one.fate === 'about to leave');
  if (leaving) {
    return `While n${leaving.from} is about to send «${leaving.text}» to n${leaving.to}, `
      + `term ${leaving.term}.`;
  }
  const message = messages.find(one => failing(one.step) && one.fate === '');
  if (message) {
    return `While n${message.to} absorbs «${message.text}» of n${message.from}, `
      + `term ${message.term}, sent ${span(message.t1 - message.t0)} before.`;
  }
  const operation = operations.find(one => failing(one.step));
  if (operation) {
    return `While ${client(operation.client)} is answered: ${operation.asked} → `
      + `${operation.answer}.`;
  }
  const writing = writings.find(one => failing(one.step) && one.durable);
  if (writing) return `While a write of n${writing.seat} becomes durable: ${writing.text}.`;
  return failure.event ? `While this is handled: ${failure.event}.` : '';
}

function fillAside() {
  $('to-failure').textContent = failure ? 'the failure' : 'the beginning';
  const kinds = [...run.kinds.slice(0, 12), 'heartbeat', 'heartbeat answer'];
  const there = new Set(messages.map(message => message.kind));
  if (transfers.length) there.add('snapshot');
  for (const kind of kinds) {
    if (!there.has(kind)) continue;
    const turn = on => (on ? kindsOff.delete(kind) : kindsOff.add(kind));
    check($('kinds'), kind, true, turn, KIND[kind]);
  }
  for (const lane of lanes) {
    check($('lanes'), lane.name, lane.on, on => { lane.on = on; });
  }
  for (const name of Object.keys(layers)) {
    check($('layers'), name, true, on => { layers[name] = on; });
  }
  const names = failure ? failure.nodes.map(node).join(', ') : '';
  $('concerned-label').hidden = names === '';
  $('concerned-names').textContent = names;
  if (!failure) $('story-title').textContent = 'What happened, latest first';
  fillChips();
  tellStory();
  fillLegend();
}

const inWords = pattern => [...failure.what.matchAll(pattern)].map(found => found[1])
  .filter(found => found !== '0');

function indexesNamed() {
  return [...new Set([...inWords(/\b(\d+)@\d+\b/g), ...inWords(/\bIndex\((\d+)\)/g),
    ...inWords(/\b(?:index|through|entry|commits) (\d+)/g), ...inWords(/\b(\d+) was\b/g)])];
}

// The entries that the failure speaks of.
function entriesNamed() {
  const found = indexesNamed().slice(0, 4).flatMap(index => entries.get(Number(index)) || []);
  return found.slice(0, 4).map(({ index, term, text }) => `${index}@${term} is «${text}».`);
}

// What the words of the failure name can be highlighted at once.
function fillChips() {
  if (!failure) return;
  const seen = new Set();
  const chip = (text, what) => {
    if (seen.has(text) || seen.size > 9) return;
    seen.add(text);
    const button = element('button', text);
    button.onclick = () => highlight(what);
    $('chips').append(button);
  };
  const indexes = indexesNamed();
  for (const index of indexes) chip(`index ${index}`, { index });
  const terms = [...inWords(/\b\d+@(\d+)\b/g), ...inWords(/\b[Tt]erm[ (](\d+)/g)];
  for (const term of terms) chip(`term ${term}`, { term });
  for (const key of inWords(/(\/[\w/.!-]+)/g)) chip(`key ${key}`, { key });
  for (const operation of operations) {
    if (failing(operation.step) && operation.key) chip(`key ${operation.key}`,
      { key: operation.key });
  }
}

function fillLegend() {
  const row = (text, paint) => {
    const small = element('canvas');
    small.width = 68;
    small.height = 36;
    const c = small.getContext('2d');
    c.scale(2, 2);
    paint(c);
    $('legend').append(small, element('span', text));
  };
  const stroke = (c, colour, width, points, dash = []) => {
    c.strokeStyle = colour;
    c.lineWidth = width;
    c.setLineDash(dash);
    c.beginPath();
    points.forEach(([x, at], place) => place ? c.lineTo(x, at) : c.moveTo(x, at));
    c.stroke();
    c.setLineDash([]);
  };
  const box = (c, colour, x, at, width, height) => {
    c.fillStyle = colour;
    c.fillRect(x, at, width, height);
  };
  for (const part of [0, 1, 2, 3]) {
    row(PARTS[part], c => box(c, PART[part].fill, 17 - PART[part].width / 2, 0,
      PART[part].width, 18));
  }
  row('down; × where it crashed', c => {
    stroke(c, '#9aa4af', 1, [[17, 0], [17, 18]], [2, 3]);
    stroke(c, INK, 1.6, [[12, 4], [22, 14]]);
    stroke(c, INK, 1.6, [[12, 14], [22, 4]]);
  });
  row('the ground of a lane: its term', c => TERMS.forEach((colour, place) =>
    box(c, colour, place * 6, 0, 5.4, 18)));
  row('message; the slope is its time', c => {
    stroke(c, BLUE, 1.4, [[2, 4], [29, 13]]);
    box(c, BLUE, 27, 11, 4, 4);
  });
  row('lost, with the fault that took it', c => {
    stroke(c, BLUE, 1.3, [[2, 4], [25, 12]], [5, 4]);
    stroke(c, BLUE, 1.5, [[23, 9], [29, 15]]);
    stroke(c, BLUE, 1.5, [[23, 15], [29, 9]]);
  });
  row('write: handed to the disk, durable', c => {
    stroke(c, '#3c4a59', 1.5, [[17, 4], [17, 15]]);
    box(c, '#3c4a59', 14, 14, 6, 3);
    c.fillStyle = '#ffffff';
    c.beginPath();
    c.arc(17, 3.6, 2.4, 0, 7);
    c.fill();
    c.stroke();
  });
  row('commit; thick: the first to know', c => {
    stroke(c, GREEN, 3, [[10, 5], [24, 5]]);
    stroke(c, GREEN, 1.2, [[10, 13], [24, 13]]);
  });
  row('a change: done · refused · unknown', c => [1, 2, 3].forEach((outcome, place) =>
    box(c, OUTCOME[outcome], 2 + place * 11, 1, 9, 16)));
  row('a question is hollow', c => {
    box(c, GREEN, 13, 1, 8, 16);
    box(c, '#a9d3c6', 14.5, 2, 5, 14);
  });
  row('fault of the network · process, clock · disk', c =>
    ['N', 'P', 'D'].forEach((family, place) => box(c, BAND[family], 3 + place * 11, 0, 7, 18)));
  row('watch event', c => {
    c.fillStyle = PURPLE;
    c.beginPath();
    [[17, 5], [21, 9], [17, 13], [13, 9]].forEach(([x, at]) => c.lineTo(x, at));
    c.fill();
  });
  row('the failing step', c => stroke(c, RED, 2, [[0, 9], [34, 9]], [6, 3]));
}

fillHead();
fillAside();
layOut();
listen();
toFailure();
