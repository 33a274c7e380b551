/** Sends what it is asked for: "<length> <segment>" is answered with a payload in segments, then with what the send returned. */
import type { Lcore } from "lcore";

export interface SegmentsData {
  readonly port: number;
}

export default (lcore: Lcore): void => {
  const { port } = lcore.data as SegmentsData;
  const socket = lcore.udp({ address: "::", port });
  socket.onDatagram = (datagram) => {
    const [length, segment] = datagram.text().split(" ").map(Number);
    const payload = Uint8Array.from({ length }, (_, i) => i * 7);
    const { sourceAddress, sourcePort } = datagram;
    const result = socket.sendSegments(payload, segment, sourcePort, sourceAddress);
    socket.send(`result ${result}`, sourcePort, sourceAddress);
  };
  // Answers in place, longer than a segment.
  const echo = lcore.udp({ address: "::", port: port + 1 });
  echo.setsockopt(17, 103, 100);
  echo.onDatagram = (datagram) => void datagram.reply();
};
