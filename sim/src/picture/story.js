// What led here, as a list.

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
