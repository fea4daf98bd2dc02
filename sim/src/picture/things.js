// The things that were seen, as the page uses them.

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
