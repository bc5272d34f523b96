// Opens a build's own page in Debian's Chromium and measures the timeline that it draws.
//
//   node timeline.mjs URL PICTURE
//
// It prints one JSON object: the steps with their bars, as they are on the screen, in pixels.
import { start } from './chromium.mjs';

const [url, picture] = process.argv.slice(2);
const seen = { steps: [], errors: [] };
const browser = await start();
try {
  const page = await browser.newPage({ viewport: { width: 1280, height: 800 } });
  page.on('pageerror', (e) => seen.errors.push(String(e)));
  page.on('console', (m) => { if (m.type() === 'error') seen.errors.push(m.text()); });
  await page.goto(url);
  await page.locator('#steps-body tr', { hasText: 'Copy the repository' }).waitFor({ timeout: 60_000 });
  // In one go: the page goes on drawing while it is looked at.
  seen.steps = await page.evaluate(() => [...document.querySelectorAll('#steps-body tr')].map((tr) => {
    const bar = tr.querySelector('.bar');
    const { left, right, top, bottom } = bar.getBoundingClientRect();
    return { name: tr.cells[0].textContent, took: tr.cells[1].textContent, left, right, top, bottom, colour: getComputedStyle(bar).backgroundColor };
  }));
  await page.locator('#timeline').screenshot({ path: picture });
} catch (e) {
  seen.errors.push(String(e));
} finally {
  await browser.close();
}
console.log(JSON.stringify(seen));
