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
