/** Credentials, if they were named: without good ones a protected migration is not possible here. */
import { type CheckCredentialsOptions, checkCredentials, type Finding } from '../trust/check/index.ts';
import { type Check, named } from './check.ts';

export async function checkTls(
  folder: string,
  options: CheckCredentialsOptions = {},
): Promise<readonly Check[]> {
  return (await checkCredentials(folder, options)).map(toCheck);
}

function toCheck({ name, title, level, found, remedy = '' }: Finding): Check {
  const check = named(name, title, { essential: level !== 'warning' });
  if (level === 'ok') return check.ok(found);
  return level === 'warning' ? check.warning(found, remedy) : check.missing(found, remedy);
}
