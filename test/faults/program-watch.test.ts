/** How often the engine's program is put back, and when it is left alone: with a made-up interface. */
import { expect, test } from "bun:test";
import { ERRNO, SysError } from "af-xdp-bindings";
import { type Hook, ProgramWatch } from "../../engine/program-watch.ts";

class MadeUpHook implements Hook {
  attached: boolean | null = true;
  /** What an attempt fails with. */
  refusal: SysError | null = null;
  attempts = 0;

  isAttached(): boolean | null {
    return this.attached;
  }

  attach(): void {
    this.attempts++;
    if (this.refusal !== null) throw this.refusal;
    this.attached = true;
  }
}

function watched() {
  const hook = new MadeUpHook();
  const notices: string[] = [];
  const watch = new ProgramWatch(hook, "eth0", "all is lost", (text) => notices.push(text));
  return { hook, notices, watch };
}

const occupied = (hint: string): SysError => new SysError(ERRNO.EBUSY, "bpf(BPF_LINK_CREATE)", hint);

test("nothing is done while it is there, or the engine has none", () => {
  const { hook, notices, watch } = watched();
  watch.look(0);
  hook.attached = null;
  watch.look(1000);
  expect([hook.attempts, notices]).toEqual([0, []]);
});

test("taken off again and again: put back five times, then left, and said so once", () => {
  const { hook, notices, watch } = watched();
  for (let second = 0; second < 20; second++) {
    hook.attached = false;
    watch.look(second * 1000);
  }
  expect(hook.attempts).toBe(5);
  expect(notices).toHaveLength(6);
  expect(notices[5]).toContain("is not put back a 6th time: all is lost");
});

test("taken off now and then: put back each time", () => {
  const { hook, notices, watch } = watched();
  for (let i = 0; i < 20; i++) {
    hook.attached = false;
    watch.look(i * 61_000);
    expect(hook.attached).toBe(true);
  }
  expect(notices).toHaveLength(20);
});

test("another program: told once each, never given up, and no attempt counts", () => {
  const { hook, notices, watch } = watched();
  hook.attached = false;
  hook.refusal = occupied('program 7 "a"');
  for (let second = 0; second < 100; second++) watch.look(second * 1000);
  hook.refusal = occupied('program 8 "b"');
  for (let second = 100; second < 200; second++) watch.look(second * 1000);
  expect(notices).toEqual([
    `the engine's XDP program was taken off eth0, program 7 "a": all is lost until then`,
    `the engine's XDP program was taken off eth0, program 8 "b": all is lost until then`,
  ]);
  hook.refusal = null;
  watch.look(200_000);
  expect(hook.attached).toBe(true);
});

test("refused for another reason: told once, tried five times", () => {
  const { hook, notices, watch } = watched();
  hook.attached = false;
  hook.refusal = new SysError(ERRNO.EPERM, "bpf(BPF_LINK_CREATE)", "needs CAP_NET_ADMIN");
  for (let second = 0; second < 20; second++) watch.look(second * 1000);
  expect(hook.attempts).toBe(5);
  expect(notices).toHaveLength(2);
  expect(notices[0]).toMatch(/cannot be put back, .*EPERM.*needs CAP_NET_ADMIN: all is lost/);
});
