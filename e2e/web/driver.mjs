// What the two drivers share: they do what the lines on their standard input say and tell what happens by lines on
// their standard output, all of them JSON.
//
//   in   {"id": 1, "phone": "name", "do": "call", "args": {"to": "bob"}}
//   out  {"id": 1, "result": ...}  or  {"id": 1, "error": "..."}
//   out  {"phone": "name", "event": "registered", ...}

import { createInterface } from 'node:readline';

// tell writes a line.
export function tell(line) {
  process.stdout.write(`${JSON.stringify(line)}\n`);
}

// serve calls perform(phone, command, args) for each line. At the end of the input, or when the process is told to end,
// it calls close and ends the process.
export function serve(perform, close = () => {}) {
  const end = async () => {
    await close();
    process.exit(0);
  };
  process.once('SIGTERM', end);
  createInterface({ input: process.stdin })
    .on('line', async line => {
      const { id, phone, do: command, args } = JSON.parse(line);
      try {
        tell({ id, result: await perform(phone, command, args) });
      } catch (e) {
        tell({ id, error: String(e?.stack ?? e) });
      }
    })
    .once('close', end);
  tell({ event: 'ready' });
}
