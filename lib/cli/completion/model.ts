/** The tree of commands as completion and man pages need it, read from the definitions that --help has. */
import type { Argument, Command, Option } from 'commander';

export interface OptionModel {
  /** `-q`, `--quiet`. */
  readonly flags: readonly string[];
  readonly description: string;
  /** `<dir>`, as --help shows it; undefined: it takes no value. */
  readonly value: string | undefined;
  readonly choices: readonly string[];
  /** Its value is a file or a folder, or ends with one. */
  readonly isPath: boolean;
  /** May stand more than once. */
  readonly repeats: boolean;
}

export interface ArgumentModel {
  readonly name: string;
  readonly description: string;
  readonly isRequired: boolean;
  readonly choices: readonly string[];
  readonly isPath: boolean;
}

export interface CommandModel {
  /** `image`, `inspect`; empty: the program itself. */
  readonly path: readonly string[];
  readonly summary: string;
  readonly description: string;
  readonly usage: string;
  readonly options: readonly OptionModel[];
  readonly arguments: readonly ArgumentModel[];
  readonly commands: readonly CommandModel[];
  /** What stands below the options in --help. */
  readonly after: string;
}

export function modelOf(command: Command, path: readonly string[] = []): CommandModel {
  const help = command.createHelp();
  const commands = help.visibleCommands(command).filter((sub) => sub.name() !== 'help');
  return {
    path,
    summary: command.summary() || firstSentence(command.description()),
    description: command.description(),
    usage: help.commandUsage(command),
    options: help.visibleOptions(command).map(optionOf),
    arguments: command.registeredArguments.map(argumentOf),
    commands: commands.map((sub) => modelOf(sub, [...path, sub.name()])),
    after: afterHelp(command),
  };
}

/** The program and all that is below it. */
export const everyCommand = (model: CommandModel): readonly CommandModel[] => [
  model,
  ...model.commands.flatMap(everyCommand),
];

const firstSentence = (text: string): string => text.replace(/\.(?:\s.*)?$/s, '');

/** A value is a path by the word that --help has for it. */
const PATH = /\b(dir|file|path|image|folder|socket)\b/;

function optionOf(option: Option): OptionModel {
  const { flags, description, argChoices = [] } = option;
  const [, value] = /([<[].*)$/.exec(flags) ?? [];
  const isPath = value !== undefined && PATH.test(value);
  return {
    flags: [option.short, option.long].filter((flag) => flag !== undefined && flag !== null),
    description,
    value,
    choices: argChoices,
    isPath,
    repeats: /\(repeatable\b/.test(description),
  };
}

function argumentOf(argument: Argument): ArgumentModel {
  const name = argument.name();
  const { description, required, argChoices = [] } = argument;
  return { name, description, isRequired: required, choices: argChoices, isPath: PATH.test(name) };
}

function afterHelp(command: Command): string {
  let written = '';
  const write = (text: string): void => {
    written += text;
  };
  const { writeOut = write, ...before } = command.configureOutput();
  command.configureOutput({ writeOut: write });
  command.outputHelp();
  command.configureOutput({ ...before, writeOut });
  return written.slice(command.helpInformation().length).trim();
}
