/** What the host's TCP begins with, in the namespace of the calling thread: an engine's TCP begins with the same. */
import { readFileSync } from "node:fs";
import { CONGESTION_NAMES, type TcpConfig } from "../../sockets/tcp/config.ts";

/** Words of net.ipv4.NAME; none where the host does not tell. */
function words(name: string): string[] {
  try {
    return readFileSync(`/proc/sys/net/ipv4/${name}`, "utf8").trim().split(/\s+/);
  } catch {
    return [];
  }
}

/**
 * Of `config` what the host says otherwise: the buffers of a new socket (the second words of tcp_rmem and tcp_wmem), within the
 * engine's own bounds, and the congestion control, where it is one that there is here.
 */
export function hostTcp(config: TcpConfig): Partial<TcpConfig> {
  const buffer = (name: string, most: number, otherwise: number): number => {
    const bytes = Number(words(name)[1]);
    return Number.isInteger(bytes) && bytes > 0 ? Math.min(bytes, most) : otherwise;
  };
  const control = (CONGESTION_NAMES as readonly string[]).indexOf(words("tcp_congestion_control")[0] ?? "");
  return {
    receiveBuffer: buffer("tcp_rmem", config.receiveBufferMax, config.receiveBuffer),
    sendBuffer: buffer("tcp_wmem", config.sendBufferMax, config.sendBuffer),
    congestion: control < 0 ? config.congestion : control,
  };
}
