import { type CommandModel, everyCommand, type OptionModel } from './model.ts';

/** A script for bash: `source <(rdma-migrate completion bash)`. Needs no bash-completion. */
export function bashCompletion(program: CommandModel): string {
  const commands = everyCommand(program);
  return `# bash completion for rdma-migrate: source <(rdma-migrate completion bash)
_rdma_migrate() {
  local cur=\${COMP_WORDS[COMP_CWORD]} prev=\${COMP_WORDS[COMP_CWORD-1]} at='' word words='' paths=no
  for word in "\${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    case "$at $word" in
${commands
  .slice(1)
  .map(({ path }) => `      ${quoted(` ${path.join(' ')}`)}) at="$at $word" ;;`)
  .join('\n')}
    esac
  done
  COMPREPLY=()
  # BLOCK=PATH is three words to bash.
  if [[ $cur == '=' || $prev == '=' ]]; then
    compopt -o filenames 2> /dev/null
    mapfile -t COMPREPLY < <(compgen -f -- "\${cur#=}")
    return
  fi
  case "$at $prev" in
${commands.flatMap(valueCases).join('\n')}
  esac
  case "$at" in
${commands.map(wordCase).join('\n')}
  esac
  mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
  if [[ $paths == yes && $cur != -* ]]; then
    compopt -o filenames 2> /dev/null
    mapfile -t -O "\${#COMPREPLY[@]}" COMPREPLY < <(compgen -f -- "$cur")
  fi
}
complete -F _rdma_migrate rdma-migrate
`;
}

const placeOf = ({ path }: CommandModel): string => path.map((name) => ` ${name}`).join('');

function valueCases(command: CommandModel): string[] {
  return command.options
    .filter(({ value }) => value?.startsWith('<'))
    .map((option) => {
      const patterns = option.flags.map((flag) => quoted(`${placeOf(command)} ${flag}`)).join(' | ');
      return `    ${patterns}) ${valuesOf(option)} return ;;`;
    });
}

function valuesOf({ choices, isPath, value = '' }: OptionModel): string {
  if (choices.length > 0)
    return `mapfile -t COMPREPLY < <(compgen -W ${quoted(choices.join(' '))} -- "$cur");`;
  // The name of a block comes first, which nobody here knows.
  return isPath && !value.includes('=')
    ? 'compopt -o filenames 2> /dev/null; mapfile -t COMPREPLY < <(compgen -f -- "$cur");'
    : '';
}

function wordCase(command: CommandModel): string {
  const { options, commands, arguments: positions } = command;
  const words = [
    ...commands.map(({ path }) => path.at(-1)),
    ...positions.flatMap(({ choices }) => choices),
    ...options.flatMap(({ flags }) => flags),
  ];
  const paths = positions.some(({ isPath }) => isPath) ? ' paths=yes' : '';
  return `    ${quoted(placeOf(command))}) words=${quoted(words.join(' '))}${paths} ;;`;
}

const quoted = (text: string): string => `'${text.replaceAll("'", "'\\''")}'`;
