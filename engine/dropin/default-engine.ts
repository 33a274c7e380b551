/**
 * The engine that drop-in sockets run on: one for all of them, started when the first is opened.
 *
 * Which one, in this order: what useEngine() was given; what configure() was told; the main thread's, in a worker made
 * after that ran; the LCORE_... variables of the environment; the interface of the default route.
 *
 * Once started it stays until the process ends, as the kernel's stack does: a program that opens a socket a question
 * would else start an engine a question. It does not keep the process alive, open sockets do unless they are unref'd. At
 * the exit what was sent has left; the program, the queues and the threads go with the process. In a worker that
 * started one of its own they go when the worker ends.
 */
import { getEnvironmentData, isMainThread, setEnvironmentData } from "node:worker_threads";
import { ip } from "../../sockets/wire/address.ts";
import type { AttachMode, EngineOptions, PollPolicy } from "../config.ts";
import { Engine, type EngineDescriptor, type EngineThread } from "../engine.ts";
import { getAffinity } from "../host/affinity.ts";
import { parseCpuList } from "../host/cpu-list.ts";
import type { ProviderOption } from "../provider.ts";

/** Under this name workers find the main thread's engine. */
const SHARED_KEY = "lcore.engine";

let given: EngineThread | null = null;
let configured: EngineOptions | null = null;
let starting: Promise<EngineThread> | null = null;
/** The engine that runs now, and which the next socket uses. */
let current: EngineThread | null = null;

/**
 * Says what the engine is to be started with, before the first socket is opened; the environment is not looked at then.
 * Throws Error when it runs already. The options are checked when it starts.
 */
export function configure(options: EngineOptions): void {
  if (starting !== null || isRunning(current)) {
    throw new Error("configure: the engine of the drop-in sockets runs already: call this before the first is opened");
  }
  configured = { ...options };
}

/**
 * Has sockets opened from now on use a running engine: one that the application started, or in a worker what
 * Engine.attach gave. It stays the application's to close. Null: back to the default.
 */
export function useEngine(engine: EngineThread | null): void {
  given = engine;
}

/**
 * The engine for a new socket, started if need be. Rejects with what Engine.start fails with, and a RangeError for an
 * environment variable that says nothing sensible; the next call tries again.
 */
export function defaultEngine(): Promise<EngineThread> {
  if (given !== null) return Promise.resolve(given);
  if (isRunning(current)) return Promise.resolve(current);
  starting ??= start().finally(() => {
    starting = null;
  });
  return starting;
}

/** The engine that defaultEngine() would give without starting one, or null. */
export function runningEngine(): EngineThread | null {
  return given ?? (isRunning(current) ? current : null);
}

/** Whether somebody has said which engine it is to be: the program, the main thread, or the environment. */
export function isConfigured(): boolean {
  if (given !== null || configured !== null || getEnvironmentData(SHARED_KEY) !== undefined) return true;
  return Object.keys(VARIABLES).some((name) => (process.env[name] ?? "") !== "");
}

/** Closes the engine that was started here, with every socket on it; the next socket starts another. */
export async function closeDefaultEngine(): Promise<void> {
  const engine = starting === null ? current : await starting.catch(() => null);
  current = null;
  if (engine instanceof Engine) await engine.close();
  else engine?.detach();
}

async function start(): Promise<EngineThread> {
  const engine = attachToMain() ?? (await startOwn(configured ?? optionsFromEnvironment(process.env)));
  current = engine;
  // What is in the rings leaves, a worker's own engine lets go of the interface. The first part of close() is synchronous.
  process.once("exit", () => {
    if (engine instanceof Engine) void engine.close();
    else engine.detach();
  });
  return engine;
}

async function startOwn(options: EngineOptions): Promise<Engine> {
  // Kernel sockets instead of AF_XDP are said aloud, as a warning that a program can listen to or silence.
  const onNotice = options.onNotice ?? ((text: string) => process.emitWarning(`lcore: ${text}`));
  const engine = await Engine.start({ ...withPoll(options, getAffinity(0)), onNotice });
  engine.unref();
  if (isMainThread) {
    setEnvironmentData(SHARED_KEY, engine.descriptor());
    const withdraw = (): void => setEnvironmentData(SHARED_KEY, undefined as never);
    engine.closed.then(withdraw, withdraw);
  }
  return engine;
}

