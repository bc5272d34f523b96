// Looks at every page of the storybook, goes the way from the start page to a launch with the keyboard alone, copies what
// the start page offers, and times what is seen first.
import { browser, hub, lookAt, pages, problems, report, skipsFirst, tabTo } from '../../internal/browsertest/storybook.mjs';

async function settle(page, story) {
  if (story === 'launch-left') await page.locator('#btn-cancel').click();
  const done = {
    'launch-waiting': '#standing:not([hidden])', 'launch-building': '[data-phase="building"] #course:not([hidden])', 'launch-late': '#course:not([hidden])', 'launch-failed': '#problem:not([hidden])',
    'launch-lobby': '#launch[data-phase="launching"] #standing:not([hidden])', 'launch-refused': '#problem:not([hidden])', 'launch-limited': '#problem:not([hidden])',
    'launch-left': '#launch[data-phase="left"]', 'launch-lost': '#status:text("The connection was lost")',
    'launch-ready': '#done:not([hidden])', 'build-queued': '#standing:not([hidden])', 'build-running': '#course:not([hidden])', 'build-succeeded': '#timeline:not([hidden])',
    'build-failed': '#timeline:not([hidden])', 'start-filled': '#share:not([hidden])', 'start-doi': '#share:not([hidden])',
  }[story];
  if (done) await page.locator(done).first().waitFor({ state: 'attached', timeout: 20_000 });
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
  await skipsFirst(page);
  await tabTo(page, '#provider');
  await tabTo(page, '#repository');
  await page.keyboard.type('https://example.org/o/r');
  await tabTo(page, '#ref');
  await page.keyboard.type('main');
  await tabTo(page, '#path');
  await page.keyboard.type('a.ipynb');
  await tabTo(page, '#btn-launch');
  await page.keyboard.press('Enter');
  await page.waitForURL('**/v2/git/**');
  pages.push({ name: 'keyboard', landed: new URL(page.url()).pathname + new URL(page.url()).search });
  await tabTo(page, '#btn-share');
  await tabTo(page, '#btn-cancel');
  await page.keyboard.press('Enter');
  await page.getByText('You have left').waitFor({ timeout: 10_000 });
  await page.close();
}

await report(async () => {
  const index = await browser.newPage();
  await index.goto(hub + '/storybook');
  const stories = (await index.locator('main li a').allTextContents()).filter((s) => s !== 'storybook-list');
  await index.close();
  await lookAt(stories, { dark: ['start-filled', 'launch-building', 'status'], light: ['start-filled', 'launch-waiting', 'status'] }, {
    at: '/storybook', picture: 'page', least: 15_000, settle, harmless: (text) => text.includes('404'), // the styles alone are 14,000
  });
  await keyboard();
  await share();
  await paint(['/', '/storybook/launch-waiting', '/storybook/build-succeeded', '/status', '/about']);
});
