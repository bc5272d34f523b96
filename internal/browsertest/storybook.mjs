// What the scripts that look at a storybook have in common. A script is called as
//
//   node pages.mjs HUB MODULES PICTURES      MODULES has playwright-core and axe-core
//
// and prints one JSON object: {pages, problems}.
import { createRequire } from 'node:module';
import { readFileSync } from 'node:fs';
import path from 'node:path';

const [url, modules, pictures] = process.argv.slice(2);
const require = createRequire(path.join(modules, 'x.js')); // modules know no NODE_PATH
const { chromium } = require('playwright-core');
const axe = readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8');

export const hub = url;
export const problems = [];
export const pages = [];
export const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM || '/usr/bin/chromium',
  args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
});

// weigh is what a page is made of, uncompressed, whether it came over the network or was there; what its stream says is not.
const weigh = () => [...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')]
  .filter((e) => !e.name.includes('/stream/')).reduce((sum, e) => sum + e.decodedBodySize, 0);

// lookAt opens every story in light and dark, at desktop and phone width, and the few once more the other way round:
// axe-core finds nothing, nothing is wider than the window, no script fails, everything weighs little.
//
//   at        the storybook's path
//   picture   what the screenshots' names begin with
//   least     bytes of the lightest page: one that has fewer was not loaded
//   settle    waits until a story stands, (page, story, size)
//   harmless  whether an error on the console is expected, (text)
export async function lookAt(stories, few, { at, picture, least, settle, harmless = () => false }) {
  const look = async (colour, size, stories) => {
    const context = await browser.newContext({ colorScheme: colour, viewport: size, bypassCSP: true, reducedMotion: 'reduce' });
    for (const story of stories) {
      const name = `${story} (${colour}, ${size.width})`;
      const page = await context.newPage();
      page.on('pageerror', (e) => problems.push(`${name}: ${e}`));
      page.on('console', (m) => { if (m.type() === 'error' && !harmless(m.text())) problems.push(`${name}: ${m.text()}`); });
      try {
        await page.goto(`${hub}${at}/${story}`, { waitUntil: 'load' });
        await settle(page, story, size);
        const bytes = await page.evaluate(weigh);
        await page.addScriptTag({ content: axe });
        const found = await page.evaluate(() => globalThis.axe.run(document, { runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'] }));
        for (const v of found.violations) problems.push(`${name}: ${v.id}: ${v.help}: ${v.nodes.map((n) => n.html.slice(0, 200)).join(' | ')}`);
        const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
        if (wide > 0) problems.push(`${name}: ${wide} pixels wider than the window`);
        if (bytes > 150_000 || bytes < least) problems.push(`${name}: ${bytes} bytes`);
        pages.push({ name, bytes, rules: found.passes.length });
        await page.screenshot({ path: path.join(pictures, `${picture}-${story}-${colour}-${size.width}.png`), fullPage: true });
      } catch (e) {
        problems.push(`${name}: ${e}`);
      }
      await page.close();
    }
    await context.close();
  };
  const desktop = { width: 1280, height: 800 };
  const phone = { width: 390, height: 844 };
  await Promise.all([ // half of the time is waiting
    look('light', desktop, stories),
    look('dark', phone, stories),
    look('dark', desktop, few.dark),
    look('light', phone, few.light),
  ]);
}

// skipsFirst sees that the first stop of the keyboard is the link that skips the navigation.
export async function skipsFirst(page) {
  await page.keyboard.press('Tab');
  const skip = await page.evaluate(() => document.activeElement.className);
  if (skip !== 'skip') problems.push(`keyboard: the first stop is ${skip}, not the link that skips the navigation`);
}

// tabTo goes on with the keyboard until the element that selector names has the focus, and sees that this is shown.
export async function tabTo(page, selector) {
  for (let i = 0; i < 60; i++) {
    if (await page.evaluate((s) => document.activeElement.matches(s), selector)) {
      const outline = await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle);
      if (outline === 'none') problems.push(`keyboard: nobody sees that ${selector} has the focus`);
      return;
    }
    await page.keyboard.press('Tab');
  }
  throw new Error(`the keyboard does not reach ${selector}`);
}

// report does the work and prints what came of it, whatever happens.
export async function report(work) {
  try {
    await work();
  } catch (e) {
    problems.push(String(e));
  } finally {
    await browser.close();
  }
  console.log(JSON.stringify({ pages, problems }));
}
