/**
 * What the kernel lets this process do, tried: each facility that an engine uses is asked for once and given back. No
 * interface is touched; the link is made in a network namespace of its own, which ends with the trial.
 */
import {
  Assembler,
  attachXdp,
  check,
  loadXdp,
  type Program,
  r0,
  sys,
  Umem,
  type UmemOptions,
  XDP_PASS,
  Xsk,
  XskMap,
} from "af-xdp-bindings";
import { Netdev } from "../host/netdev.ts";
import { NetNs } from "../host/netns.ts";
import { Steering } from "../steering/program.ts";
import type { KernelTrial, Outcome } from "./facts.ts";
import { attempt, readable, untried } from "./read.ts";

const AF_XDP = 44;
const SOCK_RAW_CLOEXEC = 3 | 0o2000000;
/** lo is the first interface of every namespace. A socket that is never bound may name any. */
const LO = 1;
/** As queues/xdp.ts asks for. */
const BUSY_POLL = { usecs: 20, budget: 64 };
const TX_BUDGET = 256;
const MAC = Uint8Array.of(2, 0, 0, 0, 0, 1);

/** The program that changes nothing: every frame passes. */
export const loadPass = (): Program => loadXdp(new Assembler().mov(r0, XDP_PASS).exit(), { name: "lcore_doctor" });

/** Tries everything. `frames` is what an lcore would register, of 2048 bytes. */
export function tryKernel(frames: number): {
  trials: Record<KernelTrial, Outcome>;
  jited: boolean | null;
} {
  const program = tryProgram();
  return {
    trials: {
      socket: attempt(() =>
        sys.close(
          check(sys.socket(AF_XDP, SOCK_RAW_CLOEXEC, 0), "socket(AF_XDP)", {
            EPERM: "needs CAP_NET_RAW",
            EAFNOSUPPORT: "this kernel is built without CONFIG_XDP_SOCKETS",
          }),
        ),
      ),
      umem: attempt(() => withXsk({ chunks: frames }, {}, () => {})),
      busyPoll: attempt(() => withXsk({ chunks: 64 }, {}, (xsk) => xsk.setBusyPoll(BUSY_POLL))),
      txBudget: attempt(() => withXsk({ chunks: 64 }, { maxTxBudget: TX_BUDGET }, () => {})),
      xskmap: attempt(() => XskMap.create(1).close()),
      program: program.outcome,
      steering: attempt(() => Steering.load({ mac: MAC, queues: 1 }).close()),
      link: tryLink(),
      netdev: attempt(() => new Netdev().close()),
    },
    jited: program.jited,
  };
}

/** Opens a socket with its rings and memory, unbound, and closes all of it again. */
function withXsk(umemOptions: UmemOptions, options: { maxTxBudget?: number }, act: (xsk: Xsk) => void): void {
  const umem = new Umem(umemOptions);
  try {
    using xsk = new Xsk(umem, { ifindex: LO, ...options });
    act(xsk);
  } finally {
    umem.close();
  }
}

function tryProgram(): { outcome: Outcome; jited: boolean | null } {
  let jited: boolean | null = null;
  const outcome = attempt(() => {
    using program = loadPass();
    // Machine code is shown to those with CAP_SYS_ADMIN or CAP_PERFMON only; its length is not.
    jited = program.info.jitedBytes > 0;
  });
  return { outcome, jited };
}

function tryLink(): Outcome {
  const ns = readable(() => NetNs.create(), null);
  if (ns === null) return untried("a namespace to try it in needs CAP_SYS_ADMIN");
  try {
    return attempt(() => {
      using program = loadPass();
      ns.run(() => attachXdp(program, LO, "skb").close());
    });
  } finally {
    ns.close();
  }
}
