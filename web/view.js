/** One migration on the page. Everything that comes from the server is put in as text. */
import { Charts } from './charts.js';
import { bytes, duration, MEGABIT, rate } from './format.js';
import { RamMapView } from './map.js';

const PHASES = [
  'configure',
  'listen',
  'connect',
  'negotiate',
  'setup',
  'ram',
  'device-state',
  'commit',
  'close',
];
const OF_SOURCE = PHASES.filter((phase) => phase !== 'listen' && phase !== 'close' && phase !== 'configure');
const OF_DESTINATION = PHASES.filter(
  (phase) => phase !== 'connect' && phase !== 'close' && phase !== 'configure',
);
/** Of the rounds, the last so many as bars. */
const MOST_ROUNDS = 24;
const OWNERS = {
  source: 'the VM is the source’s',
  destination: 'the VM is the destination’s',
  'in doubt': 'the VM is being handed over: the destination’s answer decides',
};

const element = (name, text, className) => {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
};

const figures = (list, pairs) =>
  list.replaceChildren(
    ...pairs.map(([term, value]) => {
      const pair = element('div');
      pair.append(element('dt', term), element('dd', value));
      return pair;
    }),
  );

export class MigrationView {
  #root;
  #charts;
  #map;
  #ended = false;

  /** `act(action, value)` asks the server. */
  constructor(act) {
    const template = document.getElementById('migration');
    this.#root = template.content.firstElementChild.cloneNode(true);
    document.getElementById('migrations').append(this.#root);
    this.#charts = new Charts(this.#root.querySelector('.charts'));
    this.#map = new RamMapView(this.#root.querySelector('.map'));
    for (const form of this.#root.querySelectorAll('form')) {
      form.addEventListener('submit', (event) => {
        event.preventDefault();
        this.#submit(form, act);
      });
    }
  }

  points(points) {
    this.#charts.add(points);
  }

  /** Which cell of the map is what; before any of them. */
  layOut(layout) {
    this.#map.layOut(layout);
  }

  /** A binary message. */
  cells(data) {
    this.#map.take(data);
  }

  remove() {
    this.#charts.destroy();
    this.#map.destroy();
    this.#root.remove();
  }

  show(state) {
    const { progress, end } = state;
    this.#ended = end !== undefined;
    this.#map.name(state.role);
    this.#text('h2', `${state.role === 'source' ? 'sending' : 'receiving'} ${state.title}`);
    this.#text('[data-field=status]', progress.status);
    this.#root.dataset.status = progress.status;
    this.#text('[data-field=facts]', facts(state));
    this.#phases(state);
    const bar = this.#root.querySelector('.bar');
    bar.setAttribute('aria-valuenow', String(progress.percentage));
    bar.firstElementChild.style.width = `${progress.percentage}%`;
    figures(this.#root.querySelector(':scope > .figures'), now(state));
    this.#rounds(progress);
    this.#notices(state.notices);
    this.#controls(state);
    if (end) this.#outcome(end);
  }

  #text(selector, text) {
    this.#root.querySelector(selector).textContent = text;
  }

  #phases({ role, progress, end }) {
    const phases = role === 'source' ? OF_SOURCE : OF_DESTINATION;
    const done = end?.status === 'completed';
    const at = done ? phases.length : phases.indexOf(end?.error?.phase ?? progress.phase);
    this.#root.querySelector('.phases').replaceChildren(
      ...phases.map((phase, index) => {
        const item = element('li', phase, index < at ? 'done' : '');
        if (index === at) item.setAttribute('aria-current', 'step');
        return item;
      }),
    );
  }

  #rounds({ live, ram }) {
    const section = this.#root.querySelector('.rounds');
    const rounds = (live?.rounds ?? []).slice(-MOST_ROUNDS);
    section.hidden = rounds.length === 0;
    const most = Math.max(1, ...rounds.map((round) => round['dirty-pages']));
    section.querySelector('ol').replaceChildren(
      ...rounds.map((round) => {
        const item = element('li');
        const bar = element('span', undefined, 'round');
        bar.style.width = `${Math.max(0.5, (100 * round['dirty-pages']) / most)}%`;
        const size = bytes(round['dirty-pages'] * ram['page-size']);
        item.append(element('b', String(round.round)), element('span', undefined, 'track'));
        item.lastChild.append(bar);
        item.append(element('span', `${size} in ${duration(round.time)}`, 'words'));
        return item;
      }),
    );
  }

  #notices(notices) {
    const section = this.#root.querySelector('.notices');
    section.hidden = notices.length === 0;
    section.querySelector('ul').replaceChildren(
      ...notices.toReversed().map(({ at, code, message }) => {
        const item = element('li');
        item.append(element('b', `${code} `), element('span', message), element('small', ` ${duration(at)}`));
        return item;
      }),
    );
  }

  #controls({ canControl, progress, end }) {
    const section = this.#root.querySelector('.controls');
    section.hidden = end !== undefined;
    for (const form of section.querySelectorAll('form')) {
      const forSource = form.dataset.action !== 'cancel';
      form.hidden = (forSource && !canControl) || (form.classList.contains('live') && !progress.live);
    }
  }

  #outcome(end) {
    const section = this.#root.querySelector('.outcome');
    if (!section.hidden) return;
    section.hidden = false;
    const [title, text, list] = section.children;
    title.textContent = end.status;
    if (end.result) {
      text.textContent = OUTCOMES[end.result.outcome] ?? '';
      figures(list, result(end.result));
    } else text.textContent = `${end.error.message} (${end.error.code}, phase ${end.error.phase})`;
    section.append(link(end));
  }

  #submit(form, act) {
    const { action } = form.dataset;
    if (this.#ended) return;
    if (action === 'cancel' && !form.dataset.sure) return sure(form);
    const value = form.querySelector('input')?.valueAsNumber;
    if (action === 'max-bandwidth') act(action, Math.round(value * 2 ** 20));
    else act(action, value);
  }
}

