// A cache without a limit, in JavaScript: each round keeps 64 KiB, as numbers in the heap of the engine.
// Reads a number of rounds per line, and answers with the resident anonymous memory in KiB.
'use strict';
const fs = require('fs');
const readline = require('readline');

const cache = [];

// Too large for the young generation, so that it is born where it stays.
function remember(round) {
  const numbers = new Array(32768).fill(round + 0.5);
  cache.push(numbers);
}

function serve(rounds) {
  for (let round = 0; round < rounds; round += 4) remember(round);
}

function residentKiB() {
  return /^RssAnon:\s*(\d+)/m.exec(fs.readFileSync('/proc/self/status', 'utf8'))[1];
}

console.log('ready');
readline.createInterface({ input: process.stdin }).on('line', (line) => {
  serve(Number(line));
  console.log(residentKiB());
});
