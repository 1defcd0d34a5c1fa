/** `npm run demo:live`: sees to everything that the demo needs, then runs it. */
import { setUp } from '../demo/set-up.mjs';

setUp();
await import(new URL('../../build/node/examples/qemu-live/main.js', import.meta.url).href);