/** The first press asks, the second one does it. */
function sure(form) {
  const button = form.querySelector('button');
  const before = button.textContent;
  form.dataset.sure = 'asked';
  button.textContent = 'cancel it: really?';
  setTimeout(() => {
    delete form.dataset.sure;
    button.textContent = before;
  }, 4000);
}

const OUTCOMES = {
  committed: 'The destination has confirmed that it holds the VM. It must not run at the source again.',
  unconfirmed:
    'Nothing has confirmed that the VM has arrived: look at the other end before either copy is given up.',
};

/** What the server said of the end, to keep. */
function link(end) {
  const made = element('a', 'as JSON');
  made.href = URL.createObjectURL(
    new Blob([JSON.stringify(end.result ?? end.error, null, 2)], { type: 'application/json' }),
  );
  made.download = 'migration.json';
  return made;
}

function facts({ owner, end, link: { peer, provider, migrationId } }) {
  const whose =
    end && owner === 'in doubt'
      ? 'whose the VM is nobody has confirmed: look at the destination first'
      : OWNERS[owner];
  const parts = [whose, peer && `peer ${peer}`, provider && `provider ${provider}`, migrationId];
  return parts.filter(Boolean).join(' · ');
}

function now({ progress, registered, end }) {
  const { ram, live } = progress;
  const pairs = [
    ['moved', `${progress.percentage.toFixed(1)} %`],
    ['remaining', ram.total === 0 ? '…' : `${bytes(ram.remaining)} of ${bytes(ram.total)}`],
    [end ? 'mean rate' : 'rate', rate(ram.mbps * MEGABIT)],
    ['time left', end || progress.eta === undefined ? '–' : duration(progress.eta)],
    ['time', duration(progress['total-time'])],
    ['channels', String(progress.channels)],
    ['registered', `${bytes(registered.registered)}, at most ${bytes(registered.peak)}`],
    ['content, zeros', `${bytes(ram['normal-bytes'])}, ${bytes(ram.duplicate * ram['page-size'])}`],
  ];
  if (!live) return pairs;
  return [
    ...pairs,
    ['guest writes', rate(ram['dirty-bytes-rate'])],
    live.downtime === undefined
      ? ['expected downtime', duration(live['expected-downtime'])]
      : ['downtime', duration(live.downtime)],
    ['guest slowed by', `${live['cpu-throttle-percentage']} %`],
    ['verdict', live.verdict ?? '…'],
  ];
}

const result = (done) => [
  ['machine', done.machine],
  ['in', duration(done['total-time'])],
  ['integrity', `${done.integrity}${done.encrypted ? ', encrypted' : ''}`],
  ['device state', bytes(done['device-state-bytes'])],
  ...Object.entries(done.live?.['downtime-parts'] ?? {}).map(([part, ms]) => [
    `downtime: ${part}`,
    duration(ms),
  ]),
];
