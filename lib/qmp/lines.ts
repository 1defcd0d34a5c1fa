import { MigrationError } from '../errors.ts';

/**
 * The longest line accepted from a QMP server, in bytes. QEMU's longest answer, `query-qmp-schema`, has about
 * 200 KiB; the bound only keeps a stream without line ends from filling memory.
 */
export const MAX_LINE_BYTES = 4 * 1024 * 1024;

const NEWLINE = 0x0a;

/** Cuts a byte stream into lines. Holds at most one unfinished line of `limit` bytes. */
export class LineSplitter {
  readonly #limit: number;
  #parts: Buffer[] = [];
  #held = 0;

  constructor(limit: number = MAX_LINE_BYTES) {
    this.#limit = limit;
  }

  /**
   * Takes the next bytes and yields the lines that they complete, without line ends; empty lines are left out.
   *
   * @throws MigrationError `PROTOCOL_ERROR` when a line is longer than the limit.
   */
  *push(bytes: Buffer): Generator<string> {
    let start = 0;
    for (let end = bytes.indexOf(NEWLINE); end !== -1; end = bytes.indexOf(NEWLINE, start)) {
      this.#hold(bytes.subarray(start, end));
      start = end + 1;
      const line = Buffer.concat(this.#parts).toString('utf8').trim();
      this.#parts = [];
      this.#held = 0;
      if (line !== '') yield line;
    }
    this.#hold(bytes.subarray(start));
  }

  #hold(part: Buffer): void {
    this.#held += part.length;
    if (this.#held > this.#limit) {
      throw new MigrationError(
        'PROTOCOL_ERROR',
        'negotiate',
        `the QMP server sent a line of more than ${this.#limit} bytes. Is this the QMP socket of a QEMU?`,
        { details: { limit: this.#limit } },
      );
    }
    if (part.length > 0) this.#parts.push(part);
  }
}
