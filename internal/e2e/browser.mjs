// Opens a repository's link in Debian's Chromium, watches the log, lands in JupyterLab, runs a cell, reads its output.
//
//   node browser.mjs URL PICTURES
//
// It prints one JSON object: what a person would have seen. PICTURES is the prefix of the screenshots.
import { start } from './chromium.mjs';

const [url, pictures] = process.argv.slice(2);
const deadline = Date.now() + 10 * 60_000;
const seen = { log: '', output: '', errors: [] };

const browser = await start();
try {
  const page = await browser.newPage({ viewport: { width: 1280, height: 800 } });
  page.on('pageerror', (e) => seen.errors.push(String(e)));
  page.on('console', (m) => { if (m.type() === 'error' && new URL(page.url()).origin === new URL(url).origin) seen.errors.push(m.text()); });

  const first = await page.goto(url);
  seen.status = first.status();
  seen.policy = first.headers()['content-security-policy'] ?? '';
  seen.title = await page.title();

  // While it builds, the page shows a log that grows. It leaves by itself once the session is ready.
  let pictured = false;
  for (const hub = new URL(url).origin; new URL(page.url()).origin === hub;) {
    const log = await page.locator('#terminal').textContent({ timeout: 2000 }).catch(() => null);
    if (log) seen.log = log;
    if (!pictured && seen.log.length > 200) {
      await page.screenshot({ path: `${pictures}-log.png` });
      pictured = true;
    }
    await page.waitForTimeout(100).catch(() => {});
    if (Date.now() > deadline) throw new Error(`the page did not leave for the session; its log: ${seen.log}`);
  }
  seen.landed = page.url().replace(/token=[^&]*/, 'token=…');

  // JupyterLab: a new notebook, a cell, its output.
  await page.locator('.jp-LauncherCard[data-category="Notebook"]').first().click({ timeout: 120_000 });
  const cell = page.locator('.jp-Notebook .jp-Cell .cm-content').first();
  await cell.click({ timeout: 60_000 });
  await page.keyboard.type('print("six times seven is", 6 * 7)');
  await page.locator('#jp-main-statusbar').getByText('| Idle').waitFor({ timeout: 60_000 });
  await page.keyboard.press('Shift+Enter');
  const output = page.locator('.jp-OutputArea-output').first();
  await output.waitFor({ timeout: 60_000 });
  seen.output = (await output.textContent()).trim();
  seen.notices = await page.locator('.Toastify__toast').allTextContents();
  await page.screenshot({ path: `${pictures}-lab.png` });
} catch (e) {
  seen.failure = String(e);
  for (const page of browser.contexts().flatMap((c) => c.pages())) {
    await page.screenshot({ path: `${pictures}-failure.png` }).catch(() => {});
    seen.at = page.url().replace(/token=[^&]*/, 'token=…');
  }
} finally {
  await browser.close();
}
console.log(JSON.stringify(seen));
