/** What has been opened together and is closed together, the last first. Node 20 has no AsyncDisposableStack. */

export class Owned implements AsyncDisposable {
  readonly #closes: (() => unknown)[] = [];

  use<R extends AsyncDisposable>(resource: R): R {
    this.defer(() => resource[Symbol.asyncDispose]());
    return resource;
  }

  defer(close: () => unknown): void {
    this.#closes.push(close);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const close of this.#closes.splice(0).reverse()) await close();
  }
}
