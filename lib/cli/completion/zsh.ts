import { type ArgumentModel, type CommandModel, everyCommand, type OptionModel } from './model.ts';

/** A script for zsh, to be put as `_rdma-migrate` into a folder of `fpath`, or sourced after compinit. */
export function zshCompletion(program: CommandModel): string {
  return `#compdef rdma-migrate
# zsh completion for rdma-migrate: rdma-migrate completion zsh > "\${fpath[1]}/_rdma-migrate"

${everyCommand(program).map(functionOf).join('\n')}
# Autoloaded it is to complete at once; sourced, compdef ties it to the command.
if [[ $funcstack[1] == _rdma-migrate ]]; then
  _rdma-migrate "$@"
else
  compdef _rdma-migrate rdma-migrate
fi
`;
}

const nameOf = (path: readonly string[]): string => ['_rdma-migrate', ...path].join('__');

function functionOf(command: CommandModel): string {
  const { path, options, commands, arguments: positions } = command;
  const specs = options.flatMap(optionSpecs);
  if (commands.length === 0) {
    const own = [...specs, ...positions.map(positionSpec)];
    return `${nameOf(path)}() {\n  _arguments -s ${joined(own)}\n}\n`;
  }
  const described = commands.map((sub) => quoted(`${sub.path.at(-1)}:${escaped(sub.summary)}`));
  const calls = commands.map((sub) => `        ${sub.path.at(-1)}) ${nameOf(sub.path)} ;;`);
  return `${nameOf(path)}() {
  local curcontext="$curcontext" state line
  _arguments -C ${joined([...specs, "'1: :->command'", "'*:: :->rest'"])}
  case $state in
    command)
      local -a commands=(${joined(described)})
      _describe command commands ;;
    rest)
      case $line[1] in
${calls.join('\n')}
      esac ;;
  esac
}
`;
}

function optionSpecs(option: OptionModel): string[] {
  const { flags, description, value, repeats } = option;
  const others = repeats ? '*' : `(${flags.join(' ')})`;
  const taking = value === undefined ? '' : `:${escaped(value.replace(/[<>[\]]/g, ''))}:${valuesOf(option)}`;
  return flags.map((flag) => quoted(`${others}${flag}[${escaped(description)}]${taking}`));
}

function valuesOf({ choices, isPath }: Pick<OptionModel, 'choices' | 'isPath'>): string {
  if (choices.length > 0) return `(${choices.join(' ')})`;
  return isPath ? '_files' : ' ';
}

const positionSpec = (position: ArgumentModel, index: number): string =>
  quoted(`${index + 1}:${position.isRequired ? '' : ':'}${escaped(position.name)}:${valuesOf(position)}`);

const joined = (specs: readonly string[]): string => `\\\n    ${specs.join(' \\\n    ')}`;

const escaped = (text: string): string => text.replace(/[\\:[\]]/g, '\\$&');

const quoted = (text: string): string => `'${text.replaceAll("'", "'\\''")}'`;
