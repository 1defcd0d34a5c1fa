/** A process that watches the page of another one, as a browser does: it takes all that comes, and counts it. */
import { WebSocket } from 'ws';

const [origin = '', token = ''] = process.argv.slice(2);
const socket = new WebSocket(`${origin.replace('http', 'ws')}/live`, {
  headers: { authorization: `Bearer ${token}` },
});
let pictures = 0;
let maps = 0;
socket.on('message', (data, isBinary) => {
  if (isBinary) maps += 1;
  else if (JSON.parse(String(data)).type === 'state') pictures += 1;
});
socket.on('open', () => process.send?.({ open: true }));
socket.on('error', (error) => process.send?.({ error: error.message }));
socket.on('close', () => {
  process.send?.({ pictures, maps });
  process.disconnect();
});
