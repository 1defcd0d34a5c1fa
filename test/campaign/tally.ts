/** Counts, printed in order. */
export class Tally {
  readonly #counts = new Map<string, number>();

  add(name: string): void {
    this.#counts.set(name, (this.#counts.get(name) ?? 0) + 1);
  }

  lines(): string[] {
    const sorted = [...this.#counts].sort(([left], [right]) => left.localeCompare(right));
    return sorted.map(([name, count]) => `${String(count).padStart(6)}  ${name}`);
  }
}
