import { MigrationError } from '../errors.ts';

const ENDS = ['CONNECTION_LOST', 'CONNECTION_CLOSED', 'TERMINATE_RECEIVED', 'PEER_ERROR'];

/**
 * A QEMU with a return path opens a second connection for it before it says anything on the first, and gives up when it does not get one
 * (QEMU 7.2 with postcopy-ram or dirty-bitmaps, from 8.0 on with return-path too).
 * Nothing else tells that at this end, so the port is watched until the source has said something.
 */
export class SecondConnection {
  readonly #source: string;
  #open = true;
  #seen = false;

  /** host:port of the source. */
  constructor(source: string) {
    this.#source = hostOf(source);
  }

  /** Someone else has asked for a connection, from host:port. */
  saw(peer: string): void {
    this.#seen ||= this.#open && hostOf(peer) === this.#source;
  }

  /** The source has said something. True: for the first time. */
  end(): boolean {
    const first = this.#open;
    this.#open = false;
    return first;
  }

  /** Why the connection ended with this error, if it was for the second one. */
  explains(error: MigrationError): MigrationError | undefined {
    if (!this.#open || !this.#seen || !ENDS.includes(error.code)) return undefined;
    return new MigrationError(
      'STREAM_ERROR',
      'negotiate',
      'the source asked for a second connection before it said anything, and gave up without it: it is a QEMU with the capability ' +
        'return-path, postcopy-ram or dirty-bitmaps on, which waits there for answers that nothing here gives. Switch these off at the source',
      { cause: error },
    );
  }
}

function hostOf(address: string): string {
  return address.slice(0, address.lastIndexOf(':'));
}
