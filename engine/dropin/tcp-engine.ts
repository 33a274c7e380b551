/** What the drop-ins for TCP ask of an engine: a thread of one has it. */
import type { EngineThread } from "../engine.ts";

export type TcpEngine = Pick<EngineThread, "canConnect" | "canListen" | "connect" | "link" | "listen" | "retain">;
