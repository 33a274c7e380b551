/**
 * Preloaded into a command line: the process stops itself (SIGSTOP) after a change of the host that $STOP_AFTER names:
 * "save" (of tune's file), "setChannels", or a setting of the interface by its name.
 */
import { StateFile } from "../../../engine/doctor/tune-state.ts";
import { Ethtool } from "../../../engine/host/ethtool.ts";
import { Sysfs } from "../../../engine/host/sysfs.ts";

const { STOP_AFTER } = process.env;

function after(name: string): void {
  if (name === STOP_AFTER) process.kill(process.pid, "SIGSTOP");
}

const { save } = StateFile.prototype;
StateFile.prototype.save = function (entries) {
  save.call(this, entries);
  after("save");
};
const { setChannels } = Ethtool.prototype;
Ethtool.prototype.setChannels = function (name, counts) {
  setChannels.call(this, name, counts);
  after("setChannels");
};
const { setSetting } = Sysfs.prototype;
Sysfs.prototype.setSetting = function (name, setting, value) {
  setSetting.call(this, name, setting, value);
  after(setting);
};
