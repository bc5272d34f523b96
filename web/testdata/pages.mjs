// Looks at every page of the storybook, in light and dark, at desktop and phone width: axe-core finds nothing, nothing
// is wider than the window, no script fails, everything weighs little. Then it goes the way from the start page to a
// launch with the keyboard alone.
//
//   NODE_PATH is not used by modules: MODULES names a directory with playwright-core and axe-core.
//   node pages.mjs HUB MODULES PICTURES
//
// It prints one JSON object: {pages, problems}.
import { createRequire } from 'node:module';
import { readFileSync } from 'node:fs';
import path from 'node:path';

const [hub, modules, pictures] = process.argv.slice(2);
const require = createRequire(path.join(modules, 'x.js'));
const { chromium } = require('playwright-core');
const axe = readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8');

const problems = [];
const pages = [];
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM || '/usr/bin/chromium',
  args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
});

async function settle(page, story) {
  const done = {
    'launch-waiting': '#standing:not([hidden])', 'launch-building': '[data-phase="building"] .line', 'launch-failed': '#problem:not([hidden])',
    'launch-ready': '#done:not([hidden])', 'build-running': '#timeline:not([hidden])', 'build-succeeded': '#timeline:not([hidden])',
    'build-failed': '#timeline:not([hidden])', 'start-filled': '#share:not([hidden])', 'start-doi': '#share:not([hidden])',
  }[story];
  if (done) await page.locator(done).first().waitFor({ state: 'attached', timeout: 20_000 });
}

