// A browser with one tab for each phone: node browser.mjs CHROMIUM SPKI. CHROMIUM is the program. SPKI is the SHA-256 of
// a public key, in base 64; of certificates that no authority has signed those with this key are trusted, and no other.

import { createServer } from 'node:http';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { chromium } from 'playwright-core';
import { serve, tell } from './driver.mjs';

const [executablePath, spki] = process.argv.slice(2);

const { outputFiles: [script] } = await build({
  entryPoints: [fileURLToPath(new URL('tab.js', import.meta.url))], bundle: true, write: false, logLevel: 'error',
});

// Only a page from localhost, or by HTTPS, is given a microphone.
const pages = createServer((_, response) => response.end('<!doctype html><title>phone</title>'));
await new Promise(done => pages.listen(0, 'localhost', done));
const origin = `http://localhost:${pages.address().port}/`;

const browser = await chromium.launch({
  executablePath,
  handleSIGTERM: false,
  args: [
    '--disable-quic',
    '--use-fake-device-for-media-stream', // a beep every second
    '--use-fake-ui-for-media-stream', // allowed without a question
    '--allow-loopback-in-peer-connection',
    '--disable-features=WebRtcHideLocalIpsWithMdns',
    `--ignore-certificate-errors-spki-list=${spki}`,
  ],
});
const context = await browser.newContext();
const tabs = new Map();
await context.exposeBinding('report', ({ page }, event) =>
  tell({ phone: [...tabs].find(([, tab]) => tab === page)?.[0], ...event }));
await context.addInitScript({ content: script.text });

const commands = {
  // open opens a tab.
  async open(name) {
    const tab = await context.newPage();
    tab.on('pageerror', e => console.error(`${name}: ${e.stack}`));
    tabs.set(name, tab);
    await tab.goto(origin);
  },
  // reload is what the user does to a tab: all that its script knew is gone.
  async reload(name) {
    await tabs.get(name).reload();
  },
  // close closes a tab.
  async close(name) {
    await tabs.get(name).close();
    tabs.delete(name);
  },
};

serve(
  (name, command, args) => commands[command]?.(name)
    ?? tabs.get(name).evaluate(([command, args]) => phone[command](args), [command, args]),
  () => browser.close(),
);
