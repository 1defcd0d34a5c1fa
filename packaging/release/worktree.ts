/** A second tree of the same repository, in which a release is made: nobody's own tree is touched before it is whole. */
import { mkdtemp, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { output, runTool } from '../support/run.ts';

export class Worktree implements AsyncDisposable {
  readonly folder: string;
  readonly #checkout: string;

  private constructor(checkout: string, folder: string) {
    this.#checkout = checkout;
    this.folder = folder;
  }

  /** Of HEAD, with what the checkout has installed. */
  static async make(checkout: string): Promise<Worktree> {
    const parent = await mkdtemp(join(tmpdir(), 'rdma-migrate-release-'));
    const tree = new Worktree(checkout, join(parent, 'tree'));
    try {
      await runTool('git', '-C', checkout, 'worktree', 'add', '--quiet', '--detach', tree.folder, 'HEAD');
    } catch (error) {
      await rm(parent, { recursive: true });
      throw error;
    }
    return tree;
  }

  /** After the commit: git would take the link for a file. */
  async install(): Promise<void> {
    await symlink(join(this.#checkout, 'node_modules'), join(this.folder, 'node_modules'));
  }

  async git(...args: readonly string[]): Promise<string> {
    return (await runTool('git', '-C', this.folder, ...args)).trim();
  }

  npm(args: readonly string[], env: NodeJS.ProcessEnv = process.env): Promise<string> {
    return output('npm', args, { cwd: this.folder, env });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await runTool('git', '-C', this.#checkout, 'worktree', 'remove', '--force', this.folder);
    await rm(join(this.folder, '..'), { recursive: true });
  }
}
