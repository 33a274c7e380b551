/**
 * Commits to compare, each checked out into a git worktree in a temporary directory with what it needs to run, and removed
 * afterwards, by close() or, where the process was killed, by the next one that comes along.
 */
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** A tree of files that can be run. */
export interface Checkout {
  /** Directory. */
  readonly root: string;
  /** What it was asked for as: a ref, or "working tree". */
  readonly ref: string;
  /** 40 hexadecimal digits. */
  readonly commit: string;
  /** First line of the commit's message. */
  readonly subject: string;
  /** Whether files differ from the commit's. */
  readonly changed: boolean;
  close(): Promise<void>;
}

const PREFIX = "lcore-regress-";

/** What a command printed. Throws Error with its last line of complaint. */
export async function run(command: readonly string[], cwd: string): Promise<string> {
  const child = Bun.spawn([...command], { cwd, stdin: "ignore", stdout: "pipe", stderr: "pipe" });
  const [out, complaint, code] = await Promise.all([child.stdout.text(), child.stderr.text(), child.exited]);
  if (code === 0) return out.trim();
  const last = complaint.trim().split("\n").at(-1) || out.trim().split("\n").at(-1) || `status ${code}`;
  throw new Error(`${command.join(" ")}: ${last}`);
}

const git = (repository: string, ...words: string[]): Promise<string> =>
  run(["git", "-C", repository, ...words], repository);

/** The top directory of the repository around `directory`. Throws Error where there is none. */
export const repositoryAround = (directory: string): Promise<string> => git(directory, "rev-parse", "--show-toplevel");

async function commitOf(repository: string, ref: string): Promise<{ commit: string; subject: string }> {
  const commit = await git(repository, "rev-parse", "--verify", "--quiet", "--end-of-options", `${ref}^{commit}`).catch(
    async () => {
      const shallow = (await git(repository, "rev-parse", "--is-shallow-repository")) === "true";
      throw new Error(
        `${ref}: no commit of this repository${shallow ? ", which is a shallow clone: fetch more of it (actions/checkout: fetch-depth: 0)" : ""}`,
      );
    },
  );
  return { commit, subject: await git(repository, "log", "-1", "--format=%s", commit) };
}

/** The repository's files as they are, changes that are not committed included. */
export async function workingTree(repository: string): Promise<Checkout> {
  const changed = (await git(repository, "status", "--porcelain", "--untracked-files=no")) !== "";
  return {
    root: repository,
    ref: "working tree",
    ...(await commitOf(repository, "HEAD")),
    changed,
    close: async () => {},
  };
}

/** Checks a commit out into a directory of its own. Throws Error for a ref that is none. */
export async function checkOut(repository: string, ref: string): Promise<Checkout> {
  await removeOrphans(repository);
  const { commit, subject } = await commitOf(repository, ref);
  const root = mkdtempSync(join(tmpdir(), `${PREFIX}${process.pid}-`));
  const close = (): Promise<void> => removeWorktree(repository, root);
  try {
    await git(repository, "worktree", "add", "--quiet", "--detach", "--force", root, commit);
  } catch (error) {
    await close();
    throw error;
  }
  return { root, ref, commit, subject, changed: false, close };
}

async function removeWorktree(repository: string, root: string): Promise<void> {
  rmSync(root, { recursive: true, force: true });
  // What git noted of a directory that is gone.
  await git(repository, "worktree", "prune");
}

/** Removes worktrees of processes that did not live to do it. */
async function removeOrphans(repository: string): Promise<void> {
  for (const name of readdirSync(tmpdir())) {
    const pid = name.startsWith(PREFIX) ? Number(name.slice(PREFIX.length).split("-")[0]) : Number.NaN;
    if (Number.isInteger(pid) && pid > 0 && !existsSync(`/proc/${pid}`))
      await removeWorktree(repository, join(tmpdir(), name));
  }
}

/** Lock files, and what installs by them. */
const INSTALLERS: readonly (readonly [lock: string, command: readonly string[]])[] = [
  ["package-lock.json", ["npm", "ci", "--no-progress", "--no-audit", "--no-fund"]],
  ["bun.lock", ["bun", "install", "--frozen-lockfile"]],
];

/**
 * Gives a checkout its dependencies: those that are installed in `from`, where both lock the same; else installs them.
 * Returns what was done.
 */
export async function provideDependencies(
  checkout: Checkout,
  from: string,
): Promise<"linked" | "installed" | "none needed"> {
  const installed = join(checkout.root, "node_modules");
  if (existsSync(installed)) return "none needed";
  const installer = INSTALLERS.find(([lock]) => existsSync(join(checkout.root, lock)));
  if (installer === undefined) return "none needed";
  const [lock, command] = installer;
  const same = existsSync(join(from, lock)) && sameText(join(from, lock), join(checkout.root, lock));
  if (same && existsSync(join(from, "node_modules"))) {
    linkModules(join(from, "node_modules"), installed);
    return "linked";
  }
  await run(command, checkout.root);
  return "installed";
}

const sameText = (a: string, b: string): boolean => readFileSync(a, "utf8") === readFileSync(b, "utf8");

/** A node_modules whose entries are links into another. Workspaces are links themselves, and lead into the own tree. */
function linkModules(from: string, to: string): void {
  mkdirSync(to);
  for (const entry of readdirSync(from, { withFileTypes: true })) {
    const source = join(from, entry.name);
    const target = join(to, entry.name);
    if (entry.isSymbolicLink()) symlinkSync(readlinkSync(source), target);
    else if (entry.name.startsWith("@") || entry.name === ".bin") linkModules(source, target);
    else symlinkSync(source, target);
  }
}

/** Whether what measures differs between two trees, so that it may be the meter that changed. */
export async function meterDiffers(repository: string, base: Checkout, head: Checkout): Promise<boolean> {
  const commits = head.changed || head.root === repository ? [base.commit] : [base.commit, head.commit];
  return (await git(repository, "diff", "--name-only", ...commits, "--", "engine/measure")) !== "";
}
