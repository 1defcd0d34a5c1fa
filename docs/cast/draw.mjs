/**
 * A line of a terminal and when it appeared, in ms from the start.
 * @typedef {{ host: 'source' | 'destination', text: string, at: number, command?: boolean }} Line
 */

const COLUMNS = 100;
const ROW = 19;
const CHARACTER = 7.9;
const WIDTH = Math.ceil(COLUMNS * CHARACTER) + 32;

/** @param {string} text */
const escaped = (text) => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');

/** Breaks at blanks; what has none within a row is cut. @param {string} text @returns {string[]} */
function rows(text) {
  if (text.length <= COLUMNS) return [text];
  const blank = text.lastIndexOf(' ', COLUMNS);
  const end = blank > 0 ? blank : COLUMNS;
  return [text.slice(0, end), ...rows(text.slice(end).trimStart())];
}

/** @param {string} text @param {number} y @param {string} kind @param {number} at */
const row = (text, y, kind, at) =>
  `<text x="16" y="${y}" class="${kind}" style="animation-delay:${(at / 1000).toFixed(2)}s">${escaped(text)}</text>`;

/**
 * The picture: a window with a part for each host; its lines appear at their times, once, and stay.
 * @param {Line[]} lines @returns {string} SVG
 */
export function draw(lines) {
  const drawn = [];
  let y = 56;
  for (const host of /** @type {const} */ (['destination', 'source'])) {
    const own = lines.filter((line) => line.host === host);
    let first = true;
    for (const { text, at, command } of own) {
      const shown = command && first ? `${host}$ ${text}` : text;
      first = false;
      for (const part of rows(shown)) {
        drawn.push(row(part, y, command ? 'c' : 'o', at));
        y += ROW;
      }
    }
    y += ROW;
  }
  const height = y - ROW;
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}" role="img" aria-label="Two commands move a running guest from one QEMU to another">
<style>
text{font:13px ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace;white-space:pre;opacity:0;animation:a .05s forwards}
.c{fill:#f0f6fc;font-weight:600}.o{fill:#9fb0c3}
@keyframes a{to{opacity:1}}
@media(prefers-reduced-motion:reduce){text{animation:none;opacity:1}}
</style>
<rect width="${WIDTH}" height="${height}" rx="8" fill="#0d1117"/>
<circle cx="20" cy="18" r="5" fill="#ff5f57"/><circle cx="38" cy="18" r="5" fill="#febc2e"/><circle cx="56" cy="18" r="5" fill="#28c840"/>
${drawn.join('\n')}
</svg>
`;
}
