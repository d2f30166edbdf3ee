// Follows a stream with the EventSource of npm's `eventsource`, which runs outside of browsers, and
// prints a line of JSON for each connection, event and error. The only argument is an order:
//
//   { modules, url, names: [of events beside records] }
//
// It ends when the source has closed for good, or its standard input ends.

import { createRequire } from "node:module";

const { modules, url, names } = JSON.parse(process.argv[2]);
const { EventSource } = createRequire(`${modules}/`)("eventsource");

const say = (line) => console.log(JSON.stringify({ at: Math.round(performance.now()), ...line }));

const source = new EventSource(url, {
  fetch(url, options) {
    say({ connects: options.headers["Last-Event-ID"] ?? null });
    return fetch(url, options);
  },
});
for (const name of ["message", ...names]) {
  source.addEventListener(name, ({ type, data, lastEventId }) =>
    say({ event: type, data: JSON.parse(data), id: lastEventId }),
  );
}
source.onerror = ({ code }) => {
  const closed = source.readyState === EventSource.CLOSED;
  say({ error: code ?? null, closed });
  if (closed) process.exit();
};
process.stdin.on("end", () => process.exit()).resume();
