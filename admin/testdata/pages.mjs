// Looks at every page of the storybook, in light and dark, at desktop and phone width: axe-core finds nothing, nothing
// is wider than the window, no script fails. Then it opens the first form of the queue and sends it with the keyboard
// alone.
//
//   node pages.mjs HUB MODULES PICTURES      MODULES has playwright-core and axe-core
//
// It prints one JSON object: {pages, most, problems}.
import { createRequire } from 'node:module';
import { readFileSync } from 'node:fs';
import path from 'node:path';

const [hub, modules, pictures] = process.argv.slice(2);
const require = createRequire(path.join(modules, 'x.js'));
const { chromium } = require('playwright-core');
const axe = readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8');

const problems = [];
let pages = 0;
let most = 0;
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM || '/usr/bin/chromium',
  args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
});

// weigh is what a page is made of, uncompressed, whether it came over the network or was there; what its stream says is not.
const weigh = () => [...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')]
  .filter((e) => !e.name.includes('/stream/')).reduce((sum, e) => sum + e.decodedBodySize, 0);

async function look(colour, size, stories) {
  const context = await browser.newContext({ colorScheme: colour, viewport: size, bypassCSP: true, reducedMotion: 'reduce' });
  for (const story of stories) {
    const name = `${story} (${colour}, ${size.width})`;
    const page = await context.newPage();
    page.on('pageerror', (e) => problems.push(`${name}: ${e}`));
    page.on('console', (m) => { if (m.type() === 'error') problems.push(`${name}: ${m.text()}`); });
    try {
      await page.goto(`${hub}/admin/storybook/${story}`, { waitUntil: 'load' });
      if (size.width < 500) { // the first form is looked at, too
        const form = page.locator('details.act summary').first();
        if (await form.count()) await form.click();
      }
      await page.addScriptTag({ content: axe });
      const found = await page.evaluate(() => globalThis.axe.run(document, { runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'] }));
      for (const v of found.violations) problems.push(`${name}: ${v.id}: ${v.help}: ${v.nodes.map((n) => n.html.slice(0, 200)).join(' | ')}`);
      const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      if (wide > 0) problems.push(`${name}: ${wide} pixels wider than the window`);
      const bytes = await page.evaluate(weigh);
      if (bytes > 150_000 || bytes < 1000) problems.push(`${name}: ${bytes} bytes`);
      pages++;
      most = Math.max(most, bytes);
      await page.screenshot({ path: path.join(pictures, `admin-${story}-${colour}-${size.width}.png`), fullPage: true });
    } catch (e) {
      problems.push(`${name}: ${e}`);
    }
    await page.close();
  }
  await context.close();
}

// live looks at a page that looks at itself: it does, a form that is open stops it, and so does its button.
async function live() {
  const page = await browser.newPage({ bypassCSP: true });
  page.on('pageerror', (e) => problems.push(`live: ${e}`));
  let asked = 0;
  page.on('request', (r) => { if (r.headers()['x-live']) asked++; });
  await page.goto(`${hub}/admin/storybook/queue-live`);
  await page.waitForFunction(() => !document.getElementById("live-note").textContent.includes("2019"), null, { timeout: 20_000 });
  await page.locator('details.act summary').first().click();
  const before = asked;
  await page.waitForTimeout(2500);
  if (asked > before + 1) problems.push('live: it asks again while a form is open');
  if (!(await page.locator('details.act[open]').count())) problems.push('live: a form was closed under its reader');
  await page.locator('#live-toggle').click();
  if ((await page.locator('#live-toggle').getAttribute('aria-pressed')) !== 'false') problems.push('live: the button does not stop it');
  await page.close();
}

// keyboard opens the form that cancels the first build, and sends it.
async function keyboard() {
  const page = await browser.newPage();
  await page.goto(`${hub}/admin/storybook/queue`);
  await page.keyboard.press('Tab');
  const skip = await page.evaluate(() => document.activeElement.className);
  if (skip !== 'skip') problems.push(`keyboard: the first stop is ${skip}, not the link that skips the navigation`);
  const stop = async (what, test) => {
    for (let i = 0; i < 60; i++) {
      if (await page.evaluate(test)) {
        const outline = await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle);
        if (outline === 'none') problems.push(`keyboard: nobody sees that ${what} has the focus`);
        return;
      }
      await page.keyboard.press('Tab');
    }
    throw new Error(`the keyboard does not reach ${what}`);
  };
  await stop('the first form', "document.activeElement.matches('details.act summary')");
  await page.keyboard.press('Enter');
  await stop('the reason', "document.activeElement.name === 'reason'");
  await page.keyboard.type('stuck');
  const sent = page.waitForRequest((r) => r.method() === 'POST' && r.url().endsWith('/admin/builds/b-0/cancel'), { timeout: 10_000 });
  await page.keyboard.press('Enter');
  const body = (await sent).postData() || '';
  if (!body.includes('reason=stuck') || !body.includes('form=sample')) problems.push(`keyboard: the form sent ${body}`);
  await page.close();
}

try {
  const index = await browser.newPage();
  const list = await index.goto(`${hub}/admin/storybook`);
  const stories = (await list.text()).split('\n');
  await index.close();
  await Promise.all([ // half of the time is waiting
    look('light', { width: 1280, height: 800 }, stories),
    look('dark', { width: 390, height: 844 }, stories),
    look('dark', { width: 1280, height: 800 }, ['queue', 'rules-preview', 'workers']),
    look('light', { width: 390, height: 844 }, ['queue', 'rules', 'login-refused']),
  ]);
  await keyboard();
  await live();
} catch (e) {
  problems.push(String(e));
} finally {
  await browser.close();
}
console.log(JSON.stringify({ pages, most, problems }));
