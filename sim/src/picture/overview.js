// The whole run, beside the picture.

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
