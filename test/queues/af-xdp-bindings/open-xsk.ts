/** Opens an XSK in the namespace it is started in and prints the error, for privileges.test.ts. */
import { SysError, Umem, Xsk } from "af-xdp-bindings";

try {
  new Xsk(new Umem({ chunks: 256 }), { ifindex: 1 });
  console.log(JSON.stringify({}));
} catch (error) {
  if (!(error instanceof SysError)) throw error;
  const { code, syscall, hint } = error;
  console.log(JSON.stringify({ code, syscall, hint }));
}
