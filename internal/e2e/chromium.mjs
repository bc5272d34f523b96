// Starts Debian's Chromium, which is not to ask the world for anything of its own.
import { chromium } from 'playwright-core';

export const start = () => chromium.launch({
  executablePath: '/usr/bin/chromium',
  args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
    '--disable-component-update', '--disable-sync'],
});
