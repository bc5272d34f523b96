// Launches a repository with the clients that programs and pages use, as they are published: binderhub-client in Node.js
// and in a page of another origin, thebe-core in such a page, which runs a cell in the session.
//
//   node clients.mjs HUB SPEC REPOSITORY REF PAGE
//
// It prints one JSON object: what each of them saw.
import { register } from 'node:module';
import { start } from './chromium.mjs';

// The client is published as ES modules without saying so. Bundlers do not ask, and Node.js finds out by itself from
// version 20 on; Debian 12 has 18, which has to be told.
register('data:text/javascript,' + encodeURIComponent(`
  export const load = (url, context, next) =>
    next(url, url.includes('/@jupyterhub/binderhub-client/') ? { ...context, format: 'module' } : context);
`));
const { BinderRepository } = await import('@jupyterhub/binderhub-client/client.js');

const [hub, spec, repository, ref, pageURL] = process.argv.slice(2);
const seen = { node: { phases: [] }, page: { phases: [] }, thebe: { phases: [] }, errors: [] };

// once keeps a phase that differs from the last one.
function once(phases, phase) {
  if (phase && phases.at(-1) !== phase) phases.push(phase);
}

async function inNode() {
  // It expects to be in a page. All that it asks of one is this.
  globalThis.window = globalThis;
  globalThis.document = { cookie: '', hidden: false, addEventListener() {}, removeEventListener() {} };
  const repo = new BinderRepository(spec, new URL(`${hub}/build/`));
  for await (const event of repo.fetch()) {
    once(seen.node.phases, event.phase);
    seen.node.last = event;
    if (event.phase === 'ready' || event.phase === 'failed') {
      repo.close();
      break;
    }
  }
  const { url, token } = seen.node.last;
  const answer = await fetch(`${url}api/status?token=${token}`);
  seen.node.status = answer.status;
}

// These two run in the page.
async function withClient([hub, spec]) {
  const { BinderRepository } = await import('/npm/@jupyterhub/binderhub-client/lib/client.js');
  const repo = new BinderRepository(spec, new URL(`${hub}/build/`));
  const events = [];
  for await (const event of repo.fetch()) {
    events.push(event);
    if (event.phase === 'ready' || event.phase === 'failed') {
      repo.close();
      break;
    }
  }
  const { url, token } = events.at(-1);
  const answer = url ? await fetch(`${url}api/status?token=${token}`) : { status: 0 };
  return { events, status: answer.status };
}

async function withThebe([hub, repository, ref]) {
  const { api } = window.thebeCore;
  const phases = [];
  const events = api.makeEvents();
  events.on('status', (_, data) => phases.push(`${data.subject}: ${data.status}: ${data.message}`));
  events.on('error', (_, data) => phases.push(`error: ${data.message}`));
  const config = api.makeConfiguration({
    useBinder: true,
    binderOptions: { binderUrl: hub, repo: repository, ref, repoProvider: 'git' },
    savedSessionOptions: { enabled: false },
    kernelOptions: { kernelName: 'python3', path: '/' },
  }, events);
  const server = api.connectToBinder(config);
  try {
    await server.ready;
    const rendermime = api.makeRenderMimeRegistry();
    const notebook = api.setupNotebookFromBlocks([{ id: 'first', source: 'print("six times seven is", 6 * 7)' }], config, rendermime);
    const session = await server.startNewSession(rendermime);
    notebook.attachSession(session);
    const cell = notebook.cells[0];
    cell.attachToDOM(document.getElementById('cell'));
    const done = await cell.execute();
    return { phases, output: document.getElementById('cell').textContent.trim(), error: done?.error ? String(done.error) : '', url: server.settings.baseUrl };
  } catch (e) {
    return { phases, failure: String(e?.message ?? e) };
  }
}

async function inPages() {
  const browser = await start();
  try {
    const page = await browser.newPage();
    page.on('pageerror', (e) => seen.errors.push(String(e)));
    await page.goto(pageURL);
    const client = await page.evaluate(withClient, [hub, spec]);
    for (const e of client.events) once(seen.page.phases, e.phase);
    seen.page.last = client.events.at(-1);
    seen.page.status = client.status;
    await page.waitForFunction(() => window.thebeCore);
    seen.thebe = await page.evaluate(withThebe, [hub, repository, ref]);
  } finally {
    await browser.close();
  }
}

try {
  await inNode();
  await inPages();
} catch (e) {
  seen.failure = String(e?.stack ?? e);
}
console.log(JSON.stringify(seen));
process.exit(0); // the client keeps its connection for a while
