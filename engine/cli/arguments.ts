/** Options of several commands; and parsers of arguments, as commander calls them: they return the value or throw with what is allowed. */
import { InvalidArgumentError, Option } from "commander";
import { ip } from "../../sockets/wire/address.ts";
import { parseCpuList } from "../host/cpu-list.ts";

/** `--provider`, of every command that serves sockets. */
export const providerOption = (): Option =>
  new Option("--provider <provider>", "AF_XDP, kernel sockets, or the first that can be had")
    .choices(["auto", "engine", "kernel"])
    .default("auto");

/** A whole number from `low` to `high`. */
export function wholeNumber(low: number, high: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (/^\d+$/.test(text) && value >= low && value <= high) return value;
    throw new InvalidArgumentError(`A whole number from ${low} to ${high}.`);
  };
}

/** Seconds above 0, up to `high`. */
export function seconds(high: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (/^\d*\.?\d+$/.test(text) && value > 0 && value <= high) return value;
    throw new InvalidArgumentError(`Seconds above 0, up to ${high}.`);
  };
}

export const port = wholeNumber(1, 65535);

/** "0-3,8": at least one number, each once. */
export function numberList(text: string): number[] {
  let list: number[] = [];
  try {
    list = parseCpuList(text);
  } catch {
    // Falls through to the one message for every mistake.
  }
  if (list.length > 0 && new Set(list).size === list.length) return list;
  throw new InvalidArgumentError("A list such as 0-3,8, each number once.");
}

/** "all" or a list. */
export function queueList(text: string): "all" | number[] {
  return text === "all" ? "all" : numberList(text);
}

/** An IPv4 or IPv6 address. */
export function address(text: string): string {
  try {
    ip(text);
    return text;
  } catch {
    throw new InvalidArgumentError("An IPv4 or IPv6 address.");
  }
}

/** Words with commas between them. */
export const words = (text: string): string[] => text.split(",").map((word) => word.trim());
