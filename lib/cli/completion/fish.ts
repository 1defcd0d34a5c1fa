import { type CommandModel, everyCommand, type OptionModel } from './model.ts';

/** A script for fish: `rdma-migrate completion fish | source`, or a file in `~/.config/fish/completions`. */
export function fishCompletion(program: CommandModel): string {
  const commands = everyCommand(program);
  const known = commands.slice(1).map(({ path }) => quoted(path.join(' ')));
  return `# fish completion for rdma-migrate: rdma-migrate completion fish | source
function __rdma_migrate_at
    set -l known ${known.join(' ')}
    set -l at
    for word in (commandline -opc)[2..-1]
        contains -- (string join ' ' -- $at $word) $known; and set -a at $word
    end
    test "$at" = "$argv"
end

complete -c rdma-migrate -f
${commands.flatMap(linesOf).join('\n')}
`;
}

function linesOf({ path, options, commands, arguments: positions }: CommandModel): string[] {
  const start = `complete -c rdma-migrate -n ${quoted(`__rdma_migrate_at ${path.join(' ')}`)}`;
  const choices = positions.flatMap((position) => position.choices);
  return [
    ...commands.map((sub) => `${start} -a ${sub.path.at(-1)} -d ${quoted(sub.summary)}`),
    ...choices.map((choice) => `${start} -a ${choice}`),
    ...(positions.some(({ isPath }) => isPath) ? [`${start} -F`] : []),
    ...options.map((option) => `${start} ${optionOf(option)} -d ${quoted(option.description)}`),
  ];
}

function optionOf({ flags, value, choices, isPath }: OptionModel): string {
  const names = flags.map((flag) => (flag.startsWith('--') ? `-l ${flag.slice(2)}` : `-s ${flag.slice(1)}`));
  if (value === undefined) return names.join(' ');
  const taken = choices.length > 0 ? `-x -a ${quoted(choices.join(' '))}` : isPath ? '-r -F' : '-x';
  return `${names.join(' ')} ${taken}`;
}

const quoted = (text: string): string => `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`;
