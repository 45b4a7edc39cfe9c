// A cache without a limit, in JavaScript: each round keeps 64 KiB, as numbers in the heap of the engine.
// Reads a number of rounds per line, and how much it is to compute in each besides (if it is), and answers with the
// resident anonymous memory in KiB.
'use strict';
const fs = require('fs');
const readline = require('readline');

const cache = [];

// Too large for the young generation, so that it is born where it stays.
function remember(round) {
  const numbers = new Array(32768).fill(round + 0.5);
  cache.push(numbers);
}

let sum = 0;
function compute(steps) {
  for (let step = 0; step < steps; step++) sum = (Math.imul(sum, 31) + step) | 0;
}

function serve(rounds, steps) {
  for (let round = 0; round < rounds; round += 4) {
    compute(4 * steps);
    remember(round);
  }
}

function residentKiB() {
  return /^RssAnon:\s*(\d+)/m.exec(fs.readFileSync('/proc/self/status', 'utf8'))[1];
}

console.log('ready');
readline.createInterface({ input: process.stdin }).on('line', (line) => {
  const [rounds, steps = 0] = line.split(' ').map(Number);
  serve(rounds, steps);
  console.log(residentKiB());
});