// weigh is what a page is made of, uncompressed, whether it came over the network or was there; what its stream says is not.
const weigh = () => [...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')]
  .filter((e) => !e.name.includes('/stream/')).reduce((sum, e) => sum + e.decodedBodySize, 0);

async function look(colour, size, stories) {
  const context = await browser.newContext({ colorScheme: colour, viewport: size, bypassCSP: true, reducedMotion: 'reduce' });
  for (const story of stories) {
    const name = `${story} (${colour}, ${size.width})`;
    const page = await context.newPage();
    page.on('pageerror', (e) => problems.push(`${name}: ${e}`));
    page.on('console', (m) => { if (m.type() === 'error' && !m.text().includes('404')) problems.push(`${name}: ${m.text()}`); });
    try {
      await page.goto(`${hub}/storybook/${story}`, { waitUntil: 'load' });
      await settle(page, story);
      const bytes = await page.evaluate(weigh);
      await page.addScriptTag({ content: axe });
      const found = await page.evaluate(() => globalThis.axe.run(document, { runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'] }));
      for (const v of found.violations) problems.push(`${name}: ${v.id}: ${v.help}: ${v.nodes.map((n) => n.html.slice(0, 200)).join(' | ')}`);
      const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      if (wide > 0) problems.push(`${name}: ${wide} pixels wider than the window`);
      if (bytes > 150_000 || bytes < 15_000) problems.push(`${name}: ${bytes} bytes`); // the styles alone are 14,000
      pages.push({ name, bytes, rules: found.passes.length });
      await page.screenshot({ path: path.join(pictures, `page-${story}-${colour}-${size.width}.png`), fullPage: true });
    } catch (e) {
      problems.push(`${name}: ${e}`);
    }
    await page.close();
  }
  await context.close();
}

// share reads the link and the badges of the start page, as they are shown and as a click copies them.
async function share() {
  const context = await browser.newContext({ permissions: ['clipboard-read', 'clipboard-write'] });
  const page = await context.newPage();
  for (const [provider, repository, ref, file, kind, want] of [
    ['gh', 'o/r', '', '', 'file', '/v2/gh/o/r/HEAD'],
    ['gh', 'https://github.com/o/r/', 'br/anch', 'a b.ipynb', 'file', '/v2/gh/o/r/br/anch?urlpath=%2Fdoc%2Ftree%2Fa+b.ipynb'],
    ['git', 'https://example.org/o/r', 'main', 'lab?x=1', 'url', '/v2/git/https%3A%2F%2Fexample.org%2Fo%2Fr/main?urlpath=lab%3Fx%3D1'],
    ['gl', 'a/b/c', 'main', 'x.ipynb', 'lab', '/v2/gl/a%2Fb%2Fc/main?labpath=x.ipynb'],
    ['zenodo', '10.5281/zenodo.3242074', '', '', 'file', '/v2/zenodo/10.5281/zenodo.3242074/'],
  ]) {
    await page.goto(hub + '/');
    await page.locator('#provider').selectOption(provider);
    await page.locator('[name=repository]').fill(repository);
    if (ref) await page.locator('[name=ref]').fill(ref);
    await page.locator('#path-kind').selectOption(kind);
    await page.locator('[name=path]').fill(file);
    const url = hub + want;
    const texts = {
      'launch-url': url, 'badge-md': `[![Binder](${hub}/badge_logo.svg)](${url})`, 'badge-rst': `.. image:: ${hub}/badge_logo.svg\n :target: ${url}`,
      'badge-html': `<a href="${url}"><img src="${hub}/badge_logo.svg" alt="Binder"></a>`,
    };
    for (const [id, text] of Object.entries(texts)) {
      const shown = await page.locator('#' + id).textContent();
      await page.locator(`[data-copy=${id}]`).click();
      await page.locator(`[data-copy=${id}]`, { hasText: 'Copied' }).waitFor();
      const copied = await page.evaluate(() => navigator.clipboard.readText());
      if (shown !== text || copied !== text) problems.push(`share: #${id} of ${repository} shows ${shown}, copies ${copied}, want ${text}`);
    }
  }
  await context.close();
}

// paint opens pages as somebody does who was never there, one after the other, and says when something is to be seen.
async function paint(paths) {
  for (const at of paths) {
    const times = [];
    for (let i = 0; i < 5; i++) {
      const context = await browser.newContext();
      const page = await context.newPage();
      await page.goto(hub + at, { waitUntil: 'load' });
      await page.waitForFunction(() => performance.getEntriesByName('first-contentful-paint').length > 0);
      times.push(await page.evaluate(() => performance.getEntriesByName('first-contentful-paint')[0].startTime));
      await context.close();
    }
    pages.push({ name: `paint of ${at}`, paint: Math.round(times.sort((a, b) => a - b)[2]) });
  }
}

// keyboard goes from the start page to a launch without a mouse.
async function keyboard() {
  const page = await browser.newPage();
  page.on('pageerror', (e) => problems.push(`keyboard: ${e}`));
  await page.goto(hub + '/');
  await page.keyboard.press('Tab');
  const skip = await page.evaluate(() => document.activeElement.className);
  if (skip !== 'skip') problems.push(`keyboard: the first stop is ${skip}, not the link that skips the navigation`);
  const stop = async (id) => {
    for (let i = 0; i < 30; i++) {
      if (await page.evaluate((id) => document.activeElement.id === id, id)) {
        const outline = await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle);
        if (outline === 'none') problems.push(`keyboard: nobody sees that #${id} has the focus`);
        return;
      }
      await page.keyboard.press('Tab');
    }
    throw new Error(`the keyboard does not reach #${id}`);
  };
  await stop('provider');
  await stop('repository');
  await page.keyboard.type('https://example.org/o/r');
  await stop('ref');
  await page.keyboard.type('main');
  await stop('path');
  await page.keyboard.type('a.ipynb');
  await stop('btn-launch');
  await page.keyboard.press('Enter');
  await page.waitForURL('**/v2/git/**');
  pages.push({ name: 'keyboard', landed: new URL(page.url()).pathname + new URL(page.url()).search });
  await stop('btn-share');
  await stop('btn-cancel');
  await page.keyboard.press('Enter');
  await page.getByText('You have left').waitFor({ timeout: 10_000 });
  await page.close();
}

try {
  const index = await browser.newPage();
  await index.goto(hub + '/storybook');
  const stories = (await index.locator('main li a').allTextContents()).filter((s) => s !== 'storybook-list');
  await index.close();
  await Promise.all([ // half of the time is waiting
    look('light', { width: 1280, height: 800 }, stories),
    look('dark', { width: 390, height: 844 }, stories),
    look('dark', { width: 1280, height: 800 }, ['start-filled', 'launch-building', 'status']),
    look('light', { width: 390, height: 844 }, ['start-filled', 'launch-waiting', 'status']),
  ]);
  await keyboard();
  await share();
  await paint(['/', '/storybook/launch-waiting', '/storybook/build-succeeded', '/status', '/about']);
} catch (e) {
  problems.push(String(e));
} finally {
  await browser.close();
}
console.log(JSON.stringify({ pages, problems }));
