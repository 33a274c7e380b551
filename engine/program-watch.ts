/**
 * Sees to it that the engine's XDP program stays on its interface. Whoever takes it off has it back within a second; a
 * program that is there instead is not fought: the engine's comes back when that has gone.
 */
import { Link, SysError } from "af-xdp-bindings";
import { queueNapiIds } from "./host/napi.ts";
import { attachSteering } from "./interface.ts";
import { linkFd, putLink } from "./link-word.ts";
import { Steering } from "./steering/program.ts";
import { type KernelWiring, openNetns, publishNapiIds, type Wiring } from "./wiring.ts";

/** Times the program is put back before the engine takes it that somebody means it. */
const TIMES_MAX = 5;
/** On for as long, it counts as undisturbed, milliseconds. */
const CALM_MS = 60_000;

/** The hook of an interface. */
export interface Hook {
  /** Whether the engine's program is on it; null while the engine has none there, at its start and its end. */
  isAttached(): boolean | null;
  /** Puts it there again. Throws SysError: EBUSY or EEXIST, with what is there as its hint, where another program is. */
  attach(): void;
}

export class ProgramWatch {
  private readonly hook: Hook;
  private readonly name: string;
  private readonly loss: string;
  private readonly notice: (text: string) => void;
  private times = 0;
  /** When it was last put back, or the attempt failed. */
  private lastAt = Number.NEGATIVE_INFINITY;
  /** What keeps the engine from putting it back, told already. */
  private obstacle = "";
  private hasGivenUp = false;

  /**
   * @param name of the interface
   * @param loss what it means that the program is not there, in words
   * @param notice hears of each change, a line each
   */
  constructor(hook: Hook, name: string, loss: string, notice: (text: string) => void) {
    this.hook = hook;
    this.name = name;
    this.loss = loss;
    this.notice = notice;
  }

  /** To be called about once a second; `now` in milliseconds. */
  look(now: number): void {
    if (this.hasGivenUp) return;
    if (this.hook.isAttached() !== false) return;
    if (now - this.lastAt > CALM_MS) this.times = 0;
    if (this.times === TIMES_MAX) {
      this.hasGivenUp = true;
      this.tell(`again, and is not put back a ${TIMES_MAX + 1}th time: ${this.loss}: find out who, then start again`);
      return;
    }
    try {
      this.hook.attach();
      this.count(now);
      this.obstacle = "";
      this.tell("and was put back");
    } catch (error) {
      if (!(error instanceof SysError)) throw error;
      this.tellObstacle(error, now);
    }
  }

  private tellObstacle({ code, hint, message }: SysError, now: number): void {
    const occupied = code === "EBUSY" || code === "EEXIST";
    // Another's program may stay as long as it likes.
    if (!occupied) this.count(now);
    const obstacle = occupied ? hint : message;
    if (obstacle === this.obstacle) return;
    this.obstacle = obstacle;
    this.tell(occupied ? `${obstacle}: ${this.loss} until then` : `and cannot be put back, ${obstacle}: ${this.loss}`);
  }

  private count(now: number): void {
    this.times++;
    this.lastAt = now;
  }

  private tell(what: string): void {
    this.notice(`the engine's XDP program was taken off ${this.name}, ${what}`);
  }
}

/** The hook of the interface that an engine serves; for the thread that looks after it. */
export class InterfaceHook implements Hook {
  private readonly wiring: Wiring;
  private readonly way: KernelWiring;
  private readonly state: Int32Array;
  private readonly steering: Steering;

  constructor(wiring: Wiring, way: KernelWiring) {
    this.wiring = wiring;
    this.way = way;
    this.state = new Int32Array(wiring.state);
    this.steering = Steering.fromDescriptors(way.steering);
  }

  isAttached(): boolean | null {
    const fd = linkFd(this.state);
    if (fd <= 0) return null;
    let attached = false;
    try {
      attached = new Link(fd).info.ifindex !== 0;
    } catch (error) {
      if (!(error instanceof SysError)) throw error;
    }
    // Closed between, and the descriptor perhaps another's by now: the engine is ending.
    return linkFd(this.state) === fd ? attached : null;
  }

  attach(): void {
    const { state, steering, way, wiring } = this;
    const netns = openNetns(way.netnsPath);
    try {
      netns.run(() => {
        const before = linkFd(state);
        const { link } = attachSteering(steering, way.link, way.attach, wiring.config.mode);
        putLink(state, before, link);
        // In native mode veth's NAPI instances come and go with the program.
        const queues = Math.max(...wiring.queues.flat()) + 1;
        publishNapiIds(wiring, queueNapiIds(way.link.ifindex, queues), true);
      });
    } finally {
      netns.close();
    }
  }

  close(): void {
    this.steering.close();
  }
}
