// node browser.mjs FOLDER: a real browser, Debian's Chromium, that does what it is told by lines of JSON on
// standard input and answers each with one line. Profiles and screenshots lie in FOLDER. Each person has a
// window of their own: {"who":"ana","do":"open","url":"…"} and so on; see the table below.
import { createInterface } from 'node:readline';
import { mkdtempSync, mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { chromium } from 'playwright-core';

const folder = process.argv[2];
mkdirSync(folder, { recursive: true });
const profile = mkdtempSync(join(folder, 'profile-'));
const browser = await chromium.launchPersistentContext(profile, {
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', headless: true, viewport: { width: 900, height: 1000 },
  args: [
    '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
    '--disable-component-update', '--disable-sync',
  ],
});
const main = browser.browser();
const windows = new Map();
const faults = [];

async function windowOf(who) {
  if (!windows.has(who)) {
    const context = windows.size === 0 || !main ? browser : await main.newContext({ viewport: { width: 900, height: 1000 } });
    const page = await context.newPage();
    page.setDefaultTimeout(15000);
    page.on('console', (m) => { if (m.type() === 'error') faults.push(`${m.location().url}: ${m.text()}`); });
    page.on('pageerror', (e) => faults.push(`${page.url()}: ${e}`));
    windows.set(who, { context, page });
  }
  return windows.get(who);
}

const verbs = {
  // open goes to an address and says where it came to rest.
  open: async ({ page }, { url }) => { await page.goto(url); },
  // click, fill: the element must be there, visible and enabled.
  click: async ({ page }, { at }) => { await page.click(at); },
  fill: async ({ page }, { at, text }) => { await page.fill(at, text); },
  // wait until one of the selectors is there, and say which.
  wait: async ({ page }, { at }) => {
    await page.locator(at.join(', ')).first().waitFor({ state: 'visible' });
    for (const one of at) if (await page.locator(one).first().isVisible()) return { found: one };
    return { found: '' };
  },
  text: async ({ page }, { at }) => ({ text: await page.locator(at).first().innerText() }),
  has: async ({ page }, { at }) => ({ has: (await page.locator(at).count()) > 0 }),
  attribute: async ({ page }, { at, name }) => ({ text: await page.locator(at).first().getAttribute(name) }),
  shot: async ({ page }, { name }) => { await page.screenshot({ path: join(folder, `${name}.png`), fullPage: true }); },
  cookies: async ({ context }, { url }) => ({ cookies: await context.cookies(url) }),
  // authenticator gives the window a passkey device that says yes.
  authenticator: async (w) => {
    w.cdp = await w.context.newCDPSession(w.page);
    await w.cdp.send('WebAuthn.enable', { enableUI: false });
    const { authenticatorId } = await w.cdp.send('WebAuthn.addVirtualAuthenticator', { options: {
      protocol: 'ctap2', transport: 'internal', hasResidentKey: true, hasUserVerification: true, isUserVerified: true, automaticPresenceSimulation: true,
    } });
    w.authenticator = authenticatorId;
  },
  credentials: async (w) => w.cdp.send('WebAuthn.getCredentials', { authenticatorId: w.authenticator }),
  // faults are errors that pages wrote to the console, such as what a content security policy refused.
  faults: async () => ({ faults: faults.splice(0) }),
};

console.log(JSON.stringify({ ready: true, version: main?.version() }));
for await (const line of createInterface({ input: process.stdin })) {
  const order = JSON.parse(line);
  try {
    const w = await windowOf(order.who);
    const answer = (await verbs[order.do](w, order)) ?? {};
    console.log(JSON.stringify({ ok: true, at: w.page.url(), ...answer }));
  } catch (problem) {
    const w = windows.get(order.who);
    const shown = w ? await w.page.locator('main, body').first().innerText().catch(() => '') : '';
    console.log(JSON.stringify({ problem: String(problem.message).split('\n')[0], at: w?.page.url(), shown: shown.slice(0, 600) }));
  }
}
await browser.close();
rmSync(profile, { recursive: true, force: true });