/**
 * Where this thread has no CPU but those of the lcores, an lcore that spins takes from it what it waits for: asleep at
 * once, an echo is 8 % faster on one CPU (`npm run bench -- dropin`). What was asked for stays.
 * @param own CPUs that this thread may use
 */
export function withPoll(options: EngineOptions, own: readonly number[]): EngineOptions {
  // No module, no lcore: nothing to poll.
  if (options.provider === "kernel" && options.module === undefined) return options;
  const shared = own.length === 1 || (options.cpus !== undefined && own.every((cpu) => options.cpus?.includes(cpu)));
  return options.poll === undefined && shared ? { ...options, poll: "interrupt" } : options;
}

/** In a worker: a hold on the main thread's engine, or null where that has none, or has closed it since. */
function attachToMain(): EngineThread | null {
  if (isMainThread || configured !== null) return null;
  const descriptor = getEnvironmentData(SHARED_KEY) as EngineDescriptor | undefined;
  if (descriptor === undefined) return null;
  const thread = Engine.attach(descriptor);
  if (thread.running) return thread;
  thread.detach();
  return null;
}

function isRunning(engine: EngineThread | null): engine is EngineThread {
  return engine?.running === true;
}

/** How each variable is read. Engine.start checks further what it may be. */
const VARIABLES: Record<string, (text: string) => Partial<EngineOptions>> = {
  LCORE_PROVIDER: (text) => ({ provider: oneOf<ProviderOption>(text, ["auto", "engine", "kernel"]) }),
  LCORE_INTERFACE: (text) => ({ interface: text }),
  LCORE_NETNS: (text) => ({ netns: text }),
  LCORE_CPUS: (text) => ({ cpus: numbers(text) }),
  LCORE_QUEUES: (text) => ({ queues: text === "all" ? "all" : numbers(text) }),
  LCORE_MODE: (text) => ({ mode: oneOf<AttachMode>(text, ["auto", "native", "skb", "zerocopy"]) }),
  LCORE_POLL: (text) => ({ poll: oneOf<PollPolicy>(text, ["busy", "adaptive", "interrupt"]) }),
  LCORE_SPIN_US: (text) => ({ spinUs: whole(text) }),
  LCORE_FRAMES: (text) => ({ frames: whole(text) }),
  LCORE_SOCKETS: (text) => ({ sockets: whole(text) }),
  LCORE_THREADS: (text) => ({ threads: whole(text) }),
  LCORE_ADDRESSES: (text) => ({ addresses: text.split(",") }),
  LCORE_GATEWAYS: (text) => ({ gateways: text.split(",").map(address) }),
};

/** Engine options of LCORE_... variables; one that is empty counts as not set. Throws RangeError. */
export function optionsFromEnvironment(environment: Record<string, string | undefined>): EngineOptions {
  const options: EngineOptions = {};
  for (const [name, read] of Object.entries(VARIABLES)) {
    const text = environment[name] ?? "";
    if (text === "") continue;
    try {
      Object.assign(options, read(text));
    } catch (error) {
      throw new RangeError(`${name}=${text}: ${(error as Error).message}`);
    }
  }
  return options;
}

function oneOf<T extends string>(text: string, allowed: readonly T[]): T {
  if (!(allowed as readonly string[]).includes(text)) throw new RangeError(`one of ${allowed.join(", ")}`);
  return text as T;
}

function whole(text: string): number {
  if (!/^\d+$/.test(text)) throw new RangeError("a whole number");
  return Number(text);
}

function numbers(text: string): number[] {
  const list = parseCpuList(text);
  if (list.length === 0 || new Set(list).size !== list.length) throw new RangeError("a list as 0-3,8, each once");
  return list;
}

function address(text: string): string {
  ip(text);
  return text;
}
