import { expect, it, vi } from 'vitest';

it('embeds both ends in one process and prints progress, results and that RAM arrived', async () => {
  const log = vi.spyOn(console, 'log').mockImplementation(() => {});
  try {
    await import('../../examples/embed/both-ends.ts');
    const lines = log.mock.calls.map(([first]) => String(first));
    expect(lines.filter((line) => line.startsWith('active, phase ram: '))).not.toEqual([]);
    expect(lines).toContain('source:');
    expect(lines).toContain('destination:');
    expect(lines.slice(-2)).toEqual(['ram: identical', 'rom: identical']);
  } finally {
    log.mockRestore();
  }
});
