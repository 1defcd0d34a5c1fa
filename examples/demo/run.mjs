/** `npm run demo`: sees to everything that the demo needs, then runs it. */
import { setUp } from './set-up.mjs';

setUp();
await import(new URL('../../build/node/examples/demo/main.js', import.meta.url).href);
