// The page around the picture.

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
