/** What Prometheus is told, by migrations that really ran. */
import { execFileSync, spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { Registry } from 'prom-client';
import { describe, expect, it } from 'vitest';
import { MigrationSource } from '../../lib/index.ts';
import { MigrationMetrics } from '../../lib/metrics/index.ts';
import { attempt, failure } from '../support/live-attempt.ts';
import { LiveGuest } from '../support/live-guest.ts';

const FOLDER = new URL('../../packaging/monitoring/', import.meta.url).pathname;
const NO_PROMTOOL = spawnSync('promtool', ['--version']).error !== undefined;
if (NO_PROMTOOL) console.log('NOT RUN: promtool checks; apt-get install prometheus');

/** The value of one series; 0 where there is none. */
async function value(registry: Registry, name: string, labels: Record<string, string>): Promise<number> {
  const metrics = await registry.getMetricsAsJSON();
  const values = metrics.flatMap(
    (metric) => metric.values as { labels: object; value: number; metricName?: string }[],
  );
  const known =
    metrics.find((metric) => metric.name === name)?.values ?? values.filter((one) => one.metricName === name);
  const wanted = JSON.stringify(Object.entries(labels).sort());
  const found = known.find((one) => JSON.stringify(Object.entries(one.labels).sort()) === wanted);
  return found?.value ?? 0;
}

describe('metrics', () => {
  it('add up what every migration of the process says of itself, and never go back', async () => {
    const registry = new Registry();
    using _metrics = new MigrationMetrics(registry);
    const content = () =>
      value(registry, 'rdma_migrate_ram_bytes_total', { direction: 'outgoing', kind: 'content' });
    let expected = 0;
    for (let index = 1; index <= 2; index += 1) {
      await using vm = await LiveGuest.create({ pages: 512 });
      const options = { live: { downtimeLimitMs: 10_000 }, maxBandwidth: 4n << 20n };
      await attempt(vm, options, async ({ source, sent, received }) => {
        const seen: number[] = [];
        source.on('event', () => void content().then((bytes) => seen.push(bytes)));
        await expect
          .poll(() => value(registry, 'rdma_migrate_migrations_active', { direction: 'incoming' }))
          .toBe(1);
        const [result] = await Promise.all([sent, received]);
        expected += result.ram['normal-bytes'];
        expect(seen).toEqual(seen.toSorted((a, b) => a - b));
      });
      expect(await content()).toBe(expected);
      const completed = { direction: 'incoming', status: 'completed' };
      expect(await value(registry, 'rdma_migrate_migrations_total', completed)).toBe(index);
    }
    expect(await value(registry, 'rdma_migrate_migrations_active', { direction: 'outgoing' })).toBe(0);
    expect(await value(registry, 'rdma_migrate_downtime_seconds_count', { direction: 'outgoing' })).toBe(2);
    if (NO_PROMTOOL) return;
    execFileSync('promtool', ['check', 'metrics'], { input: await registry.metrics() });
  });

  it('count failures by code, and go away with what counts them', async () => {
    const registry = new Registry();
    const metrics = new MigrationMetrics(registry);
    await using vm = await LiveGuest.create({ pages: 16 });
    await failure(new MigrationSource(vm, 'rdma:127.0.0.1:1', { provider: 'iwarp' }).migrate());
    const labels = { direction: 'outgoing', code: 'CONNECTION_REFUSED', phase: 'connect' };
    expect(await value(registry, 'rdma_migrate_errors_total', labels)).toBe(1);
    metrics.close();
    expect(await registry.getMetricsAsJSON()).toEqual([]);
    new MigrationMetrics(registry).close();
  });

  it('that the dashboard and the rules ask for are there', async () => {
    const registry = new Registry();
    using _metrics = new MigrationMetrics(registry);
    const text = await registry.metrics();
    for (const file of ['grafana-dashboard.json', 'rdma-migrate.rules.yml']) {
      const asked = readFileSync(FOLDER + file, 'utf8').matchAll(
        /\b(rdma_migrate_[a-z_]+?)(?:_bucket|_count)?\b/g,
      );
      for (const [, name] of asked) expect(text).toContain(`# TYPE ${name} `);
    }
    if (!NO_PROMTOOL) execFileSync('promtool', ['check', 'rules', `${FOLDER}rdma-migrate.rules.yml`]);
  });
});
