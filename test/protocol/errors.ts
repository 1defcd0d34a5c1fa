import { expect } from 'vitest';
import { type ErrorCode, MigrationError } from '../../lib/errors.ts';

/** Runs `action`, which must throw a MigrationError with this code; returns it. */
export function failure(action: () => unknown, code: ErrorCode): MigrationError {
  try {
    action();
  } catch (error) {
    expect(error).toBeInstanceOf(MigrationError);
    expect((error as MigrationError).code).toBe(code);
    return error as MigrationError;
  }
  throw new Error(`expected ${code}, nothing was thrown`);
}

/** The result of `action`, or `undefined` if it throws a MigrationError; any other error passes through. */
export function orMigrationError<T>(action: () => T): T | undefined {
  try {
    return action();
  } catch (error) {
    if (error instanceof MigrationError) return undefined;
    throw error;
  }
}
