// Opens a real browser, does one thing after the other in one tab, and prints as JSON what the page
// saw of each. What is to be done comes from tests/it, as the only argument:
//
//   { chromium, modules, profile,
//     steps: [{ open | fetch | image | events | socket | stream | form | link | script }] }
//
// It knows nothing of what should come of a step.

import { createRequire } from "node:module";

/** For one step; what takes longer has failed. */
const BOUND = 60_000;

const { chromium: executablePath, modules, profile, steps } = JSON.parse(process.argv[2]);
const { chromium } = createRequire(`${modules}/`)("playwright-core");

const context = await chromium.launchPersistentContext(profile, {
  executablePath,
  headless: true,
  timeout: 180_000,
  args: [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-proxy-server",
    // Any name of a page leads to this machine, as its owner's name server could make it do.
    "--host-resolver-rules=MAP *.example 127.0.0.1",
  ],
});
context.setDefaultTimeout(BOUND);
const page = context.pages()[0] ?? (await context.newPage());

const kinds = {
  /** Types an address. */
  async open(url) {
    const response = await page.goto(url);
    return { status: response.status(), title: await page.title() };
  },

  async fetch({ url, options, headers }) {
    return page.evaluate(
      async ([url, options, names]) => {
        try {
          const response = await fetch(url, options);
          const headers = Object.fromEntries(
            names.map((name) => [name, response.headers.get(name)]),
          );
          return { type: response.type, status: response.status, headers };
        } catch (error) {
          return { error: error.name };
        }
      },
      [url, options ?? {}, headers ?? []],
    );
  },

  /**
   * What any page may load from anywhere without asking: a GET without an Origin. The browser keeps
   * the answer from the page, and from us, unless it is a picture.
   */
  async image(url) {
    const fired = await page.evaluate(
      (url) =>
        new Promise((resolve) => {
          const image = new Image();
          image.onload = image.onerror = (event) => resolve(event.type);
          image.src = url;
        }),
      url,
    );
    return { fired };
  },

  async events(url) {
    const fired = await page.evaluate(
      (url) =>
        new Promise((resolve) => {
          const source = new EventSource(url);
          source.onopen = source.onerror = (event) => (source.close(), resolve(event.type));
        }),
      url,
    );
    return { fired };
  },

  /**
   * Opens a WebSocket, with a ticket if there is to be one, and reads frames of one type until there
   * are enough of them, or the socket closes.
   */
  async socket({ url, protocols, ticket, type, count }) {
    return page.evaluate(
      async ({ url, protocols, ticket, type, count }) => {
        if (ticket) {
          const { url: at, token } = ticket;
          const headers = { authorization: `Bearer ${token}` };
          const response = await fetch(at, { method: "POST", headers });
          url += `${url.includes("?") ? "&" : "?"}ticket=${(await response.json()).ticket}`;
        }
        return new Promise((resolve) => {
          const socket = new WebSocket(url, protocols ?? []);
          const seen = { opened: false, protocol: null, frames: [] };
          socket.onopen = () => Object.assign(seen, { opened: true, protocol: socket.protocol });
          socket.onmessage = ({ data }) => {
            const frame = JSON.parse(data);
            if (frame.type === type && seen.frames.push(frame) === count) socket.close(1000);
          };
          socket.onclose = ({ code }) => resolve({ ...seen, code });
        });
      },
      { url, protocols, ticket, type, count },
    );
  },

  /** What an EventSource gets until it has closed for good. */
  async stream(url) {
    return page.evaluate(
      (url) =>
        new Promise((resolve) => {
          const source = new EventSource(url);
          const seen = [];
          for (const type of ["ready", "message", "end"]) {
            source.addEventListener(type, ({ data }) => seen.push([type, JSON.parse(data)]));
          }
          source.onerror = () => source.readyState === EventSource.CLOSED && resolve(seen);
        }),
      url,
    );
  },

  /** A form that submits itself, of the type whose body is text as it stands. */
  async form({ url, text }) {
    return navigated(([url, text]) => {
      const form = document.createElement("form");
      Object.assign(form, { method: "post", action: url, enctype: "text/plain" });
      const input = document.createElement("input");
      [input.name, input.value] = [text, ""];
      form.append(input);
      document.body.append(form);
      form.submit();
    }, [url, text]);
  },

  /** Runs this, and waits until it writes what begins so to the console. */
  async script({ code, until }) {
    const said = page.waitForEvent("console", {
      predicate: (message) => message.text().startsWith(until),
      timeout: 2 * BOUND,
    });
    await page.evaluate(code);
    return { said: (await said).text() };
  },

  async link(url) {
    return navigated((url) => {
      const link = document.createElement("a");
      link.href = url;
      document.body.append(link);
      link.click();
    }, url);
  },
};

async function navigated(act, argument) {
  const [response] = await Promise.all([page.waitForNavigation(), page.evaluate(act, argument)]);
  return { status: response.status(), title: await page.title() };
}

const results = [];
try {
  for (const step of steps) {
    const [[kind, argument]] = Object.entries(step);
    results.push(await kinds[kind](argument));
  }
  console.log(JSON.stringify(results));
} finally {
  await context.close();
}
