/** Two VMs write to one log: whole lines, each with the name of its VM. */
import { Writable } from 'node:stream';
import { StringDecoder } from 'node:string_decoder';

export class LinePrefix extends Writable {
  readonly #prefix: string;
  readonly #out: Writable;
  readonly #decoder = new StringDecoder('utf8');
  #rest = '';

  constructor(prefix: string, out: Writable) {
    super();
    this.#prefix = prefix;
    this.#out = out;
  }

  override _write(bytes: Buffer, _encoding: BufferEncoding, done: () => void): void {
    const lines = (this.#rest + this.#decoder.write(bytes)).split('\n');
    this.#rest = lines.pop() ?? '';
    for (const line of lines) this.#out.write(`${this.#prefix}${line}\n`);
    done();
  }

  override _final(done: () => void): void {
    if (this.#rest !== '') this.#out.write(`${this.#prefix}${this.#rest}\n`);
    done();
  }
}
