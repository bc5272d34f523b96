// Looks at every page of the storybook, opens the first form of the queue and sends it with the keyboard alone, and sees
// a page look at itself.
import { browser, hub, lookAt, problems, report, skipsFirst, tabTo } from '../../internal/browsertest/storybook.mjs';

// settle opens the first form of a page, on a phone.
async function settle(page, story, size) {
  if (size.width > 500) return;
  const form = page.locator('details.act summary').first();
  if (await form.count()) await form.click();
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
  await skipsFirst(page);
  await tabTo(page, 'details.act summary');
  await page.keyboard.press('Enter');
  await tabTo(page, '[name="reason"]');
  await page.keyboard.type('stuck');
  const sent = page.waitForRequest((r) => r.method() === 'POST' && r.url().endsWith('/admin/builds/b-0/cancel'), { timeout: 10_000 });
  await page.keyboard.press('Enter');
  const body = (await sent).postData() || '';
  if (!body.includes('reason=stuck') || !body.includes('form=sample')) problems.push(`keyboard: the form sent ${body}`);
  await page.close();
}

await report(async () => {
  const index = await browser.newPage();
  const list = await index.goto(`${hub}/admin/storybook`);
  const stories = (await list.text()).split('\n');
  await index.close();
  await lookAt(stories, { dark: ['queue', 'rules-preview', 'workers'], light: ['queue', 'rules', 'login-refused'] }, {
    at: '/admin/storybook', picture: 'admin', least: 1000, settle,
  });
  await keyboard();
  await live();
});
