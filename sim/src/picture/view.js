// What is shown: which piece of time, which lanes, which things in full strength.

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
