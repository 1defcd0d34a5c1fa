/** A man page (man(7) macros) of a command. */
import type { CommandModel, OptionModel } from '../completion/model.ts';

export interface Edition {
  readonly version: string;
  /** YYYY-MM-DD */
  readonly date: string;
}

/** `rdma-migrate-image-verify` */
export const pageName = ({ path }: CommandModel): string => ['rdma-migrate', ...path].join('-');

export function manPage(command: CommandModel, program: CommandModel, { version, date }: Edition): string {
  const name = pageName(command);
  const { commands, options, after } = command;
  const sections = [
    `.TH ${name.toUpperCase()} 1 ${date} "rdma-migrate ${version}" "rdma-migrate"`,
    section('NAME', `${name} \\- ${escaped(uncapitalized(command.summary))}`),
    section('SYNOPSIS', `.B ${escaped(command.usage)}`),
    section('DESCRIPTION', lines(command.description)),
    section(
      'ARGUMENTS',
      command.arguments
        .filter(({ description }) => description !== '')
        .map(argument)
        .join('\n'),
    ),
    section('COMMANDS', commands.map(subcommand).join('\n')),
    section('OPTIONS', options.map(option).join('\n')),
    after === '' ? '' : section('NOTES', `.nf\n${preformatted(after)}\n.fi`),
    section('SEE ALSO', seeAlso(command, program)),
  ];
  return `${sections.filter((text) => text !== '').join('\n')}\n`;
}

const section = (title: string, body: string): string => (body === '' ? '' : `.SH ${title}\n${body}`);

const argument = ({ name, description }: CommandModel['arguments'][number]): string =>
  `.TP\n.I ${escaped(name)}\n${lines(description)}`;

const subcommand = (command: CommandModel): string =>
  `.TP\n.BR ${escaped(pageName(command))} (1)\n${lines(command.summary)}`;

function option({ flags, value, choices, description }: OptionModel): string {
  const names = flags.map((flag) => `\\fB${escaped(flag)}\\fR`).join(', ');
  const taken = value === undefined ? '' : ` \\fI${escaped(value)}\\fR`;
  const known = choices.length === 0 ? '' : `; one of ${choices.join(', ')}`;
  return `.TP\n${names}${taken}\n${lines(description + known)}`;
}

function seeAlso({ path, commands }: CommandModel, program: CommandModel): string {
  const others = path.length === 0 ? [] : [pageName(program), ...commands.map(pageName)];
  const pages = others.map((name) => `.BR ${escaped(name)} (1)`);
  return [
    ...pages,
    lines('The documentation is in the folder docs of the package: cli.md, errors.md, security.md.'),
  ].join('\n');
}

const uncapitalized = (text: string): string =>
  /^[A-Z][a-z]/.test(text) ? text.charAt(0).toLowerCase() + text.slice(1).replace(/\.$/, '') : text;

const lines = (text: string): string => text.split('\n').map(line).join('\n');

const preformatted = (text: string): string =>
  text
    .split('\n')
    .map((part) => (part === '' ? '.sp' : line(part)))
    .join('\n');

/** What begins with a dot or an apostrophe would be a macro. */
const line = (text: string): string => escaped(text).replace(/^(?=[.'])/, '\\&');

const escaped = (text: string): string =>
  text.replaceAll('\\', '\\e').replaceAll('-', '\\-').replaceAll("'", '\\(aq');
