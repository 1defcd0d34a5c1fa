import { formatRdmaUri, parseRdmaUri } from '../../../lib/protocol/uri.ts';
import { same, tried } from '../judge.ts';
import { mutateText } from '../mutate.ts';
import type { Target } from '../target.ts';

const SEEDS = [
  'rdma:192.0.2.7:4444',
  'rdma:[2001:db8::7]:0',
  'rdma:[fe80::1%eth0]:65535',
  'rdma:vm-1.example:1',
];

/** Whoever gives a URI gets it back in the message. */
const MOST = 500;

export const uri: Target = {
  name: 'uri',
  feeds: 'parseRdmaUri with damaged URIs',
  reaches: ['taken', 'INVALID_URI'],
  play(random, hit) {
    const seed = random.pick(SEEDS);
    const text = random.chance(0.05) ? seed : mutateText(random, seed).slice(0, MOST);
    const address = tried(['INVALID_URI'], hit, () => parseRdmaUri(text));
    if (address === undefined) return;
    hit('taken');
    same('the URI of an address', parseRdmaUri(formatRdmaUri(address)), address);
  },
};
