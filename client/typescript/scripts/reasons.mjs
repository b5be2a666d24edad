// The source of src/errors/reasons.ts: one class for each value of the enum ErrorReason.

// The classes in src/errors/base.ts, by status code.
const BASES = {
  NOT_FOUND: "NotFound",
  ALREADY_EXISTS: "AlreadyExists",
  ABORTED: "Conflict",
  FAILED_PRECONDITION: "FailedPrecondition",
  INVALID_ARGUMENT: "InvalidRequest",
  UNAUTHENTICATED: "Unauthenticated",
  PERMISSION_DENIED: "PermissionDenied",
  RESOURCE_EXHAUSTED: "ResourceExhausted",
  UNAVAILABLE: "Unavailable",
};

// The outcomes of turns, whatever their status code.
const OUTCOMES = new Set([
  "MODEL_ACCESS_DENIED",
  "MODEL_RATE_LIMITED",
  "MODEL_REQUEST_REJECTED",
  "MODEL_UNAVAILABLE",
  "MODEL_TIMED_OUT",
  "MODEL_ANSWER_INVALID",
  "CONTEXT_TOO_LARGE",
  "FORMAT_UNREADABLE",
  "TURN_TIMED_OUT",
  "TURN_ABORTED",
  "TURN_LOST",
]);

// These are classes of base.ts, because they are thrown without a reason, too.
const IN_BASE = { DEADLINE_EXCEEDED: "DeadlineExceeded", INTERNAL: "InternalError" };

const NAMES = { ETAG_MISMATCH: "ETagMismatch" };

function className(reason) {
  return (
    NAMES[reason] ??
    reason.replace(/(^|_)([A-Z])([A-Z]*)/g, (_, _before, first, rest) => first + rest.toLowerCase())
  );
}

function reasonsOf(proto) {
  const body = proto.slice(proto.indexOf("enum ErrorReason {"));
  const values = body.matchAll(/((?: +\/\/[^\n]*\n)+) +ERROR_REASON_(\w+) = (\d+);/g);
  return [...values]
    .filter(([, , , number]) => number !== "0")
    .map(([, comment, reason]) => {
      const text = comment
        .replace(/^ +\/\/ ?/gm, "")
        .replace(/\n/g, " ")
        .trim();
      const [, code, description] = /^([A-Z_]+): (.*)$/s.exec(text);
      return { reason, code, description };
    });
}

function wrapped(text, width) {
  const lines = [""];
  for (const word of text.split(" ")) {
    const last = lines.at(-1);
    if (last && last.length + 1 + word.length > width) lines.push(word);
    else lines[lines.length - 1] = last ? `${last} ${word}` : word;
  }
  return lines;
}

export function reasonsModule(proto) {
  const reasons = reasonsOf(proto);
  const classes = [];
  const bases = new Set();
  for (const { reason, code, description } of reasons) {
    if (IN_BASE[reason]) continue;
    const base = OUTCOMES.has(reason) ? "TurnFailed" : BASES[code];
    if (!base) throw new Error(`${reason}: no class for ${code}; add it to scripts/reasons.mjs`);
    bases.add(base);
    const [first, ...rest] = description;
    const text = `${first.toUpperCase()}${rest.join("")}`;
    classes.push(
      [
        "/**",
        ...wrapped(text, 96).map((line) => ` * ${line}`),
        " *",
        ` * Reason: \`${reason}\`. Status code: \`${code}\`.`,
        " */",
        `export class ${className(reason)} extends ${base} {`,
        `  static override readonly code: StatusCode = "${code}";`,
        `  static override readonly reason: string = "${reason}";`,
        "}",
      ].join("\n"),
    );
  }
  for (const name of Object.values(IN_BASE)) bases.add(name);
  return [
    "// Generated from protos/sessiond/v1/error_reason.proto by `make ts-protos`. Do not edit.",
    "",
    `import {\n${[...bases, "type StatusCode"]
      .sort((a, b) => (a.replace("type ", "") < b.replace("type ", "") ? -1 : 1))
      .map((name) => `  ${name},`)
      .join("\n")}\n} from "./base.js";`,
    "",
    classes.join("\n\n"),
    "",
    "/** The class of each reason. */",
    "export const BY_REASON = {",
    ...reasons.map(({ reason }) => `  ${reason}: ${IN_BASE[reason] ?? className(reason)},`),
    "} as const;",
    "",
    "/** The name of an `ErrorReason` of the protos, without its prefix. */",
    "export type ErrorReason = keyof typeof BY_REASON;",
    "",
  ].join("\n");
}
