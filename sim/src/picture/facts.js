// Words for what is pointed at.

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
