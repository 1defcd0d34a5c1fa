/** What is told of the links of a migration that goes on when one breaks. */
import type { Connection } from '../transport/connection.ts';
import type { Journal } from './journal.ts';

/** Follows a connection to its end: each change is an event, and a sentence for people. `windowMs`: how long this end looks for a new link. */
export function tellLinks({ links }: Connection, journal: Journal, windowMs: number): void {
  links.watch(({ channel, lost, lostMs = 0 }) => {
    if (lost) {
      const { code, message } = lost;
      journal.tell({ type: 'link', state: 'lost', channel, why: code });
      const text = `the link of channel ${channel} broke, looking for a new one for ${windowMs / 1000} s: ${message}`;
      journal.notice('LINK_LOST', text, { channel, why: code, windowMs });
      return;
    }
    journal.tell({ type: 'link', state: 'restored', channel, 'lost-time': lostMs });
    const text = `channel ${channel} goes on over a new link, after ${(lostMs / 1000).toFixed(1)} s without`;
    journal.notice('LINK_RESTORED', text, { channel, lostMs: Math.round(lostMs) });
  });
}
