import type { Wording } from '../options/check.ts';

/** Options as they stand on the command line: `--pin-budget` is the library's `pinBudget`, `--commit-timeout` its `commitTimeoutMs`, `--tls-creds` its `tls.creds`. */
export const ON_COMMAND_LINE: Wording = {
  name: (option) =>
    `--${option
      .replace(/Ms$/, '')
      .replace('.', '-')
      .replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`,
  expected: (text) => text.replace(/ as bigint$/, ''),
  received: (value) => String(value),
};
