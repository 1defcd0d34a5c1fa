/** `rdma-migrate completion` in the tree of commands. */
import { Argument, type Command } from 'commander';
import { bashCompletion } from './completion/bash.ts';
import { fishCompletion } from './completion/fish.ts';
import { type CommandModel, modelOf } from './completion/model.ts';
import { zshCompletion } from './completion/zsh.ts';

const SCRIPTS: Readonly<Record<string, (program: CommandModel) => string>> = {
  bash: bashCompletion,
  zsh: zshCompletion,
  fish: fishCompletion,
};

const HOW = `
  bash    source <(rdma-migrate completion bash)                                  in ~/.bashrc
  zsh     rdma-migrate completion zsh > "\${fpath[1]}/_rdma-migrate"
  fish    rdma-migrate completion fish > ~/.config/fish/completions/rdma-migrate.fish`;

/** `print` gets the script. It knows every command of `program`, whenever that was added. */
export function addCompletion(program: Command, print: (script: string) => void): void {
  program
    .command('completion')
    .summary('print a script that completes commands and options in a shell')
    .description('Prints a script that completes commands, options and their values in a shell.')
    .addArgument(new Argument('<shell>').choices(Object.keys(SCRIPTS)))
    .addHelpText('after', HOW)
    .action((shell: string) => print(SCRIPTS[shell]?.(modelOf(program)) ?? ''));
}
