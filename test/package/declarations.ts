/** The package's declarations as tsc emits them for users, and what can be reached from its exports. */
import { execFile } from 'node:child_process';
import { symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { type Node, type SourceFile, SyntaxKind } from 'typescript/unstable/ast';
import { API, type Checker, type Project, type Symbol as TypeSymbol } from 'typescript/unstable/sync';

const ROOT = new URL('../../', import.meta.url).pathname;
const TSC = join(ROOT, 'node_modules/typescript/bin/tsc');
const CONSUMER = {
  compilerOptions: {
    module: 'NodeNext',
    target: 'ES2022',
    lib: ['ES2023', 'ESNext.Disposable'],
    strict: true,
    noEmit: true,
    types: ['node'],
  },
  files: ['index.d.ts', 'qemu/index.d.ts', 'tunnel/index.d.ts', 'verbs/index.d.ts'],
};

/** Writes the declarations that the package is published with into an empty folder. */
export async function emitDeclarations(folder: string): Promise<void> {
  const options = ['-p', 'tsconfig.build.json', '--emitDeclarationOnly', '--outDir', folder];
  await promisify(execFile)(process.execPath, [TSC, ...options], { cwd: ROOT });
  await symlink(join(ROOT, 'node_modules'), join(folder, 'node_modules'));
  await writeFile(join(folder, 'package.json'), '{"type":"module"}');
  await writeFile(join(folder, 'tsconfig.json'), JSON.stringify(CONSUMER));
}

export interface PublicTypes {
  /** Types that the signatures of exports name and that are not exported, each with who names it. */
  readonly missing: readonly string[];
  /** Exported types that no exported function or class leads to. */
  readonly superfluous: readonly string[];
  /** Everything exported. */
  readonly exported: readonly string[];
}

/** Reads declarations of {@link emitDeclarations}: `entry` is one of the package's exports. */
export function publicTypes(folder: string, entry = 'index.d.ts'): PublicTypes {
  const config = join(folder, 'tsconfig.json');
  const api = new API({ cwd: folder });
  try {
    using snapshot = api.updateSnapshot({ openProjects: [config] });
    return new Walk(snapshot.getProject(config) as Project, folder).run(entry);
  } finally {
    api.close();
  }
}

const TYPES: ReadonlySet<SyntaxKind> = new Set([
  SyntaxKind.InterfaceDeclaration,
  SyntaxKind.TypeAliasDeclaration,
  SyntaxKind.ClassDeclaration,
  SyntaxKind.EnumDeclaration,
]);
/** `typeof X` in a type: X need not be named, but what it is made of counts. */
const VALUES: ReadonlySet<SyntaxKind> = new Set([
  SyntaxKind.VariableDeclaration,
  SyntaxKind.FunctionDeclaration,
]);

class Walk {
  readonly #project: Project;
  readonly #checker: Checker;
  readonly #folder: string;
  /** Each symbol that was reached, and from where. */
  readonly #reached = new Map<TypeSymbol, string>();

  constructor(project: Project, folder: string) {
    this.#project = project;
    this.#checker = project.checker;
    this.#folder = folder;
  }

  run(entry: string): PublicTypes {
    const index = this.#project.program.getSourceFile(join(this.#folder, entry)) as SourceFile;
    const module = this.#checker.getSymbolAtLocation(index) as TypeSymbol;
    const exported = new Map(
      this.#checker.getExportsOfModule(module).map((symbol) => [this.#real(symbol), symbol.name]),
    );
    const roots = [...exported.keys()].filter((symbol) => !isType(symbol) || isClass(symbol));
    for (const root of roots) this.#visit(root, 'the package');
    const superfluous = [...exported].filter(([symbol]) => !this.#reached.has(symbol));
    for (const [symbol] of superfluous) this.#visit(symbol, 'the package');
    const missing = [...this.#reached].filter(([symbol]) => isType(symbol) && !exported.has(symbol));
    return {
      missing: missing.map(([symbol, from]) => `${symbol.name}, named by ${from}`),
      superfluous: superfluous.map(([, name]) => name),
      exported: [...exported.values()],
    };
  }

  #visit(symbol: TypeSymbol, from: string): void {
    if (this.#reached.has(symbol)) return;
    this.#reached.set(symbol, from);
    for (const declaration of symbol.declarations) {
      const node = declaration.resolve(this.#project);
      if (node === undefined) continue;
      const names = [...identifiers(node)];
      for (const found of this.#checker.getSymbolAtLocation(names)) {
        const real = found && this.#real(found);
        if (real && real !== symbol && this.#isOurs(real)) this.#visit(real, symbol.name);
      }
    }
  }

  #real(symbol: TypeSymbol): TypeSymbol {
    const isAlias = symbol.declarations.some(({ kind }) => ALIASES.has(kind));
    return isAlias ? this.#checker.getAliasedSymbol(symbol) : symbol;
  }

  #isOurs(symbol: TypeSymbol): boolean {
    return symbol.declarations.some(
      ({ kind, path }) =>
        path.startsWith(`${this.#folder}/`) &&
        !path.includes('node_modules') &&
        (TYPES.has(kind) || VALUES.has(kind)),
    );
  }
}

const ALIASES: ReadonlySet<SyntaxKind> = new Set([
  SyntaxKind.ImportSpecifier,
  SyntaxKind.ExportSpecifier,
  SyntaxKind.ImportClause,
  SyntaxKind.NamespaceImport,
]);

const isType = ({ declarations }: TypeSymbol): boolean => declarations.some(({ kind }) => TYPES.has(kind));
const isClass = ({ declarations }: TypeSymbol): boolean =>
  declarations.some(({ kind }) => kind === SyntaxKind.ClassDeclaration);

/** Every name in a declaration but those of members that only the package itself can reach. */
function* identifiers(node: Node): Generator<Node> {
  if (node.kind === SyntaxKind.Identifier) yield node;
  const children: Node[] = [];
  node.forEachChild((child) => void children.push(child));
  for (const child of children) if (!isHidden(child)) yield* identifiers(child);
}

function isHidden(node: Node): boolean {
  const { modifiers } = node as Node & { readonly modifiers?: readonly Node[] };
  return (modifiers ?? []).some(
    ({ kind }) => kind === SyntaxKind.PrivateKeyword || kind === SyntaxKind.ProtectedKeyword,
  );
}
