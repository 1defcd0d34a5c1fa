/** The page that shows migrations as they run. docs/web.md */
export { parseWebAddress, type WebAddress } from './address.ts';
export { WebServer, type WebServerOptions } from './server.ts';
export { readToken } from './token.ts';
export { parseWatchTarget, type WatchedMigration, type WatchTarget, watch } from './watch.ts';
export { cancelled, type Snapshot } from './watched.ts';
