import type { InvalidField } from "../errors/reasons.js";
import type { Timestamp } from "../gen/google/protobuf/timestamp.js";
import { invalidField, shown } from "../protocol/invalid.js";
import { isObject, type JsonObject } from "../protocol/json.js";
import { toConfig, toStruct } from "../protocol/structs.js";

/** Names of an enum's values. */
interface EnumNames<Name extends string> {
  numberOf(name: Name, field: string): number;
}

const TIME =
  /^(\d{4}-\d{2}-\d{2})[T ](\d{2}:\d{2}(?::\d{2})?)(?:[.,](\d{1,9}))?(Z|[+-]\d{2}:?\d{2})$/i;

/** A record's fields, each checked on access. A missing or null field is unset. */
export class Fields {
  readonly place: string;
  readonly #value: JsonObject;

  constructor(place: string, value: JsonObject) {
    this.place = place;
    this.#value = value;
  }

  /** Return the names of the fields that are set. */
  names(): string[] {
    return Object.keys(this.#value).filter((name) => this.get(name) !== undefined);
  }

  get(name: string): unknown {
    return Object.hasOwn(this.#value, name) ? (this.#value[name] ?? undefined) : undefined;
  }

  fault(name: string, what: string): InvalidField {
    return invalidField(`${this.place}: ${name}`, what);
  }

  text(name: string): string {
    const value = this.get(name);
    if (value !== undefined && typeof value !== "string") throw this.fault(name, "is not a string");
    if (value && !value.isWellFormed()) {
      throw this.fault(name, "holds a lone surrogate, so it is not valid Unicode");
    }
    return value ?? "";
  }

  integer(name: string): number | undefined {
    const value = this.get(name);
    if (value !== undefined && !Number.isSafeInteger(value)) {
      throw this.fault(name, "is not an integer");
    }
    return value as number | undefined;
  }

  boolean(name: string): boolean {
    const value = this.get(name);
    if (value !== undefined && typeof value !== "boolean") {
      throw this.fault(name, "is not true or false");
    }
    return value ?? false;
  }

  /** Return the fields of a nested object. `undefined` = unset. */
  nested(name: string): Fields | undefined {
    const value = this.get(name);
    if (value === undefined) return undefined;
    if (!isObject(value)) throw this.fault(name, "is not a JSON object");
    return new Fields(`${this.place}: ${name}`, value);
  }

  /** Return the fields of a nested object. */
  required(name: string): Fields {
    return this.nested(name) ?? new Fields(`${this.place}: ${name}`, {});
  }

  /** Return the fields of the objects in a list. */
  list(name: string): Fields[] {
    const value = this.get(name) ?? [];
    if (!Array.isArray(value)) throw this.fault(name, "is not a list");
    return value.map((item, i) => {
      if (!isObject(item)) throw this.fault(`${name}[${i}]`, "is not a JSON object");
      return new Fields(`${this.place}: ${name}[${i}]`, item);
    });
  }

  /** Return a list of seqs. */
  seqs(name: string): number[] {
    const value = this.get(name) ?? [];
    if (!Array.isArray(value) || !value.every((seq) => Number.isSafeInteger(seq))) {
      throw this.fault(name, "is not a list of seqs");
    }
    return value;
  }

  base64(name: string): Uint8Array {
    const text = this.text(name);
    if (text.length % 4 !== 0 || !/^[A-Za-z0-9+/]*={0,2}$/.test(text)) {
      throw this.fault(name, "is not base64");
    }
    return Buffer.from(text, "base64");
  }

  time(name: string): Timestamp | undefined {
    const text = this.text(name);
    if (!text) return undefined;
    const [, date, time, fraction = "", zone] = TIME.exec(text) ?? [];
    const millis = Date.parse(`${date}T${time}${zone}`);
    if (Number.isNaN(millis)) {
      throw this.fault(name, `is ${shown(text)}, which is not an ISO 8601 time`);
    }
    return { seconds: millis / 1000, nanos: Number(fraction.padEnd(9, "0")) };
  }

  /** Return a JSON object for a Struct. An empty one is left unset. */
  struct(name: string): JsonObject | undefined {
    const value = this.get(name);
    if (value === undefined || (isObject(value) && Object.keys(value).length === 0)) {
      return undefined;
    }
    return name === "config"
      ? toConfig(value, `${this.place}: ${name}`)
      : toStruct(value, `${this.place}: ${name}`);
  }

  /** Return the number of an enum value, given its name. 0 = unset. */
  nameOf<Name extends string>(name: string, names: EnumNames<Name>): number {
    const value = this.get(name);
    return value === undefined ? 0 : names.numberOf(value as Name, `${this.place}: ${name}`);
  }
}
