// Serves a folder, opens its page in headless Chromium, prints what the page says, and fails unless every case passed.
// usage: node drive.mjs FOLDER CHROMIUM MODULES QUERY
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { readFile } from 'node:fs/promises';
import { extname, join, normalize, resolve } from 'node:path';

const [folder, executablePath, modules, query] = process.argv.slice(2);
const { chromium } = createRequire(resolve(modules, 'index.js'))('playwright-core');
const types = { '.html': 'text/html', '.js': 'text/javascript', '.wasm': 'application/wasm' };
const PATIENCE = 15 * 60 * 1000;

const server = createServer(async (request, response) => {
  const path = normalize(new URL(request.url, 'http://localhost').pathname).replace(/\/$/, '/index.html');
  try {
    const body = await readFile(join(folder, path));
    response.writeHead(200, { 'content-type': types[extname(path)] ?? 'text/plain' }).end(body);
  } catch {
    response.writeHead(404).end();
  }
});
await new Promise((ready) => server.listen(0, '127.0.0.1', ready));

const args = ['--enable-unsafe-webgpu', '--disable-background-networking', '--disable-component-update', '--disable-sync'];
const browser = await chromium.launch({ executablePath, args: [...args, '--no-sandbox', '--no-first-run'] });
let counts = { passed: 0, failed: 1 };
try {
  const page = await browser.newPage();
  page.on('console', (message) => console.log(message.text()));
  page.on('pageerror', (error) => console.log(`the page: ${error.message}`));
  page.on('crash', () => console.log('the page crashed'));
  await page.goto(`http://127.0.0.1:${server.address().port}/index.html${query ?? ''}`);
  const done = await page.waitForFunction(() => window.tilewise, null, { timeout: PATIENCE, polling: 500 });
  counts = await done.jsonValue();
} catch (error) {
  console.log(`the browser: ${error.message}`);
}
await browser.close();
server.close();
console.log(`${counts.passed} passed, ${counts.failed} failed`);
process.exitCode = counts.passed > 0 && counts.failed === 0 ? 0 : 1;
