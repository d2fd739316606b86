// A process that renders with sharp: node sharp.cjs MODULE. It speaks as child.py does, and takes
// with each question sharp's options for the encoder. It does one thing at a time, so that its CPU
// time is that of the picture.
"use strict";
const fs = require("node:fs");
const sharp = require(process.argv[2]);

sharp.concurrency(1);
sharp.cache(false);

let waiting = Buffer.alloc(0); // read, but not yet taken

function read(into) {
  const size = fs.readSync(0, into);
  if (size === 0) process.exit(0);
  return size;
}

function take(size) {
  const taken = Buffer.allocUnsafeSlow(size);
  let done = waiting.copy(taken, 0, 0, size);
  waiting = waiting.subarray(done);
  while (done < size) done += read(taken.subarray(done));
  return taken;
}

function question() {
  let end;
  while ((end = waiting.indexOf(10)) < 0) {
    const part = Buffer.alloc(65536);
    waiting = Buffer.concat([waiting, part.subarray(0, read(part))]);
  }
  return JSON.parse(take(end + 1).toString());
}

function write(bytes) {
  for (let done = 0; done < bytes.length; ) done += fs.writeSync(1, bytes, done);
}

async function render(source, { side, format, options }) {
  const started = process.hrtime.bigint();
  const before = process.cpuUsage();
  const body = await sharp(source)
    .autoOrient()
    .resize(side, side, { fit: "inside", withoutEnlargement: true })
    .toFormat(format, options)
    .toBuffer();
  const used = process.cpuUsage(before);
  const wall = Number(process.hrtime.bigint() - started) / 1e9;
  const cpu = (used.user + used.system) / 1e6;
  write(Buffer.from(JSON.stringify({ cpu, wall, bytes: body.length }) + "\n"));
  write(body);
}

async function main() {
  for (let source; ; ) {
    const asked = question();
    if ("source" in asked) source = take(asked.source);
    else await render(source, asked);
  }
}

main();
