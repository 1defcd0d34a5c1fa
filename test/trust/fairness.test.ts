import { describe, expect, it } from 'vitest';
import { hostOf } from '../../lib/transport/host.ts';
import { nextIn, nextOut, surplus } from '../../lib/trust/fairness.ts';

const guests = (hosts: string) => [...hosts].map((host, since) => ({ host, since }));

describe('whose turn it is', () => {
  it.each([
    ['whoever came first, while nobody is inside', 'aab', '', 0],
    ['the first of a host that has nobody inside', 'aab', 'a', 2],
    ['the first of the host with the fewest', 'abc', 'aabbc', 2],
    ['the first of one host', 'aa', 'aaaa', 0],
    ['nobody, where nobody waits', '', 'a', -1],
  ])('%s', (_who, waiting, inside, position) => {
    expect(nextIn([...waiting], guests(inside))).toBe(position);
  });
});

describe('who makes room', () => {
  it.each([
    ['the first of the host that has most', 'baacaa', 1, 101],
    ['the first of all, where hosts have as many', 'abab', 0, 100],
    ['the only one', 'a', 0, 100],
    ['whoever has had its time, though others came before', 'aaAA', 2, 12],
  ])('%s', (_who, inside, since, due) => {
    const all = guests(inside).map(({ host, since }) => ({
      host: host.toLowerCase(),
      since,
      brief: host < 'a',
    }));
    expect(nextOut(all, ({ brief }) => (brief ? 10 : 100))).toMatchObject({ guest: { since }, due });
  });

  it('nobody, where nobody is inside', () => {
    expect(nextOut([], () => 1)).toBeUndefined();
  });

  it('sooner, the more its host has', () => {
    expect(nextOut(guests('aba'), (_, count) => 100 / count)).toMatchObject({ guest: { since: 0 }, due: 50 });
  });
});

describe('who waits in vain', () => {
  it.each([
    ['nobody, while few wait', 'aaa', undefined],
    ['the last of the host that has most waiting', 'aabab', 3],
    ['nobody, where each host has one', 'abcde', undefined],
    ['the last of all, where too many hosts wait', 'abcdefg', 6],
    ['the last of one that has two, however many hosts wait', 'aabcdefg', 1],
  ])('%s', (_who, waiting, position) => {
    expect(surplus([...waiting], { fair: 3, most: 6 })).toBe(position);
  });
});

describe('a host is', () => {
  it.each([
    ['an IPv4 address', '192.0.2.1:4444', '192.0.2.1'],
    ['that also where it came over IPv6', '[::ffff:192.0.2.1]:4444', '192.0.2.1'],
    ['a network of 64 bits', '[2001:db8::7]:1', '2001:db8:0:0::/64'],
    ['the same, whatever comes after them', '[2001:db8:0:0:1:2:3:4]:2', '2001:db8:0:0::/64'],
    ["a link's own address, with its zone", '[fe80::1%eth0]:3', '[fe80::1%eth0]'],
    ['loopback', '[::1]:4', '0:0:0:0::/64'],
    ['what it is called, if it is none of these', 'unknown:5', 'unknown'],
  ])('%s', (_what, address, host) => {
    expect(hostOf(address)).toBe(host);
  });
});
