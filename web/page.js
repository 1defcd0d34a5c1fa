/** Shows what the command's migrations tell, and goes on doing so when the connection was lost in between. */
import { mapId } from './map.js';
import { MigrationView } from './view.js';

/** The command has ended: there is nothing to come back to. */
const COMMAND_ENDED = 4000;
const AGAIN_MS = [250, 500, 1000, 2000, 4000];

const ANSWER_MS = 6000;

const connection = document.getElementById('connection');
const answer = document.getElementById('answer');
const views = new Map();
let socket;
let attempts = 0;
let requests = 0;
let clearing;

/** Of this server and this tab alone, so that the page can be loaded again. */
const SESSION = 'session';
/** What a WebSocket can say of itself; lib/web/access.ts. */
const PROTOCOLS = ['rdma-migrate'];

/** The token comes after #, which is in no request; a secret that only this server knows takes its place. */
async function openSession() {
  const token = location.hash.slice(1);
  if (token === '') return;
  const response = await fetch('session', { method: 'POST', headers: bearer(token) });
  if (!response.ok) return say('the token is not right: open the address that the command printed', 'lost');
  sessionStorage.setItem(SESSION, await response.text());
  history.replaceState(null, '', location.pathname);
}

const bearer = (secret) => ({ authorization: `Bearer ${secret}` });
const session = () => sessionStorage.getItem(SESSION) ?? '';

function say(text, state) {
  connection.textContent = text;
  connection.dataset.state = state;
}

function viewOf(id) {
  const known = views.get(id);
  if (known) return known;
  const made = new MigrationView((action, value) => ask(id, action, value));
  views.set(id, made);
  return made;
}

function ask(migration, action, value) {
  const request = ++requests;
  if (socket?.readyState === WebSocket.OPEN)
    socket.send(JSON.stringify({ type: 'action', migration, request, action, value }));
  else reply({ ok: false, message: 'there is no connection to the command now' });
}

function reply({ ok, message }) {
  answer.textContent = message;
  answer.dataset.ok = String(ok);
  clearTimeout(clearing);
  clearing = setTimeout(() => answer.replaceChildren(), ANSWER_MS);
}

function receive(data) {
  if (typeof data === 'string') return take(JSON.parse(data));
  const id = mapId(data);
  if (id !== undefined) views.get(id)?.cells(data);
}

function take(message) {
  if (message.type === 'answer') reply(message);
  if (message.type === 'points') viewOf(message.id).points(message.points);
  if (message.type === 'map') viewOf(message.id).layOut(message);
  if (message.type !== 'state') return;
  for (const state of message.migrations) viewOf(state.id).show(state);
  const shown = new Set(message.migrations.map(({ id }) => id));
  for (const [id, view] of views) {
    if (shown.has(id)) continue;
    view.remove();
    views.delete(id);
  }
  document.title = titleOf(message.migrations);
}

function titleOf(migrations) {
  const last = migrations.at(-1)?.progress;
  if (!last) return 'rdma-migrate';
  return `${last.status === 'active' ? `${last.percentage.toFixed(0)} %` : last.status} · rdma-migrate`;
}

function connect() {
  socket = new WebSocket(`ws://${location.host}/live`, [...PROTOCOLS, `session.${session()}`]);
  socket.binaryType = 'arraybuffer';
  socket.addEventListener('open', () => {
    attempts = 0;
    say('live', 'live');
  });
  socket.addEventListener('message', ({ data }) => receive(data));
  socket.addEventListener('close', ({ code }) => {
    if (code === COMMAND_ENDED) return say('the command has ended', 'ended');
    void lost();
  });
}

/** A WebSocket does not tell why it was refused; a request does. */
async function lost() {
  const status = await fetch('state.json', { headers: bearer(session()) })
    .then((response) => response.status)
    .catch(() => 0);
  if (status === 401) return say('open the address that the command printed: it ends with the token', 'lost');
  say('connection lost; trying again', 'lost');
  setTimeout(connect, AGAIN_MS[Math.min(attempts++, AGAIN_MS.length - 1)]);
}

await openSession().catch(() => {});
connect();
