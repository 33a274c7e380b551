/**
 * Run by start.test.ts, in a namespace and perhaps without privilege: an engine that echoes until it is killed. Prints how it
 * serves, or why it does not, as a line of JSON. Arguments: provider, port, interface ("" for that of the default route),
 * further options as JSON.
 */
import type { SysError } from "af-xdp-bindings";
import { Engine } from "../../engine/engine.ts";
import type { ProviderOption } from "../../engine/provider.ts";

const [, , provider, port, name, options = "{}"] = process.argv;
const notices: string[] = [];
try {
  const engine = await Engine.start({
    provider: provider as ProviderOption,
    onNotice: (text) => notices.push(text),
    ...(name === "" ? {} : { interface: name }),
    ...JSON.parse(options),
  });
  engine.udp({ address: "::", port: Number(port) }).onDatagram = (datagram) => {
    datagram.reply();
  };
  console.log(JSON.stringify({ ...engine.info, notices }));
} catch (error) {
  const { code, hint, message } = error as SysError;
  console.log(JSON.stringify({ code, hint, message }));
}
